//! Nodes behind NATs: relayed at first, and directly where that is possible, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "test"
)]

mod lab;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crypto::Seed;
use lab::{A, B, Lab, Setting, Talk, id, ms, secs};
use sim::nat::NatKind;
use structs::Link;
use swarm::nat::{Failure, Mapping, Way, Why};

/// Both reach each other directly.
fn is_direct(lab: &Lab) -> bool {
    [A, B].into_iter().all(|host| matches!(lab.way(host), Some(Way::Punched | Way::Direct)))
}

/// Lets the two talk from the dial on, until they do so directly; returns how long that took.
fn punched(setting: Setting, within: Duration) -> (Lab, Talk, Duration) {
    let mut lab = Lab::new(setting);
    lab.connect();
    let (start, mut talk) = (lab.now, Talk::new(&lab));
    while !is_direct(&lab) {
        talk.go_on(&mut lab, ms(20));
        let took = lab.now - start;
        assert!(took < within, "{:?}: still {:?}, {:?}", setting.kinds, lab.way(A), lab.way(B));
    }
    let took = lab.now - start;
    (lab, talk, took)
}

#[test]
fn nats_with_one_port_for_all_are_passed_within_a_second_and_nothing_is_lost() {
    use NatKind::{AddrCone, FullCone, PortClash, PortCone};
    for (seed, kinds) in [[PortCone, PortCone], [FullCone, PortCone], [AddrCone, PortClash], [PortClash, AddrCone]]
        .into_iter()
        .enumerate()
    {
        let (mut lab, mut talk, took) = punched(Setting::of(kinds[0], kinds[1], seed as u64), secs(1));
        assert_eq!([lab.way(A), lab.way(B)], [Some(Way::Punched); 2], "{kinds:?} {took:?}");
        talk.go_on(&mut lab, secs(3));
        assert!(talk.longest < ms(200), "{:?}", talk.longest);
        talk.finish(&mut lab);
        let nat = lab.hosts[A].node.nat();
        assert_eq!((nat.v4.mapping, nat.is_behind_nat()), (Mapping::EndpointIndependent, Some(true)));
    }
}

#[test]
fn ports_in_sequence_are_found() {
    for (seed, kinds) in
        [[NatKind::PortCone, NatKind::SymSeq], [NatKind::SymSeq, NatKind::PortCone]].into_iter().enumerate()
    {
        let (mut lab, talk, _) = punched(Setting::of(kinds[0], kinds[1], 10 + seed as u64), secs(4));
        talk.finish(&mut lab);
        assert_eq!(lab.hosts[if seed == 0 { B } else { A }].node.nat().v4.mapping, Mapping::Sequential);
    }
}

#[test]
fn two_sequences_meet_although_both_sides_send_elsewhere_meanwhile() {
    for seed in 0..4 {
        let mut lab = Lab::new(Setting::of(NatKind::SymSeq, NatKind::SymSeq, 100 + seed));
        lab.connect();
        let (start, mut flows) = (lab.now, 0_u16);
        while !is_direct(&lab) {
            // Each dial makes both NATs take a port, before and while the probes leave, and not the same number of them.
            for host in [A, B, B] {
                flows += 1;
                let [high, low] = flows.to_be_bytes();
                let now = lab.at();
                let dialled = lab.hosts[host].node.dial(None, &[([30, 0, high, low], 443).into()], now);
                assert!(dialled.is_ok(), "{dialled:?}");
                lab.drain(host);
            }
            lab.run_for(ms(10));
            assert!(lab.now - start < secs(3), "{seed}: still {:?}", lab.way(A));
        }
        assert!(flows > 12, "{flows}");
    }
}

#[test]
fn ports_at_random_are_met_from_many_sockets_of_which_one_is_left() {
    for (seed, kinds) in
        [[NatKind::PortCone, NatKind::SymRand], [NatKind::SymRand, NatKind::PortCone]].into_iter().enumerate()
    {
        let (mut lab, mut talk, _) = punched(Setting::of(kinds[0], kinds[1], 20 + seed as u64), secs(5));
        let random = if seed == 0 { B } else { A };
        assert!(matches!(lab.path(random).link, Link::Socket(_)), "{:?}", lab.path(random));
        talk.go_on(&mut lab, secs(30));
        assert_eq!(lab.sockets(random), 2, "the others are closed");
        assert!(is_direct(&lab));
        // Without the session, the last one is closed, too.
        let now = lab.at();
        lab.hosts[random].node.disconnect(&id(A + B - random), Duration::ZERO, now);
        lab.run_for(secs(40));
        assert_eq!(lab.sockets(random), 1);
    }
}

#[test]
fn where_no_direct_path_is_possible_the_relay_stays_and_the_reason_is_told() {
    let mut lab = Lab::new(Setting::of(NatKind::SymRand, NatKind::SymRand, 30));
    lab.connect();
    let mut talk = Talk::new(&lab);
    talk.go_on(&mut lab, secs(60));
    for host in [A, B] {
        let Some(Way::Relayed { relay, why: Why::Failed(Failure::Hopeless { .. }) }) = lab.way(host) else {
            panic!("{:?}", lab.way(host));
        };
        assert_eq!(relay, id(0));
        let text = lab.way(host).unwrap().to_string();
        assert!(text.contains("at random") && text.contains("no direct path is possible"), "{text}");
    }
    talk.finish(&mut lab);
}

