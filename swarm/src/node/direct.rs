//! The way from a circuit to a direct path: the addresses at which a peer may be are tried while its session goes through a
//! relay, less and less often.
//!
//! A try is three small packets to each address, and goes to addresses that our owner named or the relay saw the peer at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use peer::Handle;
use structs::Path;

use super::dials::any_local;
use super::{Node, is_circuit};
use crate::PeerId;

/// Where peers behind relays may be, and when that is tried.
#[derive(Debug, Default)]
pub(super) struct Hints {
    addrs: BTreeMap<crypto::PeerId, Vec<SocketAddr>>,
    sought: BTreeMap<Handle, Search>,
}

#[derive(Debug)]
struct Search {
    peer: crypto::PeerId,
    next: Instant,
    pause: Duration,
}

impl Hints {
    fn add(&mut self, peer: crypto::PeerId, addrs: impl Iterator<Item = SocketAddr>) {
        let known = self.addrs.entry(peer).or_default();
        for addr in addrs {
            if known.len() < MAX_ADDRESSES && !known.contains(&addr) {
                known.push(addr);
            }
        }
    }

    pub(super) fn forget(&mut self, peer: &crypto::PeerId) {
        self.addrs.remove(peer);
        self.sought.retain(|_, search| search.peer != *peer);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sought.values().map(|search| search.next).min()
    }
}

impl Node {
    /// Remembers where a peer may be. Those with whom there is no session make room for others.
    pub(super) fn hint(&mut self, peer: crypto::PeerId, addrs: impl Iterator<Item = SocketAddr>) {
        let known = &self.relays.hints.addrs;
        if known.len() >= MAX_PEERS && !known.contains_key(&peer) {
            let is_idle = |peer: &&crypto::PeerId| self.session(&PeerId::from(**peer)).is_none();
            let Some(idle) = known.keys().find(is_idle).copied() else { return };
            self.relays.hints.forget(&idle);
        }
        self.relays.hints.add(peer, addrs);
    }

    /// Begins to look for a direct path if a session goes through a relay, and stops if it does not.
    pub(super) fn seek_direct(&mut self, session: Handle) {
        let Some((peer, path)) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?))) else { return };
        let hints = &mut self.relays.hints;
        if is_circuit(&path) && hints.addrs.contains_key(&peer) {
            hints.sought.entry(session).or_insert(Search { peer, next: self.now, pause: FIRST_PAUSE });
            self.try_direct();
        } else {
            hints.sought.remove(&session);
        }
    }

    /// Tries the addresses that are due.
    pub(super) fn try_direct(&mut self) {
        let now = self.now;
        let mut due = Vec::new();
        for (session, search) in self.relays.hints.sought.iter_mut().filter(|(_, search)| search.next <= now) {
            due.push((*session, search.peer));
            search.next = now + search.pause;
            search.pause = (search.pause * 2).min(LONGEST_PAUSE);
        }
        for (session, peer) in due {
            let addrs = self.relays.hints.addrs.get(&peer).cloned().unwrap_or_default();
            let tried = self.endpoint.with(session, now, |session, now| {
                for addr in addrs {
                    session.add_path(Path::udp(any_local(addr), addr), now);
                }
            });
            if tried.is_none() {
                self.relays.hints.sought.remove(&session);
            }
        }
    }
}

/// Peers whose addresses are remembered: those with circuits.
const MAX_PEERS: usize = 64;
/// Addresses of each.
const MAX_ADDRESSES: usize = 4;
/// How long after the first try the second comes, and the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
