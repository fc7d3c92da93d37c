//! Sharing a bottleneck with flows that fill its queue.
//!
//! A sender that keeps queues short starves beside CUBIC, one that ignores the queue starves CUBIC. So while others
//! hold a queue the window follows CUBIC's curve, with two differences: only losses at a long queue count as
//! congestion, and the window is drawn towards a share of what the link carries.
//!
//! What the link carries is measured. When the window is cut on purpose (the probe of the round trip, every few
//! seconds) the others do not notice: the queue shrinks by exactly what is missing, so
//! `capacity = bytes withheld / round trip gained`. If that is our own rate, the queue was ours alone; if nothing is
//! gained while the queue is long, our part of it is tiny.

use std::time::{Duration, Instant};

use super::cubic::Curve;
use super::rate::{carried, per_second};
use super::{least_window, scale};

/// A packet that was acknowledged: what was in flight when it left, and its round trip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) in_flight: u64,
    pub(super) rtt: Duration,
}

/// What cutting the window told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The round trip did not change enough to tell.
    Unseen,
    /// It changed by more than we can have caused: somebody else made room at the same time.
    Unclear,
    /// The queue was ours.
    Alone,
    /// The queue is shared, and the capacity is known now.
    Shared {
        /// The measurement before said about the same.
        agrees: bool,
    },
}

/// The window against rivals, and what is known about them.
#[derive(Debug, Clone)]
pub(super) struct Rival {
    /// What the link carries for all, in bytes per second: at least what it ever carried for us.
    capacity: u64,
    measured: bool,
    /// The part of it that is aimed at. Congestion lowers it, so that many flows can agree.
    share: f32,
    window: u64,
    curve: Curve,
    recovery_start: Option<Instant>,
    /// Congestion was met since the last probe.
    reduced: bool,
}

