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

mod acked;
mod loss;
mod path;
mod reorder;
mod ring;
#[cfg(test)]
pub(crate) mod tests;
mod types;

use std::time::{Duration, Instant};

use crypto::Rng;
use smallvec::SmallVec;
use structs::{Deadline, Ecn, Rare};

use crate::congestion::{Algorithm, Snapshot};
use crate::ecn::Reported;
use crate::mtu::BASE;
use crate::rtt::{MAX_ACK_DELAY, Rtt};
use crate::sent::Sent;
use loss::{detect, repeat_oldest, report};
use path::{MAX_PROBES, Path};
use ring::{Bit, ELICITING, MARKED, MAX_RECORDS, MTU_PROBE, Ring};
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
    /// As many as the highest slot needs that was in use: one, as a rule.
    paths: SmallVec<[Option<Box<Path>>; 1]>,
    largest_acked: Option<u64>,
    max_ack_delay: Duration,
    reported: Reported,
    marked: u64,
    /// Frames of packets that were forgotten for want of room, until they can be reported.
    evicted: Rare<Vec<Sent>>,
    skip_at: Option<u64>,
    /// Numbers left out lately, ascending.
    skipped: Rare<Vec<u64>>,
    ack_only: u32,
    counts: Counts,
}

impl Recovery {
    /// Nothing sent, no path.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            ring: Ring::default(),
            paths: SmallVec::new(),
            largest_acked: None,
            max_ack_delay: MAX_ACK_DELAY,
            reported: Reported::default(),
            marked: 0,
            evicted: Rare::new(),
            skip_at: None,
            skipped: Rare::new(),
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
        let at = usize::from(slot.0);
        if at >= self.paths.len() && at < MAX_PATHS {
            self.paths.resize_with(at + 1, || None);
        }
        match self.paths.get_mut(at) {
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
        self.report_evicted(out);
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
    /// left behind, and the models of its paths if `forget` says so, or if they know next to nothing.
    pub(crate) fn rest(&mut self, forget: bool, now: Instant) {
        self.forget(now);
        // What only acknowledged may never be acknowledged itself.
        while self.ring.len() > 0 && self.is_settled() {
            self.evict();
        }
        self.ring.rest();
        self.evicted.rest();
        // What an acknowledgement says of settled numbers changes nothing, be it true or not.
        let base = self.ring.base();
        if !self.skipped.is_empty() {
            self.skipped.retain(|skipped| *skipped >= base);
        }
        self.skipped.rest();
        if self.is_settled() {
            self.paths.iter_mut().flatten().for_each(|path| path.rest());
            let paths = self.paths.iter_mut().flatten().filter(|path| forget || path.congestion.knows_little());
            paths.for_each(|path| path.congestion.rest());
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

    /// Does what timers demand: gives up packets, or lets probes leave.
    pub(crate) fn on_timeout(&mut self, now: Instant, out: &mut Outcome) {
        self.report_evicted(out);
        let max_ack_delay = self.max_ack_delay;
        for (slot, path) in (0..).zip(&mut self.paths) {
            let Some(path) = path else { continue };
            if path.loss_time.is_some_and(|at| at <= now) {
                let persistent =
                    detect(path, PathSlot(slot), &mut self.ring, max_ack_delay, now, &mut self.counts, out);
                path.congestion.on_round(&path.summary(None, 0, persistent), now);
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

    fn report_evicted(&mut self, out: &mut Outcome) {
        if !self.evicted.is_empty() {
            out.lost.append(&mut self.evicted);
        }
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
