//! `cargo xtask bench`: numbers about the gateway, as a table and as JSON. No number is judged.

mod report;
mod ssh;
mod steering;
mod usage;

use std::env;

use anyhow::Result;
use xshell::{Shell, cmd};

use self::report::Report;
use crate::{ebpf, setup};

/// Names the daemon that is measured; without it, that is a release build.
const BINARY_VARIABLE: &str = "PROXYD_BIN";

/// What is measured.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(crate) enum Bench {
    /// SSH: memory of idle sessions, bulk data, time to run a command
    Ssh,
    /// Steering: what it adds to a packet, beside nftables and the kernel alone
    Steering {
        /// Only count the instructions that the verifier walks, and record them
        #[arg(long)]
        record_verifier: bool,
    },
}

/// Measures, prints a table, and writes `bench/NAME.json` in the target directory.
pub(crate) fn run(shell: &Shell, bench: Bench) -> Result<()> {
    setup::require_root(shell, "the benchmark loads eBPF programs and makes network namespaces")?;
    if let Bench::Steering { record_verifier: true } = bench {
        ebpf::build(shell)?;
        return steering::record_verifier();
    }
    if env::var_os(BINARY_VARIABLE).is_none() {
        return run_with_release(shell);
    }
    let (name, report, outcome) = match bench {
        Bench::Ssh => ("ssh", ssh::measure()?, Ok(())),
        Bench::Steering { .. } => {
            setup::install_to_compare(shell)?;
            let mut report = Report::new()?;
            // It takes minutes: what was found before something failed is worth keeping.
            let outcome = steering::measure(&mut report);
            ("steering", report, outcome)
        }
    };
    println!("\n{}", report.table());
    let directory = ebpf::target_directory()?.join("bench");
    let path = shell.create_dir(directory)?.join(format!("{name}.json"));
    shell.write_file(&path, report.json()?)?;
    println!("{} written", path.display());
    outcome
}

/// Builds the daemon as it is released, and runs this command again with it.
fn run_with_release(shell: &Shell) -> Result<()> {
    setup::install_to_run(shell)?;
    ebpf::build(shell)?;
    cmd!(shell, "cargo build --release --locked --package proxyd --bin proxyd").run()?;
    let binary = ebpf::target_directory()?.join("release/proxyd");
    let (own, arguments) = (env::current_exe()?, env::args_os().skip(1));
    cmd!(shell, "{own} {arguments...}").quiet().env(BINARY_VARIABLE, binary).run()?;
    Ok(())
}
