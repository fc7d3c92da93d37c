//! Who is believed about our address, and what ports say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::Seed;
use nat::scope::Family;
use nat::{Change, Confidence, Filtering, Mapping, NatKind as Kind, Observation, Observations, Scope};
use sim::clock;
use sim::nat::{NatBox, NatKind};

const LOCAL: u16 = 5000;

/// Observers in networks of their own.
fn observer(n: u8) -> SocketAddr {
    ([20 + n, 0, 0, 1], 4000).into()
}

fn ours(port: u16) -> SocketAddr {
    ([203, 0, 113, 5], port).into()
}

struct Watch {
    observed: Observations,
    now: Instant,
}

impl Watch {
    fn new() -> Self {
        Self { observed: Observations::new(Scope::Public, LOCAL), now: clock::base() }
    }

    fn hear(&mut self, by: SocketAddr, seen: SocketAddr) -> Option<Change> {
        self.now += Duration::from_millis(10);
        let word = Observation { by, seen, opened: self.now, stray: false };
        self.observed.record(word, self.now)
    }

    /// Observers with these numbers say what is true.
    fn agree(&mut self, numbers: std::ops::Range<u8>) {
        for n in numbers {
            self.hear(observer(n), ours(LOCAL));
        }
    }

    fn reflexive(&self) -> Option<(SocketAddr, Confidence)> {
        self.observed.reflexive(Family::V4)
    }
}

/// What is found out about a box by sending to observers through it.
fn classify(kind: NatKind, ports_of_one: u16) -> Observations {
    let mut nat = NatBox::new(kind, [203, 0, 113, 5].into(), &Seed::fixed(3));
    let mut watch = Watch::new();
    let local = ([10, 0, 0, 2], LOCAL).into();
    for n in 0..4 {
        for port in 0..ports_of_one {
            let by = SocketAddr::new(observer(n).ip(), 4000 + port);
            let Some(seen) = nat.outbound(local, by, Duration::ZERO) else {
                watch.observed.set_blocked();
                continue;
            };
            watch.hear(by, seen);
        }
    }
    watch.observed
}

#[test]
fn each_kind_of_box_is_told_by_its_ports() {
    for (kind, expected) in [
        (NatKind::FullCone, Mapping::EndpointIndependent),
        (NatKind::PortCone, Mapping::EndpointIndependent),
        (NatKind::SymSeq, Mapping::Sequential),
        (NatKind::SymRand, Mapping::Random),
        (NatKind::UdpBlock, Mapping::Blocked),
    ] {
        for ports in [1, 2] {
            let report = classify(kind, ports).report(Family::V4);
            assert_eq!(report.mapping, expected, "{kind:?}");
            assert_eq!(report.preserves, expected == Mapping::EndpointIndependent, "{kind:?}");
        }
    }
    assert_eq!(classify(NatKind::UdpBlock, 1).report(Family::V4).kind(), Kind::Blocked);
    assert_eq!(classify(NatKind::SymRand, 1).report(Family::V4).kind(), Kind::Random);
    let report = classify(NatKind::SymSeq, 1).report(Family::V4);
    assert_eq!((report.delta, report.next), (1, 40_004));
}

#[test]
fn address_dependent_mapping_is_told_by_two_ports_of_each() {
    let mut watch = Watch::new();
    for n in 0..3 {
        for port in [1, 2] {
            let by = SocketAddr::new(observer(n).ip(), port);
            watch.hear(by, ours([1111, 3333, 2222][usize::from(n)]));
        }
    }
    assert_eq!(watch.observed.report(Family::V4).mapping, Mapping::AddressDependent);
}

#[test]
fn a_sequence_counts_what_was_sent_since() {
    let mut watch = Watch::new();
    for n in 0..4 {
        watch.hear(observer(n), ours(41_000 + 2 * u16::from(n)));
    }
    let next = |watch: &Watch| watch.observed.report(Family::V4).next;
    assert_eq!((watch.observed.report(Family::V4).delta, next(&watch)), (2, 41_008));
    watch.now += Duration::from_secs(1);
    for n in 10..13 {
        watch.observed.sent_to(observer(n), watch.now);
        watch.observed.sent_to(observer(n), watch.now);
    }
    assert_eq!(next(&watch), 41_014, "three new ones, each once");
    // Downwards, and around the end.
    let mut watch = Watch::new();
    for (n, port) in [(0, 1026), (1, 1025), (2, 1024), (3, 65_535)] {
        watch.hear(observer(n), ours(port));
    }
    let report = watch.observed.report(Family::V4);
    assert!(report.mapping == Mapping::Random || report.next == 65_534, "{report:?}");
}

