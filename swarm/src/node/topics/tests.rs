//! Two machines with a channel between them, and somebody who speaks for one of them.

use std::time::Duration;

use crypto::Identity;
use crypto::topic::member_tag;
use peer::{Endpoint, Target};
use proptest::prelude::*;
use structs::Path;

use super::*;

const UNIX_MS: u64 = 1_700_000_000_000;

fn topics(number: u64) -> Topics {
    topics_at(number, UNIX_MS)
}

fn topics_at(number: u64, unix_ms: u64) -> Topics {
    let epoch = Epoch { instant: sim::clock::base(), unix: Duration::from_millis(unix_ms) };
    Topics::new(epoch, &Seed::fixed(number))
}

/// Handles, which only an endpoint makes.
fn handles(count: u16) -> Vec<Handle> {
    let now = sim::clock::base();
    let identity = Identity::generate(&mut Seed::fixed(1).rng());
    let epoch = Epoch { instant: now, unix: Duration::ZERO };
    let mut endpoint = Endpoint::new(identity, peer::Config::default(), epoch, &Seed::fixed(2), now);
    let mut dial = |port: u16| {
        let path = Path::udp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], port).into());
        endpoint.dial(Target::Anyone, path, now).expect("a few dials")
    };
    (0..count).map(|number| dial(1000 + number)).collect()
}

fn id(number: u8) -> PeerId {
    PeerId::from_bytes([number; 32])
}

fn topic(number: u8) -> TopicId {
    TopicId::from_bytes([number; 32])
}

/// Two nodes with a session between them. Both name it by the same handle.
struct Pair {
    nodes: [Topics; 2],
    /// What is in the channel from each side.
    channels: [VecDeque<Bytes>; 2],
    conn: Handle,
    sessions: u8,
}

impl Pair {
    fn new() -> Self {
        let conn = handles(1)[0];
        Self { nodes: [topics(1), topics(2)], channels: Default::default(), conn, sessions: 0 }
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        pair.connect();
        pair
    }

    /// Connects, each time with another exporter; the roles change too.
    fn connect(&mut self) {
        let exporter = [self.sessions; 32];
        let role = if self.sessions.is_multiple_of(2) { Role::Dialler } else { Role::Responder };
        self.sessions += 1;
        self.nodes[0].on_connected(self.conn, id(2), role, exporter);
        self.nodes[1].on_connected(self.conn, id(1), role.other(), exporter);
    }

    /// The session ends with all that is under way.
    fn disconnect(&mut self) {
        self.channels = Default::default();
        let conn = self.conn;
        self.nodes.iter_mut().for_each(|node| node.on_closed(conn));
    }

    fn flush(&mut self) {
        for (node, channel) in self.nodes.iter_mut().zip(&mut self.channels) {
            while let Some((conn, frame)) = node.poll_send() {
                node.sent(conn);
                channel.push_back(frame);
            }
        }
    }

    fn deliver(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            while let Some(frame) = self.channels[from].pop_front() {
                self.nodes[to].on_message(self.conn, &frame).expect("of a node");
            }
        }
    }

    fn run(&mut self) {
        self.flush();
        self.deliver();
        assert!(self.nodes.iter_mut().all(|node| node.poll_send().is_none()), "nothing is told twice");
    }

    /// Publishes on one side; whether there was a neighbour.
    fn publish(&mut self, side: usize, number: u8, data: &[u8]) -> bool {
        let publication = self.nodes[side].publish(&topic(number), data).expect("joined");
        if publication.neighbours.is_empty() {
            return false;
        }
        assert_eq!(publication.neighbours, [self.conn]);
        self.channels[side].push_back(publication.frame);
        true
    }

    fn events(&mut self, side: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.nodes[side].poll_event()).collect()
    }

    fn joined(&self, side: usize, number: u8) -> Event {
        Event::Joined { topic: topic(number), conn: self.conn, peer: id(2 - u8::from(side == 1)) }
    }

    fn left(&self, side: usize, number: u8) -> Event {
        Event::Left { topic: topic(number), conn: self.conn, peer: id(2 - u8::from(side == 1)) }
    }

    fn message(&self, side: usize, number: u8, data: &'static [u8]) -> Event {
        let from = id(2 - u8::from(side == 1));
        Event::Message { topic: topic(number), conn: self.conn, from, data: Bytes::from_static(data) }
    }
}

