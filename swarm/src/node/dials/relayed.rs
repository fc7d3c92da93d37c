//! Dials through relays: the relays of a peer, those that our owner named, and circuits on their way to become sessions.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use peer::{Handle, Target};
use relay::Code;
use relay::client::{AttemptId, Named};
use structs::Path;

use super::{Dial, MAX_DIALS, Via, cost};
use crate::node::{Event, Node};
use crate::{DialError, DialId, DialWay, PeerId};

impl Node {
    /// Dials a peer at these addresses, and through these relays of it: at once if there is no address, otherwise when nobody
    /// has answered for half a second. A session through a relay moves to a direct path when one proves itself.
    ///
    /// # Errors
    ///
    /// [`DialError`]; nothing was sent then.
    pub fn dial_via(
        &mut self,
        peer: PeerId,
        addrs: &[SocketAddr],
        relays: &[Named],
        now: Instant,
    ) -> Result<DialId, DialError> {
        self.dial_by(peer, addrs, relays, DialWay::Any, now)
    }

    /// As [`dial_via`](Self::dial_via), by certain ways only. Where relays may be used, those that our owner named are asked
    /// too, after the peer's. A peer that is connected already stays connected as it is.
    ///
    /// # Errors
    ///
    /// [`DialError`]; nothing was sent then.
    pub fn dial_by(
        &mut self,
        peer: PeerId,
        addrs: &[SocketAddr],
        relays: &[Named],
        way: DialWay,
        now: Instant,
    ) -> Result<DialId, DialError> {
        let addrs = if way == DialWay::Relayed { &[] } else { addrs };
        let mut relays = if way == DialWay::Direct { Vec::new() } else { merged(relays) };
        if way == DialWay::Any && !(addrs.is_empty() && relays.is_empty()) {
            relays.extend(self.own_relays(&peer, &relays));
        }
        if way == DialWay::Relayed && relays.is_empty() {
            return Err(DialError::NoAddress);
        }
        if self.session(&peer).is_none() && !self.relays.hints.set_way(&peer, way) {
            return Err(DialError::TooMany { limit: MAX_DIALS });
        }
        let id = match self.dial(Some(peer), addrs, now) {
            Err(DialError::NoAddress | DialError::BadAddress { .. } | DialError::NoWay { .. })
                if !relays.is_empty() =>
            {
                self.dial_nowhere(Some(peer))?
            }
            other => other?,
        };
        if let Some(dial) = self.dials.dials.get_mut(&id) {
            dial.way = way;
        }
        if let Some(dial) = self.dials.dials.get_mut(&id)
            && !relays.is_empty()
        {
            let at = if dial.sessions.is_empty() { self.now } else { self.now + RELAYS_AFTER };
            dial.via = Some(Box::new(Via { relays, at: Some(at), attempt: None, failed: None }));
            self.dial_through_relays();
        }
        Ok(id)
    }

    /// Asks the relays of those who did not answer.
    pub(in crate::node) fn dial_through_relays(&mut self) {
        let now = self.now;
        let due = |(id, dial): (&DialId, &Dial)| {
            let at = dial.via.as_ref()?.at?;
            // What waits for the end of a session is not sent elsewhere meanwhile.
            (at <= now && !dial.again).then_some(*id)
        };
        let due: Vec<DialId> = self.dials.dials.iter().filter_map(due).collect();
        for id in due {
            let Some(dial) = self.dials.dials.get_mut(&id) else { continue };
            let (Some(peer), Some(via)) = (dial.expected, dial.via.as_mut()) else { continue };
            via.at = None;
            let (mut relays, show) = (via.relays.clone(), dial.way != DialWay::Relayed);
            // A relay that is asked again ends the circuit before, and the handshake in it.
            let under_way = self.dialled_through(&peer, &mut relays);
            let attempt = if relays.is_empty() { None } else { self.connect_via(peer, &relays, show) };
            if let Some(dial) = self.dials.dials.get_mut(&id)
                && let Some(via) = dial.via.as_mut()
            {
                via.attempt = attempt;
                via.failed = (attempt.is_none() && under_way.is_none()).then_some(Code::UNREACHABLE);
                dial.sessions.extend(under_way.filter(|handle| !dial.sessions.contains(handle)));
            }
            // Not before: the attempt may be over at once.
            self.drive_relays();
            self.fail_unrelayed();
        }
    }

    /// Takes those relays out whose circuits a handshake with the peer goes through already, and returns that handshake.
    fn dialled_through(&self, peer: &PeerId, relays: &mut Vec<Named>) -> Option<Handle> {
        let key = crypto::PeerId::try_from(*peer).ok()?;
        let handle = self.endpoint.by_id(&key)?;
        let dial = self.endpoint.peer(handle)?;
        let client = &self.relays.client;
        let tried = client.circuits_to(&key).filter(|path| dial.tries(path));
        let tried: Vec<_> = tried.filter_map(|path| Some(client.circuit(path.link)?.1)).collect();
        relays.retain(|named| !tried.contains(&named.relay));
        (!tried.is_empty()).then_some(handle)
    }

