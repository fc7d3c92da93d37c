//! Which addresses are on a network that this machine is on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::Interface;

/// The widest networks whose members are taken for local if their addresses are public (SPEC 10.1): what a tunnel
/// claims for itself is no neighbourhood.
const MIN_PREFIX_V4: u8 = 16;
const MIN_PREFIX_V6: u8 = 48;

/// The address as it is dialled: not IPv4-mapped, and without a flow label.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match (addr, addr.ip().to_canonical()) {
        (SocketAddr::V6(v6), IpAddr::V6(ip)) => SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()).into(),
        (_, ip) => SocketAddr::new(ip, addr.port()),
    }
}

/// The same address with another port.
pub(super) fn with_port(mut addr: SocketAddr, port: u16) -> SocketAddr {
    addr.set_port(port);
    addr
}

/// Whether a beacon from `ip` comes from a local network: one for private use, or that of an interface.
pub(super) fn is_local(ip: IpAddr, interfaces: &[Interface]) -> bool {
    match ip {
        IpAddr::V4(ip) if is_nobody_v4(ip) => false,
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_multicast() => false,
        IpAddr::V4(ip) if is_private_v4(ip) => true,
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local() => true,
        ip => interfaces.iter().any(|interface| is_within(ip, interface)),
    }
}

/// Loopback, RFC 1918, RFC 3927, RFC 6598.
fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    ip.is_loopback() || ip.is_private() || ip.is_link_local() || (first == 100 && (64..128).contains(&second))
}

fn is_nobody_v4(ip: Ipv4Addr) -> bool {
    let [first, ..] = ip.octets();
    first == 0 || first >= 224
}

/// Whether `ip` is in the network of an interface.
pub(in crate::node) fn is_within(ip: IpAddr, interface: &Interface) -> bool {
    let prefix = interface.prefix;
    match (ip, interface.addr.ip()) {
        (IpAddr::V4(ip), IpAddr::V4(ours)) => {
            let differing = (ip.to_bits() ^ ours.to_bits()).leading_zeros();
            (MIN_PREFIX_V4..=32).contains(&prefix) && differing >= u32::from(prefix)
        }
        (IpAddr::V6(ip), IpAddr::V6(ours)) => {
            let differing = (Ipv6Addr::to_bits(ip) ^ ours.to_bits()).leading_zeros();
            (MIN_PREFIX_V6..=128).contains(&prefix) && differing >= u32::from(prefix)
        }
        _ => false,
    }
}
