//! At which relays the client has a place, and whether those in use are alive.
//!
//! Places are kept in different networks, so that what takes one relay away leaves the other. A relay is asked for a sign of life
//! when it was quiet, and one that gives none is replaced within 20 s of its end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::PeerId;
use framing::voucher::Voucher;
use structs::{Path, Rejected};

use super::{Client, Event, Named};
use crate::message::Request;
use crate::{Code, limits};

/// A relay that the client knows.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) addrs: Vec<SocketAddr>,
    /// The owner suggested it for a place.
    candidate: bool,
    /// In which order relays became known; those that the owner names come before those that were found.
    order: (bool, u64),
    /// What the last attempt came to.
    failed: Option<Code>,
    pub(super) session: Option<Path>,
    /// Until when the owner may take to open a session.
    pub(super) dialling: Option<Instant>,
    /// It is to have, or has, a place for us.
    pub(super) chosen: bool,
    pub(super) place: Place,
    failures: u8,
    skip_until: Option<Instant>,
    /// When the last message or datagram of it came.
    heard: Instant,
    /// When the question was sent to which nothing has come since.
    asked: Option<Instant>,
    /// When the last question was sent.
    pinged: Option<Instant>,
    /// When the first datagram was sent since something came.
    unanswered: Option<Instant>,
    /// Circuits through it.
    pub(super) circuits: usize,
}

/// How it goes with a place at a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status<'a> {
    /// Who.
    pub relay: PeerId,
    /// Where, as far as that is known.
    pub addrs: &'a [SocketAddr],
    /// The path of the session with it.
    pub session: Option<Path>,
    /// What there is.
    pub progress: Progress,
    /// What came of the last attempt, if nothing.
    pub failed: Option<Code>,
    /// Circuits through it.
    pub circuits: usize,
}

/// What there is at a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No place, because others have one for us or because it failed.
    Unused,
    /// A session with it is being opened, or it was asked.
    Asked,
    /// A place.
    Held,
}

/// What we have at a relay.
#[derive(Debug)]
pub(super) enum Place {
    None,
    /// An answer is waited for until then.
    Asked(Instant),
    Held(Held),
}

#[derive(Debug)]
pub(super) struct Held {
    until: Instant,
    renew_at: Instant,
    pub(super) voucher: Voucher,
}

impl Relay {
    const fn new(order: u64, now: Instant) -> Self {
        Self {
            addrs: Vec::new(),
            candidate: false,
            order: (true, order),
            failed: None,
            session: None,
            dialling: None,
            chosen: false,
            place: Place::None,
            failures: 0,
            skip_until: None,
            heard: now,
            asked: None,
            pinged: None,
            unanswered: None,
            circuits: 0,
        }
    }

    fn learn(&mut self, addrs: &[SocketAddr]) {
        if !addrs.is_empty() {
            self.addrs = addrs.iter().take(MAX_ADDRESSES).copied().collect();
        }
    }

    pub(super) fn on_connected(&mut self, path: Path, now: Instant) {
        (self.session, self.dialling) = (Some(path), None);
        self.on_heard(now);
    }

    pub(super) const fn on_heard(&mut self, now: Instant) {
        self.heard = now;
        (self.asked, self.unanswered) = (None, None);
    }

    pub(super) fn on_sent(&mut self, now: Instant) {
        self.unanswered = self.unanswered.or(Some(now));
    }

    /// Whether its silence would matter.
    const fn is_in_use(&self) -> bool {
        self.session.is_some() && (matches!(self.place, Place::Held(_)) || self.circuits > 0)
    }

    /// When it is to be asked for a sign of life.
    fn ask_at(&self) -> Option<Instant> {
        if !self.is_in_use() || self.asked.is_some() {
            return None;
        }
        let unanswered = self.unanswered.map(|since| {
            let at = since + limits::UNANSWERED;
            self.pinged.map_or(at, |pinged| at.max(pinged + 4 * limits::UNANSWERED))
        });
        Some(unanswered.map_or(self.heard + limits::QUIET, |at| at.min(self.heard + limits::QUIET)))
    }

