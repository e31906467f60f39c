//! `proxyd search`: find sessions by their facts, and places in them by what was there.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::catalogue::{self, Of};
use crate::store::search::{Found, Text};

/// Find a text in what sessions showed, did and were.
///
/// It is looked for in the commands and screens of recorded sessions, as far as this gateway may
/// read them (see `storage.index_identity_file`), and in what is on record of every session:
/// names, addresses, files, decisions. A text is found where its words stand one after the other,
/// from the beginning of a word on; capital letters do not matter. The newest sessions come
/// first; of more places than --limit, those that came into the index last.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The text.
    text: String,
    #[command(flatten)]
    of: Of,
    /// The most places.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The configuration file of the gateway.
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  proxyd search 'rm -rf' --user alice --since 7d
  proxyd search /etc/shadow --target 10.2.0.9 --json
  proxyd session show SESSION                  what else is known of a session that was found
  proxyd trail replay SESSION --at 00:03:10    see the place";

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let text = Text::new(&args.text)?;
    let filter = args.of.filter()?;
    let found = catalogue::with(&args.config, async |store| {
        Ok(store.search(&text, &filter, usize::from(args.limit)).await?)
    })?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&found)?)?;
    } else {
        print(&found, out)?;
    }
    Ok(if found.hits.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(found: &Found, out: &mut impl Write) -> anyhow::Result<()> {
    let mut session = None;
    for hit in &found.hits {
        if session != Some(hit.session) {
            session = Some(hit.session);
            let user = if hit.gateway_user.is_empty() { "-" } else { &hit.gateway_user };
            let started = catalogue::wall_clock(hit.started_ns);
            let who = format!("{user} as {}@{}", hit.remote_user, hit.target);
            writeln!(out, "{}  {started}  {}", hit.session, catalogue::shown(&who))?;
        }
        let (at, line) = (catalogue::offset(hit.at_ns), catalogue::shown(&hit.line));
        let status = hit.exit_status.map(|status| format!("  (exit {status})")).unwrap_or_default();
        writeln!(out, "  {at}  {:22}  {line}{status}", hit.kind)?;
    }
    if found.is_cut {
        writeln!(out, "There may be more: narrow it down, or raise --limit.")?;
    }
    out.flush().context("cannot write the result")
}
