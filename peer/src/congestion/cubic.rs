//! CUBIC (RFC 9438) with HyStart++ (RFC 9406): grows until packets are lost, then gives up three tenths.

use std::time::{Duration, Instant};

use super::{Controller, PacketInfo, Sample, Summary, initial_window, window_rate};

/// The state of CUBIC on one path.
#[derive(Debug, Clone)]
pub struct Cubic {
    mtu: u64,
    window: u64,
    threshold: u64,
    /// What was sent before this answers for the last reduction already.
    recovery_start: Option<Instant>,
    start: SlowStart,
    curve: Curve,
    /// What a spurious reduction gives back.
    undo: Option<Undo>,
    last_update: Instant,
    smoothed_rtt: Duration,
    round_end: u64,
}

/// RFC 9406: leaves slow start when the round trip grows, not when the queue overflows.
#[derive(Debug, Clone, Default)]
struct SlowStart {
    last_round: Option<Duration>,
    this_round: Option<Duration>,
    samples: u8,
    /// The round trip at which conservative slow start began.
    baseline: Option<Duration>,
    rounds: u8,
}

/// The cubic function, in segments and seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Curve {
    running: bool,
    /// The window before the last reduction.
    top: f64,
    /// Seconds from the reduction until `top` is reached again.
    k: f64,
    /// Seconds the path was in use since the reduction.
    elapsed: f64,
    /// The window at the last reduction, before it.
    prior: f64,
    /// What Reno would have by now (RFC 9438 4.3).
    reno: f64,
}

#[derive(Debug, Clone)]
struct Undo {
    window: u64,
    threshold: u64,
    curve: Curve,
    /// Bytes whose loss is not refuted yet.
    outstanding: u64,
}

impl Cubic {
    /// Slow start from the initial window.
    #[must_use]
    pub fn new(mtu: u64, now: Instant) -> Self {
        Self {
            mtu,
            window: initial_window(mtu),
            threshold: u64::MAX,
            recovery_start: None,
            start: SlowStart::default(),
            curve: Curve::default(),
            undo: None,
            last_update: now,
            smoothed_rtt: Duration::ZERO,
            round_end: 0,
        }
    }

    /// Goes on after a time without sending: from the initial window, and in slow start to three quarters of what the
    /// window was (RFC 5681, section 4.1; RFC 7661, section 4.3).
    pub(super) fn wake(window: u64, threshold: u64, mtu: u64, now: Instant) -> Self {
        let fresh = Self::new(mtu, now);
        // Nothing was lost yet: there is no bound but the path's.
        let threshold = if threshold == u64::MAX { threshold } else { threshold.max(window / 4 * 3) };
        Self { window: window.min(fresh.window), threshold, ..fresh }
    }

    /// The window from which slow start is over.
    pub(super) const fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Reduces the window once per round trip, whatever the number of losses or marks.
    pub(super) fn on_congestion(&mut self, sent_at: Instant, now: Instant) {
        if !self.is_new(sent_at) {
            return;
        }
        self.undo =
            Some(Undo { window: self.window, threshold: self.threshold, curve: self.curve.clone(), outstanding: 0 });
        self.recovery_start = Some(now);
        self.window = self.curve.reduce(self.window, self.mtu).max(self.least());
        self.threshold = self.window;
        self.start = SlowStart::default();
    }

    fn is_new(&self, sent_at: Instant) -> bool {
        self.recovery_start.is_none_or(|start| sent_at > start)
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn slow_start(&mut self, acked: u64) {
        let grown = if self.start.baseline.is_some() { acked / CSS_DIVISOR } else { acked };
        self.window = self.window.saturating_add(grown);
    }

    /// HyStart++: a round whose least round trip is clearly above the one before starts conservative slow start; if
    /// that lasts five rounds, slow start is over.
    fn watch_delay(&mut self, sample: &Sample, rtt: Option<Duration>) {
        let Some(newest) = sample.newest else { return };
        if newest.snapshot.delivered() >= self.round_end {
            self.round_end = sample.delivered;
            self.start.last_round = self.start.this_round.take();
            self.start.samples = 0;
            if self.start.baseline.is_some() {
                self.start.rounds = self.start.rounds.saturating_add(1);
                if self.start.rounds >= CSS_ROUNDS {
                    self.threshold = self.window;
                }
            }
        }
        let Some(rtt) = rtt else { return };
        let least = self.start.this_round.map_or(rtt, |least| least.min(rtt));
        self.start.this_round = Some(least);
        self.start.samples = self.start.samples.saturating_add(1);
        if self.start.samples < RTT_SAMPLES {
            return;
        }
        match (self.start.baseline, self.start.last_round) {
            (None, Some(last)) if least >= last + (last / 8).clamp(MIN_RISE, MAX_RISE) => {
                self.start.baseline = Some(least);
                self.start.rounds = 0;
            }
            (Some(baseline), _) if least < baseline => self.start.baseline = None,
            _ => {}
        }
    }

    fn least(&self) -> u64 {
        2 * self.mtu
    }
}

impl Curve {
    /// Gives up three tenths of the window; returns what is left.
    pub(super) fn reduce(&mut self, window: u64, mtu: u64) -> u64 {
        let window = segments(window, mtu);
        *self = Self {
            // Fast convergence: who peaks lower than before makes room (RFC 9438 4.7).
            top: if window < self.top { window * (1.0 + BETA) / 2.0 } else { window },
            prior: window,
            ..Self::default()
        };
        bytes(window * BETA, mtu)
    }

