//! What is kept, for how long, and of whom how much.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::{Identity, Seed};
use dht::store::Shown;
use dht::{Announcement, Item, Key, Kind, Refused, SignedValue, Store, Subnets};

const KEY: Key = Key::from_bytes([1; 32]);
const HOUR: Duration = Duration::from_hours(1);

fn store() -> Store {
    Store::new(Subnets::Public, &Seed::fixed(1))
}

fn identity(number: u32) -> Identity {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Identity::from_seed(seed)
}

/// An address in the subnet with this number.
fn ip(subnet: u32, host: u8) -> IpAddr {
    let [_, _, b, c] = subnet.to_be_bytes();
    Ipv4Addr::new(20, b, c, host).into()
}

fn shown(from: IpAddr) -> Shown {
    Shown { from, extra: 0, unix: crate::NOON }
}

fn announced(number: u32, unix: Duration) -> Arc<[u8]> {
    Announcement::sign(&identity(number), KEY, unix, 2 * HOUR, &[], &[]).unwrap().as_bytes().clone()
}

fn signed(sequence: u64, value: &[u8]) -> Item {
    Item::Signed(SignedValue::sign(&identity(1), b"", sequence, value).unwrap())
}

#[test]
fn everything_ends() {
    let now = Instant::now();
    let mut store = store();
    let from = shown(ip(1, 1));
    assert_eq!(store.announce(KEY, &announced(1, crate::NOON), from, now), Ok(2 * HOUR));
    // Signed an hour ago, it has an hour left.
    assert_eq!(store.announce(KEY, &announced(2, crate::NOON - HOUR), from, now), Ok(HOUR));
    assert_eq!(store.announce(KEY, &announced(3, crate::NOON - 2 * HOUR), from, now), Err(Refused::Time));
    assert_eq!(
        store.announce(KEY, &announced(3, crate::NOON + Duration::from_mins(11)), from, now),
        Err(Refused::Time)
    );
    let put = |store: &mut Store, value: &'static [u8], extra| {
        store.put(Kind::Value, &Arc::from(value), Shown { extra, ..from }, now)
    };
    assert_eq!(put(&mut store, b"a", 0), Ok(24 * HOUR));
    assert_eq!(put(&mut store, b"b", 1), Ok(12 * HOUR), "halved for each closer node");
    assert_eq!(put(&mut store, b"c", 3), Ok(3 * HOUR));
    assert_eq!(put(&mut store, b"d", 99), Ok(24 * HOUR / 64));
    assert_eq!((store.len(), store.announcements()), (6, 2));
    let mut left = Vec::new();
    while let Some(end) = store.next_end() {
        store.expire(end - Duration::from_nanos(1));
        let before = store.len();
        store.expire(end);
        left.push((end - now, before - store.len()));
    }
    let ends = [24 * HOUR / 64, HOUR, 2 * HOUR, 3 * HOUR, 12 * HOUR, 24 * HOUR];
    assert_eq!(left, ends.map(|end| (end, 1)));
    assert_eq!((store.len(), store.bytes(), store.announcements()), (0, 0, 0));
}

#[test]
fn nothing_goes_back() {
    let now = Instant::now();
    let mut store = store();
    let from = shown(ip(1, 1));
    let key = signed(1, b"").key();
    let mut put = |item: &Item| store.put(Kind::Signed, &item.to_bytes(), from, now);
    assert_eq!(put(&signed(5, b"five")), Ok(24 * HOUR));
    assert_eq!(put(&signed(5, b"five")), Ok(24 * HOUR), "again");
    assert_eq!(put(&signed(5, b"other")), Err(Refused::Conflict));
    assert_eq!(put(&signed(4, b"four")), Err(Refused::Older));
    assert_eq!(put(&signed(6, b"six")), Ok(24 * HOUR));
    assert_eq!(store.get(Kind::Signed, &key), Some(&signed(6, b"six").to_answer()));
    assert_eq!((store.get(Kind::Value, &key), store.len()), (None, 1));

    let mut announce = |unix| store.announce(KEY, &announced(1, unix), from, now);
    let second = Duration::from_secs(1);
    assert!(announce(crate::NOON).is_ok() && announce(crate::NOON + second).is_ok());
    assert_eq!(announce(crate::NOON), Err(Refused::Older));
    let other = Announcement::sign(&identity(1), KEY, crate::NOON + second, HOUR, &[], &[]).unwrap();
    assert_eq!(store.announce(KEY, other.as_bytes(), from, now), Err(Refused::Conflict));
    assert_eq!(store.announcements(), 1);
}

