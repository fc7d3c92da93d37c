//! Beacons on the local network: who is there for a topic, without telling others which (SPEC 10.1).
//!
//! | file | content |
//! |---|---|
//! | `lan.rs` | [`Lan`]: when beacons leave, and what is made of those that come |
//! | `lan/scope.rs` | which addresses are local |
//! | `lan/share.rs` | how much of all that is looked at one of them may have |

mod scope;
mod share;

pub(super) use scope::is_within;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::topic::{NONCE, TAG, beacon_tag};
use crypto::{Rng, Seed};
use framing::{Beacon, limits};
use structs::{Deadline, Epoch, Link, Lru, Path, Rejected};

use self::share::Shared;
use super::topics::MAX_TOPICS;
use crate::{JoinError, TopicId};

/// The link of beacons: they leave by multicast from the interface whose address is the local one of their path.
pub const LAN_LINK: Link = Link::Custom(1);

/// Interfaces that beacons leave by.
pub const MAX_INTERFACES: usize = 32;
/// The first beacon after a join or a change of interfaces leaves within this (SPEC 10.1, as all of these).
const FIRST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// The second, for neighbours that missed the first.
const SECOND: (Duration, Duration) = (Duration::from_millis(800), Duration::from_millis(1200));
/// All others.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(6));
/// A new neighbour is answered within this, so that not all answer at once, and after this since the last beacon.
const ANSWER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
const ANSWER_PAUSE: Duration = Duration::from_secs(1);
/// Beacons looked at, per second and at once: of one address half, as of those that follow.
const BEACON_RATE: (u32, u32) = (100, 200);
/// Tags computed for them, per second and at once: a beacon costs three for each of our topics.
const TAG_RATE: (u32, u32) = (5_000, 10_000);
/// Addresses named to be dialled, per second and at once.
const SUGGESTED_RATE: (u32, u32) = (4, 8);
/// Neighbours remembered, and how long until one is named again.
const MAX_NEIGHBOURS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
const REMEMBERED: Duration = Duration::from_secs(60);
/// Beacons remembered, of ours and of others, to recognise their copies.
const MAX_NONCES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// The fewest tags in a beacon, so that the first topics do not show in its length.
const MIN_TAGS: usize = 4;

const _: () = assert!(MAX_TOPICS.next_power_of_two() <= limits::MAX_BEACON_TAGS);

/// An address of this machine that beacons leave from: one for each interface and family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The address, with the port at which our sessions are reached there; with its scope if it is of IPv6.
    pub addr: SocketAddr,
    /// How many leading bits of it its network has.
    pub prefix: u8,
    /// The number of the interface: the scope of the IPv6 group.
    pub index: u32,
}

/// The beacons of a node.
#[derive(Debug)]
pub(crate) struct Lan {
    topics: BTreeMap<TopicId, Interest>,
    interfaces: Vec<Interface>,
    /// When the next beacon leaves, if there is anything to announce and anywhere to.
    beacon_at: Instant,
    /// How many beacons left since the last join or change of interfaces.
    beacons: u32,
    last_beacon: Option<Instant>,
    out: VecDeque<(Path, Bytes)>,
    /// Beacons whose copies are not looked at: true for our own.
    nonces: Lru<[u8; NONCE], bool>,
    neighbours: Lru<SocketAddr, Neighbour>,
    looks: Shared,
    tags: Shared,
    suggestions: Shared,
    epoch: Epoch,
    rng: Rng,
}

#[derive(Debug, Clone, Copy)]
struct Interest {
    announce: bool,
    lookup: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Neighbour {
    /// It shares a topic that we only announce: it is for it to dial.
    Heard,
    /// Named to be dialled.
    Suggested,
    /// Nobody answered there.
    Silent,
}

impl Lan {
    /// No topics and no interfaces. `seed` must be this machine's alone.
    pub(crate) fn new(epoch: Epoch, seed: &Seed) -> Self {
        let now = epoch.instant;
        let shared = |rates| Shared::new(rates, now);
        Self {
            topics: BTreeMap::new(),
            interfaces: Vec::new(),
            beacon_at: now,
            beacons: 0,
            last_beacon: None,
            out: VecDeque::new(),
            nonces: Lru::new(MAX_NONCES),
            neighbours: Lru::new(MAX_NEIGHBOURS).time_to_live(REMEMBERED),
            looks: shared(BEACON_RATE),
            tags: shared(TAG_RATE),
            suggestions: shared(SUGGESTED_RATE),
            epoch,
            rng: seed.rng(),
        }
    }

