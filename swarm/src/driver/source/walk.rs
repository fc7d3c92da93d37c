//! Asking random peers whom they know, until enough are connected.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::strategy::{Strategy, StrategyContext};
use crate::discovery::SourceError;
use crate::driver::command::Command;
use crate::driver::limits::WALK_UNANSWERED;
use crate::driver::target::DialTarget;
use crate::{PeerId, clock};

/// A walk from peer to peer: a [`Strategy`] that asks one of those who are connected, chosen at random, whom he knows, every half
/// second. Whom he names is dialled and may be asked next.
///
/// It asks in the topics that both sides have joined, where this node looks for others (SPEC 17), and where
/// [`Builder::pex`](crate::Builder::pex) is on: a peer names those who announce themselves there. At most 5 peers owe an answer,
/// each for 3 s at most; then nobody is asked. With a chance of 50 in 255 the walk begins anew, so that it does not stay
/// among peers who know each other only: at one of the first ones that it was [given](Self::bootstrap), or at any peer.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use swarm::{Preset, RandomWalk, Swarm};
///
/// let node = || Swarm::builder().preset(Preset::Loopback).lan(false);
/// let alice = node().bind().await?;
/// let lobby = alice.join("lobby")?;
/// // Twenty peers, by way of those whom Alice knows, and whom they know.
/// let walk = RandomWalk::new().bootstrap([alice.local_addr()]);
/// let bob = node().strategy(walk, Some(20)).bind().await?;
/// let also = bob.join("lobby")?;
/// # drop((lobby, also)); Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct RandomWalk {
    first: Vec<DialTarget>,
    walk: Walk,
    /// Whose answers come here.
    asked: Vec<(PeerId, oneshot::Receiver<usize>)>,
}

impl RandomWalk {
    /// A walk among those whom the node finds by itself.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds peers at which it begins, while nobody else is there, and now and again.
    #[must_use]
    pub fn bootstrap<T: Into<DialTarget>>(mut self, targets: impl IntoIterator<Item = T>) -> Self {
        self.first.extend(targets.into_iter().map(Into::into));
        self
    }
}

impl Strategy for RandomWalk {
    async fn step(&mut self, around: &StrategyContext) -> Result<Vec<DialTarget>, SourceError> {
        let Self { first, walk, asked } = self;
        let now = clock::now();
        asked.retain_mut(|(peer, answer)| {
            // One that could not be asked, or has left, owes nothing either.
            let is_owed = matches!(answer.try_recv(), Err(TryRecvError::Empty));
            if !is_owed {
                walk.answered(peer);
            }
            is_owed && walk.is_owed(peer, now)
        });
        let next = walk.next(&around.peers(), first.len(), |limit| around.shared.below(limit), now);
        match next {
            Next::Wait => Ok(Vec::new()),
            Next::Nowhere => Err(SourceError::NobodyKnown),
            Next::Begin(at) => Ok(first.get(at).cloned().into_iter().collect()),
            Next::Ask(peer) => {
                let (reply, answer) = oneshot::channel();
                // An error means that the node has ended, and this task with it.
                let _ = around.shared.commands.send(Command::AskForOthers { peer, reply }).await;
                asked.push((peer, answer));
                Ok(Vec::new())
            }
        }
    }
}

/// Who is asked when: pure, so that it can be tested without waiting.
#[derive(Debug, Default)]
struct Walk {
    /// Who owes an answer, and until when it is waited for.
    owing: BTreeMap<PeerId, Instant>,
}

/// What one tick does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Enough owe an answer, or all do.
    Wait,
    /// There is nobody to ask, and nowhere to begin.
    Nowhere,
    /// The walk begins anew, at the first peer with this number.
    Begin(usize),
    Ask(PeerId),
}

impl Walk {
    /// What to do now, with these peers and so many to begin at. `draw` gives a random number below its argument.
    fn next(&mut self, peers: &[PeerId], first: usize, mut draw: impl FnMut(u64) -> u64, now: Instant) -> Next {
        let (most, patience) = WALK_UNANSWERED;
        self.owing.retain(|_, until| *until > now);
        if self.owing.len() >= most {
            return Next::Wait;
        }
        let mut pick = |count: usize| usize::try_from(draw(count as u64)).unwrap_or(0);
        let (chance, of) = BEGIN_ANEW;
        let anew = pick(of) < chance;
        let free: Vec<PeerId> = peers.iter().filter(|peer| !self.owing.contains_key(*peer)).copied().collect();
        if first > 0 && (anew || free.is_empty()) {
            return Next::Begin(pick(first));
        }
        let choice = if anew { peers } else { &free };
        match choice.get(pick(choice.len())) {
            Some(peer) => {
                self.owing.insert(*peer, now.checked_add(patience).unwrap_or(now));
                Next::Ask(*peer)
            }
            None if peers.is_empty() => Next::Nowhere,
            None => Next::Wait,
        }
    }

