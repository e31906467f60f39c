//! Every change to a trail is found, at the right frame and under its name.
use super::{HASH, HEAD, Site, layout, read_all};
use crate::chain::Chain;
use crate::frame::{End, Head, Kind, Outcome};
use crate::header::SignedHeader;
use crate::sign::sha256;
use crate::walk::{Step, Walk};
use crate::{Damage, TrailError, Verdict, verify};

#[test]
fn every_flipped_bit_is_found_at_its_frame() {
    let site = Site::new();
    let file = site.sample();
    let parts = layout(&file);
    for (index, bit) in (0..file.len()).flat_map(|index| [(index, 0x01), (index, 0x80)]) {
        let mut altered = file.clone();
        altered[index] ^= bit;
        let found = verify(altered.as_slice(), None);
        if index < parts[0].end {
            let cut = matches!(found, Err(TrailError::HeaderCut { .. }));
            assert!(found.is_err() && !cut, "byte {index} of the header: {found:?}");
            continue;
        }
        let frame = parts[1..].iter().position(|part| part.contains(&index)).unwrap() as u64;
        let verdict = found.unwrap().verdict;
        assert!(
            matches!(verdict, Verdict::Altered { sequence, .. } if sequence == frame),
            "byte {index} of frame {frame}: {verdict:?}"
        );
    }
}

/// Changes the frames of a trail, given those of another.
type Change = fn(&mut Vec<Vec<u8>>, &[Vec<u8>]);

#[test]
fn moved_frames_are_named() {
    let cases: [(&str, Change, u64, Damage); 9] = [
        ("chunk removed", |f, _| drop(f.remove(1)), 1, Damage::Removed { found: 2 }),
        ("first removed", |f, _| drop(f.remove(0)), 0, Damage::Removed { found: 1 }),
        ("seal removed", |f, _| drop(f.remove(2)), 2, Damage::Removed { found: 3 }),
        ("three removed", |f, _| drop(f.drain(1..4)), 1, Damage::Removed { found: 4 }),
        ("chunks swapped", |f, _| f.swap(3, 4), 3, Damage::Swapped { found: 4 }),
        ("chunk repeated", |f, _| f.insert(2, f[1].clone()), 2, Damage::Repeated { found: 1 }),
        ("foreign chunk instead", |f, o| f[3] = o[3].clone(), 3, Damage::OtherTrail),
        ("foreign chunk between", |f, o| f.insert(1, o[1].clone()), 1, Damage::OtherTrail),
        ("byte after the end", |f, _| f.push(vec![0]), 6, Damage::AfterEnd),
    ];
    let site = Site::new();
    let (file, other) = (site.sample(), site.sample());
    for (name, change, sequence, damage) in cases {
        let (header, mut frames) = split(&file);
        change(&mut frames, &split(&other).1);
        let altered = [header, frames.concat()].concat();
        assert_altered(name, &altered, sequence, &damage);
        let read = read_all(&altered, &site.identities());
        assert!(
            matches!(read, Err(TrailError::Altered { sequence: at, .. }) if at == sequence),
            "{name}: {read:?}"
        );
    }
}

#[test]
fn forgery_with_matching_hashes_fails_at_the_next_signature() {
    let cases = [
        ("before the seal", 1, 2, Damage::SealSignature),
        ("in the seal", 2, 2, Damage::SealSignature),
        ("before the end", 4, 5, Damage::EndSignature),
        ("in the end", 5, 5, Damage::EndSignature),
    ];
    let file = Site::new().sample();
    for (name, forged, found_at, damage) in cases {
        let (header, mut frames) = split(&file);
        let last_body_byte = frames[forged].len() - HASH - 1;
        frames[forged][last_body_byte] ^= 1;
        let altered = rehash(&header, frames);
        assert_altered(name, &altered, found_at, &damage);
    }
}

