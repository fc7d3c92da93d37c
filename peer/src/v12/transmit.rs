//! What leaves, in which order: answers and questions that prove addresses, then control frames, then messages as far
//! as the window and the rate allow, then values.

use std::time::{Duration, Instant};

use bytes::Bytes;
use framing::v12::{GoawayReason, Kind, encode, fragments, limits};
use structs::{Ecn, Path, Transmit, TransmitBuf};

use super::config::{MAX_EVENTS, SEND_QUEUE_BYTES, STAGED_BYTES};
use super::note::{self, Ack};
use super::timers::SHOW_TIMEOUT;
use super::{
    ACK_REPEAT, CloseReason, Event, GREETING_INTERVAL, Implementation, MAX_GREETINGS, Peer, Proof, Reset, State,
};

/// One acknowledgement to a peer of this implementation covers up to so many messages.
const ACK_EVERY: u32 = 16;
/// At most so many acknowledgements leave at once to peers that count them.
const MAX_ACKS: u32 = 64;
/// Between two PINGs that serve as acknowledgements of messages under way.
const MARK_INTERVAL: Duration = Duration::from_millis(10);
/// That many messages under way are worth a PING at once.
const MARK_EVERY: u64 = 8;
/// A full queue takes messages again when it is down to half of its bounds.
const WRITABLE_AT: usize = limits::QUEUE_DATA / 2;

impl Peer {
    pub(super) fn transmit(&mut self, out: &mut TransmitBuf) -> Option<Transmit> {
        if let State::Open | State::Dialing { .. } = self.state {
            self.prove();
        }
        if let Some((path, bytes)) = self.urgent.pop_front() {
            out.push(&bytes);
            return out.finish(path, Ecn::NotEct);
        }
        if self.is_closed() {
            return None;
        }
        self.pump();
        let path = self.routes.best_path(self.now)?;
        let first = self.staged.take().or_else(|| self.batcher.poll(self.now))?;
        out.push(&first);
        while let Some(next) = self.batcher.poll(self.now) {
            if !out.push(&next) {
                self.staged = Some(next);
                break;
            }
        }
        out.finish(path, Ecn::NotEct)
    }

    /// HELLOs of a dial, PINGs that prove an address, the first note.
    fn prove(&mut self) {
        let now = self.now;
        if let State::Dialing { sent, left, next } = self.state {
            if next <= now && left > 0 {
                // 300 ms apart at first, then further: 0, 0.3, 0.6, 1.2, 2.1, 3.3, 4.8, 6.6 s.
                let next = now + limits::PUNCH_INTERVAL * sent.max(1);
                self.state = State::Dialing { sent: sent + 1, left: left - 1, next };
                if let Some(path) = self.routes.best_path(now) {
                    self.say_hello(path);
                }
            }
            return;
        }
        if self.remote.is_none() {
            return;
        }
        let ping = self.ping();
        let len = ping.len();
        let due: Vec<Path> = self
            .routes
            .iter_mut()
            .filter(|route| !route.reached && route.challenge.is_due(now) && route.pinged.is_none())
            .filter(|route| route.can_spend(len))
            .map(|route| {
                route.challenge.on_ping(now);
                // One PING at a time, whatever for: the answer does not tell.
                route.pinged = route.proved.then_some(now);
                route.path
            })
            .collect();
        for path in due {
            self.send_urgent(path, ping.clone());
        }
        self.greet();
        self.reset_peer();
    }

    fn say_hello(&mut self, path: Path) -> bool {
        let mut hello = Vec::with_capacity(41);
        encode::hello(self.identity.wire_id(), *self.identity.public(), &mut hello);
        self.send_urgent(path, hello)
    }

