//! `proxyd trail`: prove, read, replay and export recordings.

mod export;
mod files;
mod place;
mod replay;
#[cfg(test)]
mod sample;

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use proxyd_trail::{Identities, Reader, SeekReader, SigningKey, Stream, VerifyingKey};
use zeroize::Zeroizing;

use self::place::{Growing, Place};
use super::catalogue::{shown, wall_clock};
use crate::config;
use crate::recording::hexadecimal;

/// Prove, read, replay and export recordings.
///
/// A recording is proven with the gateway's public key alone (`trail public-key`); to read it
/// takes the identities (age secret keys) of one whole group of its recipients.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether a trail is complete, recovered after a crash, cut, or altered and where.
    ///
    /// Exit code 0: complete. 3: recovered; the daemon ended before the session did, and the trail
    /// was closed when it started again. 1: cut or altered. Compare the hash with the session's row
    /// to notice a trail that was put in another's place.
    Verify {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        key: Key,
    },
    /// Show what a trail says about its session, without reading what was recorded.
    Info {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        key: Key,
    },
    /// Play a session's terminal in this terminal.
    ///
    /// Sequences that would act on your terminal rather than draw on it are left out. Played from
    /// the start, every frame is checked on the way. With --at or --search it begins at the last
    /// picture of the screen before; then what was recorded earlier is not read, and not verified:
    /// `proxyd trail verify` does.
    Replay {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        pace: replay::Pace,
    },
    /// Show the terminal of a session that is live, as it happens.
    ///
    /// What has happened so far is drawn at once. It ends when the session does.
    Follow {
        #[command(flatten)]
        source: Source,
        /// The channel; without it, the first on which the server sent something.
        #[arg(long)]
        channel: Option<u32>,
    },
    /// Write a session in another format to standard output, or its files to a directory.
    Export(export::Args),
    /// Make an identity (kept by an auditor) and its recipient (for the audit policy).
    Keygen,
    /// Print the public key with which this gateway's trails are verified.
    PublicKey {
        /// The configuration file of the gateway.
        #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
        config: PathBuf,
    },
}

/// Whose signature is expected.
#[derive(Debug, clap::Args)]
struct Key {
    /// The gateway's public key (ed25519:…). Without it the trail is only checked against the key
    /// that it names itself, which proves nothing about who made it.
    #[arg(long, value_name = "KEY")]
    key: Option<VerifyingKey>,
}

/// A trail to be read.
#[derive(Debug, clap::Args)]
struct Source {
    #[command(flatten)]
    place: Place,
    /// A file with an identity (AGE-SECRET-KEY-1…); once for each member of a group.
    #[arg(long, value_name = "FILE", required = true)]
    identity: Vec<PathBuf>,
    #[command(flatten)]
    key: Key,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Verify { place, key } => return verify(&place.file()?, key, out),
        Command::Info { place, key } => info(&place.file()?, key, out)?,
        Command::Replay { source, pace } => {
            replay::replay(source, pace, out).with_context(|| source.place.name())?;
        }
        Command::Follow { source, channel } => {
            replay::follow(source, *channel, out).with_context(|| source.place.name())?;
        }
        Command::Export(args) => export::export(args, out)?,
        Command::Keygen => {
            let (identity, recipient) = proxyd_trail::keygen();
            writeln!(out, "# recipient: {recipient}")?;
            writeln!(out, "{}", *identity)?;
        }
        Command::PublicKey { config } => {
            let path = config::load(config)?.storage.signing_key_file;
            let pkcs8 = Zeroizing::new(std::fs::read(&path).with_context(|| {
                format!("{} is made when the gateway first runs", path.display())
            })?);
            writeln!(out, "{}", SigningKey::from_pkcs8(&pkcs8)?.public())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn open(file: &Path) -> anyhow::Result<BufReader<File>> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    Ok(BufReader::new(opened))
}

fn verify(file: &Path, key: &Key, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let report = proxyd_trail::verify(open(file)?, key.key.as_ref())
        .with_context(|| file.display().to_string())?;
    writeln!(out, "{}: {report}", file.display())?;
    writeln!(out, "hash {}", hexadecimal(&report.hash))?;
    if key.key.is_none() {
        writeln!(out, "signed by {}; give --key to prove who made it", report.header.signer)?;
    }
    Ok(match (report.is_complete(), report.is_recovered()) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => ExitCode::from(RECOVERED),
        (false, false) => ExitCode::FAILURE,
    })
}

