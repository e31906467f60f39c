//! The three streams of a trail and what is counted for each.
use std::fmt;

/// What a chunk carries; `Upstream` has its own content key and recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Facts, events, channels, sizes, files: all that is neither of the other two.
    Meta,
    /// Bytes sent by the server.
    Downstream,
    /// Bytes typed or sent by the client.
    Upstream,
}

impl Stream {
    /// Every stream, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Meta, Self::Downstream, Self::Upstream];

    /// The stream's byte in a chunk frame.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Meta => 0,
            Self::Downstream => 1,
            Self::Upstream => 2,
        }
    }

    /// Whether a chunk of this stream goes on with the run that the chunk before it is of.
    pub(crate) const fn follows(self, before: Self) -> bool {
        self.code() > before.code()
    }

    /// The stream of a chunk frame's byte; none for an unknown one.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Meta),
            1 => Some(Self::Downstream),
            2 => Some(Self::Upstream),
            _ => None,
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Meta => "meta",
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        })
    }
}

/// Chunks of one stream and the bytes of their encoded records, before compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCount {
    /// Chunk frames.
    pub chunks: u64,
    /// Bytes of encoded records.
    pub bytes: u64,
}

/// The counts of all three streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of [`Stream::Meta`].
    pub meta: StreamCount,
    /// Of [`Stream::Downstream`].
    pub downstream: StreamCount,
    /// Of [`Stream::Upstream`].
    pub upstream: StreamCount,
}

impl Counts {
    /// The counts of one stream.
    #[must_use]
    pub const fn of(&self, stream: Stream) -> StreamCount {
        match stream {
            Stream::Meta => self.meta,
            Stream::Downstream => self.downstream,
            Stream::Upstream => self.upstream,
        }
    }

    /// Adds one chunk of `record_bytes` to `stream`; counts stop at their largest value.
    pub(crate) fn add(&mut self, stream: Stream, record_bytes: u32) {
        let count = match stream {
            Stream::Meta => &mut self.meta,
            Stream::Downstream => &mut self.downstream,
            Stream::Upstream => &mut self.upstream,
        };
        count.chunks = count.chunks.saturating_add(1);
        count.bytes = count.bytes.saturating_add(u64::from(record_bytes));
    }
}
