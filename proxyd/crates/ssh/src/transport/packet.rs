//! The packet codec (RFC 4253 section 6): length, padding, sequence numbers; opened in place,
//! sealed into the output.

use std::ops::Range;

use aws_lc_rs::rand;

use crate::error::Error;
use crate::limits::{
    MESSAGE_BYTES_MAX, PACKET_LENGTH_MAX, PACKET_LENGTH_PLAIN_MAX, PACKETS_PER_KEY_MAX,
};
use crate::transport::protect::{LENGTH_BYTES, Layout, OpenKey, SealKey};

/// What has passed under the current key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes on the wire.
    pub(super) bytes: u64,
    /// Packets.
    pub(super) packets: u64,
}

impl Usage {
    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        if self.packets >= PACKETS_PER_KEY_MAX {
            return Err(Error::KeyExhausted { limit: PACKETS_PER_KEY_MAX });
        }
        self.packets += 1;
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        Ok(())
    }
}

/// Whether sequence numbers start again with new keys: strict key exchange, or RFC 4253 section
/// 6.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sequence {
    /// They start again at zero.
    Reset,
    /// They go on.
    Continue,
}

/// The sending direction.
#[derive(Default)]
pub(super) struct Sealer {
    key: Option<SealKey>,
    sequence: u32,
    usage: Usage,
    padding: Padding,
}

