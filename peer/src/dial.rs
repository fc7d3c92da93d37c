//! The dialler's half of a handshake in time: what leaves when, and what ends it (SPEC 9.1).
//!
//! One dial may have several attempts under way: a ticket first, then the handshake for a known key, then the one
//! that asks whose key it is. Each repeats the same bytes until one of them is answered, so that a lost answer costs
//! the other side no new key agreement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::handshake::{Acquaintance, Established, HandshakeError, Initiator, RespPayload, Ticket};
use crypto::{PeerId, Rng};
use smallvec::SmallVec;
use structs::{Path, Rejected};

use crate::cids::Cid;
use crate::limits::{DIAL_CIRCUITS, DIAL_PATHS, DIAL_STREAMS, FALL_BACK_AFTER, RETRY, RETRY_MAX, has_room};
use crate::shared::{Shared, Target};

/// A handshake that we began.
#[derive(Debug)]
pub(crate) struct Dial {
    target: Target,
    /// What spares a key agreement with a peer that was met before, until it is needed.
    acquaintance: Option<Arc<Acquaintance>>,
    cid: Cid,
    attempts: SmallVec<[Attempt; 1]>,
    paths: SmallVec<[Path; 1]>,
    /// What is to be sent now: an attempt on a path, by their places.
    outbox: SmallVec<[(u8, u8); 2]>,
    /// The path that got something first, for the round trip; none once it was repeated.
    sole: Option<Instant>,
    next_at: Instant,
    interval: Duration,
    end_at: Instant,
    fall_back_at: Option<Instant>,
    held_until: Option<Instant>,
}

#[derive(Debug)]
struct Attempt {
    kind: Kind,
    initiator: Initiator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Resume,
    Ik,
    Xx,
}

/// What an answer to a dial came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A session.
    Established(Box<Established<RespPayload>>, PeerId, Answered),
    /// Another key than the one dialled.
    WrongPeer(PeerId),
    /// It only changes what is sent next.
    Hint,
}

/// How a dial was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) resumed: bool,
    /// The round trip, if it can be told.
    pub(crate) rtt: Option<Duration>,
}