    /// The first note tells a peer of this implementation who we are, and proves our key to anybody.
    fn greet(&mut self) {
        let due = self.greet_at.is_some_and(|at| at <= self.now);
        if !due || !self.may_greet() {
            return;
        }
        let Some(path) = self.routes.best_path(self.now) else { return };
        let note = note::encode_ack(self.acknowledgement());
        let len = 1 + crypto::v12::Session::OVERHEAD + note.len();
        if !self.routes.get(&path).is_some_and(|route| route.can_spend(len)) {
            return;
        }
        if let Some(frame) = self.seal(&[&note])
            && self.send_urgent(path, frame)
        {
            // It may be lost, and two nodes of this implementation prove themselves by nothing else.
            self.greetings += 1;
            let again = self.implementation == Implementation::Unknown && self.greetings < MAX_GREETINGS;
            self.greet_at = again.then(|| self.now + GREETING_INTERVAL * (1 << (self.greetings - 1)));
        }
    }

    /// Whoever dialled us greets first if he is of this implementation; what others send pays for the proof.
    pub(super) fn may_greet(&self) -> bool {
        self.implementation != Implementation::Rust && (self.dialled || self.proof > Proof::None)
    }

    /// A C++ node must be known for one before a GOAWAY is sent: it would not survive it.
    pub(super) fn knows_enough_to_reset(&self) -> bool {
        self.ponged || self.implementation != Implementation::Unknown
    }

    /// A peer that may still hold the state of an earlier run of ours, and shows no sign of a fresh one, is made to
    /// forget: our numbers start at zero, and it would drop them.
    fn reset_peer(&mut self) {
        let due = matches!(self.reset, Reset::CheckAt(at) if at <= self.now);
        let shown = self.knows_enough_to_reset() || self.now >= self.created + SHOW_TIMEOUT;
        if !due || !shown {
            return;
        }
        if matches!(self.implementation, Implementation::Ours | Implementation::Cpp) {
            self.reset = Reset::Done;
            return;
        }
        let Some(path) = self.routes.best_path(self.now) else { return };
        let mut goaway = Vec::with_capacity(2);
        encode::goaway(GoawayReason::from_code(0), &mut goaway);
        if self.routes.get(&path).is_some_and(|route| route.can_spend(goaway.len() + 41)) {
            self.send_urgent(path, goaway);
            self.say_hello(path);
            self.reset = Reset::Until(self.now + super::RESET_TIMEOUT);
        }
    }

    /// Fills the batcher.
    fn pump(&mut self) {
        if !self.is_connected() {
            return;
        }
        let now = self.now;
        self.batcher.set_coalescing(!matches!(self.implementation, Implementation::Unknown | Implementation::Rust));
        self.acknowledge();
        for want in self.exchange.due_wants(now) {
            self.send_control(want);
        }
        while self.batcher.buffered_bytes() < STAGED_BYTES {
            let Some(len) = self.control.front().map(Vec::len) else { break };
            let Some(path) = self.routes.best_path(now) else { break };
            let Some(route) = self.routes.get_mut(&path).filter(|route| route.affords(len)) else { break };
            route.spend(len);
            let Some(frame) = self.control.pop_front() else { break };
            self.control_bytes = self.control_bytes.saturating_sub(frame.len());
            self.batcher.push(frame, now);
        }
        if self.may_send_messages() {
            self.pump_messages();
        }
        while self.batcher.buffered_bytes() < STAGED_BYTES && self.is_reached() {
            let Some(chunk) = self.exchange.poll(now) else { break };
            self.batcher.push(chunk, now);
        }
        let to = self.receiver();
        self.exchange.reap(to, now);
        self.mark();
    }

    /// Messages wait while it is open whether the peer knows an earlier session, or has just restarted.
    fn may_send_messages(&self) -> bool {
        matches!(self.reset, Reset::Done) && self.suspect.is_none()
    }