    /// When it counts as silent.
    fn silent_at(&self) -> Option<Instant> {
        self.asked.filter(|_| self.is_in_use()).map(|asked| asked + limits::PATIENCE)
    }

    pub(super) fn status(&self, relay: PeerId) -> Option<Status<'_>> {
        let progress = match self.place {
            Place::Held(_) => Progress::Held,
            Place::None if !self.chosen => Progress::Unused,
            Place::None | Place::Asked(_) => Progress::Asked,
        };
        let (session, failed, circuits) = (self.session, self.failed, self.circuits);
        self.candidate.then_some(Status { relay, addrs: &self.addrs, session, progress, failed, circuits })
    }

    fn deadline(&self) -> Option<Instant> {
        let place = match &self.place {
            Place::None => None,
            Place::Asked(until) => Some(*until),
            Place::Held(held) => Some(held.renew_at.min(held.until)),
        };
        [place, self.dialling, self.ask_at(), self.silent_at()].into_iter().flatten().min()
    }
}

impl Client {
    /// Suggests a relay for a place, or tells where a known one is. `session` is the path of the open session with it, if there
    /// is one. Says whether there was room for it.
    pub fn suggest(&mut self, named: &Named, session: Option<Path>, now: Instant) -> bool {
        self.tick(now);
        let known = self.know(named, session);
        if let Some(relay) = self.relays.get_mut(&named.relay) {
            relay.candidate = true;
            relay.learn(&named.addrs);
        }
        self.choose();
        known
    }

    /// Whether a relay is known, so that naming it again makes nobody be dialled anew.
    #[must_use]
    pub fn knows(&self, relay: &PeerId) -> bool {
        self.relays.contains_key(relay)
    }

    /// Says that a relay was named by the owner himself, and comes before those that were found.
    pub fn prefer(&mut self, relay: &PeerId) {
        if let Some(known) = self.relays.get_mut(relay) {
            known.order.0 = false;
        }
    }

    /// Takes a suggestion back; a place there is given up.
    pub fn forget(&mut self, relay: &PeerId, now: Instant) {
        self.tick(now);
        let Some(known) = self.relays.get_mut(relay) else { return };
        known.candidate = false;
        if known.chosen {
            if known.session.is_some() {
                self.send(*relay, Request::Release);
            }
            self.lose_place(relay);
            if let Some(known) = self.relays.get_mut(relay) {
                known.chosen = false;
            }
        }
        self.choose();
    }

    /// Remembers a relay. What is not in use makes room.
    pub(super) fn know(&mut self, named: &Named, session: Option<Path>) -> bool {
        if self.closed || named.relay == self.own {
            return false;
        }
        if !self.relays.contains_key(&named.relay) {
            if self.relays.len() >= limits::MAX_RELAYS {
                let idle = |(peer, relay): (&PeerId, &Relay)| {
                    (!relay.candidate && relay.circuits == 0 && !self.awaits(peer)).then_some((relay.order, *peer))
                };
                let Some((_, oldest)) = self.relays.iter().filter_map(idle).min() else { return false };
                self.relays.remove(&oldest);
                self.outbox.forget(&oldest);
            }
            self.next_relay += 1;
            self.relays.insert(named.relay, Relay::new(self.next_relay, self.now));
        }
        let Some(relay) = self.relays.get_mut(&named.relay) else { return false };
        // A peer that names a relay says nothing of where those are that were suggested to us.
        if !relay.candidate || relay.addrs.is_empty() {
            relay.learn(&named.addrs);
        }
        if let (None, Some(path)) = (relay.session, session) {
            self.connected(named.relay, path, self.now);
        }
        true
    }