#[test]
fn two_words_of_a_sequence_are_enough_whatever_was_sent_in_between() {
    for others in [0, 1, 2, 7, 200] {
        let mut nat = NatBox::new(NatKind::SymSeq, [203, 0, 113, 5].into(), &Seed::fixed(3));
        let mut watch = Watch::new();
        let local = ([10, 0, 0, 2], LOCAL).into();
        let mut send = |watch: &mut Watch, to: SocketAddr| {
            watch.now += Duration::from_millis(1);
            watch.observed.sent_to(to, watch.now);
            nat.outbound(local, to, Duration::ZERO).unwrap()
        };
        let first = send(&mut watch, observer(0));
        let opened = [watch.now; 2];
        for n in 0..others {
            send(&mut watch, ([90, 0, 0, n], 1).into());
        }
        let second = send(&mut watch, observer(1));
        let opened = [opened[0], watch.now];
        for (n, seen) in [first, second].into_iter().enumerate() {
            let word = Observation { by: observer(n as u8), seen, opened: opened[n], stray: false };
            watch.observed.record(word, watch.now);
        }
        let report = watch.observed.report(Family::V4);
        assert_eq!((report.kind(), report.delta), (Kind::Sequential, 1), "{others}");
        assert_eq!(report.next, send(&mut watch, ([91, 0, 0, 1], 1).into()).port());
    }
}

#[test]
fn one_liar_does_not_break_a_sequence() {
    let mut watch = Watch::new();
    for (n, port) in [(0, 41_000), (1, 41_001), (2, 9), (3, 41_003), (4, 41_004)] {
        watch.hear(observer(n), ours(port));
    }
    let report = watch.observed.report(Family::V4);
    assert_eq!((report.mapping, report.next), (Mapping::Sequential, 41_005));
}

/// What is for the NAT itself makes no mapping, and those that are remembered no more are counted still.
#[test]
fn a_sequence_is_counted_past_what_is_remembered_and_without_what_stays_inside() {
    let mut watch = Watch::new();
    for (n, port) in [(0, 41_000), (1, 41_001), (2, 41_002)] {
        watch.hear(observer(n), ours(port));
    }
    let next = |watch: &Watch| watch.observed.report(Family::V4).next;
    let mut now = watch.now + Duration::from_secs(1);
    assert!(!watch.observed.sent_to(SocketAddr::new(ours(1).ip(), 7777), now) && next(&watch) == 41_003);
    for n in 0..1200_u16 {
        let [high, low] = n.to_be_bytes();
        now += Duration::from_millis(1);
        let to = SocketAddr::from(([30, 0, high, low], 4000));
        assert!(watch.observed.sent_to(to, now) && !watch.observed.sent_to(to, now));
        // Those who see us are spoken to all the time.
        assert!((0..3).all(|n| !watch.observed.sent_to(observer(n), now)));
        assert_eq!(next(&watch), 41_004 + n);
    }
    // A word that fits is taken, and the class stays.
    watch.now = now;
    watch.hear(observer(4), ours(42_203));
    assert_eq!((watch.observed.report(Family::V4).mapping, next(&watch)), (Mapping::Sequential, 42_204));
}

#[test]
fn a_minority_of_liars_does_not_win() {
    let victim = SocketAddr::from(([198, 51, 100, 66], 53));
    // However they are mixed: three of eight networks.
    for shift in 0..8_u8 {
        let mut watch = Watch::new();
        for n in 0..8 {
            let lies = [0, 3, 5].contains(&((n + shift) % 8));
            watch.hear(observer(n), if lies { victim } else { ours(LOCAL) });
        }
        assert_eq!(watch.reflexive(), Some((ours(LOCAL), Confidence::Consistent)), "{shift}");
        assert_eq!(watch.observed.report(Family::V4).mapping, Mapping::EndpointIndependent);
    }
    // One network may have as many addresses as it likes.
    let mut watch = Watch::new();
    watch.agree(0..3);
    for host in 1..=200 {
        watch.hear(([66, 0, 0, host], 4000).into(), victim);
    }
    assert_eq!(watch.reflexive(), Some((ours(LOCAL), Confidence::Consistent)));
}

#[test]
fn addresses_that_cannot_be_ours_are_not_taken() {
    let mut watch = Watch::new();
    for lie in
        ["127.0.0.1:5000", "10.0.0.1:5000", "224.0.0.1:5000", "0.0.0.0:5000", "203.0.113.5:0", "[2001:db8::1]:5000"]
    {
        assert_eq!(watch.hear(observer(0), lie.parse().unwrap()), None, "{lie}");
    }
    assert_eq!(watch.hear(([192, 168, 0, 9], 4000).into(), ours(LOCAL)), None, "who sees us from inside");
    assert_eq!(watch.reflexive(), None);
    assert_eq!(watch.observed.report(Family::V4), nat::Report::default());
}

#[test]
fn how_sure_it_is_depends_on_how_many_networks_say_it() {
    let mut watch = Watch::new();
    assert_eq!(watch.hear(observer(0), ours(LOCAL)), Some(Change::Learnt { addr: ours(LOCAL) }));
    assert_eq!(watch.reflexive(), Some((ours(LOCAL), Confidence::One)));
    assert_eq!(watch.observed.report(Family::V4).mapping, Mapping::Unknown);
    // A second address of the same network.
    let second = ([20, 0, 0, 2], 4000).into();
    assert_eq!(watch.hear(second, ours(LOCAL)), Some(Change::Mapping(Mapping::EndpointIndependent)));
    assert_eq!(watch.reflexive(), Some((ours(LOCAL), Confidence::Few)));
    watch.hear(observer(1), ours(LOCAL));
    watch.hear(observer(2), ours(LOCAL));
    assert_eq!(watch.reflexive(), Some((ours(LOCAL), Confidence::Consistent)));
}

