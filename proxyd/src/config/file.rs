//! The sections and keys of the configuration file, each with its type, default and meaning.

use std::path::PathBuf;

use ipnet::IpNet;
use proxyd_policy::channel::{ChannelKind, CommandPattern, EndpointPattern};
use proxyd_policy::connection::{OnProxyDown, OnRecordingFailure, OnReload, Protocol};
use proxyd_policy::files::{FileAccess, FileAction, PathPattern};
use proxyd_policy::gateway::{Backend, ServerMethod};
use proxyd_policy::net::{HostPattern, PortRange};
use proxyd_policy::pattern::Pattern;
use proxyd_policy::settings::{HostKeyCheck, HostKeyType, Rekey};
use proxyd_policy::time::Window;

use super::FastPath;
use super::choice::{
    Cipher, Gateway, GatewayMethodKind, GatewayRequire, Interface, Kex, Mac, Mode, Source,
    StoreKind, Target, Zone,
};
use super::keys::{Argon2idHash, Banner, PublicKeyLine, Recipient, Version};
use super::place::{DatabaseUrl, TrailsUrl};
use super::section::Need::{Inside, Or, Required};
use super::section::section;
use super::value::{FilePath, Int, Name, NonEmpty, Port, Realm, Size};

/// Seconds in a day, the longest time limit.
const DAY_S: u32 = 86_400;

/// The fwmark of steered packets: one bit that neither Cilium (0xf00), kube-proxy (0xc000),
/// Tailscale (0xff0000) nor dae (0x8000000) use by default.
const MARK: u32 = 0x1000_0000;

/// The routing table of steered packets; not one of those that other software is known to use.
const TABLE: u32 = 7022;

/// The local port of the listeners; below the kernel's range of ephemeral ports.
const LISTEN_PORT: u32 = 7022;

/// A time limit that may not be switched off.
type Limit = Int<1, DAY_S>;

/// A list of names.
type Names = Vec<Name>;

section! {
    /// The configuration of proxyd. Relative paths start at the directory of the file.
    File {
        /// How connections are picked up.
        steering: Steering = Inside;
        /// Bounds on what one gateway takes on.
        limits: Limits = Inside;
        /// Where state and evidence go.
        storage: Storage = Inside;
        /// Which connections are inspected, and how. ORDER MATTERS: the first that matches client,
        /// destination and port decides everything.
        connection_policy: Vec<Connection> = Or(vec![]);
        /// Algorithms, texts and checks of a protocol.
        settings_policy: Vec<Settings> = Or(vec![]);
        /// How users authenticate.
        authentication_policy: Vec<Authentication> = Or(vec![]);
        /// The local user database.
        user: Vec<User> = Or(vec![]);
        /// Which users of a server a gateway user may log in as.
        usermapping_policy: Vec<Usermapping> = Or(vec![]);
        /// Which channels may be opened.
        channel_policy: Vec<Channels> = Or(vec![]);
        /// What may be done to which files over sftp and scp.
        file_policy: Vec<Files> = Or(vec![]);
        /// When channels may be opened.
        time_policy: Vec<Time> = Or(vec![]);
        /// Who can open the trails.
        audit_policy: Vec<Audit> = Or(vec![]);
        /// Secrets for servers.
        credential_store: Vec<Credentials> = Or(vec![]);
    }
}

