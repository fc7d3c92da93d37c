//! What the settings come to: those that were made, and for the others what the preset says.

use std::net::SocketAddr;

use relay::Networks;

use super::Builder;
use crate::discovery::Reach;
use crate::driver::source::Announcer;
use crate::{Preset, RelayLimits, ServeRelay, node};

impl Builder {
    /// How far the node goes to find others.
    pub(super) fn reach(&self, bound: &[SocketAddr]) -> Reach {
        let wanted = match self.preset {
            Preset::Public | Preset::Server => Reach::World,
            Preset::Lan => Reach::Network,
            Preset::Loopback => Reach::Host,
        };
        wanted.min(Announcer::reach(bound))
    }

    pub(super) fn resolve(&self, bound: &[SocketAddr]) -> node::Config {
        let mut session = self.session.clone().unwrap_or_else(|| {
            let base = peer::Config::default().datagram_queue(DATAGRAM_QUEUE);
            match self.preset {
                Preset::Server => base.max_peers(65_536),
                _ => base,
            }
        });
        if let Some(peers) = self.max_peers {
            session = session.max_peers(peers.get());
        }
        if let Some(network) = self.network {
            session = session.network(network);
        }
        if let Some(agent) = &self.agent {
            session = session.agent(agent);
        }
        if let Some(idle) = self.idle {
            session = session.idle(idle);
        }
        let lan = self.lan.unwrap_or(self.preset != Preset::Server);
        let dht = self.dht.unwrap_or(true).then(|| self.reach(bound));
        let pex = self.pex.unwrap_or(true).then(|| self.reach(bound));
        let config = node::Config::default().session(session).lan(lan).dht(dht).pex(pex);
        let config = config.serve_stun(self.serve_stun).direct(self.direct.unwrap_or(true));
        let config = config.tcp_fallback(self.tcp_fallback.unwrap_or(true));
        self.resolve_relays(config, self.reach(bound))
    }

    fn resolve_relays(&self, config: node::Config, reach: Reach) -> node::Config {
        // Within one network nobody has many addresses, and everybody may have any.
        let networks = if reach == Reach::World { Networks::Public } else { Networks::Off };
        let limits = self.relay_limits.unwrap_or_else(|| RelayLimits::default().networks(networks));
        let serve = self.serve_relay.unwrap_or(match self.preset {
            Preset::Server => ServeRelay::Always,
            Preset::Public => ServeRelay::Auto,
            Preset::Lan | Preset::Loopback => ServeRelay::Never,
        });
        let far = reach > Reach::Host && self.preset != Preset::Server;
        let used = self.use_relays.unwrap_or(far || !self.relays.is_empty());
        // Who names relays later wants places there.
        let wanted = if self.use_relays == Some(false) { 0 } else { relay::limits::WANTED };
        let client = relay::client::Config::default().networks(networks).wanted(wanted);
        config.reach(reach).serve(limits).serve_relay(serve).find_relays(used).relays(client)
    }
}

/// Bytes of datagrams that wait in one session: shared among the protocols, one of which sends any.
const DATAGRAM_QUEUE: usize = 1 << 20;
