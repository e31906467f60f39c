//! How the types of the policy model are written in the file.

use ipnet::IpNet;
use proxyd_policy::channel::{ChannelKind, CommandPattern, EndpointPattern};
use proxyd_policy::connection::{
    OnProxyDown, OnRecordingFailure, OnReload, Protocol, SourcePolicy,
};
use proxyd_policy::files::{FileAccess, FileAction, PathPattern};
use proxyd_policy::gateway::{Backend, ServerMethod};
use proxyd_policy::net::{Host, HostName, HostPattern, PortRange, parse_prefix};
use proxyd_policy::pattern::Pattern;
use proxyd_policy::settings::{HostKeyCheck, HostKeyType, Rekey};
use proxyd_policy::target::AllowedTarget;
use proxyd_policy::time::Window;

use super::FastPath;
use super::report::Problems;
use super::value::{Node, Value, parsed, quote, words};

words!(Protocol: "ssh" => Protocol::Ssh; later "rdp", "telnet", "tn3270");
words!(
    OnProxyDown:
    "drop" => OnProxyDown::Drop,
    "reset" => OnProxyDown::Reset,
    "forward" => OnProxyDown::Forward
);
words!(FastPath: "off" => FastPath::Off, "tc" => FastPath::Tc, "xdp" => FastPath::Xdp);
words!(
    OnRecordingFailure:
    "terminate" => OnRecordingFailure::Terminate,
    "continue" => OnRecordingFailure::Continue
);
words!(OnReload: "keep" => OnReload::Keep, "terminate" => OnReload::Terminate);
words!(
    SourcePolicy:
    "client" => SourcePolicy::Client,
    "gateway" => SourcePolicy::Gateway;
    later "fixed"
);
words!(
    ServerMethod:
    "keyboard-interactive" => ServerMethod::KeyboardInteractive,
    "password" => ServerMethod::Password,
    "publickey" => ServerMethod::PublicKey,
    "certificate" => ServerMethod::Certificate,
    "gssapi-with-mic" => ServerMethod::Kerberos,
    "publickey-agent" => ServerMethod::PublicKeyAgent
);
words!(Backend: "local" => Backend::Local);
words!(
    ChannelKind:
    "session-shell" => ChannelKind::SessionShell,
    "session-exec" => ChannelKind::SessionExec,
    "session-exec-scp" => ChannelKind::SessionExecScp,
    "session-sftp" => ChannelKind::SessionSftp,
    "session-subsystem" => ChannelKind::SessionSubsystem,
    "agent" => ChannelKind::Agent,
    "x11" => ChannelKind::X11,
    "local-forward" => ChannelKind::LocalForward,
    "remote-forward" => ChannelKind::RemoteForward
);
words!(
    FileAccess:
    "read" => FileAccess::Read,
    "write" => FileAccess::Write,
    "list" => FileAccess::List,
    "stat" => FileAccess::Stat,
    "setstat" => FileAccess::Setstat,
    "remove" => FileAccess::Remove,
    "rename" => FileAccess::Rename,
    "mkdir" => FileAccess::Mkdir,
    "rmdir" => FileAccess::Rmdir,
    "link" => FileAccess::Link,
    "other" => FileAccess::Other
);
words!(FileAction: "allow" => FileAction::Allow, "refuse" => FileAction::Refuse);
words!(
    HostKeyType:
    "ed25519" => HostKeyType::Ed25519,
    "ecdsa" => HostKeyType::Ecdsa,
    "rsa" => HostKeyType::Rsa
);
words!(Rekey: "on" => Rekey::On, "off" => Rekey::Off);
words!(
    HostKeyCheck:
    "accept-first" => HostKeyCheck::AcceptFirst,
    "known" => HostKeyCheck::Known,
    "off" => HostKeyCheck::Off;
    later "ca"
);

parsed!(PortRange, "port or range of ports, \"22\" or \"2200-2299\"");
parsed!(Pattern, "name, `*` for any characters");
parsed!(CommandPattern, "command, `*` for any characters that mean nothing to a shell");
parsed!(
    EndpointPattern,
    "address, prefix, host name, \"*.domain\" or \"*\", with \":port\" or \":port-port\""
);
parsed!(PathPattern, "path, `*` and `**` for any characters and names");
parsed!(Host, "address or host name");
parsed!(HostName, "domain");
parsed!(HostPattern, "address, prefix, host name or \"*.domain\"");
parsed!(
    AllowedTarget,
    "address, prefix, host name or \"*.domain\", with \":port\" or \":port-port\""
);
parsed!(Window, "time range, \"08:00-18:00\"");

impl Value for IpNet {
    fn describe() -> String {
        "address or prefix".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "an address or prefix (string)")?;
        match parse_prefix(text) {
            Ok(prefix) => Some(prefix),
            Err(error) => {
                node.error(problems, error.to_string());
                None
            }
        }
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.to_string()))
    }
}
