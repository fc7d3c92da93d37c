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

/// When each peer made us take part.
#[derive(Debug)]
pub(super) struct Takes(Lru<PeerId, [Option<Instant>; TAKES]>);

impl Default for Takes {
    fn default() -> Self {
        Self(Lru::new(NonZeroUsize::MIN.saturating_add(MAX_PEERS - 1)))
    }
}

impl Takes {
    /// Whether a peer may make us take part once more.
    pub(super) fn may_take(&mut self, peer: PeerId, now: Instant) -> bool {
        let mut takes = self.0.get(&peer, now).copied().unwrap_or_default();
        let oldest = takes.iter_mut().min_by_key(|at| **at);
        let Some(oldest) = oldest.filter(|at| at.is_none_or(|at| now >= at + TAKES_IN)) else { return false };
        *oldest = Some(now);
        // Without weights nothing is too heavy.
        let _ = self.0.insert(peer, takes, 0, now);
        true
    }
}

impl Punches {
    /// Whether there are too many attempts already, or too much is sent to a network.
    pub(super) fn is_crowded(&self, networks: &[Subnet], whose: Whose) -> bool {
        let running = |network: &Subnet| {
            self.attempts.values().filter(|a| !a.punch.is_closed() && a.networks.contains(network)).count()
        };
        let theirs = self.attempts.values().filter(|attempt| !attempt.ours).count();
        is_full(whose, self.attempts.len(), theirs) || networks.iter().any(|at| running(at) >= ATTEMPTS_OF_NETWORK)
    }
}

impl Node {
    /// Whether somebody proved to be in a topic that we are in.
    pub(super) fn shares_a_topic(&self, session: Handle) -> bool {
        self.topics.joined().any(|topic| self.topics.neighbours(topic).any(|other| other == session))
    }
}

/// Whether there is no room for one more: strangers leave some to neighbours, and all others some to us.
const fn is_full(whose: Whose, all: usize, theirs: usize) -> bool {
    match whose {
        Whose::Ours => all >= MAX_ATTEMPTS,
        Whose::Neighbours => all >= MAX_ATTEMPTS || theirs >= MAX_ATTEMPTS / 4 * 3,
        Whose::Strangers => all >= MAX_ATTEMPTS || theirs >= MAX_ATTEMPTS / 2,
    }
}

/// Attempts at a time, and how many of them may send to one network (IPv4 /24, IPv6 /48).
const MAX_ATTEMPTS: usize = 16;
const ATTEMPTS_OF_NETWORK: usize = 2;
/// How often in [`TAKES_IN`] one peer makes us take part in an attempt.
const TAKES: usize = 4;
const TAKES_IN: Duration = Duration::from_mins(1);
/// Peers of whom that is counted.
const MAX_PEERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_room_for_neighbours_and_both_for_us() {
        let most = |whose| (0..100).find(|theirs| is_full(whose, *theirs, *theirs));
        assert_eq!([Whose::Strangers, Whose::Neighbours, Whose::Ours].map(most), [Some(8), Some(12), Some(16)]);
        // However many of ours there are.
        assert!(is_full(Whose::Neighbours, 16, 0) && !is_full(Whose::Strangers, 15, 7));
    }

    #[test]
    fn one_peer_makes_us_take_part_now_and_then() {
        let (mut takes, now) = (Takes::default(), sim::clock::base());
        let [a, b] = [1, 2].map(|seed| crypto::Identity::from_seed([seed; 32]).peer_id());
        assert_eq!((0..10).filter(|_| takes.may_take(a, now)).count(), TAKES);
        assert!(takes.may_take(b, now) && !takes.may_take(a, now + TAKES_IN / 2) && takes.may_take(a, now + TAKES_IN));
    }
}
