//! Frames captured from the reference implementations, both ways.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use data_encoding::HEXLOWER;
use framing::v12::{Chunk, Frame, GoawayReason, PexEntry, Pong, Reassembler, encode, fragments};
use framing::{DecodeError, EncodeError};
use serde_json::Value;

use super::{patterned, start};

const FRAMES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/v12/frames.json"));
const FRAGMENTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/v12/fragments.json"));

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    T::try_from(value.as_u64().unwrap()).ok().unwrap()
}

fn addr(fields: &Value, ip: &str, port: &str) -> SocketAddrV4 {
    SocketAddrV4::new(fields[ip].as_str().unwrap().parse().unwrap(), number(&fields[port]))
}

fn key(fields: &Value) -> &[u8] {
    fields["key"].as_str().unwrap().as_bytes()
}

#[test]
fn every_frame_reads_and_writes_as_the_reference_does() {
    let vectors: Value = serde_json::from_str(FRAMES).unwrap();
    let mut seen = BTreeMap::new();
    for vector in vectors["vectors"].as_array().unwrap() {
        let name = vector["type"].as_str().unwrap();
        let bytes = hex(&vector["frame_hex"]);
        assert_eq!(bytes.len(), number::<usize>(&vector["length"]));
        check(name, &vector["fields"], &bytes);
        *seen.entry(name).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 17, "{seen:?}");
    assert_eq!(seen.values().sum::<usize>(), 23);
}

