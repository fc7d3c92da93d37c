use std::collections::VecDeque;

use proptest::prelude::*;
use structs::Ring;

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn behaves_as_a_bounded_queue(capacity in 0..40_usize, ops in prop::collection::vec(0..10_u8, 1..200)) {
        let mut ring = Ring::new(capacity);
        let mut model = VecDeque::new();
        for (item, op) in ops.into_iter().enumerate() {
            match op {
                0..4 if model.len() < capacity => {
                    prop_assert_eq!(ring.push(item), Ok(()));
                    model.push_back(item);
                }
                0..4 => prop_assert_eq!(ring.push(item), Err(item)),
                4..6 => {
                    model.push_back(item);
                    let oldest = if model.len() > capacity { model.pop_front() } else { None };
                    prop_assert_eq!(ring.push_overwrite(item), oldest);
                }
                6..9 => prop_assert_eq!(ring.pop(), model.pop_front()),
                _ => {
                    prop_assert_eq!(ring.front_mut().map(|front| std::mem::replace(front, item)), model.front().copied());
                    if let Some(front) = model.front_mut() {
                        *front = item;
                    }
                }
            }
            prop_assert_eq!(ring.front(), model.front());
            prop_assert!(ring.iter().eq(&model));
            prop_assert_eq!(ring.len(), model.len());
            prop_assert_eq!(ring.is_empty(), model.is_empty());
            prop_assert_eq!(ring.is_full(), model.len() == capacity);
            prop_assert!(ring.len() <= ring.allocated() && ring.allocated() <= capacity);
        }
    }
}

#[test]
fn memory_follows_the_content() {
    let mut ring = Ring::new(1_000_000);
    assert_eq!(ring.allocated(), 0);
    for item in 0..10_000 {
        ring.push(item).unwrap();
        assert!(ring.allocated() <= (2 * ring.len()).max(4));
    }
    while ring.pop().is_some() {
        assert!(ring.allocated() <= (4 * ring.len()).max(16) + 4, "{} for {}", ring.allocated(), ring.len());
    }
    ring.push(1).unwrap();
    ring.clear();
    assert_eq!((ring.len(), ring.allocated(), ring.capacity()), (0, 0, 1_000_000));
}

#[test]
fn counts_items_without_a_size() {
    let mut ring = Ring::new(2);
    assert_eq!((ring.push(()), ring.push(()), ring.push(())), (Ok(()), Ok(()), Err(())));
    assert_eq!((ring.pop(), ring.pop(), ring.pop()), (Some(()), Some(()), None));
    assert!(ring.allocated() <= 2);
}
