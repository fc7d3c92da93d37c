use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use dht::{Contact, Inserted, Key, NodeId, Origin, Refusal, Subnets, Table, load, save};

const MIN: Duration = Duration::from_secs(60);

fn table(subnets: Subnets, now: Instant) -> Table {
    Table::new(Key::from_bytes([0; 32]), subnets, now)
}

fn contact(rng: &mut Rng, addr: [u8; 4]) -> Contact {
    Contact { id: NodeId::from_bytes(rng.array()), addr: (addr, 4000).into() }
}

/// A contact of the farthest bucket, in a /24 of its own.
fn far(rng: &mut Rng, number: u8) -> Contact {
    loop {
        let contact = contact(rng, [30, 0, number, 1]);
        if Subnets::Public.key_of(&contact).as_bytes()[0] >= 0x80 {
            return contact;
        }
    }
}

#[test]
fn a_subnet_gets_two_places_in_a_bucket_and_ten_in_the_table() {
    let now = Instant::now();
    for (subnets, addr) in [(Subnets::Public, [9, 9, 9]), (Subnets::All, [10, 0, 0])] {
        let mut rng = Seed::fixed(1).rng();
        let mut table = table(subnets, now);
        let [a, b, c] = addr;
        for _ in 0..5_000 {
            let host = 1 + (rng.next_u32() % 250) as u8;
            let contact = contact(&mut rng, [a, b, c, host]);
            table.on_answer(contact, Origin::Lookup, now);
        }
        let mut per_bucket = [0; 256];
        for node in table.iter() {
            per_bucket[table.own().distance(&node.key).common_bits() as usize] += 1;
        }
        assert!(per_bucket.iter().all(|count| *count <= 2));
        let all = table.len() + table.waiting();
        // Eight beginnings of keys do not reach further than some buckets.
        assert!((4..=10).contains(&all), "{all} of one /24 under {subnets:?}");
    }
    let mut rng = Seed::fixed(1).rng();
    let mut home = table(Subnets::Public, now);
    for n in 0..100 {
        home.on_answer(contact(&mut rng, [192, 168, 0, n]), Origin::Lookup, now);
    }
    assert!(home.len() > 40, "private addresses are exempt");
}

#[test]
fn ten_of_a_subnet_is_the_most_even_if_buckets_would_take_them() {
    let now = Instant::now();
    let mut rng = Seed::fixed(3).rng();
    // Around each of the beginnings of a /24 in turn there is room for more than ten in many buckets.
    let mut refused = 0;
    for _ in 0..12 {
        let own = Subnets::Public.key_of(&contact(&mut rng, [9, 9, 9, 1]));
        let mut table = Table::new(own, Subnets::Public, now);
        for _ in 0..2_000 {
            let contact = contact(&mut rng, [9, 9, 9, 7]);
            let contact = Contact { addr: ([9, 9, 9, 7], 1 + rng.next_u32() as u16 % 60_000).into(), ..contact };
            refused +=
                u32::from(table.on_answer(contact, Origin::Lookup, now) == Inserted::Refused(Refusal::SubnetInTable));
            assert!(table.len() + table.waiting() <= 10);
        }
    }
    assert!(refused > 0);
}

#[test]
fn who_asks_us_is_half_of_the_table_at_most_until_we_find_others() {
    let now = Instant::now();
    let mut rng = Seed::fixed(1).rng();
    let mut table = table(Subnets::Public, now);
    let first = far(&mut rng, 0);
    assert_eq!(table.on_answer(first, Origin::Inbound, now), Inserted::Added, "somebody must be the first");
    assert_eq!(table.on_answer(far(&mut rng, 1), Origin::Inbound, now), Inserted::Refused(Refusal::Inbound));
    assert_eq!(table.on_answer(first, Origin::Lookup, now), Inserted::Known, "found by ourselves, too");
    assert_eq!(table.on_answer(far(&mut rng, 2), Origin::Inbound, now), Inserted::Added);
    assert_eq!(table.on_answer(far(&mut rng, 3), Origin::Inbound, now), Inserted::Added);
    assert_eq!(table.on_answer(far(&mut rng, 4), Origin::Inbound, now), Inserted::Refused(Refusal::Inbound));
}

