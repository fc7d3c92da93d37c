//! Sealed packets: the keys of a session from its handshake to its end.
//!
//! A packet is 13 bytes of header, ciphertext, and a tag of 16 bytes:
//!
//! ```text
//! 0      1110 rr pp   rr = 0, pp = generation mod 4; the low four bits are masked
//! 1..9   connection id of the receiver
//! 9..13  the low 32 bits of the packet number, big endian; masked
//! 13..   ciphertext and tag; the header before masking is the associated data
//! ```
//!
//! Packet numbers start at 0, rise, and are never used twice, over all generations and paths. What this layer keeps:
//!
//! - No nonce is used twice with a key: a number that is not above the last one is refused.
//! - Nothing that fails to authenticate changes anything but the count of failures.
//! - Every packet is opened at most once ([`WINDOW`] numbers back; older ones are refused).
//! - Keys of the past cannot be computed from those of the present, and are wiped when they go.

mod open;
mod rekey;
mod seal;

use std::fmt;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

pub use open::{OpenError, Opened};
pub use rekey::RekeyError;
pub use seal::{SealError, UpdateError};

use self::open::Receiver;
use self::rekey::Rekey;
use self::seal::Sender;
use crate::aead::{AeadKey, Backend, HeaderKey, UnsupportedCipher};
use crate::handshake::SessionSecrets;
use crate::schedule::{self, Direction, Secret};
use crate::{Cipher, replay};

/// Length of the header of a packet, in bytes.
pub const HEADER_LEN: usize = 13;
/// How much longer a packet is than its text: header and tag, in bytes.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// The first byte of a packet before the phase is put into it.
pub const FIRST_BYTE: u8 = 0xE0;
/// How many numbers back a packet that comes late is still taken.
pub const WINDOW: u64 = replay::WINDOW;
/// Packets of one direction in a session; the next one is refused. At 10 million a second that is 3600 years.
pub const MAX_PACKETS: u64 = 1 << 60;
/// Packets sealed in one generation, above which sealing is refused until [`RecordKeys::update`] (RFC 9001,
/// section 6.6 and appendix B.1, for AES-GCM). Updates are due long before.
pub const MAX_GENERATION: u64 = 1 << 23;
/// Packets that failed to authenticate, above which a session opens nothing more (RFC 9001, section 6.6: the limit of
/// ChaCha20-Poly1305; that of AES-256-GCM is higher).
pub const MAX_FAILURES: u64 = 1 << 36;
/// How long the receive keys of the generation before are kept if [`RecordKeys::keep_old_until`] says nothing else:
/// three probe timeouts (RFC 9001, section 6.5) of a path of unknown round-trip time (333 ms, RFC 9002).
pub const OLD_KEYS: Duration = Duration::from_secs(3);

const TAG_LEN: usize = crate::aead::TAG_LEN;

/// The record keys of one session, both directions.
///
/// Each direction has generations of keys, numbered from 0, and moves on by itself: the sender when it decides to
/// ([`update`](Self::update)), the receiver when the first packet of the next generation authenticates. An ordinary
/// update derives the next secret from the last; the one after a [rekey](Self::start_rekey) mixes fresh ephemeral keys
/// into it. Driven by the caller: nothing here has a clock, and nothing allocates for a packet except the next
/// generation (once each) and the replay window (once, if packets go missing).
///
/// With AES about 2 KiB, of which 1.8 on the heap; 1 KiB more after packets went missing, and 560 bytes while a
/// generation before or after is kept. [At rest](Self::rest) 400 bytes. Keys stay where they were made until they are
/// wiped, however the value is moved.
pub struct RecordKeys {
    sender: Sender,
    receiver: Receiver,
    rekey: Rekey,
    roots: Box<Roots>,
    initiator: bool,
    suite: Suite,
}

/// What all other keys of a session can be made of. In one box, so that no move leaves a copy behind.
struct Roots {
    /// The secrets of the generations that packets are sealed and opened in.
    send: Secret,
    receive: Secret,
    /// The keys that hide headers, in all generations.
    send_header: Secret,
    receive_header: Secret,
    exporter: Secret,
}

/// Which cipher, by whose code.
#[derive(Clone, Copy)]
struct Suite {
    cipher: Cipher,
    backend: Backend,
}

impl RecordKeys {
    /// The keys of generation 0 in both directions.
    ///
    /// # Errors
    ///
    /// [`UnsupportedCipher`] if this build or this processor does not have the cipher. It cannot happen with one that
    /// was negotiated.
    pub fn new(secrets: &SessionSecrets, cipher: Cipher) -> Result<Self, UnsupportedCipher> {
        if !cipher.is_supported() {
            return Err(UnsupportedCipher(cipher));
        }
        Self::with_backend(secrets, cipher, Backend::default())
    }

