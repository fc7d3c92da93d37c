//! The ids users see: 32 bytes, shown as 52 characters of base32.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// `Display` is 52 characters of lower-case base32 (RFC 4648, no padding); `FromStr` also takes 64
        /// hexadecimal digits; `Debug` is the short form.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id of these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first ten characters, for people. It cannot be parsed back.
            #[must_use]
            pub fn short(&self) -> ShortId {
                ShortId(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text).map(Self)
            }
        }
    };
}

id! {
    /// A peer: its public key.
    PeerId
}

id! {
    /// A topic: what peers that look for each other have in common.
    TopicId
}

impl From<crypto::PeerId> for PeerId {
    fn from(id: crypto::PeerId) -> Self {
        Self(id.to_bytes())
    }
}

impl TryFrom<PeerId> for crypto::PeerId {
    type Error = crypto::PeerIdError;

    /// Fails for what is no identity key, such as the key of a peer on the v12 wire.
    fn try_from(id: PeerId) -> Result<Self, Self::Error> {
        Self::from_bytes(id.0)
    }
}

impl TopicId {
    /// The topic of a name: its SHA-256, as the existing nodes do by convention.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self(Sha256::digest(name.as_bytes()).into())
    }
}

impl From<&str> for TopicId {
    fn from(name: &str) -> Self {
        Self::from_name(name)
    }
}

#[cfg(feature = "v12")]
impl PeerId {
    /// The id that the v12 wire gives this peer: the first 20 bytes of the SHA-256 of its key.
    #[must_use]
    pub fn v12_id(&self) -> crypto::v12::NodeId {
        crypto::v12::NodeId::of(&crypto::v12::PublicKey::from(self.0))
    }
}

/// The first ten characters of an id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ShortId([u8; 32]);

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = BASE32_NOPAD.encode(&self.0).to_ascii_lowercase();
        f.write_str(text.get(..10).unwrap_or(&text))
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// Neither 52 characters of base32 nor 64 hexadecimal digits.
    #[error("an id has 52 base32 characters or 64 hexadecimal digits, not {len}")]
    Length {
        /// The characters that were given.
        len: usize,
    },
    /// A character outside the alphabet.
    #[error("an id consists of the letters a-z and the digits 2-7, or of hexadecimal digits")]
    Alphabet,
}

fn parse(text: &str) -> Result<[u8; 32], ParseIdError> {
    let decoded = match text.len() {
        52 => BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()),
        64 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
        len => return Err(ParseIdError::Length { len }),
    };
    decoded.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(ParseIdError::Alphabet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_and_errors_say_what_is_wrong() {
        let id = PeerId::from_bytes([7; 32]);
        assert_eq!(id.to_string().len(), 52);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("07".repeat(32).parse(), Ok(id));
        assert_eq!("abc".parse::<PeerId>(), Err(ParseIdError::Length { len: 3 }));
        assert_eq!("1".repeat(52).parse::<PeerId>(), Err(ParseIdError::Alphabet));
        assert!(id.to_string().starts_with(&id.short().to_string()));
    }

    #[test]
    fn a_topic_is_the_sha256_of_its_name() {
        let lobby = TopicId::from_name("my-topic");
        let bytes = HEXLOWER_PERMISSIVE.encode(lobby.as_bytes());
        assert_eq!(bytes, "50918d47a1c0e0182e0b641b2f1f656e1c3668471519caf0f609464e79786f05");
    }
}
