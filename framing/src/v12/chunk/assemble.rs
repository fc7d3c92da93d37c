//! The receiving side of a transfer.

use std::time::Instant;

use structs::Rejected;
use thiserror::Error;

use super::super::limits::{CHUNK, FETCH_TIMEOUT, MAX_VALUE};
use super::super::pieces::{PieceError, Pieces};
use crate::time::after;

/// Why a part was not taken. What was received before is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// The number of the part is not below the number of parts.
    #[error("part {index} of {total}")]
    BadIndex {
        /// The number of the part, from 0.
        index: u16,
        /// How many parts there are, as it says.
        total: u16,
    },
    /// A part other than the last that is not 900 bytes, or an empty or longer one.
    #[error("a part of {len} bytes")]
    BadLength {
        /// Its length.
        len: usize,
    },
    /// The part contradicts the first one about the number of parts.
    #[error("{total} parts, after {first} at first")]
    TotalChanged {
        /// What this part says.
        total: u16,
        /// What the first one said.
        first: u16,
    },
    /// The value is longer than the limit.
    #[error("at least {len} bytes, of {max} allowed")]
    TooLarge {
        /// How long the value is at least.
        len: usize,
        /// The limit.
        max: usize,
    },
}

impl From<PieceError> for ChunkError {
    fn from(error: PieceError) -> Self {
        match error {
            PieceError::BadIndex { index, total } => Self::BadIndex { index, total },
            PieceError::BadLength { len } => Self::BadLength { len },
            PieceError::TotalChanged { total, first } => Self::TotalChanged { total, first },
            PieceError::TooLarge { len, max } => Self::TooLarge { len, max },
        }
    }
}

impl From<ChunkError> for Rejected {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::TooLarge { .. } => Self::TooLarge,
            ChunkError::BadIndex { .. } | ChunkError::BadLength { .. } | ChunkError::TotalChanged { .. } => {
                Self::Malformed
            }
        }
    }
}

/// Puts the parts of one value together.
///
/// One per fetch, and only fed by those who were asked: nothing on the wire says that a part belongs to the value. Memory
/// follows what was received and stays below twice `max_value`.
#[derive(Debug)]
pub struct ChunkAssembler {
    max_value: usize,
    pieces: Option<Pieces>,
    progress: Option<Instant>,
    complete: bool,
}

impl Default for ChunkAssembler {
    /// Takes values of up to 10 MiB.
    fn default() -> Self {
        Self::new(MAX_VALUE)
    }
}

impl ChunkAssembler {
    /// Takes values of up to `max_value` bytes.
    #[must_use]
    pub const fn new(max_value: usize) -> Self {
        Self { max_value, pieces: None, progress: None, complete: false }
    }

    /// Takes one part and returns the value if that was the last one missing.
    ///
    /// A part that is here already changes nothing, also after the end. It should be acknowledged all the same: the first
    /// acknowledgement may have been lost.
    ///
    /// # Errors
    /// See [`ChunkError`]. Such a part should not be acknowledged.
    pub fn add(&mut self, index: u16, total: u16, data: &[u8], now: Instant) -> Result<Option<Vec<u8>>, ChunkError> {
        self.handle_timeout(now);
        if self.complete {
            return Ok(None);
        }
        let mut pieces = match self.pieces.take() {
            Some(pieces) => pieces,
            None => Pieces::new(CHUNK, total, self.max_value)?,
        };
        let fresh = pieces.is_new(index, total, data.len()).and_then(|fresh| {
            let len = usize::from(index).saturating_mul(CHUNK).saturating_add(data.len());
            if len > self.max_value { Err(PieceError::TooLarge { len, max: self.max_value }) } else { Ok(fresh) }
        });
        let complete = match fresh {
            Ok(true) => {
                self.progress = Some(now);
                pieces.insert(index, data)
            }
            Ok(false) => false,
            // A first part that does not fit itself says nothing worth remembering.
            Err(error) => {
                self.pieces = Some(pieces).filter(|pieces| pieces.count() > 0);
                return Err(error.into());
            }
        };
        if complete {
            self.complete = true;
            self.progress = None;
            return Ok(Some(pieces.into_value()));
        }
        self.pieces = Some(pieces);
        Ok(None)
    }

    /// When the parts are dropped, should none arrive: 30 s after the last one.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.progress.map(|at| after(at, FETCH_TIMEOUT))
    }

    /// Drops the parts if none arrived for 30 s, and says whether it did. The value can begin anew then.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let expired = self.deadline().is_some_and(|at| at <= now);
        if expired {
            self.pieces = None;
            self.progress = None;
        }
        expired
    }

    /// Bytes of the parts held.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.pieces.as_ref().map_or(0, Pieces::bytes)
    }

    /// How many parts are held.
    #[must_use]
    pub fn received(&self) -> usize {
        self.pieces.as_ref().map_or(0, Pieces::count)
    }

    /// How many parts the value has, once one is here.
    #[must_use]
    pub fn total(&self) -> Option<u16> {
        self.pieces.as_ref().map(Pieces::total)
    }

    /// Whether the value was returned.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }
}
