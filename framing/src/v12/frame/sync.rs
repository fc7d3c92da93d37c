//! The frames of stored values: HAVE and CHUNK.

use super::super::limits::{CHUNK, CHUNK_PART_MARK};
use super::check_piece;
use crate::{DecodeError, Reader};

/// The keys of a HAVE: `count u8 · count × (klen u8 · key)`.
///
/// Reference nodes ignore a HAVE without keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys<'a> {
    count: u8,
    entries: &'a [u8],
}

impl<'a> Keys<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = reader.u8()?;
        let entries = reader.rest();
        let mut walk = Reader::new(entries);
        for _ in 0..count {
            walk.short_bytes()?;
        }
        walk.finish()?;
        Ok(Self { count, entries })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The keys in their order on the wire, any bytes, at most 255 each.
    #[must_use]
    pub const fn iter(&self) -> KeysIter<'a> {
        KeysIter { reader: Reader::new(self.entries) }
    }
}

impl<'a> IntoIterator for Keys<'a> {
    type Item = &'a [u8];
    type IntoIter = KeysIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over [`Keys`].
#[derive(Debug, Clone)]
pub struct KeysIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for KeysIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.reader.short_bytes().ok()
    }
}

/// A stored value on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// `klen u8 · key · vlen u16 · value`: all of it.
    Whole {
        /// The key of the value.
        key: &'a [u8],
        /// 0 to 900 bytes.
        value: &'a [u8],
    },
    /// `klen u8 · key · FFFF · index u16 · total u16 · data`: one part.
    Part {
        /// The key of the value.
        key: &'a [u8],
        /// The number of the part, below `total`.
        index: u16,
        /// How many parts there are, at least 1.
        total: u16,
        /// 1 to 900 bytes; only the last part may have fewer than 900.
        data: &'a [u8],
    },
}

impl<'a> Chunk<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let key = reader.short_bytes()?;
        let len = reader.u16()?;
        if len == CHUNK_PART_MARK {
            let (index, total) = (reader.u16()?, reader.u16()?);
            let data = reader.rest();
            check_piece(index, total, data, CHUNK)?;
            return Ok(Self::Part { key, index, total, data });
        }
        let len = usize::from(len);
        if len > CHUNK {
            return Err(DecodeError::TooLong { len, max: CHUNK });
        }
        Ok(Self::Whole { key, value: reader.take(len)? })
    }

    /// The key of the value.
    #[must_use]
    pub const fn key(&self) -> &'a [u8] {
        match self {
            Self::Whole { key, .. } | Self::Part { key, .. } => key,
        }
    }
}
