//! A controller that models the path.
use std::time::{Duration, Instant};

use super::cubic::Curve;
use super::rate::{carried, per_second};
use super::{Controller, PacketInfo, Sample, Summary, initial_window};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Up,
    ProbeRtt,
    Compete,
}

/// The state on one path.
#[derive(Debug, Clone)]
pub struct Bbr {
    mtu: u64,
    phase: Phase,
    phase_since: Instant,
    phase_rounds: u32,
    window: u64,
    rate: Option<u64>,

    /// Bandwidth: best of the current and of the previous cycle.
    best: [u64; 2],
    /// Bound while losses say that the bandwidth fell.
    low: u64,
    /// The most the path gave, over a long time.
    capacity: u64,
    capacity_at: Instant,
    min_rtt: Duration,
    min_rtt_at: Instant,

    // this round trip
    round_end: u64,
    rounds: u64,
    round_min_rtt: Duration,
    last_min_rtt: Duration,
    round_best: u64,
    last_best: u64,
    round_delivered: u64,
    round_lost: u64,
    round_ce: u64,
    /// Share of losses when no queue stands, in 2^-16.
    floor_loss: f32,

    full: u64,
    full_rounds: u8,
    cruise_rounds: u32,
    slow_rounds: u8,
    inflated: u8,

    // aggregation
    extra: [u64; 2],
    extra_rounds: u8,
    epoch: Instant,
    epoch_acked: u64,

    curve: Curve,
    compete_window: u64,
    recovery_start: Option<Instant>,
    max_rtt: Duration,
    last_update: Instant,
    smoothed_rtt: Duration,
    saved: Phase,
    probe_end: Option<Instant>,
    before_probe: (u64, Duration),
    base_rtt: Duration,
    probe_rtt: Duration,
    probe_interval: Duration,
    saved_window: u64,
    calm: u8,
    known: bool,
    point: (u64, Duration),
    after: (u64, Duration),
}

impl Bbr {
    /// Startup.
    #[must_use]
    pub fn new(mtu: u64, now: Instant) -> Self {
        Self {
            mtu,
            phase: Phase::Startup,
            phase_since: now,
            phase_rounds: 0,
            window: initial_window(mtu),
            rate: None,
            best: [0; 2],
            low: u64::MAX,
            capacity: 0,
            capacity_at: now,
            min_rtt: Duration::MAX,
            min_rtt_at: now,
            round_end: 0,
            rounds: 0,
            round_min_rtt: Duration::MAX,
            last_min_rtt: Duration::MAX,
            round_best: 0,
            last_best: 0,
            round_delivered: 0,
            round_lost: 0,
            round_ce: 0,
            floor_loss: 0.0,
            full: 0,
            full_rounds: 0,
            cruise_rounds: 8,
            slow_rounds: 0,
            inflated: 0,
            extra: [0; 2],
            extra_rounds: 0,
            epoch: now,
            epoch_acked: 0,
            curve: Curve::default(),
            compete_window: 0,
            recovery_start: None,
            max_rtt: Duration::ZERO,
            last_update: now,
            smoothed_rtt: Duration::ZERO,
            saved: Phase::Cruise,
            probe_end: None,
            before_probe: (0, Duration::ZERO),
            base_rtt: Duration::MAX,
            probe_rtt: Duration::MAX,
            probe_interval: Duration::from_secs(2),
            saved_window: 0,
            calm: 0,
            known: false,
            point: (0, Duration::MAX),
            after: (0, Duration::MAX),
        }
    }

    #[cfg(test)]
    pub(super) fn describe(&self) -> String {
        format!(
            "{:8} bw {:5.1} C {:5.1} m {:5.1} r {:5.1} base {:.0} inf {}",
            format!("{:?}", self.phase),
            self.bandwidth() as f64 * 8e-6,
            self.capacity as f64 * 8e-6,
            self.min_rtt.as_secs_f64() * 1e3,
            self.last_min_rtt.as_secs_f64() * 1e3,
            self.base_rtt.as_secs_f64() * 1e3,
            self.inflated
        )
    }