#[test]
fn topics_joined_before_and_after_a_session_are_found() {
    let mut pair = Pair::new();
    pair.nodes[0].join(topic(1)).unwrap();
    pair.nodes[1].join(topic(1)).unwrap();
    pair.nodes[0].join(topic(2)).unwrap();
    pair.connect();
    pair.run();
    for side in [0, 1] {
        assert_eq!(pair.events(side), [pair.joined(side, 1)]);
    }
    pair.nodes[1].join(topic(2)).unwrap();
    pair.nodes[1].join(topic(3)).unwrap();
    pair.run();
    for side in [0, 1] {
        assert_eq!(pair.events(side), [pair.joined(side, 2)]);
        assert_eq!(pair.nodes[side].neighbours(&topic(1)).count(), 1);
        assert_eq!(pair.nodes[side].neighbours(&topic(3)).count(), 0);
    }
    assert_eq!(pair.nodes[1].joined().count(), 3);
}

#[test]
fn what_is_published_reaches_those_who_share_the_topic_once() {
    let mut pair = Pair::connected();
    pair.nodes[0].join(topic(1)).unwrap();
    pair.nodes[0].join(topic(2)).unwrap();
    pair.nodes[1].join(topic(1)).unwrap();
    pair.run();
    pair.events(0);
    pair.events(1);
    assert!(pair.publish(0, 1, b"one"));
    assert!(pair.publish(0, 1, b"two"));
    assert!(pair.publish(1, 1, b"three"));
    assert!(!pair.publish(0, 2, b"nobody"));
    let repeated = pair.channels[0][0].clone();
    pair.channels[0].push_back(repeated);
    pair.deliver();
    assert_eq!(pair.events(1), [pair.message(1, 1, b"one"), pair.message(1, 1, b"two")]);
    assert_eq!(pair.events(0), [pair.message(0, 1, b"three")]);
    assert_eq!(pair.nodes[1].counters(), Counters { delivered: 2, duplicates: 1, ..Counters::default() });
    assert_eq!(pair.nodes[0].publish(&topic(9), b"").err(), Some(PublishError::NotJoined));
    let large = vec![0; MAX_DATA + 1];
    let too_large = PublishError::TooLarge { len: MAX_DATA + 1, max: MAX_DATA };
    assert_eq!(pair.nodes[0].publish(&topic(1), &large).err(), Some(too_large));
    let publication = pair.nodes[0].publish(&topic(1), &large[1..]).unwrap();
    assert_eq!(publication.frame.len(), MAX_MESSAGE);
}

#[test]
fn who_leaves_is_gone_and_may_come_back() {
    let mut pair = Pair::connected();
    for node in &mut pair.nodes {
        node.join(topic(1)).unwrap();
        node.join(topic(2)).unwrap();
    }
    pair.run();
    pair.events(0);
    pair.events(1);
    assert!(pair.publish(0, 1, b"under way"));
    pair.nodes[1].leave(&topic(1));
    pair.run();
    assert_eq!(pair.events(0), [pair.left(0, 1)]);
    assert_eq!(pair.events(1), [], "it left itself");
    assert_eq!(pair.nodes[1].counters().unproved, 1);
    assert!(!pair.publish(0, 1, b"nobody"));
    assert!(pair.publish(0, 2, b"still here"));
    pair.nodes[1].join(topic(1)).unwrap();
    pair.run();
    assert_eq!(pair.events(0), [pair.joined(0, 1)]);
    // Of the other side it knew all along.
    assert_eq!(pair.events(1), [pair.joined(1, 1), pair.message(1, 2, b"still here")]);
}

