//! Networks in virtual time: is what was published found?

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::envelope::NodeKey;
use crypto::{Identity, PeerId, Seed};
use dht::{Announcer, Contact, Dht, Event, Item, PublishError, QueryId, Refused, SignedValue, Subnets, Tally, Wanted};
use sim::world::MachineId;
use sim::{Addresses, Link, World};
use structs::Epoch;

struct Network {
    world: World<Dht>,
    ids: Vec<MachineId>,
    unix: Duration,
}

impl Network {
    fn new(nodes: u32, unix: Duration) -> Self {
        let link = Link::perfect().delay(Duration::from_millis(20));
        let world = World::new(Seed::fixed(nodes.into())).link(link).addresses(Addresses::Public);
        let mut network = Self { world, ids: Vec::new(), unix };
        (0..nodes).for_each(|_| network.join());
        network.world.run_for(Duration::from_secs(20));
        network
    }

    /// One more node, which begins with the first two.
    fn join(&mut self) {
        let contact =
            |id: &MachineId| Contact { id: self.world.get(*id).unwrap().id(), addr: self.world.addr(*id).unwrap() };
        let begin: Vec<Contact> = self.ids.iter().take(2).map(contact).collect();
        let unix = self.unix;
        let id = self.world.add(|birth| {
            let key = NodeKey::generate(&mut birth.seed.fork("key").rng());
            let epoch = Epoch { instant: sim::clock::base(), unix };
            let mut dht = Dht::new(key, Subnets::Public, epoch, &birth.seed, birth.now);
            dht.set_address(birth.addr, birth.now);
            dht.bootstrap(&begin, birth.now);
            dht
        });
        self.ids.push(id);
        self.world.run_for(Duration::from_millis(100));
    }

    fn with<T>(&mut self, node: usize, command: impl FnOnce(&mut Dht, std::time::Instant) -> T) -> T {
        self.world.with(self.ids[node], command).unwrap()
    }

    /// What a node reports up to the event that ends a query.
    fn finish(&mut self, node: usize, id: QueryId) -> Vec<Event> {
        let at = self.ids[node];
        let ends = |event: &Event| match event {
            Event::PeersDone { id: done, .. } | Event::GetDone { id: done, .. } | Event::Stored { id: done, .. } => {
                *done == id
            }
            _ => false,
        };
        let done = self
            .world
            .run_until(|world| world.events(at).iter().any(|timed| ends(&timed.event)), Duration::from_secs(30));
        assert!(done, "every query ends");
        let events = self.world.take_events(at).into_iter().map(|timed| timed.event);
        events.filter(|event| !matches!(event, Event::Observed { .. })).collect()
    }

    /// Announces a member from a node.
    fn announce(&mut self, node: usize, member: u8, topic: [u8; 32]) -> (PeerId, u32) {
        let (_, peer, stored, refused) = self.try_announce(node, member, topic);
        assert_eq!(refused, []);
        (peer, stored)
    }

