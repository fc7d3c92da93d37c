//! Who has how much of the attempts of a node (SPEC 15.6).

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crypto::PeerId;
use nat::scope::Subnet;
use peer::Handle;
use structs::Lru;

use super::super::Node;
use super::Punches;

/// On whose behalf an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Our side begins.
    Ours,
    /// The other side does, who proved to be in a topic of ours.
    Neighbours,
    /// The other side does, who may be anybody.
    Strangers,
}

/// Who the other side of an attempt is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Party {
    pub(super) whose: Whose,
    pub(super) peer: PeerId,
    /// The network of the relay that the session goes through. Keys cost nothing, addresses do.
    pub(super) via: Subnet,
}

/// When others made us take part, and who let a turn with many probes pass.
#[derive(Debug)]
pub(super) struct Takes {
    peers: Lru<PeerId, [Option<Instant>; TAKES]>,
    /// Those of strangers, by [`Party::via`].
    strangers: Lru<Subnet, [Option<Instant>; TAKES_OF_STRANGERS]>,
    idle_peers: Lru<PeerId, Instant>,
    idle_networks: Lru<Subnet, Instant>,
}

impl Default for Takes {
    fn default() -> Self {
        let [peers, networks] = [MAX_PEERS, MAX_NETWORKS].map(|max| NonZeroUsize::MIN.saturating_add(max - 1));
        Self {
            peers: Lru::new(peers),
            strangers: Lru::new(networks),
            idle_peers: Lru::new(peers),
            idle_networks: Lru::new(networks),
        }
    }
}

impl Takes {
    /// Whether a peer may make us take part once more.
    pub(super) fn may_take(&mut self, party: &Party, now: Instant) -> bool {
        let mut of_peer = self.peers.get(&party.peer, now).copied().unwrap_or_default();
        let mut of_network = self.strangers.get(&party.via, now).copied().unwrap_or_default();
        let Some(first) = free(&mut of_peer, now) else { return false };
        // Without weights nothing is too heavy.
        if party.whose == Whose::Strangers {
            let Some(second) = free(&mut of_network, now) else { return false };
            *second = Some(now);
            let _ = self.strangers.insert(party.via, of_network, 0, now);
        }
        *first = Some(now);
        let _ = self.peers.insert(party.peer, of_peer, 0, now);
        true
    }

    /// Whether a peer may have a turn with many probes, or let one pass lately. Neighbours may.
    pub(super) fn may_use_many(&mut self, party: &Party, now: Instant) -> bool {
        let over = |at: Option<&Instant>, pause| at.is_none_or(|at| now >= *at + pause);
        party.whose != Whose::Strangers
            || (over(self.idle_peers.get(&party.peer, now), PAUSE_OF_PEER)
                && over(self.idle_networks.get(&party.via, now), PAUSE_OF_NETWORK))
    }

    /// A turn was given for nothing.
    pub(super) fn wasted(&mut self, party: &Party, now: Instant) {
        if party.whose == Whose::Strangers {
            let _ = self.idle_peers.insert(party.peer, now, 0, now);
            let _ = self.idle_networks.insert(party.via, now, 0, now);
        }
    }
}

/// The place of the oldest take, if it is long ago.
fn free(takes: &mut [Option<Instant>], now: Instant) -> Option<&mut Option<Instant>> {
    takes.iter_mut().min_by_key(|at| **at).filter(|at| at.is_none_or(|at| now >= at + TAKES_IN))
}

impl Punches {
    /// Whether there are too many attempts already, or too much is sent to a network.
    pub(super) fn is_crowded(&self, networks: &[Subnet], party: &Party) -> bool {
        let running = |network: &Subnet| {
            self.attempts.values().filter(|a| !a.punch.is_closed() && a.networks.contains(network)).count()
        };
        let parties = self.attempts.values().map(|attempt| attempt.party);
        is_full(party, parties) || networks.iter().any(|at| running(at) >= ATTEMPTS_OF_NETWORK)
    }
}

impl Node {
    /// Whether somebody proved to be in a topic that we are in.
    pub(super) fn shares_a_topic(&self, session: Handle) -> bool {
        self.topics.joined().any(|topic| self.topics.neighbours(topic).any(|other| other == session))
    }
}

/// Whether there is no room for one more: strangers leave some to neighbours, all others some to us, and strangers through relays of
/// one network some to others.
fn is_full(party: &Party, others: impl Iterator<Item = Party> + Clone) -> bool {
    let all = others.clone().count();
    let theirs = others.clone().filter(|other| other.whose != Whose::Ours).count();
    let beside = others.filter(|other| other.whose == Whose::Strangers && other.via == party.via).count();
    all >= MAX_ATTEMPTS
        || match party.whose {
            Whose::Ours => false,
            Whose::Neighbours => theirs >= MAX_ATTEMPTS / 4 * 3,
            Whose::Strangers => theirs >= MAX_ATTEMPTS / 2 || beside >= STRANGERS_OF_NETWORK,
        }
}

