//! Every bit turned over, every length, keys of small order, and layouts of the future.

use std::collections::BTreeSet;

use crypto::handshake::{HandshakeError, Incoming, Initiator, Kind, MAX_MESSAGE, RespPayload};
use crypto::{Backend, Identity, PeerIdError};
use snow::Builder;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};

use super::reference::{Reference, framed, greeting, hello, mac, prologue, read, reference, write};
use super::*;
use crate::identity::x25519_private;

/// Every message that differs from `good` in one bit or in its length, with what may differ unnoticed left out.
fn bad(good: &[u8], ignored: std::ops::Range<usize>) -> impl Iterator<Item = Vec<u8>> {
    let flips = (0..good.len() * 8).filter(move |bit| !ignored.contains(&(bit / 8))).map(|bit| flipped(good, bit));
    let cuts = (0..good.len()).map(|len| good[..len].to_vec());
    let more = [1, 2, 15, 16, 17, 64, 900, MAX_MESSAGE].map(|extra| [good, &vec![0; extra]].concat());
    flips.chain(cuts).chain(more)
}

/// The error of the first byte and of the length, which come before all others.
fn cheap(message: &[u8], kind: Kind) -> Option<HandshakeError> {
    let len = message.len();
    match message {
        [first, ..] if *first != kind.byte() => Some(HandshakeError::WrongKind),
        _ if len < kind.min_len() || len > MAX_MESSAGE => Some(HandshakeError::WrongLength { len }),
        [_, 0, ..] => Some(HandshakeError::WrongVersion),
        _ => None,
    }
}

#[test]
fn a_changed_init_is_refused() {
    let dial = dial_ik(&mut rng(1));
    let good = dial.message();
    // mac2 is what the cookie jar looks at.
    for message in bad(good, 164..180) {
        let error = accept_ik(&message, &bob(), NETWORK).unwrap_err();
        match cheap(&message, Kind::Init) {
            // An empty datagram, or one whose first byte belongs to another message.
            Some(HandshakeError::WrongKind) => assert_ne!(error, HandshakeError::Internal),
            Some(expected) if !message.is_empty() => assert_eq!(error, expected),
            Some(_) => assert_eq!(error, HandshakeError::WrongKind),
            None => assert_eq!(error, HandshakeError::WrongMac),
        }
    }
    assert!(accept_ik(good, &bob(), NETWORK).is_ok());
}

#[test]
fn a_changed_init_with_a_right_mac_is_refused() {
    // Who knows our key can make mac1, and still cannot change what it covers.
    let good = dial_ik(&mut rng(1)).message().to_vec();
    let public = bob().peer_id().x25519();
    for bit in 0..148 * 8 {
        let mut message = flipped(&good, bit);
        let mac1 = mac(&[b"setowire mac1", &public], &message[..148]);
        message[148..164].copy_from_slice(&mac1);
        let error = accept_ik(&message, &bob(), NETWORK).unwrap_err();
        match bit / 8 {
            0 => assert!(matches!(error, HandshakeError::WrongKind | HandshakeError::WrongLength { .. }), "{error}"),
            1 if bit == 8 => assert_eq!(error, HandshakeError::WrongVersion),
            _ => assert_eq!(error, HandshakeError::Unauthentic, "bit {bit}"),
        }
    }
}

#[test]
fn a_changed_init_r_is_refused() {
    let dial = dial_resume(&mut rng(1));
    let good = dial.message();
    for message in bad(good, 132..148) {
        let error = accept_resume(&message, &PSK, NETWORK).unwrap_err();
        match cheap(&message, Kind::InitR) {
            Some(HandshakeError::WrongKind) => assert_ne!(error, HandshakeError::Internal),
            Some(expected) if !message.is_empty() => assert_eq!(error, expected),
            Some(_) => assert_eq!(error, HandshakeError::WrongKind),
            None => assert_eq!(error, HandshakeError::WrongMac),
        }
    }
    for bit in 0..116 * 8 {
        let mut message = flipped(good, bit);
        let mac1 = mac(&[b"setowire mac1 r", &PSK], &message[..116]);
        message[116..132].copy_from_slice(&mac1);
        let error = accept_resume(&message, &PSK, NETWORK).err();
        assert!(error.is_some_and(|error| error != HandshakeError::Internal), "bit {bit}");
    }
    assert!(accept_resume(good, &PSK, NETWORK).is_ok());
}

