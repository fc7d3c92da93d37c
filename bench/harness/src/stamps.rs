//! Numbers in what is sent, so that nothing can be left out, repeated or swapped unseen.
//!
//! A stream carries its own offset, 8 bytes little endian, at the beginning of every 1024th byte, and in its first part,
//! which is not measured, at every 8th: there every byte is checked. Messages, requests and datagrams begin with their
//! number. Checking all bytes of everything would measure the check; that bytes between two stamps are right is what the
//! library's own authentication is for.

/// Bytes of a stamp.
pub const STAMP: usize = 8;

/// Distance of stamps where every byte is checked.
pub const DENSE: u64 = STAMP as u64;

/// Distance of stamps where time is measured.
pub const SPARSE: u64 = 1024;

/// The number of the message that says there are no more.
pub const END: u64 = u64::MAX;

/// Writes the stamps of the `buffer` that begins at `offset` of a stream; both must be multiples of `distance`.
pub fn stamp(buffer: &mut [u8], offset: u64, distance: u64) {
    for (place, chunk) in (offset..).step_by(distance as usize).zip(buffer.chunks_mut(distance as usize)) {
        if let Some(start) = chunk.first_chunk_mut() {
            *start = place.to_le_bytes();
        }
    }
}

/// Checks the stamps of a stream that arrives in pieces of any length.
#[derive(Clone, Debug)]
pub struct Checker {
    /// Bytes seen.
    pub offset: u64,
    /// Stamps that were not what they should be.
    pub wrong: u64,
    /// Where stamps become sparse.
    sparse_from: u64,
    /// The stamp that is arriving, and how much of it has.
    stamp: [u8; STAMP],
}

impl Checker {
    /// For a stream whose stamps are dense before `sparse_from`.
    #[must_use]
    pub const fn new(sparse_from: u64) -> Self {
        Self { offset: 0, wrong: 0, sparse_from, stamp: [0; STAMP] }
    }

    /// Takes the next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let distance = if self.offset < self.sparse_from { DENSE } else { SPARSE };
            let place = (self.offset % distance) as usize;
            if place == 0
                && let Some(stamp) = bytes.first_chunk::<STAMP>()
            {
                self.wrong += u64::from(u64::from_le_bytes(*stamp) != self.offset);
                let step = bytes.len().min(distance as usize);
                self.offset += step as u64;
                bytes = &bytes[step..];
            } else if place < STAMP {
                self.stamp[place] = bytes[0];
                let complete = place + 1 == STAMP;
                let start = self.offset - place as u64;
                self.wrong += u64::from(complete && u64::from_le_bytes(self.stamp) != start);
                self.offset += 1;
                bytes = &bytes[1..];
            } else {
                let step = bytes.len().min(distance as usize - place);
                self.offset += step as u64;
                bytes = &bytes[step..];
            }
        }
    }
}

/// Writes the number of a message.
pub fn number(message: &mut [u8], number: u64) {
    if let Some(start) = message.first_chunk_mut() {
        *start = number.to_le_bytes();
    }
}

/// The number of a message; [`END`] for one too short to have any.
#[must_use]
pub fn number_of(message: &[u8]) -> u64 {
    message.first_chunk().map_or(END, |start| u64::from_le_bytes(*start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut stream = vec![7; 8192];
        stamp(&mut stream[..2048], 0, DENSE);
        stamp(&mut stream[2048..], 2048, SPARSE);
        stream
    }

    fn check(stream: &[u8], cut: usize) -> (u64, u64) {
        let mut checker = Checker::new(2048);
        stream.chunks(cut).for_each(|piece| checker.take(piece));
        (checker.offset, checker.wrong)
    }

    #[test]
    fn a_right_stream_is_right_however_it_is_cut() {
        for cut in [1, 3, 8, 100, 1000, 1024, 3000, 8192] {
            assert_eq!(check(&stream(), cut), (8192, 0), "cut at {cut}");
        }
    }

    #[test]
    fn every_change_is_found() {
        for cut in [1, 5, 700, 8192] {
            let mut changed = stream();
            changed[1001] ^= 1;
            assert_eq!(check(&changed, cut).1, 1);
            let mut shorter = stream();
            shorter.drain(3000..3500);
            assert!(check(&shorter, cut).1 > 0);
            let mut swapped = stream();
            swapped[3072..5120].rotate_left(1024);
            assert_eq!(check(&swapped, cut).1, 2);
        }
    }
}
