//! What is refused, and what the wire tolerates.

use framing::v12::{Chunk, Frame, GoawayReason, Kind, Pong, encode};
use framing::{DecodeError, EncodeError};
use proptest::prelude::*;

fn built(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    build(&mut out);
    out
}

fn addr(text: &str) -> std::net::SocketAddrV4 {
    text.parse().unwrap()
}

/// Every kind of frame, and from which length on a shorter one still is a frame of its kind.
fn examples() -> Vec<(Vec<u8>, fn(usize) -> bool)> {
    let (id8, id20, key) = ([1; 8], [2; 20], [3; 32]);
    let pex =
        || ["10.0.0.1:1", "192.168.100.200:65535"].map(|a| framing::v12::PexEntry { id: id8.into(), addr: addr(a) });
    vec![
        (built(|o| encode::hello(id8.into(), key.into(), o)), |_| false),
        (built(|o| encode::hello_ack(id8.into(), key.into(), o)), |_| false),
        (built(|o| encode::data(&[9; 100], o).unwrap()), |n| n >= 29),
        (built(|o| encode::ping(77, id20.into(), o)), |_| false),
        (built(|o| encode::pong(id20.into(), o)), |_| false),
        (built(|o| encode::pong_echo(77, id20.into(), b"", o)), |n| n >= 21),
        (built(|o| encode::ihave([[1; 8], [2; 8]], o).unwrap()), |n| n % 8 == 1),
        (built(|o| encode::lan(id20.into(), addr("10.0.0.1:40001"), Some("0123456789ab"), o).unwrap()), |n| n >= 57),
        (built(|o| encode::goaway(GoawayReason::Timeout, o)), |n| n >= 1),
        (built(|o| encode::frag(id8, 0, 2, &[5; 1188], o).unwrap()), |n| n >= 14),
        (built(|o| encode::have([&b"alpha"[..], b"", b"k2"], o).unwrap()), |_| false),
        (built(|o| encode::want(b"alpha", o).unwrap()), |_| false),
        (built(|o| encode::chunk(b"alpha", &[7; 900], o).unwrap()), |_| false),
        (built(|o| encode::chunk_part(b"big", 1, 3, &[7; 900], o).unwrap()), |n| n >= 12),
        (built(|o| encode::batch([&[4; 30][..], &[3; 9]], o).unwrap()), |_| false),
        (built(|o| encode::chunk_ack(b"big", 1, o).unwrap()), |_| false),
        (built(|o| encode::relay_ann(id8.into(), addr("203.0.113.7:50000"), o).unwrap()), |_| false),
        (built(|o| encode::relay_req(id8.into(), id8.into(), addr("203.0.113.7:50000"), o).unwrap()), |_| false),
        (built(|o| encode::relay_fwd(id8.into(), addr("203.0.113.7:50000"), o).unwrap()), |_| false),
        // Cut to 30 bytes it has the length of two compact entries, and they happen to have ports.
        (built(|o| encode::pex(pex(), o).unwrap()), |n| n == 30),
        (built(|o| encode::pex_compact(pex(), o).unwrap()), |_| false),
    ]
}

#[test]
fn every_kind_has_an_example() {
    for &kind in Kind::ALL {
        assert!(examples().iter().any(|(bytes, _)| Frame::decode(bytes).unwrap().kind() == kind), "{kind:?}");
        assert_eq!(Kind::of(kind.byte()), Some(kind));
    }
    assert_eq!((0..=255).filter(|&byte| Kind::of(byte).is_some()).count(), 18);
}

#[test]
fn every_truncation_is_refused_unless_the_wire_allows_it() {
    for (bytes, tolerated) in examples() {
        assert!(Frame::decode(&bytes).is_ok());
        for len in 0..bytes.len() {
            let result = Frame::decode(&bytes[..len]);
            assert_eq!(result.is_ok(), tolerated(len), "{:02x} cut to {len}: {result:?}", bytes[0]);
            if let Ok(frame) = result {
                assert_eq!(frame.kind().byte(), bytes[0]);
            }
        }
    }
}

