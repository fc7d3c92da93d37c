//! A controller that models the path: its bandwidth, its round trip, and who else is on it.
//!
//! The family is BBR (draft-ietf-ccwg-bbr): the rate follows the best delivery rate of the last cycles, the window
//! the bandwidth-delay product, and neither is reduced for losses as such. What differs:
//!
//! - Losses count only where they exceed what the path loses with an empty queue, and come with a queue. So random
//!   loss costs what it loses and no more, while an overflowing queue or a fallen bandwidth is answered in a round trip.
//! - While a standing queue does not go away when we stop feeding it, somebody else holds it, and the window follows
//!   [`Rival`] instead of the model.
//! - The window is cut to one half, not to four packets, to measure the round trip, every 5 s.

mod memory;
mod probe;
mod surplus;

use std::time::{Duration, Instant};

pub(super) use memory::Memory;
use probe::{DRAINED_PROBE, Probe, UNMEASURED_PROBE};
use surplus::Surplus;

use super::rate::carried;
use super::rival::{Point, Rival};
use super::{Controller, PacketInfo, Sample, Summary, initial_window, least_window, scale, window_rate};

/// What the sender is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Doubles the rate until the bandwidth stops growing.
    Startup,
    /// Gets rid of the queue that this made.
    Drain,
    /// Sends at the bandwidth.
    Cruise,
    /// Sends faster, to find more.
    Up,
    /// Gets rid of the queue that this made.
    Down,
    /// Others hold a queue: the window of [`Rival`].
    Compete,
    /// Half the window, to see the round trip without our queue.
    Probe,
}

/// The state of the model on one path.
#[derive(Debug, Clone)]
pub struct Bbr {
    mtu: u64,
    window: u64,
    /// Bytes per second; zero before the first round trip.
    rate: u64,
    phase: Phase,
    phase_rounds: u32,
    /// How many rounds to cruise.
    cruise: u32,
    last_update: Instant,
    smoothed_rtt: Duration,

    /// Bandwidth, bytes per second: the best of this cycle and of the one before.
    best: [u64; 2],
    /// Bound on it while losses say that it fell.
    low: u64,
    /// Best when the growth was last worth mentioning, and rounds since then.
    full: u64,
    stalled: u8,
    /// Rounds far below the bandwidth.
    slow: u8,
    /// The part of the packets that is lost while no queue stands.
    floor_loss: f32,

    /// The round trip without our queue, as of the last probe.
    min_rtt: Duration,
    /// The least ever.
    base_rtt: Duration,
    /// About the longest: that of a full queue if `overflows`.
    max_rtt: Duration,
    overflows: bool,
    latest: Point,

    round: Round,
    surplus: Surplus,
    probe: Probe,
    rival: Rival,
    /// The window to compete with again unless the path turns out to be ours.
    resume: u64,
    /// Rounds in a row with a queue (cruising) or without one (competing).
    odd: u8,
    /// Rounds in a row without any queue.
    calm: u8,
}

/// What one round trip gathers.
#[derive(Debug, Clone)]
struct Round {
    min_rtt: Duration,
    best: u64,
    marked: u64,
    /// Totals at its start. It is over when a packet is acknowledged that left later.
    delivered: u64,
    lost: u64,
    /// Results of the round before.
    last_min_rtt: Duration,
    last_best: u64,
}

impl Bbr {
    /// Startup from the initial window.
    #[must_use]
    pub fn new(mtu: u64, now: Instant) -> Self {
        Self {
            mtu,
            window: initial_window(mtu),
            rate: 0,
            phase: Phase::Startup,
            phase_rounds: 0,
            cruise: CRUISE_ROUNDS,
            last_update: now,
            smoothed_rtt: Duration::ZERO,
            best: [0; 2],
            low: u64::MAX,
            full: 0,
            stalled: 0,
            slow: 0,
            floor_loss: 0.0,
            min_rtt: Duration::MAX,
            base_rtt: Duration::MAX,
            max_rtt: Duration::ZERO,
            overflows: false,
            latest: NOWHERE,
            round: Round {
                min_rtt: Duration::MAX,
                best: 0,
                marked: 0,
                delivered: 0,
                lost: 0,
                last_min_rtt: Duration::MAX,
                last_best: 0,
            },
            surplus: Surplus::new(now),
            probe: Probe::new(now),
            rival: Rival::new(),
            resume: 0,
            odd: 0,
            calm: 0,
        }
    }

