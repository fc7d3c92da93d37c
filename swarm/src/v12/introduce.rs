//! Who tells whom about whom: peer exchange, relays' introductions, and which of it is dialled.
//!
//! A relay of this wire introduces and carries nothing. Whatever a peer says of others is dialled only within its
//! own reach ([`policy::may_tell`]), at a bounded rate, and with few HELLOs.

use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use framing::v12::{PexEntry, WireId, encode, limits};
use peer::v12::Proof;
use structs::{Lru, Rejected, TokenBucket};

use super::links::{Origin, PeerLink};
use super::{LinkId, Node, ipv4, policy};
use crate::PeerId;

#[derive(Debug)]
pub(super) struct Introductions {
    exchange_at: Instant,
    announce_at: Instant,
    suggested: TokenBucket,
    /// Peers that introduce others, by the link they said it on.
    relays: Lru<LinkId, ()>,
}

impl Introductions {
    pub(super) fn new(now: Instant) -> Self {
        let (rate, burst) = policy::SUGGESTED_RATE;
        Self {
            exchange_at: now + limits::PEX_INTERVAL,
            announce_at: now + FIRST_ANNOUNCEMENT,
            suggested: TokenBucket::new(rate, burst, now),
            relays: Lru::new(NonZeroUsize::new(limits::RELAY_MAX).unwrap_or(NonZeroUsize::MIN)),
        }
    }

    /// There are peers again.
    pub(super) fn resume(&mut self, now: Instant) {
        self.exchange_at = now + limits::PEX_INTERVAL;
        self.announce_at = now + FIRST_ANNOUNCEMENT;
    }

    pub(super) fn deadline(&self) -> Instant {
        self.exchange_at.min(self.announce_at)
    }
}

/// A relay says so for the first time when its first peers have proved themselves.
const FIRST_ANNOUNCEMENT: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);

impl Node {
    /// Tells one peer, or all, of the others now instead of at the next minute.
    pub fn exchange_peers(&mut self, peer: Option<&PeerId>, now: Instant) {
        self.tick(now);
        let to: Vec<LinkId> = match peer {
            Some(peer) => self.connected_link(peer).into_iter().collect(),
            None => self.connected().map(|(id, _)| id).collect(),
        };
        for id in to {
            self.send_peers(id);
        }
    }

    /// Asks a relay for an introduction to a peer. False when no connected peer has said that it is one.
    pub fn request_introduction(&mut self, target: WireId, now: Instant) -> bool {
        self.tick(now);
        let relays: Vec<LinkId> = self.introductions.relays.iter().map(|(id, ())| *id).collect();
        let Some(relay) = relays.into_iter().find(|id| self.links.get(id).is_some_and(|link| link.connected)) else {
            return false;
        };
        let ours = self.local_towards(relay);
        let (Some(ours), Some(link)) = (ours, self.links.get_mut(&relay)) else {
            return false;
        };
        let mut frame = Vec::new();
        let encoded = encode::relay_req(self.identity.wire_id(), target, ours, &mut frame).is_ok();
        let sent = encoded && link.peer.send_control(frame);
        self.touch(relay);
        sent
    }

    pub(super) fn introduce(&mut self) {
        let now = self.now;
        if now >= self.introductions.exchange_at {
            self.introductions.exchange_at = now + limits::PEX_INTERVAL;
            self.exchange_peers(None, now);
        }
        if now >= self.introductions.announce_at {
            self.introductions.announce_at = now + limits::RELAY_INTERVAL;
            if self.config.relay {
                self.announce_relay();
            }
        }
    }

    fn announce_relay(&mut self) {
        let ids: Vec<LinkId> = self.connected().map(|(id, _)| id).collect();
        for id in ids {
            let mut frame = Vec::new();
            let Some(ours) = self.local_towards(id) else { continue };
            let encoded = encode::relay_ann(self.identity.wire_id(), ours, &mut frame).is_ok();
            if let (true, Some(link)) = (encoded, self.links.get_mut(&id)) {
                link.peer.send_control(frame);
                self.touch(id);
            }
        }
    }

    /// The local address that a peer can use best: of its own reach, or the first.
    fn local_towards(&self, id: LinkId) -> Option<SocketAddrV4> {
        let addr = self.links.get(&id)?.addr;
        let scope = ipv4(addr).and_then(policy::scope);
        self.local.iter().find(|local| policy::scope(*local.ip()) == scope).or(self.local.first()).copied()
    }

    /// Tells a peer of up to twenty others that are connected and were heard from lately.
    fn send_peers(&mut self, to: LinkId) {
        let Some(receiver) = self.links.get(&to).and_then(current_addr) else {
            return;
        };
        let now = self.now;
        let entries: Vec<PexEntry> = self
            .connected()
            .filter(|&(id, link)| id != to && now.saturating_duration_since(link.peer.last_heard()) < MINUTE / 4)
            .filter_map(|(_, link)| Some(PexEntry { id: link.name?, addr: current_addr(link)? }))
            .filter(|entry| policy::may_tell(*receiver.ip(), entry.addr))
            .take(limits::PEX_MAX)
            .collect();
        let mut frame = Vec::new();
        if entries.is_empty() || encode::pex(entries, &mut frame).is_err() {
            return;
        }
        if let Some(link) = self.links.get_mut(&to) {
            link.peer.send_control(frame);
        }
        self.touch(to);
    }

