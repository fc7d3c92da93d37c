//! Peers that are dialled while nobody is connected.

use std::time::{Duration, Instant};

use super::limits::{SEED_PAUSE, SEEDS};
use super::target::DialTarget;

/// The seeds and when to dial them next.
#[derive(Debug)]
pub(crate) struct Seeds {
    targets: Vec<DialTarget>,
    next: Option<Instant>,
    pause: Duration,
    /// 0 to 63 parts of 256 by which this node waits longer than others, so that those who lost the same seed at the
    /// same moment do not all come back at once.
    lag: u32,
}

impl Seeds {
    /// `byte` is any byte that differs from node to node. The first dial is due at once.
    pub(crate) fn new(targets: Vec<DialTarget>, byte: u8, now: Instant) -> Self {
        let [pause, _] = SEED_PAUSE;
        let next = (!targets.is_empty()).then_some(now);
        Self { targets, next, pause, lag: u32::from(byte / 4) }
    }

    /// Adds one, to be dialled now even if others are connected: it is an invitation.
    pub(crate) fn add(&mut self, target: DialTarget, now: Instant) {
        if self.targets.len() < SEEDS && !self.targets.contains(&target) {
            self.targets.push(target);
        }
        let [pause, _] = SEED_PAUSE;
        (self.next, self.pause) = (Some(now), pause);
    }

    /// When [`due`](Self::due) wants to be asked again.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The peers to dial now, given whether anybody is connected.
    pub(crate) fn due(&mut self, connected: bool, now: Instant) -> &[DialTarget] {
        if self.targets.is_empty() {
            return &[];
        }
        let [first, longest] = SEED_PAUSE;
        if connected {
            // The pause starts over when the last peer leaves.
            (self.next, self.pause) = (None, first);
            return &[];
        }
        match self.next {
            None => {
                self.next = now.checked_add(first);
                &[]
            }
            Some(next) if next <= now => {
                self.next = now.checked_add(self.pause + self.pause * self.lag / 256);
                self.pause = (self.pause * 2).min(longest);
                &self.targets
            }
            Some(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    fn the_pause_doubles_until_somebody_is_there() {
        let start = Instant::now();
        let addrs = vec![DialTarget::from(([127, 0, 0, 1], 9))];
        let mut seeds = Seeds::new(addrs.clone(), 0, start);
        let mut dials = Vec::new();
        for second in 0..200 {
            if !seeds.due(false, start + Duration::from_secs(second)).is_empty() {
                dials.push(second);
            }
        }
        assert_eq!(dials, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        let later = start + Duration::from_secs(300);
        assert!(seeds.due(true, later).is_empty() && seeds.deadline().is_none());
        assert!(seeds.due(false, later).is_empty(), "a second to come back");
        assert_eq!(seeds.deadline(), Some(later + Duration::from_secs(1)));
        assert_eq!(seeds.due(false, later + Duration::from_secs(1)), addrs);
        assert!(Seeds::new(Vec::new(), 0, start).due(false, start).is_empty());
    }
}
