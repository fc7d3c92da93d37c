//! Attempts to find a direct path for sessions that go through relays.
//!
//! The machine of one attempt is [`nat::Punch`]. Its messages travel in the session, its probes beside it: from the socket of the
//! sessions, or from others that the driver opens when it is asked to. What is found becomes a path of the session, which proves
//! it again and moves there.

mod shares;
mod sockets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crypto::Seed;
use nat::message::{EndCode, Message};
use nat::scope::{Family, Subnet, is_public};
use nat::{Candidate, CandidateKind, Method, Pace, Plan, Punch, Report, Setup, limits};
use peer::Handle;
use peer::mux::{SendError, Urgency};
use structs::{Datagram, Deadline, Link, Machine, Path, Rejected, Transmit, TransmitBuf};

use self::shares::{Party, Takes, Whose};
use self::sockets::{CHECK_EVERY, Opening};
use super::event::Event;
use super::fresh::Fresh;
use super::{Node, is_circuit};
use crate::DialWay;
use crate::nat::Why;

/// All attempts of a node, and the sockets that they left behind.
#[derive(Debug)]
pub(super) struct Punches {
    on: bool,
    seed: Seed,
    count: u64,
    attempts: BTreeMap<Handle, Attempt>,
    pace: Pace,
    next_socket: u32,
    readable: BTreeSet<Handle>,
    /// Sockets by which sessions go, and since when.
    kept: BTreeMap<u32, (Handle, Instant)>,
    check_at: Option<Instant>,
    /// Until when nothing else makes mappings, while an attempt counts them, and from when on that may be wanted again.
    quiet_until: Option<Instant>,
    quiet_again: Option<Instant>,
    /// Paths that were found.
    found: BTreeMap<Handle, (Link, SocketAddr)>,
    /// How often others made us take part.
    takes: Takes,
}

#[derive(Debug)]
struct Attempt {
    punch: Punch,
    party: Party,
    birthday: bool,
    /// The networks that are sent to.
    networks: Vec<Subnet>,
    first_socket: u32,
    /// How many sockets were opened.
    opened: u16,
    opening: Option<Opening>,
    fresh: Option<Box<Fresh>>,
    /// Messages that the session had no room for.
    outgoing: VecDeque<Vec<u8>>,
    punched: bool,
    /// Addresses that the peer alone names were tried.
    tried: bool,
}

impl Punches {
    pub(super) fn new(on: bool, seed: &Seed) -> Self {
        Self {
            on,
            seed: seed.fork("punches"),
            count: 0,
            attempts: BTreeMap::new(),
            pace: Pace::default(),
            next_socket: 0,
            readable: BTreeSet::new(),
            kept: BTreeMap::new(),
            check_at: None,
            quiet_until: None,
            quiet_again: None,
            found: BTreeMap::new(),
            takes: Takes::default(),
        }
    }

    pub(super) fn on_readable(&mut self, session: Handle) {
        self.readable.insert(session);
    }

    /// Whether new flows would put the count of a NAT's ports out.
    pub(super) const fn want_quiet(&self) -> bool {
        self.quiet_until.is_some()
    }

    /// Looks whether it is to be quiet: for a short time, and not again soon, whoever wants it.
    fn keep_quiet(&mut self, now: Instant) {
        let counts = self.attempts.values().any(|attempt| attempt.punch.counts_mappings());
        if !counts || self.quiet_until.is_some_and(|until| until <= now) {
            self.quiet_until = None;
        }
        if counts && self.quiet_again.is_none_or(|at| at <= now) {
            self.quiet_until = Some(now + QUIET);
            self.quiet_again = Some(now + QUIET_EVERY);
        }
    }

    /// A datagram went where none had gone before, but for one of the attempt for `of`: others have one port less to count on.
    pub(super) fn count_mapping(&mut self, of: Option<Handle>) {
        for (_, attempt) in self.attempts.iter_mut().filter(|(session, _)| Some(**session) != of) {
            attempt.punch.count_mapping();
        }
    }

    fn next_seed(&mut self) -> Seed {
        self.count += 1;
        self.seed.fork(&self.count.to_string())
    }

