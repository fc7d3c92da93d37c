//! Identities: where they come from, how they are written, and what is refused in their place.

use crypto::{
    Backend, BadSignature, Context, Identity, KEY_BYTES, KeyError, KeyType, NotSigned, ParsePeerIdError, PeerId,
    PeerIdError, Seed, Signature,
};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signer, SigningKey, Verifier};
use hkdf::Hkdf;
use proptest::prelude::*;
use sha2::{Digest, Sha256, Sha512};

/// The specification of the derivation, written again: the seed's first key with an even sign.
fn derived(seed: [u8; 32]) -> (u32, SigningKey) {
    (0..)
        .map(|number: u32| {
            let mut key = [0; 32];
            let info = [b"setowire identity".as_slice(), &number.to_be_bytes()].concat();
            Hkdf::<Sha256>::new(None, &seed).expand(&info, &mut key).unwrap();
            (number, SigningKey::from_bytes(&key))
        })
        .find(|(_, key)| key.verifying_key().as_bytes()[31] & 0x80 == 0)
        .unwrap()
}

/// The X25519 private key of the identity with this seed.
pub(crate) fn x25519_private(seed: [u8; 32]) -> [u8; 32] {
    derived(seed).1.to_scalar_bytes()
}

/// The eight points of small order, by multiplying a generator of their group.
fn small_order() -> [EdwardsPoint; 8] {
    EIGHT_TORSION
}

#[test]
fn an_identity_is_the_first_even_candidate_of_its_seed() {
    let mut tries = [0; 8];
    for seed in 0..200 {
        let mut bytes = [0; 32];
        Seed::fixed(seed).rng().fill(&mut bytes);
        let (number, key) = derived(bytes);
        let identity = Identity::from_seed(bytes);
        assert_eq!(identity.peer_id().as_bytes(), key.verifying_key().as_bytes());
        assert_eq!(identity.peer_id(), Identity::generate(&mut Seed::fixed(seed).rng()).peer_id());
        if let Some(tries) = tries.get_mut(number as usize) {
            *tries += 1;
        }
    }
    assert!((70..130).contains(&tries[0]), "half of them at the first try: {tries:?}");
    assert!(tries[2] > 0, "{tries:?}");
}

#[test]
fn a_known_seed_has_a_known_name() {
    // Computed by another program in another language: a change of the derivation would give every node another name.
    assert_eq!(Identity::from_seed([0; 32]).peer_id().to_string(), ZERO);
    assert_eq!(Identity::from_seed([7; 32]).peer_id().to_string(), SEVEN);
    assert_eq!(Identity::from_seed([0; 32]).peer_id().short(), ZERO[..8]);
}

const ZERO: &str = "yahylahvqhhkkr2a3pewnx7iwje7p54utinqpdzajgdsj6fdvziq";
const SEVEN: &str = "n6ttuzn2voep75cavhkcggqo35jnl2em7s3ysvkeowtzzyz2zqpa";

#[test]
fn the_x25519_key_is_that_of_the_private_key_and_leads_back() {
    for seed in 0..50u8 {
        let identity = Identity::from_seed([seed; 32]);
        let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(x25519_private([seed; 32])));
        assert_eq!(identity.peer_id().x25519(), public.to_bytes());
        assert_eq!(PeerId::from_x25519(public.as_bytes()), Ok(identity.peer_id()));
    }
}

