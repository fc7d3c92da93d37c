//! Acknowledgements that come in lumps.

use std::time::Instant;

use crate::congestion::rate::carried;

/// How far acknowledgements run ahead of the bandwidth when they come in lumps.
#[derive(Debug, Clone)]
pub(super) struct Surplus {
    most: [u64; 2],
    rounds: u8,
    since: Instant,
    acked: u64,
}

impl Surplus {
    pub(super) const fn new(now: Instant) -> Self {
        Self { most: [0; 2], rounds: 0, since: now, acked: 0 }
    }

    pub(super) fn most(&self) -> u64 {
        self.most[0].max(self.most[1])
    }

    pub(super) fn on_acked(&mut self, acked: u64, bandwidth: u64, window: u64, now: Instant) {
        if self.acked <= carried(bandwidth, now.saturating_duration_since(self.since)) {
            self.since = now;
            self.acked = 0;
        }
        self.acked = self.acked.saturating_add(acked);
        let expected = carried(bandwidth, now.saturating_duration_since(self.since));
        self.most[0] = self.most[0].max(self.acked.saturating_sub(expected).min(window));
    }

    pub(super) fn end_round(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds >= 5 {
            self.rounds = 0;
            self.most = [0, self.most[0]];
        }
    }
}
