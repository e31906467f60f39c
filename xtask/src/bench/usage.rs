//! What a process uses, as the kernel counts it (`proc(5)`).

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use e2e::process::output;

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
        let field = |name| field_kb(&status, name);
        Ok(Self { resident_kb: field("VmRSS:")?, anonymous_kb: field("RssAnon:")? })
    }
}

/// Seconds that a running process has computed, in its own code and in the kernel.
pub(super) fn cpu_s(pid: i32) -> Result<f64> {
    let ticks_per_s: f64 = output(Command::new("getconf").arg("CLK_TCK"))?.trim().parse()?;
    Ok(cpu_ticks(&read(pid, "stat")?)? / ticks_per_s)
}

fn read(pid: i32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

fn field_kb(status: &str, name: &str) -> Result<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no {name} in {status}"))
}

/// The sum of `utime` and `stime`.
fn cpu_ticks(stat: &str) -> Result<f64> {
    // The name of the program, in brackets, may hold spaces. What follows starts with field 3;
    // `utime` is field 14, `stime` field 15.
    let after_name = stat.rsplit_once(')').map_or(stat, |(_name, fields)| fields);
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>().context("times are not numbers")?;
    anyhow::ensure!(ticks.len() == 2, "no times in {stat:?}");
    Ok(ticks.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let status = "Name:\tproxyd\nVmRSS:\t   20480 kB\nRssAnon:\t    4096 kB\n";
        assert_eq!(field_kb(status, "VmRSS:").unwrap(), 20480);
        assert_eq!(field_kb(status, "RssAnon:").unwrap(), 4096);
        assert!(field_kb(status, "RssFile:").is_err());
        assert!(field_kb("VmRSS: kB", "VmRSS:").is_err());
    }

    #[test]
    fn times_are_fields_14_and_15() {
        let stat = "7 (a ) b) S 4 5 6 7 8 9 10 11 12 13 140 150 16 17";
        assert!((cpu_ticks(stat).unwrap() - 290.0).abs() < f64::EPSILON);
        for bad in ["", "7 (a) S 4 5", "7 (a) S 4 5 6 7 8 9 10 11 12 13 x 150"] {
            assert!(cpu_ticks(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_process_uses_memory_and_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        let memory = Memory::of(own).unwrap();
        assert!(memory.resident_kb >= memory.anonymous_kb && memory.anonymous_kb > 0);
        assert!(cpu_s(own).unwrap() >= 0.0);
    }
}
