//! On the loopback interface, with the sockets of this machine. Others may use the groups at the same time: each test looks for
//! beacons of its own.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

use if_addrs::{IfOperStatus, Ifv4Addr, Ifv6Addr};
use structs::Ecn;

use super::*;

/// Far more than it takes: a failing test ends.
const PATIENCE: Duration = Duration::from_secs(20);

fn loopback(ip: IpAddr) -> Interface {
    let bound = SocketAddr::new(ip, 4000);
    let found = interfaces(&[bound]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].addr, bound);
    found[0]
}

fn joined(interfaces: &[Interface]) -> Lan {
    let mut lan = Lan::open().unwrap();
    let before = lan.errors;
    lan.follow(interfaces);
    assert_eq!(lan.errors, before, "joined");
    lan
}

/// A beacon that no other test sends, nor this one in another process.
fn beacon(name: &str) -> Vec<u8> {
    format!("{name} of {}", std::process::id()).into_bytes()
}

fn send(lan: &mut Lan, interface: &Interface, beacon: &[u8]) -> Result<(), io::ErrorKind> {
    let remote: SocketAddr = match interface.addr {
        SocketAddr::V4(_) => SocketAddrV4::new(BEACON_GROUP_V4, BEACON_PORT).into(),
        SocketAddr::V6(_) => SocketAddrV6::new(BEACON_GROUP_V6, BEACON_PORT, 0, interface.index).into(),
    };
    let mut out = TransmitBuf::new(1);
    assert!(out.push(beacon));
    let path = Path { link: LAN_LINK, local: interface.addr, remote };
    lan.send(&out, &out.finish(path, Ecn::NotEct).unwrap())
}