#[test]
fn forgeries_and_monsters_are_refused() {
    let now = Instant::now();
    let mut store = store();
    let from = shown(ip(1, 1));
    let bytes = announced(1, crate::NOON);
    assert_eq!(store.announce(Key::from_bytes([2; 32]), &bytes, from, now), Err(Refused::Signature));
    assert_eq!(store.announce(KEY, &Arc::from([0; 401]), from, now), Err(Refused::Limit));
    assert_eq!(store.announce(KEY, &Arc::from([0; 10]), from, now), Err(Refused::Limit));
    let good = signed(1, b"value").to_bytes();
    for at in 0..good.len() {
        let mut changed = good.to_vec();
        changed[at] ^= 1;
        let refused = store.put(Kind::Signed, &changed.into(), from, now);
        assert!(matches!(refused, Err(Refused::Signature | Refused::Limit)), "byte {at}: {refused:?}");
        assert!(store.put(Kind::Signed, &good[..at].into(), from, now).is_err());
    }
    assert_eq!(store.put(Kind::Value, &Arc::from([0; 1001]), from, now), Err(Refused::Limit));
    assert_eq!(store.put(Kind::Peer, &Arc::from([0; 200]), from, now), Err(Refused::Limit));
    let record = framing::record::Record { sequence: 1, expires: crate::NOON + HOUR, ..Default::default() };
    let record = record.sign(&identity(1)).unwrap();
    let mut peer = |unix| store.put(Kind::Peer, &record.as_bytes().into(), Shown { unix, ..from }, now);
    assert_eq!(peer(crate::NOON + HOUR), Err(Refused::Time));
    assert_eq!(peer(crate::NOON), Ok(HOUR), "not beyond its end");
    let mut forged = record.as_bytes().to_vec();
    forged[40] ^= 1; // of its sequence
    assert_eq!(store.put(Kind::Peer, &forged.into(), from, now), Err(Refused::Signature));
    assert_eq!(store.len(), 1);
}

#[test]
fn one_signer_address_and_subnet_have_their_share() {
    let now = Instant::now();
    let mut values = 0_u32;
    let mut put = |store: &mut Store, from| {
        values += 1;
        store.put(Kind::Value, &Arc::from(values.to_be_bytes()), shown(from), now).map(drop)
    };
    let mut all = store();
    for host in 1..=4 {
        (0..64).for_each(|_| assert_eq!(put(&mut all, ip(1, host)), Ok(())));
        assert_eq!(put(&mut all, ip(1, host)), Err(Refused::Quota), "of the address");
    }
    assert_eq!(put(&mut all, ip(1, 5)), Err(Refused::Quota), "of the subnet");
    assert_eq!(put(&mut all, ip(2, 1)), Ok(()));
    let home = "192.168.0.1".parse().unwrap();
    (0..300).for_each(|_| assert_eq!(put(&mut all, home), Ok(()), "addresses at home do not count"));

    let mut store = store();
    for salt in 0..=64_u8 {
        let signed = Item::Signed(SignedValue::sign(&identity(1), &[salt], 1, b"").unwrap());
        let kept = store.put(Kind::Signed, &signed.to_bytes(), shown(ip(salt.into(), 1)), now);
        assert_eq!(kept.is_ok(), salt < 64, "of the signer");
    }
    // One of the same place is no further one.
    let newer = Item::Signed(SignedValue::sign(&identity(1), &[0], 2, b"").unwrap());
    assert!(store.put(Kind::Signed, &newer.to_bytes(), shown(ip(0, 1)), now).is_ok());
}