#[test]
fn the_end_of_a_session_leaves_all_and_the_next_one_begins_anew() {
    let mut pair = Pair::connected();
    for node in &mut pair.nodes {
        node.join(topic(1)).unwrap();
        node.join(topic(2)).unwrap();
    }
    pair.run();
    pair.events(0);
    pair.events(1);
    for round in 0..3 {
        assert!(pair.publish(0, 1, b"lost"));
        pair.disconnect();
        for side in [0, 1] {
            assert_eq!(pair.events(side), [pair.left(side, 1), pair.left(side, 2)], "{round}");
        }
        pair.connect();
        if round == 1 {
            // Lost again, in the middle of the beginning.
            pair.flush();
            pair.channels[0].truncate(1);
            pair.deliver();
            pair.events(0);
            pair.disconnect();
            pair.events(0);
            pair.connect();
        }
        pair.run();
        assert!(pair.publish(0, 1, b"arrives"));
        pair.run();
        // Topics come in the order of the other side's slots, the message behind them.
        let mut events = pair.events(1);
        assert_eq!(events.pop(), Some(pair.message(1, 1, b"arrives")), "{round}");
        for (side, events) in [(0, pair.events(0)), (1, events)] {
            let expected = [pair.joined(side, 1), pair.joined(side, 2)];
            assert!(events.len() == 2 && expected.iter().all(|event| events.contains(event)), "{round}: {events:?}");
        }
    }
}

/// A slot serves one topic after the other; what was published in the first and held up is none of the second.
#[test]
fn a_publication_is_never_taken_for_one_in_another_topic() {
    let mut pair = Pair::connected();
    for number in 1..=4 {
        pair.nodes.iter_mut().for_each(|node| node.join(topic(number)).unwrap());
    }
    pair.nodes[1].join(topic(5)).unwrap();
    pair.run();
    let held_up = pair.nodes[0].publish(&topic(1), b"one").unwrap();
    pair.nodes[0].leave(&topic(1));
    pair.nodes[0].join(topic(5)).unwrap();
    assert_eq!(pair.nodes[0].slots.len(), 4, "it is the slot that was left");
    pair.run();
    pair.events(1);
    assert_eq!(pair.nodes[0].neighbours(&topic(5)).count(), 1);
    pair.nodes[1].on_message(pair.conn, &held_up.frame).unwrap();
    assert_eq!((pair.events(1), pair.nodes[1].counters().unproved), (vec![], 1));
    assert!(pair.publish(0, 5, b"five"));
    pair.deliver();
    assert_eq!(pair.events(1), [pair.message(1, 5, b"five")]);
}

/// Nobody is a neighbour before it was told, however full its channel is, and nothing overtakes.
#[test]
fn a_full_channel_holds_back_what_depends_on_it() {
    let mut pair = Pair::connected();
    pair.run();
    for node in &mut pair.nodes {
        node.join(topic(1)).unwrap();
    }
    let conn = pair.conn;
    let (first, frame) = pair.nodes[0].poll_send().unwrap();
    assert_eq!(first, conn);
    pair.nodes[0].blocked(conn);
    assert!(pair.nodes[0].poll_send().is_none());
    // More to be told is merged with what was not.
    pair.nodes[0].join(topic(2)).unwrap();
    assert!(pair.nodes[0].poll_send().is_none());
    pair.run();
    assert_eq!(pair.nodes[0].neighbours(&topic(1)).count(), 0);
    assert!(!pair.publish(0, 1, b"too early"));
    assert_eq!(pair.events(0), []);
    pair.nodes[0].writable(conn);
    let (_, merged) = pair.nodes[0].poll_send().unwrap();
    assert_eq!(merged.len(), frame.len() + 18);
    assert!(pair.events(0).is_empty(), "not before it was sent");
    pair.run();
    assert_eq!(pair.events(0), [pair.joined(0, 1)]);
    assert_eq!(pair.events(1), [pair.joined(1, 1)]);
}