    fn pump_messages(&mut self) {
        let now = self.now;
        while self.batcher.buffered_bytes() < STAGED_BYTES {
            let Some(len) = self.data.front().map(Bytes::len) else { break };
            if self.seq >= limits::SEQ_LIMIT {
                // From here on a message could be taken for gossip: a new session starts at zero.
                if self.staged.is_none() && self.batcher.is_empty() {
                    self.end(CloseReason::Exhausted);
                }
                return;
            }
            if !self.window.admits(len) {
                break;
            }
            if self.implementation != Implementation::Ours && !self.bucket.try_take(1, now) {
                break;
            }
            let Some(message) = self.data.pop() else { break };
            self.data_bytes = self.data_bytes.saturating_sub(message.len());
            self.stats.messages_sent += 1;
            if message.len() > limits::MAX_DATA_PAYLOAD {
                // Only queued where the configuration allows plaintext by name.
                if let Ok(pieces) = fragments(self.rng.array(), &message) {
                    for piece in pieces {
                        self.batcher.push(piece, now);
                    }
                    self.window.on_sent(None, message.len());
                }
                continue;
            }
            let seq = self.seq;
            let Some(frame) = self.seal(&[&seq.to_be_bytes(), &message]) else { break };
            self.seq += 1;
            self.sent_since_hello = true;
            self.window.on_sent(Some(seq), message.len());
            self.batcher.push(frame, now);
        }
        if self.full && self.data.len() <= WRITABLE_AT && self.data_bytes <= SEND_QUEUE_BYTES / 2 {
            self.full = false;
            self.push_event(Event::Writable);
        }
    }

    /// Tells the peer what was received: peers of this implementation by number, the existing ones by one sealed
    /// packet for each message, which is what opens their window.
    fn acknowledge(&mut self) {
        let now = self.now;
        match self.implementation {
            Implementation::Rust => self.acks_owed = 0,
            Implementation::Ours => {
                let reopens = self.told_closed && !self.is_backlogged();
                if self.acks_owed == 0 && !reopens {
                    return;
                }
                if !reopens && self.acks_owed < ACK_EVERY && self.ack_at.is_none_or(|at| at > now) {
                    self.ack_at.get_or_insert(now + limits::BATCH_INTERVAL);
                    return;
                }
                self.told_closed = self.is_backlogged();
                if self.told_closed || reopens {
                    self.ack_pings_until = now + ACK_REPEAT;
                }
                let note = note::encode_ack(self.acknowledgement());
                if let Some(frame) = self.seal(&[&note]) {
                    self.batcher.push(frame, now);
                    self.batcher.flush();
                }
                self.acks_owed = 0;
                self.ack_at = None;
            }
            // Being told nothing is what stops them.
            _ if self.acks_owed == 0 || self.is_backlogged() => {}
            _ => {
                let count = self.acks_owed.min(MAX_ACKS);
                let note = note::encode_ack(self.acknowledgement());
                for _ in 0..count {
                    if let Some(frame) = self.seal(&[&note]) {
                        self.batcher.push(frame, now);
                    }
                }
                self.acks_owed -= count;
                self.ack_at = (self.acks_owed > 0).then_some(now + limits::BATCH_INTERVAL);
            }
        }
    }

    /// When the next acknowledgement leaves; the owner's backlog holds it up.
    pub(super) fn ack_deadline(&self) -> Option<Instant> {
        let owed = self.acks_owed > 0;
        match self.implementation {
            Implementation::Rust => None,
            Implementation::Ours if self.told_closed && !self.is_backlogged() => Some(self.now),
            Implementation::Ours => self.ack_at.filter(|_| owed),
            _ if owed && !self.is_backlogged() => Some(self.ack_at.unwrap_or(self.now)),
            _ => None,
        }
    }

    fn acknowledgement(&self) -> Ack {
        let room = if self.is_backlogged() { 0 } else { (MAX_EVENTS / 2).saturating_sub(self.events.len()) };
        Ack {
            next: u32::try_from(self.reorder.next_seq()).unwrap_or(u32::MAX),
            missing: self.skipped.saturating_sub(self.skipped_before),
            window_messages: u32::try_from(room).unwrap_or(u32::MAX).min(limits::CWND_MAX),
            window_bytes: self.config.receive_window,
        }
    }

    /// A PING behind what is under way: its answer says that all of it was taken in.
    fn mark(&mut self) {
        let now = self.now;
        let Some(route) = self.routes.best(now) else { return };
        if route.pinged.is_some() || !route.proved {
            return;
        }
        let path = route.path;
        let due = self.window.in_flight() >= MARK_EVERY || self.marked_at.is_none_or(|at| now >= at + MARK_INTERVAL);
        if self.exchange.wants_ping() || (due && self.needs_mark()) {
            self.send_ping(path);
        }
    }

