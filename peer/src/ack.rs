//! What has been received, and when to say so (RFC 9000 section 13.2).
//!
//! The session asks once per batch of received datagrams whether an acknowledgement is due, so a batch costs one. One
//! is due at once for two packets that want it, after a gap or a late packet, and after a congestion mark; for a single
//! packet it waits a little, because there may soon be data to travel with. Packets that want no acknowledgement never
//! cause one, so two sides cannot acknowledge each other for ever.

use std::time::{Duration, Instant};

use framing::limits::MAX_ACK_RANGES;
use framing::{EcnCounts, PacketWriter};
use structs::{Deadline, Ecn, RangeSet};

use crate::rtt::MAX_ACK_DELAY;
use crate::sent::Sent;

/// So many packets that want an acknowledgement get one without delay (RFC 9000 13.2.2).
const AT_ONCE: u32 = 2;

/// The packets received in a session.
#[derive(Debug)]
pub(crate) struct Acks {
    /// At most [`MAX_ACK_RANGES`]; the lowest are forgotten first.
    received: RangeSet,
    largest: Option<u64>,
    largest_at: Option<Instant>,
    ecn: EcnCounts,
    /// Packets that want an acknowledgement and have none.
    eliciting: u32,
    immediate: bool,
    due: Option<Instant>,
    delay: Duration,
}

impl Acks {
    /// Nothing received.
    pub(crate) const fn new() -> Self {
        Self {
            received: RangeSet::new(),
            largest: None,
            largest_at: None,
            ecn: EcnCounts { ect0: 0, ect1: 0, ce: 0 },
            eliciting: 0,
            immediate: false,
            due: None,
            delay: MAX_ACK_DELAY,
        }
    }

    /// Sets how long a single packet may wait: a quarter of the least round trip, at most what was announced.
    pub(crate) fn set_min_rtt(&mut self, min_rtt: Duration) {
        self.delay = MAX_ACK_DELAY.min(min_rtt / 4);
    }

    /// Takes in an authentic packet that is not a replay. `eliciting` says that it holds more than acknowledgements and
    /// padding, `ecn` what mark it came with.
    #[inline]
    pub(crate) fn on_packet(&mut self, number: u64, eliciting: bool, ecn: Ecn, now: Instant) {
        if !self.received.insert(number..number.saturating_add(1)) {
            return;
        }
        if self.received.len() > MAX_ACK_RANGES {
            self.received.pop_first();
        }
        match ecn {
            Ecn::NotEct => {}
            Ecn::Ect0 => self.ecn.ect0 += 1,
            Ecn::Ect1 => self.ecn.ect1 += 1,
            Ecn::Ce => self.ecn.ce += 1,
        }
        let expected = self.largest.map_or(0, |largest| largest + 1);
        if number >= expected {
            self.largest = Some(number);
            self.largest_at = Some(now);
        }
        if eliciting {
            self.eliciting = self.eliciting.saturating_add(1);
            self.immediate |= number != expected || ecn == Ecn::Ce;
            if self.due.is_none() {
                self.due = Some(now + self.delay);
            }
        }
    }

    /// Whether a packet should be made just to acknowledge.
    pub(crate) fn has_pending(&self, now: Instant) -> bool {
        self.immediate || self.eliciting >= AT_ONCE || self.due.is_some_and(|due| due <= now)
    }

    /// Whether anything wants an acknowledgement.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.eliciting > 0
    }

    /// Gives back what memory a busy time left behind.
    pub(crate) fn rest(&mut self) {
        self.received.shrink_to_fit();
    }

    /// When that will be the case if nothing else happens. `None` also if it is the case already.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let at = self.due.filter(|_| !self.immediate && self.eliciting < AT_ONCE)?;
        Some(Deadline { at, reason: "acknowledgement" })
    }

    /// Writes an acknowledgement if anything wants one, due or not: to be called for every packet that is made. `None`
    /// if nothing does, or if there is no room.
    pub(crate) fn write(&mut self, out: &mut PacketWriter<'_>, now: Instant) -> Option<Sent> {
        if self.eliciting == 0 {
            return None;
        }
        let newest = self.received.last()?;
        let largest = newest.end - 1;
        // Only the largest of all received numbers has a time of arrival; others cannot say how long they waited.
        let delay = match self.largest_at {
            Some(at) if self.largest == Some(largest) => now.saturating_duration_since(at),
            _ => Duration::ZERO,
        };
        let ranges = self.received.iter().rev().map(|range| range.start..=range.end - 1);
        let ecn = (self.ecn != EcnCounts::default()).then_some(self.ecn);
        if !out.ack(ranges, delay, ecn) {
            return None;
        }
        self.eliciting = 0;
        self.immediate = false;
        self.due = None;
        Some(Sent::Ack { largest })
    }

    /// Acknowledges in the next packet, whatever is waiting: the session ends with it.
    pub(crate) const fn demand(&mut self) {
        if self.largest.is_some() {
            self.immediate = true;
            self.eliciting = self.eliciting.saturating_add(1);
        }
    }

    /// The peer has our acknowledgements up to `largest`, so they need not be repeated.
    pub(crate) fn on_ack_of_ack(&mut self, largest: u64) {
        // The number itself stays: a range with it shows where the forgotten part ends.
        self.received.remove(0..largest);
    }
}

#[cfg(test)]
mod tests {
    use framing::{Ack, Frame, Frames};

