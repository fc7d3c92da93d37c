//! Addresses that strangers name: which of them are dialled, and when again.
//!
//! One list for all sources: an address that two of them name, or one of them again and again, is dialled once. What is
//! known of it is forgotten after a while, so that who comes back is found.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use framing::scope::{Subnet, is_public};
use relay::client::Named;
use structs::{Lru, TokenBucket};

use super::Node;
use crate::{DialWay, PeerId};

/// What became of the addresses that were named.
#[derive(Debug)]
pub(super) struct Candidates {
    /// Until when an address is left alone.
    rests: Lru<SocketAddr, Instant>,
    /// The same of peers behind relays.
    relayed: Lru<(PeerId, crypto::PeerId), Instant>,
    /// How many dials each public network may still get: keys are free, so whoever invents peers could have all of ours go to
    /// one victim.
    networks: Lru<Subnet, TokenBucket>,
}

impl Candidates {
    pub(super) fn new() -> Self {
        let relayed = Lru::new(MAX_REMEMBERED).time_to_live(DIALLED);
        let networks = Lru::new(MAX_REMEMBERED);
        Self { rests: Lru::new(MAX_REMEMBERED).time_to_live(OURSELVES), relayed, networks }
    }

    /// Whether a peer may be dialled through a relay now. If so, that rests from here on.
    fn try_relay(&mut self, peer: PeerId, relay: crypto::PeerId, now: Instant) -> bool {
        let rests = self.relayed.peek(&(peer, relay), now).is_some_and(|until| now < *until);
        if !rests {
            // Without a weight nothing is too heavy.
            let _ = self.relayed.insert((peer, relay), now.checked_add(DIALLED).unwrap_or(now), 0, now);
        }
        !rests
    }

    /// An address is dialled now, whatever it did before.
    fn begin(&mut self, addr: SocketAddr, now: Instant) {
        self.rest(addr, DIALLED, now);
    }

    /// Whether an address may be dialled now. If so, it rests from here on.
    fn try_begin(&mut self, addr: SocketAddr, now: Instant) -> bool {
        if self.rests.peek(&addr, now).is_some_and(|until| now < *until) || !self.may_reach(addr.ip(), now) {
            return false;
        }
        self.begin(addr, now);
        true
    }

    /// Whether one more address in the network of this one may be dialled because strangers name it. Networks that are not
    /// public are exempt: in them, many are at few addresses.
    pub(super) fn may_reach(&mut self, ip: IpAddr, now: Instant) -> bool {
        if !is_public(ip) {
            return true;
        }
        let network = Subnet::of(ip);
        let full = || TokenBucket::new(1, NETWORK_BURST * NETWORK_COST, now);
        let mut bucket = self.networks.remove(&network).unwrap_or_else(full);
        let may = bucket.try_take(NETWORK_COST, now);
        // Without a weight nothing is too heavy.
        let _ = self.networks.insert(network, bucket, 0, now);
        may
    }

    /// A dial that somebody suggested came to nothing.
    pub(super) fn failed(&mut self, addr: SocketAddr, is_us: bool, now: Instant) {
        self.rest(addr, if is_us { OURSELVES } else { SILENT }, now);
    }

    /// A session with an address is over: it may be dialled again.
    pub(super) fn forget(&mut self, addr: SocketAddr) {
        self.rests.remove(&addr);
    }

    fn rest(&mut self, addr: SocketAddr, pause: Duration, now: Instant) {
        // Without a weight nothing is too heavy.
        let _ = self.rests.insert(addr, now.checked_add(pause).unwrap_or(now), 0, now);
    }
}

impl Node {
    /// Dials somebody whom a stranger named, at the addresses that were not tried lately: with a key nobody else is
    /// talked to there, without one whoever answers is the peer. At most 16 a second are dialled, 32 at once; what is
    /// above is left for the next time that it is named. Says how many are dialled.
    pub fn suggest_candidate(&mut self, peer: Option<PeerId>, addrs: &[SocketAddr], now: Instant) -> usize {
        self.tick(now);
        let now = self.now;
        let ready: Vec<SocketAddr> =
            addrs.iter().copied().filter(|addr| self.candidates.try_begin(*addr, now)).collect();
        self.dial_candidates(peer, &ready, &[])
    }

