//! The table against a list that is searched from end to end.

use std::time::{Duration, Instant};

use dht::{Contact, Inserted, Key, NodeId, Origin, Refusal, Subnets, Table};
use proptest::prelude::*;

/// An entry, or one that waits.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    contact: Contact,
    key: Key,
    bucket: u32,
    waits: bool,
    origin: Origin,
    heard: Instant,
    failures: u8,
}

/// In the order of arrival.
struct Model {
    own: Key,
    subnets: Subnets,
    known: Vec<Known>,
}

impl Model {
    fn bucket_of(&self, key: &Key) -> u32 {
        self.own.distance(key).common_bits()
    }

    fn same_subnet(&self, a: &Contact, b: &Contact) -> bool {
        self.subnets.of(a.addr.ip()) == self.subnets.of(b.addr.ip())
    }

    fn count(&self, wanted: impl Fn(&Known) -> bool) -> usize {
        self.known.iter().filter(|known| wanted(known)).count()
    }

    fn forget(&mut self, gone: impl Fn(&Known) -> bool) {
        self.known.retain(|known| !gone(known));
        self.promote();
    }

    /// Of those that wait where there is room, the one heard last gets it.
    fn promote(&mut self) {
        for bucket in 0..256 {
            while self.count(|known| known.bucket == bucket && !known.waits) < 20 {
                let Some(at) = self.known.iter().rposition(|known| known.bucket == bucket && known.waits) else {
                    break;
                };
                let mut spare = self.known.remove(at);
                (spare.waits, spare.failures) = (false, 1);
                self.known.push(spare);
            }
        }
    }

    fn on_answer(&mut self, contact: Contact, origin: Origin, now: Instant) -> Inserted {
        let key = self.subnets.key_of(&contact);
        let bucket = self.bucket_of(&key);
        let at = |known: &Known| known.contact == contact && !known.waits;
        if !self.known.iter().any(at) {
            self.forget(|known| known.contact.addr == contact.addr && known.contact.id != contact.id);
        }
        if let Some(known) = self.known.iter_mut().find(|known| known.key == key && !known.waits) {
            known.contact = contact;
            known.heard = now;
            known.failures = 0;
            known.origin = known.origin.max(origin);
            return Inserted::Known;
        }
        if let Some(at) = self.known.iter().position(|known| known.key == key) {
            let mut known = self.known.remove(at);
            (known.contact, known.heard, known.origin) = (contact, now, known.origin.max(origin));
            self.known.push(known);
            return Inserted::Waits;
        }
        if self.subnets.of(contact.addr.ip()).is_some() {
            let shared = |known: &Known| self.same_subnet(&known.contact, &contact);
            if self.count(|known| known.bucket == bucket && shared(known)) >= 2 {
                return Inserted::Refused(Refusal::SubnetInBucket);
            }
            if self.count(shared) >= 10 {
                return Inserted::Refused(Refusal::SubnetInTable);
            }
        }
        let entries = self.count(|known| !known.waits);
        if origin == Origin::Inbound && 2 * self.count(|known| !known.waits && known.origin == origin) > entries {
            return Inserted::Refused(Refusal::Inbound);
        }
        let mut newcomer = Known { contact, key, bucket, waits: false, origin, heard: now, failures: 0 };
        if self.count(|known| known.bucket == bucket && !known.waits) < 20 {
            self.known.push(newcomer);
            return Inserted::Added;
        }
        let silent = self.known.iter().filter(|known| known.bucket == bucket && !known.waits && known.failures >= 2);
        if let Some(silent) = silent.min_by_key(|known| known.heard).cloned() {
            self.known.retain(|known| *known != silent);
            self.known.push(newcomer);
            return Inserted::Replaced(silent.contact);
        }
        let waits = |known: &Known| known.bucket == bucket && known.waits;
        if self.count(waits) >= 10 {
            let oldest = self.known.iter().position(waits).unwrap();
            self.known.remove(oldest);
        }
        newcomer.waits = true;
        self.known.push(newcomer);
        Inserted::Waits
    }