#[test]
fn a_nat_that_forgot_and_a_new_network_are_noticed() {
    let mut watch = Watch::new();
    watch.agree(0..4);
    let changes: Vec<Change> = (0..4).filter_map(|n| watch.hear(observer(n), ours(6000))).collect();
    assert_eq!(changes, [Change::Rebound { from: ours(LOCAL), to: ours(6000) }]);
    assert_eq!(watch.observed.report(Family::V4).mapping, Mapping::EndpointIndependent);
    let elsewhere = SocketAddr::from(([198, 51, 100, 7], 6000));
    let changes: Vec<Change> = (0..4).filter_map(|n| watch.hear(observer(n), elsewhere)).collect();
    assert_eq!(changes, [Change::Moved { from: ours(6000), to: elsewhere }]);
    assert_eq!(watch.reflexive().map(|(addr, _)| addr), Some(elsewhere));
}

#[test]
fn old_words_are_forgotten_and_many_do_not_fill_memory() {
    let mut watch = Watch::new();
    watch.agree(0..4);
    watch.now += Duration::from_mins(11);
    let elsewhere = SocketAddr::from(([198, 51, 100, 7], LOCAL));
    assert_eq!(watch.hear(observer(9), elsewhere), Some(Change::Moved { from: ours(LOCAL), to: elsewhere }));
    for n in 0..5000_u16 {
        let [high, low] = n.to_be_bytes();
        watch.hear(([30, high, low, 1], 4000).into(), ours(LOCAL));
    }
    assert_eq!(watch.reflexive(), Some((ours(LOCAL), Confidence::Consistent)));
}

#[test]
fn a_stray_tells_a_clash_from_a_filter() {
    for (kind, expected) in [(NatKind::PortClash, Kind::Clash), (NatKind::PortCone, Kind::EndpointIndependent)] {
        let mut nat = NatBox::new(kind, [203, 0, 113, 5].into(), &Seed::fixed(3));
        let mut watch = Watch::new();
        let local = ([10, 0, 0, 2], LOCAL).into();
        for n in 0..3 {
            let seen = nat.outbound(local, observer(n), Duration::ZERO).unwrap();
            watch.hear(observer(n), seen);
        }
        let other = observer(9);
        assert_eq!(nat.inbound(other, ours(LOCAL), Duration::ZERO), None);
        let seen = nat.outbound(local, other, Duration::ZERO).unwrap();
        let word = Observation { by: other, seen, opened: watch.now, stray: true };
        watch.observed.record(word, watch.now);
        watch.observed.set_filtering(Family::V4, Filtering::AddressAndPort);
        assert_eq!(watch.observed.report(Family::V4).kind(), expected);
        assert_eq!(watch.reflexive().map(|(addr, _)| addr), Some(ours(LOCAL)));
    }
}

#[test]
fn who_comes_unasked_shows_what_is_let_in() {
    let mut watch = Watch::new();
    watch.agree(0..3);
    let filtering = |watch: &Watch| watch.observed.report(Family::V4).filtering;
    watch.observed.heard_from(observer(0), watch.now);
    assert_eq!(filtering(&watch), Filtering::Unknown);
    watch.observed.heard_from(SocketAddr::new(observer(0).ip(), 9), watch.now);
    assert_eq!(filtering(&watch), Filtering::AddressDependent);
    watch.observed.heard_from(observer(7), watch.now);
    assert_eq!(filtering(&watch), Filtering::EndpointIndependent);
    assert_eq!(watch.observed.report(Family::V4).kind(), Kind::Open);
}

#[test]
fn without_a_nat_the_host_has_the_address() {
    let mut watch = Watch::new();
    watch.observed.set_local(&[[203, 0, 113, 5].into()]);
    watch.agree(0..3);
    assert_eq!(watch.observed.report(Family::V4).kind(), Kind::Open);
}

#[test]
fn one_network_is_one_witness_however_many_addresses_it_has() {
    let mut watch = Watch::new();
    for host in 1..=4 {
        watch.hear(([20, 0, 0, host], 4000).into(), ours(LOCAL));
    }
    assert!(watch.reflexive().is_some());
    assert_eq!(watch.observed.witnesses(Family::V4).len(), 1);
    watch.hear(observer(1), ours(LOCAL));
    assert_eq!(watch.observed.witnesses(Family::V4).len(), 2);
    // Who sees another port is none.
    watch.hear(observer(2), ours(LOCAL + 1));
    assert!(watch.observed.witnesses(Family::V4).iter().all(|by| *by != observer(2)));
}
