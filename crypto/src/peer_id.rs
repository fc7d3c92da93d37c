//! The name of a peer, which is its public key.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::montgomery::MontgomeryPoint;
use data_encoding::{BASE32_NOPAD, DecodeKind, HEXLOWER_PERMISSIVE};

use crate::key_bytes::{self, KEY_BYTES, KeyError, KeyType};
use crate::sign::has_small_order;

/// The public identity key of a peer: an Ed25519 key that is also, by the birational map, an X25519 key.
///
/// The map forgets the sign of the Ed25519 key. A `PeerId` is therefore *canonical*: its sign bit is 0. Then one X25519
/// key, as a handshake proves it, belongs to exactly one `PeerId`, and no byte on the wire is needed to say which. Not
/// canonical, and refused everywhere, are also coordinates not below 2^255 - 19, points that are not on the curve and
/// points of small order.
///
/// A point with a component of small order besides the large one passes, because looking for it costs a multiplication:
/// who holds the key of one `PeerId` can also speak for the few that differ from it by such a point. They are other
/// names of the same holder, and nobody else's.
///
/// As text it is 52 lower-case characters of base32 (RFC 4648, no padding).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

impl PeerId {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// The id with these bytes.
    ///
    /// # Errors
    ///
    /// [`PeerIdError`] if they are not a canonical key.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, PeerIdError> {
        let claimed = Self::claimed(bytes)?;
        CompressedEdwardsY(bytes).decompress().map(|_point| claimed).ok_or(PeerIdError::NotOnCurve)
    }

    /// The id with these bytes if they are those of a point of the curve, which is not looked for here.
    pub(crate) fn claimed(bytes: [u8; 32]) -> Result<Self, PeerIdError> {
        let [.., last] = bytes;
        if last & 0x80 != 0 {
            return Err(PeerIdError::SignBit);
        }
        if !is_canonical(&bytes) {
            return Err(PeerIdError::NotCanonical);
        }
        if has_small_order(&bytes) { Err(PeerIdError::SmallOrder) } else { Ok(Self(bytes)) }
    }

    /// The one id whose X25519 key is `key` (RFC 7748, section 4.1).
    ///
    /// # Errors
    ///
    /// [`PeerIdError`] if the key is not canonical, on the twist, or of small order: no identity has it.
    pub fn from_x25519(key: &[u8; 32]) -> Result<Self, PeerIdError> {
        if !is_canonical(key) {
            return Err(PeerIdError::NotCanonical);
        }
        let point = MontgomeryPoint(*key).to_edwards(0).ok_or(PeerIdError::NotOnCurve)?;
        if point.is_small_order() { Err(PeerIdError::SmallOrder) } else { Ok(Self(point.compress().to_bytes())) }
    }

    /// The X25519 key of this identity.
    pub fn x25519(&self) -> [u8; 32] {
        // Every `PeerId` decompressed once already; the map of a point that does not is never used.
        CompressedEdwardsY(self.0).decompress().map_or([0; 32], |point| point.to_montgomery().to_bytes())
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The bytes.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The first eight characters, for logs and screens. 40 bits: enough to recognise a peer, not to prove one.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }

    /// The id as [`KeyType::PeerId`] in the encoding that says its own type.
    pub fn to_key_bytes(&self) -> [u8; KEY_BYTES] {
        key_bytes::encode(KeyType::PeerId, &self.0)
    }

    /// Reads what [`to_key_bytes`](Self::to_key_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is something else, damaged, or not a canonical key.
    pub fn from_key_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        Ok(Self::from_bytes(*key_bytes::decode(KeyType::PeerId, bytes)?)?)
    }

    /// The id of a key that [`Identity`](crate::Identity) made, which chooses its keys to be canonical.
    pub(crate) const fn trusted(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Maps by id can be asked by bytes that nobody has looked at, which costs a square root.
impl Borrow<[u8; 32]> for PeerId {
    fn borrow(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whether the coordinate is the one way to write its value: below 2^255 - 19.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    *last < 0x7f || (*last == 0x7f && (*first < 0xed || middle.iter().any(|byte| *byte != 0xff)))
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT];
        BASE32_NOPAD.encode_mut(&self.0, &mut text);
        text.make_ascii_lowercase();
        f.pad(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = ParsePeerIdError;

    /// Reads 52 characters of base32 or 64 hexadecimal digits, in either case.
    fn from_str(text: &str) -> Result<Self, ParsePeerIdError> {
        let mut bytes = [0; 32];
        match text.len() {
            TEXT => {
                BASE32_NOPAD.decode_mut(text.to_ascii_uppercase().as_bytes(), &mut bytes).map_err(|partial| {
                    match partial.error.kind {
                        DecodeKind::Trailing => ParsePeerIdError::Trailing,
                        _ => ParsePeerIdError::Alphabet { position: partial.error.position },
                    }
                })?;
            }
            HEX => {
                HEXLOWER_PERMISSIVE
                    .decode_mut(text.as_bytes(), &mut bytes)
                    .map_err(|partial| ParsePeerIdError::Alphabet { position: partial.error.position })?;
            }
            len => return Err(ParsePeerIdError::Length { len }),
        }
        Ok(Self::from_bytes(bytes)?)
    }
}

/// Characters of the base32 text: 256 bits in fives, rounded up.
const TEXT: usize = 52;
/// Characters of the hexadecimal text.
const HEX: usize = 64;

/// Why 32 bytes are not a [`PeerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerIdError {
    /// The sign bit is set: this key has a twin with the same X25519 key, and the twin is the canonical one.
    #[error("the key has its sign bit set")]
    SignBit,
    /// The coordinate is not below 2^255 - 19.
    #[error("the key is not in its canonical form")]
    NotCanonical,
    /// No point of the curve has this coordinate.
    #[error("the key is not a point of the curve")]
    NotOnCurve,
    /// The point is of small order: everyone could compute what it agrees on, and sign for it.
    #[error("the key is of small order")]
    SmallOrder,
}

/// Why a text is not a [`PeerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePeerIdError {
    /// The text is neither 52 nor 64 bytes long.
    #[error("a peer id has 52 characters of base32 or 64 hexadecimal digits, not {len}")]
    Length {
        /// Length of the text in bytes.
        len: usize,
    },
    /// A character that base32, or with 64 characters hexadecimal, does not have.
    #[error("the peer id has a foreign character at byte {position}")]
    Alphabet {
        /// Where the first such character is, in bytes.
        position: usize,
    },
    /// The last character holds bits that are not part of the 32 bytes.
    #[error("the last character of the peer id is not canonical")]
    Trailing,
    /// The text decodes, but not to a key.
    #[error(transparent)]
    Key(#[from] PeerIdError),
}
