//! X25519 key pairs (RFC 7748) on one of two implementations.

use std::fmt;

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::Rng;

#[cfg(feature = "fast")]
use aws_lc_rs::agreement;

/// Which implementation multiplies. Both give the same bytes; they are both here so that tests and benches can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// `x25519-dalek`: pure Rust.
    Dalek,
    /// `aws-lc-rs`: assembly, about twice as fast.
    #[cfg(feature = "fast")]
    AwsLc,
}

impl Backend {
    /// Every implementation of this build.
    pub const ALL: &[Self] = &[
        Self::Dalek,
        #[cfg(feature = "fast")]
        Self::AwsLc,
    ];
}

impl Default for Backend {
    /// The fastest of this build.
    fn default() -> Self {
        #[cfg(feature = "fast")]
        return Self::AwsLc;
        #[cfg(not(feature = "fast"))]
        return Self::Dalek;
    }
}

/// A private key with its public key, computed once. Wiped on drop.
pub struct KeyPair {
    private: StaticSecret,
    public: [u8; 32],
    /// The same private key as the other implementation wants it, if that one is used.
    #[cfg(feature = "fast")]
    parsed: Option<agreement::PrivateKey>,
}

impl KeyPair {
    /// A fresh pair: the private key is the next 32 bytes of `rng`.
    pub fn generate(backend: Backend, rng: &mut Rng) -> Self {
        Self::new(backend, &Zeroizing::new(rng.array()))
    }

    /// The pair of a private key, which is clamped as RFC 7748, section 5, says.
    pub fn new(backend: Backend, private: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*private);
        #[cfg(feature = "fast")]
        if backend == Backend::AwsLc
            && let Ok(parsed) = agreement::PrivateKey::from_private_key(&agreement::X25519, private)
            && let Ok(public) = parsed.compute_public_key()
            && let Ok(public) = public.as_ref().try_into()
        {
            return Self { private: secret, public, parsed: Some(parsed) };
        }
        // Without the other implementation, or if it fails, which it has no reason to.
        let _: Backend = backend;
        Self {
            public: PublicKey::from(&secret).to_bytes(),
            private: secret,
            #[cfg(feature = "fast")]
            parsed: None,
        }
    }

    /// Which implementation this pair uses.
    pub(crate) const fn backend(&self) -> Backend {
        #[cfg(feature = "fast")]
        if self.parsed.is_some() {
            return Backend::AwsLc;
        }
        Backend::Dalek
    }

    /// The public key.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The private key, not clamped.
    pub(crate) fn private(&self) -> &[u8; 32] {
        self.private.as_bytes()
    }

    /// The secret shared with the holder of `public`, or `None` if it is all zero: a point of small order gives that
    /// to everyone (RFC 7748, section 6.1).
    pub fn agree(&self, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        #[cfg(feature = "fast")]
        if let Some(parsed) = &self.parsed {
            let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, public);
            let shared = agreement::agree(parsed, peer, (), |shared| {
                let mut out = Zeroizing::new([0; 32]);
                out.copy_from_slice(shared.get(..32).ok_or(())?);
                Ok(out)
            });
            return shared.ok();
        }
        let shared = self.private.diffie_hellman(&PublicKey::from(*public));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}
