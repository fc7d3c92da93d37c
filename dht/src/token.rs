//! Proof of address without memory: what an answer larger than its request, and every write, takes for granted.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use framing::address;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::NodeId;

/// What a node gives to another one, to be shown with its next requests.
///
/// Random bytes to everybody but who made it. Zero stands for none.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Token([u8; 8]);

impl Token {
    /// Length in bytes.
    pub const LEN: usize = 8;
    /// No token: what the first request to a node shows.
    pub const NONE: Self = Self([0; 8]);

    /// The token with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::NONE { "Token(none)" } else { "Token(..)" })
    }
}

/// Makes and checks tokens: MACs of an address and a node under a secret that changes every [`PERIOD`](Self::PERIOD).
///
/// A token is good for its period and the next, for one node at one address. All that is kept is two secrets, wiped when they
/// go out of use.
pub struct Tokens {
    rng: Rng,
    /// Of this period and the one before.
    secrets: [[u8; 32]; 2],
    /// When this period began.
    since: Instant,
}

impl Tokens {
    /// How long a secret makes new tokens.
    pub const PERIOD: Duration = Duration::from_mins(5);

    /// Secrets of its own. Use a seed that nothing else uses.
    #[must_use]
    pub fn new(seed: &Seed, now: Instant) -> Self {
        let mut rng = seed.rng();
        Self { secrets: [rng.array(), rng.array()], rng, since: now }
    }

    /// The token of a node at an address.
    pub fn token(&mut self, id: &NodeId, addr: SocketAddr, now: Instant) -> Token {
        self.rotate(now);
        let [current, _] = &self.secrets;
        make(current, id, addr)
    }

    /// Whether a node got this token at this address, in this period or the one before.
    pub fn is_valid(&mut self, token: Token, id: &NodeId, addr: SocketAddr, now: Instant) -> bool {
        self.rotate(now);
        // Of which period it is, is no secret.
        self.secrets.iter().any(|secret| make(secret, id, addr).0.ct_eq(&token.0).into())
    }

    fn rotate(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed < Self::PERIOD {
            return;
        }
        let [current, _] = self.secrets;
        let fresh = self.rng.array();
        // After a longer pause the last secret is as old as any other.
        let previous = if passed < 2 * Self::PERIOD { current } else { self.rng.array() };
        self.secrets.zeroize();
        self.secrets = [fresh, previous];
        let periods = u32::try_from(passed.as_secs() / Self::PERIOD.as_secs()).unwrap_or(u32::MAX);
        self.since = self.since.checked_add(Self::PERIOD.saturating_mul(periods)).unwrap_or(now);
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.secrets.zeroize();
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("since", &self.since).finish_non_exhaustive()
    }
}

/// The front of HMAC-SHA-256(secret, id, address).
fn make(secret: &[u8; 32], id: &NodeId, addr: SocketAddr) -> Token {
    // Keys of HMAC may have any length.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret) else { return Token::NONE };
    let mac = mac.chain_update(id.as_bytes()).chain_update(address::encode(addr)).finalize().into_bytes();
    Token(mac.first_chunk().copied().unwrap_or_default())
}
