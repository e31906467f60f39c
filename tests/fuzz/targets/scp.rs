//! Copies by scp of two peers that send anything: watching takes no byte away, nor does refusing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxyd_wire::files::{Access, FileId, Mode, Operation, Peer, Verdict, Watch};
use proxyd_wire::scp::{Command, Scp};

/// Refuses every other request.
struct Every(bool);

impl Watch for Every {
    fn judge(&mut self, _access: &Access<'_>) -> Verdict {
        self.0 = !self.0;
        if self.0 { Verdict::Refuse } else { Verdict::Allow { bytes_max: Some(9) } }
    }

    fn home(&mut self, _path: &[u8]) {}

    fn content(&mut self, _file: FileId, bytes: &[u8]) {
        assert!(!bytes.is_empty());
    }

    fn operation(&mut self, operation: &Operation<'_>) {
        assert!(!operation.cut);
    }
}

fuzz_target!(|input: &[u8]| {
    // The command comes first, in a line of its own.
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (command, input) = input.split_at(end);
    let Ok((command, _certain)) = Command::parse(command) else { return };
    for mode in [Mode::Observe, Mode::Enforce] {
        let mut scp = Scp::new(mode, command.clone());
        let (mut watch, mut out) = (Every(false), Vec::new());
        let (mut taken, mut given) = ([0_usize; 2], [0_usize; 2]);
        let mut rest = input;
        let mut followed = true;
        // Each piece comes after a byte with its sender and its length.
        while let Some((&head, after)) = rest.split_first() {
            let length = usize::from(head >> 1).min(after.len());
            let (piece, left) = after.split_at(length);
            rest = left;
            let (from, way) = if head & 1 == 0 { (Peer::Client, 0) } else { (Peer::Server, 1) };
            match scp.pass(from, piece, &mut out, &mut watch) {
                Ok(on) => {
                    assert!(mode == Mode::Enforce || on == piece);
                    taken[way] += piece.len();
                    given[way] += on.len();
                }
                Err(_unfollowed) => {
                    followed = false;
                    break;
                }
            }
        }
        if followed {
            given[0] += scp.end(Peer::Client).len();
            given[1] += scp.end(Peer::Server).len();
            assert_eq!(taken, given);
        }
        scp.finish(&mut watch);
    }
});
