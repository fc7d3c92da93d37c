//! What native nodes leave for each other at servers (SPEC 16.1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crypto::rendezvous::{self, Rendezvous};
use crypto::{Identity, Rng, Seed};
use framing::limits::MAX_RECORD_ADDRESSES;
use framing::record::{Record, SignedRecord};
use framing::voucher::Voucher;
use relay::client::Named;

use super::{Reach, Us};
use crate::PeerId;
use crate::discovery::{SourceError, Task};

/// From where to where addresses reach that are told and taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    near: Reach,
    far: Reach,
}

impl Span {
    /// Of a server that is so near, for a node that goes no farther than `far`.
    pub(crate) fn of(server: Reach, far: Reach) -> Self {
        Self { near: server.min(far), far }
    }

    pub(crate) fn has(&self, addr: &SocketAddr) -> bool {
        addr.port() != 0 && Reach::of(addr.ip()).is_some_and(|reach| (self.near..=self.far).contains(&reach))
    }
}

/// Who left a body, and where he is as far as he may be dialled there.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) peer: PeerId,
    pub(crate) addrs: Vec<SocketAddr>,
    /// Those that say that they have a place for him.
    pub(crate) relays: Vec<Named>,
}

/// What one node says at one server, and reads there.
pub(crate) struct Meetings {
    identity: Arc<Identity>,
    span: Span,
    seed: Seed,
    /// Attempts begun, each of which has randomness of its own.
    attempts: AtomicU64,
    slots: [u8; 32],
}

impl Meetings {
    pub(crate) fn new(identity: Arc<Identity>, span: Span, seed: Seed) -> Self {
        let slots = seed.fork("slots").rng().array();
        Self { identity, span, seed, attempts: AtomicU64::new(0), slots }
    }

    /// Randomness for one attempt.
    pub(crate) fn rng(&self) -> Rng {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        self.seed.fork(&format!("attempt {attempt}")).rng()
    }

    pub(crate) fn id(&self) -> PeerId {
        self.identity.peer_id().into()
    }

    #[cfg(feature = "http")]
    pub(crate) fn slot(&self, place: &Rendezvous) -> String {
        data_encoding::HEXLOWER.encode(&place.slot(&self.slots))
    }

    /// The place of something that is said or looked for on a day.
    pub(crate) fn place(&self, task: Task, day: u64) -> Option<Rendezvous> {
        let (meeting, secret) = match task {
            Task::Announce(topic) | Task::Lookup(topic) => (rendezvous::Meeting::Topic, *topic.as_bytes()),
            Task::Record => (rendezvous::Meeting::Peer, *self.id().as_bytes()),
            Task::Peer(peer) => (rendezvous::Meeting::Peer, *peer.as_bytes()),
            _ => return None,
        };
        Some(Rendezvous::new(meeting, &secret, day))
    }

    /// Where we are and which relays have a place for us, signed at `unix`, sealed for a place or an inbox in it.
    pub(crate) fn body(
        &self,
        (place, name): (&Rendezvous, &[u8; rendezvous::NAME]),
        us: &Us,
        rng: &mut Rng,
        unix: Duration,
    ) -> Result<Vec<u8>, SourceError> {
        let mut addresses: Vec<SocketAddr> = us.addrs.iter().copied().filter(|addr| self.span.has(addr)).collect();
        addresses.truncate(MAX_RECORD_ADDRESSES);
        let is_of_use =
            |voucher: &Voucher| voucher.holds_at(unix) && voucher.addresses().any(|addr| self.span.has(&addr));
        let vouchers: Vec<Voucher> = us.record.iter().flat_map(SignedRecord::vouchers).filter(is_of_use).collect();
        if addresses.is_empty() && vouchers.is_empty() {
            return Err(SourceError::NoAddress);
        }
        let sequence = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        let record = Record { sequence, expires: unix.saturating_add(HOLDS), addresses, vouchers, ..Record::default() };
        // All that could be wrong with an address was left out above.
        let record = record.sign(&self.identity).map_err(|_refused| SourceError::NoAddress)?;
        let text = record.as_bytes();
        let too_long = SourceError::TooLong { len: text.len(), max: rendezvous::MAX_TEXT };
        place.seal(name, text, rng).map_err(|_long| too_long)
    }

    /// What a body says; `None` if it counts for nothing at `unix` or is ours.
    pub(crate) fn read(
        &self,
        (place, name): (&Rendezvous, &[u8; rendezvous::NAME]),
        body: &[u8],
        unix: Duration,
    ) -> Option<Left> {
        let mut body = body.to_vec();
        let record = SignedRecord::decode(place.open(name, &mut body)?).ok()?;
        let peer = PeerId::from(record.peer());
        if peer == self.id() || record.check(unix).is_err() {
            return None;
        }
        let addrs: Vec<SocketAddr> = record.addresses().filter(|addr| self.span.has(addr)).collect();
        let named = |voucher: Voucher| {
            let addrs = voucher.addresses().filter(|addr| self.span.has(addr)).collect();
            Named { relay: voucher.relay(), addrs }
        };
        let relays = record.vouchers().filter(|voucher| voucher.holds_at(unix)).map(named);
        let relays: Vec<Named> = relays.filter(|named| !named.addrs.is_empty()).collect();
        (!addrs.is_empty() || !relays.is_empty()).then_some(Left { peer, addrs, relays })
    }
}

impl std::fmt::Debug for Meetings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meetings").field("span", &self.span).finish_non_exhaustive()
    }
}

/// How long a record that is left at a server holds: three of the times at which it is renewed, and some for clocks.
const HOLDS: Duration = Duration::from_secs(1200);