    fn attempt_of(&mut self, datagram: &[u8]) -> Option<&mut Attempt> {
        let id = datagram.get(4..12)?;
        self.attempts.values_mut().find(|attempt| attempt.punch.attempt().is_some_and(|own| own.0 == id))
    }
}

impl Node {
    /// Begins an attempt over a session that goes through a relay.
    pub(super) fn begin_punching(&mut self, session: Handle) -> Result<(), Why> {
        let now = self.now;
        let Some((peer, path)) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?))) else {
            return Err(Why::Trying);
        };
        if !self.punches.on {
            return Err(Why::Off);
        }
        if self.punches.attempts.contains_key(&session) {
            return Ok(());
        }
        let mut setup = self.setup(&peer, &path);
        if setup.stated.is_empty() && !setup.local {
            return Err(Why::Hidden);
        }
        let networks: Vec<Subnet> = setup.stated.iter().copied().map(Subnet::of).collect();
        let party = Party { whose: Whose::Ours, peer, via: Subnet::of(path.remote.ip()) };
        if self.punches.is_crowded(&networks, &party) {
            return Err(Why::Trying);
        }
        setup.birthday = self.punches.pace.begin(now);
        let seed = self.punches.next_seed();
        let birthday = setup.birthday;
        let first_socket = setup.first_socket;
        let punch = Punch::initiate(setup, &seed, now);
        self.insert_attempt(session, Attempt::new(punch, party, birthday, networks, first_socket));
        Ok(())
    }

    fn insert_attempt(&mut self, session: Handle, attempt: Attempt) {
        self.punches.next_socket = self.punches.next_socket.wrapping_add(SOCKETS.into());
        self.punches.attempts.insert(session, attempt);
        self.drive_punches();
    }

    /// What we bring to an attempt.
    fn setup(&self, peer: &crypto::PeerId, path: &Path) -> Setup {
        let own = self.outside.own();
        let near = path.remote.ip().is_loopback();
        let host = own.iter().filter(|addr| near || !addr.ip().is_loopback());
        let mut candidates: Vec<Candidate> =
            host.map(|addr| Candidate { kind: CandidateKind::Host, addr: *addr }).collect();
        let seen: Vec<SocketAddr> =
            [Family::V4, Family::V6].into_iter().filter_map(|family| self.outside.reflexive(family)).collect();
        candidates.extend(seen.iter().map(|addr| Candidate { kind: CandidateKind::Reflexive, addr: *addr }));
        let mapped = self.outside.forwarded().iter();
        candidates.extend(mapped.map(|addr| Candidate { kind: CandidateKind::Mapped, addr: *addr }));
        let stated = self.relays.hints.stated(peer);
        let sockets = if own.iter().any(SocketAddr::is_ipv4) { SOCKETS } else { 0 };
        Setup {
            report: self.outside.report(),
            candidates,
            seen: seen.iter().map(SocketAddr::ip).collect(),
            opened: self.outside.opened_at(&stated),
            stated,
            local: is_circuit(path) && !is_public(path.remote.ip()),
            birthday: false,
            first_socket: self.punches.next_socket,
            max_sockets: sockets,
        }
    }

    /// Reads what one session has of this.
    pub(super) fn read_punching(&mut self) -> bool {
        let Some(session) = self.punches.readable.pop_first() else { return false };
        let (protocol, now) = (self.protocols.punch, self.now);
        let mut message = Vec::new();
        for turn in 0.. {
            let received = self.endpoint.with(session, now, |session, _| session.recv(protocol, &mut message));
            let Some(Some(_)) = received else { break };
            if self.on_punch_message(session, &message).is_err_and(|reason| reason == Rejected::Malformed) {
                self.endpoint.with(session, now, |session, _| session.fail_protocol(protocol));
                break;
            }
            if turn >= MESSAGES {
                self.punches.readable.insert(session);
                break;
            }
        }
        self.drive_punches();
        true
    }

    fn on_punch_message(&mut self, session: Handle, bytes: &[u8]) -> Result<(), Rejected> {
        let now = self.now;
        let message = Message::decode(bytes).or(Err(Rejected::Malformed))?;
        let begins = matches!(&message, Message::Offer(offer) if offer.round == 0);
        let same = self.punches.attempts.get(&session).is_some_and(|attempt| {
            attempt.party.whose == Whose::Ours || attempt.punch.attempt().is_none_or(|known| known == message.attempt())
        });
        if !begins || same {
            let attempt = self.punches.attempts.get_mut(&session).ok_or(Rejected::Unsolicited)?;
            attempt.punch.handle_message(bytes, now)?;
            self.try_named(session, &message);
            return Ok(());
        }
        let Some((peer, path)) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?))) else {
            return Err(Rejected::Closed);
        };
        // The other side begins anew: what it began before is over for it.
        self.end_attempt(session);
        let mut setup = self.setup(&peer, &path);
        let networks: Vec<Subnet> = setup.stated.iter().copied().map(Subnet::of).collect();
        let hidden = setup.stated.is_empty() && !setup.local;
        let whose = if self.shares_a_topic(session) { Whose::Neighbours } else { Whose::Strangers };
        let party = Party { whose, peer, via: Subnet::of(path.remote.ip()) };
        let takes_part = self.punches.on
            && !hidden
            && !self.punches.is_crowded(&networks, &party)
            && self.relays.hints.way(&peer) != DialWay::Relayed
            && self.punches.takes.may_take(&party, now);
        if !takes_part {
            let end = Message::End { attempt: message.attempt(), why: EndCode::Refused }.encode();
            // What finds no room is not answered, which says the same a little later.
            let protocol = self.protocols.punch;
            let _ = self.endpoint.with(session, now, |session, _| session.send(protocol, &end, Urgency::Urgent));
            let why = if !self.punches.on {
                Why::Off
            } else if hidden {
                Why::Hidden
            } else {
                Why::Trying
            };
            self.punching_over(session, why);
            return Err(Rejected::LimitReached);
        }
        // Nobody takes that away from others who will not need it.
        let needs_many = matches!(&message, Message::Offer(offer) if is_birthday(&offer.report, &setup.report));
        setup.birthday = needs_many
            && self.punches.takes.may_use_many(&party, now)
            && match whose {
                Whose::Strangers => self.punches.pace.begin_for_stranger(now),
                _ => self.punches.pace.begin(now),
            };
        let seed = self.punches.next_seed();
        let (birthday, first_socket) = (setup.birthday, setup.first_socket);
        let mut punch = Punch::respond(setup, &seed, now);
        let result = punch.handle_message(bytes, now);
        self.punching_begun(session);
        self.insert_attempt(session, Attempt::new(punch, party, birthday, networks, first_socket));
        if result.is_ok() {
            self.try_named(session, &message);
        }
        result
    }

    /// Tries addresses of IPv6 that the peer alone names, as any path is tried that somebody names: with three small packets to each
    /// of two. Between two without NATs that is all it takes, and no relay need have seen them there.
    fn try_named(&mut self, session: Handle, message: &Message) {
        let (Message::Offer(theirs) | Message::Answer(theirs)) = message else { return };
        let public = |addr: &SocketAddr| is_native_ipv6(addr.ip());
        let Some(attempt) = self.punches.attempts.get_mut(&session) else { return };
        let first = !std::mem::replace(&mut attempt.tried, true) && theirs.round == 0;
        if !first || self.relay_of(session).is_none() || !self.outside.own().iter().any(public) {
            return;
        }
        let named: Vec<SocketAddr> =
            theirs.candidates.iter().map(|candidate| candidate.addr).filter(public).take(NAMED).collect();
        self.endpoint.with(session, self.now, |session, now| {
            for addr in named {
                session.add_path(Path::udp(unspecified(addr), addr), now);
            }
        });
    }

    /// A probe.
    pub(super) fn on_probe(&mut self, datagram: Datagram<'_>) -> Result<(), Rejected> {
        let now = self.now;
        let attempt = self.punches.attempt_of(datagram.payload).ok_or(Rejected::Unsolicited)?;
        let result = attempt.punch.handle_datagram(datagram, now);
        self.drive_punches();
        result
    }

    /// An answer of a STUN server to a socket of an attempt.
    pub(super) fn on_fresh(&mut self, datagram: Datagram<'_>) -> Result<(), Rejected> {
        let now = self.now;
        let fresh = self.punches.attempts.values_mut().filter_map(|attempt| attempt.fresh.as_mut());
        let mut of_link = fresh.filter(|fresh| fresh.link() == datagram.path.link);
        let result = of_link.next().ok_or(Rejected::Unsolicited)?.handle(datagram, now);
        self.drive_punches();
        result
    }

    /// The session needs no attempt any more.
    pub(super) fn stop_punching(&mut self, session: Handle) {
        if let Some(attempt) = self.punches.attempts.get_mut(&session)
            // Who was told of the path still has to say so.
            && !attempt.punched
        {
            attempt.punch.close();
            self.drive_punches();
        }
    }

    /// The session is over.
    pub(super) fn punching_closed(&mut self, session: Handle) {
        self.end_attempt(session);
        self.punches.found.remove(&session);
        self.punches.readable.remove(&session);
        self.check_kept();
    }

    pub(super) fn punch_writable(&mut self) {
        self.drive_punches();
    }

    /// Forgets an attempt, and closes its sockets but for one that is used.
    fn end_attempt(&mut self, session: Handle) {
        let Some(attempt) = self.punches.attempts.remove(&session) else { return };
        if attempt.birthday {
            let probes = attempt.punch.probes_sent();
            self.punches.pace.end(probes);
            if !attempt.punched && probes <= limits::FEW_PROBES {
                self.punches.takes.wasted(&attempt.party, self.now);
            }
        }
        self.close_unused(attempt.first_socket, attempt.opened);
        self.resume_search(session);
    }

    /// Whether there is an attempt that has not ended.
    pub(super) fn is_punching(&self, session: Handle) -> bool {
        self.punches.attempts.contains_key(&session)
    }

    /// Does what the attempts want, and carries their messages into the sessions.
    pub(super) fn drive_punches(&mut self) {
        let sessions: Vec<Handle> = self.punches.attempts.keys().copied().collect();
        for session in sessions {
            self.drive_attempt(session);
        }
        let now = self.now;
        self.punches.keep_quiet(now);
    }

    fn drive_attempt(&mut self, session: Handle) {
        let now = self.now;
        while let Some(attempt) = self.punches.attempts.get_mut(&session) {
            if attempt.fresh.as_ref().is_some_and(|fresh| fresh.is_over(now)) {
                if let Some(fresh) = attempt.fresh.take() {
                    let first = fresh.link();
                    let (count, candidates, report) = fresh.finish(&self.outside);
                    let taken = attempt.punch.sockets_opened(count, &candidates, report, now);
                    if (taken.is_err() || count == 0)
                        && let Link::Socket(first) = first
                    {
                        attempt.opened = attempt.opened.saturating_sub(1);
                        self.close_sockets(first, 1);
                    }
                }
                continue;
            }
            if let Some(event) = attempt.punch.poll_event() {
                self.on_punch_event(session, event);
                continue;
            }
            while let Some(message) = attempt.punch.poll_message() {
                attempt.outgoing.push_back(message);
            }
            let Some(message) = attempt.outgoing.front() else {
                if attempt.punch.is_closed() {
                    self.end_attempt(session);
                }
                return;
            };
            let protocol = self.protocols.punch;
            let sent = self.endpoint.with(session, now, |peer, _| peer.send(protocol, message, Urgency::Urgent));
            match sent {
                Some(Ok(_)) => drop(attempt.outgoing.pop_front()),
                Some(Err(SendError::Blocked)) => return,
                // The other side does not do this, or is gone.
                _ => {
                    self.end_attempt(session);
                    self.punching_over(session, Why::Off);
                }
            }
        }
    }

    fn on_punch_event(&mut self, session: Handle, event: nat::Event) {
        let now = self.now;
        match event {
            nat::Event::OpenSockets { first, count, observed } => {
                if let Some(attempt) = self.punches.attempts.get_mut(&session) {
                    attempt.opening = Some(Opening { first, observed });
                    self.events.push_back(Event::OpenSockets { first, count });
                }
            }
            nat::Event::Punched { link, remote } => {
                let Some(attempt) = self.punches.attempts.get_mut(&session) else { return };
                attempt.punched = true;
                let (first, opened) = (attempt.first_socket, attempt.opened);
                if let Link::Socket(number) = link {
                    self.punches.kept.insert(number, (session, now));
                    self.punches.check_at.get_or_insert(now + CHECK_EVERY);
                }
                self.close_unused(first, opened);
                if let Some(attempt) = self.punches.attempts.get_mut(&session) {
                    attempt.opened = 0;
                }
                self.punches.found.insert(session, (link, remote));
                let path = Path { link, local: unspecified(remote), remote };
                self.endpoint.with(session, now, |session, now| session.add_path(path, now));
                self.punching_over(session, Why::Unproved);
            }
            nat::Event::Failed(failure) => self.punching_over(session, Why::Failed(failure)),
            _ => {}
        }
    }

    /// Whether a path is one that was punched.
    pub(super) fn is_punched(&self, session: Handle, path: &Path) -> bool {
        self.punches.found.get(&session) == Some(&(path.link, path.remote))
    }

    /// What an attempt sends, and for which session it is.
    pub(super) fn punch_transmit(&mut self, out: &mut TransmitBuf) -> Option<(Handle, Transmit)> {
        let now = self.now;
        self.punches.attempts.iter_mut().find_map(|(session, attempt)| {
            let fresh = attempt.fresh.as_mut().and_then(|fresh| fresh.poll_transmit(out, now));
            Some((*session, fresh.or_else(|| attempt.punch.poll_transmit(out, now))?))
        })
    }

    pub(super) fn punches_timeout(&mut self) {
        let now = self.now;
        for attempt in self.punches.attempts.values_mut() {
            attempt.punch.handle_timeout(now);
            if let Some(fresh) = &mut attempt.fresh {
                fresh.handle_timeout(now);
            }
        }
        if self.punches.check_at.is_some_and(|at| at <= now) {
            self.check_kept();
        }
        self.drive_punches();
    }

    pub(super) fn punches_deadline(&self) -> Option<Deadline> {
        let of = |attempt: &Attempt| {
            let fresh = attempt.fresh.as_ref().and_then(|fresh| fresh.poll_timeout());
            Deadline::earliest(attempt.punch.poll_timeout(), fresh)
        };
        let attempts = self.punches.attempts.values().filter_map(of).min_by_key(|deadline| deadline.at);
        let quiet = self.punches.quiet_until.map(|at| Deadline { at, reason: "end of the quiet" });
        let attempts = Deadline::earliest(attempts, quiet);
        let check = self.punches.check_at.map(|at| Deadline { at, reason: "sockets of sessions" });
        Deadline::earliest(attempts, check)
    }
}