section! {
    /// How packets of connections that match a policy reach the proxy. Every other packet passes.
    Steering {
        /// "router": this host routes between clients and servers. "bridge": it bridges them.
        mode: Mode = Or(Mode::Router);
        /// Router mode: the interfaces where packets from clients arrive.
        client_interfaces: Vec<Interface> = Or(vec![]);
        /// Router mode: the interfaces where packets from servers arrive. Needed when a connection
        /// policy keeps the client's address.
        server_interfaces: Vec<Interface> = Or(vec![]);
        /// Bridge mode: the bridge. Its ports are found from the kernel.
        bridge: Option<Interface> = Or(None);
        /// What becomes of matching new connections while no proxy listens.
        on_proxy_down: OnProxyDown = Or(OnProxyDown::Drop);
        /// Router mode: where packets of other connections are forwarded. "off": by the kernel's
        /// stack, as ever. "tc": by the packet programs, which spares them the stack, so that no
        /// netfilter rule, connection tracking or encryption policy of this host sees them. "xdp":
        /// by a program at the driver of every interface named here, which no packet socket or
        /// queueing discipline sees either, and which needs network cards whose drivers have native
        /// XDP.
        fast_path: FastPath = Or(FastPath::Off);
        /// Puts "xdp" on interfaces that are refused otherwise. Senders that leave checksums to
        /// hardware, as those on veth do, are then no longer understood, and frames whose VLAN tag
        /// a card took out are forwarded as if they had none.
        fast_path_unchecked: bool = Or(false);
        /// The fwmark of steered packets, one bit. Change it when other software uses the same bit.
        /// 0x20000000 is taken: it marks proxyd's own sockets.
        mark: Int<1, { u32::MAX }> = Or(Int(MARK));
        /// The routing table of steered packets, owned by proxyd. Change it when it is in use.
        table: Int<1, { u32::MAX }> = Or(Int(TABLE));
        /// Where programs and maps are pinned. If no bpf file system is mounted there, proxyd
        /// mounts one.
        pin_directory: FilePath = Or(FilePath(PathBuf::from("/sys/fs/bpf/proxyd")));
        /// What the compiled table may take in kernel memory, in MiB; while it is replaced, the old
        /// one is there too. 100,000 IPv4 ranges take about 80 MiB; where that is more than half of
        /// this, they are kept in a form that is 15 times smaller and somewhat slower.
        table_memory_mib: Int<2, 4_096> = Or(Int(256));
        /// The local TCP port of the listeners; no packet on the wire carries it.
        listen_port: Port = Or(Int(LISTEN_PORT));
    }
}

section! {
    /// Bounds on what one gateway takes on. A connection beyond a bound is refused.
    Limits {
        /// Sessions at one time.
        sessions: Int<1, 1_000_000> = Or(Int(20_000));
        /// Sessions at one time from one client address.
        sessions_per_client: Int<1, 1_000_000> = Or(Int(200));
        /// Connections at one time whose user has not authenticated yet.
        handshakes: Int<1, 1_000_000> = Or(Int(1_000));
        /// From the connection to the end of the key exchange, with the client and with the server.
        handshake_timeout_s: Limit = Or(Int(30));
        /// From the end of the key exchange to the server's acceptance, questions included.
        authentication_timeout_s: Limit = Or(Int(120));
        /// For the user to answer one question.
        question_timeout_s: Limit = Or(Int(120));
        /// For somebody else to approve of a channel whose rule asks for four eyes; then it is
        /// refused.
        four_eyes_timeout_s: Limit = Or(Int(600));
        /// To find the address of the server and connect to it.
        connect_timeout_s: Limit = Or(Int(10));
        /// Without data in either direction, after which a session ends. 0 is no limit.
        idle_timeout_s: Int<0, { 30 * DAY_S }> = Or(Int(0));
        /// From the start of a session to its end, whatever it does. 0 is no limit.
        session_timeout_s: Int<0, { 30 * DAY_S }> = Or(Int(0));
        /// Failed authentication attempts after which a connection ends.
        authentication_attempts: Int<1, 100> = Or(Int(6));
        /// For running sessions to end after a stop was asked for; then they are ended.
        drain_timeout_s: Int<0, DAY_S> = Or(Int(30));
        /// For running sessions to end after another daemon took over; then they are ended. 0 is
        /// no limit.
        takeover_drain_timeout_s: Int<0, { 30 * DAY_S }> = Or(Int(0));
    }
}