    fn answered(&mut self, peer: &PeerId) {
        self.owing.remove(peer);
    }

    fn is_owed(&self, peer: &PeerId, now: Instant) -> bool {
        self.owing.get(peer).is_some_and(|until| *until > now)
    }
}

/// How often a walk begins anew: in so many of so many steps.
const BEGIN_ANEW: (usize, usize) = (50, 255);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crypto::Seed;

    use super::*;
    use crate::driver::limits::STRATEGY_TICK;

    fn peers(count: u8) -> Vec<PeerId> {
        (0..count).map(|number| PeerId::from_bytes([number; 32])).collect()
    }

    /// The highest of the numbers that may be drawn: with them nothing begins anew.
    fn last(limit: u64) -> u64 {
        limit.saturating_sub(1)
    }

    fn is_question(step: &Next) -> bool {
        matches!(step, Next::Ask(_))
    }

    /// What a walk does that never begins anew, at each tick of so many, if nobody answers.
    fn silence(count: u8, first: usize, ticks: u32) -> Vec<Next> {
        let (mut walk, peers, start) = (Walk::default(), peers(count), clock::now());
        (0..ticks).map(|tick| walk.next(&peers, first, last, start + STRATEGY_TICK * tick)).collect()
    }

    #[test]
    fn one_peer_is_asked_in_each_tick_and_no_more_than_five_owe_an_answer() {
        let steps = silence(20, 0, 14);
        let ticks: Vec<u32> = (0..).zip(&steps).filter(|(_, step)| is_question(step)).map(|(tick, _)| tick).collect();
        // Five in 2 s, a pause until the first is given up after 3 s, and so on.
        assert_eq!(ticks, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13]);
        assert!(steps.iter().all(|step| is_question(step) || *step == Next::Wait));
    }

    #[test]
    fn who_answers_makes_room_and_who_owes_an_answer_is_not_asked_again() {
        let (mut walk, three, now) = (Walk::default(), peers(3), clock::now());
        let mut asked = Vec::new();
        for _ in 0..4 {
            if let Next::Ask(peer) = walk.next(&three, 0, last, now) {
                asked.push(peer);
            }
        }
        asked.sort_unstable();
        assert_eq!(asked, three);
        assert_eq!(walk.next(&three, 0, last, now), Next::Wait);
        walk.answered(&three[1]);
        assert!(!walk.is_owed(&three[1], now) && walk.is_owed(&three[0], now));
        assert_eq!(walk.next(&three, 0, last, now), Next::Ask(three[1]));
        assert!(!walk.is_owed(&three[1], now + Duration::from_secs(3)));
    }

    #[test]
    fn without_anybody_it_begins_where_it_may() {
        assert_eq!(silence(0, 0, 2), [Next::Nowhere; 2]);
        assert_eq!(silence(0, 3, 2), [Next::Begin(2); 2]);
        // The one who is there owes an answer.
        assert_eq!(silence(1, 1, 2), [Next::Ask(peers(1)[0]), Next::Begin(0)]);
    }

    #[test]
    fn it_begins_anew_in_fifty_of_255_steps_and_asks_all_alike_in_the_others() {
        let (mut walk, ten, now) = (Walk::default(), peers(10), clock::now());
        let mut rng = Seed::fixed(50).rng();
        let (mut begun, mut asked) = ([0_u32; 2], BTreeMap::<PeerId, u32>::new());
        for _ in 0..25_500 {
            match walk.next(&ten, 2, |limit| rng.below(limit), now) {
                Next::Begin(at) => begun[at] += 1,
                Next::Ask(peer) => {
                    *asked.entry(peer).or_default() += 1;
                    walk.answered(&peer);
                }
                other => panic!("{other:?}"),
            }
        }
        // 5000 and 2050 each are expected: five standard deviations are 317 and 217.
        let total: u32 = begun.iter().sum();
        assert!((4683..=5317).contains(&total), "{begun:?}");
        assert!(begun.iter().all(|count| (2250..=2750).contains(count)), "{begun:?}");
        assert!(asked.len() == 10 && asked.values().all(|count| (1833..=2267).contains(count)), "{asked:?}");
    }

    #[test]
    fn without_a_place_to_begin_anybody_is_asked_anew() {
        let (mut walk, two, now) = (Walk::default(), peers(2), clock::now());
        // Always anew: even who owes an answer is asked.
        let asked: Vec<Next> = (0..3).map(|_| walk.next(&two, 0, |_| 0, now)).collect();
        assert_eq!(asked, [Next::Ask(two[0]); 3]);
    }
}