#[test]
fn old_contacts_that_answer_stay_and_silent_ones_are_replaced() {
    let start = Instant::now();
    let mut rng = Seed::fixed(1).rng();
    let mut table = table(Subnets::Public, start);
    let old: Vec<Contact> = (0..20).map(|n| far(&mut rng, n)).collect();
    old.iter().for_each(|contact| assert_eq!(table.on_answer(*contact, Origin::Lookup, start), Inserted::Added));
    let new: Vec<Contact> = (20..40).map(|n| far(&mut rng, n)).collect();
    for contact in &new {
        assert_eq!(table.on_answer(*contact, Origin::Lookup, start + MIN), Inserted::Waits);
    }
    assert_eq!((table.len(), table.waiting()), (20, 10));

    let silent = old[7];
    assert_eq!(table.on_failure(&silent, start + 2 * MIN), None, "one loss is not death");
    let told = table.closest(&Key::from_bytes([0xff; 32]), 20);
    assert!(told.len() == 19 && !told.contains(&silent), "but nobody is told of it");
    assert_eq!(table.on_failure(&silent, start + 3 * MIN), Some(silent));
    let heir = table.get(&new[19]).expect("the one heard last");
    assert_eq!((heir.failures, table.len(), table.waiting()), (1, 20, 9));
    assert_eq!(table.pop_check(start + 3 * MIN), Some(new[19]), "asked at once");
    assert_eq!(table.pop_check(start + 3 * MIN), None);
    assert_eq!(table.closest(&Key::from_bytes([0xff; 32]), 20).len(), 19, "not told before it answered");
    assert_eq!(table.on_answer(new[19], Origin::Lookup, start + 3 * MIN), Inserted::Known);
    assert_eq!(table.closest(&Key::from_bytes([0xff; 32]), 20).len(), 20);
    assert!(new.iter().rev().skip(1).all(|contact| table.get(contact).is_none()));
}

#[test]
fn those_that_wait_are_tested_before_they_are_needed() {
    let start = Instant::now();
    let mut rng = Seed::fixed(1).rng();
    let mut table = table(Subnets::Public, start);
    assert_eq!(table.next_feeler(), None);
    for contact in (0..20).map(|n| far(&mut rng, n)) {
        assert_eq!(table.on_answer(contact, Origin::Lookup, start), Inserted::Added);
    }
    assert_eq!(table.next_feeler(), None, "nobody waits");
    let [gone, there] = [far(&mut rng, 20), far(&mut rng, 21)];
    assert_eq!(table.on_answer(there, Origin::Lookup, start), Inserted::Waits);
    assert_eq!(table.on_answer(gone, Origin::Lookup, start + MIN / 2), Inserted::Waits);
    assert_eq!((table.next_feeler(), table.pop_feeler(start + MIN)), (Some(start + 2 * MIN), None));
    assert_eq!(table.pop_feeler(start + 2 * MIN), Some((there, Origin::Lookup)), "the one heard longest ago");
    assert_eq!(table.on_answer(there, Origin::Lookup, start + 2 * MIN), Inserted::Waits);
    assert_eq!(table.next_feeler(), Some(start + 4 * MIN), "one at a time");
    assert_eq!(table.pop_feeler(start + 4 * MIN), Some((gone, Origin::Lookup)));
    table.on_failure(&gone, start + 4 * MIN);
    assert_eq!(table.waiting(), 1);
    // So whoever gets a place is there, although it was heard before the one that is gone.
    let silent = table.iter().next().unwrap().contact;
    table.on_failure(&silent, start + 5 * MIN);
    assert_eq!(table.on_failure(&silent, start + 5 * MIN), Some(silent));
    assert!(table.get(&there).is_some());
}

