//! Batches of datagrams on their way out, with the arithmetic of segmentation offload in one place.

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
    bytes: Vec<u8>,
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
        Self { bytes: Vec::new(), segment_size: 0, segments: 0, closed: false, max_segments: max_segments.max(1) }
    }

    /// Appends a datagram, if it can be part of the batch: it is the first, or as long as the first, or shorter
    /// and thereby the last. Returns whether it was taken.
    ///
    /// Empty datagrams and those over [`MAX_BATCH`](Self::MAX_BATCH) are never taken.
    pub fn push(&mut self, datagram: &[u8]) -> bool {
        if !self.fits(datagram.len()) {
            return false;
        }
        if self.segments == 0 {
            self.segment_size = datagram.len();
        }
        self.closed = datagram.len() < self.segment_size;
        self.segments += 1;
        self.bytes.extend_from_slice(datagram);
        true
    }

    /// Whether a datagram of `len` bytes would be taken.
    #[must_use]
    pub fn fits(&self, len: usize) -> bool {
        let first = self.segments == 0;
        len > 0
            && !self.closed
            && self.segments < self.max_segments
            && (first || len <= self.segment_size)
            && self.bytes.len().saturating_add(len) <= Self::MAX_BATCH
    }

    /// What has been pushed since the last [`clear`](Self::clear), as a [`Transmit`]; `None` if nothing was.
    #[must_use]
    pub fn finish(&self, path: Path, ecn: Ecn) -> Option<Transmit> {
        (self.segments > 0).then_some(Transmit { path, ecn, len: self.bytes.len(), segment_size: self.segment_size })
    }

    /// The bytes of the batch.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The datagrams of a batch that was finished on this buffer.
    pub fn segments(&self, transmit: &Transmit) -> impl Iterator<Item = &[u8]> {
        let batch = self.bytes.get(..transmit.len).unwrap_or(&self.bytes);
        batch.chunks(transmit.segment_size.max(1))
    }

    /// Whether nothing has been pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments == 0
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
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
    fn never_over_the_largest_payload_nor_the_segment_cap() {
        let mut buf = TransmitBuf::new(2);
        assert!(!buf.push(&vec![0; TransmitBuf::MAX_BATCH + 1]));
        assert!(buf.push(&vec![0; 40_000]));
        assert!(!buf.push(&vec![0; 40_000]));
        assert!(buf.push(&[0; 3]));
        assert!(!buf.fits(1));
    }
}