    /// The window after `acked` bytes, `time` after the last call (RFC 9438 4.2-4.5).
    pub(super) fn grow(&mut self, window: u64, mtu: u64, acked: u64, time: Duration, rtt: Duration) -> u64 {
        let before = window;
        let window = segments(window, mtu);
        let acked = segments(acked, mtu);
        if !self.running {
            self.running = true;
            self.elapsed = 0.0;
            self.reno = window;
            self.k = ((self.top - window).max(0.0) / C).cbrt();
            self.top = self.top.max(window);
        }
        self.elapsed += time.as_secs_f64();
        let from_top = self.elapsed + rtt.as_secs_f64() - self.k;
        let target = (self.top + C * from_top * from_top * from_top).clamp(window, 1.5 * window);
        let alpha = if self.reno < self.prior { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        self.reno += alpha * acked / window;
        let grown = window + (target - window) * acked / window;
        bytes(grown.max(self.reno), mtu).max(before)
    }
}

impl Controller for Cubic {
    fn on_lost(&mut self, packet: &PacketInfo, now: Instant) {
        self.on_congestion(packet.sent_at, now);
        if let Some(undo) = &mut self.undo {
            undo.outstanding = undo.outstanding.saturating_add(u64::from(packet.size));
        }
    }

    fn on_spurious(&mut self, packet: &PacketInfo, _now: Instant) {
        let Some(undo) = &mut self.undo else { return };
        undo.outstanding = undo.outstanding.saturating_sub(u64::from(packet.size));
        if undo.outstanding == 0
            && let Some(undo) = self.undo.take()
        {
            self.window = self.window.max(undo.window);
            self.threshold = undo.threshold;
            self.curve = undo.curve;
        }
    }

    fn on_round(&mut self, sample: &Sample, summary: &Summary, now: Instant) {
        self.smoothed_rtt = summary.smoothed_rtt;
        let since = now.saturating_duration_since(self.last_update);
        self.last_update = now;
        if summary.persistent {
            self.window = self.least();
            self.threshold = self.threshold.max(self.least());
            self.curve.running = false;
            self.recovery_start = None;
            self.undo = None;
            return;
        }
        let Some(newest) = sample.newest else { return };
        if summary.newly_ce > 0 {
            self.on_congestion(newest.sent_at, now);
        }
        // Neither what was sent before the reduction nor what the application limited shows that there is room.
        let idle = newest.snapshot.is_app_limited() && newest.snapshot.in_flight() < self.window / 2;
        if !self.is_new(newest.sent_at) || idle {
            return;
        }
        if self.in_slow_start() {
            self.watch_delay(sample, summary.latest_rtt);
            self.slow_start(sample.acked);
        } else {
            let (time, rtt) = (since.min(summary.smoothed_rtt), summary.smoothed_rtt);
            self.window = self.curve.grow(self.window, self.mtu, sample.acked, time, rtt);
        }
    }

    fn on_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
        self.window = self.window.max(self.least());
    }

    fn window(&self) -> u64 {
        self.window
    }

    /// A little faster than the window allows, so that the window stays in charge.
    fn pacing_rate(&self) -> Option<u64> {
        let rate = window_rate(self.window, self.smoothed_rtt)?;
        Some(if self.in_slow_start() { rate.saturating_mul(2) } else { rate.saturating_add(rate / 4) })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "windows are positive and far below 2^52; a float out of range saturates"
)]
fn bytes(segments: f64, mtu: u64) -> u64 {
    (segments * mtu as f64) as u64
}

#[expect(clippy::cast_precision_loss, reason = "windows are far below 2^52")]
fn segments(bytes: u64, mtu: u64) -> f64 {
    bytes as f64 / mtu as f64
}

/// What a reduction leaves (RFC 9438 4.6).
const BETA: f64 = 0.7;
/// Segments per cubic second (RFC 9438 5).
const C: f64 = 0.4;
/// RFC 9406 4.3; the limit on the growth per round is left out, as it is meant for senders without pacing.
const MIN_RISE: Duration = Duration::from_millis(4);
const MAX_RISE: Duration = Duration::from_millis(16);
const RTT_SAMPLES: u8 = 8;
const CSS_DIVISOR: u64 = 4;
const CSS_ROUNDS: u8 = 5;

#[cfg(test)]
mod tests {
    use super::super::rate::Sampler;
    use super::*;

