//! The sending half.

use super::{
    FIRST_BYTE, HEADER_LEN, Keys, MAX_GENERATION, MAX_PACKETS, OVERHEAD, RecordKeys, Roots, Suite, TAG_LEN, phase,
    replace, toggle_mask,
};
use crate::aead::{HeaderKey, UnsupportedCipher};
use crate::schedule::{self, Secret};

/// Keys and counters of the packets that we send.
#[derive(Default)]
pub(super) struct Sender {
    /// None while the session rests.
    keys: Option<Box<Keys>>,
    header: Option<Box<HeaderKey>>,
    /// The generation.
    number: u64,
    /// The lowest packet number not refused.
    next: u64,
    /// The first packet of this generation, if one was sealed.
    first: Option<u64>,
    /// Whether a packet of this generation was acknowledged.
    acknowledged: bool,
    /// Packets sealed in this generation.
    in_generation: u64,
    /// Packets sealed in all.
    sealed: u64,
    /// The secret of the next generation, if it is not to be derived in the ordinary way.
    pub(super) mixed: Option<Box<Secret>>,
    /// No update until a step of a rekey is done.
    pub(super) held: bool,
}

impl Sender {
    /// Makes what the session wiped when it came to rest.
    #[cold]
    pub(super) fn set_up(&mut self, roots: &Roots, suite: Suite) -> Result<(&Keys, &HeaderKey), UnsupportedCipher> {
        let keys = match self.keys.take() {
            Some(keys) => keys,
            None => Keys::new(&roots.send, suite)?,
        };
        let header = match self.header.take() {
            Some(header) => header,
            None => suite.header(&roots.send_header)?,
        };
        Ok((self.keys.insert(keys), self.header.insert(header)))
    }

    pub(super) fn rest(&mut self) {
        (self.keys, self.header) = (None, None);
    }

    #[cfg(test)]
    pub(super) const fn is_at_rest(&self) -> bool {
        self.keys.is_none() && self.header.is_none()
    }

    /// As if all but `left` packets of the generation were sealed.
    #[cfg(test)]
    pub(super) const fn use_up(&mut self, left: u64) {
        self.in_generation = MAX_GENERATION - left;
    }

    /// What the secret of the next generation becomes if it is mixed with these ephemeral keys.
    pub(super) fn mix(&mut self, roots: &Roots, shared: &[u8; 32], e_i: &[u8; 32], e_r: &[u8; 32]) {
        self.mixed = Some(Box::new(schedule::mixed(&roots.send, shared, e_i, e_r)));
    }
}

