use std::collections::BTreeSet;
use std::time::Duration;

use framing::{DecodeError, EncodeError, Frame, Hello, Limits, ProtocolEntry};
use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::*;

use super::frames::number;
use super::{encode, only, roundtrip};

const LIMITS: Limits = Limits {
    max_data: 1 << 20,
    max_stream_data: 1 << 18,
    max_streams: 100,
    max_message: 1 << 17,
    max_datagram_frame: 0,
    ack_delay: Duration::from_micros(1500),
};

fn entry(name: &str, version: u16) -> ProtocolEntry<'_> {
    ProtocolEntry { name, version }
}

#[test]
fn bytes_are_those_of_the_layout() {
    let body =
        Hello::compose([entry("a", 1), entry("a", 2), entry("bc", 1)], Some([7; 16]), Some("x/1"), &LIMITS).unwrap();
    let expected = [
        &[1, 13, 1, b'a', 0, 1, 1, b'a', 0, 2, 2, b'b', b'c', 0, 1][..],
        &[2, 16],
        &[7; 16],
        &[3, 3, b'x', b'/', b'1'],
        &[4, 17, 0x80, 0x10, 0, 0, 0x80, 4, 0, 0, 0x40, 100, 0x80, 2, 0, 0, 0, 0x45, 0xdc],
    ]
    .concat();
    assert_eq!(body, expected);
    let hello = Hello::parse(&body).unwrap();
    assert_eq!(hello.body(), body);
    assert_eq!(hello.protocols().collect::<Vec<_>>(), [entry("a", 1), entry("a", 2), entry("bc", 1)]);
    assert_eq!(hello.reset_token(), Some([7; 16]));
    assert_eq!(hello.agent(), Some("x/1"));
    assert_eq!(hello.limits(), LIMITS);
    let bytes = encode(&Frame::Hello(hello));
    assert_eq!(bytes[..2], [4, 57]);
    roundtrip(&Frame::Hello(hello));
}

#[test]
fn an_empty_one_says_nothing() {
    let hello = Hello::parse(&[]).unwrap();
    assert_eq!(hello.protocols().count(), 0);
    assert_eq!((hello.reset_token(), hello.agent()), (None, None));
    let initial = Limits {
        max_data: 65_536,
        max_stream_data: 16_384,
        max_streams: 16,
        max_message: 16_384,
        max_datagram_frame: 1100,
        ack_delay: Duration::from_millis(25),
    };
    assert_eq!(hello.limits(), initial);
    assert_eq!(Limits::default(), initial);
}

#[test]
fn what_was_allowed_before_stays_allowed() {
    let low = Limits {
        max_data: 0,
        max_stream_data: 1,
        max_streams: 2,
        max_message: 3,
        max_datagram_frame: 4,
        ack_delay: Duration::from_secs(9),
    };
    let body = Hello::compose([], None, None, &low).unwrap();
    let read = Hello::parse(&body).unwrap().limits();
    let expected = Limits { max_datagram_frame: 4, ack_delay: Duration::from_secs(1), ..Limits::INITIAL };
    assert_eq!(read, expected);
    let high = Limits { max_streams: (1 << 62) - 1, ..LIMITS };
    let body = Hello::compose([], None, None, &high).unwrap();
    assert_eq!(Hello::parse(&body).unwrap().limits().max_streams, 1 << 60);
}

