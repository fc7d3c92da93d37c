//! Relays in the hash table: those that we have places at, those that we look for, and this node as one.

use std::net::SocketAddr;
use std::time::Instant;

use ::dht::{Relay, limits};
use framing::voucher::Voucher;

use super::{Finder, Job};
use crate::discovery::Task;

impl Finder {
    /// The relays at which we have places. Who finds us by those of before finds nobody, so it is told at once.
    pub(in crate::node) fn set_places(&mut self, places: &[(crypto::PeerId, SocketAddr, Voucher)], now: Instant) {
        let places = places.get(..limits::MAX_RELAYS).unwrap_or(places);
        let relays: Vec<Relay> = places.iter().map(|(peer, addr, _)| Relay { peer: *peer, addr: *addr }).collect();
        let vouchers: Vec<Voucher> = places.iter().map(|(.., voucher)| voucher.clone()).collect();
        let same = relays == self.relays;
        if same && vouchers == self.vouchers {
            return;
        }
        (self.relays, self.vouchers) = (relays, vouchers);
        // Of a place that was renewed only the record says anything.
        self.publish_anew(|task| !same || task == Task::Record, now);
        self.settle(now);
    }

    /// Looks for relays, and says that this node is one, or not any more.
    pub(in crate::node) fn want_relays(&mut self, lookup: bool, announce: bool, now: Instant) {
        for (task, wanted) in [(Task::LookupRelays, lookup), (Task::AnnounceRelay, announce)] {
            if self.jobs.contains_key(&task) != wanted {
                self.want(task, wanted, now);
                self.settle(now);
            }
        }
    }

    /// Something else is to be said of us in what these tasks publish.
    pub(super) fn publish_anew(&mut self, which: impl Fn(Task) -> bool, now: Instant) {
        let nowhere = self.told.is_empty() && self.relays.is_empty();
        if which(Task::Record) {
            // It says something else now.
            self.asked = None;
        }
        let publishes = |job: &&mut Job| !job.progress.task.is_search() && which(job.progress.task);
        for job in self.jobs.values_mut().filter(publishes) {
            // What runs is replaced by what is published next.
            if let Some(query) = job.query.take() {
                self.queries.remove(&query);
                if nowhere {
                    self.dht.withdraw(query);
                }
            }
            job.hurry(now);
        }
    }
}
