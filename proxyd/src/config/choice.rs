//! Values of the file that have a form of their own: a word or a table, a URL, a time zone.

use ipnet::IpNet;
use proxyd_policy::connection::SourcePolicy;
use proxyd_policy::net::{Host, HostName, HostPattern};
use proxyd_policy::target::AllowedTarget;

use super::file::GatewayMethod;
use super::report::Problems;
use super::section::Need::{Or, Required};
use super::section::{SectionDoc, section};
use super::value::{Int, Node, NonEmpty, Port, Value, one_of, quote, read_word, words};

/// The SSH port (RFC 4253 section 4.1).
const SSH_PORT: u32 = 22;

/// How the host stands between clients and servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It routes.
    Router,
    /// It bridges.
    Bridge,
}

words!(Mode: "router" => Mode::Router, "bridge" => Mode::Bridge);

/// The name of a network interface, as Linux allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface(pub(crate) String);

/// Bytes of an interface's name (IFNAMSIZ without its terminating zero).
const INTERFACE_BYTES_MAX: usize = 15;

impl Value for Interface {
    fn describe() -> String {
        "interface".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "the name of an interface (string)")?;
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
        if matches!(text, "" | "." | "..") || text.contains(bad) {
            node.error(problems, format!("{} is not the name of an interface", quote(text)));
            return None;
        }
        if text.len() > INTERFACE_BYTES_MAX {
            let bytes = text.len();
            let message = format!("interface name of {bytes} bytes exceeds {INTERFACE_BYTES_MAX}");
            node.error(problems, message);
            return None;
        }
        Some(Self(text.to_owned()))
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.0))
    }
}

/// What a user shows to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GatewayMethodKind {
    /// A password.
    Password,
    /// A public key.
    PublicKey,
    /// A Kerberos ticket.
    Kerberos,
}

words!(
    GatewayMethodKind:
    "password" => GatewayMethodKind::Password,
    "publickey" => GatewayMethodKind::PublicKey,
    "gssapi-with-mic" => GatewayMethodKind::Kerberos
);

/// How many of the ways to authenticate at the gateway have to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GatewayRequire {
    /// One, whichever.
    Any,
    /// Every one.
    All,
}

words!(GatewayRequire: "any" => GatewayRequire::Any, "all" => GatewayRequire::All);

/// Where a credential store keeps its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// In files that the configuration names.
    Local,
}

words!(StoreKind: "local" => StoreKind::Local; later "plugin");

/// Declares a type for one kind of algorithm, written as the names that the SSH layer knows.
macro_rules! algorithms {
    ($(#[doc = $doc:literal])+ $name:ident: $algorithm:ty) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $algorithm);

        impl Value for $name {
            fn describe() -> String {
                let words = <$algorithm>::ALL.map(|algorithm| (algorithm.name(), algorithm));
                format!("one of {}", one_of(&words))
            }

            fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
                let words = <$algorithm>::ALL.map(|algorithm| (algorithm.name(), algorithm));
                read_word(node, &words, &[], problems).map(Self)
            }

            fn write(&self) -> Option<String> {
                Some(quote(self.0.name()))
            }
        }
    };
}

algorithms! {
    /// A key exchange method.
    Kex: proxyd_ssh::transport::KexMethod
}
algorithms! {
    /// A cipher.
    Cipher: proxyd_ssh::transport::Cipher
}
algorithms! {
    /// A MAC.
    Mac: proxyd_ssh::transport::Mac
}

/// How the server is chosen.
#[derive(Debug)]
pub(crate) enum Target {
    /// Where the client connected to.
    Original,
    /// Always the same server.
    Fixed(FixedTarget),
    /// The server that the user names.
    Inband(InbandTarget),
}

/// The word that tells the forms of [`Target`] apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetMode {
    /// [`Target::Original`].
    Original,
    /// [`Target::Fixed`].
    Fixed,
    /// [`Target::Inband`].
    Inband,
}

words!(
    TargetMode:
    "original" => TargetMode::Original,
    "fixed" => TargetMode::Fixed,
    "inband" => TargetMode::Inband;
    later "nat"
);

section! {
    /// The server that the client connected to. The word "original" alone means the same.
    OriginalTarget {
        /// "original".
        mode: TargetMode = Required;
    }
}

section! {
    /// Always the same server.
    FixedTarget {
        /// "fixed".
        mode: TargetMode = Required;
        /// The server.
        address: Host = Required;
        /// Its port.
        port: Port = Or(Int(SSH_PORT));
    }
}