/// Waits for one of `wanted`, in whatever order they come. Returns which, and the path.
async fn hear(lan: &mut Lan, wanted: &[&[u8]]) -> (usize, Path) {
    let mut heard = VecDeque::new();
    let waiting = async {
        while heard.is_empty() {
            std::future::poll_fn(|cx| lan.poll_readable(cx)).await;
            lan.receive(|datagram| {
                let which = wanted.iter().position(|wanted| *wanted == &*datagram.payload);
                heard.extend(which.map(|which| (which, datagram.path)));
            });
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("no beacon came");
    heard.pop_front().unwrap()
}

/// Whether beacons reach the loopback interface by IPv6: it may be missing, and Linux leads no multicast route there by itself.
fn has_v6(lan: &mut Lan, interface: &Interface) -> bool {
    if lan.v6.is_none() {
        eprintln!("skipped: this system has no IPv6");
        return false;
    }
    let before = lan.errors;
    if send(lan, interface, &beacon("v6 probe")) == Err(io::ErrorKind::NetworkUnreachable) {
        assert_eq!(lan.errors, before, "that is nothing to count");
        eprintln!("skipped: no route for IPv6 multicast on the loopback interface");
        eprintln!("to have one: ip -6 route add local ff00::/8 dev lo table local");
        return false;
    }
    true
}

/// Two nodes hear each other and themselves, a third on the same machine hears both, and nobody does after leaving.
async fn exchange(name: &str, interface: Interface) {
    let mut lans = [joined(&[interface]), joined(&[interface]), joined(&[interface])];
    let errors = lans.each_ref().map(|lan| lan.errors);
    for from in 0..2 {
        let beacon = beacon(&format!("{name} {from}"));
        send(&mut lans[from], &interface, &beacon).unwrap();
        for lan in &mut lans {
            let (_, path) = hear(lan, &[&beacon]).await;
            assert_eq!(path.link, LAN_LINK);
            assert_eq!(path.remote.ip(), interface.addr.ip(), "what neighbours dial");
            assert_eq!(path.local.port(), BEACON_PORT);
            assert!(path.local.ip().is_multicast() && path.local.is_ipv4() == interface.addr.is_ipv4());
        }
    }

    let (missed, back) = (beacon(&format!("{name} missed")), beacon(&format!("{name} back")));
    let [sender, stays, leaves] = &mut lans;
    leaves.follow(&[]);
    send(sender, &interface, &missed).unwrap();
    hear(stays, &[&missed]).await;
    leaves.follow(&[interface]);
    send(sender, &interface, &back).unwrap();
    let (which, _) = hear(leaves, &[&missed, &back]).await;
    assert_eq!(which, 1, "what was sent while it was away does not come before what was sent since");
    assert_eq!(lans.map(|lan| lan.errors), errors);
}

#[tokio::test]
async fn nodes_of_one_machine_hear_each_other_by_ipv4() {
    exchange("v4", loopback(Ipv4Addr::LOCALHOST.into())).await;
}

#[tokio::test]
async fn nodes_of_one_machine_hear_each_other_by_ipv6() {
    let interface = loopback(Ipv6Addr::LOCALHOST.into());
    if has_v6(&mut Lan::open().unwrap(), &interface) {
        exchange("v6", interface).await;
    }
}

#[tokio::test]
async fn either_family_wakes_the_reader() {
    let (v4, v6) = (loopback(Ipv4Addr::LOCALHOST.into()), loopback(Ipv6Addr::LOCALHOST.into()));
    let mut lan = joined(&[v4, v6]);
    if !has_v6(&mut lan, &v6) {
        return;
    }
    for (name, interface) in [("first", v4), ("second", v6), ("third", v4)] {
        let beacon = beacon(&format!("either {name}"));
        send(&mut lan, &interface, &beacon).unwrap();
        hear(&mut lan, &[&beacon]).await;
    }
}

/// The sources are what neighbours dial: two nodes that are bound to different addresses of one interface keep them apart.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_beacon_leaves_from_the_address_of_its_path() {
    let other = loopback(Ipv4Addr::new(127, 0, 0, 2).into());
    let mut lan = joined(&[loopback(Ipv4Addr::LOCALHOST.into()), other]);
    let beacon = beacon("source");
    send(&mut lan, &other, &beacon).unwrap();
    let (_, path) = hear(&mut lan, &[&beacon]).await;
    assert_eq!(path.remote.ip(), other.addr.ip());
}

#[tokio::test]
async fn one_turn_reads_so_many_beacons_and_no_more() {
    let interface = loopback(Ipv4Addr::LOCALHOST.into());
    let mut lan = joined(&[interface]);
    let beacon = beacon("turn");
    for _ in 0..=BEACONS_PER_TURN {
        send(&mut lan, &interface, &beacon).unwrap();
    }
    let mut heard = 0;
    let reading = async {
        while heard <= BEACONS_PER_TURN {
            std::future::poll_fn(|cx| lan.poll_readable(cx)).await;
            let mut read = 0;
            let more = lan.receive(|datagram| {
                read += 1;
                heard += usize::from(beacon == *datagram.payload);
            });
            assert!(read <= BEACONS_PER_TURN, "{read}");
            assert_eq!(more, read == BEACONS_PER_TURN);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("beacons went missing");
}

#[tokio::test]
async fn what_cannot_be_joined_or_sent_is_counted() {
    // From the range for documentation (RFC 5737), and the number of no interface.
    let nowhere = Interface { addr: SocketAddr::from(([192, 0, 2, 77], 4000)), prefix: 24, index: u32::MAX };
    let mut lan = Lan::open().unwrap();
    let before = lan.errors;
    lan.follow(&[nowhere]);
    assert_eq!(lan.errors, before + 1);
    assert!(send(&mut lan, &nowhere, &beacon("nowhere")).is_err());
    assert_eq!(lan.errors, before + 2);

    // It goes on where it can.
    let interface = loopback(Ipv4Addr::LOCALHOST.into());
    lan.follow(&[nowhere, interface]);
    let beacon = beacon("somewhere");
    send(&mut lan, &interface, &beacon).unwrap();
    hear(&mut lan, &[&beacon]).await;
}

#[tokio::test]
async fn a_broadcast_reaches_who_is_in_no_group() {
    let interface = loopback(Ipv4Addr::LOCALHOST.into());
    let mut in_no_group = Lan::open().unwrap();
    let (multicast, broadcast) = (beacon("by multicast"), beacon("by broadcast"));
    send(&mut joined(&[interface]), &interface, &multicast).unwrap();
    let mut both = Lan::open().unwrap().broadcasting(true);
    both.follow(&[interface]);
    send(&mut both, &interface, &broadcast).unwrap();
    let (which, path) = hear(&mut in_no_group, &[&multicast, &broadcast]).await;
    assert_eq!((which, path.remote.ip()), (1, interface.addr.ip()));
}

#[test]
fn subnets_of_two_addresses_have_no_broadcast() {
    let of = |prefix| {
        let addr = SocketAddr::from(([10, 1, 2, 3], 4000));
        subnet(&Interface { addr, prefix, index: 2 }).map(|(from, to)| (from.octets(), to.octets()))
    };
    assert_eq!(of(24), Some(([10, 1, 2, 3], [10, 1, 2, 255])));
    assert_eq!((of(8), of(29)), (Some(([10, 1, 2, 3], [10, 255, 255, 255])), Some(([10, 1, 2, 3], [10, 1, 2, 7]))));
    assert_eq!([31, 32, 200].map(of), [None; 3]);
}

#[tokio::test]
async fn families_are_not_mixed() {
    let mut lan = Lan::open().unwrap();
    let mut out = TransmitBuf::new(1);
    assert!(out.push(b"beacon"));
    let remote = SocketAddrV6::new(BEACON_GROUP_V6, BEACON_PORT, 0, LOOPBACK).into();
    let path = Path { link: LAN_LINK, local: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), remote };
    let sent = lan.send(&out, &out.finish(path, Ecn::NotEct).unwrap());
    assert_eq!(sent, Err(io::ErrorKind::InvalidInput));
}

/// An entry of the list. Its address is `ip/prefix`.
fn entry(index: u32, cidr: &str) -> if_addrs::Interface {
    let (ip, prefixlen) = cidr.split_once('/').unwrap();
    let prefixlen = prefixlen.parse().unwrap();
    let addr = match ip.parse().unwrap() {
        IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr { ip, netmask: Ipv4Addr::UNSPECIFIED, prefixlen, broadcast: None }),
        IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr { ip, netmask: Ipv6Addr::UNSPECIFIED, prefixlen, broadcast: None }),
    };
    if_addrs::Interface {
        name: format!("if{index}"),
        addr,
        index: Some(index),
        oper_status: IfOperStatus::Up,
        is_p2p: false,
        #[cfg(windows)]
        adapter_name: String::new(),
    }
}

