//! Peers that tell each other of others, and some that lie.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::topic::member_tag;
use crypto::{Identity, Seed};
use framing::record::Record;
use peer::mux::Urgency;
use structs::{Datagram, Epoch, Machine, TransmitBuf};
use swarm::discovery::Reach;
use swarm::node::{Config, Event, Node};
use swarm::{PeerId, Swarm, Topic, TopicEvent, TopicId};

use crate::support::{builder, within};

async fn joined(topic: &Topic, by: &Swarm) {
    let mut events = topic.events();
    loop {
        if let Some(TopicEvent::Joined(peer)) = within(events.next()).await
            && peer.id() == by.id()
        {
            return;
        }
    }
}

#[tokio::test]
async fn a_line_of_three_becomes_a_triangle() {
    let bind = || async { builder().dht(false).pex(true).bind().await.unwrap() };
    let (a, b, c) = (bind().await, bind().await, bind().await);
    let topics = [&a, &b, &c].map(|node| node.join("lobby").unwrap());
    for end in [&a, &c] {
        within(end.dial((b.id(), b.local_addr()))).await.unwrap();
    }
    tokio::join!(joined(&topics[0], &c), joined(&topics[2], &a));
    assert!(b.stats().await.unwrap().node.pex.shared >= 1);
}

/// Nodes on a network where nothing is lost and everything takes a millisecond.
struct Net {
    nodes: Vec<(SocketAddr, Node)>,
    now: Instant,
    /// What went to addresses of nobody.
    astray: BTreeMap<SocketAddr, usize>,
    /// How many were named in answer to each question.
    answers: Vec<usize>,
}

impl Net {
    fn new(addrs: &[&str]) -> Self {
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
        let node = |(n, addr): (u8, &&str)| {
            let addr: SocketAddr = addr.parse().unwrap();
            let config = Config::default().lan(false).pex(Some(Reach::World));
            let mut node = Node::new(Identity::from_seed([n; 32]), config, epoch, &Seed::from_bytes([n; 32]), now);
            node.set_addresses(&[], &[addr], now);
            (addr, node)
        };
        Self { nodes: (1..).zip(addrs).map(node).collect(), now, astray: BTreeMap::new(), answers: Vec::new() }
    }

    fn id(&self, node: usize) -> PeerId {
        self.nodes[node].1.id()
    }

    fn dial(&mut self, from: usize, to: usize) {
        let (addr, id) = (self.nodes[to].0, self.id(to));
        self.nodes[from].1.dial(Some(id), &[addr], self.now).unwrap();
    }

