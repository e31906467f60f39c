//! The command line: one file per subcommand; all output goes through the writer handed in.

mod catalogue;
mod check;
mod ctl;
mod explain;
mod hostkeys;
mod reference;
mod run;
mod search;
mod session;
mod steering;
mod trail;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A transparent, recording gateway for privileged sessions.
///
/// proxyd stands as a router or bridge between administrators and servers. Connections that match
/// a connection policy are handed to it by an eBPF program; it authenticates the user, checks what
/// the user may do, logs in to the server and records the session. Everything else passes at
/// packet level.
#[derive(Debug, Parser)]
#[command(name = "proxyd", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The configuration file of a command that names none.
const DEFAULT_CONFIG: &str = "/etc/proxyd/proxyd.toml";

const EXAMPLES: &str = "\
Examples:
  proxyd check proxyd.toml                     find every error in a configuration
  proxyd explain --config proxyd.toml --from 10.1.0.5 --to 10.2.0.9:22
                                               say which policy decides, and why
  proxyd run --config proxyd.toml              run the gateway
  proxyd ctl --config proxyd.toml sessions     list the live sessions
  proxyd ctl --config proxyd.toml reload       read the configuration again
  proxyd hostkeys list --config proxyd.toml    list the host keys by which servers are known
  proxyd search 'rm -rf' --user alice --since 7d
                                               find where it was typed or shown
  proxyd session show SESSION                  show all that is on record of a session
  proxyd trail verify SESSION.trail            prove that a recording is whole";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Steering(steering::Args),
    Ctl(ctl::Args),
    Hostkeys(hostkeys::Args),
    Search(search::Args),
    Session(session::Args),
    Trail(trail::Args),
    Reference(reference::Args),
}

/// Runs the command line; the exit code is 0 for success, 1 for a failure or a bad verdict, 2 for
/// a command line that is not understood.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::stdout().lock();
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args, &mut out, &mut io::stderr()).map_err(Into::into),
        Command::Explain(args) => {
            explain::run(&args, &mut out, &mut io::stderr()).map_err(Into::into)
        }
        Command::Steering(args) => steering::run(&args, &mut out),
        Command::Ctl(args) => ctl::run(&args, &mut out),
        Command::Hostkeys(args) => hostkeys::run(&args, &mut out),
        Command::Search(args) => search::run(&args, &mut out),
        Command::Session(args) => session::run(&args, &mut out),
        Command::Trail(args) => trail::run(&args, &mut out),
        Command::Reference(reference::Args) => reference::run(&mut out),
    };
    let result = result.and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(io::stderr(), "proxyd: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
