//! `proxyd steering`: what the packet program does.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use ipnet::IpNet;
use nix::net::if_::if_indextoname;
use serde_json::json;
use steering_common::layout::InForce;
use steering_common::table::{CELLS_PER_ELEMENT, Engine, Ipv4Engine};

use crate::steering::trace::{Tracer, Verdict};
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
    /// Show verdicts about new connections as they are made, until interrupted.
    ///
    /// One line for each packet that opens a connection or may hide one that does: when, what
    /// became of it, by which policy, from where to where. Only one trace can run at a time.
    Trace(TraceArgs),
}

#[derive(Debug, clap::Args)]
struct TraceArgs {
    /// Only connections from these addresses, as 10.1.0.0/16.
    #[arg(long, value_name = "PREFIX")]
    from: Option<IpNet>,
    /// Only connections to these addresses.
    #[arg(long, value_name = "PREFIX")]
    to: Option<IpNet>,
    /// Only verdicts of this policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// End after so many lines.
    #[arg(long, value_name = "LINES")]
    count: Option<u64>,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    let pins = &config.steering.pin_directory;
    match &args.command {
        Command::Status => show_status(&steering::status(pins)?, out)?,
        Command::Trace(trace) => show_trace(pins, trace, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes verdicts until nobody reads them any more.
fn show_trace(pins: &Path, args: &TraceArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let mut tracer = Tracer::start(pins)?;
    let lost_before = tracer.lost()?;
    let mut lost = 0;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let verdict = tracer.wait_for_next()?;
        let lost_now = tracer.lost()?.saturating_sub(lost_before);
        if lost_now > lost {
            writeln!(out, "# {} verdicts were not written: the ring was full", lost_now - lost)?;
            lost = lost_now;
        }
        if let Some(verdict) = verdict.filter(|verdict| args.wants(verdict)) {
            let line = if args.json { as_json(&verdict)? } else { as_text(&verdict)? };
            writeln!(out, "{line}")?;
            left -= 1;
        }
        out.flush()?;
    }
    Ok(())
}

impl TraceArgs {
    fn wants(&self, verdict: &Verdict) -> bool {
        let (from, to) = (verdict.source.0, verdict.destination.0);
        self.from.is_none_or(|prefix| prefix.contains(&from))
            && self.to.is_none_or(|prefix| prefix.contains(&to))
            && self.policy.as_ref().is_none_or(|name| verdict.policy.as_ref() == Some(name))
    }
}

fn as_text(verdict: &Verdict) -> anyhow::Result<String> {
    let (source, destination) = (socket(verdict.source), socket(verdict.destination));
    let policy = verdict.policy.as_deref().unwrap_or("-");
    let interface = interface_name(verdict.ifindex);
    let vlan = if verdict.vlan == 0 { String::new() } else { format!(" vlan {}", verdict.vlan) };
    Ok(format!(
        "{} {:18} {policy:20} {source} -> {destination} on {interface}{vlan}",
        when(verdict)?,
        verdict.reason.name()
    ))
}

fn as_json(verdict: &Verdict) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&json!({
        "time": when(verdict)?,
        "verdict": verdict.reason.name(),
        "policy": verdict.policy,
        "client": socket(verdict.source).to_string(),
        "server": socket(verdict.destination).to_string(),
        "interface": interface_name(verdict.ifindex),
        "vlan": verdict.vlan,
    }))?)
}

fn socket((address, port): (IpAddr, u16)) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// The time of a verdict (RFC 3339, UTC).
fn when(verdict: &Verdict) -> anyhow::Result<String> {
    let at = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::try_from(verdict.age)?)?;
    Ok(format!("{at:.6}"))
}

fn show_status(status: &steering::Status, out: &mut impl Write) -> anyhow::Result<()> {
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
        "{:24} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "POLICY", "REDIRECTED", "PACED", "FORWARDED", "DROPPED", "DOWN"
    )?;
    for (name, counts) in &status.policies {
        writeln!(
            out,
            "{name:24} {:>12} {:>12} {:>12} {:>12} {:>12}",
            counts.redirected, counts.paced, counts.forwarded, counts.dropped, counts.down
        )?;
    }
    writeln!(out)?;
    writeln!(out, "{:24} {:>12}", "REASON", "PACKETS")?;
    for (reason, count) in &status.reasons {
        writeln!(out, "{:24} {count:>12}", reason.name())?;
    }
    Ok(())
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
