//! The peers of a node, from the first datagram to the last, and what they report.

use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use framing::v12::{GoawayReason, NodeId, PublicKey, WireId};
use peer::v12::{CloseReason, Event as PeerEvent, Memory, Peer, Proof as Proved, SendError as PeerSendError};
use structs::{Link, Machine, Path};

use super::Event;
use super::{LinkId, Node, SECURITY, policy};
use crate::{DialError, DialId, DisconnectReason, PeerId, PeerInfo, Proof, SendError};

#[derive(Debug)]
pub(super) struct PeerLink {
    pub(super) peer: Peer,
    pub(super) origin: Origin,
    pub(super) addr: SocketAddr,
    pub(super) since: Instant,
    /// Reported as connected.
    pub(super) connected: bool,
    pub(super) in_mesh: bool,
    pub(super) score: i32,
    pub(super) received: u64,
    /// The id of the key that it named.
    pub(super) name: Option<WireId>,
    /// It answered a PING, so it is not merely a forged source.
    pub(super) answered: bool,
    /// In the ready ring.
    pub(super) is_ready: bool,
    /// In the list of those whose events wait.
    pub(super) is_stalled: bool,
    /// Dials that the peer has caused in the minute that began then.
    pub(super) suggested: (Instant, u32),
    /// Values that it asked for while as many as may be were under way to it.
    pub(super) owed: VecDeque<Bytes>,
}

/// How a link began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody dialled us.
    Inbound,
    /// The user dialled: these dials end with it.
    Dialled(Vec<DialId>),
    /// Somebody told us of it, by this name if he gave one.
    Suggested(Option<WireId>),
}

impl PeerLink {
    pub(super) fn new(peer: Peer, origin: Origin, addr: SocketAddr, since: Instant) -> Self {
        Self {
            peer,
            origin,
            addr,
            since,
            connected: false,
            in_mesh: false,
            score: 0,
            received: 0,
            name: None,
            answered: false,
            is_ready: false,
            is_stalled: false,
            suggested: (since, 0),
            owed: VecDeque::new(),
        }
    }

    pub(super) fn peer_id(&self) -> Option<PeerId> {
        self.peer.remote().map(|key| PeerId::from_bytes(*key.as_bytes()))
    }

    pub(super) fn proof(&self) -> Proof {
        if self.peer.proof() == Proved::Key { Proof::Key } else { Proof::Address }
    }

    pub(super) fn info(&self) -> Option<PeerInfo> {
        Some(PeerInfo {
            id: self.peer_id()?,
            addr: self.peer.path().map_or(self.addr, |path| path.remote),
            path: crate::nat::Way::Direct,
            relay: None,
            carrier: crate::Carrier::Udp,
            addrs: self.peer.path_count(),
            rtt: self.peer.rtt(),
            proof: self.proof(),
            security: SECURITY,
            in_mesh: self.in_mesh,
            queued: self.peer.queued(),
            in_flight: usize::try_from(self.peer.in_flight()).unwrap_or(usize::MAX),
            window: usize::try_from(self.peer.window()).unwrap_or(usize::MAX),
            sent: self.peer.stats().messages_sent,
            received: self.received,
        })
    }
}

impl Node {
    pub(super) fn connected(&self) -> impl Iterator<Item = (LinkId, &PeerLink)> {
        self.links.iter().filter(|(_, link)| link.connected).map(|(&id, link)| (id, link))
    }

    pub(super) fn connected_link(&self, peer: &PeerId) -> Option<LinkId> {
        let id = *self.by_key.get(&PublicKey::from(*peer.as_bytes()))?;
        self.links.get(&id).filter(|link| link.connected).map(|_| id)
    }

