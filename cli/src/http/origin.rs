//! Where a request comes from: whom limits count together.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::limits;

/// An address as limits count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    pub(crate) fn new(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }

    pub(crate) const fn ip(self) -> IpAddr {
        self.0
    }

    /// Who has one IPv4 address, or an IPv6 /64, is one host.
    pub(crate) fn host(self) -> u128 {
        match self.0 {
            IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
            IpAddr::V6(ip) => prefix(ip, 64),
        }
    }

    /// Neighbours: IPv4 /24, IPv6 /48.
    pub(crate) fn network(self) -> u128 {
        match self.0 {
            IpAddr::V4(ip) => prefix(ip.to_ipv6_mapped(), 96 + 24),
            IpAddr::V6(ip) => prefix(ip, 48),
        }
    }

    /// How many shares a host has: whoever runs a server on a private network knows who is there, but not what they run; on this
    /// machine there is no end to it.
    pub(crate) const fn shares(self) -> usize {
        if self.0.is_loopback() {
            usize::MAX
        } else if self.is_public() {
            1
        } else {
            limits::PRIVATE
        }
    }

    /// Whether it is an address of the internet.
    pub(crate) const fn is_public(self) -> bool {
        match self.0 {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                // 100.64.0.0/10 is between providers and their customers (RFC 6598).
                let shared = a == 100 && b & 0xC0 == 64;
                let own = ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared;
                !own && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast()
            }
            IpAddr::V6(ip) => {
                let own = ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local();
                !own && !ip.is_unspecified() && !ip.is_multicast()
            }
        }
    }

    /// Whether somebody at `by` may say that a node is here: at his own address, and who is not on the internet also at any other
    /// of private networks; at this machine only who is on it.
    pub(crate) fn may_be_named_by(self, by: Self) -> bool {
        let private = !self.is_public() && !by.is_public();
        let near = !self.0.is_loopback() || by.0.is_loopback();
        self.is_unicast() && (self == by || private && near)
    }

    /// Whether a node can be at this address.
    const fn is_unicast(self) -> bool {
        match self.0 {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        }
    }
}

/// How much hosts and networks have, of something of which one has only so much.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    hosts: BTreeMap<u128, usize>,
    networks: BTreeMap<u128, usize>,
}

impl Shares {
    /// Whether the host has less than its shares of the one, and the network less than the other. A private network has as much as
    /// its hosts.
    pub(crate) fn has_room(&self, origin: Origin, per_host: usize, per_network: usize) -> bool {
        let count = |map: &BTreeMap<u128, usize>, key| map.get(&key).copied().unwrap_or_default();
        count(&self.hosts, origin.host()) < per_host.saturating_mul(origin.shares())
            && (!origin.is_public() || count(&self.networks, origin.network()) < per_network)
    }

    /// The network that has most, if it has more than that of this origin would have with one more.
    pub(crate) fn largest(&self, origin: Origin) -> Option<u128> {
        let ours = self.networks.get(&origin.network()).copied().unwrap_or_default() + 1;
        let (network, count) = self.networks.iter().max_by_key(|(_, count)| **count)?;
        (*count > ours).then_some(*network)
    }

    /// One more.
    pub(crate) fn add(&mut self, origin: Origin) {
        *self.hosts.entry(origin.host()).or_default() += 1;
        *self.networks.entry(origin.network()).or_default() += 1;
    }

    /// One less.
    pub(crate) fn remove(&mut self, origin: Origin) {
        for (map, key) in [(&mut self.hosts, origin.host()), (&mut self.networks, origin.network())] {
            match map.get_mut(&key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    map.remove(&key);
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.networks.is_empty()
    }
}

/// How many requests each host makes in the second that is now.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    began: Option<Instant>,
    counts: BTreeMap<u128, usize>,
}

impl Pace {
    /// Whether one more is not too many. Hosts beyond [`PACED`](limits::PACED) in one second are not counted.
    pub(crate) fn may_ask(&mut self, origin: Origin, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            (self.began, self.counts) = (Some(now), BTreeMap::new());
        }
        let host = origin.host();
        if !self.counts.contains_key(&host) && self.counts.len() >= limits::PACED {
            return true;
        }
        let count = self.counts.entry(host).or_default();
        *count = count.saturating_add(1);
        *count <= limits::REQUESTS_PER_SECOND.saturating_mul(origin.shares())
    }
}

fn prefix(ip: Ipv6Addr, bits: u32) -> u128 {
    u128::from(ip) & (u128::MAX << (128 - bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::new(text.parse().unwrap())
    }

    #[test]
    fn neighbours_are_counted_together() {
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1").host(), origin("192.0.2.2").host());
        assert_eq!(origin("192.0.2.1").network(), origin("192.0.2.2").network());
        assert_ne!(origin("192.0.2.1").network(), origin("192.0.3.1").network());
        assert_eq!(origin("2001:db8:0:1::1").host(), origin("2001:db8:0:1::2").host());
        assert_eq!(origin("2001:db8:0:1::1").network(), origin("2001:db8:0:2::1").network());
        for own in ["127.0.0.1", "10.1.2.3", "192.168.1.1", "169.254.1.1", "100.64.0.1", "::1", "fe80::1", "fd00::1"] {
            assert!(!origin(own).is_public(), "{own}");
        }
        assert!(origin("100.128.0.1").is_public() && origin("2001:db8::1").is_public());
        assert!(
            !origin("224.0.0.1").is_unicast() && !origin("0.0.0.0").is_unicast() && origin("127.0.0.1").is_unicast()
        );
    }

    #[test]
    fn who_asks_all_the_time_is_slowed_down() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for _ in 0..limits::REQUESTS_PER_SECOND {
            assert!(pace.may_ask(origin("203.0.113.7"), now));
        }
        assert!(!pace.may_ask(origin("203.0.113.7"), now));
        assert!(pace.may_ask(origin("203.0.113.8"), now) && pace.may_ask(origin("127.0.0.1"), now));
        let near = (0..1000).filter(|_| pace.may_ask(origin("10.0.0.1"), now)).count();
        assert_eq!(near, limits::PRIVATE * limits::REQUESTS_PER_SECOND);
        assert!((0..10_000).all(|_| pace.may_ask(origin("127.0.0.1"), now)), "perhaps a server in front");
        assert!(pace.may_ask(origin("203.0.113.7"), now + Duration::from_secs(1)));
    }
}