section! {
    /// Where state and evidence go.
    Storage {
        /// The catalogue of sessions and the known host keys: a file of `SQLite`, or a database of
        /// a `PostgreSQL` server (14 or later) that several nodes share. Its URL may have `sslmode`
        /// ("prefer" unless set; "verify-full" where the network is not trusted), `sslrootcert`,
        /// `sslcert`, `sslkey`, and `host` with the directory of a Unix socket.
        database: DatabaseUrl = Or(DatabaseUrl::Sqlite(PathBuf::from(
            "/var/lib/proxyd/proxyd.db",
        )));
        /// The password for a `PostgreSQL` server, in a file of its own that nobody else can read.
        database_password_file: Option<FilePath> = Or(None);
        /// The name of this gateway among the nodes that share a database; must not change while
        /// it has sessions or trails in its spool. Without one, the machine's host name.
        node: Option<Name> = Or(None);
        /// An age identity with which finished trails are read, to find what was on screens and
        /// which commands were run: trails whose audit policy names its recipient as a group of its
        /// own. Without one nothing of a trail's content is in the database.
        index_identity_file: Option<FilePath> = Or(None);
        /// The directory where finished trails are kept, as a URL.
        trails: TrailsUrl = Or(TrailsUrl(PathBuf::from("/var/lib/proxyd/trails")));
        /// The directory where a trail is written while its session runs.
        spool: FilePath = Or(FilePath(PathBuf::from("/var/lib/proxyd/spool")));
        /// The Unix socket that `proxyd ctl` talks to.
        control_socket: FilePath = Or(FilePath(PathBuf::from("/run/proxyd/control.sock")));
        /// The Ed25519 key that signs trails, made when the file does not exist.
        signing_key_file: FilePath = Or(FilePath(PathBuf::from("/var/lib/proxyd/signing.key")));
    }
}

section! {
    /// Which connections are inspected, and by which policies. The first that matches decides.
    Connection {
        /// The policy's name.
        name: Name = Required;
        /// What the connections carry.
        protocol: Protocol = Required;
        /// Addresses of clients.
        from: NonEmpty<IpNet> = Required;
        /// Addresses that clients connect to. May be the gateway's own with an in-band target.
        to: NonEmpty<IpNet> = Required;
        /// Ports that clients connect to.
        ports: NonEmpty<PortRange> = Required;
        /// How the server is chosen.
        target: Target = Or(Target::Original);
        /// Whose address the server sees: "client" keeps the client's, "gateway" uses ours.
        source: Source = Or(Source::CLIENT);
        /// A settings policy.
        settings: Option<Name> = Or(None);
        /// An authentication policy.
        authentication: Name = Required;
        /// A usermapping policy. Without one, users log in under their own gateway user name only.
        usermapping: Option<Name> = Or(None);
        /// A credential store.
        credential_store: Option<Name> = Or(None);
        /// A channel policy.
        channels: Name = Required;
        /// An audit policy; needed when a channel rule records.
        audit: Option<Name> = Or(None);
        /// What becomes of a session whose trail cannot be written.
        on_recording_failure: OnRecordingFailure = Or(OnRecordingFailure::Terminate);
        /// What becomes of matching new connections while no proxy listens; `on_proxy_down` of
        /// `[steering]` when left out.
        on_proxy_down: Option<OnProxyDown> = Or(None);
        /// What becomes of running sessions that a changed configuration no longer allows: "keep"
        /// lets them go on, "terminate" ends them.
        on_reload: OnReload = Or(OnReload::Keep);
        /// New connections of all clients together that are taken per second, and at once after a
        /// quiet second; the packets of others are dropped before they cost more than that, so that
        /// a flood on one policy leaves the others alone. 0 is no limit.
        new_connections_per_s: Int<0, 1_000_000> = Or(Int(0));
        /// Allows stored credentials to be used without gateway authentication.
        allow_unauthenticated_gateway: bool = Or(false);
    }
}

section! {
    /// Settings of SSH connections.
    Settings {
        /// The policy's name.
        name: Name = Required;
        /// The protocol that the settings are for.
        protocol: Protocol = Required;
        /// Before connecting to the server, refuse users to whom no channel rule could apply.
        pre_channel_check: bool = Or(true);
        /// A text shown to clients before authentication.
        banner: Option<Banner> = Or(None);
        /// Our version string towards clients.
        version: Option<Version> = Or(None);
        /// What clients are offered.
        client_side: ClientSide = Inside;
        /// What servers are offered, and how they are checked.
        server_side: ServerSide = Inside;
        /// Names of environment variables that are let through to the server.
        environment: Vec<Pattern> = Or(default_environment());
    }
}

