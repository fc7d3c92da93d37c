use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use structs::{Inserted, Lru, TooHeavy};

const MAX_ENTRIES: usize = 5;
const MAX_WEIGHT: u64 = 100;
const TIME_TO_LIVE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
enum Op {
    Insert(u8, u32, u64),
    Get(u8),
    GetMut(u8, u32),
    Peek(u8),
    Remove(u8),
    PopOldest,
    RemoveExpired,
    Advance(u64),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..8_u8;
    prop_oneof![
        8 => (key.clone(), any::<u32>(), 0..120_u64).prop_map(|(key, value, weight)| Op::Insert(key, value, weight)),
        4 => key.clone().prop_map(Op::Get),
        2 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Op::GetMut(key, value)),
        2 => key.clone().prop_map(Op::Peek),
        1 => key.prop_map(Op::Remove),
        1 => Just(Op::PopOldest),
        1 => Just(Op::RemoveExpired),
        3 => (0..40_u64).prop_map(Op::Advance),
        1 => Just(Op::Clear),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Row {
    key: u8,
    value: u32,
    weight: u64,
    inserted: Instant,
}

impl Row {
    fn expired(&self, now: Instant) -> bool {
        now - self.inserted >= TIME_TO_LIVE
    }
}

/// The rows in the order of their use, most recent last.
#[derive(Default)]
struct Model(Vec<Row>);

impl Model {
    fn take(&mut self, key: u8) -> Option<Row> {
        let at = self.0.iter().position(|row| row.key == key)?;
        Some(self.0.remove(at))
    }

    fn use_key(&mut self, key: u8, now: Instant) -> Option<&mut Row> {
        let row = self.take(key)?;
        if row.expired(now) {
            return None;
        }
        self.0.push(row);
        self.0.last_mut()
    }

    fn weight(&self) -> u64 {
        self.0.iter().map(|row| row.weight).sum()
    }

    fn insert(&mut self, row: Row) -> Result<Inserted<u8, u32>, TooHeavy> {
        if row.weight > MAX_WEIGHT {
            return Err(TooHeavy { weight: row.weight, max: MAX_WEIGHT });
        }
        let replaced = self.take(row.key).map(|old| old.value);
        self.0.push(row);
        let mut evicted = Vec::new();
        while self.0.len() > MAX_ENTRIES || self.weight() > MAX_WEIGHT {
            let oldest = self.0.remove(0);
            evicted.push((oldest.key, oldest.value));
        }
        Ok(Inserted { replaced, evicted })
    }
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn behaves_as_a_list_in_order_of_use(ops in prop::collection::vec(op(), 1..120)) {
        let mut now = Instant::now();
        let mut model = Model::default();
        let mut lru = Lru::new(NonZeroUsize::new(MAX_ENTRIES).unwrap())
            .max_weight(MAX_WEIGHT)
            .time_to_live(TIME_TO_LIVE);
        for op in ops {
            match op {
                Op::Insert(key, value, weight) => prop_assert_eq!(
                    lru.insert(key, value, weight, now),
                    model.insert(Row { key, value, weight, inserted: now })
                ),
                Op::Get(key) => {
                    prop_assert_eq!(lru.get(&key, now), model.use_key(key, now).map(|row| &row.value));
                }
                Op::GetMut(key, value) => {
                    let old = model.use_key(key, now).map(|row| std::mem::replace(&mut row.value, value));
                    prop_assert_eq!(lru.get_mut(&key, now).map(|slot| std::mem::replace(slot, value)), old);
                }
                Op::Peek(key) => {
                    let row = model.0.iter().find(|row| row.key == key && !row.expired(now));
                    prop_assert_eq!(lru.peek(&key, now), row.map(|row| &row.value));
                    prop_assert_eq!(lru.contains(&key, now), row.is_some());
                }
                Op::Remove(key) => prop_assert_eq!(lru.remove(&key), model.take(key).map(|row| row.value)),
                Op::PopOldest => {
                    let oldest = (!model.0.is_empty()).then(|| model.0.remove(0));
                    prop_assert_eq!(lru.pop_oldest(), oldest.map(|row| (row.key, row.value)));
                }
                Op::RemoveExpired => {
                    let before = model.0.len();
                    model.0.retain(|row| !row.expired(now));
                    prop_assert_eq!(lru.remove_expired(now), before - model.0.len());
                }
                Op::Advance(millis) => now += Duration::from_millis(millis),
                Op::Clear => {
                    lru.clear();
                    model.0.clear();
                }
            }
            let expected: Vec<_> = model.0.iter().rev().map(|row| (row.key, row.value)).collect();
            prop_assert_eq!(lru.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>(), expected);
            prop_assert_eq!(lru.len(), model.0.len());
            prop_assert_eq!(lru.is_empty(), model.0.is_empty());
            prop_assert_eq!(lru.weight(), model.weight());
            prop_assert!(lru.len() <= MAX_ENTRIES && lru.weight() <= MAX_WEIGHT);
        }
    }
}

#[test]
fn too_heavy_an_entry_leaves_the_former_one() {
    let now = Instant::now();
    let mut lru = Lru::new(NonZeroUsize::MIN).max_weight(10);
    lru.insert("key".to_owned(), 1, 10, now).unwrap();
    let refused = lru.insert("key".to_owned(), 2, 11, now).unwrap_err();
    assert_eq!(refused, TooHeavy { weight: 11, max: 10 });
    assert_eq!(refused.to_string(), "weight 11 exceeds the bound of 10");
    assert_eq!((lru.peek("key", now), lru.weight()), (Some(&1), 10), "keys are looked up borrowed");
}

#[test]
fn weights_up_to_the_largest_number() {
    let now = Instant::now();
    let mut lru = Lru::new(NonZeroUsize::MAX);
    lru.insert(1, (), u64::MAX, now).unwrap();
    lru.insert(1, (), u64::MAX, now).unwrap();
    assert_eq!(lru.insert(2, (), 1, now).unwrap().evicted, [(1, ())]);
    assert_eq!(lru.weight(), 1);
}

#[test]
fn survives_the_shrinking_of_its_table() {
    let now = Instant::now();
    let mut lru = Lru::new(NonZeroUsize::MAX);
    for burst in [1000, 300] {
        for key in 0..burst {
            lru.insert(key, key, 1, now).unwrap();
        }
        for oldest in 0..burst - 3 {
            assert_eq!(lru.pop_oldest(), Some((oldest, oldest)));
        }
        let left: Vec<_> = lru.iter().map(|(key, _)| *key).collect();
        assert_eq!(left, [burst - 1, burst - 2, burst - 3]);
        assert!(left.iter().all(|key| lru.get(key, now).is_some()));
        lru.clear();
    }
}

#[test]
fn a_clock_that_goes_back_expires_nothing() {
    let start = Instant::now();
    let mut lru = Lru::new(NonZeroUsize::MIN).time_to_live(TIME_TO_LIVE);
    lru.insert(1, (), 0, start + TIME_TO_LIVE * 3).unwrap();
    assert!(lru.contains(&1, start));
    assert_eq!(lru.remove_expired(start), 0);
}