#[test]
fn only_some_frames_may_be_longer() {
    for (bytes, _) in examples() {
        let longer = [&bytes[..], &[0]].concat();
        let frame = Frame::decode(&longer);
        match Kind::of(bytes[0]).unwrap() {
            Kind::Hello | Kind::HelloAck | Kind::Goaway => assert_eq!(frame, Frame::decode(&bytes)),
            Kind::Ping => assert!(matches!(frame, Ok(Frame::Ping { extra: &[0], .. }))),
            Kind::Pong => assert!(frame.is_ok()),
            Kind::Data => assert!(matches!(frame, Ok(Frame::Data(sealed)) if sealed.len() == 101)),
            Kind::Frag | Kind::Chunk if matches!(frame, Err(DecodeError::TooLong { .. })) => {}
            Kind::Lan => assert_eq!(frame, Err(DecodeError::BadText)),
            Kind::Ihave => assert_eq!(frame, Err(DecodeError::Truncated)),
            kind => assert!(frame.is_err(), "{kind:?}"),
        }
    }
}

#[test]
fn nothing_and_the_unknown() {
    assert_eq!(Frame::decode(&[]), Err(DecodeError::Empty));
    for first in (0..=255).filter(|&first| Kind::of(first).is_none()) {
        assert_eq!(Frame::decode(&[first, 1, 2, 3]), Err(DecodeError::UnknownKind(first)));
    }
}

#[test]
fn pong_has_two_forms() {
    let body = [&1_234_567_890_123_u64.to_be_bytes()[..], &[0xab; 20], b"more"].concat();
    let echo = [&[4][..], &body].concat();
    assert_eq!(
        Frame::decode(&echo[..21]),
        Ok(Frame::Pong(Pong::Id(echo[1..21].try_into().map(<[u8; 20]>::into).unwrap())))
    );
    assert_eq!(Frame::decode(&echo[..28]), Frame::decode(&echo[..21]), "neither form: the rest is ignored");
    let id = [0xab; 20].into();
    assert_eq!(Frame::decode(&echo[..29]), Ok(Frame::Pong(Pong::Echo { time_ms: 1_234_567_890_123, id, extra: b"" })));
    assert_eq!(Frame::decode(&echo), Ok(Frame::Pong(Pong::Echo { time_ms: 1_234_567_890_123, id, extra: b"more" })));
}

#[test]
fn goaway_keeps_codes_it_does_not_know() {
    for code in 0..=255 {
        let frame = [0x0a, code];
        let Ok(Frame::Goaway { reason: Some(reason) }) = Frame::decode(&frame) else { panic!("{code}") };
        assert_eq!(reason.code(), code);
        assert_eq!(matches!(reason, GoawayReason::Unknown(_)), !matches!(code, 0..=6 | 8..=11 | 16));
        assert_eq!(built(|o| encode::goaway(reason, o)), frame);
    }
}

#[test]
fn addresses_are_literal() {
    let relay = |ip: &str, port: u16| {
        let mut frame = vec![0x20, 1, 1, 1, 1, 1, 1, 1, 1, ip.len() as u8];
        frame.extend_from_slice(ip.as_bytes());
        frame.extend_from_slice(&port.to_be_bytes());
        Frame::decode(&frame).map(|_| ())
    };
    for ip in ["0.0.0.0", "255.255.255.255", "127.0.0.1", "8.8.8.8"] {
        assert_eq!(relay(ip, 1), Ok(()), "{ip}");
        assert_eq!(relay(ip, 0), Err(DecodeError::BadAddress), "{ip} without a port");
    }
    for ip in [
        "",
        "localhost",
        "example.com",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.256",
        "1.2.3.+4",
        " 1.2.3.4",
        "1.2.3.4 ",
        "1.2.3.4\0",
        "0x7f.0.0.1",
        "2130706433",
        "::1",
        "1.2.3.4:5",
        "1.2.3.-4",
        "\u{661}.2.3.4",
        "1..2.3",
    ] {
        assert_eq!(relay(ip, 9), Err(DecodeError::BadAddress), "{ip:?}");
    }
    assert_eq!(
        Frame::decode(b"\x20\x01\x01\x01\x01\x01\x01\x01\x01\x02\xff\xfe\x00\x01"),
        Err(DecodeError::BadAddress)
    );
}

