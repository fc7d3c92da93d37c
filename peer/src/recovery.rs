//! What became of the packets that were sent: RFC 9002 in one packet-number space over several paths.
//!
//! Each path measures its own round trip, has its own window, size and marks, and loses packets only because of later
//! packets of its own: paths of different length do not reorder each other. What is in flight on a path is exactly the
//! bytes of its ack-eliciting packets that are neither acknowledged nor given up.
//!
//! Three things are not in the RFC. A packet number is left out now and then, so that a peer which acknowledges what it
//! has not received gives itself away. The oldest packets' frames are handed back for repetition when a probe timeout
//! fires, so that a probe carries what is missing; the packets themselves stay in flight. And the thresholds give way
//! to a path that is found to reorder.
//!
//! The fate of each frame is told once: acknowledged or lost, whatever comes later.

mod loss;
mod path;
mod reorder;
mod ring;
#[cfg(test)]
pub(crate) mod tests;
mod types;

use std::time::{Duration, Instant};

use crypto::Rng;
use framing::Ack;
use structs::{Deadline, Ecn};

use crate::Violation;
use crate::congestion::{Algorithm, Snapshot, Summary};
use crate::ecn::{Judged, Reported};
use crate::mtu::BASE;
use crate::rtt::{MAX_ACK_DELAY, Rtt};
use crate::sent::Sent;
use loss::{detect, repeat_oldest, report};
use path::{MAX_PROBES, Path};
use ring::{BY_TIME, Bit, ELICITING, MARKED, MAX_RECORDS, MTU_PROBE, Ring, mask};
pub(crate) use types::{Budget, Counts, Outcome, PathChange, PathSlot, PathStart, SentPacket};

/// How many paths a session has at most.
pub(crate) const MAX_PATHS: usize = 8;

/// Data stops this far below the limit of records: probes and acknowledgements still leave.
const HEADROOM: u64 = 256;

/// Packets that were given up are not remembered when they lie further back than this.
const LATE_RECORDS: u64 = MAX_RECORDS / 2;

/// Records of packets that want no acknowledgement are dropped from the lower end when there are more than this, since
/// a session that only receives may never hear of them.
const IDLE_RECORDS: u64 = 32;

/// So many packets in a row without anything to acknowledge call for a PING, so that the peer's ranges do not pile up
/// (RFC 9000 13.2.4).
const ACK_ONLY: u32 = 32;

/// The numbers left out are this far apart: the least, and how much chance adds at most.
const SKIP: (u64, u64) = (16, 1024);

/// How many numbers left out are remembered. At the mean distance they reach back over a whole ring.
const SKIPPED: usize = 16;

/// How many probe timeouts a packet that was given up is remembered, to notice that it was a mistake.
const REMEMBER: u32 = 3;

/// The packets of a session on their way.
#[derive(Debug)]
pub(crate) struct Recovery {
    algorithm: Algorithm,
    ring: Ring,
    paths: [Option<Box<Path>>; MAX_PATHS],
    largest_acked: Option<u64>,
    max_ack_delay: Duration,
    reported: Reported,
    marked: u64,
    /// Frames of packets that were forgotten for want of room, until they can be reported.
    evicted: Vec<Sent>,
    skip_at: Option<u64>,
    /// Numbers left out lately, ascending.
    skipped: Vec<u64>,
    ack_only: u32,
    counts: Counts,
}

