//! Machines on one network, where every beacon reaches everybody.

use proptest::prelude::*;

use super::*;

/// 1_000 s before the end of an hour.
const UNIX: Duration = Duration::from_secs(1_700_002_800 - 1_000);

fn topic(number: u8) -> TopicId {
    TopicId::from_bytes([number; 32])
}

fn v4(host: u8) -> Interface {
    Interface { addr: ([192, 168, 1, host], 4000 + u16::from(host)).into(), prefix: 24, index: 2 }
}

fn v6(host: u8) -> Interface {
    let ip = format!("fe80::{host:x}").parse().unwrap();
    Interface { addr: SocketAddrV6::new(ip, 4000 + u16::from(host), 0, 2).into(), prefix: 64, index: 2 }
}

struct Net {
    nodes: Vec<Lan>,
    now: Instant,
    /// Who was named to whom, and when since the start.
    named: Vec<(usize, SocketAddr, Duration)>,
    beacons: usize,
}

impl Net {
    fn new(nodes: u8) -> Self {
        let now = sim::clock::base();
        let node = |host: u8| {
            let mut lan = Lan::new(Epoch { instant: now, unix: UNIX }, &Seed::fixed(host.into()));
            lan.set_interfaces(&[v4(host)], now);
            lan
        };
        Self { nodes: (0..nodes).map(node).collect(), now, named: vec![], beacons: 0 }
    }

    fn join(&mut self, node: usize, number: u8, announce: bool, lookup: bool) {
        self.nodes[node].join(topic(number), announce, lookup, self.now).unwrap();
    }

    /// Lets `time` pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.exchange();
            let next = self.nodes.iter().filter_map(|node| Some(node.poll_timeout()?.at)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.nodes.iter_mut().for_each(|node| node.handle_timeout(self.now));
        }
        self.now = end;
    }

    fn exchange(&mut self) {
        for from in 0..self.nodes.len() {
            while let Some((path, bytes)) = self.nodes[from].poll_transmit() {
                assert_eq!((path.link, path.remote.port()), (LAN_LINK, 29_531));
                self.beacons += 1;
                // Of a port of its own.
                let mut source = path.local;
                source.set_port(60_000);
                for (to, node) in self.nodes.iter_mut().enumerate() {
                    match node.handle(&bytes, source, self.now) {
                        Ok(Some(addr)) => self.named.push((to, addr, self.now - sim::clock::base())),
                        Ok(None) => assert_ne!(from, to),
                        Err(Rejected::FromSelf) => assert_eq!(from, to),
                        Err(error) => assert_eq!(error, Rejected::Duplicate),
                    }
                }
            }
        }
    }

    fn named(&self) -> Vec<(usize, SocketAddr)> {
        self.named.iter().map(|(to, addr, _)| (*to, *addr)).collect()
    }
}

#[test]
fn who_shares_a_topic_is_named_within_a_second_on_both_sides() {
    let mut net = Net::new(3);
    net.join(0, 1, true, true);
    net.join(2, 9, true, true);
    net.run(Duration::from_millis(8_300));
    assert_eq!(net.named(), []);
    net.join(1, 1, true, true);
    let start = net.now - sim::clock::base();
    net.run(Duration::from_secs(1));
    // The one that was there before hears the new one, and answers.
    assert_eq!(net.named(), [(0, v4(1).addr), (1, v4(0).addr)]);
    assert!(net.named.iter().all(|(_, _, at)| *at - start < Duration::from_secs(1)));
    net.run(Duration::from_secs(50));
    assert_eq!(net.named.len(), 2, "once a minute");
    net.run(Duration::from_secs(20));
    assert_eq!(net.named.len(), 4);
}

#[test]
fn announcing_and_looking_are_apart() {
    let mut net = Net::new(3);
    net.join(0, 1, true, false);
    net.join(1, 1, false, true);
    net.join(2, 1, false, false);
    net.run(Duration::from_secs(20));
    assert_eq!(net.named(), [(1, v4(0).addr)]);
    net.join(1, 1, true, true);
    net.run(Duration::from_secs(10));
    assert_eq!(net.named.len(), 1);
    // Somebody who was heard before is named when it is looked for.
    net.join(0, 1, true, true);
    net.run(Duration::from_secs(6));
    assert_eq!(net.named()[1..], [(0, v4(1).addr)]);
    net.nodes[1].leave(&topic(1));
    assert_eq!(net.nodes[1].poll_timeout(), None);
    net.nodes[0].set_interfaces(&[], net.now);
    assert_eq!(net.nodes[0].poll_timeout(), None);
}