impl Attempt {
    const fn new(punch: Punch, party: Party, birthday: bool, networks: Vec<Subnet>, first_socket: u32) -> Self {
        Self {
            punch,
            party,
            birthday,
            networks,
            first_socket,
            opened: 0,
            opening: None,
            fresh: None,
            outgoing: VecDeque::new(),
            punched: false,
            tried: false,
        }
    }
}

/// Whether the two reports make an attempt of many probes.
fn is_birthday(theirs: &Report, ours: &Report) -> bool {
    Plan::choose(theirs, ours, false, 0).is_some_and(|plan| matches!(plan.method, Method::Birthday { .. }))
}

/// Whether it is a public IPv6 address, and none that is made of an IPv4 address, which may be anybody's: 6to4 and Teredo.
const fn is_native_ipv6(ip: IpAddr) -> bool {
    let IpAddr::V6(v6) = ip else { return false };
    is_public(ip) && !matches!(v6.segments(), [0x2002, ..] | [0x2001, 0, ..])
}

const fn unspecified(remote: SocketAddr) -> SocketAddr {
    let ip = match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

/// Addresses of IPv6 that are tried though the peer alone names them.
const NAMED: usize = 2;
/// For how long nothing else makes mappings, and how often at most.
const QUIET: Duration = Duration::from_secs(2);
const QUIET_EVERY: Duration = Duration::from_secs(20);
/// Sockets that one attempt may ask for.
const SOCKETS: u16 = limits::SPRAY_SOCKETS + limits::MAX_ROUNDS as u16;
/// Messages of one session read at a time.
const MESSAGES: usize = 8;
