//! The codec: what is decoded encodes to what it was, and nothing else is accepted.

use framing::EncodeError;
use framing::v12::{Batcher, Chunk, Frame, Kind, PexEntry, WireId, encode};
use sim::clock;
use structs::Rejected;

use crate::input::Input;

/// Decodes the input as a datagram, and encodes what fields can be read from it.
pub fn v12_frame(data: &[u8]) {
    check(data, 0);
    build(&mut Input::new(data));
}

/// A frame that decodes must encode, to the same bytes as far as they mean anything.
fn check(bytes: &[u8], depth: usize) {
    let frame = match Frame::decode(bytes) {
        Ok(frame) => frame,
        Err(error) => {
            assert!(Rejected::ALL.contains(&Rejected::from(error)));
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(Some(frame.kind()), bytes.first().copied().and_then(Kind::of));
    let mut out = b"before".to_vec();
    assert_eq!(frame.encode(&mut out), Ok(()), "{frame:?}");
    let encoded = out.strip_prefix(b"before").expect("encoding only appends");
    assert_eq!(Frame::decode(encoded), Ok(frame));
    match frame {
        Frame::Hello { .. } | Frame::HelloAck { .. } | Frame::Pong(_) | Frame::Goaway { .. } => {
            assert!(bytes.starts_with(encoded), "{frame:?}");
        }
        Frame::Lan { .. } => assert!(encoded.eq_ignore_ascii_case(bytes), "{frame:?}"),
        _ => assert_eq!(encoded, bytes, "{frame:?}"),
    }
    views(&frame);
    if let Frame::Batch(frames) = frame {
        assert_eq!(depth, 0, "a BATCH in a BATCH");
        for inner in frames {
            check(inner, depth + 1);
        }
        batcher(frames.iter().map(<[u8]>::to_vec).collect());
    }
}

/// Lists give as many entries as they say, and fields are within what the documentation promises.
fn views(frame: &Frame<'_>) {
    match *frame {
        Frame::Ihave(hashes) => assert_eq!(hashes.iter().count(), hashes.len()),
        Frame::Have(keys) => assert_eq!(keys.iter().count(), keys.len()),
        Frame::Batch(frames) => {
            assert_eq!(frames.iter().count(), frames.len());
            assert!(frames.iter().all(|frame| !frame.is_empty() && frame[0] != Kind::Batch.byte()));
        }
        Frame::Pex(pex) => {
            assert_eq!(pex.iter().count(), pex.len());
            assert!(pex.iter().all(|entry| entry.addr.port() != 0));
        }
        Frame::Lan { addr, .. } | Frame::RelayAnn { addr, .. } | Frame::RelayFwd { addr, .. } => {
            assert_ne!(addr.port(), 0);
        }
        Frame::Frag { index, total, data, .. } => assert!(index < total && (1..=1188).contains(&data.len())),
        Frame::Chunk(Chunk::Part { index, total, data, .. }) => {
            assert!(index < total && (1..=900).contains(&data.len()));
        }
        Frame::Chunk(Chunk::Whole { value, .. }) => assert!(value.len() <= 900),
        Frame::Data(sealed) => assert!(sealed.len() >= 28),
        _ => {}
    }
}

/// Frames leave a batcher in their order, none is lost, and no BATCH holds another or exceeds its size.
fn batcher(frames: Vec<Vec<u8>>) {
    let now = clock::base();
    let mut batcher = Batcher::new();
    for frame in &frames {
        batcher.push(frame.clone(), now);
    }
    batcher.flush();
    let mut left = Vec::new();
    while let Some(datagram) = batcher.poll(now) {
        match Frame::decode(&datagram) {
            Ok(Frame::Batch(inner)) => {
                assert!(inner.len() > 1 && datagram.len() <= 1402);
                left.extend(inner.iter().map(<[u8]>::to_vec));
            }
            _ => left.push(datagram),
        }
    }
    assert_eq!(left, frames);
    assert!(batcher.is_empty() && batcher.buffered_bytes() == 0);
}

/// What the functions of [`encode`] accept decodes to what was put in; what they refuse leaves no trace.
fn build(input: &mut Input<'_>) {
    let mut out = b"before".to_vec();
    let kind = Kind::ALL[input.below(Kind::ALL.len())];
    let (id, addr) = (WireId::from(input.array::<8>()), (input.array::<4>(), input.u16()));
    let addr = std::net::SocketAddrV4::new(addr.0.into(), addr.1);
    let result = match kind {
        Kind::Data => encode::data(input.rest(), &mut out),
        Kind::Ihave => encode::ihave((0..input.u16() % 300).map(|_| input.array()), &mut out),
        Kind::Lan => {
            let topic = input.flip().then(|| String::from_utf8_lossy(input.bytes()).into_owned());
            encode::lan(input.array::<20>().into(), addr, topic.as_deref(), &mut out)
        }
        Kind::Frag => encode::frag(input.array(), input.u16(), input.u16(), input.rest(), &mut out),
        Kind::Have => {
            let keys: Vec<&[u8]> = (0..input.u16() % 300).map(|_| input.bytes()).collect();
            encode::have(keys, &mut out)
        }
        Kind::Want => encode::want(input.rest(), &mut out),
        Kind::Chunk if input.flip() => encode::chunk(input.bytes(), input.rest(), &mut out),
        Kind::Chunk => encode::chunk_part(input.bytes(), input.u16(), input.u16(), input.rest(), &mut out),
        Kind::Batch => {
            let frames: Vec<&[u8]> = (0..input.u16() % 300).map(|_| input.bytes()).collect();
            encode::batch(frames, &mut out)
        }
        Kind::ChunkAck => encode::chunk_ack(input.bytes(), input.u16(), &mut out),
        Kind::RelayAnn => encode::relay_ann(id, addr, &mut out),
        Kind::RelayReq => encode::relay_req(id, input.array::<8>().into(), addr, &mut out),
        Kind::RelayFwd => encode::relay_fwd(id, addr, &mut out),
        Kind::Pex => {
            let compact = input.flip();
            let entries: Vec<PexEntry> = (0..input.u16() % 300)
                .map(|_| PexEntry {
                    id: input.array::<8>().into(),
                    addr: std::net::SocketAddrV4::new(input.array::<4>().into(), input.u16()),
                })
                .collect();
            if compact { encode::pex_compact(entries, &mut out) } else { encode::pex(entries, &mut out) }
        }
        Kind::Ping | Kind::Pong | Kind::Goaway | Kind::Hello | Kind::HelloAck => return,
    };
    let encoded = out.strip_prefix(b"before").expect("encoding only appends");
    match result {
        Ok(()) => {
            let frame = Frame::decode(encoded);
            assert_eq!(frame.map(|frame| frame.kind()), Ok(kind), "{encoded:x?}");
            check(encoded, 0);
        }
        Err(error) => {
            assert!(encoded.is_empty(), "{error:?} left {encoded:x?}");
            assert!(!matches!(error, EncodeError::Nested) || kind == Kind::Batch);
        }
    }
}