/// The exit code of `verify` for a trail that a crash cut and the next start closed.
const RECOVERED: u8 = 3;

fn info(file: &Path, key: &Key, out: &mut impl Write) -> anyhow::Result<()> {
    let report = proxyd_trail::verify(open(file)?, key.key.as_ref())
        .with_context(|| file.display().to_string())?;
    let header = &report.header.header;
    let session = uuid::Uuid::from_bytes(header.session_id);
    writeln!(out, "session     {session}")?;
    writeln!(out, "created     {}", wall_clock(header.created_ns))?;
    // Whoever made the file chose its texts.
    writeln!(out, "protocol    {}", shown(&header.protocol))?;
    writeln!(out, "policy      {}", shown(&header.connection_policy))?;
    writeln!(out, "signer      {}", report.header.signer)?;
    writeln!(out, "hash        {}", hexadecimal(&report.hash))?;
    for (name, groups) in [
        ("recipients", &report.header.recipients),
        ("upstream", &report.header.upstream_recipients),
    ] {
        for group in groups {
            let members: Vec<_> = group.iter().map(|share| shown(&share.recipient)).collect();
            writeln!(out, "{name:11} {}", members.join(" with "))?;
        }
    }
    for stream in [Stream::Meta, Stream::Downstream, Stream::Upstream] {
        let count = report.counts.of(stream);
        let name = format!("{stream:?}").to_lowercase();
        writeln!(out, "{name:11} {} chunks, {} bytes", count.chunks, count.bytes)?;
    }
    if let Some(end) = &report.end {
        writeln!(out, "ended       {} ({})", wall_clock(end.wall_ns), shown(&end.reason))?;
    }
    writeln!(out, "state       {report}")?;
    Ok(())
}

impl Source {
    /// The trail, to be read whole and verified on the way.
    fn open(&self) -> anyhow::Result<Reader<BufReader<File>>> {
        Ok(Reader::open(open(&self.place.file()?)?, &self.identities()?, self.key.key.as_ref())?)
    }

    /// The trail, to be read from any place on; what is before is not verified.
    fn seek(&self) -> anyhow::Result<SeekReader<BufReader<File>>> {
        Ok(SeekReader::open(
            open(&self.place.file()?)?,
            &self.identities()?,
            self.key.key.as_ref(),
        )?)
    }

    /// The trail while it is written.
    fn grow(&self) -> anyhow::Result<Reader<Growing>> {
        let file = self.place.file()?;
        let growing = Growing::open(&file);
        let growing = growing.with_context(|| format!("cannot open {}", file.display()))?;
        Ok(Reader::open(growing, &self.identities()?, self.key.key.as_ref())?)
    }

    fn identities(&self) -> anyhow::Result<Identities> {
        let mut identities = Identities::new();
        for path in &self.identity {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            identities.add_file(&text).with_context(|| path.display().to_string())?;
        }
        Ok(identities)
    }
}

#[cfg(test)]
mod tests {
    use proxyd_trail::Record;

    use super::*;

    #[test]
    fn what_a_trail_says_of_itself_drives_no_terminal() {
        let site = sample::Site::new();
        let source = site.write(&[(Stream::Meta, vec![(1, Record::Note { text: "x" })])]);
        let mut out = Vec::new();
        info(&source.place.file().unwrap(), &source.key, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        for line in ["protocol    ssh\u{fffd}]0;\u{fffd}", "policy      admins\u{fffd}"] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(text.contains("(done\u{fffd}[6n)"), "{text}");
    }
}