/// An answer that was changed is refused, the message stays, and the good answer is taken after all of that.
fn answers(mut dial: Initiator, kind: Kind, good: &[u8]) {
    let before = dial.message().to_vec();
    for message in bad(good, 0..0) {
        let error = dial.finish(&message, None).unwrap_err();
        let expected = match cheap(&message, kind) {
            Some(error) => error,
            None if message[4..12] != CID_I => HandshakeError::WrongConnectionId,
            None => HandshakeError::WrongMac,
        };
        assert_eq!(error, expected);
    }
    // mac1 keeps out strangers. Who saw our message can make it, and can still not change what is sealed.
    let body = good.len() - 16;
    for bit in 20 * 8..body * 8 {
        let mut message = flipped(good, bit);
        let mac1 = mac(&[b"setowire mac1 a", &before[ephemeral(&before)], &CID_I], &message[..body]);
        message[body..].copy_from_slice(&mac1);
        assert_eq!(dial.finish(&message, None).unwrap_err(), HandshakeError::Unauthentic, "bit {bit}");
    }
    assert_eq!(dial.message(), before);
    assert!(dial.finish(good, None).is_ok());
}

fn ephemeral(message: &[u8]) -> std::ops::Range<usize> {
    if message[0] == Kind::InitR.byte() { 28..60 } else { 12..44 }
}

#[test]
fn a_changed_resp_is_refused_and_the_good_one_still_taken() {
    let mut rng = rng(1);
    let dial = dial_ik(&mut rng);
    let (resp, _) = accept_ik(dial.message(), &bob(), NETWORK).unwrap().reply(CID_R, &welcome(), &mut rng).unwrap();
    answers(dial, Kind::Resp, &resp);
}

#[test]
fn a_changed_resp_r_is_refused_and_the_good_one_still_taken() {
    let mut rng = rng(1);
    let dial = dial_resume(&mut rng);
    let accepted = accept_resume(dial.message(), &PSK, NETWORK).unwrap();
    let (resp, _) = accepted.reply(CID_R, &welcome(), &mut rng).unwrap();
    answers(dial, Kind::RespR, &resp);
}

#[test]
fn a_changed_xx2_is_refused_and_the_good_one_still_taken() {
    let mut rng = rng(1);
    let dial = dial_xx(&mut rng);
    let (xx2, _) = xx1(dial.message()).unwrap().accept(&bob(), NETWORK).reply(CID_R, &welcome(), &mut rng).unwrap();
    answers(dial, Kind::Xx2, &xx2);
}

#[test]
fn a_changed_xx1_never_ends_in_a_handshake() {
    let mut rng = rng(1);
    let good = dial_xx(&mut rng).message().to_vec();
    // Padding and mac2 are not part of the handshake.
    for message in bad(&good, 44..240) {
        // The same dial for each: the same seed.
        let mut dial = dial_xx(&mut super::rng(1));
        let Ok(xx1) = xx1(&message) else {
            assert!(cheap(&message, Kind::Xx1).is_some());
            continue;
        };
        match xx1.accept(&bob(), NETWORK).reply(CID_R, &welcome(), &mut rng) {
            Ok((xx2, _)) if message.len() == good.len() => assert!(dial.finish(&xx2, None).is_err()),
            Ok(_) | Err(HandshakeError::WeakKey) => {}
            Err(error) => panic!("{error}"),
        }
    }
    for bit in (44 * 8..240 * 8).step_by(37) {
        let mut dial = dial_xx(&mut super::rng(1));
        let message = flipped(&good, bit);
        let responder = xx1(&message).unwrap().accept(&bob(), NETWORK);
        let (xx2, mut pending) = responder.reply(CID_R, &welcome(), &mut rng).unwrap();
        assert!(pending.finish(dial.finish(&xx2, None).unwrap().xx3.as_ref().unwrap()).is_ok());
    }
}

