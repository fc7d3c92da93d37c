//! What the net task has to do with the sources: it tells them what is wanted, and the node whom they found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use dht::Family;
use tokio::sync::oneshot;

use super::limits::{BESIDE_DIAL, CANDIDATES, SEARCH, SEARCHES};
use super::source::Interest;
use super::{Driver, lan};
use crate::discovery::Task;
use crate::udp::Udp;
use crate::{DialError, PeerId, clock};

/// Peers that are looked for by their id.
#[derive(Debug, Default)]
pub(super) struct Searches {
    peers: BTreeMap<PeerId, Search>,
    /// Those who are being dialled, and when they are looked for too.
    dialled: BTreeMap<PeerId, Instant>,
    /// Peers that were asked for others, and who waits for their answers.
    asked: BTreeMap<PeerId, Vec<oneshot::Sender<usize>>>,
}

#[derive(Debug)]
struct Search {
    /// It goes on that long, whether or not anybody waits for it.
    until: Instant,
    waiting: Vec<(Instant, Reply)>,
}

type Reply = oneshot::Sender<Result<PeerId, DialError>>;

impl Searches {
    /// When the first of them is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = |search: &Search| search.waiting.iter().map(|(until, _)| *until).min();
        let ends = self.peers.values().map(|search| waiting(search).unwrap_or(search.until));
        ends.chain(self.dialled.values().copied()).min()
    }

    /// A peer is dialled at addresses that may be old ones.
    pub(super) fn beside_dial(&mut self, peer: PeerId, now: Instant) {
        if self.dialled.len() < SEARCHES && !self.peers.contains_key(&peer) {
            self.dialled.entry(peer).or_insert(now.checked_add(BESIDE_DIAL.0).unwrap_or(now));
        }
    }

    /// A peer that was asked for others named so many.
    pub(super) fn answered(&mut self, peer: &PeerId, count: usize) {
        for reply in self.asked.remove(peer).unwrap_or_default() {
            // Whoever asked may have given up.
            let _ = reply.send(count);
        }
    }

    /// A peer will not answer any more.
    pub(super) fn left(&mut self, peer: &PeerId) {
        self.asked.remove(peer);
    }
}

impl Driver {
    /// Looks for a peer of which only the id is known, in every source, until it is connected or the time is over.
    pub(super) fn find(&mut self, peer: PeerId, reply: Reply, now: Instant) {
        let has_relays = || self.node.relays().iter().any(|relay| relay.named);
        let error = if !self.sources.can_find() && !self.node.has_table() && !has_relays() {
            DialError::NoAddress
        } else if !self.searches.peers.contains_key(&peer) && self.searches.peers.len() >= SEARCHES {
            DialError::TooMany { limit: SEARCHES }
        } else {
            let until = now.checked_add(SEARCH).unwrap_or(now);
            let search = self.searches.peers.entry(peer).or_insert(Search { until, waiting: Vec::new() });
            search.until = until;
            search.waiting.retain(|(_, reply)| !reply.is_closed());
            if search.waiting.len() < SEARCHES {
                search.waiting.push((until, reply));
                return self.want_peers();
            }
            DialError::TooMany { limit: SEARCHES }
        };
        // Whoever asked may have given up, here and below.
        let _ = reply.send(Err(error));
    }

    /// Asks a peer for others.
    pub(super) fn ask_for_others(&mut self, peer: PeerId, reply: oneshot::Sender<usize>, now: Instant) {
        if self.node.ask_for_others(&peer, now) {
            let waiting = self.searches.asked.entry(peer).or_default();
            waiting.retain(|reply| !reply.is_closed());
            if waiting.len() < SEARCHES {
                waiting.push(reply);
            }
        }
    }

    /// A peer is connected: who looked for it has found it.
    pub(super) fn found(&mut self, peer: PeerId) {
        self.searches.dialled.remove(&peer);
        if let Some(search) = self.searches.peers.remove(&peer) {
            search.waiting.into_iter().for_each(|(_, reply)| drop(reply.send(Ok(peer))));
            self.want_peers();
        }
    }