impl Rival {
    pub(super) fn new() -> Self {
        Self {
            capacity: 0,
            measured: false,
            share: MOST_SHARE,
            window: 0,
            curve: Curve::default(),
            recovery_start: None,
            reduced: false,
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    pub(super) fn is_measured(&self) -> bool {
        self.measured
    }

    /// Whether `rate` leaves a good part of the link to others.
    pub(super) fn leaves_room(&self, rate: u64) -> bool {
        rate < scale(self.capacity, 0.8)
    }

    /// The link carried that much for us.
    pub(super) fn on_rate(&mut self, rate: u64) {
        self.capacity = self.capacity.max(rate);
    }

    /// The link is ours: it carries `rate` and no more.
    pub(super) fn set_alone(&mut self, rate: u64) {
        self.capacity = rate;
        self.measured = true;
    }

    /// Starts (again) from `window`.
    pub(super) fn start(&mut self, window: u64, mtu: u64) {
        self.window = window.max(least_window(mtu));
        self.curve = Curve::default();
        self.recovery_start = None;
    }

    /// Whether congestion was met since the last call.
    pub(super) fn take_reduced(&mut self) -> bool {
        std::mem::take(&mut self.reduced)
    }

    /// The network dropped or marked a packet at a long queue. Acts once per round trip.
    pub(super) fn on_congestion(&mut self, sent_at: Instant, mtu: u64, now: Instant) {
        if !self.is_new(sent_at) {
            return;
        }
        self.recovery_start = Some(now);
        self.reduced = true;
        self.share = (self.share * 0.9).max(LEAST_SHARE);
        self.window = self.curve.reduce(self.window, mtu).max(least_window(mtu));
    }

    /// Bytes were acknowledged, the newest of them sent at `sent_at`, `time` after the last call.
    pub(super) fn on_acked(
        &mut self,
        acked: u64,
        sent_at: Instant,
        time: Duration,
        rtt: Duration,
        queued: bool,
        mtu: u64,
    ) {
        if !self.is_new(sent_at) {
            return;
        }
        let time = time.min(rtt);
        self.share = (self.share + time.as_secs_f32() * SHARE_PER_SECOND).min(MOST_SHARE);
        let aim = scale(carried(self.capacity, rtt), f64::from(self.share));
        // Two seconds to get there, and at most a quarter more in a round trip.
        let step = scale(aim.abs_diff(self.window), time.as_secs_f64() / 2.0).min(acked / 4);
        if self.measured && self.window > aim + aim / 16 {
            // Gives way only as long as somebody else uses what is given.
            if queued {
                self.window = self.window.saturating_sub(step).max(least_window(mtu));
            } else {
                self.window = self.window.saturating_add(acked / 64);
            }
            return;
        }
        self.window = self.curve.grow(self.window, mtu, acked, time, rtt);
        if self.measured && self.window < aim {
            self.window = self.window.saturating_add(step);
        }
    }

    /// Draws conclusions from a cut of the window: `before` it and `after` it. `floor` is the round trip of the
    /// empty path, `full` says that the queue was about to overflow.
    pub(super) fn judge(&mut self, before: Point, after: Option<Point>, floor: Duration, full: bool) -> Verdict {
        let Some(after) = after else { return Verdict::Unseen };
        let gained = before.rtt.saturating_sub(after.rtt);
        let withheld = before.in_flight.saturating_sub(after.in_flight);
        if gained < floor / 16 || withheld <= before.in_flight / 8 {
            return Verdict::Unseen;
        }
        let (Some(found), Some(ours)) = (per_second(withheld, gained), per_second(before.in_flight, before.rtt)) else {
            return Verdict::Unseen;
        };
        // No link carries less than it carries for us; and at a full queue others are about to lose packets and to
        // give way, which looks as if the queue had been ours.
        if found < scale(ours, 0.88) || (full && found >= scale(ours, 1.15) && found < scale(ours, 1.7)) {
            return Verdict::Unclear;
        }
        if found < scale(ours, 1.15) {
            self.set_alone(ours);
            return Verdict::Alone;
        }
        let bound = ours.saturating_mul(10);
        let agrees =
            self.measured && found < bound && found < scale(self.capacity, 1.5) && self.capacity < scale(found, 1.5);
        let found = found.min(bound);
        // Measurements err downwards, when others give way meanwhile, rather than upwards.
        let blended = if self.measured && found < self.capacity.saturating_mul(2) {
            self.capacity / 2 + found / 2
        } else {
            found
        };
        self.capacity = blended.max(ours);
        self.measured = true;
        Verdict::Shared { agrees }
    }

    fn is_new(&self, sent_at: Instant) -> bool {
        self.recovery_start.is_none_or(|start| sent_at > start)
    }
}

/// Half the link, and what the pacing loses.
const MOST_SHARE: f32 = 0.52;
const LEAST_SHARE: f32 = 0.02;
/// A reduction every four seconds or so, as against one CUBIC flow, leaves the share where it is.
const SHARE_PER_SECOND: f32 = 0.025;

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn point(in_flight: u64, rtt: u64) -> Point {
        Point { in_flight, rtt: ms(rtt) }
    }

    /// A link of 10 MB/s on which we have 500,000 of 1,000,000 bytes: 100 ms. We withhold half of ours.
    fn judge(rival: &mut Rival, after: u64) -> Verdict {
        rival.judge(point(500_000, 100), Some(point(250_000, after)), FLOOR, false)
    }

    #[test]
    fn the_capacity_is_what_was_withheld_over_what_was_gained() {
        let mut rival = Rival::new();
        assert_eq!(judge(&mut rival, 75), Verdict::Shared { agrees: false });
        assert_eq!((rival.capacity(), rival.is_measured()), (10_000_000, true));
        assert!(rival.leaves_room(5_000_000) && !rival.leaves_room(9_000_000));
        assert_eq!(judge(&mut rival, 75), Verdict::Shared { agrees: true });
    }

    #[test]
    fn a_queue_that_halves_with_our_window_was_ours() {
        let mut rival = Rival::new();
        assert_eq!(judge(&mut rival, 50), Verdict::Alone);
        assert_eq!(rival.capacity(), 5_000_000);
    }

    #[test]
    fn what_does_not_add_up_changes_nothing() {
        let mut rival = Rival::new();
        assert_eq!(rival.judge(point(500_000, 100), None, FLOOR, false), Verdict::Unseen);
        assert_eq!(judge(&mut rival, 98), Verdict::Unseen, "too little gained");
        assert_eq!(rival.judge(point(500_000, 100), Some(point(480_000, 60)), FLOOR, false), Verdict::Unseen);
        assert_eq!(judge(&mut rival, 30), Verdict::Unclear, "somebody else gave way");
        let full = rival.judge(point(500_000, 100), Some(point(250_000, 62)), FLOOR, true);
        assert_eq!(full, Verdict::Unclear, "at a full queue others are about to");
        assert!(!rival.is_measured());
    }

    #[test]
    fn a_measurement_is_bounded_and_blended() {
        let mut rival = Rival::new();
        let tiny = rival.judge(point(50_000, 100), Some(point(25_000, 96)), ms(50), false);
        assert_eq!(tiny, Verdict::Shared { agrees: false });
        assert_eq!(rival.capacity(), 5_000_000, "at most ten times ours");
        judge(&mut rival, 75);
        assert_eq!(rival.capacity(), 10_000_000, "far more: taken as it is");
        judge(&mut rival, 68);
        assert!((8_000_000..9_500_000).contains(&rival.capacity()), "less: half the way");
    }

    #[test]
    fn the_window_goes_to_its_share_and_gives_way_above_it() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let sent_at = Instant::now();
        let rtt = ms(100);
        let run = |mut rival: Rival, queued: bool| {
            for _ in 0..80 {
                let acked = rival.window();
                rival.on_acked(acked, sent_at, rtt, rtt, queued, 1_000);
            }
            rival.window()
        };
        let mut rival = Rival::new();
        judge(&mut rival, 75);
        rival.start(100_000, 1_000);
        assert!((450_000..600_000).contains(&run(rival.clone(), true)));
        rival.start(900_000, 1_000);
        assert!((500_000..600_000).contains(&run(rival.clone(), true)));
        assert!(run(rival, false) > 900_000, "nobody takes what we would give");
    }

    #[test]
    fn congestion_counts_once_per_round_trip_and_lowers_the_aim() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let mut rival = Rival::new();
        rival.start(100_000, 1_000);
        rival.on_congestion(start, 1_000, start + ms(100));
        rival.on_congestion(start + ms(50), 1_000, start + ms(150));
        assert_eq!(rival.window(), 70_000);
        assert!(rival.share < MOST_SHARE && rival.take_reduced() && !rival.take_reduced());
        for round in 0..1_000 {
            rival.on_congestion(start + ms(200 + round * 100), 1_000, start + ms(250 + round * 100));
        }
        assert_eq!(rival.window(), 4_000, "never nothing");
    }
}
