use std::collections::BTreeMap;
use std::time::Duration;

use crypto::{Rng, Seed};
use proptest::prelude::*;
use rand_core::TryRng;

/// The key 00 01 02 .. 1f.
fn counting() -> Rng {
    Seed::from_bytes(std::array::from_fn(|i| i as u8)).rng()
}

/// Bytes 0 to 127 and 256 to 319 of the stream, computed by another program from the definition of ChaCha12.
#[test]
fn the_stream_is_pinned() {
    let mut stream = [0; 320];
    counting().fill(&mut stream);
    let text = data_encoding::HEXLOWER.encode(&stream);
    assert_eq!(
        text[..256],
        *concat!(
            "f231f9ffd17ac65e4405f325d7e940aa4913601fc2be46bce9c3cac3d91a1a36",
            "5940b308c2857c9f29d6e2548528d49a612b1b0ae6765d16e585aefb46368879",
            "6cfa9aa0833b72e0db5c15523dd18346358e0ceb2e1b6448049d30327eee8516",
            "22c65ea358aab7d50d49d2d9151bebc0d9d4261f48cc6c657f8a2b3ce7e08f88",
        )
    );
    assert_eq!(
        text[512..],
        *concat!(
            "a56ae9567476535db047d1da0440e9ade94e5f467f2df0f3316491d53fce2cc0",
            "1f48ff77045d0ee5b50cd511940450536fec7b831c322fd0329960b6d1dc0763",
        )
    );
}

#[test]
fn each_call_takes_the_words_it_says() {
    let mut rng = counting();
    assert_eq!(rng.next_u32(), 0xfff9_31f2);
    assert_eq!(rng.next_u64(), 0x25f3_0544_5ec6_7ad1);
    // Five bytes are two words; three bytes of the second are gone.
    assert_eq!(rng.array::<5>(), [0xd7, 0xe9, 0x40, 0xaa, 0x49]);
    assert_eq!(rng.next_u32(), 0xbc46_bec2);
    assert_eq!(rng.array::<0>(), [0_u8; 0]);
    assert_eq!(rng.array::<3>(), [0xe9, 0xc3, 0xca]);
    // The traits read the same stream.
    let Ok(word) = rng.try_next_u32();
    assert_eq!(word, 0x361a_1ad9);
    let Ok(double) = rng.try_next_u64();
    assert_eq!(double, 0x9f7c_85c2_08b3_4059);
    let mut bytes = [0; 4];
    let Ok(()) = rng.try_fill_bytes(&mut bytes);
    assert_eq!(u32::from_le_bytes(bytes), 0x54e2_d629);
}

#[test]
fn a_rest_anywhere_in_the_stream_changes_nothing() {
    let mut whole = [0; 4 * 300];
    counting().fill(&mut whole);
    for place in 0..300 {
        let mut rng = counting();
        let mut out = vec![0; 4 * place];
        rng.fill(&mut out);
        rng.rest();
        rng.rest();
        while out.len() < whole.len() {
            out.extend(rng.next_u32().to_le_bytes());
            if out.len().is_multiple_of(28) {
                rng.rest();
            }
        }
        assert_eq!(out, whole, "a rest at {place}");
    }
}

#[test]
fn bounded_numbers_are_pinned() {
    let mut rng = counting();
    let drawn = [1, 2, 10, 1000, (1 << 63) + 1, u64::MAX, 0, 3].map(|n| rng.below(n));
    assert_eq!(drawn, [0, 1, 7, 211, 805_787_486_026_306_992, 8_757_309_153_920_058_852, 0, 2]);
}

/// With `n` just above half the range every second draw is rejected: eight numbers take 13 draws here.
#[test]
fn rejected_draws_are_pinned() {
    let mut rng = counting();
    let drawn: [u64; 8] = std::array::from_fn(|_| rng.below((1 << 63) + 1));
    assert_eq!(drawn[0], 6_134_031_247_610_577_570);
    assert_eq!(drawn[7], 7_699_982_374_245_720_849);
    let mut same = counting();
    same.fill(&mut [0; 26 * 4]);
    assert_eq!(rng.next_u32(), same.next_u32());
}

/// Pearson's statistic has 9 degrees of freedom: a fair generator stays below 33.7 in all but one of 10,000 runs, and
/// this run is the same each time.
#[test]
fn bounded_numbers_are_uniform() {
    let mut rng = Seed::fixed(1).rng();
    let mut seen = [0_u32; 10];
    for _ in 0..100_000 {
        seen[rng.below(10) as usize] += 1;
    }
    let statistic: f64 = seen.iter().map(|&n| (f64::from(n) - 10_000.0).powi(2) / 10_000.0).sum();
    assert!(statistic < 33.7, "{seen:?}: {statistic}");
}

#[test]
fn a_shuffle_is_pinned() {
    let mut items: [u8; 16] = std::array::from_fn(|i| i as u8);
    counting().shuffle(&mut items);
    assert_eq!(items, [15, 8, 12, 3, 14, 13, 1, 11, 4, 0, 6, 7, 2, 10, 9, 5]);
}

/// 24 orders, 23 degrees of freedom: below 58 in all but one of 10,000 runs.
#[test]
fn every_order_is_equally_likely() {
    let mut rng = Seed::fixed(2).rng();
    let mut seen = BTreeMap::new();
    for _ in 0..48_000 {
        let mut items = [0, 1, 2, 3];
        rng.shuffle(&mut items);
        *seen.entry(items).or_insert(0_u32) += 1;
    }
    assert_eq!(seen.len(), 24);
    let statistic: f64 = seen.values().map(|&n| (f64::from(n) - 2000.0).powi(2) / 2000.0).sum();
    assert!(statistic < 58.0, "{statistic}");
}

#[test]
fn the_edges_of_durations() {
    let mut rng = counting();
    assert_eq!(rng.duration_below(Duration::ZERO), Duration::ZERO);
    assert_eq!(rng.duration_below(Duration::from_nanos(1)), Duration::ZERO);
    assert!(rng.duration_below(Duration::MAX) < Duration::from_nanos(u64::MAX));
    assert_eq!(format!("{rng:?}"), "Rng { .. }");
}

proptest! {
    #[test]
    fn bounded_numbers_stay_below_the_bound(seed: u64, n in 1_u64..) {
        prop_assert!(Seed::fixed(seed).rng().below(n) < n);
    }

    #[test]
    fn durations_stay_below_the_end(seed: u64, nanos in 1_u64..) {
        let end = Duration::from_nanos(nanos);
        prop_assert!(Seed::fixed(seed).rng().duration_below(end) < end);
    }

    #[test]
    fn a_shuffle_keeps_the_items(seed: u64, mut items: Vec<u8>) {
        let mut shuffled = items.clone();
        Seed::fixed(seed).rng().shuffle(&mut shuffled);
        items.sort_unstable();
        shuffled.sort_unstable();
        prop_assert_eq!(items, shuffled);
    }
}
