//! Which packets arrived.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::kinds;
use crate::{DecodeError, PacketWriter, Reader, limits, varint};

/// How many packets of the session arrived with each mark of explicit congestion notification (RFC 3168).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EcnCounts {
    /// With ECT(0).
    pub ect0: u64,
    /// With ECT(1).
    pub ect1: u64,
    /// With CE: congestion experienced.
    pub ce: u64,
}

impl EcnCounts {
    pub(crate) const fn encoded_len(self) -> usize {
        varint::len(self.ect0).saturating_add(varint::len(self.ect1)).saturating_add(varint::len(self.ce))
    }

    pub(crate) fn encode(self, writer: &mut PacketWriter<'_>) -> bool {
        writer.varint(self.ect0) && writer.varint(self.ect1) && writer.varint(self.ce)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { ect0: reader.varint()?, ect1: reader.varint()?, ce: reader.varint()? })
    }
}

/// Ranges of packet numbers, as they lie in the packet: checked when it was decoded, walked over without memory of their own.
///
/// There are 1 to 64 ranges. They descend, with at least one number missing between two of them, and none goes below 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    largest: u64,
    delay_us: u64,
    /// How many ranges follow the first.
    further: u8,
    /// The length of the first range, then gaps and lengths.
    ranges: &'a [u8],
    /// Three counts, or nothing.
    ecn: &'a [u8],
}

impl<'a> Ack<'a> {
    /// The highest number.
    #[must_use]
    #[inline]
    pub const fn largest(&self) -> u64 {
        self.largest
    }

    /// How long the sender held back the acknowledgement of the largest. What it says, in microseconds up to 2^62.
    #[must_use]
    #[inline]
    pub const fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_us)
    }

    /// The ranges, from the highest down.
    #[must_use]
    #[inline]
    pub const fn ranges(&self) -> AckRanges<'a> {
        AckRanges { reader: Reader::new(self.ranges), high: Some(self.largest), further: self.further }
    }

    /// The marks that arrived, if they were counted.
    #[must_use]
    pub fn ecn(&self) -> Option<EcnCounts> {
        EcnCounts::decode(&mut Reader::new(self.ecn)).ok()
    }

    pub(super) fn decode(with_ecn: bool, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let largest = reader.varint()?;
        let delay_us = reader.varint()?;
        let count = reader.varint()?;
        let max = limits::MAX_ACK_RANGES;
        let too_many = || DecodeError::TooLong { len: usize::try_from(count).unwrap_or(usize::MAX), max };
        let further = u8::try_from(count).map_err(|_large| too_many())?;
        if usize::from(further) >= max {
            return Err(too_many());
        }
        let ranges = measure(reader, |reader| check_ranges(largest, further, reader))?;
        let ecn = if with_ecn { measure(reader, |reader| EcnCounts::decode(reader).map(drop))? } else { &[] };
        Ok(Self { largest, delay_us, further, ranges, ecn })
    }

    pub(super) fn encoded_len(&self) -> usize {
        [self.largest, self.delay_us, self.further.into()]
            .into_iter()
            .map(varint::len)
            .chain([1, self.ranges.len(), self.ecn.len()])
            .fold(0, usize::saturating_add)
    }

    pub(super) fn encode(&self, writer: &mut PacketWriter<'_>) -> bool {
        writer.varint(if self.ecn.is_empty() { kinds::ACK } else { kinds::ACK_ECN })
            && writer.varint(self.largest)
            && writer.varint(self.delay_us)
            && writer.varint(self.further.into())
            && writer.put(self.ranges)
            && writer.put(self.ecn)
    }
}

/// The bytes that `check` goes over.
fn measure<'a>(
    reader: &mut Reader<'a>,
    check: impl FnOnce(&mut Reader<'a>) -> Result<(), DecodeError>,
) -> Result<&'a [u8], DecodeError> {
    let mut ahead = reader.clone();
    check(&mut ahead)?;
    reader.take(reader.len().saturating_sub(ahead.len()))
}

fn check_ranges(largest: u64, further: u8, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    let mut low = below(largest, reader.varint()?)?;
    for _ in 0..further {
        // A gap of n stands for n + 1 numbers that did not arrive.
        let high = below(below(low, reader.varint()?)?, 2)?;
        low = below(high, reader.varint()?)?;
    }
    Ok(())
}

#[inline]
fn below(number: u64, by: u64) -> Result<u64, DecodeError> {
    number.checked_sub(by).ok_or(DecodeError::OutOfRange)
}

/// The ranges of an [`Ack`], from the highest down.
#[derive(Debug, Clone)]
pub struct AckRanges<'a> {
    reader: Reader<'a>,
    /// The top of the next range.
    high: Option<u64>,
    further: u8,
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<u64>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let high = self.high.take()?;
        // The bytes were checked: neither reading nor subtracting fails.
        let low = high.checked_sub(self.reader.varint().ok()?)?;
        if let Some(further) = self.further.checked_sub(1) {
            self.further = further;
            self.high = low.checked_sub(self.reader.varint().ok()?).and_then(|number| number.checked_sub(2));
        }
        Some(low..=high)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = usize::from(self.further).saturating_add(usize::from(self.high.is_some()));
        (len, Some(len))
    }
}

impl ExactSizeIterator for AckRanges<'_> {}