#[test]
fn text_is_read_in_both_forms_and_either_case() {
    let id = Identity::from_seed([7; 32]).peer_id();
    let hex = data_encoding::HEXLOWER.encode(id.as_bytes());
    for text in [id.to_string(), id.to_string().to_uppercase(), hex.clone(), hex.to_uppercase()] {
        assert_eq!(text.parse(), Ok(id), "{text}");
    }
    assert_eq!(id.to_string().len(), 52);
    assert!(id.to_string().bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')));
    assert_eq!(format!("{id:?}"), format!("PeerId({id})"));
}

#[test]
fn a_text_that_is_no_id_says_why() {
    let id = Identity::from_seed([7; 32]).peer_id();
    let (text, hex) = (id.to_string(), data_encoding::HEXLOWER.encode(id.as_bytes()));
    let parse = str::parse::<PeerId>;
    for len in (0..52).chain(53..64) {
        assert_eq!(parse(&hex[..len]), Err(ParsePeerIdError::Length { len }));
    }
    assert_eq!(parse(&format!("{hex}0")), Err(ParsePeerIdError::Length { len: 65 }));
    // Not in base32: 0, 1, 8, 9, padding, spaces, and letters that only look like some.
    for foreign in ["0", "1", "8", "9", "=", " ", "-", "é"] {
        let mut bad = text.clone();
        bad.replace_range(9..9 + foreign.len(), foreign);
        assert_eq!(parse(&bad), Err(ParsePeerIdError::Alphabet { position: 9 }), "{bad}");
    }
    let bad = hex.replacen(&hex[5..6], "g", 1);
    let position = bad.find('g').unwrap();
    assert_eq!(parse(&bad), Err(ParsePeerIdError::Alphabet { position }));
    // The last character of base32 holds one bit of the id; the other four are zero, and no other text is the id.
    let last = text.chars().last().unwrap();
    assert!(last == 'a' || last == 'q', "{last}");
    for other in "abcdefghijklmnopqrstuvwxyz234567".chars().filter(|other| !"aq".contains(*other)) {
        assert_eq!(parse(&format!("{}{other}", &text[..51])), Err(ParsePeerIdError::Trailing));
    }
    let small = data_encoding::HEXLOWER.encode(&[0; 32]);
    assert_eq!(parse(&small), Err(ParsePeerIdError::Key(PeerIdError::SmallOrder)));
}

#[test]
fn keys_that_are_not_canonical_are_refused() {
    let mut odd = Identity::from_seed([7; 32]).peer_id().to_bytes();
    odd[31] |= 0x80;
    assert_eq!(PeerId::from_bytes(odd), Err(PeerIdError::SignBit));
    // 2^255 - 19 and up are the numbers 0 to 18 once more.
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0xed, 0x7f);
    for low in 0xed..=0xff {
        prime[0] = low;
        assert_eq!(PeerId::from_bytes(prime), Err(PeerIdError::NotCanonical));
        assert_eq!(PeerId::from_x25519(&prime), Err(PeerIdError::NotCanonical));
    }
    prime[0] = 0xec;
    assert_ne!(PeerId::from_bytes(prime), Err(PeerIdError::NotCanonical));
    let mut high = Identity::from_seed([7; 32]).peer_id().x25519();
    high[31] |= 0x80;
    assert_eq!(PeerId::from_x25519(&high), Err(PeerIdError::NotCanonical));
}

#[test]
fn points_of_small_order_are_refused() {
    for point in small_order() {
        let mut bytes = point.compress().to_bytes();
        bytes[31] &= 0x7f;
        assert_eq!(PeerId::from_bytes(bytes), Err(PeerIdError::SmallOrder));
    }
    // RFC 7748 leaves seven values of u that agree on zero: 0, 1, two of order 8, and three that have no point here.
    let refused: Vec<_> = small_order().iter().map(|p| PeerId::from_x25519(p.to_montgomery().as_bytes())).collect();
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    assert!(refused.contains(&Err(PeerIdError::SmallOrder)));
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    assert_eq!(PeerId::from_x25519(&minus_one), Err(PeerIdError::NotOnCurve));
}

#[test]
fn a_key_is_written_with_its_type() {
    let identity = Identity::from_seed([7; 32]);
    let bytes = identity.to_bytes();
    assert_eq!(&bytes[..9], b"setowire\x01");
    assert_eq!(&bytes[9..41], &[7; 32]);
    assert_eq!(&bytes[41..], &Sha256::digest(&bytes[..41])[..4]);
    assert_eq!(KeyType::of(&*bytes), Ok(KeyType::Identity));
    assert_eq!(Identity::from_bytes(&*bytes).unwrap().peer_id(), identity.peer_id());

    let public = identity.peer_id().to_key_bytes();
    assert_eq!(KeyType::of(&public), Ok(KeyType::PeerId));
    assert_eq!(PeerId::from_key_bytes(&public), Ok(identity.peer_id()));
}

