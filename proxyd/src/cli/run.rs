//! `proxyd run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::app::{self, Start};
use crate::config;
use crate::telemetry::{self, LogFormat};

/// Run the gateway until SIGTERM or SIGINT.
///
/// At the signal no new connections are taken, running sessions get `limits.drain_timeout_s` to
/// end, and steering is removed. SIGHUP reads the configuration file again. Needs root: it loads an
/// eBPF program and connects from clients' addresses.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    /// Take over from the gateway that runs with this configuration file: no connection is lost,
    /// and its sessions go on in it until they end. If this fails, that gateway goes on.
    #[arg(long)]
    take_over: bool,
    /// What is logged: a level (error, warn, info, debug, trace) or a list of target=level.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// How long the end of the program waits for calls that block.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    telemetry::start(args.log_format, &args.log)?;
    let config = config::load(&args.config)?;
    if config.warnings.warning_count() > 0 {
        tracing::warn!("{}", config.warnings);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("proxyd")
        .build()
        .context("the runtime cannot be started")?;
    let start = if args.take_over { Start::TakeOver } else { Start::Fresh };
    let result = runtime.block_on(app::run(&args.config, config, start));
    // Calls that block, such as one that waits for a KDC, are not waited for any longer.
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
    result.map(|()| ExitCode::SUCCESS)
}
