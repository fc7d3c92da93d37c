//! Circuits on the way to be opened: the relays of a peer one after the other, the next one early.

use std::net::SocketAddr;
use std::time::Instant;

use crypto::PeerId;
use structs::{Path, Rejected};

use super::{AttemptId, Client, ConnectError, Event, Named};
use crate::message::Request;
use crate::{CircuitId, Code, limits};

#[derive(Debug)]
pub(super) struct Attempt {
    target: PeerId,
    tries: Vec<Try>,
    until: Instant,
    /// When the next relay is tried although another one has not answered.
    next_at: Instant,
    opened: u8,
    /// The peer may know where we are.
    show: bool,
}

#[derive(Debug)]
struct Try {
    relay: PeerId,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// For a session with the relay.
    Dialling,
    /// For the answer to this request.
    Asked(u32),
    Opened,
    Failed(Code),
}

impl Attempt {
    fn next(&mut self) -> Option<&mut Try> {
        self.tries.iter_mut().find(|one| one.state == State::Waiting)
    }

    fn is_under_way(&self) -> bool {
        self.tries.iter().any(|one| matches!(one.state, State::Dialling | State::Asked(_)))
    }

    fn is_waiting(&self) -> bool {
        self.tries.iter().any(|one| one.state == State::Waiting)
    }

    fn reasons(&self) -> Vec<(PeerId, Code)> {
        let reason = |one: &Try| match one.state {
            State::Failed(code) => Some((one.relay, code)),
            State::Asked(_) => Some((one.relay, Code::SILENT)),
            State::Waiting | State::Dialling => Some((one.relay, Code::UNREACHABLE)),
            State::Opened => None,
        };
        self.tries.iter().filter_map(reason).collect()
    }
}