section! {
    /// What clients are offered, in order of preference. An empty list is the safe list of proxyd.
    ClientSide {
        /// Key exchange methods. The safe list has no "ecdh-sha2-nistp256", "ecdh-sha2-nistp384",
        /// "ecdh-sha2-nistp521" and "diffie-hellman-group18-sha512", which can be written out.
        kex: Vec<Kex> = Or(vec![]);
        /// Ciphers.
        ciphers: Vec<Cipher> = Or(vec![]);
        /// MACs, for the ciphers in "ctr" and "cbc" mode; the others bring their own.
        macs: Vec<Mac> = Or(vec![]);
        /// Types of the host keys shown to clients. An empty list is "ed25519" and "rsa".
        host_keys: Vec<HostKeyType> = Or(vec![]);
        /// Files with the private host keys shown to clients, one for each type, such as those of
        /// the server itself; `host_keys` has no effect then. They are read for each connection.
        /// Without any, keys are made for each server address and port that clients connect to,
        /// which with in-band targets is the gateway's own.
        host_key_files: Vec<FilePath> = Or(vec![]);
        /// A file with the private key of a CA. Clients that take host certificates are shown one,
        /// made for each connection and valid for a day, so that one `@cert-authority` line makes
        /// them trust all servers behind the gateway.
        host_ca_key_file: Option<FilePath> = Or(None);
        /// Names by which clients call the servers, for these certificates. The address that a
        /// client connects to is always among them; wildcards are not understood by clients.
        host_names: Vec<Name> = Or(vec![]);
    }
}

section! {
    /// What servers are offered, in order of preference, and how they are checked. An empty list is
    /// everything that is safe.
    ServerSide {
        /// Key exchange methods.
        kex: Vec<Kex> = Or(vec![]);
        /// Ciphers.
        ciphers: Vec<Cipher> = Or(vec![]);
        /// MACs, for the ciphers in "ctr" and "cbc" mode; the others bring their own.
        macs: Vec<Mac> = Or(vec![]);
        /// Offers what only old servers need after everything else: SHA-1 in key exchange, MACs and
        /// RSA signatures, groups of 1024 bits, and ciphers in "cbc" mode.
        legacy: bool = Or(false);
        /// "on": exchange keys again after 4 GiB of AES, 1 GiB of another cipher, or an hour.
        /// "off": never ask a server to, which some old ones do not survive.
        rekey: Rekey = Or(Rekey::On);
        /// "accept-first": keep the first host key of a server and refuse any other later. "known":
        /// accept kept keys only. "off": accept any key.
        host_key_check: HostKeyCheck = Or(HostKeyCheck::AcceptFirst);
        /// Public keys of CAs, "ssh-ed25519 AAAA…". A server that shows a host certificate of one
        /// of them, for its name or address, is known by that, whatever `host_key_check` says. One
        /// of another CA counts as a plain key.
        trusted_host_cas: Vec<PublicKeyLine> = Or(vec![]);
    }
}

section! {
    /// How users authenticate, at the gateway and then at the server.
    Authentication {
        /// The policy's name.
        name: Name = Required;
        /// Ways to authenticate at the gateway; or "none", written out.
        gateway: Gateway = Required;
        /// How many of the ways of `gateway` a user has to go: "any" one, or "all" of them, in any
        /// order. With "all", a user without a password hash or public keys cannot log in where
        /// both are asked for.
        gateway_require: GatewayRequire = Or(GatewayRequire::Any);
        /// Public keys of CAs, "ssh-ed25519 AAAA…". Their certificates count as public keys of the
        /// local users whose names they hold, within their time and at their source addresses; one
        /// with another critical option does not count.
        trusted_user_cas: Vec<PublicKeyLine> = Or(vec![]);
        /// The file with the keys of services for which "gssapi-with-mic" in `gateway` takes
        /// tickets, `host/NAME@REALM` for each name that clients connect to.
        keytab_file: Option<FilePath> = Or(None);
        /// Kerberos realms that are trusted: a principal `alice@REALM` of theirs is the local user
        /// "alice". Case counts.
        realms: Vec<Realm> = Or(vec![]);
        /// Ways to log in to the server. What the gateway can do by itself is tried first:
        /// "certificate" uses one that is made for this login, "publickey" the credential store,
        /// "gssapi-with-mic" the Kerberos ticket that the client delegated at the gateway (`ssh
        /// -K`), which is passed on to the server and kept nowhere. "publickey-agent" uses the keys
        /// of the agent that the client forwards (`ssh -A`): the client is let in before the server
        /// is, so it needs gateway authentication, and only "certificate", "publickey" and
        /// "gssapi-with-mic" may stand before it. With "password" first, a password that was right
        /// at the gateway is tried at the server under the same user name before the user is asked
        /// for another. With both "keyboard-interactive" and "password", a password also answers
        /// the one question of a server that only asks.
        server: NonEmpty<ServerMethod> = Or(NonEmpty(vec![
            ServerMethod::KeyboardInteractive,
            ServerMethod::Password,
        ]));
        /// The file with the private key of the CA for "certificate". Its certificates are for the
        /// remote user, from the address that the server sees, for five minutes; servers log the
        /// session's id with them.
        user_ca_key_file: Option<FilePath> = Or(None);
    }
}

