//! Scenarios with exact times, and random ones against a model.

mod cost;
mod model;
mod pair;
mod paths;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crypto::Seed;
use framing::{Ack, EcnCounts, Frame, Frames, PacketWriter, Role, StreamId};

use super::*;
use crate::Violation;
use crate::sent::SentFrames;

/// The moment from which tests count.
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
pub(crate) fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

const A: PathSlot = PathSlot(0);
const B: PathSlot = PathSlot(1);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

fn path_start(rtt: Option<Duration>) -> PathStart {
    PathStart { mtu: 1200, max_mtu: 1500, loopback: false, rtt, ecn: true }
}

/// A sender and what it was told.
struct Sender {
    recovery: Recovery,
    rng: Rng,
    now: Instant,
    out: Outcome,
}

impl Sender {
    fn new(rtt: Option<Duration>) -> Self {
        Self::with(Algorithm::Fixed(1 << 40), rtt)
    }

    fn with(algorithm: Algorithm, rtt: Option<Duration>) -> Self {
        let mut recovery = Recovery::new(algorithm);
        recovery.add_path(A, &path_start(rtt), start());
        recovery.skip_at = Some(u64::MAX); // tests that are about numbers left out set their own
        Self { recovery, rng: Seed::fixed(1).rng(), now: start(), out: Outcome::default() }
    }

    fn at(&mut self, since_start: Duration) -> &mut Self {
        self.now = start() + since_start;
        self
    }

    /// Sends a packet that carries a part of a stream, which is repeated, and a datagram, which is not: both tell their
    /// packet's number.
    fn send(&mut self, path: PathSlot) -> u64 {
        self.send_as(path, 1200, true, false, false)
    }

    fn send_as(&mut self, path: PathSlot, size: u32, ack_eliciting: bool, mtu_probe: bool, marked: bool) -> u64 {
        let pn = self.recovery.next_pn(&mut self.rng, self.now);
        let frames = if mtu_probe {
            [Sent::Ping].into_iter().collect()
        } else if ack_eliciting {
            [stream(pn), Sent::Datagram(u32::try_from(pn).unwrap())].into_iter().collect()
        } else {
            [Sent::Ack { largest: pn }].into_iter().collect()
        };
        self.recovery.on_sent(SentPacket { pn, path, size, ack_eliciting, mtu_probe, marked, frames }, self.now);
        pn
    }

    fn ack(&mut self, ranges: &[RangeInclusive<u64>]) -> Result<(), Violation> {
        self.ack_with(ranges, Duration::ZERO, None)
    }

    fn ack_with(
        &mut self,
        ranges: &[RangeInclusive<u64>],
        delay: Duration,
        ecn: Option<EcnCounts>,
    ) -> Result<(), Violation> {
        self.out.clear();
        with_ack(ranges, delay, ecn, |ack| self.recovery.on_ack(ack, self.now, &mut self.out))
    }

    fn timeout(&mut self) {
        self.out.clear();
        self.recovery.on_timeout(self.now, &mut self.out);
    }

    fn deadline(&self) -> Option<(Duration, &'static str)> {
        self.recovery.deadline().map(|deadline| (deadline.at - start(), deadline.reason))
    }

    /// The packets whose fate was told.
    fn acked(&self) -> Vec<u32> {
        datagrams(&self.out.acked)
    }

    fn lost(&self) -> Vec<u32> {
        datagrams(&self.out.lost)
    }

    fn path(&self, slot: PathSlot) -> &Path {
        self.recovery.path(slot).unwrap()
    }
}

fn stream(pn: u64) -> Sent {
    Sent::Stream { id: StreamId::new(0, Role::Dialler), offset: pn, len: 1, slot: 0, fin: false }
}

fn datagrams(frames: &[Sent]) -> Vec<u32> {
    frames.iter().filter_map(|frame| if let Sent::Datagram(pn) = frame { Some(*pn) } else { None }).collect()
}

fn streams(frames: &[Sent]) -> Vec<u64> {
    frames
        .iter()
        .filter_map(|frame| if let Sent::Stream { offset, .. } = frame { Some(*offset) } else { None })
        .collect()
}

