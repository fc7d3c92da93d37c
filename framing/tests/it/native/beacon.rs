use std::net::{Ipv4Addr, Ipv6Addr};

use framing::{Beacon, DecodeError, EncodeError, limits};
use proptest::prelude::*;

fn encode(beacon: &Beacon<'_>) -> Vec<u8> {
    let mut bytes = vec![0xee];
    beacon.encode(&mut bytes).unwrap();
    bytes.remove(0);
    bytes
}

/// Written out by hand from SPEC 10.1.
fn example() -> Vec<u8> {
    let mut bytes = vec![0xde, 1, 0, 0];
    bytes.extend([7; 16]);
    bytes.extend([0x1f, 0x90, 2]);
    bytes.extend([1; 16]);
    bytes.extend([2; 16]);
    bytes
}

#[test]
fn the_layout_is_that_of_the_specification() {
    let beacon = Beacon { nonce: [7; 16], port: 8080, tags: &[[1; 16], [2; 16]] };
    assert_eq!(encode(&beacon), example());
    assert_eq!(Beacon::decode(&example()), Ok(beacon));
    assert_eq!(limits::BEACON_GROUP_V4, Ipv4Addr::new(239, 255, 83, 87));
    assert_eq!(limits::BEACON_GROUP_V6, "ff12::7365:746f:7769:7265".parse::<Ipv6Addr>().unwrap());
    assert_eq!(limits::BEACON_PORT, 29_531);
}

#[test]
fn later_versions_are_read_as_far_as_they_are_known() {
    let mut bytes = example();
    (bytes[1], bytes[2], bytes[3]) = (9, 0xff, 0xff);
    bytes.extend(*b"more");
    assert_eq!(Beacon::decode(&bytes), Beacon::decode(&example()));
}

#[test]
fn what_is_no_beacon_is_told_apart() {
    let changed = |at: usize, to: u8| {
        let mut bytes = example();
        bytes[at] = to;
        bytes
    };
    assert_eq!(Beacon::decode(&[]), Err(DecodeError::Empty));
    assert_eq!(Beacon::decode(&changed(0, 0xdf)), Err(DecodeError::UnknownKind(0xdf)));
    assert_eq!(Beacon::decode(&changed(1, 0)), Err(DecodeError::OutOfRange));
    assert_eq!(Beacon::decode(&changed(22, 0)), Err(DecodeError::EmptyPiece));
    assert_eq!(Beacon::decode(&changed(22, 3)), Err(DecodeError::Truncated));
    assert_eq!(Beacon::decode(&changed(22, 65)), Err(DecodeError::TooLong { len: 65, max: 64 }));
    let mut unreachable = example();
    (unreachable[20], unreachable[21]) = (0, 0);
    assert_eq!(Beacon::decode(&unreachable), Err(DecodeError::BadAddress));
    for len in 1..example().len() {
        assert_eq!(Beacon::decode(&example()[..len]), Err(DecodeError::Truncated), "{len}");
    }
}

#[test]
fn what_receivers_refuse_is_not_written() {
    let encode = |port, tags: &[[u8; 16]]| {
        let mut out = vec![1];
        let result = Beacon { nonce: [0; 16], port, tags }.encode(&mut out);
        assert!(result.is_ok() || out == [1]);
        result.map(|()| out.len() - 1)
    };
    assert_eq!(encode(0, &[[0; 16]]), Err(EncodeError::BadAddress));
    assert_eq!(encode(1, &[]), Err(EncodeError::TooShort { len: 0, min: 1 }));
    assert_eq!(encode(1, &[[0; 16]; 65]), Err(EncodeError::TooMany { max: 64 }));
    assert_eq!(encode(1, &[[0; 16]; 256]), Err(EncodeError::TooMany { max: 64 }));
    assert_eq!(encode(1, &[[0; 16]; 64]), Ok(1047));
}

proptest! {
    #[test]
    fn a_beacon_reads_as_it_was_written(
        nonce in any::<[u8; 16]>(), port in 1..=u16::MAX, tags in prop::collection::vec(any::<[u8; 16]>(), 1..=64)
    ) {
        let beacon = Beacon { nonce, port, tags: &tags };
        let bytes = encode(&beacon);
        prop_assert_eq!(Beacon::decode(&bytes), Ok(beacon));
    }

    #[test]
    fn a_flipped_bit_changes_what_it_is_in_and_nothing_else(bit in 0..55_usize * 8) {
        let mut bytes = example();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let before = example();
        let before = Beacon::decode(&before).unwrap();
        match (bit / 8, Beacon::decode(&bytes)) {
            (0 | 22, Err(_)) | (1, Err(DecodeError::OutOfRange)) => {}
            (1..=3, Ok(beacon)) => prop_assert_eq!(beacon, before),
            (4..=19, Ok(beacon)) => {
                prop_assert_ne!(beacon.nonce, before.nonce);
                prop_assert_eq!(Beacon { nonce: before.nonce, ..beacon }, before);
            }
            (20 | 21, Ok(beacon)) => {
                prop_assert_ne!(beacon.port, before.port);
                prop_assert_eq!(Beacon { port: before.port, ..beacon }, before);
            }
            (at @ 23.., Ok(beacon)) => {
                let differing = beacon.tags.iter().zip(before.tags).position(|(a, b)| a != b);
                prop_assert_eq!(differing, Some((at - 23) / 16));
            }
            // Of the two tags one is left.
            (22, Ok(beacon)) => prop_assert_eq!(beacon.tags, &before.tags[..1]),
            (at, result) => prop_assert!(false, "byte {}: {:?}", at, result),
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..1300), is_beacon: bool) {
        if let (true, Some(first)) = (is_beacon, bytes.first_mut()) {
            *first = 0xde;
        }
        if let Ok(beacon) = Beacon::decode(&bytes) {
            prop_assert!((1..=64).contains(&beacon.tags.len()) && beacon.port != 0);
            let again = encode(&beacon);
            prop_assert_eq!(&again[4..], &bytes[4..again.len()]);
        }
    }
}
