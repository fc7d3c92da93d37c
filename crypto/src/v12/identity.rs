//! The key pair of a node and where it comes from.

use std::fmt;

use sha2::{Digest, Sha256};
use x25519_dalek::{SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use super::hex;
use super::{NodeId, PublicKey, WireId};
use crate::Rng;

/// The long-term key pair of a node on the v12 wire.
///
/// The secret half never leaves this type, is wiped on drop and is not shown by `Debug`. Not `Clone`: share it by
/// reference or `Arc`.
pub struct Identity {
    secret: StaticSecret,
    public: PublicKey,
    id: NodeId,
}

impl Identity {
    /// The identity of a seed of any length: its SHA-256 hash is the private key.
    ///
    /// The seed is the only secret, so it must hold at least 128 bits of entropy: a phrase a person can remember is
    /// found by trying phrases, for one hash and one multiplication each. An empty seed is accepted here and gives the
    /// key that everyone knows.
    pub fn from_seed(seed: &[u8]) -> Self {
        Self::from_private(Zeroizing::new(Sha256::digest(seed).into()))
    }

    /// The identity of a seed in hexadecimal text, in either case, as the reference implementations take it from their
    /// options.
    ///
    /// Stricter than they are, because they disagree where this refuses: the empty text is a fixed key to some of them
    /// and a random one to others, and some read only the part before the first bad or odd digit.
    ///
    /// # Errors
    ///
    /// [`SeedError`] if the text is empty, has an odd length or holds another character.
    pub fn from_hex_seed(text: &str) -> Result<Self, SeedError> {
        if text.is_empty() {
            return Err(SeedError::Length { len: 0 });
        }
        let seed = hex::decode_vec(text.as_bytes()).map(Zeroizing::new).map_err(|position| match position {
            None => SeedError::Length { len: text.len() },
            Some(position) => SeedError::Alphabet { position },
        })?;
        Ok(Self::from_seed(&seed))
    }

    /// A new identity: the private key is the next 32 bytes of `rng`.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_private(Zeroizing::new(rng.array()))
    }

    /// The key others need to talk to this node.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The id of this node.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The short id of this node.
    pub fn wire_id(&self) -> WireId {
        self.id.wire()
    }

    /// X25519 with the key of a peer. The result may be all zero: see [`Session::derive`](super::Session::derive).
    pub(super) fn agree(&self, peer: &PublicKey) -> SharedSecret {
        self.secret.diffie_hellman(&(*peer.as_bytes()).into())
    }

    fn from_private(private: Zeroizing<[u8; 32]>) -> Self {
        let secret = StaticSecret::from(*private);
        let public = PublicKey::from(x25519_dalek::PublicKey::from(&secret).to_bytes());
        Self { secret, public, id: NodeId::of(&public) }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&format_args!("{}", self.id)).finish()
    }
}

/// Why a text is not a seed. It tells where the text is wrong and never repeats what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// The text is empty or has an odd length.
    #[error("a seed has a positive, even number of hexadecimal digits, not {len}")]
    Length {
        /// Length of the text in bytes.
        len: usize,
    },
    /// The text is not hexadecimal throughout.
    #[error("the seed has a character other than a hexadecimal digit at byte {position}")]
    Alphabet {
        /// Where in the text the first such character is, in bytes.
        position: usize,
    },
}
