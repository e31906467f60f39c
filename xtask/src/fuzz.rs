//! Fuzz targets, each for some seconds; a crash is kept under `tests/golden/fuzz`.

use std::fs;

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::ebpf::{target_directory, workspace_root};

/// What libFuzzer needs to see: which edges ran. Stable options of the compiler.
const COVERAGE: &str = "-Cpasses=sancov-module \
     -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table \
     --cfg fuzzing";

/// Bytes of an input; larger than any packet, message or short trail.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Builds the targets and runs each for `seconds`.
pub(crate) fn run(shell: &Shell, seconds: u64) -> Result<()> {
    let root = workspace_root()?;
    let manifest = root.join("tests/fuzz/Cargo.toml");
    let target_dir = target_directory()?.join("fuzz");
    let host = host(shell)?;
    // Naming the target keeps build scripts and macros free of the instrumentation.
    cmd!(
        shell,
        "cargo build --locked --manifest-path {manifest} --target {host} --target-dir {target_dir}"
    )
    .env("RUSTFLAGS", COVERAGE)
    .run()?;
    let crashes = root.join("tests/golden/fuzz");
    for target in targets(&root)? {
        let binary = target_dir.join(&host).join("debug").join(&target);
        let corpus = target_dir.join("corpus").join(&target);
        fs::create_dir_all(&corpus)?;
        let kept = crashes.join(&target);
        fs::create_dir_all(&kept)?;
        println!("fuzz: {target}, {seconds} s");
        let prefix = format!("{}/", kept.display());
        let limits = [
            format!("-max_total_time={seconds}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-artifact_prefix={prefix}"),
            "-timeout=10".to_owned(),
            "-rss_limit_mb=2048".to_owned(),
            "-print_final_stats=1".to_owned(),
            "-verbosity=0".to_owned(),
        ];
        cmd!(shell, "{binary} {limits...} {corpus} {kept}")
            .quiet()
            .run()
            .with_context(|| format!("fuzz target {target} failed; see {prefix}"))?;
        if fs::read_dir(&kept)?.next().is_none() {
            fs::remove_dir(&kept)?;
        }
    }
    Ok(())
}

/// Names of the targets: the binaries of the fuzz package.
fn targets(root: &std::path::Path) -> Result<Vec<String>> {
    let directory = root.join("tests/fuzz/targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&directory).context("the fuzz targets are missing")? {
        let name = entry?.file_name();
        if let Some(target) = name.to_str().and_then(|name| name.strip_suffix(".rs")) {
            targets.push(target.to_owned());
        }
    }
    targets.sort();
    if targets.is_empty() {
        bail!("{} holds no target", directory.display());
    }
    Ok(targets)
}

/// The machine's own target triple.
fn host(shell: &Shell) -> Result<String> {
    let version = cmd!(shell, "rustc --version --verbose").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}
