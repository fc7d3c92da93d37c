use crypto::Seed;
use crypto::v12::{Identity, Nonce, OpenError, PublicKey, Session, WeakKey};
use proptest::prelude::*;
use serde_json::Value;

use super::{array, hex, text, vectors};

const SESSIONS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/v12/sessions.json"));
const DATA_FRAMES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/v12/data_frames.json"));

/// Both ends of the session of two seeds.
fn pair(a: &[u8], b: &[u8]) -> [Session; 2] {
    let (a, b) = (Identity::from_seed(a), Identity::from_seed(b));
    [Session::derive(&a, b.public()).unwrap(), Session::derive(&b, a.public()).unwrap()]
}

/// Seals by the definition, with a key from the vectors, without any code of this crate.
fn seal_with(key: [u8; 32], nonce: Nonce, text: &[u8]) -> Vec<u8> {
    use chacha20poly1305::aead::AeadInOut;
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
    let mut body = text.to_vec();
    ChaCha20Poly1305::new(&key.into()).encrypt_in_place(nonce.as_bytes().into(), b"", &mut body).unwrap();
    [nonce.as_bytes().as_slice(), &body].concat()
}

#[test]
fn keys_roles_and_session_ids() {
    for vector in vectors(SESSIONS) {
        let ends = pair(&hex(&vector["a_seed_hex"]), &hex(&vector["b_seed_hex"]));
        for (end, name) in ends.iter().zip(["a", "b"]) {
            let expected = &vector[name];
            assert_eq!(u64::from(end.session_id()), expected["session_id"].as_u64().unwrap(), "{vector}");
            // The keys stay inside, so they are known by what they seal and open.
            let nonce = Nonce::new(1, 2);
            let mut sealed = Vec::new();
            end.seal(nonce, &[b"text"], &mut sealed);
            assert_eq!(sealed, seal_with(array(&expected["send_key_hex"]), nonce, b"text"), "{vector}");
            let mut received = seal_with(array(&expected["recv_key_hex"]), nonce, b"text");
            assert_eq!(end.open_in_place(&mut received).unwrap(), (nonce, b"text".to_vec().as_mut_slice()), "{vector}");
        }
    }
}

/// Sealing and opening ends for each recorded frame, with the frame without its type byte.
fn recorded() -> Vec<(Session, Session, Value, Vec<u8>)> {
    let sessions = vectors(SESSIONS);
    let find = |key: &Value| {
        let at = |session: &Value, end: &str| session[end]["send_key_hex"] == *key;
        let session = sessions.iter().find(|session| at(session, "a") || at(session, "b")).unwrap();
        let [a, b] = pair(&hex(&session["a_seed_hex"]), &hex(&session["b_seed_hex"]));
        if at(session, "a") { (a, b) } else { (b, a) }
    };
    vectors(DATA_FRAMES)
        .into_iter()
        .map(|vector| {
            let (sender, receiver) = find(&vector["send_key_hex"]);
            let frame = hex(&vector["frame_hex"]);
            assert_eq!(frame[0], 1);
            (sender, receiver, vector, frame[1..].to_vec())
        })
        .collect()
}

#[test]
fn recorded_frames_are_sealed_byte_for_byte() {
    for (sender, _, vector, expected) in recorded() {
        let nonce = Nonce::new(sender.session_id(), vector["counter"].as_u64().unwrap());
        assert_eq!(nonce.as_bytes(), &array(&vector["nonce_hex"]));
        let seq = u32::try_from(vector["seq"].as_u64().unwrap()).unwrap().to_be_bytes();
        let payload = hex(&vector["app_payload_hex"]);

        let mut out = vec![1];
        sender.seal(nonce, &[&seq, &payload], &mut out);
        assert_eq!(out[0], 1, "what was there stays there");
        assert_eq!(out[1..], expected, "{}", text(&vector["frame_hex"]));

        let mut in_one_part = Vec::new();
        sender.seal(nonce, &[&hex(&vector["aead_plaintext_hex"])], &mut in_one_part);
        assert_eq!(in_one_part, expected);
    }
}

#[test]
fn recorded_frames_are_opened() {
    for (sender, receiver, vector, sealed) in recorded() {
        let plain = hex(&vector["aead_plaintext_hex"]);
        let mut buffer = sealed.clone();
        let (nonce, opened) = receiver.open_in_place(&mut buffer).unwrap();
        assert_eq!(nonce.as_bytes(), &array(&vector["nonce_hex"]));
        assert_eq!((nonce.prefix(), Some(nonce.counter())), (receiver.session_id(), vector["counter"].as_u64()));
        assert_eq!(opened, plain);
        // Not by its sender: the directions have different keys.
        assert_eq!(sender.open_in_place(&mut sealed.clone()), Err(OpenError::Unauthentic));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let mut shapes = std::collections::BTreeSet::new();
    // One frame of each length covers all block boundaries the vectors have.
    for (_, receiver, _, sealed) in recorded().into_iter().filter(|(.., sealed)| shapes.insert(sealed.len())) {
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(receiver.open_in_place(&mut changed), Err(OpenError::Unauthentic), "bit {bit}");
        }
    }
}

