//! The one input of all randomness: a seed, its independent children and their streams.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Rng;

/// 32 bytes from which everything random in a node follows.
///
/// A machine takes one seed in its constructor and never asks for entropy again, so that a run can be repeated.
/// A parent gives each of its parts a [`fork`](Self::fork) with its own label: what one part draws never moves the
/// stream of another, and a part that learns its own seed learns nothing about the others.
///
/// Not `Clone`: two owners of one seed draw the same "random" numbers. The bytes are wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A seed for tests and simulations: equal numbers give equal seeds, on every platform and in every release.
    ///
    /// It holds at most 64 bits of entropy, and usually none: never use it for keys that must be secret.
    pub fn fixed(number: u64) -> Self {
        Self::hash(FIXED, &[0; 32], &number.to_be_bytes())
    }

    /// A seed from 32 bytes that the caller got from a good source.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A seed from the operating system. This is the only place where entropy enters.
    ///
    /// Blocks early in the boot of a machine whose generator is not ready yet, and never again after that.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if the system has no working source. There is nothing to fall back to.
    #[cfg(feature = "os")]
    #[cfg_attr(docsrs, doc(cfg(feature = "os")))]
    #[expect(clippy::disallowed_methods, reason = "the one place where entropy enters")]
    pub fn from_os() -> Result<Self, EntropyError> {
        let mut seed = Self([0; 32]);
        getrandom::fill(&mut seed.0).map_err(|error| EntropyError { code: error.raw_os_error() })?;
        Ok(seed)
    }

    /// The child seed named `label`.
    ///
    /// Different labels, the empty one included, give independent children; the same label always gives the same
    /// child. Neither the child nor any number of siblings tells anything about this seed or about another child.
    ///
    /// It is SHA-256 over one block of 32 bytes domain and 32 bytes seed, then the length of the label (64 bits, big
    /// endian) and the label. The seed keys the compression function, and the length in front makes the encoding
    /// prefix-free, which closes length extension: one child cannot be computed from another.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        Self::hash(FORK, &self.0, label.as_bytes())
    }

    /// The generator of this seed, at the start of its stream. Two generators of one seed give the same numbers.
    pub fn rng(&self) -> Rng {
        Rng::new(self.0)
    }

    fn hash(domain: &[u8; 32], key: &[u8; 32], data: &[u8]) -> Self {
        let hash = Sha256::new()
            .chain_update(domain)
            .chain_update(key)
            .chain_update((data.len() as u64).to_be_bytes())
            .chain_update(data);
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed").finish_non_exhaustive()
    }
}

/// The operating system gave no entropy.
#[cfg(feature = "os")]
#[cfg_attr(docsrs, doc(cfg(feature = "os")))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no entropy (error code {code:?})")]
#[non_exhaustive]
pub struct EntropyError {
    /// The error code of the operating system, if it gave one.
    pub code: Option<i32>,
}

const FIXED: &[u8; 32] = b"setowire seed: fixed for tests 1";
const FORK: &[u8; 32] = b"setowire seed: child by label  1";
