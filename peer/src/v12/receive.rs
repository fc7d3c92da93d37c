//! What each frame does.

use bytes::Bytes;
use crypto::v12::{NodeId, PublicKey, WeakKey, WireId};
use framing::v12::{Chunk, Frame, Kind, Pong, encode, limits};
use structs::{Datagram, Path, Rejected};

use super::config::{MAX_EARLY_WANTS, MAX_URGENT};
use super::note::{self, Note};
use super::path::Route;
use super::proof::Answer;
use super::replay::{Tag, Verdict};
use super::{
    ACK_REPEAT, CloseReason, Event, GREETING_DELAY, HELLO_BURST, Implementation, Leaving, Peer, Proof, RESET_CHECK,
    Reset, SUSPICION_LIMIT, State, Suspicion,
};

/// The first sequence number of an epoch beyond which the sender is taken to continue an earlier session.
const CONTINUES: u32 = 64;
const PING_LEN: usize = 29;
const PONG_LEN: usize = 21;

/// A peer that has come this close to where its numbers look like JSON is not understood to speak JSON any more.
const NEAR_LIMIT: u64 = (limits::SEQ_LIMIT - 4096) as u64;

impl Peer {
    pub(super) fn receive(&mut self, datagram: Datagram<'_>) -> Result<(), Rejected> {
        if self.is_closed() {
            return Err(Rejected::Closed);
        }
        let Datagram { path, payload, .. } = datagram;
        if let Some(route) = self.routes.get_mut(&path) {
            route.on_received(payload.len());
        }
        let result = self.receive_frame(payload, path, false);
        if result.is_ok() {
            self.on_heard(path);
        }
        result
    }

    fn receive_frame(&mut self, bytes: &mut [u8], path: Path, nested: bool) -> Result<(), Rejected> {
        let first = *bytes.first().ok_or(Rejected::Empty)?;
        if first == Kind::Data.byte() {
            return self.on_data(bytes.get_mut(1..).ok_or(Rejected::Malformed)?, path);
        }
        if first == Kind::Batch.byte() {
            return self.on_batch(bytes, path, nested);
        }
        let frame = Frame::decode(bytes).map_err(Rejected::from)?;
        match frame {
            // No node puts a greeting in a BATCH; the owner could not see it there.
            Frame::Hello { .. } | Frame::HelloAck { .. } if nested => return Err(Rejected::Nested),
            Frame::Hello { id, key } => return self.on_hello(id, key, path, bytes.len(), true),
            Frame::HelloAck { id, key } => return self.on_hello(id, key, path, bytes.len(), false),
            _ => {}
        }
        self.require_known(&path)?;
        if let Some(route) = self.routes.get_mut(&path) {
            route.hears_us = true;
        }
        match frame {
            Frame::Ping { id, .. } => return self.on_ping(id, path),
            Frame::Pong(pong) => return self.on_pong(pong, path),
            _ => {}
        }
        // Whoever said HELLO and answers PINGs has a known address, and need not be the peer.
        if self.proof > Proof::None && !self.routes.is_chosen(&path) {
            return Err(Rejected::Unproven);
        }
        match frame {
            Frame::Hello { .. }
            | Frame::HelloAck { .. }
            | Frame::Data(_)
            | Frame::Batch(_)
            | Frame::Ping { .. }
            | Frame::Pong(_) => Err(Rejected::Malformed),
            Frame::Ihave(_) => {
                self.show(Implementation::Reference);
                Ok(())
            }
            Frame::Lan { .. } => Err(Rejected::Forbidden),
            Frame::Goaway { reason } => self.on_goaway(reason.map_or(0, framing::v12::GoawayReason::code)),
            Frame::Frag { id, index, total, data } => self.on_fragment(id, index, total, data),
            Frame::Pex(pex) => {
                if pex.is_compact() && !self.batches {
                    self.show(Implementation::Rust);
                }
                self.require(Proof::Address)?;
                let peers = pex.iter().take(limits::PEX_MAX).map(|entry| (entry.id, entry.addr)).collect();
                self.report(Event::Peers(peers))
            }
            Frame::Have(keys) => {
                self.require(Proof::Address)?;
                let keys: Vec<Bytes> = keys.iter().map(Bytes::copy_from_slice).collect();
                self.exchange.on_have(&keys, self.now);
                self.report(Event::Has(keys))
            }
            Frame::Want { key } => self.on_want(Bytes::copy_from_slice(key)),
            Frame::Chunk(chunk) => self.on_chunk(chunk),
            Frame::ChunkAck { key, index } => self.exchange.on_ack(key, index, self.now),
            Frame::RelayAnn { id, addr } => {
                self.require(Proof::Address)?;
                self.report(Event::RelayAnnounced { id, addr })
            }
            Frame::RelayReq { from, to, addr } => {
                self.require(Proof::Address)?;
                // Nobody is introduced under another name than his own.
                if self.remote.is_none_or(|key| NodeId::of(&key).wire() != from) {
                    return Err(Rejected::IdMismatch);
                }
                self.report(Event::IntroductionRequested { to, addr })
            }
            Frame::RelayFwd { from, addr } => {
                self.require(Proof::Address)?;
                self.report(Event::Introduced { id: from, addr })
            }
        }
    }

