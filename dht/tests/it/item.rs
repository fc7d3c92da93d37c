//! Records as bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::Identity;
use dht::announcement::topic_key;
use dht::item::{peer_key, value_key};
use dht::{Announcement, Item, Key, Kind, Refused, Relay, SignedValue, Wanted};
use framing::{DecodeError, EncodeError};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Day 20 000, at noon.
const UNIX: Duration = crate::NOON;

const PEER: &str = "dea8f3c5a6d13eae6aab2159208aed20f588838815c3bacf23bb259b74a99e49";

/// Computed with `hashlib`, `hmac` and `cryptography` of Python.
#[test]
fn keys_and_signatures_are_those_of_the_specification() {
    let identity = Identity::from_seed([1; 32]);
    let peer = identity.peer_id();
    assert_eq!(hex(peer.as_bytes()), PEER);
    let key = topic_key(&[7; 32], 20_000);
    assert_eq!(key.to_string(), "7157beb57e6bcb6af024376be11a68b0a4d29a0175105ad7e79ece996abcae65");
    let addr: SocketAddr = "9.8.7.6:5".parse().unwrap();
    let announcement = Announcement::sign(&identity, key, UNIX, Duration::from_hours(2), &[addr], &[]).unwrap();
    let signature = "6ef612b626b1e2c8d520b11ef2c24462a786b5cf81dff621b19e1bb977eb36f5642f594e6ca90032e4549a1ab8dcc05b\
                     0198b2509a7ac18ddec2a57951310109";
    let fields = "000001925766ae001c200100000000000000000000ffff09080706000500";
    assert_eq!(hex(announcement.as_bytes()), [PEER, fields, signature].concat());

    let signed = SignedValue::sign(&identity, b"salt", 4, b"hello").unwrap();
    assert_eq!(signed.key().to_string(), "02f4282cce3bdbbafe3f08c0ad7445445075542fc34fa228afba2d4a2e41aa0c");
    let front = "0473616c74";
    let rest = "0000000000000004db72e93c12b558f8717d84dbd8dc23308b82cf87d3032e4ca9f981d7aae296197581a47b907de465aa06db\
                dd565d27be182c6c70fe9903b0822c22e77dc1c60e68656c6c6f";
    let item = Item::Signed(signed);
    assert_eq!(hex(&item.to_bytes()), [PEER, front, rest].concat());
    assert_eq!(hex(&item.to_answer()), rest);
    assert_eq!(value_key(b"hello").to_string(), "06554eced73ea445a2be2480e3af69ba42e4043881752c55c2eb704a85bef855");
    assert_eq!(peer_key(&peer).to_string(), "63e133c8f4c5b5dce9fd12197d45e512420840cce5f01d5285431c4d657ca37c");
}

#[test]
fn limits_hold_for_who_signs_and_who_reads() {
    let identity = Identity::from_seed([1; 32]);
    let too_long = |len, max| Some(EncodeError::TooLong { len, max });
    assert_eq!(SignedValue::sign(&identity, &[1; 65], 1, &[]).err(), too_long(65, 64));
    assert_eq!(SignedValue::sign(&identity, &[1; 64], 1, &[0; 937]).err(), too_long(937, 936));
    let full = Item::Signed(SignedValue::sign(&identity, &[1; 64], 1, &[0; 936]).unwrap());
    let longer = [&full.to_bytes()[..], &[0]].concat();
    assert_eq!(Item::decode(Kind::Signed, &longer), Err(DecodeError::TooLong { len: 1001, max: 1000 }));
    assert_eq!(Item::decode(Kind::Value, &[0; 1001]), Err(DecodeError::TooLong { len: 1001, max: 1000 }));

    let key = Key::from_bytes([1; 32]);
    let addr: SocketAddr = "9.8.7.6:5".parse().unwrap();
    let relay = Relay { peer: identity.peer_id(), addr };
    let sign =
        |addresses: &[_], relays: &[_]| Announcement::sign(&identity, key, UNIX, Duration::MAX, addresses, relays);
    assert_eq!(sign(&[addr; 5], &[]).err(), Some(EncodeError::TooMany { max: 4 }));
    assert_eq!(sign(&[], &[relay; 3]).err(), Some(EncodeError::TooMany { max: 2 }));
    assert_eq!(sign(&["9.8.7.6:0".parse().unwrap()], &[]).err(), Some(EncodeError::BadAddress));
    let full = sign(&[addr; 4], &[relay; 2]).unwrap();
    assert_eq!((full.expires() - full.time(), full.as_bytes().len()), (Duration::from_hours(2), 280));
    assert_eq!((full.addresses(), full.relays()), ([addr; 4].as_slice(), [relay; 2].as_slice()));
    let mut more = full.as_bytes().to_vec();
    more[42] = 5;
    assert_eq!(Announcement::decode(key, &more), Err(DecodeError::TooLong { len: 5, max: 4 }));
    assert_eq!(Announcement::decode(key, &[1; 401]), Err(DecodeError::TooLong { len: 401, max: 400 }));
}

