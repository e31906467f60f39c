//! What is written comes back, in order, and proves itself.
use super::{CREATED_NS, Site, header, layout, read_all, write_sample};
use crate::{Outcome, Reader, SealPoint, Stream, Verdict, verify};

#[test]
fn sample_comes_back_in_order_of_time() {
    let site = Site::new();
    let entries = read_all(&site.sample(), &site.identities()).unwrap();
    let times: Vec<u64> = entries.iter().map(|entry| entry.0).collect();
    // The downstream record of 30 lies in a later chunk than the meta record of 40.
    assert_eq!(times, [10, 20, 30, 40, 50, 60, 70]);
    assert_eq!(entries[2].1, Stream::Downstream);
    assert!(entries[5].2.contains("Stdin"), "{entries:?}");
}

#[test]
fn sample_verifies_with_and_without_a_given_key() {
    let site = Site::new();
    let mut file = Vec::new();
    let summary = write_sample(&mut file, &site.sealing()).unwrap();
    for key in [None, Some(site.signing_key.public())] {
        let report = verify(file.as_slice(), key.as_ref()).unwrap();
        assert_eq!(report.verdict, Verdict::Complete);
        assert!(report.is_complete());
        assert_eq!(report.to_string(), "complete: 6 frames");
        assert_eq!(report.header.header, header());
        assert_eq!(report.sealed, Some(SealPoint { sequence: 2, wall_ns: CREATED_NS + 50 }));
        assert_eq!(report.frames, summary.frames);
        assert_eq!(report.intact_bytes, file.len() as u64);
        assert_eq!(report.counts, summary.counts);
        assert_eq!(report.counts.downstream.chunks, 2);
        let end = report.end.unwrap();
        assert_eq!(end.reason, "client disconnected");
        assert_eq!(end.outcome, Outcome::Closed);
    }
    assert_eq!(summary.length_bytes, file.len() as u64);
    assert_eq!(file[file.len() - 32..], summary.hash);
    assert_eq!(layout(&file).len(), 7);
}

#[test]
fn seal_without_new_chunks_writes_nothing() {
    let site = Site::new();
    let mut file = Vec::new();
    let mut writer = crate::Writer::create(&mut file, &header(), &site.sealing()).unwrap();
    let before = writer.length_bytes();
    writer.seal(CREATED_NS).unwrap();
    assert_eq!(writer.length_bytes(), before);
}

#[test]
fn long_reason_is_cut_between_characters() {
    let site = Site::new();
    let mut file = Vec::new();
    let writer = crate::Writer::create(&mut file, &header(), &site.sealing()).unwrap();
    writer.end(&"é".repeat(2000), CREATED_NS).unwrap();
    let end = verify(file.as_slice(), None).unwrap().end.unwrap();
    assert_eq!(end.reason, "é".repeat(512));
}

#[test]
fn reader_tells_its_verdict_and_end_after_the_last_record() {
    let site = Site::new();
    let file = site.sample();
    let key = site.signing_key.public();
    let mut reader = Reader::open(file.as_slice(), &site.identities(), Some(&key)).unwrap();
    assert!(reader.opens(Stream::Upstream));
    assert_eq!(reader.verdict(), None);
    while reader.next_record().unwrap().is_some() {}
    assert_eq!(reader.verdict(), Some(&Verdict::Complete));
    assert_eq!(reader.end().unwrap().reason, "client disconnected");
    assert!(reader.next_record().unwrap().is_none());
}
