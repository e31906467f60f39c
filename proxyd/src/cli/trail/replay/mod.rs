//! Playing a recorded terminal, at the pace at which it happened or another, from any time on.

mod player;
mod search;
#[cfg(test)]
mod tests;
mod time;

use std::io::{Read, Seek, Write};

use anyhow::{Context as _, ensure};
use clap::builder::NonEmptyStringValueParser;
use proxyd_trail::{Record, SeekReader, Source};

use self::player::Player;
use self::search::Search;

/// How fast, from where to where, with what pauses.
#[derive(Debug, clap::Args)]
pub(super) struct Pace {
    /// How many times faster than it happened; 0 plays everything at once.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Where to start, as `[[HH:]MM:]SS[.mmm]` since the session's start; what was on the screen
    /// then is drawn at once.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = time::parse)]
    at: u64,
    /// Where to stop.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<u64>,
    /// Start where the output first has this text, at or after --at. Escape sequences are left out
    /// of the output, and upper and lower case are the same.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    search: Option<String>,
    /// The longest pause, in seconds, before --speed.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    idle_limit: u64,
    /// The channel; without it, the first on which the server sent something.
    #[arg(long)]
    channel: Option<u32>,
}

impl Pace {
    /// Without pauses, to the end.
    const fn at_once(channel: Option<u32>) -> Self {
        Self { speed: 0.0, at: 0, until: None, search: None, idle_limit: 0, channel }
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed >= 0.0 => Ok(speed),
        _ => Err("not a number of at least 0".to_owned()),
    }
}

/// Plays what the server sent on one channel.
pub(super) fn replay(
    source: &super::Source,
    pace: &Pace,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let is_in_order = pace.until.is_none_or(|until_ns| pace.at <= until_ns);
    ensure!(is_in_order, "--until is before --at");
    if pace.at == 0 && pace.search.is_none() {
        return play_whole(source, pace, (pace.channel, 0), out);
    }
    let mut reader = source.seek()?;
    let channel = match pace.channel {
        Some(channel) => channel,
        None => first_output(&mut reader)?.context(NOTHING_SHOWN)?,
    };
    let start_ns = match &pace.search {
        Some(text) => find(&mut reader, channel, text, pace)?
            .with_context(|| format!("the output has no {text:?} there"))?,
        None => pace.at,
    };
    match reader.seek_keyframe(channel, start_ns)? {
        Some(keyframe_ns) => {
            play_rest(&mut reader, pace, (channel, start_ns), out)?;
            let before = time::show(keyframe_ns);
            writeln!(out, "not verified before {before}; `proxyd trail verify` does")?;
            Ok(())
        }
        None => play_whole(source, pace, (Some(channel), start_ns), out),
    }
}

/// Shows a live session, from its start at once and then as it happens.
pub(super) fn follow(
    source: &super::Source,
    channel: Option<u32>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut reader = source.grow()?;
    let pace = Pace::at_once(channel);
    let mut player = Player::new(&pace, channel, 0, &mut *out);
    let mut play = || -> anyhow::Result<()> {
        while let Some(entry) = reader.next_record()? {
            let _goes_on = player.take(entry.t_ns, &entry.record)?;
            player.flush()?;
        }
        Ok(())
    };
    let played = play();
    let has_shown = player.finish()?;
    played?;
    ensure!(has_shown, NOTHING_SHOWN);
    Ok(())
}

/// Plays from the trail's start, so that every frame is verified; what is before the start time
/// is drawn at once.
fn play_whole(
    source: &super::Source,
    pace: &Pace,
    (channel, start_ns): (Option<u32>, u64),
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut reader = source.open()?;
    let mut player = Player::new(pace, channel, start_ns, out);
    let mut play = || -> anyhow::Result<()> {
        while let Some(entry) = reader.next_record()? {
            if player.take(entry.t_ns, &entry.record)?.is_break() {
                break;
            }
        }
        Ok(())
    };
    let played = play();
    let has_shown = player.finish()?;
    played?;
    ensure!(has_shown, NOTHING_SHOWN);
    Ok(())
}

/// Plays from the keyframe that the reader gives next.
fn play_rest<R: Read + Seek>(
    reader: &mut SeekReader<R>,
    pace: &Pace,
    (channel, start_ns): (u32, u64),
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut player = Player::new(pace, Some(channel), start_ns, out);
    let mut play = || -> anyhow::Result<()> {
        let first = reader.next_record()?.map(|entry| entry.record);
        if let Some(Record::Keyframe { screen, .. }) = first {
            player.draw(screen)?;
        }
        while let Some(entry) = reader.next_record()? {
            if player.take(entry.t_ns, &entry.record)?.is_break() {
                break;
            }
        }
        Ok(())
    };
    let played = play();
    player.finish()?;
    played
}

/// The first channel on which the server sent something.
fn first_output<R: Read + Seek>(reader: &mut SeekReader<R>) -> anyhow::Result<Option<u32>> {
    while let Some(entry) = reader.next_record()? {
        if let Record::Data { channel, source: Source::Stdout | Source::Stderr, .. } = entry.record
        {
            return Ok(Some(channel));
        }
    }
    Ok(None)
}

/// When a channel showed a text, between the times of the pace.
fn find<R: Read + Seek>(
    reader: &mut SeekReader<R>,
    channel: u32,
    text: &str,
    pace: &Pace,
) -> anyhow::Result<Option<u64>> {
    reader.seek(pace.at)?;
    let mut search = Search::new(text);
    while let Some(entry) = reader.next_record()? {
        let Record::Data { channel: from, source, bytes } = entry.record else { continue };
        if from != channel {
            continue;
        }
        if pace.until.is_some_and(|until_ns| entry.t_ns > until_ns) {
            break;
        }
        let is_found = search.feed(source, bytes);
        if entry.t_ns < pace.at {
            search.forget();
        } else if is_found {
            return Ok(Some(entry.t_ns));
        }
    }
    Ok(None)
}

const NOTHING_SHOWN: &str = "there is no output to show";
