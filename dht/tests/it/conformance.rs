//! The laws of the machine interface.

use std::time::Instant;

use crypto::Seed;
use crypto::envelope::NodeKey;
use dht::{Contact, Dht, Family, Key, NodeId, QueryError, Subnets};
use sim::Addresses;
use sim::conformance::{Reply, Subject, check_all};
use structs::Path;

struct Nodes;

impl Subject for Nodes {
    type Machine = Dht;

    fn fresh(&self, seed: Seed, paths: [Path; 2], now: Instant) -> [Dht; 2] {
        let [to_b, _] = paths;
        let node = |label: &str| {
            let seed = seed.fork(label);
            Dht::new(NodeKey::generate(&mut seed.fork("key").rng()), Subnets::Off, crate::epoch(now), &seed, now)
        };
        let (mut a, b) = (node("a"), node("b"));
        a.bootstrap(&[Contact { id: b.id(), addr: to_b.remote }], now);
        [a, b]
    }

    fn command(&self, machine: &mut Dht, op: u64, now: Instant) -> Reply {
        let target = Key::from_bytes([op.to_be_bytes()[7]; 32]);
        let known = machine.table(Family::V4).candidates(&target, 1);
        let result = match op % 4 {
            0 => machine.lookup(target, Family::V4, now).map(drop),
            1 => machine.lookup(target, Family::V6, now).map(drop),
            _ => match known.first() {
                Some(contact) => machine.ping(*contact, now).map(drop),
                // A key on which nobody agrees: it ends at once.
                None => {
                    let nobody = Contact { id: NodeId::from_bytes([0; 32]), addr: ([10, 9, 9, 9], 9).into() };
                    machine.ping(nobody, now).map(drop)
                }
            },
        };
        match result {
            Ok(()) => Reply::Done,
            Err(QueryError::Closed) => Reply::Closed,
            Err(_) => Reply::Refused,
        }
    }

    fn close(&self, machine: &mut Dht, _now: Instant) {
        machine.close();
    }

    fn is_closed(&self, machine: &Dht) -> bool {
        machine.is_closed()
    }

    fn buffered_bytes(&self, machine: &Dht) -> usize {
        machine.buffered_bytes()
    }

    fn buffered_limit(&self, _machine: &Dht) -> usize {
        // What waits, what may be on its way, and hellos.
        (512 + 256) * 1200 + 64 * 64
    }

    fn addresses(&self) -> Addresses {
        Addresses::Private
    }
}

#[test]
fn the_laws() {
    if let Err(violation) = check_all(&Nodes, 0..6) {
        panic!("{violation}");
    }
}