    /// The same on a given implementation, for tests and benches.
    ///
    /// # Errors
    ///
    /// [`UnsupportedCipher`] if the implementation does not have the cipher.
    #[doc(hidden)]
    pub fn with_backend(secrets: &SessionSecrets, cipher: Cipher, backend: Backend) -> Result<Self, UnsupportedCipher> {
        let (out, back) = match secrets.is_initiator() {
            true => (Direction::ToResponder, Direction::ToInitiator),
            false => (Direction::ToInitiator, Direction::ToResponder),
        };
        let (send, receive) = (schedule::first(secrets, cipher, out), schedule::first(secrets, cipher, back));
        let (send_header, receive_header) = (schedule::header_key(&send), schedule::header_key(&receive));
        let exporter = schedule::exporter(secrets);
        let mut keys = Self {
            sender: Sender::default(),
            receiver: Receiver::default(),
            rekey: Rekey::default(),
            roots: Box::new(Roots { send, receive, send_header, receive_header, exporter }),
            initiator: secrets.is_initiator(),
            suite: Suite { cipher, backend },
        };
        keys.sender.set_up(&keys.roots, keys.suite)?;
        keys.receiver.set_up(&keys.roots, keys.suite)?;
        Ok(keys)
    }

    /// The cipher of the session.
    pub const fn cipher(&self) -> Cipher {
        self.suite.cipher
    }

    /// Key material for another purpose, bound to this session and known to both its ends. Labels must not be prefixes
    /// of each other with variable rests. What is exported stays the same through all generations.
    pub fn exporter(&self, label: &[u8]) -> Zeroizing<[u8; 32]> {
        schedule::export(&self.roots.exporter, &[label])
    }

    /// The key with which the holder of the ticket `id`, issued in this session, can resume it.
    pub fn ticket_psk(&self, id: &[u8; 16]) -> Zeroizing<[u8; 32]> {
        schedule::export(&self.roots.exporter, &[b"ticket", id])
    }

    /// Wipes what can be made again of the secrets that stay, for a session in which nothing happens: 1.6 KiB with AES.
    ///
    /// The next packet of either direction makes it again, which takes about 2 µs; one that is forged does so too, as
    /// long as it takes for the session to rest again.
    pub fn rest(&mut self) {
        self.sender.rest();
        self.receiver.rest();
    }

    /// When [`expire_old`](Self::expire_old) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.receiver.old_deadline()
    }

    /// Wipes the receive keys of the generation before if their time is over. [`open`](Self::open) does so too.
    pub fn expire_old(&mut self, now: Instant) {
        self.receiver.expire_old(now);
    }

    /// Keeps the receive keys of the generation before until `at`, for packets that were overtaken by the change of
    /// generation: three probe timeouts after it. Call it when [`Opened::advanced`] says so.
    pub fn keep_old_until(&mut self, at: Instant) {
        self.receiver.keep_old_until(at);
    }
}

/// Shows numbers and no key.
impl fmt::Debug for RecordKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordKeys")
            .field("cipher", &self.suite.cipher)
            .field("initiator", &self.initiator)
            .field("send_generation", &self.send_generation())
            .field("receive_generation", &self.receive_generation())
            .finish_non_exhaustive()
    }
}

/// What the packets of one generation of one direction are sealed with. Lives in a box, so that no move leaves a copy
/// behind.
struct Keys {
    key: AeadKey,
    /// The first four bytes of the IV.
    iv_high: [u8; 4],
    /// The other eight, as the number that the packet number is combined with.
    iv_low: u64,
}

impl Keys {
    fn new(secret: &Secret, suite: Suite) -> Result<Box<Self>, UnsupportedCipher> {
        let [h0, h1, h2, h3, low @ ..] = schedule::iv(secret);
        Ok(Box::new(Self {
            key: AeadKey::new(suite.backend, suite.cipher, &schedule::key(secret))?,
            iv_high: [h0, h1, h2, h3],
            iv_low: u64::from_be_bytes(low),
        }))
    }

    fn nonce(&self, pn: u64) -> [u8; 12] {
        let [h0, h1, h2, h3] = self.iv_high;
        let [l0, l1, l2, l3, l4, l5, l6, l7] = (self.iv_low ^ pn).to_be_bytes();
        [h0, h1, h2, h3, l0, l1, l2, l3, l4, l5, l6, l7]
    }
}

impl Suite {
    fn header(self, secret: &Secret) -> Result<Box<HeaderKey>, UnsupportedCipher> {
        HeaderKey::new(self.backend, self.cipher, secret).map(Box::new)
    }
}

/// Puts a secret where another one was, of which nothing stays.
fn replace(old: &mut Secret, new: &Secret) {
    old.copy_from_slice(new.as_slice());
}

/// The number of a generation as far as a header tells it.
const fn phase(generation: u64) -> u8 {
    (generation % 4) as u8
}

const PHASE_BITS: u8 = 0b0000_0011;
const MASKED_BITS: u8 = 0b0000_1111;

