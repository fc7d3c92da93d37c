//! What happens when nothing happens.

use std::time::{Duration, Instant};

use framing::v12::limits;
use structs::{Deadline, Path};

use super::{
    CloseReason, GOAWAY_DOUBT, GOAWAY_SILENCE, Implementation, PROOF_TIMEOUT, Peer, Proof, Reset, SUSPICION,
    SUSPICION_LIMIT, State, Suspicion,
};

/// What is overdue and cannot be done now is looked at again after this.
const GRANULARITY: Duration = Duration::from_millis(1);
/// How long the last HELLO of a dial is waited for.
const LAST_TRY: Duration = Duration::from_secs(3);
/// A PING is given up after four round trips, and not before this.
const PING_PATIENCE: Duration = Duration::from_millis(250);
/// Until then the implementation of a peer shows itself, or it reads BATCH: all but one do.
pub(super) const SHOW_TIMEOUT: Duration = Duration::from_secs(1);

impl Peer {
    pub(super) fn run_timers(&mut self) {
        let now = self.now;
        match self.state {
            State::Closed => return,
            State::Dialing { left: 0, next, .. } if now >= next.max(self.created + LAST_TRY) => {
                self.end(CloseReason::NoAnswer);
                return;
            }
            State::Dialing { .. } => return,
            State::Open => {}
        }
        if self.proof == Proof::None && now >= self.created + PROOF_TIMEOUT {
            self.end(CloseReason::Unproven);
            return;
        }
        if now >= self.last_heard + limits::PEER_TIMEOUT {
            self.end(CloseReason::Timeout);
            return;
        }
        if let Some(leaving) = self.leaving {
            if now >= self.last_heard.max(leaving.since) + GOAWAY_SILENCE {
                self.end(CloseReason::Goodbye(leaving.code));
                return;
            }
            if now >= leaving.since + GOAWAY_DOUBT {
                self.leaving = None;
            }
        }
        if self.implementation == Implementation::Unknown
            && now >= self.created + SHOW_TIMEOUT
            && self.proof > Proof::None
        {
            self.implementation = Implementation::Reference;
        }
        if let Reset::Until(until) = self.reset
            && now >= until
        {
            self.reset = Reset::Done;
        }
        self.check_suspicion();
        for route in self.routes.iter_mut().filter(|route| route.challenge.is_asked()) {
            route.challenge.handle_timeout(&mut self.rng, now);
            if !route.challenge.is_asked() {
                route.pinged = None;
            }
        }
        self.check_pings();
        self.heartbeat();
        self.reassembler.handle_timeout(now);
        self.deliver_ordered();
        self.replay.handle_timeout(now);
        let to = self.receiver();
        self.exchange.handle_timeout(to, now);
    }

    /// The peer came from a new address, which answers, and the old one has been silent since: it has restarted,
    /// and what is sent starts over. Whoever pretends this while the peer is gone is sent what he cannot read, and
    /// until the peer's next sealed packet only.
    pub(super) fn check_suspicion(&mut self) {
        let Some(Suspicion { path, since }) = self.suspect else { return };
        let answers = self.routes.get(&path).is_some_and(|route| route.proved);
        if answers && self.now >= since + SUSPICION {
            self.suspect = None;
            if !self.sent_since_hello {
                self.seq = 0;
                self.window.on_restart();
            }
            self.routes.choose(&path);
        } else if self.now >= since + SUSPICION_LIMIT {
            self.suspect = None;
        }
    }

    fn check_pings(&mut self) {
        let now = self.now;
        let best = self.routes.best_path(now);
        let mut silent = false;
        for route in self.routes.iter_mut() {
            let patience = PING_PATIENCE.max(route.rtt.smoothed() * 4);
            if !route.challenge.is_asked() && route.pinged.is_some_and(|at| now >= at + patience) {
                route.pinged = None;
                silent |= best == Some(route.path);
            }
        }
        if silent && self.window.is_marked() {
            self.window.on_silence(now);
        }
    }

