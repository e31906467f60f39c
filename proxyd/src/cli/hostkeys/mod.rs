//! `proxyd hostkeys`: the host keys by which servers are known.

mod known_hosts;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use proxyd_ssh::transport::fingerprint;
use serde_json::json;

use super::catalogue;
use crate::clock::Clock;
use crate::store::Store;
use crate::store::host_keys::{ImportError, Kept};

/// Show and change the host keys by which servers are known, also while the gateway runs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file of the gateway; it names the database.
    #[arg(long, global = true, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the known host keys by server.
    List {
        /// One JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Forget every key of a server.
    ///
    /// Under "accept-first" the server's next key is learned as if it were the first; under "known"
    /// nobody reaches the server until a key is imported.
    Forget {
        /// The server as it is dialled: `ADDRESS`, `ADDRESS:PORT` or `[IPv6]:PORT`; the port is 22
        /// where none is given.
        server: String,
    },
    /// Import keys from a `known_hosts` file or the output of `ssh-keyscan`.
    ///
    /// All or nothing: one line that cannot be used, or one key that differs from a known key of
    /// the same type, and nothing is changed.
    Import {
        /// The file.
        file: PathBuf,
    },
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    catalogue::with(&args.config, async |store| match &args.command {
        Command::List { json } => list(store, *json, out).await,
        Command::Forget { server } => forget(store, server, out).await,
        Command::Import { file } => import(store, file, out).await,
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(store: &Store, as_json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let keys = store.kept_keys().await?;
    if as_json {
        let keys: Vec<_> = keys.iter().map(entry).collect();
        writeln!(out, "{}", serde_json::to_string(&keys)?)?;
        return Ok(());
    }
    writeln!(out, "{:25}  {:19}  {:50}  LEARNED", "SERVER", "TYPE", "FINGERPRINT")?;
    for kept in &keys {
        let (server, kind) = (&kept.server, &kept.key.algorithm);
        let print = fingerprint(&kept.key.blob);
        writeln!(
            out,
            "{server:25}  {kind:19}  {print:50}  {}",
            catalogue::wall_clock(kept.learned_ns)
        )?;
    }
    Ok(())
}

fn entry(kept: &Kept) -> serde_json::Value {
    json!({
        "server": kept.server,
        "type": kept.key.algorithm,
        "fingerprint": fingerprint(&kept.key.blob),
        "learned": catalogue::wall_clock(kept.learned_ns),
    })
}

async fn forget(store: &Store, text: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(server) = known_hosts::server(text) else {
        bail!("{text:?} is not ADDRESS, ADDRESS:PORT or [IPv6]:PORT")
    };
    let forgotten = store.forget_keys(server).await?;
    if forgotten == 0 {
        bail!("no key of {server} is known");
    }
    writeln!(out, "forgot {forgotten} keys of {server}")?;
    Ok(())
}

async fn import(store: &Store, file: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let keys = known_hosts::parse(&text).map_err(|errors| {
        let lines = errors.iter().map(|(line, error)| format!("\n  line {line}: {error}"));
        anyhow::anyhow!(
            "nothing was imported from {}:{}",
            file.display(),
            lines.collect::<String>()
        )
    })?;
    match store.import_keys(&keys, Clock::start().wall_ns()).await {
        Ok(added) => {
            let known = keys.len().saturating_sub(added);
            writeln!(out, "imported {added} keys; {known} were known")?;
            Ok(())
        }
        Err(ImportError::Differs { server, algorithm }) => bail!(
            "nothing was imported: another {algorithm} key of {server} is known; if the new one \
             is right, run `proxyd hostkeys forget {server}` first"
        ),
        Err(ImportError::Store(error)) => Err(error.into()),
    }
}
