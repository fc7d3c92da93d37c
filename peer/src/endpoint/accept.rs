//! First messages, and what makes a session of one.
//!
//! The invariants: what a first message costs rises with what its sender has shown (a length, a MAC, a cookie, a key),
//! and nothing that existed before changes until a packet has opened that only the holder of the key can have sealed
//! now. So a recorded first message gains nothing but one more answer of at most its length.

use std::sync::Arc;

use crypto::handshake::{
    Established, HandshakeError, Incoming, Init, InitPayload, InitR, VERSIONS, Xx1, XxPending, negotiate,
};
use crypto::record::RecordKeys;
use crypto::{Cipher, PeerId};
use structs::{Datagram, Link, Path, Rare, Rejected};

use super::admission::{Origin, Request, Verdict};
use super::half_open::{First, HalfOpen};
use super::lifecycle::Settlement;
use super::route::Refused;
use super::table::{Entry, Phase};
use super::{Endpoint, limits};
use crate::Peer;
use crate::peer::Accepted;

/// How far a half-open handshake is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Both sides have keys: the first packet that opens confirms them.
    Keys(Established<InitPayload>),
    /// XX3 is due. So many had a right MAC and were no good.
    Pending(Box<XxPending>, u8),
}

const _: () = assert!(size_of::<HalfOpen<Stage>>() <= super::half_open::ITSELF);

/// A first message that was let in.
struct Admitted<'a> {
    incoming: Incoming<'a>,
    path: Path,
    origin: Option<Origin>,
    is_proven: bool,
}

/// An answer, and what it leads to.
struct Answered {
    cid: [u8; 8],
    answer: Vec<u8>,
    peer: Option<PeerId>,
    timestamp: u64,
    stage: Stage,
}

/// A handshake whose other side has shown that it is there.
struct Confirmed {
    cid: [u8; 8],
    first: First,
    peer: PeerId,
    established: Established<InitPayload>,
    /// With which its first packet was tried, if it was.
    keys: Option<RecordKeys>,
    is_resumed: bool,
    since: std::time::Instant,
    path: Path,
    origin: Option<Origin>,
}

impl Endpoint {
    /// INIT, XX1 or INIT_R.
    pub(super) fn on_first(&mut self, path: Path, datagram: &[u8]) -> Result<(), Rejected> {
        if self.closing {
            return Err(Rejected::Closed);
        }
        let incoming = Incoming::parse(datagram).map_err(rejected)?;
        if let Incoming::Init(init) = &incoming
            && !init.check_mac1(&self.shared.identity)
        {
            return Err(Rejected::Unauthentic);
        }
        if let Some(half_open) = self.half_open.of_first(&First::of(&incoming)) {
            // The answer goes to one address only: whoever holds it has proved that address, and no other. A stream is
            // proof of itself, and may be the only way that answers take; what comes by it later starts a path of its own.
            let same = half_open.path.link == path.link && half_open.path.remote == path.remote;
            if !same && !proves_address(&path) {
                return Err(Rejected::Duplicate);
            }
            let peer = half_open.peer;
            self.answers.push(path, &half_open.answer, datagram.len())?;
            self.stats.answers_repeated += 1;
            self.yield_to(peer);
            return Err(Rejected::Duplicate);
        }
        if self.recent.contains(incoming.ephemeral(), self.now) {
            return Err(Rejected::Replayed);
        }
        if let Incoming::InitR(init) = &incoming {
            let Some(ticket) = self.issued.get(init.ticket_id(), self.now) else {
                self.answers.push(path, &init.retry(), datagram.len())?;
                self.stats.retries_sent += 1;
                return Err(Rejected::UnknownPeer);
            };
            if !init.check_mac1(ticket.psk()) {
                return Err(Rejected::Unauthentic);
            }
        }
        let admitted = self.admit(incoming, path)?;
        let answered = match incoming {
            Incoming::Init(init) => self.answer_init(&admitted, &init),
            Incoming::InitR(init) => self.answer_init_r(&admitted, &init),
            Incoming::Xx1(xx1) => self.answer_xx1(&admitted, &xx1),
        }?;
        self.remember(&admitted, answered)
    }

