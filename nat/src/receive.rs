//! What becomes of a datagram, and which of several paths is taken.

use std::time::Instant;

use framing::DecodeError;
use structs::{Path, Rejected};

use crate::candidate::{Candidate, CandidateKind};
use crate::limits;
use crate::plan::Role;
use crate::probe::{Probe, ProbeKind};
use crate::punch::{Chosen, Event, Phase, Punch, Route};
use crate::scope::is_usable;

impl Punch {
    pub(crate) fn receive(&mut self, path: Path, payload: &[u8], now: Instant) -> Result<(), Rejected> {
        let [_, key] = self.keys.as_ref().ok_or(Rejected::Unsolicited)?;
        let probe = Probe::open(payload, key).map_err(|error| match error {
            DecodeError::BadKey => Rejected::Unauthentic,
            error => error.into(),
        })?;
        if Some(probe.attempt) != self.attempt {
            return Err(Rejected::Unsolicited);
        }
        if !is_usable(&path.remote) {
            return Err(Rejected::BadAddress);
        }
        let socket = self.socket(path.link).ok_or(Rejected::BadAddress)?;
        let route = Route { socket, remote: path.remote };
        match probe.kind {
            ProbeKind::Probe => self.on_probe(route, probe.number),
            ProbeKind::Answer => self.on_answer_to(route, probe.number, now),
            ProbeKind::Confirm if self.role == Role::Initiator => {
                if !self.answered.contains(&(probe.number, route)) {
                    return Err(Rejected::Unsolicited);
                }
                self.prove(route, probe.number, now);
                Ok(())
            }
            ProbeKind::Chosen if self.role == Role::Responder => self.on_chosen(route, probe.number, now),
            ProbeKind::Agreed if self.role == Role::Initiator => self.on_agreed(route),
            ProbeKind::Confirm | ProbeKind::Chosen | ProbeKind::Agreed => Err(Rejected::Forbidden),
        }
    }

    /// One of theirs arrived: that much they may know, wherever it came from.
    fn on_probe(&mut self, route: Route, number: u16) -> Result<(), Rejected> {
        if self.phase == Phase::Lingering {
            return Err(Rejected::Late);
        }
        if !self.window.accept(number.into()) {
            return Err(Rejected::Replayed);
        }
        self.send(route, ProbeKind::Answer, number, false)?;
        if self.answered.len() >= limits::MAX_ANSWERED {
            self.answered.pop_front();
        }
        self.answered.push_back((number, route));
        Ok(())
    }

    /// One of ours arrived, and the answer came back the same way.
    fn on_answer_to(&mut self, route: Route, number: u16, now: Instant) -> Result<(), Rejected> {
        if self.sent.get(usize::from(number)) != Some(&route) {
            return Err(Rejected::Unsolicited);
        }
        // Also if the path is known: the last one may have been lost.
        if self.role == Role::Responder && self.phase != Phase::Lingering {
            self.send(route, ProbeKind::Confirm, number, false)?;
        }
        self.prove(route, number, now);
        Ok(())
    }

    fn prove(&mut self, route: Route, number: u16, now: Instant) {
        let known = self.proved.iter().any(|(known, _)| *known == route);
        if known || self.proved.len() >= limits::MAX_PROVED {
            return;
        }
        self.proved.push((route, number));
        if self.role == Role::Responder || self.chosen.is_some() || self.settle_at.is_some() {
            return;
        }
        let rank = self.rank(route);
        let better = self
            .remotes
            .iter()
            .any(|candidate| candidate.rank() < rank && self.schedule.targets().contains(&candidate.addr));
        if better {
            self.settle_at = Some(now + limits::SETTLE);
        } else {
            self.choose(now);
        }
    }

    /// The lower the better.
    fn rank(&self, route: Route) -> u8 {
        let named = self.remotes.iter().find(|candidate| candidate.addr == route.remote);
        let seen = Candidate { kind: CandidateKind::Reflexive, addr: route.remote };
        named.map_or_else(|| seen.rank(), Candidate::rank)
    }

    /// The initiator takes the best of the paths that work.
    pub(crate) fn choose(&mut self, now: Instant) {
        self.settle_at = None;
        let best = self.proved.iter().copied().min_by_key(|(route, _)| self.rank(*route));
        if let Some((route, number)) = best {
            self.chosen = Some(Chosen { route, number, tries: 0, due: Some(now) });
            self.repeat_chosen(now);
        }
    }

    pub(crate) fn repeat_chosen(&mut self, now: Instant) {
        let Some(chosen) = self.chosen.as_mut() else { return };
        if chosen.tries < limits::CHOSEN_TRIES {
            chosen.tries += 1;
            chosen.due = Some(now + limits::CHOSEN_INTERVAL);
            let Chosen { route, number, .. } = *chosen;
            // Without budget it fails like one that does not arrive.
            let _ = self.send(route, ProbeKind::Chosen, number, false);
            return;
        }
        // It worked and does not any more: the next.
        let gone = chosen.route;
        self.chosen = None;
        self.proved.retain(|(route, _)| *route != gone);
        self.choose(now);
    }

    /// The responder is told.
    fn on_chosen(&mut self, route: Route, number: u16, now: Instant) -> Result<(), Rejected> {
        if let Some(chosen) = self.chosen.as_mut() {
            if chosen.route != route || chosen.tries >= limits::CHOSEN_TRIES {
                return Err(Rejected::Duplicate);
            }
            chosen.tries += 1;
            return self.send(route, ProbeKind::Agreed, number, false);
        }
        let known = self.answered.iter().any(|(_, answered)| *answered == route)
            || self.proved.iter().any(|(proved, _)| *proved == route);
        if !known {
            return Err(Rejected::Unproven);
        }
        self.send(route, ProbeKind::Agreed, number, false)?;
        self.chosen = Some(Chosen { route, number, tries: 1, due: None });
        self.schedule = crate::schedule::Schedule::default();
        self.phase = Phase::Lingering;
        self.deadline = Some(now + limits::LINGER);
        self.report_punched(route);
        Ok(())
    }

    fn on_agreed(&mut self, route: Route) -> Result<(), Rejected> {
        if self.chosen.is_none_or(|chosen| chosen.route != route) {
            return Err(Rejected::Unsolicited);
        }
        self.shut();
        self.report_punched(route);
        Ok(())
    }

    fn report_punched(&mut self, route: Route) {
        let link = self.link(route.socket);
        self.events.push_back(Event::Punched { link, remote: route.remote });
    }
}