impl Recovery {
    /// Nothing sent, no path.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            ring: Ring::default(),
            paths: [const { None }; MAX_PATHS],
            largest_acked: None,
            max_ack_delay: MAX_ACK_DELAY,
            reported: Reported::default(),
            marked: 0,
            evicted: Vec::new(),
            skip_at: None,
            skipped: Vec::new(),
            ack_only: 0,
            counts: Counts::default(),
        }
    }

    /// Sets how long the peer says that it may hold back an acknowledgement; cut to a second.
    pub(crate) fn set_max_ack_delay(&mut self, delay: Duration) {
        self.max_ack_delay = delay.min(Duration::from_secs(1));
    }

    /// Starts to use a slot. One in use is reset instead, as by [`reset_path`](Self::reset_path).
    pub(crate) fn add_path(&mut self, slot: PathSlot, start: &PathStart, now: Instant) {
        let (algorithm, oldest) = (self.algorithm, self.ring.end());
        match self.paths.get_mut(usize::from(slot.0)) {
            Some(Some(path)) => path.reset(start, now),
            Some(free) => *free = Some(Box::new(Path::new(start, algorithm, oldest, now))),
            None => debug_assert!(false, "no such slot: {slot:?}"),
        }
    }

    /// The slot leads to another address now: round trip, window, size and marks start again, and packets that left
    /// before count for nothing here any more, though they can still be acknowledged or lost. Not for a change of port
    /// alone, which the network behind it survives.
    pub(crate) fn reset_path(&mut self, slot: PathSlot, start: &PathStart, now: Instant) {
        if let Some(path) = self.path_mut(slot) {
            path.reset(start, now);
        }
    }

    /// Gives a slot up. What is in flight there is lost, which says nothing about congestion.
    pub(crate) fn remove_path(&mut self, slot: PathSlot, out: &mut Outcome) {
        out.lost.append(&mut self.evicted);
        let mut next = self.ring.base();
        while let Some(number) = self.ring.next_pending(next) {
            next = number + 1;
            if let Some(record) = self.ring.get_mut(number).filter(|record| record.path == slot.0) {
                report(record, &mut out.lost);
                self.ring.clear(Bit::Pending, number);
                self.counts.lost += 1;
            }
        }
        // Whoever gets the slot next is not to be blamed.
        next = self.ring.base();
        while let Some(number) = self.ring.next_lost(next) {
            next = number + 1;
            if self.ring.get(number).is_some_and(|record| record.path == slot.0) {
                self.ring.clear(Bit::Lost, number);
            }
        }
        if let Some(path) = self.paths.get_mut(usize::from(slot.0)) {
            *path = None;
        }
        self.ring.advance(|_, _| true);
    }

    /// The machine slept, or the clock jumped: nothing before `now` is held against a path.
    pub(crate) fn on_resume(&mut self, now: Instant) {
        self.paths.iter_mut().flatten().for_each(|path| path.resume(now));
    }

    /// Nothing has happened for long, and [nothing is under way](Self::is_settled): gives back what memory a busy time
    /// left behind, and the models of its paths if `forget` says so.
    pub(crate) fn rest(&mut self, forget: bool, now: Instant) {
        self.forget(now);
        // What only acknowledged may never be acknowledged itself.
        while self.ring.len() > 0 && self.is_settled() {
            self.evict();
        }
        self.ring.rest();
        self.evicted.shrink_to_fit();
        // What an acknowledgement says of settled numbers changes nothing, be it true or not.
        self.skipped.retain(|skipped| *skipped >= self.ring.base());
        self.skipped.shrink_to_fit();
        if forget && self.is_settled() {
            self.paths.iter_mut().flatten().for_each(|path| path.congestion.rest());
        }
    }

    /// The number of the next packet. The same until a packet is sent with it.
    pub(crate) fn next_pn(&mut self, rng: &mut Rng, now: Instant) -> u64 {
        let next = self.ring.end();
        match self.skip_at {
            Some(at) if next < at => return next,
            Some(_) if !self.ring.is_full() => {
                self.ring.push_gap(now);
                if self.skipped.len() >= SKIPPED {
                    self.skipped.remove(0);
                }
                self.skipped.push(next);
            }
            _ => {}
        }
        self.skip_at = Some(self.ring.end() + SKIP.0 + rng.below(SKIP.1));
        self.ring.end()
    }

    /// Takes in a packet that left. On a slot that is not in use it counts as lost.
    #[inline]
    pub(crate) fn on_sent(&mut self, packet: SentPacket, now: Instant) {
        debug_assert_eq!(packet.pn, self.ring.end(), "packets are numbered in the order they leave");
        if !packet.ack_eliciting || self.ring.is_full() {
            self.make_room();
        }
        let Some(Some(path)) = self.paths.get_mut(usize::from(packet.path.0)) else {
            // The number is used up whatever happens: it must not seal another packet.
            self.ring.push_gap(now);
            self.evicted.extend(packet.frames);
            return;
        };
        let mut flags = 0;
        let mut snapshot = Snapshot::default();
        if packet.ack_eliciting {
            flags |= ELICITING;
            snapshot = path.congestion.on_sent(packet.size, path.in_flight, now);
            path.in_flight += u64::from(packet.size);
            path.eliciting += 1;
            path.timer_from = now;
            path.probes = path.probes.saturating_sub(1);
            self.ack_only = 0;
        } else {
            self.ack_only = self.ack_only.saturating_add(1);
        }
        if packet.mtu_probe {
            flags |= MTU_PROBE;
            path.mtu.on_probe_sent(packet.size as usize);
        }
        if packet.marked {
            flags |= MARKED;
            path.ecn.on_sent();
            self.marked += 1;
        }
        self.counts.sent += 1;
        let seq = path.next_seq;
        path.next_seq += 1;
        // Field by field: the record is written where it stays.
        if let Some(record) = self.ring.push(now) {
            (record.sent_at, record.seq, record.size) = (now, seq, packet.size);
            (record.path, record.flags) = (packet.path.0, flags);
            record.snapshot = snapshot;
            record.frames = packet.frames;
        }
    }

    /// Takes in an ACK frame.
    ///
    /// # Errors
    ///
    /// [`Violation::Protocol`] if it acknowledges what was never sent. The session is over then; what `out` got so far
    /// is right.
    pub(crate) fn on_ack(&mut self, ack: &Ack<'_>, now: Instant, out: &mut Outcome) -> Result<(), Violation> {
        if ack.largest() >= self.ring.end() {
            return Err(Violation::Protocol);
        }
        out.lost.append(&mut self.evicted);
        for range in ack.ranges() {
            let (low, high) = range.into_inner();
            if self.skipped.iter().any(|skipped| (low..=high).contains(skipped)) {
                return Err(Violation::Protocol);
            }
            if high < self.ring.base() {
                break; // All below is settled, and ranges descend.
            }
            self.settle(low.max(self.ring.base()), high, now, out);
        }
        let raised = self.largest_acked.is_none_or(|largest| largest < ack.largest());
        if raised {
            self.largest_acked = Some(ack.largest());
        }
        let newly_ce = self.judge_marks(ack, raised);
        for slot in 0..MAX_PATHS {
            self.close_round(slot, ack, newly_ce, now, out);
        }
        self.forget(now);
        Ok(())
    }

    /// Does what timers demand: gives up packets, or lets probes leave.
    pub(crate) fn on_timeout(&mut self, now: Instant, out: &mut Outcome) {
        out.lost.append(&mut self.evicted);
        let max_ack_delay = self.max_ack_delay;
        for (slot, path) in (0..).zip(&mut self.paths) {
            let Some(path) = path else { continue };
            if path.loss_time.is_some_and(|at| at <= now) {
                let persistent =
                    detect(path, PathSlot(slot), &mut self.ring, max_ack_delay, now, &mut self.counts, out);
                path.congestion.on_round(&summary(path, None, 0, persistent), now);
            }
            // The loss timer goes first (RFC 9002 6.2.1), but a call that comes late may find both due.
            if path.loss_time.is_none() && path.probe_time(max_ack_delay).is_some_and(|at| at <= now) {
                path.timeouts = path.timeouts.saturating_add(1);
                path.timer_from = now;
                path.probes = MAX_PROBES;
                self.counts.timeouts += 1;
                repeat_oldest(path, slot, &mut self.ring, out);
            }
        }
        self.forget(now);
    }

    /// When [`on_timeout`](Self::on_timeout) wants to be called.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let of = |path: &Path| match path.loss_time {
            Some(at) => Some(Deadline { at, reason: "loss" }),
            None => path.probe_time(self.max_ack_delay).map(|at| Deadline { at, reason: "probe timeout" }),
        };
        self.paths.iter().flatten().fold(None, |earliest, path| Deadline::earliest(earliest, of(path)))
    }

    /// What may leave on a path. Packets that only acknowledge may always leave; those that
    /// [`probes_due`](Self::probes_due) asks for are allowed here.
    pub(crate) fn may_send(&mut self, slot: PathSlot, now: Instant) -> Budget {
        let no_records = self.lacks_records(slot);
        let Some(path) = self.path_mut(slot) else { return Budget::Full };
        let datagram = path.datagram();
        if path.probes > 0 {
            return Budget::Bytes(usize::from(path.probes) * datagram);
        }
        let window = path.congestion.window();
        let room = usize::try_from(window.saturating_sub(path.in_flight)).unwrap_or(usize::MAX);
        // Part of a datagram is not worth leaving for, unless there is nothing to wait for.
        if no_records || (room < datagram && path.in_flight > 0) {
            return Budget::Full;
        }
        match path.congestion.ready_at(now) {
            Some(at) if at > now => Budget::Wait(at),
            _ => Budget::Bytes(room.min(path.congestion.burst()).max(datagram)),
        }
    }

    /// How many packets should leave on a path whatever its window says, because nothing was heard for a probe timeout.
    /// They must be ack-eliciting: repeated data, new data, or a PING.
    pub(crate) fn probes_due(&self, slot: PathSlot) -> u8 {
        self.path(slot).map_or(0, |path| path.probes)
    }

    /// The size of the datagrams of a path, in bytes of UDP payload.
    pub(crate) fn mtu(&self, slot: PathSlot) -> usize {
        self.path(slot).map_or(BASE, Path::datagram)
    }

    /// The size of a padded PING that should leave to try for larger datagrams. To be asked only when the session is
    /// confirmed; stays due until such a packet was sent.
    pub(crate) fn mtu_probe(&mut self, slot: PathSlot, now: Instant) -> Option<usize> {
        self.path_mut(slot).filter(|path| path.timeouts == 0)?.mtu.due(now)
    }

    /// The mark of the next datagrams of a path.
    pub(crate) fn ecn(&self, slot: PathSlot) -> Ecn {
        self.path(slot).map_or(Ecn::NotEct, |path| path.ecn.mark())
    }

    /// The round trip of a path.
    pub(crate) fn rtt(&self, slot: PathSlot) -> Option<&Rtt> {
        self.path(slot).map(|path| &path.rtt)
    }

    /// The probe timeout of a path without backoff; the initial one for an unknown path.
    pub(crate) fn pto(&self, slot: PathSlot) -> Duration {
        self.path(slot).map_or_else(|| Rtt::new(None), |path| path.rtt).pto(self.max_ack_delay)
    }

    /// How many probe timeouts went by on a path since anything was acknowledged there.
    pub(crate) fn timeouts(&self, slot: PathSlot) -> u32 {
        self.path(slot).map_or(0, |path| path.timeouts)
    }

    /// Bytes in flight on a path.
    pub(crate) fn in_flight(&self, slot: PathSlot) -> u64 {
        self.path(slot).map_or(0, |path| path.in_flight)
    }

    /// The congestion window of a path in bytes.
    pub(crate) fn window(&self, slot: PathSlot) -> u64 {
        self.path(slot).map_or(0, |path| path.congestion.window())
    }

    /// The path could take more than there is to send.
    pub(crate) fn set_app_limited(&mut self, slot: PathSlot) {
        if let Some(path) = self.path_mut(slot) {
            path.congestion.set_app_limited(path.in_flight);
        }
    }

    /// Whether the next packet should carry a PING although there is nothing to send: the peer has not been given
    /// anything to acknowledge for long, and so we do not learn which of our acknowledgements arrived.
    pub(crate) fn wants_ping(&self) -> bool {
        self.ack_only >= ACK_ONLY
    }

    /// Whether anything that was sent may still be acknowledged or lost.
    pub(crate) fn is_settled(&self) -> bool {
        self.evicted.is_empty() && self.paths.iter().flatten().all(|path| path.eliciting == 0)
    }

    /// What happened so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes on the heap.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn heap(&self) -> usize {
        self.ring.heap()
            + self.paths.iter().flatten().count() * size_of::<Path>()
            + self.evicted.capacity() * size_of::<Sent>()
    }

    fn path(&self, slot: PathSlot) -> Option<&Path> {
        self.paths.get(usize::from(slot.0))?.as_deref()
    }

    fn path_mut(&mut self, slot: PathSlot) -> Option<&mut Path> {
        self.paths.get_mut(usize::from(slot.0))?.as_deref_mut()
    }

    /// Settles the packets `low..=high`, all of which are held, as acknowledged.
    fn settle(&mut self, low: u64, high: u64, now: Instant, out: &mut Outcome) {
        let mut first = low;
        while first <= high {
            let last = high.min(first | 63);
            let (word, mask) = (first & !63, mask(first, last));
            let pending = self.ring.take(Bit::Pending, word, mask);
            each(word, pending, |number| self.on_acked(number, now, out));
            let late = self.ring.take(Bit::Lost, word, mask);
            if late != 0 {
                each(word, late, |number| self.on_late(number, now, out));
            }
            if pending | late != 0 {
                let newest = word + 63 - u64::from((pending | late).leading_zeros());
                out.newest = out.newest.max(Some(newest));
            }
            first = last + 1;
        }
    }

    #[inline]
    fn on_acked(&mut self, number: u64, now: Instant, out: &mut Outcome) {
        let Some(record) = self.ring.get_mut(number) else { return };
        report(record, &mut out.acked);
        let Some(Some(path)) = self.paths.get_mut(usize::from(record.path)) else { return };
        self.counts.acked += 1;
        path.round.add(number, record.seq, record.sent_at, record.has(ELICITING), record.has(MARKED));
        if record.has(ELICITING) {
            path.eliciting -= 1;
            if record.seq >= path.epoch {
                path.in_flight -= u64::from(record.size);
                path.congestion.on_acked(&record.info(), now);
                if record.has(MTU_PROBE) {
                    on_probe_acked(path, PathSlot(record.path), record.size as usize, out);
                } else {
                    path.mtu.on_acked(record.size as usize);
                }
            }
        }
    }

    /// A packet that was given up arrived after all. Its frames were told lost, and that stays so.
    #[cold]
    fn on_late(&mut self, number: u64, now: Instant, out: &mut Outcome) {
        let Some(record) = self.ring.get(number) else { return };
        let Some(Some(path)) = self.paths.get_mut(usize::from(record.path)) else { return };
        self.counts.spurious += 1;
        path.round.add(number, record.seq, record.sent_at, record.has(ELICITING), record.has(MARKED));
        path.run.end();
        if record.seq < path.epoch {
            return;
        }
        let distance = path.largest_acked.map_or(0, |largest| largest.saturating_sub(record.seq));
        path.reordering.on_spurious(distance, record.has(BY_TIME));
        if record.has(MTU_PROBE) {
            on_probe_acked(path, PathSlot(record.path), record.size as usize, out);
        } else if record.has(ELICITING) {
            path.mtu.on_acked(record.size as usize);
            path.congestion.on_spurious(&record.info(), now);
        }
    }

    /// Judges the counts of marks and tells the paths; returns how many packets newly met congestion.
    fn judge_marks(&mut self, ack: &Ack<'_>, raised: bool) -> u64 {
        if !raised || self.marked == 0 {
            return 0;
        }
        let newly_marked = self.paths.iter().flatten().map(|path| path.round.marked).sum();
        let counts = ack.ecn().map(|counts| (counts.ect0, counts.ect1, counts.ce));
        let judged = self.reported.judge(counts, newly_marked, self.marked);
        for path in self.paths.iter_mut().flatten().filter(|path| path.round.marked > 0) {
            path.ecn.on_verdict(judged != Judged::Broken);
        }
        match judged {
            Judged::Plausible { newly_ce } => newly_ce,
            Judged::Broken => 0,
        }
    }

    /// Applies to one path what an ACK frame said: RFC 9002 A.7, from the round trip to the window.
    fn close_round(&mut self, slot: usize, ack: &Ack<'_>, newly_ce: u64, now: Instant, out: &mut Outcome) {
        let Some(Some(path)) = self.paths.get_mut(slot) else { return };
        let round = std::mem::take(&mut path.round);
        let Some((number, seq, sent_at)) = round.newest else { return };
        path.largest_acked = path.largest_acked.max(Some(seq));
        // Only the largest packet of the frame comes with its delay, and only if it went the way that the path goes now,
        // while the clock ran.
        let mut sample = None;
        let timely = path.resumed_at.is_none_or(|resumed| sent_at >= resumed);
        if number == ack.largest() && round.eliciting && seq >= path.epoch && timely {
            let measured = now.saturating_duration_since(sent_at);
            path.rtt.update(measured, ack.delay().min(self.max_ack_delay));
            path.run.on_sample(now);
            sample = Some(path.rtt.latest());
        }
        let slot = PathSlot(u8::try_from(slot).unwrap_or(u8::MAX));
        let persistent = detect(path, slot, &mut self.ring, self.max_ack_delay, now, &mut self.counts, out);
        path.timeouts = 0;
        path.probes = 0;
        let newly_ce = if round.marked > 0 { newly_ce } else { 0 };
        path.congestion.on_round(&summary(path, sample, newly_ce, persistent), now);
    }

    /// Lets go of records that nobody will ask for.
    fn forget(&mut self, now: Instant) {
        let (paths, max_ack_delay) = (&self.paths, self.max_ack_delay);
        let lowest = self.ring.end().saturating_sub(LATE_RECORDS);
        self.ring.advance(|number, record| {
            let path = paths.get(usize::from(record.path)).and_then(Option::as_ref);
            number >= lowest && path.is_some_and(|path| now < record.sent_at + path.rtt.pto(max_ack_delay) * REMEMBER)
        });
    }

    /// Whether data may not leave on this path for want of records. What holds up the ring is dropped, unless it is a
    /// packet of the same path: a path that is silent must not stop another.
    fn lacks_records(&mut self, slot: PathSlot) -> bool {
        while self.ring.len() >= MAX_RECORDS - HEADROOM {
            let base = self.ring.base();
            let held = self.ring.get(base).is_some_and(|record| record.path == slot.0 && record.has(ELICITING));
            if held && self.ring.is(Bit::Pending, base) {
                return true;
            }
            self.evict();
        }
        false
    }

    /// Drops the lowest records if the ring is full, or if they only acknowledged and there are many.
    fn make_room(&mut self) {
        while self.ring.len() > IDLE_RECORDS {
            let base = self.ring.base();
            let idle =
                self.ring.is(Bit::Pending, base) && self.ring.get(base).is_some_and(|record| !record.has(ELICITING));
            if !idle && !self.ring.is_full() {
                return;
            }
            self.evict();
        }
    }

    /// Forgets the lowest number. If it was still pending it counts as lost, which is reported with the next call.
    fn evict(&mut self) {
        let Some((number, true)) = self.ring.pop_front() else { return };
        let Some(record) = self.ring.get_mut(number) else { return };
        if record.has(ELICITING) {
            report(record, &mut self.evicted);
            self.counts.lost += 1;
            if let Some(Some(path)) = self.paths.get_mut(usize::from(record.path)) {
                path.eliciting -= 1;
                if record.seq >= path.epoch {
                    path.in_flight -= u64::from(record.size);
                    if record.has(MTU_PROBE) {
                        path.mtu.on_probe_lost(record.size as usize);
                    }
                }
            }
        }
    }
}

fn on_probe_acked(path: &mut Path, slot: PathSlot, size: usize, out: &mut Outcome) {
    if path.mtu.on_probe_acked(size) {
        path.congestion.on_mtu(size);
        out.paths.push(PathChange::Mtu(slot, size));
    }
}

fn summary(path: &Path, latest_rtt: Option<Duration>, newly_ce: u64, persistent: bool) -> Summary {
    Summary {
        in_flight: path.in_flight,
        latest_rtt,
        smoothed_rtt: path.rtt.smoothed(),
        min_rtt: path.rtt.min(),
        newly_ce,
        persistent,
    }
}

/// Calls `visit` with the number of each bit set.
#[inline]
fn each(first: u64, mut bits: u64, mut visit: impl FnMut(u64)) {
    while bits != 0 {
        visit(first + u64::from(bits.trailing_zeros()));
        bits &= bits - 1;
    }
}
