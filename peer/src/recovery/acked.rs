//! What an acknowledgement says: which packets arrived, and what that tells about their paths.

use std::time::Instant;

use framing::Ack;

use super::loss::{detect, report};
use super::path::Path;
use super::ring::{BY_TIME, Bit, ELICITING, MTU_PROBE, mask};
use super::{Outcome, PathChange, PathSlot, Recovery};
use crate::Violation;
use crate::ecn::Judged;

impl Recovery {
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
        self.report_evicted(out);
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
        let newly_ce = self.judge_marks(ack, raised, out);
        for slot in 0..self.paths.len() {
            self.close_round(slot, ack, newly_ce, now, out);
        }
        self.forget(now);
        Ok(())
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
        out.round(usize::from(record.path)).add(number, record);
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
        out.round(usize::from(record.path)).add(number, record);
        path.end_run();
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
    fn judge_marks(&mut self, ack: &Ack<'_>, raised: bool, out: &Outcome) -> u64 {
        if !raised || self.marked == 0 {
            return 0;
        }
        let newly_marked = out.rounds.iter().map(|round| round.marked).sum();
        let counts = ack.ecn().map(|counts| (counts.ect0, counts.ect1, counts.ce));
        let judged = self.reported.judge(counts, newly_marked, self.marked);
        let marked = self.paths.iter_mut().zip(&out.rounds).filter(|(_, round)| round.marked > 0);
        for path in marked.filter_map(|(path, _)| path.as_deref_mut()) {
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
        let round = std::mem::take(out.round(slot));
        let Some((number, seq, sent_at)) = round.newest else { return };
        path.largest_acked = path.largest_acked.max(Some(seq));
        // Only the largest packet of the frame comes with its delay, and only if it went the way that the path goes now,
        // while the clock ran.
        let mut sample = None;
        let timely = path.resumed_at.is_none_or(|resumed| sent_at >= resumed);
        if number == ack.largest() && round.eliciting && seq >= path.epoch && timely {
            let measured = now.saturating_duration_since(sent_at);
            path.rtt.update(measured, ack.delay().min(self.max_ack_delay));
            path.on_sample();
            sample = Some(path.rtt.latest());
        }
        let slot = PathSlot(u8::try_from(slot).unwrap_or(u8::MAX));
        let persistent = detect(path, slot, &mut self.ring, self.max_ack_delay, now, &mut self.counts, out);
        path.timeouts = 0;
        path.probes = 0;
        let newly_ce = if round.marked > 0 { newly_ce } else { 0 };
        path.congestion.on_round(&path.summary(sample, newly_ce, persistent), now);
    }
}

fn on_probe_acked(path: &mut Path, slot: PathSlot, size: usize, out: &mut Outcome) {
    if path.mtu.on_probe_acked(size) {
        path.congestion.on_mtu(size);
        out.paths.push(PathChange::Mtu(slot, size));
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
