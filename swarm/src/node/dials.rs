//! Dials, each with one or more addresses, and what becomes of them.

mod relayed;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use framing::scope::is_usable;
use peer::{Handle, Reason, Target};
use relay::Code;
use relay::client::{AttemptId, Named};
use structs::TokenBucket;

use super::Node;
use super::event::Event;
use crate::{DialError, DialId, DialWay, PeerId};

/// The dials under way.
#[derive(Debug)]
pub(super) struct Dials {
    next: u64,
    dials: BTreeMap<DialId, Dial>,
    /// Dials that others cause.
    suggested: TokenBucket,
    /// Addresses whose owner is to dial us first, and until when that is waited for.
    postponed: BTreeMap<SocketAddr, Instant>,
}

/// One dial: it ends with the first of its sessions that opens, or with the last that fails.
#[derive(Debug)]
struct Dial {
    expected: Option<PeerId>,
    addrs: Vec<SocketAddr>,
    sessions: Vec<Handle>,
    since: Instant,
    /// It waits for the end of a session with the peer, to which we said goodbye.
    again: bool,
    /// Somebody else named the addresses.
    suggested: bool,
    way: DialWay,
    /// How it is tried through relays.
    via: Option<Box<Via>>,
}

/// A dial through the relays of the peer.
#[derive(Debug)]
struct Via {
    relays: Vec<Named>,
    /// When they are asked for circuits; `None` when they were.
    at: Option<Instant>,
    /// What asks them.
    attempt: Option<AttemptId>,
    /// What came of it.
    failed: Option<Code>,
}

impl Dials {
    pub(super) fn new(now: Instant) -> Self {
        let (rate, burst) = SUGGESTED_RATE;
        Self {
            next: 0,
            dials: BTreeMap::new(),
            suggested: TokenBucket::new(rate, burst, now),
            postponed: BTreeMap::new(),
        }
    }

    /// When the next postponed dial is due.
    pub(super) fn postponed(&self) -> Option<Instant> {
        self.postponed.values().min().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.dials.len()
    }

    pub(super) fn is_under_way(&self, id: DialId) -> bool {
        self.dials.contains_key(&id)
    }

    /// Whom a dial is for, unless it waits for the end of a session.
    pub(super) fn expected(&self, id: DialId) -> Option<Option<PeerId>> {
        self.dials.get(&id).filter(|dial| !dial.again).map(|dial| dial.expected)
    }

    /// A dial may end with this session too.
    pub(super) fn also(&mut self, id: DialId, session: Handle) {
        if let Some(dial) = self.dials.get_mut(&id)
            && !dial.sessions.contains(&session)
        {
            dial.sessions.push(session);
        }
    }
}

impl Node {
    /// Dials a peer at all of these addresses at once: the holder of a key, or whoever answers first. Ends with
    /// [`Event::Dialled`] or [`Event::DialFailed`] carrying the id.
    ///
    /// # Errors
    ///
    /// [`DialError`]; nothing was sent then.
    pub fn dial(&mut self, peer: Option<PeerId>, addrs: &[SocketAddr], now: Instant) -> Result<DialId, DialError> {
        self.tick(now);
        if self.ending {
            return Err(DialError::Closed);
        }
        let target = match peer {
            Some(peer) if peer == self.id() => return Err(DialError::OwnKey),
            Some(peer) => {
                let met = self.endpoint.met(peer.as_bytes()).map(Ok);
                let id = met.unwrap_or_else(|| crypto::PeerId::try_from(peer));
                Target::Known(id.map_err(|_not_a_key| DialError::BadKey { peer })?)
            }
            None => Target::Anyone,
        };
        if let Some((peer, handle)) = peer.and_then(|peer| Some((peer, self.session(&peer)?)))
            && self.sessions.get(&handle).is_some_and(|session| session.ending)
        {
            let id = self.next_dial();
            let (addrs, since) = (addrs.to_vec(), self.now);
            let dial = Dial {
                expected: Some(peer),
                addrs,
                sessions: vec![handle],
                since,
                again: true,
                suggested: false,
                way: DialWay::Any,
                via: None,
            };
            self.dials.dials.insert(id, dial);
            return Ok(id);
        }
        if let Some(open) = peer.and_then(|peer| self.by_peer.get(&peer).map(|_| peer)).or_else(|| self.at(peer, addrs))
        {
            let id = self.next_dial();
            self.events.push_back(Event::Dialled { id, peer: open });
            return Ok(id);
        }
        let Some(first) = addrs.first() else { return Err(DialError::NoAddress) };
        if self.dials.dials.len() >= MAX_DIALS {
            return Err(DialError::TooMany { limit: MAX_DIALS });
        }
        let mut sessions = Vec::new();
        let mut refused = DialError::BadAddress { addr: *first };
        for &addr in addrs.iter().take(MAX_ADDRESSES) {
            if !is_usable(&addr) {
                continue;
            }
            let Some(path) = self.ways.to(addr) else {
                refused = DialError::NoWay { addr };
                continue;
            };
            match self.endpoint.dial(target, path, self.now) {
                Ok(handle) | Err(peer::DialError::AlreadyConnected(handle)) => {
                    if !sessions.contains(&handle) {
                        sessions.push(handle);
                    }
                }
                Err(peer::DialError::Closed) => refused = DialError::Closed,
                Err(peer::DialError::SelfDial) => refused = DialError::OwnKey,
                Err(_) => refused = DialError::Full { limit: self.endpoint.stats().peers },
            }
        }
        if sessions.is_empty() {
            return Err(refused);
        }
        let id = self.next_dial();
        let dial = Dial {
            expected: peer,
            addrs: addrs.to_vec(),
            sessions,
            since: self.now,
            again: false,
            suggested: false,
            way: DialWay::Any,
            via: None,
        };
        self.dials.dials.insert(id, dial);
        Ok(id)
    }

