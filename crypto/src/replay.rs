//! Which packet numbers were seen.

use std::fmt;

/// How far behind the highest number seen a number is still known to be new or not. A power of two, in whole words.
pub(crate) const WINDOW: u64 = 8192;

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

const WORDS: usize = (WINDOW / 64 + 1) as usize;

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

#[expect(clippy::cast_possible_truncation, reason = "below the number of words")]
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
