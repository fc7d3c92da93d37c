//! What a node says of itself in the table: signed, and the same for who looks by topic and who looks by id.

use std::sync::Arc;
use std::time::Instant;

use ::dht::{Announcer, Item, PublishError, QueryId, Relay};
use framing::record::{Record, SignedRecord};

use super::{Finder, RECORD_LIFE, Refusal};

impl Finder {
    pub(super) fn announce(&mut self, topic: &[u8; 32], relays: Vec<Relay>, now: Instant) -> Result<QueryId, Refusal> {
        let (identity, addresses) = (Arc::clone(&self.identity), self.told.clone());
        self.dht.announce(*topic, Announcer { identity, addresses, relays }, now).map_err(Refusal::from)
    }

    /// Signs where we are, and puts it where those find it who know our id.
    pub(super) fn put_record(&mut self, now: Instant) -> Result<QueryId, PublishError> {
        let record = self.sign_record(now)?;
        self.dht.put(Item::Peer(record), now)
    }

    pub(super) fn sign_record(&mut self, now: Instant) -> Result<SignedRecord, framing::EncodeError> {
        let unix = self.epoch.unix_at(now);
        // Higher than the last one also if the clock was set back.
        self.sequence = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX).max(self.sequence.saturating_add(1));
        let (expires, addresses) = (unix.saturating_add(RECORD_LIFE), self.told.clone());
        let vouchers = self.vouchers.clone();
        let record = Record { sequence: self.sequence, expires, addresses, vouchers, ..Record::default() };
        record.sign(&self.identity)
    }
}
