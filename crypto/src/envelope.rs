//! Sealed datagrams between nodes that have no session: each for itself, from one X25519 key to another.
//!
//! ```text
//! shared         = X25519(own secret key, other's public key), refused if it is all zero
//! key            = HKDF-SHA256(ikm = shared, no salt,
//!                              info = "setowire envelope 1" || lower public key || higher public key || direction)
//!                  direction 0: from the lower key to the higher; 1: back
//! envelope       = nonce 24 (random) || XChaCha20-Poly1305 ciphertext || tag 16
//! associated data = what the caller sends in front of the envelope || nonce || public key of the receiver
//! ```
//!
//! What it gives: only the two holders of the keys can make or read one, and the receiver knows that the other one made
//! it, for it and with what stood in front of it. What it does not give: there is no forward secrecy (a stolen key opens
//! what was recorded, and lets its thief pretend to be anybody towards its owner), and no protection against replay:
//! requests sealed this way must be harmless when repeated. So the keys are keys of nodes, changed at every start where
//! possible, and never identities.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Rng;
use crate::aead::{Backend, TAG_LEN, XNONCE_LEN, xchacha};
use crate::x25519::{self, KeyPair};

/// How much longer an envelope is than its text: nonce and tag, in bytes.
pub const OVERHEAD: usize = XNONCE_LEN + TAG_LEN;

/// The X25519 key of a node, for [envelopes](self) only. Wiped on drop.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// A fresh key. Takes 32 bytes from `rng`.
    pub fn generate(rng: &mut Rng) -> Self {
        Self(KeyPair::generate(x25519::Backend::default(), rng))
    }

    /// The key of 32 secret bytes, as [`to_bytes`](Self::to_bytes) gives them.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(KeyPair::new(x25519::Backend::default(), secret))
    }

    /// The secret bytes, for a node that keeps its key.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.0.private())
    }

    /// The public key, by which others know the node.
    pub const fn public(&self) -> &[u8; 32] {
        self.0.public()
    }

    /// The keys between this node and another. Costs an X25519 operation, so keep them for a node that is spoken to
    /// again.
    ///
    /// # Errors
    ///
    /// [`WeakKey`] if `other` has a small order.
    pub fn shared_with(&self, other: &[u8; 32]) -> Result<SharedKeys, WeakKey> {
        let shared = self.0.agree(other).ok_or(WeakKey)?;
        let (ours, theirs) = (*self.public(), *other);
        let (lower, higher) = (ours.min(theirs), ours.max(theirs));
        let prk = Hkdf::<Sha256>::new(None, &*shared);
        let mut up = [0; 32];
        let mut down = [0; 32];
        for (key, direction) in [(&mut up, 0), (&mut down, 1)] {
            // One block is never too long.
            prk.expand_multi_info(&[LABEL, &lower, &higher, &[direction]], key).or(Err(WeakKey))?;
        }
        let (seal, open) = if ours < theirs { (up, down) } else { (down, up) };
        up.zeroize();
        down.zeroize();
        Ok(SharedKeys { seal, open, ours, theirs })
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").finish_non_exhaustive()
    }
}

/// The keys of envelopes between two nodes, one for each direction: 128 bytes, wiped on drop.
///
/// With oneself they can be derived, but open nothing that they sealed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SharedKeys {
    seal: [u8; 32],
    open: [u8; 32],
    #[zeroize(skip)]
    ours: [u8; 32],
    #[zeroize(skip)]
    theirs: [u8; 32],
}

impl SharedKeys {
    /// Seals `text` and appends the envelope to `out`: `text.len()` + [`OVERHEAD`] bytes.
    ///
    /// `front` is what will stand in front of it in the datagram; it is authenticated and not copied. Takes 24 bytes from
    /// `rng` for the nonce: two envelopes of one pair of keys share one with probability 2^-97 after 2^48 of them.
    ///
    /// # Errors
    ///
    /// [`SealError`] if the text is longer than the cipher takes: `out` is as it was.
    pub fn seal(&self, front: &[u8], rng: &mut Rng, text: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let nonce = rng.array::<XNONCE_LEN>();
        let start = out.len();
        out.reserve(text.len() + OVERHEAD);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(text);
        let (_, body) = out.split_at_mut(start + XNONCE_LEN);
        let aad = [front, &nonce, &self.theirs].concat();
        let sealed =
            xchacha(Backend::default(), &self.seal, &nonce).and_then(|(key, nonce)| key.seal(nonce, &aad, body));
        match sealed {
            Ok(tag) => {
                out.extend_from_slice(&tag);
                Ok(())
            }
            Err(_) => {
                out.truncate(start);
                Err(SealError)
            }
        }
    }

    /// Opens an envelope in place and returns the text, which borrows from it.
    ///
    /// `front` is what stood in front of it in the datagram.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. The contents of `envelope` are unspecified afterwards.
    pub fn open<'a>(&self, front: &[u8], envelope: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        if envelope.len() < OVERHEAD {
            return Err(OpenError::TooShort);
        }
        let (nonce, sealed) = envelope.split_first_chunk_mut::<XNONCE_LEN>().ok_or(OpenError::TooShort)?;
        let aad = [front, nonce, &self.ours].concat();
        let (key, nonce) = xchacha(Backend::default(), &self.open, nonce).or(Err(OpenError::Unauthentic))?;
        key.open(nonce, &aad, sealed).or(Err(OpenError::Unauthentic))
    }
}

impl fmt::Debug for SharedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKeys").finish_non_exhaustive()
    }
}

/// The public key of the other node has a small order: anyone could compute the keys with it. Drop what brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the public key of the node has a small order")]
pub struct WeakKey;

/// The text is longer than the cipher takes (64 GiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is too long for an envelope")]
pub struct SealError;

/// Why an envelope was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Shorter than [`OVERHEAD`], so it cannot hold a nonce and a tag.
    #[error("the envelope is shorter than a nonce and a tag")]
    TooShort,
    /// Not sealed by the other node for this one, or it or what stands in front of it was changed on the way.
    #[error("the envelope was not made by the node for us, or was changed")]
    Unauthentic,
}

const LABEL: &[u8] = b"setowire envelope 1";
