//! `proxyd steering`: what the packet program does.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use nix::net::if_::if_indextoname;
use steering_common::layout::InForce;
use steering_common::table::{CELLS_PER_ELEMENT, Engine, Ipv4Engine};

use crate::{config, steering};

/// See what the packet program does, whether or not a gateway is running.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file of the gateway; it names the pin directory.
    #[arg(long, global = true, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show hooks, table, and the counters of every policy and reason.
    Status,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let Command::Status = args.command;
    let config = config::load(&args.config)?;
    let status = steering::status(&config.steering.pin_directory)?;
    let gateway = match status.silence {
        Some(silence) if status.is_alive() => format!("alive, {} ms ago", silence.as_millis()),
        Some(silence) => format!("silent for {} s", silence.as_secs()),
        None => "stopped".to_owned(),
    };
    writeln!(out, "gateway     {gateway}")?;
    write_table(out, &status.table)?;
    for hook in &status.hooks {
        let interface = interface_name(hook.ifindex);
        writeln!(out, "hook        {} on {interface}", hook.program)?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "{:24} {:>12} {:>12} {:>12} {:>12}",
        "POLICY", "REDIRECTED", "FORWARDED", "DROPPED", "DOWN"
    )?;
    for (name, counts) in &status.policies {
        writeln!(
            out,
            "{name:24} {:>12} {:>12} {:>12} {:>12}",
            counts.redirected, counts.forwarded, counts.dropped, counts.down
        )?;
    }
    writeln!(out)?;
    writeln!(out, "{:24} {:>12}", "REASON", "PACKETS")?;
    for (reason, count) in &status.reasons {
        writeln!(out, "{:24} {count:>12}", reason.name())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The table in force.
fn write_table(out: &mut impl Write, table: &InForce) -> std::io::Result<()> {
    let InForce { generation, bytes, took_ns, rules, prefixes, .. } = table;
    let (kib, took_ms) = (bytes / 1024, took_ns / 1_000_000);
    let engine = if table.engine == Engine::Direct as u32 { "direct" } else { "vectors" };
    let ipv4 = if table.ipv4_engine == Ipv4Engine::Blocks as u32 { "blocks" } else { "trie" };
    writeln!(out, "generation  {generation}, put in force in {took_ms} ms")?;
    writeln!(out, "table       {rules} rules, {prefixes} prefixes, {kib} KiB")?;
    writeln!(out, "engine      {engine}; IPv4 by {ipv4}, IPv6 by trie")?;
    let InForce { blocks, nodes, cells, classes, .. } = table;
    writeln!(
        out,
        "maps        {blocks} blocks, {nodes} nodes, {} cells, {classes} classes",
        cells * CELLS_PER_ELEMENT
    )
}

/// The name of an interface of this namespace, or its number where there is none.
fn interface_name(index: u32) -> String {
    match if_indextoname(index) {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_gone) => format!("interface {index}, which is gone"),
    }
}
