//! What the channels of a trail were opened for.
use std::collections::BTreeMap;

use crate::record::Record;

/// The kinds of a trail's channels, such as `session-shell`, as far as it was read.
///
/// They come from the records of kind *channel open* and from the events `channel`.
#[derive(Debug, Default)]
pub struct ChannelKinds(BTreeMap<u32, String>);

impl ChannelKinds {
    /// Nothing was read yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes a record, whatever it is.
    pub fn take(&mut self, record: &Record<'_>) {
        let named = if let Record::ChannelOpen { channel, kind, .. } = record {
            Some((*channel, *kind))
        } else if let Record::Event { kind: "channel", fields } = record {
            named(fields)
        } else {
            None
        };
        if let Some((channel, kind)) = named
            && self.0.len() < CHANNELS_MAX
            && kind.len() <= KIND_BYTES_MAX
        {
            self.0.insert(channel, kind.to_owned());
        }
    }

    /// What a channel was opened for, if that is known.
    #[must_use]
    pub fn kind(&self, channel: u32) -> Option<&str> {
        self.0.get(&channel).map(String::as_str)
    }

    /// Whether a channel shows text to its user: a shell or a command, or what nothing is known of.
    #[must_use]
    pub fn shows_text(&self, channel: u32) -> bool {
        self.kind(channel).is_none_or(|kind| TEXT_KINDS.contains(&kind))
    }
}

/// The channel and kind of an event about a channel that was not refused.
fn named<'a>(fields: &[(&'a str, &'a str)]) -> Option<(u32, &'a str)> {
    let value = |wanted| fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    if value("denied").is_some() {
        return None;
    }
    Some((value("channel")?.parse().ok()?, value("kind")?))
}

/// Kinds of channels whose data is text for a person.
const TEXT_KINDS: [&str; 2] = ["session-shell", "session-exec"];

/// Channels whose kind is kept; sessions of days have some thousands.
const CHANNELS_MAX: usize = 64 * 1024;

/// The longest kind that is kept; those that are written have up to 20 bytes.
const KIND_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::ChannelKinds;
    use crate::record::{ChannelVerdict, Record};

    #[test]
    fn kinds_come_from_what_was_allowed() {
        let event = |fields: &[(&'static str, &'static str)]| Record::Event {
            kind: "channel",
            fields: fields.to_vec(),
        };
        let long = "x".repeat(65);
        let open = |channel, kind| Record::ChannelOpen {
            channel,
            kind,
            verdict: ChannelVerdict::Allowed,
            reason: "",
        };
        let records = [
            event(&[("kind", "session-sftp"), ("detail", ""), ("rule", "0"), ("channel", "1")]),
            event(&[("kind", "session-shell"), ("denied", "no"), ("channel", "1")]),
            event(&[("kind", "session-shell"), ("rule", "0"), ("channel", "x")]),
            event(&[("kind", "session-shell"), ("rule", "0")]),
            event(&[("kind", "session-exec"), ("rule", "0"), ("channel", "2")]),
            open(3, "local-forward"),
            open(4, &long),
        ];
        let mut kinds = ChannelKinds::new();
        for record in &records {
            kinds.take(record);
        }
        let cases = [
            (1, Some("session-sftp"), false),
            (2, Some("session-exec"), true),
            (3, Some("local-forward"), false),
            (4, None, true),
        ];
        for (channel, kind, shows_text) in cases {
            assert_eq!(kinds.kind(channel), kind, "{channel}");
            assert_eq!(kinds.shows_text(channel), shows_text, "{channel}");
        }
    }
}