    /// A dial without addresses, which are to come.
    pub(super) fn dial_nowhere(&mut self, peer: Option<PeerId>) -> Result<DialId, DialError> {
        if self.dials.dials.len() >= MAX_DIALS {
            return Err(DialError::TooMany { limit: MAX_DIALS });
        }
        let id = self.next_dial();
        let dial = Dial {
            expected: peer,
            addrs: Vec::new(),
            sessions: Vec::new(),
            since: self.now,
            again: false,
            suggested: false,
            way: DialWay::Any,
            via: None,
        };
        self.dials.dials.insert(id, dial);
        Ok(id)
    }

    /// Ends a dial for which there is nothing to try, and says whether it was one.
    pub(super) fn end_empty_dial(&mut self, id: DialId) -> bool {
        let is_empty = self.dials.dials.get(&id).is_some_and(Dial::is_over);
        if is_empty {
            self.dials.dials.remove(&id);
        }
        is_empty
    }

    /// Whether somebody waits for a peer.
    pub(crate) fn is_dialled(&self, peer: &PeerId) -> bool {
        self.dials.dials.values().any(|dial| dial.expected == Some(*peer))
    }

    /// The addresses at which dials of our owner try to reach a peer.
    pub(super) fn addrs_dialled(&self, peer: &PeerId) -> Vec<SocketAddr> {
        let of = self.dials.dials.values().filter(|dial| dial.expected == Some(*peer) && !dial.suggested);
        of.flat_map(|dial| &dial.addrs).copied().take(MAX_ADDRESSES).collect()
    }

    fn next_dial(&mut self) -> DialId {
        self.dials.next += 1;
        DialId(self.dials.next)
    }

    /// Who is connected at one of these addresses, if anybody will do.
    fn at(&self, expected: Option<PeerId>, addrs: &[SocketAddr]) -> Option<PeerId> {
        let anybody = expected.is_none();
        self.sessions
            .values()
            .find(|session| anybody && addrs.contains(&session.addr) && !session.relayed)
            .map(|session| session.peer)
    }

    /// Dials an address that a beacon named: at once, or, where the other side goes first, only if it has not come by
    /// then. Two dials at once would cross, and what is sent in the session that goes is lost.
    pub(super) fn suggest(&mut self, addr: SocketAddr, first: bool) {
        if first {
            self.dial_suggested(None, &[addr], &[]);
        } else if self.dials.postponed.len() < MAX_POSTPONED {
            let at = self.now + POSTPONED;
            self.dials.postponed.entry(addr).or_insert(at);
        }
    }

    /// Dials those who have not come.
    pub(super) fn dial_postponed(&mut self) {
        let now = self.now;
        let due = |(addr, at): (&SocketAddr, &Instant)| (*at <= now).then_some(*addr);
        let due: Vec<SocketAddr> = self.dials.postponed.iter().filter_map(due).collect();
        for addr in due {
            self.dials.postponed.remove(&addr);
            self.dial_suggested(None, &[addr], &[]);
        }
    }