    /// As [`suggest_candidate`](Self::suggest_candidate), with somebody who may also be reached through relays.
    pub(crate) fn suggest_found(
        &mut self,
        peer: PeerId,
        addrs: &[SocketAddr],
        relays: &[Named],
        wanted: bool,
        now: Instant,
    ) -> usize {
        self.tick(now);
        let now = self.now;
        let (addrs, relays) = match crypto::PeerId::try_from(peer).map(|key| self.relays.hints.way(&key)) {
            Ok(DialWay::Any) if self.places.find => (addrs, relays),
            Ok(DialWay::Relayed) | Err(_) => return 0,
            Ok(_) => (addrs, &[][..]),
        };
        let ready = |candidates: &mut Candidates, addr: SocketAddr| {
            if wanted {
                candidates.begin(addr, now);
            }
            wanted || candidates.try_begin(addr, now)
        };
        let addrs: Vec<SocketAddr> = addrs.iter().copied().filter(|addr| ready(&mut self.candidates, *addr)).collect();
        let mut fresh = Vec::new();
        for named in relays.iter().take(relay::limits::MAX_TRIED) {
            if !wanted && !self.candidates.try_relay(peer, named.relay, now) {
                continue;
            }
            let addrs = named.addrs.iter().copied().take(RELAY_ADDRESSES);
            let addrs: Vec<SocketAddr> = addrs.filter(|addr| ready(&mut self.candidates, *addr)).collect();
            // One that many are behind is dialled once.
            if !addrs.is_empty() || self.relays.client.knows(&named.relay) {
                fresh.push(Named { relay: named.relay, addrs });
            }
        }
        let relays = fresh;
        self.dial_candidates(Some(peer), &addrs, &relays)
    }

    /// As [`suggest_candidate`](Self::suggest_candidate), with somebody who is looked for by his id: what others said of his
    /// addresses, and what came of that, does not count.
    pub fn suggest_wanted(&mut self, peer: PeerId, addrs: &[SocketAddr], now: Instant) -> usize {
        self.tick(now);
        let now = self.now;
        addrs.iter().for_each(|addr| self.candidates.begin(*addr, now));
        self.dial_candidates(Some(peer), addrs, &[])
    }

    fn dial_candidates(&mut self, peer: Option<PeerId>, ready: &[SocketAddr], relays: &[Named]) -> usize {
        if self.ending || peer.is_some_and(|peer| peer == self.id() || self.session(&peer).is_some()) {
            ready.iter().for_each(|addr| self.candidates.forget(*addr));
            return 0;
        }
        // A key is tried at all of its addresses at once; without one each is somebody else.
        let dials: Vec<&[SocketAddr]> = match peer {
            Some(_) => vec![ready],
            None => ready.chunks(1).collect(),
        };
        let mut dialled = 0;
        for addrs in dials {
            if self.dial_suggested(peer, addrs, relays) {
                dialled += addrs.len();
            } else {
                addrs.iter().for_each(|addr| self.candidates.forget(*addr));
            }
        }
        dialled
    }
}

/// Addresses at which a relay is dialled that somebody else named.
const RELAY_ADDRESSES: usize = 4;
/// Addresses remembered.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
/// Addresses of one public network that are dialled at once on the word of strangers, and the seconds until it may be one more:
/// with what a dial sends to who does not answer, 120 kB at once and 60 kB a minute.
const NETWORK_BURST: u32 = 8;
const NETWORK_COST: u32 = 15;
/// How long an address is left alone after a dial began, after nobody answered, and after we answered ourselves.
const DIALLED: Duration = Duration::from_secs(60);
const SILENT: Duration = Duration::from_secs(180);
const OURSELVES: Duration = Duration::from_secs(3600);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does")]
mod tests {
    use std::collections::BTreeSet;

    use crypto::{Identity, Seed};
    use structs::{Epoch, Machine, TransmitBuf};