    /// Lets a first message in, or asks for a cookie, or refuses.
    fn admit<'a>(&mut self, incoming: Incoming<'a>, path: Path) -> Result<Admitted<'a>, Rejected> {
        let origin = self.origin(path.remote.ip());
        let is_stranger = matches!(incoming, Incoming::Xx1(_));
        let full = is_stranger && self.half_open.strangers() >= limits::STRANGERS_HALF_OPEN;
        if full || !self.half_open.has_room(origin) {
            return Err(Rejected::LimitReached);
        }
        // Without a cookie the place of its MAC is zero.
        let has_cookie = incoming.datagram().last_chunk().is_some_and(|mac2: &[u8; 16]| mac2 != &[0; 16]);
        let is_proven =
            proves_address(&path) || (has_cookie && self.cookies.check_mac2(&incoming, path.remote, self.now));
        let admitted = Admitted { incoming, path, origin, is_proven };
        let request = Request { is_stranger, is_proven, origin };
        match self.admission.admit(request, self.half_open.len(), self.now) {
            Verdict::Proceed => Ok(admitted),
            Verdict::Cookie => Err(self.demand_cookie(&admitted)),
            Verdict::Refuse => Err(Rejected::LimitReached),
        }
    }

    /// Answers with a cookie. Returns why the message goes no further.
    fn demand_cookie(&mut self, admitted: &Admitted<'_>) -> Rejected {
        let Admitted { incoming, path, .. } = admitted;
        let psk = match incoming {
            Incoming::InitR(init) => self.issued.get(init.ticket_id(), self.now).map(|ticket| ticket.psk()),
            _ => None,
        };
        let Some(cookie) = self.cookies.answer(incoming, &self.shared.identity, psk, path.remote, self.now) else {
            return Rejected::Unproven;
        };
        match self.answers.push(*path, &cookie, incoming.datagram().len()) {
            Ok(()) => {
                self.stats.cookies_sent += 1;
                Rejected::Unproven
            }
            Err(full) => full,
        }
    }

    fn answer_init(&mut self, admitted: &Admitted<'_>, init: &Init<'_>) -> Result<Answered, Rejected> {
        self.stats.dh_operations += 2;
        let accepted = init.accept_with(&self.shared.identity, self.shared.network(), &self.known).map_err(rejected)?;
        let acquaintance = accepted.acquaintance().cloned();
        if acquaintance.is_none() {
            self.stats.dh_operations -= 1;
        }
        let (peer, timestamp) = (accepted.peer(), accepted.payload().timestamp);
        self.check_peer(admitted, peer, timestamp)?;
        let cid = self.fresh_cid();
        let payload = self.shared.resp_payload(admitted.path.remote, &cid);
        self.stats.dh_operations += 3;
        let (answer, established) = accepted.reply(cid, &payload, &mut self.rng).map_err(rejected)?;
        if let Some(acquaintance) = &acquaintance {
            self.acquaint(acquaintance);
        }
        Ok(Answered { cid, answer, peer: Some(peer), timestamp, stage: Stage::Keys(established) })
    }

    fn answer_init_r(&mut self, admitted: &Admitted<'_>, init: &InitR<'_>) -> Result<Answered, Rejected> {
        let network = self.shared.network();
        let ticket = self.issued.get(init.ticket_id(), self.now).ok_or(Rejected::UnknownPeer)?;
        let peer = ticket.peer();
        let accepted = init.accept(ticket.psk(), network).map_err(rejected)?;
        let timestamp = accepted.payload().timestamp;
        self.check_peer(admitted, peer, timestamp)?;
        // Before the answer leaves: no ticket serves twice, whatever happens then.
        drop(self.issued.take(init.ticket_id(), self.now));
        let cid = self.fresh_cid();
        let payload = self.shared.resp_payload(admitted.path.remote, &cid);
        self.stats.dh_operations += 2;
        let (answer, established) = accepted.reply(cid, &payload, &mut self.rng).map_err(rejected)?;
        Ok(Answered { cid, answer, peer: Some(peer), timestamp, stage: Stage::Keys(established) })
    }

    fn answer_xx1(&mut self, admitted: &Admitted<'_>, xx1: &Xx1<'_>) -> Result<Answered, Rejected> {
        if !self.has_room(admitted.origin) {
            return Err(Rejected::LimitReached);
        }
        let cid = self.fresh_cid();
        let payload = self.shared.resp_payload(admitted.path.remote, &cid);
        let accepted = xx1.accept(&self.shared.identity, self.shared.network());
        self.stats.dh_operations += 3;
        let (answer, pending) = accepted.reply(cid, &payload, &mut self.rng).map_err(rejected)?;
        Ok(Answered { cid, answer, peer: None, timestamp: 0, stage: Stage::Pending(Box::new(pending), 0) })
    }

    /// Whether a peer that a first message names gets an answer.
    fn check_peer(&mut self, admitted: &Admitted<'_>, peer: PeerId, timestamp: u64) -> Result<(), Rejected> {
        if peer == self.id {
            return Err(Rejected::FromSelf);
        }
        let confirmed = self.confirmed.peek(&peer, self.now).copied();
        let answered = self.half_open.of_peer(&peer).map(|half_open| half_open.timestamp).max();
        if confirmed.max(answered).is_some_and(|newest| timestamp <= newest) && !admitted.is_proven {
            // A replay, or a clock that was set back. Only who is there can bring the cookie.
            return Err(self.demand_cookie(admitted));
        }
        if let Some(&dial) = self.table.dialling.get(&peer)
            && self.id < peer
            && self.table.get(dial).is_some_and(|entry| !entry.yields(self.now))
        {
            return Err(self.insist(admitted, dial));
        }
        if self.is_known(&peer) || self.has_room(admitted.origin) { Ok(()) } else { Err(Rejected::LimitReached) }
    }

    /// Two dials cross, and ours is the one that counts: theirs gets no answer. Should they be reachable only where
    /// their message comes from, ours goes there too, once they have shown that they are there.
    fn insist(&mut self, admitted: &Admitted<'_>, dial: u32) -> Rejected {
        if self.table.get(dial).is_some_and(|entry| entry.has_tried(&admitted.path)) {
            return Rejected::Duplicate;
        }
        if !admitted.is_proven {
            return self.demand_cookie(admitted);
        }
        self.also_try(dial, admitted.path);
        Rejected::Duplicate
    }

    /// Two dials cross, and theirs is the one that counts.
    fn yield_to(&mut self, peer: Option<PeerId>) {
        if let Some(&dial) = peer.and_then(|peer| self.table.dialling.get(&peer)) {
            self.yield_dial(dial);
        }
    }

    fn remember(&mut self, admitted: &Admitted<'_>, answered: Answered) -> Result<(), Rejected> {
        let Admitted { incoming, path, origin, .. } = *admitted;
        let Answered { cid, answer, peer, timestamp, stage } = answered;
        let first = First::of(&incoming);
        let is_resumed = matches!(incoming, Incoming::InitR(_));
        let answer_kept = answer.as_slice().into();
        let entry =
            HalfOpen { first, peer, is_resumed, timestamp, since: self.now, path, origin, answer: answer_kept, stage };
        self.half_open.insert(cid, entry, self.now)?;
        self.stats.handshakes_answered += 1;
        self.yield_to(peer);
        self.answers.push(path, &answer, incoming.datagram().len())
    }

    /// A packet for a handshake that waits for its first one.
    pub(super) fn on_first_packet(&mut self, cid: [u8; 8], datagram: Datagram<'_>) -> Result<(), Refused> {
        let Some(HalfOpen { stage: Stage::Keys(established), .. }) = self.half_open.get(&cid) else {
            return Err(Rejected::Unproven.into());
        };
        // Tried on a copy: the packet is for the session that it makes, which gets these keys.
        let cipher = Cipher::negotiated(self.shared.capabilities(), established.payload.capabilities);
        let mut keys = RecordKeys::new(&established.secrets, cipher).map_err(|_unsupported| Rejected::Forbidden)?;
        let mut copy = datagram.payload.to_vec();
        if !keys.would_open(&mut copy) {
            return Err(Rejected::Unauthentic.into());
        }
        let Some(half_open) = self.half_open.remove(&cid) else {
            return Err(Rejected::UnknownPeer.into());
        };
        let HalfOpen { first, peer, since, path, origin, is_resumed, stage, .. } = half_open;
        let (Some(peer), Stage::Keys(established)) = (peer, stage) else {
            return Err(Rejected::Unproven.into());
        };
        let keys = Some(keys);
        let index =
            self.establish(Confirmed { cid, first, peer, established, keys, is_resumed, since, path, origin })?;
        self.deliver(index, datagram)
    }

    /// XX3: who has been talking.
    pub(super) fn on_xx3(&mut self, cid: [u8; 8], datagram: &[u8]) -> Result<(), Rejected> {
        let half_open = self.half_open.get_mut(&cid).ok_or(Rejected::UnknownPeer)?;
        let Stage::Pending(pending, failures) = &mut half_open.stage else {
            return Err(Rejected::Unsolicited);
        };
        let established = match pending.finish(datagram) {
            Ok(established) => established,
            Err(error @ (HandshakeError::Unauthentic | HandshakeError::WeakKey | HandshakeError::BadIdentity(_))) => {
                self.stats.dh_operations += 5;
                *failures += 1;
                if *failures >= limits::STRANGER_FAILURES {
                    self.half_open.remove(&cid);
                }
                return Err(rejected(error));
            }
            Err(error) => return Err(rejected(error)),
        };
        self.stats.dh_operations += 1;
        // Not where XX3 came from, which anybody can forge: where XX2 was sent, which is what XX3 proves.
        let (first, origin, path, since) = (half_open.first, half_open.origin, half_open.path, half_open.since);
        let Some(peer) = established.peer else { return Err(Rejected::Unauthentic) };
        self.half_open.remove(&cid);
        if peer == self.id {
            return Err(Rejected::FromSelf);
        }
        let confirmed = Confirmed { cid, first, peer, established, keys: None, is_resumed: false, since, path, origin };
        self.establish(confirmed).map(|_index| ())
    }

    /// Makes a session, and returns its place.
    fn establish(&mut self, confirmed: Confirmed) -> Result<u32, Rejected> {
        let Confirmed { first, peer, origin, since, .. } = confirmed;
        let InitPayload { versions, timestamp, .. } = confirmed.established.payload;
        if negotiate(VERSIONS, versions).is_none() {
            // They have been told, by what our answer said of our versions.
            return Err(Rejected::Forbidden);
        }
        // Cannot be too heavy: no weight is bounded.
        let _inserted = self.recent.insert(first.ephemeral, (), 0, self.now);
        let _inserted = self.confirmed.insert(peer, timestamp, 0, self.now);
        // Whatever else this peer began is older or came by another way.
        self.half_open.remove_peer(&peer);
        let index = match self.settle(&peer, since) {
            Settlement::Refuse => return Err(Rejected::Duplicate),
            Settlement::Adopt(dial) => self.adopt(dial, confirmed),
            Settlement::Replace(old) => {
                self.end_silently(old);
                if self.table.len() >= 2 * self.shared.config.max_peers {
                    // Whoever replaces faster than the owner takes note has to wait.
                    return Err(Rejected::LimitReached);
                }
                self.accept(confirmed)
            }
            Settlement::New if self.has_room(origin) => self.accept(confirmed),
            Settlement::New => return Err(Rejected::LimitReached),
        };
        self.stats.accepted += 1;
        self.touch(index);
        Ok(index)
    }

    fn accept(&mut self, confirmed: Confirmed) -> u32 {
        let Confirmed { cid, peer, established, keys, is_resumed, path, origin, .. } = confirmed;
        self.sessions.add(origin);
        let seed = self.peer_seed();
        let session = Peer::accepted(
            Arc::clone(&self.shared),
            Accepted { established, keys, id: peer, local: cid, resumed: is_resumed, path },
            seed,
            self.now,
        );
        let index = self.table.insert(Entry::new(session, Phase::Open, origin, self.now));
        self.table.open.insert(peer, index);
        self.table.add_cid(index, cid);
        index
    }

    fn adopt(&mut self, dial: u32, confirmed: Confirmed) -> u32 {
        let Confirmed { cid, peer, established, keys, is_resumed, path, origin, .. } = confirmed;
        let now = self.now;
        // A dial that named no key may have led to the same peer.
        if let Some(&other) = self.table.open.get(&peer) {
            self.end_silently(other);
        }
        self.table.dialling.remove(&peer);
        self.table.open.insert(peer, dial);
        if let Some(entry) = self.table.get_mut(dial) {
            self.sessions.add(origin);
            entry.origin = origin;
            entry.phase = Phase::Open;
            (entry.tried, entry.yields_until) = (Rare::new(), None);
            let accepted = Accepted { established, keys, id: peer, local: cid, resumed: is_resumed, path };
            entry.peer.adopt(accepted, now);
        }
        self.table.add_cid(dial, cid);
        dial
    }

    /// A connection id that no session and no handshake has.
    fn fresh_cid(&mut self) -> [u8; 8] {
        loop {
            let cid = self.rng.array();
            if self.table.of_cid(&cid).is_none() && self.half_open.get(&cid).is_none() {
                return cid;
            }
        }
    }
}

/// Whether nobody can send over a path who does not receive over it, as with a byte stream.
const fn proves_address(path: &Path) -> bool {
    matches!(path.link, Link::Stream(_))
}

fn rejected(error: HandshakeError) -> Rejected {
    match error {
        HandshakeError::WrongKind => Rejected::UnknownKind,
        HandshakeError::WrongLength { .. } | HandshakeError::WrongVersion => Rejected::Malformed,
        HandshakeError::WeakKey | HandshakeError::BadIdentity(_) => Rejected::WeakKey,
        HandshakeError::WrongConnectionId => Rejected::UnknownPeer,
        HandshakeError::Finished => Rejected::Duplicate,
        _ => Rejected::Unauthentic,
    }
}
