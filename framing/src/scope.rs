//! What an address says of itself: whether it can be reached from everywhere, and which network it is in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The network that an address is in, as far as it is a cost to have addresses in many: an IPv4 /24, an IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet(u128);

impl Subnet {
    /// The network of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(u128::from(ip.to_ipv6_mapped()) & (u128::MAX << 8)),
            IpAddr::V6(ip) => Self(u128::from(ip) & (u128::MAX << 80)),
        }
    }

    /// The bytes of its first address, IPv4 in the mapped form.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// Whether an address can be reached from everywhere, as far as it says itself (RFC 6890).
#[must_use]
pub const fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && second & 0xc0 == 64; // 100.64.0.0/10, RFC 6598
            !(first == 0 || first >= 224 || shared || ip.is_loopback() || ip.is_private() || ip.is_link_local())
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000, // global unicast, RFC 4291 section 2.4
    }
}

/// Whether an address can be sent to at all: it has a port, and is neither unspecified nor of a group.
#[must_use]
pub const fn is_usable(addr: &SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(Ipv4Addr::BROADCAST));
    let none = matches!(ip, IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    addr.port() != 0 && !none && !broadcast && !ip.is_multicast()
}
