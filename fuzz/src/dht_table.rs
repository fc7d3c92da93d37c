//! The contacts of a node, under any operations: its bounds, and who may be in it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use dht::{Contact, Key, NodeId, Origin, Subnets, Table, limits};
use sim::clock;

use crate::input::Input;

/// Only who answered is in it, each address once, no more of a bucket, a subnet and a table than they may have.
pub fn dht_table(data: &[u8]) {
    let mut input = Input::new(data);
    let subnets = input.pick(&[Subnets::Public, Subnets::All, Subnets::Off]);
    let mut now = clock::base();
    let mut table = Table::new(Key::from_bytes([input.u8(); 32]), subnets, now);
    let mut answered = BTreeSet::new();
    let mut rng = Seed::fixed(1).rng();
    while !input.is_empty() {
        let contact = contact(&mut input);
        match input.below(10) {
            0..=4 => {
                let origin = input.pick(&[Origin::Lookup, Origin::Inbound]);
                table.on_answer(contact, origin, now);
                answered.insert(contact);
            }
            5 | 6 => {
                table.on_failure(&contact, now);
            }
            7 => table.recentre(Key::from_bytes([input.u8(); 32]), now),
            8 => drain(&mut table, now, &mut rng),
            _ => now += Duration::from_secs(u64::from(input.u16())),
        }
        check(&table, &answered, subnets);
    }
}

fn contact(input: &mut Input<'_>) -> Contact {
    let [id, net, host, port] = input.array();
    let mut bytes = [0; 32];
    bytes[0] = id;
    let addr = if net < 8 {
        ([0x2600, 0, u16::from(net), 0, 0, 0, 0, u16::from(host % 8)], 1 + u16::from(port % 3)).into()
    } else {
        ([net, 0, host / 8, host % 8], u16::from(port % 3)).into()
    };
    Contact { id: NodeId::from_bytes(bytes), addr }
}

/// Everything that is due is handed out, and then nothing for some time.
fn drain(table: &mut Table, now: Instant, rng: &mut Rng) {
    let most = table.len() + table.waiting() + 1;
    assert!((0..=most).take_while(|_| table.pop_check(now).is_some()).count() <= most);
    let most = usize::try_from(table.depth()).expect("at most 256") + 1;
    while let Some(target) = table.pop_refresh(now, rng) {
        assert_ne!(target, table.own());
        table.on_lookup(&target, now);
    }
    assert!(table.next_refresh().is_none_or(|at| at > now) || most == 1);
}

fn check(table: &Table, answered: &BTreeSet<Contact>, subnets: Subnets) {
    let nodes: Vec<_> = table.iter().collect();
    assert_eq!(nodes.len(), table.len());
    let addresses: BTreeSet<_> = nodes.iter().map(|node| node.contact.addr).collect();
    assert_eq!(addresses.len(), nodes.len(), "an address is there once");
    let mut buckets = vec![Vec::new(); 257];
    for node in &nodes {
        assert!(answered.contains(&node.contact) && node.key == subnets.key_of(&node.contact));
        let subnet = subnets.of(node.contact.addr.ip());
        buckets[table.own().distance(&node.key).common_bits() as usize].push(subnet);
        let of_table = nodes.iter().filter(|other| subnets.of(other.contact.addr.ip()) == subnet).count();
        assert!(subnet.is_none() || of_table <= limits::MAX_SUBNET_IN_TABLE);
    }
    for bucket in &buckets {
        assert!(bucket.len() <= limits::K);
        for subnet in bucket.iter().filter(|subnet| subnet.is_some()) {
            assert!(bucket.iter().filter(|other| *other == subnet).count() <= limits::MAX_SUBNET_IN_BUCKET);
        }
    }
    let target = Key::from_bytes([0x55; 32]);
    let closest = table.closest(&target, limits::K);
    let distance = |contact: &Contact| subnets.key_of(contact).distance(&target);
    assert!(closest.is_sorted_by_key(distance) && closest.len() <= limits::K);
}
