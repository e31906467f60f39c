//! Why the data plane cannot do what is asked.

use std::io;
use std::path::PathBuf;

use steering_common::decide::Connection;
use steering_common::limits::POLICIES_MAX;
use steering_common::rule::CompileError;

use super::fast::Unfit;

/// Why the data plane cannot do what is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteeringError {
    /// The two marks are not two different single bits.
    #[error("marks {route_mark:#x} and {socket_mark:#x} are not two different single bits")]
    Marks {
        /// The packet mark given.
        route_mark: u32,
        /// The socket mark given.
        socket_mark: u32,
    },
    /// An interface of the configuration does not exist.
    #[error("no network interface is called {name}")]
    NoInterface {
        /// The name given.
        name: String,
    },
    /// Frames of the interface do not start with an Ethernet header.
    #[error("interface {name} is not an Ethernet interface")]
    NotEthernet {
        /// The name given.
        name: String,
    },
    /// No interface has this bridge as its controller.
    #[error("bridge {name} has no ports")]
    NoPorts {
        /// The bridge.
        name: String,
    },
    /// A bridge port has no hardware address that a frame could be given.
    #[error("bridge port {name} has no hardware address of 6 bytes")]
    NoPortAddress {
        /// The port.
        name: String,
    },
    /// The kernel does not forward.
    #[error(
        "this host does not forward packets: set net.ipv4.ip_forward or \
         net.ipv6.conf.all.forwarding to 1"
    )]
    ForwardingOff,
    /// The kernel validates sources by packet mark.
    #[error(
        "{path} is 1, which drops steered packets as if their source were this host: set it to 0"
    )]
    SourceValidation {
        /// The setting.
        path: String,
    },
    /// The kernel validates sources by the way back to them.
    #[error(
        "{path} is 1, and packets on a fast path would not be checked against it: set it to 0, or \
         steering.fast_path to \"off\""
    )]
    ReversePath {
        /// The setting.
        path: PathBuf,
    },
    /// An interface cannot have the fast path at the driver.
    #[error("interface {interface} cannot have steering.fast_path = \"xdp\"")]
    Unfit {
        /// The interface.
        interface: String,
        /// Why.
        #[source]
        source: Unfit,
    },
    /// The routing table holds routes of others, which steered packets would take.
    #[error(
        "routing table {table} holds routes that are not proxyd's: remove them, or set another \
         steering.table"
    )]
    TableInUse {
        /// The table.
        table: u32,
    },
    /// The build left the programs out.
    #[error("this build has no steering programs: build without AYA_BUILD_SKIP")]
    NotEmbedded,
    /// Nothing is pinned.
    #[error("no steering is active: nothing is pinned in {directory}")]
    NotRunning {
        /// Where the maps would be.
        directory: PathBuf,
    },
    /// Another daemon steers with these pins.
    #[error(
        "another daemon steers with the pins in {directory}: stop it, take over from it \
         (proxyd run --take-over), or give this one another steering.pin_directory"
    )]
    InUse {
        /// Where the pins are.
        directory: PathBuf,
    },
    /// What is pinned belongs to root.
    #[error("cannot read the steering state in {directory}: that needs root")]
    NotReadable {
        /// Where the maps are.
        directory: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The number of processors, by which counters are kept, cannot be had.
    #[error("cannot tell the number of processors")]
    Processors(#[source] io::Error),
    /// Rules do not fit the table.
    #[error("cannot compile the steering rules")]
    Compile(#[source] CompileError),
    /// A new table does not answer as the rules do; it is not put in force.
    #[error(
        "the new steering table gives {found:#x} for {connection:?}, its rules {expected:#x}: this \
         is a bug of proxyd, please report it"
    )]
    WrongVerdict {
        /// The connection tried.
        connection: Connection,
        /// The packed verdict of the rules.
        expected: u32,
        /// The packed verdict of the table.
        found: u32,
    },
    /// The kernel does not run a program for a test.
    #[error("cannot try the new steering table")]
    TestRun {
        /// What the kernel said.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// More policies than counters.
    #[error("{count} connection policies are more than can be counted apart, {POLICIES_MAX}")]
    TooManyPolicies {
        /// How many.
        count: usize,
    },
    /// Somebody looks at the verdicts already; each would get a part of them.
    #[error("verdicts are traced already: end the other `proxyd steering trace` first")]
    Tracing,
    /// The kernel refused to wait for verdicts.
    #[error("cannot wait for verdicts")]
    Poll(#[source] io::Error),
    /// A map cannot be used as memory.
    #[error("cannot map {name} into memory")]
    MapMemory {
        /// The map.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A pinned map is not what this daemon would make.
    #[error("pinned map {path} has another shape than this version expects: remove it")]
    PinnedShape {
        /// The pin.
        path: PathBuf,
    },
    /// The embedded object lacks a program or map.
    #[error("the embedded steering object has no {name}")]
    NotInObject {
        /// Program or map.
        name: &'static str,
    },
    /// The object cannot be loaded: no privilege, or no memory.
    #[error("cannot load the steering object")]
    Load(#[source] Box<aya::EbpfError>),
    /// The kernel refused a program.
    #[error("cannot load steering program {name}")]
    Program {
        /// The program.
        name: &'static str,
        /// The verifier's log is in it.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The map of interfaces for the fast path does not take one.
    #[error("cannot use steering map {name}")]
    Devices {
        /// The map.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<aya::maps::xdp::XdpMapError>,
    },
    /// A program cannot be put on an interface.
    #[error("cannot attach steering program {program} to {interface}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel said.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A pin is no hook of the kind expected.
    #[error("cannot use the hook of {path}")]
    Link {
        /// The pin.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Box<aya::programs::links::LinkError>,
    },
    /// A hook cannot be pinned.
    #[error("cannot pin {path}")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Box<aya::pin::PinError>,
    },
    /// The directory of the pins cannot be used.
    #[error("cannot use pin directory {path}")]
    PinDirectory {
        /// The directory or file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No bpffs, and it cannot be mounted.
    #[error("cannot mount a BPF file system on {path}")]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The bpffs that the daemon mounted is in use.
    #[error("cannot unmount the BPF file system on {path}")]
    Unmount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A map cannot be read or written.
    #[error("cannot use steering map {name}")]
    Map {
        /// The map.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// The clock cannot be read.
    #[error("cannot read the monotonic clock")]
    Clock(#[source] io::Error),
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    NetlinkSocket(#[source] io::Error),
    /// The netlink connection ended by itself.
    #[error("the netlink connection closed")]
    NetlinkClosed,
    /// A netlink request failed.
    #[error("cannot {what}")]
    Netlink {
        /// The request.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
}
