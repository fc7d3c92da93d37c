//! The paths of a session: which are proved, which is used, and what an unproved one may be sent (SPEC 9.4).
//!
//! Invariants: a path gets at most three times what came over it until it has answered a challenge; data leaves only
//! over a proved path; the last proved path is never given up while the session lives. A packet from a new address
//! proves nothing but that somebody forwards: the path in use stays in use until the new one has answered, and is
//! asked itself when it is left, so that a bystander who forwards packets moves a session for one round trip at most.

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use structs::Path;

use crate::cids::RemoteCid;
use crate::limits::{CHALLENGES, MIN_DATAGRAM, PATHS, PROBED_PATHS};
use crate::recovery::PathSlot;

/// One path.
#[derive(Debug)]
pub(crate) struct PathState {
    pub(crate) path: Path,
    pub(crate) slot: PathSlot,
    pub(crate) cid: RemoteCid,
    pub(crate) proof: Proof,
    /// The challenge that waits for its answer.
    challenge: Option<Box<Challenge>>,
    /// Bytes received and sent while unproved.
    received: u64,
    sent: u64,
    /// We began with it, so our first packets on it are not an answer.
    ours: bool,
    /// It was left because it had fallen silent, and nothing has come over it since.
    left: bool,
    pub(crate) last_received: Instant,
    /// The highest number of a packet that came over it and did more than probe: where such packets come is where the other
    /// side sends.
    pub(crate) highest: u64,
    /// The round trip of its last challenge.
    pub(crate) rtt: Option<Duration>,
}

/// How far a path is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proof {
    /// Nothing came back yet.
    None,
    /// The address answered; whether datagrams of 1200 bytes pass is being asked.
    Address,
    /// It carries what it must.
    Full,
}

#[derive(Debug)]
struct Challenge {
    data: [u8; 8],
    sent_at: Option<Instant>,
    tries: u8,
    /// When the next try is due, or the path is given up.
    next_at: Instant,
}

impl Challenge {
    fn new(data: [u8; 8], now: Instant) -> Box<Self> {
        Box::new(Self { data, sent_at: None, tries: 0, next_at: now })
    }
}

/// What a path wants to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) at: usize,
    pub(crate) data: [u8; 8],
    /// Pad to [`MIN_DATAGRAM`].
    pub(crate) padded: bool,
}

impl PathState {
    /// How many bytes may be sent over it now.
    pub(crate) const fn allowance(&self) -> u64 {
        match self.proof {
            Proof::Full | Proof::Address => u64::MAX,
            // Three small packets of our own, or what RFC 9000 section 8.2.1 allows for theirs.
            Proof::None => {
                let own = if self.ours { 3 * 64 } else { 0 };
                (3 * self.received + own).saturating_sub(self.sent)
            }
        }
    }

    pub(crate) const fn on_sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.proof == Proof::Full
    }
}

/// All paths of a session. There is always at least one.
#[derive(Debug)]
pub(crate) struct Paths {
    list: SmallVec<[PathState; 1]>,
    /// The one in use.
    best: usize,
}

/// What came of a challenge's time-out or answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Nothing,
    /// The path may carry data from now on.
    Proved(usize),
    /// The path is given up; it is no longer in the list.
    Lost(Path, PathSlot, RemoteCid),
}

impl Paths {
    /// The path of the handshake, which has proved itself by it.
    pub(crate) fn new(path: Path, slot: PathSlot, cid: RemoteCid, now: Instant) -> Self {
        let mut list = SmallVec::new();
        list.push(PathState {
            path,
            slot,
            cid,
            proof: Proof::Full,
            challenge: None,
            received: 0,
            sent: 0,
            ours: true,
            left: false,
            last_received: now,
            highest: 0,
            rtt: None,
        });
        Self { list, best: 0 }
    }

    pub(crate) fn best(&self) -> &PathState {
        &self.list[self.best]
    }

    pub(crate) const fn best_index(&self) -> usize {
        self.best
    }

