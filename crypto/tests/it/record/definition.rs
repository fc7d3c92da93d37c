//! The wire once more, from its definition and with other crates, without any code of the layer under test.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use crypto::handshake::SessionSecrets;
use crypto::record::RecordKeys;
use crypto::{Cipher, Seed};
use hkdf::Hkdf;
use proptest::prelude::*;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

use super::{CID, combinations, open, sealed, unsealed};

fn expand(secret: &[u8; 32], info: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    Hkdf::<Sha256>::from_prk(secret).unwrap().expand(info, &mut out).unwrap();
    out
}

/// One direction in one generation.
#[derive(Clone)]
pub(super) struct Wire {
    cipher: Cipher,
    secret: [u8; 32],
    header: [u8; 32],
    generation: u64,
}

impl Wire {
    pub(super) fn new(cipher: Cipher, key: [u8; 32], direction: u8, hash: [u8; 32], answer: [u8; 20]) -> Self {
        let code = if cipher == Cipher::Aes256Gcm { 2 } else { 1 };
        let info = [b"setowire record 1".as_slice(), &[code, direction], &hash, &answer].concat();
        let secret = expand(&key, &info);
        Self { cipher, secret, header: expand(&secret, b"header"), generation: 0 }
    }

    pub(super) fn update(&mut self) {
        self.secret = expand(&self.secret, b"update");
        self.generation += 1;
    }

    fn mix(&mut self, shared: &[u8; 32], e_i: &[u8; 32], e_r: &[u8; 32]) {
        let (prk, _) = Hkdf::<Sha256>::extract(Some(&self.secret), &[*shared, *e_i, *e_r].concat());
        self.secret = prk.into();
        self.generation += 1;
    }

    /// A packet with the first byte `0xE0 | low`, where an honest one has the generation in the low bits.
    pub(super) fn packet(&self, low: u8, pn: u64, text: &[u8]) -> Vec<u8> {
        let mut header = [&[0xE0 | low], &CID[..], &(pn as u32).to_be_bytes()].concat();
        let key = expand(&self.secret, b"key");
        let mut nonce: [u8; 12] = expand(&self.secret, b"iv")[..12].try_into().unwrap();
        nonce.iter_mut().skip(4).zip(pn.to_be_bytes()).for_each(|(byte, pn)| *byte ^= pn);
        let mut body = text.to_vec();
        match self.cipher {
            Cipher::Aes256Gcm => {
                Aes256Gcm::new(&key.into()).encrypt_in_place(&nonce.into(), &header, &mut body).unwrap();
            }
            _ => ChaCha20Poly1305::new(&key.into()).encrypt_in_place(&nonce.into(), &header, &mut body).unwrap(),
        }
        let mask = mask(self.cipher, &self.header, body[..16].try_into().unwrap());
        header[0] ^= mask[0] & 0x0f;
        header[9..].iter_mut().zip(&mask[1..]).for_each(|(byte, mask)| *byte ^= mask);
        [header, body].concat()
    }

    fn honest(&self, pn: u64, text: &[u8]) -> Vec<u8> {
        self.packet((self.generation % 4) as u8, pn, text)
    }
}

/// The mask of a header (RFC 9001, sections 5.4.3 and 5.4.4).
pub(super) fn mask(cipher: Cipher, key: &[u8; 32], sample: &[u8; 16]) -> [u8; 5] {
    if cipher == Cipher::Aes256Gcm {
        use aes::cipher::BlockCipherEncrypt;
        let mut block = (*sample).into();
        aes::Aes256::new(key.into()).encrypt_block(&mut block);
        return block[..5].try_into().unwrap();
    }
    chacha20_block(key, u32::from_le_bytes(sample[..4].try_into().unwrap()), &sample[4..])
}

/// The first five bytes of a block of ChaCha20 (RFC 8439, section 2.3), word by word.
fn chacha20_block(key: &[u8; 32], counter: u32, nonce: &[u8]) -> [u8; 5] {
    let words = |bytes: &[u8]| -> Vec<u32> {
        bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let start = [words(b"expand 32-byte k"), words(key), vec![counter], words(nonce)].concat();
    let mut state = start.clone();
    let mut quarter = |a: usize, b: usize, c: usize, d: usize| {
        for (x, y, z, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
            state[x] = state[x].wrapping_add(state[y]);
            state[z] = (state[z] ^ state[x]).rotate_left(by);
        }
    };
    for _ in 0..10 {
        (0..4).for_each(|i| quarter(i, 4 + i, 8 + i, 12 + i));
        (0..4).for_each(|i| quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4));
    }
    let bytes: Vec<u8> = state.iter().zip(&start).flat_map(|(a, b)| a.wrapping_add(*b).to_le_bytes()).collect();
    bytes[..5].try_into().unwrap()
}