    /// Chooses relays until there are enough.
    pub(super) fn choose(&mut self) {
        while !self.closed && self.relays.values().filter(|relay| relay.chosen).count() < self.config.wanted {
            let networks = self.config.networks;
            let place = |relay: &Relay| {
                let addr = relay.session.map(|path| path.remote).or_else(|| relay.addrs.first().copied());
                addr.and_then(|addr| networks.of(addr.ip()))
            };
            let taken: Vec<_> = self.relays.values().filter(|relay| relay.chosen).filter_map(place).collect();
            let free = |relay: &Relay| {
                relay.candidate
                    && !relay.chosen
                    && relay.skip_until.is_none_or(|until| until <= self.now)
                    && (relay.session.is_some() || !relay.addrs.is_empty())
                    && place(relay).is_none_or(|place| taken.iter().all(|other| !place.is_near(other)))
            };
            let best = self.relays.iter().filter(|(_, relay)| free(relay));
            let best = best.min_by_key(|(_, relay)| {
                let (found, order) = relay.order;
                (found, relay.session.is_none(), relay.failures, order)
            });
            let Some(peer) = best.map(|(peer, _)| *peer) else { return };
            self.take(peer);
        }
    }

    /// Asks a relay for a place.
    fn take(&mut self, peer: PeerId) {
        let (now, show) = (self.now, self.config.show);
        let Some(relay) = self.relays.get_mut(&peer) else { return };
        relay.chosen = true;
        relay.skip_until = None;
        if relay.session.is_some() {
            relay.place = Place::Asked(now + limits::ANSWER);
            self.send(peer, Request::Reserve { show });
        } else {
            self.dial(peer);
        }
    }

    /// Has the owner open a session with a relay, unless that is under way.
    pub(super) fn dial(&mut self, peer: PeerId) {
        let now = self.now;
        if let Some(relay) = self.relays.get_mut(&peer)
            && relay.dialling.is_none()
        {
            relay.dialling = Some(now + limits::DIAL);
            self.events.push_back(Event::Dial { relay: peer, addrs: relay.addrs.clone() });
        }
    }

    pub(super) fn on_reserved(&mut self, from: PeerId, lifetime: Duration, voucher: &[u8]) -> Result<(), Rejected> {
        let (now, own) = (self.now, self.own);
        let relay = self.relays.get_mut(&from).filter(|relay| relay.chosen).ok_or(Rejected::Unsolicited)?;
        // Whether it holds by our clock is no matter: those who are shown it have clocks of their own.
        let voucher =
            Voucher::decode(voucher).ok().filter(|voucher| voucher.relay() == from && voucher.client() == own);
        let Some(voucher) = voucher else {
            self.give_up(&from, Code::REFUSED);
            return Err(Rejected::Unauthentic);
        };
        let lifetime = lifetime.clamp(MIN_LIFETIME, limits::RESERVATION * 24);
        relay.place = Place::Held(Held { until: now + lifetime, renew_at: now + lifetime / 2, voucher });
        (relay.failures, relay.failed) = (0, None);
        self.changed();
        Ok(())
    }

    pub(super) fn on_refused(&mut self, from: PeerId, code: Code, wait: Duration) -> Result<(), Rejected> {
        let relay = self.relays.get(&from).filter(|relay| relay.chosen);
        relay.ok_or(Rejected::Unsolicited)?;
        self.events.push_back(Event::Refused { relay: from, code });
        self.lose_place(&from);
        let until = self.now + wait.clamp(limits::RETRY, limits::RESERVATION);
        if let Some(relay) = self.relays.get_mut(&from) {
            (relay.chosen, relay.skip_until, relay.failed) = (false, Some(until), Some(code));
        }
        self.choose();
        Ok(())
    }

    /// What is due at relays.
    pub(super) fn check_relays(&mut self) {
        let now = self.now;
        let due = |(peer, relay): (&PeerId, &Relay)| relay.deadline().is_some_and(|at| at <= now).then_some(*peer);
        let due: Vec<PeerId> = self.relays.iter().filter_map(due).collect();
        due.into_iter().for_each(|peer| self.check_relay(peer));
    }