#[test]
fn who_waits_goes_on_waiting_whoever_else_is_there() {
    let start = Instant::now();
    let mut rng = Seed::fixed(1).rng();
    let mut table = table(Subnets::Public, start);
    let mut far_at = |addr| loop {
        let contact = contact(&mut rng, addr);
        let first = Subnets::Public.key_of(&contact).as_bytes()[0];
        if first >= 0x80 {
            return contact;
        }
    };
    let [mut waits, mut other] = [far_at([31, 0, 0, 2]), far_at([32, 0, 0, 1])];
    assert_eq!(table.on_answer(far_at([31, 0, 0, 1]), Origin::Lookup, start), Inserted::Added);
    for n in 1..20 {
        // Half of them came by themselves.
        let origin = if n % 2 == 0 { Origin::Lookup } else { Origin::Inbound };
        assert_eq!(table.on_answer(far_at([30, 0, n, 1]), origin, start), Inserted::Added);
    }
    for contact in [waits, other] {
        assert_eq!(table.on_answer(contact, Origin::Inbound, start), Inserted::Waits);
    }
    let near = loop {
        let contact = contact(&mut rng, [33, 0, 0, 1]);
        if Subnets::Public.key_of(&contact).as_bytes()[0] < 0x80 {
            break contact;
        }
    };
    assert_eq!(table.on_answer(near, Origin::Inbound, start), Inserted::Added);
    // Its subnet and those who came as it did have no room for one more now; but it is there already, even if its port changes.
    let mut now = start;
    for port in 5000..5004 {
        now += 3 * MIN;
        assert_eq!(table.pop_feeler(now), Some((waits, Origin::Inbound)));
        waits.addr.set_port(port);
        assert_eq!(table.on_answer(waits, Origin::Inbound, now), Inserted::Waits);
        now += 3 * MIN;
        assert_eq!(table.pop_feeler(now), Some((other, Origin::Inbound)), "in turn");
        other.addr.set_port(port);
        assert_eq!((table.on_answer(other, Origin::Inbound, now), table.waiting()), (Inserted::Waits, 2));
    }
}

#[test]
fn checks_have_a_schedule_of_their_own() {
    let start = Instant::now();
    let mut rng = Seed::fixed(1).rng();
    let mut table = table(Subnets::Public, start);
    assert_eq!(table.next_check(), None);
    let [a, b] = [far(&mut rng, 1), far(&mut rng, 2)];
    table.on_answer(a, Origin::Lookup, start);
    table.on_answer(b, Origin::Lookup, start + MIN);
    assert_eq!(table.next_check(), Some(start + 15 * MIN));
    assert_eq!(table.pop_check(start + 15 * MIN - Duration::from_nanos(1)), None);
    assert_eq!(table.pop_check(start + 15 * MIN), Some(a));
    assert_eq!(table.next_check(), Some(start + 16 * MIN), "disarmed before the answer");
    // It never answers again, and nobody waits for its place.
    let mut now = start + 15 * MIN;
    let mut pauses = Vec::new();
    for _ in 0..4 {
        assert_eq!(table.on_failure(&a, now), None);
        table.on_answer(b, Origin::Lookup, now);
        let next = table.next_check().expect("two contacts");
        pauses.push((next - now).as_secs());
        now = next;
    }
    assert_eq!(pauses, [30, 60, 120, 240]);
    assert_eq!(table.on_failure(&a, now), Some(a));
    assert_eq!(table.len(), 1);
}

#[test]
fn buckets_without_lookups_are_refreshed() {
    let start = Instant::now();
    let mut rng = Seed::fixed(1).rng();
    let mut table = table(Subnets::Off, start);
    assert_eq!((table.next_refresh(), table.pop_refresh(start, &mut rng)), (None, None));
    for n in 0..100 {
        table.on_answer(contact(&mut rng, [10, 0, 0, n]), Origin::Lookup, start);
    }
    let deepest = table.iter().map(|node| table.own().distance(&node.key).common_bits()).max().unwrap();
    let looked_up = Key::from_bytes([0x40; 32]);
    table.on_lookup(&looked_up, start + 30 * MIN);
    assert_eq!(table.pop_refresh(start + 59 * MIN, &mut rng), None);
    let now = start + 60 * MIN;
    let keys: Vec<Key> = std::iter::from_fn(|| table.pop_refresh(now, &mut rng)).collect();
    let buckets: Vec<u32> = keys.iter().map(|key| table.own().distance(key).common_bits()).collect();
    let expected: Vec<u32> = (0..=deepest).filter(|bucket| *bucket != 1).collect();
    assert_eq!(buckets, expected);
    assert_eq!(table.next_refresh(), Some(start + 90 * MIN));
}

