//! A sink that fails at its first, second, … call.
use std::cell::Cell;
use std::io::{self, Cursor, Write};
use std::rc::Rc;

use super::{CREATED_NS, Site, chunks, header, read_all, write_sample};
use crate::{Recovery, Sink, TrailError, Verdict, Writer, recover, verify};

/// A count so high that no failure is due while it goes on from here.
const BEFORE_COUNTING: usize = usize::MAX / 2;

/// Takes at most 100 bytes a call and fails at one call or from one call on.
struct Faulty {
    file: Vec<u8>,
    calls: Rc<Cell<usize>>,
    fails_from: usize,
    fails_to: usize,
}

impl Faulty {
    fn new(fails_from: usize, fails_to: usize) -> Self {
        Self { file: Vec::new(), calls: Rc::default(), fails_from, fails_to }
    }

    fn call(&mut self) -> io::Result<()> {
        self.calls.set(self.calls.get() + 1);
        if (self.fails_from..=self.fails_to).contains(&self.calls.get()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Write for Faulty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call()?;
        let taken = bytes.len().min(100);
        self.file.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Faulty {
    fn sync(&mut self) -> io::Result<()> {
        self.call()
    }
}

#[test]
fn lasting_failure_at_every_call_leaves_a_trail_that_verifies() {
    let site = Site::new();
    let mut failures = 0;
    for fails_from in 1.. {
        let mut sink = Faulty::new(fails_from, usize::MAX);
        let written = write_sample(&mut sink, &site.sealing());
        let checked = verify(sink.file.as_slice(), None);
        let Err(error) = written else {
            assert_eq!(checked.unwrap().verdict, Verdict::Complete);
            break;
        };
        failures += 1;
        let named = matches!(error, TrailError::Write { .. } | TrailError::Sync { .. });
        assert!(named, "call {fails_from}: {error:?}");
        match checked {
            Err(TrailError::HeaderCut { offset }) => assert_eq!(offset, sink.file.len()),
            Err(other) => panic!("call {fails_from}: {other}"),
            Ok(report) => {
                let cut = matches!(report.verdict, Verdict::Cut { .. });
                // Only the very last sync can fail with everything written.
                assert!(cut || report.is_complete(), "call {fails_from}: {report}");
                let mut spool = Cursor::new(sink.file);
                recover(&mut spool, &site.signing_key, "disk full", CREATED_NS).unwrap();
                let report = verify(spool.get_ref().as_slice(), None).unwrap();
                let closed = report.is_recovered() || report.is_complete();
                assert!(closed, "call {fails_from}: {report}");
            }
        }
    }
    assert!(failures > 20, "{failures}");
}

#[test]
fn passing_failure_at_every_call_loses_nothing() {
    let site = Site::new();
    let expected = read_all(&site.sample(), &site.identities()).unwrap();
    for fails_at in 1.. {
        // Two failures in a row: the second meets the bytes the first left behind.
        let mut sink = Faulty::new(fails_at, fails_at + 1);
        // A header has no fixed length, so calls count from behind it.
        let calls = Rc::clone(&sink.calls);
        calls.set(BEFORE_COUNTING);
        let ended = write_stubbornly(&mut sink, &site, || calls.set(0));
        let failed = calls.get() >= fails_at;
        let mut spool = Cursor::new(sink.file);
        if ended.is_err() {
            let done = recover(&mut spool, &site.signing_key, "disk full", CREATED_NS).unwrap();
            assert!(matches!(done, Recovery::Closed { .. } | Recovery::Complete { .. }));
        }
        let file = spool.into_inner();
        let report = verify(file.as_slice(), None).unwrap();
        assert!(report.is_complete() || report.is_recovered(), "call {fails_at}: {report}");
        assert_eq!(read_all(&file, &site.identities()).unwrap(), expected, "call {fails_at}");
        if !failed {
            return;
        }
    }
}

/// Writes the sample trail and goes on after each error as the documentation of the writer says.
///
/// `created` is called once the header is written.
fn write_stubbornly(
    sink: &mut Faulty,
    site: &Site,
    created: impl FnOnce(),
) -> Result<(), TrailError> {
    let mut writer = Writer::create(sink, &header(), &site.sealing())?;
    created();
    for (index, (stream, taken)) in chunks().into_iter().enumerate() {
        while let Err(error) = writer.chunk(stream, &taken.records, taken.first_t_ns) {
            if matches!(error, TrailError::Write { .. }) {
                break;
            }
            if !matches!(error, TrailError::Stalled { .. }) {
                return Err(error);
            }
        }
        if index == 1 {
            while writer.seal(CREATED_NS).is_err() {}
        }
    }
    while writer.resume().is_err() {}
    writer.end("client disconnected", CREATED_NS).map(|_| ())
}
