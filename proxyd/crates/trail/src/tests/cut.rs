//! A file that stops anywhere opens and verifies up to there.
use super::{Site, layout, read_all};
use crate::{TrailError, Verdict, verify};

#[test]
fn cut_at_every_byte_is_named_and_all_before_it_reads() {
    let site = Site::new();
    let file = site.sample();
    let identities = site.identities();
    let parts = layout(&file);
    let records_in = [3, 2, 0, 1, 1, 0];
    for length in 0..file.len() {
        let cut = &file[..length];
        if length < parts[0].end {
            let Err(TrailError::HeaderCut { offset }) = verify(cut, None) else {
                panic!("{length}");
            };
            assert_eq!(offset, length);
            continue;
        }
        let whole = parts[1..].iter().filter(|part| part.end <= length).count();
        let report = verify(cut, None).unwrap();
        let offset_bytes = parts[whole].end as u64;
        let sequence = whole as u64;
        assert_eq!(report.verdict, Verdict::Cut { sequence, offset_bytes }, "{length}");
        assert_eq!(report.sealed.is_some(), whole > 2, "{length}");
        let records: usize = records_in[..whole].iter().sum();
        assert_eq!(read_all(cut, &identities).unwrap().len(), records, "{length}");
    }
}

#[test]
fn zeros_left_by_a_file_system_are_a_cut() {
    let site = Site::new();
    let file = site.sample();
    let parts = layout(&file);
    for zeros in [1, 21, 22, 64 * 1024, 64 * 1024 + 21, 200_000] {
        let mut torn = file[..parts[4].end].to_vec();
        let offset_bytes = torn.len() as u64;
        torn.resize(torn.len() + zeros, 0);
        let report = verify(torn.as_slice(), None).unwrap();
        assert_eq!(report.verdict, Verdict::Cut { sequence: 4, offset_bytes }, "{zeros}");
        assert_eq!(
            report.to_string(),
            format!("cut at byte {offset_bytes}: 4 frames are intact; sealed up to frame 2")
        );
    }
}

#[test]
fn what_is_no_trail_is_refused() {
    let cases: [(&str, &[u8]); 3] =
        [("text", b"hello, this is no trail"), ("one byte", b"x"), ("zeros", &[0; 100])];
    for (name, bytes) in cases {
        assert!(matches!(verify(bytes, None), Err(TrailError::NotTrail)), "{name}");
    }
    let mut newer = Site::new().sample();
    newer[9] = 2;
    let found = verify(newer.as_slice(), None);
    assert!(matches!(found, Err(TrailError::Version { found: 2, supported: 1 })));
}
