//! Peers that are dialled while nobody is connected.

use std::time::{Duration, Instant};

/// The first and the longest pause between two dials of the seeds while nobody is connected.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// Seeds of one node. Further ones are ignored.
const MOST: usize = 256;

/// The seeds of one wire, of whatever it is dialled by, and when to dial them next.
#[derive(Debug)]
pub(crate) struct Seeds<T> {
    targets: Vec<T>,
    next: Option<Instant>,
    pause: Duration,
    /// 0 to 63 parts of 256 by which this node waits longer than others, so that those who lost the same seed at the
    /// same moment do not all come back at once.
    lag: u32,
}

impl<T: PartialEq> Seeds<T> {
    /// `byte` is any byte that differs from node to node. The first dial is due at once.
    pub(crate) fn new(targets: Vec<T>, byte: u8, now: Instant) -> Self {
        let [pause, _] = PAUSE;
        let next = (!targets.is_empty()).then_some(now);
        Self { targets, next, pause, lag: u32::from(byte / 4) }
    }

    /// Adds one that the caller has just dialled: it is dialled again after the first pause.
    pub(crate) fn add(&mut self, target: T, now: Instant) {
        if self.targets.len() < MOST && !self.targets.contains(&target) {
            self.targets.push(target);
        }
        let [pause, _] = PAUSE;
        (self.next, self.pause) = (now.checked_add(pause), pause);
    }

    /// When [`due`](Self::due) wants to be asked again.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The peers to dial now, given whether anybody is connected.
    pub(crate) fn due(&mut self, connected: bool, now: Instant) -> &[T] {
        if self.targets.is_empty() {
            return &[];
        }
        let [first, longest] = PAUSE;
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
        let addrs = vec![std::net::SocketAddr::from(([127, 0, 0, 1], 9))];
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
        assert!(Seeds::<u8>::new(Vec::new(), 0, start).due(false, start).is_empty());
    }
}