    /// Dials addresses that somebody else named, and through these relays, if few enough are, and says whether.
    pub(super) fn dial_suggested(&mut self, peer: Option<PeerId>, addrs: &[SocketAddr], relays: &[Named]) -> bool {
        let is_dialled = peer.is_some_and(|peer| self.also_via(&peer, relays));
        let relays = if is_dialled { &[] } else { relays };
        let is_new = |addr: &SocketAddr| {
            let dialled = self.dials.dials.values().any(|dial| dial.addrs.contains(addr));
            !dialled && self.at(None, &[*addr]).is_none()
        };
        let addrs: Vec<SocketAddr> = addrs.iter().copied().filter(is_new).collect();
        let cost = cost(&addrs, relays);
        if addrs.is_empty() && relays.is_empty()
            || self.dials.dials.len() >= MAX_DIALS / 2
            || !self.dials.suggested.try_take(cost, self.now)
        {
            return false;
        }
        // Nobody waits for it: a failure is told, and that is all.
        let dialled = match peer.filter(|_| !relays.is_empty()) {
            Some(peer) => self.dial_via(peer, &addrs, relays, self.now),
            None => self.dial(peer, &addrs, self.now),
        };
        let Ok(id) = dialled else { return false };
        if let Some(dial) = self.dials.dials.get_mut(&id) {
            dial.suggested = true;
        }
        true
    }

    /// A session is open: the dials that wanted it have succeeded, and what else they tried is given up.
    pub(super) fn dial_reached(&mut self, handle: Handle, peer: PeerId) {
        let done = |dial: &Dial| dial.sessions.contains(&handle) || dial.expected == Some(peer);
        let ids: Vec<DialId> = self.dials.dials.iter().filter(|(_, dial)| done(dial)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(dial) = self.dials.dials.remove(&id) else { continue };
            self.streams.dial_over(id);
            self.events.push_back(Event::Dialled { id, peer });
            self.silence.remember(peer, dial.via.map(|via| via.relays).unwrap_or_default());
            for other in dial.sessions.into_iter().filter(|other| *other != handle) {
                let wanted = self.dials.dials.values().any(|dial| dial.sessions.contains(&other));
                if !wanted && !self.sessions.contains_key(&other) {
                    let now = self.now;
                    self.endpoint.with(other, now, |session, now| {
                        session.close(super::LEAVING, "", Duration::ZERO, now);
                    });
                }
            }
        }
    }

    /// Our own key answered.
    pub(super) fn dial_reached_ourselves(&mut self, handle: Handle) {
        self.fail(handle, |dial| DialError::Ourselves { addr: dial.first() });
    }

    /// A session is over, perhaps before it was one.
    pub(super) fn dial_ended(&mut self, handle: Handle, reason: &Reason) {
        let now = self.now;
        // Its place may have been taken by one that the other side began.
        let instead = |node: &Self, dial: &Dial| {
            let taken = *reason == Reason::Replaced;
            taken.then(|| {
                dial.expected.filter(|peer| node.by_peer.contains_key(peer)).or_else(|| node.at(None, &dial.addrs))
            })
        };
        let ids: Vec<DialId> =
            self.dials.dials.iter().filter(|(_, dial)| dial.sessions.contains(&handle)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(dial) = self.dials.dials.get(&id) else { continue };
            if let Some(peer) = instead(self, dial).flatten() {
                self.dials.dials.remove(&id);
                self.events.push_back(Event::Dialled { id, peer });
            }
        }
        self.dial_again(handle);
        let own = self.id();
        self.fail(handle, |dial| match reason {
            Reason::WrongPeer { obtained } if PeerId::from(*obtained) == own => {
                DialError::Ourselves { addr: dial.first() }
            }
            Reason::WrongPeer { obtained } => {
                DialError::WrongPeer { addr: dial.first(), obtained: PeerId::from(*obtained) }
            }
            Reason::NoCommonVersion => DialError::NoCommonVersion { addr: dial.first() },
            Reason::Local { .. } | Reason::Abandoned => DialError::Closed,
            Reason::Remote { code, .. } => DialError::Refused { addr: dial.first(), code: *code },
            _ => DialError::NoAnswer { addr: dial.first(), after: now.saturating_duration_since(dial.since) },
        });
    }

