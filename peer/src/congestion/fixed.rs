//! A window that never changes, for tests and for links whose capacity is known.

use std::time::Instant;

use super::{Controller, PacketInfo, Sample, Summary};

/// Holds the window where it was put and does not pace.
#[derive(Debug, Clone)]
pub struct Fixed {
    window: u64,
}

impl Fixed {
    /// A window of so many bytes.
    #[must_use]
    pub const fn new(window: u64) -> Self {
        Self { window }
    }
}

impl Controller for Fixed {
    fn on_lost(&mut self, _packet: &PacketInfo, _now: Instant) {}

    fn on_round(&mut self, _sample: &Sample, _summary: &Summary, _now: Instant) {}

    fn on_mtu(&mut self, _mtu: u64) {}

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }
}
