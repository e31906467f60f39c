//! Typed wrappers of the pinned maps: what outlives a generation of the table.
#![expect(unsafe_code, reason = "clock_gettime, which programs read too; the block says why")]

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use aya::maps::{
    Array, DevMapHash, HashMap, Map, MapData, MapError, MapInfo, PerCpuArray, PerCpuValues, SockMap,
};
use aya::sys::SyscallError;
use aya::util::nr_cpus;
use steering_common::layout::{InForce, Port, Settings};
use steering_common::limits::{
    INTERFACES_MAX, LISTENER_SLOTS, LISTENER_V4, LISTENER_V6, POLICIES_MAX, POLICY_NAME_BYTES,
    TRACE_BYTES,
};
use steering_common::pace::Pace;
use steering_common::pairs::Pairs;
use steering_common::stats::{PolicyCounts, REASONS};

use super::{Listeners, SteeringError};

/// A policy's name in its map, filled up with zeros.
pub(crate) type Name = [u8; POLICY_NAME_BYTES];

/// Shape of a map, to compare a pinned one with what this daemon would make.
pub(crate) struct Shape {
    /// Name of the map and of its pin.
    pub(crate) name: &'static str,
    key_bytes: usize,
    value_bytes: usize,
    entries: u32,
}

/// Shape of every map that is pinned.
pub(crate) const SHAPES: [Shape; 13] = [
    shape::<u32, Settings>("SETTINGS", 1),
    shape::<u32, InForce>("IN_FORCE", 1),
    shape::<u32, Port>("PORTS", INTERFACES_MAX),
    shape::<u32, Device>(DEVICES, INTERFACES_MAX),
    shape::<u32, u32>("LISTENERS", LISTENER_SLOTS),
    shape::<u32, u64>("HEARTBEAT", 1),
    shape::<u32, Pairs>(PAIRS, 1),
    shape::<u32, u64>("REASON_COUNTS", REASONS),
    shape::<u32, PolicyCounts>("POLICY_COUNTS", POLICIES_MAX),
    shape::<u32, Name>("POLICY_NAMES", POLICIES_MAX),
    shape::<u32, Pace>("PACES", POLICIES_MAX),
    shape::<u32, u64>("TRACING", 1),
    Shape { name: "TRACE", key_bytes: 0, value_bytes: 0, entries: TRACE_BYTES },
];

/// The map of interfaces that take frames from the fast path.
const DEVICES: &str = "DEVICES";

/// What the kernel keeps there: the index of an interface, and a program that none has.
type Device = [u32; 2];

/// The map of the filter of address pairs.
pub(crate) const PAIRS: &str = "PAIRS";

const fn shape<K, V>(name: &'static str, entries: u32) -> Shape {
    Shape { name, key_bytes: size_of::<K>(), value_bytes: size_of::<V>(), entries }
}