    fn max_bandwidth(&self) -> u64 {
        self.best[0].max(self.best[1])
    }

    fn bandwidth(&self) -> u64 {
        self.max_bandwidth().min(self.low)
    }

    fn bdp(&self) -> u64 {
        if self.min_rtt == Duration::MAX {
            return initial_window(self.mtu);
        }
        carried(self.bandwidth(), self.min_rtt)
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.phase_since = now;
        self.phase_rounds = 0;
        match phase {
            Phase::Up => {
                self.low = u64::MAX;
                self.full = 0;
                self.best[1] = self.best[0];
                self.best[0] = 0;
            }
            Phase::Down => {}
            Phase::Cruise => {
                self.inflated = 0;
                self.calm = 0;
                let dice = (self.round_end ^ u64::from(now.saturating_duration_since(self.epoch).subsec_nanos()))
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    >> 62;
                self.cruise_rounds = 6 + dice as u32;
            }
            _ => {}
        }
    }

    fn queue_stands(&self, rtt: Duration) -> bool {
        rtt != Duration::MAX && rtt > self.min_rtt + self.slack(self.min_rtt / 5)
    }

    fn slack(&self, part: Duration) -> Duration {
        let packet = Duration::from_secs_f64(2.0 * self.mtu as f64 / self.bandwidth().max(1) as f64);
        part.max(Duration::from_micros(500)) + packet
    }

