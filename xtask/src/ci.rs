//! The sequence of checks; the only list of steps. What passes here passes in CI.

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::{docs, ebpf, fuzz, setup, test, tidy};

/// Seconds that each fuzz target gets.
const FUZZ_SECONDS: u64 = 10;

/// Runs every step, cheapest first; fails at the first that fails.
pub(crate) fn run(shell: &Shell) -> Result<()> {
    setup::require_root(shell, test::WHY_ROOT)?;
    step("setup");
    setup::install(shell)?;
    step("fmt");
    cmd!(shell, "cargo fmt --all --check").run()?;
    step("tidy");
    tidy::check(shell)?;
    step("ebpf");
    ebpf::build(shell)?;
    step("clippy");
    let scope = ["--workspace", "--exclude", "steering-ebpf", "--all-targets", "--locked"];
    cmd!(shell, "cargo clippy {scope...} -- -D warnings").run()?;
    step("docs");
    docs::check(shell)?;
    step("test");
    test::run(shell, &[])?;
    step("fuzz");
    fuzz::run(shell, FUZZ_SECONDS)?;
    println!("\nci: ok");
    Ok(())
}

fn step(name: &str) {
    println!("\n== {name}");
}