    /// The session that dials waited for the end of has ended.
    fn dial_again(&mut self, handle: Handle) {
        let waits = |dial: &Dial| dial.again && dial.sessions.contains(&handle);
        let ids: Vec<DialId> = self.dials.dials.iter().filter(|(_, dial)| waits(dial)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(dial) = self.dials.dials.remove(&id) else { continue };
            let relays = dial.via.map(|via| via.relays).unwrap_or_default();
            let result = match dial.expected {
                Some(peer) => self.dial_by(peer, &dial.addrs, &relays, dial.way, self.now),
                None => self.dial(None, &dial.addrs, self.now),
            };
            match result {
                // Whoever waits knows it by its first name.
                Ok(other) => {
                    if let Some(dial) = self.dials.dials.remove(&other) {
                        self.dials.dials.insert(id, dial);
                    } else {
                        self.rename_dial(other, id);
                    }
                }
                Err(error) => self.events.push_back(Event::DialFailed { id, error }),
            }
        }
    }

    /// What has been told of one dial was meant for another.
    fn rename_dial(&mut self, from: DialId, to: DialId) {
        for event in &mut self.events {
            match event {
                Event::Dialled { id, .. } | Event::DialFailed { id, .. } if *id == from => *id = to,
                _ => {}
            }
        }
    }

    /// Takes a session from the dials that it belonged to, and fails those it was the last of.
    fn fail(&mut self, handle: Handle, error: impl Fn(&Dial) -> DialError) {
        let (events, lan, candidates, now) = (&mut self.events, &mut self.lan, &mut self.candidates, self.now);
        self.dials.dials.retain(|id, dial| {
            if !dial.sessions.contains(&handle) {
                return true;
            }
            dial.sessions.retain(|other| *other != handle);
            if let Some(via) = dial.via.as_mut().filter(|_| dial.sessions.is_empty()) {
                via.at = via.at.map(|at| at.min(now));
            }
            if dial.is_over() {
                // What somebody said counts for more than that nobody did.
                let error = match error(dial) {
                    silence @ DialError::NoAnswer { .. } => dial.unrelayed(now).unwrap_or(silence),
                    error => error,
                };
                for addr in dial.addrs.iter().filter(|_| dial.suggested) {
                    candidates.failed(*addr, matches!(error, DialError::Ourselves { .. }), now);
                    if let Some(lan) = lan {
                        lan.silent(*addr, now);
                    }
                }
                events.push_back(Event::DialFailed { id: *id, error });
            }
            !dial.is_over()
        });
    }

    /// The node ends.
    pub(super) fn fail_dials(&mut self) {
        self.dials.postponed.clear();
        for (id, _) in std::mem::take(&mut self.dials.dials) {
            self.events.push_back(Event::DialFailed { id, error: DialError::Closed });
        }
    }
}

impl Dial {
    /// Whether nothing is left that could succeed.
    fn is_over(&self) -> bool {
        let waits = self.via.as_ref().is_some_and(|via| via.at.is_some() || via.attempt.is_some());
        self.sessions.is_empty() && !waits
    }

    /// What to say of a dial that relays did not help.
    fn unrelayed(&self, now: Instant) -> Option<DialError> {
        let via = self.via.as_ref()?;
        let after = now.saturating_duration_since(self.since);
        Some(DialError::Unrelayed { after, relays: via.relays.len(), reason: via.failed? })
    }

    /// The address to name in an error; that of a relay, if the peer has none.
    fn first(&self) -> SocketAddr {
        let relay = || self.via.as_ref()?.relays.iter().find_map(|named| named.addrs.first());
        self.addrs.first().or_else(relay).copied().unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
    }
}

/// What a dial costs that somebody else causes: a token for each address, of relays too.
fn cost(addrs: &[SocketAddr], relays: &[Named]) -> u32 {
    let cost = addrs.len() + relays.iter().map(|relay| relay.addrs.len().max(1)).sum::<usize>();
    u32::try_from(cost).unwrap_or(u32::MAX)
}

/// The unspecified address of the same family: the system chooses.
pub(super) const fn any_local(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

/// Dials under way at once.
const MAX_DIALS: usize = 256;
/// Addresses tried by one dial; the rest is ignored.
const MAX_ADDRESSES: usize = 8;
/// How long the one of two neighbours who goes second waits for the other's dial, and for how many of them.
const POSTPONED: Duration = Duration::from_millis(700);
const MAX_POSTPONED: usize = 256;
/// Dials that others cause, per second and at once.
const SUGGESTED_RATE: (u32, u32) = (16, 32);
