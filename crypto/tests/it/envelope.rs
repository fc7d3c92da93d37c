use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use crypto::envelope::{NodeKey, OVERHEAD, OpenError, SharedKeys, WeakKey};
use crypto::{Rng, Seed};
use hkdf::Hkdf;
use proptest::prelude::*;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

fn rng() -> Rng {
    Seed::fixed(5).rng()
}

fn pair() -> (NodeKey, NodeKey) {
    let mut rng = rng();
    (NodeKey::generate(&mut rng), NodeKey::generate(&mut rng))
}

fn both(a: &NodeKey, b: &NodeKey) -> (SharedKeys, SharedKeys) {
    (a.shared_with(b.public()).unwrap(), b.shared_with(a.public()).unwrap())
}

fn sealed(keys: &SharedKeys, front: &[u8], text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    keys.seal(front, &mut rng(), text, &mut out).unwrap();
    out
}

/// Sealed by the documented layout, without any code of this crate.
fn by_definition(from: &[u8; 32], to: &[u8; 32], nonce: [u8; 24], front: &[u8], text: &[u8]) -> Vec<u8> {
    let (from, to) = (StaticSecret::from(*from), PublicKey::from(*to));
    let (ours, theirs) = (PublicKey::from(&from).to_bytes(), to.to_bytes());
    let shared = from.diffie_hellman(&to);
    let (lower, higher) = if ours < theirs { (ours, theirs) } else { (theirs, ours) };
    let direction = u8::from(ours > theirs);
    let info = [b"setowire envelope 1".as_slice(), &lower, &higher, &[direction]].concat();
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, shared.as_bytes()).expand(&info, &mut key).unwrap();
    let mut body = text.to_vec();
    let aad = [front, &nonce, &theirs].concat();
    XChaCha20Poly1305::new(&key.into()).encrypt_in_place(&nonce.into(), &aad, &mut body).unwrap();
    [nonce.as_slice(), &body].concat()
}

#[test]
fn the_layout_is_the_documented_one() {
    let (a, b) = pair();
    for (from, to) in [(&a, &b), (&b, &a)] {
        for text in [b"".as_slice(), b"find node", &[7; 1200]] {
            let made = sealed(&from.shared_with(to.public()).unwrap(), b"front", text);
            let nonce = rng().array();
            assert_eq!(made, by_definition(&from.to_bytes(), to.public(), nonce, b"front", text));
            assert_eq!(made.len(), text.len() + OVERHEAD);
        }
    }
}

#[test]
fn only_the_receiver_opens_and_only_with_its_front() {
    let (a, b) = pair();
    let (from_a, to_b) = both(&a, &b);
    let envelope = sealed(&from_a, b"front", b"text");
    assert_eq!(to_b.open(b"front", &mut envelope.clone()).unwrap(), b"text");
    // Neither the sender itself (a reflection), nor another node, nor behind something else.
    assert_eq!(from_a.open(b"front", &mut envelope.clone()), Err(OpenError::Unauthentic));
    for front in [b"".as_slice(), b"Front", b"front ", b"fron"] {
        assert_eq!(to_b.open(front, &mut envelope.clone()), Err(OpenError::Unauthentic));
    }
    let c = NodeKey::generate(&mut Seed::fixed(6).rng());
    for keys in [c.shared_with(a.public()).unwrap(), c.shared_with(b.public()).unwrap()] {
        assert_eq!(keys.open(b"front", &mut envelope.clone()), Err(OpenError::Unauthentic));
    }
}

#[test]
fn every_flipped_bit_and_every_other_length_is_noticed() {
    let (a, b) = pair();
    let (from_a, to_b) = both(&a, &b);
    let envelope = sealed(&from_a, b"", b"some text");
    for bit in 0..envelope.len() * 8 {
        let mut changed = envelope.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(to_b.open(b"", &mut changed), Err(OpenError::Unauthentic), "bit {bit}");
    }
    for len in 0..envelope.len() {
        let expected = if len < 40 { OpenError::TooShort } else { OpenError::Unauthentic };
        assert_eq!(to_b.open(b"", &mut envelope[..len].to_vec()), Err(expected), "{len} bytes");
    }
    assert_eq!(to_b.open(b"", &mut [envelope.as_slice(), &[0]].concat()), Err(OpenError::Unauthentic));
}

#[test]
fn keys_of_small_order_are_refused() {
    let (a, _) = pair();
    let small = ["00", "01", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"];
    for hex in small {
        let mut key = [0; 32];
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        key[..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(a.shared_with(&key).unwrap_err(), WeakKey, "{hex}");
    }
}

#[test]
fn with_oneself_nothing_opens() {
    let (a, _) = pair();
    let keys = a.shared_with(a.public()).unwrap();
    let mut envelope = sealed(&keys, b"", b"echo");
    assert_eq!(keys.open(b"", &mut envelope), Err(OpenError::Unauthentic));
}

#[test]
fn a_kept_key_is_the_same_key_and_is_not_shown() {
    let (a, b) = pair();
    let again = NodeKey::from_bytes(&a.to_bytes());
    assert_eq!(again.public(), a.public());
    let (from_a, _) = both(&again, &b);
    let mut envelope = sealed(&from_a, b"", b"text");
    assert!(both(&a, &b).1.open(b"", &mut envelope).is_ok());
    assert_eq!(format!("{a:?} {from_a:?}"), "NodeKey { .. } SharedKeys { .. }");
}

proptest! {
    #[test]
    fn what_was_sealed_opens(
        text in prop::collection::vec(any::<u8>(), 0..1500),
        front in prop::collection::vec(any::<u8>(), 0..64),
        before in prop::collection::vec(any::<u8>(), 0..64),
        seed: u64,
    ) {
        let (a, b) = pair();
        let (from_a, to_b) = both(&a, &b);
        let mut out = before.clone();
        from_a.seal(&front, &mut Seed::fixed(seed).rng(), &text, &mut out).unwrap();
        prop_assert_eq!(&out[..before.len()], &before);
        prop_assert_eq!(&*to_b.open(&front, &mut out[before.len()..]).unwrap(), &text);
    }

    #[test]
    fn noise_does_not_open(mut noise in prop::collection::vec(any::<u8>(), 0..1500)) {
        let (a, b) = pair();
        prop_assert!(both(&a, &b).1.open(b"", &mut noise).is_err());
    }
}
