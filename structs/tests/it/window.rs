use std::collections::BTreeSet;

use proptest::prelude::*;
use structs::{SlidingWindow, Verdict};

/// Everything that was ever accepted.
struct Model {
    span: u64,
    accepted: BTreeSet<u64>,
}

impl Model {
    fn check(&self, n: u64) -> Verdict {
        match self.accepted.last() {
            Some(highest) if highest.saturating_sub(n) >= self.span => Verdict::TooOld,
            _ if self.accepted.contains(&n) => Verdict::Seen,
            _ => Verdict::Fresh,
        }
    }
}

fn run<const WORDS: usize>(start: u64, steps: &[i64]) -> Result<(), TestCaseError> {
    let mut window = SlidingWindow::<WORDS>::new();
    let mut model = Model { span: 64 * WORDS as u64, accepted: BTreeSet::new() };
    let mut n = start;
    for step in steps {
        n = n.saturating_add_signed(*step);
        let verdict = model.check(n);
        prop_assert_eq!(window.check(n), verdict, "of {} after {:?}", n, window.highest());
        prop_assert_eq!(window.accept(n), verdict == Verdict::Fresh);
        if verdict == Verdict::Fresh {
            model.accepted.insert(n);
        }
        prop_assert_eq!(window.highest(), model.accepted.last().copied());
        // The edges of the window and of its words, where an off-by-one would be.
        let highest = window.highest().unwrap_or(n);
        for near in [highest.saturating_sub(model.span), highest & !63, n & !63, n | 63] {
            for n in [near.saturating_sub(1), near, near.saturating_add(1)] {
                prop_assert_eq!(window.check(n), model.check(n), "of {} after {:?}", n, window.highest());
            }
        }
    }
    for back in 0..=model.span + 1 {
        let n = window.highest().unwrap_or(0).saturating_sub(back);
        prop_assert_eq!(window.check(n), model.check(n));
    }
    window.reset();
    prop_assert_eq!((window.highest(), window.check(start)), (None, Verdict::Fresh));
    Ok(())
}

fn step() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => -3..6_i64,
        3 => -150..200_i64,
        2 => -1100..1300_i64,
        1 => Just(i64::MAX),
    ]
}

fn start() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, any::<u64>(), u64::MAX - 3000..=u64::MAX]
}

proptest! {
    #![proptest_config(super::cases(128))]

    #[test]
    fn one_word_behaves_as_a_set(start in start(), steps in prop::collection::vec(step(), 1..150)) {
        run::<1>(start, &steps)?;
    }

    #[test]
    fn three_words_behave_as_a_set(start in start(), steps in prop::collection::vec(step(), 1..150)) {
        run::<3>(start, &steps)?;
    }

    #[test]
    fn the_default_behaves_as_a_set(start in start(), steps in prop::collection::vec(step(), 1..150)) {
        run::<16>(start, &steps)?;
    }
}

#[test]
fn every_order_of_a_full_window_is_accepted_once() {
    let mut window: SlidingWindow = SlidingWindow::default();
    assert_eq!(SlidingWindow::<16>::SPAN, 1024);
    assert!(window.accept(1023));
    // 389 is prime to 1024, so this visits every number once.
    let order = (0..1024_u64).map(|turn| turn * 389 % 1024);
    assert_eq!(order.clone().filter(|n| window.accept(*n)).count(), 1023);
    assert!(order.clone().all(|n| window.check(n) == Verdict::Seen));
    assert!(window.accept(1024));
    assert_eq!((window.check(0), window.check(1)), (Verdict::TooOld, Verdict::Seen));
}

#[test]
fn the_last_number_of_all() {
    let mut window = SlidingWindow::<2>::new();
    assert!(window.accept(u64::MAX - 1));
    assert!(window.accept(u64::MAX));
    assert!(!window.accept(u64::MAX));
    assert_eq!(window.check(u64::MAX - 127), Verdict::Fresh);
    assert_eq!(window.check(u64::MAX - 128), Verdict::TooOld);
}