    use super::*;
    use crate::recovery::tests::start;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn written<T>(acks: &mut Acks, now: Instant, read: impl FnOnce(&Ack<'_>) -> T) -> Option<T> {
        let mut bytes = [0; 1200];
        let mut out = PacketWriter::new(&mut bytes);
        acks.write(&mut out, now)?;
        let len = out.len();
        match Frames::new(&bytes[..len]).next() {
            Some(Ok(Frame::Ack(ack))) => Some(read(&ack)),
            other => panic!("{other:?}"),
        }
    }

    fn ranges(acks: &mut Acks) -> Vec<(u64, u64)> {
        written(acks, start(), |ack| ack.ranges().map(|range| range.into_inner()).collect()).unwrap_or_default()
    }

    #[test]
    fn one_packet_waits_and_the_second_is_answered_at_once() {
        let mut acks = Acks::new();
        acks.on_packet(0, true, Ecn::NotEct, start());
        assert!(!acks.has_pending(start()));
        assert_eq!(acks.deadline().map(|deadline| deadline.at), Some(start() + ms(25)));
        assert!(acks.has_pending(start() + ms(25)));
        acks.on_packet(1, true, Ecn::NotEct, start() + ms(3));
        assert!(acks.has_pending(start() + ms(3)));
        assert_eq!(acks.deadline(), None);
        let told = written(&mut acks, start() + ms(4), |ack| (ack.largest(), ack.delay(), ack.ecn()));
        assert_eq!(told, Some((1, ms(1), None)));
        assert!(!acks.has_pending(start() + ms(100)));
        assert_eq!(written(&mut acks, start() + ms(100), |_| ()), None, "nothing new");
    }

    #[test]
    fn the_delay_follows_the_round_trip() {
        let mut acks = Acks::new();
        acks.set_min_rtt(ms(8));
        acks.on_packet(0, true, Ecn::NotEct, start());
        assert_eq!(acks.deadline().map(|deadline| deadline.at), Some(start() + ms(2)));
        acks.set_min_rtt(ms(800));
        assert_eq!(acks.delay, MAX_ACK_DELAY);
    }

    #[test]
    fn gaps_late_packets_and_marks_are_told_at_once() {
        for (numbers, ecn) in [([0, 2], Ecn::NotEct), ([0, 1], Ecn::Ce)] {
            let mut acks = Acks::new();
            acks.on_packet(numbers[0], true, Ecn::NotEct, start());
            written(&mut acks, start(), |_| ()).unwrap();
            acks.on_packet(numbers[1], true, ecn, start());
            assert!(acks.has_pending(start()));
            let counts = written(&mut acks, start(), |ack| ack.ecn()).unwrap();
            assert_eq!(counts, (ecn == Ecn::Ce).then_some(EcnCounts { ect0: 0, ect1: 0, ce: 1 }));
            assert!(!acks.has_pending(start()));
        }
        let mut acks = Acks::new();
        acks.on_packet(5, true, Ecn::Ect0, start());
        written(&mut acks, start(), |_| ()).unwrap();
        acks.on_packet(4, true, Ecn::Ect0, start());
        assert!(acks.has_pending(start()), "a late packet");
        assert_eq!(acks.largest, Some(5));
        assert_eq!(ranges(&mut acks), [(4, 5)]);
    }

    #[test]
    fn packets_that_want_no_acknowledgement_cause_none_but_are_told_with_others() {
        let mut acks = Acks::new();
        for number in [0, 3, 1, 9] {
            acks.on_packet(number, false, Ecn::Ce, start());
        }
        assert!(!acks.has_pending(start() + ms(1000)));
        assert_eq!(acks.deadline(), None);
        assert_eq!(written(&mut acks, start(), |_| ()), None);
        acks.on_packet(10, true, Ecn::NotEct, start());
        assert_eq!(ranges(&mut acks), [(9, 10), (3, 3), (0, 1)]);
    }

    #[test]
    fn at_most_64_ranges_are_kept_the_newest_ones() {
        let mut acks = Acks::new();
        for number in 0..200 {
            acks.on_packet(number * 2, true, Ecn::NotEct, start());
        }
        let told = ranges(&mut acks);
        assert_eq!(told.len(), MAX_ACK_RANGES);
        assert_eq!((told[0], told[63]), ((398, 398), (272, 272)));
    }

    #[test]
    fn a_full_packet_gets_the_newest_ranges_and_a_tiny_one_none() {
        let mut acks = Acks::new();
        for number in 0..60 {
            acks.on_packet(number * 1000, true, Ecn::NotEct, start());
        }
        let mut bytes = [0; 40];
        assert_eq!(acks.write(&mut PacketWriter::new(&mut bytes[..3]), start()), None);
        assert!(acks.has_pending(start()));
        assert_eq!(acks.write(&mut PacketWriter::new(&mut bytes), start()), Some(Sent::Ack { largest: 59_000 }));
    }

    #[test]
    fn what_the_peer_knows_is_not_repeated() {
        let mut acks = Acks::new();
        for number in [0, 1, 2, 5, 6, 9] {
            acks.on_packet(number, true, Ecn::NotEct, start());
        }
        acks.on_ack_of_ack(6);
        assert_eq!(ranges(&mut acks), [(9, 9), (6, 6)]);
        acks.on_packet(3, true, Ecn::NotEct, start());
        assert_eq!(ranges(&mut acks), [(9, 9), (6, 6), (3, 3)], "a late one is still told");
        acks.on_ack_of_ack(9);
        acks.on_packet(10, true, Ecn::NotEct, start());
        assert_eq!(ranges(&mut acks), [(9, 10)]);
        acks.on_ack_of_ack(u64::MAX);
        acks.on_packet(11, true, Ecn::NotEct, start());
        assert_eq!(ranges(&mut acks), [(11, 11)]);
    }

    #[test]
    fn a_packet_is_counted_once() {
        let mut acks = Acks::new();
        acks.on_packet(0, true, Ecn::Ect0, start());
        acks.on_packet(0, true, Ecn::Ect0, start());
        assert!(!acks.has_pending(start()));
        assert_eq!(acks.ecn.ect0, 1);
    }
}
