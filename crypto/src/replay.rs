//! Which packet numbers were seen.

use std::fmt;

/// How far behind the highest number seen a number is still known to be new or not: 8192.
pub(crate) const WINDOW: u64 = 64 * (WORDS as u64 - 1);

/// A window over packet numbers that takes each number once, in the manner of RFC 6479: a ring of words of bits, one
/// word longer than the window, so that moving on clears whole words and never shifts bits.
///
/// The ring (1032 bytes) is only there once something was missing for 64 numbers; before, one word tells everything.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Replay {
    /// One above the highest number seen, 0 before the first.
    next: u64,
    /// Bit `i`: number `next - 1 - i` was seen. Unused once there is a ring.
    recent: u64,
    ring: Option<Box<[u64; WORDS]>>,
}

const WORDS: usize = 129;

impl Replay {
    /// One above the highest number marked so far; 0 if none was.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// Whether `number` was not marked yet and is not too old to tell.
    pub(crate) fn is_new(&self, number: u64) -> bool {
        let Some(age) = self.age(number) else { return true };
        match &self.ring {
            _ if age >= WINDOW => false,
            Some(ring) => word(ring, number) & bit(number) == 0,
            // Without a ring everything older than the word was seen.
            None => age < 64 && self.recent & (1 << age) == 0,
        }
    }

    /// Marks `number`, which must be new.
    pub(crate) fn mark(&mut self, number: u64) {
        debug_assert!(self.is_new(number), "{number} was marked before");
        if self.ring.is_none() && !self.mark_recent(number) {
            self.grow();
        }
        if let Some(ring) = &mut self.ring {
            if number >= self.next {
                // From the word after that of the highest number to the word of the new one, at most all of them.
                let ahead = (number / 64).saturating_sub(self.next.saturating_sub(1) / 64).min(WORDS as u64);
                (0..ahead).for_each(|back| set(ring, number.saturating_sub(back * 64), 0));
                self.next = number.saturating_add(1);
            }
            let seen = word(ring, number) | bit(number);
            set(ring, number, seen);
        }
    }

    /// How far `number` is behind the highest one seen, if it is not ahead.
    const fn age(&self, number: u64) -> Option<u64> {
        match self.next.checked_sub(number) {
            Some(0) | None => None,
            Some(distance) => Some(distance - 1),
        }
    }

    /// Marks `number` in the word, unless a number that is still missing would fall out of it.
    fn mark_recent(&mut self, number: u64) -> bool {
        if let Some(age) = self.age(number) {
            self.recent |= 1_u64.checked_shl(u32::try_from(age).unwrap_or(u32::MAX)).unwrap_or(0);
            return true;
        }
        let step = number - self.next + 1;
        // The oldest `step` bits fall out, and with a step beyond the word numbers that it never held.
        let known = self.next.min(64);
        let missing = !self.recent & mask(known);
        let stays = known.saturating_sub((step + known).saturating_sub(64));
        if step > 64 || missing & !mask(stays) != 0 {
            return false;
        }
        self.recent = self.recent.checked_shl(u32::try_from(step).unwrap_or(u32::MAX)).unwrap_or(0) | 1;
        self.next = number + 1;
        true
    }

    /// From the word to the ring.
    fn grow(&mut self) {
        let mut ring = Box::new([u64::MAX; WORDS]);
        // The rest of the word of the highest number is still to come; later words are cleared when they are reached.
        let ahead = self.next.max(1).next_multiple_of(64);
        (self.next..ahead).for_each(|number| clear(&mut ring, number));
        for age in 0..self.next.min(64) {
            if self.recent & (1 << age) == 0 {
                clear(&mut ring, self.next - 1 - age);
            }
        }
        self.ring = Some(ring);
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("next", &self.next).field("ring", &self.ring.is_some()).finish_non_exhaustive()
    }
}

/// The lowest `count` bits.
fn mask(count: u64) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

const fn slot(number: u64) -> usize {
    (number / 64 % WORDS as u64) as usize
}

fn word(ring: &[u64; WORDS], number: u64) -> u64 {
    ring.get(slot(number)).copied().unwrap_or(u64::MAX)
}

fn set(ring: &mut [u64; WORDS], number: u64, bits: u64) {
    if let Some(word) = ring.get_mut(slot(number)) {
        *word = bits;
    }
}

fn clear(ring: &mut [u64; WORDS], number: u64) {
    let bits = word(ring, number) & !bit(number);
    set(ring, number, bits);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// All numbers ever marked.
    #[derive(Default)]
    struct Model(BTreeSet<u64>);

    impl Model {
        fn is_new(&self, number: u64) -> bool {
            let oldest = self.0.last().map_or(0, |highest| (highest + 1).saturating_sub(WINDOW));
            number >= oldest && !self.0.contains(&number)
        }
    }

    /// Offers `number` to both.
    fn offer(replay: &mut Replay, model: &mut Model, number: u64) {
        let new = model.is_new(number);
        assert_eq!(replay.is_new(number), new, "{number} after {:?}", model.0.last());
        if new {
            replay.mark(number);
            model.0.insert(number);
            assert!(!replay.is_new(number));
        }
        assert_eq!(replay.next(), model.0.last().map_or(0, |highest| highest + 1));
    }

    #[test]
    fn what_comes_in_order_needs_no_ring() {
        let mut replay = Replay::default();
        for number in 0..100_000 {
            // Two and two in the wrong order.
            let number = number ^ 1;
            assert!(replay.is_new(number));
            replay.mark(number);
            assert!(!replay.is_new(number) && (number < 64 || !replay.is_new(number - 64)));
        }
        assert!(replay.ring.is_none());
    }

    #[test]
    fn every_first_number_works() {
        for first in (0..300).chain([WINDOW - 1, WINDOW, WINDOW + 1, 1 << 40, (1 << 60) - 1]) {
            let (mut replay, mut model) = (Replay::default(), Model::default());
            offer(&mut replay, &mut model, first);
            for number in first.saturating_sub(300)..=first + 300 {
                offer(&mut replay, &mut model, number);
            }
            for number in [first.saturating_sub(WINDOW), (first + 300).saturating_sub(WINDOW), first + 301 + WINDOW] {
                offer(&mut replay, &mut model, number);
            }
        }
    }

    #[test]
    fn the_window_is_exactly_as_long_as_it_says() {
        for highest in [WINDOW, 3 * WINDOW + 17, 1 << 33] {
            let mut replay = Replay::default();
            replay.mark(highest);
            for number in highest - 2 * WINDOW.min(highest / 2)..highest {
                assert_eq!(replay.is_new(number), number > highest - WINDOW, "{number} of {highest}");
            }
        }
    }

    #[test]
    fn a_gap_survives_the_change_to_the_ring() {
        for gap in 0..70 {
            for length in 1..70 {
                let (mut replay, mut model) = (Replay::default(), Model::default());
                for number in (0..200).filter(|number| !(gap..gap + length).contains(number)) {
                    offer(&mut replay, &mut model, number);
                }
                for number in 0..200 {
                    offer(&mut replay, &mut model, number);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(
            steps in prop::collection::vec((0_u8..8, any::<u64>()), 0..400),
        ) {
            let (mut replay, mut model) = (Replay::default(), Model::default());
            for (kind, random) in steps {
                let next = replay.next();
                let number = match kind {
                    0..=2 => next,
                    3 => next.saturating_sub(random % 100),
                    4 => next + random % 100,
                    5 => next.saturating_sub(random % (WINDOW + 200)),
                    6 => next + random % (WINDOW + 200),
                    _ => random % (1 << 40),
                };
                offer(&mut replay, &mut model, number);
            }
        }
    }
}
