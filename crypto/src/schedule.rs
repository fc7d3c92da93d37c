//! The key schedule of records: from the keys of a handshake to those of every generation.
//!
//! ```text
//! k_i, k_r         the two keys of the handshake (Noise `Split`), one for each direction
//! secret 0       = Expand(k, "setowire record 1" || cipher || direction || handshake hash || answer header)
//! secret g + 1   = Expand(secret g, "update")
//!               or Extract(salt = secret g, ikm = X25519(e_i', e_r') || e_i' || e_r')   after new ephemeral keys
//! key, iv        = Expand(secret g, "key"), Expand(secret g, "iv")[..12]
//! header key     = Expand(secret 0, "header")
//! exporter       = Extract(salt = handshake hash, ikm = k_i || k_r)
//! ```
//!
//! Extract and Expand are those of HKDF-SHA256 (RFC 5869); every output is at most one block of 32 bytes.

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::Cipher;
use crate::handshake::SessionSecrets;

/// 32 secret bytes, wiped on drop.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// Which way packets go, as the key schedule numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToResponder,
    ToInitiator,
}

/// The secret of generation 0 of one direction.
pub(crate) fn first(secrets: &SessionSecrets, cipher: Cipher, direction: Direction) -> Secret {
    let (key, number) = match direction {
        Direction::ToResponder => (&secrets.k_i, 0),
        Direction::ToInitiator => (&secrets.k_r, 1),
    };
    expand(key, &[b"setowire record 1", &[cipher.number(), number], &secrets.hash, &secrets.answer_header])
}

/// The secret of the next generation.
pub(crate) fn updated(secret: &Secret) -> Secret {
    expand(secret, &[b"update"])
}

/// The secret of the next generation with new ephemeral keys in it.
pub(crate) fn mixed(secret: &Secret, shared: &[u8; 32], e_i: &[u8; 32], e_r: &[u8; 32]) -> Secret {
    extract(secret, &[shared, e_i, e_r])
}

/// The key of a generation.
pub(crate) fn key(secret: &Secret) -> Secret {
    expand(secret, &[b"key"])
}

/// What the packet number is added to (xor) to make the nonce of a packet.
pub(crate) fn iv(secret: &Secret) -> [u8; 12] {
    let [iv @ .., _, _, _, _] = *expand(secret, &[b"iv"]).first_chunk::<16>().unwrap_or(&[0; 16]);
    iv
}

/// The key that hides headers, from the secret of generation 0.
pub(crate) fn header_key(first: &Secret) -> Secret {
    expand(first, &[b"header"])
}

/// What the exporter expands.
pub(crate) fn exporter(secrets: &SessionSecrets) -> Secret {
    extract(&secrets.hash, &[&secrets.k_i, &secrets.k_r])
}

/// Key material for another purpose, bound to the session.
pub(crate) fn export(exporter: &Secret, label: &[&[u8]]) -> Secret {
    let mut mac = keyed(exporter);
    mac.update(b"setowire exporter ");
    block(mac, label)
}

/// HKDF-Extract, with the input in parts.
fn extract(salt: &[u8; 32], ikm: &[&[u8]]) -> Secret {
    hmac(salt, ikm)
}

/// The first block of HKDF-Expand, with the info in parts. Shorter outputs are its beginning.
fn expand(secret: &[u8; 32], info: &[&[u8]]) -> Secret {
    // Concatenation is what HMAC does with its updates; the last one is the number of the block.
    block(keyed(secret), info)
}

fn block(mut mac: Hmac<Sha256>, info: &[&[u8]]) -> Secret {
    info.iter().for_each(|part| mac.update(part));
    mac.update(&[1]);
    finish(mac)
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Secret {
    let mut mac = keyed(key);
    parts.iter().for_each(|part| mac.update(part));
    finish(mac)
}

/// HMAC-SHA-256 with a key of 32 bytes. A key padded with zeros to a block is the same key (RFC 2104), and a block
/// cannot have the wrong length.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    if let Some(start) = block.first_chunk_mut() {
        *start = *key;
    }
    Hmac::new((&*block).into())
}

fn finish(mac: Hmac<Sha256>) -> Secret {
    let mut output: [u8; 32] = mac.finalize().into_bytes().into();
    let secret = Zeroizing::new(output);
    output.zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use hkdf::Hkdf;

    use super::*;

    fn by_hkdf(secret: &[u8; 32], info: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        Hkdf::<Sha256>::from_prk(secret).unwrap().expand(info, &mut out).unwrap();
        out
    }

    #[test]
    fn blocks_are_those_of_hkdf() {
        let (a, b) = ([3; 32], [4; 32]);
        assert_eq!(*expand(&a, &[b"one", b"", b" two"]), by_hkdf(&a, b"one two"));
        assert_eq!(*expand(&a, &[]), by_hkdf(&a, b""));
        let (prk, _) = Hkdf::<Sha256>::extract(Some(&a), &[b.as_slice(), b"tail"].concat());
        assert_eq!(extract(&a, &[&b, b"tail"]).as_slice(), prk.as_slice());
    }

    /// Written out once more from the definition, without the functions above.
    #[test]
    fn the_schedule_is_the_documented_one() {
        let (k_i, k_r, hash, answer) = ([1; 32], [2; 32], [3; 32], [4; 20]);
        let secrets = SessionSecrets::new(k_i, k_r, hash, answer, true);
        for (direction, key, number) in [(Direction::ToResponder, k_i, 0), (Direction::ToInitiator, k_r, 1)] {
            for (cipher, code) in [(Cipher::ChaCha20Poly1305, 1), (Cipher::Aes256Gcm, 2)] {
                let info = [b"setowire record 1".as_slice(), &[code, number], &[3; 32], &[4; 20]].concat();
                let secret = first(&secrets, cipher, direction);
                assert_eq!(*secret, by_hkdf(&key, &info));
                assert_eq!(*updated(&secret), by_hkdf(&secret, b"update"));
                assert_eq!(*super::key(&secret), by_hkdf(&secret, b"key"));
                assert_eq!(iv(&secret), by_hkdf(&secret, b"iv")[..12]);
                assert_eq!(*header_key(&secret), by_hkdf(&secret, b"header"));
                let ikm = [[5; 32], [6; 32], [7; 32]].concat();
                let (prk, _) = Hkdf::<Sha256>::extract(Some(&*secret), &ikm);
                assert_eq!(mixed(&secret, &[5; 32], &[6; 32], &[7; 32]).as_slice(), prk.as_slice());
            }
        }
        let (prk, _) = Hkdf::<Sha256>::extract(Some(&hash), &[k_i, k_r].concat());
        let prk: [u8; 32] = prk.into();
        assert_eq!(*exporter(&secrets), prk);
        assert_eq!(*export(&exporter(&secrets), &[b"x", b"y"]), by_hkdf(&prk, b"setowire exporter xy"));
    }
}
