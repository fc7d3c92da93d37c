//! Public vectors of the three patterns, on both implementations of X25519.

use std::sync::Arc;

use crypto::{Backend, KeyPair, Resolver};
use serde_json::Value;
use snow::Builder;

const FILE: &str = include_str!("../../../../vectors/native/noise.json");

fn hex(value: &Value) -> Option<Vec<u8>> {
    Some(data_encoding::HEXLOWER.decode(value.as_str()?.as_bytes()).unwrap())
}

fn key(value: &Value) -> Option<[u8; 32]> {
    Some(hex(value)?.try_into().unwrap())
}

/// One end of a vector. All secrets are the vector's, all primitives ours.
fn end(vector: &Value, side: &str, backend: Backend) -> snow::HandshakeState {
    let field = |name: &str| &vector[format!("{side}_{name}")];
    let local = key(field("static")).map(|private| Arc::new(KeyPair::new(backend, &private)));
    let ephemeral = KeyPair::new(backend, &key(field("ephemeral")).unwrap());
    let params = vector["protocol_name"].as_str().unwrap().parse().unwrap();
    let (prologue, remote) = (hex(field("prologue")).unwrap(), hex(field("remote_static")));
    let psk = key(&field("psks")[0]);
    let private = key(field("static"));
    let mut builder = Builder::with_resolver(params, Box::new(Resolver::new(local, ephemeral)));
    builder = builder.prologue(&prologue).unwrap();
    if let Some(private) = &private {
        builder = builder.local_private_key(private).unwrap();
    }
    if let Some(remote) = &remote {
        builder = builder.remote_public_key(remote).unwrap();
    }
    if let Some(psk) = &psk {
        builder = builder.psk(0, psk).unwrap();
    }
    if side == "init" { builder.build_initiator().unwrap() } else { builder.build_responder().unwrap() }
}

fn check(vector: &Value, backend: Backend) {
    let (mut writer, mut reader) = (end(vector, "init", backend), end(vector, "resp", backend));
    let mut messages = vector["messages"].as_array().unwrap().iter();
    while !writer.is_handshake_finished() {
        let message = messages.next().unwrap();
        let (payload, expected) = (hex(&message["payload"]).unwrap(), hex(&message["ciphertext"]).unwrap());
        let mut out = vec![0; 1000];
        let len = writer.write_message(&payload, &mut out).unwrap();
        assert_eq!(out[..len], expected);
        let len = reader.read_message(&expected, &mut out).unwrap();
        assert_eq!(out[..len], payload);
        std::mem::swap(&mut writer, &mut reader);
    }
    if let Some(hash) = hex(&vector["handshake_hash"]) {
        assert_eq!((writer.get_handshake_hash(), reader.get_handshake_hash()), (&*hash, &*hash));
    }
    let (mut writer, mut reader) = (writer.into_transport_mode().unwrap(), reader.into_transport_mode().unwrap());
    for message in messages {
        let (payload, expected) = (hex(&message["payload"]).unwrap(), hex(&message["ciphertext"]).unwrap());
        let mut out = vec![0; 1000];
        let len = writer.write_message(&payload, &mut out).unwrap();
        assert_eq!(out[..len], expected);
        let len = reader.read_message(&expected, &mut out).unwrap();
        assert_eq!(out[..len], payload);
        std::mem::swap(&mut writer, &mut reader);
    }
}

#[test]
fn public_vectors() {
    let file: Value = serde_json::from_str(FILE).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    let count = |pattern: &str| {
        let name = format!("Noise_{pattern}_25519_ChaChaPoly_SHA256");
        vectors.iter().filter(|vector| vector["protocol_name"] == *name).count()
    };
    assert_eq!((count("IK"), count("XX"), count("NNpsk0"), vectors.len()), (2, 2, 1, 5));
    for vector in vectors {
        for &backend in Backend::ALL {
            check(vector, backend);
        }
    }
}