    /// Whether messages are under way that only the answer to a PING acknowledges, and none is.
    fn needs_mark(&self) -> bool {
        let by_pong = self.implementation != Implementation::Ours || self.window.needs_pong();
        by_pong && self.window.in_flight() > 0 && !self.window.is_marked()
    }

    /// When the next PING for messages under way may leave.
    pub(super) fn mark_deadline(&self) -> Option<Instant> {
        let free = self.routes.best(self.now).is_some_and(|route| route.pinged.is_none() && route.proved);
        self.marked_at.map(|at| at + MARK_INTERVAL).filter(|_| free && self.needs_mark())
    }

    /// A PING on the best path, behind everything that was handed to the batcher.
    pub(super) fn send_ping(&mut self, path: Path) {
        let ping = self.ping();
        let now = self.now;
        self.marked_at = Some(now);
        self.window.on_ping();
        self.exchange.on_ping();
        if let Some(route) = self.routes.get_mut(&path) {
            route.pinged = Some(now);
        }
        self.batcher.push(ping, now);
        self.batcher.flush();
    }

    pub(super) fn ping(&self) -> Vec<u8> {
        // The time means nothing to the receiver: since the start of the session, so that no clock is told.
        let since = self.now.saturating_duration_since(self.created).as_millis();
        let mut ping = Vec::with_capacity(29);
        encode::ping(u64::try_from(since).unwrap_or(u64::MAX), self.identity.id(), &mut ping);
        ping
    }

    /// GOAWAY, which the existing nodes understand, and before it a sealed goodbye, which ours believe at once.
    pub(super) fn farewell(&mut self, code: GoawayReason) {
        let Some(path) = self.routes.best_path(self.now) else { return };
        if self.proof == Proof::Key && self.implementation != Implementation::Rust {
            let note = note::encode_bye(code.code());
            if let Some(frame) = self.seal(&[&note]) {
                self.send_urgent(path, frame);
            }
        }
        // A C++ node does not survive one.
        if !matches!(self.implementation, Implementation::Ours | Implementation::Cpp) {
            let mut goaway = Vec::with_capacity(2);
            encode::goaway(code, &mut goaway);
            self.send_urgent(path, goaway);
        }
    }

    /// A DATA frame around these parts; `None` without a session or without nonces left.
    fn seal(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        self.session()?;
        let nonce = self.nonces.next()?;
        let session = self.session.as_ref()?;
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut frame = Vec::with_capacity(1 + crypto::v12::Session::OVERHEAD + len);
        frame.push(Kind::Data.byte());
        session.seal(nonce, parts, &mut frame);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crypto::Seed;
    use crypto::v12::Identity;
    use sim::pair::{Setup, Side};
    use structs::Epoch;

    use super::super::Config;
    use super::*;

    /// It would take months to send two thousand million messages, so the count is set.
    #[test]
    fn the_last_number_is_the_end_of_the_session() {
        let setup = Setup::new(Seed::fixed(1));
        let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_735_689_600) };
        let [alice, bob] = [&b"alice"[..], b"bob"].map(|seed| Arc::new(Identity::from_seed(seed)));
        let a = Peer::dial(Config::default(), alice, to_b, 8, &Seed::fixed(2), epoch, now);
        let b = Peer::accept(Config::default(), bob, to_a, &Seed::fixed(3), epoch, now);
        let mut pair = setup.pair(a, b);
        pair.run_for(Duration::from_secs(1));
        pair.a.seq = limits::SEQ_LIMIT - 3;
        for content in ["one", "two", "three", "four"] {
            assert_eq!(pair.with_a(|peer, now| peer.send(Bytes::from(content), now)), Ok(()));
        }
        pair.run_for(Duration::from_secs(1));
        let heard: Vec<_> =
            pair.b_events().iter().filter(|timed| matches!(timed.event, Event::Message { .. })).collect();
        assert_eq!(heard.len(), 3, "what has a number still arrives: {heard:?}");
        let closed = |event: &Event| matches!(event, Event::Closed(CloseReason::Exhausted));
        assert!(pair.a_events().iter().any(|timed| closed(&timed.event)));
    }
}
