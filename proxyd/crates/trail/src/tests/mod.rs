//! Builders of small trails, and the tests that look at whole files.
mod cut;
mod export;
mod faults;
mod keys;
mod recovery;
mod round_trip;
mod seek;
mod tamper;

use std::io::{self, Cursor};
use std::ops::Range;

use zeroize::Zeroizing;

use crate::{
    Batch, ChannelVerdict, Header, Identities, Push, Reader, Record, Sealing, SigningKey, Sink,
    Source, Spool, Stream, Summary, Taken, TrailError, Writer, keygen,
};

/// Wall clock of the sample trail's start.
const CREATED_NS: u64 = 1_700_000_000_000_000_000;

/// Bytes of a frame's head and of its hash, written out as a second reader would.
const HEAD: usize = 21;
/// See [`HEAD`].
const HASH: usize = 32;

impl Sink for Vec<u8> {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Cursor<Vec<u8>> {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Spool for Cursor<Vec<u8>> {
    fn truncate(&mut self, length_bytes: u64) -> io::Result<()> {
        self.get_mut().truncate(usize::try_from(length_bytes).unwrap());
        Ok(())
    }
}

/// A reader's key pair and the writer's signing key.
struct Site {
    identity: Zeroizing<String>,
    recipient: String,
    signing_key: SigningKey,
}

impl Site {
    /// Fresh keys.
    fn new() -> Self {
        let (identity, recipient) = keygen();
        Self { identity, recipient, signing_key: SigningKey::generate().unwrap() }
    }

    /// One recipient for all streams.
    fn sealing(&self) -> Sealing {
        let recipients = [vec![self.recipient.clone()]];
        Sealing::new(&recipients, &[], self.signing_key.clone()).unwrap()
    }

    /// The reader's identity.
    fn identities(&self) -> Identities {
        identities(&[self.identity.as_str()])
    }

    /// The sample trail: frames 0 meta, 1 downstream, 2 seal, 3 upstream, 4 downstream, 5 end.
    fn sample(&self) -> Vec<u8> {
        let mut file = Vec::new();
        write_sample(&mut file, &self.sealing()).unwrap();
        file
    }
}

/// The identities of these secret keys.
fn identities(secrets: &[&str]) -> Identities {
    let mut identities = Identities::new();
    for secret in secrets {
        identities.add_file(secret).unwrap();
    }
    identities
}

/// The sample trail's header.
fn header() -> Header {
    Header {
        session_id: *b"0123456789abcdef",
        created_ns: CREATED_NS,
        protocol: "ssh".to_owned(),
        connection_policy: "admins".to_owned(),
    }
}

/// The sample trail's chunks; a seal comes after the second.
fn chunks() -> Vec<(Stream, Taken)> {
    let data = |source, bytes| Record::Data { channel: 0, source, bytes };
    vec![
        (
            Stream::Meta,
            batch(&[
                (10, Record::Fact { name: "client_addr", value: "192.0.2.1" }),
                (
                    20,
                    Record::ChannelOpen {
                        channel: 0,
                        kind: "session-shell",
                        verdict: ChannelVerdict::Allowed,
                        reason: "",
                    },
                ),
                (40, Record::Pty { channel: 0, term: "xterm", columns: 132, rows: 50 }),
            ]),
        ),
        (
            Stream::Downstream,
            batch(&[(30, data(Source::Stdout, b"motd")), (50, data(Source::Stdout, b"$ "))]),
        ),
        (Stream::Upstream, batch(&[(60, data(Source::Stdin, b"ls\r"))])),
        (Stream::Downstream, batch(&[(70, data(Source::Stdout, b"ls\r\n"))])),
    ]
}

/// Encoded records with their times.
fn batch(records: &[(u64, Record<'_>)]) -> Taken {
    let mut batch = Batch::new();
    for (t_ns, record) in records {
        assert_eq!(batch.push(*t_ns, record).unwrap(), Push::Added);
    }
    batch.take().unwrap()
}

/// Writes the sample trail.
fn write_sample(sink: impl Sink, sealing: &Sealing) -> Result<Summary, TrailError> {
    let mut writer = Writer::create(sink, &header(), sealing)?;
    for (index, (stream, taken)) in chunks().into_iter().enumerate() {
        writer.chunk(stream, &taken.records, taken.first_t_ns)?;
        if index == 1 {
            writer.seal(CREATED_NS + 50)?;
        }
    }
    writer.end("client disconnected", CREATED_NS + 80)
}

/// A file cut into its header and frames.
fn layout(file: &[u8]) -> Vec<Range<usize>> {
    let length_at = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 18 + length_at(10) + 64;
    let header = 0..at;
    let mut parts = vec![header];
    while at < file.len() {
        let end = at + HEAD + length_at(at + 13) + HASH;
        parts.push(at..end);
        at = end;
    }
    parts
}

/// Time, stream and text form of every record.
fn read_all(
    file: &[u8],
    identities: &Identities,
) -> Result<Vec<(u64, Stream, String)>, TrailError> {
    let mut reader = Reader::open(file, identities, None)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_record()? {
        entries.push((entry.t_ns, entry.stream, format!("{:?}", entry.record)));
    }
    Ok(entries)
}