    /// Whether a peer of this name is connected or being dialled. Whoever merely dialled us under this name may not
    /// have it.
    pub(super) fn knows(&self, id: WireId) -> bool {
        let claims = |link: &PeerLink| link.name == Some(id) && (link.connected || link.origin != Origin::Inbound);
        self.by_wire_id.get(&id).and_then(|link| self.links.get(link)).is_some_and(claims)
            || self.links.values().any(|link| link.origin == Origin::Suggested(Some(id)) && link.peer.is_dialing())
    }

    pub(super) fn next_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    pub(super) fn insert(&mut self, id: LinkId, link: PeerLink) {
        self.by_addr.insert(link.addr, id);
        self.links.insert(id, link);
        self.touch(id);
    }

    pub(super) fn peer_config(&self) -> peer::v12::Config {
        // Two thirds of the buffer are taken by the kernel's overhead of small datagrams; some room is for strangers.
        let window = u32::try_from(self.config.receive_buffer / 4).unwrap_or(u32::MAX);
        peer::v12::Config::default()
            .accept_plaintext_fragments(self.config.accept_plaintext_fragments)
            .danger_send_plaintext_fragments(self.config.send_plaintext_fragments)
            .persistent_identity(self.config.persistent_identity)
            .value_limit(self.config.value_limit)
            .receive_window(window)
    }

    pub(super) fn start_dial(&mut self, target: SocketAddrV4) -> Result<DialId, DialError> {
        let id = DialId(self.next_operation());
        let addr = SocketAddr::V4(target);
        if let Some(&link_id) = self.by_addr.get(&addr)
            && let Some(link) = self.links.get_mut(&link_id)
        {
            if let (true, Some(peer)) = (link.connected, link.peer_id()) {
                if self.is_backlogged() {
                    return Err(DialError::TooMany { limit: policy::MAX_DIALS });
                }
                self.push_event(Event::Dialled { id, peer });
                return Ok(id);
            }
            match &mut link.origin {
                Origin::Dialled(ids) if ids.len() >= policy::MAX_DIALS => {
                    return Err(DialError::TooMany { limit: policy::MAX_DIALS });
                }
                Origin::Dialled(ids) => {
                    ids.push(id);
                    return Ok(id);
                }
                // The user's dial is more patient: it takes the place of what is under way there.
                Origin::Inbound | Origin::Suggested(_) => self.drop_link(link_id),
            }
        }
        if self.dials() >= policy::MAX_DIALS {
            return Err(DialError::TooMany { limit: policy::MAX_DIALS });
        }
        if !self.has_room(Proved::Key) {
            return Err(DialError::Full { limit: self.config.max_peers });
        }
        self.dial_out(target, Origin::Dialled(vec![id]), policy::OWN_HELLOS);
        Ok(id)
    }

    pub(super) fn dials(&self) -> usize {
        let waiting = self.redials.len();
        waiting + self.links.values().filter(|link| !link.connected && link.origin != Origin::Inbound).count()
    }

