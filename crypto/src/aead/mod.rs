//! Authenticated encryption and header protection of packets, each on one of two implementations.

mod rustcrypto;
mod xchacha;

#[cfg(feature = "fast")]
mod ring;

use std::fmt;

pub use xchacha::{XNONCE_LEN, xchacha};

/// Length of a key of either cipher, in bytes.
pub const KEY_LEN: usize = 32;
/// Length of a nonce of either cipher, in bytes.
pub const NONCE_LEN: usize = 12;
/// Length of an authentication tag of either cipher, in bytes.
pub const TAG_LEN: usize = 16;
/// How much ciphertext the mask of a header is computed from, in bytes (RFC 9001, section 5.4.2).
pub const SAMPLE_LEN: usize = 16;
/// Length of the mask of a header, in bytes (RFC 9001, section 5.4.1).
pub const MASK_LEN: usize = 5;

/// What seals the packets of a session. Both have keys of 32 bytes, nonces of 12 and tags of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cipher {
    /// ChaCha20-Poly1305 (RFC 8439): fast everywhere, so every node has it.
    ChaCha20Poly1305,
    /// AES-256-GCM (NIST SP 800-38D): two to three times as fast where the processor has instructions for it, and
    /// not offered elsewhere.
    Aes256Gcm,
}

impl Cipher {
    /// The capability bit of the handshake by which a node offers [`Aes256Gcm`](Self::Aes256Gcm).
    pub const AES_CAPABILITY: u64 = 1;

    /// The ciphers of this build on this processor, the preferred one first.
    pub fn supported() -> &'static [Self] {
        if Self::hardware_aes() { &[Self::Aes256Gcm, Self::ChaCha20Poly1305] } else { &[Self::ChaCha20Poly1305] }
    }

    /// Whether this build and this processor can do [`Aes256Gcm`](Self::Aes256Gcm) fast: the feature `fast`, and
    /// instructions for AES and for carry-less multiplication.
    ///
    /// The answer is cached: the call costs a load.
    pub fn hardware_aes() -> bool {
        cfg!(feature = "fast") && processor_has_aes()
    }

    /// Whether this build on this processor has the cipher.
    pub fn is_supported(self) -> bool {
        Self::supported().contains(&self)
    }

    /// The cipher of a session whose ends offered these capabilities: AES if both did.
    pub const fn negotiated(ours: u64, theirs: u64) -> Self {
        if ours & theirs & Self::AES_CAPABILITY == 0 { Self::ChaCha20Poly1305 } else { Self::Aes256Gcm }
    }

    /// The number that stands for the cipher in the key schedule.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Self::Aes256Gcm => "AES-256-GCM",
        })
    }
}

/// This build, or this processor, does not have the cipher. It was not offered in the handshake, so no honest peer
/// makes a node need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not available here")]
pub struct UnsupportedCipher(pub Cipher);

/// Whose code computes. Both give the same bytes; they are both here so that tests and benches can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The RustCrypto crates: pure Rust, ChaCha20-Poly1305 only.
    RustCrypto,
    /// `ring`: assembly, both ciphers.
    #[cfg(feature = "fast")]
    Ring,
}

impl Backend {
    /// Every implementation of this build.
    pub const ALL: &[Self] = &[
        Self::RustCrypto,
        #[cfg(feature = "fast")]
        Self::Ring,
    ];
}

impl Default for Backend {
    /// The fastest of this build.
    fn default() -> Self {
        #[cfg(feature = "fast")]
        return Self::Ring;
        #[cfg(not(feature = "fast"))]
        return Self::RustCrypto;
    }
}

/// The text is longer than the cipher may seal under one nonce (64 GiB; no packet is), or the sealed text is not
/// authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// A key that seals and opens, set up once and wiped on drop.
///
/// It leaves the choice of nonces to the caller: two texts under one nonce give both away.
pub struct AeadKey(Aead);

#[cfg_attr(
    feature = "fast",
    expect(clippy::large_enum_variant, reason = "keys are kept in boxes, where they do not move")
)]
enum Aead {
    RustCrypto(rustcrypto::Aead),
    #[cfg(feature = "fast")]
    Ring(ring::Aead),
}

