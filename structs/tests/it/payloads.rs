use bytes::Bytes;
use proptest::prelude::*;
use structs::PayloadCache;

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn behaves_as_a_list_in_order_of_insertion(
        max_entries in 0..6_usize,
        max_bytes in 0..60_usize,
        inserts in prop::collection::vec((0..12_u8, 0..40_usize), 1..80),
    ) {
        let mut cache = PayloadCache::new(max_entries, max_bytes);
        let mut model: Vec<(u8, Bytes)> = Vec::new();
        for (turn, (id, size)) in inserts.into_iter().enumerate() {
            let payload = Bytes::from(vec![turn as u8; size]);
            let taken = max_entries > 0 && size <= max_bytes && model.iter().all(|(known, _)| *known != id);
            if taken {
                model.push((id, payload.clone()));
                while model.len() > max_entries || model.iter().map(|(_, held)| held.len()).sum::<usize>() > max_bytes {
                    model.remove(0);
                }
            }
            prop_assert_eq!(cache.insert(id, payload), taken);
            for id in 0..12 {
                let held = model.iter().find(|(known, _)| *known == id).map(|(_, held)| held);
                prop_assert_eq!(cache.get(&id), held);
                prop_assert_eq!(cache.contains(&id), held.is_some());
            }
            prop_assert!(cache.ids().eq(model.iter().map(|(id, _)| id)));
            prop_assert_eq!((cache.len(), cache.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!(cache.bytes(), model.iter().map(|(_, held)| held.len()).sum::<usize>());
        }
        cache.clear();
        prop_assert_eq!((cache.len(), cache.bytes(), cache.ids().count()), (0, 0, 0));
    }
}

#[test]
fn one_large_payload_displaces_many_small_ones() {
    let mut cache = PayloadCache::new(usize::MAX, 10_000);
    for id in 0..10_000_u32 {
        assert!(cache.insert(id, Bytes::from_static(b".")));
    }
    assert!(cache.insert(10_000, Bytes::from(vec![0; 9_998])));
    assert_eq!(cache.ids().copied().collect::<Vec<_>>(), [9_998, 9_999, 10_000]);
    assert!(cache.insert(10_001, Bytes::new()));
    assert!(cache.ids().all(|id| cache.contains(id)));
}

#[test]
fn payloads_are_shared_and_not_copied() {
    let mut cache = PayloadCache::new(1, 10);
    let payload = Bytes::from(b"payload".to_vec());
    cache.insert("id".to_owned(), payload.clone());
    assert_eq!(cache.get("id").unwrap().as_ptr(), payload.as_ptr());
}
