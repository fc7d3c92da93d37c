//! The packets whose fate is open, by packet number.
//!
//! Packet numbers follow each other, so a record is found by masking its number. Two bits per number tell what is
//! pending and what was given up but may still be acknowledged late; acknowledged packets have neither. An ACK frame
//! that repeats thousands of settled numbers is thus worked off 64 at a time.

use std::time::Instant;

use crate::congestion::{PacketInfo, Snapshot};
use crate::sent::SentFrames;

/// How many packet numbers are remembered at most.
pub(super) const MAX_RECORDS: u64 = 8192;

/// What is allocated with the first packet.
const MIN_SLOTS: usize = 2;

/// One packet that was sent.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) sent_at: Instant,
    /// The number of the packet among those of its path.
    pub(super) seq: u64,
    pub(super) size: u32,
    pub(super) path: u8,
    pub(super) flags: u8,
    /// Empty once reported.
    pub(super) frames: SentFrames,
    pub(super) snapshot: Snapshot,
}

/// The peer has to acknowledge it, and it counts as in flight.
pub(super) const ELICITING: u8 = 1;
/// It probes for a larger size: its loss is no sign of congestion.
pub(super) const MTU_PROBE: u8 = 2;
/// It was marked ECT(0).
pub(super) const MARKED: u8 = 4;
/// It was given up for its age, not because of the packets that overtook it.
pub(super) const BY_TIME: u8 = 8;

impl Record {
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) const fn info(&self) -> PacketInfo {
        PacketInfo { sent_at: self.sent_at, size: self.size, snapshot: self.snapshot }
    }

    /// What fills a slot that no packet uses.
    fn blank(at: Instant) -> Self {
        Self {
            sent_at: at,
            seq: 0,
            size: 0,
            path: 0,
            flags: 0,
            frames: SentFrames::new(),
            snapshot: Snapshot::default(),
        }
    }
}

/// Which of the two bits of a packet number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bit {
    /// Neither acknowledged nor given up.
    Pending,
    /// Given up; an acknowledgement would be late.
    Lost,
}

/// The ring of records. Numbers in `base..end` are held; `end - base` never exceeds [`MAX_RECORDS`].
#[derive(Debug, Default)]
pub(super) struct Ring {
    base: u64,
    end: u64,
    /// A power of two, or empty.
    slots: Box<[Record]>,
    /// One bit per number: bit `n % 64` of word `n / 64`, masked. One word is enough for up to 64 slots.
    pending: Box<[u64]>,
    lost: Box<[u64]>,
    /// The most numbers held since the ring was last empty.
    peak: usize,
}

impl Ring {
    /// The lowest number that is held.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// The next packet number.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// How many numbers are held, settled ones in the middle included.
    pub(super) fn len(&self) -> u64 {
        self.end - self.base
    }

