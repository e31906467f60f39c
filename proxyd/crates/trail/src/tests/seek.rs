//! Reading from the middle: the same records as from the start, and nothing said of what is before.
use std::cell::Cell;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::rc::Rc;

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::{CREATED_NS, Site, batch, header, layout, read_all};
use crate::{
    KEYFRAME_SEARCH_BYTES_MAX, Record, SeekReader, Source, Stream, TrailError, Writer, verify,
};

/// What happens in a trail, in order.
enum Part {
    Chunk(Stream, Vec<(u64, Record<'static>)>),
    Seal,
}

fn write(site: &Site, parts: Vec<Part>) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::create(&mut file, &header(), &site.sealing()).unwrap();
    for part in parts {
        match part {
            Part::Chunk(stream, records) => {
                let taken = batch(&records);
                writer.chunk(stream, &taken.records, taken.first_t_ns).unwrap();
            }
            Part::Seal => writer.seal(CREATED_NS).unwrap(),
        }
    }
    writer.end("done", CREATED_NS).unwrap();
    file
}

fn open<'f>(site: &Site, file: &'f [u8]) -> SeekReader<Cursor<&'f [u8]>> {
    SeekReader::open(Cursor::new(file), &site.identities(), None).unwrap()
}

/// As [`read_all`], from where the reader stands; with the number of each record's frame.
fn rest<R: Read + Seek>(
    reader: &mut SeekReader<R>,
) -> Result<Vec<(u64, u64, Stream, String)>, TrailError> {
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_record()? {
        let record = format!("{:?}", entry.record);
        entries.push((entry.sequence, entry.t_ns, entry.stream, record));
    }
    Ok(entries)
}

fn output(t_ns: u64) -> (u64, Record<'static>) {
    (t_ns, Record::Data { channel: 0, source: Source::Stdout, bytes: b"output" })
}

fn keyframe(t_ns: u64, channel: u32) -> (u64, Record<'static>) {
    (t_ns, Record::Keyframe { channel, columns: 80, rows: 24, screen: "screen" })
}

/// Runs: 0 at frame 0, 1 at frame 2, 2 at frame 4, 3 at frame 7.
fn with_keyframes(site: &Site) -> Vec<u8> {
    use Stream::{Downstream, Meta, Upstream};
    let note = |t_ns| (t_ns, Record::Note { text: "note" });
    write(
        site,
        vec![
            Part::Chunk(Meta, vec![note(10)]),
            Part::Chunk(Downstream, vec![output(20), keyframe(25, 0), output(30)]),
            Part::Chunk(Downstream, vec![output(40), keyframe(41, 1), output(50)]),
            Part::Seal,
            Part::Chunk(Downstream, vec![output(60), keyframe(62, 0), keyframe(64, 0)]),
            Part::Chunk(Upstream, vec![note(55)]),
            Part::Seal,
            Part::Chunk(Downstream, vec![output(80)]),
        ],
    )
}

#[test]
fn places_are_the_runs() {
    let site = Site::new();
    let file = with_keyframes(&site);
    let reader = open(&site, &file);
    let found: Vec<_> =
        reader.places().iter().map(|place| (place.first_t_ns, place.sequence)).collect();
    assert_eq!(found, [(10, 0), (40, 2), (55, 4), (80, 7)]);
    let offsets: Vec<_> = reader.places().iter().map(|place| place.offset_bytes).collect();
    let parts = layout(&file);
    let expected = [0, 2, 4, 7].map(|frame: usize| parts[frame + 1].start as u64);
    assert_eq!(offsets, expected);
}

