//! Finds the places in a trail at which reading can start, by the heads of its frames alone.
use std::io::{self, BufReader, Read, Seek};

use crate::chain::Chain;
use crate::crypt::TAG_BYTES;
use crate::cursor::read_up_to;
use crate::error::TrailError;
use crate::frame::{CHUNK_CLEAR_BYTES, ChunkClear, HEAD_BYTES, Head, Kind};
use crate::header::SignedHeader;
use crate::sign::HASH_BYTES;
use crate::stream::{Counts, Stream};

/// The start of a run of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The smallest time of a first record in the run, in nanoseconds since the session's start.
    pub first_t_ns: u64,
    /// Number of the run's first frame.
    pub sequence: u64,
    /// Where that frame starts in the file.
    pub offset_bytes: u64,
    /// Chunks and bytes before it, by what their frames say.
    pub(crate) counts: Counts,
}

/// The places of a trail, in the order of the file; at most [`PLACES_MAX`].
#[derive(Debug)]
pub(crate) struct Places {
    kept: Vec<Place>,
    /// One of so many runs is kept.
    stride: u64,
    /// Runs begun so far.
    runs: u64,
    /// The stream of the last chunk of the run that is being looked at.
    last: Option<Stream>,
    counts: Counts,
}

impl Places {
    /// Walks over the frames behind the header, whose bodies are skipped, as far as they follow
    /// each other. Nothing is verified; what is wrong with a frame shows when it is read.
    pub(crate) fn scan(
        source: &mut (impl Read + Seek),
        header: &SignedHeader,
    ) -> Result<Vec<Place>, TrailError> {
        let mut places =
            Self { kept: Vec::new(), stride: 1, runs: 0, last: None, counts: Counts::default() };
        let mut source = BufReader::new(source);
        let mut chain = Chain::start(header);
        let walked = source
            .seek(io::SeekFrom::Start(chain.offset_bytes))
            .and_then(|_start| places.walk(&mut source, &mut chain));
        walked.map_err(|source| TrailError::Read { source })?;
        Ok(places.kept)
    }

    /// Steps from head to head.
    fn walk<R: Read + Seek>(
        &mut self,
        source: &mut BufReader<R>,
        chain: &mut Chain,
    ) -> io::Result<()> {
        loop {
            let bytes = read_up_to(source, HEAD_BYTES)?;
            let head = bytes.first_chunk::<HEAD_BYTES>().and_then(Head::decode);
            let Some((head, kind)) = head.and_then(|head| Some((head, in_place(&head, chain)?)))
            else {
                return Ok(());
            };
            let body_bytes = head.body_bytes as usize;
            let mut read_bytes = 0;
            if kind == Kind::Chunk {
                let clear = read_up_to(source, body_bytes.min(CHUNK_CLEAR_BYTES + TAG_BYTES))?;
                read_bytes = clear.len();
                let Ok(clear) = ChunkClear::decode(&clear) else { return Ok(()) };
                self.chunk(clear, chain);
            } else {
                self.last = None;
            }
            let frame_bytes = HEAD_BYTES + body_bytes + HASH_BYTES;
            let rest_bytes = frame_bytes - HEAD_BYTES - read_bytes;
            source.seek_relative(i64::try_from(rest_bytes).unwrap_or(i64::MAX))?;
            // The hash is read where reading starts.
            chain.advance(chain.hash, frame_bytes);
        }
    }

    /// Counts a chunk, which begins a run or goes on with one.
    fn chunk(&mut self, clear: ChunkClear, chain: &Chain) {
        let ChunkClear { stream, first_t_ns, record_bytes } = clear;
        if self.last.is_none_or(|last| !stream.follows(last)) {
            self.begin(Place {
                first_t_ns,
                sequence: chain.sequence,
                offset_bytes: chain.offset_bytes,
                counts: self.counts,
            });
        } else if self.is_kept()
            && let Some(place) = self.kept.last_mut()
        {
            place.first_t_ns = place.first_t_ns.min(first_t_ns);
        }
        self.last = Some(stream);
        self.counts.add(stream, record_bytes);
    }

    /// Keeps a place, if it is one of those that are kept.
    fn begin(&mut self, place: Place) {
        self.runs += 1;
        if !self.is_kept() {
            return;
        }
        if self.kept.len() >= PLACES_MAX {
            let mut index = 0_usize;
            self.kept.retain(|_place| {
                index += 1;
                index % 2 == 1
            });
            // The run begun now is the next of those that stay, as the number of places is even.
            self.stride *= 2;
        }
        self.kept.push(place);
    }

    /// Whether the run begun last is one of those that are kept: the first, and each a stride on.
    const fn is_kept(&self) -> bool {
        self.runs % self.stride == 1 % self.stride
    }
}

/// The kind of a frame that can stand here, by its head.
fn in_place(head: &Head, chain: &Chain) -> Option<Kind> {
    let is_next = head.trail == chain.trail() && head.sequence == chain.sequence;
    let kind = Kind::from_code(head.kind).filter(|_kind| is_next)?;
    (head.body_bytes <= kind.body_bytes_max()).then_some(kind)
}

/// Places of one trail: 5 MiB. Of a trail with more runs every second, fourth, … is a place; one
/// that is written to all day has some 170,000.
const PLACES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::{PLACES_MAX, Place, Places};
    use crate::stream::Counts;

    #[test]
    fn of_many_runs_every_other_is_kept() {
        let counts = Counts::default();
        let mut places = Places { kept: Vec::new(), stride: 1, runs: 0, last: None, counts };
        let runs_max = PLACES_MAX as u64;
        for sequence in 0..4 * runs_max + 3 {
            places.begin(Place { first_t_ns: 0, sequence, offset_bytes: 0, counts });
            let stride = places.stride;
            assert!(places.kept.len() <= PLACES_MAX);
            assert_eq!(places.kept.len() as u64, sequence / stride + 1, "{sequence}");
            assert_eq!(places.is_kept(), sequence % stride == 0, "{sequence}");
        }
        assert_eq!(places.stride, 8);
        let kept = places.kept.iter().map(|place| place.sequence);
        assert!(kept.eq((0..4 * runs_max + 3).step_by(8)));
    }
}