impl Client {
    /// Opens circuits to a peer through the relays at which it has places: the first at once, the next when that failed or took
    /// a second, and one more when the first is open, so that another one is there when its relay dies.
    ///
    /// Each comes with [`Event::Opened`]; the last event is [`Event::Done`], or [`Event::Failed`] if there is none. `session` tells the path of the open session
    /// with a relay.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(
        &mut self,
        target: PeerId,
        relays: &[Named],
        session: impl Fn(&PeerId) -> Option<Path>,
        now: Instant,
    ) -> Result<AttemptId, ConnectError> {
        let show = self.config.show;
        self.connect_with(target, relays, show, session, now)
    }

    /// As [`connect`](Self::connect), with a say in whether the peer may know from the relay where we are.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect_with(
        &mut self,
        target: PeerId,
        relays: &[Named],
        show: bool,
        session: impl Fn(&PeerId) -> Option<Path>,
        now: Instant,
    ) -> Result<AttemptId, ConnectError> {
        self.tick(now);
        if self.closed {
            return Err(ConnectError::Closed);
        }
        if self.attempts.len() >= limits::MAX_ATTEMPTS || self.circuits.len() >= limits::MAX_CIRCUITS {
            return Err(ConnectError::Busy);
        }
        let mut tries: Vec<Try> = Vec::new();
        let others = relays.iter().filter(|named| named.relay != self.own && named.relay != target);
        let others: Vec<&Named> = others.take(limits::MAX_TRIED).collect();
        if others.is_empty() {
            return Err(ConnectError::NoRelay);
        }
        for named in others {
            if tries.iter().all(|one| one.relay != named.relay) && self.know(named, session(&named.relay)) {
                tries.push(Try { relay: named.relay, state: State::Waiting });
            }
        }
        if tries.is_empty() {
            return Err(ConnectError::Busy);
        }
        let id = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        let (until, next_at) = (self.now + limits::ATTEMPT, self.now);
        self.attempts.insert(id, Attempt { target, tries, until, next_at, opened: 0, show });
        self.advance(id);
        Ok(id)
    }

    /// Whether circuits to a peer are on the way to be opened.
    #[must_use]
    pub fn is_connecting(&self, peer: &PeerId) -> bool {
        self.attempts.values().any(|attempt| attempt.target == *peer)
    }

    /// Gives an attempt up; circuits that it opened stay.
    pub fn cancel(&mut self, attempt: AttemptId) {
        self.attempts.remove(&attempt);
    }

    /// Whether an attempt waits for a relay.
    pub(super) fn awaits(&self, relay: &PeerId) -> bool {
        let waits = |one: &Try| one.relay == *relay && !matches!(one.state, State::Opened | State::Failed(_));
        self.attempts.values().any(|attempt| attempt.tries.iter().any(waits))
    }

    /// Tries the next relay, or ends the attempt.
    fn advance(&mut self, id: AttemptId) {
        loop {
            let now = self.now;
            let Some(attempt) = self.attempts.get_mut(&id) else { return };
            let enough = attempt.opened >= limits::CIRCUITS_WANTED;
            let under_way = attempt.is_under_way();
            if enough || attempt.until <= now || !(under_way || attempt.is_waiting()) {
                break;
            }
            if under_way && now < attempt.next_at {
                return;
            }
            let (target, show) = (attempt.target, attempt.show);
            let Some(next) = attempt.next() else { return };
            let relay = next.relay;
            let session = self.relays.get(&relay).is_some_and(|relay| relay.session.is_some());
            if session {
                next.state = State::Asked(self.next_request);
                self.next_request = self.next_request.wrapping_add(1);
            } else {
                next.state = State::Dialling;
            }
            let asked = next.state;
            attempt.next_at = now + limits::STAGGER;
            match asked {
                State::Asked(request) => {
                    self.send(relay, Request::Connect { request, show, target });
                }
                _ => self.dial(relay),
            }
        }
        let Some(attempt) = self.attempts.remove(&id) else { return };
        let peer = attempt.target;
        self.events.push_back(match attempt.opened {
            0 => Event::Failed { attempt: id, peer, reasons: attempt.reasons() },
            _ => Event::Done { attempt: id, peer },
        });
    }

    /// Sets the state of the tries at a relay that `which` picks, and goes on with their attempts.
    fn settle(&mut self, relay: &PeerId, which: impl Fn(State) -> Option<State>) {
        let mut touched = Vec::new();
        for (id, attempt) in &mut self.attempts {
            for one in attempt.tries.iter_mut().filter(|one| one.relay == *relay) {
                if let Some(state) = which(one.state) {
                    one.state = state;
                    attempt.next_at = self.now;
                    touched.push(*id);
                }
            }
        }
        touched.into_iter().for_each(|id| self.advance(id));
    }

    /// A session with a relay is open: what waited for it is asked, in its turn.
    pub(super) fn attempts_connected(&mut self, relay: &PeerId) {
        let mut asked = Vec::new();
        let (attempts, next) = (&mut self.attempts, &mut self.next_request);
        for attempt in attempts.values_mut() {
            let (target, show) = (attempt.target, attempt.show);
            for one in attempt.tries.iter_mut().filter(|one| one.relay == *relay && one.state == State::Dialling) {
                one.state = State::Asked(*next);
                asked.push((*next, target, show));
                *next = next.wrapping_add(1);
            }
        }
        for (request, target, show) in asked {
            self.send(*relay, Request::Connect { request, show, target });
        }
    }

    /// A relay is of no use.
    pub(super) fn attempts_failed(&mut self, relay: &PeerId, code: Code) {
        self.settle(relay, |state| matches!(state, State::Dialling | State::Asked(_)).then_some(State::Failed(code)));
    }

    pub(super) fn on_not_opened(&mut self, relay: &PeerId, request: u32, code: Code) -> Result<(), Rejected> {
        let known = self.of_request(relay, request).is_some();
        self.settle(relay, |state| (state == State::Asked(request)).then_some(State::Failed(code)));
        known.then_some(()).ok_or(Rejected::Unsolicited)
    }

    pub(super) fn on_opened(
        &mut self,
        relay: PeerId,
        request: u32,
        circuit: CircuitId,
        addr: Option<SocketAddr>,
    ) -> Result<(), Rejected> {
        let Some((attempt, peer)) = self.of_request(&relay, request) else {
            // It came too late.
            self.send(relay, Request::Close { circuit, code: Code::NONE });
            return Err(Rejected::Unsolicited);
        };
        let added = self.add_circuit(relay, circuit, peer);
        let Ok(path) = added else {
            let failed = State::Failed(Code::TOO_MANY);
            self.settle(&relay, |state| (state == State::Asked(request)).then_some(failed));
            return added.map(drop);
        };
        if let Some(attempt) = self.attempts.get_mut(&attempt) {
            attempt.opened += 1;
        }
        self.events.push_back(Event::Opened { attempt, peer, relay, path, addr });
        self.settle(&relay, |state| (state == State::Asked(request)).then_some(State::Opened));
        Ok(())
    }

    fn of_request(&self, relay: &PeerId, request: u32) -> Option<(AttemptId, PeerId)> {
        let asked = |one: &Try| one.relay == *relay && one.state == State::Asked(request);
        let found = self.attempts.iter().find(|(_, attempt)| attempt.tries.iter().any(asked));
        found.map(|(id, attempt)| (*id, attempt.target))
    }

    pub(super) fn check_attempts(&mut self) {
        let ids: Vec<AttemptId> = self.attempts.keys().copied().collect();
        ids.into_iter().for_each(|id| self.advance(id));
    }

    pub(super) fn attempts_deadline(&self) -> Option<Instant> {
        let deadline = |attempt: &Attempt| {
            if attempt.is_waiting() { attempt.until.min(attempt.next_at) } else { attempt.until }
        };
        self.attempts.values().map(deadline).min()
    }
}