/// Hides the low bits of the first byte and the packet number, or shows them again.
fn toggle_mask(header: &mut [u8; HEADER_LEN], mask: [u8; 5]) {
    let [first, _, _, _, _, _, _, _, _, p0, p1, p2, p3] = header;
    let [m, m0, m1, m2, m3] = mask;
    *first ^= m & MASKED_BITS;
    *p0 ^= m0;
    *p1 ^= m1;
    *p2 ^= m2;
    *p3 ^= m3;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> [RecordKeys; 2] {
        [true, false].map(|initiator| {
            let secrets = SessionSecrets::new([1; 32], [2; 32], [3; 32], [4; 20], initiator);
            RecordKeys::new(&secrets, Cipher::ChaCha20Poly1305).unwrap()
        })
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_generation_that_is_used_up_seals_nothing_more() {
        let [mut a, mut b] = pair();
        a.sender.use_up(1);
        let mut last = [0; 40];
        a.seal(&mut last, 7).unwrap();
        assert_eq!(a.sealed_in_generation(), MAX_GENERATION);
        assert_eq!(a.seal(&mut [0; 40], 8), Err(SealError::UpdateDue));
        a.on_ack(7);
        a.update().unwrap();
        let mut next = [0; 40];
        // The number was not used up by the refusal.
        a.seal(&mut next, 8).unwrap();
        assert!(b.open(&mut last, now()).is_ok() && b.open(&mut next, now()).is_ok());
    }

    #[test]
    fn a_session_that_failed_too_often_opens_nothing_more() {
        let [mut a, mut b] = pair();
        let [mut first, mut second] = [[0; 40]; 2];
        a.seal(&mut first, 0).unwrap();
        a.seal(&mut second, 1).unwrap();
        b.receiver.use_up(1);
        assert!(b.open(&mut first, now()).is_ok());
        assert_eq!(b.open(&mut [0xE0; 40], now()), Err(OpenError::Unauthentic));
        assert_eq!(b.failures(), MAX_FAILURES);
        assert_eq!(b.open(&mut second, now()), Err(OpenError::Exhausted));
        assert_eq!(b.open(&mut [0; 28], now()), Err(OpenError::TooShort));
    }

    /// However many packets claim to be of the next generation, its keys are derived once.
    #[test]
    fn forgeries_cost_one_derivation() {
        let [mut a, mut b] = pair();
        let mut packet = [0; 40];
        a.seal(&mut [0; 40], 0).unwrap();
        a.on_ack(0);
        a.update().unwrap();
        a.seal(&mut packet, 1).unwrap();
        assert!(b.receiver.next_keys().is_none());
        let mut made = None;
        for byte in 29..40 {
            let mut forged = packet;
            *forged.get_mut(byte).unwrap() ^= 1;
            assert_eq!(b.open(&mut forged, now()), Err(OpenError::Unauthentic));
            let keys = b.receiver.next_keys().unwrap();
            assert_eq!(*made.get_or_insert(keys), keys);
        }
        assert!(b.open(&mut packet, now()).unwrap().advanced);
        assert!(b.receiver.next_keys().is_none());
    }

    #[test]
    fn what_a_generation_followed_from_goes_with_it() {
        let [mut a, mut b] = pair();
        let [mut first, mut second] = [[0; 40]; 2];
        let gone = [a.roots.send.clone(), b.roots.receive.clone()];
        assert_eq!(gone[0], gone[1]);
        a.seal(&mut first, 0).unwrap();
        a.on_ack(0);
        a.update().unwrap();
        a.seal(&mut second, 1).unwrap();
        b.open(&mut second, now()).unwrap();
        assert_eq!(a.roots.send, b.roots.receive);
        assert!(!gone.contains(&a.roots.send));
        assert!(b.open(&mut first, now()).is_ok(), "but packets of the old generation still open");
    }

    /// Nothing that is kept for packets survives a rest, and nothing is lost by it: generations, those that are kept for
    /// a time and those that were made ahead, go on as without.
    #[test]
    fn a_session_at_rest_goes_on_where_it_was() {
        let [mut a, mut b] = pair();
        let mut packets = Vec::new();
        for pn in 0..40_u64 {
            if pn % 4 == 3 {
                a.rest();
                assert!(a.sender.is_at_rest() && a.receiver.is_at_rest());
            }
            if pn % 8 == 7 {
                a.on_ack(pn - 1);
                a.update().unwrap();
            }
            let mut packet = [0; 40];
            a.seal(&mut packet, pn).unwrap();
            packets.push(packet);
        }
        // Neighbours swapped, so that some are of the generation before.
        for pair in packets.chunks_exact_mut(2) {
            let [one, other] = pair else { continue };
            for packet in [other, one] {
                b.rest();
                assert!(b.sender.is_at_rest() && b.receiver.is_at_rest());
                assert!(b.open(packet, now()).is_ok());
            }
        }
        assert_eq!((a.send_generation(), b.receive_generation(), b.failures()), (5, 5, 0));
    }
}
