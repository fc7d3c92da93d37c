//! The nodes that are known, by distance.

use std::net::SocketAddrV4;

use super::message::{Contact, Id};

/// Nodes of one bucket.
const BUCKET: usize = 20;
/// Requests in a row without an answer after which a newcomer takes the place of a node.
const FAILURES: u8 = 2;

/// Buckets by the number of leading bits that an id has in common with ours: newcomers wait until somebody is gone.
#[derive(Debug)]
pub(super) struct Table {
    own: Id,
    /// By bucket, oldest first in each.
    buckets: Vec<Vec<Known>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    contact: Contact,
    failures: u8,
}

impl Table {
    pub(super) fn new(own: Id) -> Self {
        Self { own, buckets: vec![Vec::new(); 160] }
    }

    fn bucket(&mut self, id: &Id) -> Option<&mut Vec<Known>> {
        let bits = distance(&self.own, id).iter().position(|byte| *byte != 0).and_then(|at| {
            let byte = distance(&self.own, id).get(at).copied()?;
            Some(at * 8 + usize::try_from(byte.leading_zeros()).ok()?)
        });
        self.buckets.get_mut(bits?)
    }

    /// A node has answered. Its place is at most one: an id that moves has to answer from there.
    pub(super) fn answered(&mut self, contact: Contact) {
        // Ours has no bucket.
        let Some(bucket) = self.bucket(&contact.id) else { return };
        if let Some(at) = bucket.iter().position(|known| known.contact.id == contact.id) {
            bucket.remove(at);
        } else if bucket.len() >= BUCKET {
            let Some(gone) = bucket.iter().position(|known| known.failures >= FAILURES) else { return };
            bucket.remove(gone);
        }
        bucket.push(Known { contact, failures: 0 });
    }

    /// A node has not answered.
    pub(super) fn failed(&mut self, addr: SocketAddrV4) {
        for known in self.buckets.iter_mut().flatten().filter(|known| known.contact.addr == addr) {
            known.failures = known.failures.saturating_add(1);
        }
    }

    /// The closest to a key, the closest first.
    pub(super) fn closest(&self, key: &Id, count: usize) -> Vec<Contact> {
        let mut all: Vec<Contact> = self.buckets.iter().flatten().map(|known| known.contact).collect();
        all.sort_unstable_by_key(|contact| distance(&contact.id, key));
        all.truncate(count);
        all
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(Vec::len).sum()
    }
}

pub(super) fn distance(a: &Id, b: &Id) -> Id {
    let mut distance = *a;
    distance.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
    distance
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(first: u8, last: u8) -> Contact {
        let mut id = [0; 20];
        (id[0], id[19]) = (first, last);
        Contact { id, addr: SocketAddrV4::new([10, 0, first, last].into(), 7) }
    }

    #[test]
    fn a_full_bucket_keeps_who_answers() {
        let mut table = Table::new([0; 20]);
        (0..20).for_each(|last| table.answered(contact(0x80, last)));
        table.answered(contact(0x80, 20));
        table.answered(contact(0x40, 1));
        table.answered(contact(0, 0));
        assert_eq!(table.len(), 21, "a full bucket, another one, and never ourselves");
        let [closest, next] = table.closest(&contact(0x80, 3).id, 2)[..] else { panic!() };
        assert_eq!((closest, next), (contact(0x80, 3), contact(0x80, 2)));
        for _ in 0..2 {
            table.failed(contact(0x80, 3).addr);
        }
        table.answered(contact(0x80, 20));
        assert_eq!(table.closest(&contact(0x80, 3).id, 1), [contact(0x80, 2)]);
    }
}