#[test]
fn two_behind_one_nat_use_their_network() {
    let setting = Setting { together: true, ..Setting::of(NatKind::PortCone, NatKind::PortCone, 40) };
    let (mut lab, talk, took) = punched(setting, secs(1));
    assert!(took < ms(500), "{took:?}");
    assert_eq!(lab.path(A).remote.ip(), IpAddr::from([10, 1, 0, 12]));
    assert_eq!(lab.path(B).remote.ip(), IpAddr::from([10, 1, 0, 11]));
    talk.finish(&mut lab);
}

#[test]
fn without_servers_the_port_of_the_socket_is_expected_and_found() {
    let setting = Setting { stun: false, ..Setting::of(NatKind::PortCone, NatKind::PortClash, 50) };
    let (mut lab, talk, _) = punched(setting, secs(20));
    talk.finish(&mut lab);
}

#[test]
fn a_nat_that_forgets_everything_under_traffic_costs_less_than_two_seconds() {
    let (mut lab, mut talk, _) = punched(Setting::of(NatKind::PortCone, NatKind::PortCone, 60), secs(1));
    talk.go_on(&mut lab, secs(5));
    for round in 0..3 {
        let public = if round < 2 { lab.boxes[0].public() } else { IpAddr::from([77, 0, 0, 7]) };
        talk.longest = Duration::ZERO;
        lab.boxes[0].rebind(public);
        talk.go_on(&mut lab, secs(20));
        assert!(talk.longest < secs(2), "{:?} without anything in round {round}", talk.longest);
    }
    talk.finish(&mut lab);
}

#[test]
fn a_session_survives_the_nat_of_either_side() {
    // After two minutes the circuit that it began with is closed. After five seconds it is there, and leads nowhere either.
    for (side, after, delay) in [
        (0, secs(120), ms(20)),
        (1, secs(120), ms(20)),
        (0, secs(5), ms(20)),
        (1, secs(5), ms(20)),
        (0, secs(2), ms(1)),
        (1, secs(2), ms(1)),
    ] {
        let (mut lab, mut talk, _) = punched(Setting::of(NatKind::PortCone, NatKind::PortCone, 65), secs(1));
        lab.delay = delay;
        talk.go_on(&mut lab, after);
        talk.longest = Duration::ZERO;
        lab.boxes[side].rebind(IpAddr::from([77, 0, 0, 7]));
        talk.go_on(&mut lab, secs(20));
        assert!(talk.longest < secs(2), "{:?} without anything on side {side}, {after:?}, {delay:?}", talk.longest);
        talk.finish(&mut lab);
    }
}

#[test]
fn a_session_without_circuits_survives_a_rebinding_that_its_side_does_not_notice() {
    let (mut lab, mut talk, _) = punched(Setting::of(NatKind::PortCone, NatKind::PortCone, 66), secs(1));
    talk.go_on(&mut lab, secs(120));
    talk.finish(&mut lab);
    lab.boxes[1].rebind(IpAddr::from([77, 0, 0, 7]));
    // The relay learns where B is now only when B asks after it.
    lab.send(A, b"still there?");
    let start = lab.at();
    let came = (0..50).any(|_| {
        lab.run_for(ms(500));
        lab.receive(B).iter().any(|message| message == b"still there?")
    });
    assert!(came && lab.at() - start < secs(20), "{:?}", lab.at() - start);
}

#[test]
fn mappings_that_last_for_20_seconds_are_kept() {
    let setting = Setting { timeouts: secs(20), ..Setting::of(NatKind::PortCone, NatKind::PortCone, 70) };
    let (mut lab, talk, _) = punched(setting, secs(1));
    talk.finish(&mut lab);
    for _ in 0..10 {
        lab.run_for(secs(113));
        lab.send(A, b"still there");
        lab.run_for(ms(300));
        assert_eq!(lab.receive(B), [b"still there"], "{:?}", lab.way(A));
        lab.send(B, b"yes");
        lab.run_for(ms(300));
        assert_eq!(lab.receive(A), [b"yes"]);
    }
    assert!(is_direct(&lab), "{:?} {:?}", lab.way(A), lab.way(B));
}

#[test]
fn two_sequences_meet_where_nobody_else_takes_ports() {
    let direct = (0..5).filter(|seed| {
        let mut lab = Lab::new(Setting::of(NatKind::SymSeq, NatKind::SymSeq, 90 + seed));
        lab.connect();
        lab.run_until(is_direct, secs(4))
    });
    assert!(direct.count() >= 4);
}

#[test]
fn a_nat_that_strays_take_ports_of_is_passed_towards_random_ports() {
    for seed in 0..3 {
        let (_, _, took) = punched(Setting::of(NatKind::PortClash, NatKind::SymRand, 100 + seed), secs(12));
        assert!(took > ms(500), "more than one try: {took:?}");
    }
}

