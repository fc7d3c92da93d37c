//! The lists that are not about stored values: IHAVE, BATCH and PEX.

use std::net::{Ipv4Addr, SocketAddrV4};

use crypto::v12::WireId;

use super::super::limits::IHAVE_MAX;
use super::super::text;
use super::Kind;
use crate::{DecodeError, Reader};

/// The hashes of an IHAVE, 8 bytes each, at most 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes<'a> {
    hashes: &'a [[u8; 8]],
}

impl<'a> Hashes<'a> {
    pub(super) const fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let (hashes, odd) = body.as_chunks::<8>();
        if !odd.is_empty() {
            return Err(DecodeError::Truncated);
        }
        if hashes.len() > IHAVE_MAX {
            return Err(DecodeError::TooLong { len: hashes.len(), max: IHAVE_MAX });
        }
        Ok(Self { hashes })
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The hashes in their order on the wire.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = [u8; 8]> + 'a + use<'a> {
        self.hashes.iter().copied()
    }
}

/// The frames of a BATCH: `count u8 · count × (len u16 · frame)`.
///
/// None of them is empty and none is a BATCH. Nothing else was checked: decode each on its own, and count each on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frames<'a> {
    count: u8,
    entries: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = reader.u8()?;
        let entries = reader.rest();
        let mut walk = Reader::new(entries);
        for _ in 0..count {
            let frame = read_frame(&mut walk)?;
            match frame.first() {
                None => return Err(DecodeError::EmptyPiece),
                Some(&first) if first == Kind::Batch.byte() => return Err(DecodeError::Nested),
                Some(_) => {}
            }
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

    /// The frames in their order on the wire, not yet decoded.
    #[must_use]
    pub const fn iter(&self) -> FramesIter<'a> {
        FramesIter { reader: Reader::new(self.entries) }
    }
}

impl<'a> IntoIterator for Frames<'a> {
    type Item = &'a [u8];
    type IntoIter = FramesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over [`Frames`].
#[derive(Debug, Clone)]
pub struct FramesIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for FramesIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        read_frame(&mut self.reader).ok()
    }
}

/// Where a node can be reached, as another tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PexEntry {
    /// The id of the node.
    pub id: WireId,
    /// Its address: literal, and with a port, but otherwise any, loopback and multicast included.
    pub addr: SocketAddrV4,
}

/// The addresses of a PEX, in one of two forms.
///
/// The usual entry is `idlen u8 · id8 · iplen u8 · ip text · port u16`, at least 19 bytes. The Rust reference node sends compact ones
/// instead, `id8 · ip4 · port u16`, always 14 bytes, so the length of the frame tells the forms apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pex<'a> {
    count: u8,
    compact: bool,
    entries: &'a [u8],
}

impl<'a> Pex<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = reader.u8()?;
        let entries = reader.rest();
        let compact = count > 0 && entries.len() == usize::from(count).saturating_mul(COMPACT_LEN);
        let pex = Self { count, compact, entries };
        let mut walk = Reader::new(entries);
        for _ in 0..count {
            read_entry(&mut walk, compact)?;
        }
        walk.finish()?;
        Ok(pex)
    }

    /// How many there are, at most 255; reference nodes send 20.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the entries are in the form of the Rust reference node, which cannot read a BATCH.
    #[must_use]
    pub const fn is_compact(&self) -> bool {
        self.compact
    }

    /// The entries in their order on the wire.
    #[must_use]
    pub const fn iter(&self) -> PexIter<'a> {
        PexIter { reader: Reader::new(self.entries), compact: self.compact }
    }
}

impl<'a> IntoIterator for Pex<'a> {
    type Item = PexEntry;
    type IntoIter = PexIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over the entries of a [`Pex`].
#[derive(Debug, Clone)]
pub struct PexIter<'a> {
    reader: Reader<'a>,
    compact: bool,
}

impl Iterator for PexIter<'_> {
    type Item = PexEntry;

    fn next(&mut self) -> Option<Self::Item> {
        read_entry(&mut self.reader, self.compact).ok()
    }
}

fn read_frame<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = reader.u16()?;
    reader.take(usize::from(len))
}

fn read_entry(reader: &mut Reader<'_>, compact: bool) -> Result<PexEntry, DecodeError> {
    if compact {
        let id = WireId::from(reader.array()?);
        let ip = Ipv4Addr::from(reader.array::<4>()?);
        return Ok(PexEntry { id, addr: text::addr(ip, reader.u16()?)? });
    }
    let id: [u8; 8] = reader.short_bytes()?.try_into().or(Err(DecodeError::BadId))?;
    let id = WireId::from(id);
    Ok(PexEntry { id, addr: text::read_addr(reader)? })
}

/// `id8 · ip4 · port u16`.
const COMPACT_LEN: usize = 14;