fn check(name: &str, fields: &Value, bytes: &[u8]) {
    let mut out = vec![0xee];
    let out_ref = &mut out;
    let expected: Result<Frame<'_>, DecodeError> = match name {
        "HELLO" | "HELLO_ACK" => {
            let (id, key) = (array::<8>(&fields["wire_id_hex"]).into(), array::<32>(&fields["public_hex"]).into());
            if name == "HELLO" {
                encode::hello(id, key, out_ref);
                Ok(Frame::Hello { id, key })
            } else {
                encode::hello_ack(id, key, out_ref);
                Ok(Frame::HelloAck { id, key })
            }
        }
        "PING" => {
            let (time_ms, id) = (number(&fields["timestamp_ms"]), array::<20>(&fields["id_hex"]).into());
            encode::ping(time_ms, id, out_ref);
            Ok(Frame::Ping { time_ms, id, extra: &[] })
        }
        "PONG" => {
            let id = array::<20>(&fields["id_hex"]).into();
            encode::pong(id, out_ref);
            Ok(Frame::Pong(Pong::Id(id)))
        }
        "HAVE" => {
            let keys: Vec<&[u8]> =
                fields["keys"].as_array().unwrap().iter().map(|k| k.as_str().unwrap().as_bytes()).collect();
            encode::have(keys.iter().copied(), out_ref).unwrap();
            let Ok(Frame::Have(view)) = Frame::decode(bytes) else { panic!("{name}") };
            assert_eq!(view.iter().collect::<Vec<_>>(), keys);
            assert_eq!(view.len(), keys.len());
            Ok(Frame::Have(view))
        }
        "WANT" => {
            encode::want(key(fields), out_ref).unwrap();
            Ok(Frame::Want { key: key(fields) })
        }
        "CHUNK" if fields["form"] == "single" => {
            let value = hex(&fields["value_hex"]);
            encode::chunk(key(fields), &value, out_ref).unwrap();
            assert_eq!(Frame::decode(bytes), Ok(Frame::Chunk(Chunk::Whole { key: key(fields), value: &value })));
            Frame::decode(bytes)
        }
        "CHUNK" => {
            let (index, total) = (number::<u16>(&fields["index"]), number(&fields["total"]));
            let value = patterned(2000);
            let data = value.chunks(900).nth(usize::from(index)).unwrap();
            encode::chunk_part(key(fields), index, total, data, out_ref).unwrap();
            let part = Chunk::Part { key: key(fields), index, total, data };
            assert_eq!(Frame::decode(bytes), Ok(Frame::Chunk(part)));
            Frame::decode(bytes)
        }
        "CHUNK_ACK" => {
            let index = number(&fields["index"]);
            encode::chunk_ack(key(fields), index, out_ref).unwrap();
            Ok(Frame::ChunkAck { key: key(fields), index })
        }
        "RELAY_ANN" => {
            let (id, addr) = (array::<8>(&fields["wire_id_hex"]).into(), addr(fields, "ip", "port"));
            encode::relay_ann(id, addr, out_ref).unwrap();
            Ok(Frame::RelayAnn { id, addr })
        }
        "RELAY_REQ" => {
            let from = array::<8>(&fields["from_wire_id_hex"]).into();
            let to = array::<8>(&fields["to_wire_id_hex"]).into();
            let addr = addr(fields, "from_ip", "from_port");
            encode::relay_req(from, to, addr, out_ref).unwrap();
            Ok(Frame::RelayReq { from, to, addr })
        }
        "RELAY_FWD" => {
            let (from, addr) = (array::<8>(&fields["from_wire_id_hex"]).into(), addr(fields, "ip", "port"));
            encode::relay_fwd(from, addr, out_ref).unwrap();
            Ok(Frame::RelayFwd { from, addr })
        }
        "PEX" => {
            let peers = fields["peers"].as_array().unwrap().iter();
            let entries: Vec<_> =
                peers.map(|p| PexEntry { id: array::<8>(&p["id_hex"]).into(), addr: addr(p, "ip", "port") }).collect();
            encode::pex(entries.iter().copied(), out_ref).unwrap();
            let Ok(Frame::Pex(view)) = Frame::decode(bytes) else { panic!("{name}") };
            assert!(!view.is_compact());
            assert_eq!(view.iter().collect::<Vec<_>>(), entries);
            Ok(Frame::Pex(view))
        }
        "IHAVE" => {
            let hashes: Vec<[u8; 8]> = fields["hashes_hex"].as_array().unwrap().iter().map(array).collect();
            encode::ihave(hashes.iter().copied(), out_ref).unwrap();
            let Ok(Frame::Ihave(view)) = Frame::decode(bytes) else { panic!("{name}") };
            assert_eq!(view.iter().collect::<Vec<_>>(), hashes);
            Ok(Frame::Ihave(view))
        }
        "GOAWAY" => {
            // The one byte is read, but never sent: ours has two.
            encode::goaway(GoawayReason::Requested, out_ref);
            assert_eq!(out_ref.split_off(1), [0x0a, 0x00]);
            assert_eq!(Frame::decode(&[0x0a, 0x00]), Ok(Frame::Goaway { reason: Some(GoawayReason::Requested) }));
            out_ref.push(0x0a);
            Ok(Frame::Goaway { reason: None })
        }
        "LAN" => {
            let (id, addr) = (array::<20>(&fields["id_hex"]).into(), addr(fields, "ip", "port"));
            let topic = fields["topic_hash"].as_str().filter(|topic| !topic.is_empty());
            encode::lan(id, addr, topic, out_ref).unwrap();
            Ok(Frame::Lan { id, addr, topic })
        }
        "BATCH" => {
            let frames: Vec<Vec<u8>> = fields["frames_hex"].as_array().unwrap().iter().map(hex).collect();
            encode::batch(frames.iter().map(Vec::as_slice), out_ref).unwrap();
            let Ok(Frame::Batch(view)) = Frame::decode(bytes) else { panic!("{name}") };
            assert_eq!(view.iter().collect::<Vec<_>>(), frames);
            assert!(view.iter().all(|frame| Frame::decode(frame).is_ok()));
            Ok(Frame::Batch(view))
        }
        // No frame of this wire: the first byte of STUN means nothing here.
        "STUN_BINDING_REQUEST" => {
            out_ref.extend_from_slice(bytes);
            Err(DecodeError::UnknownKind(0x00))
        }
        other => panic!("a vector of an unknown type: {other}"),
    };
    let decoded = Frame::decode(bytes);
    assert_eq!(decoded, expected, "{name}");
    assert_eq!(out[1..], *bytes, "{name}: encoders append exactly the frame");
    if let Ok(frame) = decoded {
        assert_eq!(frame.kind().byte(), bytes[0]);
        let mut again = Vec::new();
        assert_eq!(frame.encode(&mut again), Ok::<(), EncodeError>(()));
        assert_eq!(again, bytes, "{name}");
    }
}

#[test]
fn messages_are_cut_and_joined_as_the_reference_does() {
    let vectors: Value = serde_json::from_str(FRAGMENTS).unwrap();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let payload = patterned(number(&vector["payload_len"]));
        let id = array(&vector["frag_id_hex"]);
        let total: u16 = number(&vector["total"]);
        let expected: Vec<Vec<u8>> = vector["frames_hex"].as_array().unwrap().iter().map(hex).collect();

        let frames = fragments(id, &payload).unwrap();
        assert_eq!(frames.len(), usize::from(total));
        assert_eq!(frames.collect::<Vec<_>>(), expected);

        let mut reassembler = Reassembler::default();
        let mut message = None;
        for (n, frame) in expected.iter().enumerate() {
            assert_eq!(message, None);
            let Ok(Frame::Frag { id: frame_id, index, total: frame_total, data }) = Frame::decode(frame) else {
                panic!("piece {n}")
            };
            assert_eq!((frame_id, usize::from(index), frame_total), (id, n, total));
            message = reassembler.add(frame_id, index, frame_total, data, start()).unwrap();
        }
        assert_eq!(message.as_deref(), Some(&payload[..]));
    }
}
