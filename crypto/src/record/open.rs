//! The receiving half.

use std::time::Instant;

use super::{
    HEADER_LEN, Keys, MASKED_BITS, MAX_FAILURES, MAX_PACKETS, OLD_KEYS, OVERHEAD, PHASE_BITS, RecordKeys, Roots, Suite,
    phase, replace, toggle_mask,
};
use crate::aead::{HeaderKey, UnsupportedCipher};
use crate::replay::Replay;
use crate::schedule::{self, Secret};

/// Keys and counters of the packets that come in.
pub(super) struct Receiver {
    /// None while the session rests.
    keys: Option<Box<Keys>>,
    header: Option<Box<HeaderKey>>,
    /// The generation.
    number: u64,
    /// The lowest packet number of this generation.
    lowest: u64,
    replay: Replay,
    /// The generation before, until when. Nothing follows from it any more.
    old: Option<(Box<Keys>, Instant)>,
    /// The generation after, made for the first packet that claims to be of it and kept whatever became of that one.
    next: Option<Next>,
    /// Whether ephemeral keys are mixed into `next`, which is then there.
    pub(super) mixed: bool,
    failures: u64,
}

/// A generation that was not entered yet.
pub(super) struct Next {
    secret: Box<Secret>,
    /// None while the session rests.
    keys: Option<Box<Keys>>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            keys: None,
            header: None,
            number: 0,
            lowest: u64::MAX,
            replay: Replay::default(),
            old: None,
            next: None,
            mixed: false,
            failures: 0,
        }
    }
}

impl Receiver {
    /// Makes what the session wiped when it came to rest.
    #[cold]
    pub(super) fn set_up(&mut self, roots: &Roots, suite: Suite) -> Result<(), UnsupportedCipher> {
        if self.keys.is_none() {
            self.keys = Some(Keys::new(&roots.receive, suite)?);
        }
        if self.header.is_none() {
            self.header = Some(suite.header(&roots.receive_header)?);
        }
        Ok(())
    }

    /// The keys of the generation before have their own time.
    pub(super) fn rest(&mut self) {
        (self.keys, self.header) = (None, None);
        if self.mixed {
            self.next.as_mut().and_then(|next| next.keys.take());
        } else {
            self.next = None;
        }
    }

    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        let next = self.next.as_ref().is_some_and(|next| next.keys.is_some());
        self.keys.is_none() && self.header.is_none() && !next
    }

    pub(super) fn old_deadline(&self) -> Option<Instant> {
        self.old.as_ref().map(|&(_, until)| until)
    }

    pub(super) fn expire_old(&mut self, now: Instant) {
        self.old.take_if(|(_, until)| *until <= now);
    }

    pub(super) fn keep_old_until(&mut self, at: Instant) {
        if let Some((_, until)) = &mut self.old {
            *until = at;
        }
    }

    /// Mixes these ephemeral keys into the generation after this one, in place of the ordinary one.
    pub(super) fn mix(&mut self, roots: &Roots, shared: &[u8; 32], e_i: &[u8; 32], e_r: &[u8; 32]) {
        let secret = Box::new(schedule::mixed(&roots.receive, shared, e_i, e_r));
        self.next = Some(Next { secret, keys: None });
        self.mixed = true;
    }

    /// As if all but `left` packets that may fail had failed.
    #[cfg(test)]
    pub(super) const fn use_up(&mut self, left: u64) {
        self.failures = MAX_FAILURES - left;
    }

    /// Where the keys of the next generation are.
    #[cfg(test)]
    pub(super) fn next_keys(&self) -> Option<*const Keys> {
        self.next.as_ref()?.keys.as_deref().map(std::ptr::from_ref)
    }

    /// The full number of a packet with these low bits: the one closest to the highest seen (RFC 9000, appendix A.3).
    fn expand(&self, low: [u8; 4]) -> u64 {
        const WINDOW: u64 = 1 << 32;
        const HALF: u64 = WINDOW / 2;
        let expected = self.replay.next();
        let candidate = (expected & !(WINDOW - 1)) | u64::from(u32::from_be_bytes(low));
        if candidate + HALF <= expected {
            candidate + WINDOW
        } else if candidate > expected + HALF && candidate >= WINDOW {
            candidate - WINDOW
        } else {
            candidate
        }
    }
}

impl Next {
    /// What follows without new ephemeral keys.
    fn ordinary(roots: &Roots) -> Self {
        Self { secret: Box::new(schedule::updated(&roots.receive)), keys: None }
    }

    fn keys(&mut self, suite: Suite) -> Result<&Keys, UnsupportedCipher> {
        let keys = match self.keys.take() {
            Some(keys) => keys,
            None => Keys::new(&self.secret, suite)?,
        };
        Ok(self.keys.insert(keys))
    }
}

/// A packet that was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Its full number.
    pub pn: u64,
    /// The generation it was sealed in.
    pub generation: u64,
    /// Whether it is the first of a new generation: the keys of the one before are kept for [`OLD_KEYS`] now, or
    /// [until told](RecordKeys::keep_old_until).
    pub advanced: bool,
    /// The text, where the ciphertext was.
    pub payload: &'a mut [u8],
}

/// A packet that is genuine.
struct Unsealed {
    pn: u64,
    generation: u64,
    /// How far its generation is ahead of that of the receiver, mod 4.
    ahead: u8,
}