section! {
    /// One way to authenticate at the gateway.
    GatewayMethod {
        /// What the user shows.
        method: GatewayMethodKind = Required;
        /// Where it is checked; "local" is the users of this file.
        backend: Backend = Required;
    }
}

section! {
    /// A user of the local database.
    User {
        /// The gateway user name, case-sensitive.
        name: Name = Required;
        /// The hash of the password, as `argon2` prints it with `-id -e`. Without one the user
        /// cannot log in by password.
        password_hash: Option<Argon2idHash> = Or(None);
        /// Public keys, any one of which authenticates the user.
        public_keys: Vec<PublicKeyLine> = Or(vec![]);
        /// Gateway groups of the user.
        groups: Names = Or(vec![]);
    }
}

section! {
    /// Which users of a server a gateway user may log in as. Any rule that fits allows.
    Usermapping {
        /// The policy's name.
        name: Name = Required;
        /// The rules.
        rules: Vec<UsermappingRule> = Or(vec![]);
        /// Without a fitting rule, allow users to log in under their own gateway user name.
        allow_unmapped: bool = Or(false);
    }
}

section! {
    /// Lets some gateway groups log in as some users of the server.
    UsermappingRule {
        /// Users on the server.
        remote_user: Pattern = Required;
        /// Gateway groups, any one of which suffices; "*" is every gateway user.
        groups: NonEmpty<Name> = Required;
    }
}

section! {
    /// Which channels may be opened. A channel that no rule allows is refused.
    Channels {
        /// The policy's name.
        name: Name = Required;
        /// The rules; the first that allows a channel decides how it is opened.
        rule: NonEmpty<ChannelRule> = Required;
    }
}

section! {
    /// Allows one type of channel under conditions. An empty list sets no condition.
    ChannelRule {
        /// The type of channel.
        r#type: ChannelKind = Required;
        /// Gateway groups, any one of which suffices.
        gateway_groups: Names = Or(vec![]);
        /// Users on the server.
        remote_users: Vec<Pattern> = Or(vec![]);
        /// Addresses of clients.
        from: Vec<IpNet> = Or(vec![]);
        /// Addresses of servers.
        targets: Vec<IpNet> = Or(vec![]);
        /// A time policy; without one the channel may be opened at any time.
        time: Option<Name> = Or(None);
        /// "session-exec" and "session-exec-scp": commands. A `*` stands for any characters but
        /// those by which a shell starts another command, expands, redirects or quotes.
        commands: Vec<CommandPattern> = Or(vec![]);
        /// "session-subsystem": subsystems, by name.
        subsystems: Vec<Pattern> = Or(vec![]);
        /// "local-forward": where connections may go. "remote-forward": where the server may
        /// listen. Addresses, prefixes, host names, "*.domain" or "*", with ":port" or
        /// ":port-port". A host name is compared as the client writes it; it is the server that
        /// resolves it.
        endpoints: Vec<EndpointPattern> = Or(vec![]);
        /// "local-forward" and "remote-forward": paths of Unix sockets. Where only one of
        /// endpoints and sockets is named, the other is not allowed at all.
        sockets: Vec<Pattern> = Or(vec![]);
        /// "local-forward", "remote-forward" and "x11": addresses from which forwarded connections
        /// come, as the peer that forwards them says.
        originators: Vec<IpNet> = Or(vec![]);
        /// Whether somebody else has to approve of it first, by `proxyd ctl approve`.
        four_eyes: bool = Or(false);
        /// "session-sftp" and "session-exec-scp": a file policy, which says what may be done to
        /// which files. Without one everything may be done.
        files: Option<Name> = Or(None);
        /// Whether the channel is recorded.
        record: bool = Or(true);
        /// "session-sftp" and "session-exec-scp": whether the recording has the content of copied
        /// files. What is done to which of them, and the hash of what was copied, is on record
        /// either way.
        file_content: bool = Or(true);
    }
}

