//! Names of nodes: the public key, its hash, and the start of that hash which goes on the wire.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::hex;

/// An X25519 public key as a peer sent it: 32 bytes, the u-coordinate in little endian (RFC 7748, section 5).
///
/// Any 32 bytes are a key of this type. Whether they can be used is decided by
/// [`Session::derive`](super::Session::derive). This is the strongest name of a node: use it as the key of peer tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The bytes as they go on the wire.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Shows the first 4 bytes, which is enough to follow a node through a log.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        f.write_str("PublicKey(")?;
        hex::write(f, &[a, b, c, d])?;
        f.write_str("..)")
    }
}

/// The id of a node: the first 20 bytes of the SHA-256 hash of its public key.
///
/// Text: 40 hexadecimal digits, written in lower case and read in either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 20]);

impl NodeId {
    /// The id that belongs to `key`.
    pub fn of(key: &PublicKey) -> Self {
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut id = [0; 20];
        id.copy_from_slice(&hash[..20]);
        Self(id)
    }

    /// The bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The first 8 bytes, which stand for the node in most frames.
    pub fn wire(&self) -> WireId {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        WireId([a, b, c, d, e, f, g, h])
    }
}

impl From<[u8; 20]> for NodeId {
    fn from(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    /// Reads 40 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse(text).map(Self)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// The first 8 bytes of a [`NodeId`], by which frames name nodes and by which the two ends of a session choose keys.
///
/// Text: 16 hexadecimal digits, written in lower case and read in either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireId([u8; 8]);

impl WireId {
    /// The bytes as they go on the wire.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl From<[u8; 8]> for WireId {
    fn from(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl From<NodeId> for WireId {
    fn from(id: NodeId) -> Self {
        id.wire()
    }
}

impl FromStr for WireId {
    type Err = ParseIdError;

    /// Reads 16 hexadecimal digits, or the 40 of a [`NodeId`], of which all are checked and the first 16 are kept:
    /// the reference implementations send both forms in the same JSON fields.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match text.len() {
            40 => text.parse::<NodeId>().map(|id| id.wire()),
            _ => parse(text).map(Self),
        }
    }
}

impl fmt::Display for WireId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

impl fmt::Debug for WireId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireId({self})")
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The text has another length than an id.
    #[error("an id has 16 or 40 hexadecimal digits, not {len}")]
    Length {
        /// Length of the text in bytes.
        len: usize,
    },
    /// The text has the right length but is not hexadecimal throughout.
    #[error("the id has a character other than a hexadecimal digit at byte {position}")]
    Alphabet {
        /// Where in the text the first such character is, in bytes.
        position: usize,
    },
}

fn parse<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    hex::decode(text.as_bytes()).map_err(|position| match text.len() {
        len if len != 2 * N => ParseIdError::Length { len },
        _ => ParseIdError::Alphabet { position },
    })
}