    pub(crate) fn get(&self, at: usize) -> Option<&PathState> {
        self.list.get(at)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut PathState> {
        self.list.get_mut(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PathState> {
        self.list.iter()
    }

    /// Which path a datagram came over. The local address counts only where both sides of the comparison know it.
    pub(crate) fn find(&self, path: &Path) -> Option<usize> {
        let same = |have: &Path| {
            have.link == path.link
                && have.remote == path.remote
                && (have.local == path.local || have.local.ip().is_unspecified() || path.local.ip().is_unspecified())
        };
        self.list.iter().position(|state| same(&state.path))
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether one more path may be tried.
    pub(crate) fn has_room(&self) -> bool {
        self.list.len() < PATHS && self.list.iter().filter(|state| !state.is_full()).count() < PROBED_PATHS
    }

    /// A slot number that no path uses.
    pub(crate) fn free_slot(&self) -> Option<PathSlot> {
        (0..PATHS as u8).map(PathSlot).find(|slot| self.list.iter().all(|state| state.slot != *slot))
    }

    /// Adds a path that has to prove itself; `data` is what it must return.
    pub(crate) fn add(
        &mut self,
        path: Path,
        slot: PathSlot,
        cid: RemoteCid,
        ours: bool,
        data: [u8; 8],
        now: Instant,
    ) -> usize {
        self.list.push(PathState {
            path,
            slot,
            cid,
            proof: Proof::None,
            challenge: Some(Challenge::new(data, now)),
            received: 0,
            sent: 0,
            ours,
            left: false,
            last_received: now,
            highest: 0,
            rtt: None,
        });
        self.list.len() - 1
    }

    /// An authentic packet came over this path.
    pub(crate) fn on_received(&mut self, at: usize, bytes: usize, now: Instant) {
        let Some(state) = self.list.get_mut(at) else { return };
        state.received = state.received.saturating_add(bytes as u64);
        (state.last_received, state.left) = (now, false);
    }

    /// A path is left because it has fallen silent.
    pub(crate) fn on_left(&mut self, at: usize) {
        if let Some(state) = self.list.get_mut(at) {
            state.left = true;
        }
    }

    /// A packet with this number came over this path and did more than probe.
    pub(crate) fn on_used(&mut self, at: usize, number: u64) {
        if let Some(state) = self.list.get_mut(at) {
            state.highest = state.highest.max(number);
        }
    }

    /// The state that recovery keeps of two paths changes hands: the second is what the first has become.
    pub(crate) fn swap_slots(&mut self, a: usize, b: usize) {
        if let (Some(one), Some(other)) =
            (self.list.get(a).map(|state| state.slot), self.list.get(b).map(|state| state.slot))
        {
            self.list[a].slot = other;
            self.list[b].slot = one;
        }
    }

    /// The other side wants another id to be used for what used this one.
    pub(crate) fn replace_cid(&mut self, old: u64, new: RemoteCid) {
        self.list.iter_mut().filter(|state| state.cid.sequence == old).for_each(|state| state.cid = new);
    }

    pub(crate) fn set_first_token(&mut self, token: [u8; 16]) {
        self.list.iter_mut().filter(|state| state.cid.sequence == 0).for_each(|state| state.cid.token = Some(token));
    }

    /// Asks a proved path whether it still works.
    pub(crate) fn recheck(&mut self, at: usize, data: [u8; 8], now: Instant) {
        if let Some(state) = self.list.get_mut(at)
            && state.challenge.is_none()
        {
            state.challenge = Some(Challenge::new(data, now));
        }
    }

    /// The next challenge that is due.
    pub(crate) fn due(&self, now: Instant) -> Option<Probe> {
        self.list.iter().enumerate().find_map(|(at, state)| {
            let challenge = state.challenge.as_ref()?;
            let padded = state.proof == Proof::Address;
            let need = if padded { MIN_DATAGRAM as u64 } else { 64 };
            (challenge.next_at <= now && challenge.tries < CHALLENGES && state.allowance() >= need).then_some(Probe {
                at,
                data: challenge.data,
                padded,
            })
        })
    }

    /// A challenge left; the next one, or the end, comes after `patience`.
    pub(crate) fn on_challenge_sent(&mut self, at: usize, patience: Duration, now: Instant) {
        if let Some(challenge) = self.list.get_mut(at).and_then(|state| state.challenge.as_mut()) {
            challenge.tries += 1;
            challenge.sent_at = Some(now);
            challenge.next_at = now + patience;
        }
    }

    /// PATH_RESPONSE arrived, over whatever path: `next` is the data of a challenge that may follow.
    pub(crate) fn on_response(&mut self, data: [u8; 8], next: [u8; 8], now: Instant) -> Outcome {
        let matches = |state: &PathState| {
            state.challenge.as_ref().is_some_and(|challenge| challenge.data == data && challenge.tries > 0)
        };
        let Some(at) = self.list.iter().position(matches) else { return Outcome::Nothing };
        let Some(state) = self.list.get_mut(at) else { return Outcome::Nothing };
        let Some(challenge) = state.challenge.take() else { return Outcome::Nothing };
        if challenge.tries == 1
            && let Some(sent_at) = challenge.sent_at
        {
            state.rtt = Some(now.saturating_duration_since(sent_at));
        }
        (state.last_received, state.left) = (now, false);
        match state.proof {
            Proof::None => {
                state.proof = Proof::Address;
                state.challenge = Some(Challenge::new(next, now));
                Outcome::Nothing
            }
            Proof::Address => {
                state.proof = Proof::Full;
                Outcome::Proved(at)
            }
            Proof::Full => Outcome::Proved(at),
        }
    }

    /// Gives up one path whose challenges were all in vain, unless it is the last proved one.
    pub(crate) fn expire(&mut self, now: Instant) -> Outcome {
        let over = |state: &PathState| {
            state.challenge.as_ref().is_some_and(|challenge| {
                challenge.next_at <= now && (challenge.tries >= CHALLENGES || state.allowance() < 64)
            })
        };
        while let Some(at) = self.list.iter().position(over) {
            let others = self.list.iter().enumerate().any(|(other, state)| other != at && state.is_full());
            if !self.list[at].is_full() || others {
                return self.remove(at);
            }
            // It may come back: the session's own clock says when it is dead.
            self.list[at].challenge = None;
        }
        Outcome::Nothing
    }

    /// Takes a path out, if another proved one is left.
    pub(crate) fn remove(&mut self, at: usize) -> Outcome {
        let others = self.list.iter().enumerate().any(|(other, state)| other != at && state.is_full());
        if at >= self.list.len() || (self.list[at].is_full() && !others) {
            return Outcome::Nothing;
        }
        let gone = self.list.remove(at);
        if self.best == at {
            let full = self.list.iter().enumerate().filter(|(_, state)| state.is_full());
            self.best = full.max_by_key(|(_, state)| state.last_received).map_or(0, |(at, _)| at);
        } else if self.best > at {
            self.best -= 1;
        }
        Outcome::Lost(gone.path, gone.slot, gone.cid)
    }

    /// Uses another path from now on. Only a proved one can be.
    pub(crate) fn choose(&mut self, at: usize) -> bool {
        let can = at != self.best && self.list.get(at).is_some_and(PathState::is_full);
        if can {
            self.best = at;
        }
        can
    }

    /// Another proved path than the one in use: the one heard of last, of those that were not left in silence if there are any.
    pub(crate) fn alternative(&self) -> Option<usize> {
        let others = self.list.iter().enumerate().filter(|(at, state)| *at != self.best && state.is_full());
        others.max_by_key(|(_, state)| (!state.left, state.last_received)).map(|(at, _)| at)
    }

    /// When the next challenge is due or over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        // One that waits for bytes to pay with is not due, whatever its time: it ends one patience after its first try.
        self.list.iter().filter_map(|state| state.challenge.as_ref().map(|challenge| challenge.next_at)).min()
    }
}
