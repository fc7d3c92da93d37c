//! The vectors that other implementations share.

use std::collections::BTreeSet;
use std::time::Duration;

use crypto::Identity;
use data_encoding::HEXLOWER;
use framing::record::{Record, SignedRecord};
use framing::uri::{Host, PeerUri};
use framing::{
    AnswerHeader, CloseCode, DataHeader, EcnCounts, FirstHeader, Frame, Frames, Hello, Kind, Limits, Open,
    PacketWriter, ProtocolEntry, Reader, Stream, StreamCode, StreamId, StreamKind,
};
use serde_json::Value;

use super::{encode, only};

const FRAMES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/native/frames.json"));
const RECORDS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/native/records.json"));

fn vectors(file: &str, list: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(file).unwrap();
    vectors[list].as_array().unwrap().clone()
}

/// The variant of an error, without its fields.
fn name(error: &impl std::fmt::Debug) -> String {
    let debug = format!("{error:?}");
    debug.split([' ', '(']).next().unwrap().to_owned()
}

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn stream_id(fields: &Value) -> StreamId {
    StreamId::from_value(number(&fields["stream"])).unwrap()
}

#[test]
fn every_frame_reads_and_writes_as_it_stands() {
    let mut seen = BTreeSet::new();
    for vector in vectors(FRAMES, "frames") {
        let kind = vector["type"].as_str().unwrap();
        let bytes = hex(&vector["frame_hex"]);
        assert_eq!(bytes.len() as u64, number(&vector["length"]));
        check(kind, &vector, &bytes);
        seen.insert(kind.to_owned());
    }
    assert_eq!(seen.len(), 23, "{seen:?}");
}

fn check(kind: &str, vector: &Value, bytes: &[u8]) {
    let fields = &vector["fields"];
    let read = only(bytes);
    let data = fields.get("data_hex").map(hex).unwrap_or_default();
    let expected = match kind {
        "PADDING" => Frame::Padding(number(&fields["run"]).try_into().unwrap()),
        "PING" => Frame::Ping,
        "ACK" | "ACK_ECN" => return check_ack(fields, bytes),
        "HELLO" => return check_hello(vector, bytes),
        "CLOSE" => {
            Frame::Close { code: CloseCode(number(&fields["code"])), reason: fields["reason"].as_str().unwrap() }
        }
        "PATH_CHALLENGE" => Frame::PathChallenge(array(&fields["data_hex"])),
        "PATH_RESPONSE" => Frame::PathResponse(array(&fields["data_hex"])),
        "NEW_CID" => Frame::NewCid {
            sequence: number(&fields["sequence"]),
            retire_prior_to: number(&fields["retire_prior_to"]),
            cid: array(&fields["cid_hex"]),
            token: array(&fields["token_hex"]),
        },
        "RETIRE_CID" => Frame::RetireCid { sequence: number(&fields["sequence"]) },
        "REKEY" => Frame::Rekey(array(&fields["key_hex"])),
        "REKEY_ACK" => Frame::RekeyAck(array(&fields["key_hex"])),
        "TICKET" => {
            Frame::Ticket { id: array(&fields["id_hex"]), lifetime: Duration::from_secs(number(&fields["lifetime_s"])) }
        }
        "OBSERVED" => Frame::Observed(fields["address"].as_str().unwrap().parse().unwrap()),
        "MAX_DATA" => Frame::MaxData(number(&fields["max"])),
        "MAX_STREAM_DATA" => Frame::MaxStreamData { id: stream_id(fields), max: number(&fields["max"]) },
        "MAX_STREAMS" => Frame::MaxStreams(number(&fields["max"])),
        "STREAM_RESET" => Frame::StreamReset {
            id: stream_id(fields),
            code: StreamCode(number(&fields["code"])),
            final_size: number(&fields["final_size"]),
        },
        "STREAM_STOP" => Frame::StreamStop { id: stream_id(fields), code: StreamCode(number(&fields["code"])) },
        "DATAGRAM" => Frame::Datagram { protocol: number(&fields["protocol"]), data: &data },
        "GOAWAY" => Frame::Goaway { code: CloseCode(number(&fields["code"])) },
        "STREAM" => Frame::Stream(Stream {
            id: stream_id(fields),
            offset: number(&fields["offset"]),
            open: fields["open"].as_object().map(|open| Open {
                protocol: number(&open["protocol"]),
                kind: StreamKind::from_byte(number(&open["kind"]).try_into().unwrap()).unwrap(),
            }),
            fin: fields["fin"].as_bool().unwrap(),
            data: &data,
        }),
        "UNKNOWN" => {
            let body = hex(&fields["body_hex"]);
            assert_eq!(read, Frame::Unknown { kind: number(&fields["kind"]), body: &body });
            read
        }
        other => panic!("no frame {other}"),
    };
    assert_eq!(read, expected);
    if vector["shortest"].as_bool().unwrap_or(true) {
        assert_eq!(HEXLOWER.encode(&encode(&expected)), HEXLOWER.encode(bytes));
    } else {
        assert!(encode(&expected).len() < bytes.len());
    }
}