    /// When relays are asked next.
    pub(in crate::node) fn relays_asked_at(&self) -> Option<Instant> {
        let at = |dial: &Dial| dial.via.as_ref().filter(|_| !dial.again)?.at;
        self.dials.dials.values().filter_map(at).min()
    }

    /// A circuit to a peer is open: it is dialled there, or its session gets one more path.
    pub(in crate::node) fn dial_circuit(&mut self, peer: crypto::PeerId, path: Path) {
        let now = self.now;
        if let Some(handle) = self.session(&PeerId::from(peer)) {
            self.endpoint.with(handle, now, |session, now| session.add_path(path, now));
            return;
        }
        let dialled = self.endpoint.dial(Target::Known(peer), path, now);
        let (Ok(handle) | Err(peer::DialError::AlreadyConnected(handle))) = dialled else { return };
        let wanted = |dial: &&mut Dial| dial.expected == Some(PeerId::from(peer)) && !dial.again;
        for dial in self.dials.dials.values_mut().filter(wanted) {
            if !dial.sessions.contains(&handle) {
                dial.sessions.push(handle);
            }
        }
    }

    /// An attempt to open circuits is over: it came to nothing, or, [`Code::NO_ANSWER`], to circuits that lead to the peer if
    /// it answers there.
    pub(in crate::node) fn attempt_over(&mut self, attempt: AttemptId, code: Code) {
        for via in self.dials.dials.values_mut().filter_map(|dial| dial.via.as_mut()) {
            if via.attempt == Some(attempt) {
                (via.attempt, via.failed) = (None, Some(code));
            }
        }
        self.fail_unrelayed();
    }

    /// Fails the dials for which nothing is left to try.
    pub(in crate::node) fn fail_unrelayed(&mut self) {
        let (events, candidates, now) = (&mut self.events, &mut self.candidates, self.now);
        self.dials.dials.retain(|id, dial| {
            let over = dial.via.is_some() && dial.is_over();
            if over {
                let error = dial.unrelayed(now).unwrap_or(DialError::NoAddress);
                dial.addrs.iter().filter(|_| dial.suggested).for_each(|addr| candidates.failed(*addr, false, now));
                events.push_back(Event::DialFailed { id: *id, error });
            }
            !over
        });
    }

    /// Gives the dials of a peer relays to try, if they have none and may. Says whether the peer is being dialled.
    pub(in crate::node) fn also_via(&mut self, peer: &PeerId, relays: &[Named]) -> bool {
        let now = self.now;
        let mut is_dialled = self.is_dialled(peer);
        // Relays that others name are dialled as rarely as addresses that they name.
        if !is_dialled || relays.is_empty() || !self.dials.suggested.try_take(cost(&[], relays), now) {
            return is_dialled;
        }
        for dial in self.dials.dials.values_mut().filter(|dial| dial.expected == Some(*peer)) {
            is_dialled = true;
            let over = dial.via.as_ref().is_none_or(|via| via.at.is_none() && via.attempt.is_none());
            if over && dial.way == DialWay::Any && !relays.is_empty() {
                let at = now.max(dial.since + RELAYS_AFTER);
                let relays = relays.to_vec();
                dial.via = Some(Box::new(Via { relays, at: Some(at), attempt: None, failed: None }));
            }
        }
        self.dial_through_relays();
        is_dialled
    }

    /// Whether a relay may be dialled at addresses that somebody else named.
    pub(in crate::node) fn may_dial_relay(&mut self, addrs: &[SocketAddr]) -> bool {
        let now = self.now;
        addrs.iter().all(|addr| self.candidates.may_reach(addr.ip(), now))
            && self.dials.suggested.try_take(u32::try_from(addrs.len()).unwrap_or(u32::MAX), now)
    }
}

/// Relays, each once, with all of its addresses.
fn merged(relays: &[Named]) -> Vec<Named> {
    let mut merged: Vec<Named> = Vec::new();
    for named in relays {
        match merged.iter_mut().find(|known| known.relay == named.relay) {
            Some(known) => {
                let fresh: Vec<SocketAddr> =
                    named.addrs.iter().copied().filter(|addr| !known.addrs.contains(addr)).collect();
                known.addrs.extend(fresh);
            }
            None => merged.push(named.clone()),
        }
    }
    merged
}

/// How long addresses alone are tried before relays are asked.
const RELAYS_AFTER: Duration = Duration::from_millis(500);