#[test]
fn a_key_that_is_not_what_it_should_be_says_why() {
    let identity = Identity::from_seed([7; 32]);
    let (secret, public) = (identity.to_bytes(), identity.peer_id().to_key_bytes());
    let read = |bytes: &[u8]| Identity::from_bytes(bytes).map(|identity| identity.peer_id());
    for len in 0..KEY_BYTES {
        assert_eq!(read(&secret[..len]), Err(KeyError::Truncated { len }));
        assert_eq!(PeerId::from_key_bytes(&public[..len]), Err(KeyError::Truncated { len }));
    }
    assert_eq!(read(&[&secret[..], b"\n"].concat()), Err(KeyError::TooLong { len: KEY_BYTES + 1 }));
    assert_eq!(read(&public), Err(KeyError::WrongType { found: KeyType::PeerId }));
    assert_eq!(PeerId::from_key_bytes(&*secret), Err(KeyError::WrongType { found: KeyType::Identity }));
    assert_eq!(read(b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIE"), Err(KeyError::Foreign));
    for bit in 0..KEY_BYTES * 8 {
        let mut bytes = *secret;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let expected = match bit / 8 {
            0..8 => KeyError::Foreign,
            8 if bytes[8] == 2 => KeyError::WrongType { found: KeyType::PeerId },
            8 => KeyError::UnknownType { found: bytes[8] },
            _ => KeyError::Damaged,
        };
        assert_eq!(read(&bytes), Err(expected), "bit {bit}");
    }
    // Whole and undamaged, and yet no key.
    let mut small = [0; KEY_BYTES];
    small[..9].copy_from_slice(b"setowire\x02");
    let check = Sha256::digest(&small[..41]);
    small[41..].copy_from_slice(&check[..4]);
    assert_eq!(PeerId::from_key_bytes(&small), Err(KeyError::PeerId(PeerIdError::SmallOrder)));
}

const GREETING: Context = Context::new(*b"test greeting  1");
const PARTING: Context = Context::new(*b"test parting   1");

#[test]
fn a_signature_is_bound_to_key_context_and_message() {
    let (alice, bob) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
    let signature = alice.sign(GREETING, b"good morning");
    let verify = |id: PeerId, context, message: &[u8]| id.verify(context, message, &signature);
    assert_eq!(verify(alice.peer_id(), GREETING, b"good morning"), Ok(()));
    assert_eq!(verify(bob.peer_id(), GREETING, b"good morning"), Err(BadSignature));
    assert_eq!(verify(alice.peer_id(), PARTING, b"good morning"), Err(BadSignature));
    assert_eq!(verify(alice.peer_id(), GREETING, b"good evening"), Err(BadSignature));
    for bit in 0..512 {
        let mut bytes = signature.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = Signature::from_bytes(bytes);
        assert_eq!(alice.peer_id().verify(GREETING, b"good morning", &flipped), Err(BadSignature), "bit {bit}");
    }
    // What is signed is the context and then the message, in plain Ed25519.
    let plain = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    let key = ed25519_dalek::VerifyingKey::from_bytes(alice.peer_id().as_bytes()).unwrap();
    assert!(key.verify_strict(b"test greeting  1good morning", &plain).is_ok());
    assert_eq!(signature, alice.sign(GREETING, b"good morning"), "deterministic");
}

#[test]
fn a_signature_has_no_second_form() {
    // s + l is the same scalar; RFC 8032 refuses it.
    let alice = Identity::from_seed([1; 32]);
    let mut bytes = alice.sign(GREETING, b"x").to_bytes();
    let order: [u8; 32] = {
        let mut minus_one = (-Scalar::ONE).to_bytes();
        minus_one[0] += 1;
        minus_one
    };
    let mut carry = 0;
    for (byte, add) in bytes[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(alice.peer_id().verify(GREETING, b"x", &Signature::from_bytes(bytes)), Err(BadSignature));
}

#[test]
fn every_implementation_takes_the_signatures_that_the_strict_one_takes() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let public = key.verifying_key();
    // R is the neutral point: the equation holds, and nothing of the message is in R.
    let no_point = |text: &[u8]| {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let hash = Sha512::new().chain_update(&bytes[..32]).chain_update(public.as_bytes()).chain_update(text);
        let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        bytes[32..].copy_from_slice((challenge * key.to_scalar()).as_bytes());
        bytes
    };
    for text in [b"".as_slice(), b"x", &[7; 300]] {
        let good = key.sign(text).to_bytes();
        let mut signatures = vec![good, no_point(text), [0; 64], [0xff; 64]];
        signatures.extend((0..512).map(|bit| {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        }));
        let plain = ed25519_dalek::Signature::from_bytes(&no_point(text));
        assert!(public.verify(text, &plain).is_ok(), "what RFC 8032 lets pass");
        for signature in &signatures {
            let strict = public.verify_strict(text, &ed25519_dalek::Signature::from_bytes(signature)).is_ok();
            assert_eq!(strict, *signature == good);
            for backend in Backend::ALL {
                assert_eq!(backend.is_signed(public.as_bytes(), text, signature), strict, "{backend:?}");
            }
        }
    }
    // Nor does a key of small order sign anything.
    for backend in Backend::ALL {
        for point in EIGHT_TORSION {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(ED25519_BASEPOINT_POINT.compress().as_bytes());
            signature[32] = 1;
            assert!(!backend.is_signed(&point.compress().to_bytes(), b"x", &signature));
        }
    }
}

#[test]
fn a_signer_is_known_by_the_signature_with_which_the_key_comes() {
    let alice = Identity::from_seed([1; 32]);
    let id = *alice.peer_id().as_bytes();
    let signature = alice.sign(GREETING, b"x");
    let of = |bytes, message| PeerId::of_signer(bytes, GREETING, message, &signature);
    assert_eq!(of(id, b"x"), Ok(alice.peer_id()));
    assert_eq!(of(id, b"y"), Err(NotSigned::Signature(BadSignature)));
    let with_sign = |mut bytes: [u8; 32]| {
        bytes[31] |= 0x80;
        bytes
    };
    assert_eq!(of(with_sign(id), b"x"), Err(PeerIdError::SignBit.into()));
    assert_eq!(of([0; 32], b"x"), Err(PeerIdError::SmallOrder.into()));
    let off = (2..).map(|byte| [byte; 32]).find(|bytes| PeerId::from_bytes(*bytes) == Err(PeerIdError::NotOnCurve));
    assert_eq!(of(off.unwrap(), b"x"), Err(PeerIdError::NotOnCurve.into()));
}

#[test]
fn nothing_secret_is_shown() {
    let identity = Identity::from_seed([0xab; 32]);
    let shown = format!("{identity:?}");
    assert_eq!(shown, format!("Identity({})", identity.peer_id()));
    assert_eq!(format!("{GREETING:?}"), "Context(test greeting  1)");
}

#[cfg(feature = "v12")]
#[test]
fn the_v12_identity_is_another_one() {
    let identity = Identity::from_seed([7; 32]);
    let mut seed = [0; 32];
    Hkdf::<Sha256>::new(None, &[7; 32]).expand(b"setowire v12 identity", &mut seed).unwrap();
    assert_eq!(identity.v12().public(), crypto::v12::Identity::from_seed(&seed).public());
    assert_ne!(identity.v12().public().as_bytes(), &identity.peer_id().x25519());
    assert_ne!(identity.v12().public(), crypto::v12::Identity::from_seed(&[7; 32]).public());
}

proptest! {
    #[test]
    fn bytes_are_an_id_exactly_if_they_are_a_canonical_point(bytes: [u8; 32]) {
        let point = CompressedEdwardsY(bytes).decompress();
        let canonical = point.filter(|point| point.compress().0 == bytes && bytes[31] < 0x80 && !point.is_small_order());
        prop_assert_eq!(PeerId::from_bytes(bytes).is_ok(), canonical.is_some());
        if let Ok(id) = PeerId::from_bytes(bytes) {
            prop_assert_eq!(PeerId::from_x25519(&id.x25519()), Ok(id));
        }
    }

    #[test]
    fn an_x25519_key_belongs_to_one_id_or_none(bytes: [u8; 32]) {
        match PeerId::from_x25519(&bytes) {
            Ok(id) => prop_assert_eq!(id.x25519(), bytes),
            Err(PeerIdError::NotOnCurve) => prop_assert!(MontgomeryPoint(bytes).to_edwards(0).is_none()),
            Err(error) => prop_assert!(bytes[31] >= 0x7f || error == PeerIdError::SmallOrder),
        }
    }

    #[test]
    fn text_never_panics(text in "\\PC{0,70}") {
        if let Ok(id) = text.parse::<PeerId>() {
            prop_assert!(text.eq_ignore_ascii_case(&id.to_string()) || text.len() == 64);
        }
    }

    #[test]
    fn key_bytes_never_panic(bytes: Vec<u8>) {
        prop_assert!(Identity::from_bytes(&bytes).is_err());
        prop_assert!(PeerId::from_key_bytes(&bytes).is_err());
    }
}