    // The model.

    fn bandwidth(&self) -> u64 {
        self.most().min(self.low)
    }

    fn most(&self) -> u64 {
        self.best[0].max(self.best[1])
    }

    /// The bandwidth-delay product.
    fn product(&self) -> u64 {
        if self.min_rtt == Duration::MAX { initial_window(self.mtu) } else { carried(self.bandwidth(), self.min_rtt) }
    }

    /// `above` plus a part of it, and what two packets and a busy machine add: longer round trips have a queue in them.
    fn limit(&self, above: Duration, part: u32) -> Duration {
        let packets = u128::from(self.mtu).saturating_mul(2_000_000_000) / u128::from(self.bandwidth().max(1));
        let packets = Duration::from_nanos(u64::try_from(packets).unwrap_or(u64::MAX));
        above.saturating_add((above / part).max(LEAST_QUEUE)).saturating_add(packets)
    }

    /// Whether there was a queue all through the last round.
    fn queued(&self) -> bool {
        self.round.last_min_rtt != Duration::MAX && self.round.last_min_rtt > self.limit(self.min_rtt, 5)
    }

    fn shift_best(&mut self) {
        self.best = [0, self.best[0]];
    }

    fn on_rtt(&mut self, rtt: Duration, sample: &Sample) {
        self.round.min_rtt = self.round.min_rtt.min(rtt);
        self.max_rtt = self.max_rtt.max(self.smoothed_rtt);
        if let Some(newest) = sample.newest {
            self.latest = Point { in_flight: newest.snapshot.in_flight(), rtt };
            let shortest = self.probe.after.is_none_or(|after| rtt < after.rtt);
            if matches!(self.phase, Phase::Probe | Phase::Drain) && shortest && rtt > self.limit(self.base_rtt, 16) {
                self.probe.after = Some(self.latest);
            }
        }
        self.min_rtt = self.min_rtt.min(rtt);
        self.base_rtt = self.base_rtt.min(rtt);
        if self.phase_rounds >= 1 {
            self.probe.least = self.probe.least.min(rtt);
        }
    }

    fn on_rate(&mut self, rate: u64, app_limited: bool) {
        if !app_limited || rate >= self.most() {
            self.best[0] = self.best[0].max(rate);
            self.round.best = self.round.best.max(rate);
            self.rival.on_rate(rate);
        }
    }