    use super::*;
    use crate::node::Config;

    fn id(number: u32) -> crypto::PeerId {
        let mut seed = [3; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        Identity::from_seed(seed).peer_id()
    }

    fn node(config: Config) -> (Node, Instant) {
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_800_000_000) };
        (Node::new(Identity::from_seed([1; 32]), config.lan(false), epoch, &Seed::fixed(1), now), now)
    }

    /// To how many addresses something leaves.
    fn sent_to(node: &mut Node, now: Instant) -> BTreeSet<SocketAddr> {
        let mut out = TransmitBuf::new(1);
        let mut to = BTreeSet::new();
        while let Some(transmit) = node.poll_transmit(&mut out, now) {
            to.insert(transmit.path.remote);
            out.clear();
        }
        to
    }

    fn addr(number: u32) -> SocketAddr {
        let [_, a, b, c] = number.to_be_bytes();
        ([9, a, b, c], 7).into()
    }

    #[test]
    fn relays_that_strangers_name_are_dialled_as_rarely_as_addresses() {
        let (mut node, now) = node(Config::default().find_relays(true));
        for number in 0..500 {
            let relay = |of: u32| Named { relay: id(10_000 + of), addrs: (0..8).map(|at| addr(of * 8 + at)).collect() };
            let relays = [relay(2 * number), relay(2 * number + 1)];
            node.suggest_found(PeerId::from(id(number)), &[], &relays, number % 2 == 0, now);
            // And those that peers say are there.
            node.relay_found(PeerId::from(id(20_000 + number)), &[addr(90_000 + number)]);
        }
        let reached = sent_to(&mut node, now).len();
        assert!((1..=32).contains(&reached), "{reached} addresses");
    }

    #[test]
    fn relays_that_strangers_name_in_one_network_get_little() {
        let (mut node, start) = node(Config::default().find_relays(true));
        let victim = |number: u32| SocketAddr::from(([50, 0, 0, 1], (1000 + number % 60_000) as u16));
        let (mut sent, mut now, mut out) = (0, start, TransmitBuf::new(1));
        for second in 0..20 * 60 {
            // In the records of peers, with a voucher or without, and by peers who were asked.
            let relay = Named { relay: id(10_000 + second), addrs: vec![victim(2 * second)] };
            node.suggest_found(PeerId::from(id(second)), &[], &[relay], false, now);
            node.relay_found(PeerId::from(id(20_000 + second)), &[victim(2 * second + 1)]);
            let end = start + Duration::from_secs(u64::from(second) + 1);
            while now < end {
                while node.poll_transmit(&mut out, now).is_some() {
                    sent += out.bytes().len();
                    out.clear();
                }
                while node.poll_event().is_some() {}
                now = node.poll_timeout().map_or(end, |deadline| deadline.at.clamp(now, end));
                node.handle_timeout(now);
            }
        }
        // Eight at once and four a minute, of 16 KiB each.
        assert!((100_000..(8 + 4 * 20) << 14).contains(&sent), "{sent} bytes");
    }

    #[test]
    fn an_address_that_many_name_is_dialled_once() {
        let (mut node, mut now) = node(Config::default().find_relays(true));
        let victim = addr(1);
        for number in 0..8 {
            let relay = Named { relay: id(1000 + number), addrs: vec![victim] };
            node.suggest_found(PeerId::from(id(number)), &[], &[relay], false, now);
            now += Duration::from_secs(1);
        }
        assert_eq!(node.stats().dials, 1 + 1, "one for the peer, one for the relay");
        assert_eq!(sent_to(&mut node, now).len(), 1);
    }

    #[test]
    fn who_wants_no_relays_of_others_uses_none() {
        let (mut node, now) = node(Config::default());
        let relay = Named { relay: id(1), addrs: vec![addr(1)] };
        assert_eq!(node.suggest_found(PeerId::from(id(2)), &[], &[relay], true, now), 0);
        node.relay_found(PeerId::from(id(3)), &[addr(3)]);
        assert!(sent_to(&mut node, now).is_empty());
    }
}
