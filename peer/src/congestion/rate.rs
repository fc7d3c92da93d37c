//! Delivery rate: how fast a path hands over what is sent, measured packet by packet.
//!
//! Each packet remembers how much had been delivered when it left ([`Snapshot`]); its acknowledgement then gives the
//! rate over the time between. Bursts of acknowledgements do not inflate it, because the time is the longer of the
//! sending and the acknowledging interval (draft-ietf-ccwg-bbr, section 4.1).

use std::time::{Duration, Instant};

use super::PacketInfo;

/// The state of a path when a packet left, kept with the packet until its fate is known. Opaque, 40 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes delivered by then.
    delivered: u64,
    /// When the newest of them was, in ns since the sampler's epoch.
    delivered_at: u64,
    /// When the packet left whose acknowledgement started the sending interval.
    first_sent_at: u64,
    /// Bytes lost by then, modulo 2^32.
    lost: u32,
    /// Bytes in flight, this packet included.
    in_flight: u32,
    /// The application offered less than the path would have taken.
    app_limited: bool,
}

impl Snapshot {
    /// Bytes delivered before the packet left.
    #[must_use]
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes in flight just after the packet left.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.in_flight as u64
    }

    /// Whether the application, not the path, limited the rate when the packet left.
    #[must_use]
    pub const fn is_app_limited(&self) -> bool {
        self.app_limited
    }
}

/// What the acknowledgements and losses handled together say about the path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes newly acknowledged.
    pub acked: u64,
    /// Bytes newly lost.
    pub lost: u64,
    /// Bytes delivered in all.
    pub delivered: u64,
    /// Bytes lost in all.
    pub total_lost: u64,
    /// The newest packet acknowledged, if any was.
    pub newest: Option<Newest>,
}

/// The newest packet of a [`Sample`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// When it left.
    pub sent_at: Instant,
    /// The path at that time.
    pub snapshot: Snapshot,
    /// Bytes per second delivered since; `None` if the interval is too short to tell.
    pub rate: Option<u64>,
    /// Bytes lost since it left.
    pub lost_since: u64,
}

/// The counters of one path.
#[derive(Debug)]
pub(super) struct Sampler {
    epoch: Instant,
    delivered: u64,
    lost: u64,
    delivered_at: u64,
    first_sent_at: u64,
    /// Packets that leave before so much has been delivered are limited by the application.
    app_limited_until: u64,
    acked_now: u64,
    lost_now: u64,
    newest: Option<(Instant, Snapshot)>,
}

impl Sampler {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            delivered: 0,
            lost: 0,
            delivered_at: 0,
            first_sent_at: 0,
            app_limited_until: 0,
            acked_now: 0,
            lost_now: 0,
            newest: None,
        }
    }

    /// Bytes delivered since it was made.
    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn on_sent(&mut self, size: u32, in_flight_before: u64, now: Instant) -> Snapshot {
        if in_flight_before == 0 {
            self.first_sent_at = self.nanos(now);
            self.delivered_at = self.first_sent_at;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: low(self.lost),
            in_flight: u32::try_from(in_flight_before.saturating_add(u64::from(size))).unwrap_or(u32::MAX),
            app_limited: self.delivered < self.app_limited_until,
        }
    }

    pub(super) fn on_acked(&mut self, packet: &PacketInfo) {
        let size = u64::from(packet.size);
        self.delivered = self.delivered.saturating_add(size);
        self.acked_now = self.acked_now.saturating_add(size);
        if self.newest.is_none_or(|(sent_at, _)| packet.sent_at >= sent_at) {
            self.newest = Some((packet.sent_at, packet.snapshot));
        }
    }

    pub(super) fn on_lost(&mut self, packet: &PacketInfo) {
        let size = u64::from(packet.size);
        self.lost = self.lost.saturating_add(size);
        self.lost_now = self.lost_now.saturating_add(size);
    }

    /// What leaves from now on, until everything in flight has been delivered, does not show what the path can do.
    pub(super) fn set_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = self.delivered.saturating_add(in_flight).saturating_add(1);
    }

    /// Closes the books on what was reported since the last call; what arrived of it did so now.
    pub(super) fn take(&mut self, now: Instant) -> Sample {
        if self.newest.is_some() {
            self.delivered_at = self.nanos(now);
        }
        let newest = self.newest.take().map(|(sent_at, snapshot)| {
            let sent = self.nanos(sent_at);
            self.first_sent_at = self.first_sent_at.max(sent);
            let sending = sent.saturating_sub(snapshot.first_sent_at);
            let acking = self.delivered_at.saturating_sub(snapshot.delivered_at);
            let delivered = self.delivered.saturating_sub(snapshot.delivered);
            Newest {
                sent_at,
                snapshot,
                rate: per_second(delivered, Duration::from_nanos(sending.max(acking))),
                lost_since: u64::from(low(self.lost).wrapping_sub(snapshot.lost)),
            }
        });
        Sample {
            acked: std::mem::take(&mut self.acked_now),
            lost: std::mem::take(&mut self.lost_now),
            delivered: self.delivered,
            total_lost: self.lost,
            newest,
        }
    }

    /// 584 years fit.
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// `bytes` in `time`, as bytes per second; `None` for times below a microsecond.
pub(super) fn per_second(bytes: u64, time: Duration) -> Option<u64> {
    let nanos = time.as_nanos();
    if nanos < 1_000 {
        return None;
    }
    u64::try_from(u128::from(bytes).saturating_mul(1_000_000_000) / nanos).ok()
}

