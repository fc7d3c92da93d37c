//! A socket that was opened for an attempt, until it is known where others see it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crypto::Seed;
use nat::scope::Family;
use nat::stun;
use nat::{Candidate, CandidateKind, Mapping, Observation, Observations, Report, Scope};
use structs::{Datagram, Deadline, Link, Machine, Path, Rejected, Transmit, TransmitBuf};

use super::outside::Outside;

/// Asks the STUN servers from a new IPv4 socket. Where there are none, a NAT that left us the port of the socket of the sessions
/// is expected to do the same with this one.
#[derive(Debug)]
pub(super) struct Fresh {
    link: Link,
    local: SocketAddr,
    client: stun::Client,
    words: Observations,
    /// Servers that have not said anything.
    silent: Vec<SocketAddr>,
    until: Instant,
}

impl Fresh {
    pub(super) fn new(outside: &Outside, link: Link, local: SocketAddr, seed: &Seed, now: Instant) -> Self {
        let Link::Socket(number) = link else { return Self::with(link, local, seed, now) };
        let mut fresh = Self::with(link, local, &seed.fork(&number.to_string()), now);
        let ips: Vec<IpAddr> = outside.own().iter().map(SocketAddr::ip).collect();
        fresh.words.set_local(&ips);
        for server in outside.servers().iter().filter(|server| server.is_ipv4()) {
            if fresh.client.ask(*server, now).is_ok() {
                fresh.silent.push(*server);
            }
        }
        fresh
    }

    fn with(link: Link, local: SocketAddr, seed: &Seed, now: Instant) -> Self {
        let words = Observations::new(Scope::Any, local.port());
        Self { link, local, client: stun::Client::new(seed, now), words, silent: Vec::new(), until: now + PATIENCE }
    }

    pub(super) const fn link(&self) -> Link {
        self.link
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.silent.is_empty() || now >= self.until
    }

    pub(super) fn handle(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        let result = self.client.handle_datagram(datagram, now);
        self.hear(now);
        result
    }

    fn hear(&mut self, now: Instant) {
        while let Some(event) = self.client.poll_event() {
            match event {
                // A second address of a server is no second server.
                stun::Event::Observed { seen, by, opened, stray: false } if self.silent.contains(&by) => {
                    self.words.record(Observation { by, seen, opened, stray: false }, now);
                    self.silent.retain(|server| *server != by);
                }
                stun::Event::Failed { server } => self.silent.retain(|other| *other != server),
                _ => {}
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
        self.hear(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let end = Deadline { at: self.until, reason: "where a new socket is seen" };
        Deadline::earliest(self.client.poll_timeout(), Some(end))
    }

    pub(super) fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        let transmit = self.client.poll_transmit(out, now)?;
        Some(Transmit { path: Path { link: self.link, ..transmit.path }, ..transmit })
    }

    /// How many sockets can be used, one or none, the candidates of the new one and what is known of the NAT.
    pub(super) fn finish(self, outside: &Outside) -> (u16, Vec<Candidate>, Option<Report>) {
        let known = outside.report();
        let port = self.local.port();
        let own = outside.own().iter().map(SocketAddr::ip).filter(|ip| ip.is_ipv4() && !ip.is_loopback());
        let host = |ip: IpAddr| Candidate { kind: CandidateKind::Host, addr: SocketAddr::new(ip, port) };
        let mut candidates: Vec<Candidate> = own.map(host).collect();
        let seen = self.words.reflexive(Family::V4).map(|(addr, _)| addr);
        let (addr, report) = match (seen, outside.reflexive(Family::V4)) {
            (Some(addr), _) => {
                let fresh = self.words.report(Family::V4);
                let (filtering, strays) = (known.filtering, known.strays);
                // One server alone says where, and not how.
                let report = if fresh.mapping == Mapping::Unknown { known } else { fresh };
                (Some(addr), Report { filtering, strays, preserves: fresh.preserves, ..report })
            }
            (None, Some(before)) if known.preserves || known.public => {
                (Some(SocketAddr::new(before.ip(), port)), known)
            }
            // Elsewhere than expected, and nobody knows where: of use only to who sends first, or to nobody.
            (None, Some(_)) => return (0, Vec::new(), Some(known)),
            (None, None) => (None, known),
        };
        candidates.extend(addr.map(|addr| Candidate { kind: CandidateKind::Reflexive, addr }));
        (1, candidates, Some(report))
    }
}

/// How long servers have to answer.
const PATIENCE: Duration = Duration::from_millis(1500);
