//! Boxes that translate addresses, as routers at the edge of home and company networks do.
//!
//! A [`NatBox`] keeps a table of flows as Linux does: each flow has the two addresses that it began with and those that its answers
//! have, a flow without answers is forgotten after 30 s and one with answers after 120 s. It moves no datagrams itself: whoever
//! has one asks what becomes of it on the way out or in.
//!
//! ```
//! use std::time::Duration;
//!
//! use crypto::Seed;
//! use sim::nat::{NatBox, NatKind};
//!
//! let mut nat = NatBox::new(NatKind::PortCone, [198, 51, 100, 1].into(), &Seed::fixed(1));
//! let (inside, peer) = (([10, 0, 0, 2], 4000).into(), ([203, 0, 113, 9], 9).into());
//! let seen = nat.outbound(inside, peer, Duration::ZERO).expect("it lets UDP out");
//! assert_eq!(nat.inbound(peer, seen, Duration::from_millis(40)), Some(inside));
//! assert_eq!(nat.inbound(([203, 0, 113, 9], 10).into(), seen, Duration::from_millis(40)), None);
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crypto::{Rng, Seed};

/// How a box behaves, in the words of RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NatKind {
    /// No translation and no filter: inside addresses are public.
    None,
    /// Endpoint-independent mapping and filtering, ports preserved.
    FullCone,
    /// The same mapping, address-dependent filtering.
    AddrCone,
    /// The same mapping, address- and port-dependent filtering. What is not let in leaves no trace.
    PortCone,
    /// The same, but what is not let in counts as a flow of the box itself (Linux without a filter for its own input): a later
    /// datagram from inside to where it came from cannot have the port that it went to, and gets another one.
    PortClash,
    /// A new port for each flow, one above the last one, from 40,000 on.
    SymSeq,
    /// A new port for each flow, at random.
    SymRand,
    /// No UDP in or out.
    UdpBlock,
}

impl NatKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::FullCone,
        Self::AddrCone,
        Self::PortCone,
        Self::PortClash,
        Self::SymSeq,
        Self::SymRand,
        Self::UdpBlock,
    ];

    /// A short name, for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FullCone => "fullcone",
            Self::AddrCone => "addrcone",
            Self::PortCone => "portcone",
            Self::PortClash => "portclash",
            Self::SymSeq => "symseq",
            Self::SymRand => "symrand",
            Self::UdpBlock => "udpblock",
        }
    }
}

/// One box, with one public address.
#[derive(Debug)]
pub struct NatBox {
    kind: NatKind,
    public: IpAddr,
    rng: Rng,
    /// By who is outside and the public port: the reply direction of a flow, which no two flows can have in common.
    flows: BTreeMap<(SocketAddr, u16), Flow>,
    /// By inside and outside address: the same flows from the other side.
    by_inside: BTreeMap<(SocketAddr, SocketAddr), u16>,
    /// Ports of cones, as long as they are used: whose they are.
    mapped: BTreeMap<u16, (SocketAddr, Duration)>,
    /// Addresses that were sent to from each public port of a cone.
    contacted: BTreeMap<(IpAddr, u16), Duration>,
    next: u16,
    unreplied: Duration,
    replied: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    /// `None` for strays, which are the box's own.
    inside: Option<SocketAddr>,
    used: Duration,
    replied: bool,
}

impl NatBox {
    /// A box that nothing has passed yet.
    #[must_use]
    pub fn new(kind: NatKind, public: IpAddr, seed: &Seed) -> Self {
        Self {
            kind,
            public,
            rng: seed.fork("nat box").rng(),
            flows: BTreeMap::new(),
            by_inside: BTreeMap::new(),
            mapped: BTreeMap::new(),
            contacted: BTreeMap::new(),
            next: FIRST_IN_SEQUENCE,
            unreplied: Duration::from_secs(30),
            replied: Duration::from_secs(120),
        }
    }

