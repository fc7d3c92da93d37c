//! Virtual time: an arbitrary base, and offsets from it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The moment at which every simulation begins: arbitrary, and the same for the whole process.
///
/// Only offsets from it mean anything, and only offsets enter a trace, so runs compare across processes and
/// machines. It lies a day after the real moment, so that tests can also hand out older times.
#[must_use]
pub fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "an arbitrary base; only offsets are used")]
    *BASE.get_or_init(|| {
        let now = Instant::now();
        now.checked_add(DAY).unwrap_or(now)
    })
}

/// The moment `offset` after [`base`].
pub(crate) fn instant(offset: Duration) -> Instant {
    let base = base();
    base.checked_add(offset).unwrap_or(base)
}

/// How far `at` lies after [`base`]; zero for earlier moments.
pub(crate) fn offset(at: Instant) -> Duration {
    at.saturating_duration_since(base())
}

const DAY: Duration = Duration::from_secs(86_400);
