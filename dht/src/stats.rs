//! What there is to count.

use structs::RejectedCounts;

use crate::{Dht, Family};

/// Numbers about one node, now or since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The tables, IPv4 first.
    pub tables: [TableStats; 2],
    /// Announcements that are kept for others.
    pub announcements: usize,
    /// Other records that are kept for others.
    pub items: usize,
    /// What both cost, in bytes.
    pub stored_bytes: usize,
    /// What we publish.
    pub publications: usize,
    /// Lookups that are running.
    pub lookups: usize,
    /// Requests of ours that are on their way.
    pub in_flight: usize,
    /// Requests that we began, since the beginning.
    pub asked: u64,
    /// Those that nobody answered.
    pub failed: u64,
    /// Requests of others that were opened and looked at, since the beginning.
    pub answered: u64,
    /// How often two nodes to begin with led to different neighbours, less than half of them in common: one of them lies, or there
    /// are two networks. Contacts are then looked for among both, and everything is published again.
    pub disagreements: u64,
    /// Datagrams that were not accepted, by reason.
    pub rejected: RejectedCounts,
}

/// Numbers about one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TableStats {
    /// From the farthest to that of the closest contact.
    pub buckets: u32,
    /// Contacts.
    pub nodes: usize,
    /// Those among them that did not answer last.
    pub silent: usize,
    /// Contacts that wait for a place.
    pub waiting: usize,
}

/// Counted since the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) asked: u64,
    pub(crate) failed: u64,
    pub(crate) answered: u64,
    pub(crate) disagreements: u64,
}

impl Dht {
    /// Numbers about this node.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let tables = [Family::V4, Family::V6].map(|family| {
            let table = self.table(family);
            let silent = table.iter().filter(|node| node.failures > 0).count();
            TableStats { buckets: table.depth(), nodes: table.len(), silent, waiting: table.waiting() }
        });
        Stats {
            tables,
            announcements: self.store.announcements(),
            items: self.store.len() - self.store.announcements(),
            stored_bytes: self.store.bytes(),
            publications: self.publications.len(),
            lookups: self.lookups.len(),
            in_flight: self.in_flight(),
            asked: self.traffic.asked,
            failed: self.traffic.failed,
            answered: self.traffic.answered,
            disagreements: self.traffic.disagreements,
            rejected: *self.rejected(),
        }
    }
}
