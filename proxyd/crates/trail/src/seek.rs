//! Reads parts of a trail, from a run of chunks on, without what is before it.
use std::io::{Read, Seek};

use crate::error::TrailError;
use crate::header::SignedHeader;
use crate::identities::Identities;
use crate::places::{Place, Places};
use crate::record::Record;
use crate::runs::{Entry, Runs};
use crate::sign::VerifyingKey;
use crate::walk::Walk;

/// An opened trail that is read from any of its places on.
///
/// It has verified the header, and nothing of what is before the place at which it started: frames
/// there may have been changed. From that place on every frame is checked as by
/// [`crate::verify()`], and what is read decrypts only where it was written.
pub struct SeekReader<R> {
    runs: Runs<R>,
    places: Vec<Place>,
}

impl<R: Read + Seek> SeekReader<R> {
    /// Reads the header and the heads of all frames, and unwraps the content keys; stands at the
    /// first place. Fails as [`crate::Reader::open`] does.
    pub fn open(
        mut source: R,
        identities: &Identities,
        key: Option<&VerifyingKey>,
    ) -> Result<Self, TrailError> {
        let header = SignedHeader::read(&mut source, key)?;
        let places = Places::scan(&mut source, &header)?;
        let walk = Walk::resume(source, header)?;
        Ok(Self { runs: Runs::new(walk, identities)?, places })
    }

    /// The header, whose signature is good.
    #[must_use]
    pub const fn header(&self) -> &SignedHeader {
        self.runs.walk().header()
    }

    /// Where reading can start, in the order of the file; none where nothing is recorded.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Goes to the last place that starts at or before this time, or to the first one.
    pub fn seek(&mut self, t_ns: u64) -> Result<(), TrailError> {
        match self.places.get(self.place_before(t_ns)) {
            Some(place) => self.runs.jump(place),
            None => Ok(()),
        }
    }

    /// Goes to the last keyframe of a channel that is not later than this time, so that
    /// [`Self::next_record`] gives it next; its time, or none if there is no such keyframe in the
    /// [`KEYFRAME_SEARCH_BYTES_MAX`] before. Where the reader stands then is not said.
    pub fn seek_keyframe(&mut self, channel: u32, t_ns: u64) -> Result<Option<u64>, TrailError> {
        let last = self.place_before(t_ns);
        let end_bytes = self.places.get(last).map_or(0, |place| place.offset_bytes);
        for index in (0..=last).rev() {
            let Some(place) = self.places.get(index).copied() else { continue };
            if end_bytes.saturating_sub(place.offset_bytes) > KEYFRAME_SEARCH_BYTES_MAX {
                return Ok(None);
            }
            let stop = self.places.get(index + 1).map(|next| next.sequence);
            self.runs.jump(&place)?;
            if let Some((skipped, found_ns)) = self.last_keyframe(channel, t_ns, stop)? {
                self.runs.jump(&place)?;
                for _record in 0..skipped {
                    self.next_record()?;
                }
                return Ok(Some(found_ns));
            }
        }
        Ok(None)
    }

    /// The next record; otherwise as [`crate::Reader::next_record`].
    pub fn next_record(&mut self) -> Result<Option<Entry<'_>>, TrailError> {
        self.runs.next_record()
    }

    /// Index of the last place that starts at or before this time; 0 if there is none.
    fn place_before(&self, t_ns: u64) -> usize {
        self.places.iter().rposition(|place| place.first_t_ns <= t_ns).unwrap_or_default()
    }

    /// The last keyframe from here to the frame `stop`: how many records stand before it, and its
    /// time.
    fn last_keyframe(
        &mut self,
        channel: u32,
        t_ns: u64,
        stop: Option<u64>,
    ) -> Result<Option<(u64, u64)>, TrailError> {
        let mut found = None;
        for index in 0_u64.. {
            let entry = match self.next_record() {
                Ok(Some(entry)) => entry,
                // What is altered is told of when it is read on.
                Ok(None) | Err(TrailError::Altered { .. }) => break,
                Err(error) => return Err(error),
            };
            if stop.is_some_and(|stop| entry.sequence >= stop) {
                break;
            }
            let is_of_channel =
                matches!(entry.record, Record::Keyframe { channel: of, .. } if of == channel);
            if is_of_channel && entry.t_ns <= t_ns {
                found = Some((index, entry.t_ns));
            }
        }
        Ok(found)
    }
}

/// How far back a keyframe is looked for, in bytes of the file; keyframes are 10 s or 256 KiB of
/// output apart.
pub const KEYFRAME_SEARCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