#[test]
fn anchors_are_old_alive_and_apart() {
    let start = Instant::now();
    let mut rng = Seed::fixed(1).rng();
    let mut table = table(Subnets::Public, start);
    let contacts: Vec<Contact> = [[8, 1, 1, 1], [8, 1, 1, 2], [8, 1, 2, 1], [8, 1, 3, 1], [8, 1, 4, 1], [8, 1, 5, 1]]
        .into_iter()
        .map(|addr| contact(&mut rng, addr))
        .collect();
    for (n, contact) in (0..).zip(&contacts) {
        assert_eq!(table.on_answer(*contact, Origin::Lookup, start + n * MIN), Inserted::Added);
    }
    table.on_failure(&contacts[2], start);
    let anchors = table.anchors(4);
    assert_eq!(anchors, [contacts[0], contacts[3], contacts[4], contacts[5]]);
    assert_eq!(load(&save(&anchors)), Ok(anchors));
    assert_eq!(table.anchors(1), [contacts[0]]);
}

#[test]
fn an_address_has_one_key_and_a_key_may_move() {
    let now = Instant::now();
    let mut rng = Seed::fixed(1).rng();
    let mut table = table(Subnets::Public, now);
    let before = contact(&mut rng, [8, 8, 8, 8]);
    let after = contact(&mut rng, [8, 8, 8, 8]);
    table.on_answer(before, Origin::Lookup, now);
    assert_eq!(table.on_answer(after, Origin::Lookup, now), Inserted::Added, "it restarted with a new key");
    assert_eq!((table.get(&before), table.len()), (None, 1));
    let moved = Contact { addr: ([8, 8, 8, 8], 4001).into(), ..after };
    assert_eq!(table.on_answer(moved, Origin::Lookup, now + MIN), Inserted::Known);
    assert_eq!(table.get(&moved).map(|node| node.since), Some(now));
    assert_eq!((table.get(&after), table.len()), (None, 1));
    for addr in ["0.0.0.0:1", "8.8.8.8:0"] {
        let nowhere = Contact { addr: addr.parse().unwrap(), ..after };
        assert_eq!(table.on_answer(nowhere, Origin::Lookup, now), Inserted::Refused(Refusal::Address));
    }
    let mut around = Table::new(Subnets::Public.key_of(&moved), Subnets::Public, now);
    assert_eq!(around.on_answer(moved, Origin::Lookup, now), Inserted::Refused(Refusal::Own));
}

#[test]
fn a_table_moves_with_its_owner() {
    let now = Instant::now();
    let mut rng = Seed::fixed(1).rng();
    let mut table = table(Subnets::Public, now);
    for n in 0..200 {
        table.on_answer(
            contact(&mut rng, [40, n, 1, 1]),
            Origin::Inbound.max(Origin::Lookup),
            now + u32::from(n) * MIN,
        );
    }
    let before: Vec<_> = table.iter().collect();
    let own = Key::from_bytes([0xff; 32]);
    table.recentre(own, now + 300 * MIN);
    assert_eq!(table.own(), own);
    assert!(table.iter().all(|node| before.contains(&node)), "what was known of them is kept");
    let mut bucket: Vec<_> = before.iter().filter(|node| node.key.as_bytes()[0] < 0x80).collect();
    bucket.sort_by_key(|node| node.since);
    let kept: Vec<_> = table.iter().filter(|node| node.key.as_bytes()[0] < 0x80).collect();
    assert_eq!(
        kept.iter().collect::<Vec<_>>(),
        bucket[..20],
        "of the bucket that is the farthest now, the longest known"
    );
    let target = Key::from_bytes([0x77; 32]);
    let mut all: Vec<_> = table.iter().collect();
    all.sort_by_key(|node| node.key.distance(&target));
    assert_eq!(table.closest(&target, 5), all[..5].iter().map(|node| node.contact).collect::<Vec<_>>());
}
