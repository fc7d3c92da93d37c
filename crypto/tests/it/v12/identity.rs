use crypto::Seed;
use crypto::v12::{Identity, NodeId, SeedError};

use super::{array, hex, text, vectors};

const KEYS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/v12/keys.json"));

#[test]
fn keys_and_ids() {
    for vector in vectors(KEYS) {
        let identity = Identity::from_seed(&hex(&vector["seed_hex"]));
        assert_eq!(identity.public().as_bytes(), &array(&vector["public_hex"]), "{vector}");
        assert_eq!(identity.id().to_string(), text(&vector["id_hex"]), "{vector}");
        assert_eq!(identity.wire_id().to_string(), text(&vector["wire_id_hex"]), "{vector}");
        assert_eq!(identity.id(), NodeId::of(identity.public()));

        let seed = text(&vector["seed_hex"]);
        for seed in [seed.to_owned(), seed.to_uppercase()] {
            let same = Identity::from_hex_seed(&seed);
            if seed.is_empty() {
                assert_eq!(same.unwrap_err(), SeedError::Length { len: 0 });
            } else {
                assert_eq!(same.unwrap().public(), identity.public());
            }
        }
    }
}

#[test]
fn texts_that_are_not_seeds() {
    let refused = |text: &str| Identity::from_hex_seed(text).unwrap_err();
    assert_eq!(refused(""), SeedError::Length { len: 0 });
    assert_eq!(refused("123"), SeedError::Length { len: 3 });
    assert_eq!(refused("zz"), SeedError::Alphabet { position: 0 });
    assert_eq!(refused("00 0"), SeedError::Alphabet { position: 2 });
    assert_eq!(refused("0é0"), SeedError::Alphabet { position: 1 });
}

#[test]
fn generated_identities_follow_the_generator() {
    let [mut one, mut two] = [1, 1].map(|n| Seed::fixed(n).rng());
    let first = Identity::generate(&mut one);
    assert_eq!(first.public(), Identity::generate(&mut two).public());
    assert_ne!(first.public(), Identity::generate(&mut one).public());
    // The next 32 bytes are the private key: the multiplication done by itself gives the same public key.
    let private = Seed::fixed(1).rng().array();
    assert_eq!(first.public().as_bytes(), &x25519_dalek::x25519(private, x25519_dalek::X25519_BASEPOINT_BYTES));
}

#[test]
fn only_the_id_is_shown() {
    let identity = Identity::from_seed(b"alice");
    assert_eq!(format!("{identity:?}"), "Identity(e3f03f52612aadacbcbc96c9ea08aa1835740dd7)");
}
