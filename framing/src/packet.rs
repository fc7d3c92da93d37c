//! Writing frames into a packet, in place.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::frame::{EcnCounts, Open, StreamId, kinds};
use crate::{limits, varint};

/// A cursor over the payload of a packet that is being written.
///
/// Every method either writes all of what it was given and says `true`, or writes nothing and says `false`. Bytes behind
/// [`len`](Self::len) are unspecified.
#[derive(Debug)]
pub struct PacketWriter<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> PacketWriter<'a> {
    /// Starts at the first of `bytes` and ends with the last.
    #[must_use]
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }

    /// How many bytes were written.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes there is room for.
    #[must_use]
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.len)
    }

    /// What was written.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Takes back everything behind the first `len` bytes.
    pub const fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
        }
    }

    /// The next `n` bytes, to be filled by the caller; they count as written. `None` if there is no room for all of them.
    #[inline]
    pub fn reserve(&mut self, n: usize) -> Option<&mut [u8]> {
        let end = self.len.checked_add(n)?;
        let space = self.bytes.get_mut(self.len..end)?;
        self.len = end;
        Some(space)
    }

    /// The bytes as they are.
    #[must_use]
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> bool {
        self.reserve(bytes.len()).is_some_and(|space| {
            space.copy_from_slice(bytes);
            true
        })
    }

    /// `N` bytes: as [`put`](Self::put), in one store.
    #[must_use]
    #[inline]
    fn array<const N: usize>(&mut self, bytes: [u8; N]) -> bool {
        let Some(space) = self.bytes.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut::<N>) else { return false };
        *space = bytes;
        self.len = self.len.saturating_add(N);
        true
    }

    /// A variable-length integer in its shortest form; `false` also above 2^62 - 1.
    #[must_use]
    #[inline]
    pub fn varint(&mut self, value: u64) -> bool {
        let [.., g, h] = value.to_be_bytes();
        match varint::len(value) {
            1 => self.array([h]),
            2 => self.array([g | 0x40, h]),
            4 => {
                let [.., e, f, g, h] = value.to_be_bytes();
                self.array([e | 0x80, f, g, h])
            }
            _ => value <= varint::MAX && self.array((value | 0b11 << 62).to_be_bytes()),
        }
    }

    /// All that `write` writes, or nothing if it says `false`.
    #[inline]
    pub(crate) fn all(&mut self, write: impl FnOnce(&mut Self) -> bool) -> bool {
        let start = self.len;
        let whole = write(self);
        if !whole {
            self.len = start;
        }
        whole
    }

    /// An ACK of `ranges`, which descend and do not touch; `delay` is how long the largest was held back.
    ///
    /// The oldest ranges are left out if there is no room for them, or if there are more than 64. `false` if there is no range, not
    /// even room for the first, or if the first is empty.
    #[must_use]
    pub fn ack(
        &mut self,
        ranges: impl IntoIterator<Item = RangeInclusive<u64>>,
        delay: Duration,
        ecn: Option<EcnCounts>,
    ) -> bool {
        let mut ranges = ranges.into_iter();
        let Some(first) = ranges.next() else { return false };
        let Some(length) = first.end().checked_sub(*first.start()) else { return false };
        let delay = u64::try_from(delay.as_micros()).unwrap_or(varint::MAX).min(varint::MAX);
        let tail = ecn.map_or(0, EcnCounts::encoded_len);
        self.all(|writer| {
            let kind = if ecn.is_some() { kinds::ACK_ECN } else { kinds::ACK };
            let head = writer.varint(kind) && writer.varint(*first.end()) && writer.varint(delay);
            let count_at = writer.len;
            // At most 63: the count is one byte, and is set when it is known.
            if !(head && writer.array([0]) && writer.varint(length)) {
                return false;
            }
            let mut count = 0_u8;
            let mut low = *first.start();
            for range in ranges.take(limits::MAX_ACK_RANGES.saturating_sub(1)) {
                let gap = low.checked_sub(*range.end()).and_then(|between| between.checked_sub(2));
                let length = range.end().checked_sub(*range.start());
                let (Some(gap), Some(length)) = (gap, length) else { break };
                let len = varint::len(gap).saturating_add(varint::len(length));
                if writer.remaining() < len.saturating_add(tail) || !(writer.varint(gap) && writer.varint(length)) {
                    break;
                }
                low = *range.start();
                count = count.saturating_add(1);
            }
            if let Some(byte) = writer.bytes.get_mut(count_at) {
                *byte = count;
            }
            ecn.is_none_or(|ecn| ecn.encode(writer))
        })
    }

    /// The front of a STREAM frame whose `len` bytes of data the caller then copies into [`reserve`](Self::reserve).
    ///
    /// `false` if there is no room for both, or if the data would end behind 2^62 - 1.
    #[must_use]
    #[inline]
    pub fn stream_header(&mut self, id: StreamId, offset: u64, open: Option<Open>, fin: bool, len: usize) -> bool {
        let Ok(data) = u64::try_from(len) else { return false };
        if offset.checked_add(data).is_none_or(|end| end > limits::MAX_OFFSET) {
            return false;
        }
        self.all(|writer| {
            let kind = kinds::STREAM | u8::from(fin) | if open.is_some() { kinds::STREAM_OPEN } else { 0 };
            writer.array([kind])
                && writer.varint(id.value())
                && writer.varint(offset)
                && open.is_none_or(|open| writer.varint(open.protocol) && writer.array([open.kind.byte()]))
                && writer.varint(data)
                && writer.remaining() >= len
        })
    }
}

/// The bytes of a STREAM frame in front of its `len` bytes of data.
#[must_use]
#[inline]
pub const fn stream_overhead(id: StreamId, offset: u64, open: Option<Open>, len: usize) -> usize {
    stream_fixed(id, offset, open).saturating_add(varint::len(len as u64))
}

/// The most data that a STREAM frame of `space` bytes can carry; `None` if not even an empty one fits.
#[must_use]
#[inline]
pub const fn stream_room(id: StreamId, offset: u64, open: Option<Open>, space: usize) -> Option<usize> {
    let Some(left) = space.checked_sub(stream_fixed(id, offset, open)) else { return None };
    // The length is written before the data, and takes more where it says more: at a boundary the data gives way.
    Some(match left {
        0 => return None,
        1..=64 => left.saturating_sub(1),
        65 => 63,
        66..=16_385 => left.saturating_sub(2),
        16_386..=16_387 => 16_383,
        _ => left.saturating_sub(if left < (1 << 30) + 4 { 4 } else { 8 }),
    })
}

const fn stream_fixed(id: StreamId, offset: u64, open: Option<Open>) -> usize {
    let fixed = varint::len(id.value()).saturating_add(varint::len(offset)).saturating_add(1);
    match open {
        Some(open) => fixed.saturating_add(varint::len(open.protocol)).saturating_add(1),
        None => fixed,
    }
}