fn check_ack(fields: &Value, bytes: &[u8]) {
    let Frame::Ack(ack) = only(bytes) else { panic!("no ACK") };
    let ranges: Vec<_> =
        fields["ranges"].as_array().unwrap().iter().map(|range| number(&range[0])..=number(&range[1])).collect();
    let ecn = fields.get("ecn").map(|ecn| EcnCounts {
        ect0: number(&ecn["ect0"]),
        ect1: number(&ecn["ect1"]),
        ce: number(&ecn["ce"]),
    });
    let delay = Duration::from_micros(number(&fields["delay_us"]));
    assert_eq!(ack.largest(), number(&fields["largest"]));
    assert_eq!(ack.ranges().collect::<Vec<_>>(), ranges);
    assert_eq!((ack.delay(), ack.ecn()), (delay, ecn));
    let mut space = vec![0; bytes.len()];
    let mut writer = PacketWriter::new(&mut space);
    assert!(writer.ack(ranges, delay, ecn));
    assert_eq!(writer.written(), bytes);
}

fn check_hello(vector: &Value, bytes: &[u8]) {
    let fields = &vector["fields"];
    let Frame::Hello(hello) = only(bytes) else { panic!("no HELLO") };
    let protocols: Vec<_> = fields["protocols"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| ProtocolEntry { name: entry[0].as_str().unwrap(), version: number(&entry[1]).try_into().unwrap() })
        .collect();
    let limits = &fields["limits"];
    let limits = Limits {
        max_data: number(&limits["max_data"]),
        max_stream_data: number(&limits["max_stream_data"]),
        max_streams: number(&limits["max_streams"]),
        max_message: number(&limits["max_message"]),
        max_datagram_frame: number(&limits["max_datagram_frame"]),
        ack_delay: Duration::from_micros(number(&limits["ack_delay_us"])),
    };
    let token = fields["reset_token_hex"].is_string().then(|| array(&fields["reset_token_hex"]));
    let agent = fields["agent"].as_str();
    assert_eq!(hello.protocols().collect::<Vec<_>>(), protocols);
    assert_eq!((hello.reset_token(), hello.agent()), (token, agent));
    assert_eq!(hello.limits(), limits);
    assert_eq!(encode(&Frame::Hello(hello)), bytes);
    if vector["composed"].as_bool().unwrap_or(true) {
        let body = Hello::compose(protocols, token, agent, &limits).unwrap();
        assert_eq!(body, hello.body());
    }
}

#[test]
fn what_must_be_refused_is() {
    let refused = vectors(FRAMES, "refused");
    assert!(refused.len() > 20);
    for vector in refused {
        let bytes = hex(&vector["payload_hex"]);
        let error = Frames::new(&bytes).next().unwrap().unwrap_err();
        assert_eq!(name(&error), vector["error"].as_str().unwrap(), "{}", vector["why"]);
    }
}