    fn try_announce(&mut self, node: usize, member: u8, topic: [u8; 32]) -> (QueryId, PeerId, u32, Vec<Refused>) {
        let identity = Arc::new(Identity::from_seed([member; 32]));
        let peer = identity.peer_id();
        let addresses = vec![self.world.addr(self.ids[node]).unwrap()];
        let announcer = Announcer { identity, addresses, relays: Vec::new() };
        let id = self.with(node, |dht, now| dht.announce(topic, announcer, now)).unwrap();
        match self.finish(node, id).pop() {
            Some(Event::Stored { stored, refused, round: 0, .. }) => (id, peer, stored, refused),
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, node: usize, item: &Item) -> (u32, Vec<Refused>) {
        let id = self.with(node, |dht, now| dht.put(item.clone(), now)).unwrap();
        match self.finish(node, id).pop() {
            Some(Event::Stored { stored, refused, .. }) => (stored, refused),
            other => panic!("{other:?}"),
        }
    }

    /// What is handed out first, and what is the newest in the end.
    fn get(&mut self, node: usize, wanted: Wanted) -> (Option<Item>, Option<Item>) {
        let id = self.with(node, |dht, now| dht.get(wanted, now)).unwrap();
        let mut events = self.finish(node, id);
        let Some(Event::GetDone { newest, .. }) = events.pop() else { panic!("{events:?}") };
        let first = events.into_iter().find_map(|event| match event {
            Event::Record { item, .. } => Some(item),
            _ => None,
        });
        (first, newest)
    }

    /// How many records there are in the whole network.
    fn stored(&self) -> usize {
        self.ids.iter().map(|id| self.world.get(*id).unwrap().store().len()).sum()
    }

    fn peers(&mut self, node: usize, topic: [u8; 32]) -> (BTreeSet<PeerId>, Tally) {
        let id = self.with(node, |dht, now| dht.peers(&topic, now)).unwrap();
        let events = self.finish(node, id);
        let mut found = BTreeSet::new();
        for event in &events {
            if let Event::Peer { announcement, .. } = event {
                assert!(found.insert(announcement.peer()), "each once");
            }
        }
        match events.last() {
            Some(Event::PeersDone { tally, .. }) => (found, *tally),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_hundred_members_are_found_by_anybody() {
    let mut network = Network::new(50, crate::NOON);
    let mut members = BTreeSet::new();
    for member in 0..100 {
        let (peer, stored) = network.announce(usize::from(member % 45), member, [7; 32]);
        members.insert(peer);
        // Some looked as if they were among the closest until closer ones were known.
        assert!((20..=30).contains(&stored), "{stored}");
    }
    for node in [0, 25, 47] {
        let (found, tally) = network.peers(node, [7; 32]);
        println!("{tally:?}");
        assert_eq!(found, members);
    }
    let (found, _) = network.peers(3, [8; 32]);
    assert!(found.is_empty());
}

#[test]
fn each_kind_of_record_is_found_by_its_key() {
    let mut network = Network::new(40, crate::NOON);
    let signer = Identity::from_seed([9; 32]);
    let value = Item::Value(Arc::from([3; 1000].as_slice()));
    let signed = Item::Signed(SignedValue::sign(&signer, b"salt", 4, &[5; 996]).unwrap());
    let addr: SocketAddr = "9.8.7.6:5".parse().unwrap();
    let record = framing::record::Record {
        sequence: 1,
        expires: crate::NOON + Duration::from_hours(48),
        addresses: vec![addr],
        ..framing::record::Record::default()
    };
    let record = Item::Peer(record.sign(&signer).unwrap());
    let wanted = [
        Wanted::Value(value.key()),
        Wanted::Signed { signer: signer.peer_id(), salt: Box::from(b"salt".as_slice()) },
        Wanted::Peer(signer.peer_id()),
    ];
    for (item, wanted) in [value, signed, record].into_iter().zip(wanted) {
        let (stored, refused) = network.put(1, &item);
        assert!((20..=26).contains(&stored) && refused.is_empty(), "{stored}, {refused:?}");
        assert_eq!(network.get(30, wanted), (Some(item.clone()), Some(item)));
    }
    let nothing = Wanted::Value(dht::item::value_key(b"nobody has this"));
    assert_eq!(network.get(2, nothing), (None, None));
}

#[test]
fn a_value_found_is_cached_at_the_closest_node_that_lacked_it() {
    let mut network = Network::new(40, crate::NOON);
    let items: Vec<Item> = (0..8).map(|number| Item::Value(Arc::from([number; 100].as_slice()))).collect();
    for item in &items {
        let id = network.with(1, |dht, now| dht.put(item.clone(), now)).unwrap();
        network.finish(1, id);
        assert!(network.with(1, |dht, _| dht.withdraw(id)));
    }
    // Of those that come later some are among the closest, and have nothing.
    (0..40).for_each(|_| network.join());
    network.world.run_for(Duration::from_secs(20));
    let mut cached = 0;
    for item in &items {
        let key = item.key();
        let distance = |id: &MachineId| {
            let addr = network.world.addr(*id).unwrap();
            Subnets::Public.key_of(&Contact { id: network.world.get(*id).unwrap().id(), addr }).distance(&key)
        };
        let mut sorted = network.ids.clone();
        sorted.sort_by_cached_key(distance);
        let keepers = |network: &Network| -> BTreeSet<MachineId> {
            let keeps = |id: &MachineId| network.world.get(*id).unwrap().store().get(item.kind(), &key).is_some();
            network.ids.iter().copied().filter(keeps).collect()
        };
        for reader in &sorted[60..64] {
            let before = keepers(&network);
            let reader = network.ids.iter().position(|id| id == reader).unwrap();
            let id = network.with(reader, |dht, now| dht.get_for_others(Wanted::Value(key), now)).unwrap();
            let done = network.finish(reader, id).pop();
            assert!(matches!(done, Some(Event::GetDone { newest, .. }) if newest.as_ref() == Some(item)));
            network.world.run_for(Duration::from_secs(2));
            assert_eq!(keepers(&network), before, "what somebody else looks for is not cached in our name");
            assert_eq!(network.get(reader, Wanted::Value(key)).1.as_ref(), Some(item));
            network.world.run_for(Duration::from_secs(2));
            let new: Vec<MachineId> = keepers(&network).difference(&before).copied().collect();
            // Where the closest that answered before it was found had nothing.
            assert!(new.len() <= 1 && new.iter().all(|id| sorted[..30].contains(id)), "{new:?}");
            cached += new.len();
        }
    }
    assert!(cached > 0);
}

#[test]
fn nodes_that_gave_a_token_store_at_once() {
    let mut network = Network::new(50, crate::NOON);
    // Everybody looks around, so that tables are full; what they gave for that is forgotten.
    network.world.run_for(Duration::from_mins(10));
    let mut asked = |first: u8, nodes: std::ops::Range<usize>| -> u32 {
        let rounds = nodes.zip(first..).map(|(node, topic)| {
            network.peers(node, [topic; 32]);
            let identity = Arc::new(Identity::from_seed([topic; 32]));
            let addresses = vec![network.world.addr(network.ids[node]).unwrap()];
            let announcer = Announcer { identity, addresses, relays: Vec::new() };
            let id = network.with(node, |dht, now| dht.announce([topic; 32], announcer, now)).unwrap();
            match network.finish(node, id).pop() {
                Some(Event::Stored { stored: 20.., tally, .. }) => tally.asked + tally.more,
                other => panic!("{other:?}"),
            }
        });
        rounds.sum()
    };
    // One lookup of about 25 nodes, and 20 more requests to those whose token came with their answer, would be 45 each.
    let requests = asked(1, 5..15);
    assert!(requests < 10 * 34, "{requests} requests for 10 announcements");
}

#[test]
fn what_is_published_stays_until_it_is_withdrawn() {
    let mut network = Network::new(24, crate::NOON);
    let (id, peer, stored, _) = network.try_announce(1, 1, [7; 32]);
    let value = Item::Value(Arc::from(b"value".as_slice()));
    assert!(stored >= 20 && network.put(2, &value).0 >= 20);
    // Through several lives of the announcement, and over midnight.
    for _ in 0..7 {
        network.world.run_for(Duration::from_mins(130));
        assert_eq!(network.peers(20, [7; 32]).0, BTreeSet::from([peer]));
    }
    let again = network.world.take_events(network.ids[1]);
    let again = again.iter().filter(|timed| matches!(timed.event, Event::Stored { round: 1.., .. })).count();
    assert!((15..=18).contains(&again), "{again} times in 15 hours");
    assert!(network.with(1, |dht, _| dht.withdraw(id)) && !network.with(1, |dht, _| dht.withdraw(id)));
    network.world.run_for(Duration::from_mins(121));
    assert_eq!(network.peers(20, [7; 32]).0, BTreeSet::new());
    assert!(network.stored() >= 20, "the value is still there");
    assert_eq!(network.get(20, Wanted::Value(value.key())).1, Some(value));
}

#[test]
fn a_signer_cannot_go_back_or_say_two_things() {
    let mut network = Network::new(30, crate::NOON);
    let signer = Identity::from_seed([9; 32]);
    let item = |sequence, value: &[u8]| Item::Signed(SignedValue::sign(&signer, b"", sequence, value).unwrap());
    let wanted = || Wanted::Signed { signer: signer.peer_id(), salt: Box::default() };
    assert_eq!(network.put(1, &item(5, b"five")), (20, vec![]));
    let (stored, refused) = network.put(2, &item(5, b"other"));
    assert!(stored <= 1 && refused.len() >= 19 && refused.iter().all(|reason| *reason == Refused::Conflict));
    let (_, refused) = network.put(3, &item(4, b"four"));
    assert!(refused.len() >= 19 && refused.iter().all(|reason| *reason == Refused::Older));
    assert_eq!(network.get(20, wanted()).1, Some(item(5, b"five")));
    assert!(network.put(4, &item(6, b"six")).0 >= 19);
    assert_eq!(network.get(20, wanted()).1, Some(item(6, b"six")));
}

#[test]
fn midnight_hides_nobody() {
    let midnight = Duration::from_secs(20_001 * 86_400);
    let mut network = Network::new(24, midnight - Duration::from_mins(5));
    let (peer, _) = network.announce(1, 1, [7; 32]);
    for minutes in [0, 3, 5, 20] {
        network.world.run_for(Duration::from_mins(minutes));
        assert_eq!(network.peers(20, [7; 32]).0, BTreeSet::from([peer]), "{minutes}");
    }
}

#[test]
fn who_lives_in_another_year_is_told() {
    let mut network = Network::new(24, crate::NOON);
    network.with(1, |dht, now| dht.set_epoch(Epoch { instant: now, unix: crate::NOON * 2 }));
    let (_, _, stored, refused) = network.try_announce(1, 1, [7; 32]);
    assert_eq!(stored, 0);
    assert!(refused.len() >= 20 && refused.iter().all(|reason| *reason == Refused::Time));
}

#[test]
fn an_empty_network_is_not_an_error_and_is_left_behind() {
    let mut network = Network::new(1, crate::NOON);
    let (_, peer, stored, _) = network.try_announce(0, 1, [7; 32]);
    assert_eq!(stored, 0);
    assert_eq!(network.peers(0, [8; 32]).0, BTreeSet::new());
    network.world.run_for(Duration::from_mins(3));
    // Somebody comes.
    let begin = Contact { id: network.with(0, |dht, _| dht.id()), addr: network.world.addr(network.ids[0]).unwrap() };
    let id = network.world.add(|birth| {
        let key = NodeKey::generate(&mut birth.seed.fork("key").rng());
        let epoch = Epoch { instant: sim::clock::base(), unix: crate::NOON };
        let mut dht = Dht::new(key, Subnets::Public, epoch, &birth.seed, birth.now);
        dht.set_address(birth.addr, birth.now);
        dht.bootstrap(&[begin], birth.now);
        dht
    });
    network.ids.push(id);
    network.world.run_for(Duration::from_secs(3));
    assert_eq!(network.world.get(id).unwrap().store().announcements(), 1, "it did not wait for the next try");
    assert_eq!(network.peers(1, [7; 32]).0, BTreeSet::from([peer]));
}

#[test]
fn what_was_published_when_the_network_was_small_is_found_when_it_has_grown() {
    let mut network = Network::new(2, crate::NOON);
    let items: Vec<Item> = (0..6).map(|number| Item::Value(Arc::from([number; 100].as_slice()))).collect();
    items.iter().for_each(|item| assert_eq!(network.put(0, item), (1, vec![])));
    let (peer, stored) = network.announce(0, 1, [7; 32]);
    assert_eq!(stored, 1);
    for nodes in [20, 50, 120] {
        while network.ids.len() < nodes {
            network.join();
        }
        network.world.run_for(Duration::from_secs(5));
        for reader in [nodes - 1, nodes / 2] {
            let found = items.iter().filter(|item| network.get(reader, Wanted::Value(item.key())).1.is_some()).count();
            assert_eq!(found, items.len(), "by node {reader} of {nodes}");
            assert_eq!(network.peers(reader, [7; 32]).0, BTreeSet::from([peer]), "by node {reader} of {nodes}");
        }
    }
    // As often as the network has doubled, and no more while it stays as it is.
    network.world.run_for(Duration::from_mins(30));
    let rounds = network.world.take_events(network.ids[0]).into_iter().filter_map(|timed| match timed.event {
        Event::Stored { round, .. } => Some(round),
        _ => None,
    });
    let last = rounds.max().unwrap();
    assert!((4..=8).contains(&last), "{last}");
}

#[test]
fn publications_are_bounded() {
    let mut network = Network::new(1, crate::NOON);
    let value = |number: u32| Item::Value(Arc::from(number.to_be_bytes()));
    for number in 0..256 {
        network.put(0, &value(number));
    }
    let put = |network: &mut Network, item| network.with(0, |dht, now| dht.put(item, now));
    assert_eq!(put(&mut network, value(256)), Err(PublishError::Full));
    let same = put(&mut network, value(7)).unwrap();
    assert!(network.with(0, |dht, _| dht.withdraw(same)));
    assert!(put(&mut network, value(256)).is_ok());
    let long = put(&mut network, Item::Value(Arc::from([0; 1001])));
    assert!(matches!(long, Err(PublishError::Invalid(_))));
}

#[test]
fn a_cancelled_query_says_nothing_more() {
    let mut network = Network::new(24, crate::NOON);
    network.announce(1, 1, [7; 32]);
    let id = network.with(20, |dht, now| dht.peers(&[7; 32], now)).unwrap();
    network.world.run_for(Duration::from_millis(30));
    assert!(network.with(20, |dht, _| dht.cancel(id)) && !network.with(20, |dht, _| dht.cancel(id)));
    network.world.take_events(network.ids[20]);
    network.world.run_for(Duration::from_secs(30));
    // Where others see the node is no word about a query.
    let after = network.world.take_events(network.ids[20]);
    assert!(after.iter().all(|timed| matches!(timed.event, Event::Observed { .. })), "{after:?}");
}
