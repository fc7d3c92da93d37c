//! Collects the numbered pieces of one value: what fragments and chunks have in common.
//!
//! Every piece but the last has one fixed length, so a sender cannot inflate the bookkeeping with tiny pieces, and what arrives in
//! order goes straight to its place: only early pieces are held apart. Memory follows the bytes received; what `total`
//! claims is only compared with the limit.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceError {
    BadIndex { index: u16, total: u16 },
    BadLength { len: usize },
    TotalChanged { total: u16, first: u16 },
    TooLarge { len: usize, max: usize },
}

#[derive(Debug)]
pub(super) struct Pieces {
    size: usize,
    total: u16,
    /// Pieces `0..taken`, in place.
    front: Vec<u8>,
    taken: u16,
    /// Pieces behind a missing one.
    early: BTreeMap<u16, Vec<u8>>,
    early_bytes: usize,
}

impl Pieces {
    /// Begins a value of `total` pieces of `size` bytes, of which the last may be shorter.
    ///
    /// Fails if even the shortest such value is longer than `max`.
    pub(super) fn new(size: usize, total: u16, max: usize) -> Result<Self, PieceError> {
        let len = size.saturating_mul(usize::from(total.saturating_sub(1))).saturating_add(1);
        if len > max {
            return Err(PieceError::TooLarge { len, max });
        }
        Ok(Self { size, total, front: Vec::new(), taken: 0, early: BTreeMap::new(), early_bytes: 0 })
    }

    /// Whether the piece fits this value (`Err` if not) and is not here yet. Changes nothing.
    pub(super) fn is_new(&self, index: u16, total: u16, len: usize) -> Result<bool, PieceError> {
        if total != self.total {
            return Err(PieceError::TotalChanged { total, first: self.total });
        }
        let Some(behind) = total.checked_sub(index).filter(|&behind| behind > 0) else {
            return Err(PieceError::BadIndex { index, total });
        };
        let last = behind == 1;
        if len == 0 || len > self.size || (!last && len < self.size) {
            return Err(PieceError::BadLength { len });
        }
        Ok(index >= self.taken && !self.early.contains_key(&index))
    }

    /// Takes a piece in; it must have passed [`Self::is_new`]. Returns whether the value is complete.
    pub(super) fn insert(&mut self, index: u16, data: &[u8]) -> bool {
        if index == self.taken {
            self.front.extend_from_slice(data);
            self.taken = self.taken.saturating_add(1);
            while let Some(piece) = self.early.remove(&self.taken) {
                self.early_bytes = self.early_bytes.saturating_sub(piece.len());
                self.front.extend_from_slice(&piece);
                self.taken = self.taken.saturating_add(1);
            }
        } else {
            self.early_bytes = self.early_bytes.saturating_add(data.len());
            self.early.insert(index, data.to_vec());
        }
        self.taken == self.total
    }

    /// Bytes of the pieces held.
    pub(super) fn bytes(&self) -> usize {
        self.front.len().saturating_add(self.early_bytes)
    }

    /// How many pieces are held.
    pub(super) fn count(&self) -> usize {
        usize::from(self.taken).saturating_add(self.early.len())
    }

    /// How many pieces there are.
    pub(super) const fn total(&self) -> u16 {
        self.total
    }

    /// The value, once complete.
    pub(super) fn into_value(self) -> Vec<u8> {
        self.front
    }
}