/// What `rate` bytes per second carry in `time`.
pub(super) fn carried(rate: u64, time: Duration) -> u64 {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    u64::try_from(u128::from(rate).saturating_mul(u128::from(nanos)) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
const fn low(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        Instant::now()
    }

    /// Sends `count` packets of 1,000 bytes a millisecond apart, 10 ms of travel each way; `ack` says when each is
    /// acknowledged. Returns the rates seen.
    fn rates(count: u64, ack: impl Fn(u64) -> u64) -> Vec<u64> {
        let origin = start();
        let at = |ms| origin + Duration::from_millis(ms);
        let mut sampler = Sampler::new(origin);
        let mut packets = Vec::new();
        let mut rates = Vec::new();
        let mut acked = 0;
        for ms in 0..count * 2 + 100 {
            while acked < packets.len() as u64 && ack(acked) == ms {
                sampler.on_acked(&packets[acked as usize]);
                acked += 1;
            }
            rates.extend(sampler.take(at(ms)).newest.and_then(|newest| newest.rate));
            if ms < count {
                let in_flight = (packets.len() as u64 - acked) * 1_000;
                let snapshot = sampler.on_sent(1_000, in_flight, at(ms));
                packets.push(PacketInfo { sent_at: at(ms), size: 1_000, snapshot });
            }
        }
        rates
    }

    #[test]
    fn a_steady_flow_shows_its_rate() {
        let rates = rates(200, |number| number + 20);
        assert!(rates.iter().skip(40).all(|rate| (980_000..=1_020_000).contains(rate)), "{rates:?}");
    }

    #[test]
    fn lumps_of_acknowledgements_do_not_look_like_bandwidth() {
        let rates = rates(400, |number| (number + 20).div_ceil(30) * 30);
        assert!(rates.iter().all(|rate| *rate <= 1_050_000), "{rates:?}");
    }

    #[test]
    fn what_the_application_limited_is_marked_until_it_is_delivered() {
        let now = start();
        let later = now + Duration::from_millis(10);
        let mut sampler = Sampler::new(now);
        let before = PacketInfo { sent_at: now, size: 1_000, snapshot: sampler.on_sent(1_000, 0, now) };
        assert!(!before.snapshot.is_app_limited());
        sampler.set_app_limited(1_000);
        let marked = sampler.on_sent(1_000, 1_000, now);
        assert!(marked.is_app_limited());
        sampler.on_acked(&before);
        let second = PacketInfo { sent_at: now, size: 1_000, snapshot: marked };
        sampler.on_acked(&second);
        assert!(!sampler.on_sent(1_000, 0, later).is_app_limited());
    }

    #[test]
    fn losses_since_a_packet_left_are_counted() {
        let now = start();
        let later = now + Duration::from_millis(10);
        let mut sampler = Sampler::new(now);
        let packets: Vec<_> = (0..3_u32)
            .map(|number| {
                let snapshot = sampler.on_sent(1_000, u64::from(number) * 1_000, now);
                PacketInfo { sent_at: now, size: 1_000, snapshot }
            })
            .collect();
        sampler.on_lost(&packets[0]);
        sampler.on_lost(&packets[1]);
        sampler.on_acked(&packets[2]);
        let sample = sampler.take(later);
        assert_eq!((sample.acked, sample.lost, sample.delivered), (1_000, 2_000, 1_000));
        assert_eq!(sample.newest.map(|newest| (newest.lost_since, newest.rate)), Some((2_000, Some(100_000))));
        assert_eq!(sampler.take(later).newest, None, "each sample starts anew");
    }
}