#[test]
fn limits_of_writing() {
    let compose = |entries: &[ProtocolEntry<'_>]| Hello::compose(entries.iter().copied(), None, None, &LIMITS);
    let long = "x".repeat(65);
    assert_eq!(compose(&[entry("", 1)]), Err(EncodeError::TooShort { len: 0, min: 1 }));
    assert_eq!(compose(&[entry(&long, 1)]), Err(EncodeError::TooLong { len: 65, max: 64 }));
    assert!(compose(&[entry(&long[1..], 1)]).is_ok());
    assert_eq!(compose(&[entry("b", 1), entry("a", 1)]), Err(EncodeError::BadOrder));
    assert_eq!(compose(&[entry("a", 1), entry("a", 1)]), Err(EncodeError::BadOrder));
    let names: BTreeSet<String> = (0..65).map(|n| format!("{n:02}")).collect();
    let entries: Vec<_> = names.iter().map(|name| entry(name, 1)).collect();
    assert_eq!(compose(&entries), Err(EncodeError::TooMany { max: 64 }));
    assert!(compose(&entries[..64]).is_ok());
    let names: BTreeSet<String> = (0..20).map(|n| format!("{n:02}{}", "x".repeat(60))).collect();
    let entries: Vec<_> = names.iter().map(|name| entry(name, 1)).collect();
    assert!(
        matches!(compose(&entries), Err(EncodeError::TooLong { max: 1100, .. })),
        "64 entries may still be too much"
    );
    let agent = Hello::compose([], None, Some(&long), &LIMITS);
    assert_eq!(agent, Err(EncodeError::TooLong { len: 65, max: 64 }));
    let limits = Limits { max_data: 1 << 62, ..LIMITS };
    assert_eq!(Hello::compose([], None, None, &limits), Err(EncodeError::OutOfRange));
}

#[test]
fn limits_of_reading() {
    let list = |entries: &[u8]| {
        let mut body = vec![1, 0x40 | u8::try_from(entries.len() >> 8).unwrap(), (entries.len() & 0xff) as u8];
        body.extend_from_slice(entries);
        Hello::parse(&body).map(drop)
    };
    assert_eq!(list(&[]), Ok(()));
    assert_eq!(list(&[0, 0, 1]), Err(DecodeError::BadText), "no name");
    assert_eq!(list(&[1, 0xff, 0, 1]), Err(DecodeError::BadText), "not UTF-8");
    assert_eq!(list(&[1, b'a', 0]), Err(DecodeError::Truncated));
    assert_eq!(list(&[9, b'a', 0, 1]), Err(DecodeError::Truncated));
    assert_eq!(list(&[1, b'b', 0, 1, 1, b'a', 0, 1]), Err(DecodeError::BadOrder));
    assert_eq!(list(&[1, b'a', 0, 1, 1, b'a', 0, 1]), Err(DecodeError::BadOrder));
    let long = [&[65][..], &[b'x'; 65], &[0, 1]].concat();
    assert_eq!(list(&long), Err(DecodeError::TooLong { len: 65, max: 64 }));
    let many: Vec<u8> = (0..65).flat_map(|n| [1, b' ' + n, 0, 1]).collect();
    assert_eq!(list(&many[..256]), Ok(()));
    assert_eq!(list(&many), Err(DecodeError::TooLong { len: 65, max: 64 }));

    assert_eq!(Hello::parse(&[2, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(DecodeError::Truncated));
    assert_eq!(Hello::parse(&[3, 1, 0x80]), Err(DecodeError::BadText));
    let agent = [&[3, 0x40, 65][..], &[b'a'; 65]].concat();
    assert_eq!(Hello::parse(&agent), Err(DecodeError::TooLong { len: 65, max: 64 }));
    assert_eq!(Hello::parse(&[4, 5, 1, 2, 3, 4, 5]), Err(DecodeError::Truncated), "six limits are needed");
    assert_eq!(Hello::parse(&[3, 0, 3, 0]), Err(DecodeError::BadOrder), "twice");
    assert_eq!(Hello::parse(&[3, 0, 1, 0]), Err(DecodeError::BadOrder), "tags ascend");
    assert_eq!(Hello::parse(&[9]), Err(DecodeError::Truncated));
    assert_eq!(Hello::parse(&[9, 1]), Err(DecodeError::Truncated));
    // As a frame: the length is that of the body, and more than there is.
    assert_eq!(framing::Frames::new(&[4, 3, 3, 0]).next(), Some(Err(DecodeError::Truncated)));
    assert_eq!(only(&[4, 2, 3, 0]), Frame::Hello(Hello::parse(&[3, 0]).unwrap()));
}

proptest! {
    #[test]
    fn what_is_composed_parses(protocols in btree_set(("[a-z/]{1,12}", any::<u16>()), 0..64), token: Option<[u8; 16]>,
                               agent in option::of("\\PC{0,16}"), numbers in [number(), number(), number(), number(), number()]) {
        let [data, stream, streams, message, datagram] = numbers;
        let limits = Limits {
            max_data: data.max(65_536),
            max_stream_data: stream.max(16_384),
            max_streams: (streams >> 2).max(16),
            max_message: message.max(16_384),
            max_datagram_frame: datagram,
            ack_delay: Duration::from_micros(data % 1_000_000),
        };
        let entries: Vec<_> = protocols.iter().map(|(name, version)| entry(name, *version)).collect();
        let body = match Hello::compose(entries.iter().copied(), token, agent.as_deref(), &limits) {
            Ok(body) => body,
            Err(EncodeError::TooLong { len, max: 1100 }) if len > 1100 => return Ok(()),
            Err(error) => panic!("{error}"),
        };
        prop_assert!(body.len() <= 1100);
        let hello = Hello::parse(&body).unwrap();
        prop_assert_eq!(hello.protocols().collect::<Vec<_>>(), entries);
        prop_assert_eq!(hello.reset_token(), token);
        prop_assert_eq!(hello.agent(), agent.as_deref());
        prop_assert_eq!(hello.limits(), limits);
        roundtrip(&Frame::Hello(hello));
    }
}