#[test]
fn beacons_leave_soon_again_and_then_every_five_seconds() {
    let mut net = Net::new(1);
    assert_eq!(net.nodes[0].poll_timeout(), None);
    net.join(0, 1, true, true);
    let first = net.nodes[0].poll_timeout().unwrap().at - net.now;
    assert!((FIRST.0..=FIRST.1).contains(&first), "{first:?}");
    net.run(Duration::from_millis(500));
    assert_eq!(net.beacons, 1);
    net.run(Duration::from_millis(1_200));
    assert_eq!(net.beacons, 2);
    net.run(Duration::from_secs(600));
    assert!((2 + 100..=2 + 150).contains(&net.beacons), "{}", net.beacons);
    // Another network.
    net.nodes[0].set_interfaces(&[v4(0), v6(0)], net.now);
    net.run(Duration::from_millis(500));
    let before = net.beacons;
    net.nodes[0].set_interfaces(&[v4(0), v6(0)], net.now);
    net.run(Duration::from_millis(600));
    assert_eq!(net.beacons, before, "nothing changed");
}

#[test]
fn one_neighbour_with_several_addresses_is_named_by_one_that_answers() {
    let mut net = Net::new(2);
    net.nodes[0].set_interfaces(&[v6(0), v4(0)], net.now);
    net.nodes[1].set_interfaces(&[], net.now);
    net.join(0, 1, true, true);
    net.join(1, 1, true, true);
    net.run(Duration::from_secs(8));
    assert_eq!(net.named(), [(1, v6(0).addr)]);
    net.nodes[1].silent(v6(0).addr, net.now);
    net.run(Duration::from_secs(20));
    assert_eq!(net.named(), [(1, v6(0).addr), (1, v4(0).addr)]);
    net.nodes[1].forget(v4(0).addr);
    net.run(Duration::from_secs(6));
    assert_eq!(net.named()[2..], [(1, v4(0).addr)]);
}

/// The beacon of a node with these topics, sent at `unix`.
fn beacon(topics: &[u8], unix: Duration, seed: u64) -> Bytes {
    let now = sim::clock::base();
    let mut lan = Lan::new(Epoch { instant: now, unix }, &Seed::fixed(seed));
    topics.iter().for_each(|number| lan.join(topic(*number), true, true, now).unwrap());
    lan.set_interfaces(&[v4(9)], now);
    lan.handle_timeout(lan.poll_timeout().unwrap().at);
    lan.poll_transmit().unwrap().1
}

#[test]
fn clocks_may_differ_by_an_hour_and_not_more() {
    let mut net = Net::new(1);
    net.join(0, 1, true, true);
    let hour = Duration::from_secs(3600);
    for (seed, unix, is_named) in
        [(50, UNIX - 2 * hour, false), (51, UNIX - hour, true), (52, UNIX + hour, true), (53, UNIX + 2 * hour, false)]
    {
        net.nodes[0].forget(v4(9).addr);
        let named = net.nodes[0].handle(&beacon(&[1], unix, seed), v4(9).addr, net.now).unwrap();
        assert_eq!(named, is_named.then_some(v4(9).addr), "{unix:?}");
    }
    // A machine that slept for a day.
    let unix = UNIX + Duration::from_secs(86_400);
    assert_eq!(net.nodes[0].handle(&beacon(&[1], unix, 54), v4(8).addr, net.now), Ok(None));
    net.nodes[0].set_epoch(Epoch { instant: net.now, unix });
    assert!(net.nodes[0].handle(&beacon(&[1], unix, 55), v4(8).addr, net.now).unwrap().is_some());
}

#[test]
fn beacons_from_elsewhere_are_refused() {
    let mut net = Net::new(1);
    net.nodes[0].set_interfaces(&[v4(0), Interface { addr: ([5, 6, 7, 8], 1).into(), prefix: 24, index: 3 }], net.now);
    net.join(0, 1, true, true);
    let hears = |net: &mut Net, source: &str, seed| {
        let source: SocketAddr = source.parse().unwrap();
        match net.nodes[0].handle(&beacon(&[1], UNIX, seed), source, net.now + Duration::from_secs(seed)) {
            Ok(addr) => {
                assert_eq!(addr.map(|addr| addr.port()), Some(4009), "{source}");
                true
            }
            Err(error) => {
                assert_eq!(error, Rejected::BadAddress, "{source}");
                false
            }
        }
    };
    let local =
        ["10.1.2.3:1", "127.0.0.1:1", "169.254.1.1:1", "100.64.0.1:1", "[::1]:1", "[fe80::1%2]:1", "[fd00::1]:1"];
    for (seed, source) in (100..).zip(local.into_iter().chain(["5.6.7.200:1", "[::ffff:192.168.1.200]:1"])) {
        assert!(hears(&mut net, source, seed));
    }
    let elsewhere = ["5.6.8.1:1", "8.8.8.8:1", "0.0.0.1:1", "224.0.0.1:1", "255.255.255.255:1", "[2001:db8::1]:1"];
    for (seed, source) in (200..).zip(elsewhere.into_iter().chain(["[ff02::1]:1", "[::]:1", "[::ffff:8.8.8.8]:1"])) {
        assert!(!hears(&mut net, source, seed));
    }
}

