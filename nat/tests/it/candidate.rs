//! Which addresses of a peer are tried, and in what order.

use std::net::{IpAddr, SocketAddr};

use nat::candidate::{Site, prepare};
use nat::{Candidate, CandidateKind as Kind};

fn candidate(kind: Kind, addr: &str) -> Candidate {
    Candidate { kind, addr: addr.parse().unwrap() }
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[test]
fn the_best_come_first_and_each_once() {
    let list = [
        candidate(Kind::Relayed, "198.51.100.9:443"),
        candidate(Kind::Mapped, "203.0.113.5:7000"),
        candidate(Kind::Predicted, "203.0.113.5:5001"),
        candidate(Kind::Reflexive, "203.0.113.5:5000"),
        candidate(Kind::Predicted, "203.0.113.5:5000"),
        candidate(Kind::Host, "10.0.0.2:5000"),
        candidate(Kind::Host, "[::ffff:10.0.0.2]:5000"),
        candidate(Kind::Host, "[2001:db8::2]:5000"),
        candidate(Kind::Host, "224.0.0.1:5000"),
        candidate(Kind::Host, "10.0.0.2:0"),
    ];
    let kinds: Vec<(Kind, SocketAddr)> = prepare(&list).iter().map(|found| (found.kind, found.addr)).collect();
    let expected = [
        (Kind::Host, "[2001:db8::2]:5000"),
        (Kind::Host, "10.0.0.2:5000"),
        (Kind::Reflexive, "203.0.113.5:5000"),
        (Kind::Predicted, "203.0.113.5:5001"),
        (Kind::Mapped, "203.0.113.5:7000"),
        (Kind::Relayed, "198.51.100.9:443"),
    ];
    assert_eq!(kinds, expected.map(|(kind, addr)| (kind, addr.parse().unwrap())));
    let many: Vec<Candidate> = (1..100).map(|n| candidate(Kind::Host, &format!("10.0.0.2:{n}"))).collect();
    assert_eq!(prepare(&many).len(), 16);
}

#[test]
fn nobody_makes_us_send_to_a_third_party() {
    let (ours, stated) = (ips(&["10.0.0.2", "203.0.113.5", "2001:db8::2"]), ips(&["198.51.100.7", "2001:db8:7::9"]));
    let site = Site { ours: &ours, stated: &stated, local: false };
    let told = [
        "198.51.100.7:5000",
        "198.51.100.8:53",
        "127.0.0.1:22",
        "10.0.0.9:5000",
        "192.168.1.1:80",
        "169.254.1.1:80",
        "[2001:db8:7::1]:5000",
        "[2001:db8:8::1]:5000",
        "[fe80::1]:5000",
        "[::1]:22",
    ];
    let told: Vec<Candidate> = told.iter().map(|addr| candidate(Kind::Host, addr)).collect();
    let chosen: Vec<String> = site.choose(&told).iter().map(|candidate| candidate.addr.to_string()).collect();
    assert_eq!(chosen, ["[2001:db8:7::1]:5000", "198.51.100.7:5000"]);
    // Nothing is stated, nothing is sent.
    assert!(Site { stated: &[], ..site }.choose(&told).is_empty());
}

#[test]
fn private_addresses_count_behind_one_public_address() {
    let (ours, stated) = (ips(&["10.0.0.2", "203.0.113.5"]), ips(&["203.0.113.5"]));
    let site = Site { ours: &ours, stated: &stated, local: false };
    let told = ["10.9.0.1:5000", "10.0.0.9:5000", "203.0.113.5:6000", "127.0.0.1:22"];
    let told: Vec<Candidate> = told.iter().map(|addr| candidate(Kind::Host, addr)).collect();
    let chosen: Vec<String> = site.choose(&told).iter().map(|candidate| candidate.addr.to_string()).collect();
    assert_eq!(chosen, ["10.0.0.9:5000", "10.9.0.1:5000", "203.0.113.5:6000"], "ours first");
}

#[test]
fn families_that_we_do_not_have_are_left_out() {
    let (ours, stated) = (ips(&["10.0.0.2"]), ips(&["2001:db8:7::9", "198.51.100.7"]));
    let site = Site { ours: &ours, stated: &stated, local: false };
    let told = [candidate(Kind::Host, "[2001:db8:7::9]:1"), candidate(Kind::Reflexive, "198.51.100.7:1")];
    assert_eq!(site.choose(&told), [told[1]]);
}

#[test]
fn relays_are_dialled_and_not_probed() {
    let (ours, stated) = (ips(&["203.0.113.5"]), ips(&["198.51.100.7"]));
    let site = Site { ours: &ours, stated: &stated, local: false };
    assert!(site.choose(&[candidate(Kind::Relayed, "198.51.100.7:443")]).is_empty());
}

#[test]
fn what_is_no_private_network_is_not_taken_for_one() {
    let relay: IpAddr = [192, 168, 1, 1].into();
    let admits = |stated: IpAddr, text: &str| {
        let site = Site { ours: &[[192, 168, 1, 5].into()], stated: &[stated], local: true };
        site.admits(&Candidate { kind: Kind::Host, addr: text.parse().unwrap() })
    };
    for near in ["192.168.1.9:5", "10.0.0.1:5", "100.64.0.1:5", "[fd00::1]:5", "[fe80::1]:5"] {
        assert!(admits(relay, near), "{near}");
    }
    for other in ["127.0.0.1:53", "[::1]:53", "240.0.0.1:5", "[64:ff9b::909:909]:5", "[100::1]:5", "9.9.9.9:5"] {
        assert!(!admits(relay, other), "{other}");
    }
    assert!(admits([127, 0, 0, 1].into(), "127.0.0.1:53"), "who is on this machine");
}
