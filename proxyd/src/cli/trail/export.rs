//! Writing a session in the formats of other programs.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use proxyd_trail::{CastVersion, Reader, TrailError};

use super::files;

/// What is written of which session, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: super::Source,
    /// The format.
    #[arg(long)]
    format: Format,
    /// The channel; without it, the first with a terminal for asciicast, else all.
    #[arg(long)]
    channel: Option<u32>,
    /// Where the client was, for pcapng, if the trail does not say.
    #[arg(long, value_name = "ADDRESS:PORT")]
    client: Option<SocketAddr>,
    /// The directory for files, which is made or is empty.
    #[arg(long, value_name = "DIRECTORY", required_if_eq("format", "files"))]
    output: Option<PathBuf>,
}

/// What a session can be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// asciicast version 2, for asciinema and its players.
    #[value(alias = "asciicast")]
    AsciicastV2,
    /// asciicast version 3, for asciinema 3 and its players.
    AsciicastV3,
    /// What shells and commands printed, without escape sequences.
    Text,
    /// What channels carried, in clear, as packets of TCP with the true addresses.
    Pcapng,
    /// Files that sftp and scp carried, in a directory, with an index.
    Files,
    /// Every record, as a line of JSON.
    Json,
}

/// Writes to `out`, or to the directory.
pub(super) fn export(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let Args { source, format, channel, client, output } = args;
    let is_for_files = *format == Format::Files;
    ensure!(is_for_files || output.is_none(), "--output is for --format files alone");
    let is_for_packets = *format == Format::Pcapng;
    ensure!(is_for_packets || client.is_none(), "--client is for --format pcapng alone");
    let mut reader = source.open().with_context(|| source.place.name())?;
    let mut out = BufWriter::new(out);
    write(&mut reader, args, *channel, &mut out).with_context(|| source.place.name())?;
    out.flush()?;
    Ok(())
}

fn write(
    reader: &mut Reader<BufReader<File>>,
    args: &Args,
    channel: Option<u32>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match (args.format, &args.output) {
        (Format::AsciicastV2, _) => {
            proxyd_trail::export_asciicast(reader, CastVersion::V2, channel, out)?;
        }
        (Format::AsciicastV3, _) => {
            proxyd_trail::export_asciicast(reader, CastVersion::V3, channel, out)?;
        }
        (Format::Text, _) => {
            proxyd_trail::export_text(reader, channel, out)?;
        }
        (Format::Pcapng, _) => {
            ensure!(!io::stdout().is_terminal(), "packets are not for a terminal: use a file");
            proxyd_trail::export_pcapng(reader, args.client, channel, out).map_err(hint)?;
        }
        (Format::Files, Some(directory)) => {
            let files::Exported { complete, partial, lost } =
                files::export(reader, channel, directory)?;
            writeln!(
                out,
                "{}: {complete} files are complete, {partial} are not; {lost} channels could not \
                 be followed",
                directory.display()
            )?;
        }
        // INVARIANT: clap asks for it.
        (Format::Files, None) => bail!("--format files needs --output DIRECTORY"),
        (Format::Json, _) => {
            proxyd_trail::export_json(reader, channel, out)?;
        }
    }
    Ok(())
}

/// Says what can be done about an address that is missing.
fn hint(error: TrailError) -> anyhow::Error {
    let is_missing = matches!(error, TrailError::NoAddress { peer: "client" });
    let error = anyhow::Error::new(error);
    if is_missing {
        error.context("say where the client was: --client ADDRESS:PORT")
    } else {
        error
    }
}