    const MTU: u64 = 1_000;
    const RTT: Duration = Duration::from_millis(100);

    struct Path {
        cubic: Cubic,
        sampler: Sampler,
        now: Instant,
        rtt: Duration,
        app_limited: bool,
    }

    impl Path {
        fn new() -> Self {
            #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
            let now = Instant::now();
            Self { cubic: Cubic::new(MTU, now), sampler: Sampler::new(now), now, rtt: RTT, app_limited: false }
        }

        fn packet(&mut self) -> PacketInfo {
            if self.app_limited {
                self.sampler.set_app_limited(0);
            }
            let snapshot = self.sampler.on_sent(1_000, 0, self.now);
            PacketInfo { sent_at: self.now, size: 1_000, snapshot }
        }

        /// A window of packets leaves at once; each is acknowledged by itself a round trip later.
        fn round(&mut self) {
            let packets: Vec<_> = (0..self.cubic.window() / MTU).map(|_| self.packet()).collect();
            let last = packets.len() as u32;
            for packet in packets {
                self.now += self.rtt / last;
                self.sampler.on_acked(&packet);
                self.tell(|_| {});
            }
        }

        fn tell(&mut self, change: impl FnOnce(&mut Summary)) {
            let mut summary = Summary {
                in_flight: 0,
                latest_rtt: Some(self.rtt),
                smoothed_rtt: self.rtt,
                min_rtt: RTT,
                newly_ce: 0,
                persistent: false,
            };
            change(&mut summary);
            let sample = self.sampler.take(self.now);
            self.cubic.on_round(&sample, &summary, self.now);
        }

        fn lose(&mut self) -> PacketInfo {
            let packet = self.packet();
            self.now += self.rtt;
            self.cubic.on_lost(&packet, self.now);
            packet
        }
    }

    #[test]
    fn slow_start_doubles_and_ends_when_the_round_trip_grows() {
        let mut path = Path::new();
        path.round();
        path.round();
        assert_eq!(path.cubic.window(), 40 * MTU);
        for _ in 0..12 {
            path.rtt += Duration::from_millis(20);
            path.round();
        }
        assert!(!path.cubic.in_slow_start());
        assert!(path.cubic.window() < 200 * MTU, "{}", path.cubic.window());
    }

    #[test]
    fn a_round_trip_of_losses_costs_three_tenths_once() {
        let mut path = Path::new();
        let (one, two) = (path.packet(), path.packet());
        path.now += RTT;
        path.cubic.on_lost(&one, path.now);
        path.cubic.on_lost(&two, path.now);
        assert_eq!(path.cubic.window(), 7 * MTU);
        path.now += RTT;
        path.lose();
        assert_eq!(path.cubic.window(), 4_899, "truncated");
    }

    #[test]
    fn the_window_is_back_where_it_was_after_k_seconds() {
        let mut path = Path::new();
        path.cubic.window = 1_000 * MTU;
        path.lose();
        path.now += RTT;
        let reduced = path.now;
        // K = cbrt(1000 * 0.3 / 0.4) = 9.1 s
        while path.now < reduced + Duration::from_millis(9_100) {
            path.round();
        }
        let window = path.cubic.window() / MTU;
        assert!((960..=1_010).contains(&window), "{window}");
    }

    #[test]
    fn small_windows_grow_as_reno_does() {
        let mut path = Path::new();
        path.lose();
        path.now += RTT;
        let before = path.cubic.window();
        for _ in 0..10 {
            path.round();
        }
        let grown = path.cubic.window() - before;
        assert!((4 * MTU..12 * MTU).contains(&grown), "{grown}");
    }

    #[test]
    fn a_refuted_loss_gives_the_window_back() {
        let mut path = Path::new();
        path.cubic.window = 100 * MTU;
        path.cubic.threshold = 50 * MTU;
        let packet = path.lose();
        assert_eq!(path.cubic.window(), 70 * MTU);
        path.cubic.on_spurious(&packet, path.now);
        assert_eq!(path.cubic.window(), 100 * MTU);
    }

    #[test]
    fn marks_count_as_losses_and_persistent_congestion_starts_over() {
        let mut path = Path::new();
        let packet = path.packet();
        path.now += RTT;
        path.sampler.on_acked(&packet);
        path.tell(|summary| summary.newly_ce = 1);
        assert_eq!(path.cubic.window(), 7 * MTU);
        path.tell(|summary| summary.persistent = true);
        assert_eq!(path.cubic.window(), 2 * MTU);
        assert!(path.cubic.in_slow_start());
    }

    #[test]
    fn what_the_application_limits_does_not_grow_the_window() {
        let mut path = Path::new();
        path.app_limited = true;
        for _ in 0..5 {
            path.round();
        }
        assert_eq!(path.cubic.window(), 10 * MTU);
    }
}
