//! What is remembered of a path while nothing is sent on it.

use std::time::{Duration, Instant};

use super::{Bbr, Phase};

/// The model of a path, as far as it is worth keeping for a time of rest: what the path carries, its round trip, and
/// what it loses by itself. Who else was there, and what was being tried out, is found out anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::congestion) struct Memory {
    window: u64,
    /// Bytes per second.
    bandwidth: u64,
    /// See [`Bbr`].
    resume: u64,
    min_rtt: Nanos,
    base_rtt: Nanos,
    max_rtt: Nanos,
    floor_loss: f32,
    overflows: bool,
    /// The bandwidth was still growing.
    starting: bool,
}

/// A [`Duration`] in half of its size: up to 584 years, and [`Duration::MAX`].
#[derive(Debug, Clone, Copy, PartialEq)]
struct Nanos(u64);

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(nanos: Nanos) -> Self {
        if nanos.0 == u64::MAX { Self::MAX } else { Self::from_nanos(nanos.0) }
    }
}

impl Memory {
    pub(in crate::congestion) const fn window(&self) -> u64 {
        self.window
    }
}

impl Bbr {
    /// What [`wake`](Self::wake) goes on from. Nothing may be in flight.
    pub(in crate::congestion) fn remember(&self) -> Memory {
        let competes =
            self.phase == Phase::Compete || (self.phase == Phase::Probe && self.probe.from == Phase::Compete);
        Memory {
            // The window of a probe is cut on purpose.
            window: if self.phase == Phase::Probe { self.window.max(self.probe.before.in_flight) } else { self.window },
            bandwidth: self.bandwidth(),
            resume: if competes { self.rival.window() } else { self.resume },
            min_rtt: self.min_rtt.into(),
            base_rtt: self.base_rtt.into(),
            max_rtt: self.max_rtt.into(),
            floor_loss: self.floor_loss,
            overflows: self.overflows,
            starting: self.phase == Phase::Startup,
        }
    }

    /// Goes on after a rest, at the bandwidth that the path had.
    pub(in crate::congestion) fn wake(memory: &Memory, mtu: u64, now: Instant) -> Self {
        let &Memory { window, bandwidth, resume, min_rtt, base_rtt, max_rtt, floor_loss, overflows, starting } = memory;
        Self {
            window,
            phase: if starting { Phase::Startup } else { Phase::Cruise },
            best: [bandwidth; 2],
            resume,
            min_rtt: min_rtt.into(),
            base_rtt: base_rtt.into(),
            max_rtt: max_rtt.into(),
            floor_loss,
            overflows,
            ..Self::new(mtu, now)
        }
    }
}