#[test]
fn a_peer_that_begins_again_and_again_makes_nobody_send_more() {
    let mut lab = Lab::new(Setting::of(NatKind::SymRand, NatKind::PortCone, 110));
    lab.reserve();
    lab.connect();
    lab.run_for(secs(20));
    let outside = IpAddr::from([60, 0, 0, 100]);
    let before = lab.sent_to.get(&outside).copied().unwrap_or_default();
    // A, whose address the relay confirms, names ports of its network that are not its own.
    for number in 0..600_u16 {
        let candidate = |n: u16| nat::Candidate {
            kind: nat::CandidateKind::Reflexive,
            addr: SocketAddr::new(outside, 1 + number * 16 + n),
        };
        let report = nat::Report { mapping: Mapping::Random, ..nat::Report::default() };
        let setup = nat::Setup { report, candidates: (0..16).map(candidate).collect(), ..nat::Setup::default() };
        let mut begun = nat::Punch::initiate(setup, &Seed::fixed(number.into()), lab.at());
        lab.say(A, &begun.poll_message().unwrap());
        let plan = nat::Plan { method: nat::Method::Simple, first: nat::Role::Responder, opener: false };
        let attempt = begun.attempt().unwrap();
        lab.run_for(ms(60));
        let start = nat::message::Start { attempt, round: 0, plan, rtt_ms: 10 };
        lab.say(A, &nat::message::Message::Start(start).encode());
        lab.run_for(ms(40));
    }
    let sent = lab.sent_to.get(&outside).copied().unwrap_or_default() - before;
    assert!(sent > 0, "it takes part");
    assert!(sent < 5 * 64_000, "{sent} bytes in a minute");
}

#[test]
fn two_with_ipv6_use_it_whatever_their_nats_and_nobody_can_have_much_sent_to_others_by_it() {
    let setting = Setting { ipv6: true, ..Setting::of(NatKind::SymRand, NatKind::SymRand, 120) };
    let (mut lab, talk, took) = punched(setting, secs(1));
    assert!(lab.path(A).remote.is_ipv6() && lab.path(B).remote.is_ipv6(), "{took:?}");
    talk.finish(&mut lab);

    let victim: SocketAddr = "[2a00::1]:53".parse().unwrap();
    for liar in [A, B] {
        let mut lab = Lab::new(setting);
        let now = lab.at();
        lab.hosts[liar].node.set_addresses(&[], &[victim], now);
        lab.connect();
        lab.run_for(Duration::from_mins(10));
        let sent = lab.sent_to.get(&victim.ip()).copied().unwrap_or_default();
        assert!((1..8 * 2 * 192).contains(&sent), "{sent}");
    }
}

#[test]
fn messages_that_nobody_waits_for_make_nobody_send() {
    let setting = Setting { ipv6: true, ..Setting::of(NatKind::SymRand, NatKind::SymRand, 130) };
    let mut lab = Lab::new(setting);
    lab.connect();
    lab.run_for(secs(20));
    let victim: SocketAddr = "[2a00::1]:53".parse().unwrap();
    let candidates = vec![nat::Candidate { kind: nat::CandidateKind::Host, addr: victim }];
    for number in 0..300 {
        let setup = nat::Setup { candidates: candidates.clone(), ..nat::Setup::default() };
        let mut offer = nat::Punch::initiate(setup, &Seed::fixed(number), lab.at()).poll_message().unwrap();
        // An ANSWER to nothing.
        offer[0] = 1;
        [A, B].into_iter().for_each(|host| lab.say(host, &offer));
        lab.run_for(ms(100));
    }
    assert_eq!(lab.sent_to.get(&victim.ip()), None);
}

#[test]
fn with_whom_the_coordination_ended_the_reason_is_told() {
    let mut lab = Lab::new(Setting::of(NatKind::SymRand, NatKind::SymRand, 140));
    lab.connect();
    lab.run_for(secs(5));
    // Not a message of the protocol, which ends it in this session.
    lab.say(B, &[0xff; 3]);
    lab.run_for(secs(60));
    assert!(matches!(lab.way(A), Some(Way::Relayed { why: Why::Off, .. })), "{:?}", lab.way(A));
}

#[test]
fn whoever_names_the_address_of_somebody_else_gets_nothing_sent_there() {
    let victim = SocketAddr::from(([50, 0, 0, 1], 53));
    let private = SocketAddr::from(([10, 2, 0, 99], 53));
    for liar in [A, B] {
        let mut lab = Lab::new(Setting::of(NatKind::PortCone, NatKind::SymRand, 80));
        let now = lab.at();
        lab.hosts[liar].node.set_addresses(&[], &[victim, private], now);
        lab.hosts[liar].node.set_forwarded(&[victim], now);
        lab.connect();
        lab.run_for(Duration::from_mins(10));
        let sent = |addr: SocketAddr| lab.sent_to.get(&addr.ip()).copied().unwrap_or_default();
        assert_eq!((sent(victim), sent(private)), (0, 0));
    }
}
