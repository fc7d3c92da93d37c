//! Every truncation and every flipped bit of every frame, and whatever else a peer may send.

use std::net::SocketAddr;
use std::time::Duration;

use framing::{
    CloseCode, DecodeError, Frame, Frames, Hello, Limits, Open, PacketWriter, ProtocolEntry, Reader, Role, Stream,
    StreamCode, StreamId, StreamKind,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::encode;

/// One of each, as bytes.
fn samples() -> Vec<Vec<u8>> {
    let id = StreamId::new(300, Role::Responder);
    let open = Some(Open { protocol: 2, kind: StreamKind::Messages });
    let hello = Hello::compose(
        [ProtocolEntry { name: "chat", version: 1 }, ProtocolEntry { name: "files", version: 300 }],
        Some([3; 16]),
        Some("agent/1"),
        &Limits::INITIAL,
    )
    .unwrap();
    let addr: SocketAddr = "192.0.2.7:4242".parse().unwrap();
    let frames = [
        Frame::Ping,
        Frame::Hello(Hello::parse(&hello).unwrap()),
        Frame::Close { code: CloseCode(0x1234), reason: "why not, \u{e4}?" },
        Frame::PathChallenge([1; 8]),
        Frame::PathResponse([2; 8]),
        Frame::NewCid { sequence: 70, retire_prior_to: 69, cid: [4; 8], token: [5; 16] },
        Frame::RetireCid { sequence: 1 << 20 },
        Frame::Rekey([6; 32]),
        Frame::RekeyAck([7; 32]),
        Frame::Ticket { id: [8; 16], lifetime: Duration::from_secs(86_400) },
        Frame::Observed(addr),
        Frame::MaxData(1 << 40),
        Frame::MaxStreamData { id, max: 1 << 20 },
        Frame::MaxStreams(1000),
        Frame::StreamReset { id, code: StreamCode::FAILED, final_size: 12_345 },
        Frame::StreamStop { id, code: StreamCode::CANCELLED },
        Frame::Datagram { protocol: 65, data: b"datagram" },
        Frame::Goaway { code: CloseCode::SHUTDOWN },
        Frame::Stream(Stream { id, offset: 100_000, open: None, fin: true, data: b"some data" }),
        Frame::Stream(Stream { id, offset: 0, open, fin: false, data: b"" }),
        Frame::Unknown { kind: 0x4321, body: b"later" },
    ];
    let mut samples: Vec<_> = frames.iter().map(encode).collect();
    let ecn = framing::EcnCounts { ect0: 9000, ect1: 0, ce: 63 };
    for ecn in [None, Some(ecn)] {
        let mut space = [0; 64];
        let mut writer = PacketWriter::new(&mut space);
        assert!(writer.ack([5000..=5100, 4000..=4000, 3..=70], Duration::from_micros(800), ecn));
        samples.push(writer.written().to_vec());
    }
    samples
}

/// What is accepted is all in the input, and is not longer when it is written again.
fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let before = reader.len();
        let frame = Frame::decode(&mut reader)?;
        let taken = before - reader.len();
        assert!(taken > 0 && frame.encoded_len() <= taken, "{frame:?} from {taken} bytes");
        let again = encode(&frame);
        assert_eq!(Frame::decode(&mut Reader::new(&again)), Ok(frame));
        views(&frame);
    }
    Ok(())
}

