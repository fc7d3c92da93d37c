//! What the net task has to do with the sources: it tells them what is wanted, and the node whom they found.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::oneshot;

use super::limits::{CANDIDATES, SEARCH, SEARCHES};
use super::{Driver, lan};
use crate::discovery::Task;
use crate::udp::Udp;
use crate::{DialError, PeerId, clock};

/// Peers that are looked for by their id.
#[derive(Debug, Default)]
pub(super) struct Searches(BTreeMap<PeerId, Search>);

#[derive(Debug)]
struct Search {
    until: Instant,
    replies: Vec<oneshot::Sender<Result<PeerId, DialError>>>,
}

impl Searches {
    /// When the first of them is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().map(|search| search.until).min()
    }
}

impl Driver {
    /// Looks for a peer of which only the id is known, in every source, until it is connected or the time is over.
    pub(super) fn find(&mut self, peer: PeerId, reply: oneshot::Sender<Result<PeerId, DialError>>, now: Instant) {
        if self.sources.is_empty() {
            let _ = reply.send(Err(DialError::NoAddress));
            return;
        }
        let searches = &mut self.searches.0;
        let replies: usize = searches.values().map(|search| search.replies.len()).sum();
        if replies >= SEARCHES {
            let _ = reply.send(Err(DialError::TooMany { limit: SEARCHES }));
            return;
        }
        let until = now.checked_add(SEARCH).unwrap_or(now);
        let search = searches.entry(peer).or_insert_with(|| Search { until, replies: Vec::new() });
        search.until = until;
        search.replies.push(reply);
        self.want_peers();
    }

    /// A peer is connected: who looked for it has found it.
    pub(super) fn found(&mut self, peer: PeerId) {
        if let Some(search) = self.searches.0.remove(&peer) {
            // Whoever asked may have given up.
            search.replies.into_iter().for_each(|reply| drop(reply.send(Ok(peer))));
            self.want_peers();
        }
    }

    /// Gives up the searches whose time is over, or that nobody waits for.
    pub(super) fn end_searches(&mut self, now: Instant) {
        let (before, shared) = (self.searches.0.len(), &self.shared);
        self.searches.0.retain(|peer, search| {
            search.replies.retain(|reply| !reply.is_closed());
            if search.until <= now {
                let report = shared.discovery().of(Task::Peer(*peer));
                for reply in search.replies.drain(..) {
                    let error = DialError::NotFound { peer: *peer, after: SEARCH, report: report.clone() };
                    let _ = reply.send(Err(error));
                }
            }
            !search.replies.is_empty()
        });
        if self.searches.0.len() != before {
            self.want_peers();
        }
    }

    fn want_peers(&mut self) {
        let peers = self.searches.0.keys().copied().collect();
        self.sources.want(|wanted| wanted.peers = peers);
    }

    /// Hands those whom the sources found to the node. Returns whether there may be more.
    pub(super) fn take_candidates(&mut self, now: Instant) -> bool {
        for _ in 0..CANDIDATES {
            let Some(candidate) = self.sources.take() else { return false };
            let is_wanted = match candidate.task {
                Task::Lookup(topic) => self.topics.get(&topic).is_some_and(|wish| wish.lookup),
                Task::Peer(peer) => self.searches.0.contains_key(&peer),
                // Nodes of a hash table are for that table to ask.
                _ => false,
            };
            if is_wanted && self.ending.is_none() {
                self.node.suggest_candidate(candidate.peer, &candidate.addrs, now);
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
        let addrs = lan::interfaces(&bound).into_iter().map(|interface| interface.addr);
        let us = self.announcer.us(addrs, clock::epoch());
        let is_alone = self.roster.is_empty();
        let is_left = is_alone && !std::mem::replace(&mut self.was_alone, is_alone);
        self.was_alone = is_alone;
        self.sources.want(|wanted| {
            wanted.us = us;
            wanted.record = true;
            wanted.restarts += u64::from(is_left);
        });
    }
}