    /// A peer said where others are.
    pub(super) fn on_suggestions(&mut self, id: LinkId, peers: &[(WireId, SocketAddrV4)]) {
        for &(name, addr) in peers {
            if let Err(reason) = self.on_suggestion(id, name, addr) {
                self.stats.rejected.count(reason);
            }
        }
    }

    fn on_suggestion(&mut self, id: LinkId, name: WireId, addr: SocketAddrV4) -> Result<(), Rejected> {
        if name == self.identity.wire_id() || self.local.contains(&addr) {
            return Err(Rejected::FromSelf);
        }
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else {
            return Err(Rejected::UnknownPeer);
        };
        let teller = current_addr(link).ok_or(Rejected::UnknownPeer)?;
        if !policy::may_tell(*teller.ip(), addr) {
            return Err(Rejected::BadAddress);
        }
        let proved = link.peer.proof() == Proof::Key;
        if self.knows(name) || self.by_addr.contains_key(&addr.into()) {
            return Ok(());
        }
        let (by_key, by_address) = policy::SUGGESTED_PER_MINUTE;
        let limit = if proved { by_key } else { by_address };
        let Some(link) = self.links.get_mut(&id) else {
            return Err(Rejected::UnknownPeer);
        };
        let (since, count) = &mut link.suggested;
        if now >= *since + MINUTE {
            (*since, *count) = (now, 0);
        }
        if *count >= limit {
            return Err(Rejected::LimitReached);
        }
        *count += 1;
        self.dial_suggested(addr, Some(name))
    }

    /// Dials addresses that a stranger named who is no peer, as far as the rate of such dials and the number of peers allow.
    /// Returns how many are dialled.
    pub fn suggest(&mut self, addrs: &[SocketAddr], now: Instant) -> usize {
        self.tick(now);
        let named = addrs.iter().filter_map(|addr| policy::dialable(*addr).ok());
        named.filter(|addr| self.dial_suggested(*addr, None).is_ok()).count()
    }

    /// Dials an address that somebody named, if the rate of such dials and the number of peers allow.
    pub(super) fn dial_suggested(&mut self, addr: SocketAddrV4, name: Option<WireId>) -> Result<(), Rejected> {
        if policy::scope(*addr.ip()).is_none() || addr.port() == 0 {
            return Err(Rejected::BadAddress);
        }
        if self.local.contains(&addr) || self.by_addr.contains_key(&SocketAddr::V4(addr)) {
            return Ok(());
        }
        let room = self.has_room(Proof::Key) && self.dials() < policy::MAX_SUGGESTED_DIALS;
        if self.is_ending() || !room || !self.introductions.suggested.try_take(1, self.now) {
            return Err(Rejected::LimitReached);
        }
        self.dial_out(addr, Origin::Suggested(name), policy::SUGGESTED_HELLOS);
        Ok(())
    }

    /// A peer introduces others. It is asked on the session it has with us, so only its own announcement counts.
    pub(super) fn on_relay(&mut self, id: LinkId, name: WireId, _addr: SocketAddrV4) {
        if self.links.get(&id).and_then(|link| link.name) == Some(name) {
            let _evicted = self.introductions.relays.insert(id, (), 0, self.now);
        } else {
            self.stats.rejected.count(Rejected::IdMismatch);
        }
    }

    pub(super) fn forget_relay(&mut self, id: LinkId) {
        self.introductions.relays.remove(&id);
    }

    /// A peer wants to meet another: each is told of the other, at the address that we see.
    pub(super) fn on_introduction_request(&mut self, from: LinkId, to: WireId) {
        let target =
            self.by_wire_id.get(&to).copied().filter(|id| self.links.get(id).is_some_and(|link| link.connected));
        let (true, Some(target)) = (self.config.relay, target) else {
            self.stats.rejected.count(Rejected::Forbidden);
            return;
        };
        for (told, about) in [(target, from), (from, target)] {
            let Some(link) = self.links.get(&about) else { return };
            let (Some(name), Some(addr)) = (link.name, current_addr(link)) else {
                return;
            };
            let Some(receiver) = self.links.get_mut(&told) else {
                return;
            };
            let reach = current_addr(receiver).is_some_and(|receiver| policy::may_tell(*receiver.ip(), addr));
            let mut frame = Vec::new();
            if reach && encode::relay_fwd(name, addr, &mut frame).is_ok() {
                receiver.peer.send_control(frame);
                self.touch(told);
            }
        }
    }
}

/// The IPv4 address that leads to a peer now.
fn current_addr(link: &PeerLink) -> Option<SocketAddrV4> {
    match link.peer.path()?.remote {
        SocketAddr::V4(addr) => Some(addr),
        SocketAddr::V6(_) => None,
    }
}