#[test]
fn every_truncation_and_extension_is_noticed() {
    for (_, receiver, _, sealed) in recorded() {
        for len in 0..sealed.len() {
            let expected = if len < 28 { OpenError::TooShort } else { OpenError::Unauthentic };
            assert_eq!(receiver.open_in_place(&mut sealed[..len].to_vec()), Err(expected), "{len} bytes");
            assert!(receiver.open_in_place(&mut sealed[len + 1..].to_vec()).is_err(), "without {} bytes", len + 1);
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        assert_eq!(receiver.open_in_place(&mut longer.clone()), Err(OpenError::Unauthentic));
    }
}

#[test]
fn an_empty_text_is_a_text() {
    let [a, b] = pair(b"alice", b"bob");
    let mut sealed = Vec::new();
    a.seal(Nonce::new(0, 0), &[], &mut sealed);
    assert_eq!(sealed.len(), Session::OVERHEAD);
    assert_eq!(b.open_in_place(&mut sealed).unwrap(), (Nonce::new(0, 0), [].as_mut_slice()));
}

#[test]
fn sessions_of_others_open_nothing() {
    let [a, _] = pair(b"alice", b"bob");
    let [b, _] = pair(b"bob", b"carol");
    let mut sealed = Vec::new();
    a.seal(Nonce::new(0, 0), &[b"for bob"], &mut sealed);
    assert_eq!(b.open_in_place(&mut sealed), Err(OpenError::Unauthentic));
}

#[test]
fn a_session_with_oneself_opens_nothing_of_its_own() {
    let me = Identity::from_seed(b"me");
    let session = Session::derive(&me, me.public()).unwrap();
    let mut sealed = Vec::new();
    session.seal(Nonce::new(0, 0), &[b"echo"], &mut sealed);
    assert_eq!(session.open_in_place(&mut sealed), Err(OpenError::Unauthentic));
}

/// The u-coordinates below 2^255 that generate a point of order 1, 2, 4 or 8 on the curve or its twist, canonical and
/// not, each with the ignored top bit clear and set (<https://cr.yp.to/ecdh.html#validate>).
#[test]
fn keys_of_small_order_are_refused() {
    const U: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000", // 0
        "0100000000000000000000000000000000000000000000000000000000000000", // 1
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800", // order 8
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157", // order 8
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p - 1
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p + 1
    ];
    let mut rng = Seed::fixed(1).rng();
    for identity in [Identity::from_seed(b"alice"), Identity::generate(&mut rng)] {
        for u in U {
            for top in [0, 0x80] {
                let mut key: [u8; 32] = data_encoding::HEXLOWER.decode(u.as_bytes()).unwrap().try_into().unwrap();
                key[31] |= top;
                assert_eq!(Session::derive(&identity, &PublicKey::from(key)).unwrap_err(), WeakKey, "{u} {top:x}");
            }
        }
        // Their neighbours are ordinary points.
        for u in [2, 3, 9] {
            let mut key = [0; 32];
            key[0] = u;
            assert!(Session::derive(&identity, &PublicKey::from(key)).is_ok());
        }
    }
}

#[test]
fn no_key_is_shown() {
    let [a, _] = pair(b"alice", b"bob");
    assert_eq!(format!("{a:?}"), "Session { session_id: 2280033906, .. }");
}

proptest! {
    #[test]
    fn what_was_sealed_opens(
        seeds: [[u8; 8]; 2],
        prefix: u32,
        counter: u64,
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..4),
        before in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        prop_assume!(seeds[0] != seeds[1]);
        let ends = pair(&seeds[0], &seeds[1]);
        let nonce = Nonce::new(prefix, counter);
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let plain = parts.concat();
        for (sender, receiver) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
            let mut out = before.clone();
            sender.seal(nonce, &parts, &mut out);
            prop_assert_eq!(&out[..before.len()], &before);
            let sealed = &mut out[before.len()..];
            prop_assert_eq!(sealed.len(), plain.len() + Session::OVERHEAD);
            let (seen, opened) = receiver.open_in_place(sealed).unwrap();
            prop_assert_eq!(seen, nonce);
            prop_assert_eq!(&*opened, &plain);
        }
    }

    #[test]
    fn noise_does_not_open(mut noise in prop::collection::vec(any::<u8>(), 0..1500)) {
        let [a, _] = pair(b"alice", b"bob");
        prop_assert!(a.open_in_place(&mut noise).is_err());
    }
}
