//! Socket addresses in 18 bytes: IPv6 or IPv4-mapped, then the port (SPEC 5.1).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The length, in bytes.
pub const LEN: usize = 18;

/// The bytes of an address. Scope and flow label of an IPv6 address mean nothing to others and are not sent.
#[must_use]
pub fn encode(address: SocketAddr) -> [u8; LEN] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; LEN];
    let (head, tail) = bytes.split_at_mut(16);
    head.copy_from_slice(&ip.octets());
    tail.copy_from_slice(&address.port().to_be_bytes());
    bytes
}

/// The address in `bytes`; one that is IPv4-mapped is handed out as IPv4. Every value is an address, reachable or not.
#[must_use]
pub fn decode(bytes: [u8; LEN]) -> SocketAddr {
    let [ip @ .., high, low] = bytes;
    let ip: [u8; 16] = ip;
    SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_be_bytes([high, low]))
}
