//! decode(encode(x)) = x for every frame.

use std::net::{Ipv4Addr, SocketAddrV4};

use framing::v12::{Chunk, Frame, GoawayReason, PexEntry, Pong, encode};
use proptest::collection::vec;
use proptest::prelude::*;

fn addr() -> impl Strategy<Value = SocketAddrV4> {
    (any::<u32>(), 1..=u16::MAX).prop_map(|(ip, port)| SocketAddrV4::new(Ipv4Addr::from(ip), port))
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=255)
}

fn piece() -> impl Strategy<Value = (u16, u16)> {
    (1..=u16::MAX).prop_flat_map(|total| (0..total, Just(total)))
}

fn roundtrip(frame: Frame<'_>) {
    let mut out = Vec::new();
    frame.encode(&mut out).unwrap();
    assert_eq!(out[0], frame.kind().byte());
    assert_eq!(Frame::decode(&out), Ok(frame));
}

proptest! {
    #[test]
    fn session(id in any::<[u8; 8]>(), id20 in any::<[u8; 20]>(), key in any::<[u8; 32]>(), time_ms: u64,
               extra in vec(any::<u8>(), 0..40), code: Option<u8>, sealed in vec(any::<u8>(), 28..2000)) {
        let (id, id20, key) = (id.into(), id20.into(), key.into());
        roundtrip(Frame::Hello { id, key });
        roundtrip(Frame::HelloAck { id, key });
        roundtrip(Frame::Ping { time_ms, id: id20, extra: &extra });
        roundtrip(Frame::Pong(Pong::Id(id20)));
        roundtrip(Frame::Pong(Pong::Echo { time_ms, id: id20, extra: &extra }));
        roundtrip(Frame::Goaway { reason: code.map(GoawayReason::from_code) });
        roundtrip(Frame::Data(&sealed));
    }

    #[test]
    fn sync(key in key(), (index, total) in piece(), value in vec(any::<u8>(), 0..=900), data in vec(any::<u8>(), 1..=900)) {
        roundtrip(Frame::Want { key: &key });
        roundtrip(Frame::ChunkAck { key: &key, index });
        roundtrip(Frame::Chunk(Chunk::Whole { key: &key, value: &value }));
        roundtrip(Frame::Chunk(Chunk::Part { key: &key, index, total, data: &data }));
    }

    #[test]
    fn addresses(from in any::<[u8; 8]>(), to in any::<[u8; 8]>(), id in any::<[u8; 20]>(), addr in addr(), topic in "[0-9a-f]{1,64}") {
        roundtrip(Frame::RelayAnn { id: from.into(), addr });
        roundtrip(Frame::RelayReq { from: from.into(), to: to.into(), addr });
        roundtrip(Frame::RelayFwd { from: from.into(), addr });
        roundtrip(Frame::Lan { id: id.into(), addr, topic: Some(&topic) });
        roundtrip(Frame::Lan { id: id.into(), addr, topic: None });
    }

    #[test]
    fn pieces(id in any::<[u8; 8]>(), (index, total) in piece(), data in vec(any::<u8>(), 1..=1188)) {
        roundtrip(Frame::Frag { id, index, total, data: &data });
    }
}

proptest! {
    // The lists are long; a few dozen of them are enough.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn lists(keys in vec(key(), 0..=255), hashes in vec(any::<[u8; 8]>(), 0..=200),
             entries in vec((any::<[u8; 8]>(), addr()), 0..=255), frames in vec(vec(0..0x13_u8, 1..400), 0..=255)) {
        let mut out = Vec::new();
        encode::have(keys.iter().map(Vec::as_slice), &mut out).unwrap();
        let Ok(Frame::Have(view)) = Frame::decode(&out) else { panic!() };
        prop_assert!(view.into_iter().eq(keys.iter().map(Vec::as_slice)));
        roundtrip(Frame::Have(view));

        let mut out = Vec::new();
        encode::ihave(hashes.iter().copied(), &mut out).unwrap();
        let Ok(Frame::Ihave(view)) = Frame::decode(&out) else { panic!() };
        prop_assert!(view.iter().eq(hashes));
        roundtrip(Frame::Ihave(view));

        let entries: Vec<_> = entries.into_iter().map(|(id, addr)| PexEntry { id: id.into(), addr }).collect();
        let mut out = Vec::new();
        encode::pex(entries.iter().copied(), &mut out).unwrap();
        let Ok(Frame::Pex(view)) = Frame::decode(&out) else { panic!() };
        prop_assert!(!view.is_compact() && view.into_iter().eq(entries.iter().copied()));
        roundtrip(Frame::Pex(view));

        let mut out = Vec::new();
        encode::pex_compact(entries.iter().copied(), &mut out).unwrap();
        let Ok(Frame::Pex(view)) = Frame::decode(&out) else { panic!() };
        prop_assert_eq!(view.is_compact(), !entries.is_empty());
        prop_assert!(view.iter().eq(entries));
        roundtrip(Frame::Pex(view));

        let mut out = Vec::new();
        encode::batch(frames.iter().map(Vec::as_slice), &mut out).unwrap();
        let Ok(Frame::Batch(view)) = Frame::decode(&out) else { panic!() };
        prop_assert!(view.into_iter().eq(frames.iter().map(Vec::as_slice)));
        roundtrip(Frame::Batch(view));
    }
}