    fn on_failure(&mut self, contact: &Contact) -> Option<Contact> {
        self.known.retain(|known| !(known.waits && known.contact == *contact));
        let known = self.known.iter_mut().find(|known| known.contact == *contact)?;
        known.failures += 1;
        let (bucket, failures) = (known.bucket, known.failures);
        let wanted = self.count(|known| known.bucket == bucket && known.waits) > 0;
        if failures >= 5 || (failures >= 2 && wanted) {
            self.forget(|known| known.contact == *contact);
            return Some(*contact);
        }
        None
    }

    fn closest(&self, target: &Key, n: usize) -> Vec<Contact> {
        let mut live: Vec<&Known> = self.known.iter().filter(|known| !known.waits && known.failures == 0).collect();
        live.sort_by_key(|known| known.key.distance(target));
        live.iter().take(n).map(|known| known.contact).collect()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Answer { id: u8, addr: u8, origin: Origin },
    Failure { nth: usize },
    Remove { nth: usize },
    Wait(u16),
    Closest { target: [u8; 32], near: u8, n: usize },
}

fn ops(len: usize) -> impl Strategy<Value = Vec<Op>> {
    let origin = prop_oneof![3 => Just(Origin::Lookup), 1 => Just(Origin::Inbound)];
    // Most contacts are always at one address, so that buckets fill; some move.
    let answer = (0_u8..90, proptest::option::weighted(0.1, 0_u8..90), origin);
    let answer = answer.prop_map(|(id, moved, origin)| Op::Answer { id, addr: moved.unwrap_or(id), origin });
    let op = prop_oneof![
        10 => answer,
        3 => (0_usize..100).prop_map(|nth| Op::Failure { nth }),
        1 => (0_usize..100).prop_map(|nth| Op::Remove { nth }),
        2 => (1_u16..600).prop_map(Op::Wait),
        2 => (any::<[u8; 32]>(), any::<u8>(), 0_usize..30).prop_map(|(target, near, n)| Op::Closest { target, near, n }),
    ];
    proptest::collection::vec(op, 1..len)
}

fn contact(id: u8, addr: u8, crowded: bool) -> Contact {
    // Up to nine of a subnet where it is crowded.
    let subnet = if crowded { addr / 9 } else { addr };
    Contact { id: NodeId::from_bytes([id; 32]), addr: ([20, 1, subnet, addr], 4000).into() }
}

proptest! {
    #![proptest_config(crate::cases(80))]

    #[test]
    fn the_table_is_as_the_model(own: [u8; 32], subnets in 0_u8..3, crowded: bool, ops in ops(400)) {
        let subnets = [Subnets::Public, Subnets::All, Subnets::Off][usize::from(subnets)];
        let own = Key::from_bytes(own);
        let mut now = Instant::now();
        let mut table = Table::new(own, subnets, now);
        let mut model = Model { own, subnets, known: Vec::new() };
        for op in ops {
            match op {
                Op::Answer { id, addr, origin } => {
                    let contact = contact(id, addr, crowded);
                    prop_assert_eq!(table.on_answer(contact, origin, now), model.on_answer(contact, origin, now));
                }
                Op::Failure { nth } => {
                    let Some(known) = model.known.get(nth).cloned() else { continue };
                    prop_assert_eq!(table.on_failure(&known.contact, now), model.on_failure(&known.contact));
                }
                Op::Remove { nth } => {
                    let Some(known) = model.known.get(nth).cloned() else { continue };
                    prop_assert!(table.remove(&known.contact, now));
                    model.forget(|other| other.contact == known.contact);
                    prop_assert!(!table.remove(&known.contact, now));
                }
                Op::Wait(seconds) => now += Duration::from_secs(seconds.into()),
                Op::Closest { mut target, near, n } => {
                    // From anywhere to right beside us.
                    let near = usize::from(near % 33);
                    target[..near].copy_from_slice(&own.as_bytes()[..near]);
                    let target = Key::from_bytes(target);
                    prop_assert_eq!(table.closest(&target, n), model.closest(&target, n));
                }
            }
            let mut nodes: Vec<_> = table.iter().map(|n| (n.contact, n.key, n.origin, n.heard, n.failures)).collect();
            let entries = model.known.iter().filter(|known| !known.waits);
            let mut expected: Vec<_> = entries.map(|n| (n.contact, n.key, n.origin, n.heard, n.failures)).collect();
            nodes.sort();
            expected.sort();
            prop_assert_eq!(nodes, expected);
            prop_assert_eq!(table.waiting(), model.count(|known| known.waits));
        }
    }
}
