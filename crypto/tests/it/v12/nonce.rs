use std::collections::BTreeMap;
use std::time::Duration;

use crypto::Seed;
use crypto::v12::{Nonce, NonceSequence};
use proptest::prelude::*;

/// Some moment of 2025.
const START: Duration = Duration::from_secs(1_750_000_000);

#[test]
fn the_fields_are_big_endian() {
    let nonce = Nonce::new(0x87e6_8e72, 0x0102_0304_0506_0708);
    assert_eq!(nonce.as_bytes(), &[0x87, 0xe6, 0x8e, 0x72, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(format!("{:?}", Nonce::new(0x0a, 7)), "Nonce(0000000a:7)");
}

#[test]
fn a_sequence_counts_from_the_time_under_one_prefix() {
    let mut rng = Seed::fixed(1).rng();
    let prefix = u32::from_be_bytes(Seed::fixed(1).rng().array());
    let mut nonces = NonceSequence::new(START + Duration::from_nanos(5), &mut rng);
    for n in 5..1000 {
        assert_eq!(nonces.next(), Some(Nonce::new(prefix, 1_750_000_000_000_000_000 + n)));
    }
}

#[test]
fn the_counter_ends_and_never_wraps() {
    let last = Duration::from_nanos(u64::MAX - 1);
    let mut nonces = NonceSequence::new(last, &mut Seed::fixed(1).rng());
    assert_eq!(nonces.next().map(|nonce| nonce.counter()), Some(u64::MAX - 1));
    assert_eq!(nonces.next().map(|nonce| nonce.counter()), Some(u64::MAX));
    assert_eq!(nonces.next(), None);
    assert_eq!(nonces.next(), None);
    // A clock beyond the range does not wrap around to old counters either.
    let mut late = NonceSequence::new(Duration::MAX, &mut Seed::fixed(1).rng());
    assert_eq!(late.next().map(|nonce| nonce.counter()), Some(u64::MAX));
    assert_eq!(late.next(), None);
}

/// A node that is started 1000 times and has the SAME prefix each time, so that only the clock separates the runs. It
/// sends a packet per microsecond for as long as it lives, and a run may be as short as a microsecond.
#[test]
fn runs_with_a_rising_clock_never_meet() {
    let mut times = Seed::fixed(3).rng();
    let mut start = START;
    let mut highest = None;
    for _ in 0..1000 {
        let packets = 1 + times.below(1000);
        let mut nonces = NonceSequence::new(start, &mut Seed::fixed(4).rng());
        for _ in 0..packets {
            let counter = nonces.next().map(|nonce| nonce.counter());
            assert!(counter > highest, "{counter:?} was used by an earlier run");
            highest = counter;
        }
        start += Duration::from_micros(packets) + times.duration_below(Duration::from_secs(60));
    }
}

/// The worst clock: it stands at the same moment in each of 1000 runs, and only the prefix separates them. Ranges of
/// counters under one prefix must not meet.
#[test]
fn runs_with_a_stopped_clock_are_separated_by_the_prefix() {
    let mut rng = Seed::fixed(5).rng();
    let mut ranges: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for _ in 0..1000 {
        let mut nonces = NonceSequence::new(START, &mut rng);
        let (first, last) = (nonces.next().unwrap(), nonces.by_ref().nth(998).unwrap());
        assert_eq!(first.prefix(), last.prefix());
        assert_eq!(last.counter() - first.counter(), 999);
        let met = ranges.insert(first.prefix(), (first.counter(), last.counter()));
        assert_eq!(met, None, "two of 1000 runs have the prefix {:08x}", first.prefix());
    }
}

proptest! {
    #[test]
    fn fields_and_bytes_agree(prefix: u32, counter: u64) {
        let nonce = Nonce::new(prefix, counter);
        prop_assert_eq!((nonce.prefix(), nonce.counter()), (prefix, counter));
        prop_assert_eq!(Nonce::from(*nonce.as_bytes()), nonce);
    }
}
