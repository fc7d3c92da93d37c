//! Where others see this node, and what that says of the NAT in front of it.
//!
//! Peers say it in their sessions, nodes of the distributed hash table in their answers, STUN servers when asked; what comes of it
//! is decided by [`nat::Observations`], one for each address family. A node that is told to answers others as a STUN server
//! does, on the sockets of its sessions.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crypto::Seed;
use framing::Kind;
use nat::scope::{Family, is_public};
use nat::stun::{self, Via};
use nat::{Change, Confidence, Filtering, Mapping, Observation, Observations, Report, Scope};
use peer::Handle;
use structs::{Datagram, Deadline, Ecn, Link, Machine, Path, Rejected, Transmit, TransmitBuf};

use super::event::Event;
use super::{Node, is_circuit};
use crate::nat::Nat;

/// What is known of the sockets of the sessions as others see them.
#[derive(Debug)]
pub(super) struct Outside {
    words: [Observations; 2],
    /// The addresses of the interfaces, with the ports of our sockets.
    own: Vec<SocketAddr>,
    forwarded: Vec<SocketAddr>,
    client: stun::Client,
    servers: Vec<SocketAddr>,
    /// When the servers are asked next, and the pause after that if none answers.
    ask_at: Option<Instant>,
    pause: Duration,
    answered: bool,
    server: Option<stun::Server>,
    answers: VecDeque<(Path, Vec<u8>)>,
    /// Who began a conversation that is not proved yet, and what filter he passed.
    strangers: VecDeque<(SocketAddr, Filtering)>,
    /// Where the last datagram went.
    last: Option<SocketAddr>,
    told: Nat,
}

impl Outside {
    pub(super) fn new(scope: Scope, serve: bool, seed: &Seed, now: Instant) -> Self {
        Self {
            words: [Observations::new(scope, 0), Observations::new(scope, 0)],
            own: Vec::new(),
            forwarded: Vec::new(),
            client: stun::Client::new(&seed.fork("outside"), now),
            servers: Vec::new(),
            ask_at: None,
            pause: STUN_SOON,
            answered: false,
            server: serve.then(|| stun::Server::new(None, now)),
            answers: VecDeque::new(),
            strangers: VecDeque::new(),
            last: None,
            told: Nat::default(),
        }
    }

    fn words(&mut self, family: Family) -> &mut Observations {
        let [v4, v6] = &mut self.words;
        if family == Family::V4 { v4 } else { v6 }
    }

