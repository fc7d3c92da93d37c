//! Which sequence numbers have been accepted, for refusing a replay.
//!
//! A ring of words as in RFC 6479, so that moving the window forward clears words and never shifts bits. Unlike
//! there no spare word is needed, because exactly the numbers that are skipped are cleared.

/// A window over the last `64 * WORDS` sequence numbers up to the highest accepted; 1024 of them by default.
///
/// A number below the window is refused, for nobody remembers whether it was accepted. The window is held inline:
/// 144 bytes by default, no allocation.
///
/// The default takes hold where the type is written: `<SlidingWindow>::new()`, or `SlidingWindow::new()` for a
/// field or variable of that type.
///
/// ```
/// use structs::{SlidingWindow, Verdict};
///
/// let mut window: SlidingWindow = SlidingWindow::new();
/// assert!(window.accept(5000));
/// assert!(!window.accept(5000));
/// assert_eq!(window.check(4999), Verdict::Fresh);
/// assert_eq!(window.check(5000 - 1024), Verdict::TooOld);
/// ```
#[derive(Debug, Clone)]
pub struct SlidingWindow<const WORDS: usize = 16> {
    /// The bit of number `n` is bit `n % 64` of word `n / 64 % WORDS`. Bits of numbers outside the window have no
    /// meaning until the window reaches them, which clears them.
    words: [u64; WORDS],
    highest: Option<u64>,
}

/// What a [`SlidingWindow`] knows of a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was not accepted before.
    Fresh,
    /// It was accepted before.
    Seen,
    /// It lies below the window: it may have been accepted before.
    TooOld,
}

impl<const WORDS: usize> Default for SlidingWindow<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WORDS: usize> SlidingWindow<WORDS> {
    /// How many sequence numbers the window spans.
    pub const SPAN: u64 = {
        assert!(WORDS > 0, "a window has at least one word");
        WORDS as u64 * 64
    };

    /// A window that has accepted nothing: every number is fresh.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; WORDS], highest: None }
    }

    /// What is known of `n`. Changes nothing, so it may be asked before `n` is authenticated.
    #[must_use]
    pub fn check(&self, n: u64) -> Verdict {
        match self.highest {
            None => Verdict::Fresh,
            Some(highest) if n > highest => Verdict::Fresh,
            Some(highest) if highest - n >= Self::SPAN => Verdict::TooOld,
            Some(_) if self.words.get(Self::word_of(n)).is_some_and(|word| word & bit_of(n) != 0) => Verdict::Seen,
            Some(_) => Verdict::Fresh,
        }
    }

    /// Accepts `n` if it is fresh, and returns whether it was. To be called for authenticated numbers only: one
    /// that is far ahead moves the window past everything below.
    pub fn accept(&mut self, n: u64) -> bool {
        if self.check(n) != Verdict::Fresh {
            return false;
        }
        match self.highest {
            Some(highest) if n > highest => {
                self.clear_between(highest, n);
                self.highest = Some(n);
            }
            Some(_) => {}
            None => self.highest = Some(n),
        }
        if let Some(word) = self.words.get_mut(Self::word_of(n)) {
            *word |= bit_of(n);
        }
        true
    }

    /// The highest number accepted.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Clears the bits of the numbers above `below`, up to and with `last`: at most `WORDS + 1` steps.
    fn clear_between(&mut self, below: u64, last: u64) {
        if last - below >= Self::SPAN {
            self.words = [0; WORDS];
            return;
        }
        let mut first = below + 1; // `below` is less than `last`, so this cannot overflow
        loop {
            let end = last.min(first | 63);
            let mask = u64::MAX >> (63 - (end - first)) << (first % 64);
            if let Some(word) = self.words.get_mut(Self::word_of(first)) {
                *word &= !mask;
            }
            if end == last {
                return;
            }
            first = end + 1;
        }
    }

    fn word_of(n: u64) -> usize {
        // The remainder is below `WORDS`, so it fits whatever the width of `usize`.
        (n / 64 % (Self::SPAN / 64)) as usize
    }
}

const fn bit_of(n: u64) -> u64 {
    1 << (n % 64)
}
