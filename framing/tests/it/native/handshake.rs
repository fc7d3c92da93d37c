//! The worked example of SPEC 6.7: a handshake from fixed seeds, and the first packet behind it.

use std::time::Instant;

use crypto::handshake::{Incoming, InitPayload, Initiator, NetworkId, RespPayload, VERSIONS};
use crypto::record::RecordKeys;
use crypto::{Backend, Cipher, Identity, KeyPair, Seed};
use data_encoding::HEXLOWER;
use framing::header::destination;
use framing::{
    AnswerHeader, DataHeader, FirstHeader, Frame, Frames, Hello, Kind, Limits, Open, PacketWriter, ProtocolEntry,
    Reader, Role, Stream, StreamId, StreamKind,
};
use serde_json::{Value, json};

const SPEC: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../SPEC.md"));
const VECTOR: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/native/handshake.json"));

const CID_I: [u8; 8] = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7];
const CID_R: [u8; 8] = [0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7];
const SAYS: InitPayload =
    InitPayload { timestamp: 1_790_000_000_000_000_000, versions: VERSIONS, capabilities: 0, max_datagram: 1452 };

fn alice() -> Identity {
    Identity::from_seed([1; 32])
}

fn bob() -> Identity {
    Identity::from_seed([2; 32])
}

fn answers() -> RespPayload {
    RespPayload {
        versions: VERSIONS,
        capabilities: 0,
        max_datagram: 1452,
        observed: "192.0.2.1:4242".parse().unwrap(),
        reset_token: [0x77; 16],
    }
}

/// HELLO and the first words on a stream.
fn plaintext() -> Vec<u8> {
    let entries = [ProtocolEntry { name: "chat", version: 1 }];
    let hello = Hello::compose(entries, Some([0x66; 16]), Some("example/1"), &Limits::INITIAL).unwrap();
    let open = Some(Open { protocol: 0, kind: StreamKind::Bytes });
    let id = StreamId::new(0, Role::Dialler);
    let mut space = [0; 200];
    let mut writer = PacketWriter::new(&mut space);
    assert!(Frame::Hello(Hello::parse(&hello).unwrap()).encode(&mut writer));
    assert!(Frame::Stream(Stream { id, offset: 0, open, fin: true, data: b"hi" }).encode(&mut writer));
    writer.written().to_vec()
}

/// Everything in the example, computed.
fn example() -> Value {
    let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
    let (mut rng_i, mut rng_r) = (Seed::fixed(1).rng(), Seed::fixed(2).rng());
    // The first thing that either side draws is its ephemeral key.
    let ephemeral = |n| Seed::fixed(n).rng().array::<32>();
    let network = NetworkId::default();
    let mut dial = Initiator::ik(&alice(), bob().peer_id(), CID_I, &SAYS, network, &mut rng_i).unwrap();
    let init = dial.message().to_vec();
    let Ok(Incoming::Init(incoming)) = Incoming::parse(&init) else { panic!("no INIT") };
    let accepted = incoming.accept(&bob(), network).unwrap();
    let (resp, at_bob) = accepted.reply(CID_R, &answers(), &mut rng_r).unwrap();
    let at_alice = dial.finish(&resp, None).unwrap();
    assert_eq!((at_alice.payload, at_alice.remote_cid), (answers(), CID_R));
    assert_eq!(at_alice.secrets.hash(), at_bob.secrets.hash());
    let mut keys = RecordKeys::new(&at_alice.secrets, Cipher::ChaCha20Poly1305).unwrap();
    let plaintext = plaintext();
    let header = DataHeader { phase: 0, cid: CID_R, number: 0 };
    let mut data = [&header.encode()[..], &plaintext, &[0; 16]].concat();
    keys.seal(&mut data, 0).unwrap();

    let public = |secret: &[u8; 32]| *KeyPair::new(Backend::default(), secret).public();
    assert_eq!(init[12..44], public(&ephemeral(1)), "the ephemeral key is the first of what is drawn");
    assert_eq!(resp[20..52], public(&ephemeral(2)));
    json!({
        "description": "An IK handshake and the first sealed packet, from fixed seeds (SPEC 6.7). Identities are those of \
                        the seeds, the network id is zero, the cipher is ChaCha20-Poly1305.",
        "initiator": {
            "seed_hex": hex(&[1; 32]),
            "peer_id_hex": hex(alice().peer_id().as_bytes()),
            "x25519_hex": hex(&alice().peer_id().x25519()),
            "ephemeral_secret_hex": hex(&ephemeral(1)),
            "cid_hex": hex(&CID_I),
        },
        "responder": {
            "seed_hex": hex(&[2; 32]),
            "peer_id_hex": hex(bob().peer_id().as_bytes()),
            "x25519_hex": hex(&bob().peer_id().x25519()),
            "ephemeral_secret_hex": hex(&ephemeral(2)),
            "cid_hex": hex(&CID_R),
        },
        "init_payload": { "timestamp": SAYS.timestamp, "versions": 1, "capabilities": 0, "max_datagram": 1452 },
        "resp_payload": {
            "versions": 1, "capabilities": 0, "max_datagram": 1452,
            "observed": "192.0.2.1:4242", "reset_token_hex": hex(&[0x77; 16]),
        },
        "init_hex": hex(&init),
        "resp_hex": hex(&resp),
        "handshake_hash_hex": hex(at_alice.secrets.hash()),
        "exporter_example_hex": hex(keys.exporter(b"example").as_slice()),
        "first_packet": { "number": 0, "plaintext_hex": hex(&plaintext), "datagram_hex": hex(&data) },
    })
}

