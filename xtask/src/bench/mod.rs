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
    /// SSH: bulk data, times, memory; beside a direct connection, `ssh -J` and ssh-mitm
    Ssh {
        /// Instead, keep 300 mixed sessions up for this long, and fail if the daemon grows
        #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..))]
        soak: Option<u32>,
    },
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
    let mut report = Report::new()?;
    // They take minutes: what was found before something failed is worth keeping.
    let (name, outcome) = match bench {
        Bench::Ssh { soak: Some(minutes) } => return ssh::soak(minutes),
        Bench::Ssh { soak: None } => ("ssh", ssh::measure(&mut report)),
        Bench::Steering { .. } => {
            setup::install_to_compare(shell)?;
            ("steering", steering::measure(&mut report))
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
