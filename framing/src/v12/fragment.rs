//! Messages above 1200 bytes as reference nodes send them: cut into FRAG frames, in plaintext.
//!
//! Nothing here is authenticated. Whoever can send from the address of a peer can add pieces, so take fragments only where the
//! application accepts messages that anybody may have written.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use structs::Rejected;
use thiserror::Error;

use super::encode;
use super::limits::{FRAG_DATA, FRAG_TIMEOUT, MAX_FRAG_PAYLOAD};
use super::pieces::{PieceError, Pieces};
use crate::EncodeError;
use crate::time::after;

/// Cuts `payload` into FRAG frames, in order. `id` must be new for each message: draw it at random.
///
/// Reference nodes do this above 1200 bytes and accept it at any length.
///
/// # Errors
/// An empty payload, or one above 65 535 × 1188 bytes.
pub fn fragments(id: [u8; 8], payload: &[u8]) -> Result<Fragments<'_>, EncodeError> {
    if payload.is_empty() {
        return Err(EncodeError::TooShort { len: 0, min: 1 });
    }
    let too_long = EncodeError::TooLong { len: payload.len(), max: MAX_FRAG_PAYLOAD };
    let total = u16::try_from(payload.len().div_ceil(FRAG_DATA)).or(Err(too_long))?;
    Ok(Fragments { id, total, pieces: payload.chunks(FRAG_DATA), next: 0 })
}

/// The FRAG frames of one message: see [`fragments`].
#[derive(Debug, Clone)]
pub struct Fragments<'a> {
    id: [u8; 8],
    total: u16,
    pieces: std::slice::Chunks<'a, u8>,
    next: u16,
}

impl Iterator for Fragments<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Self::Item> {
        let data = self.pieces.next()?;
        let mut frame = Vec::with_capacity(data.len().saturating_add(HEADER));
        encode::frag(self.id, self.next, self.total, data, &mut frame).ok()?;
        self.next = self.next.saturating_add(1);
        Some(frame)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.pieces.size_hint()
    }
}

impl ExactSizeIterator for Fragments<'_> {}

/// Why a piece was not taken. The message it belongs to is kept as it was, unless the variant says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FragmentError {
    /// The number of the piece is not below the number of pieces.
    #[error("piece {index} of {total}")]
    BadIndex {
        /// The number of the piece, from 0.
        index: u16,
        /// How many pieces there are, as it says.
        total: u16,
    },
    /// A piece other than the last that is not 1188 bytes, or an empty or longer one.
    #[error("a piece of {len} bytes")]
    BadLength {
        /// Its length.
        len: usize,
    },
    /// The piece contradicts the first one about the number of pieces.
    #[error("{total} pieces, after {first} at first")]
    TotalChanged {
        /// What this piece says.
        total: u16,
        /// What the first one said.
        first: u16,
    },
    /// The message is longer than the limit. What there was of it is dropped.
    #[error("at least {len} bytes, of {max} allowed")]
    TooLarge {
        /// How long the message is at least.
        len: usize,
        /// The limit.
        max: usize,
    },
}

impl From<PieceError> for FragmentError {
    fn from(error: PieceError) -> Self {
        match error {
            PieceError::BadIndex { index, total } => Self::BadIndex { index, total },
            PieceError::BadLength { len } => Self::BadLength { len },
            PieceError::TotalChanged { total, first } => Self::TotalChanged { total, first },
            PieceError::TooLarge { len, max } => Self::TooLarge { len, max },
        }
    }
}

impl From<FragmentError> for Rejected {
    fn from(error: FragmentError) -> Self {
        match error {
            FragmentError::TooLarge { .. } => Self::TooLarge,
            FragmentError::BadIndex { .. } | FragmentError::BadLength { .. } | FragmentError::TotalChanged { .. } => {
                Self::Malformed
            }
        }
    }
}

/// Puts the messages of one peer together again.
///
/// Up to 8 messages at once and `max_bytes` of pieces in all. At either bound the oldest message is dropped, and any message is dropped
/// 10 s after its first piece; [`Self::dropped`] counts both. The heap in use stays below twice `max_bytes`.
#[derive(Debug)]
pub struct Reassembler {
    max_bytes: usize,
    /// In the order of their first pieces.
    sets: VecDeque<Set>,
    bytes: usize,
    /// Messages that were completed lately, so that a piece that arrives twice does not begin them again.
    finished: VecDeque<([u8; 8], Instant)>,
    dropped: u64,
}