#[test]
fn lan_text_is_taken_literally() {
    let id = "00112233445566778899aabbccddeeff00112233";
    let lan = |text: String| {
        let frame = [b"\x09", text.as_bytes()].concat();
        match Frame::decode(&frame) {
            Ok(Frame::Lan { topic, addr, .. }) => Ok((topic.map(str::to_owned), addr.port())),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    assert_eq!(lan(format!("{id}:10.0.0.1:1:")), Ok((None, 1)));
    assert_eq!(lan(format!("{}:10.0.0.1:65535:abc", id.to_uppercase())), Ok((Some("abc".to_owned()), 65535)));
    let long = "0123456789abcdef01234567";
    assert_eq!(lan(format!("{id}:10.0.0.1:1:{long}")), Ok((Some(long.to_owned()), 1)), "as C++ nodes send it");
    for port in ["", "0", "00", "01", "+1", "-1", " 1", "65536", "99999", "123456", "1a", "99999999999999999999"] {
        assert_eq!(lan(format!("{id}:10.0.0.1:{port}:abc")), Err(DecodeError::BadAddress), "{port:?}");
    }
    assert_eq!(lan(format!("{id}:10.0.0.1:1")), Err(DecodeError::Truncated), "the fourth field is missing");
    assert_eq!(lan(format!("{}:10.0.0.1:1:", &id[..39])), Err(DecodeError::BadId));
    assert_eq!(lan(format!("{id}0:10.0.0.1:1:")), Err(DecodeError::BadId));
    assert_eq!(lan(format!("{}g:10.0.0.1:1:", &id[..39])), Err(DecodeError::BadId));
    assert_eq!(lan(format!("{id}:host:1:")), Err(DecodeError::BadAddress));
    assert_eq!(lan(format!("{id}:10.0.0.1:1:ab:cd")), Err(DecodeError::BadText));
    assert_eq!(lan(format!("{id}:10.0.0.1:1:é")), Err(DecodeError::BadText));
    assert_eq!(lan(format!("{id}:10.0.0.1:1:{}", "a".repeat(65))), Err(DecodeError::TooLong { len: 65, max: 64 }));
}

#[test]
fn pieces_have_limits() {
    let frag = |index: u16, total: u16, len: usize| {
        let mut frame = vec![0x0b; 9];
        frame.extend_from_slice(&index.to_be_bytes());
        frame.extend_from_slice(&total.to_be_bytes());
        frame.resize(13 + len, 0);
        Frame::decode(&frame).map(|_| ())
    };
    assert_eq!(frag(0, 1, 1), Ok(()));
    assert_eq!(frag(65534, 65535, 1188), Ok(()));
    assert_eq!(frag(0, 0, 1), Err(DecodeError::BadIndex { index: 0, total: 0 }));
    assert_eq!(frag(2, 2, 1), Err(DecodeError::BadIndex { index: 2, total: 2 }));
    assert_eq!(frag(0, 1, 0), Err(DecodeError::EmptyPiece));
    assert_eq!(frag(0, 1, 1189), Err(DecodeError::TooLong { len: 1189, max: 1188 }));

    let chunk = |tail: &[u8]| Frame::decode(&[b"\x12\x01k", tail].concat()).map(|_| ());
    assert_eq!(chunk(b"\0\0"), Ok(()));
    assert_eq!(chunk(b"\0\x01a"), Ok(()));
    assert_eq!(chunk(b"\0\x01ab"), Err(DecodeError::TrailingBytes));
    assert_eq!(chunk(b"\xff\xff\0\0\0\x01a"), Ok(()));
    assert_eq!(chunk(b"\xff\xff\0\0\0\x01"), Err(DecodeError::EmptyPiece));
    assert_eq!(chunk(b"\xff\xff\0\x01\0\x01a"), Err(DecodeError::BadIndex { index: 1, total: 1 }));
    assert_eq!(chunk(&[&[0x03, 0x85][..], &[0; 901]].concat()), Err(DecodeError::TooLong { len: 901, max: 900 }));
    assert_eq!(
        chunk(&[&b"\xff\xff\0\0\0\x01"[..], &[0; 901]].concat()),
        Err(DecodeError::TooLong { len: 901, max: 900 })
    );
    assert_eq!(Frame::decode(&[1; 28]), Err(DecodeError::Truncated), "27 sealed bytes");
    assert!(Frame::decode(&[1; 65_507]).is_ok());
    assert_eq!(Frame::decode(&[1; 65_508]), Err(DecodeError::TooLong { len: 65_507, max: 65_506 }));
}

#[test]
fn one_bad_entry_spoils_the_list() {
    assert_eq!(Frame::decode(b"\x10\x02\x01a\x05bc"), Err(DecodeError::Truncated));
    assert_eq!(Frame::decode(b"\x10\x01\x01ab"), Err(DecodeError::TrailingBytes));
    assert_eq!(Frame::decode(b"\x10"), Err(DecodeError::Truncated));
    assert!(matches!(Frame::decode(b"\x10\x01\x02\xff\xfe"), Ok(Frame::Have(keys)) if keys.iter().eq([b"\xff\xfe"])));

    let good = b"\x08AAAAAAAA\x0710.0.0.\x00\x01";
    assert_eq!(Frame::decode(&[b"\x30\x01", &good[..]].concat()), Err(DecodeError::BadAddress));
    assert_eq!(Frame::decode(b"\x30\x01\x07AAAAAAA\x0710.0.0.1\x00\x01"), Err(DecodeError::BadId));
    let compact = |port: u16| [b"\x30\x01AAAAAAAA\x0a\0\0\x01", &port.to_be_bytes()[..]].concat();
    assert!(matches!(Frame::decode(&compact(7)), Ok(Frame::Pex(pex)) if pex.is_compact() && pex.len() == 1));
    assert_eq!(Frame::decode(&compact(0)), Err(DecodeError::BadAddress));
    assert!(matches!(Frame::decode(b"\x30\x00"), Ok(Frame::Pex(pex)) if pex.is_empty() && !pex.is_compact()));
    assert_eq!(Frame::decode(b"\x30\x00\x00"), Err(DecodeError::TrailingBytes));

    assert_eq!(Frame::decode(b"\x13\x01\x00\x00"), Err(DecodeError::EmptyPiece));
    assert_eq!(Frame::decode(b"\x13\x02\x00\x02\x0a\x00\x00\x03\x13\x00\x00"), Err(DecodeError::Nested));
    assert_eq!(Frame::decode(b"\x13\x01\x00\x02\x0a\x00\x00"), Err(DecodeError::TrailingBytes));
    let Ok(Frame::Batch(frames)) = Frame::decode(b"\x13\x02\x00\x01\x55\x00\x02\x0a\x00") else { panic!() };
    let inner: Vec<_> = frames.iter().map(Frame::decode).collect();
    assert_eq!(
        inner,
        [Err(DecodeError::UnknownKind(0x55)), Ok(Frame::Goaway { reason: Some(GoawayReason::Requested) })],
        "a bad frame does not spoil its neighbours"
    );

    assert!(Frame::decode(&[7; 1 + 8 * 200]).is_ok());
    assert_eq!(Frame::decode(&[7; 1 + 8 * 201]), Err(DecodeError::TooLong { len: 201, max: 200 }));
}

#[test]
fn encoders_refuse_what_receivers_would_not_take_and_leave_the_output_alone() {
    let mut out = vec![1, 2, 3];
    let long = [0; 256];
    let key_error = Err(EncodeError::TooLong { len: 256, max: 255 });
    assert_eq!(encode::want(&long, &mut out), key_error);
    assert_eq!(encode::chunk_ack(&long, 0, &mut out), key_error);
    assert_eq!(encode::chunk(&long, b"v", &mut out), key_error);
    assert_eq!(encode::chunk_part(&long, 0, 1, b"v", &mut out), key_error);
    assert_eq!(encode::have([&b"fine"[..], &long], &mut out), key_error);
    assert_eq!(encode::have([&b"k"[..]; 256], &mut out), Err(EncodeError::TooMany { max: 255 }));
    assert_eq!(encode::ihave([[0; 8]; 201], &mut out), Err(EncodeError::TooMany { max: 200 }));
    assert_eq!(encode::batch([&[1][..]; 256], &mut out), Err(EncodeError::TooMany { max: 255 }));
    assert_eq!(encode::batch([&[1][..], &[0x13, 0]], &mut out), Err(EncodeError::Nested));
    assert_eq!(encode::batch([&[1][..], &[]], &mut out), Err(EncodeError::TooShort { len: 0, min: 1 }));
    assert_eq!(encode::batch([&[1; 65_536][..]], &mut out), Err(EncodeError::TooLong { len: 65_536, max: 65_535 }));
    assert_eq!(encode::chunk(b"k", &[0; 901], &mut out), Err(EncodeError::TooLong { len: 901, max: 900 }));
    assert_eq!(encode::chunk(b"k", &[0; 70_000], &mut out), Err(EncodeError::TooLong { len: 70_000, max: 900 }));
    assert_eq!(encode::chunk_part(b"k", 0, 1, b"", &mut out), Err(EncodeError::TooShort { len: 0, min: 1 }));
    assert_eq!(encode::chunk_part(b"k", 1, 1, b"v", &mut out), Err(EncodeError::BadIndex { index: 1, total: 1 }));
    assert_eq!(encode::frag([0; 8], 0, 0, b"v", &mut out), Err(EncodeError::BadIndex { index: 0, total: 0 }));
    assert_eq!(encode::frag([0; 8], 0, 1, &[0; 1189], &mut out), Err(EncodeError::TooLong { len: 1189, max: 1188 }));
    assert_eq!(encode::data(&[0; 27], &mut out), Err(EncodeError::TooShort { len: 27, min: 28 }));
    assert_eq!(encode::data(&[0; 65_507], &mut out), Err(EncodeError::TooLong { len: 65_507, max: 65_506 }));
    let zero = addr("1.2.3.4:0");
    let entry = framing::v12::PexEntry { id: [0; 8].into(), addr: zero };
    assert_eq!(encode::relay_ann([0; 8].into(), zero, &mut out), Err(EncodeError::BadAddress));
    assert_eq!(encode::relay_req([0; 8].into(), [0; 8].into(), zero, &mut out), Err(EncodeError::BadAddress));
    assert_eq!(encode::relay_fwd([0; 8].into(), zero, &mut out), Err(EncodeError::BadAddress));
    assert_eq!(encode::pex([entry], &mut out), Err(EncodeError::BadAddress));
    assert_eq!(encode::pex_compact([entry], &mut out), Err(EncodeError::BadAddress));
    assert_eq!(encode::lan([0; 20].into(), zero, None, &mut out), Err(EncodeError::BadAddress));
    assert_eq!(encode::lan([0; 20].into(), addr("1.2.3.4:5"), Some("a:b"), &mut out), Err(EncodeError::BadText));
    let topic = "a".repeat(65);
    assert_eq!(
        encode::lan([0; 20].into(), addr("1.2.3.4:5"), Some(&topic), &mut out),
        Err(EncodeError::TooLong { len: 65, max: 64 })
    );
    assert_eq!(out, [1, 2, 3]);
}

/// Walks all of a frame, as far as its views go.
fn walk(bytes: &[u8]) -> Result<usize, DecodeError> {
    Ok(match Frame::decode(bytes)? {
        Frame::Have(keys) => {
            assert_eq!(keys.iter().count(), keys.len());
            keys.iter().map(|key| key.len() + 1).sum()
        }
        Frame::Ihave(hashes) => hashes.iter().count(),
        Frame::Pex(pex) => {
            assert_eq!(pex.iter().count(), pex.len());
            assert!(pex.iter().all(|entry| entry.addr.port() != 0));
            pex.len()
        }
        Frame::Batch(frames) => {
            assert_eq!(frames.iter().count(), frames.len());
            frames.iter().filter(|inner| walk(inner).is_ok()).count()
        }
        Frame::Chunk(Chunk::Whole { key, value }) => key.len() + value.len(),
        _ => 0,
    })
}

/// What decodes also encodes, to a frame that decodes to the same.
fn stable(bytes: &[u8]) {
    let Ok(frame) = Frame::decode(bytes) else { return };
    let mut out = Vec::new();
    frame.encode(&mut out).unwrap();
    assert_eq!(Frame::decode(&out), Ok(frame));
    let shortened = matches!(frame.kind(), Kind::Hello | Kind::HelloAck | Kind::Goaway | Kind::Pong | Kind::Lan);
    assert!(out == bytes || shortened, "{frame:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_handled(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = walk(&bytes);
        stable(&bytes);
    }

    #[test]
    fn any_body_is_handled(kind in prop::sample::select(Kind::ALL), body in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..120)) {
        let bytes = [&[kind.byte()], &body[..]].concat();
        let _ = walk(&bytes);
        stable(&bytes);
    }

    #[test]
    fn damaged_frames_are_handled(which in 0..21_usize, at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let (mut bytes, _) = examples().swap_remove(which);
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = walk(&bytes);
        stable(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = walk(&bytes);
        stable(&bytes);
    }
}
