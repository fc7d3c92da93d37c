//! One pairing of the monotonic clock with the wall clock.

use std::time::{Duration, Instant};

/// A moment on the monotonic clock and the unix time it stands for.
///
/// Machines that stamp records or derive numbers from the wall clock are given one at construction and derive
/// every later unix time from `now`, so they never read a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// The moment.
    pub instant: Instant,
    /// Time since 1970-01-01 00:00 UTC at that moment.
    pub unix: Duration,
}

impl Epoch {
    /// The unix time at `now`. A `now` before the pairing gives the pairing's own time.
    #[must_use]
    pub fn unix_at(&self, now: Instant) -> Duration {
        self.unix.saturating_add(now.saturating_duration_since(self.instant))
    }
}