#[test]
fn what_was_written_together_is_read_in_one_order() {
    use Stream::{Downstream, Upstream};
    let site = Site::new();
    let input = |t_ns| (t_ns, Record::Data { channel: 0, source: Source::Stdin, bytes: b"input" });
    let file = write(
        &site,
        vec![
            Part::Chunk(Upstream, vec![input(1)]),
            Part::Chunk(Downstream, vec![output(3), output(5)]),
            Part::Chunk(Upstream, vec![input(2), input(4)]),
            Part::Chunk(Upstream, vec![input(6)]),
        ],
    );
    let times: Vec<_> =
        read_all(&file, &site.identities()).unwrap().into_iter().map(|entry| entry.0).collect();
    assert_eq!(times, [1, 2, 3, 4, 5, 6]);
    let places: Vec<_> = open(&site, &file).places().iter().map(|place| place.sequence).collect();
    assert_eq!(places, [0, 1, 3]);
}

#[test]
fn the_last_place_before_a_time_is_found() {
    let site = Site::new();
    let file = with_keyframes(&site);
    let mut reader = open(&site, &file);
    let cases = [(0, 10), (10, 10), (39, 10), (40, 40), (54, 40), (55, 55), (79, 55), (99, 80)];
    for (t_ns, first) in cases {
        reader.seek(t_ns).unwrap();
        assert_eq!(reader.next_record().unwrap().unwrap().t_ns, first, "{t_ns}");
    }
}

#[test]
fn the_last_keyframe_before_a_time_is_found() {
    let site = Site::new();
    let file = with_keyframes(&site);
    let mut reader = open(&site, &file);
    let cases = [
        (0, 24, None),
        (0, 25, Some(25)),
        (0, 61, Some(25)),
        (0, 62, Some(62)),
        (0, 63, Some(62)),
        (0, u64::MAX, Some(64)),
        (1, 40, None),
        (1, 99, Some(41)),
        (2, 99, None),
    ];
    for (channel, t_ns, expected) in cases {
        let found = reader.seek_keyframe(channel, t_ns).unwrap();
        assert_eq!(found, expected, "{channel} {t_ns}");
        let Some(found) = found else { continue };
        let entry = reader.next_record().unwrap().unwrap();
        assert_eq!((entry.t_ns, entry.record), keyframe(found, channel), "{channel} {t_ns}");
    }
    // And what follows is what followed.
    reader.seek_keyframe(0, 63).unwrap();
    let times: Vec<_> = rest(&mut reader).unwrap().into_iter().map(|entry| entry.1).collect();
    assert_eq!(times, [62, 64, 80]);
}

#[test]
fn what_is_before_the_place_is_not_verified_and_what_is_behind_it_is() {
    let site = Site::new();
    let file = with_keyframes(&site);
    let parts = layout(&file);
    // The last byte of the ciphertext of a frame before, of the run, and behind.
    let flipped = |frame: usize| {
        let mut altered = file.clone();
        altered[parts[frame + 1].end - super::HASH - 1] ^= 1;
        altered
    };
    for (frame, seen) in [(0, false), (2, false), (4, true), (7, true)] {
        let altered = flipped(frame);
        assert!(read_all(&altered, &site.identities()).is_err(), "frame {frame}");
        let mut reader = open(&site, &altered);
        reader.seek(60).unwrap();
        let read = rest(&mut reader);
        assert_eq!(read.is_err(), seen, "frame {frame}: {read:?}");
    }
    // The hash that a place starts from is one of what is not verified, but has to be the right
    // one: a chunk decrypts only behind it.
    let mut altered = file.clone();
    altered[parts[4].end - 1] ^= 1;
    let mut reader = open(&site, &altered);
    reader.seek(60).unwrap();
    assert!(rest(&mut reader).is_err());
}

#[test]
fn a_keyframe_before_damage_is_found() {
    let site = Site::new();
    let mut file = with_keyframes(&site);
    let parts = layout(&file);
    file[parts[8].start] ^= 1;
    let mut reader = open(&site, &file);
    assert_eq!(reader.places().len(), 3);
    assert_eq!(reader.seek_keyframe(0, 99).unwrap(), Some(64));
    let read = rest(&mut reader);
    assert!(matches!(read, Err(TrailError::Altered { sequence: 7, .. })), "{read:?}");
}