    /// Sets how long flows without and with answers are kept.
    #[must_use]
    pub const fn timeouts(mut self, unreplied: Duration, replied: Duration) -> Self {
        self.unreplied = unreplied;
        self.replied = replied;
        self
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> NatKind {
        self.kind
    }

    /// Its public address.
    #[must_use]
    pub const fn public(&self) -> IpAddr {
        self.public
    }

    /// Forgets all flows, as after a restart. The public address may be another one then.
    pub fn rebind(&mut self, public: IpAddr) {
        self.public = public;
        self.flows.clear();
        self.by_inside.clear();
        self.mapped.clear();
        self.contacted.clear();
    }

    /// Lets somebody else behind a sequential box begin `count` flows.
    pub fn skip(&mut self, count: u16) {
        for _ in 0..count {
            self.in_sequence();
        }
    }

    /// A datagram on its way out: the address that it seems to come from, or `None` if it is not let out.
    pub fn outbound(&mut self, from: SocketAddr, to: SocketAddr, now: Duration) -> Option<SocketAddr> {
        match self.kind {
            NatKind::None => return Some(from),
            NatKind::UdpBlock => return None,
            _ => {}
        }
        if let Some(port) = self.by_inside.get(&(from, to)).copied()
            && let Some(flow) = self.live((to, port), now)
            && flow.inside == Some(from)
        {
            self.touch(from, to, port, now);
            return Some(SocketAddr::new(self.public, port));
        }
        // Preserved, unless somebody has it: another host, or towards this address a stray.
        let free = self.is_free(from, to, now);
        let port = match self.kind {
            NatKind::SymSeq => self.in_sequence(),
            NatKind::SymRand => self.free_port(to, now),
            _ if free => from.port(),
            _ => self.free_port(to, now),
        };
        self.flows.insert((to, port), Flow { inside: Some(from), used: now, replied: false });
        self.by_inside.insert((from, to), port);
        self.touch(from, to, port, now);
        Some(SocketAddr::new(self.public, port))
    }

    /// A datagram on its way in, to one of the box's ports: the inside address that it goes to, or `None` if it is not let in.
    pub fn inbound(&mut self, from: SocketAddr, to: SocketAddr, now: Duration) -> Option<SocketAddr> {
        match self.kind {
            NatKind::None => return Some(to),
            NatKind::UdpBlock => return None,
            _ => {}
        }
        if to.ip() != self.public {
            return None;
        }
        let key = (from, to.port());
        if let Some(flow) = self.live(key, now) {
            flow.used = now;
            flow.replied |= flow.inside.is_some();
            let inside = flow.inside?;
            self.keep(inside, to.port(), now);
            return Some(inside);
        }
        let admitted = match self.kind {
            NatKind::FullCone => true,
            NatKind::AddrCone => self.contacted.get(&(from.ip(), to.port())).is_some_and(|at| now < *at + self.replied),
            _ => false,
        };
        let owner = self.mapped.get(&to.port()).filter(|(_, at)| admitted && now < *at + self.replied).copied();
        if let Some((inside, _)) = owner {
            self.flows.insert(key, Flow { inside: Some(inside), used: now, replied: true });
            self.by_inside.insert((inside, from), to.port());
            return Some(inside);
        }
        if self.kind == NatKind::PortClash {
            self.flows.insert(key, Flow { inside: None, used: now, replied: false });
        }
        None
    }

    /// How many flows are in the table, forgotten ones included.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    fn live(&mut self, key: (SocketAddr, u16), now: Duration) -> Option<&mut Flow> {
        let (unreplied, replied) = (self.unreplied, self.replied);
        self.flows.get_mut(&key).filter(|flow| now < flow.used + if flow.replied { replied } else { unreplied })
    }

    fn touch(&mut self, from: SocketAddr, to: SocketAddr, port: u16, now: Duration) {
        if let Some(flow) = self.flows.get_mut(&(to, port)) {
            flow.used = now;
        }
        self.contacted.insert((to.ip(), port), now);
        self.keep(from, port, now);
    }

    fn keep(&mut self, inside: SocketAddr, port: u16, now: Duration) {
        if !matches!(self.kind, NatKind::SymSeq | NatKind::SymRand) {
            self.mapped.insert(port, (inside, now));
        }
    }

    fn is_free(&mut self, from: SocketAddr, to: SocketAddr, now: Duration) -> bool {
        let port = from.port();
        let replied = self.replied;
        let others = self.mapped.get(&port).is_some_and(|(owner, at)| *owner != from && now < *at + replied);
        !others && self.live((to, port), now).is_none()
    }

    fn free_port(&mut self, to: SocketAddr, now: Duration) -> u16 {
        loop {
            let port = u16::try_from(1024 + self.rng.below(65_536 - 1024)).unwrap_or(1024);
            if self.live((to, port), now).is_none() {
                return port;
            }
        }
    }