#[test]
fn headers() {
    let names = [
        ("INIT", Kind::Init),
        ("RESP", Kind::Resp),
        ("COOKIE", Kind::Cookie),
        ("XX1", Kind::Xx1),
        ("XX2", Kind::Xx2),
        ("XX3", Kind::Xx3),
        ("INIT_R", Kind::InitR),
        ("RESP_R", Kind::RespR),
        ("RETRY", Kind::Retry),
        ("DATA", Kind::Data),
    ];
    let vectors = vectors(FRAMES, "headers");
    for (name, kind) in names {
        assert!(vectors.iter().any(|vector| vector["type"] == name), "{name}");
        for vector in vectors.iter().filter(|vector| vector["type"] == name) {
            let (bytes, cid) = (hex(&vector["header_hex"]), array(&vector["cid_hex"]));
            let mut reader = Reader::new(&bytes);
            let written = if kind == Kind::Data {
                let phase = number(&vector["phase"]).try_into().unwrap();
                let header = DataHeader { phase, cid, number: number(&vector["number"]).try_into().unwrap() };
                assert_eq!(DataHeader::decode(&mut reader), Ok(header));
                header.encode().to_vec()
            } else {
                let first = FirstHeader { kind, version: number(&vector["version"]).try_into().unwrap(), cid };
                if let Some(responder) = vector.get("responder_hex").map(array) {
                    let header = AnswerHeader { first, responder };
                    assert_eq!(AnswerHeader::decode(&mut reader), Ok(header));
                    header.encode().to_vec()
                } else {
                    assert_eq!(FirstHeader::decode(&mut reader), Ok(first));
                    first.encode().to_vec()
                }
            };
            assert!(reader.is_empty());
            assert_eq!(written == bytes, vector["written"].as_bool().unwrap_or(true), "{name}");
        }
    }
}

#[test]
fn records() {
    let list = vectors(RECORDS, "records");
    assert_eq!(list.len(), 4);
    for vector in list {
        let identity = Identity::from_seed(array(&vector["seed_hex"]));
        let bytes = hex(&vector["record_hex"]);
        let signed = SignedRecord::decode(&bytes).unwrap();
        let expected = Record {
            sequence: number(&vector["sequence"]),
            expires: Duration::from_secs(number(&vector["expires"])),
            capabilities: number(&vector["capabilities"]),
            addresses: texts(&vector["addresses"]).map(|text| text.parse().unwrap()).collect(),
            relays: texts(&vector["relays_hex"]).map(|text| text.parse().unwrap()).collect(),
            vouchers: Vec::new(),
        };
        assert_eq!(signed.peer(), identity.peer_id());
        assert_eq!(signed.peer().as_bytes(), &array(&vector["peer_id_hex"]));
        assert_eq!(signed.record(), expected);
        let written = expected.sign(&identity).unwrap();
        assert_eq!(written == signed, vector["written"].as_bool().unwrap_or(true));
    }
    for vector in vectors(RECORDS, "refused") {
        let error = SignedRecord::decode(&hex(&vector["record_hex"])).unwrap_err();
        assert_eq!(name(&error), vector["error"].as_str().unwrap(), "{}", vector["why"]);
    }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap())
}

#[test]
fn uris() {
    for vector in vectors(RECORDS, "uris") {
        let text = vector["text"].as_str().unwrap();
        let uri: PeerUri = text.parse().unwrap();
        assert_eq!(uri.peer.as_bytes(), &array(&vector["peer_id_hex"]));
        let host = match &uri.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.as_str().to_owned(),
        };
        assert_eq!((host.as_str(), u64::from(uri.port)), (vector["host"].as_str().unwrap(), number(&vector["port"])));
        assert_eq!(uri.to_string() == text, vector["canonical"].as_bool().unwrap_or(true), "{text}");
    }
    let bad = vectors(RECORDS, "bad_uris");
    assert_eq!(bad.len(), 12);
    for vector in bad {
        let error = vector["text"].as_str().unwrap().parse::<PeerUri>().unwrap_err();
        assert_eq!(name(&error), vector["error"].as_str().unwrap(), "{}", vector["text"]);
    }
}
