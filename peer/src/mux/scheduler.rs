//! Whose turn it is: deficit round robin over the protocols (Shreedhar and Varghese, SIGCOMM 1995), with weights, rate caps, and a
//! bound for what is urgent.
//!
//! A round distributes [`ROUND`] bytes among those that have something to send, by weight, so the more of them there are the shorter
//! are their frames. A protocol may overdraw by what cannot be cut, and has so much less in its next turn. Nobody's turn is kept for
//! who has nothing to send, and who is alone may send without bound.

use std::time::Instant;

use structs::TokenBucket;

use super::limits::{ROUND, URGENT_BURST};
use super::protocol::{Protocol, ProtocolId, Protocols};

#[derive(Debug)]
pub(super) struct Scheduler {
    shares: Box<[Share]>,
    /// Of those that have one, by protocol: few.
    caps: Box<[(u8, Cap)]>,
    /// Whose turn it is, or was.
    turn: u32,
    /// Those that took part when a turn was last given, and the sum of their weights.
    active: u64,
    weights: u64,
    /// What urgent messages took since others waited, less what others took since.
    urgent: u32,
    /// Those that wait for their cap, until the first of them may go on.
    parked: u64,
    wake: Option<Instant>,
}

#[derive(Debug)]
struct Share {
    /// What it may still send in its turn; what it overdrew if negative.
    deficit: i32,
    weight: u16,
}

#[derive(Debug)]
struct Cap {
    bucket: TokenBucket,
    burst: u32,
    /// What was sent without asking: to be taken from the bucket first.
    owed: u64,
}

/// What one protocol may send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) at: usize,
    /// Bytes of frames. What cannot be cut may exceed it.
    pub(super) bytes: usize,
    /// Nobody else has anything to send.
    pub(super) alone: bool,
}

impl Scheduler {
    pub(super) fn new(protocols: &Protocols, now: Instant) -> Self {
        let each = || (0..=u8::MAX).map_while(|at| Some((at, protocols.get(ProtocolId(at.into()))?)));
        let cap = |(at, protocol): (u8, &Protocol)| {
            let rate = protocol.cap()?.get();
            let burst = (rate / 10).max(2 * URGENT_BURST);
            Some((at, Cap { bucket: TokenBucket::new(rate, burst, now), burst, owed: 0 }))
        };
        Self {
            shares: each().map(|(_, protocol)| Share { deficit: 0, weight: protocol.weight_of() }).collect(),
            caps: each().filter_map(cap).collect(),
            turn: 0,
            active: 0,
            weights: 0,
            urgent: 0,
            parked: 0,
            wake: None,
        }
    }

    /// Lets those go on whose caps may allow it now. Says whether there are any.
    pub(super) fn wake(&mut self, now: Instant) -> bool {
        let due = self.wake.is_some_and(|at| at <= now);
        if due {
            (self.parked, self.wake) = (0, None);
        }
        due
    }

