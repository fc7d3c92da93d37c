//! Signatures, each bound to what it is for.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::PeerId;

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

impl PeerId {
    /// Checks that the holder of this identity signed `message` in `context`.
    ///
    /// Strict: signatures that only some implementations accept (scalars not reduced, points of small order) are
    /// refused, so a signed thing has no second valid form made by somebody else.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if not.
    pub fn verify(&self, context: Context, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(self.as_bytes())
            .and_then(|key| key.verify_strict(&labelled(context, message), &signature))
            .or(Err(BadSignature))
    }
}

pub(crate) fn sign(key: &SigningKey, context: Context, message: &[u8]) -> Signature {
    Signature(key.sign(&labelled(context, message)).to_bytes())
}

fn labelled(context: Context, message: &[u8]) -> Vec<u8> {
    [context.0.as_slice(), message].concat()
}
