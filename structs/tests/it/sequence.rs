use std::collections::BTreeMap;

use proptest::prelude::*;
use structs::SequenceMap;

proptest! {
    #![proptest_config(crate::cases(300))]
    #[test]
    fn like_a_sorted_map(
        first in prop_oneof![Just(0_u64), Just(1000), Just(u64::MAX - 40)],
        ops in prop::collection::vec((any::<bool>(), 0_u64..40), 1..120),
    ) {
        let (mut map, mut model) = (SequenceMap::new(), BTreeMap::new());
        for (at, (add, number)) in ops.into_iter().enumerate() {
            let number = first + number;
            if add {
                prop_assert_eq!(map.insert(number, at), model.insert(number, at));
            } else {
                prop_assert_eq!(map.remove(number), model.remove(&number));
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert!(map.iter().eq(model.iter().map(|(number, value)| (*number, value))));
            for number in first..first + 40 {
                prop_assert_eq!(map.get(number), model.get(&number));
                prop_assert_eq!(map.get_mut(number).copied(), model.get(&number).copied());
            }
        }
        map.iter_mut().for_each(|(_, value)| *value += 1);
        model.values_mut().for_each(|value| *value += 1);
        prop_assert_eq!(map.into_iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_row_is_found_wherever_gaps_are() {
    for gaps in 0_u32..1 << 8 {
        let map: SequenceMap<u64> = (0..8_u64).filter(|bit| gaps >> bit & 1 == 0).map(|bit| (100 + bit, bit)).collect();
        for number in 98..110_u64 {
            let held = (100..108).contains(&number) && gaps >> (number - 100) & 1 == 0;
            assert_eq!(map.get(number), held.then(|| number - 100).as_ref(), "{number} in {map:?}");
        }
    }
    let far: SequenceMap<()> = [(0, ()), (u64::MAX, ())].into_iter().collect();
    assert_eq!((far.get(7), far.get(u64::MAX), far.len()), (None, Some(&()), 2));
}

#[test]
fn memory_is_for_all_rows_at_once_and_given_back_when_asked_for() {
    let mut map: SequenceMap<u8> = SequenceMap::new();
    assert_eq!(map.capacity(), 0);
    for number in 0..10_000 {
        map.insert(number, 0);
        if number >= 100 {
            assert_eq!(map.remove(number - 100), Some(0));
        }
    }
    assert!(map.len() == 100 && map.capacity() < 300, "{} rows of memory", map.capacity());
    for number in 9_900..10_000 {
        assert_eq!(map.remove(number), Some(0));
    }
    map.shrink_to_fit();
    assert_eq!((map.is_empty(), map.capacity()), (true, 0));
}
