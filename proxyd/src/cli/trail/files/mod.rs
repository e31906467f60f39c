//! The contents of files that a session carried by sftp or scp, written to a directory.

mod follow;
mod name;
mod output;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, ensure};
use proxyd_trail::{ChannelKinds, Reader, Record, Source, Stream};
use proxyd_wire::files::Peer;

use self::follow::Followed;
use self::output::Output;
use crate::session::stop::chain;

/// Channels that are followed at once; the gateway lets a client have 256.
const CHANNELS_OPEN_MAX: usize = 1024;

/// Channels of one export that carry files.
const CHANNELS_MAX: usize = 64 * 1024;

/// The kinds of channels that carry files.
const SFTP: &str = "session-sftp";
const SCP: &str = "session-exec-scp";

/// What was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exported {
    /// Files of which all that was carried is there.
    pub(super) complete: u64,
    /// Files of which something is missing, or all.
    pub(super) partial: u64,
    /// Channels that carried files and could not be followed to their end.
    pub(super) lost: usize,
}

/// Writes every file of a trail, or of one of its channels, and an index of them, to a directory
/// that is made or is empty.
pub(super) fn export<R: Read>(
    reader: &mut Reader<R>,
    only: Option<u32>,
    directory: &Path,
) -> anyhow::Result<Exported> {
    let opens_all = reader.opens(Stream::Downstream) && reader.opens(Stream::Upstream);
    ensure!(
        opens_all,
        "files are found in what both sides sent: give the identities of a group for each \
         (see `proxyd trail info`)"
    );
    let output = Output::create(directory).with_context(|| directory.display().to_string())?;
    let mut export = Export {
        only,
        kinds: ChannelKinds::new(),
        commands: BTreeMap::new(),
        followed: BTreeMap::new(),
        has_data: BTreeSet::new(),
        last_ns: 0,
        lost: BTreeMap::new(),
        output,
    };
    while let Some(entry) = reader.next_record()? {
        export.record(entry.t_ns, &entry.record)?;
    }
    export.finish().with_context(|| directory.display().to_string())
}

/// The export as far as it is written.
struct Export {
    /// The only channel, if one was asked for.
    only: Option<u32>,
    kinds: ChannelKinds,
    /// Commands of channels of scp that carried nothing yet.
    commands: BTreeMap<u32, Vec<u8>>,
    /// Channels that are open.
    followed: BTreeMap<u32, Followed>,
    /// Channels that carried data so far, of those that carry files.
    has_data: BTreeSet<u32>,
    /// Time of the last record.
    last_ns: u64,
    /// Why channels could not be followed.
    lost: BTreeMap<u32, String>,
    output: Output,
}

impl Export {
    fn record(&mut self, t_ns: u64, record: &Record<'_>) -> anyhow::Result<()> {
        self.kinds.take(record);
        self.last_ns = t_ns;
        if matches!(record, Record::Gap { .. }) {
            return self.lose_all(t_ns);
        }
        let Some(channel) = record.channel() else { return Ok(()) };
        let kind = self.kinds.kind(channel);
        let is_scp = kind == Some(SCP);
        if self.only.is_some_and(|only| only != channel) || !(is_scp || kind == Some(SFTP)) {
            return Ok(());
        }
        if let Record::Command { command, .. } = record
            && is_scp
            && self.commands.len() < CHANNELS_OPEN_MAX
        {
            self.commands.insert(channel, command.to_vec());
        }
        if matches!(record, Record::FileOperation { .. }) && !self.has_data.contains(&channel) {
            self.lost(channel, "the recording does not have its content");
        }
        if let Record::Data { source, bytes, .. } = record {
            return self.data(t_ns, channel, *source, bytes);
        }
        if matches!(record, Record::ChannelClose { .. })
            && let Some(followed) = self.followed.remove(&channel)
        {
            followed.finish(channel, t_ns, &mut self.output)?;
        }
        Ok(())
    }

    fn data(
        &mut self,
        t_ns: u64,
        channel: u32,
        source: Source,
        bytes: &[u8],
    ) -> anyhow::Result<()> {
        let peer = match source {
            Source::Stdin => Peer::Client,
            Source::Stdout => Peer::Server,
            // Remarks of the program.
            Source::Stderr => return Ok(()),
        };
        if !self.has_data.contains(&channel) {
            ensure!(
                self.has_data.len() < CHANNELS_MAX,
                "more than {CHANNELS_MAX} channels carry files: export one of them"
            );
            self.has_data.insert(channel);
            self.follow(channel)?;
        }
        let Some(followed) = self.followed.get_mut(&channel) else { return Ok(()) };
        if let Err(error) = followed.pass(channel, t_ns, (peer, bytes), &mut self.output)? {
            if let Some(followed) = self.followed.remove(&channel) {
                followed.finish(channel, t_ns, &mut self.output)?;
            }
            self.lost(channel, &chain(&error));
        }
        Ok(())
    }

    /// Begins to follow a channel that carries its first data.
    fn follow(&mut self, channel: u32) -> anyhow::Result<()> {
        ensure!(
            self.followed.len() < CHANNELS_OPEN_MAX,
            "more than {CHANNELS_OPEN_MAX} channels carry files at once"
        );
        let begun = if self.kinds.kind(channel) == Some(SFTP) {
            Ok(Followed::sftp())
        } else {
            Followed::scp(&self.commands.remove(&channel).unwrap_or_default())
        };
        match begun {
            Ok(followed) => drop(self.followed.insert(channel, followed)),
            Err(error) => self.lost(channel, &chain(&error)),
        }
        Ok(())
    }

    /// Something is missing, so that no channel can be followed any more.
    fn lose_all(&mut self, t_ns: u64) -> anyhow::Result<()> {
        for (channel, followed) in std::mem::take(&mut self.followed) {
            followed.finish(channel, t_ns, &mut self.output)?;
            self.lost(channel, "the recording has a gap");
        }
        Ok(())
    }

    fn lost(&mut self, channel: u32, why: &str) {
        if self.lost.len() < CHANNELS_MAX {
            self.lost.entry(channel).or_insert_with(|| why.to_owned());
        }
    }

    fn finish(mut self) -> anyhow::Result<Exported> {
        for (channel, followed) in std::mem::take(&mut self.followed) {
            followed.finish(channel, self.last_ns, &mut self.output)?;
        }
        let (complete, partial) = self.output.finish(&self.lost)?;
        Ok(Exported { complete, partial, lost: self.lost.len() })
    }
}
