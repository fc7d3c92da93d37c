//! The way from a circuit to a direct path: when it is looked for, and why there is none yet.
//!
//! While a session goes through a relay, its dialler punches (see `punching.rs`), at once and then after pauses that grow; both
//! ends also try addresses that no NAT is in front of, with three small packets each: private ones that the relay sees the peer
//! at, and those that our owner dialled, unless the peer's NAT has them, in which such a packet does harm.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use framing::Role;
use nat::scope::{is_public, same_site};
use peer::Handle;
use structs::Path;

use super::dials::any_local;
use super::{Node, is_circuit};
use crate::nat::{Way, Why};
use crate::{DialWay, PeerId};

/// Where peers behind relays may be, and when that is tried.
#[derive(Debug, Default)]
pub(super) struct Hints {
    known: BTreeMap<crypto::PeerId, Known>,
    searches: BTreeMap<Handle, Search>,
    /// Those who are not to be reached by whatever way.
    ways: BTreeMap<crypto::PeerId, DialWay>,
}

/// What is known of where one peer is.
#[derive(Debug, Default)]
struct Known {
    /// Where relays see it.
    stated: Vec<SocketAddr>,
    /// Where it was dialled.
    dialled: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Search {
    peer: crypto::PeerId,
    /// When it is tried next; `None` while it is.
    next: Option<Instant>,
    pause: Duration,
    why: Why,
    /// When it was last tried, and how often what was learnt of our NAT has brought that forward.
    begun: Option<Instant>,
    hurried: u8,
}

impl Hints {
    pub(super) fn forget(&mut self, peer: &crypto::PeerId) {
        self.known.remove(peer);
        self.searches.retain(|_, search| search.peer != *peer);
    }

    /// Says how a peer is to be reached, until it is dialled again otherwise. Says whether there was room for it.
    pub(super) fn set_way(&mut self, peer: &PeerId, way: DialWay) -> bool {
        if way == DialWay::Any {
            self.ways.remove(peer.as_bytes());
            return true;
        }
        // What is no key is not dialled.
        let Ok(peer) = crypto::PeerId::try_from(*peer) else { return true };
        let room = self.ways.len() < MAX_WAYS || self.ways.contains_key(&peer);
        if room {
            self.ways.insert(peer, way);
        }
        room
    }

    pub(super) fn way(&self, peer: &crypto::PeerId) -> DialWay {
        self.ways.get(peer).copied().unwrap_or_default()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.searches.values().filter_map(|search| search.next).min()
    }

    /// Where somebody else than the peer sees the peer.
    pub(super) fn stated(&self, peer: &crypto::PeerId) -> Vec<IpAddr> {
        self.known.get(peer).into_iter().flat_map(|known| &known.stated).map(SocketAddr::ip).collect()
    }

    /// What is worth a few packets.
    fn tried(&self, peer: &crypto::PeerId) -> Vec<SocketAddr> {
        let Some(known) = self.known.get(peer) else { return Vec::new() };
        let near = known.stated.iter().filter(|addr| !is_public(addr.ip()));
        let behind = |addr: &&SocketAddr| {
            is_public(addr.ip()) && known.stated.iter().any(|stated| same_site(stated.ip(), addr.ip()))
        };
        near.chain(known.dialled.iter().filter(|addr| !behind(addr))).copied().collect()
    }
}

impl Node {
    /// Remembers where a relay sees a peer, and where it was dialled. Those with whom there is no session make room for others.
    pub(super) fn hint(&mut self, peer: crypto::PeerId, stated: Option<SocketAddr>, dialled: &[SocketAddr]) {
        let known = &self.relays.hints.known;
        if known.len() >= MAX_PEERS && !known.contains_key(&peer) {
            let is_idle = |peer: &&crypto::PeerId| self.session(&PeerId::from(**peer)).is_none();
            let Some(idle) = known.keys().find(is_idle).copied() else { return };
            self.relays.hints.forget(&idle);
        }
        let known = self.relays.hints.known.entry(peer).or_default();
        let add = |list: &mut Vec<SocketAddr>, addr: SocketAddr| {
            // The newest counts for most: its NAT may have given it another address.
            list.retain(|other| *other != addr);
            if list.len() >= MAX_ADDRESSES {
                list.remove(0);
            }
            list.push(addr);
        };
        if let Some(addr) = stated {
            add(&mut known.stated, addr);
        }
        dialled.iter().for_each(|addr| add(&mut known.dialled, *addr));
    }

