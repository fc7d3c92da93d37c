//! What is known of the way to the outside, and how others are looked for: the answer to `/nat`.

use std::net::SocketAddr;

use swarm::Swarm;
use swarm::discovery::Task;
use swarm::nat::{Filtering, MappedBy, Mapping, Nat, PortMapping};

/// One line for each thing.
pub(crate) fn lines(swarm: &Swarm) -> Vec<String> {
    let mut lines = vec![outside(&swarm.nat(), swarm.local_addr())];
    lines.extend(router(&swarm.port_mapping()));
    for progress in swarm.discovery().iter() {
        let what = match progress.task {
            Task::Lookup(_) => "looking for the room".to_owned(),
            Task::Announce(_) => "announcing the room".to_owned(),
            Task::Record => "announcing who you are".to_owned(),
            Task::Peer(peer) => format!("looking for {}", peer.short()),
            Task::Reconnect => "looking for those of earlier runs".to_owned(),
            _ => continue,
        };
        lines.push(format!("{what}: {progress}"));
    }
    lines
}

/// The NAT in one word, the address that others see, and the port here.
fn outside(nat: &Nat, local: SocketAddr) -> String {
    let side = if nat.v4.addr.is_some() { &nat.v4 } else { &nat.v6 };
    let word = match (side.translated, side.mapping, side.filtering) {
        (Some(false), ..) => "none",
        (_, Mapping::EndpointIndependent, Filtering::EndpointIndependent) => "open",
        (_, Mapping::EndpointIndependent, _) => "one-port-for-all",
        (_, Mapping::AddressDependent, _) => "port-for-each-address",
        (_, Mapping::Sequential, _) => "ports-in-sequence",
        (_, Mapping::Random, _) => "ports-at-random",
        (_, Mapping::Blocked, _) => "no-udp",
        _ => "unknown",
    };
    // Nobody beyond the network has said where this is.
    let addr = nat.addresses().next().map_or_else(|| "LAN".to_owned(), |addr| addr.to_string());
    format!("nat={word} addr={addr} local={}", local.port())
}

/// What came of asking the router, if it was asked.
fn router(mapping: &PortMapping) -> Option<String> {
    Some(match mapping {
        PortMapping::Asking => "asking the router to forward a port".to_owned(),
        PortMapping::Forwarded { addr, by } => {
            let by = match by {
                MappedBy::Pcp => "PCP",
                MappedBy::NatPmp => "NAT-PMP",
                MappedBy::Upnp => "UPnP",
                _ => "some protocol",
            };
            format!("the router forwards {addr}, asked by {by}")
        }
        PortMapping::Failed { why } => format!("the router forwards nothing: {why}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat(mapping: Mapping, translated: bool) -> Nat {
        let mut nat = Nat::default();
        nat.v4.addr = Some("192.0.2.1:7".parse().unwrap());
        (nat.v4.mapping, nat.v4.translated) = (mapping, Some(translated));
        nat
    }

    #[test]
    fn the_outside_is_one_line_whatever_is_known() {
        let local = "127.0.0.1:9".parse().unwrap();
        assert_eq!(outside(&Nat::default(), local), "nat=unknown addr=LAN local=9");
        assert_eq!(outside(&nat(Mapping::Unknown, false), local), "nat=none addr=192.0.2.1:7 local=9");
        assert_eq!(outside(&nat(Mapping::Random, true), local), "nat=ports-at-random addr=192.0.2.1:7 local=9");
    }

    #[test]
    fn a_router_that_was_not_asked_is_not_told_of() {
        assert_eq!(router(&PortMapping::Off), None);
        let failed = PortMapping::Failed { why: "no gateway".into() };
        assert_eq!(router(&failed).unwrap(), "the router forwards nothing: no gateway");
    }
}
