//! Spreads packets over the round trip: a bucket of bytes that fills at the controller's rate.
//!
//! Time comes in as an argument; a packet costs a subtraction, and the bucket is filled once per pass over the path.

use std::time::{Duration, Instant};

/// The bucket of one path.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Bytes per second; zero does not pace.
    rate: u64,
    /// What may leave. Probes may overdraw it.
    tokens: i64,
    /// Up to when the bucket has been filled.
    filled_at: Instant,
    mtu: u32,
}

impl Pacer {
    /// A full bucket, not pacing yet.
    pub(crate) fn new(mtu: u32, now: Instant) -> Self {
        Self { rate: 0, tokens: 0, filled_at: now, mtu }.filled()
    }

    fn filled(mut self) -> Self {
        self.tokens = self.capacity();
        self
    }

    /// Changes the rate from now on. `None` stops pacing.
    pub(crate) fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        let rate = rate.unwrap_or(0);
        if rate != self.rate {
            self.fill(now);
            self.rate = rate;
        }
    }

    pub(crate) const fn mtu(&self) -> u32 {
        self.mtu
    }

    pub(crate) fn set_mtu(&mut self, mtu: u32) {
        self.mtu = mtu;
    }

    /// Takes the bytes of a packet that left.
    pub(crate) fn on_sent(&mut self, size: u32) {
        if self.rate != 0 {
            self.tokens = self.tokens.saturating_sub(i64::from(size)).max(-self.capacity());
        }
    }

    /// When the next packet may leave; `None` is now.
    pub(crate) fn ready_at(&mut self, now: Instant) -> Option<Instant> {
        if self.rate == 0 {
            return None;
        }
        self.fill(now);
        if self.tokens >= i64::from(self.mtu) {
            return None;
        }
        // Waits for a batch rather than for a packet: every wake-up costs a system call.
        let missing = u64::try_from(self.quantum().saturating_sub(self.tokens)).unwrap_or(0);
        let nanos = u128::from(missing).saturating_mul(NANOS).div_ceil(u128::from(self.rate));
        Some(now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(LONGEST_WAIT))
    }

    /// How many bytes may leave in one go, as of the last [`ready_at`](Self::ready_at).
    pub(crate) fn burst(&self) -> usize {
        if self.rate == 0 {
            return MAX_BURST;
        }
        usize::try_from(self.tokens).unwrap_or(0).clamp(self.mtu as usize, MAX_BURST)
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let gained = u128::from(self.rate).saturating_mul(elapsed.as_nanos()) / NANOS;
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        if gained == 0 && self.rate != 0 {
            return; // the part of a byte is kept by not moving the mark
        }
        let capacity = self.capacity();
        self.tokens = self.tokens.saturating_add(gained).min(capacity);
        self.filled_at = now;
    }

    /// The credit kept for late wake-ups: two milliseconds, at least ten packets (RFC 9002 7.7).
    fn capacity(&self) -> i64 {
        let packets = i64::from(self.mtu).saturating_mul(BURST_PACKETS);
        i64::try_from(self.rate / 500).unwrap_or(i64::MAX).max(packets)
    }

    /// What is worth a wake-up: a millisecond, at least a packet, at most a batch of the socket.
    fn quantum(&self) -> i64 {
        i64::try_from(self.rate / 1000).unwrap_or(i64::MAX).min(MAX_BURST as i64).max(i64::from(self.mtu))
    }
}

const NANOS: u128 = 1_000_000_000;
/// One batch of segments for the socket (GSO).
const MAX_BURST: usize = 64 * 1024;
const BURST_PACKETS: i64 = 10;
/// A rate near zero must not push the wake-up out of sight.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u32 = 1_452;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        Instant::now()
    }

    /// Sends as the transport does, waking up `late` after each deadline; returns what left in a second.
    fn second(rate: u64, late: Duration) -> u64 {
        let origin = start();
        let mut pacer = Pacer::new(MTU, origin);
        pacer.set_rate(Some(rate), origin);
        let mut now = origin;
        let mut sent = 0;
        while now < origin + Duration::from_secs(1) {
            match pacer.ready_at(now) {
                Some(at) => {
                    assert!(at > now, "a wait must end later than now");
                    now = at + late;
                }
                None => {
                    let packets = (pacer.burst() / MTU as usize).max(1);
                    for _ in 0..packets {
                        pacer.on_sent(MTU);
                        sent += u64::from(MTU);
                    }
                }
            }
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_from_slow_to_fast_with_late_wake_ups() {
        for rate in [20_000_u64, 125_000, 12_500_000, 1_250_000_000] {
            for late in [0, 300, 1_000] {
                let sent = second(rate, Duration::from_micros(late));
                let burst = (u64::from(MTU) * 10).max(rate / 500);
                assert!(sent <= rate + burst + u64::from(MTU), "{rate} {late}: {sent}");
                assert!(sent + burst >= rate * 97 / 100, "{rate} {late}: {sent}");
            }
        }
    }

    #[test]
    fn a_batch_is_a_millisecond_and_never_more_than_the_socket_takes() {
        let now = start();
        let mut pacer = Pacer::new(MTU, now);
        pacer.set_rate(Some(12_500_000), now);
        while pacer.ready_at(now).is_none() {
            pacer.on_sent(MTU);
        }
        let at = pacer.ready_at(now).expect("blocked");
        assert!((Duration::from_micros(850)..Duration::from_micros(1_200)).contains(&(at - now)), "{:?}", at - now);
        assert!(pacer.ready_at(at).is_none());
        assert!((12_000..=13_000).contains(&pacer.burst()), "{}", pacer.burst());
        pacer.set_rate(Some(u64::MAX / 4), at);
        assert!(pacer.ready_at(at + Duration::from_secs(1)).is_none());
        assert_eq!(pacer.burst(), 65_536);
    }

    #[test]
    fn idleness_earns_a_burst_and_no_more() {
        let now = start();
        let mut pacer = Pacer::new(MTU, now);
        pacer.set_rate(Some(125_000), now);
        let later = now + Duration::from_secs(3_600);
        let mut packets = 0;
        while pacer.ready_at(later).is_none() {
            pacer.on_sent(MTU);
            packets += 1;
        }
        assert_eq!(packets, 10);
    }

    #[test]
    fn without_a_rate_nothing_waits_and_probes_may_overdraw() {
        let now = start();
        let mut pacer = Pacer::new(MTU, now);
        pacer.on_sent(u32::MAX);
        assert_eq!(pacer.ready_at(now), None);
        pacer.set_rate(Some(1_000), now);
        for _ in 0..50 {
            pacer.on_sent(MTU);
        }
        let at = pacer.ready_at(now).expect("overdrawn");
        assert!(at <= now + Duration::from_secs(1), "a slow path must still be looked at");
    }
}