#[test]
fn a_changed_xx3_is_refused_and_the_good_one_still_taken() {
    let mut rng = rng(1);
    let mut dial = dial_xx(&mut rng);
    let responder = xx1(dial.message()).unwrap().accept(&bob(), NETWORK);
    let (xx2, mut pending) = responder.reply(CID_R, &welcome(), &mut rng).unwrap();
    let at_alice = dial.finish(&xx2, None).unwrap();
    let good = at_alice.xx3.unwrap();
    for message in bad(&good, 0..0) {
        let expected = match cheap(&message, Kind::Xx3) {
            Some(error) => error,
            None if message[4..12] != CID_R => HandshakeError::WrongConnectionId,
            None => HandshakeError::WrongMac,
        };
        assert_eq!(pending.finish(&message).unwrap_err(), expected);
    }
    // With a mac1 that anyone can make who saw XX2: first in the sealed key, then in the payload behind it, which
    // spoils the state of the pattern.
    for bit in 12 * 8..116 * 8 {
        let mut message = flipped(&good, bit);
        let mac1 = mac(&[b"setowire mac1 3", &xx2[20..52], &CID_R], &message[..116]);
        message[116..].copy_from_slice(&mac1);
        assert_eq!(pending.finish(&message).unwrap_err(), HandshakeError::Unauthentic, "bit {bit}");
    }
    let at_bob = pending.finish(&good).unwrap();
    assert_eq!(at_bob.peer, Some(alice().peer_id()));
    assert_eq!(at_bob.secrets.keys(), at_alice.secrets.keys());
}

#[test]
fn a_retry_for_another_attempt_is_refused() {
    let dial = dial_resume(&mut rng(1));
    let good = init_r(dial.message()).unwrap().retry();
    for bit in 0..good.len() * 8 {
        let expected = match bit / 8 {
            0 => Err(HandshakeError::WrongKind),
            1 if bit == 8 => Err(HandshakeError::WrongVersion),
            1..4 => Ok(()),
            _ => Err(HandshakeError::WrongConnectionId),
        };
        assert_eq!(dial.on_retry(&flipped(&good, bit)), expected, "bit {bit}");
    }
    for len in 0..good.len() {
        assert_eq!(dial.on_retry(&good[..len]), Err(HandshakeError::WrongLength { len }));
    }
}

#[test]
fn only_first_messages_come_in() {
    for first in 0..=255 {
        let mut message = vec![first; 300];
        message[1] = 1;
        let parsed = Incoming::parse(&message).map(|incoming| incoming.kind().byte());
        let expected = if [0xd0, 0xd3, 0xd6].contains(&first) { Ok(first) } else { Err(HandshakeError::WrongKind) };
        assert_eq!(parsed, expected);
    }
    assert_eq!(Incoming::parse(&[]).unwrap_err(), HandshakeError::WrongKind);
}

/// The seven encodings of points that agree on zero (RFC 7748 and its errata), and some of them not reduced.
fn weak_keys() -> BTreeSet<[u8; 32]> {
    let mut keys: BTreeSet<[u8; 32]> =
        curve25519_dalek::constants::EIGHT_TORSION.iter().map(|point| point.to_montgomery().to_bytes()).collect();
    let number = |low: u8| {
        let mut key = [0xff; 32];
        (key[0], key[31]) = (low, 0x7f);
        key
    };
    // p - 1, p and p + 1; and 1.
    keys.extend([number(0xec), number(0xed), number(0xee)]);
    keys.insert({
        let mut one = [0; 32];
        one[0] = 1;
        one
    });
    let high: Vec<_> = keys
        .iter()
        .map(|key| {
            let mut key = *key;
            key[31] |= 0x80;
            key
        })
        .collect();
    keys.extend(high);
    keys
}

#[test]
fn weak_ephemeral_keys_of_a_responder_are_refused() {
    for key in weak_keys() {
        for &backend in Backend::ALL {
            let alice = Identity::with_backend([1; 32], backend);
            let mut rng = rng(1);
            for mut dial in [
                Initiator::ik(&alice, bob().peer_id(), CID_I, &HELLO, NETWORK, &mut rng).unwrap(),
                Initiator::xx(&alice, CID_I, &HELLO, NETWORK, &mut rng).unwrap(),
                dial_resume(&mut rng),
            ] {
                let (kind, len) = match dial.kind() {
                    Kind::Init => (Kind::Resp, 96),
                    Kind::Xx1 => (Kind::Xx2, 144),
                    _ => (Kind::RespR, 96),
                };
                let mut noise = vec![0; len];
                noise[..32].copy_from_slice(&key);
                let e_i = dial.message()[ephemeral(dial.message())].to_vec();
                let header = [&[kind.byte(), 1, 0, 0], CID_I.as_slice(), &CID_R].concat();
                let answer = framed(&header, &noise, Some(&[b"setowire mac1 a", &e_i, &CID_I]));
                assert_eq!(dial.finish(&answer, None).unwrap_err(), HandshakeError::WeakKey, "{key:x?}");
            }
        }
    }
}