impl Dial {
    pub(crate) fn new(
        shared: &Shared,
        (target, acquaintance): (Target, Option<Arc<Acquaintance>>),
        ticket: Option<Ticket>,
        path: Path,
        cid: Cid,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<Self> {
        let mut dial = Self {
            target,
            acquaintance,
            cid,
            attempts: SmallVec::new(),
            paths: SmallVec::from_buf([path]),
            outbox: SmallVec::new(),
            sole: None,
            next_at: now,
            interval: RETRY,
            end_at: now + shared.config.handshake_timeout,
            fall_back_at: None,
            held_until: None,
        };
        match (target, ticket) {
            (Target::Known(peer), Some(ticket)) if ticket.peer() == peer && ticket.expires() > now => {
                let payload = shared.init_payload(now);
                let initiator = Initiator::resume(ticket, cid, &payload, shared.network(), rng).ok()?;
                dial.attempts.push(Attempt { kind: Kind::Resume, initiator });
                dial.send_all();
            }
            (Target::Known(_), _) => dial.start_ik(shared, rng, now),
            (Target::Anyone, _) => dial.start_xx(shared, rng, now),
        }
        // Nothing that a caller could give makes an attempt fail; without one there is no dial.
        (!dial.attempts.is_empty()).then_some(dial)
    }

    fn start_ik(&mut self, shared: &Shared, rng: &mut Rng, now: Instant) {
        let Target::Known(peer) = self.target else { return };
        if self.attempts.iter().any(|attempt| attempt.kind == Kind::Ik) {
            return;
        }
        let payload = shared.init_payload(now);
        let acquaintance = self.acquaintance.take().or_else(|| Acquaintance::new(&shared.identity, peer));
        let Some(acquaintance) = acquaintance else { return };
        let initiator = Initiator::ik_with(&shared.identity, acquaintance, self.cid, &payload, shared.network(), rng);
        let Ok(initiator) = initiator else { return };
        self.attempts.push(Attempt { kind: Kind::Ik, initiator });
        self.fall_back_at = shared.config.fall_back_to_xx.then(|| now + FALL_BACK_AFTER);
        self.send_last();
    }

    fn start_xx(&mut self, shared: &Shared, rng: &mut Rng, now: Instant) {
        let payload = shared.init_payload(now);
        let Ok(initiator) = Initiator::xx(&shared.identity, self.cid, &payload, shared.network(), rng) else { return };
        self.attempts.push(Attempt { kind: Kind::Xx, initiator });
        self.send_last();
    }

    /// Puts the newest attempt on every path into the outbox.
    fn send_last(&mut self) {
        let Some(last) = self.attempts.len().checked_sub(1) else { return };
        self.outbox.extend((0..self.paths.len()).map(|path| (last as u8, path as u8)));
    }

    /// Puts every attempt on every path into the outbox.
    fn send_all(&mut self) {
        self.outbox.clear();
        for path in 0..self.paths.len() {
            for attempt in 0..self.attempts.len() {
                self.outbox.push((attempt as u8, path as u8));
            }
        }
    }

    /// Tries another address as well; it gets the first messages at once.
    pub(crate) fn also_try(&mut self, path: Path) {
        if self.paths.contains(&path) || !has_room(&self.paths, &path) {
            return;
        }
        self.paths.push(path);
        let at = self.paths.len() - 1;
        self.outbox.extend((0..self.attempts.len()).map(|attempt| (attempt as u8, at as u8)));
    }

    /// Gives up a path that carries nothing any more, and so has room for another one.
    pub(crate) fn lose_path(&mut self, path: &Path) -> bool {
        let Some(at) = self.paths.iter().position(|tried| tried == path) else { return false };
        self.paths.remove(at);
        self.outbox.retain(|(_, path)| usize::from(*path) != at);
        self.outbox.iter_mut().filter(|(_, path)| usize::from(*path) > at).for_each(|(_, path)| *path -= 1);
        true
    }

    /// Keeps quiet until then: the other side's dial goes first.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.held_until = Some(until);
        self.outbox.clear();
    }

    pub(crate) const fn cid(&self) -> Cid {
        self.cid
    }

    /// Whether this is an address that was dialled.
    pub(crate) fn knows(&self, path: &Path) -> bool {
        self.paths.iter().any(|dialled| dialled.link == path.link && dialled.remote == path.remote)
    }

    pub(crate) fn path(&self) -> Option<Path> {
        self.paths.first().copied()
    }