    fn check_relay(&mut self, peer: PeerId) {
        let (now, show) = (self.now, self.config.show);
        let past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let Some(relay) = self.relays.get_mut(&peer) else { return };
        if past(relay.dialling) {
            relay.dialling = None;
            return self.give_up(&peer, Code::UNREACHABLE);
        }
        if past(relay.silent_at()) {
            return self.fall_silent(&peer);
        }
        if past(relay.ask_at()) {
            (relay.asked, relay.pinged) = (Some(now), Some(now));
            let data = self.rng.array();
            self.send(peer, Request::Ping(data));
        }
        let Some(relay) = self.relays.get_mut(&peer) else { return };
        match &mut relay.place {
            Place::Asked(until) if *until <= now => self.give_up(&peer, Code::SILENT),
            Place::Held(held) if held.until <= now => self.give_up(&peer, Code::SILENT),
            Place::Held(held) if held.renew_at <= now => {
                // Asked again if that is lost with a session, or refused without a word.
                held.renew_at = now + (held.until.saturating_duration_since(now) / 2).max(MIN_LIFETIME / 2);
                self.send(peer, Request::Reserve { show });
            }
            _ => {}
        }
    }

    /// Asks the relays in use for a sign of life, but for those that were asked a moment ago.
    pub(super) fn ask_relays(&mut self) {
        let now = self.now;
        let may = |relay: &Relay| {
            let lately = relay.pinged.is_some_and(|pinged| now < pinged + limits::UNANSWERED);
            relay.is_in_use() && relay.asked.is_none() && !lately
        };
        let due: Vec<PeerId> = self.relays.iter().filter_map(|(peer, relay)| may(relay).then_some(*peer)).collect();
        for peer in due {
            if let Some(relay) = self.relays.get_mut(&peer) {
                (relay.asked, relay.pinged) = (Some(now), Some(now));
                let data = self.rng.array();
                self.send(peer, Request::Ping(data));
            }
        }
    }

    /// Something with a relay went wrong: it has no place for us, and those who wait for it go on without.
    pub(super) fn give_up(&mut self, peer: &PeerId, code: Code) {
        self.lose_circuits(peer, code);
        self.lose_place(peer);
        let now = self.now;
        if let Some(relay) = self.relays.get_mut(peer) {
            (relay.chosen, relay.dialling, relay.failed) = (false, None, Some(code));
            relay.failures += 1;
            let wait = if relay.failures >= limits::FAILURES {
                relay.failures = 0;
                limits::BANISHED
            } else {
                limits::RETRY * u32::from(relay.failures)
            };
            relay.skip_until = Some(now + wait);
        }
        self.attempts_failed(peer, code);
        self.choose();
    }

    /// A relay in use gives no sign of life. Its session may find out later.
    pub(super) fn fall_silent(&mut self, peer: &PeerId) {
        if let Some(relay) = self.relays.get_mut(peer) {
            relay.failures = limits::FAILURES;
            relay.asked = None;
        }
        self.give_up(peer, Code::SILENT);
    }

    /// There is no place at a relay any more.
    pub(super) fn lose_place(&mut self, peer: &PeerId) {
        if let Some(relay) = self.relays.get_mut(peer)
            && let Place::Held(_) = std::mem::replace(&mut relay.place, Place::None)
        {
            self.changed();
        }
    }

    /// The owner asks what there is when it is told, so once is enough.
    fn changed(&mut self) {
        if !self.events.contains(&Event::Changed) {
            self.events.push_back(Event::Changed);
        }
    }

    pub(super) fn relays_deadline(&self) -> Option<Instant> {
        let chosen = self.relays.values().filter(|relay| relay.chosen).count();
        let retry = |relay: &Relay| relay.skip_until.filter(|at| relay.candidate && !relay.chosen && *at > self.now);
        let retry = self.relays.values().filter_map(retry).min().filter(|_| chosen < self.config.wanted);
        self.relays.values().filter_map(Relay::deadline).chain(retry).min()
    }
}

/// Addresses of a relay that are remembered.
const MAX_ADDRESSES: usize = 8;
/// The shortest time for which a place is believed to be given: who gives less is asked no more often.
const MIN_LIFETIME: Duration = Duration::from_mins(1);