    /// A PING each second to every address that is proved; twice as often to a peer that is said to be leaving.
    fn heartbeat(&mut self) {
        let now = self.now;
        if now < self.heartbeat_at || !self.is_connected() {
            return;
        }
        let interval = if self.leaving.is_some() { limits::HEARTBEAT / 2 } else { limits::HEARTBEAT };
        self.heartbeat_at = now + interval;
        let best = self.routes.best_path(now);
        let due: Vec<Path> =
            self.routes.iter().filter(|route| route.proved && route.pinged.is_none()).map(|route| route.path).collect();
        for path in due {
            if best == Some(path) {
                self.send_ping(path);
            } else {
                let ping = self.ping();
                if self.send_urgent(path, ping)
                    && let Some(route) = self.routes.get_mut(&path)
                {
                    route.pinged = Some(now);
                }
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let mut next = Next { deadline: None, now: self.now };
        match self.state {
            State::Closed => return None,
            State::Dialing { left: 0, next: at, .. } => next.at(Some(at.max(self.created + LAST_TRY)), "dial ends"),
            State::Dialing { next: at, .. } => next.at(Some(at), "dial again"),
            State::Open => {}
        }
        if self.remote.is_none() {
            if self.state == State::Open {
                // Nobody has said HELLO on an address that was accepted.
                next.at(Some(self.created + PROOF_TIMEOUT), "proof");
            }
            return next.deadline;
        }
        if self.proof == Proof::None {
            next.at(Some(self.created + PROOF_TIMEOUT), "proof");
        }
        next.at(Some(self.last_heard + limits::PEER_TIMEOUT), "silence");
        next.at(self.leaving.map(|leaving| self.last_heard.max(leaving.since) + GOAWAY_SILENCE), "goodbye");
        next.at(self.leaving.map(|leaving| leaving.since + GOAWAY_DOUBT), "goodbye in doubt");
        if self.implementation == Implementation::Unknown && self.proof > Proof::None {
            next.at(Some(self.created + SHOW_TIMEOUT), "implementation");
        }
        for route in self.routes.iter() {
            if route.proved && !route.challenge.is_asked() {
                let patience = PING_PATIENCE.max(route.rtt.smoothed() * 4);
                next.at(route.pinged.map(|at| at + patience), "pong");
            }
            let may_ask = route.pinged.is_none() && route.can_spend(29);
            if !route.reached && (may_ask || !route.challenge.is_due(self.now)) {
                next.at(route.challenge.deadline(), "proof of an address");
            }
        }
        if self.may_greet() {
            let affordable = self.routes.best(self.now).is_some_and(|route| route.can_spend(128));
            next.at(self.greet_at.filter(|_| affordable), "first note");
        }
        match self.reset {
            Reset::Done => {}
            Reset::CheckAt(at) if self.routes.best(self.now).is_some_and(|route| route.can_spend(43)) => {
                let shown = if self.knows_enough_to_reset() { at } else { at.max(self.created + SHOW_TIMEOUT) };
                next.at(Some(shown), "reset");
            }
            Reset::CheckAt(_) => {}
            Reset::Until(at) => next.at(Some(at), "reset"),
        }
        if let Some(Suspicion { path, since }) = self.suspect {
            let answers = self.routes.get(&path).is_some_and(|route| route.proved);
            next.at(Some(since + if answers { SUSPICION } else { SUSPICION_LIMIT }), "restart");
        }
        if self.is_connected() {
            next.at(Some(self.heartbeat_at), "heartbeat");
            next.at(self.ack_deadline(), "acknowledgement");
            next.at(self.exchange.deadline(), "value");
            next.at(self.mark_deadline(), "mark");
            if self.is_rate_limited() {
                next.at(self.bucket.ready_at(1, self.now), "rate");
            }
        }
        next.at(self.reorder.deadline(), "gap");
        next.at(self.replay.deadline(), "old tags");
        next.at(self.reassembler.deadline(), "fragments");
        next.at(self.batcher.deadline(), "batch");
        next.deadline
    }

    /// Messages wait for nothing but the token bucket.
    fn is_rate_limited(&self) -> bool {
        self.implementation != Implementation::Ours
            && self.data.front().is_some_and(|message| self.window.admits(message.len()))
            && self.bucket.available(self.now) == 0
    }
}

/// The earliest of several deadlines.
struct Next {
    deadline: Option<Deadline>,
    now: Instant,
}

impl Next {
    fn at(&mut self, at: Option<Instant>, reason: &'static str) {
        let ahead = |at| if at > self.now { at } else { self.now + GRANULARITY };
        let candidate = at.map(|at| Deadline { at: ahead(at), reason });
        self.deadline = Deadline::earliest(self.deadline, candidate);
    }
}
