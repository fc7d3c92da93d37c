//! The keys two nodes share, and sealing and opening with them.

use std::fmt;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Identity, NodeId, Nonce, PublicKey};

/// A pair of keys between two nodes, one for each direction.
///
/// Both ends derive the same session from their own secret and the other's public key, without a message. It is
/// a function of the two identities only, so the same two nodes have the same keys in every run: what keeps them safe
/// is that no nonce is used twice ([`NonceSequence`](super::NonceSequence)).
///
/// 68 bytes in memory, wiped on drop.
pub struct Session {
    seal: ChaCha20Poly1305,
    open: ChaCha20Poly1305,
    session_id: u32,
}

impl Session {
    /// How much longer a sealed text is than the text: the nonce (12 bytes) and the tag (16 bytes).
    pub const OVERHEAD: usize = Nonce::LEN + TAG_LEN;

    /// The session of `identity` with the node that has the key `peer`.
    ///
    /// HKDF-SHA256 (RFC 5869) over the X25519 secret, with an empty salt and the info `p2p-v12-session`, gives 68
    /// bytes: the key from the lower to the higher node, the key back, the session id. The lower node is the one with
    /// the lower [`WireId`](super::WireId); if these are equal, the one with the lower public key, so that both ends
    /// still agree.
    ///
    /// A session with one's own key can be derived but opens nothing that it sealed.
    ///
    /// # Errors
    ///
    /// [`WeakKey`] if the shared secret is all zero, as a peer that sends a point of small order wants it to be
    /// (RFC 7748, section 6.1). The check takes the same time for every key.
    pub fn derive(identity: &Identity, peer: &PublicKey) -> Result<Self, WeakKey> {
        let shared = identity.agree(peer);
        if shared.as_bytes().ct_eq(&[0; 32]).into() {
            return Err(WeakKey);
        }
        // The length is not an input of HKDF: the first 68 of 96 bytes are the 68 bytes of the wire.
        let mut output = Zeroizing::new([[0; 32]; 3]);
        let expanded = Hkdf::<Sha256>::new(None, shared.as_bytes()).expand(INFO, output.as_flattened_mut());
        if expanded.is_err() {
            // Three blocks are far below the limit of 255; if that ever changes, there is no session.
            debug_assert!(false, "HKDF-SHA256 refused to give three blocks");
            return Err(WeakKey);
        }
        let [up, down, [s0, s1, s2, s3, ..]] = &*output;
        let (seal, open) = match Role::of(identity.public(), peer) {
            Role::Lower => (up, down),
            Role::Higher => (down, up),
        };
        Ok(Self {
            seal: ChaCha20Poly1305::new(seal.into()),
            open: ChaCha20Poly1305::new(open.into()),
            session_id: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
        })
    }

    /// The number both ends compute for this session. The reference implementations use it as the prefix of their
    /// nonces; it is not secret.
    pub const fn session_id(&self) -> u32 {
        self.session_id
    }

    /// Seals the concatenation of `parts` for the peer and appends nonce, ciphertext and tag to `out`.
    ///
    /// Several parts save the caller from joining a header and a payload first. What `out` holds already is neither
    /// changed nor authenticated: the wire has no associated data. A nonce must never be given to two calls with the
    /// same keys: take it from one [`NonceSequence`](super::NonceSequence).
    pub fn seal(&self, nonce: Nonce, parts: &[&[u8]], out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(Self::OVERHEAD + parts.iter().map(|part| part.len()).sum::<usize>());
        out.extend_from_slice(nonce.as_bytes());
        let text = out.len();
        parts.iter().for_each(|part| out.extend_from_slice(part));
        let (_, text) = out.split_at_mut(text);
        match self.seal.encrypt_inout_detached(nonce.as_bytes().into(), &[], text.into()) {
            Ok(tag) => out.extend_from_slice(&tag),
            Err(_) => {
                // More than 256 GiB, which no caller has. What must not happen is that the text leaves in the clear.
                out.truncate(start);
                debug_assert!(false, "ChaCha20-Poly1305 refused to seal");
            }
        }
    }

    /// Opens what the peer sealed, in place: `sealed` is nonce, ciphertext and tag, and nothing else.
    ///
    /// Returns the nonce and the text, which borrows from `sealed`. Success means that one of the two holders of the
    /// keys sealed this for this direction at some time; it may be a replay, or have come from anywhere.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. The contents of `sealed` are unspecified afterwards. The session is unchanged in any case.
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> Result<(Nonce, &'a mut [u8]), OpenError> {
        let (nonce, rest) = sealed.split_first_chunk_mut::<{ Nonce::LEN }>().ok_or(OpenError::TooShort)?;
        let (text, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(OpenError::TooShort)?;
        let nonce = Nonce::from(*nonce);
        match self.open.decrypt_inout_detached(nonce.as_bytes().into(), &[], (&mut *text).into(), (&*tag).into()) {
            Ok(()) => Ok((nonce, text)),
            Err(_) => Err(OpenError::Unauthentic),
        }
    }
}

/// Shows the session id and no key.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

/// The peer's public key has a small order: anyone could compute the keys of a session with it.
///
/// No honest node has such a key. Drop what brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the public key of the peer has a small order")]
pub struct WeakKey;

/// Why a sealed text was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Shorter than [`Session::OVERHEAD`], so it cannot hold a nonce and a tag.
    #[error("the sealed text is shorter than a nonce and a tag")]
    TooShort,
    /// Not sealed with the keys of this session and direction, or changed on the way.
    #[error("the sealed text was not made by the peer or was changed")]
    Unauthentic,
}

/// Which of the two keys is ours to send with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Lower,
    Higher,
}

impl Role {
    /// The role of the holder of `ours` against the holder of `theirs`.
    fn of(ours: &PublicKey, theirs: &PublicKey) -> Self {
        Self::by_rank((NodeId::of(ours).wire(), ours), (NodeId::of(theirs).wire(), theirs))
    }

    /// Compares the short id first and, where two nodes share it, the key.
    fn by_rank<R: Ord>(ours: R, theirs: R) -> Self {
        if ours < theirs { Self::Lower } else { Self::Higher }
    }
}

const INFO: &[u8] = b"p2p-v12-session";
const TAG_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v12::WireId;

    #[test]
    fn equal_short_ids_fall_back_to_the_keys() {
        // Finding two keys whose ids share 8 bytes takes 2^32 hashes, so the rank is given by hand.
        let id = WireId::from([7; 8]);
        let (low, high) = (PublicKey::from([1; 32]), PublicKey::from([2; 32]));
        assert_eq!(Role::by_rank((id, &low), (id, &high)), Role::Lower);
        assert_eq!(Role::by_rank((id, &high), (id, &low)), Role::Higher);
    }

    #[test]
    fn the_short_id_outranks_the_key() {
        let (low, high) = (WireId::from([1; 8]), WireId::from([2; 8]));
        let (small, large) = (PublicKey::from([1; 32]), PublicKey::from([2; 32]));
        assert_eq!(Role::by_rank((low, &large), (high, &small)), Role::Lower);
        assert_eq!(Role::by_rank((high, &small), (low, &large)), Role::Higher);
    }
}
