//! The probe of the round trip: with half the window, what is left of it is not our queue.

use std::time::{Duration, Instant};

use super::{Bbr, NOWHERE, Phase};
use crate::congestion::rate::per_second;
use crate::congestion::rival::{Point, Verdict};
use crate::congestion::{Sample, Summary, least_window};

/// The probe of the round trip.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) last: Instant,
    pub(super) interval: Duration,
    /// What it interrupted.
    pub(super) from: Phase,
    pub(super) before: Point,
    /// There was a long queue all through the round before it.
    pub(super) from_queue: bool,
    /// The shortest round trip so far that still had a queue in it.
    pub(super) after: Option<Point>,
    /// The shortest round trip so far.
    pub(super) least: Duration,
    /// The window has been small enough since, and stays so until then.
    pub(super) hold: Option<Instant>,
}

impl Probe {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            last: now,
            interval: FIRST_PROBE,
            from: Phase::Cruise,
            before: NOWHERE,
            from_queue: false,
            after: None,
            least: Duration::MAX,
            hold: None,
        }
    }
}

impl Bbr {
    pub(super) fn start_probe(&mut self, sample: &Sample, summary: &Summary, now: Instant) {
        let interval = self.probe.interval.max(summary.smoothed_rtt.saturating_mul(2));
        if matches!(self.phase, Phase::Probe | Phase::Startup)
            || now.saturating_duration_since(self.probe.last) < interval
        {
            return;
        }
        let half = self.product() / 2;
        let app_limited = sample.newest.is_some_and(|newest| newest.snapshot.is_app_limited());
        // What was in flight before a pause has left the queue, and this is the first that left after it.
        let paused = sample.newest.is_some_and(|newest| {
            let pause = newest.sent_at.saturating_duration_since(self.last_update);
            pause >= PROBE_HOLD && newest.snapshot.in_flight() <= half
        });
        if (paused || (app_limited && summary.in_flight <= half)) && self.phase != Phase::Compete {
            // The application has made room for it already.
            self.probe.last = now;
            self.min_rtt = self.round.min_rtt.min(self.round.last_min_rtt).min(self.latest.rtt);
            return;
        }
        self.probe = Probe {
            last: self.probe.last,
            interval: self.probe.interval,
            from: self.phase,
            before: self.latest,
            from_queue: self.round.last_min_rtt.min(self.latest.rtt) > self.limit(self.base_rtt, 4),
            after: None,
            least: Duration::MAX,
            hold: None,
        };
        self.enter(Phase::Probe);
    }

    /// Half of what was in flight, or of the model; never so much that there is nothing to see.
    pub(super) fn probe_window(&self) -> u64 {
        let before = self.probe.before.in_flight;
        (self.product() / 2).min(before / 4 * 3).max(before / 2).max(least_window(self.mtu))
    }

    /// Waits for the window to be small for 200 ms and a round trip.
    pub(super) fn hold_probe(&mut self, sample: &Sample, summary: &Summary, now: Instant) {
        match self.probe.hold {
            None if summary.in_flight <= self.probe_window() => {
                self.probe.hold = Some(now + PROBE_HOLD);
                self.phase_rounds = 0;
                self.round.delivered = sample.delivered;
                self.round.lost = sample.total_lost;
            }
            Some(end) if self.phase_rounds >= 1 && now >= end => self.end_probe(now),
            _ => {}
        }
    }

    fn end_probe(&mut self, now: Instant) {
        self.probe.last = now;
        self.probe.interval = PROBE;
        let verdict = self.judge();
        if self.probe.least != Duration::MAX {
            self.min_rtt = self.probe.least;
        }
        self.shift_best();
        self.max_rtt = self.max_rtt.saturating_sub(self.max_rtt / 32);

        let stays = self.probe.from_queue && self.min_rtt > self.limit(self.base_rtt, 4);
        let Point { in_flight, rtt } = self.probe.before;
        let ours = per_second(in_flight, rtt).unwrap_or(0);
        let competing = self.probe.from == Phase::Compete;
        let room = self.rival.is_measured() && self.rival.leaves_room(self.bandwidth());
        if verdict == Verdict::Unseen && stays && ours > self.rival.capacity() / 4 {
            // Half of ours is not noticeable in a long queue, so ours is an eighth of it at most.
            let window = if self.rival.take_reduced() {
                self.rival.window().max(in_flight)
            } else {
                in_flight.saturating_mul(3)
            };
            self.compete(window);
            self.probe.interval = UNSEEN_PROBE;
        } else if !competing && verdict != Verdict::Unseen && room {
            let interval = self.probe.interval;
            self.compete(in_flight);
            self.probe.interval = interval;
        } else if competing && (room || self.min_rtt > self.limit(self.base_rtt, 8)) {
            self.enter(Phase::Compete);
        } else {
            self.resume = if competing { self.rival.window() } else { 0 };
            self.enter(Phase::Cruise);
        }
    }

    /// Measures what the link carries from what the probe changed.
    pub(super) fn judge(&mut self) -> Verdict {
        let full = self.overflows && self.probe.before.rtt > self.max_rtt / 100 * 93;
        let verdict = self.rival.judge(self.probe.before, self.probe.after, self.base_rtt, full);
        match verdict {
            Verdict::Unclear | Verdict::Shared { agrees: false } => self.probe.interval = DOUBTFUL_PROBE,
            Verdict::Alone => {
                self.best = [self.rival.capacity(); 2];
                self.probe.from = Phase::Cruise;
                // Each probe halves the queue that is left.
                if self.probe.least > self.limit(self.base_rtt, 4) {
                    self.probe.interval = UNSEEN_PROBE;
                }
            }
            Verdict::Unseen | Verdict::Shared { agrees: true } => {}
        }
        verdict
    }
}

/// Between probes of the round trip; a fifth of a second at half the rate costs 2 %.
const PROBE: Duration = Duration::from_secs(5);
/// The first, since the path may have been in use when we started.
const FIRST_PROBE: Duration = Duration::from_secs(2);
/// After a drain that failed.
pub(super) const DRAINED_PROBE: Duration = Duration::from_millis(1_500);
/// After a measurement that contradicts the one before.
const DOUBTFUL_PROBE: Duration = Duration::from_secs(1);
/// While competing without any measurement.
pub(super) const UNMEASURED_PROBE: Duration = Duration::from_millis(500);
/// While the window must change by far.
const UNSEEN_PROBE: Duration = Duration::from_millis(300);
/// How long the window stays small (draft-ietf-ccwg-bbr, section 2.5).
const PROBE_HOLD: Duration = Duration::from_millis(200);