/// Through both ends of a session: three generations, the third with ephemeral keys mixed in, then one more.
#[test]
fn packets_and_generations_are_the_documented_ones() {
    for (cipher, backend) in combinations() {
        let (k_i, k_r, hash, answer) = ([1; 32], [2; 32], [3; 32], [4; 20]);
        let end = |initiator| {
            let secrets = SessionSecrets::new(k_i, k_r, hash, answer, initiator);
            RecordKeys::with_backend(&secrets, cipher, backend).unwrap()
        };
        let (mut a, mut b) = (end(true), end(false));
        let mut up = Wire::new(cipher, k_i, 0, hash, answer);
        let mut down = Wire::new(cipher, k_r, 1, hash, answer);
        let now = super::at(0);
        let mut pn = 0;
        let mut exchange = |a: &mut RecordKeys, b: &mut RecordKeys, up: &Wire, down: &Wire| {
            for text in [b"".as_slice(), b"x", &[9; 1423]] {
                // Numbers beyond 32 bits are reached in steps that the receiver can follow.
                pn += 0x6543_2109;
                assert_eq!(sealed(a, pn, text), up.honest(pn, text), "{cipher} {backend:?} {pn}");
                assert_eq!(sealed(b, pn, text), down.honest(pn, text), "{cipher} {backend:?} {pn}");
                let expected = Ok((pn, up.generation, text.to_vec()));
                assert_eq!(open(b, &up.honest(pn, text), now), expected);
                assert_eq!(open(a, &down.honest(pn, text), now), expected);
            }
            a.on_ack(pn);
            b.on_ack(pn);
        };
        exchange(&mut a, &mut b, &up, &down);
        for end in [&mut a, &mut b] {
            end.update().unwrap();
        }
        up.update();
        down.update();
        exchange(&mut a, &mut b, &up, &down);

        // The ephemeral keys are the next 32 bytes of the generators.
        let rng = |label| Seed::fixed(9).fork(label).rng();
        let (s_i, s_r) = (StaticSecret::from(rng("i").array::<32>()), StaticSecret::from(rng("r").array::<32>()));
        let (e_i, e_r) = (PublicKey::from(&s_i), PublicKey::from(&s_r));
        assert_eq!(a.start_rekey(&mut rng("i")), Ok(e_i.to_bytes()));
        assert_eq!(b.on_rekey(e_i.as_bytes(), &mut rng("r")), Ok(e_r.to_bytes()));
        assert_eq!(a.on_rekey_ack(e_r.as_bytes()), Ok(()));
        b.on_rekey_ack_acknowledged();
        let shared = s_i.diffie_hellman(&e_r).to_bytes();
        for (end, wire) in [(&mut a, &mut up), (&mut b, &mut down)] {
            end.update().unwrap();
            wire.mix(&shared, e_i.as_bytes(), e_r.as_bytes());
        }
        exchange(&mut a, &mut b, &up, &down);
        assert!(!a.is_rekeying() && !b.is_rekeying());
        for end in [&mut a, &mut b] {
            end.update().unwrap();
        }
        up.update();
        down.update();
        exchange(&mut a, &mut b, &up, &down);
    }
}

/// Things that an honest peer never seals are refused although the tag is right.
#[test]
fn authentic_packets_that_break_the_rules_are_refused() {
    use crypto::record::OpenError::Unauthentic;
    for (cipher, backend) in combinations() {
        let (k_i, hash, answer) = ([1; 32], [3; 32], [4; 20]);
        let secrets = SessionSecrets::new(k_i, [2; 32], hash, answer, false);
        let mut keys = RecordKeys::with_backend(&secrets, cipher, backend).unwrap();
        let first = Wire::new(cipher, k_i, 0, hash, answer);
        let mut second = first.clone();
        second.update();
        let mut third = second.clone();
        third.update();
        let now = super::at(0);
        assert!(open(&mut keys, &first.packet(0, 10, b""), now).is_ok());
        // Reserved bits, and generations that do not belong to the phase.
        for low in 1..16 {
            assert_eq!(open(&mut keys, &first.packet(low, 11, b""), now), Err(Unauthentic), "{low}");
        }
        // A later generation with an earlier number, and one that leaves out another.
        assert_eq!(open(&mut keys, &second.packet(1, 9, b""), now), Err(Unauthentic));
        assert_eq!(open(&mut keys, &third.packet(2, 20, b""), now), Err(Unauthentic));
        assert_eq!(keys.receive_generation(), 0);
        assert!(open(&mut keys, &second.packet(1, 20, b""), now).is_ok());
        // An earlier generation with a later number.
        assert_eq!(open(&mut keys, &first.packet(0, 21, b""), now), Err(Unauthentic));
        assert!(open(&mut keys, &first.packet(0, 19, b""), now).is_ok());
        assert_eq!(keys.failures(), 15 + 3);
    }
}