#[derive(Debug)]
struct Set {
    id: [u8; 8],
    since: Instant,
    pieces: Pieces,
}

impl Default for Reassembler {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MAX_BYTES)
    }
}

impl Reassembler {
    /// What [`Self::default`] allows: 1 MiB.
    pub const DEFAULT_MAX_BYTES: usize = 1024 * 1024;

    /// The most messages in the making.
    pub const MAX_SETS: usize = 8;

    /// Allows `max_bytes` of pieces, which is also the longest message.
    #[must_use]
    pub const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, sets: VecDeque::new(), bytes: 0, finished: VecDeque::new(), dropped: 0 }
    }

    /// Takes one piece and returns the message if that was the last one missing. A piece that is here already changes nothing.
    ///
    /// # Errors
    /// See [`FragmentError`].
    pub fn add(
        &mut self,
        id: [u8; 8],
        index: u16,
        total: u16,
        data: &[u8],
        now: Instant,
    ) -> Result<Option<Bytes>, FragmentError> {
        self.handle_timeout(now);
        if self.finished.iter().any(|&(finished, _)| finished == id) {
            return Ok(None);
        }
        // Take the set out while it changes: whatever fails below then has nothing to undo in the list.
        let place = self.sets.iter().position(|set| set.id == id);
        let fresh = match place {
            Some(place) => {
                let known = self.sets.get(place).map(|set| set.pieces.is_new(index, total, data.len()));
                if known.transpose()? != Some(true) {
                    return Ok(None);
                }
                None
            }
            None => {
                let pieces = Pieces::new(FRAG_DATA, total, self.max_bytes)?;
                pieces.is_new(index, total, data.len())?;
                Some(Set { id, since: now, pieces })
            }
        };
        if let Some(set) = fresh {
            if self.sets.len() >= Self::MAX_SETS {
                self.drop_at(0);
            }
            self.sets.push_back(set);
        }
        self.make_room(id, data.len())?;
        let Some(place) = self.sets.iter().position(|set| set.id == id) else {
            return Ok(None);
        };
        let Some(set) = self.sets.get_mut(place) else {
            return Ok(None);
        };
        self.bytes = self.bytes.saturating_add(data.len());
        if !set.pieces.insert(index, data) {
            return Ok(None);
        }
        let Some(set) = self.sets.remove(place) else {
            return Ok(None);
        };
        self.bytes = self.bytes.saturating_sub(set.pieces.bytes());
        if self.finished.len() >= FINISHED_MAX {
            self.finished.pop_front();
        }
        self.finished.push_back((id, now));
        Ok(Some(Bytes::from(set.pieces.into_value())))
    }

    /// When the oldest message is to be dropped.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.sets.front().map(|set| after(set.since, FRAG_TIMEOUT))
    }

    /// Drops what has been incomplete for 10 s.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.deadline().is_some_and(|at| at <= now) {
            self.drop_at(0);
        }
        while self.finished.front().is_some_and(|&(_, at)| after(at, FRAG_TIMEOUT) <= now) {
            self.finished.pop_front();
        }
    }

    /// Bytes of the pieces held, exactly.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.bytes
    }

    /// Messages in the making.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether no message is in the making.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// How many incomplete messages were dropped, for time or for room.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Drops the oldest messages other than `id` until `more` bytes fit; drops `id` itself if it cannot fit alone.
    fn make_room(&mut self, id: [u8; 8], more: usize) -> Result<(), FragmentError> {
        while self.bytes.saturating_add(more) > self.max_bytes {
            if let Some(oldest) = self.sets.iter().position(|set| set.id != id) {
                self.drop_at(oldest);
                continue;
            }
            let len = self.bytes.saturating_add(more);
            self.drop_at(0);
            return Err(FragmentError::TooLarge { len, max: self.max_bytes });
        }
        Ok(())
    }

    fn drop_at(&mut self, place: usize) {
        if let Some(set) = self.sets.remove(place) {
            self.bytes = self.bytes.saturating_sub(set.pieces.bytes());
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

/// Kind, id, index and total.
const HEADER: usize = 13;

/// Twice as many as can be in the making.
const FINISHED_MAX: usize = 2 * Reassembler::MAX_SETS;