impl RecordKeys {
    /// Whether a packet would open. It is in the clear then, and [`open`](Self::open) takes another copy of it as if this one had
    /// not been.
    ///
    /// For the first packet of a session, which tells whether there is to be one.
    pub fn would_open(&mut self, packet: &mut [u8]) -> bool {
        self.unseal(packet).is_ok_and(|(unsealed, _)| self.receiver.replay.is_new(unsealed.pn))
    }

    /// Opens a packet in place, the header included: it is unmasked.
    ///
    /// Success means that the peer sealed exactly this packet and that it was not opened before; it may have come from
    /// any address. The generation follows the peer's.
    ///
    /// A forgery costs one AEAD operation whatever it claims, and the derivation of one generation once: the time
    /// taken tells nothing about packet numbers or generations (RFC 9001, section 9.5), except for the first packet
    /// that claims the next generation and the first after a [rest](Self::rest).
    ///
    /// # Errors
    ///
    /// [`OpenError`]. Apart from counts nothing changed. The last 16 bytes of `packet` are what they were (a reset token
    /// may be there), the others unspecified.
    pub fn open<'a>(&mut self, packet: &'a mut [u8], now: Instant) -> Result<Opened<'a>, OpenError> {
        self.receiver.expire_old(now);
        let (Unsealed { pn, generation, ahead }, payload) = self.unseal(packet)?;
        let receiver = &mut self.receiver;
        if !receiver.replay.is_new(pn) {
            return Err(OpenError::Replayed { pn });
        }

        receiver.replay.mark(pn);
        let advanced = ahead == 1;
        if advanced && let Some(Next { secret, keys }) = receiver.next.take() {
            let old = std::mem::replace(&mut receiver.keys, keys);
            replace(&mut self.roots.receive, &secret);
            receiver.old = old.map(|old| (old, now + OLD_KEYS));
            (receiver.number, receiver.lowest, receiver.mixed) = (generation, pn, false);
        } else if ahead == 0 {
            receiver.lowest = receiver.lowest.min(pn);
        }
        Ok(Opened { pn, generation, advanced, payload })
    }

    /// What of opening a packet is the same for one that was opened before.
    #[inline]
    fn unseal<'a>(&mut self, packet: &'a mut [u8]) -> Result<(Unsealed, &'a mut [u8]), OpenError> {
        let receiver = &mut self.receiver;
        if packet.len() < OVERHEAD {
            return Err(OpenError::TooShort);
        }
        if receiver.failures >= MAX_FAILURES {
            return Err(OpenError::Exhausted);
        }
        if receiver.keys.is_none() || receiver.header.is_none() {
            receiver.set_up(&self.roots, self.suite).or(Err(OpenError::Unauthentic))?;
        }
        let (Some(current), Some(mask)) = (&receiver.keys, &receiver.header) else {
            return Err(OpenError::Unauthentic);
        };
        let (header, body) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or(OpenError::TooShort)?;
        let sample = body.first_chunk().ok_or(OpenError::TooShort)?;
        toggle_mask(header, mask.mask(sample));
        let [first, _, _, _, _, _, _, _, _, number @ ..] = *header;
        let pn = receiver.expand(number);

        // Numbers rise with generations, so each number fits one side of the change only.
        let ahead = (first & PHASE_BITS).wrapping_sub(phase(receiver.number)) & PHASE_BITS;
        let (keys, generation, fits) = match (ahead, &receiver.old) {
            (0, _) => (&**current, receiver.number, true),
            (1, _) => {
                let next = receiver.next.get_or_insert_with(|| Next::ordinary(&self.roots));
                let keys = next.keys(self.suite).or(Err(OpenError::Unauthentic))?;
                (keys, receiver.number + 1, pn >= receiver.replay.next())
            }
            (3, Some((old, _))) => (&**old, receiver.number.wrapping_sub(1), pn < receiver.lowest),
            // No such keys: as long a look as at any other packet.
            _ => (&**current, receiver.number, false),
        };
        let reserved = first & MASKED_BITS & !PHASE_BITS;
        let fits = fits && reserved == 0 && pn < MAX_PACKETS;
        let payload = match keys.key.open(keys.nonce(pn), header, body) {
            Ok(payload) if fits => payload,
            _ => {
                receiver.failures += 1;
                return Err(OpenError::Unauthentic);
            }
        };
        Ok((Unsealed { pn, generation, ahead }, payload))
    }

    /// The generation of the newest packet that was opened, 0 before the first.
    pub const fn receive_generation(&self) -> u64 {
        self.receiver.number
    }

    /// How many packets failed to authenticate. Some are normal; many are an attack or a broken path.
    pub const fn failures(&self) -> u64 {
        self.receiver.failures
    }

    /// One above the highest packet number that was opened.
    pub const fn next_expected(&self) -> u64 {
        self.receiver.replay.next()
    }
}

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No room for header and tag. Nothing changed: drop it.
    #[error("a packet has at least {OVERHEAD} bytes")]
    TooShort,
    /// Not sealed by the peer with keys that are still there, or changed on the way. Only
    /// [`failures`](RecordKeys::failures) changed: drop it, after a look for a reset token.
    #[error("the packet was not made by the peer or was changed")]
    Unauthentic,
    /// Authentic, but opened before or more than [`WINDOW`](super::WINDOW) numbers late. Nothing changed: drop it.
    #[error("packet {pn} was opened before or is too old")]
    Replayed {
        /// Its number.
        pn: u64,
    },
    /// [`MAX_FAILURES`] packets failed. Nothing changed: end the session.
    #[error("too many forged packets")]
    Exhausted,
}

/// The low bits of a generation number wrap; only neighbours are ever compared.
const _: () = assert!(phase(3) == PHASE_BITS && phase(4) == 0);
