//! How much reordering a path is given before a packet counts as lost.
//!
//! It starts with the thresholds of RFC 9002 6.1. An acknowledgement of a packet that had been given up proves that the
//! path reorders more than that, and raises the threshold that was wrong, up to a bound (the idea of RACK, RFC 8985
//! section 6.2). Losses that stay losses lower it again.

/// The packet threshold of RFC 9002 6.1.1, and how far it may rise.
const PACKETS: std::ops::RangeInclusive<u64> = 3..=128;

/// The time threshold of RFC 9002 6.1.2 in eighths of a round trip, and what it may rise to: two round trips.
const EIGHTHS: [u32; 4] = [9, 10, 12, 16];

/// So many passes with losses in a row that were no mistake lower the thresholds (RFC 8985 uses 16 recoveries).
const QUIET: u8 = 16;

/// The thresholds of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reordering {
    packets: u64,
    step: u8,
    quiet: u8,
}

impl Reordering {
    pub(super) const fn new() -> Self {
        Self { packets: *PACKETS.start(), step: 0, quiet: 0 }
    }

    /// How many packets sent later have to be acknowledged.
    pub(super) const fn packets(&self) -> u64 {
        self.packets
    }

    /// How many eighths of a round trip a packet has to be older.
    pub(super) fn eighths(&self) -> u32 {
        EIGHTHS.get(usize::from(self.step)).copied().unwrap_or(9)
    }

    /// A packet given up was acknowledged after `distance` packets sent later; `by_time` says which threshold was wrong.
    pub(super) fn on_spurious(&mut self, distance: u64, by_time: bool) {
        self.quiet = 0;
        if by_time {
            self.step = (self.step + 1).min(3);
        } else {
            let wanted = distance.max(self.packets).saturating_add(1);
            self.packets = wanted.clamp(*PACKETS.start(), *PACKETS.end());
        }
    }

    /// Packets were given up.
    pub(super) fn on_lost(&mut self) {
        self.quiet += 1;
        if self.quiet >= QUIET {
            self.quiet = 0;
            self.step = self.step.saturating_sub(1);
            self.packets = (self.packets / 2).max(*PACKETS.start());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_raise_the_threshold_that_was_wrong_and_quiet_lowers_it() {
        let mut reordering = Reordering::new();
        assert_eq!((reordering.packets(), reordering.eighths()), (3, 9));
        reordering.on_spurious(11, false);
        assert_eq!((reordering.packets(), reordering.eighths()), (12, 9));
        reordering.on_spurious(4, false);
        assert_eq!(reordering.packets(), 13, "each mistake raises it");
        (0..10).for_each(|_| reordering.on_spurious(4, true));
        assert_eq!((reordering.packets(), reordering.eighths()), (13, 16));
        reordering.on_spurious(u64::MAX, false);
        assert_eq!(reordering.packets(), 128);
        (0..QUIET * 7).for_each(|_| reordering.on_lost());
        assert_eq!((reordering.packets(), reordering.eighths()), (3, 9));
    }
}
