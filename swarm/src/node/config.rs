//! What the owner of a node decides.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use structs::{Link, Path};

use crate::ServeRelay;
use crate::discovery::Reach;
use crate::transport::TransportAddr;

/// The settings of a [`Node`](super::Node).
#[derive(Debug, Clone)]
pub struct Config {
    pub(super) session: peer::Config,
    pub(super) lan: bool,
    pub(super) serve: relay::Config,
    pub(super) serve_relay: Option<ServeRelay>,
    pub(super) find_relays: bool,
    pub(super) reach: Reach,
    pub(super) relays: relay::client::Config,
    pub(super) dht: Option<Reach>,
    pub(super) pex: Option<Reach>,
    pub(super) observers: nat::Scope,
    pub(super) direct: bool,
    pub(super) serve_stun: bool,
    pub(super) tcp_fallback: bool,
    pub(super) ways: Ways,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session: peer::Config::default(),
            lan: true,
            serve: relay::Config::off(),
            serve_relay: None,
            find_relays: false,
            reach: Reach::World,
            relays: relay::client::Config::default(),
            dht: None,
            pex: None,
            observers: nat::Scope::Public,
            direct: true,
            serve_stun: false,
            tcp_fallback: true,
            ways: Ways::default(),
        }
    }
}

impl Config {
    /// The settings of the sessions. Their protocols are the node's own.
    #[must_use]
    pub fn session(mut self, session: peer::Config) -> Self {
        self.session = session;
        self
    }

    /// Whether topics are announced and looked up by multicast on the local network. Default: yes.
    #[must_use]
    pub const fn lan(mut self, on: bool) -> Self {
        self.lan = on;
        self
    }

    /// What the node gives away as a relay for others. Default: nothing.
    #[must_use]
    pub const fn serve(mut self, limits: relay::Config) -> Self {
        self.serve = limits;
        self
    }

    /// When it gives that. Default: always, unless [`serve`](Self::serve) says nothing is given.
    #[must_use]
    pub const fn serve_relay(mut self, when: ServeRelay) -> Self {
        self.serve_relay = Some(when);
        self
    }

    /// Whether relays are used that others name: to be reached, while nobody comes to the node who was not called, for which
    /// it looks for some; and to dial those who are said to be behind them. Default: no.
    #[must_use]
    pub const fn find_relays(mut self, on: bool) -> Self {
        self.find_relays = on;
        self
    }

    /// How far the node is to be reached. Default: from everywhere.
    #[must_use]
    pub const fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// How the node uses relays. Default: places at two of those that it is told of, and others know its address from them.
    #[must_use]
    pub const fn relays(mut self, config: relay::client::Config) -> Self {
        self.relays = config;
        self
    }

    /// Who is believed about where this node is. Default: those who have public addresses, about public ones.
    #[must_use]
    pub const fn observers(mut self, scope: nat::Scope) -> Self {
        self.observers = scope;
        self
    }

    /// Whether direct paths are looked for to peers that are reached through relays, for which both tell each other their
    /// addresses. Default: yes.
    #[must_use]
    pub const fn direct(mut self, on: bool) -> Self {
        self.direct = on;
        self
    }

    /// Whether STUN Binding requests are answered. Default: no.
    #[must_use]
    pub const fn serve_stun(mut self, on: bool) -> Self {
        self.serve_stun = on;
        self
    }

    /// How far the node goes in telling peers of others in a topic, and being told of some; `None`: not at all, which is the
    /// default.
    #[must_use]
    pub const fn pex(mut self, reach: Option<Reach>) -> Self {
        self.pex = reach;
        self
    }

    /// How far the node goes in the distributed hash table, where it announces its topics and its addresses and looks for
    /// others; `None`: not at all, which is the default. Nobody beyond the reach is contacted, and no address is named that
    /// does not reach as far.
    #[must_use]
    pub const fn dht(mut self, reach: Option<Reach>) -> Self {
        self.dht = reach;
        self
    }

    /// Whether addresses of our owner and of relays that are silent are tried by TCP as well. Default: yes.
    #[must_use]
    pub const fn tcp_fallback(mut self, on: bool) -> Self {
        self.tcp_fallback = on;
        self
    }

    /// By what datagrams leave. Default: by UDP, over IPv4 and IPv6.
    #[must_use]
    pub fn ways(mut self, ways: Ways) -> Self {
        self.ways = ways;
        self
    }
}

/// By what the datagrams of a node leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ways {
    /// There is a UDP socket for IPv4.
    pub ipv4: bool,
    /// There is one for IPv6.
    pub ipv6: bool,
    /// The transports of the application, by their numbers: their links are those of [`transport_link`], their addresses
    /// [`TransportAddr`]s.
    pub transports: BTreeSet<u16>,
}

impl Default for Ways {
    fn default() -> Self {
        Self { ipv4: true, ipv6: true, transports: BTreeSet::new() }
    }
}

impl Ways {
    /// The way to an address, if there is any.
    pub(super) fn to(&self, addr: SocketAddr) -> Option<Path> {
        if let Some(place) = TransportAddr::of(addr) {
            let link = transport_link(place.transport());
            let path = Path { link, local: place.anywhere().into(), remote: addr };
            return self.transports.contains(&place.transport()).then_some(path);
        }
        let passes = if addr.is_ipv4() { self.ipv4 } else { self.ipv6 };
        passes.then(|| Path::udp(super::dials::any_local(addr), addr))
    }
}

/// The link of a transport that the application brought.
#[must_use]
pub const fn transport_link(transport: u16) -> Link {
    // The numbers below are those of multicast.
    Link::Custom(1 << 16 | transport as u32)
}
