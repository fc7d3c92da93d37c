use std::time::{Duration, Instant};

use proptest::prelude::*;
use structs::TokenBucket;

const NANOS: u64 = 1_000_000_000;

/// Fills nanosecond by nanosecond, in billionths of a token.
struct Model {
    level: u64,
    rate: u64,
    burst: u64,
}

impl Model {
    fn advance(&mut self, nanos: u64) {
        for _ in 0..nanos {
            self.level = (self.level + self.rate).min(self.burst * NANOS);
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Take(u32),
    Advance(u64),
    GoBack(u64),
    SetRate(u32, u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..6_u32).prop_map(Op::Take),
        4 => (0..1500_u64).prop_map(Op::Advance),
        1 => (0..1500_u64).prop_map(Op::GoBack),
        1 => (rate(), 0..6_u32).prop_map(|(rate, burst)| Op::SetRate(rate, burst)),
    ]
}

/// From no token ever to several per nanosecond.
fn rate() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), 1..10_000_000_u32, 1_000_000..=u32::MAX]
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn behaves_as_one_that_fills_every_nanosecond(
        first_rate in rate(),
        first_burst in 0..6_u32,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut now = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(first_rate, first_burst, now);
        let (rate, burst) = (u64::from(first_rate), u64::from(first_burst));
        let mut model = Model { level: burst * NANOS, rate, burst };
        for op in ops {
            match op {
                Op::Take(n) => {
                    let cost = u64::from(n) * NANOS;
                    prop_assert_eq!(bucket.try_take(n, now), model.level >= cost);
                    if model.level >= cost {
                        model.level -= cost;
                    }
                }
                Op::Advance(nanos) => {
                    now += Duration::from_nanos(nanos);
                    model.advance(nanos);
                }
                Op::GoBack(nanos) => {
                    // Settle first: a bucket knows only of the moments it was told of.
                    prop_assert!(bucket.try_take(0, now));
                    prop_assert!(bucket.try_take(0, now - Duration::from_nanos(nanos)));
                }
                Op::SetRate(rate, burst) => {
                    bucket.set_rate(rate, burst, now);
                    model = Model { level: model.level, rate: rate.into(), burst: burst.into() };
                    model.level = model.level.min(model.burst * NANOS);
                }
            }
            prop_assert_eq!(u64::from(bucket.available(now)), model.level / NANOS);
        }
    }

    #[test]
    fn is_ready_when_it_says_and_not_a_nanosecond_before(
        rate in any::<u32>(),
        burst in any::<u32>(),
        takes in prop::collection::vec((any::<u32>(), any::<u32>()), 1..20),
    ) {
        let mut now = Instant::now();
        let mut bucket = TokenBucket::new(rate, burst, now);
        for (n, wait) in takes {
            match bucket.ready_at(n, now) {
                None => {
                    prop_assert!(n > burst || rate == 0);
                    prop_assert!(!bucket.try_take(n, now));
                    now += Duration::from_nanos(wait.into());
                }
                Some(at) => {
                    prop_assert!(at >= now);
                    if at > now {
                        prop_assert!(!bucket.try_take(n, at - Duration::from_nanos(1)));
                        prop_assert_eq!(bucket.ready_at(n, at - Duration::from_nanos(1)), Some(at));
                    }
                    prop_assert!(bucket.try_take(n, at));
                    now = at;
                }
            }
        }
    }
}

#[test]
fn no_token_is_lost_to_rounding() {
    // Three a second, asked every 7 ms: no interval brings a whole token, and 1/3 s is no whole nanosecond.
    let start = Instant::now();
    let mut bucket = TokenBucket::new(3, 10, start);
    assert!(bucket.try_take(10, start));
    let taken = (1..=1_000_000_u32).filter(|turn| bucket.try_take(1, start + Duration::from_millis(7) * *turn)).count();
    assert_eq!(taken, 21_000, "7000 s at three a second");
}

#[test]
fn the_end_of_time_is_no_overflow() {
    let start = Instant::now();
    let mut bucket = TokenBucket::new(u32::MAX, u32::MAX, start);
    assert!(bucket.try_take(u32::MAX, start));
    let late = start + Duration::from_secs(u32::MAX.into());
    assert_eq!(bucket.available(late), u32::MAX);
    bucket.set_rate(1, u32::MAX, late);
    assert!(bucket.try_take(u32::MAX, late));
    assert_eq!(bucket.ready_at(u32::MAX, late), Some(late + Duration::from_secs(u32::MAX.into())));
}
