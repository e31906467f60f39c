//! What a process uses, as the kernel counts it (`proc(5)`).

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::process::output;
use e2e::wait::wait_for;

/// Memory of a process that is resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// All of it.
    pub(super) resident_kb: u32,
    /// The part that is its own and no file's.
    pub(super) anonymous_kb: u32,
}

impl Memory {
    /// Of a running process.
    pub(super) fn of(pid: i32) -> Result<Self> {
        let status = read(pid, "status")?;
        let field_kb = |name| field(&status, name);
        Ok(Self { resident_kb: field_kb("VmRSS:")?, anonymous_kb: field_kb("RssAnon:")? })
    }
}

/// Seconds that a running process has computed, in its own code and in the kernel, and those
/// children of it that have ended.
pub(super) fn cpu_s(pid: i32) -> Result<f64> {
    let ticks_per_s: f64 = output(Command::new("getconf").arg("CLK_TCK"))?.trim().parse()?;
    Ok(cpu_ticks(&read(pid, "stat")?)? / ticks_per_s)
}

fn read(pid: i32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

fn field(status: &str, name: &str) -> Result<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no {name} in {status}"))
}

/// Waits until a process has no children.
pub(super) fn await_children(pid: i32) -> Result<()> {
    wait_for("the end of a program's children", CHILDREN_LIMIT, || {
        let children = read(pid, &format!("task/{pid}/children"))?;
        Ok(children.trim().is_empty().then_some(()))
    })
}

/// Threads of a running process.
pub(super) fn threads(pid: i32) -> Result<u32> {
    field(&read(pid, "status")?, "Threads:")
}

/// The ids of a running process's threads.
pub(super) fn thread_ids(pid: i32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
    let id = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry?.file_name();
        name.to_string_lossy().parse().with_context(|| format!("{path}: {}", name.display()))
    };
    entries.map(id).collect()
}

/// Open descriptors of a running process.
pub(super) fn descriptors(pid: i32) -> Result<u32> {
    let path = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(u32::try_from(entries.count())?)
}

/// For programs that are told to end, or have nothing more to do.
const CHILDREN_LIMIT: Duration = Duration::from_secs(10);

/// The sum of `utime`, `stime`, `cutime` and `cstime`.
fn cpu_ticks(stat: &str) -> Result<f64> {
    // The name of the program, in brackets, may hold spaces. What follows starts with field 3;
    // the four times are fields 14 to 17.
    let after_name = stat.rsplit_once(')').map_or(stat, |(_name, fields)| fields);
    let ticks = after_name.split_whitespace().skip(11).take(4).map(str::parse::<f64>);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>().context("times are not numbers")?;
    anyhow::ensure!(ticks.len() == 4, "no times in {stat:?}");
    Ok(ticks.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let status = "Name:\tproxyd\nVmRSS:\t   20480 kB\nRssAnon:\t    4096 kB\n";
        assert_eq!(field(status, "VmRSS:").unwrap(), 20480);
        assert_eq!(field(status, "RssAnon:").unwrap(), 4096);
        assert!(field(status, "RssFile:").is_err());
        assert!(field("VmRSS: kB", "VmRSS:").is_err());
    }

    #[test]
    fn times_are_fields_14_to_17() {
        let stat = "7 (a ) b) S 4 5 6 7 8 9 10 11 12 13 140 150 16 17 18";
        assert!((cpu_ticks(stat).unwrap() - 323.0).abs() < f64::EPSILON);
        for bad in ["", "7 (a) S 4 5", "7 (a) S 4 5 6 7 8 9 10 11 12 13 x 150 16 17"] {
            assert!(cpu_ticks(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_process_uses_memory_and_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        let memory = Memory::of(own).unwrap();
        assert!(memory.resident_kb >= memory.anonymous_kb && memory.anonymous_kb > 0);
        assert!(cpu_s(own).unwrap() >= 0.0);
        assert!(threads(own).unwrap() >= 1 && descriptors(own).unwrap() >= 3);
    }
}