    /// Pairs the clocks anew, because the machine slept or its wall clock was set: tags change with the hour.
    pub(crate) fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Joins a topic, or changes how: `announce` says on the networks that we are there, `lookup` names who says so.
    ///
    /// # Errors
    ///
    /// [`JoinError::TooMany`] above 64 topics; nothing changed then.
    pub(crate) fn join(&mut self, topic: TopicId, announce: bool, lookup: bool, now: Instant) -> Result<(), JoinError> {
        if !self.topics.contains_key(&topic) && self.topics.len() >= MAX_TOPICS {
            return Err(JoinError::TooMany { limit: MAX_TOPICS });
        }
        let before = self.topics.insert(topic, Interest { announce, lookup });
        if announce && !before.is_some_and(|before| before.announce) {
            self.announce_soon(now);
        }
        if lookup && !before.is_some_and(|before| before.lookup) {
            // Who was heard before may be in this topic too.
            self.neighbours.clear();
        }
        Ok(())
    }

    /// Leaves a topic; nothing if it is not joined.
    pub(crate) fn leave(&mut self, topic: &TopicId) {
        self.topics.remove(topic);
    }

    /// Names the addresses that beacons leave from, at most 32: those behind are left out. Without any, none leave.
    pub(crate) fn set_interfaces(&mut self, interfaces: &[Interface], now: Instant) {
        let interfaces = interfaces.get(..MAX_INTERFACES).unwrap_or(interfaces);
        if self.interfaces != interfaces {
            self.interfaces = interfaces.to_vec();
            // Of networks that are gone.
            self.out.clear();
            self.announce_soon(now);
        }
    }

    /// A beacon from `from`. Returns the address to dial if it has a topic that we look for, and was not named within
    /// the last minute. Beacons do not say whose they are: the owner may be connected already.
    ///
    /// # Errors
    ///
    /// Why it was not looked at.
    pub(crate) fn handle(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<Option<SocketAddr>, Rejected> {
        let addr = scope::canonical(from);
        if !scope::is_local(addr.ip(), &self.interfaces) {
            return Err(Rejected::BadAddress);
        }
        let beacon = Beacon::decode(datagram)?;
        match self.nonces.get(&beacon.nonce, now) {
            Some(true) => return Err(Rejected::FromSelf),
            Some(false) => return Err(Rejected::Duplicate),
            None => {}
        }
        if !self.looks.try_take(addr.ip(), 1, now) {
            return Err(Rejected::LimitReached);
        }
        let Some(interest) = self.interest(&beacon, addr.ip(), now)? else { return Ok(None) };
        let addr = scope::with_port(addr, beacon.port);
        self.on_neighbour(addr, beacon.nonce, interest, now)
    }

    /// Whether it is for us to dial a neighbour, and not for him to dial us: both compare the same two addresses, theirs
    /// and ours in the network that they share.
    pub(crate) fn goes_first(&self, neighbour: SocketAddr) -> bool {
        let shared = self.interfaces.iter().find(|interface| is_within(neighbour.ip(), interface));
        shared.is_none_or(|ours| (ours.addr.ip(), ours.addr.port()) < (neighbour.ip(), neighbour.port()))
    }

    /// A dial to an address that was named came to nothing: until that is forgotten, in a minute, the neighbour is
    /// named by its other addresses, if it has any.
    pub(crate) fn silent(&mut self, addr: SocketAddr, now: Instant) {
        let _ = self.neighbours.insert(addr, Neighbour::Silent, 0, now);
    }

    /// A session with an address that was named is over: it is named again with its next beacon.
    pub(crate) fn forget(&mut self, addr: SocketAddr) {
        self.neighbours.remove(&addr);
    }

    /// To be called at [`poll_timeout`](Self::poll_timeout).
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if !self.is_announcing() || now < self.beacon_at {
            return;
        }
        let pause = if self.beacons == 0 { SECOND } else { INTERVAL };
        self.beacons = self.beacons.saturating_add(1);
        self.beacon_at = now + self.jitter(pause);
        self.last_beacon = Some(now);
        self.send_beacons(now);
    }

    /// The next beacon. Those that were not taken before the next ones are made are dropped: at most one for each
    /// interface is waiting.
    pub(crate) fn poll_transmit(&mut self) -> Option<(Path, Bytes)> {
        self.out.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        self.is_announcing().then_some(Deadline { at: self.beacon_at, reason: "beacon" })
    }

    fn is_announcing(&self) -> bool {
        !self.interfaces.is_empty() && self.topics.values().any(|interest| interest.announce)
    }

