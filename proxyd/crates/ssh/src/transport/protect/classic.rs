//! Packets of a cipher and a MAC: the MAC over what is encrypted, or beside it (RFC 4253 section
//! 6).

use crate::error::Error;
use crate::transport::protect::block::{BlockCipher, Stream};
use crate::transport::protect::mac::{Mac, MacKey};
use crate::transport::protect::{KeyMaterial, LENGTH_BYTES};

/// A cipher with the MAC that it must not be without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Classic {
    pub(super) cipher: BlockCipher,
    pub(super) mac: Mac,
}

/// Seals packets of one direction.
pub(in crate::transport) struct SealKey {
    classic: Classic,
    stream: Stream,
    mac: MacKey,
}

impl SealKey {
    /// Takes key material into use; fails if it has the wrong length.
    pub(super) fn new(classic: Classic, material: &KeyMaterial) -> Result<Self, Error> {
        let stream = Stream::encrypting(classic.cipher, material)?;
        Ok(Self { classic, stream, mac: MacKey::new(classic.mac, &material.mac) })
    }

    /// Seals the packet that starts at `start`, its length field first, and appends the tag.
    pub(super) fn seal(
        &mut self,
        sequence: u32,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let packet = out.get_mut(start..).unwrap_or_default();
        let tag = if self.classic.mac.covers_encrypted() {
            self.stream.apply(packet.get_mut(LENGTH_BYTES..).unwrap_or_default())?;
            self.mac.tag(sequence, packet)
        } else {
            let tag = self.mac.tag(sequence, packet);
            self.stream.apply(packet)?;
            tag
        };
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// What packets look like.
    pub(super) const fn classic(&self) -> Classic {
        self.classic
    }
}

/// Opens packets of one direction.
pub(in crate::transport) struct OpenKey {
    classic: Classic,
    stream: Stream,
    mac: MacKey,
    /// The first block of the next packet, decrypted early for the length in it.
    first: Option<Vec<u8>>,
}

impl OpenKey {
    /// Takes key material into use; fails if it has the wrong length.
    pub(super) fn new(classic: Classic, material: &KeyMaterial) -> Result<Self, Error> {
        let stream = Stream::decrypting(classic.cipher, material)?;
        Ok(Self { classic, stream, mac: MacKey::new(classic.mac, &material.mac), first: None })
    }

    /// The length field of the packet that `input` starts with, which is not authenticated yet;
    /// none while too little of it is there.
    pub(super) fn length(&mut self, input: &[u8]) -> Result<Option<u32>, Error> {
        if self.classic.mac.covers_encrypted() {
            return Ok(input.first_chunk().copied().map(u32::from_be_bytes));
        }
        if self.first.is_none() {
            let Some(block) = input.get(..self.classic.cipher.block_bytes()) else {
                return Ok(None);
            };
            let mut block = block.to_vec();
            self.stream.apply(&mut block)?;
            self.first = Some(block);
        }
        let first = self.first.as_deref().unwrap_or_default();
        Ok(first.first_chunk().copied().map(u32::from_be_bytes))
    }

    /// Decrypts a packet in place, length field first and tag last; whether it is genuine.
    pub(super) fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<bool, Error> {
        let Some(tag_start) = packet.len().checked_sub(self.classic.mac.bytes()) else {
            return Ok(false);
        };
        let (sealed, tag) = packet.split_at_mut(tag_start);
        if self.classic.mac.covers_encrypted() {
            if !self.mac.verifies(sequence, sealed, tag) {
                return Ok(false);
            }
            self.stream.apply(sealed.get_mut(LENGTH_BYTES..).unwrap_or_default())?;
            return Ok(true);
        }
        // Whoever calls has asked for the length, so that the first block is there.
        let first = self.first.take().unwrap_or_default();
        let Some((head, rest)) = sealed.split_at_mut_checked(first.len()) else { return Ok(false) };
        head.copy_from_slice(&first);
        if !rest.is_empty() {
            self.stream.apply(rest)?;
        }
        Ok(self.mac.verifies(sequence, sealed, tag))
    }

    /// What packets look like.
    pub(super) const fn classic(&self) -> Classic {
        self.classic
    }
}