    /// The next datagram to send.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<(Path, &[u8])> {
        if self.held_until.is_some() {
            return None;
        }
        loop {
            if self.outbox.is_empty() {
                return None;
            }
            let (attempt, path) = self.outbox.remove(0);
            let (attempt, path) = (usize::from(attempt), usize::from(path));
            if attempt < self.attempts.len()
                && let Some(path) = self.paths.get(path).copied()
            {
                let first = self.interval == RETRY && self.attempts.len() == 1 && self.paths.len() == 1;
                self.sole = if first && self.sole.is_none() { Some(now) } else { None };
                if self.next_at <= now {
                    self.next_at = now + self.interval;
                }
                return self.attempts.get(attempt).map(|attempt| (path, attempt.initiator.message()));
            }
        }
    }

    /// Lets time pass. False when the dial is over without an answer.
    pub(crate) fn on_timeout(&mut self, shared: &Shared, rng: &mut Rng, now: Instant) -> bool {
        if now >= self.end_at {
            return false;
        }
        if let Some(until) = self.held_until {
            if now < until {
                return true;
            }
            self.held_until = None;
            (self.interval, self.next_at) = (RETRY, now);
        }
        if self.fall_back_at.is_some_and(|at| at <= now) {
            self.fall_back_at = None;
            self.start_xx(shared, rng, now);
        }
        if self.next_at <= now {
            // An unanswered ticket may be unknown to a peer whose word for it was lost: after the second try, ask anew.
            if self.interval > RETRY && self.attempts.iter().all(|attempt| attempt.kind == Kind::Resume) {
                self.start_ik(shared, rng, now);
            }
            self.interval = (self.interval * 2).min(RETRY_MAX);
            self.next_at = now + jittered(self.interval, rng);
            self.send_all();
        }
        true
    }

    /// What is due next.
    pub(crate) fn deadline(&self) -> Instant {
        let next = self.held_until.unwrap_or(self.next_at).min(self.end_at);
        match self.fall_back_at {
            Some(at) if self.held_until.is_none() => next.min(at),
            _ => next,
        }
    }

    /// Takes an answer in. An invalid one changes nothing.
    pub(crate) fn on_answer(
        &mut self,
        shared: &Shared,
        datagram: &[u8],
        rng: &mut Rng,
        now: Instant,
    ) -> Result<Answer, Rejected> {
        use framing::Kind as Wire;
        let Some(&first) = datagram.first() else { return Err(Rejected::Empty) };
        let kind = match Wire::of(first).ok_or(Rejected::UnknownKind)? {
            Wire::Resp => Kind::Ik,
            Wire::Xx2 => Kind::Xx,
            Wire::RespR => Kind::Resume,
            Wire::Cookie => return self.on_cookie(datagram),
            Wire::Retry => return self.on_retry(shared, datagram, rng, now),
            _ => return Err(Rejected::UnknownKind),
        };
        let expected = self.target.id();
        let attempt = self.attempts.iter_mut().find(|attempt| attempt.kind == kind).ok_or(Rejected::Unsolicited)?;
        match attempt.initiator.finish(datagram, expected) {
            Ok(established) => {
                let peer = established.peer.or(expected).ok_or(Rejected::UnknownPeer)?;
                let rtt = self.sole.map(|sent| now.saturating_duration_since(sent));
                Ok(Answer::Established(Box::new(established), peer, Answered { resumed: kind == Kind::Resume, rtt }))
            }
            Err(HandshakeError::WrongPeer { obtained }) => Ok(Answer::WrongPeer(obtained)),
            Err(error) => Err(rejected(&error)),
        }
    }

    fn on_cookie(&mut self, datagram: &[u8]) -> Result<Answer, Rejected> {
        let mut reason = Rejected::Unsolicited;
        for at in 0..self.attempts.len() {
            let Some(attempt) = self.attempts.get_mut(at) else { break };
            match attempt.initiator.on_cookie(datagram) {
                Ok(()) => {
                    // Sent once for each cookie: whoever sends cookies gets no more than it asks for.
                    self.outbox.extend((0..self.paths.len()).map(|path| (at as u8, path as u8)));
                    self.outbox.truncate(2 * (DIAL_PATHS + DIAL_STREAMS + DIAL_CIRCUITS));
                    return Ok(Answer::Hint);
                }
                Err(error) => reason = rejected(&error),
            }
        }
        Err(reason)
    }

    /// The ticket is unknown there, says somebody: the full handshake is tried now rather than a moment later.
    fn on_retry(&mut self, shared: &Shared, datagram: &[u8], rng: &mut Rng, now: Instant) -> Result<Answer, Rejected> {
        if !self.attempts.iter().any(|attempt| attempt.initiator.on_retry(datagram).is_ok()) {
            return Err(Rejected::Unsolicited);
        }
        if self.attempts.iter().any(|attempt| attempt.kind == Kind::Ik) {
            return Err(Rejected::Duplicate);
        }
        self.start_ik(shared, rng, now);
        Ok(Answer::Hint)
    }
}

fn rejected(error: &HandshakeError) -> Rejected {
    match error {
        HandshakeError::WrongKind | HandshakeError::WrongLength { .. } | HandshakeError::WrongVersion => {
            Rejected::Malformed
        }
        HandshakeError::WeakKey | HandshakeError::BadIdentity(_) => Rejected::WeakKey,
        HandshakeError::WrongConnectionId | HandshakeError::Finished => Rejected::Unsolicited,
        _ => Rejected::Unauthentic,
    }
}

/// Up to a quarter more or less, so that those who lost a server together do not come back together.
fn jittered(interval: Duration, rng: &mut Rng) -> Duration {
    interval * 3 / 4 + rng.duration_below(interval / 2)
}
