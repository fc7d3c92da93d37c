use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use structs::RotatingFilter;

const PERIOD: Duration = Duration::from_secs(60);

/// A seed with equal halves is the weakest there is: both hash functions must differ even so.
const SEED: [u8; 32] = [7; 32];

fn filter(expected: usize, rate: f64) -> RotatingFilter {
    RotatingFilter::new(NonZeroUsize::new(expected).unwrap(), SEED).period(PERIOD).false_positive_rate(rate)
}

/// Inserts numbers from `from` on until `count` of them were new, and returns the next one.
fn fill(filter: &mut RotatingFilter, from: u64, count: usize, now: Instant) -> u64 {
    let mut next = from;
    let mut new = 0;
    while new < count {
        new += usize::from(!filter.seen(&next.to_be_bytes(), now));
        next += 1;
    }
    next
}

proptest! {
    #![proptest_config(super::cases(64))]

    #[test]
    fn remembers_for_one_period_and_forgets_after_two(
        steps in prop::collection::vec((0..30_u8, 0..25_u64), 1..150),
    ) {
        let mut now = Instant::now();
        let mut filter = filter(1000, 1e-9);
        let mut first_seen: BTreeMap<u8, Instant> = BTreeMap::new();
        for (key, pause) in steps {
            now += Duration::from_secs(pause);
            let contained = filter.contains(&[key], now);
            let seen = filter.seen(&[key], now);
            prop_assert_eq!(contained, seen);
            prop_assert!(filter.next_rotation().is_some_and(|at| at > now));
            prop_assert!(filter.contains(&[key], now));
            match first_seen.get(&key).map(|first| now - *first) {
                Some(age) if age < PERIOD => prop_assert!(seen, "forgotten after {:?}", age),
                Some(age) if age >= PERIOD * 2 => prop_assert!(!seen, "remembered for {:?}", age),
                Some(_) => {} // depends on when in its half the key came
                None => prop_assert!(!seen),
            }
            if !seen {
                first_seen.insert(key, now);
            }
        }
        prop_assert_eq!(filter.early_rotations(), 0);
    }

    #[test]
    fn a_flood_shortens_the_horizon_to_the_capacity(
        expected in 1..80_usize,
        keys in prop::collection::vec(0..1000_u16, 1..500),
    ) {
        let now = Instant::now();
        let mut filter = filter(expected, 0.1);
        let capacity = filter.capacity();
        prop_assert!((30..80).contains(&capacity) && capacity >= expected);
        let mut new: Vec<u16> = Vec::new();
        for key in keys {
            let recent = new.iter().rev().take(capacity).any(|known| *known == key);
            let seen = filter.seen(&key.to_be_bytes(), now);
            prop_assert!(seen || !recent);
            if !seen {
                new.push(key);
            }
            prop_assert!(filter.len() <= 2 * capacity);
        }
        prop_assert_eq!(filter.early_rotations(), (new.len() as u64 - 1) / capacity as u64);
    }
}

#[test]
fn the_false_positive_rate_is_as_stated_when_both_halves_are_full() {
    const ASKED: u32 = 100_000;
    for (expected, rate) in [(1, 0.1), (1, 0.01), (1, 0.001), (500, 0.01), (1000, 0.001), (5000, 0.01)] {
        let start = Instant::now();
        let mut filter = filter(expected, rate);
        let capacity = filter.capacity();
        let next = fill(&mut filter, 0, capacity, start);
        let next = fill(&mut filter, next, capacity, start + PERIOD);
        assert_eq!((filter.len(), filter.early_rotations()), (2 * capacity, 0));
        let wrong = (next..).take(ASKED as usize).filter(|n| filter.contains(&n.to_be_bytes(), start + PERIOD)).count();
        let measured = wrong as f64 / f64::from(ASKED);
        // Three standard deviations of the measurement; the lower bound keeps the filter from being wastefully large.
        let noise = 3.0 * (rate / f64::from(ASKED)).sqrt();
        assert!(measured <= rate + noise, "{measured} for {rate} with {capacity} keys");
        assert!(measured >= rate / 2.0 - noise, "{measured} for {rate} with {capacity} keys");
    }
}

#[test]
fn the_rate_holds_through_a_flood() {
    let now = Instant::now();
    let mut filter = filter(500, 0.01);
    let mut wrong = 0;
    for n in 0..50_000_u64 {
        wrong += usize::from(filter.seen(&n.to_be_bytes(), now));
    }
    assert!(wrong <= 500, "{wrong} of 50000 new keys were taken for known ones");
    assert!(filter.early_rotations() >= 98);
}

#[test]
fn a_mistake_does_not_repeat_after_a_rotation() {
    let start = Instant::now();
    let mut filter = filter(500, 0.1);
    let next = fill(&mut filter, 0, 500, start);
    let mistaken: Vec<_> = (next..next + 20_000).filter(|n| filter.contains(&n.to_be_bytes(), start)).collect();
    assert!(mistaken.len() > 500);
    // The same keys again, in a half with other hash keys.
    let later = start + PERIOD * 2;
    fill(&mut filter, 0, 500, later);
    let again = mistaken.iter().filter(|n| filter.contains(&n.to_be_bytes(), later)).count();
    assert!(again * 10 <= mistaken.len(), "{again} of {} again", mistaken.len());
}

#[test]
fn an_idle_filter_holds_no_memory() {
    let start = Instant::now();
    let mut filter = filter(10_000, 0.0001);
    assert_eq!((filter.memory_bytes(), filter.next_rotation()), (0, None));
    filter.seen(b"key", start);
    let half = filter.memory_bytes();
    assert!((26_000..26_400).contains(&half), "{half} bytes for 10,000 keys at 20.9 bits");

    filter.rotate(start + PERIOD);
    assert_eq!((filter.memory_bytes(), filter.len()), (half, 1));
    assert_eq!(filter.next_rotation(), Some(start + PERIOD * 2));
    filter.rotate(start + PERIOD * 2);
    assert_eq!((filter.memory_bytes(), filter.next_rotation()), (0, None));
    assert!(filter.is_empty());

    filter.seen(b"key", start + PERIOD * 10);
    assert_eq!(filter.next_rotation(), Some(start + PERIOD * 11));
    filter.rotate(start + PERIOD * 12);
    assert_eq!(filter.memory_bytes(), 0, "two periods at once");
}

#[test]
fn other_seeds_make_other_mistakes() {
    let now = Instant::now();
    let mistakes = |seed| {
        let mut filter = RotatingFilter::new(NonZeroUsize::new(100).unwrap(), seed).false_positive_rate(0.1);
        fill(&mut filter, 0, 100, now);
        (1000..2000_u64).filter(|n| filter.contains(&n.to_be_bytes(), now)).collect::<Vec<_>>()
    };
    let mut other = SEED;
    other[0] ^= 1;
    assert_eq!(mistakes(SEED), mistakes(SEED));
    assert_ne!(mistakes(SEED), mistakes(other));
}

#[test]
fn any_rate_is_brought_into_range() {
    let now = Instant::now();
    for rate in [f64::NAN, -1.0, 0.0, 1.0, f64::INFINITY] {
        let mut filter = filter(1, rate).period(Duration::ZERO);
        assert!(!filter.seen(b"key", now), "with {rate}");
        assert!(filter.seen(b"key", now), "with {rate}");
    }
}