#[test]
fn weak_ephemeral_keys_of_an_initiator_are_refused() {
    for key in weak_keys() {
        for &backend in Backend::ALL {
            let bob = Identity::with_backend([2; 32], backend);
            let mut message = vec![0; 240];
            message[..12].copy_from_slice(b"\xd3\x01\0\0cid of i");
            message[12..44].copy_from_slice(&key);
            let responder = xx1(&message).unwrap().accept(&bob, NETWORK);
            assert_eq!(responder.reply(CID_R, &welcome(), &mut rng(1)).unwrap_err(), HandshakeError::WeakKey);

            let mut noise = vec![0; 136];
            noise[..32].copy_from_slice(&key);
            let public = bob.peer_id().x25519();
            let init = framed(b"\xd0\x01\0\0cid of i", &noise, Some(&[b"setowire mac1", &public]));
            let init = [init.as_slice(), &[0; 16]].concat();
            assert_eq!(accept_ik(&init, &bob, NETWORK).unwrap_err(), HandshakeError::WeakKey);
        }
    }
}

/// An attacker: what it shows as its static public key is not that of its private key, or of any.
struct Forged {
    shown: [u8; 32],
    /// What it thinks it shares with everyone, if the key it shows has no private key.
    shared: Option<[u8; 32]>,
}

impl CryptoResolver for Forged {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Reference.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let inner = Reference.resolve_dh(choice)?;
        Some(Box::new(ForgedDh { inner, shown: self.shown, shared: self.shared, forged: false }))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        Reference.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Reference.resolve_cipher(choice)
    }
}

struct ForgedDh {
    inner: Box<dyn Dh>,
    shown: [u8; 32],
    shared: Option<[u8; 32]>,
    /// Whether this is the static key.
    forged: bool,
}

impl Dh for ForgedDh {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        self.forged = private != [77; 32];
        self.inner.set(private);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        self.inner.generate(rng)
    }

    fn pubkey(&self) -> &[u8] {
        if self.forged { &self.shown } else { self.inner.pubkey() }
    }

    fn privkey(&self) -> &[u8] {
        self.inner.privkey()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        match self.shared {
            Some(shared) if self.forged => out[..32].copy_from_slice(&shared),
            _ => self.inner.dh(public, out)?,
        }
        Ok(())
    }
}

/// An INIT to Bob whose static key is forged.
fn forged_init(forged: Forged) -> Vec<u8> {
    let (header, public) = (b"\xd0\x01\0\0cid of i", bob().peer_id().x25519());
    let params = "Noise_IK_25519_ChaChaPoly_SHA256".parse().unwrap();
    let prologue = prologue(header, &[]);
    let mut state = Builder::with_resolver(params, Box::new(forged))
        .prologue(&prologue)
        .and_then(|builder| builder.local_private_key(&[66; 32]))
        .and_then(|builder| builder.remote_public_key(&public))
        .map(|builder| builder.fixed_ephemeral_key_for_testing_only(&[77; 32]))
        .and_then(Builder::build_initiator)
        .unwrap();
    let init = framed(header, &write(&mut state, &hello()), Some(&[b"setowire mac1", &public]));
    [init.as_slice(), &[0; 16]].concat()
}

#[test]
fn weak_static_keys_are_refused() {
    // Everyone "shares" zero with a point of small order, so everyone could be that peer.
    for shown in weak_keys() {
        for &backend in Backend::ALL {
            let init = forged_init(Forged { shown, shared: Some([0; 32]) });
            let bob = Identity::with_backend([2; 32], backend);
            assert_eq!(accept_ik(&init, &bob, NETWORK).unwrap_err(), HandshakeError::WeakKey, "{shown:x?}");
        }
    }
}