    // Phases.

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_rounds = 0;
        self.odd = 0;
        self.calm = 0;
        match phase {
            Phase::Up => {
                self.low = u64::MAX;
                self.full = 0;
                self.shift_best();
            }
            // Flows that share a queue must not look for more at the same time.
            Phase::Cruise => {
                let dice =
                    (self.round.delivered ^ u64::from(self.smoothed_rtt.subsec_nanos())).wrapping_mul(GOLDEN) >> 62;
                self.cruise = CRUISE_ROUNDS.saturating_add(u32::try_from(dice).unwrap_or(0));
            }
            _ => {}
        }
    }

    fn compete(&mut self, window: u64) {
        if !self.rival.is_measured() {
            self.probe.interval = UNMEASURED_PROBE;
        }
        self.low = u64::MAX;
        self.rival.start(window, self.mtu);
        self.enter(Phase::Compete);
    }

    /// A round trip is over.
    fn end_round(&mut self, sample: &Sample, summary: &Summary, app_limited: bool, now: Instant) {
        self.phase_rounds = self.phase_rounds.saturating_add(1);
        let round = &mut self.round;
        let delivered = sample.delivered.saturating_sub(round.delivered);
        let lost = sample.total_lost.saturating_sub(round.lost);
        let marked = round.marked.saturating_mul(self.mtu);
        *round = Round {
            min_rtt: Duration::MAX,
            best: 0,
            marked: 0,
            delivered: sample.delivered,
            lost: sample.total_lost,
            last_min_rtt: round.min_rtt,
            last_best: round.best,
        };
        let sent = delivered.saturating_add(lost).max(1);
        let queued = self.queued();
        let (excess, heavy) = self.weigh_losses(lost, sent, queued);
        let congested = queued && (excess || marked > sent / 10);
        // Rates that the application limits say nothing about the path, but a burst that overflows it does.
        let overflown = excess && self.phase == Phase::Startup && sent > self.product();
        if app_limited && !overflown {
            return;
        }
        let congested = congested || (app_limited && overflown);
        self.surplus.end_round();
        self.notice_fall(queued);
        match self.phase {
            Phase::Startup => self.end_startup_round(congested),
            Phase::Drain if self.phase_rounds >= 3 => self.give_up_draining(now),
            Phase::Cruise => {
                self.notice_calm();
                if congested || heavy {
                    self.low = self.round.last_best.max(scale(self.bandwidth(), 0.7));
                }
                if self.phase_rounds >= 2 {
                    self.odd = if queued { self.odd.saturating_add(1) } else { 0 };
                }
                let rested = self.smoothed_rtt.saturating_mul(self.phase_rounds) > LEAST_CRUISE;
                if self.odd >= 2 || (self.odd >= 1 && self.resume != 0) {
                    self.compete(summary.in_flight.max(self.resume));
                } else if self.phase_rounds >= self.cruise && rested {
                    self.enter(Phase::Up);
                }
            }
            Phase::Down => {
                if congested || heavy {
                    self.low = self.round.last_best.max(scale(self.bandwidth(), 0.7));
                }
                if self.phase_rounds >= 4 {
                    self.enter(Phase::Cruise);
                }
            }
            Phase::Up => {
                let grew = self.round.last_best > scale(self.full, 1.1);
                self.full = self.full.max(self.round.last_best);
                if self.phase_rounds >= 2 && (!grew || congested) {
                    self.enter(Phase::Down);
                }
            }
            Phase::Compete => {
                self.odd = if queued { 0 } else { self.odd.saturating_add(1) };
                let empty = self.round.last_min_rtt <= self.limit(self.base_rtt, 16);
                self.calm = if empty { self.calm.saturating_add(1) } else { 0 };
                let ours = self.rival.is_measured() && !self.rival.leaves_room(self.bandwidth());
                if self.calm >= 3 || (self.odd >= 4 && ours) {
                    self.resume = 0;
                    self.enter(Phase::Cruise);
                } else if self.phase_rounds.is_multiple_of(8) {
                    self.shift_best();
                }
            }
            _ => {}
        }
    }

    /// Whether the round lost more than the path does by itself, and whether it lost more than any path should.
    fn weigh_losses(&mut self, lost: u64, sent: u64, queued: bool) -> (bool, bool) {
        let rate = ratio(lost, sent);
        // Four packets: a small round proves little.
        let margin = ratio(self.mtu.saturating_mul(4), sent);
        let excess = rate > 1.5 * self.floor_loss + 0.02 + margin;
        if !queued && matches!(self.phase, Phase::Cruise | Phase::Down) && sent > self.mtu.saturating_mul(10) {
            let weight = ratio(sent, sent.saturating_add(self.mtu.saturating_mul(500))).min(0.25);
            self.floor_loss = (self.floor_loss + weight * (rate - self.floor_loss)).min(MOST_FLOOR_LOSS);
        }
        (excess, rate > HEAVY_LOSS + margin)
    }

    /// The filter holds on to its best for two cycles, which last long if the queue does: a bandwidth that fell by
    /// half or more shows earlier.
    fn notice_fall(&mut self, queued: bool) {
        let fell = self.round.last_best < self.bandwidth() / 2 && queued;
        if !fell || matches!(self.phase, Phase::Startup | Phase::Probe) {
            self.slow = 0;
            return;
        }
        self.slow = self.slow.saturating_add(1);
        if self.slow >= 3 {
            self.slow = 0;
            self.best = [self.round.last_best; 2];
            self.low = u64::MAX;
        }
    }

    /// With the pipe full, no queue in five rounds: nobody else is there.
    fn notice_calm(&mut self) {
        let rtt = self.round.last_min_rtt;
        self.calm = if rtt <= self.limit(self.min_rtt, 16) { self.calm.saturating_add(1) } else { 0 };
        if self.calm >= 5 && rtt <= self.limit(self.base_rtt, 16) {
            self.resume = 0;
            self.rival.set_alone(self.most());
        }
    }

    fn end_startup_round(&mut self, congested: bool) {
        if self.most() >= scale(self.full, 1.25) {
            self.full = self.most();
            self.stalled = 0;
        } else {
            self.stalled = self.stalled.saturating_add(1);
        }
        // One lossy round may be the end of somebody else's slow start.
        if congested {
            self.odd = self.odd.saturating_add(1);
        }
        if self.stalled >= 3 || self.odd >= 2 || (congested && self.stalled > 0) {
            self.probe.before = self.latest;
            self.probe.after = None;
            self.enter(Phase::Drain);
        }
    }

    /// The queue stays although we drain it.
    fn give_up_draining(&mut self, now: Instant) {
        self.judge();
        if self.round.last_min_rtt > self.limit(self.base_rtt, 4) {
            self.resume = scale(self.probe.before.in_flight, 0.7);
            self.compete(self.resume);
            self.probe.interval = DRAINED_PROBE;
            self.probe.last = now;
        } else {
            self.enter(Phase::Cruise);
        }
    }

    /// What may happen with any acknowledgement.
    fn advance(&mut self, sample: &Sample, summary: &Summary, now: Instant) {
        match self.phase {
            Phase::Drain | Phase::Down if summary.in_flight <= self.product() => self.enter(Phase::Cruise),
            Phase::Up => {
                let over = summary.in_flight >= scale(self.product(), 1.25);
                if self.phase_rounds >= 1 && over && self.bandwidth() <= scale(self.full, 1.1) {
                    self.enter(Phase::Down);
                }
            }
            Phase::Probe => self.hold_probe(sample, summary, now),
            Phase::Compete => {
                if let Some(newest) = sample.newest
                    && !newest.snapshot.is_app_limited()
                {
                    let time = now.saturating_duration_since(self.last_update);
                    let (rtt, queued) = (summary.smoothed_rtt, self.queued());
                    self.rival.on_acked(sample.acked, newest.sent_at, time, rtt, queued, self.mtu);
                }
            }
            _ => {}
        }
    }

    // What comes out.

    fn set_window(&mut self, acked: u64, summary: &Summary) {
        let bandwidth = self.bandwidth();
        let least = least_window(self.mtu);
        if summary.persistent {
            self.window = least;
            return;
        }
        if bandwidth == 0 || self.min_rtt == Duration::MAX {
            self.rate = scale(window_rate(self.window, summary.smoothed_rtt).unwrap_or(0), STARTUP_PACE);
            self.window = self.window.saturating_add(acked);
            return;
        }
        let (pace, gain) = match self.phase {
            Phase::Startup => (STARTUP_PACE, 2.0),
            Phase::Drain => (1.0 / STARTUP_PACE, 2.0),
            Phase::Cruise | Phase::Probe => (1.0, 1.5),
            Phase::Up => (1.25, 1.75),
            Phase::Down => (0.75, 1.5),
            Phase::Compete => {
                self.window = self.rival.window();
                self.rate = scale(window_rate(self.window, summary.smoothed_rtt).unwrap_or(0), 1.25);
                return;
            }
        };
        // One per cent below, so that the estimate does not feed itself.
        self.rate = scale(bandwidth, pace * 0.99);
        let grown = self.window.saturating_add(acked);
        let target =
            scale(self.product(), gain).saturating_add(self.surplus.most()).saturating_add(self.mtu.saturating_mul(3));
        self.window = match self.phase {
            // Half a packet for each one acknowledged: the packets between show how the round trip shrinks.
            Phase::Probe => {
                let held = self.window.min(summary.in_flight.saturating_add(acked));
                held.saturating_sub(acked / 2).max(self.probe_window())
            }
            Phase::Startup => grown.min(target.max(self.window)),
            _ => grown.min(target),
        }
        .max(least);
    }
}