    /// A HELLO (`asks`) or its acknowledgement.
    fn on_hello(&mut self, id: WireId, key: PublicKey, path: Path, len: usize, asks: bool) -> Result<(), Rejected> {
        if NodeId::of(&key).wire() != id {
            return Err(Rejected::IdMismatch);
        }
        if key == *self.identity.public() {
            // Whoever knows a better key already hears a forgery.
            if self.remote.is_none() {
                self.end(CloseReason::Ourselves);
            }
            return Err(Rejected::FromSelf);
        }
        let known_path = self.routes.get(&path).is_some();
        match self.remote {
            Some(known) if known != key => return Err(Rejected::KeyConflict),
            // Somebody else's answer to our HELLO.
            None if !known_path => return Err(Rejected::UnknownPeer),
            _ if !known_path && !asks => return Err(Rejected::Unsolicited),
            Some(_) => {}
            None => {
                self.remote = Some(key);
                self.state = State::Open;
                self.created = self.now;
                self.ack_pings_until = self.now + ACK_REPEAT;
                self.greet_at = Some(self.now + GREETING_DELAY);
                if self.config.persistent_identity {
                    self.reset = Reset::CheckAt(self.now + RESET_CHECK);
                }
                self.push_event(Event::Identified { key });
            }
        }
        self.replay.on_hello();
        if asks {
            if self.hello_at.is_none_or(|at| self.now > at + HELLO_BURST) {
                self.sent_since_hello = false;
            }
            self.hello_at = Some(self.now);
        } else if let Reset::Until(_) = self.reset {
            // It has forgotten the earlier run and starts at zero, and so do we.
            self.reset = Reset::Done;
            self.seq = 0;
            self.window.on_restart();
            self.expect_from_zero();
            self.replay.begin_epoch();
        }
        if !known_path {
            self.on_new_address(path, len)?;
        }
        if let Some(route) = self.routes.get_mut(&path)
            && !route.reached
        {
            route.challenge.start(&mut self.rng, self.now);
        }
        if asks {
            self.hellos = self.hellos.wrapping_add(1);
            // An address without proof gets no more than it sent. Whoever has heard us dials on all the same, if it is
            // an existing node: then two of three HELLOs pay for the questions that prove it.
            let answered = self.routes.get(&path).is_some_and(|route| route.hears_us && !route.proved);
            if !answered || self.hellos.is_multiple_of(3) {
                let mut ack = Vec::with_capacity(41);
                encode::hello_ack(self.identity.wire_id(), *self.identity.public(), &mut ack);
                self.send_urgent(path, ack);
            }
        }
        Ok(())
    }

    fn on_new_address(&mut self, path: Path, len: usize) -> Result<(), Rejected> {
        if self.is_flooded() {
            return Err(Rejected::LimitReached);
        }
        let mut route = Route::new(path, 0, self.now);
        route.on_received(len);
        if !self.add_route(route) {
            return Err(Rejected::LimitReached);
        }
        // A peer of this implementation says sealed that it has restarted.
        let unclear = self.is_connected() && self.implementation != Implementation::Ours;
        if unclear && self.suspect.is_none() && self.now >= self.suspect_from {
            self.suspect = Some(Suspicion { path, since: self.now });
            self.suspect_from = self.now + SUSPICION_LIMIT;
            // The old address has the chance to say that all is well.
            self.heartbeat_at = self.now;
        }
        Ok(())
    }

    fn on_ping(&mut self, id: NodeId, path: Path) -> Result<(), Rejected> {
        if self.remote.is_none_or(|key| NodeId::of(&key) != id) {
            return Err(Rejected::IdMismatch);
        }
        // What an unproved peer sends pays for the proof first.
        if self.routes.get(&path).is_some_and(|route| route.can_spend(PONG_LEN + PING_LEN)) {
            let mut pong = Vec::with_capacity(PONG_LEN);
            encode::pong(self.identity.id(), &mut pong);
            self.send_urgent(path, pong);
        }
        if self.implementation == Implementation::Ours && self.now < self.ack_pings_until {
            self.acks_owed = self.acks_owed.max(1);
            self.ack_at = Some(self.now);
        }
        Ok(())
    }