    /// Tells those who have waited long enough, and gives up the searches whose time is over.
    pub(super) fn end_searches(&mut self, now: Instant) {
        self.search_dialled(now);
        let (before, shared) = (self.searches.peers.len(), &self.shared);
        self.searches.peers.retain(|peer, search| {
            let (over, waiting) = std::mem::take(&mut search.waiting).into_iter().partition(|(until, _)| *until <= now);
            search.waiting = waiting;
            let over: Vec<(Instant, Reply)> = over;
            if !over.is_empty() {
                let report = shared.discovery().of(Task::Peer(*peer));
                for (_, reply) in over {
                    let error = DialError::NotFound { peer: *peer, after: SEARCH, report: report.clone() };
                    let _ = reply.send(Err(error));
                }
            }
            search.until > now
        });
        if self.searches.peers.len() != before {
            self.want_peers();
        }
    }

    /// Looks for those whose dials have no answer yet.
    fn search_dialled(&mut self, now: Instant) {
        let due = |(peer, at): (&PeerId, &Instant)| (*at <= now).then_some(*peer);
        let due: Vec<PeerId> = self.searches.dialled.iter().filter_map(due).collect();
        let until = now.checked_add(BESIDE_DIAL.1).unwrap_or(now);
        let mut begun = false;
        for peer in due {
            self.searches.dialled.remove(&peer);
            if self.node.is_dialled(&peer) && self.searches.peers.len() < SEARCHES {
                self.searches.peers.entry(peer).or_insert(Search { until, waiting: Vec::new() });
                begun = true;
            }
        }
        if begun {
            self.want_peers();
        }
    }

    fn want_peers(&mut self) {
        let peers: BTreeSet<PeerId> = self.searches.peers.keys().copied().collect();
        self.node.find(&peers, clock::now());
        self.sources.want(|wanted| wanted.peers = peers);
    }

    /// Hands those whom the sources found to the node. Returns whether there may be more.
    pub(super) fn take_candidates(&mut self, now: Instant) -> bool {
        for _ in 0..CANDIDATES {
            let Some(candidate) = self.sources.take() else { return false };
            let is_wanted = match candidate.task {
                Task::Lookup(topic) => self.topics.get(&topic).is_some_and(|wish| wish.lookup),
                Task::Peer(peer) => self.searches.peers.contains_key(&peer),
                Task::Reconnect => true,
                // Nodes of our hash table are for that to ask.
                Task::LookupNodes if self.ending.is_none() => {
                    self.node.greet(&candidate.addrs, now);
                    false
                }
                _ => false,
            };
            if is_wanted && self.ending.is_none() {
                match (candidate.task, candidate.peer) {
                    (Task::Peer(_), Some(peer)) => {
                        self.node.suggest_found(peer, &candidate.addrs, &candidate.relays, true, now)
                    }
                    (_, Some(peer)) => self.node.suggest_found(peer, &candidate.addrs, &candidate.relays, false, now),
                    (_, None) => self.node.suggest_candidate(None, &candidate.addrs, now),
                };
            }
        }
        true
    }

    /// Tells the sources what we are, which the interfaces of this machine may have changed.
    pub(super) fn tell_sources(&mut self) {
        if self.sources.is_empty() {
            return;
        }
        let bound: Vec<SocketAddr> = self.sockets.iter().map(Udp::local).collect();
        // Where others see us comes first: it is the only one that counts behind a NAT.
        let interfaces = lan::interfaces(&bound).into_iter().map(|interface| interface.addr);
        let vouchers: Vec<_> = self.node.vouchers().cloned().collect();
        let mut us = self.announcer.us(self.node.told(), interfaces, &vouchers, clock::epoch());
        us.addrs = self.node.seen().into_iter().chain(lan::addresses(&bound)).collect();
        let mut known = BTreeSet::new();
        us.addrs.retain(|addr| known.insert(*addr));
        // Mainline is IPv4.
        let nodes = Interest { announce: self.node.is_open(Family::V4), lookup: self.node.wants_contacts(Family::V4) };
        let is_alone = self.roster.is_empty();
        let is_left = is_alone && !std::mem::replace(&mut self.was_alone, is_alone);
        self.was_alone = is_alone;
        self.sources.want(|wanted| {
            wanted.us = us;
            wanted.nodes = nodes;
            wanted.record = true;
            wanted.reconnect = is_alone;
            wanted.restarts += u64::from(is_left);
        });
    }
}
