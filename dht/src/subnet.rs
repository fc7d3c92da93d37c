//! Which addresses count as one place in the network, and the places that a node may take in the key space.

use std::net::{IpAddr, SocketAddr};

pub use framing::scope::{Subnet, is_public, is_usable};
use sha2::{Digest, Sha256};

use crate::{Contact, Key};

/// Which addresses bind the keys of nodes and count against the limits per subnet.
///
/// All nodes of a network must agree on it, because it says where a node is in the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Subnets {
    /// Those that can be reached from everywhere. Loopback, private and link-local addresses are exempt.
    #[default]
    Public,
    /// All: for simulations of attackers.
    All,
    /// None: for one machine, or one local network. A node chooses its key as it likes.
    Off,
}

impl Subnets {
    /// The place of a node in the key space (SPEC 11.1): 32 bits by its subnet and 224 by its id, or 256 by its id where
    /// the address does not count.
    ///
    /// Of each subnet there are eight beginnings; which one a node has follows from its id. So new ids, which cost nothing,
    /// do not bring an attacker near a key of his choice, and addresses are dear.
    #[must_use]
    pub fn key_of(self, contact: &Contact) -> Key {
        let mut key: [u8; 32] = Sha256::new().chain_update(NODE).chain_update(contact.id.as_bytes()).finalize().into();
        if let Some(subnet) = self.of(contact.addr.ip()) {
            let variant = key.last().map_or(0, |byte| byte % VARIANTS);
            let hash = Sha256::new().chain_update(SUBNET).chain_update(subnet.to_be_bytes()).chain_update([variant]);
            key.iter_mut().zip(hash.finalize()).take(BOUND).for_each(|(byte, bound)| *byte = bound);
        }
        Key::from_bytes(key)
    }

    /// The subnet of an address, if it counts.
    #[must_use]
    pub fn of(self, ip: IpAddr) -> Option<Subnet> {
        let counts = match self {
            Self::Public => is_public(ip),
            Self::All => true,
            Self::Off => false,
        };
        counts.then(|| Subnet::of(ip))
    }
}

/// What counts as one address: an IPv4 address, an IPv6 /64.
pub(crate) fn address_of(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => u128::from(ip) & (u128::MAX << 64),
    }
}

/// The family of an address. Each has a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4, mapped addresses included.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(addr: &SocketAddr) -> Self {
        match addr.ip().to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

const NODE: &[u8] = b"setowire dht node 1";
const SUBNET: &[u8] = b"setowire dht subnet 1";
/// How many beginnings of keys a subnet has.
const VARIANTS: u8 = 8;
/// How many bytes of a key follow from the subnet.
const BOUND: usize = 4;
