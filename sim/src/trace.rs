//! A portable fingerprint of a run.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Hashes what happened in a run, in order. Equal seeds give equal traces, in every process and on every machine.
///
/// Little-endian 64-bit words are mixed in as FNV-1a mixes bytes, with a denser multiplier and a fold that lets high
/// bits reach low ones. Every step is a bijection of the state, so a single difference is never lost. It is no defence
/// against anybody who wants a collision, and it need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace(u64);

impl Trace {
    /// The trace of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a number.
    pub const fn number(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    /// Adds bytes, with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.number(u64::from_le_bytes(last));
    }

    /// Adds a moment, as the offset from the beginning of the run.
    pub fn time(&mut self, at: Duration) {
        self.number(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds an address.
    pub fn addr(&mut self, addr: SocketAddr) {
        match addr.ip() {
            IpAddr::V4(ip) => self.bytes(&ip.octets()),
            IpAddr::V6(ip) => self.bytes(&ip.octets()),
        }
        self.number(u64::from(addr.port()));
    }

    /// The hash so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.0
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}
