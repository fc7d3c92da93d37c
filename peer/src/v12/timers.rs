//! What happens when nothing happens.

use std::time::{Duration, Instant};

use framing::v12::limits;
use structs::{Deadline, Path};

use super::{
    CloseReason, GOAWAY_DOUBT, GOAWAY_SILENCE, Implementation, PROOF_TIMEOUT, Peer, Proof, Reset, State,
};

/// Timers fire no closer together than this.
const GRANULARITY: Duration = Duration::from_millis(1);
/// How long the last HELLO of a dial is waited for.
const LAST_TRY: Duration = Duration::from_secs(3);
/// A PING is given up after four round trips, and not before this.
const PING_PATIENCE: Duration = Duration::from_millis(250);
/// Acknowledgements that the owner's backlog holds up are looked at again after this.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);
/// Until then the implementation of a peer shows itself, or it reads BATCH: all but one do.
const SHOW_TIMEOUT: Duration = Duration::from_secs(1);

impl Peer {
    pub(super) fn run_timers(&mut self) {
        let now = self.now;
        match self.state {
            State::Closed => return,
            State::Dialing { left: 0, next } if now >= next.max(self.created + LAST_TRY) => {
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
        if self.implementation == Implementation::Unknown && now >= self.created + SHOW_TIMEOUT && self.proof > Proof::None {
            self.implementation = Implementation::Reference;
        }
        if let Reset::Until(until) = self.reset {
            if now >= until {
                self.reset = Reset::Done;
            }
        }
        if let Some(suspicion) = self.suspect {
            if now >= suspicion.until {
                self.on_old_address_silent(suspicion.path);
            }
        }
        for route in self.routes.iter_mut() {
            route.challenge.handle_timeout(&mut self.rng, now);
        }
        self.check_pings();
        self.heartbeat();
        if self.ack_at.is_some_and(|at| at <= now) && self.is_backlogged() {
            self.ack_at = Some(now + BACKLOG_PAUSE);
        }
        self.reassembler.handle_timeout(now);
        self.deliver_ordered();
        let rtt = self.rtt();
        self.exchange.handle_timeout(rtt, now);
    }

    /// The peer came from a new address, and the old one has been silent since: it has restarted, and what is sent
    /// starts over.
    fn on_old_address_silent(&mut self, path: Path) {
        self.suspect = None;
        if !self.sent_since_hello {
            self.seq = 0;
            self.window.on_restart();
        }
        self.settle_on(path);
    }

    fn check_pings(&mut self) {
        let now = self.now;
        let best = self.routes.best_path(now);
        let mut silent = false;
        for route in self.routes.iter_mut() {
            let patience = PING_PATIENCE.max(route.rtt.smoothed() * 4);
            if route.pinged.is_some_and(|at| now >= at + patience) {
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
                if self.send_urgent(path, ping) {
                    if let Some(route) = self.routes.get_mut(&path) {
                        route.pinged = Some(now);
                    }
                }
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let mut next = Next { deadline: None, floor: self.now + GRANULARITY };
        match self.state {
            State::Closed => return None,
            State::Dialing { left: 0, next: at } => next.at(Some(at.max(self.created + LAST_TRY)), "dial ends"),
            State::Dialing { next: at, .. } => next.at(Some(at), "dial again"),
            State::Open => {}
        }
        if self.remote.is_none() {
            // Nobody has said HELLO on an address that was accepted.
            next.at(Some(self.created + PROOF_TIMEOUT), "proof");
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
            if route.proved {
                let patience = PING_PATIENCE.max(route.rtt.smoothed() * 4);
                next.at(route.pinged.map(|at| at + patience), "pong");
            } else if route.can_spend(29) || !route.challenge.is_due(self.now) {
                next.at(route.challenge.deadline(), "proof of an address");
            }
        }
        if self.implementation != Implementation::Rust {
            let affordable = self.routes.best(self.now).is_some_and(|route| route.can_spend(128));
            next.at(self.greet_at.filter(|_| affordable), "first note");
        }
        match self.reset {
            Reset::Done => {}
            Reset::CheckAt(at) if self.routes.best(self.now).is_some_and(|route| route.can_spend(43)) => {
                next.at(Some(at), "reset");
            }
            Reset::CheckAt(_) => {}
            Reset::Until(at) => next.at(Some(at), "reset"),
        }
        next.at(self.suspect.map(|suspicion| suspicion.until), "restart");
        if self.is_connected() {
            next.at(Some(self.heartbeat_at), "heartbeat");
            next.at(self.ack_at, "acknowledgement");
            next.at(self.exchange.deadline(), "value");
            next.at(self.mark_deadline(), "mark");
            if self.is_rate_limited() {
                next.at(self.bucket.ready_at(1, self.now), "rate");
            }
        }
        next.at(self.reorder.deadline(), "gap");
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
    floor: Instant,
}

impl Next {
    fn at(&mut self, at: Option<Instant>, reason: &'static str) {
        let candidate = at.map(|at| Deadline { at: at.max(self.floor), reason });
        self.deadline = Deadline::earliest(self.deadline, candidate);
    }
}
