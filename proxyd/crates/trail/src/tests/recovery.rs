//! Trails left open by a crash are closed; altered ones are left alone.
use std::io::{Cursor, Read as _, Seek as _, SeekFrom, Write as _};

use super::{CREATED_NS, Site, header, layout, read_all, write_sample};
use crate::{Outcome, Recovery, TrailError, Verdict, Writer, recover, verify};

#[test]
fn cut_at_every_byte_is_closed() {
    let site = Site::new();
    let file = site.sample();
    let parts = layout(&file);
    for length in parts[0].end..file.len() {
        let whole = parts.iter().filter(|part| part.end <= length).count() - 1;
        let mut spool = Cursor::new(file[..length].to_vec());
        let done = recover(&mut spool, &site.signing_key, "recovered", CREATED_NS + 99).unwrap();
        let Recovery::Closed { summary, sealed, dropped_bytes } = done else {
            panic!("{length}: {done:?}");
        };
        assert_eq!(dropped_bytes, (length - parts[whole].end) as u64, "{length}");
        assert_eq!(sealed.is_some(), whole > 2, "{length}");
        let closed = spool.into_inner();
        let report = verify(closed.as_slice(), Some(&site.signing_key.public())).unwrap();
        assert!(report.is_recovered() || report.is_complete(), "{length}: {report}");
        assert_eq!(report.frames, whole as u64 + 1, "{length}");
        assert_eq!(report.counts, summary.counts, "{length}");
        assert_eq!(summary.length_bytes, closed.len() as u64, "{length}");
        let end = report.end.unwrap();
        assert_eq!((end.outcome, end.wall_ns), (Outcome::Recovered, CREATED_NS + 99), "{length}");
        read_all(&closed, &site.identities()).unwrap();
    }
}

#[test]
fn complete_trail_is_left_alone() {
    let site = Site::new();
    let file = site.sample();
    let mut spool = Cursor::new(file.clone());
    let done = recover(&mut spool, &site.signing_key, "recovered", CREATED_NS).unwrap();
    assert!(matches!(done, Recovery::Complete { .. }), "{done:?}");
    assert_eq!(spool.into_inner(), file);
}

#[test]
fn damage_is_torn_only_if_nothing_signed_follows() {
    let site = Site::new();
    let file = site.sample();
    let parts = layout(&file);
    let before_end = parts[6].start;
    // Part 0 is the header, so part n + 1 is frame n.
    let cases = [
        ("chunk before the seal", parts[2].start + 30, before_end, false),
        ("head before the seal", parts[2].start, before_end, false),
        ("chunk before the end", parts[5].start + 30, file.len(), false),
        ("seal itself", parts[3].start + 30, before_end, true),
        ("chunk after the seal", parts[4].start + 30, before_end, true),
        ("head after the seal", parts[5].start + 3, before_end, true),
    ];
    for (name, flipped, length, torn) in cases {
        let mut altered = file[..length].to_vec();
        altered[flipped] ^= 1;
        let mut spool = Cursor::new(altered.clone());
        let done = recover(&mut spool, &site.signing_key, "recovered", CREATED_NS);
        let after = spool.into_inner();
        if torn {
            assert!(matches!(done, Ok(Recovery::Closed { .. })), "{name}: {done:?}");
            assert_eq!(
                verify(after.as_slice(), None).unwrap().verdict,
                Verdict::Complete,
                "{name}"
            );
        } else {
            assert!(matches!(done, Err(TrailError::Altered { .. })), "{name}: {done:?}");
            assert_eq!(after, altered, "{name}");
        }
    }
}

#[test]
fn signed_head_is_found_far_behind_the_damage() {
    let site = Site::new();
    let mut file = Vec::new();
    let mut writer = Writer::create(&mut file, &header(), &site.sealing()).unwrap();
    // Random-looking records, so that the damaged chunk spans several blocks of the scan.
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(200_000)
    .collect();
    writer.chunk(crate::Stream::Meta, &noise, 0).unwrap();
    writer.seal(CREATED_NS).unwrap();
    drop(writer);
    let damaged = layout(&file)[1].start + 30;
    file[damaged] ^= 1;
    let done = recover(&mut Cursor::new(file), &site.signing_key, "recovered", CREATED_NS);
    assert!(matches!(done, Err(TrailError::Altered { sequence: 0, .. })), "{done:?}");
}

#[test]
fn other_key_and_cut_header_are_refused() {
    let site = Site::new();
    let file = site.sample();
    let mut cut = Cursor::new(file[..file.len() - 1].to_vec());
    let other = Site::new().signing_key;
    let done = recover(&mut cut, &other, "recovered", CREATED_NS);
    assert!(matches!(done, Err(TrailError::Signer { .. })), "{done:?}");
    let done = recover(&mut Cursor::new(file[..40].to_vec()), &site.signing_key, "x", CREATED_NS);
    assert!(matches!(done, Err(TrailError::HeaderCut { offset: 40 })), "{done:?}");
}

#[test]
fn file_on_disk_is_closed() {
    let site = Site::new();
    let mut file = tempfile::tempfile().unwrap();
    write_sample(&mut file, &site.sealing()).unwrap();
    let length = file.seek(SeekFrom::End(0)).unwrap();
    // Into the end's signature; a crash may then leave zeros.
    file.set_len(length - 50).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(&[0; 5]).unwrap();
    let done = recover(&mut file, &site.signing_key, "recovered", CREATED_NS).unwrap();
    assert!(matches!(done, Recovery::Closed { .. }), "{done:?}");
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert!(verify(bytes.as_slice(), None).unwrap().is_recovered());
}