#[test]
fn tags_are_no_proof_for_others_and_say_nothing_but_a_power_of_two() {
    let mut pair = Pair::new();
    pair.nodes[0].join(topic(1)).unwrap();
    pair.connect();
    pair.flush();
    // A stranger sends back what it got, in the same session and in another one.
    let frames: Vec<Bytes> = pair.channels[0].drain(..).collect();
    for connect_again in [false, true] {
        if connect_again {
            pair.connect();
            pair.flush();
        }
        frames.iter().for_each(|frame| pair.nodes[0].on_message(pair.conn, frame).unwrap());
        assert_eq!(pair.events(0), []);
        assert_eq!(pair.nodes[0].neighbours(&topic(1)).count(), 0);
    }
    // The table has 4 slots with none to four topics, all different; then 8.
    for count in 1..=5 {
        let mut node = topics(7);
        (0..count).for_each(|number| node.join(topic(number)).unwrap());
        node.on_connected(pair.conn, id(9), Role::Dialler, [3; 32]);
        node.poll_send().unwrap();
        node.sent(pair.conn);
        let (_, frame) = node.poll_send().unwrap();
        let Ok(Frame::Tags(entries)) = Frame::decode(&frame) else { panic!("{frame:?}") };
        assert_eq!(entries.len(), if count < 5 { 4 } else { 8 });
        let tags: BTreeSet<_> = entries.iter().map(|[_, _, tag @ ..]| *tag).collect();
        assert_eq!(tags.len(), entries.len());
        let ours = (0..count).map(|number| member_tag(topic(number).as_bytes(), &[3; 32], 0));
        assert!(ours.into_iter().all(|tag| tags.contains(&tag)));
    }
}

#[test]
fn a_message_in_a_topic_that_was_not_proved_is_refused() {
    let mut pair = Pair::connected();
    pair.nodes[0].join(topic(1)).unwrap();
    pair.run();
    for slot in [0, 1, 2, 3, 4, 255] {
        let place = Place { slot, turn: pair.nodes[1].slots.get(usize::from(slot)).map_or(0, |slot| slot.turn) };
        let frame = Frame::Publication { place, sequence: 1, data: b"guess" }.encode();
        pair.nodes[0].on_message(pair.conn, &frame).unwrap();
    }
    assert_eq!(pair.events(0), []);
    assert_eq!(pair.nodes[0].counters().unproved, 6);
}

#[test]
fn a_restart_is_heard_whatever_the_clock_says() {
    // Later, in the same millisecond of a fast restart after many messages, a second before, years before.
    for (unix_ms, published) in [(UNIX_MS + 1, 5), (UNIX_MS + 100, 3000), (UNIX_MS - 1000, 5), (0, 5)] {
        let mut pair = Pair::connected();
        pair.nodes.iter_mut().for_each(|node| node.join(topic(1)).unwrap());
        pair.run();
        (0..published).for_each(|_| assert!(pair.publish(0, 1, b"before")));
        pair.deliver();
        pair.disconnect();
        pair.nodes[0] = topics_at(3, unix_ms);
        pair.nodes[0].join(topic(1)).unwrap();
        pair.connect();
        pair.run();
        pair.events(1);
        assert!(pair.publish(0, 1, b"after"));
        pair.deliver();
        assert_eq!(pair.events(1), [pair.message(1, 1, b"after")], "{unix_ms}");
    }
}

/// One peer over two sessions, as when one takes the place of the other.
#[test]
fn copies_over_two_sessions_are_one_message() {
    let conns = handles(2);
    let (mut a, mut b) = (topics(1), topics(2));
    a.join(topic(1)).unwrap();
    b.join(topic(1)).unwrap();
    for &conn in &conns {
        a.on_connected(conn, id(2), Role::Dialler, [1; 32]);
        b.on_connected(conn, id(1), Role::Responder, [1; 32]);
    }
    while let Some((conn, frame)) = a.poll_send() {
        a.sent(conn);
        b.on_message(conn, &frame).unwrap();
    }
    while let Some((conn, frame)) = b.poll_send() {
        b.sent(conn);
        a.on_message(conn, &frame).unwrap();
    }
    while b.poll_event().is_some() {}
    let Publication { frame, neighbours, .. } = a.publish(&topic(1), b"once").unwrap();
    assert_eq!(neighbours, conns);
    neighbours.iter().for_each(|&conn| b.on_message(conn, &frame).unwrap());
    let message = Event::Message { topic: topic(1), conn: conns[0], from: id(1), data: Bytes::from_static(b"once") };
    assert_eq!((b.poll_event(), b.poll_event()), (Some(message), None));
}

