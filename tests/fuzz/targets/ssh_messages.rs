//! Every message view, and both authentication machines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxyd_ssh::auth::acceptor::Acceptor;
use proxyd_ssh::auth::connector::Connector;
use proxyd_ssh::message::channel::{Confirmation, Open, Request, Size};
use proxyd_ssh::message::userauth::{self, InfoRequest};
use proxyd_ssh::message::{channel, global};

fuzz_target!(|message: &[u8]| {
    let _ = userauth::Request::parse(message);
    let _ = userauth::parse_info_response(message);
    if let Ok(round) = InfoRequest::parse(message) {
        // What was read is written and read again as the same.
        assert_eq!(InfoRequest::parse(&round.encode()).ok(), Some(round));
    }
    if let Ok(open) = Open::parse(message) {
        assert_eq!(open.encode().get(1..), message.get(1..));
    }
    if let Ok(confirmation) = Confirmation::parse(message) {
        assert_eq!(confirmation.encode().get(1..), message.get(1..));
    }
    if let Ok(request) = Request::parse(message) {
        let _ = Size::parse(request.details);
        let _ = Size::parse_pty(request.details);
        let _ = request.argument("argument");
    }
    let _ = channel::parse_data(message);
    let _ = channel::parse_adjust(message);
    let _ = global::Request::parse(message);
    let mut acceptor = Acceptor::new(b"session", 3);
    let _ = acceptor.receive(b"\x05\0\0\0\x0cssh-userauth");
    let _ = acceptor.receive(message);
    let (mut connector, _hello) = Connector::new(b"root", b"session");
    let _ = connector.receive(b"\x06\0\0\0\x0cssh-userauth");
    let _ = connector.interactive();
    let _ = connector.receive(message);
});