    fn end_round(&mut self, sample: &Sample, summary: &Summary, app_limited: bool, now: Instant) {
        self.rounds += 1;
        self.phase_rounds += 1;
        self.round_end = sample.delivered;
        let delivered = sample.delivered - self.round_delivered;
        let lost = sample.total_lost - self.round_lost;
        self.round_delivered = sample.delivered;
        self.round_lost = sample.total_lost;
        self.last_min_rtt = std::mem::replace(&mut self.round_min_rtt, Duration::MAX);
        self.last_best = std::mem::take(&mut self.round_best);
        let ce = std::mem::take(&mut self.round_ce);
        let sent = (delivered + lost).max(1);
        let rate = lost as f32 / sent as f32;
        let stands = self.queue_stands(self.last_min_rtt);
        let margin = 4.0 * self.mtu as f32 / sent as f32;
        let excess = rate > 1.5 * self.floor_loss + 0.02 + margin || ce * self.mtu * 10 > sent;
        if !stands && matches!(self.phase, Phase::Cruise | Phase::Down) && sent > 10 * self.mtu {
            let weight = (sent as f32 / (sent as f32 + 500.0 * self.mtu as f32)).min(0.25);
            self.floor_loss = (self.floor_loss + weight * (rate - self.floor_loss)).min(0.15);
        }
        if app_limited {
            return;
        }
        self.extra_rounds += 1;
        if self.extra_rounds >= 5 {
            self.extra_rounds = 0;
            self.extra[1] = self.extra[0];
            self.extra[0] = 0;
        }

        // the bandwidth fell
        if self.last_best < self.bandwidth() / 2
            && stands
            && self.phase != Phase::Startup
            && self.phase != Phase::ProbeRtt
        {
            self.slow_rounds += 1;
            if self.slow_rounds >= 3 {
                self.best = [self.last_best, self.last_best];
                self.slow_rounds = 0;
                self.low = u64::MAX;
            }
        } else {
            self.slow_rounds = 0;
        }

        match self.phase {
            Phase::Startup => {
                if self.max_bandwidth() >= self.full + self.full / 4 {
                    self.full = self.max_bandwidth();
                    self.full_rounds = 0;
                } else {
                    self.full_rounds += 1;
                }
                if self.full_rounds >= 3 || (excess && stands) {
                    self.before_probe = self.point;
                    self.after = (0, Duration::MAX);
                    self.enter(Phase::Drain, now);
                }
            }
            Phase::Drain => {
                if self.phase_rounds >= 3 {
                    self.estimate();
                    if self.last_min_rtt > self.base_rtt + self.slack(self.base_rtt / 4) {
                        self.saved_window = self.before_probe.0 / 10 * 7;
                        self.compete(self.saved_window, now);
                        self.probe_interval = Duration::from_millis(1500);
                        self.min_rtt_at = now;
                    } else {
                        self.enter(Phase::Cruise, now);
                    }
                }
            }
            Phase::Cruise => {
                if self.last_min_rtt <= self.min_rtt + self.slack(self.min_rtt / 16) {
                    self.calm += 1;
                } else {
                    self.calm = 0;
                }
                if self.calm >= 5 {
                    self.saved_window = 0;
                    self.capacity = self.max_bandwidth();
                    self.known = true;
                }
                if self.phase_rounds >= 2 {
                    if stands {
                        self.inflated += 1;
                    } else {
                        self.inflated = 0;
                    }
                }
                if excess && stands {
                    self.low = self.last_best.max(self.bandwidth() / 10 * 7);
                }
                if self.inflated >= 2 || self.inflated >= 1 && self.saved_window != 0 {
                    self.compete(summary.in_flight.max(self.saved_window), now);
                } else if self.phase_rounds >= self.cruise_rounds
                    && now.saturating_duration_since(self.phase_since) > Duration::from_millis(20)
                {
                    self.enter(Phase::Up, now);
                }
            }
            Phase::Down => {
                if excess && stands {
                    self.low = self.last_best.max(self.bandwidth() / 10 * 7);
                }
                if self.phase_rounds >= 4 {
                    self.enter(Phase::Cruise, now);
                }
            }
            Phase::Up => {
                let grew = self.last_best > self.full + self.full / 10;
                self.full = self.full.max(self.last_best);
                if self.phase_rounds >= 2 && (!grew || (excess && stands)) {
                    self.enter(Phase::Down, now);
                }
            }
            Phase::Compete => {
                if self.queue_stands(self.last_min_rtt) {
                    self.inflated = 0;
                } else {
                    self.inflated += 1;
                }
                if self.last_min_rtt <= self.base_rtt + self.slack(self.base_rtt / 16) {
                    self.calm += 1;
                } else {
                    self.calm = 0;
                }
                if self.calm >= 3 || self.inflated >= 4 && self.bandwidth() >= self.capacity / 5 * 4 {
                    self.saved_window = 0;
                    self.enter(Phase::Cruise, now);
                } else if self.phase_rounds % 8 == 0 {
                    self.best[1] = self.best[0];
                    self.best[0] = 0;
                }
            }
            _ => {}
        }
    }

    fn compete(&mut self, in_flight: u64, now: Instant) {
        self.calm = 0;
        self.inflated = 0;
        if !self.known {
            self.probe_interval = Duration::from_millis(500);
        }
        self.enter(Phase::Compete, now);
        self.curve = Curve::default();
        self.compete_window = in_flight.max(4 * self.mtu);
        self.recovery_start = None;
        self.max_rtt = self.last_min_rtt;
    }