    const fn in_sequence(&mut self) -> u16 {
        let port = self.next;
        self.next = if port >= FIRST_IN_SEQUENCE + SEQUENCE - 1 { FIRST_IN_SEQUENCE } else { port + 1 };
        port
    }
}

const FIRST_IN_SEQUENCE: u16 = 40_000;
const SEQUENCE: u16 = 4000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: [u8; 4], port: u16) -> SocketAddr {
        (ip, port).into()
    }

    const WAN: [u8; 4] = [198, 51, 100, 1];
    const HOST: [u8; 4] = [10, 0, 0, 2];

    fn nat(kind: NatKind) -> NatBox {
        NatBox::new(kind, WAN.into(), &Seed::fixed(1))
    }

    /// Two addresses of one server, and a second server: ports seen, and who is let in to the first of them.
    fn character(kind: NatKind) -> (Vec<Option<u16>>, [bool; 3]) {
        let servers = [at([203, 0, 113, 10], 1), at([203, 0, 113, 10], 2), at([203, 0, 113, 11], 1)];
        let mut nat = nat(kind);
        let seen = nat.outbound(at(HOST, 5000), servers[0], Duration::ZERO);
        let inside = seen.map(|seen| servers.map(|server| nat.inbound(server, seen, Duration::ZERO).is_some()));
        let mut fresh = self::nat(kind);
        let ports =
            servers.map(|server| fresh.outbound(at(HOST, 5000), server, Duration::ZERO).map(|seen| seen.port()));
        (ports.to_vec(), inside.unwrap_or([false; 3]))
    }

    #[test]
    fn each_kind_maps_and_filters_as_it_says() {
        let preserved = vec![Some(5000); 3];
        assert_eq!(character(NatKind::None), (preserved.clone(), [true; 3]));
        assert_eq!(character(NatKind::FullCone), (preserved.clone(), [true; 3]));
        assert_eq!(character(NatKind::AddrCone), (preserved.clone(), [true, true, false]));
        assert_eq!(character(NatKind::PortCone), (preserved.clone(), [true, false, false]));
        assert_eq!(character(NatKind::PortClash), (preserved, [true, false, false]));
        assert_eq!(character(NatKind::SymSeq), (vec![Some(40_000), Some(40_001), Some(40_002)], [true, false, false]));
        assert_eq!(character(NatKind::UdpBlock), (vec![None; 3], [false; 3]));
        let (ports, inside) = character(NatKind::SymRand);
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && inside == [true, false, false]);
    }

    #[test]
    fn a_stray_takes_the_port_only_where_it_is_recorded_and_only_for_a_while() {
        let (host, peer) = (at(HOST, 5000), at([203, 0, 113, 10], 1));
        for (kind, taken) in [(NatKind::PortCone, false), (NatKind::PortClash, true)] {
            let mut nat = nat(kind);
            assert_eq!(nat.inbound(peer, at(WAN, 5000), Duration::ZERO), None);
            let seen = nat.outbound(host, peer, Duration::from_secs(1)).expect("let out");
            assert_eq!(seen.port() != 5000, taken, "{kind:?}");
            // Elsewhere nothing has changed.
            assert_eq!(nat.outbound(host, at([203, 0, 113, 10], 2), Duration::from_secs(1)), Some(at(WAN, 5000)));
        }
        let mut nat = nat(NatKind::PortClash);
        assert_eq!(nat.inbound(peer, at(WAN, 5000), Duration::ZERO), None);
        assert_eq!(nat.outbound(host, peer, Duration::from_secs(30)), Some(at(WAN, 5000)));
    }

    #[test]
    fn flows_are_forgotten() {
        let (host, peer) = (at(HOST, 5000), at([203, 0, 113, 10], 1));
        let mut nat = nat(NatKind::PortCone);
        let seen = nat.outbound(host, peer, Duration::ZERO).expect("let out");
        assert_eq!(nat.inbound(peer, seen, Duration::from_secs(30)), None, "without an answer");
        let seen = nat.outbound(host, peer, Duration::from_secs(31)).expect("let out");
        assert!(nat.inbound(peer, seen, Duration::from_secs(60)).is_some());
        assert!(nat.inbound(peer, seen, Duration::from_secs(179)).is_some(), "with one");
        nat.rebind([198, 51, 100, 2].into());
        assert_eq!(nat.inbound(peer, seen, Duration::from_secs(180)), None);
    }
}
