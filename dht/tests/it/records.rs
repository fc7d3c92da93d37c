//! Networks in virtual time: is what was published found?

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::envelope::NodeKey;
use crypto::{Identity, PeerId, Seed};
use dht::{Announcer, Contact, Dht, Event, Item, QueryId, SignedValue, Subnets, Wanted};
use sim::world::MachineId;
use sim::{Addresses, Link, World};
use structs::Epoch;

struct Network {
    world: World<Dht>,
    ids: Vec<MachineId>,
}

impl Network {
    fn new(nodes: u32, unix: Duration) -> Self {
        let link = Link::perfect().delay(Duration::from_millis(20));
        let mut world = World::new(Seed::fixed(nodes.into())).link(link).addresses(Addresses::Public);
        let mut first: Vec<Contact> = Vec::new();
        let mut ids = Vec::new();
        for number in 0..nodes {
            let begin = first.clone();
            let id = world.add(|birth| {
                let key = NodeKey::generate(&mut birth.seed.fork("key").rng());
                let epoch = Epoch { instant: sim::clock::base(), unix };
                let mut dht = Dht::new(key, Subnets::Public, epoch, &birth.seed, birth.now);
                dht.set_address(birth.addr, birth.now);
                dht.bootstrap(&begin, birth.now);
                dht
            });
            if number < 2 {
                first.push(Contact { id: world.get(id).unwrap().id(), addr: world.addr(id).unwrap() });
            }
            ids.push(id);
            world.run_for(Duration::from_millis(100));
        }
        world.run_for(Duration::from_secs(20));
        Self { world, ids }
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
        let identity = Arc::new(Identity::from_seed([member; 32]));
        let peer = identity.peer_id();
        let addresses = vec![self.world.addr(self.ids[node]).unwrap()];
        let announcer = Announcer { identity, addresses, relays: Vec::new() };
        let id = self.with(node, |dht, now| dht.announce(topic, announcer, now)).unwrap();
        match self.finish(node, id).pop() {
            Some(Event::Stored { stored, refused, .. }) => {
                assert_eq!(refused, []);
                (peer, stored)
            }
            other => panic!("{other:?}"),
        }
    }

    fn peers(&mut self, node: usize, topic: [u8; 32]) -> (BTreeSet<PeerId>, dht::Tally) {
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
        assert_eq!(stored, 20);
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
        let id = network.with(1, |dht, now| dht.put(item.clone(), now)).unwrap();
        assert!(matches!(network.finish(1, id).pop(), Some(Event::Stored { stored: 20, .. })));
        let id = network.with(30, |dht, now| dht.get(wanted, now)).unwrap();
        let events = network.finish(30, id);
        assert!(matches!(&events[0], Event::Record { item: first, .. } if *first == item));
        assert!(matches!(events.last(), Some(Event::GetDone { newest: Some(newest), .. }) if *newest == item));
    }
}
