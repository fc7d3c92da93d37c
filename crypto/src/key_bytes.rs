//! How keys are written to files: so that each says what it is.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::PeerIdError;

/// Length of an encoded key: `setowire` (8 bytes), type (1), key (32), check (4).
///
/// The check is the start of SHA-256 over everything before it. It finds damage, not forgery.
pub const KEY_BYTES: usize = 45;

/// What an encoded key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyType {
    /// Byte 1, secret: the seed of an [`Identity`](crate::Identity).
    Identity,
    /// Byte 2, public: a [`PeerId`](crate::PeerId).
    PeerId,
}

impl KeyType {
    /// What these bytes claim to be. Looks at the length, the label and the type, not at the key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if they are not a whole encoded key, or of a type this version does not know.
    pub fn of(bytes: &[u8]) -> Result<Self, KeyError> {
        let foreign = MAGIC.iter().zip(bytes).any(|(expected, found)| expected != found);
        if foreign {
            return Err(KeyError::Foreign);
        }
        match bytes.get(MAGIC.len()) {
            _ if bytes.len() < KEY_BYTES => Err(KeyError::Truncated { len: bytes.len() }),
            Some(1) if bytes.len() == KEY_BYTES => Ok(Self::Identity),
            Some(2) if bytes.len() == KEY_BYTES => Ok(Self::PeerId),
            Some(1 | 2) => Err(KeyError::TooLong { len: bytes.len() }),
            found => Err(KeyError::UnknownType { found: found.copied().unwrap_or_default() }),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Identity => 1,
            Self::PeerId => 2,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "secret identity",
            Self::PeerId => "peer id",
        })
    }
}

const MAGIC: &[u8; 8] = b"setowire";

pub(crate) fn encode(kind: KeyType, key: &[u8; 32]) -> [u8; KEY_BYTES] {
    let mut out = [0; KEY_BYTES];
    let parts = MAGIC.iter().copied().chain([kind.byte()]).chain(key.iter().copied()).chain(check(kind, key));
    out.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    out
}

pub(crate) fn decode(wanted: KeyType, bytes: &[u8]) -> Result<&[u8; 32], KeyError> {
    let found = KeyType::of(bytes)?;
    if found != wanted {
        return Err(KeyError::WrongType { found });
    }
    let truncated = KeyError::Truncated { len: bytes.len() };
    let (key, found) = bytes.get(MAGIC.len() + 1..).and_then(<[u8]>::split_first_chunk).ok_or(truncated)?;
    if check(wanted, key) == found { Ok(key) } else { Err(KeyError::Damaged) }
}

fn check(kind: KeyType, key: &[u8; 32]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(MAGIC).chain_update([kind.byte()]).chain_update(key).finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
    [a, b, c, d]
}

/// Why bytes are not the key that was asked for. It never repeats what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// They do not begin as our keys do.
    #[error("not a key of this kind of node")]
    Foreign,
    /// They end before the key does.
    #[error("the key is cut off after {len} of {KEY_BYTES} bytes")]
    Truncated {
        /// Length in bytes.
        len: usize,
    },
    /// They go on after the key.
    #[error("the key has {len} bytes instead of {KEY_BYTES}")]
    TooLong {
        /// Length in bytes.
        len: usize,
    },
    /// A key of a type that this version does not know.
    #[error("a key of the unknown type {found}")]
    UnknownType {
        /// The type byte.
        found: u8,
    },
    /// A whole key, of another type.
    #[error("the key is a {found}")]
    WrongType {
        /// What it is.
        found: KeyType,
    },
    /// The check does not fit: some byte was changed.
    #[error("the key is damaged")]
    Damaged,
    /// A public key that is none.
    #[error(transparent)]
    PeerId(#[from] PeerIdError),
}
