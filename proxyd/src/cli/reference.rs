//! `proxyd reference`: every key of the configuration file.

use std::io::Write;
use std::process::ExitCode;

use crate::config::doc;

/// Print the reference of the configuration file, as Markdown.
#[derive(Debug, clap::Args)]
pub(super) struct Args;

pub(super) fn run(out: &mut impl Write) -> anyhow::Result<ExitCode> {
    write!(out, "{}", doc::markdown())?;
    Ok(ExitCode::SUCCESS)
}