    const fn of(&self, family: Family) -> &Observations {
        let [v4, v6] = &self.words;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// What a peer is told of our NAT.
    pub(super) fn report(&self) -> Report {
        self.of(Family::V4).report(Family::V4)
    }

    /// Where others see us.
    pub(super) fn reflexive(&self, family: Family) -> Option<SocketAddr> {
        self.of(family).reflexive(family).map(|(addr, _)| addr)
    }

    /// Where others see us, if it is not one stranger's word, nor another port for everybody.
    pub(super) fn sure(&self, family: Family) -> Option<SocketAddr> {
        let witnesses = self.of(family).witnesses(family);
        let is_sure = witnesses.len() >= 2 || witnesses.iter().any(|by| self.servers.contains(by));
        self.reflexive(family).filter(|_| is_sure)
    }

    pub(super) fn own(&self) -> &[SocketAddr] {
        &self.own
    }

    pub(super) fn forwarded(&self) -> &[SocketAddr] {
        &self.forwarded
    }

    /// The servers that may be asked from another socket too.
    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Whether servers are being asked of whom nothing is known yet.
    pub(super) fn is_asking(&self) -> bool {
        self.report().mapping == Mapping::Unknown && self.client.poll_timeout().is_some()
    }

    fn nat(&self) -> Nat {
        let side = |family: Family| {
            let report = self.of(family).report(family);
            let addr = self.reflexive(family);
            crate::nat::Outside {
                addr,
                mapping: report.mapping,
                filtering: report.filtering,
                confidence: if addr.is_some() { report.confidence } else { Confidence::None },
                translated: addr.map(|_| !report.public),
            }
        };
        Nat { v4: side(Family::V4), v6: side(Family::V6), forwarded: self.forwarded.clone() }
    }

    /// A datagram leaves the socket of the sessions. Returns whether a NAT over IPv4 may have made a mapping for it.
    pub(super) fn on_sent(&mut self, remote: SocketAddr, now: Instant) -> bool {
        let family = Family::of(remote.ip());
        self.last.replace(remote) != Some(remote) && self.words(family).sent_to(remote, now) && family == Family::V4
    }

    /// Where on these hosts something was sent to of late.
    pub(super) fn opened_at(&self, hosts: &[IpAddr]) -> Vec<SocketAddr> {
        self.of(Family::V4).opened_at(hosts)
    }

    /// Somebody begins a conversation, to whom nothing was sent yet perhaps.
    fn on_beginning(&mut self, remote: SocketAddr, now: Instant) {
        if self.strangers.iter().any(|(known, _)| *known == remote) {
            return;
        }
        if let Some(class) = self.of(Family::of(remote.ip())).filter_passed_by(remote, now) {
            if self.strangers.len() >= MAX_STRANGERS {
                self.strangers.pop_front();
            }
            self.strangers.push_back((remote, class));
        }
    }

    /// He whose address this is has proved himself.
    pub(super) fn on_proved(&mut self, remote: SocketAddr) {
        if let Some(at) = self.strangers.iter().position(|(known, _)| *known == remote)
            && let Some((_, class)) = self.strangers.remove(at)
        {
            let family = Family::of(remote.ip());
            self.words(family).let_in(family, class);
        }
    }

    fn record(&mut self, word: Observation, now: Instant) -> Option<Change> {
        self.words(Family::of(word.seen.ip())).record(word, now)
    }

    fn ask(&mut self, now: Instant) {
        self.ask_at = None;
        self.answered = false;
        for server in &self.servers {
            // The bound of servers is the client's own.
            let _ = self.client.ask(*server, now);
        }
    }

    fn set_servers(&mut self, servers: &[SocketAddr], now: Instant) {
        let servers: Vec<SocketAddr> = servers.iter().copied().take(nat::limits::MAX_STUN_SERVERS).collect();
        if servers == self.servers {
            return;
        }
        self.servers = servers;
        self.pause = STUN_SOON;
        self.ask(now);
    }

    /// The network is another one, perhaps.
    pub(super) fn restart(&mut self, now: Instant) {
        self.pause = STUN_SOON;
        self.ask(now);
    }

    /// The node ends: nobody is asked or answered any more.
    pub(super) fn stop(&mut self) {
        self.client.close();
        self.servers.clear();
        self.ask_at = None;
        self.server = None;
        self.answers.clear();
    }

    /// Returns whether it is another network than before.
    fn set_own(&mut self, own: &[SocketAddr]) -> bool {
        if self.own == own {
            return false;
        }
        let before = std::mem::replace(&mut self.own, own.to_vec());
        let ips: Vec<IpAddr> = own.iter().map(SocketAddr::ip).collect();
        let mut any_moved = false;
        for family in [Family::V4, Family::V6] {
            let of = |addr: &&SocketAddr| Family::of(addr.ip()) == family;
            let port = own.iter().find(of).map_or(0, SocketAddr::port);
            let moved = before.iter().any(|addr| of(&addr)) && !before.iter().filter(of).eq(own.iter().filter(of));
            let words = self.words(family);
            // What others said they said of another network, perhaps. The other family has its own.
            if moved {
                words.reset(port);
            }
            words.set_port(port);
            words.set_local(&ips);
            any_moved |= moved;
        }
        self.last = None;
        any_moved
    }

    fn handle(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        // The class of a request is 00, that of answers 01 and 11 (RFC 8489 section 5).
        if datagram.payload.first().is_some_and(|first| first & 1 != 0) {
            return self.client.handle_datagram(datagram, now);
        }
        let server = self.server.as_mut().ok_or(Rejected::Forbidden)?;
        if self.answers.len() >= MAX_ANSWERS {
            return Err(Rejected::LimitReached);
        }
        let answer = server.answer(datagram.payload, datagram.path.remote, now)?;
        if answer.via != Via::Same {
            return Err(Rejected::Forbidden);
        }
        self.answers.push_back((datagram.path, answer.datagram));
        Ok(())
    }

    pub(super) fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        if let Some((path, answer)) = self.answers.pop_front() {
            out.push(&answer);
            return out.finish(path, Ecn::NotEct);
        }
        self.client.poll_transmit(out, now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let ask = self.ask_at.map(|at| Deadline { at, reason: "question to STUN servers" });
        Deadline::earliest(self.client.poll_timeout(), ask)
    }
}

impl Node {
    /// Where others see this node, and what that says of the NAT in front of it.
    #[must_use]
    pub const fn nat(&self) -> &Nat {
        &self.outside.told
    }

    /// Names the STUN servers to be asked where they see this node: now, every five minutes, and when the network has changed.
    pub fn set_stun_servers(&mut self, servers: &[SocketAddr], now: Instant) {
        self.tick(now);
        self.outside.set_servers(servers, self.now);
    }

    /// Says which addresses a router forwards to this node.
    pub fn set_forwarded(&mut self, addrs: &[SocketAddr], now: Instant) {
        self.tick(now);
        self.outside.forwarded = addrs.iter().copied().take(nat::limits::MAX_CANDIDATES / 4).collect();
        let (forwarded, now) = (self.outside.forwarded.clone(), self.now);
        if let Some(finder) = &mut self.finder {
            finder.set_forwarded(&forwarded, now);
        }
        self.tell_nat(true);
    }