#[test]
fn announcements_hold_for_their_time() {
    let identity = Identity::from_seed([1; 32]);
    let announcement =
        Announcement::sign(&identity, Key::from_bytes([1; 32]), UNIX, Duration::from_hours(1), &[], &[]).unwrap();
    let minutes = |minutes| Duration::from_mins(minutes);
    for (at, holds) in [
        (UNIX - minutes(11), false),
        (UNIX - minutes(10), true),
        (UNIX + minutes(59), true),
        (UNIX + minutes(60), false),
    ] {
        assert_eq!(announcement.check(at), if holds { Ok(()) } else { Err(Refused::Time) });
    }
}

proptest! {
    #![proptest_config(crate::cases(48))]

    #[test]
    fn records_are_read_as_they_were_signed(
        seed: [u8; 32],
        salt in proptest::collection::vec(any::<u8>(), 0..=64),
        sequence: u64,
        value in proptest::collection::vec(any::<u8>(), 0..=936),
        flip: prop::sample::Index,
    ) {
        let identity = Identity::from_seed(seed);
        let signer = identity.peer_id();
        let signed = SignedValue::sign(&identity, &salt, sequence, &value).unwrap();
        prop_assert_eq!((signed.salt(), signed.sequence(), signed.value()), (&salt[..], sequence, &value[..]));
        let item = Item::Signed(signed);
        let bytes = item.to_bytes();
        prop_assert_eq!(Item::decode(Kind::Signed, &bytes), Ok(item.clone()));
        let wanted = Wanted::Signed { signer, salt: salt.into() };
        prop_assert_eq!(wanted.key(), item.key());
        prop_assert_eq!(wanted.decode(&item.to_answer()), Ok(item.clone()));
        let mut changed = bytes.to_vec();
        changed[flip.index(bytes.len())] ^= 1;
        prop_assert!(Item::decode(Kind::Signed, &changed).is_err());

        let value = Item::Value(Arc::from(value));
        let wanted = Wanted::Value(value.key());
        prop_assert_eq!(wanted.decode(&value.to_answer()), Ok(value));
        prop_assert!(wanted.decode(b"another").is_err());
    }

    #[test]
    fn announcements_are_good_under_their_key_only(
        seed: [u8; 32],
        key: [u8; 32],
        millis in 0_u64..1 << 50,
        ports in proptest::collection::vec(1_u16.., 0..=4),
        relays in 0_usize..=2,
        at: prop::sample::Index,
    ) {
        let identity = Identity::from_seed(seed);
        let key = Key::from_bytes(key);
        let addresses: Vec<SocketAddr> = ports.into_iter().map(|port| ([9, 8, 7, 6], port).into()).collect();
        let relays = vec![Relay { peer: identity.peer_id(), addr: ([1, 2, 3, 4], 5).into() }; relays];
        let unix = Duration::from_millis(millis);
        let announcement =
            Announcement::sign(&identity, key, unix, Duration::from_secs(60), &addresses, &relays).unwrap();
        let bytes = announcement.as_bytes();
        prop_assert_eq!(Announcement::decode(key, bytes), Ok(announcement.clone()));
        let mut other = *key.as_bytes();
        other[0] ^= 1;
        prop_assert_eq!(Announcement::decode(Key::from_bytes(other), bytes), Err(DecodeError::BadSignature));
        let mut changed = bytes.to_vec();
        changed[at.index(bytes.len())] ^= 1;
        prop_assert!(Announcement::decode(key, &changed).is_err());
        prop_assert!(Announcement::decode(key, &bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_a_record_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
        let _ = Announcement::decode(Key::from_bytes([0; 32]), &bytes);
        prop_assert!(Item::decode(Kind::Signed, &bytes).is_err() && Item::decode(Kind::Peer, &bytes).is_err());
    }
}