    /// Whether there is no room for another packet number.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= MAX_RECORDS
    }

    /// Bytes on the heap.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn heap(&self) -> usize {
        self.slots.len() * size_of::<Record>() + (self.pending.len() + self.lost.len()) * 8
    }

    /// Takes in the packet with the number [`end`](Self::end), and gives the place of its record, which holds something
    /// old until it is written. There must be room.
    #[inline]
    pub(super) fn push(&mut self, now: Instant) -> Option<&mut Record> {
        debug_assert!(!self.is_full(), "the caller makes room");
        if self.slots.len() as u64 <= self.len() {
            self.grow(now);
        }
        let number = self.end;
        self.set(Bit::Pending, number);
        self.end += 1;
        self.peak = self.peak.max(usize::try_from(self.len()).unwrap_or(usize::MAX));
        self.get_mut(number)
    }

    /// Leaves the number [`end`](Self::end) out. There must be room.
    pub(super) fn push_gap(&mut self, now: Instant) {
        debug_assert!(!self.is_full(), "the caller makes room");
        if self.slots.len() as u64 <= self.len() {
            self.grow(now);
        }
        self.end += 1;
    }

    /// The record of a number that is held.
    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<&Record> {
        self.slots.get(self.index(number))
    }

    /// The record of a number that is held.
    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Record> {
        let slot = self.index(number);
        self.slots.get_mut(slot)
    }

    /// Sets a bit of a number that is held.
    #[inline]
    pub(super) fn set(&mut self, bit: Bit, number: u64) {
        let (word, mask) = (self.word(number), 1 << (number % 64));
        if let Some(word) = self.bits_mut(bit).get_mut(word) {
            *word |= mask;
        }
    }

    /// Clears a bit and returns whether it was set.
    pub(super) fn clear(&mut self, bit: Bit, number: u64) -> bool {
        self.take(bit, number & !63, 1 << (number % 64)) != 0
    }

    /// Clears the bits under `mask` of the 64 numbers from `first`, a multiple of 64, and returns those that were set.
    /// The mask must only select numbers that are held.
    #[inline]
    pub(super) fn take(&mut self, bit: Bit, first: u64, mask: u64) -> u64 {
        let at = self.word(first);
        match self.bits_mut(bit).get_mut(at) {
            Some(word) => {
                let taken = *word & mask;
                *word &= !taken;
                taken
            }
            None => 0,
        }
    }

    /// The lowest pending number from `from` on.
    pub(super) fn next_pending(&self, from: u64) -> Option<u64> {
        self.next(from, |pending, _| pending)
    }

    /// The lowest number from `from` on that was given up and is still remembered.
    pub(super) fn next_lost(&self, from: u64) -> Option<u64> {
        self.next(from, |_, lost| lost)
    }

    fn next(&self, from: u64, select: impl Fn(u64, u64) -> u64) -> Option<u64> {
        let mut first = from.max(self.base);
        while first < self.end {
            let (word, last) = (self.word(first), (first | 63).min(self.end - 1));
            let bits = select(*self.pending.get(word)?, *self.lost.get(word)?) & mask(first, last);
            if bits != 0 {
                return Some((first & !63) + u64::from(bits.trailing_zeros()));
            }
            first = last + 1;
        }
        None
    }

    /// Forgets settled numbers at the lower end, and with them those given up which `keep` does not want any more.
    pub(super) fn advance(&mut self, keep: impl Fn(u64, &Record) -> bool) {
        loop {
            self.base = self.next(self.base, |pending, lost| pending | lost).unwrap_or(self.end);
            if self.base == self.end {
                self.relax();
                return;
            }
            let base = self.base;
            if self.is(Bit::Pending, base) || self.get(base).is_some_and(|record| keep(base, record)) {
                return;
            }
            self.clear(Bit::Lost, base);
        }
    }

    /// Forgets the lowest number whatever its state, and returns whether it was pending.
    pub(super) fn pop_front(&mut self) -> Option<(u64, bool)> {
        if self.base == self.end {
            return None;
        }
        let number = self.base;
        self.clear(Bit::Lost, number);
        let pending = self.clear(Bit::Pending, number);
        self.base += 1;
        Some((number, pending))
    }

    pub(super) fn is(&self, bit: Bit, number: u64) -> bool {
        let bits = if bit == Bit::Pending { &self.pending } else { &self.lost };
        bits.get(self.word(number)).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// Gives memory back when a time of heavy use is over: when the ring runs empty twice in a row and needed less
    /// than a quarter of its slots in between.
    fn relax(&mut self) {
        if self.peak == 0 {
            return; // Nothing was sent in between.
        }
        if self.slots.len() > MIN_SLOTS && self.peak * 4 < self.slots.len() {
            self.free();
        }
        self.peak = 0;
    }

    /// Gives all memory back if nothing is held.
    pub(super) fn rest(&mut self) {
        if self.base == self.end {
            self.free();
        }
    }

    fn free(&mut self) {
        (self.slots, self.pending, self.lost) = Default::default();
    }

    /// Doubles the slots.
    #[cold]
    fn grow(&mut self, at: Instant) {
        let slots = (self.slots.len() * 2).max(MIN_SLOTS);
        let words = slots.div_ceil(64);
        let mut grown = Self {
            base: self.base,
            end: self.end,
            slots: (0..slots).map(|_| Record::blank(at)).collect(),
            pending: vec![0; words].into(),
            lost: vec![0; words].into(),
            peak: self.peak,
        };
        for number in self.base..self.end {
            let from = self.index(number);
            if let (Some(from), Some(to)) = (self.slots.get_mut(from), grown.get_mut(number)) {
                std::mem::swap(from, to);
            }
            for bit in [Bit::Pending, Bit::Lost] {
                if self.is(bit, number) {
                    grown.set(bit, number);
                }
            }
        }
        *self = grown;
    }

    #[inline]
    fn bits_mut(&mut self, bit: Bit) -> &mut [u64] {
        match bit {
            Bit::Pending => &mut self.pending,
            Bit::Lost => &mut self.lost,
        }
    }

    #[inline]
    fn index(&self, number: u64) -> usize {
        // What does not fit a usize is masked away in any case.
        number as usize & self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn word(&self, number: u64) -> usize {
        (number / 64) as usize & self.pending.len().wrapping_sub(1)
    }
}

/// The bits of the numbers `first..=last`, which share one word.
pub(super) const fn mask(first: u64, last: u64) -> u64 {
    u64::MAX << (first % 64) & u64::MAX >> (63 - last % 64)
}

const _: () = assert!(size_of::<Record>() <= 144);
const _: () = assert!(MAX_RECORDS.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::tests::start;

    fn push(ring: &mut Ring, seq: u64) {
        *ring.push(start()).unwrap() = Record { seq, ..Record::blank(start()) };
    }

    #[test]
    fn numbers_keep_their_records_through_growth_and_wrapping() {
        let mut ring = Ring::default();
        let mut model = std::collections::BTreeMap::new();
        for step in 0..50_000_u64 {
            if !ring.is_full() && step % 7 != 3 {
                if step % 13 == 0 {
                    ring.push_gap(start());
                } else {
                    model.insert(ring.end(), Bit::Pending);
                    let end = ring.end();
                    push(&mut ring, end);
                }
            }
            if step % 3 == 0 {
                // Settles a number somewhere; more of them in the second half, so that the ring shrinks again.
                for hash in 0..=step / 10_000 {
                    let number = ring.base() + (step * 2_654_435_761 + hash * 97) % ring.len().max(1);
                    match model.get(&number) {
                        Some(Bit::Pending) if step % 2 == 0 => {
                            assert!(ring.clear(Bit::Pending, number));
                            ring.set(Bit::Lost, number);
                            model.insert(number, Bit::Lost);
                        }
                        Some(&bit) => {
                            assert!(ring.clear(bit, number));
                            model.remove(&number);
                        }
                        None => assert!(!ring.clear(Bit::Pending, number) && !ring.clear(Bit::Lost, number)),
                    }
                }
                ring.advance(|_, _| true);
                assert_eq!(ring.base(), model.keys().next().copied().unwrap_or(ring.end()));
            }
            if step % 512 == 0 {
                let pending: Vec<u64> =
                    std::iter::successors(ring.next_pending(0), |n| ring.next_pending(n + 1)).collect();
                let lost: Vec<u64> = std::iter::successors(ring.next_lost(0), |n| ring.next_lost(n + 1)).collect();
                let of = |bit| model.iter().filter(|(_, have)| **have == bit).map(|(n, _)| *n).collect::<Vec<_>>();
                assert_eq!((pending, lost), (of(Bit::Pending), of(Bit::Lost)));
                assert!(model.keys().all(|n| ring.get(*n).is_some_and(|record| record.seq == *n)));
            }
            while ring.is_full() {
                let (number, pending) = ring.pop_front().unwrap();
                assert_eq!(model.remove(&number) == Some(Bit::Pending), pending);
            }
        }
    }

    #[test]
    fn memory_is_given_back_after_a_burst() {
        let mut ring = Ring::default();
        assert_eq!(ring.heap(), 0);
        for turn in [4000, 5, 5] {
            for _ in 0..turn {
                push(&mut ring, 0);
            }
            while let Some(number) = ring.next_pending(0) {
                ring.clear(Bit::Pending, number);
            }
            ring.advance(|_, _| true);
        }
        assert!(ring.heap() < 1600, "{}", ring.heap());
    }

    #[test]
    fn masks_select_inclusive_ranges() {
        assert_eq!(mask(0, 63), u64::MAX);
        assert_eq!(mask(64, 64), 1);
        assert_eq!(mask(127, 127), 1 << 63);
        assert_eq!(mask(66, 68), 0b11100);
    }
}