/// Attempts at a time, and how many of them may send to one network (IPv4 /24, IPv6 /48).
const MAX_ATTEMPTS: usize = 16;
const ATTEMPTS_OF_NETWORK: usize = 2;
/// How many of strangers whose sessions go through relays of one network.
const STRANGERS_OF_NETWORK: usize = 2;
/// How often in [`TAKES_IN`] one peer makes us take part in an attempt.
const TAKES: usize = 4;
/// The same of all strangers whose sessions go through relays of one network.
const TAKES_OF_STRANGERS: usize = 16;
const TAKES_IN: Duration = Duration::from_mins(1);
/// Peers and networks of whom that is counted.
const MAX_PEERS: usize = 256;
const MAX_NETWORKS: usize = 64;
/// For how long a stranger who let a turn with many probes pass gets none, and others who come through that network.
const PAUSE_OF_PEER: Duration = Duration::from_mins(10);
const PAUSE_OF_NETWORK: Duration = Duration::from_secs(80);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_room_for_neighbours_and_both_for_us() {
        let many = |whose, count: u8| (0..count).map(move |n| party(whose, n.into(), n));
        let last = |whose| party(whose, 999, 99);
        let most = |whose| (0..100).find(|theirs| is_full(&last(whose), many(Whose::Strangers, *theirs)));
        assert_eq!([Whose::Strangers, Whose::Neighbours, Whose::Ours].map(most), [Some(8), Some(12), Some(16)]);
        // However many of ours there are.
        assert!(is_full(&last(Whose::Neighbours), many(Whose::Ours, 16)));
        assert!(!is_full(&last(Whose::Strangers), many(Whose::Ours, 8).chain(many(Whose::Strangers, 7))));
    }

    #[test]
    fn one_peer_makes_us_take_part_now_and_then() {
        let (mut takes, now) = (Takes::default(), sim::clock::base());
        let [a, b] = [1, 2].map(|seed| party(Whose::Neighbours, seed, 1));
        assert_eq!((0..10).filter(|_| takes.may_take(&a, now)).count(), TAKES);
        let half = now + TAKES_IN / 2;
        assert!(takes.may_take(&b, now) && !takes.may_take(&a, half) && takes.may_take(&a, now + TAKES_IN));
    }

    fn party(whose: Whose, seed: u16, network: u8) -> Party {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        let peer = crypto::Identity::from_seed(bytes).peer_id();
        Party { whose, peer, via: Subnet::of([20, 0, network, 1].into()) }
    }

    #[test]
    fn however_many_keys_come_through_one_relay_they_have_one_share() {
        let (mut takes, now) = (Takes::default(), sim::clock::base());
        let most = u16::try_from(MAX_PEERS + 8).unwrap();
        let taken = (0..most).filter(|seed| takes.may_take(&party(Whose::Strangers, *seed, 1), now)).count();
        assert_eq!(taken, TAKES_OF_STRANGERS);
        let [known, elsewhere] = [(Whose::Neighbours, 1), (Whose::Strangers, 2)].map(|(w, n)| party(w, 9999, n));
        assert!(takes.may_take(&known, now) && takes.may_take(&elsewhere, now));
        assert!(takes.may_take(&party(Whose::Strangers, 500, 1), now + TAKES_IN));
    }

    #[test]
    fn strangers_through_one_relay_hold_two_places() {
        let mut held: Vec<Party> = Vec::new();
        for (number, network) in (0..40_u16).map(|n| (n, u8::try_from(n / 10).unwrap())) {
            let party = party(Whose::Strangers, number, network);
            if !is_full(&party, held.iter().copied()) {
                held.push(party);
            }
            assert_eq!(held.len(), usize::from(network) * 2 + usize::from(number % 10 + 1).min(2));
        }
        assert!(is_full(&party(Whose::Strangers, 99, 9), held.iter().copied()), "8 of all strangers");
        assert!(!is_full(&party(Whose::Neighbours, 99, 0), held.iter().copied()));
    }

    #[test]
    fn who_lets_a_turn_pass_waits_and_others_do_not() {
        let (mut takes, now) = (Takes::default(), sim::clock::base());
        let idle = party(Whose::Strangers, 1, 1);
        assert!(takes.may_use_many(&idle, now));
        takes.wasted(&idle, now);
        assert!(!takes.may_use_many(&idle, now + PAUSE_OF_PEER / 2) && takes.may_use_many(&idle, now + PAUSE_OF_PEER));
        let beside = party(Whose::Strangers, 2, 1);
        assert!(!takes.may_use_many(&beside, now) && takes.may_use_many(&beside, now + PAUSE_OF_NETWORK));
        assert!(takes.may_use_many(&party(Whose::Strangers, 3, 2), now));
        takes.wasted(&party(Whose::Neighbours, 4, 3), now);
        assert!(takes.may_use_many(&party(Whose::Neighbours, 4, 3), now));
    }
}
