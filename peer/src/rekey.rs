//! When record keys change (SPEC 7.3, 7.4). How they change, and who must wait for whom, is in `crypto::record`.

use std::time::Instant;

use crypto::record::RecordKeys;

use crate::Config;

/// The clock of the keys of one session.
#[derive(Debug)]
pub(crate) struct RekeyClock {
    updated_at: Instant,
    rekeyed_at: Instant,
    sealed_at_rekey: u64,
    /// The frame that is under way: REKEY of the dialler, or REKEY_ACK of the responder.
    pending: Option<Box<[u8; 32]>>,
}

impl RekeyClock {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { updated_at: now, rekeyed_at: now, sealed_at_rekey: 0, pending: None }
    }

    /// The key in the frame that is under way, for a repetition after a loss.
    pub(crate) fn pending(&self) -> Option<[u8; 32]> {
        self.pending.as_deref().copied()
    }

    /// Whether the dialler should ask for fresh ephemeral keys.
    pub(crate) fn wants_exchange(&self, keys: &RecordKeys, config: &Config, now: Instant) -> bool {
        let old = now.saturating_duration_since(self.rekeyed_at) >= config.rekey_after;
        let worn = keys.packets_sealed().saturating_sub(self.sealed_at_rekey) >= config.rekey_packets;
        (old || worn) && !keys.is_rekeying()
    }

    /// REKEY or REKEY_ACK is to be sent.
    pub(crate) fn on_exchange(&mut self, ours: [u8; 32], keys: &RecordKeys, now: Instant) {
        self.pending = Some(Box::new(ours));
        self.rekeyed_at = now;
        self.sealed_at_rekey = keys.packets_sealed();
    }

    /// It was answered, or acknowledged.
    pub(crate) fn on_exchanged(&mut self) {
        self.pending = None;
    }

    /// Takes the next key of ours if it is due.
    pub(crate) fn update(&mut self, keys: &mut RecordKeys, config: &Config, now: Instant) {
        let old = now.saturating_duration_since(self.updated_at) >= config.update_after;
        let worn = keys.sealed_in_generation() >= config.update_packets;
        if (old || worn || keys.is_mixed_update_due()) && keys.can_update() && keys.update().is_ok() {
            self.updated_at = now;
        }
    }
}
