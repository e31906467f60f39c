//! Memory of eBPF maps, as the kernel accounts for it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use aya::maps::loaded_maps;

/// Bytes of a MiB.
const MIB: f64 = 1_048_576.0;

/// Bytes of every map of this machine, by its number.
#[derive(Debug)]
pub(super) struct Maps(BTreeMap<u32, f64>);

impl Maps {
    /// The maps that are loaded now.
    pub(super) fn loaded() -> Result<Self> {
        let mut bytes = BTreeMap::new();
        for map in loaded_maps() {
            // It can be gone between its turn in the list and the look at it.
            let Ok(map) = map else { continue };
            let Ok(descriptor) = map.fd() else { continue };
            let path = format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd());
            let info = fs::read_to_string(&path)?;
            bytes.insert(map.id(), memory(&info)?);
        }
        Ok(Self(bytes))
    }

    /// MiB of the maps that were not there `before`.
    pub(super) fn added_mib(&self, before: &Self) -> f64 {
        let added = self.0.iter().filter(|(id, _bytes)| !before.0.contains_key(id));
        added.map(|(_id, bytes)| bytes).sum::<f64>() / MIB
    }
}

/// The line `memlock:` of `proc_pid_fdinfo(5)`, in bytes.
fn memory(info: &str) -> Result<f64> {
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    let bytes = line.and_then(|bytes| bytes.trim().parse().ok());
    bytes.with_context(|| format!("no memlock in {info}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found() {
        let info = "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t3\n";
        assert!((memory(info).unwrap() - 4096.0).abs() < f64::EPSILON);
        assert!(memory("memlock:\t\n").is_err());
        assert!(memory("map_type:\t2\n").is_err());
    }
}