/// What is chosen, as `address prefix index`.
fn chosen(listed: &[if_addrs::Interface], bound: &[&str]) -> Vec<String> {
    let bound: Vec<SocketAddr> = bound.iter().map(|addr| addr.parse().unwrap()).collect();
    let chosen = choose(listed, &bound);
    chosen.iter().map(|interface| format!("{} {} {}", interface.addr, interface.prefix, interface.index)).collect()
}

#[test]
fn every_interface_has_one_address_of_each_family() {
    let listed = [
        entry(7, "10.1.2.3/24"),
        entry(7, "10.1.2.4/24"),
        entry(3, "169.254.9.9/16"),
        entry(3, "192.168.1.2/16"),
        entry(3, "2001:db8::2/64"),
        entry(3, "fe80::2/64"),
        // As systems of the BSD family write it.
        entry(9, "fe80:9::5/64"),
        entry(1, "192.168.77.1/32"),
        entry(1, "127.0.0.1/8"),
        entry(1, "fe80::1/64"),
        entry(1, "::1/128"),
        entry(11, "0.0.0.0/0"),
        if_addrs::Interface { oper_status: IfOperStatus::Unknown, ..entry(12, "10.9.9.9/8") },
        if_addrs::Interface { index: None, ..entry(13, "10.8.8.8/8") },
    ];
    let v4 = ["127.0.0.1:5 8 1", "192.168.1.2:5 16 3", "10.1.2.3:5 24 7"];
    assert_eq!(chosen(&listed, &["0.0.0.0:5"]), v4);
    let v6 = ["[::1]:6 128 1", "[fe80::2%3]:6 64 3", "[fe80::5%9]:6 64 9"];
    assert_eq!(chosen(&listed, &["[::]:6"]), v6);
    let both = [v4[0], v6[0], v4[1], v6[1], v4[2], v6[2]];
    assert_eq!(chosen(&listed, &["[::]:6", "0.0.0.0:5"]), both);
}

#[test]
fn a_socket_bound_to_one_address_has_that_one() {
    let listed = [entry(1, "127.0.0.1/8"), entry(3, "10.0.0.2/24"), entry(3, "fe80::2/64"), entry(4, "fe80::2/64")];
    assert_eq!(chosen(&listed, &["10.0.0.2:5"]), ["10.0.0.2:5 24 3"]);
    assert_eq!(chosen(&listed, &["127.0.0.9:5"]), ["127.0.0.9:5 8 1"]);
    assert_eq!(chosen(&listed, &["[fe80::2]:5"]), ["[fe80::2%3]:5 64 3"]);
    assert_eq!(chosen(&listed, &["[fe80::2%4]:5"]), ["[fe80::2%4]:5 64 4"]);
    // Not listed: of a network of its own.
    assert_eq!(chosen(&listed, &["10.0.0.3:5"]), ["10.0.0.3:5 32 0"]);
    assert_eq!(chosen(&listed, &["[2001:db8::1]:5"]), ["[2001:db8::1]:5 128 0"]);
}

#[test]
fn the_loopback_interface_is_there_where_nothing_is_listed() {
    assert_eq!(chosen(&[], &["0.0.0.0:5", "[::]:6"]), ["127.0.0.1:5 8 1", "[::1]:6 128 1"]);
    assert!(chosen(&[], &[]).is_empty());
    // One family may be listed without the other, and the first number may be another interface's.
    let listed = [entry(1, "fe80::2/64"), entry(1, "10.0.0.2/24"), entry(4, "127.0.0.1/8")];
    assert_eq!(chosen(&listed, &["[::]:6"]), ["[::1]:6 128 4", "[fe80::2%1]:6 64 1"]);
}

/// What this machine lists can be joined and sent from, or else it is counted: nothing is lost by trying.
#[test]
fn this_machine_lists_its_loopback_interface() {
    let found =
        interfaces(&[SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5))]);
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        assert!(found.iter().any(|interface| interface.addr == SocketAddr::new(ip, 5)), "{found:?}");
    }
    let scoped = found.iter().filter_map(|interface| match interface.addr {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => Some((v6.scope_id(), interface.index)),
        _ => None,
    });
    assert!(scoped.into_iter().all(|(scope, index)| scope == index && index > 0), "{found:?}");
}