#[test]
fn keys_of_the_other_wire_are_told_once() {
    let mut pair = Pair::connected();
    pair.nodes[0].set_v12_key(Some([5; 32]));
    pair.run();
    pair.nodes[0].set_v12_key(Some([5; 32]));
    pair.run();
    assert_eq!(pair.events(1), [Event::V12Key { conn: pair.conn, key: [5; 32] }]);
    pair.nodes[0].set_v12_key(None);
    pair.run();
    pair.nodes[0].set_v12_key(Some([6; 32]));
    pair.disconnect();
    pair.connect();
    pair.run();
    assert_eq!(pair.events(1), [Event::V12Key { conn: pair.conn, key: [6; 32] }]);
    assert_eq!(pair.events(0), []);
}

#[test]
fn bounds_hold() {
    let mut pair = Pair::connected();
    for number in 0..64 {
        pair.nodes[0].join(topic(number)).unwrap();
        pair.nodes[0].join(topic(number)).unwrap();
    }
    assert_eq!(pair.nodes[0].join(topic(64)), Err(JoinError::TooMany { limit: 64 }));
    assert_eq!(pair.nodes[0].slots.len(), 64);
    pair.flush();
    assert_eq!(pair.channels[0].len(), 2, "each state is told once");
    pair.deliver();
    (0..64).for_each(|number| pair.nodes[1].join(topic(number)).unwrap());
    pair.run();
    assert_eq!(pair.events(0).len(), 64);
    assert_eq!(pair.events(1).len(), 64);
    (0..64).for_each(|number| pair.nodes[0].leave(&topic(number)));
    (0..64).for_each(|number| pair.nodes[0].join(topic(number)).unwrap());
    pair.run();
    // All slots of a table, in one message.
    let entries: Vec<[u8; 18]> = (0..=255).map(|slot| [slot; 18]).collect();
    pair.nodes[0].on_message(pair.conn, &Frame::Tags(&entries).encode()).unwrap();
    assert_eq!(pair.nodes[0].neighbours(&topic(1)).count(), 0);
}

#[test]
fn malformed_messages_change_nothing_and_later_ones_are_passed_over() {
    let mut pair = Pair::connected();
    pair.nodes.iter_mut().for_each(|node| node.join(topic(1)).unwrap());
    pair.run();
    pair.events(0);
    let conn = pair.conn;
    let truncated = Err(Malformed::Frame(DecodeError::Truncated));
    let unordered = [[1; 18], [1; 18]];
    assert_eq!(pair.nodes[0].on_message(conn, &[]), Err(Malformed::Frame(DecodeError::Empty)));
    assert_eq!(pair.nodes[0].on_message(conn, &[0, 1, 2]), truncated);
    assert_eq!(pair.nodes[0].on_message(conn, &[1; 20]), truncated);
    assert_eq!(pair.nodes[0].on_message(conn, &[2, 0, 1, 0]), truncated);
    assert_eq!(pair.nodes[0].on_message(conn, &[3; 32]), truncated);
    let message = Frame::Tags(&unordered).encode();
    assert_eq!(pair.nodes[0].on_message(conn, &message), Err(Malformed::Frame(DecodeError::BadOrder)));
    for unknown in [&[4_u8][..], &[0xff, 1, 2], &[2, 1], &[2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]] {
        assert_eq!(pair.nodes[0].on_message(conn, unknown), Ok(()), "{unknown:?}");
    }
    assert_eq!(pair.nodes[0].counters().unknown, 4);
    assert_eq!(pair.nodes[0].neighbours(&topic(1)).count(), 1);
    assert_eq!(pair.events(0), []);
    pair.disconnect();
    assert_eq!(pair.nodes[0].on_message(conn, &[4]), Err(Malformed::NotConnected));
}

/// What is done to a node from outside.
#[derive(Debug, Clone)]
enum Step {
    Join(u8),
    Leave(u8),
    Publish(u8),
    Message(Vec<u8>),
    Tags(Vec<(u8, u8)>),
    Publication(u8, u8, u64),
    Reconnect,
    Blocked(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..80_u8).prop_map(Step::Join),
        (0..80_u8).prop_map(Step::Leave),
        (0..80_u8).prop_map(Step::Publish),
        prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Message),
        (0..4_u8, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(kind, mut bytes)| {
            bytes.insert(0, kind);
            Step::Message(bytes)
        }),
        prop::collection::vec((any::<u8>(), 0..80_u8), 0..20).prop_map(Step::Tags),
        (any::<u8>(), 0..2_u8, any::<u64>()).prop_map(|(slot, turn, sequence)| Step::Publication(slot, turn, sequence)),
        Just(Step::Reconnect),
        any::<bool>().prop_map(Step::Blocked),
    ]
}