    fn jitter(&mut self, (least, most): (Duration, Duration)) -> Duration {
        let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(self.rng.below(spread.saturating_add(1)))
    }

    fn announce_soon(&mut self, now: Instant) {
        let soon = now + self.jitter(FIRST);
        // One that is due sooner will say the same.
        if self.beacon_at <= now || self.beacon_at > soon {
            self.beacon_at = soon;
        }
        self.beacons = 0;
    }

    /// One beacon to each interface, the same but for the port.
    fn send_beacons(&mut self, now: Instant) {
        self.out.clear();
        let hour = self.hour(now);
        let nonce = self.rng.array();
        let announced = self.topics.iter().filter(|(_, interest)| interest.announce);
        let mut tags: Vec<[u8; TAG]> = announced.map(|(topic, _)| beacon_tag(topic.as_bytes(), hour, &nonce)).collect();
        tags.resize_with(tags.len().next_power_of_two().max(MIN_TAGS), || self.rng.array());
        // In an order that says nothing about which are random.
        tags.sort_unstable();
        let _ = self.nonces.insert(nonce, true, 0, now);
        for interface in &self.interfaces {
            let mut datagram = Vec::with_capacity(Beacon::HEADER + tags.len() * TAG);
            let beacon = Beacon { nonce, port: interface.addr.port(), tags: &tags };
            // An interface without a port cannot be dialled.
            if beacon.encode(&mut datagram).is_ok() {
                let path = Path { link: LAN_LINK, local: interface.addr, remote: group(interface) };
                self.out.push_back((path, datagram.into()));
            }
        }
    }

    /// Of the topics that a beacon has a tag of: whether we announce one, and whether we look for one. `None` if it has
    /// none.
    fn interest(&mut self, beacon: &Beacon<'_>, from: IpAddr, now: Instant) -> Result<Option<Interest>, Rejected> {
        // At most 64 topics.
        let cost = u32::try_from(self.topics.len() * 3).unwrap_or(u32::MAX);
        if !self.tags.try_take(from, cost, now) {
            return Err(Rejected::LimitReached);
        }
        let mut tags = beacon.tags.to_vec();
        tags.sort_unstable();
        let hour = self.hour(now);
        let hours = [hour, hour.saturating_sub(1), hour.saturating_add(1)];
        let is_in = |topic: &TopicId| {
            hours.iter().any(|&hour| tags.binary_search(&beacon_tag(topic.as_bytes(), hour, &beacon.nonce)).is_ok())
        };
        let shared = self.topics.iter().filter(|(topic, _)| is_in(topic)).map(|(_, interest)| *interest);
        Ok(shared.reduce(|a, b| Interest { announce: a.announce || b.announce, lookup: a.lookup || b.lookup }))
    }

    fn on_neighbour(
        &mut self,
        addr: SocketAddr,
        nonce: [u8; NONCE],
        interest: Interest,
        now: Instant,
    ) -> Result<Option<SocketAddr>, Rejected> {
        let known = self.neighbours.peek(&addr, now).copied();
        if known == Some(Neighbour::Silent) {
            // A copy from another interface may name an address that answers.
            return Ok(None);
        }
        let is_suggested = interest.lookup && known != Some(Neighbour::Suggested);
        if is_suggested && !self.suggestions.try_take(addr.ip(), 1, now) {
            return Err(Rejected::LimitReached);
        }
        let _ = self.nonces.insert(nonce, false, 0, now);
        if known.is_none() || is_suggested {
            let neighbour = if is_suggested { Neighbour::Suggested } else { Neighbour::Heard };
            let _ = self.neighbours.insert(addr, neighbour, 0, now);
        }
        if known.is_none() && interest.announce {
            self.answer(now);
        }
        Ok(is_suggested.then_some(addr))
    }

    /// A new neighbour hears of us soon, whenever it came.
    fn answer(&mut self, now: Instant) {
        let earliest = self.last_beacon.map_or(now, |last| now.max(last + ANSWER_PAUSE));
        self.beacon_at = self.beacon_at.min(earliest + self.jitter(ANSWER));
    }

    fn hour(&self, now: Instant) -> u64 {
        self.epoch.unix_at(now).as_secs() / 3600
    }
}

fn group(interface: &Interface) -> SocketAddr {
    match interface.addr.ip() {
        IpAddr::V4(_) => SocketAddrV4::new(limits::BEACON_GROUP_V4, limits::BEACON_PORT).into(),
        IpAddr::V6(_) => SocketAddrV6::new(limits::BEACON_GROUP_V6, limits::BEACON_PORT, 0, interface.index).into(),
    }
}

#[cfg(test)]
mod tests;