/// RFC 9001, appendix A.5: a short header packet sealed with ChaCha20-Poly1305.
#[test]
fn the_packet_of_rfc_9001() {
    use crypto::raw::{AeadKey, Backend, HeaderKey};
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let key = hex("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8").try_into().unwrap();
    let header_key = hex("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4").try_into().unwrap();
    let nonce = hex("e0459b3474bdd0e46d417eb0").try_into().unwrap();
    let sample = hex("5e5cd55c41f69080575d7999c25a5bfb").try_into().unwrap();
    let chacha = Cipher::ChaCha20Poly1305;
    for &backend in Backend::ALL {
        let mut text = [1];
        let tag = AeadKey::new(backend, chacha, &key).unwrap().seal(nonce, &hex("4200bff4"), &mut text).unwrap();
        assert_eq!([&text[..], &tag].concat(), hex("655e5cd55c41f69080575d7999c25a5bfb"));
        let mask = HeaderKey::new(backend, chacha, &header_key).unwrap().mask(&sample);
        assert_eq!(mask, *hex("aefefe7d03"));
    }
    assert_eq!(mask(chacha, &header_key, &sample), *hex("aefefe7d03"));
}

/// A thousand random texts, keys, nonces and samples: every implementation gives the same bytes, and opens them.
#[test]
fn implementations_agree() {
    use crypto::raw::{AeadKey, HeaderKey};
    let mut rng = Seed::fixed(3).rng();
    for round in 0..1000 {
        let key: [u8; 32] = rng.array();
        let nonce: [u8; 12] = rng.array();
        let mut sample: [u8; 16] = rng.array();
        if round % 10 == 0 {
            // The last block of the key stream.
            sample[..4].fill(0xff);
        }
        let lengths = if round % 100 == 0 { 70_000 } else { 2_000 };
        let (mut text, mut aad) = (vec![0; rng.below(lengths) as usize], vec![0; rng.below(40) as usize]);
        rng.fill(&mut text);
        rng.fill(&mut aad);
        for (cipher, backend) in combinations() {
            let ours = AeadKey::new(backend, cipher, &key).unwrap();
            let mut by_us = text.clone();
            let tag = ours.seal(nonce, &aad, &mut by_us).unwrap();
            by_us.extend_from_slice(&tag);
            let mut by_other = text.clone();
            match cipher {
                Cipher::Aes256Gcm => {
                    Aes256Gcm::new(&key.into()).encrypt_in_place(&nonce.into(), &aad, &mut by_other).unwrap();
                }
                _ => {
                    let other = ChaCha20Poly1305::new(&key.into());
                    other.encrypt_in_place(&nonce.into(), &aad, &mut by_other).unwrap();
                }
            }
            assert!(by_us == by_other, "{cipher} {backend:?}, round {round}, {} bytes", text.len());
            assert_eq!(ours.open(nonce, &aad, &mut by_us).unwrap(), text);
            let by_us = HeaderKey::new(backend, cipher, &key).unwrap().mask(&sample);
            assert_eq!(by_us, mask(cipher, &key, &sample), "{cipher} {backend:?}, round {round}");
        }
    }
}

proptest! {
    /// Whatever is in the packet before sealing, except for the connection id, does not matter.
    #[test]
    fn only_the_connection_id_of_the_header_is_read(mut packet in prop::collection::vec(any::<u8>(), 29..200)) {
        for (cipher, backend) in combinations() {
            let [a, _] = super::secrets(4);
            let mut keys = RecordKeys::with_backend(&a, cipher, backend).unwrap();
            let mut again = RecordKeys::with_backend(&a, cipher, backend).unwrap();
            packet[1..9].copy_from_slice(&CID);
            let mut clean = unsealed(&packet[13..packet.len() - 16]);
            let mut full = packet.clone();
            keys.seal(&mut full, 77).unwrap();
            again.seal(&mut clean, 77).unwrap();
            prop_assert_eq!(full, clean);
        }
    }
}
