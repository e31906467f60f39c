//! What the relay sees, as records of the trail.

use proxyd_ssh::message::text::clean;
use proxyd_ssh::relay::Side;
use proxyd_ssh::relay::tap::{Seen, Stream as Source};
use proxyd_trail::{DATA_BYTES_MAX, Record, Stream};

use crate::recording::Recorder;

/// Bytes of a terminal's type or a signal's name that are kept.
const NAME_BYTES_MAX: usize = 64;

/// Bytes of a variable's value that are kept; servers take no more than a few kilobytes.
const VALUE_BYTES_MAX: usize = 32 * 1024;

/// Records one thing seen.
pub(super) fn seen(recorder: &mut Recorder, seen: &Seen<'_>) {
    match *seen {
        Seen::Nothing => {}
        Seen::Data { channel, stream, bytes } => data(recorder, channel.0, stream, bytes),
        Seen::Terminal { channel, kind, size } => {
            let term = clean(kind, NAME_BYTES_MAX);
            let (columns, rows) = (size.columns, size.rows);
            let record = Record::Pty { channel: channel.0, term: &term, columns, rows };
            recorder.record(Stream::Meta, &record);
        }
        Seen::Resize { channel, size } => {
            let (columns, rows) = (size.columns, size.rows);
            recorder.record(Stream::Meta, &Record::Resize { channel: channel.0, columns, rows });
        }
        Seen::Variable { channel, name, value } => {
            variable(
                recorder,
                channel.0,
                &clean(name, NAME_BYTES_MAX),
                &clean(value, VALUE_BYTES_MAX),
            );
        }
        Seen::Signal { channel, name } => {
            let (channel, name) = (channel.0.to_string(), clean(name, NAME_BYTES_MAX));
            let fields = vec![("channel", channel.as_str()), ("name", name.as_str())];
            recorder.record(Stream::Upstream, &Record::Event { kind: "signal", fields });
        }
        Seen::Opened { channel, open } => {
            let text = if open { "opened by the server" } else { "refused by the server" };
            let text = format!("channel {} {text}", channel.0);
            recorder.record(Stream::Meta, &Record::Note { text: &text });
        }
        Seen::Eof { channel, from } => {
            let source = match from {
                Side::Client => proxyd_trail::Source::Stdin,
                Side::Server => proxyd_trail::Source::Stdout,
            };
            recorder.record(Stream::Meta, &Record::Eof { channel: channel.0, source });
        }
        // Both sides close.
        Seen::Closed { last: false, .. } => {}
        Seen::Closed { channel, last: true, .. } => {
            recorder.record(Stream::Meta, &Record::ChannelClose { channel: channel.0 });
        }
        Seen::ExitStatus { channel, status } => {
            recorder.record(Stream::Meta, &Record::ExitStatus { channel: channel.0, status });
        }
        Seen::ExitSignal { channel, name } => {
            let signal = clean(name, NAME_BYTES_MAX);
            let record = Record::ExitSignal {
                channel: channel.0,
                signal: &signal,
                core_dumped: false,
                message: "",
            };
            recorder.record(Stream::Meta, &record);
        }
    }
}

/// A variable is what the client brings, as its keystrokes are.
fn variable(recorder: &mut Recorder, channel: u32, name: &str, value: &str) {
    let channel = channel.to_string();
    let fields = vec![("channel", channel.as_str()), ("name", name), ("value", value)];
    recorder.record(Stream::Upstream, &Record::Event { kind: "variable", fields });
}

/// Data of a channel, in records of at most [`DATA_BYTES_MAX`].
fn data(recorder: &mut Recorder, channel: u32, source: Source, bytes: &[u8]) {
    let (stream, source) = match source {
        Source::Stdin => (Stream::Upstream, proxyd_trail::Source::Stdin),
        Source::Stdout => (Stream::Downstream, proxyd_trail::Source::Stdout),
        Source::Stderr => (Stream::Downstream, proxyd_trail::Source::Stderr),
    };
    for bytes in bytes.chunks(DATA_BYTES_MAX) {
        recorder.record(stream, &Record::Data { channel, source, bytes });
    }
}
