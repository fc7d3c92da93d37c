use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;
use structs::RangeSet;

/// The runs of a set of numbers.
fn runs(model: &BTreeSet<u64>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &n in model {
        match runs.last_mut() {
            Some(last) if last.end == n => last.end = n + 1,
            _ => runs.push(n..n + 1),
        }
    }
    runs
}

proptest! {
    #![proptest_config(crate::cases(300))]
    #[test]
    fn like_a_set_of_numbers(ops in prop::collection::vec((any::<bool>(), 0_u64..60, 0_u64..12), 1..80)) {
        let (mut set, mut model) = (RangeSet::new(), BTreeSet::new());
        for (add, start, len) in ops {
            let range = start..start + len;
            let before = model.len();
            if add {
                model.extend(range.clone());
                prop_assert_eq!(set.insert(range.clone()), model.len() > before);
                prop_assert!(set.covers(range));
            } else {
                range.clone().for_each(|n| { model.remove(&n); });
                prop_assert_eq!(set.remove(range), model.len() < before);
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), runs(&model));
            prop_assert!((0..80).all(|n| set.contains(n) == model.contains(&n)));
            prop_assert_eq!(set.covers(10..15), (10..15).all(|n| model.contains(&n)));
            prop_assert_eq!(set.first(), runs(&model).first().cloned());
            prop_assert_eq!(set.last(), runs(&model).last().cloned());
        }
        let all = runs(&model);
        let popped: Vec<_> = std::iter::from_fn(|| set.pop_first()).collect();
        prop_assert_eq!(popped, all);
        prop_assert!(set.is_empty());
    }
}

#[test]
fn the_ends_of_the_number_line() {
    let mut set = RangeSet::new();
    assert!(set.insert(u64::MAX - 1..u64::MAX));
    assert!(set.insert(0..1));
    assert!(!set.insert(5..5));
    assert_eq!(set.len(), 2);
    assert!(set.remove(0..u64::MAX));
    assert!(set.is_empty() && set.covers(3..3) && !set.covers(3..4));
}
