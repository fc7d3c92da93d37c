//! Giving packets up, and repeating what they carried.

use std::time::{Duration, Instant};

use super::path::{MAX_PROBES, Path};
use super::ring::{BY_TIME, Bit, ELICITING, MARKED, MTU_PROBE, Record, Ring};
use super::{Counts, Outcome, PathChange, PathSlot};
use crate::sent::{Sent, SentFrames};

/// Losses over more than so many probe timeouts are persistent congestion (RFC 9002 7.6.1).
const PERSISTENT: u32 = 3;

/// Gives up the packets of a path that were overtaken by too many or for too long, and sets the timer for the next one.
/// Returns whether the congestion is persistent.
///
/// Packets of a path are given up in the order they left, for both thresholds only grow with age: the scan ends at the
/// first one that stays, and never looks at what it has passed again.
pub(super) fn detect(
    path: &mut Path,
    slot: PathSlot,
    ring: &mut Ring,
    max_ack_delay: Duration,
    now: Instant,
    counts: &mut Counts,
    out: &mut Outcome,
) -> bool {
    path.loss_time = None;
    let Some(largest) = path.largest_acked else { return false };
    let delay = path.rtt.loss_delay(path.reordering.eighths());
    let mut smallest = usize::MAX;
    let mut passed_over = false;
    let mut next = path.oldest;
    loop {
        let Some(number) = ring.next_pending(next) else {
            path.oldest = if passed_over { path.oldest } else { ring.end() };
            break;
        };
        next = number + 1;
        let Some(record) = ring.get_mut(number).filter(|record| record.path == slot.0) else { continue };
        if !passed_over {
            path.oldest = number;
        }
        if record.seq >= largest {
            break;
        }
        let overtaken = largest - record.seq >= path.reordering.packets();
        let lost_at = path.effective(record.sent_at) + delay;
        if !overtaken && lost_at > now {
            if record.has(ELICITING) {
                path.loss_time = Some(lost_at);
                break;
            }
            passed_over = true; // It is not worth a timer, but the next may be.
            continue;
        }
        let (seq, size, eliciting) = (record.seq, record.size as usize, record.has(ELICITING));
        record.flags |= if overtaken { 0 } else { BY_TIME };
        report(record, &mut out.lost);
        counts.lost += 1;
        let timely = path.resumed_at.is_none_or(|resumed| record.sent_at >= resumed) && seq >= path.epoch;
        path.on_lost(seq, eliciting && timely, record.sent_at);
        if record.has(MARKED) && seq >= path.epoch {
            path.ecn.on_lost();
        }
        if eliciting {
            path.eliciting -= 1;
            if seq >= path.epoch {
                path.in_flight -= u64::from(record.size);
                if record.has(MTU_PROBE) {
                    path.mtu.on_probe_lost(size);
                } else {
                    smallest = smallest.min(size);
                    path.congestion.on_lost(&record.info(), now);
                }
            }
        }
        ring.clear(Bit::Pending, number);
        ring.set(Bit::Lost, number);
    }
    if smallest == usize::MAX {
        return false;
    }
    path.reordering.on_lost();
    if path.mtu.on_lost(smallest, path.timeouts) {
        path.congestion.on_mtu(path.mtu.current());
        out.paths.push(PathChange::BlackHole(slot));
    }
    let persistent = path.run_span() > path.rtt.pto(max_ack_delay) * PERSISTENT;
    if persistent {
        path.end_run();
        path.rtt.forget_min();
        out.paths.push(PathChange::PersistentCongestion(slot));
    }
    persistent
}

/// Hands back what the oldest packets of a path carried, as far as it bears repetition, so that probes have something
/// to carry. The packets stay in flight.
pub(super) fn repeat_oldest(path: &Path, slot: u8, ring: &mut Ring, out: &mut Outcome) {
    let (mut next, mut left) = (path.oldest, MAX_PROBES);
    while let Some(number) = ring.next_pending(next).filter(|_| left > 0) {
        next = number + 1;
        let Some(record) = ring.get_mut(number).filter(|record| record.path == slot && record.has(ELICITING)) else {
            continue;
        };
        left -= 1;
        record.frames.retain(|frame| {
            let stays = matches!(frame, Sent::Ack { .. } | Sent::Ping | Sent::Datagram(_) | Sent::Close);
            if !stays {
                out.lost.push(*frame);
            }
            stays
        });
    }
}

/// Moves the frames of a packet out; the record keeps none.
#[inline]
pub(super) fn report(record: &mut Record, to: &mut Vec<Sent>) {
    for frame in &record.frames {
        to.push(*frame); // One or two as a rule: not worth a call to copy them.
    }
    if record.frames.spilled() {
        record.frames = SentFrames::new();
    } else {
        record.frames.clear();
    }
}
