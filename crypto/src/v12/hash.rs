//! The two hashes of the v12 wire that are not about keys.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha1::{Digest, Sha1};

/// The name of a topic in discovery: the first 12 characters of the SHA-1 hash, in lower-case hexadecimal text, of the
/// topic's bytes written as lower-case hexadecimal text.
///
/// 48 bits of an unkeyed hash: it finds people, it protects nothing. Anyone who can guess the topic knows the hash, and
/// other topics with the same hash can be made. (Some C++ nodes keep 24 characters and do not meet the others.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicHash([u8; 12]);

impl TopicHash {
    /// Length of the text in characters.
    pub const LEN: usize = 12;

    /// The hash of a topic. By convention `topic` is the SHA-256 hash of a name, but any bytes are allowed.
    pub fn of(topic: &[u8]) -> Self {
        let digest: [u8; 20] = Sha1::digest(HEXLOWER.encode(topic)).into();
        let mut text = [0; Self::LEN];
        HEXLOWER.encode_mut(&digest[..Self::LEN / 2], &mut text);
        Self(text)
    }

    /// The 12 characters.
    pub fn as_str(&self) -> &str {
        // Only hexadecimal digits get in, so the empty string is never taken.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for TopicHash {
    type Err = ParseTopicError;

    /// Reads 12 lower-case hexadecimal digits, the only form the reference implementations write: they compare texts.
    fn from_str(text: &str) -> Result<Self, ParseTopicError> {
        let text: [u8; Self::LEN] = text.as_bytes().try_into().or(Err(ParseTopicError::Length { len: text.len() }))?;
        match text.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Some(position) => Err(ParseTopicError::Alphabet { position }),
            None => Ok(Self(text)),
        }
    }
}

impl fmt::Display for TopicHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TopicHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicHash({self})")
    }
}

/// Why a text is not a topic hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTopicError {
    /// The text has another length than a topic hash.
    #[error("a topic hash has 12 characters, not {len}")]
    Length {
        /// Length of the text in bytes.
        len: usize,
    },
    /// The text has a character other than a lower-case hexadecimal digit.
    #[error("the topic hash has a character other than a lower-case hexadecimal digit at byte {position}")]
    Alphabet {
        /// Where in the text the first such character is, in bytes.
        position: usize,
    },
}

/// The 64-bit hash by which nodes of this wire know a message again: FNV-1a with 32 bits over the bytes at even
/// positions, then the same over those at odd positions, both big endian. (Text form, where one is needed: 16
/// lower-case hexadecimal digits.)
///
/// Not cryptographic: whoever wants to can make two messages with the same hash. It may suppress honest repeats and
/// nothing more.
pub fn xor_hash(data: &[u8]) -> [u8; 8] {
    let (mut even, mut odd) = (FNV_BASIS, FNV_BASIS);
    let (pairs, rest) = data.as_chunks::<2>();
    for [a, b] in pairs {
        even = fnv1a(even, *a);
        odd = fnv1a(odd, *b);
    }
    if let [last] = rest {
        even = fnv1a(even, *last);
    }
    ((u64::from(even) << 32) | u64::from(odd)).to_be_bytes()
}

fn fnv1a(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME)
}

const FNV_BASIS: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;
