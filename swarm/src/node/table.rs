//! What the owner of a node may ask of the distributed hash table, and what the table brings.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use ::dht::{Contact, Family, Item, PublishError, QueryError, QueryId, SignedValue, Wanted};
use framing::EncodeError;
use structs::{Datagram, Rejected};

use super::finder::News;
use super::{Event, Interface, Node, TableStats};
use crate::PeerId;
use crate::discovery::Progress;

impl Node {
    /// Begins the distributed hash table at these addresses, each of them one that the owner named. Those beyond the reach
    /// of the node are left out. Returns how many were taken: 64 in all.
    pub fn bootstrap(&mut self, addrs: &[SocketAddr], now: Instant) -> usize {
        self.ask_finder(now, |finder, now| finder.begin_at(addrs, now)).unwrap_or(0)
    }

    /// As [`bootstrap`](Self::bootstrap), with contacts of an earlier run.
    pub fn bootstrap_with(&mut self, contacts: &[Contact], now: Instant) -> usize {
        self.ask_finder(now, |finder, now| finder.begin_with(contacts, now)).unwrap_or(0)
    }

    /// Asks who is at these addresses, where strangers say that nodes of the table are.
    pub fn greet(&mut self, addrs: &[SocketAddr], now: Instant) {
        self.ask_finder(now, |finder, now| addrs.iter().for_each(|addr| finder.on_session(*addr, now)));
    }

    /// Whether any other node of the table is known.
    #[must_use]
    pub fn has_contacts(&self) -> bool {
        self.finder.as_ref().is_some_and(super::Finder::has_contacts)
    }

    /// Whether the table has room for nodes of a family, from whoever names some.
    #[must_use]
    pub fn wants_contacts(&self, family: Family) -> bool {
        self.finder.as_ref().is_some_and(|finder| finder.wants_contacts(family))
    }

    /// The addresses that this node says it has, in the order of how sure they are: 8 at most.
    #[must_use]
    pub fn told(&self) -> &[SocketAddr] {
        self.finder.as_ref().map(super::Finder::told).unwrap_or_default()
    }

    /// Whether strangers reach the table of this node by an address of this family: as far as is known there is no NAT
    /// before it.
    #[must_use]
    pub fn is_open(&self, family: Family) -> bool {
        self.finder.as_ref().is_some_and(|finder| finder.is_open(family))
    }

    /// Whether [`progress`](Self::progress) says something else than before this was asked last.
    pub fn has_progressed(&mut self) -> bool {
        self.finder.as_mut().is_some_and(super::Finder::has_progressed)
    }

    /// Contacts to begin with in the next run.
    #[must_use]
    pub fn anchors(&self) -> Vec<Contact> {
        self.finder.as_ref().map(super::Finder::anchors).unwrap_or_default()
    }

    /// Names the networks that this machine is in, and all addresses that it has there, with the ports of our sockets.
    pub fn set_addresses(&mut self, interfaces: &[Interface], addrs: &[SocketAddr], now: Instant) {
        self.places.dirty |= self.outside.own() != addrs;
        self.ask_finder(now, |finder, now| finder.set_addresses(interfaces, addrs, now));
        self.outside_addresses(addrs);
    }

    /// Where this node is from outside, as it may be signed and left for strangers: where a router passes on to it, and where
    /// two networks, or a STUN server that the owner named, see it at the same port.
    #[must_use]
    pub fn seen(&self) -> Vec<SocketAddr> {
        let sure = [::nat::scope::Family::V4, ::nat::scope::Family::V6].map(|family| self.outside.sure(family));
        self.outside.forwarded().iter().copied().chain(sure.into_iter().flatten()).collect()
    }

    /// Looks for these peers by their ids, and for no others any more. Whatever is found is dialled.
    pub fn find(&mut self, peers: &BTreeSet<PeerId>, now: Instant) {
        self.ask_finder(now, |finder, now| finder.find(peers, now));
        for peer in peers {
            let relays = self.own_relays(peer, &[]);
            self.suggest_found(*peer, &[], &relays, false, now);
        }
    }

    /// Whether this node takes part in the distributed hash table.
    #[must_use]
    pub const fn has_table(&self) -> bool {
        self.finder.is_some()
    }

    /// How finding and being found goes in the distributed hash table.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        self.finder.as_ref().map(super::Finder::progress).unwrap_or_default()
    }

    /// Looks for a record. Events about it follow as [`Event::Table`], the last is
    /// [`GetDone`](::dht::Event::GetDone).
    ///
    /// # Errors
    /// [`QueryError`]; [`Closed`](QueryError::Closed) also if this node has no table.
    pub fn get(&mut self, wanted: Wanted, now: Instant) -> Result<QueryId, QueryError> {
        self.ask_finder(now, |finder, now| finder.get(wanted, now)).unwrap_or(Err(QueryError::Closed))
    }

    /// Publishes a record until it is [cancelled](Self::cancel). [`Stored`](::dht::Event::Stored) tells how many keep it.
    ///
    /// # Errors
    /// [`PublishError`]; [`Closed`](PublishError::Closed) also if this node has no table.
    pub fn put(&mut self, item: Item, now: Instant) -> Result<QueryId, PublishError> {
        self.ask_finder(now, |finder, now| finder.put(item, now)).unwrap_or(Err(PublishError::Closed))
    }

    /// Signs a value, to be [put](Self::put), with the identity of this node.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    pub fn sign_value(&self, salt: &[u8], sequence: u64, value: &[u8]) -> Result<SignedValue, EncodeError> {
        SignedValue::sign(&self.identity, salt, sequence, value)
    }

    /// Ends a query or a publication. Returns whether there was one.
    pub fn cancel(&mut self, query: QueryId, now: Instant) -> bool {
        self.ask_finder(now, |finder, now| finder.cancel(query, now)).unwrap_or(false)
    }

    /// Figures of the distributed hash table; `None` if this node has none.
    #[must_use]
    pub fn table_stats(&self) -> Option<TableStats> {
        self.finder.as_ref().map(super::Finder::stats)
    }

    pub(super) fn on_table_datagram(&mut self, datagram: Datagram<'_>) -> Result<(), Rejected> {
        let now = self.now;
        let result = self.finder.as_mut().ok_or(Rejected::UnknownKind)?.handle(datagram, now);
        self.hear_finder();
        result
    }

    /// Takes in what the finder found.
    pub(super) fn hear_finder(&mut self) {
        let now = self.now;
        while let Some(news) = self.finder.as_mut().and_then(super::Finder::poll_news) {
            match news {
                News::Found { peer, addrs, relays, wanted } => {
                    self.suggest_found(peer, &addrs, &relays, wanted, now);
                }
                News::Seen { seen, by } => self.on_seen(seen, by),
                News::Relay { peer, addrs } => self.relay_found(peer, &addrs),
                News::Told => self.places.dirty = true,
                News::Ask(question) => self.ask_helpers(&question),
                News::Owner(event) => {
                    if let Some(event) = self.take_answer(event) {
                        self.events.push_back(Event::Table(event));
                    }
                }
            }
        }
    }

    fn ask_finder<R>(&mut self, now: Instant, ask: impl FnOnce(&mut super::Finder, Instant) -> R) -> Option<R> {
        self.tick(now);
        let now = self.now;
        let answer = ask(self.finder.as_mut()?, now);
        self.hear_finder();
        Some(answer)
    }
}