#[test]
fn a_flood_from_few_networks_displaces_itself() {
    let now = Instant::now();
    let mut store = store();
    let put = |store: &mut Store, number: u32, subnet: u32, host: u8| {
        let mut value = [0; 1000];
        value[..4].copy_from_slice(&number.to_be_bytes());
        store.put(Kind::Value, &Arc::from(value), shown(ip(subnet, host)), now)
    };
    let honest = put(&mut store, 0, 60_000, 1);
    assert!(honest.is_ok());
    let mut refused = 0;
    for number in 1..48_000 {
        let (subnet, host) = (number / 256, u8::try_from(number % 256 / 64).unwrap() + 1);
        refused += u32::from(put(&mut store, number, subnet, host) == Err(Refused::Full));
        assert!(store.bytes() <= 64 << 20 && store.len() <= 50_000);
    }
    assert!(store.bytes() > 63 << 20 && refused < 200, "{refused} refused: they displace each other");
    for number in 50_000..50_064 {
        assert!(put(&mut store, number, 60_001, 1).is_ok(), "there is room for a subnet with few records");
    }
    let mut first = [0; 1000];
    first[..4].fill(0);
    assert!(store.get(Kind::Value, &Item::Value(Arc::from(first)).key()).is_some(), "and it stays");
}

#[test]
fn a_full_topic_keeps_the_fresh_and_the_diverse() {
    let now = Instant::now();
    let announce = |store: &mut Store, number, subnet, unix, now| {
        let shown = Shown { unix, ..shown(ip(subnet, 1)) };
        store.announce(KEY, &announced(number, unix), shown, now).map(drop)
    };
    let mut crowded = store();
    for number in 0..256 {
        assert_eq!(announce(&mut crowded, number, number / 8, crate::NOON, now), Ok(()));
    }
    assert_eq!(announce(&mut crowded, 256, 0, crate::NOON, now), Err(Refused::Quota), "8 of a subnet");
    assert_eq!(announce(&mut crowded, 256, 100, crate::NOON, now), Ok(()), "a new subnet displaces one of a crowd");
    assert_eq!(crowded.announcements(), 256);

    let mut diverse = store();
    for number in 0..256 {
        assert_eq!(announce(&mut diverse, number, number, crate::NOON, now), Ok(()));
    }
    assert_eq!(announce(&mut diverse, 256, 256, crate::NOON, now), Err(Refused::Full));
    let later = Duration::from_mins(65);
    for number in 1..256 {
        assert_eq!(announce(&mut diverse, number, number, crate::NOON + later, now + later), Ok(()));
    }
    assert_eq!(announce(&mut diverse, 256, 256, crate::NOON + later, now + later), Err(Refused::Full));
    let later = Duration::from_mins(71);
    assert_eq!(announce(&mut diverse, 256, 256, crate::NOON + later, now + later), Ok(()), "of who missed its time");
    assert_eq!(announce(&mut diverse, 257, 257, crate::NOON + later, now + later), Err(Refused::Full));
}

#[test]
fn one_host_at_home_does_not_crowd_out_others() {
    let now = Instant::now();
    let home = |host: u8| shown(Ipv4Addr::new(192, 168, 0, host).into());
    let announce = |store: &mut Store, number, from| store.announce(KEY, &announced(number, crate::NOON), from, now);
    let mut topic = store();
    // As long as there is room it may have it.
    (0..256).for_each(|number| assert!(announce(&mut topic, number, home(1)).is_ok()));
    assert_eq!(announce(&mut topic, 256, home(1)), Err(Refused::Full));
    for number in 257..300 {
        assert!(announce(&mut topic, number, home(2)).is_ok(), "it loses one to another host");
    }
    assert!(announce(&mut topic, 300, shown(ip(1, 1))).is_ok());
    assert_eq!(topic.announcements(), 256);
    for number in 301..=427 {
        let from = home(2);
        let kept = announce(&mut topic, number, from);
        // One of 255 went to the public address.
        assert_eq!(kept.is_ok(), number <= 384, "{number}");
    }

    let mut all = store();
    let put = |store: &mut Store, number: u32, from| {
        let mut value = [0; 1000];
        value[..4].copy_from_slice(&number.to_be_bytes());
        store.put(Kind::Value, &Arc::from(value), from, now)
    };
    let public = put(&mut all, 0, shown(ip(1, 1)));
    let full = (1..60_000).find(|number| put(&mut all, *number, home(1)).is_err());
    let full = full.expect("there is an end");
    assert!(public.is_ok() && put(&mut all, full, home(1)) == Err(Refused::Full));
    for number in 60_000..61_000 {
        assert!(put(&mut all, number, home(2)).is_ok());
    }
    assert!(put(&mut all, 70_000, shown(ip(2, 1))).is_ok(), "of the host with most");
    for number in 60_000..61_000_u32 {
        let mut value = [0; 1000];
        value[..4].copy_from_slice(&number.to_be_bytes());
        assert!(all.get(Kind::Value, &Item::Value(Arc::from(value)).key()).is_some(), "{number}");
    }
    assert!(all.bytes() <= 64 << 20);
}