    /// Begins to look for a direct path if a session goes through a relay, and stops if it does not.
    pub(super) fn seek_direct(&mut self, session: Handle) {
        let Some((peer, path)) = self.endpoint.peer(session).and_then(|s| Some((s.id()?, s.path()?))) else { return };
        if is_circuit(&path) {
            let next = if self.outside.is_asking() { self.now + PATIENCE } else { self.now };
            let hidden = self.relays.hints.way(&peer) == DialWay::Relayed;
            let (next, why) = if hidden { (None, Why::Off) } else { (Some(next), Why::Trying) };
            let search = Search { peer, next, pause: FIRST_PAUSE, why, begun: None, hurried: 0 };
            self.relays.hints.searches.entry(session).or_insert(search);
            self.try_direct();
        } else {
            self.relays.hints.searches.remove(&session);
            self.stop_punching(session);
        }
    }

    /// Tries what is due.
    pub(super) fn try_direct(&mut self) {
        let now = self.now;
        let due = |(session, search): (&Handle, &Search)| {
            search.next.is_some_and(|at| at <= now).then_some((*session, search.peer))
        };
        let due: Vec<(Handle, crypto::PeerId)> = self.relays.hints.searches.iter().filter_map(due).collect();
        for (session, peer) in due {
            let addrs = self.relays.hints.tried(&peer);
            let role = self.endpoint.with(session, now, |session, now| {
                for addr in addrs {
                    session.add_path(Path::udp(any_local(addr), addr), now);
                }
                session.role()
            });
            let begun = match role {
                None => {
                    self.relays.hints.searches.remove(&session);
                    continue;
                }
                // Who was dialled waits for the other's offer.
                Some(Role::Responder) => None,
                Some(Role::Dialler) => Some(self.begin_punching(session)),
            };
            // It may have ended as soon as it began: what that said stays then.
            let runs = self.is_punching(session);
            let Some(search) = self.relays.hints.searches.get_mut(&session) else { continue };
            search.begun = Some(now);
            match begun {
                Some(Ok(())) if runs => (search.next, search.why) = (None, Why::Trying),
                Some(Ok(())) if search.next.is_none_or(|at| at > now) => {}
                Some(Err(why)) => {
                    search.why = why;
                    search.postpone(now);
                }
                Some(Ok(())) | None => search.postpone(now),
            }
        }
    }

    /// An attempt is over, or cannot be made.
    pub(super) fn punching_over(&mut self, session: Handle, why: Why) {
        if let Some(search) = self.relays.hints.searches.get_mut(&session) {
            search.why = why;
            search.postpone(self.now);
        }
    }

    /// There is no attempt any more. Who waited for its end goes on.
    pub(super) fn resume_search(&mut self, session: Handle) {
        if let Some(search) = self.relays.hints.searches.get_mut(&session)
            && search.next.is_none()
            && search.why != Why::Off
        {
            search.postpone(self.now);
        }
    }

    /// The other side begins an attempt.
    pub(super) fn punching_begun(&mut self, session: Handle) {
        if let Some(search) = self.relays.hints.searches.get_mut(&session) {
            search.why = Why::Trying;
        }
    }

    /// Something was learnt of our NAT: what failed may work now. Those from whom it is learnt do not make it go on for ever.
    pub(super) fn search_anew(&mut self) {
        for search in self.relays.hints.searches.values_mut() {
            let soon = search.begun.map_or(self.now, |begun| begun + FIRST_PAUSE).max(self.now + SOON);
            if search.hurried < MAX_HURRIED && search.next.is_some_and(|at| at > soon) {
                search.next = Some(soon);
                search.hurried += 1;
            }
        }
    }

    /// The network is another one: everything is tried from the beginning.
    pub(super) fn search_again(&mut self) {
        for search in self.relays.hints.searches.values_mut() {
            (search.pause, search.hurried) = (FIRST_PAUSE, 0);
        }
        self.search_anew();
    }

    /// How a session reaches its peer.
    #[must_use]
    pub fn way(&self, session: Handle) -> Way {
        let path = self.endpoint.peer(session).and_then(peer::Peer::path);
        match (self.relay_of(session), path) {
            (Some(relay), _) => {
                let known = self.relays.hints.searches.get(&session).map(|search| search.why);
                Way::Relayed { relay, why: known.unwrap_or(Why::Trying) }
            }
            (None, Some(path)) if self.is_punched(session, &path) => Way::Punched,
            _ => Way::Direct,
        }
    }
}

impl Search {
    fn postpone(&mut self, now: Instant) {
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Peers whose addresses are remembered: those with circuits.
const MAX_PEERS: usize = 64;
/// Peers for whom the owner chose a way; beyond it dials that choose one are refused.
const MAX_WAYS: usize = 1024;
/// Addresses of each, of either kind.
const MAX_ADDRESSES: usize = 4;
/// How long after the first try the second comes, and the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(8);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// How often what is learnt brings a try forward, until the network is another one.
const MAX_HURRIED: u8 = 4;
/// How long after something was learnt.
const SOON: Duration = Duration::from_millis(200);
/// How long STUN servers that are being asked are waited for.
const PATIENCE: Duration = Duration::from_millis(800);