    fn each_ack(&mut self, sample: &Sample, summary: &Summary, now: Instant) {
        match self.phase {
            Phase::Drain => {
                if summary.in_flight <= self.bdp() {
                    self.enter(Phase::Cruise, now);
                }
            }
            Phase::Down => {
                if summary.in_flight <= self.bdp() {
                    self.enter(Phase::Cruise, now);
                }
            }
            Phase::Up => {
                let over = summary.in_flight >= self.bdp() + self.bdp() / 4;
                if self.phase_rounds >= 1 && over && self.bandwidth() <= self.full + self.full / 10 {
                    self.enter(Phase::Down, now);
                }
            }
            Phase::ProbeRtt => {
                if self.probe_end.is_none() && summary.in_flight <= self.probe_window() {
                    self.probe_end = Some(now + Duration::from_millis(200));
                    self.phase_rounds = 0;
                }
                if self.phase_rounds >= 1 && self.probe_end.is_some_and(|end| now >= end) {
                    self.min_rtt_at = now;
                    self.estimate();
                    self.min_rtt = self.probe_rtt;
                    self.probe_interval = Duration::from_secs(5);
                    if self.saved == Phase::Compete
                        && (self.probe_rtt > self.base_rtt + self.slack(self.base_rtt / 8)
                            || self.known && self.bandwidth() < self.capacity / 5 * 4)
                    {
                        self.enter(Phase::Compete, now);
                        self.calm = 0;
                        self.inflated = 0;
                    } else {
                        self.saved_window = if self.saved == Phase::Compete { self.compete_window } else { 0 };
                        self.enter(Phase::Cruise, now);
                    }
                }
            }
            Phase::Compete => {
                let newest = match sample.newest {
                    Some(n) => n,
                    None => return,
                };
                if self.recovery_start.is_none_or(|s| newest.sent_at > s) && !newest.snapshot.is_app_limited() {
                    let dt = now.saturating_duration_since(self.last_update).min(summary.smoothed_rtt);
                    let half = carried(self.capacity / 100 * 55, summary.smoothed_rtt);
                    let gap = half.abs_diff(self.compete_window);
                    let step = (gap as f64 * dt.as_secs_f64() / 2.0) as u64;
                    if self.known && self.compete_window > half + half / 10 {
                        if self.queue_stands(self.last_min_rtt) {
                            self.compete_window -= step;
                        } else {
                            self.compete_window += sample.acked / 64;
                        }
                    } else {
                        self.compete_window =
                            self.curve.grow(self.compete_window, self.mtu, sample.acked, dt, summary.smoothed_rtt);
                        if self.known && self.compete_window < half {
                            self.compete_window += step;
                        }
                    }
                }
            }
            _ => {}
        }
        if self.phase != Phase::ProbeRtt
            && self.phase != Phase::Startup
            && now.saturating_duration_since(self.min_rtt_at) > self.probe_interval
        {
            self.saved = self.phase;
            self.before_probe = self.point;
            self.after = (0, Duration::MAX);
            self.enter(Phase::ProbeRtt, now);
            self.probe_end = None;
            self.probe_rtt = Duration::MAX;
        }
    }

    fn estimate(&mut self) {
        let (before, was) = self.before_probe;
        let (after, is) = self.after;
        if is == Duration::MAX || was == Duration::MAX || was < is + self.base_rtt / 16 || after + before / 8 >= before
        {
            return;
        }
        if let Some(estimate) = per_second(before - after, was - is) {
            let estimate = estimate.min(6 * self.max_bandwidth());
            let blend = if self.known { self.capacity / 2 + estimate / 2 } else { estimate };
            self.capacity = blend.max(self.max_bandwidth());
            self.known = true;
        }
    }

    fn probe_window(&self) -> u64 {
        (self.bdp() / 2).max(self.before_probe.0 / 2).max(4 * self.mtu)
    }

    fn control(&mut self, summary: &Summary, acked: u64) {
        let bandwidth = self.bandwidth();
        let (pace, gain) = match self.phase {
            Phase::Startup => (2.77, 2.0),
            Phase::Drain => (0.36, 2.0),
            Phase::Down => (0.75, 1.5),
            Phase::Cruise => (1.0, 1.5),
            Phase::Up => (1.25, 1.75),
            Phase::ProbeRtt => (1.0, 0.5),
            Phase::Compete => (1.25, 1.0),
        };
        if bandwidth == 0 || self.min_rtt == Duration::MAX && self.phase != Phase::ProbeRtt {
            self.rate = per_second(self.window, summary.smoothed_rtt).map(|r| (r as f64 * 2.77) as u64);
            self.window += acked;
            return;
        }
        let least = 4 * self.mtu;
        if self.phase == Phase::Compete {
            self.window = self.compete_window.max(least);
            self.rate = per_second(self.window, summary.smoothed_rtt).map(|r| r + r / 4);
            return;
        }
        self.rate = Some((bandwidth as f64 * pace * 0.99) as u64);
        if self.phase == Phase::ProbeRtt {
            self.window = self
                .window
                .min(summary.in_flight + acked)
                .saturating_sub(acked / 2)
                .max(self.probe_window())
                .max(least);
            return;
        }
        let extra = self.extra[0].max(self.extra[1]);
        let target = (self.bdp() as f64 * gain) as u64 + extra + 3 * self.mtu;
        if self.phase == Phase::Startup {
            let rate = (bandwidth as f64 * pace) as u64;
            self.rate = Some(self.rate.unwrap_or(0).max(rate));
            self.window = (self.window + acked).min(target.max(self.window));
        } else {
            self.window = (self.window + acked).min(target);
        }
        self.window = self.window.max(least);
    }