section! {
    /// The server that the user names in the user name: `root@server:port`.
    InbandTarget {
        /// "inband".
        mode: TargetMode = Required;
        /// The servers that may be named; without a port, only on port 22.
        allowed: NonEmpty<AllowedTarget> = Required;
        /// Servers that may not be named, whatever `allowed` says. A name is refused by that name
        /// alone; add the server's addresses where users could name those instead.
        exceptions: Vec<HostPattern> = Or(vec![]);
        /// Loopback, link-local and the gateway's own addresses that may be named where `allowed`
        /// has them too; without an entry here they may not. An IPv6 link-local address is named
        /// with its interface: `root@[fe80::9%eth1]`.
        reserved_addresses: Vec<IpNet> = Or(vec![]);
        /// Domains that are tried in order after a name without dots.
        dns_suffixes: Vec<HostName> = Or(vec![]);
    }
}

impl Value for Target {
    fn describe() -> String {
        "\"original\" or a table".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let table = match node.value.as_table() {
            Some(table) => table,
            None if node.value.is_str() => return read_target_word(node, problems),
            None => {
                node.wrong_type(problems, &Self::describe());
                return None;
            }
        };
        let key = format!("{}.mode", node.key);
        let Some(mode) = table.get("mode") else {
            problems.missing(&node.span, &key);
            return None;
        };
        match TargetMode::read(&node.inner(key, mode), problems)? {
            TargetMode::Original => OriginalTarget::read(node, problems).map(|_| Self::Original),
            TargetMode::Fixed => FixedTarget::read(node, problems).map(Self::Fixed),
            TargetMode::Inband => InbandTarget::read(node, problems).map(Self::Inband),
        }
    }

    fn write(&self) -> Option<String> {
        match self {
            Self::Original => Some(quote("original")),
            Self::Fixed(target) => target.write(),
            Self::Inband(target) => target.write(),
        }
    }

    fn sections(key: &str, repeated: bool, docs: &mut Vec<SectionDoc>) {
        OriginalTarget::sections(&format!("{key} (original)"), repeated, docs);
        FixedTarget::sections(&format!("{key} (fixed)"), repeated, docs);
        InbandTarget::sections(&format!("{key} (inband)"), repeated, docs);
    }
}

/// Reads a target that is a word; only the one without keys of its own can be.
fn read_target_word(node: &Node<'_>, problems: &mut Problems) -> Option<Target> {
    let help = match TargetMode::read(node, problems)? {
        TargetMode::Original => return Some(Target::Original),
        TargetMode::Fixed => "{ mode = \"fixed\", address = \"10.2.0.9\", port = 22 }",
        TargetMode::Inband => "{ mode = \"inband\", allowed = [\"10.2.0.0/16\"] }",
    };
    let help = format!("write: {help}");
    problems.error_with_help(&node.span, &node.key, "this target has keys of its own", help);
    None
}

/// Whose address the server sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(pub(crate) SourcePolicy);

impl Source {
    /// The client's own address.
    pub(crate) const CLIENT: Self = Self(SourcePolicy::Client);
}

section! {
    /// Whose address the server sees. The word alone means the same.
    SourceTable {
        /// Whose.
        mode: SourcePolicy = Required;
    }
}

impl Value for Source {
    fn describe() -> String {
        SourcePolicy::describe()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        if node.value.is_table() {
            let table = SourceTable::read(node, problems)?;
            return table.mode.get().copied().map(Self);
        }
        SourcePolicy::read(node, problems).map(Self)
    }

    fn write(&self) -> Option<String> {
        self.0.write()
    }
}

/// How users authenticate at the gateway.
#[derive(Debug)]
pub(crate) enum Gateway {
    /// Not at all.
    None,
    /// By one or all of these; never empty.
    Methods(Vec<GatewayMethod>),
}

impl Value for Gateway {
    fn describe() -> String {
        "\"none\" or a list of tables".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        if node.value.is_str() {
            return read_word(node, &[("none", ())], &[], problems).map(|()| Self::None);
        }
        if !node.value.is_array() {
            node.wrong_type(problems, &Self::describe());
            return None;
        }
        let methods = Vec::<GatewayMethod>::read(node, problems)?;
        if methods.is_empty() {
            let message = "an empty list does not say how users authenticate at the gateway";
            let help = "write gateway = \"none\" if the server alone is to decide";
            problems.error_with_help(&node.span, &node.key, message, help);
            return None;
        }
        Some(Self::Methods(methods))
    }

    fn write(&self) -> Option<String> {
        match self {
            Self::None => Some(quote("none")),
            Self::Methods(methods) => methods.write(),
        }
    }

    fn sections(key: &str, _repeated: bool, docs: &mut Vec<SectionDoc>) {
        GatewayMethod::sections(key, true, docs);
    }
}

/// The IANA name of a time zone that this machine knows.
#[derive(Clone, Debug)]
pub(crate) struct Zone(pub(crate) String);

impl Value for Zone {
    fn describe() -> String {
        "time zone, \"Europe/Budapest\"".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "the name of a time zone (string)")?;
        match jiff::tz::TimeZone::get(text) {
            Ok(_) => Some(Self(text.to_owned())),
            Err(error) => {
                node.error(problems, format!("{} is not a time zone: {error}", quote(text)));
                None
            }
        }
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.0))
    }
}
