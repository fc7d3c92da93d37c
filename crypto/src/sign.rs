//! Signatures, each bound to what it is for.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};

#[cfg(feature = "fast")]
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use crate::{Backend, PeerId, PeerIdError};

/// What a signature is for: a label of 16 bytes in front of everything that is signed.
///
/// Two kinds of signed things never share a label, so a signature of one can never pass for the other. Handshakes do
/// not sign.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context([u8; 16]);

impl Context {
    /// The context with this label. Make it a constant beside the layout of what is signed, and put a version into it.
    pub const fn new(label: [u8; 16]) -> Self {
        Self(label)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.0.escape_ascii())
    }
}

/// An Ed25519 signature (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Length in bytes.
    pub const LEN: usize = 64;

    /// The signature with these bytes. Any bytes will do: [`PeerId::verify`] is what judges them.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// The bytes.
    pub const fn to_bytes(self) -> [u8; 64] {
        self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Signature({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// The signature is not one of this key, for this context and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not belong to the key, the context and the message")]
pub struct BadSignature;

/// Why something is not signed by the holder of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// The key is none.
    #[error(transparent)]
    Key(#[from] PeerIdError),
    /// The signature is another one.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

impl PeerId {
    /// The id with these bytes, if its holder signed `message` in `context`: [`from_bytes`](Self::from_bytes) and
    /// [`verify`](Self::verify) for less than their price, because the point is looked for once.
    ///
    /// # Errors
    ///
    /// [`NotSigned`].
    pub fn of_signer(
        bytes: [u8; 32],
        context: Context,
        message: &[u8],
        signature: &Signature,
    ) -> Result<Self, NotSigned> {
        // Whether it is on the curve is seen when the signature is checked.
        let claimed = Self::claimed(bytes)?;
        match claimed.verify(context, message, signature) {
            Ok(()) => Ok(claimed),
            Err(forged) => Err(Self::from_bytes(bytes).map_or_else(NotSigned::from, |_| forged.into())),
        }
    }

    /// Checks that the holder of this identity signed `message` in `context`.
    ///
    /// Strict: signatures that only some implementations accept (scalars not reduced, points of small order) are
    /// refused, so a signed thing has no second valid form made by somebody else.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if not.
    pub fn verify(&self, context: Context, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let signed = Backend::default().is_signed(self.as_bytes(), &labelled(context, message), &signature.0);
        if signed { Ok(()) } else { Err(BadSignature) }
    }
}

impl Backend {
    /// Whether an Ed25519 key signed a text, by strict rules: as [`PeerId::verify`] says.
    ///
    /// Every implementation computes the point R from key, text and scalar, and compares its encoding with the bytes of
    /// the signature. So R is a canonical encoding of a point wherever this is true, and its order can be told from them.
    /// That of the key the caller has looked at.
    pub fn is_signed(self, key: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
        let (Some(r), false) = (signature.first_chunk(), has_small_order(key)) else { return false };
        !has_small_order(r)
            && match self {
                Self::Dalek => {
                    let signature = ed25519_dalek::Signature::from_bytes(signature);
                    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify(text, &signature).is_ok())
                }
                #[cfg(feature = "fast")]
                Self::AwsLc => UnparsedPublicKey::new(&ED25519, key).verify(text, signature).is_ok(),
            }
    }
}

/// Whether the canonical encoding of a point is that of one of the eight of small order.
///
/// There are five coordinates of them; the sign of the other coordinate makes no difference.
pub(crate) fn has_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    SMALL_ORDER.contains(&y)
}

pub(crate) fn sign(key: &SigningKey, context: Context, message: &[u8]) -> Signature {
    Signature(key.sign(&labelled(context, message)).to_bytes())
}

fn labelled(context: Context, message: &[u8]) -> Vec<u8> {
    [context.0.as_slice(), message].concat()
}

/// The coordinates y of the points of small order: 1, -1, 0, and two of order 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [0; 32],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;

    use super::*;

    #[test]
    fn the_points_of_small_order_are_known_by_their_bytes() {
        assert!(EIGHT_TORSION.iter().all(|point| has_small_order(&point.compress().to_bytes())));
        let coordinates = SMALL_ORDER.iter().filter(|y| {
            EIGHT_TORSION.iter().any(|point| {
                let mut bytes = point.compress().to_bytes();
                bytes[31] &= 0x7f;
                bytes == **y
            })
        });
        assert_eq!(coordinates.count(), SMALL_ORDER.len(), "and no others");
    }
}
