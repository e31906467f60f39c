//! The project's automation: parses the verb, calls one module.
#![expect(clippy::print_stdout, reason = "a command-line tool talks to its user")]

mod bench;
mod ci;
mod demo;
mod docs;
mod ebpf;
mod fuzz;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

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
    /// Show the gateway at work in network namespaces, and check what is shown; as root
    Demo,
    /// Install what this machine lacks to build and test the project
    Setup,
    /// Build the steering programs that the daemon embeds
    BuildEbpf,
    /// Run all tests, as root: units, then real peers in network namespaces
    Test {
        /// Handed to the test runner: names of tests, or its options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        filter: Vec<String>,
    },
    /// Check the repository's own rules
    Tidy,
    /// Write the documents that are made from the code
    Docs,
    /// Run every fuzz target
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Measure a release build of the gateway in network namespaces; as root
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// Run everything that has to pass before a change lands
    Ci,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let shell = Shell::new()?;
    shell.change_dir(ebpf::workspace_root()?);
    match Arguments::parse().verb {
        Verb::Demo => demo::run(&shell),
        Verb::Setup => setup::install(&shell),
        Verb::BuildEbpf => ebpf::build(&shell).map(|_object| ()),
        Verb::Test { filter } => test::run(&shell, &filter),
        Verb::Tidy => tidy::check(&shell),
        Verb::Docs => docs::write(&shell),
        Verb::Fuzz { seconds } => fuzz::run(&shell, seconds),
        Verb::Bench { what } => bench::run(&shell, what),
        Verb::Ci => ci::run(&shell),
    }
}
