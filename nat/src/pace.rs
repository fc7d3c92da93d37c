//! How often a node lets itself be made to send many probes.

use std::time::{Duration, Instant};

use crate::limits;

/// Lets one attempt at a time use many probes, and the next one [`BIRTHDAY_INTERVAL`](limits::BIRTHDAY_INTERVAL) after the one
/// before began (SPEC 15.6). One for a node.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    last: Option<Instant>,
    running: bool,
}

impl Pace {
    /// Whether an attempt that begins now may: what [`Setup::birthday`](crate::Setup::birthday) is to be. If so, say when it
    /// [ends](Self::end).
    pub fn begin(&mut self, now: Instant) -> bool {
        self.begin_after(limits::BIRTHDAY_INTERVAL, now)
    }

    /// The same on behalf of a stranger, who leaves every second turn to others: once they used theirs, or let it pass.
    pub fn begin_for_stranger(&mut self, now: Instant) -> bool {
        self.begin_after(limits::BIRTHDAY_INTERVAL * 2, now)
    }

    fn begin_after(&mut self, pause: Duration, now: Instant) -> bool {
        let early = self.last.is_some_and(|last| now < last + pause);
        if self.running || early {
            return false;
        }
        self.running = true;
        self.last = Some(now);
        true
    }

    /// The attempt that was allowed has ended. One that sent few probes does not count.
    pub const fn end(&mut self, probes: usize) {
        self.running = false;
        if probes <= limits::FEW_PROBES {
            self.last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_not_too_often() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary base; only offsets are used")]
        let now = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.begin(now));
        assert!(!pace.begin(now + Duration::from_secs(60)), "the first is not over");
        pace.end(1500);
        assert!(!pace.begin(now + Duration::from_secs(19)));
        assert!(pace.begin(now + Duration::from_secs(20)));
        pace.end(10);
        assert!(pace.begin(now + Duration::from_secs(21)), "it was a simple one");
    }

    #[test]
    fn strangers_leave_every_second_turn_to_others() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary base; only offsets are used")]
        let now = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.begin_for_stranger(now));
        pace.end(1500);
        assert!(!pace.begin_for_stranger(now + Duration::from_secs(39)));
        assert!(pace.begin(now + Duration::from_secs(39)));
        pace.end(1500);
        assert!(!pace.begin_for_stranger(now + Duration::from_secs(78)), "it had its turn 39 s ago, but another since");
        assert!(pace.begin_for_stranger(now + Duration::from_secs(79)));
    }
}
