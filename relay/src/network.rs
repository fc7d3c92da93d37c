//! Which addresses count as one place in the network, and how many of it have something.

use std::collections::BTreeMap;
use std::net::IpAddr;

use framing::scope::is_public;
pub(crate) use framing::scope::is_usable;

/// Which addresses count against the shares of addresses and networks, and make relays different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Networks {
    /// Those that can be reached from everywhere. Loopback, private and link-local addresses are exempt.
    #[default]
    Public,
    /// All: for simulations of attackers.
    All,
    /// None: for one machine, or one local network.
    Off,
}

impl Networks {
    /// Where an address is, if it counts.
    #[must_use]
    pub fn of(self, ip: IpAddr) -> Option<Place> {
        let counts = match self {
            Self::Public => is_public(ip),
            Self::All => true,
            Self::Off => false,
        };
        counts.then(|| Place { address: prefix(ip, 32, 64), network: prefix(ip, 16, 48) })
    }
}

/// Where somebody is: at an address (an IPv6 /64 is one), in a network that is dear to have many of (an IPv4 /16, an IPv6 /48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    address: u128,
    network: u128,
}

impl Place {
    /// Whether two are at one address.
    #[must_use]
    pub const fn is_same(&self, other: &Self) -> bool {
        self.address == other.address
    }

    /// Whether two are in one network.
    #[must_use]
    pub const fn is_near(&self, other: &Self) -> bool {
        self.network == other.network
    }
}

/// How many things the addresses and networks have.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    addresses: BTreeMap<u128, usize>,
    networks: BTreeMap<u128, usize>,
}

impl Shares {
    /// Whether there is room for one more.
    pub(crate) fn has_room(&self, place: Option<Place>, by_address: usize, by_network: usize) -> bool {
        place.is_none_or(|place| {
            self.addresses.get(&place.address).is_none_or(|count| *count < by_address)
                && self.networks.get(&place.network).is_none_or(|count| *count < by_network)
        })
    }

    pub(crate) fn add(&mut self, place: Option<Place>) {
        if let Some(Place { address, network }) = place {
            *self.addresses.entry(address).or_default() += 1;
            *self.networks.entry(network).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, place: Option<Place>) {
        let Some(Place { address, network }) = place else { return };
        for (counts, key) in [(&mut self.addresses, address), (&mut self.networks, network)] {
            if let Some(count) = counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&key);
                }
            }
        }
    }
}

/// The first bits of an address, as IPv6; `v4` of 32 and `v6` of 128.
fn prefix(ip: IpAddr, v4: u32, v6: u32) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()) & (u128::MAX << (32 - v4)),
        IpAddr::V6(ip) => u128::from(ip) & (u128::MAX << (128 - v6)),
    }
}