/// The parts that are read later keep what was promised when they were checked.
pub(super) fn views(frame: &Frame<'_>) {
    match frame {
        Frame::Ack(ack) => {
            let ranges: Vec<_> = ack.ranges().collect();
            assert!((1..=64).contains(&ranges.len()) && ranges.len() == ack.ranges().len());
            assert_eq!(*ranges[0].end(), ack.largest());
            assert!(ranges.iter().all(|range| range.start() <= range.end()));
            assert!(ranges.windows(2).all(|pair| pair[1].end() + 1 < *pair[0].start()));
        }
        Frame::Hello(hello) => {
            let entries: Vec<_> = hello.protocols().collect();
            assert!(entries.len() <= 64 && entries.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(entries.iter().all(|entry| (1..=64).contains(&entry.name.len())));
            assert!(hello.agent().is_none_or(|agent| agent.len() <= 64));
            let limits = hello.limits();
            assert!(limits.max_data >= 65_536 && limits.max_streams <= 1 << 60);
            assert!(limits.ack_delay <= Duration::from_secs(1));
        }
        Frame::Close { reason, .. } => assert!(reason.len() <= 256),
        Frame::Stream(stream) => assert!(stream.end() < 1 << 62),
        _ => {}
    }
}

#[test]
fn every_truncation_is_refused() {
    for sample in samples() {
        assert_eq!(check(&sample), Ok(()));
        for len in 0..sample.len() {
            let frame = Frame::decode(&mut Reader::new(&sample[..len]));
            assert_eq!(frame, Err(DecodeError::Truncated), "{len} of {sample:02x?}");
        }
    }
}

#[test]
fn every_flipped_bit_gives_a_frame_within_the_bytes_or_an_error() {
    for sample in samples() {
        for bit in 0..sample.len() * 8 {
            let mut bytes = sample.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = check(&bytes);
            // And with something behind it that a longer length may reach into.
            bytes.extend_from_slice(&sample);
            let _ = check(&bytes);
        }
    }
}

#[test]
fn lengths_that_promise_too_much_are_refused() {
    for promised in [&[3][..], &[0x40, 3], &[0x7f, 0xff], &[0xbf, 0xff, 0xff, 0xff], &[0xff; 8]] {
        for front in [&[0x04][..], &[0x05, 0], &[0x13, 0], &[0x18, 0, 0], &[0x1b, 0, 0, 0, 0], &[0x40, 0x40]] {
            let bytes = [front, promised, &[b'x'; 2]].concat();
            let error = Frames::new(&bytes).next().unwrap().unwrap_err();
            assert!(matches!(error, DecodeError::Truncated | DecodeError::OutOfRange), "{bytes:02x?}: {error}");
        }
    }
}

#[test]
fn numbers_out_of_range() {
    let max = [0xff; 8];
    let out = |parts: &[&[u8]]| {
        let bytes = parts.concat();
        let frame = Frames::new(&bytes).next().unwrap();
        assert_eq!(frame, Err(DecodeError::OutOfRange), "{bytes:02x?}");
    };
    // ACK: the first length, a gap and a further length below zero.
    out(&[&[0x02, 5, 0, 0, 6][..]]);
    out(&[&[0x02, 5, 0, 1, 0, 4, 0][..]]);
    out(&[&[0x02, 5, 0, 1, 0, 0, 4][..]]);
    out(&[&[0x02, 5, 0, 1, 0][..], &max, &[0]]);
    out(&[&[0x02, 0, 0, 0, 1][..]]);
    out(&[&[0x02, 5, 0, 0][..], &max]);
    // NEW_CID that retires itself.
    out(&[&[0x08, 1, 2][..], &[0; 24]]);
    // Stream numbers with an index of 2^60 and more, and that many streams.
    let id = 1_u64 << 61 | 0b11 << 62;
    out(&[&[0x12][..], &id.to_be_bytes(), &[0]]);
    out(&[&[0x10][..], &(((1_u64 << 60) + 1) | 0b11 << 62).to_be_bytes()]);
    // Data that ends behind 2^62 - 1, and an unknown kind of stream.
    out(&[&[0x18, 0][..], &max, &[1, b'x']]);
    out(&[&[0x1a, 0, 0, 0, 3, 0][..]]);
}

#[test]
fn lists_and_texts_above_their_limits() {
    let mut ack = vec![0x02, 0x44, 0, 0, 63, 0];
    ack.extend([0; 126]);
    assert!(matches!(Frames::new(&ack).next(), Some(Ok(Frame::Ack(ack))) if ack.ranges().len() == 64));
    for count in [&[0x40, 64][..], &[0x41, 0], &[0xff; 8]] {
        let bytes = [&[0x02, 0x44, 0, 0][..], count, &[0; 200]].concat();
        let error = Frames::new(&bytes).next().unwrap().unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { max: 64, .. }), "{error}");
    }
    let reason = |len: usize, byte: u8| {
        let len_bytes = u16::try_from(len).unwrap() | 0x4000;
        let bytes = [&[0x05, 0][..], &len_bytes.to_be_bytes(), &vec![byte; len]].concat();
        Frames::new(&bytes).next().unwrap().map(drop)
    };
    assert_eq!(reason(256, b'x'), Ok(()));
    assert_eq!(reason(257, b'x'), Err(DecodeError::TooLong { len: 257, max: 256 }));
    assert_eq!(reason(3, 0xff), Err(DecodeError::BadText));
}

#[test]
fn every_error_is_counted_under_its_reason() {
    use structs::Rejected;
    for (error, rejected) in [
        (DecodeError::UnknownFrame(0x3f), Rejected::UnknownKind),
        (DecodeError::UnknownTag(9), Rejected::UnknownKind),
        (DecodeError::OutOfRange, Rejected::Malformed),
        (DecodeError::BadOrder, Rejected::Malformed),
        (DecodeError::BadKey, Rejected::WeakKey),
        (DecodeError::BadSignature, Rejected::Unauthentic),
    ] {
        assert_eq!(Rejected::from(error), rejected, "{error}");
        assert!(!error.to_string().ends_with('.'));
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        let _ = check(&bytes);
        // The iterator ends, whatever it reads.
        let frames: Vec<_> = Frames::new(&bytes).collect();
        prop_assert!(frames.len() <= bytes.len());
        prop_assert!(frames.iter().rev().skip(1).all(Result::is_ok), "something behind an error");
    }

    #[test]
    fn frames_with_a_byte_changed(which in 0..23_usize, at in 0..200_usize, byte: u8) {
        let mut bytes = samples().swap_remove(which);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = check(&bytes);
    }
}