impl RecordKeys {
    /// Seals a packet in place.
    ///
    /// `packet` is the header (13 bytes), the text, and 16 bytes of room for the tag. Of the header only the
    /// connection id is read: first byte, phase and number are written, then masked. `pn` must be above the number of
    /// every packet sealed before; a failed call uses its number up too, unless it failed for that reason.
    ///
    /// # Errors
    ///
    /// [`SealError`]. What `packet` holds then must not be sent.
    pub fn seal(&mut self, packet: &mut [u8], pn: u64) -> Result<(), SealError> {
        let sender = &mut self.sender;
        let (header, body) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or(SealError::TooShort)?;
        let (text, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(SealError::TooShort)?;
        if pn < sender.next {
            return Err(SealError::NumberUsed { pn, next: sender.next });
        }
        if pn >= MAX_PACKETS {
            return Err(SealError::Exhausted);
        }
        if sender.in_generation >= MAX_GENERATION {
            return Err(SealError::UpdateDue);
        }
        sender.next = pn + 1;
        sender.first.get_or_insert(pn);

        let [first, _, _, _, _, _, _, _, _, number @ ..] = header;
        *first = FIRST_BYTE | phase(sender.number);
        *number = low_32(pn).to_be_bytes();
        let (keys, mask) = match (&sender.keys, &sender.header) {
            (Some(keys), Some(mask)) => (&**keys, &**mask),
            _ => sender.set_up(&self.roots, self.suite)?,
        };
        *tag = keys.key.seal(keys.nonce(pn), header, text).or(Err(SealError::TooLong))?;
        let sample = body.first_chunk().ok_or(SealError::TooShort)?;
        toggle_mask(header, mask.mask(sample));
        sender.in_generation += 1;
        sender.sealed += 1;
        Ok(())
    }

    /// How many packets were sealed in all.
    pub const fn packets_sealed(&self) -> u64 {
        self.sender.sealed
    }

    /// How many packets were sealed in this generation: what the decision to [update](Self::update) looks at.
    pub const fn sealed_in_generation(&self) -> u64 {
        self.sender.in_generation
    }

    /// The generation that packets are sealed in.
    pub const fn send_generation(&self) -> u64 {
        self.sender.number
    }

    /// Notes that the peer has acknowledged the packet `pn`, and so perhaps has the keys of this generation. The highest
    /// number of each acknowledgement is enough.
    pub fn on_ack(&mut self, pn: u64) {
        self.sender.acknowledged |= self.sender.first.is_some_and(|first| first <= pn && pn < self.sender.next);
    }

    /// Whether [`update`](Self::update) would move on.
    pub const fn can_update(&self) -> bool {
        self.sender.acknowledged && !self.sender.held
    }

    /// Moves sealing to the next generation and wipes the keys of the last one. Returns its number.
    ///
    /// The receiver keeps at most three generations, so a generation is only left when the peer is known to have
    /// entered it.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]: nothing changed.
    pub fn update(&mut self) -> Result<u64, UpdateError> {
        let sender = &mut self.sender;
        if sender.held {
            return Err(UpdateError::Rekeying);
        }
        if !sender.acknowledged {
            return Err(UpdateError::Unacknowledged);
        }
        let next = match &sender.mixed {
            Some(mixed) => (**mixed).clone(),
            None => schedule::updated(&self.roots.send),
        };
        // At rest they are made with the next packet.
        if sender.keys.is_some() {
            sender.keys = Some(Keys::new(&next, self.suite)?);
        }
        replace(&mut self.roots.send, &next);
        sender.number += 1;
        sender.mixed = None;
        (sender.first, sender.acknowledged, sender.in_generation) = (None, false, 0);
        Ok(sender.number)
    }
}

/// Why a packet was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// No room for header and tag. The caller is wrong; nothing changed.
    #[error("a packet has at least {OVERHEAD} bytes")]
    TooShort,
    /// More text than the cipher takes, 64 GiB at the least. The packet number is used up.
    #[error("the packet is too long for the cipher")]
    TooLong,
    /// The number is not above that of the last packet, so its nonce may have been used. The caller is wrong; nothing
    /// changed.
    #[error("packet number {pn} is used up, the next one is {next}")]
    NumberUsed {
        /// The number given.
        pn: u64,
        /// The lowest that would have been taken.
        next: u64,
    },
    /// [`MAX_GENERATION`] packets were sealed in this generation. Nothing changed: update, or end the session.
    #[error("the keys of this generation are used up")]
    UpdateDue,
    /// [`MAX_PACKETS`] numbers are used up. Nothing changed: end the session.
    #[error("the packet numbers of this session are used up")]
    Exhausted,
    /// The cipher is gone, which does not happen.
    #[error(transparent)]
    Cipher(#[from] UnsupportedCipher),
}

/// Why sealing stays in its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// No packet of this generation was acknowledged yet.
    #[error("no packet of this generation is acknowledged")]
    Unacknowledged,
    /// A rekey is under way, whose keys the next generation waits for.
    #[error("a rekey is under way")]
    Rekeying,
    /// The cipher is gone, which does not happen.
    #[error(transparent)]
    Cipher(#[from] UnsupportedCipher),
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is on the wire")]
const fn low_32(pn: u64) -> u32 {
    pn as u32
}
