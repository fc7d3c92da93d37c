//! Credit: what the other side lets us send, and what we let it send.

use std::time::{Duration, Instant};

use crate::rtt::GRANULARITY;

/// What we may send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Credit {
    pub(super) max: u64,
    pub(super) used: u64,
}

impl Credit {
    pub(super) const fn new(max: u64) -> Self {
        Self { max, used: 0 }
    }

    pub(super) const fn left(self) -> u64 {
        self.max.saturating_sub(self.used)
    }

    /// A lower bound than before is late news, not a violation: frames overtake each other. Returns whether it rose.
    pub(super) const fn raise(&mut self, max: u64) -> bool {
        let rises = max > self.max;
        if rises {
            self.max = max;
        }
        rises
    }
}

/// What we let the other side send: `size` bytes beyond what was read.
///
/// The size doubles, up to a ceiling, when all of it was read within two round trips (of a millisecond at least), or used up behind a gap by data that waits for
/// nothing but the gap to be filled: then it was the window that held the sender up.
/// Credit follows reading, in steps of at least a quarter of the window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    size: u64,
    ceiling: u64,
    /// What was announced.
    max: u64,
    /// How much had been read at `since`.
    mark: u64,
    since: Option<Instant>,
    /// It was used up although the reader is quick.
    pressed: bool,
}

impl Window {
    pub(super) const fn new(size: usize, ceiling: usize) -> Self {
        let (size, ceiling) = (size as u64, ceiling as u64);
        Self {
            size,
            ceiling: if ceiling < size { size } else { ceiling },
            max: size,
            mark: 0,
            since: None,
            pressed: false,
        }
    }

    /// What was announced: all that may have been sent.
    pub(super) const fn max(&self) -> u64 {
        self.max
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Whether enough was read for an announcement to be worth its bytes.
    #[inline]
    pub(super) const fn is_due(&self, read: u64) -> bool {
        (read + self.size).saturating_sub(self.max) >= self.size / 4
    }

    /// Data came behind a gap, up to `highest`, and nothing waits to be read.
    pub(super) const fn press(&mut self, highest: u64) {
        if highest + self.size / 8 >= self.max {
            self.pressed = true;
        }
    }

    /// The bound to announce now that `read` bytes were read.
    pub(super) fn announce(&mut self, read: u64, rtt: Duration, now: Instant) -> u64 {
        match self.since {
            None => (self.mark, self.since) = (read, Some(now)),
            Some(since) if read - self.mark >= self.size => {
                // Where the path is shorter than that, it is how quickly both sides get the processor that holds them up.
                if now.saturating_duration_since(since) < 2 * rtt.max(GRANULARITY) {
                    self.size = (2 * self.size).min(self.ceiling);
                }
                (self.mark, self.since) = (read, Some(now));
            }
            Some(_) => {}
        }
        if std::mem::take(&mut self.pressed) {
            self.size = (2 * self.size).min(self.ceiling);
            (self.mark, self.since) = (read, Some(now));
        }
        self.max = self.max.max(read + self.size);
        self.max
    }

    /// Makes the window at least this wide, as far as the ceiling allows. Returns whether it became wider.
    pub(super) const fn widen(&mut self, size: u64) -> bool {
        let size = if size < self.ceiling { size } else { self.ceiling };
        let wider = size > self.size;
        if wider {
            self.size = size;
        }
        wider
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::tests::start;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_window_doubles_only_if_it_is_read_within_two_round_trips() {
        let start = start();
        let rtt = 50 * MS;
        for (pace, expected) in [(90 * MS, 1 << 20), (110 * MS, 64 << 10)] {
            let mut window = Window::new(64 << 10, 1 << 20);
            let (mut read, mut now) = (0, start);
            for _ in 0..50 {
                // A quarter of the window in a quarter of the pace.
                read += window.size() / 4;
                now += pace / 4;
                assert!(window.is_due(read));
                assert_eq!(window.announce(read, rtt, now), read + window.size());
                assert!(!window.is_due(read + window.size() / 4 - 1));
            }
            assert_eq!(window.size(), expected, "{pace:?}");
        }
    }

    #[test]
    fn on_a_very_short_path_a_window_doubles_if_it_is_read_within_two_milliseconds() {
        for (pace, expected) in [(1900, 1 << 20), (2100, 64 << 10)] {
            let (mut window, mut read, mut now) = (Window::new(64 << 10, 1 << 20), 0, start());
            for _ in 0..50 {
                read += window.size();
                now += Duration::from_micros(pace);
                window.announce(read, Duration::from_micros(20), now);
            }
            assert_eq!(window.size(), expected, "{pace} us");
        }
    }

    #[test]
    fn a_window_doubles_if_it_is_used_up_behind_a_gap() {
        let mut window = Window::new(64 << 10, 1 << 20);
        window.press((64 << 10) * 3 / 4);
        assert_eq!(window.announce(1000, MS, start()), (64 << 10) + 1000);
        window.press(64 << 10);
        assert_eq!(window.announce(2000, MS, start()), (128 << 10) + 2000);
    }

    #[test]
    fn what_was_announced_never_shrinks() {
        let mut window = Window::new(100, 400);
        assert!(window.widen(1000));
        assert!(!window.widen(300));
        assert_eq!(window.announce(0, MS, start()), 400);
        assert_eq!(window.max(), 400);
        let mut credit = Credit::new(10);
        assert!(!credit.raise(10) && !credit.raise(3) && credit.raise(11));
        credit.used = 4;
        assert_eq!(credit.left(), 7);
    }
}