#[test]
fn forgery_after_the_last_seal_fails_to_decrypt() {
    let site = Site::new();
    let (header, mut frames) = split(&site.sample());
    frames.truncate(4);
    let tag = frames[3].len() - HASH - 1;
    frames[3][tag] ^= 1;
    let altered = rehash(&header, frames);
    // Without a key only the seal tells how far the trail is proven.
    let report = verify(altered.as_slice(), None).unwrap();
    assert!(matches!(report.verdict, Verdict::Cut { sequence: 4, .. }));
    assert_eq!(report.sealed.unwrap().sequence, 2);
    let read = read_all(&altered, &site.identities());
    assert!(matches!(read, Err(TrailError::Decrypt { sequence: 3, .. })), "{read:?}");
}

#[test]
fn forged_heads_are_refused() {
    let cases = [
        ("unknown kind", Some(9), None, Damage::Kind { found: 9 }),
        ("chunk too long", None, Some(266_241), Damage::Length { length: 266_241, limit: 266_240 }),
        ("seal too long", Some(2), Some(73), Damage::Length { length: 73, limit: 72 }),
    ];
    let file = Site::new().sample();
    for (name, kind, body_bytes, damage) in cases {
        let (header, mut frames) = split(&file);
        let mut head = Head::decode(frames[1].first_chunk::<HEAD>().unwrap()).unwrap();
        head.kind = kind.unwrap_or(head.kind);
        head.body_bytes = body_bytes.unwrap_or(head.body_bytes);
        drop(frames[1].splice(..HEAD, head.encode()));
        let altered = [header, frames.concat()].concat();
        assert_altered(name, &altered, 1, &damage);
    }
}

#[test]
fn signed_end_that_differs_is_named() {
    let site = Site::new();
    let key = &site.signing_key;
    let file = site.sample();
    let (header, frames) = split(&file);
    let before_end = [header, frames[..5].concat()].concat();
    let chain = follow(&before_end);

    let mut wrong_counts = chain;
    wrong_counts.counts.meta.chunks += 1;
    let end = wrong_counts.end_frame(key, Outcome::Closed, "x", 1).unwrap();
    assert_altered("counts", &[before_end.clone(), end].concat(), 5, &Damage::Counts);

    let mut wrong_hash = chain;
    let mut body = End {
        outcome: Outcome::Closed,
        wall_ns: 1,
        counts: chain.counts,
        final_hash: [0; HASH],
        reason: String::new(),
    }
    .encode()
    .unwrap();
    let signature = key.sign(&wrong_hash.end_message(&body)).unwrap();
    body.extend_from_slice(&signature);
    let end = wrong_hash.frame(Kind::End, &body).unwrap();
    assert_altered("hash", &[before_end, end].concat(), 5, &Damage::FinalHash);
}

#[test]
fn other_signer_is_refused() {
    let site = Site::new();
    let other = Site::new().signing_key.public();
    let verified = verify(site.sample().as_slice(), Some(&other));
    let Err(TrailError::Signer { expected, found }) = verified else {
        panic!("{verified:?}");
    };
    assert_eq!((expected, found), (other, site.signing_key.public()));
}

/// Fails unless the trail is altered like this.
fn assert_altered(name: &str, file: &[u8], at: u64, expected: &Damage) {
    let Verdict::Altered { sequence, damage, .. } = verify(file, None).unwrap().verdict else {
        panic!("{name}: not found");
    };
    assert_eq!((sequence, &damage), (at, expected), "{name}");
}

/// The bytes of the header and of each frame.
fn split(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut parts = layout(file).into_iter().map(|part| file[part].to_vec());
    (parts.next().unwrap(), parts.collect())
}

/// Joins a trail with the hashes a forger can compute.
fn rehash(header: &[u8], frames: Vec<Vec<u8>>) -> Vec<u8> {
    let mut hash = SignedHeader::read(&mut &*header, None).unwrap().hash;
    let mut file = header.to_vec();
    for mut frame in frames {
        frame.truncate(frame.len() - HASH);
        hash = sha256(&[&hash, &frame]);
        file.append(&mut frame);
        file.extend_from_slice(&hash);
    }
    file
}

/// The chain after the last frame of a cut trail.
fn follow(file: &[u8]) -> Chain {
    let mut walk = Walk::open(file, None).unwrap();
    loop {
        if let Step::Stopped(_) = walk.step().unwrap() {
            return *walk.chain();
        }
    }
}