/// An ACK frame as it comes out of the decoder; `ranges` descend.
fn with_ack<T>(
    ranges: &[RangeInclusive<u64>],
    delay: Duration,
    ecn: Option<EcnCounts>,
    read: impl FnOnce(&Ack<'_>) -> T,
) -> T {
    let mut bytes = [0; 2048];
    let mut writer = PacketWriter::new(&mut bytes);
    assert!(writer.ack(ranges.iter().cloned(), delay, ecn));
    let len = writer.len();
    match Frames::new(&bytes[..len]).next() {
        Some(Ok(Frame::Ack(ack))) => read(&ack),
        other => panic!("{other:?}"),
    }
}

#[test]
fn three_later_packets_or_nine_eighths_of_a_round_trip_lose_a_packet() {
    let mut s = Sender::new(None);
    for _ in 0..4 {
        s.send(A);
    }
    assert_eq!(s.recovery.in_flight(A), 4800);
    s.at(ms(48)).ack(&[3..=3]).unwrap();
    assert_eq!((s.acked(), s.lost()), (vec![3], vec![0]));
    assert_eq!(s.out.newest, Some(3));
    assert_eq!(s.recovery.in_flight(A), 2400);
    assert_eq!(s.deadline(), Some((ms(54), "loss")));
    s.at(ms(54) - us(1)).timeout();
    assert_eq!(s.lost(), [0; 0]);
    s.at(ms(54)).timeout();
    assert_eq!(s.lost(), [1, 2]);
    assert_eq!((s.recovery.in_flight(A), s.deadline()), (0, None));
    assert_eq!(s.recovery.counts(), Counts { sent: 4, acked: 1, lost: 3, spurious: 0, timeouts: 0 });
}

#[test]
fn a_fast_path_still_waits_a_millisecond() {
    let mut s = Sender::new(Some(us(60)));
    s.send(A);
    s.send(A);
    s.at(us(60)).ack(&[1..=1]).unwrap();
    assert_eq!(s.deadline(), Some((ms(1), "loss")));
}

#[test]
fn probes_leave_after_the_timeout_with_what_is_missing_and_back_off() {
    let mut s = Sender::new(Some(ms(100)));
    for _ in 0..3 {
        s.send(A);
    }
    // Smoothed 100, four times the variation of 50, and the peer's 25.
    assert_eq!(s.deadline(), Some((ms(325), "probe timeout")));
    s.at(ms(324)).timeout();
    assert_eq!(s.recovery.probes_due(A), 0);
    s.at(ms(325)).timeout();
    assert_eq!((s.recovery.probes_due(A), s.recovery.timeouts(A)), (2, 1));
    assert_eq!(s.recovery.may_send(A, s.now), Budget::Bytes(2400));
    assert_eq!((streams(&s.out.lost), s.lost()), (vec![0, 1], vec![]), "repeated, but not given up");
    assert_eq!(s.recovery.in_flight(A), 3600);
    assert_eq!(s.deadline(), Some((ms(325 + 650), "probe timeout")));
    s.send(A);
    s.send(A);
    assert_eq!(s.recovery.probes_due(A), 0);
    s.at(ms(975)).timeout();
    assert_eq!(s.deadline(), Some((ms(975 + 1300), "probe timeout")));
    assert_eq!(streams(&s.out.lost), [0; 0], "told already");
    assert_eq!(s.recovery.mtu(A), 1200);
    // What was repeated arrives after all: its stream data was handed back, so only the datagram is told.
    s.at(ms(1000)).ack(&[0..=2]).unwrap();
    assert_eq!((streams(&s.out.acked), s.acked()), (vec![2], vec![0, 1, 2]));
    assert_eq!((s.recovery.timeouts(A), s.recovery.probes_due(A)), (0, 0));
}

#[test]
fn backoff_ends_at_half_a_minute() {
    let mut s = Sender::new(Some(ms(100)));
    s.send(A);
    for _ in 0..40 {
        let (at, _) = s.deadline().unwrap();
        s.at(at).timeout();
    }
    assert_eq!(s.deadline().unwrap().0 - (s.now - start()), ms(30_000));
}

#[test]
fn the_delay_of_the_peer_is_subtracted_up_to_what_it_announced() {
    let mut s = Sender::new(Some(ms(50)));
    s.send(A);
    s.at(ms(100)).ack_with(&[0..=0], ms(1000), None).unwrap();
    assert_eq!(s.recovery.rtt(A).unwrap().smoothed(), (ms(50) * 7 + ms(75)) / 8);
    s.recovery.set_max_ack_delay(Duration::MAX);
    assert_eq!(s.recovery.pto(A) - s.recovery.rtt(A).unwrap().pto(Duration::ZERO), ms(1000));
}

#[test]
fn only_the_largest_packet_of_a_frame_tells_the_round_trip_and_only_once() {
    let mut s = Sender::new(None);
    for _ in 0..3 {
        s.send(A);
    }
    s.at(ms(50)).ack(&[2..=2]).unwrap();
    s.at(ms(55)).ack(&[0..=2]).unwrap();
    assert_eq!((s.acked(), s.recovery.rtt(A).unwrap().latest()), (vec![0, 1], ms(50)));
}

#[test]
fn an_acknowledgement_that_was_passed_over_is_forgotten_later() {
    let mut s = Sender::new(Some(ms(50)));
    s.send_as(A, 60, false, false, false);
    s.send(A);
    s.send(A);
    s.at(ms(50)).ack(&[1..=1]).unwrap();
    assert_eq!((s.out.lost.len(), s.deadline().unwrap().1), (0, "probe timeout"), "not worth a timer");
    s.send(A);
    s.at(ms(51)).ack(&[2..=3]).unwrap();
    assert_eq!((&s.out.lost[..], s.recovery.counts().lost), (&[Sent::Ack { largest: 0 }][..], 1));
}

#[test]
fn paths_do_not_reorder_each_other() {
    let mut s = Sender::new(Some(ms(200)));
    s.recovery.add_path(B, &path_start(Some(ms(5))), start());
    s.send(A);
    for _ in 0..50 {
        s.send(B);
    }
    s.at(ms(5)).ack(&[1..=50]).unwrap();
    assert_eq!((s.acked().len(), s.lost()), (50, vec![]));
    assert_eq!((s.recovery.in_flight(A), s.recovery.in_flight(B)), (1200, 0));
    assert_eq!(s.deadline(), Some((ms(200 + 400 + 25), "probe timeout")));
    assert_eq!(s.recovery.rtt(A).unwrap().latest(), ms(200), "the sample belongs to the other path");
    s.at(ms(200)).ack(&[0..=50]).unwrap();
    assert_eq!(s.acked(), [0]);
    assert_eq!(s.recovery.rtt(A).unwrap().latest(), ms(200));
}

#[test]
fn a_late_acknowledgement_is_counted_not_told_and_widens_the_threshold() {
    let mut s = Sender::new(None);
    for _ in 0..10 {
        s.send(A);
    }
    s.at(ms(50)).ack(&[5..=9]).unwrap();
    assert_eq!(s.lost(), [0, 1, 2, 3, 4]);
    s.at(ms(51)).ack(&[0..=9]).unwrap();
    assert_eq!((s.out.acked.len(), s.out.lost.len(), s.recovery.counts().spurious), (0, 0, 5));
    // Packet 0 arrived after packet 9; each of the four others adds one.
    assert_eq!(s.path(A).reordering.packets(), 14);
    for _ in 0..12 {
        s.send(A);
    }
    s.at(ms(90)).ack(&[21..=21]).unwrap();
    assert_eq!(s.lost(), [0; 0]);
    s.at(ms(91)).ack(&[0..=9]).unwrap();
    assert_eq!(s.recovery.counts().spurious, 5, "once");
}

#[test]
fn a_late_packet_given_up_for_its_age_widens_the_time() {
    let mut s = Sender::new(Some(ms(40)));
    s.send(A);
    s.send(A);
    s.at(ms(40)).ack(&[1..=1]).unwrap();
    assert_eq!(s.deadline(), Some((ms(45), "loss")));
    s.at(ms(45)).timeout();
    s.at(ms(47)).ack(&[0..=1]).unwrap();
    assert_eq!((s.recovery.counts().spurious, s.path(A).reordering.eighths()), (1, 10));
}

#[test]
fn losing_all_of_three_probe_timeouts_is_persistent_congestion() {
    // The sample of 100 ms leaves a variation of 37.5: a timeout is 275 ms, the bound 825.
    for (last, persistent) in [(826, false), (827, true)] {
        let mut s = Sender::new(Some(ms(100)));
        for at in [1, 300, 600, last] {
            s.at(ms(at)).send(A);
        }
        s.at(ms(2000));
        for _ in 0..3 {
            s.send(A);
        }
        s.at(ms(2100)).ack(&[6..=6]).unwrap();
        assert_eq!((s.lost(), s.recovery.pto(A)), (vec![0, 1, 2, 3], ms(275)));
        assert_eq!(s.out.paths.contains(&PathChange::PersistentCongestion(A)), persistent, "{last}");
    }
}

#[test]
fn one_arrival_in_between_means_that_congestion_is_not_persistent() {
    let mut s = Sender::new(Some(ms(10)));
    s.at(ms(1)).send(A);
    s.at(ms(1000)).send(A);
    s.at(ms(1010)).ack(&[1..=1]).unwrap();
    assert_eq!(s.lost(), [0]);
    s.at(ms(2000)).send(A);
    s.at(ms(3000)).send(A);
    s.at(ms(3010)).ack(&[3..=3]).unwrap();
    assert_eq!((s.lost(), s.out.paths.len()), (vec![2], 0));
}

#[test]
fn acknowledgements_do_not_count_as_in_flight_and_set_no_timer() {
    let mut s = Sender::new(None);
    for _ in 0..10 {
        s.send_as(A, 60, false, false, false);
    }
    assert_eq!((s.recovery.in_flight(A), s.deadline(), s.recovery.is_settled()), (0, None, true));
    s.ack(&[9..=9]).unwrap();
    assert_eq!(s.out.acked, [Sent::Ack { largest: 9 }]);
    assert!(!s.recovery.rtt(A).unwrap().is_sampled(), "nobody had to answer in time");
    assert_eq!(s.deadline(), None);
}

#[test]
fn a_session_that_only_receives_stays_small_and_asks_for_an_answer() {
    let mut s = Sender::new(None);
    for n in 1..=10_000_u32 {
        s.send_as(A, 60, false, false, false);
        assert_eq!(s.recovery.wants_ping(), n >= ACK_ONLY);
    }
    assert!(s.recovery.heap() < 16 * 1024, "{}", s.recovery.heap());
    s.send(A);
    assert!(!s.recovery.wants_ping());
}

#[test]
fn acknowledging_what_was_not_sent_is_a_violation() {
    let mut s = Sender::new(None);
    assert_eq!(s.ack(&[0..=0]), Err(Violation::Protocol));
    s.send(A);
    assert_eq!(s.ack(&[0..=1]), Err(Violation::Protocol));
    assert_eq!(s.ack(&[u64::MAX >> 2..=u64::MAX >> 2, 0..=0]), Err(Violation::Protocol));
    assert_eq!(s.recovery.in_flight(A), 1200);
    s.ack(&[0..=0]).unwrap();
}

#[test]
fn acknowledging_a_number_that_was_left_out_is_a_violation() {
    let mut s = Sender::new(None);
    s.recovery.skip_at = None;
    let mut sent = Vec::new();
    let mut gaps = Vec::new();
    for n in 0..10_000 {
        let pn = s.send(A);
        gaps.extend(sent.last().map_or(0, |last| last + 1)..pn);
        sent.push(pn);
        if n % 100 == 99 {
            let ranges = |sent: &[u64]| {
                let mut set = structs::RangeSet::new();
                for pn in sent {
                    set.insert(*pn..pn + 1);
                }
                let ranges: Vec<_> = set.iter().rev().take(60).map(|range| range.start..=range.end - 1).collect();
                ranges
            };
            s.ack(&ranges(&sent)).unwrap();
        }
    }
    assert!((10..=40).contains(&gaps.len()), "{} numbers left out", gaps.len());
    let newest = *sent.last().unwrap();
    assert_eq!(s.ack(&[0..=newest]), Err(Violation::Protocol));
    for gap in gaps.iter().rev().take(SKIPPED) {
        assert_eq!(s.ack(&[*gap..=*gap]), Err(Violation::Protocol));
    }
    // Asking twice does not leave out two.
    let next = s.recovery.next_pn(&mut s.rng, s.now);
    assert_eq!(s.recovery.next_pn(&mut s.rng, s.now), next);
}

#[test]
fn a_packet_on_no_path_is_lost_and_its_number_is_used_up() {
    let mut s = Sender::new(None);
    assert_eq!((s.send(B), s.send(A)), (0, 1));
    s.ack(&[0..=1]).unwrap();
    assert_eq!((s.acked(), s.lost()), (vec![1], vec![0]));
}

#[test]
fn a_clock_that_jumps_loses_nothing() {
    let mut s = Sender::new(Some(ms(100)));
    for _ in 0..2 {
        s.send(A);
    }
    s.at(ms(8 * 3_600_000));
    s.recovery.on_resume(s.now);
    assert_eq!(s.deadline().map(|(at, _)| at), Some(ms(8 * 3_600_000 + 325)));
    s.timeout();
    assert_eq!((s.lost().len(), s.recovery.timeouts(A)), (0, 0));
    s.ack(&[1..=1]).unwrap();
    assert_eq!(s.lost(), [0; 0]);
    assert_eq!(s.recovery.rtt(A).unwrap().latest(), ms(100), "eight hours are no round trip");
    // A packet of before is given up a loss delay after the return, and that is no persistent congestion.
    let (at, reason) = s.deadline().unwrap();
    assert_eq!((at, reason), (ms(8 * 3_600_000) + us(112_500), "loss"));
    s.at(at).timeout();
    assert_eq!((s.lost(), s.out.paths.len()), (vec![0], 0));
}

#[test]
fn the_records_are_bounded_and_a_silent_path_does_not_stop_another() {
    let mut s = Sender::new(Some(ms(10)));
    s.recovery.add_path(B, &path_start(Some(ms(10))), start());
    s.send(B);
    let mut sent = 0;
    while let Budget::Bytes(_) = s.recovery.may_send(A, s.now) {
        s.send(A);
        sent += 1;
    }
    assert_eq!(sent, MAX_RECORDS - HEADROOM, "the packet of the other path gave way");
    assert_eq!(s.recovery.in_flight(B), 0);
    assert_eq!(s.recovery.may_send(A, s.now), Budget::Full);
    s.at(ms(10)).ack(&[1..=1]).unwrap();
    assert_eq!(s.lost(), [0], "its frames are handed back");
    assert_ne!(s.recovery.may_send(A, s.now), Budget::Full);
    // Packets that leave whatever the budget says push the oldest out.
    for _ in 0..MAX_RECORDS {
        s.send_as(A, 50, true, false, false);
    }
    assert_eq!(s.recovery.ring.len(), MAX_RECORDS);
    s.at(ms(11)).timeout();
    let lost = s.lost();
    assert_eq!((lost.first(), lost.len()), (Some(&2), 7935), "all that was in flight before");
    assert_eq!(s.recovery.in_flight(A), MAX_RECORDS * 50);
}

#[test]
fn a_path_full_to_its_window_waits() {
    let mut s = Sender::with(Algorithm::Fixed(3600), Some(ms(10)));
    assert_eq!(s.recovery.may_send(A, s.now), Budget::Bytes(3600));
    s.send(A);
    s.send_as(A, 1201, true, false, false);
    assert_eq!(s.recovery.may_send(A, s.now), Budget::Full, "1199 bytes are no datagram");
    s.at(ms(10)).ack(&[0..=0]).unwrap();
    assert_eq!(s.recovery.may_send(A, s.now), Budget::Bytes(2399));
}
