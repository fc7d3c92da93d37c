//! The same handshakes by `snow` on its own primitives: equal keys must give equal bytes.
//!
//! Its primitives are other generations of the crates than ours (curve25519-dalek 4, chacha20poly1305 0.10, sha2 0.10),
//! and it derives public keys itself. Headers and MACs are written here a second time, from their specification.

use crypto::handshake::{Incoming, Initiator};
use crypto::{Backend, Identity, Seed};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

use super::{CID_I, CID_R, HELLO, NETWORK, PSK, init_r, ticket, welcome, xx1};
use crate::identity::x25519_private;

const RUNS: u64 = 1000;

/// `snow`'s own primitives; randomness is not needed, because keys are given.
pub(super) struct Reference;

pub(super) struct NoRandom;

impl Random for NoRandom {
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), snow::Error> {
        Err(snow::Error::Rng)
    }
}

impl CryptoResolver for Reference {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(NoRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

pub(super) fn reference<'a>(pattern: &str, prologue: &'a [u8], ephemeral: &'a [u8; 32]) -> Builder<'a> {
    let params = format!("Noise_{pattern}_25519_ChaChaPoly_SHA256").parse().unwrap();
    Builder::with_resolver(params, Box::new(Reference))
        .prologue(prologue)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(ephemeral)
}

pub(super) fn write(state: &mut HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 2000];
    let len = state.write_message(payload, &mut message).unwrap();
    message.truncate(len);
    message
}

pub(super) fn read(state: &mut HandshakeState, message: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; 2000];
    let len = state.read_message(message, &mut payload).unwrap();
    payload.truncate(len);
    payload
}

pub(super) fn mac(key: &[&[u8]], data: &[u8]) -> Vec<u8> {
    let key = Sha256::digest(key.concat());
    Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(data).finalize().into_bytes()[..16].to_vec()
}

/// With the first message's header in front and mac1, or nothing, behind.
pub(super) fn framed(header: &[u8], noise: &[u8], key: Option<&[&[u8]]>) -> Vec<u8> {
    let message = [header, noise].concat();
    let mac = key.map(|key| mac(key, &message)).unwrap_or_default();
    [message, mac].concat()
}

pub(super) fn prologue(header: &[u8], ticket: &[u8]) -> Vec<u8> {
    [b"setowire native 1", [0; 32].as_slice(), header, ticket].concat()
}

/// The 40 bytes of [`HELLO`], by hand.
pub(super) fn hello() -> Vec<u8> {
    let fields: [&[u8]; 5] = [
        &HELLO.timestamp.to_be_bytes(),
        &HELLO.versions.to_be_bytes(),
        &HELLO.capabilities.to_be_bytes(),
        &HELLO.max_datagram.to_be_bytes(),
        &[0; 18],
    ];
    fields.concat()
}

/// The 48 bytes of [`welcome`], by hand.
pub(super) fn greeting() -> Vec<u8> {
    let welcome = welcome();
    let fields: [&[u8]; 6] = [
        &welcome.versions.to_be_bytes(),
        &welcome.capabilities.to_be_bytes(),
        &welcome.max_datagram.to_be_bytes(),
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 7],
        &4000u16.to_be_bytes(),
        &welcome.reset_token,
    ];
    fields.concat()
}

/// Everything two runs need: identities, their secrets, and ephemeral keys.
struct Cast {
    alice: Identity,
    bob: Identity,
    /// X25519 private keys of both.
    a: [u8; 32],
    b: [u8; 32],
    e_i: [u8; 32],
    e_r: [u8; 32],
    seed: Seed,
}

impl Cast {
    fn new(run: u64) -> Self {
        let seed = Seed::fixed(run).fork("cast");
        let (seed_a, seed_b) = (seed.fork("a").rng().array(), seed.fork("b").rng().array());
        // Each pair of implementations in turn.
        let backend = |n: u64| Backend::ALL[usize::try_from(n).unwrap() % Backend::ALL.len()];
        Self {
            alice: Identity::with_backend(seed_a, backend(run)),
            bob: Identity::with_backend(seed_b, backend(run / 2)),
            a: x25519_private(seed_a),
            b: x25519_private(seed_b),
            e_i: seed.fork("i").rng().array(),
            e_r: seed.fork("r").rng().array(),
            seed,
        }
    }

    fn public(private: [u8; 32]) -> [u8; 32] {
        x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(private)).to_bytes()
    }
}

fn same_end(secrets: &crypto::handshake::SessionSecrets, mut reference: HandshakeState) {
    assert_eq!(secrets.hash(), reference.get_handshake_hash());
    let (k_i, k_r) = reference.dangerously_get_raw_split();
    assert_eq!(secrets.keys(), (&k_i, &k_r));
}

