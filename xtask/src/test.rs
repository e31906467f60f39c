//! All tests: units, then real peers in network namespaces.

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

use crate::{ebpf, setup};

/// Builds what the tests need and runs them; `filter` is handed to the test runner.
pub(crate) fn run(shell: &Shell, filter: &[String]) -> Result<()> {
    if cmd!(shell, "id -u").quiet().read()? != "0" {
        bail!("tests load eBPF programs and make network namespaces: run as root");
    }
    setup::install(shell)?;
    ebpf::build(shell)?;
    // The end-to-end tests start the daemon's binary.
    cmd!(shell, "cargo build --locked --package proxyd --bin proxyd").run()?;
    let scope = ["--workspace", "--exclude", "steering-ebpf", "--locked", "--profile", "ci"];
    cmd!(shell, "cargo nextest run {scope...} {filter...}").run()?;
    Ok(())
}
