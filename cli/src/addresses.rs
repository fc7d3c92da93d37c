//! Addresses of this machine, and which of them to tell others.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use if_addrs::Interface;

use crate::http::Origin;

/// Those at which others reach what listens at the addresses of `bound`: these themselves, or where one is any, the addresses
/// of the interfaces. Those of the internet come first, loopback addresses only where there are no others.
pub(crate) fn reachable(bound: &[SocketAddr]) -> Vec<SocketAddr> {
    let interfaces = interfaces();
    let mut found: Vec<SocketAddr> = Vec::new();
    for bound in bound {
        if bound.ip().is_unspecified() {
            let ips = interfaces.iter().map(Interface::ip);
            let ips = ips.filter(|ip| ip.is_ipv4() == bound.is_ipv4() && !is_link_local(*ip));
            found.extend(ips.map(|ip| SocketAddr::new(ip, bound.port())));
        } else {
            found.push(*bound);
        }
    }
    if found.iter().any(|addr| !addr.ip().is_loopback()) {
        found.retain(|addr| !addr.ip().is_loopback() || bound.contains(addr));
    }
    found.sort_by_key(|addr| Reverse(Origin::new(addr.ip()).is_public()));
    found
}

/// The interfaces that are up; none if the system does not tell.
pub(crate) fn interfaces() -> Vec<Interface> {
    let mut found = if_addrs::get_if_addrs().unwrap_or_default();
    found.retain(Interface::is_oper_up);
    found
}

/// Whether it means something on one link only, and not even there without the name of the interface.
pub(crate) const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_was_chosen_is_told_as_it_is() {
        let chosen = SocketAddr::from(([127, 0, 0, 1], 7));
        assert_eq!(reachable(&[chosen]), [chosen]);
        let any = SocketAddr::from(([0, 0, 0, 0], 7));
        assert!(reachable(&[any]).iter().all(|addr| addr.is_ipv4() && addr.port() == 7 && !addr.ip().is_unspecified()));
    }
}