#[test]
fn what_is_shown_again_is_kept_on_as_long_as_it_is_true() {
    let now = Instant::now();
    let mut store = store();
    let at = |hours: u32| Shown { unix: crate::NOON + HOUR * hours, ..shown(ip(1, 1)) };
    let bytes = announced(1, crate::NOON);
    let record = framing::record::Record { sequence: 1, expires: crate::NOON + 3 * HOUR, ..Default::default() };
    let record: Arc<[u8]> = record.sign(&identity(1)).unwrap().as_bytes().into();
    assert_eq!(store.announce(KEY, &bytes, at(0), now), Ok(2 * HOUR));
    assert_eq!(store.announce(KEY, &bytes, at(1), now), Ok(HOUR));
    assert_eq!(store.put(Kind::Peer, &record, at(0), now), Ok(3 * HOUR));
    assert_eq!(store.put(Kind::Peer, &record, at(2), now), Ok(HOUR));
    // The wall clock was set, so that they are still there.
    assert_eq!(store.announce(KEY, &bytes, at(2), now), Err(Refused::Time));
    assert_eq!(store.put(Kind::Peer, &record, at(3), now), Err(Refused::Time));
    let mut forged = bytes.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(store.announce(KEY, &forged.into(), at(0), now), Err(Refused::Conflict), "only the same is known");
    assert_eq!(store.announce(Key::from_bytes([2; 32]), &bytes, at(0), now), Err(Refused::Signature), "and only here");
    assert_eq!(store.len(), 2);
}

#[test]
fn pages_go_round_from_anywhere() {
    let now = Instant::now();
    let mut store = store();
    let mut all = BTreeSet::new();
    for number in 0..60 {
        let bytes = announced(number, crate::NOON);
        store.announce(KEY, &bytes, shown(ip(number, 1)), now).unwrap();
        all.insert(bytes);
    }
    let mut firsts = BTreeSet::new();
    for start in (0..16).map(|part| part << 28) {
        let (mut seen, mut next, mut walked) = (BTreeSet::new(), start, 0_u64);
        while walked < 1 << 32 {
            let page = store.peers(&KEY, next, 675);
            let bytes: usize = page.announcements.iter().map(|one| one.len() + 2).sum();
            assert!(page.total == 60 && bytes <= 675 && !page.announcements.is_empty());
            firsts.extend(page.announcements.first().filter(|_| next == start).cloned());
            seen.extend(page.announcements);
            walked += match page.next.wrapping_sub(next) {
                0 => 1 << 32,
                step => step.into(),
            };
            next = page.next;
        }
        assert_eq!(seen, all);
    }
    assert!(firsts.len() > 8, "{}", firsts.len());
    assert_eq!(store.peers(&KEY, 7, usize::MAX).next, 7, "that was all");
    assert_eq!(store.peers(&Key::from_bytes([2; 32]), 7, 1000).total, 0);

    for number in 100..108 {
        store.announce(KEY, &announced(number, crate::NOON), shown(ip(200, 1)), now).unwrap();
    }
    let page = store.peers(&KEY, 0, usize::MAX);
    assert_eq!((page.total, page.announcements.len()), (68, 62), "of a subnet two in an answer");
}
