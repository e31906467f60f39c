//! `proxyd ctl`: ask a running daemon.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use uuid::Uuid;

use crate::config;
use crate::control::{self, Answer, Request};
use crate::session::registry::Live;

/// Ask a running gateway: list its live sessions, end one, reload the configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file of the gateway; it names the control socket.
    #[arg(long, global = true, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the live sessions, oldest first.
    Sessions {
        /// One JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// End a session; its user is told.
    Terminate {
        /// The session, as `sessions` lists it.
        id: Uuid,
    },
    /// Read the configuration file again, as SIGHUP does.
    ///
    /// New connections meet the new policies. A file with an error, or one that changes what only
    /// a restart can, changes nothing.
    Reload,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let socket = config::control_socket(&args.config)?;
    let request = match args.command {
        Command::Sessions { .. } => Request::Sessions { own: false },
        Command::Terminate { id } => Request::Terminate { id, own: false },
        Command::Reload => Request::Reload,
    };
    let answer = control::ask(&socket, &request)
        .with_context(|| format!("no gateway answers at {}; is it running?", socket.display()))?;
    match answer {
        Answer::Sessions { sessions } => {
            if matches!(args.command, Command::Sessions { json: true }) {
                writeln!(out, "{}", serde_json::to_string(&sessions)?)?;
            } else {
                table(&sessions, out)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Answer::Terminated { found: true } => {
            writeln!(out, "the session is ending")?;
            Ok(ExitCode::SUCCESS)
        }
        Answer::Terminated { found: false } => {
            anyhow::bail!("there is no live session with this id")
        }
        Answer::Reloaded { summary } => {
            writeln!(out, "{summary}")?;
            Ok(ExitCode::SUCCESS)
        }
        Answer::Unchanged { problem } => anyhow::bail!("nothing was changed: {problem}"),
        Answer::Retiring => anyhow::bail!("the gateway answered what was not asked"),
        Answer::Refused { error } => anyhow::bail!("the gateway refused: {error}"),
    }
}

fn table(sessions: &[Live], out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "{:36}  {:21}  {:21}  {:16}  {:12}  {:12}  STEP",
        "SESSION", "CLIENT", "SERVER", "POLICY", "GATEWAY USER", "REMOTE USER"
    )?;
    for live in sessions {
        let server = match live.target.as_str() {
            "" => live.original_destination.to_string(),
            target => target.to_owned(),
        };
        writeln!(
            out,
            "{:36}  {:21}  {:21}  {:16}  {:12}  {:12}  {}",
            live.id.to_string(),
            live.client.to_string(),
            server,
            live.policy,
            live.gateway_user,
            live.remote_user,
            live.step
        )?;
    }
    Ok(())
}
