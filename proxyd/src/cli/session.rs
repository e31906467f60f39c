//! `proxyd session`: what is on record of sessions.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;
use uuid::Uuid;

use super::catalogue::{self, Of};
use crate::session::row::SessionRow;
use crate::store::Store;
use crate::store::search::Hit;
use crate::store::sessions::EventRow;

/// Show what is on record of sessions, live and past.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The configuration file of the gateway.
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG, global = true)]
    config: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List sessions, the newest first.
    List {
        #[command(flatten)]
        of: Of,
        /// The most sessions.
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Show everything that is on record of one session.
    Show {
        /// The session's id.
        session: Uuid,
    },
}

/// Everything on record of one session.
struct Whole {
    row: SessionRow,
    events: Vec<EventRow>,
    commands: Vec<Hit>,
    index: Option<String>,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List { of, limit } => {
            let filter = of.filter()?;
            let rows = catalogue::with(&args.config, async |store| {
                Ok(store.find_sessions(&filter, *limit).await?)
            })?;
            if args.json {
                writeln!(out, "{}", serde_json::to_string(&rows)?)?;
            } else {
                list(&rows, out)?;
            }
        }
        Command::Show { session } => {
            let whole = catalogue::with(&args.config, async |store| read(store, *session).await)?;
            if args.json {
                let Whole { row, events, commands, index } = &whole;
                let object = json!({
                    "session": row, "events": events, "commands": commands, "index": index,
                });
                writeln!(out, "{object}")?;
            } else {
                show(&whole, out)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn read(store: &Store, id: Uuid) -> anyhow::Result<Whole> {
    let row = store.session(id).await?.with_context(|| format!("no session {id} is on record"))?;
    let events = store.events(id).await?;
    let commands = store.commands(id).await?;
    let index = store.index_state(id).await?;
    Ok(Whole { row, events, commands, index })
}

fn list(rows: &[SessionRow], out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "{:36}  {:30}  {:11}  {:16}  {:32}  CLIENT",
        "SESSION", "STARTED", "OUTCOME", "USER", "SERVER"
    )?;
    for row in rows {
        let server = catalogue::shown(&format!("{}@{}", row.remote_user, row.target));
        let user = catalogue::shown(&row.gateway_user);
        let started = catalogue::wall_clock(row.started_ns);
        writeln!(
            out,
            "{:36}  {started:30}  {:11}  {user:16}  {server:32}  {}",
            row.id, row.outcome, row.client
        )?;
    }
    Ok(())
}

fn show(whole: &Whole, out: &mut impl Write) -> anyhow::Result<()> {
    let Whole { row, events, commands, index } = whole;
    let ended = row.ended_ns.map(catalogue::wall_clock).unwrap_or_default();
    let index = index.as_deref().unwrap_or("-");
    for (name, value) in [
        ("session", row.id.to_string()),
        ("started", catalogue::wall_clock(row.started_ns)),
        ("ended", ended),
        ("outcome", format!("{} {}", row.outcome, row.reason)),
        ("protocol", row.protocol.clone()),
        ("policy", row.policy.clone()),
        ("client", row.client.clone()),
        ("destination", row.original_destination.clone()),
        ("server", format!("{}@{}", row.remote_user, row.target)),
        ("user", row.gateway_user.clone()),
        ("trail", row.trail.clone()),
        ("hash", row.trail_hash.clone()),
        ("index", index.to_owned()),
    ] {
        writeln!(out, "{name:12} {}", catalogue::shown(value.trim()))?;
    }
    if !commands.is_empty() {
        writeln!(out, "\nCOMMANDS")?;
    }
    for command in commands {
        let status =
            command.exit_status.map_or_else(String::new, |status| format!("  (exit {status})"));
        let (at, line) = (catalogue::offset(command.at_ns), catalogue::shown(&command.line));
        writeln!(out, "  {at}  {line}{status}")?;
    }
    writeln!(out, "\nEVENTS")?;
    for event in events {
        let fields = event.fields.iter().map(|(name, value)| format!("{name}={value}"));
        let fields = catalogue::shown(&fields.collect::<Vec<_>>().join(" "));
        writeln!(out, "  {}  {:22}  {fields}", catalogue::offset(event.at_ns), event.name)?;
    }
    Ok(())
}