section! {
    /// What may be done to which files of a server over sftp and scp. What no rule allows is
    /// refused. Symbolic links on the server are not followed: whoever may write in a place where
    /// others made links may write to where they lead. So a path with ".." behind a name is
    /// refused, unless it leads up from where the server starts the user, and a symbolic link may
    /// be made only to an absolute path without "..". The policies are for servers whose paths are
    /// POSIX ones: a backslash is like any other character, but a path with one beside ".." is
    /// refused.
    Files {
        /// The policy's name.
        name: Name = Required;
        /// The rules; the first that fits decides.
        rule: NonEmpty<FileRule> = Required;
    }
}

section! {
    /// Allows or refuses operations on paths. Both paths of a rename or link have to be allowed,
    /// and opening for both reading and writing takes both. Closing a file, and asking for the full
    /// form of a path, is always allowed.
    FileRule {
        /// What is done. "write" is also creating a file, cutting it and setting its size; "stat"
        /// is also reading symbolic links; "link" is symbolic and hard links; "other" is extensions
        /// of sftp that proxyd does not know, which have no paths.
        operations: NonEmpty<FileAccess> = Required;
        /// Paths on the server, without "." and "..". `*` is any characters within a name, and the
        /// name `**` is any names, none too: "/srv/**" is /srv and all below. One without a leading
        /// slash begins where the server starts the user. scp does not tell where that is: of its
        /// paths without a leading slash it is certain only that they fit such patterns, or ones
        /// that begin with `**`; a rule that refuses is taken to fit where it could. An empty list
        /// is every path.
        paths: Vec<PathPattern> = Or(vec![]);
        /// How many bytes of a file may be read, and how far into it may be written; 0 sets no
        /// limit. With a limit, appending is refused, because it is not known what is there.
        max_bytes: Size = Or(Size(0));
        /// What becomes of it.
        action: FileAction = Required;
    }
}

section! {
    /// When channels may be opened. A day without ranges is closed; "24:00" is the end of a day.
    Time {
        /// The policy's name.
        name: Name = Required;
        /// The time zone whose clock counts, by its IANA name, "Europe/Budapest".
        zone: Zone = Required;
        /// Ranges on Monday.
        monday: Vec<Window> = Or(vec![]);
        /// Ranges on Tuesday.
        tuesday: Vec<Window> = Or(vec![]);
        /// Ranges on Wednesday.
        wednesday: Vec<Window> = Or(vec![]);
        /// Ranges on Thursday.
        thursday: Vec<Window> = Or(vec![]);
        /// Ranges on Friday.
        friday: Vec<Window> = Or(vec![]);
        /// Ranges on Saturday.
        saturday: Vec<Window> = Or(vec![]);
        /// Ranges on Sunday.
        sunday: Vec<Window> = Or(vec![]);
    }
}

section! {
    /// Who can open the trails of sessions.
    Audit {
        /// The policy's name.
        name: Name = Required;
        /// Groups of people. Any ONE group opens a trail; ALL members of that group are needed
        /// together.
        recipients: NonEmpty<NonEmpty<Recipient>> = Required;
        /// Groups for what the client typed, passwords included; `recipients` when left out.
        upstream_recipients: Vec<NonEmpty<Recipient>> = Or(vec![]);
        /// Sign trails, so that nobody can alter them unnoticed. There are no unsigned trails:
        /// `false` is refused.
        sign: bool = Or(true);
    }
}

section! {
    /// Secrets for servers.
    Credentials {
        /// The store's name.
        name: Name = Required;
        /// "local": the entries below.
        kind: StoreKind = Required;
        /// The entries.
        entry: Vec<Credential> = Or(vec![]);
    }
}

section! {
    /// A private key for some servers and one user on them.
    Credential {
        /// The servers.
        host: HostPattern = Required;
        /// The user on the server, case-sensitive.
        user: Name = Required;
        /// The file with the private key in OpenSSH form, readable by proxyd alone.
        key_file: FilePath = Required;
    }
}

/// What OpenSSH's packages let through by default: the language of messages.
fn default_environment() -> Vec<Pattern> {
    ["LANG", "LC_*"].iter().filter_map(|name| name.parse().ok()).collect()
}
