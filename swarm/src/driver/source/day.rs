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

/// Of several days the one whose turn it is, for those who can be in one place at a time only. Whose clocks agree are there together;
/// where they differ, by whatever time, the turns are the same about half of the time.
#[cfg(feature = "http")]
pub(crate) fn turn(unix: Duration) -> u64 {
    let mut days = around(unix);
    days.sort_unstable();
    // The finalizer of SplitMix64: turns that follow a rule could be opposite for ever where clocks differ by a turn.
    let mut bits = (unix.as_secs() / TURN).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let day = if bits >> 63 == 0 { days.first() } else { days.last() };
    day.copied().unwrap_or(unix.as_secs() / DAY)
}

/// As long as an attempt may take, and its repetition.
#[cfg(feature = "http")]
const TURN: u64 = 30;
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

    #[cfg(feature = "http")]
    #[test]
    fn those_whose_clocks_differ_meet_in_the_name_of_one_day() {
        let turn = |second| turn(Duration::from_secs(second));
        assert_eq!(turn(5 * DAY + HOUR), 5);
        let hour = (6 * DAY - HOUR..6 * DAY + HOUR).step_by(TURN as usize);
        assert!(hour.clone().any(|second| turn(second) == 5) && hour.clone().any(|second| turn(second) == 6));
        for ahead in (TURN..HOUR).step_by(TURN as usize) {
            let both = hour.clone().filter(|second| second + ahead < 6 * DAY + HOUR);
            let met = both.clone().filter(|&second| turn(second) == turn(second + ahead)).count();
            assert!(4 * met > both.count(), "{met} turns at {ahead} s");
        }
    }
}