#[test]
fn a_file_cut_anywhere_gives_what_the_whole_reader_gives() {
    let site = Site::new();
    let file = with_keyframes(&site);
    let identities = site.identities();
    for length in 0..file.len() {
        let cut = &file[..length];
        let Ok(mut reader) = SeekReader::open(Cursor::new(cut), &identities, None) else {
            assert!(verify(cut, None).is_err(), "{length}");
            continue;
        };
        let entries = rest(&mut reader).unwrap().into_iter();
        let entries: Vec<_> = entries.map(|(_, t_ns, stream, text)| (t_ns, stream, text)).collect();
        assert_eq!(entries, read_all(cut, &identities).unwrap(), "{length}");
        reader.seek_keyframe(0, 99).unwrap();
    }
}

/// Counts what is read of it.
struct Counted<'f> {
    file: Cursor<&'f [u8]>,
    bytes: Rc<Cell<usize>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bytes.set(self.bytes.get() + count);
        Ok(count)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Bytes that do not compress.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(count);
    bytes
}

#[test]
fn a_long_trail_is_skipped_and_searched_only_so_far() {
    let site = Site::new();
    let noise = noise(128 * 1024);
    let mut file = Vec::new();
    let mut writer = Writer::create(&mut file, &header(), &site.sealing()).unwrap();
    let first = batch(&[keyframe(1, 0)]);
    writer.chunk(Stream::Downstream, &first.records, 1).unwrap();
    let rounds = KEYFRAME_SEARCH_BYTES_MAX / (128 * 1024);
    for t_ns in 2..rounds + 10 {
        let data = Record::Data { channel: 0, source: Source::Stdout, bytes: &noise };
        let taken = batch(&[(t_ns, data)]);
        writer.chunk(Stream::Downstream, &taken.records, t_ns).unwrap();
    }
    writer.end("done", CREATED_NS).unwrap();
    let bytes = Rc::new(Cell::new(0));
    let source = Counted { file: Cursor::new(&file), bytes: Rc::clone(&bytes) };
    let mut reader = SeekReader::open(source, &site.identities(), None).unwrap();
    assert!(bytes.get() < file.len() / 8, "{} of {} were read", bytes.get(), file.len());
    assert_eq!(reader.seek_keyframe(0, rounds - 10).unwrap(), Some(1));
    assert_eq!(reader.seek_keyframe(0, u64::MAX).unwrap(), None);
}

/// Failures are shown, not kept in files next to the sources.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn from_every_place_the_rest_is_the_same(
        choices in proptest::collection::vec((0_usize..4, any::<[u8; 2]>()), 0..24),
    ) {
        let parts = choices.into_iter().map(|(choice, times)| match Stream::ALL.get(choice) {
            Some(stream) => {
                Part::Chunk(*stream, times.map(|t_ns| output(u64::from(t_ns))).to_vec())
            }
            None => Part::Seal,
        });
        let site = Site::new();
        let file = write(&site, parts.collect());
        let mut reader = open(&site, &file);
        let whole = rest(&mut reader).unwrap();
        let same: Vec<_> =
            whole.iter().cloned().map(|(_, t_ns, stream, text)| (t_ns, stream, text)).collect();
        prop_assert_eq!(same, read_all(&file, &site.identities()).unwrap());
        for place in reader.places().to_vec() {
            // Backwards and forwards: times may repeat, so places are taken by their own.
            reader.seek(place.first_t_ns).unwrap();
            let part = rest(&mut reader).unwrap();
            prop_assert!(whole.ends_with(&part));
            let first = part.iter().map(|entry| entry.0).min().unwrap();
            prop_assert!(first >= place.sequence);
            prop_assert!(reader.places().iter().any(|place| place.sequence == first));
        }
    }
}