#[test]
fn a_second_form_of_a_static_key_is_refused() {
    // X25519 ignores the highest bit, so the holder of a key can prove both forms; only one is the name of a peer.
    let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from([66; 32])).to_bytes();
    assert!(accept_ik(&forged_init(Forged { shown: public, shared: None }), &bob(), NETWORK).is_ok());
    let mut shown = public;
    shown[31] |= 0x80;
    let error = accept_ik(&forged_init(Forged { shown, shared: None }), &bob(), NETWORK).unwrap_err();
    assert_eq!(error, HandshakeError::BadIdentity(PeerIdError::NotCanonical));
}

/// A node of a later version: other version and flags in its headers, longer payloads.
#[test]
fn messages_of_later_versions_are_understood() {
    let private = x25519_private([1; 32]);
    let (public, e_i, e_r) = (bob().peer_id().x25519(), [88; 32], [99; 32]);
    let e_i_public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(e_i)).to_bytes();
    for extra in [0, 1, 100, 1200 - 180] {
        // INIT.
        let header = b"\xd0\x07\xff\xffcid of i";
        let prologue_i = prologue(header, &[]);
        let mut state = reference("IK", &prologue_i, &e_i)
            .local_private_key(&private)
            .and_then(|builder| builder.remote_public_key(&public))
            .and_then(Builder::build_initiator)
            .unwrap();
        let payload = [hello(), vec![0xee; extra]].concat();
        let init = framed(header, &write(&mut state, &payload), Some(&[b"setowire mac1", &public]));
        let init = [init.as_slice(), &[0; 16]].concat();
        assert_eq!(init.len(), 180 + extra);
        let accepted = accept_ik(&init, &bob(), NETWORK).unwrap();
        assert_eq!((accepted.peer(), *accepted.payload()), (alice().peer_id(), HELLO));
        let (resp, at_bob) = accepted.reply(CID_R, &welcome(), &mut rng(1)).unwrap();
        assert_eq!(resp[20 + 96..], mac(&[b"setowire mac1 a", &e_i_public, &CID_I], &resp[..116]));
        assert_eq!(read(&mut state, &resp[20..116]), greeting());
        assert_eq!(at_bob.secrets.hash(), state.get_handshake_hash());

        // RESP.
        let mut dial = dial_ik(&mut rng(1));
        let prologue_r = prologue(&dial.message()[..12], &[]);
        let theirs = x25519_private([2; 32]);
        let mut state =
            reference("IK", &prologue_r, &e_r).local_private_key(&theirs).and_then(Builder::build_responder).unwrap();
        read(&mut state, &dial.message()[12..148]);
        let payload = [greeting(), vec![0xee; extra]].concat();
        let key: &[&[u8]] = &[b"setowire mac1 a", &dial.message()[12..44], &CID_I];
        let resp = framed(b"\xd1\x07\xff\xffcid of icid of r", &write(&mut state, &payload), Some(key));
        let at_alice = dial.finish(&resp, None).unwrap();
        assert_eq!(at_alice.payload, welcome());
        assert_eq!(at_alice.secrets.answer_header(), b"\xd1\x07\xff\xffcid of icid of r", "as it was on the wire");
    }
}

#[test]
fn a_longer_xx1_is_understood() {
    let mut rng = rng(1);
    let mut dial = dial_xx(&mut rng);
    let longer = [dial.message(), &[0x11; 300]].concat();
    let responder = xx1(&longer).unwrap().accept(&bob(), NETWORK);
    let (xx2, mut pending) = responder.reply(CID_R, &welcome(), &mut rng).unwrap();
    let at_alice = dial.finish(&xx2, None).unwrap();
    assert!(pending.finish(at_alice.xx3.as_ref().unwrap()).is_ok());
}

#[test]
fn an_address_that_says_nothing_is_only_an_address() {
    let mut rng = rng(1);
    let nowhere = RespPayload { observed: addr("[::]:0"), ..welcome() };
    let mut dial = dial_ik(&mut rng);
    let (resp, _) = accept_ik(dial.message(), &bob(), NETWORK).unwrap().reply(CID_R, &nowhere, &mut rng).unwrap();
    assert_eq!(dial.finish(&resp, None).unwrap().payload.observed, addr("[::]:0"));
}