impl AeadKey {
    /// The key of these bytes, by the given implementation.
    ///
    /// # Errors
    ///
    /// [`UnsupportedCipher`] if the implementation does not have the cipher.
    pub fn new(backend: Backend, cipher: Cipher, key: &[u8; KEY_LEN]) -> Result<Self, UnsupportedCipher> {
        match (backend, cipher) {
            (Backend::RustCrypto, Cipher::ChaCha20Poly1305) => Ok(Self(Aead::RustCrypto(rustcrypto::Aead::new(key)))),
            (Backend::RustCrypto, Cipher::Aes256Gcm) => Err(UnsupportedCipher(cipher)),
            #[cfg(feature = "fast")]
            (Backend::Ring, _) => ring::Aead::new(cipher, key).map(|key| Self(Aead::Ring(key))),
        }
    }

    /// Seals `text` in place and returns its tag, which also covers `aad`.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the text is too long. What `text` holds then is unspecified: it must not be sent.
    #[inline]
    pub fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], Refused> {
        match &self.0 {
            Aead::RustCrypto(key) => key.seal(nonce, aad, text),
            #[cfg(feature = "fast")]
            Aead::Ring(key) => key.seal(nonce, aad, text),
        }
    }

    /// Opens `sealed`, ciphertext and tag, in place and returns the text.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it was not sealed with this key, this nonce and `aad`, or is shorter than a tag. The last 16
    /// bytes of `sealed` are then what they were, the others unspecified.
    #[inline]
    pub fn open<'a>(&self, nonce: [u8; NONCE_LEN], aad: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], Refused> {
        match &self.0 {
            Aead::RustCrypto(key) => key.open(nonce, aad, sealed),
            #[cfg(feature = "fast")]
            Aead::Ring(key) => key.open(nonce, aad, sealed),
        }
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadKey").finish_non_exhaustive()
    }
}

/// A key that hides the numbers in a header (RFC 9001, section 5.4), set up once and wiped on drop.
pub struct HeaderKey(Mask);

#[cfg_attr(
    feature = "fast",
    expect(clippy::large_enum_variant, reason = "keys are kept in boxes, where they do not move")
)]
enum Mask {
    RustCrypto(rustcrypto::Mask),
    #[cfg(feature = "fast")]
    Ring(ring::Mask),
}

impl HeaderKey {
    /// The key of these bytes for the cipher that seals, by the given implementation.
    ///
    /// # Errors
    ///
    /// [`UnsupportedCipher`] if the implementation does not have the cipher.
    pub fn new(backend: Backend, cipher: Cipher, key: &[u8; KEY_LEN]) -> Result<Self, UnsupportedCipher> {
        match (backend, cipher) {
            (Backend::RustCrypto, Cipher::ChaCha20Poly1305) => Ok(Self(Mask::RustCrypto(rustcrypto::Mask::new(key)))),
            (Backend::RustCrypto, Cipher::Aes256Gcm) => Err(UnsupportedCipher(cipher)),
            // One block of ChaCha20 takes 119 ns here and 138 there, where the code is made for long texts.
            #[cfg(feature = "fast")]
            (Backend::Ring, Cipher::ChaCha20Poly1305) => Ok(Self(Mask::RustCrypto(rustcrypto::Mask::new(key)))),
            #[cfg(feature = "fast")]
            (Backend::Ring, Cipher::Aes256Gcm) => ring::Mask::new(key).map(|key| Self(Mask::Ring(key))),
        }
    }

    /// The mask for the header in front of a ciphertext with this sample: the first 5 bytes of AES-256 of the
    /// sample, or of the ChaCha20 block whose counter and nonce it is (RFC 9001, sections 5.4.3 and 5.4.4).
    #[inline]
    pub fn mask(&self, sample: &[u8; SAMPLE_LEN]) -> [u8; MASK_LEN] {
        match &self.0 {
            Mask::RustCrypto(key) => key.mask(sample),
            #[cfg(feature = "fast")]
            Mask::Ring(key) => key.mask(sample),
        }
    }
}

impl fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderKey").finish_non_exhaustive()
    }
}

fn processor_has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}