    fn on_pong(&mut self, pong: Pong<'_>, path: Path) -> Result<(), Rejected> {
        match pong {
            Pong::Id(id) if self.remote.is_none_or(|key| NodeId::of(&key) != id) => return Err(Rejected::IdMismatch),
            Pong::Id(_) => {}
            // The C++ node sends back what we sent, our own id included.
            Pong::Echo { id, .. } if id != self.identity.id() => return Err(Rejected::IdMismatch),
            Pong::Echo { .. } => self.show(Implementation::Cpp),
        }
        let now = self.now;
        let is_best = self.routes.is_best(&path, now);
        let Some(route) = self.routes.get_mut(&path) else { return Err(Rejected::UnknownPeer) };
        self.ponged = true;
        if !route.reached && (route.challenge.is_asked() || route.pinged.is_none()) {
            route.pinged = None;
            return match route.challenge.on_pong(&mut self.rng, now) {
                Answer::Proved(rtt) => {
                    route.rtt.update(rtt);
                    route.proved = true;
                    route.reached = true;
                    if self.proof == Proof::None {
                        self.routes.choose(&path);
                        self.raise(Proof::Address);
                    }
                    self.check_suspicion();
                    self.release_wants();
                    Ok(())
                }
                Answer::Fits => Ok(()),
                Answer::Misfit => Err(Rejected::Unsolicited),
            };
        }
        let Some(pinged) = route.pinged.take() else { return Err(Rejected::Unsolicited) };
        route.rtt.update(now.saturating_duration_since(pinged));
        if is_best {
            self.window.on_pong();
            self.exchange.on_pong(now);
        }
        Ok(())
    }