    /// When the first of those that wait for their cap may go on.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.wake
    }

    /// Those of `ready` that do not wait for their cap.
    pub(super) const fn unparked(&self, ready: u64) -> u64 {
        ready & !self.parked
    }

    /// Gives a turn to one of `ready`, a bit for each protocol, or goes on with the one whose turn it is. Those that were `passed`,
    /// because what they have does not fit, get nothing but their share for later.
    pub(super) fn pick(&mut self, ready: u64, passed: u64) -> Option<Turn> {
        let ready = self.unparked(ready);
        if ready & !passed == 0 {
            return None;
        }
        if ready != self.active {
            self.enter(ready);
        }
        if ready.is_power_of_two() {
            let at = ready.trailing_zeros();
            self.turn = at;
            let share = self.shares.get_mut(at as usize)?;
            share.deficit = 0;
            return Some(Turn { at: at as usize, bytes: usize::MAX, alone: true });
        }
        loop {
            let share = self.shares.get_mut(self.turn as usize)?;
            if ready & !passed & 1 << self.turn != 0 && share.deficit > 0 {
                return Some(Turn { at: self.turn as usize, bytes: share.deficit as usize, alone: false });
            }
            // The next one behind this, or the first.
            let behind = ready & (u64::MAX << self.turn << 1);
            self.turn = if behind == 0 { ready } else { behind }.trailing_zeros();
            let share = self.shares.get_mut(self.turn as usize)?;
            let quantum = u64::from(ROUND) * u64::from(share.weight) / self.weights.max(1);
            // At most a round.
            let quantum = i32::try_from(quantum.max(1)).unwrap_or(i32::MAX);
            share.deficit = share.deficit.saturating_add(quantum).min(2 * quantum);
        }
    }

    /// Whether a protocol may still send something in its turn.
    pub(super) fn has_claim(&self, at: usize) -> bool {
        self.shares.get(at).is_some_and(|share| share.deficit > 0)
    }

    /// A protocol sent so many bytes of frames.
    pub(super) fn charge(&mut self, at: usize, bytes: usize, now: Instant) {
        let Some(share) = self.shares.get_mut(at) else { return };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Debts are forgotten beyond some rounds: otherwise what was lost on a bad path would have to be paid for long afterwards.
        share.deficit = share.deficit.saturating_sub_unsigned(bytes).max(-(2 * ROUND as i32));
        if let Some(cap) = self.cap(at) {
            cap.owed += u64::from(bytes);
            cap.pay(now);
        }
    }

    /// How much of `wanted` bytes the cap of a protocol allows now; at least `least`, which cannot be cut, or nothing. Then the
    /// protocol is passed over until it may go on.
    pub(super) fn capped(&mut self, at: usize, wanted: usize, least: usize, now: Instant) -> usize {
        let Some(cap) = self.cap(at) else { return wanted };
        cap.pay(now);
        let free = if cap.owed == 0 { cap.bucket.available(now) } else { 0 };
        let least = u32::try_from(least).unwrap_or(u32::MAX).clamp(1, cap.burst);
        if free >= least {
            return wanted.min(free as usize);
        }
        let needed = cap.owed.saturating_add(u64::from(least)).min(u64::from(cap.burst));
        // The rate is not 0, and no more is asked for than the burst: there is such a time.
        if let Some(ready) = cap.bucket.ready_at(u32::try_from(needed).unwrap_or(cap.burst), now) {
            self.parked |= 1 << at;
            self.wake = Some(self.wake.map_or(ready, |wake| wake.min(ready)));
        }
        0
    }

    #[inline]
    fn cap(&mut self, at: usize) -> Option<&mut Cap> {
        self.caps.iter_mut().find(|(of, _)| usize::from(*of) == at).map(|(_, cap)| cap)
    }

    /// How many urgent bytes may leave now, if others wait or not.
    pub(super) const fn urgent_allowance(&mut self, others_wait: bool) -> usize {
        if !others_wait {
            self.urgent = 0;
            return usize::MAX;
        }
        URGENT_BURST.saturating_sub(self.urgent) as usize
    }

    /// So many urgent bytes left while others waited.
    pub(super) fn on_urgent(&mut self, bytes: usize) {
        self.urgent = self.urgent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// So many other bytes left.
    pub(super) fn on_others(&mut self, bytes: usize) {
        self.urgent = self.urgent.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Others take part than before: who left has no claim to what it did not send.
    fn enter(&mut self, ready: u64) {
        let mut left = self.active & !ready;
        while left != 0 {
            if let Some(share) = self.shares.get_mut(left.trailing_zeros() as usize) {
                share.deficit = share.deficit.min(0);
            }
            left &= left - 1;
        }
        self.active = ready;
        self.weights = 0;
        let mut each = ready;
        while each != 0 {
            self.weights += self.shares.get(each.trailing_zeros() as usize).map_or(0, |share| u64::from(share.weight));
            each &= each - 1;
        }
    }
}

impl Cap {
    fn pay(&mut self, now: Instant) {
        if self.owed > 0 {
            let part = u32::try_from(self.owed).unwrap_or(u32::MAX).min(self.bucket.available(now));
            if self.bucket.try_take(part, now) {
                self.owed -= u64::from(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::Protocol;
    use crate::mux::tests::start;
    use std::num::{NonZeroU16, NonZeroU32};
    use std::time::Duration;

    fn scheduler(weights: &[u16], caps: &[u32], now: Instant) -> Scheduler {
        let mut protocols = Protocols::new();
        for (at, weight) in weights.iter().enumerate() {
            let protocol = Protocol::new(&format!("p{at}"), 1).weight(NonZeroU16::new(*weight).unwrap());
            protocols.register(protocol.rate_cap(caps.get(at).and_then(|cap| NonZeroU32::new(*cap)))).unwrap();
        }
        Scheduler::new(&protocols, now)
    }

    /// Bytes of each when all have frames of the given sizes without end; `frame` 0 can be cut anywhere.
    fn run(scheduler: &mut Scheduler, ready: u64, frames: &[usize], total: usize, now: Instant) -> Vec<usize> {
        let mut bytes = vec![0; frames.len()];
        while bytes.iter().sum::<usize>() < total {
            let turn = scheduler.pick(ready, 0).unwrap();
            let n = if frames[turn.at] == 0 { turn.bytes.min(1200) } else { frames[turn.at] };
            bytes[turn.at] += n;
            scheduler.charge(turn.at, n, now);
        }
        bytes
    }

    #[test]
    fn shares_follow_weights_whatever_the_frames_are() {
        let now = start();
        for weights in [&[1, 1][..], &[1, 2, 4], &[7, 7, 7, 7, 7], &[1, 300, 9], &[65_535, 20_000]] {
            let sum = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
            for frames in [[0; 5], [1100, 0, 60, 1100, 9]] {
                let mut scheduler = scheduler(weights, &[], now);
                let total = 4_000_000;
                let ready = (1 << weights.len()) - 1;
                let bytes = run(&mut scheduler, ready, &frames[..weights.len()], total, now);
                for (at, weight) in weights.iter().enumerate() {
                    let fair = total as f64 * f64::from(*weight) / sum;
                    let off = (bytes[at] as f64 - fair).abs();
                    assert!(off <= (0.05 * fair).max(8192.0), "{weights:?} {frames:?}: {bytes:?}");
                }
            }
        }
    }

    #[test]
    fn a_turn_is_never_longer_than_its_part_of_a_round() {
        let now = start();
        for k in 2..=8_u32 {
            let mut scheduler = scheduler(&vec![1; k as usize], &[], now);
            for _ in 0..1000 {
                let turn = scheduler.pick((1 << k) - 1, 0).unwrap();
                assert!(turn.bytes <= (ROUND / k) as usize, "{turn:?} of {k}");
                scheduler.charge(turn.at, turn.bytes.min(100), now);
            }
        }
        let alone = scheduler(&[1, 1], &[], now).pick(0b10, 0);
        assert_eq!(alone, Some(Turn { at: 1, bytes: usize::MAX, alone: true }));
    }

    #[test]
    fn who_comes_back_has_no_claim_to_what_it_missed() {
        let now = start();
        let mut scheduler = scheduler(&[1, 1], &[], now);
        run(&mut scheduler, 0b01, &[0, 0], 1_000_000, now);
        let bytes = run(&mut scheduler, 0b11, &[0, 0], 100_000, now);
        assert!(bytes[0].abs_diff(bytes[1]) <= ROUND as usize, "{bytes:?}");
    }

    #[test]
    fn a_cap_holds_in_the_long_run_and_names_the_time_to_go_on() {
        let start = start();
        let mut scheduler = scheduler(&[1, 1], &[100_000], start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            scheduler.wake(now);
            match scheduler.pick(0b01, 0) {
                Some(turn) => {
                    // A datagram that is not cut, and a retransmission that does not ask.
                    if scheduler.capped(turn.at, 1000, 1000, now) > 0 {
                        scheduler.charge(turn.at, 1000, now);
                        scheduler.charge(turn.at, 50, now);
                        sent += 1050;
                    }
                }
                None => now = scheduler.deadline().filter(|at| *at > now).unwrap(),
            }
        }
        assert!((1_000_000..=1_000_000 + 12_000).contains(&sent), "{sent}");
        assert_eq!(scheduler.pick(0b10, 0).map(|turn| turn.at), Some(1));
    }

    #[test]
    fn urgent_bytes_are_at_most_half_while_others_wait() {
        let mut scheduler = scheduler(&[1], &[], start());
        let (mut urgent, mut others) = (0, 0);
        for _ in 0..1000 {
            let room = 1171;
            let first = scheduler.urgent_allowance(true).min(room);
            scheduler.on_urgent(first);
            scheduler.on_others(room - first);
            (urgent, others) = (urgent + first, others + room - first);
            assert!(urgent <= others + URGENT_BURST as usize);
        }
        assert!(urgent * 100 >= others * 95, "{urgent} {others}");
        assert_eq!(scheduler.urgent_allowance(false), usize::MAX);
        assert_eq!(scheduler.urgent_allowance(true), URGENT_BURST as usize);
    }
}
