//! Names that change every day (SPEC 13.1, 16.1).

use std::time::Duration;

use crate::clock;

/// The day that our clock says.
pub(crate) fn today() -> u64 {
    clock::epoch().unix.as_secs() / DAY
}

/// The days in whose name others may have said something, now.
pub(crate) fn now() -> Vec<u64> {
    around(clock::epoch().unix)
}

/// The days in whose name somebody may be announced whose clock differs by an hour at most, the likeliest first.
pub(crate) fn around(unix: Duration) -> Vec<u64> {
    let (day, second) = (unix.as_secs() / DAY, unix.as_secs() % DAY);
    let mut days = vec![day];
    if second < HOUR {
        days.push(day.saturating_sub(1));
    } else if second >= DAY - HOUR {
        days.push(day + 1);
    }
    days
}

const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn around_midnight_two_days_count() {
        let days = |second| around(Duration::from_secs(second));
        assert_eq!(days(5 * DAY + HOUR), [5]);
        assert_eq!(days(5 * DAY + HOUR - 1), [5, 4]);
        assert_eq!(days(6 * DAY - HOUR), [5, 6]);
        assert_eq!(days(0), [0, 0]);
    }
}
