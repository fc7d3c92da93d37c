//! Batches of datagrams on their way out, with the arithmetic of segmentation offload in one place.

use std::num::NonZeroU8;

use crate::{Ecn, Path};

/// `len` bytes at the front of a [`TransmitBuf`]: one or more datagrams for one path.
///
/// All datagrams have `segment_size` bytes but the last, which may be shorter: the shape that UDP segmentation
/// offload takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Where the datagrams go.
    pub path: Path,
    /// The mark they carry.
    pub ecn: Ecn,
    /// How many routers they may pass, if fewer than usual: what opens a mapping in our own NAT and is to die before it
    /// reaches another one. A driver that cannot set it does not send them.
    pub ttl: Option<NonZeroU8>,
    /// Bytes in all.
    pub len: usize,
    /// Bytes of each datagram but the last.
    pub segment_size: usize,
}

/// A reusable buffer that machines write outgoing datagrams into.
///
/// It refuses whatever would not be a valid batch, so that a machine cannot emit one.
#[derive(Debug)]
pub struct TransmitBuf {
    /// Grows to the largest batch seen and keeps its length, so that [`space`](Self::space) need not clear it.
    bytes: Vec<u8>,
    len: usize,
    segment_size: usize,
    segments: usize,
    closed: bool,
    max_segments: usize,
}

impl TransmitBuf {
    /// The largest batch in bytes: the largest UDP payload over IPv4 (65,535 less 20 and 8 bytes of headers).
    pub const MAX_BATCH: usize = 65_507;

    /// An empty buffer for batches of at most `max_segments` datagrams (at least one).
    #[must_use]
    pub fn new(max_segments: usize) -> Self {
        Self {
            bytes: Vec::new(),
            len: 0,
            segment_size: 0,
            segments: 0,
            closed: false,
            max_segments: max_segments.max(1),
        }
    }

    /// Appends a datagram, if it can be part of the batch: it is the first, or as long as the first, or shorter
    /// and thereby the last. Returns whether it was taken.
    ///
    /// Empty datagrams and those over [`MAX_BATCH`](Self::MAX_BATCH) are never taken.
    pub fn push(&mut self, datagram: &[u8]) -> bool {
        if !self.fits(datagram.len()) {
            return false;
        }
        if let Some(space) = self.space(datagram.len()) {
            space.copy_from_slice(datagram);
            self.commit(datagram.len());
        }
        true
    }

    /// Room for the next datagram: `max` bytes of arbitrary content to write into, or as many as the batch can still
    /// take; `None` if it takes no more. [`commit`](Self::commit) makes the front of it a datagram.
    pub fn space(&mut self, max: usize) -> Option<&mut [u8]> {
        let max = if self.segments == 0 { max } else { max.min(self.segment_size) };
        let max = max.min(Self::MAX_BATCH.saturating_sub(self.len));
        if !self.fits(max) {
            return None;
        }
        let end = self.len + max;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two().min(Self::MAX_BATCH), 0);
        }
        self.bytes.get_mut(self.len..end)
    }

    /// Makes the first `len` bytes of the [`space`](Self::space) asked for last a datagram, as
    /// [`push`](Self::push) would have done. Nothing happens if it would not have taken it.
    pub fn commit(&mut self, len: usize) {
        if !self.fits(len) || self.len + len > self.bytes.len() {
            return;
        }
        if self.segments == 0 {
            self.segment_size = len;
        }
        self.closed = len < self.segment_size;
        self.segments += 1;
        self.len += len;
    }

    /// Whether a datagram of `len` bytes would be taken.
    #[must_use]
    pub fn fits(&self, len: usize) -> bool {
        let first = self.segments == 0;
        len > 0
            && !self.closed
            && self.segments < self.max_segments
            && (first || len <= self.segment_size)
            && self.len.saturating_add(len) <= Self::MAX_BATCH
    }

    /// The longest datagram that would be taken; 0 if none would.
    #[must_use]
    pub fn limit(&self) -> usize {
        let max = if self.segments == 0 { Self::MAX_BATCH } else { self.segment_size };
        let max = max.min(Self::MAX_BATCH.saturating_sub(self.len));
        if self.fits(max) { max } else { 0 }
    }

    /// What has been pushed since the last [`clear`](Self::clear), as a [`Transmit`]; `None` if nothing was.
    #[must_use]
    pub fn finish(&self, path: Path, ecn: Ecn) -> Option<Transmit> {
        let (len, segment_size) = (self.len, self.segment_size);
        (self.segments > 0).then_some(Transmit { path, ecn, ttl: None, len, segment_size })
    }

    /// The bytes of the batch.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }

    /// The datagrams of a batch that was finished on this buffer.
    pub fn segments(&self, transmit: &Transmit) -> impl Iterator<Item = &[u8]> {
        let batch = self.bytes().get(..transmit.len).unwrap_or(self.bytes());
        batch.chunks(transmit.segment_size.max(1))
    }

    /// Whether nothing has been pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments == 0
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.segment_size = 0;
        self.segments = 0;
        self.closed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_segments_and_one_shorter_tail() {
        let mut buf = TransmitBuf::new(4);
        assert!(!buf.push(&[]));
        assert!(buf.push(&[1; 10]));
        assert!(!buf.push(&[2; 11]), "longer than the first");
        assert!(buf.push(&[2; 10]));
        assert!(buf.push(&[3; 9]));
        assert!(!buf.push(&[4; 9]), "the shorter one closed the batch");
        let at = Path::udp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let transmit = buf.finish(at, Ecn::NotEct).expect("three segments");
        assert_eq!((transmit.len, transmit.segment_size), (29, 10));
        assert_eq!(buf.segments(&transmit).map(<[u8]>::len).collect::<Vec<_>>(), [10, 10, 9]);
        buf.clear();
        assert!(buf.is_empty() && buf.finish(at, Ecn::NotEct).is_none());
    }

    #[test]
    fn written_in_place_as_if_pushed() {
        let mut buf = TransmitBuf::new(3);
        for (len, fill) in [(10, 1), (10, 2), (7, 3)] {
            let space = buf.space(12).expect("room");
            assert_eq!(space.len(), if fill == 1 { 12 } else { 10 }, "never more than the first");
            space[..len].fill(fill);
            buf.commit(len);
        }
        assert!(buf.space(1).is_none());
        let at = Path::udp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let transmit = buf.finish(at, Ecn::NotEct).expect("three segments");
        let expected: [&[u8]; 3] = [&[1; 10], &[2; 10], &[3; 7]];
        assert_eq!(buf.segments(&transmit).collect::<Vec<_>>(), expected);
        assert_eq!(buf.bytes().len(), 27);
    }

    #[test]
    fn never_over_the_largest_payload_nor_the_segment_cap() {
        let mut buf = TransmitBuf::new(2);
        assert!(!buf.push(&vec![0; TransmitBuf::MAX_BATCH + 1]));
        assert!(buf.push(&vec![0; 40_000]));
        assert!(!buf.push(&vec![0; 40_000]));
        assert!(buf.push(&[0; 3]));
        assert!(!buf.fits(1));
        assert_eq!(buf.limit(), 0, "closed");
        let mut buf = TransmitBuf::new(9);
        assert_eq!(buf.limit(), TransmitBuf::MAX_BATCH);
        assert!(buf.push(&[0; 30_000]));
        assert_eq!(buf.limit(), 30_000);
        assert!(buf.push(&[0; 30_000]));
        assert_eq!(buf.limit(), TransmitBuf::MAX_BATCH - 60_000);
    }
}
