//! Scenarios with exact times, and random ones against a model.

use super::*;

/// The moment from which tests count.
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
pub(crate) fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}
