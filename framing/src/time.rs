//! Deadlines without overflow.

use std::time::{Duration, Instant};

/// `wait` after `at`; `at` itself should the clock not reach that far.
pub(crate) fn after(at: Instant, wait: Duration) -> Instant {
    at.checked_add(wait).unwrap_or(at)
}