impl Controller for Bbr {
    fn on_lost(&mut self, packet: &PacketInfo, now: Instant) {
        let rtt = self.smoothed_rtt;
        self.overflows |= rtt > self.max_rtt / 10 * 9;
        if self.phase == Phase::Compete {
            self.max_rtt = self.max_rtt.max(rtt);
            // Losses at a short queue are not made by it.
            if rtt >= self.min_rtt.saturating_add(self.max_rtt.saturating_sub(self.min_rtt) / 2) {
                self.rival.on_congestion(packet.sent_at, self.mtu, now);
            }
        }
    }

    fn on_round(&mut self, sample: &Sample, summary: &Summary, now: Instant) {
        self.smoothed_rtt = summary.smoothed_rtt;
        self.round.marked = self.round.marked.saturating_add(summary.newly_ce);
        if let Some(rtt) = summary.latest_rtt {
            self.on_rtt(rtt, sample);
        }
        if let Some(newest) = sample.newest {
            // With the pipe full it is the path that limits, whatever the application does next.
            let app_limited = newest.snapshot.is_app_limited() && newest.snapshot.in_flight() < self.product();
            if let Some(rate) = newest.rate {
                self.on_rate(rate, app_limited);
            }
            if summary.newly_ce > 0 && self.phase == Phase::Compete {
                self.rival.on_congestion(newest.sent_at, self.mtu, now);
            }
            self.surplus.on_acked(sample.acked, self.bandwidth(), self.window, now);
            if newest.snapshot.delivered() >= self.round.delivered {
                self.end_round(sample, summary, app_limited, now);
            }
        }
        self.advance(sample, summary, now);
        self.start_probe(sample, summary, now);
        self.last_update = now;
        self.set_window(sample.acked, summary);
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
        self.window = self.window.max(least_window(mtu));
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        (self.rate > 0).then_some(self.rate)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio(part: u64, whole: u64) -> f32 {
    part as f32 / whole.max(1) as f32
}

/// Before anything was measured.
const NOWHERE: Point = Point { in_flight: 0, rtt: Duration::MAX };
/// Doubles the rate each round trip: 4 ln 2 (draft-ietf-ccwg-bbr, section 2.4).
const STARTUP_PACE: f64 = 2.77;
/// Rounds between looking for more, plus up to three.
const CRUISE_ROUNDS: u32 = 6;
const LEAST_CRUISE: Duration = Duration::from_millis(20);
/// What a busy machine adds to a round trip.
const LEAST_QUEUE: Duration = Duration::from_micros(500);
/// A path that loses more than this by itself is not believed to.
const MOST_FLOOR_LOSS: f32 = 0.1;
/// Losses that are answered even if no queue shows: shallow buffers overflow without one.
const HEAVY_LOSS: f32 = 0.25;
/// 2^64 divided by the golden ratio: spreads what it multiplies.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