    fn is_connected(&self, a: usize, b: usize) -> bool {
        self.nodes[a].1.session(&self.id(b)).is_some()
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let mut sent = Vec::new();
            for (addr, node) in &mut self.nodes {
                if node.poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                    node.handle_timeout(self.now);
                }
                let mut out = TransmitBuf::new(1);
                while let Some(transmit) = node.poll_transmit(&mut out, self.now) {
                    for datagram in out.bytes().chunks(transmit.segment_size.max(1)) {
                        sent.push((*addr, transmit.path.remote, datagram.to_vec()));
                    }
                    out.clear();
                }
                while let Some(event) = node.poll_event() {
                    if let Event::Others { count, .. } = event {
                        self.answers.push(count);
                    }
                }
            }
            self.now += Duration::from_millis(1);
            for (from, to, bytes) in sent {
                match self.nodes.iter_mut().find(|(addr, _)| *addr == to) {
                    Some((_, node)) => {
                        let mut bytes = bytes;
                        let _ = node.handle_datagram(Datagram::new(structs::Path::udp(to, from), &mut bytes), self.now);
                    }
                    None => *self.astray.entry(to).or_default() += 1,
                }
            }
        }
    }

    /// Whatever a peer likes to say.
    fn say(&mut self, from: usize, to: usize, message: &[u8]) {
        let (id, now) = (self.id(to), self.now);
        let node = &mut self.nodes[from].1;
        let (session, protocol) = (node.session(&id).unwrap(), node.protocols().pex.unwrap());
        node.with(session, now, |peer, _| peer.send(protocol, message, Urgency::Normal).unwrap()).unwrap();
    }

    fn tag(&self, from: usize, to: usize, topic: &TopicId) -> [u8; 16] {
        let (id, node) = (self.id(to), &self.nodes[from].1);
        let session = node.session(&id).unwrap();
        let (_, _, peer) = node.sessions().find(|(handle, ..)| *handle == session).unwrap();
        member_tag(topic.as_bytes(), &peer.exporter(b"setowire pex v1").unwrap(), 0)
    }

    /// Asks for others, and says whether that could be.
    fn ask(&mut self, from: usize, to: usize) -> bool {
        let (id, now) = (self.id(to), self.now);
        self.nodes[from].1.ask_for_others(&id, now)
    }

    fn join(&mut self, node: usize, topic: TopicId, announce: bool, lookup: bool) {
        let now = self.now;
        self.nodes[node].1.join(topic, announce, lookup, now).unwrap();
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn who_does_not_announce_is_not_passed_on_and_who_does_not_look_dials_nobody() {
    let lobby = TopicId::from("lobby");
    for (announce, lookup, expected) in [(true, true, true), (false, true, false), (true, false, false)] {
        let mut net = Net::new(&["9.9.9.1:1", "8.8.8.2:2", "7.7.7.3:3"]);
        // The first is looked for, the third looks.
        net.join(0, lobby, announce, false);
        net.join(1, lobby, true, true);
        net.join(2, lobby, false, lookup);
        net.dial(0, 1);
        net.dial(2, 1);
        net.run(SECOND * 5);
        assert!(net.is_connected(0, 1) && net.is_connected(2, 1));
        assert_eq!(net.is_connected(0, 2), expected, "{announce} {lookup}");
    }
}

#[test]
fn in_another_topic_nobody_is_told() {
    let mut net = Net::new(&["9.9.9.1:1", "8.8.8.2:2", "7.7.7.3:3"]);
    let (red, blue) = (TopicId::from("red"), TopicId::from("blue"));
    net.join(0, red, true, true);
    net.join(2, blue, true, true);
    for topic in [red, blue] {
        net.join(1, topic, true, true);
    }
    net.dial(0, 1);
    net.dial(2, 1);
    net.run(SECOND * 5);
    assert!(!net.is_connected(0, 2));
    net.join(2, red, true, true);
    net.run(SECOND * 5);
    assert!(net.is_connected(0, 2), "as soon as they share one");
}

#[test]
fn lies_about_addresses_are_neither_dialled_nor_passed_on() {
    let mut net = Net::new(&["9.9.9.1:1", "8.8.8.2:2", "7.7.7.3:3"]);
    let lobby = TopicId::from("lobby");
    (0..3).for_each(|node| net.join(node, lobby, true, true));
    net.dial(0, 1);
    net.run(SECOND * 3);
    let unix = Duration::from_secs(1_700_000_000);
    let liar = |n: u8, addrs: &[&str], life: u64| {
        let addresses = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        let expires = unix + Duration::from_secs(life);
        let record = Record { sequence: 1, expires, addresses, ..Record::default() };
        record.sign(&Identity::from_seed([n; 32])).unwrap().as_bytes().to_vec()
    };
    let others = |net: &Net, records: &[Vec<u8>]| {
        let mut message = vec![1];
        message.extend_from_slice(&net.tag(0, 1, &lobby));
        message.push(records.len() as u8);
        for record in records {
            message.extend_from_slice(&(record.len() as u16).to_be_bytes());
            message.extend_from_slice(record);
        }
        message
    };
    let mut forged = liar(60, &["5.5.5.5:5"], 3600);
    *forged.last_mut().unwrap() ^= 1;
    let nothing = others(
        &net,
        &[
            liar(50, &["127.0.0.1:22", "192.168.1.1:80", "10.0.0.1:80", "169.254.1.1:1", "[::1]:22"], 3600),
            // The receiver's own.
            liar(51, &["8.8.8.2:2"], 3600),
            liar(52, &["5.5.5.5:5"], 0),
            liar(53, &["5.5.5.5:5"], 30 * 86_400),
            forged,
        ],
    );
    net.say(0, 1, &nothing);
    net.run(SECOND * 2);
    assert!(net.astray.is_empty(), "{:?}", net.astray);
    assert_eq!(net.nodes[1].1.stats().pex.refused, 5);
    // A record of his own that names somebody else: he is not there, so nobody is told.
    let mut lie = vec![0, 1];
    lie.extend_from_slice(&net.tag(0, 1, &lobby));
    let record = Record {
        sequence: u64::MAX,
        expires: unix + SECOND * 3600,
        addresses: vec!["6.6.6.6:6".parse().unwrap()],
        ..Record::default()
    };
    lie.extend_from_slice(record.sign(&Identity::from_seed([1; 32])).unwrap().as_bytes());
    net.say(0, 1, &lie);
    net.dial(2, 1);
    net.run(SECOND * 5);
    assert!(net.is_connected(2, 1));
    assert!(net.astray.is_empty(), "{:?}", net.astray);
    // Twenty times a minute as many as may be: what is above is left.
    let many: Vec<Vec<u8>> = (0..20).map(|n| liar(100 + n, &[&format!("5.5.5.{n}:5")], 3600)).collect();
    let before = net.nodes[1].1.stats().pex;
    for _ in 0..20 {
        let message = others(&net, &many);
        net.say(0, 1, &message);
    }
    net.run(SECOND);
    let after = net.nodes[1].1.stats().pex;
    assert!(after.taken - before.taken <= 64, "{after:?}");
    assert_eq!(after.taken + after.refused - before.taken - before.refused, 400);
    assert!(net.astray.keys().all(|addr| addr.ip().to_string().starts_with("5.5.5.")) && net.astray.len() <= 20);
    let packets: usize = net.astray.values().sum();
    assert!(packets <= 64, "{packets} packets to people who may not be there");
}

#[test]
fn what_is_not_understood_ends_the_protocol_and_nothing_else() {
    for garbage in [&[1, 2, 3][..], &[0, 255], &[1; 20_059], &[]] {
        let mut net = Net::new(&["9.9.9.1:1", "8.8.8.2:2"]);
        let lobby = TopicId::from("lobby");
        (0..2).for_each(|node| net.join(node, lobby, true, true));
        net.dial(0, 1);
        net.run(SECOND * 2);
        net.say(0, 1, garbage);
        net.run(SECOND * 2);
        assert!(net.is_connected(0, 1) && net.is_connected(1, 0));
        assert_eq!(net.nodes[1].1.neighbours(&lobby).count(), 1);
    }
}

#[test]
fn who_is_asked_says_whom_it_knows_twenty_at_a_time() {
    let addrs: Vec<String> = (20..45).map(|n| format!("{n}.8.8.8:1")).collect();
    let addrs: Vec<&str> = addrs.iter().map(String::as_str).collect();
    let (mut net, lobby) = (Net::new(&addrs), TopicId::from("lobby"));
    // The first looks for others, the second knows all of them.
    net.join(0, lobby, false, true);
    net.join(1, lobby, true, true);
    net.dial(0, 1);
    for other in 2..25 {
        net.join(other, lobby, true, false);
        net.dial(other, 1);
    }
    net.run(SECOND * 2);
    let met = |net: &Net| (2..25).filter(|other| net.is_connected(0, *other)).count();
    assert!(net.answers.is_empty() && met(&net) <= 20, "{} without a question", met(&net));
    for asked in 1..=2 {
        assert!(net.ask(0, 1));
        net.run(SECOND / 5);
        assert_eq!(net.answers, vec![20; asked]);
    }
    // Of all that one peer names twenty are dialled at once.
    net.run(SECOND * 2);
    assert_eq!(met(&net), 20);
    for _ in 0..3 {
        net.run(SECOND * 16);
        assert!(net.ask(0, 1) && net.ask(0, 1));
    }
    net.run(SECOND * 2);
    assert_eq!(met(&net), 23);
}

#[test]
fn questions_are_answered_within_bounds_and_in_common_topics_only() {
    let mut net = Net::new(&["9.9.9.1:1", "8.8.8.2:2", "7.7.7.3:3"]);
    let lobby = TopicId::from("lobby");
    // The first does not look for others.
    net.join(0, lobby, true, false);
    net.join(1, lobby, true, true);
    net.join(2, lobby, true, true);
    net.dial(0, 1);
    net.dial(2, 1);
    net.run(SECOND * 3);
    assert!(!net.ask(0, 1), "whom it would be told of it would not dial");
    assert!(net.ask(2, 1));
    net.run(SECOND / 5);
    assert_eq!(net.answers, [1]);
    let shared = |net: &Net| net.nodes[1].1.stats().pex.shared;
    let who = |tag: [u8; 16]| [&[2][..], &tag[..]].concat();
    let (before, question) = (shared(&net), who(net.tag(2, 1, &lobby)));
    for _ in 0..100 {
        net.say(2, 1, &question);
    }
    net.run(SECOND / 5);
    let answered = shared(&net) - before;
    assert_eq!(answered, 7, "of a hundred, after one");
    // When it may ask two more, it is not told of those in topics that it has not proved.
    net.run(SECOND * 12);
    let before = shared(&net);
    net.say(2, 1, &who([7; 16]));
    net.run(SECOND / 5);
    assert_eq!(shared(&net), before);
    net.say(2, 1, &question);
    net.run(SECOND / 5);
    assert_eq!(shared(&net), before + 1);
}
