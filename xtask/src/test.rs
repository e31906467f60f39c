//! All tests: units, then real peers in network namespaces.

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::{ebpf, setup};

/// Why only root can run them.
pub(crate) const WHY_ROOT: &str = "tests load eBPF programs and make network namespaces";

/// Builds what the tests need and runs them; `filter` is handed to the test runner.
pub(crate) fn run(shell: &Shell, filter: &[String]) -> Result<()> {
    setup::require_root(shell, WHY_ROOT)?;
    setup::install(shell)?;
    ebpf::build(shell)?;
    // The end-to-end tests start the daemon's binary.
    cmd!(shell, "cargo build --locked --package proxyd --bin proxyd").run()?;
    let scope = ["--workspace", "--exclude", "steering-ebpf", "--locked", "--profile", "ci"];
    cmd!(shell, "cargo nextest run {scope...} {filter...}").run()?;
    Ok(())
}