/// Checks that the maps already pinned in `directory` have the shapes this daemon expects: a pin
/// is opened without a comparison otherwise.
pub(crate) fn check_pins(directory: &Path) -> Result<(), SteeringError> {
    for shape in &SHAPES {
        let path = directory.join(shape.name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(during(shape.name))?;
        let same = usize::try_from(info.key_size()).is_ok_and(|size| size == shape.key_bytes)
            && usize::try_from(info.value_size()).is_ok_and(|size| size == shape.value_bytes)
            && info.max_entries() == shape.entries;
        if !same {
            return Err(SteeringError::PinnedShape { path });
        }
    }
    Ok(())
}

/// Every pinned map.
pub(crate) fn keep(directory: &Path) -> Result<Vec<(&'static str, MapData)>, SteeringError> {
    let open = |shape: &Shape| {
        let map = MapData::from_pin(directory.join(shape.name)).map_err(during(shape.name))?;
        Ok((shape.name, map))
    };
    SHAPES.iter().map(open).collect()
}

/// Pins the maps that are pinned no more.
pub(crate) fn pin_again(
    directory: &Path,
    maps: &[(&'static str, MapData)],
) -> Result<(), SteeringError> {
    for (name, map) in maps {
        let path = directory.join(name);
        if !path.exists() {
            let pinned = map.pin(&path);
            pinned.map_err(|source| SteeringError::Pin { path, source: Box::new(source) })?;
        }
    }
    Ok(())
}

/// The maps that the daemon writes.
pub(crate) struct Maps {
    settings: Array<MapData, Settings>,
    in_force: Array<MapData, InForce>,
    ports: HashMap<MapData, u32, Port>,
    devices: DevMapHash<MapData>,
    listeners: SockMap<MapData>,
    policies: PerCpuArray<MapData, PolicyCounts>,
    names: Array<MapData, Name>,
    paces: Array<MapData, Pace>,
}

impl Maps {
    /// Opens the pinned maps.
    pub(crate) fn open(directory: &Path) -> Result<Self, SteeringError> {
        Ok(Self {
            settings: open(directory, "SETTINGS")?,
            in_force: open(directory, "IN_FORCE")?,
            ports: open(directory, "PORTS")?,
            devices: open(directory, DEVICES)?,
            listeners: open(directory, "LISTENERS")?,
            policies: open(directory, "POLICY_COUNTS")?,
            names: open(directory, "POLICY_NAMES")?,
            paces: open(directory, "PACES")?,
        })
    }

    /// Sets marks and limits.
    pub(crate) fn set_settings(&mut self, settings: Settings) -> Result<(), SteeringError> {
        self.settings.set(0, settings, 0).map_err(during("SETTINGS"))
    }

    /// The table that was last put in force; all zero where none was.
    pub(crate) fn in_force(&self) -> Result<InForce, SteeringError> {
        self.in_force.get(&0, 0).map_err(during("IN_FORCE"))
    }

    /// Says which table is in force.
    pub(crate) fn set_in_force(&mut self, table: InForce) -> Result<(), SteeringError> {
        self.in_force.set(0, table, 0).map_err(during("IN_FORCE"))
    }

    /// The names of the policies by slot; empty for a slot that none ever had.
    pub(crate) fn names(&self) -> Result<Vec<Name>, SteeringError> {
        let name = |slot| self.names.get(&slot, 0).map_err(during("POLICY_NAMES"));
        (0..POLICIES_MAX).map(name).collect()
    }

    /// Names the policy whose counters stand in a slot, which start from 0.
    pub(crate) fn set_name(&mut self, slot: u16, name: Name) -> Result<(), SteeringError> {
        let slot = u32::from(slot);
        let cpus = nr_cpus().map_err(|(_what, source)| SteeringError::Processors(source))?;
        let none = PerCpuValues::try_from(vec![PolicyCounts::default(); cpus]);
        let none = none.map_err(SteeringError::Processors)?;
        self.policies.set(slot, none, 0).map_err(during("POLICY_COUNTS"))?;
        self.names.set(slot, name, 0).map_err(during("POLICY_NAMES"))
    }

    /// Limits the new connections of the policy in a slot, 0 being no limit.
    pub(crate) fn set_pace(&mut self, slot: u16, per_s: u32) -> Result<(), SteeringError> {
        let slot = u32::from(slot);
        let before = self.paces.get(&slot, 0).map_err(during("PACES"))?;
        let interval_ns = Pace::interval_ns(per_s);
        if before.interval_ns == interval_ns {
            return Ok(());
        }
        let pace = Pace { interval_ns, next_ns: 0 };
        self.paces.set(slot, pace, 0).map_err(during("PACES"))
    }

    /// Tells the programs the hardware address of an interface.
    pub(crate) fn set_port(&mut self, ifindex: u32, port: Port) -> Result<(), SteeringError> {
        self.ports.insert(ifindex, port, 0).map_err(during("PORTS"))
    }

    /// Lets an interface take frames from the fast path.
    pub(crate) fn set_device(&mut self, ifindex: u32) -> Result<(), SteeringError> {
        let inserted = self.devices.insert(ifindex, ifindex, None, 0);
        inserted
            .map_err(|source| SteeringError::Devices { name: DEVICES, source: Box::new(source) })
    }

    /// Lets no interface take frames from the fast path that is not in `keep`.
    pub(crate) fn forget_devices(&mut self, keep: &[u32]) -> Result<(), SteeringError> {
        let known: Vec<u32> =
            self.devices.keys().collect::<Result<_, _>>().map_err(during(DEVICES))?;
        for gone in known.into_iter().filter(|ifindex| !keep.contains(ifindex)) {
            self.devices.remove(gone).map_err(during(DEVICES))?;
        }
        Ok(())
    }

    /// Forgets the interfaces that are not in `keep`.
    pub(crate) fn forget_ports(&mut self, keep: &[u32]) -> Result<(), SteeringError> {
        let known: Vec<u32> =
            self.ports.keys().collect::<Result<_, _>>().map_err(during("PORTS"))?;
        for gone in known.iter().filter(|ifindex| !keep.contains(ifindex)) {
            self.ports.remove(gone).map_err(during("PORTS"))?;
        }
        Ok(())
    }

    /// Registers the listeners; they replace those of a daemon before, and absent ones too.
    pub(crate) fn set_listeners(&mut self, listeners: Listeners<'_>) -> Result<(), SteeringError> {
        for (slot, listener) in [(LISTENER_V4, listeners.v4), (LISTENER_V6, listeners.v6)] {
            let changed = match listener {
                Some(listener) => self.listeners.set(slot, &listener.as_raw_fd(), 0),
                None => self.listeners.clear_index(&slot).or_else(unless_empty),
            };
            changed.map_err(during("LISTENERS"))?;
        }
        Ok(())
    }
}

/// The name as it stands in its map, cut to what fits.
pub(crate) fn to_name(name: &str) -> Name {
    let mut bytes = [0; POLICY_NAME_BYTES];
    let end = name.floor_char_boundary(POLICY_NAME_BYTES);
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(end)) {
        *to = from;
    }
    bytes
}

/// The kernel says `EINVAL` for a slot of sockets that is empty already.
fn unless_empty(error: MapError) -> Result<(), MapError> {
    if let MapError::SyscallError(call) = &error
        && matches!(call.io_error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT))
    {
        return Ok(());
    }
    Err(error)
}

/// The daemon's sign of life. While none comes, new connections that a rule redirects are treated
/// as the rule says for a proxy that is down.
pub struct Heartbeat {
    map: Array<MapData, u64>,
}

impl Heartbeat {
    /// Opens the pinned map.
    pub(crate) fn open(directory: &Path) -> Result<Self, SteeringError> {
        Ok(Self { map: open(directory, "HEARTBEAT")? })
    }

    /// Reports that the daemon lives. Call it every
    /// [`steering_common::limits::HEARTBEAT_PERIOD_MS`].
    ///
    /// # Errors
    /// When the map cannot be written, which is not expected.
    pub fn beat(&mut self) -> Result<(), SteeringError> {
        let now_ns = monotonic_ns()?;
        self.map.set(0, now_ns, 0).map_err(during("HEARTBEAT"))
    }

    /// Says that the daemon leaves: from now on its rules are treated as on a proxy that is down.
    ///
    /// # Errors
    /// When the map cannot be written, which is not expected.
    pub fn stop(&mut self) -> Result<(), SteeringError> {
        self.map.set(0, 0, 0).map_err(during("HEARTBEAT"))
    }
}

/// The maps that counters and state are read from.
pub(crate) struct Counters {
    in_force: Array<MapData, InForce>,
    heartbeat: Array<MapData, u64>,
    reasons: PerCpuArray<MapData, u64>,
    policies: PerCpuArray<MapData, PolicyCounts>,
    names: Array<MapData, Name>,
}

impl Counters {
    /// Opens the pinned maps; works without a daemon.
    pub(crate) fn open(directory: &Path) -> Result<Self, SteeringError> {
        Ok(Self {
            in_force: open(directory, "IN_FORCE")?,
            heartbeat: open(directory, "HEARTBEAT")?,
            reasons: open(directory, "REASON_COUNTS")?,
            policies: open(directory, "POLICY_COUNTS")?,
            names: open(directory, "POLICY_NAMES")?,
        })
    }

    /// The table in force.
    pub(crate) fn in_force(&self) -> Result<InForce, SteeringError> {
        self.in_force.get(&0, 0).map_err(during("IN_FORCE"))
    }

    /// How long the daemon has been silent, in nanoseconds; `None` before it first reported.
    pub(crate) fn silence_ns(&self) -> Result<Option<u64>, SteeringError> {
        let reported_ns = self.heartbeat.get(&0, 0).map_err(during("HEARTBEAT"))?;
        let now_ns = monotonic_ns()?;
        Ok((reported_ns != 0).then(|| now_ns.saturating_sub(reported_ns)))
    }

    /// Packets counted for the reason with this index, over all CPUs.
    pub(crate) fn reason(&self, index: u32) -> Result<u64, SteeringError> {
        let counts = self.reasons.get(&index, 0).map_err(during("REASON_COUNTS"))?;
        Ok(counts.iter().sum())
    }

    /// The name of the policy in a slot, as far as it fits; empty where none ever was.
    pub(crate) fn name(&self, slot: u32) -> Result<String, SteeringError> {
        let name = self.names.get(&slot, 0).map_err(during("POLICY_NAMES"))?;
        let bytes: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What was counted for a policy slot, over all CPUs.
    pub(crate) fn policy(&self, slot: u32) -> Result<PolicyCounts, SteeringError> {
        let counts = self.policies.get(&slot, 0).map_err(during("POLICY_COUNTS"))?;
        Ok(counts.iter().fold(PolicyCounts::default(), |sum, one| PolicyCounts {
            forwarded: sum.forwarded + one.forwarded,
            redirected: sum.redirected + one.redirected,
            dropped: sum.dropped + one.dropped,
            down: sum.down + one.down,
            paced: sum.paced + one.paced,
        }))
    }
}

/// Opens a pinned map.
pub(crate) fn open<T>(directory: &Path, name: &'static str) -> Result<T, SteeringError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let path = directory.join(name);
    fs::metadata(&path).map_err(|error| unreadable(directory, error))?;
    let data = MapData::from_pin(path).map_err(|error| {
        if let MapError::SyscallError(SyscallError { io_error, .. }) = error {
            unreadable(directory, io_error)
        } else {
            during(name)(error)
        }
    })?;
    T::try_from(Map::from_map_data(data).map_err(during(name))?).map_err(during(name))
}

/// Why what is pinned in `directory` cannot be read.
fn unreadable(directory: &Path, source: io::Error) -> SteeringError {
    let directory = directory.to_owned();
    if source.kind() == io::ErrorKind::NotFound {
        SteeringError::NotRunning { directory }
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        SteeringError::NotReadable { directory, source }
    } else {
        SteeringError::PinDirectory { path: directory, source }
    }
}

/// A failure of the map called `name`.
pub(crate) const fn during(name: &'static str) -> impl Fn(MapError) -> SteeringError {
    move |source| SteeringError::Map { name, source: Box::new(source) }
}

/// The clock that programs read with `bpf_ktime_get_ns`.
pub(crate) fn monotonic_ns() -> Result<u64, SteeringError> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the result.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    if result != 0 {
        return Err(SteeringError::Clock(io::Error::last_os_error()));
    }
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    Ok(seconds * 1_000_000_000 + nanoseconds)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::{to_name, unreadable};
    use steering_common::limits::POLICY_NAME_BYTES;

    #[test]
    fn why_the_state_cannot_be_read() {
        for (name, errno, expected) in [
            ("absent", libc::ENOENT, "no steering is active: nothing is pinned in /pins"),
            ("no right", libc::EACCES, "cannot read the steering state in /pins: that needs root"),
            (
                "no privilege",
                libc::EPERM,
                "cannot read the steering state in /pins: that needs root",
            ),
            ("other", libc::EIO, "cannot use pin directory /pins"),
        ] {
            let error = unreadable(Path::new("/pins"), io::Error::from_raw_os_error(errno));
            assert_eq!(error.to_string(), expected, "{name}");
        }
    }

    #[test]
    fn names_are_cut_between_characters() {
        for (name, given, kept) in [
            ("empty", String::new(), 0),
            ("short", "ssh".to_owned(), 3),
            ("as long as fits", "a".repeat(POLICY_NAME_BYTES), POLICY_NAME_BYTES),
            ("too long", "a".repeat(POLICY_NAME_BYTES + 1), POLICY_NAME_BYTES),
            ("cut inside a character", format!("a{}", "ä".repeat(40)), POLICY_NAME_BYTES - 1),
        ] {
            let bytes = to_name(&given);
            assert_eq!(&bytes[..kept], &given.as_bytes()[..kept], "{name}");
            assert!(bytes[kept..].iter().all(|byte| *byte == 0), "{name}");
        }
    }
}
