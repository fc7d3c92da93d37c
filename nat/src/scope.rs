//! What an address says of itself: where it can be reached from, and which network it is in.

use std::net::IpAddr;

pub use framing::scope::{Subnet, is_public, is_usable};

/// Whether an address is one of a private network or of a link, and means nothing elsewhere. Neither those of one machine are, nor what
/// is reserved, nor what a translator makes public addresses of.
#[must_use]
pub const fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether both are in one network of a customer: the same IPv4 address, or the same IPv6 /64.
#[must_use]
pub fn same_site(a: IpAddr, b: IpAddr) -> bool {
    match (a.to_canonical(), b.to_canonical()) {
        (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a) >> 64 == u128::from(b) >> 64,
        (a, b) => a == b,
    }
}

/// Whether both may be on one link: private or link-local addresses of one IPv4 /24, or one IPv6 /64.
#[must_use]
pub fn same_link(a: IpAddr, b: IpAddr) -> bool {
    match (a.to_canonical(), b.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u32::from(a) >> 8 == u32::from(b) >> 8,
        (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a) >> 64 == u128::from(b) >> 64,
        _ => false,
    }
}

/// The family of an address. What is known of one says nothing about the other.
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
    pub const fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}