impl Sealer {
    /// Appends one packet whose payload is the concatenation of `parts`; fails if that is empty or
    /// too long.
    pub(super) fn seal(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Error> {
        let payload = message_bytes(parts)?;
        let layout = self.key.as_ref().map_or(Layout::PLAIN, SealKey::layout);
        let padding = padding_bytes(&layout, payload);
        let length = PADDING_LENGTH_BYTES + payload + usize::from(padding);
        self.usage.count(LENGTH_BYTES + length + layout.tag_bytes)?;
        let start = out.len();
        out.reserve(LENGTH_BYTES + length + layout.tag_bytes);
        // Below PACKET_LENGTH_MAX, as the payload is below MESSAGE_BYTES_MAX.
        out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        out.push(padding);
        parts.iter().for_each(|part| out.extend_from_slice(part));
        self.padding.append(padding, out)?;
        if let Some(key) = &mut self.key {
            key.seal(self.sequence, start, out)?;
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    /// Takes a new key into use, from the next packet on.
    pub(super) fn switch(&mut self, key: SealKey, sequence: Sequence) {
        self.key = Some(key);
        self.usage = Usage::default();
        if sequence == Sequence::Reset {
            self.sequence = 0;
        }
    }

    /// Whether packets still go in the clear.
    pub(super) const fn is_plain(&self) -> bool {
        self.key.is_none()
    }

    /// What was sealed under the current key.
    pub(super) const fn usage(&self) -> Usage {
        self.usage
    }
}

/// Random bytes drawn ahead: to draw the few of one packet costs as much as to draw them all.
#[derive(Default)]
struct Padding {
    drawn: Vec<u8>,
}

impl Padding {
    /// Appends bytes that no other packet was given; fails only when the crypto library does.
    fn append(&mut self, count: u8, out: &mut Vec<u8>) -> Result<(), Error> {
        let count = usize::from(count);
        if self.drawn.len() < count {
            self.drawn.resize(PADDING_BYTES_DRAWN, 0);
            rand::fill(&mut self.drawn)
                .map_err(|source| Error::Crypto { operation: "drawing padding", source })?;
        }
        let left = self.drawn.len().saturating_sub(count);
        out.extend_from_slice(self.drawn.get(left..).unwrap_or_default());
        self.drawn.truncate(left);
        Ok(())
    }
}

/// The receiving direction.
#[derive(Default)]
pub(super) struct Opener {
    key: Option<OpenKey>,
    sequence: u32,
    usage: Usage,
    /// What is still read of a connection that has failed: see [`OpenKey::hides_length`].
    doomed: Option<usize>,
}

impl Opener {
    /// Bytes on the wire of the packet that `input` starts with, once its length field is there.
    ///
    /// Fails on a length that is out of range or no multiple of the block: before anything is
    /// allocated for it. Where that would tell too much, as much is read as a packet can have.
    pub(super) fn wire_bytes(&mut self, input: &[u8]) -> Result<Option<usize>, Error> {
        if self.doomed.is_some() {
            return Ok(self.doomed);
        }
        let (length, layout, max) = match &mut self.key {
            Some(key) => (key.length(self.sequence, input)?, key.layout(), PACKET_LENGTH_MAX),
            None => {
                let length = input.first_chunk().copied().map(u32::from_be_bytes);
                (length, Layout::PLAIN, PACKET_LENGTH_PLAIN_MAX)
            }
        };
        let Some(length) = length else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let min = PADDING_LENGTH_BYTES + PADDING_BYTES_MIN;
        let padded = length.saturating_add(layout.padded_length_bytes);
        if (min..=max).contains(&length)
            && padded >= layout.block_bytes
            && padded.is_multiple_of(layout.block_bytes)
        {
            return Ok(Some(LENGTH_BYTES + length + layout.tag_bytes));
        }
        if self.key.as_ref().is_some_and(OpenKey::hides_length) {
            self.doomed = Some(LENGTH_BYTES + max + layout.tag_bytes);
            return Ok(self.doomed);
        }
        Err(Error::PacketLength { length, min, max })
    }

    /// Checks and decrypts a whole packet in place; gives where in it the payload is, which is not
    /// empty. None if the packet is forged, and more is to be read before that may be told.
    pub(super) fn open(&mut self, packet: &mut [u8]) -> Result<Option<Range<usize>>, Error> {
        if self.doomed.is_some() {
            return Err(Error::Integrity { sequence: self.sequence });
        }
        self.usage.count(packet.len())?;
        let tag = match &mut self.key {
            Some(key) => {
                let tag = key.layout().tag_bytes;
                let opened = key.open(self.sequence, packet);
                if matches!(opened, Err(Error::Integrity { .. })) && key.hides_length() {
                    let most = LENGTH_BYTES + PACKET_LENGTH_MAX + tag;
                    self.doomed = Some(most.saturating_sub(packet.len()));
                    return Ok(None);
                }
                opened?;
                tag
            }
            None => 0,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let length = packet.len().saturating_sub(LENGTH_BYTES + tag);
        let padding = packet.get(LENGTH_BYTES).map_or(0, |&padding| usize::from(padding));
        let start = LENGTH_BYTES + PADDING_LENGTH_BYTES;
        let end = (LENGTH_BYTES + length).saturating_sub(padding);
        if padding < PADDING_BYTES_MIN || end <= start {
            return Err(Error::Padding { padding, length });
        }
        Ok(Some(start..end))
    }

    /// Takes a new key into use, from the next packet on.
    pub(super) fn switch(&mut self, key: OpenKey, sequence: Sequence) {
        self.key = Some(key);
        self.usage = Usage::default();
        if sequence == Sequence::Reset {
            self.sequence = 0;
        }
    }

    /// Whether packets still come in the clear.
    pub(super) const fn is_plain(&self) -> bool {
        self.key.is_none()
    }

    /// Sequence number of the last packet that was opened.
    pub(super) const fn last_sequence(&self) -> u32 {
        self.sequence.wrapping_sub(1)
    }

    /// What was opened under the current key.
    pub(super) const fn usage(&self) -> Usage {
        self.usage
    }
}

/// Bytes of the `padding_length` field.
const PADDING_LENGTH_BYTES: usize = 1;

/// Bytes of padding drawn at a time: at least the longest padding, and that of a dozen packets.
const PADDING_BYTES_DRAWN: usize = 256;

/// Bytes of the shortest padding.
const PADDING_BYTES_MIN: usize = 4;

/// Bytes of padding that make a packet of `payload` bytes whole.
fn padding_bytes(layout: &Layout, payload: usize) -> u8 {
    let unpadded = layout.padded_length_bytes + PADDING_LENGTH_BYTES + payload;
    let short = layout.block_bytes - unpadded % layout.block_bytes;
    let padding = if short < PADDING_BYTES_MIN { short + layout.block_bytes } else { short };
    // At most 3 more than the largest block.
    u8::try_from(padding).unwrap_or(u8::MAX)
}

/// Bytes of a message given in parts; fails if it is empty or longer than [`MESSAGE_BYTES_MAX`].
pub(super) fn message_bytes(parts: &[&[u8]]) -> Result<usize, Error> {
    let length = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
    if length == 0 {
        return Err(Error::NotSendable { number: None });
    }
    if length > MESSAGE_BYTES_MAX {
        return Err(Error::MessageTooLong { length, limit: MESSAGE_BYTES_MAX });
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::protect::{Cipher, KeyMaterial, Mac, Suite, suites};

    /// A direction in the clear, and one under every suite.
    fn directions() -> Vec<(Sealer, Opener)> {
        let mut all = vec![(Sealer::default(), Opener::default())];
        all.extend(suites().into_iter().map(direction));
        all
    }

    fn direction(suite: Suite) -> (Sealer, Opener) {
        let (mut sealer, mut opener) = (Sealer::default(), Opener::default());
        let material = KeyMaterial {
            // Three different keys of DES, or what else the cipher takes.
            key: (0..).step_by(2).take(suite.key_bytes()).collect::<Vec<u8>>().into(),
            nonce: vec![7; suite.nonce_bytes()].into(),
            mac: vec![7; suite.mac_key_bytes()].into(),
        };
        sealer.switch(SealKey::new(suite, &material).unwrap(), Sequence::Reset);
        opener.switch(OpenKey::new(suite, &material).unwrap(), Sequence::Reset);
        (sealer, opener)
    }

    #[test]
    fn payloads_of_every_length_come_back_and_are_padded_to_the_block() {
        for (mut sealer, mut opener) in directions() {
            for length in 1..=100 {
                let payload = vec![0x5a; length];
                let mut packet = Vec::new();
                sealer.seal(&[&payload[..1], &payload[1..]], &mut packet).unwrap();
                assert_eq!(opener.wire_bytes(&packet).unwrap(), Some(packet.len()));
                let range = opener.open(&mut packet).unwrap().unwrap();
                assert_eq!(packet[range], payload);
            }
            assert_eq!(sealer.usage(), opener.usage());
            assert_eq!(sealer.usage().packets, 100);
            assert_eq!(opener.last_sequence(), 99);
        }
    }

    #[test]
    fn a_length_field_cut_anywhere_is_incomplete() {
        for (mut sealer, mut opener) in directions() {
            let layout = opener.key.as_ref().map_or(Layout::PLAIN, OpenKey::layout);
            let hidden = layout != Layout::PLAIN && layout.padded_length_bytes > 0;
            // An encrypted length is known only once the block that it is part of has come.
            let needed = if hidden { layout.block_bytes } else { LENGTH_BYTES };
            let mut packet = Vec::new();
            sealer.seal(&[b"payload"], &mut packet).unwrap();
            for length in 0..needed {
                assert_eq!(opener.wire_bytes(&packet[..length]).unwrap(), None);
            }
            assert_eq!(opener.wire_bytes(&packet[..needed]).unwrap(), Some(packet.len()));
        }
    }

    #[test]
    fn lengths_in_the_clear() {
        let cases = [
            ("zero", 0, false),
            ("one", 1, false),
            ("five", 5, false),
            ("no multiple of the block", 13, false),
            ("smallest", 12, true),
            ("largest", 34_996, true),
            ("one block too many", 35_004, false),
            ("two gigabytes", 0x7fff_ffff, false),
            ("four gigabytes", u32::MAX, false),
        ];
        for (case, length, legal) in cases {
            let found = Opener::default().wire_bytes(&length.to_be_bytes());
            assert_eq!(found.is_ok(), legal, "{case}");
        }
    }

    #[test]
    fn lengths_under_aes_gcm_have_the_higher_limit() {
        let (_, mut opener) = directions().swap_remove(1);
        let cases = [
            ("smallest", 16, true),
            ("no multiple of the block", 24, false),
            ("largest", 263_168, true),
            ("one block too many", 263_184, false),
            ("zero", 0, false),
        ];
        for (case, length, legal) in cases {
            assert_eq!(opener.wire_bytes(&u32::to_be_bytes(length)).is_ok(), legal, "{case}");
        }
    }

    /// What an attacker sees who puts another block where a length is (CVE-2008-5161): the same
    /// number of bytes is read whatever the block decrypts to.
    #[test]
    fn a_forged_packet_in_cbc_is_refused_at_the_same_place_whatever_its_length() {
        let suite = Suite::new(Cipher::Aes128Cbc, || Ok::<_, ()>(Mac::HmacSha1)).unwrap();
        let forged = |change: fn(&mut Vec<u8>)| {
            let (mut sealer, mut opener) = direction(suite);
            let mut stream = Vec::new();
            sealer.seal(&[&[7; 200]], &mut stream).unwrap();
            change(&mut stream);
            stream.resize(2 * PACKET_LENGTH_MAX, 0x5a);
            let mut read = 0;
            loop {
                let bytes = opener.wire_bytes(&stream[read..]).unwrap().unwrap();
                let opened = opener.open(&mut stream[read..read + bytes]);
                read += bytes;
                match opened {
                    Ok(None) => {}
                    Ok(Some(_)) => panic!("a forged packet was taken"),
                    Err(error) => {
                        assert!(matches!(error, Error::Integrity { .. }), "{error}");
                        break read;
                    }
                }
            }
        };
        let wrong_length = forged(|stream| stream[0] ^= 0x80);
        let wrong_tag = forged(|stream| *stream.last_mut().unwrap() ^= 1);
        let wrong_end = forged(|stream| stream[100] ^= 1);
        assert_eq!(wrong_length, LENGTH_BYTES + PACKET_LENGTH_MAX + 20);
        assert_eq!(wrong_tag, wrong_length);
        assert_eq!(wrong_end, wrong_length);
    }

    #[test]
    fn padding_is_checked() {
        let cases = [
            ("none", 0, false),
            ("three bytes", 3, false),
            ("four bytes", 4, true),
            ("all but one byte of payload", 10, true),
            ("no payload", 11, false),
            ("more than the packet", 12, false),
            ("as much as can be", 255, false),
        ];
        for (case, padding, legal) in cases {
            let mut packet = [&12_u32.to_be_bytes(), [padding].as_slice(), &[9; 11]].concat();
            assert_eq!(Opener::default().open(&mut packet).is_ok(), legal, "{case}");
        }
    }

    #[test]
    fn messages_to_seal_have_bounds() {
        for (mut sealer, mut opener) in directions() {
            let mut out = Vec::new();
            assert!(matches!(sealer.seal(&[], &mut out), Err(Error::NotSendable { number: None })));
            let long = vec![1; MESSAGE_BYTES_MAX];
            let failure = sealer.seal(&[&long, &[1]], &mut out).unwrap_err();
            assert!(matches!(failure, Error::MessageTooLong { .. }));
            assert!(out.is_empty());
            sealer.seal(&[&long], &mut out).unwrap();
            if !opener.is_plain() {
                assert_eq!(opener.wire_bytes(&out).unwrap(), Some(out.len()));
                assert_eq!(opener.open(&mut out).unwrap().unwrap().len(), MESSAGE_BYTES_MAX);
            }
        }
    }

    #[test]
    fn a_key_ends_before_its_sequence_numbers_repeat() {
        for (mut sealer, mut opener) in directions() {
            sealer.usage.packets = PACKETS_PER_KEY_MAX;
            opener.usage.packets = PACKETS_PER_KEY_MAX;
            let mut out = Vec::new();
            assert!(matches!(sealer.seal(&[b"x"], &mut out), Err(Error::KeyExhausted { .. })));
            assert!(matches!(opener.open(&mut [0; 64]), Err(Error::KeyExhausted { .. })));
        }
    }

    #[test]
    fn padding_is_random() {
        let (mut sealer, _) = directions().remove(0);
        // More than are drawn at a time.
        let packets = 4 * PADDING_BYTES_DRAWN / 8;
        let mut seen = std::collections::HashSet::new();
        for _packet in 0..packets {
            let mut packet = Vec::new();
            sealer.seal(&[b"x"], &mut packet).unwrap();
            let padding = packet.split_off(LENGTH_BYTES + PADDING_LENGTH_BYTES + 1);
            assert!(padding.len() >= PADDING_BYTES_MIN);
            seen.insert(padding);
        }
        assert_eq!(seen.len(), packets, "no packet has the padding of another");
    }
}