#[test]
fn a_flood_names_few_and_costs_little() {
    let mut net = Net::new(1);
    (0..64).for_each(|number| net.join(0, number, true, true));
    assert_eq!(net.nodes[0].join(topic(64), true, true, net.now), Err(JoinError::TooMany { limit: 64 }));
    let now = net.now;
    let lan = &mut net.nodes[0];
    let (mut named, mut refused) = (0, 0);
    let mut hear = |number: u16, host: u8| {
        let nonce = [number.to_be_bytes(); 8].concat().try_into().unwrap();
        let tags = [beacon_tag(topic(3).as_bytes(), UNIX.as_secs() / 3600, &nonce)];
        let mut bytes = vec![];
        Beacon { nonce, port: 1000 + number, tags: &tags }.encode(&mut bytes).unwrap();
        // Two seconds in all.
        let at = now + Duration::from_millis(number.into());
        lan.handle(&bytes, v4(host).addr, at)
    };
    for number in 0..2_000 {
        match hear(number, 9) {
            Ok(addr) => named += u32::from(addr.is_some()),
            Err(error) => {
                assert_eq!(error, Rejected::LimitReached);
                refused += 1;
            }
        }
    }
    assert!((4..=8).contains(&named) && named + refused == 2_000, "{named} named, {refused} refused");
    // It leaves as many places to another address.
    for number in 2_000..2_004 {
        assert!(matches!(hear(number, 10), Ok(Some(_))));
    }
    let hosts = (11..=20).filter(|host| hear(2_010 + u16::from(*host), *host).is_ok()).count();
    assert!((3..=8).contains(&hosts), "{hosts}: all together have no more than before");
    assert!(lan.neighbours.len() <= 1024 && lan.nonces.len() <= 256);
}

#[test]
fn answers_are_a_second_apart_whoever_comes() {
    let mut net = Net::new(9);
    net.join(0, 1, true, false);
    net.run(Duration::from_secs(10));
    let before = net.beacons;
    (1..9).for_each(|node| net.nodes[node].set_interfaces(&[], net.now));
    let start = net.now;
    for millis in 0..2_500 {
        net.now = start + Duration::from_millis(millis);
        let lan = &mut net.nodes[0];
        if millis % 100 == 0 {
            let mut source = v4(9).addr;
            source.set_port(1);
            let host = u8::try_from(10 + millis / 100).unwrap();
            source.set_ip([192, 168, 1, host].into());
            assert_eq!(lan.handle(&beacon(&[1], UNIX, 1_000 + millis), source, net.now), Ok(None));
        }
        lan.handle_timeout(net.now);
        net.exchange();
    }
    assert!((2..=4).contains(&(net.beacons - before)), "{}", net.beacons - before);
}

#[test]
fn a_beacon_says_how_many_topics_there_are_to_a_power_of_two() {
    for (topics, tags) in [(1, 4), (4, 4), (5, 8), (33, 64), (64, 64)] {
        let numbers: Vec<u8> = (0..topics).collect();
        let (one, other) = (beacon(&numbers, UNIX, 1), beacon(&numbers, UNIX, 2));
        assert_eq!(one.len(), 23 + tags * 16);
        let (one, other) = (Beacon::decode(&one).unwrap(), Beacon::decode(&other).unwrap());
        assert!(one.nonce != other.nonce && one.tags.iter().all(|tag| !other.tags.contains(tag)));
    }
}

proptest! {
    #[test]
    fn any_datagram_is_handled(
        bytes in prop::collection::vec(any::<u8>(), 0..200), is_beacon: bool, flip in 0..87_usize * 8
    ) {
        let mut net = Net::new(1);
        net.join(0, 1, true, true);
        let mut honest = beacon(&[1], UNIX, 1).to_vec();
        honest[flip / 8] ^= 1 << (flip % 8);
        let bytes = if is_beacon { honest } else { bytes };
        match net.nodes[0].handle(&bytes, v4(9).addr, net.now) {
            Ok(Some(addr)) => prop_assert!(is_beacon && addr.port() != 0),
            Ok(None) => {}
            Err(error) => prop_assert_ne!(error, Rejected::FromSelf),
        }
    }
}