    fn aggregation(&mut self, acked: u64, now: Instant) {
        let expected = carried(self.bandwidth(), now.saturating_duration_since(self.epoch));
        if self.epoch_acked <= expected {
            self.epoch = now;
            self.epoch_acked = 0;
        }
        self.epoch_acked += acked;
        let expected = carried(self.bandwidth(), now.saturating_duration_since(self.epoch));
        let extra = self.epoch_acked.saturating_sub(expected).min(self.window);
        self.extra[0] = self.extra[0].max(extra);
    }
}

impl Controller for Bbr {
    fn on_lost(&mut self, packet: &PacketInfo, now: Instant) {
        if self.phase == Phase::Compete && self.recovery_start.is_none_or(|s| packet.sent_at > s) {
            let rtt = self.smoothed_rtt;
            self.max_rtt = self.max_rtt.max(rtt);
            if rtt >= self.min_rtt + (self.max_rtt.saturating_sub(self.min_rtt)) / 2 {
                self.recovery_start = Some(now);
                self.compete_window = self.curve.reduce(self.compete_window, self.mtu).max(4 * self.mtu);
            }
        }
    }

    fn on_round(&mut self, sample: &Sample, summary: &Summary, now: Instant) {
        self.smoothed_rtt = summary.smoothed_rtt;
        self.round_ce += summary.newly_ce;
        if let Some(rtt) = summary.latest_rtt {
            self.round_min_rtt = self.round_min_rtt.min(rtt);
            self.max_rtt = self.max_rtt.max(summary.smoothed_rtt);
            if let Some(newest) = sample.newest {
                self.point = (newest.snapshot.in_flight(), rtt);
                if matches!(self.phase, Phase::ProbeRtt | Phase::Drain)
                    && rtt < self.after.1
                    && rtt > self.base_rtt + self.slack(self.base_rtt / 16)
                {
                    self.after = self.point;
                }
            }
            if self.min_rtt == Duration::MAX {
                self.min_rtt_at = now;
            }
            self.min_rtt = self.min_rtt.min(rtt);
            self.base_rtt = self.base_rtt.min(rtt);
            if self.phase_rounds >= 1 {
                self.probe_rtt = self.probe_rtt.min(rtt);
            }
        }
        if let Some(newest) = sample.newest {
            let app_limited = newest.snapshot.is_app_limited();
            if let Some(rate) = newest.rate {
                if !app_limited || rate >= self.max_bandwidth() {
                    self.best[0] = self.best[0].max(rate);
                    self.round_best = self.round_best.max(rate);
                    if rate >= self.capacity
                        || now.saturating_duration_since(self.capacity_at) > Duration::from_secs(30)
                    {
                        self.capacity = rate;
                        self.capacity_at = now;
                    }
                }
            }
            self.aggregation(sample.acked, now);
            if newest.snapshot.delivered() >= self.round_end {
                self.end_round(sample, summary, app_limited, now);
            }
        }
        self.each_ack(sample, summary, now);
        self.last_update = now;
        self.control(summary, sample.acked);
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        self.rate
    }
}
