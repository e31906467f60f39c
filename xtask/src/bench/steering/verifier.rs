//! How many instructions the kernel's verifier walks for each program, and the bound on them:
//! programs that grow beyond it may be refused by other kernels.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use aya::EbpfLoader;
use aya::programs::{Program, ProgramInfo, SchedClassifier};

use crate::bench::report::Report;
use crate::ebpf;

/// The committed counts, by kernel ("6.18") and program.
const RECORD: &str = "tests/golden/verifier.json";

/// Instructions by program.
type Counts = BTreeMap<String, u64>;
/// Counts by kernel.
type Recorded = BTreeMap<String, Counts>;

/// A program's count, and the committed one of the nearest kernel.
#[derive(Debug, PartialEq, Eq)]
struct Compared {
    program: String,
    count: u64,
    /// None where the program is new.
    recorded: Option<u64>,
}

/// Reports the counts of this kernel; gives their sum.
pub(super) fn measure(report: &mut Report) -> Result<f64> {
    let counts = count()?;
    let (kernel, compared) = compare(&counts, &kernel()?, &recorded()?)?;
    let mut case = report.case(format!("verifier, beside what is recorded for {kernel}"));
    for Compared { program, count, recorded } in &compared {
        println!("verifier: {program}: {count} instructions");
        let (metric, count) = (("instructions", ""), exact(*count)?);
        match recorded {
            Some(recorded) => drop(case.compared(program, metric, count, exact(*recorded)?)),
            None => case.row(program, metric, count),
        }
    }
    exact(counts.values().sum())
}

/// Writes the counts of this kernel beside those of others.
pub(crate) fn record() -> Result<()> {
    let mut recorded = recorded()?;
    recorded.insert(kernel()?, count()?);
    let path = path()?;
    fs::write(&path, serde_json::to_string_pretty(&recorded)? + "\n")?;
    println!("{} written", path.display());
    Ok(())
}

/// The counts beside the recorded ones of this kernel, or else of the nearest; and which it is.
fn compare(counts: &Counts, kernel: &str, recorded: &Recorded) -> Result<(String, Vec<Compared>)> {
    let own = version(kernel).with_context(|| format!("kernel {kernel:?}"))?;
    let distance = |name: &&String| {
        let (major, minor) = version(name).unwrap_or_default();
        // A major version is far from the next.
        (major.abs_diff(own.0), minor.abs_diff(own.1))
    };
    let nearest = recorded.keys().min_by_key(distance);
    let nearest = nearest.with_context(|| format!("{RECORD} is empty"))?;
    let of = |program| Some(*recorded.get(nearest)?.get(program)?);
    let compared = counts.iter().map(|(program, count)| Compared {
        program: program.clone(),
        count: *count,
        recorded: of(program),
    });
    Ok((nearest.clone(), compared.collect()))
}

/// Loads every program of the object that the daemon embeds, and asks the kernel.
fn count() -> Result<Counts> {
    let object = ebpf::target_directory()?.join("ebpf/steering");
    let object = fs::read(&object).with_context(|| {
        format!("cannot read {}: run `cargo xtask build-ebpf`", object.display())
    })?;
    let mut programs = EbpfLoader::new().load(&object).context("cannot load the object")?;
    let mut counts = Counts::new();
    for (name, program) in programs.programs_mut() {
        let info = load(program).with_context(|| format!("cannot load program {name}"))?;
        let count = info.verified_instruction_count();
        let count = count.context("this kernel does not count verified instructions")?;
        counts.insert(name.to_owned(), count.into());
    }
    Ok(counts)
}

fn load(program: &mut Program) -> Result<ProgramInfo> {
    if let Program::Xdp(program) = program {
        program.load()?;
        return Ok(program.info()?);
    }
    let program: &mut SchedClassifier = program.try_into()?;
    program.load()?;
    Ok(program.info()?)
}

fn recorded() -> Result<Recorded> {
    let path = path()?;
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
}

fn path() -> Result<PathBuf> {
    Ok(ebpf::workspace_root()?.join(RECORD))
}

/// Major and minor version of this kernel, as "6.18".
fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let (major, minor) = version(&release).with_context(|| format!("kernel {release:?}"))?;
    Ok(format!("{major}.{minor}"))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn exact(count: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much a count may exceed the committed one.
    const GROWTH_PERCENT_MAX: u64 = 10;

    fn exceeding(compared: &[Compared]) -> Vec<&str> {
        let exceeds = |one: &&Compared| {
            let recorded = one.recorded.unwrap_or_default();
            one.count * 100 > recorded * (100 + GROWTH_PERCENT_MAX)
        };
        compared.iter().filter(exceeds).map(|one| one.program.as_str()).collect()
    }

    #[test]
    fn programs_stay_within_the_committed_bound() {
        let kernel = kernel().unwrap();
        let (nearest, compared) =
            compare(&count().unwrap(), &kernel, &recorded().unwrap()).unwrap();
        if nearest != kernel {
            println!("nothing is recorded for kernel {kernel}; compared with {nearest}");
        }
        assert_eq!(
            exceeding(&compared),
            Vec::<&str>::new(),
            "{compared:?} of kernel {nearest}: if the growth is meant, run `cargo xtask bench \
             steering --record-verifier`"
        );
    }

    #[test]
    fn growth_is_found() {
        let counts = |of: &[(&str, u64)]| {
            of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Counts>()
        };
        let recorded = Recorded::from([
            ("5.15".to_owned(), counts(&[("a", 10)])),
            ("6.1".to_owned(), counts(&[("a", 200)])),
            ("6.12".to_owned(), counts(&[("a", 100)])),
        ]);
        for (name, kernel, count, nearest, found) in [
            ("the same", "6.12", 100, "6.12", &[][..]),
            ("within the bound", "6.12", 110, "6.12", &[]),
            ("beyond the bound", "6.12", 111, "6.12", &["a"]),
            ("another kernel", "6.18", 111, "6.12", &["a"]),
            ("an older kernel", "6.2", 111, "6.1", &[]),
            ("an older major version", "5.4", 11, "5.15", &[]),
        ] {
            let own = counts(&[("a", count)]);
            let (by, compared) = compare(&own, kernel, &recorded).unwrap();
            assert_eq!((by.as_str(), exceeding(&compared)), (nearest, found.to_vec()), "{name}");
        }
        let (_, compared) = compare(&counts(&[("new", 1)]), "6.12", &recorded).unwrap();
        assert_eq!(exceeding(&compared), ["new"], "a program that is not recorded");
        assert!(compare(&counts(&[]), "6.12", &Recorded::new()).is_err(), "nothing recorded");
    }

    #[test]
    fn versions_are_read() {
        for (release, expected) in [
            ("6.18.44-fc-v782\n", Some((6, 18))),
            ("6.1", Some((6, 1))),
            ("5.15-rc1", Some((5, 15))),
            ("6", None),
            ("", None),
        ] {
            assert_eq!(version(release), expected, "{release:?}");
        }
    }
}
