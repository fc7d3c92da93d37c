//! Fresh ephemeral keys for a session that lives long.
//!
//! ```text
//! initiator                                         responder
//! start_rekey: e_i', no update until REKEY_ACK
//!              -- REKEY e_i' -->                    on_rekey: e_r', no update until REKEY_ACK is acknowledged;
//!                                                   the initiator's next generation is mixed
//! on_rekey_ack: both next generations are mixed  <-- REKEY_ACK e_r' --
//!              -- acknowledgement -->               on_rekey_ack_acknowledged: its own next generation is mixed
//! ```
//!
//! So whoever has processed REKEY or REKEY_ACK knows that the next generation of the other is a mixed one, whatever
//! ordinary updates crossed it.

use zeroize::Zeroizing;

use super::RecordKeys;
use crate::Rng;
use crate::x25519::{Backend, KeyPair};

/// Where the rekey is.
#[derive(Default)]
pub(super) struct Rekey {
    /// The initiator's ephemeral key while it waits for REKEY_ACK.
    ephemeral: Option<Box<KeyPair>>,
    /// The key of the other end in the last rekey: a copy of its frame may still be on its way, and must not be taken
    /// for a step of the next one.
    last: Option<Box<[u8; 32]>>,
}

impl RecordKeys {
    /// Starts a rekey and returns `e_i'` for the REKEY frame. For the initiator of the session.
    ///
    /// Until [`on_rekey_ack`](Self::on_rekey_ack) sealing stays in its generation. Takes 32 bytes from `rng`.
    ///
    /// # Errors
    ///
    /// [`RekeyError`]: nothing changed.
    pub fn start_rekey(&mut self, rng: &mut Rng) -> Result<[u8; 32], RekeyError> {
        if !self.initiator {
            return Err(RekeyError::WrongRole);
        }
        if self.is_rekeying() {
            return Err(RekeyError::Pending);
        }
        let pair = KeyPair::generate(Backend::default(), rng);
        let public = *pair.public();
        self.rekey.ephemeral = Some(Box::new(pair));
        self.sender.held = true;
        Ok(public)
    }

    /// Takes the REKEY frame of the initiator and returns `e_r'` for the REKEY_ACK frame. For the responder.
    ///
    /// Until [`on_rekey_ack_acknowledged`](Self::on_rekey_ack_acknowledged) sealing stays in its generation; the next
    /// one is mixed, and so is the next one of the initiator. Takes 32 bytes from `rng`.
    ///
    /// # Errors
    ///
    /// [`RekeyError`]: nothing changed. [`Repeated`](RekeyError::Repeated) and [`Pending`](RekeyError::Pending) come from
    /// late copies of the frame and are harmless; the others are violations.
    pub fn on_rekey(&mut self, e_i: &[u8; 32], rng: &mut Rng) -> Result<[u8; 32], RekeyError> {
        if self.initiator {
            return Err(RekeyError::WrongRole);
        }
        if self.rekey.last.as_deref() == Some(e_i) {
            return Err(RekeyError::Repeated);
        }
        if self.is_rekeying() {
            return Err(RekeyError::Pending);
        }
        let pair = KeyPair::generate(Backend::default(), rng);
        let shared = pair.agree(e_i).ok_or(RekeyError::WeakKey)?;
        self.mix(&shared, e_i, pair.public());
        self.rekey.last = Some(Box::new(*e_i));
        self.sender.held = true;
        Ok(*pair.public())
    }

    /// Takes the REKEY_ACK frame of the responder. For the initiator: its next update is the mixed one, and should come
    /// soon.
    ///
    /// # Errors
    ///
    /// [`RekeyError`]: nothing changed. [`Repeated`](RekeyError::Repeated) is harmless, the others are violations.
    pub fn on_rekey_ack(&mut self, e_r: &[u8; 32]) -> Result<(), RekeyError> {
        if !self.initiator {
            return Err(RekeyError::WrongRole);
        }
        if self.rekey.last.as_deref() == Some(e_r) {
            return Err(RekeyError::Repeated);
        }
        let Some(pair) = &self.rekey.ephemeral else {
            return Err(if self.rekey.last.is_some() { RekeyError::Repeated } else { RekeyError::NotStarted });
        };
        let (e_i, shared) = (*pair.public(), pair.agree(e_r).ok_or(RekeyError::WeakKey)?);
        self.mix(&shared, &e_i, e_r);
        self.rekey = Rekey { ephemeral: None, last: Some(Box::new(*e_r)) };
        self.sender.held = false;
        Ok(())
    }

    /// Notes that the initiator has acknowledged REKEY_ACK. For the responder: its next update is the mixed one, and
    /// should come soon. Does nothing otherwise.
    pub const fn on_rekey_ack_acknowledged(&mut self) {
        if !self.initiator {
            self.sender.held = false;
        }
    }

    /// Whether a rekey is under way: from its first frame until both directions are in the mixed generation. Another one
    /// must wait.
    pub const fn is_rekeying(&self) -> bool {
        self.sender.held || self.sender.mixed.is_some() || self.receiver.mixed
    }

    /// Whether the next update is the one that a rekey waits for.
    pub const fn is_mixed_update_due(&self) -> bool {
        self.sender.mixed.is_some() && !self.sender.held
    }

    fn mix(&mut self, shared: &Zeroizing<[u8; 32]>, e_i: &[u8; 32], e_r: &[u8; 32]) {
        self.receiver.mix(&self.roots, shared, e_i, e_r);
        self.sender.mix(&self.roots, shared, e_i, e_r);
    }
}

/// Why a step of a rekey was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// Only the initiator starts, and only the responder answers.
    #[error("not a step of this end of the session")]
    WrongRole,
    /// The last rekey is not over.
    #[error("the last rekey is not over")]
    Pending,
    /// An answer to nothing.
    #[error("no rekey was started")]
    NotStarted,
    /// A late copy of a step that was taken.
    #[error("this step was taken before")]
    Repeated,
    /// A key of small order: anyone could compute what it adds.
    #[error("the ephemeral key of the peer has a small order")]
    WeakKey,
}
