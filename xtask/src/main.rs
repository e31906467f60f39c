//! The project's automation: parses the verb, calls one module.
#![expect(clippy::print_stdout, reason = "a command-line tool talks to its user")]

mod ebpf;
mod setup;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xshell::Shell;

/// Builds, checks and tests the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what this machine lacks to build and test the project
    Setup,
    /// Build the steering programs that the daemon embeds
    BuildEbpf,
}

fn main() -> Result<()> {
    let shell = Shell::new()?;
    match Arguments::parse().verb {
        Verb::Setup => setup::install(&shell),
        Verb::BuildEbpf => ebpf::build(&shell).map(|_object| ()),
    }
}
