//! `proxyd ctl`: ask a running daemon.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use uuid::Uuid;

use crate::config;
use crate::control::{self, Answer, Request};
use crate::session::approval::{Decision, Outcome, Waiting};
use crate::session::registry::Live;

/// Ask a running gateway: list and end its live sessions, approve of channels, reload the
/// configuration.
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
    /// List the channels that wait for somebody's approval, oldest first.
    Requests {
        /// One JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Let a channel that waits be opened.
    Approve(Decide),
    /// Refuse a channel that waits; its user is told.
    Refuse(Decide),
    /// Read the configuration file again, as SIGHUP does.
    ///
    /// New connections meet the new policies. A file with an error, or one that changes what only
    /// a restart can, changes nothing.
    Reload,
}

#[derive(Debug, clap::Args)]
struct Decide {
    /// The request, as `requests` lists it.
    id: Uuid,
    /// Who decides, for the record; not the gateway user who asks.
    #[arg(long, value_name = "NAME", env = "SUDO_USER")]
    by: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl Decide {
    fn request(&self, approved: bool) -> Request {
        let decision = Decision { approved, by: self.by.clone(), reason: self.reason.clone() };
        Request::Decide { id: self.id, decision, own: false }
    }
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let socket = config::control_socket(&args.config)?;
    let request = match &args.command {
        Command::Sessions { .. } => Request::Sessions { own: false },
        Command::Terminate { id } => Request::Terminate { id: *id, own: false },
        Command::Requests { .. } => Request::Requests { own: false },
        Command::Approve(decide) => decide.request(true),
        Command::Refuse(decide) => decide.request(false),
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
        Answer::Requests { requests } => {
            if matches!(args.command, Command::Requests { json: true }) {
                writeln!(out, "{}", serde_json::to_string(&requests)?)?;
            } else {
                requests_table(&requests, out)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Answer::Decided { outcome: Outcome::Taken } => {
            writeln!(out, "the session has the decision")?;
            Ok(ExitCode::SUCCESS)
        }
        Answer::Decided { outcome: Outcome::Unknown } => {
            anyhow::bail!("no such request waits: it is decided, has timed out or was withdrawn")
        }
        Answer::Decided { outcome: Outcome::SameUser } => {
            anyhow::bail!("users cannot decide about their own requests")
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

fn requests_table(requests: &[Waiting], out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "{:36}  {:21}  {:21}  {:12}  {:12}  WISH",
        "REQUEST", "CLIENT", "SERVER", "GATEWAY USER", "REMOTE USER"
    )?;
    for waiting in requests {
        writeln!(
            out,
            "{:36}  {:21}  {:21}  {:12}  {:12}  {} {}",
            waiting.id.to_string(),
            waiting.client.to_string(),
            waiting.target,
            waiting.gateway_user,
            waiting.remote_user,
            waiting.wish.kind,
            waiting.wish.detail
        )?;
    }
    Ok(())
}