    /// Somebody sees us at an address.
    pub(super) fn on_seen(&mut self, seen: SocketAddr, by: SocketAddr) {
        let now = self.now;
        let opened = self.outside.of(Family::of(by.ip())).opened(by).unwrap_or(now);
        let change = self.outside.record(Observation { by, seen, opened, stray: false }, now);
        self.tell_nat(change.is_some_and(is_news));
    }

    /// The addresses of this machine.
    pub(super) fn outside_addresses(&mut self, own: &[SocketAddr]) {
        if self.outside.set_own(own) {
            self.outside.restart(self.now);
            self.search_again();
        }
        self.tell_nat(false);
    }

    pub(super) fn on_stun(&mut self, datagram: Datagram<'_>) -> Result<(), Rejected> {
        let result = self.outside.handle(datagram, self.now);
        self.hear_servers();
        result
    }

    /// Notes who begins a conversation.
    pub(super) fn note_beginning(&mut self, kind: Option<Kind>, path: &Path) {
        if path.link == Link::Udp && matches!(kind, Some(Kind::Init | Kind::Xx1 | Kind::InitR)) {
            self.outside.on_beginning(path.remote, self.now);
        }
    }

    pub(super) fn outside_timeout(&mut self) {
        self.outside.client.handle_timeout(self.now);
        if self.outside.ask_at.is_some_and(|at| at <= self.now) {
            self.outside.ask(self.now);
        }
        self.hear_servers();
    }

    fn hear_servers(&mut self) {
        let now = self.now;
        let mut changed = false;
        while let Some(event) = self.outside.client.poll_event() {
            match event {
                stun::Event::Observed { seen, by, opened, stray } => {
                    self.outside.answered = true;
                    changed |= self.outside.record(Observation { by, seen, opened, stray }, now).is_some_and(is_news);
                    if let Some(finder) = &mut self.finder {
                        finder.on_seen(seen, by.ip(), now);
                    }
                }
                stun::Event::Filtering { by, class } => {
                    let family = Family::of(by.ip());
                    self.outside.words(family).set_filtering(family, class);
                }
                _ => {}
            }
        }
        let outside = &mut self.outside;
        if outside.ask_at.is_none() && !outside.servers.is_empty() && outside.client.poll_timeout().is_none() {
            // All have answered, or none will.
            let pause = if outside.answered { STUN_EVERY } else { outside.pause };
            outside.pause = (outside.pause * 2).min(STUN_EVERY);
            outside.ask_at = Some(now + pause);
            let answered = outside.answered || outside.reflexive(Family::V4).is_some();
            let of_udp = |session: &Handle| {
                self.endpoint.peer(*session).and_then(peer::Peer::path).is_some_and(|path| path.link == Link::Udp)
            };
            if !answered && !self.sessions.keys().any(of_udp) {
                outside.words(Family::V4).set_blocked();
            }
        }
        self.tell_nat(changed);
    }

    /// Keeps the mapping of our NAT, if there may be one in front of a session, and that of the peer, if it was punched.
    pub(super) fn keep_mapping(&mut self, session: Handle) {
        let Some(path) = self.endpoint.peer(session).and_then(peer::Peer::path) else { return };
        let side = if path.remote.is_ipv4() { &self.outside.told.v4 } else { &self.outside.told.v6 };
        let translated = is_public(path.remote.ip()) && side.translated != Some(false);
        // A circuit needs nothing: the session with its relay keeps the mapping.
        let keep = !is_circuit(&path) && (translated || self.is_punched(session, &path));
        self.endpoint.with(session, self.now, |session, now| session.keep_mapping(keep, now));
    }

    /// Tells the owner what has changed. `news` says that what failed before may work now.
    pub(super) fn tell_nat(&mut self, news: bool) {
        let nat = self.outside.nat();
        if nat != self.outside.told {
            let told = std::mem::replace(&mut self.outside.told, nat.clone());
            self.places.dirty = true;
            if [told.v4.translated, told.v6.translated] != [nat.v4.translated, nat.v6.translated] {
                let sessions: Vec<Handle> = self.sessions.keys().copied().collect();
                sessions.into_iter().for_each(|session| self.keep_mapping(session));
            }
            self.events.push_back(Event::Nat(Box::new(nat)));
        }
        if news {
            self.search_anew();
        }
    }
}

/// Whether what failed before may work now. Another port alone is none.
const fn is_news(change: Change) -> bool {
    !matches!(change, Change::Rebound { .. })
}

/// Between two questions to servers that answer: half of the time for which a word counts.
const STUN_EVERY: Duration = Duration::from_secs(nat::limits::VOTE_LIFETIME.as_secs() / 2);
/// After the first time that none answered; doubled with each.
const STUN_SOON: Duration = Duration::from_secs(5);
/// Conversations whose beginner has not proved himself yet.
const MAX_STRANGERS: usize = 64;
/// Answers to others that wait to leave.
const MAX_ANSWERS: usize = 64;