proptest! {
    /// A stranger who knows all topics says anything: nothing panics, and who is in which topic is as a model says.
    #[test]
    fn neighbours_are_those_who_proved_it(steps in prop::collection::vec(step(), 1..60)) {
        let conn = handles(1)[0];
        let mut node = topics(1);
        let (mut ours, mut theirs, mut told) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let (mut members, mut is_blocked) = (BTreeSet::new(), false);
        node.on_connected(conn, id(2), Role::Dialler, [7; 32]);
        for step in steps {
            match step {
                Step::Join(number) if node.join(topic(number)).is_ok() => {
                    ours.insert(number);
                }
                Step::Join(_) => prop_assert_eq!(ours.len(), 64),
                Step::Leave(number) => {
                    node.leave(&topic(number));
                    ours.remove(&number);
                    told.remove(&number);
                    members.remove(&topic(number));
                }
                Step::Publish(number) => {
                    let publication = node.publish(&topic(number), b"data");
                    prop_assert_eq!(publication.is_ok(), ours.contains(&number));
                    let expected = members.contains(&topic(number));
                    prop_assert_eq!(publication.is_ok_and(|one| one.neighbours == [conn]), expected);
                }
                Step::Message(bytes) => {
                    // What it told before stays, unless these are tags that nobody made from a topic.
                    if node.on_message(conn, &bytes).is_ok() && bytes[0] == 1 {
                        bytes[1..].chunks(18).for_each(|entry| {
                            theirs.remove(&entry[0]);
                        });
                    }
                }
                Step::Tags(entries) => {
                    let entries: BTreeMap<u8, u8> = entries.into_iter().collect();
                    let tags = entries.iter().map(|(&slot, &number)| {
                        let mut entry = [slot; 18];
                        entry[1] = 0;
                        entry[2..].copy_from_slice(&member_tag(topic(number).as_bytes(), &[7; 32], 1));
                        entry
                    });
                    node.on_message(conn, &Frame::Tags(&tags.collect::<Vec<_>>()).encode()).unwrap();
                    theirs.extend(entries);
                }
                Step::Publication(slot, turn, sequence) => {
                    let frame = Frame::Publication { place: Place { slot, turn }, sequence, data: b"data" }.encode();
                    let before = node.counters();
                    node.on_message(conn, &frame).unwrap();
                    let refused = node.counters().unproved > before.unproved;
                    let is_member = theirs.get(&slot).is_some_and(|number| members.contains(&topic(*number)));
                    let is_member = is_member && turn == 0;
                    prop_assert_eq!(refused, !is_member);
                }
                Step::Reconnect => {
                    node.on_closed(conn);
                    node.on_connected(conn, id(2), Role::Dialler, [7; 32]);
                    (theirs, told, is_blocked) = (BTreeMap::new(), BTreeSet::new(), false);
                }
                Step::Blocked(blocked) => {
                    if blocked { node.blocked(conn) } else { node.writable(conn) }
                    is_blocked = blocked;
                }
            }
            while let Some((conn, frame)) = node.poll_send() {
                prop_assert!(!is_blocked && frame.len() <= 1 + 64 * 18);
                node.sent(conn);
            }
            if !is_blocked {
                told.clone_from(&ours);
            }
            while let Some(event) = node.poll_event() {
                match event {
                    Event::Joined { topic, .. } => prop_assert!(members.insert(topic)),
                    Event::Left { topic, .. } => prop_assert!(members.remove(&topic)),
                    _ => {}
                }
            }
            let expected = theirs.values().filter(|number| told.contains(*number)).map(|number| topic(*number));
            prop_assert_eq!(&members, &expected.collect::<BTreeSet<_>>());
        }
    }
}