    fn on_batch(&mut self, bytes: &mut [u8], path: Path, nested: bool) -> Result<(), Rejected> {
        if nested {
            return Err(Rejected::Nested);
        }
        // This checks every length before the first frame is acted on.
        Frame::decode(bytes).map_err(Rejected::from)?;
        self.require_known(&path)?;
        if self.proof == Proof::None || self.routes.is_chosen(&path) {
            self.batches = true;
            if matches!(self.implementation, Implementation::Unknown | Implementation::Rust) {
                self.implementation = Implementation::Reference;
            }
        }
        let (_header, mut rest) = bytes.split_at_mut_checked(2).ok_or(Rejected::Malformed)?;
        while let Some((len, frames)) = rest.split_first_chunk_mut::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            let Some((frame, behind)) = frames.split_at_mut_checked(len) else { break };
            rest = behind;
            if self.is_closed() {
                break;
            }
            if let Err(reason) = self.receive_frame(frame, path, true) {
                self.stats.rejected.count(reason);
            }
        }
        Ok(())
    }

    /// An unproved GOAWAY may come from anybody who knows the address: it only shortens how long silence is borne.
    fn on_goaway(&mut self, code: u8) -> Result<(), Rejected> {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving { code, since: self.now });
            self.heartbeat_at = self.now;
        }
        Ok(())
    }

    fn on_data(&mut self, sealed: &mut [u8], path: Path) -> Result<(), Rejected> {
        if self.remote.is_none() {
            return Err(Rejected::Unproven);
        }
        if self.is_flooded() {
            return Err(Rejected::LimitReached);
        }
        let tag: Tag = sealed.last_chunk().copied().ok_or(Rejected::Malformed)?;
        let now = self.now;
        let session = self.session().ok_or(Rejected::WeakKey)?;
        let (nonce, plaintext) = session.open_in_place(sealed).map_err(|_failed| Rejected::Unauthentic)?;

        // Peers of this implementation never come to numbers that look like JSON.
        let ambiguous = self.implementation != Implementation::Ours && self.reorder.next_seq() >= NEAR_LIMIT;
        let note = if ambiguous { None } else { note::decode(plaintext) };
        let ours = matches!(note, Some(Note::Ours { .. }));
        let numbered = plaintext.split_first_chunk::<4>().map(|(seq, rest)| (u32::from_be_bytes(*seq), rest));
        let seq = numbered.filter(|_| note.is_none()).map(|(seq, _)| seq);
        let newest = self.replay.is_newest(nonce);
        match self.replay.accept(nonce, seq, tag, ours, now) {
            Verdict::Replayed => return Err(Rejected::Replayed),
            Verdict::Restarted => {
                self.on_authentic(path, true);
                self.on_restart(path);
            }
            Verdict::Fresh => self.on_authentic(path, newest),
        }
        match (note, numbered) {
            (Some(note), _) => self.on_note(note, newest),
            (None, Some((seq, payload))) => {
                let payload = Bytes::copy_from_slice(payload);
                self.on_message(seq, payload)
            }
            // No existing node sends less than a number; what is there is delivered as it is.
            (None, None) => {
                let data = Bytes::copy_from_slice(plaintext);
                self.report(Event::Message { data, authenticated: true })
            }
        }
    }

    /// A sealed packet of this session came from `path`: that proves the key, and the address if nothing newer came
    /// from elsewhere.
    fn on_authentic(&mut self, path: Path, newest: bool) {
        if newest {
            if self.routes.get(&path).is_none() {
                let mut route = Route::new(path, 0, self.now);
                route.proved = true;
                self.add_route(route);
            }
            self.routes.choose(&path);
            self.suspect = None;
            self.leaving = None;
        }
        if let Some(route) = self.routes.get_mut(&path)
            && !route.reached
        {
            route.challenge.start(&mut self.rng, self.now);
        }
        self.raise(Proof::Key);
    }

    /// `newest` says that nothing sealed later has arrived before.
    fn on_note(&mut self, note: Note, newest: bool) -> Result<(), Rejected> {
        match note {
            Note::Ours { ack, bye } => {
                self.show(Implementation::Ours);
                if let Some(code) = bye {
                    self.end(CloseReason::Goodbye(code));
                    return Ok(());
                }
                if let Some(ack) = ack.filter(|_| newest) {
                    self.window.on_ack(ack, self.now);
                }
                Ok(())
            }
            Note::Gossip { id, addr } => self.report(Event::Peers(vec![(id, addr)])),
            Note::Other => Ok(()),
        }
    }

    fn on_message(&mut self, seq: u32, payload: Bytes) -> Result<(), Rejected> {
        self.stats.messages_received += 1;
        if self.epoch_begins {
            self.epoch_begins = false;
            let continues = seq >= CONTINUES;
            if continues {
                self.reorder.reset(seq);
            }
            if let Reset::CheckAt(_) = self.reset {
                // Zero: a fresh session. Anything else: it still holds an earlier one, and must be told.
                self.reset = if seq == 0 { Reset::Done } else { Reset::CheckAt(self.now) };
            }
        }
        self.acks_owed = self.acks_owed.saturating_add(1);
        self.ack_pings_until = self.now + ACK_REPEAT;
        let result = self.reorder.push(seq, payload, self.now).map_err(Rejected::from);
        self.deliver_ordered();
        result
    }

    pub(super) fn deliver_ordered(&mut self) {
        while let Some(data) = self.reorder.poll(self.now) {
            // The existing nodes send their gossip as ordinary messages.
            let told = if self.implementation == Implementation::Ours { None } else { note::decode(&data) };
            let event = match told {
                Some(Note::Gossip { id, addr }) => Event::Peers(vec![(id, addr)]),
                Some(_) => continue,
                None => Event::Message { data, authenticated: true },
            };
            self.push_event(event);
        }
        let skipped = self.reorder.skipped();
        if skipped > self.skipped {
            let count = skipped - self.skipped;
            self.skipped = skipped;
            self.stats.missed += count;
            self.push_event(Event::Missed { count });
        }
    }

    /// The peer has lost what it knew: its numbers start over, and ours do if it has had none since.
    fn on_restart(&mut self, path: Path) {
        self.expect_from_zero();
        if self.sent_since_hello {
            self.window.on_peer_restart();
        } else {
            self.seq = 0;
            self.window.on_restart();
        }
        if self.implementation == Implementation::Ours {
            // The new process has yet to see a note of ours.
            self.greetings = 0;
            self.greet_at = Some(self.now);
            self.ack_pings_until = self.now + ACK_REPEAT;
        }
        for gone in self.routes.keep_only(&path) {
            self.push_event(Event::PathRemoved(gone));
        }
        self.push_event(Event::Restarted);
    }

    /// The numbers of the peer start over.
    fn expect_from_zero(&mut self) {
        self.deliver_ordered();
        self.reorder.reset(0);
        self.skipped_before = self.skipped;
        self.epoch_begins = true;
        self.acks_owed = 0;
    }

    fn on_fragment(&mut self, id: [u8; 8], index: u16, total: u16, data: &[u8]) -> Result<(), Rejected> {
        if !self.config.accept_plaintext_fragments {
            return Err(Rejected::Forbidden);
        }
        self.require(Proof::Key)?;
        if self.is_flooded() {
            return Err(Rejected::LimitReached);
        }
        let whole = self.reassembler.add(id, index, total, data, self.now).map_err(Rejected::from)?;
        match whole {
            Some(data) => {
                self.stats.messages_received += 1;
                self.report(Event::Message { data, authenticated: false })
            }
            None => Ok(()),
        }
    }

    fn on_want(&mut self, key: Bytes) -> Result<(), Rejected> {
        if self.is_reached() {
            return self.report(Event::Wanted(key));
        }
        if self.early_wants.len() >= MAX_EARLY_WANTS || self.early_wants.contains(&key) {
            return Err(Rejected::Unproven);
        }
        self.early_wants.push(key);
        Ok(())
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>) -> Result<(), Rejected> {
        if self.is_flooded() {
            return Err(Rejected::LimitReached);
        }
        let (ack, complete) = self.exchange.on_chunk(chunk, self.now)?;
        if let Some(ack) = ack {
            self.send_control(ack);
        }
        if let Some((key, value)) = complete {
            self.push_event(Event::Value { key, value });
        }
        Ok(())
    }

    fn on_heard(&mut self, path: Path) {
        let Some(route) = self.routes.get_mut(&path) else { return };
        route.last_heard = self.now;
        if self.routes.is_best(&path, self.now) {
            // What comes from elsewhere may be anybody's, and keeps nobody alive.
            self.last_heard = self.now;
            if self.suspect.is_some_and(|suspicion| suspicion.path != path) {
                self.suspect = None;
            }
        }
    }

    /// Frames other than HELLO and DATA must come from an address that leads to a peer with a key.
    fn require_known(&self, path: &Path) -> Result<(), Rejected> {
        if self.routes.get(path).is_none() {
            return Err(Rejected::UnknownPeer);
        }
        if self.remote.is_none() { Err(Rejected::Unproven) } else { Ok(()) }
    }

    /// What the peer has proved can only grow.
    pub(super) fn raise(&mut self, proof: Proof) {
        if proof <= self.proof || self.is_closed() {
            return;
        }
        self.proof = proof;
        self.push_event(Event::Proved(proof));
        if self.greet_at.is_some() && self.greetings == 0 {
            self.greet_at = Some(self.now);
        }
    }

    /// Requests wait until somebody answered from where their answers go.
    fn release_wants(&mut self) {
        if self.is_reached() {
            for key in std::mem::take(&mut self.early_wants) {
                self.push_event(Event::Wanted(key));
            }
        }
    }

    /// Whether somebody answered from the address used now.
    pub(super) fn is_reached(&self) -> bool {
        self.proof >= Proof::Address && self.routes.best(self.now).is_some_and(|route| route.reached)
    }

    /// A frame has shown which implementation the peer is. What is known to be ours or the other Rust node stays.
    fn show(&mut self, implementation: Implementation) {
        use Implementation::{Cpp, Ours, Reference, Rust, Unknown};
        self.implementation = match (self.implementation, implementation) {
            (Ours, _) | (_, Ours) => Ours,
            (Rust, _) | (_, Rust) => Rust,
            (Cpp, _) | (_, Cpp) => Cpp,
            (Reference, _) | (_, Reference) => Reference,
            (Unknown, Unknown) => Unknown,
        };
        if self.implementation == Ours {
            self.reset = Reset::Done;
            self.suspect = None;
            if self.greetings > 0 {
                // It has answered.
                self.greet_at = None;
            }
        }
    }

    fn require(&self, proof: Proof) -> Result<(), Rejected> {
        if self.proof >= proof { Ok(()) } else { Err(Rejected::Unproven) }
    }

    /// Hands an event on unless too many wait.
    fn report(&mut self, event: Event) -> Result<(), Rejected> {
        if self.is_flooded() {
            return Err(Rejected::LimitReached);
        }
        self.push_event(event);
        Ok(())
    }

    /// Sends a datagram at once, if the address may be sent so much and the queue has room.
    pub(super) fn send_urgent(&mut self, path: Path, bytes: Vec<u8>) -> bool {
        if self.urgent.len() >= MAX_URGENT {
            return false;
        }
        let paid = self.routes.get_mut(&path).is_some_and(|route| route.spend(bytes.len()));
        if paid {
            self.urgent.push_back((path, bytes));
        }
        paid
    }
}

impl From<WeakKey> for CloseReason {
    fn from(_: WeakKey) -> Self {
        Self::WeakKey
    }
}
