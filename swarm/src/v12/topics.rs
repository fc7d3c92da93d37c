//! Topics joined, and how the local network hears of them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use crypto::v12::{NodeId, TopicHash};
use framing::v12::{encode, limits};
use structs::{Path, Rejected};

use super::{LAN_GROUP, LAN_LINK, Node};
use crate::{JoinError, TopicId};

/// After a join the second beacon leaves this soon, for neighbours that missed the first.
const SECOND_BEACON: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Topics(BTreeMap<TopicId, Joined>);

#[derive(Debug)]
struct Joined {
    hash: TopicHash,
    announce: bool,
    lookup: bool,
    beacons: u32,
    beacon_at: Instant,
}

impl Topics {
    pub(super) fn contains(&self, topic: &TopicId) -> bool {
        self.0.contains_key(topic)
    }

    pub(super) fn join(&mut self, topic: TopicId, announce: bool, lookup: bool, now: Instant) -> Result<(), JoinError> {
        if !self.contains(&topic) && self.0.len() >= super::policy::MAX_TOPICS {
            return Err(JoinError::TooMany { limit: super::policy::MAX_TOPICS });
        }
        let hash = TopicHash::of(topic.as_bytes());
        let joined = self.0.entry(topic).or_insert(Joined { hash, announce, lookup, beacons: 0, beacon_at: now });
        if announce && !joined.announce {
            joined.beacons = 0;
            joined.beacon_at = now;
        }
        joined.announce = announce;
        joined.lookup = lookup;
        Ok(())
    }

    pub(super) fn leave(&mut self, topic: &TopicId) {
        self.0.remove(topic);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether a beacon with this topic concerns us. The C++ node writes 24 characters of the hash, and a node that
    /// has joined nothing writes none and meets everybody.
    fn looks_for(&self, topic: Option<&str>) -> bool {
        let mut wanted = self.0.values().filter(|joined| joined.lookup);
        match topic {
            None => wanted.next().is_some(),
            Some(text) => wanted.any(|joined| text.get(..TopicHash::LEN) == Some(joined.hash.as_str())),
        }
    }

    /// Announces everything once more at once: the addresses have changed.
    fn announce_again(&mut self, now: Instant) {
        for joined in self.0.values_mut() {
            joined.beacons = 0;
            joined.beacon_at = now;
        }
    }

    fn due(&mut self, now: Instant) -> Vec<TopicHash> {
        let mut due = Vec::new();
        for joined in self.0.values_mut().filter(|joined| joined.announce && joined.beacon_at <= now) {
            let pause = if joined.beacons == 0 { SECOND_BEACON } else { limits::LAN_INTERVAL };
            joined.beacons = joined.beacons.saturating_add(1);
            joined.beacon_at = now + pause;
            due.push(joined.hash);
        }
        due
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().filter(|joined| joined.announce).map(|joined| joined.beacon_at).min()
    }
}

impl Node {
    /// Tells the node under which addresses its socket can be reached, one for each network that it has. Beacons name
    /// them, and none of them is dialled.
    pub fn set_local_addresses(&mut self, addrs: &[SocketAddrV4], now: Instant) {
        self.tick(now);
        if self.local != addrs {
            self.local = addrs.to_vec();
            self.topics.announce_again(self.now);
            self.send_beacons();
        }
    }

    /// Joins a topic, or changes how: `announce` says on the networks that we are there, `lookup` dials who says so.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing changed then.
    pub fn join(&mut self, topic: TopicId, announce: bool, lookup: bool, now: Instant) -> Result<(), JoinError> {
        self.tick(now);
        if self.is_ending() {
            return Err(JoinError::Closed);
        }
        self.topics.join(topic, announce, lookup, self.now)?;
        self.send_beacons();
        Ok(())
    }

    /// Leaves a topic. Peers found through it stay connected.
    pub fn leave(&mut self, topic: &TopicId, now: Instant) {
        self.tick(now);
        self.topics.leave(topic);
    }

    pub(super) fn send_beacons(&mut self) {
        if self.is_ending() {
            return;
        }
        for hash in self.topics.due(self.now) {
            if !self.config.lan {
                continue;
            }
            for index in 0..self.local.len() {
                let Some(&addr) = self.local.get(index) else { break };
                let mut beacon = Vec::with_capacity(70);
                if encode::lan(self.identity.id(), addr, Some(hash.as_str()), &mut beacon).is_ok() {
                    let path = Path { link: LAN_LINK, local: addr.into(), remote: LAN_GROUP.into() };
                    self.send_out(path, beacon);
                }
            }
        }
    }

    /// A beacon: its sender is dialled if we look for one of its topics and it speaks for its own address.
    pub(super) fn on_beacon(
        &mut self,
        from: SocketAddr,
        id: NodeId,
        addr: SocketAddrV4,
        topic: Option<&str>,
    ) -> Result<(), Rejected> {
        if !self.config.lan {
            return Err(Rejected::Forbidden);
        }
        if id == self.identity.id() {
            return Err(Rejected::FromSelf);
        }
        let SocketAddr::V4(from) = from else {
            return Err(Rejected::BadAddress);
        };
        let ours = |ip: &Ipv4Addr| self.local.iter().any(|local| local.ip() == ip) || ip.is_loopback();
        if from.ip() != addr.ip() && !(ours(from.ip()) && ours(addr.ip())) {
            return Err(Rejected::BadAddress);
        }
        if !self.topics.looks_for(topic) || self.knows(id.wire()) {
            return Ok(());
        }
        self.dial_suggested(addr, Some(id.wire()))
    }
}