    pub(super) fn dial_out(&mut self, target: SocketAddrV4, origin: Origin, hellos: u32) {
        let id = self.next_link();
        let seed = self.seed.fork(&format!("peer {}", id.0));
        let path = Path::udp(SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0).into(), target.into());
        let config = self.peer_config();
        let peer = Peer::dial(config, self.identity.clone(), path, hellos, &seed, self.epoch, self.now);
        self.insert(id, PeerLink::new(peer, origin, target.into(), self.now));
    }

    /// Whether a peer with this proof may be connected: there is room, or one that has proved less makes some.
    pub(super) fn has_room(&self, proof: Proved) -> bool {
        self.connected().count() < self.config.max_peers || (proof != Proved::Address && self.least_proved().is_some())
    }

    /// A connected peer that has proved its address only: the one with the lowest score.
    fn least_proved(&self) -> Option<LinkId> {
        let unproved = self.connected().filter(|(_, link)| link.peer.proof() < Proved::Key);
        unproved.min_by_key(|(id, link)| (link.score, std::cmp::Reverse(*id))).map(|(id, _)| id)
    }

    pub(super) fn send_to(&mut self, id: LinkId, data: Bytes) -> Result<(), SendError> {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else {
            return Err(SendError::Closed);
        };
        let result = link.peer.send(data, now);
        let peer = link.peer_id();
        self.touch(id);
        result.map_err(|error| match error {
            PeerSendError::TooLarge { len, max } => SendError::TooLarge { len, max },
            PeerSendError::Full => SendError::Full,
            _ => peer.map_or(SendError::Closed, |peer| SendError::NotConnected { peer }),
        })
    }

    /// After every access to a peer: hands on its events, reads its deadline and puts it on the ready ring.
    pub(super) fn touch(&mut self, id: LinkId) {
        self.drain(id);
        if let Some(link) = self.links.get_mut(&id) {
            self.deadlines.set(id, link.peer.poll_timeout().map(|deadline| deadline.at));
            if !link.is_ready {
                link.is_ready = true;
                self.ready.push_back(id);
            }
        }
    }

    /// A peer has nothing to send for now.
    pub(super) fn settle(&mut self, id: LinkId) {
        self.drain(id);
        if self.serve_owed(id) {
            self.touch(id);
            return;
        }
        let Some(link) = self.links.get(&id) else { return };
        if link.peer.is_closed() && !link.is_stalled {
            self.remove(id);
        } else {
            self.deadlines.set(id, link.peer.poll_timeout().map(|deadline| deadline.at));
        }
    }

    fn drain(&mut self, id: LinkId) {
        loop {
            let backlogged = self.is_backlogged();
            let Some(link) = self.links.get_mut(&id) else { return };
            if backlogged {
                if !link.is_stalled {
                    link.is_stalled = true;
                    self.stalled.push_back(id);
                }
                return;
            }
            if link.is_stalled {
                link.is_stalled = false;
                self.stalled.retain(|stalled| *stalled != id);
            }
            let Some(event) = link.peer.poll_event() else { return };
            self.on_peer_event(id, event);
        }
    }

    fn on_peer_event(&mut self, id: LinkId, event: PeerEvent) {
        match event {
            PeerEvent::Identified { key } => self.on_identified(id, key),
            PeerEvent::Proved(proof) => self.on_proved(id, proof),
            PeerEvent::Message { data, authenticated } => self.on_message(id, data, authenticated),
            PeerEvent::Missed { count } => {
                self.score(id, -2);
                self.report(id, |from| Event::Missed { from, count });
            }
            PeerEvent::Writable => self.report(id, |peer| Event::Writable { peer }),
            PeerEvent::Restarted => self.summarise(id),
            PeerEvent::Has(keys) => self.on_have(id, &keys),
            PeerEvent::Wanted(key) => self.on_want(id, key),
            PeerEvent::Value { key, value } => self.on_value(id, key, value),
            PeerEvent::Peers(peers) => self.on_suggestions(id, &peers),
            PeerEvent::RelayAnnounced { id: name, addr } => self.on_relay(id, name, addr),
            PeerEvent::IntroductionRequested { to, .. } => self.on_introduction_request(id, to),
            PeerEvent::Introduced { id: name, addr } => self.on_suggestions(id, &[(name, addr)]),
            PeerEvent::PathAdded(path) if path.link == Link::Udp => {
                self.by_addr.entry(path.remote).or_insert(id);
            }
            PeerEvent::PathRemoved(path) if self.by_addr.get(&path.remote) == Some(&id) => {
                self.by_addr.remove(&path.remote);
            }
            PeerEvent::Closed(reason) => self.on_closed(id, reason),
            _ => {}
        }
    }

    fn report(&mut self, id: LinkId, event: impl FnOnce(PeerId) -> Event) {
        if let Some(peer) = self.links.get(&id).filter(|link| link.connected).and_then(PeerLink::peer_id) {
            self.push_event(event(peer));
        }
    }

    /// A peer named its key. Several may name the same one, until one of them proves it.
    fn on_identified(&mut self, id: LinkId, key: PublicKey) {
        let name = NodeId::of(&key).wire();
        if let Some(link) = self.links.get_mut(&id) {
            link.name = Some(name);
        }
        self.recall(id, &key);
        if !self.has_company() {
            self.mesh.resume(self.now);
            self.introductions.resume(self.now);
        }
        self.by_key.entry(key).or_insert(id);
        self.by_wire_id.entry(name).or_insert(id);
    }

    fn on_proved(&mut self, id: LinkId, proof: Proved) {
        let Some(link) = self.links.get(&id) else { return };
        if link.connected {
            self.report(id, |peer| Event::Proved { peer });
            return;
        }
        let (Some(key), Some(name)) = (link.peer.remote().copied(), link.name) else {
            return;
        };
        let known = self.by_key.get(&key).copied().filter(|known| *known != id);
        if let Some(known) = known.filter(|known| self.links.get(known).is_some_and(|link| link.connected)) {
            self.merge(id, known);
            return;
        }
        if !self.has_room(proof) {
            self.close_link(id, GoawayReason::from_code(0x04));
            return;
        }
        let rivals: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(other, link)| **other != id && link.name == Some(name) && !link.peer.is_closed())
            .map(|(other, _)| *other)
            .collect();
        for rival in rivals {
            self.merge(rival, id);
        }
        self.by_key.insert(key, id);
        self.by_wire_id.insert(name, id);
        if self.connected().count() >= self.config.max_peers
            && let Some(least) = self.least_proved()
        {
            self.evict(least);
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        link.connected = true;
        let (addr, proof) = (link.peer.path().map_or(link.addr, |path| path.remote), link.proof());
        let origin = std::mem::replace(&mut link.origin, Origin::Inbound);
        let Some(peer) = link.peer_id() else { return };
        self.push_event(Event::Connected { peer, addr, proof, security: SECURITY });
        if let Origin::Dialled(dials) = origin {
            for dial in dials {
                self.push_event(Event::Dialled { id: dial, peer });
            }
        }
        self.add_to_mesh(id);
        self.summarise(id);
        self.ask_newcomer(id);
    }

    fn on_message(&mut self, id: LinkId, data: Bytes, authenticated: bool) {
        self.score(id, 1);
        if let Some(link) = self.links.get_mut(&id) {
            link.received += 1;
        }
        let Some(name) = self.links.get(&id).and_then(|link| link.name) else {
            return;
        };
        let novelty = self.seen.judge(name, &data, self.now);
        if !novelty.deliver {
            self.stats.duplicates += 1;
            return;
        }
        self.stats.messages += 1;
        // What is not authentic is shown as such, and not passed on as if it were.
        if authenticated && novelty.flood {
            self.flood(id, &data);
        }
        self.report(id, |from| Event::Message { from, data, authenticated });
    }

    /// Takes the dials that wait for a link.
    pub(super) fn take_dials(&mut self, id: LinkId) -> Vec<DialId> {
        match self.links.get_mut(&id).map(|link| std::mem::replace(&mut link.origin, Origin::Inbound)) {
            Some(Origin::Dialled(dials)) => dials,
            _ => Vec::new(),
        }
    }

    /// Two links lead to one peer: the dials of the one that is dropped end with the other.
    fn merge(&mut self, dial: LinkId, known: LinkId) {
        let dials = self.take_dials(dial);
        self.drop_link(dial);
        let Some(link) = self.links.get_mut(&known) else { return };
        if let (true, Some(peer)) = (link.connected, link.peer_id()) {
            for id in dials {
                self.push_event(Event::Dialled { id, peer });
            }
        } else if let Origin::Dialled(ids) = &mut link.origin {
            ids.extend(dials);
        } else {
            link.origin = Origin::Dialled(dials);
        }
    }

    fn on_closed(&mut self, id: LinkId, reason: CloseReason) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let origin = std::mem::replace(&mut link.origin, Origin::Inbound);
        let (addr, after) = (link.addr, self.now.saturating_duration_since(link.since));
        let peer = link.connected.then(|| link.peer_id()).flatten();
        link.connected = false;
        self.forget(id);
        if let Some(peer) = peer {
            let reason = match reason {
                CloseReason::Goodbye(code) => DisconnectReason::Goodbye(code),
                CloseReason::Timeout | CloseReason::NoAnswer | CloseReason::Unproven => DisconnectReason::Timeout,
                _ => DisconnectReason::Local,
            };
            self.push_event(Event::Disconnected { peer, reason });
        }
        if let Origin::Dialled(dials) = origin {
            for id in dials {
                let error = match reason {
                    CloseReason::Ourselves => DialError::Ourselves { addr },
                    CloseReason::Local if self.is_ending() => DialError::Closed,
                    CloseReason::Local => DialError::Full { limit: self.config.max_peers },
                    _ => DialError::NoAnswer { addr, after },
                };
                self.push_event(Event::DialFailed { id, error });
            }
        }
    }

    /// Ends a session with a goodbye. The link goes once that has left.
    pub(super) fn close_link(&mut self, id: LinkId, code: GoawayReason) -> u64 {
        let now = self.now;
        let unsent = self.links.get_mut(&id).map_or(0, |link| link.peer.close(code, now));
        self.touch(id);
        unsent
    }

    fn evict(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            let peer = link.connected.then(|| link.peer_id()).flatten();
            link.connected = false;
            if let Some(peer) = peer {
                self.push_event(Event::Disconnected { peer, reason: DisconnectReason::Evicted });
            }
        }
        self.close_link(id, GoawayReason::from_code(0x04));
    }

    /// A peer is gone: somebody else speaks from its address.
    pub(super) fn lose(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.connected = false;
            if let Some(peer) = link.peer_id() {
                self.push_event(Event::Disconnected { peer, reason: DisconnectReason::Timeout });
            }
        }
        self.drop_link(id);
    }

    /// Ends a link that is not connected, without a word.
    pub(super) fn drop_link(&mut self, id: LinkId) {
        self.forget(id);
        self.remove(id);
    }

    /// Takes a link out of every index: it may still have goodbyes to send.
    fn forget(&mut self, id: LinkId) {
        self.by_addr.retain(|_, link| *link != id);
        self.by_key.retain(|_, link| *link != id);
        self.by_wire_id.retain(|_, link| *link != id);
        self.forget_asked(id);
        self.forget_relay(id);
    }

    /// Tells a link what earlier sessions with its key have received.
    pub(super) fn recall(&mut self, id: LinkId, key: &PublicKey) {
        if let (Some(link), Some(memories)) = (self.links.get_mut(&id), self.memories.get(key, self.now)) {
            link.peer.recall(memories);
        }
    }

    /// What a session has received is not to be taken for new in the next one with the same key.
    fn remember(&mut self, key: PublicKey, memories: Vec<Arc<Memory>>) {
        if memories.is_empty() {
            return;
        }
        let weight = memories.iter().map(|memory| memory.bytes() as u64).sum();
        // Too heavy by itself cannot be: four filters are far below the bound.
        let _ = self.memories.insert(key, memories, weight, self.now);
    }

    fn remove(&mut self, id: LinkId) {
        if let Some(link) = self.links.remove(&id) {
            if link.is_ready {
                self.ready.retain(|ready| *ready != id);
            }
            if link.is_stalled {
                self.stalled.retain(|stalled| *stalled != id);
            }
            self.stats.rejected.merge(&link.peer.stats().rejected);
            if let Some(key) = link.peer.remote().copied() {
                self.remember(key, link.peer.forget());
            }
        }
        self.deadlines.remove(&id);
        self.finish();
    }
}