#[test]
fn ik_is_byte_for_byte_that_of_the_reference() {
    for run in 0..RUNS {
        let cast = Cast::new(run);
        let (header, public) = (b"\xd0\x01\0\0cid of i", Cast::public(cast.b));
        let prologue = prologue(header, &[]);
        let mut i = reference("IK", &prologue, &cast.e_i)
            .local_private_key(&cast.a)
            .and_then(|builder| builder.remote_public_key(&public))
            .and_then(Builder::build_initiator)
            .unwrap();
        let mut r = reference("IK", &prologue, &cast.e_r)
            .local_private_key(&cast.b)
            .and_then(Builder::build_responder)
            .unwrap();

        let init = framed(header, &write(&mut i, &hello()), Some(&[b"setowire mac1", &public]));
        let mut rng = cast.seed.fork("i").rng();
        let mut dial = Initiator::ik(&cast.alice, cast.bob.peer_id(), CID_I, &HELLO, NETWORK, &mut rng).unwrap();
        assert_eq!(dial.message(), [init.as_slice(), &[0; 16]].concat());
        assert_eq!(read(&mut r, &init[12..148]), hello());

        let e_i = Cast::public(cast.e_i);
        let resp = framed(
            b"\xd1\x01\0\0cid of icid of r",
            &write(&mut r, &greeting()),
            Some(&[b"setowire mac1 a", &e_i, &CID_I]),
        );
        let Ok(Incoming::Init(init)) = Incoming::parse(dial.message()) else { panic!("no INIT") };
        let accepted = init.accept(&cast.bob, NETWORK).unwrap();
        assert_eq!(accepted.peer(), cast.alice.peer_id());
        let (ours, at_bob) = accepted.reply(CID_R, &welcome(), &mut cast.seed.fork("r").rng()).unwrap();
        assert_eq!(ours, resp);
        assert_eq!(read(&mut i, &resp[20..116]), greeting());
        let at_alice = dial.finish(&resp, None).unwrap();
        same_end(&at_alice.secrets, i);
        same_end(&at_bob.secrets, r);
    }
}

#[test]
fn xx_is_byte_for_byte_that_of_the_reference() {
    for run in 0..RUNS {
        let cast = Cast::new(run);
        let header = b"\xd3\x01\0\0cid of i";
        let prologue = prologue(header, &[]);
        let mut i = reference("XX", &prologue, &cast.e_i)
            .local_private_key(&cast.a)
            .and_then(Builder::build_initiator)
            .unwrap();
        let mut r = reference("XX", &prologue, &cast.e_r)
            .local_private_key(&cast.b)
            .and_then(Builder::build_responder)
            .unwrap();

        let first = write(&mut i, &[]);
        let mut padded = framed(header, &first, None);
        padded.resize(240, 0);
        let mut rng = cast.seed.fork("i").rng();
        let mut dial = Initiator::xx(&cast.alice, CID_I, &HELLO, NETWORK, &mut rng).unwrap();
        assert_eq!(dial.message(), padded);
        assert_eq!(read(&mut r, &first), b"");

        let xx2 = framed(
            b"\xd4\x01\0\0cid of icid of r",
            &write(&mut r, &greeting()),
            Some(&[b"setowire mac1 a", &Cast::public(cast.e_i), &CID_I]),
        );
        let responder = xx1(dial.message()).unwrap().accept(&cast.bob, NETWORK);
        let (ours, mut pending) = responder.reply(CID_R, &welcome(), &mut cast.seed.fork("r").rng()).unwrap();
        assert_eq!(ours, xx2);
        assert_eq!(read(&mut i, &xx2[20..164]), greeting());

        let xx3 = framed(
            b"\xd5\x01\0\0cid of r",
            &write(&mut i, &hello()),
            Some(&[b"setowire mac1 3", &Cast::public(cast.e_r), &CID_R]),
        );
        let at_alice = dial.finish(&xx2, Some(cast.bob.peer_id())).unwrap();
        assert_eq!(at_alice.xx3.as_ref(), Some(&xx3));
        assert_eq!(read(&mut r, &xx3[12..116]), hello());
        let at_bob = pending.finish(&xx3).unwrap();
        assert_eq!(at_bob.peer, Some(cast.alice.peer_id()));
        same_end(&at_alice.secrets, i);
        same_end(&at_bob.secrets, r);
    }
}

#[test]
fn a_resumed_handshake_is_byte_for_byte_that_of_the_reference() {
    for run in 0..RUNS {
        let cast = Cast::new(run);
        let (header, id) = (b"\xd6\x01\0\0cid of i", b"id of the ticket");
        let prologue = prologue(header, id);
        let mut i = reference("NNpsk0", &prologue, &cast.e_i).psk(0, &PSK).and_then(Builder::build_initiator).unwrap();
        let mut r = reference("NNpsk0", &prologue, &cast.e_r).psk(0, &PSK).and_then(Builder::build_responder).unwrap();

        let prefix = [header.as_slice(), id].concat();
        let init = framed(&prefix, &write(&mut i, &hello()), Some(&[b"setowire mac1 r", &PSK]));
        let mut rng = cast.seed.fork("i").rng();
        let mut dial = Initiator::resume(ticket(), CID_I, &HELLO, NETWORK, &mut rng).unwrap();
        assert_eq!(dial.message(), [init.as_slice(), &[0; 16]].concat());
        assert_eq!(read(&mut r, &init[28..116]), hello());

        let resp = framed(
            b"\xd7\x01\0\0cid of icid of r",
            &write(&mut r, &greeting()),
            Some(&[b"setowire mac1 a", &Cast::public(cast.e_i), &CID_I]),
        );
        let accepted = init_r(dial.message()).unwrap().accept(&PSK, NETWORK).unwrap();
        let (ours, at_bob) = accepted.reply(CID_R, &welcome(), &mut cast.seed.fork("r").rng()).unwrap();
        assert_eq!(ours, resp);
        assert_eq!(read(&mut i, &resp[20..116]), greeting());
        let at_alice = dial.finish(&resp, None).unwrap();
        same_end(&at_alice.secrets, i);
        same_end(&at_bob.secrets, r);
    }
}
