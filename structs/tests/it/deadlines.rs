use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use structs::Deadlines;

#[derive(Debug, Clone)]
enum Op {
    Set(u8, Option<u64>),
    Remove(u8),
    PopDue,
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    // Few moments, so that ties and unchanged deadlines are common.
    prop_oneof![
        6 => (0..10_u8, prop::option::weighted(0.8, 0..12_u64)).prop_map(|(key, at)| Op::Set(key, at)),
        1 => (0..10_u8).prop_map(Op::Remove),
        3 => Just(Op::PopDue),
        1 => (0..4_u64).prop_map(Op::Advance),
    ]
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn behaves_as_a_search_for_the_earliest(ops in prop::collection::vec(op(), 1..150)) {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut now = 0;
        let mut queue = Deadlines::new();
        let mut model: BTreeMap<u8, u64> = BTreeMap::new();
        for op in ops {
            let earliest = model.iter().min_by_key(|&(key, seconds)| (*seconds, *key)).map(|(key, s)| (*key, *s));
            match op {
                Op::Set(key, seconds) => {
                    queue.set(key, seconds.map(at));
                    match seconds {
                        Some(seconds) => model.insert(key, seconds),
                        None => model.remove(&key),
                    };
                }
                Op::Remove(key) => prop_assert_eq!(queue.remove(&key), model.remove(&key).map(at)),
                Op::PopDue => {
                    let due = earliest.filter(|&(_, seconds)| seconds <= now).map(|(key, _)| key);
                    prop_assert_eq!(queue.pop_due(at(now)), due);
                    if let Some(key) = due {
                        model.remove(&key);
                    }
                }
                Op::Advance(seconds) => now += seconds,
            }
            let earliest = model.iter().min_by_key(|&(key, seconds)| (*seconds, *key));
            prop_assert_eq!(queue.next(), earliest.map(|(key, seconds)| (at(*seconds), key)));
            prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            for key in 0..10 {
                prop_assert_eq!(queue.get(&key), model.get(&key).copied().map(at));
            }
        }
    }
}

#[test]
fn due_keys_come_by_time_and_then_by_key() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let mut queue = Deadlines::default();
    for (key, at) in [("d", 2), ("b", 1), ("c", 2), ("a", 3), ("e", 1)] {
        queue.set(key, Some(start + second * at));
    }
    let due: Vec<_> = std::iter::from_fn(|| queue.pop_due(start + second * 2)).collect();
    assert_eq!(due, ["b", "e", "c", "d"]);
    assert_eq!(queue.next(), Some((start + second * 3, &"a")));
}