/// The code block behind a line that begins with `name`, without white space.
fn in_spec(name: &str) -> Vec<u8> {
    let (_, block) = SPEC.split_once(&format!("\n{name}\n```text\n")).unwrap_or_else(|| panic!("SPEC has no {name}"));
    let (block, _) = block.split_once("```").unwrap();
    let hex: String = block.chars().filter(|c| !c.is_whitespace()).collect();
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

#[test]
fn the_vector_is_what_is_computed() {
    let vector: Value = serde_json::from_str(VECTOR).unwrap();
    let example = example();
    assert_eq!(vector, example, "the vector should be:\n{example:#}");
}

/// Whoever has only the document and the seeds comes to the same.
#[test]
fn the_specification_shows_a_handshake_that_works() {
    let (init, resp) = (in_spec("INIT:"), in_spec("RESP:"));
    let (plain, mut data) = (in_spec("Plaintext of the first packet:"), in_spec("First packet:"));
    let vector: Value = serde_json::from_str(VECTOR).unwrap();
    for (bytes, name) in [(&init, "/init_hex"), (&resp, "/resp_hex"), (&data, "/first_packet/datagram_hex")] {
        assert_eq!(HEXLOWER.encode(bytes), vector.pointer(name).unwrap().as_str().unwrap(), "{name}");
    }

    let header = FirstHeader::decode(&mut Reader::new(&init)).unwrap();
    assert_eq!(header, FirstHeader { kind: Kind::Init, version: 1, cid: CID_I });
    assert_eq!((init.len(), resp.len()), (180, 132));
    let Ok(Incoming::Init(incoming)) = Incoming::parse(&init) else { panic!("no INIT") };
    assert!(incoming.check_mac1(&bob()) && !incoming.check_mac1(&alice()));
    let accepted = incoming.accept(&bob(), NetworkId::default()).unwrap();
    assert_eq!((accepted.peer(), *accepted.payload()), (alice().peer_id(), SAYS));
    let (answer, established) = accepted.reply(CID_R, &answers(), &mut Seed::fixed(2).rng()).unwrap();
    assert_eq!(answer, resp);
    let first = FirstHeader { kind: Kind::Resp, ..header };
    assert_eq!(AnswerHeader::decode(&mut Reader::new(&resp)), Ok(AnswerHeader { first, responder: CID_R }));
    assert_eq!(destination(&resp), Some(CID_I));

    assert_eq!(destination(&data), Some(CID_R));
    let mut keys = RecordKeys::new(&established.secrets, Cipher::ChaCha20Poly1305).unwrap();
    let opened = keys.open(&mut data, Instant::now()).unwrap();
    assert_eq!((opened.pn, &*opened.payload), (0, &plain[..]));
    let frames: Vec<_> = Frames::new(opened.payload).map(Result::unwrap).collect();
    let [Frame::Hello(hello), Frame::Stream(stream)] = frames[..] else { panic!("{frames:?}") };
    assert_eq!(hello.protocols().collect::<Vec<_>>(), [ProtocolEntry { name: "chat", version: 1 }]);
    assert_eq!((hello.agent(), hello.reset_token()), (Some("example/1"), Some([0x66; 16])));
    assert_eq!(hello.limits(), Limits::INITIAL);
    assert!(stream.fin && stream.data == b"hi" && stream.id.value() == 0);
}
