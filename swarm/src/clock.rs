//! The only place that reads a clock.

#![expect(clippy::disallowed_methods, reason = "the clock is here")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use structs::Epoch;

/// Now, on the monotonic clock. Read once per wake.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The pairing of the monotonic clock with the wall clock, taken once at the start. A wall clock before 1970 counts
/// as 1970.
pub(crate) fn epoch() -> Epoch {
    Epoch { instant: Instant::now(), unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
}
