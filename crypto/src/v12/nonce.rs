//! Nonces that do not repeat, although keys are used again and nothing is written down.

use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

use crate::Rng;

/// The 12 bytes in front of a sealed text: a 4-byte prefix and an 8-byte counter, both big endian.
///
/// The reference implementations put the session id into the prefix and count from 0 in each run. They read neither
/// field of what they receive, so a sender is free to choose both: see [`NonceSequence`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce([u8; 12]);

impl Nonce {
    /// Length of a nonce in bytes.
    pub const LEN: usize = 12;

    /// The nonce with these two fields.
    pub const fn new(prefix: u32, counter: u64) -> Self {
        let [p0, p1, p2, p3] = prefix.to_be_bytes();
        let [c0, c1, c2, c3, c4, c5, c6, c7] = counter.to_be_bytes();
        Self([p0, p1, p2, p3, c0, c1, c2, c3, c4, c5, c6, c7])
    }

    /// The first 4 bytes.
    pub const fn prefix(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The last 8 bytes.
    pub const fn counter(&self) -> u64 {
        let [_, _, _, _, a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The bytes as they go on the wire.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl From<[u8; Nonce::LEN]> for Nonce {
    fn from(bytes: [u8; Nonce::LEN]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({:08x}:{})", self.prefix(), self.counter())
    }
}

/// The nonces of one run of a node, for all its sessions.
///
/// The keys of this wire are the same in every run with the same two identities, and a repeated nonce under one key
/// gives away the XOR of two messages and the key that authenticates them. So a run must not use a nonce of an earlier
/// one, and it must know that without having stored anything. The prefix is 4 random bytes, the counter starts at the
/// Unix time in nanoseconds, and each packet adds one:
///
/// - Within a run the counter only rises. At its end the sequence is over; it does not wrap.
/// - A run that starts later starts with a higher counter than an earlier run ever reached, because no node seals a
///   packet per nanosecond: the counter falls behind the clock with every packet.
/// - If the clock was set back (or is so coarse that two runs read the same time), the ranges can overlap. Then the
///   prefixes still differ, with probability `1 - 2^-32` for each pair of runs.
/// - Receivers take the 12 bytes as they come: the reference implementations check neither field.
///
/// Make one per process and identity, and keep it as long as the process: a sequence per connection would lean on
/// the clock for each reconnect. Not `Clone`, because a copy would repeat.
#[derive(Debug)]
pub struct NonceSequence {
    prefix: u32,
    /// `None` after the last counter.
    next: Option<u64>,
}

impl NonceSequence {
    /// A sequence that starts at `unix`, the time since 1970-01-01 UTC, with a prefix of 4 bytes from `rng`.
    ///
    /// The counter holds times up to the year 2554; a later `unix` counts as that moment, which leaves one nonce.
    pub fn new(unix: Duration, rng: &mut Rng) -> Self {
        let start = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
        Self { prefix: u32::from_be_bytes(rng.array()), next: Some(start) }
    }
}

impl Iterator for NonceSequence {
    type Item = Nonce;

    /// The next nonce, or `None` for ever when the counter is exhausted: the node then has to start anew.
    fn next(&mut self) -> Option<Nonce> {
        let counter = self.next?;
        self.next = counter.checked_add(1);
        Some(Nonce::new(self.prefix, counter))
    }
}

impl FusedIterator for NonceSequence {}
