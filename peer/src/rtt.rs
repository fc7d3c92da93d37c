//! The round-trip time of a path (RFC 9002 section 5) and the timeouts made of it (section 6).

use std::time::Duration;

/// The finest step that the timers of the platform are trusted with (RFC 9002 6.1.2).
pub(crate) const GRANULARITY: Duration = Duration::from_millis(1);

/// What is assumed before the first sample (RFC 9002 6.2.2).
pub(crate) const INITIAL: Duration = Duration::from_millis(333);

/// The longest that an endpoint delays an acknowledgement on purpose, unless its greeting says another figure.
pub(crate) const MAX_ACK_DELAY: Duration = Duration::from_millis(25);

/// A sample up to this is believed at once.
const CREDIBLE: Duration = Duration::from_secs(3);

/// A sample above this is a stopped clock, not a path: it is cut, so that no sum of durations can overflow.
const MAX_SAMPLE: Duration = Duration::from_secs(60);

/// The running estimate for one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rtt {
    latest: Duration,
    smoothed: Duration,
    variation: Duration,
    min: Duration,
    sampled: bool,
}

impl Rtt {
    /// An estimate from the handshake's round trip, or the initial guess where there was none.
    pub(crate) fn new(handshake: Option<Duration>) -> Self {
        let mut rtt = Self { latest: INITIAL, smoothed: INITIAL, variation: INITIAL / 2, min: INITIAL, sampled: false };
        if let Some(sample) = handshake {
            rtt.update(sample, Duration::ZERO);
        }
        rtt
    }

    /// Takes in one sample. `ack_delay` is what the peer says it waited, already cut to what it may wait; it is
    /// subtracted only as far as the result stays at or above the minimum, so a lie cannot make the path look faster
    /// than it ever was.
    pub(crate) fn update(&mut self, sample: Duration, ack_delay: Duration) {
        // A peer that slept answers late, and one such answer must not stretch every timer for minutes. A path that
        // has become that slow shows it again, and again four times as much is believed.
        let sample = sample.min(CREDIBLE.max(self.smoothed * 4));
        let sample = sample.clamp(Duration::from_micros(1), MAX_SAMPLE);
        self.latest = sample;
        if !self.sampled {
            *self = Self { latest: sample, smoothed: sample, variation: sample / 2, min: sample, sampled: true };
            return;
        }
        self.min = self.min.min(sample);
        let adjusted = if sample >= self.min + ack_delay.min(MAX_SAMPLE) { sample - ack_delay } else { sample };
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = (self.smoothed * 7 + adjusted) / 8;
    }

    /// Forgets the minimum: the path may have become another one (RFC 9002 5.2, after persistent congestion).
    pub(crate) fn forget_min(&mut self) {
        self.min = self.latest;
    }

    /// The newest sample, or the initial guess.
    pub(crate) fn latest(&self) -> Duration {
        self.latest
    }

    /// The smoothed value.
    pub(crate) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The smallest sample, or the initial guess.
    pub(crate) fn min(&self) -> Duration {
        self.min
    }

    /// Whether there was a sample at all.
    pub(crate) fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The probe timeout without backoff: when an acknowledgement that is not here yet is worth asking for.
    pub(crate) fn pto(&self, max_ack_delay: Duration) -> Duration {
        self.smoothed + (self.variation * 4).max(GRANULARITY) + max_ack_delay
    }

    /// How much older than the newest acknowledged packet a packet is when it counts as lost: `eighths / 8` round
    /// trips (9 by default).
    pub(crate) fn loss_delay(&self, eighths: u32) -> Duration {
        (self.latest.max(self.smoothed) * eighths / 8).max(GRANULARITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_first_sample_replaces_the_guess_and_later_ones_are_smoothed() {
        let mut rtt = Rtt::new(None);
        assert_eq!(rtt.pto(ms(0)), ms(333) + Duration::from_micros(166_500) * 4);
        assert!(!rtt.is_sampled());
        rtt.update(ms(100), ms(20));
        assert_eq!((rtt.smoothed(), rtt.variation, rtt.min(), rtt.latest()), (ms(100), ms(50), ms(100), ms(100)));
        // 180 with 20 of waiting is 160: variation 3/4 50 + 1/4 60, smoothed 7/8 100 + 1/8 160.
        rtt.update(ms(180), ms(20));
        assert_eq!(rtt.variation, Duration::from_micros(52_500));
        assert_eq!(rtt.smoothed(), Duration::from_micros(107_500));
        assert_eq!((rtt.min(), rtt.latest()), (ms(100), ms(180)));
        assert_eq!(rtt.loss_delay(9), Duration::from_micros(202_500));
    }

    #[test]
    fn a_claimed_delay_never_brings_a_sample_below_the_minimum() {
        let mut rtt = Rtt::new(Some(ms(100)));
        rtt.update(ms(110), ms(25));
        assert_eq!(rtt.smoothed(), (ms(100) * 7 + ms(110)) / 8);
        rtt.update(ms(125), ms(25));
        assert_eq!(rtt.smoothed(), ((ms(100) * 7 + ms(110)) / 8 * 7 + ms(100)) / 8);
    }

    #[test]
    fn absurd_samples_are_cut() {
        let mut rtt = Rtt::new(Some(Duration::MAX));
        assert_eq!(rtt.latest(), CREDIBLE);
        rtt.update(Duration::MAX, Duration::ZERO);
        assert_eq!(rtt.latest(), CREDIBLE * 4, "believed in steps");
        for _ in 0..10 {
            rtt.update(Duration::MAX, Duration::ZERO);
        }
        assert_eq!(rtt.latest(), MAX_SAMPLE);
        rtt.update(Duration::ZERO, Duration::MAX);
        assert!(rtt.pto(MAX_ACK_DELAY) > Duration::ZERO);
        assert_eq!(rtt.min(), Duration::from_micros(1));
        for _ in 0..1000 {
            rtt.update(Duration::from_micros(1), Duration::ZERO);
        }
        // Timers keep their granularity however fast the path is.
        assert_eq!(rtt.loss_delay(9), GRANULARITY);
        assert!(rtt.pto(Duration::ZERO) >= GRANULARITY);
    }

    #[test]
    fn the_minimum_can_be_forgotten() {
        let mut rtt = Rtt::new(Some(ms(10)));
        rtt.update(ms(200), ms(0));
        assert_eq!(rtt.min(), ms(10));
        rtt.forget_min();
        assert_eq!(rtt.min(), ms(200));
    }
}
