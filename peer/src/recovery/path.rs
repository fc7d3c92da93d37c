//! The state of one path: everything that is not the same for all.

use std::time::{Duration, Instant};

use structs::{Blank, Rare};

use super::PathStart;
use super::reorder::Reordering;
use super::ring::{ELICITING, MARKED, Record};
use crate::congestion::{Algorithm, Congestion, Summary};
use crate::ecn::PathEcn;
use crate::mtu::{BASE, MtuSearch};
use crate::rtt::Rtt;

/// How many packets a probe timeout allows beyond the window (RFC 9002 6.2.4).
pub(super) const MAX_PROBES: u8 = 2;

/// The longest pause between two probe timeouts: backoff ends here.
const MAX_PTO: Duration = Duration::from_secs(30);

/// After so many timeouts in a row only packets of the base size are sent: if the path lost its larger size, small
/// probes find that out.
const SMALL_AFTER: u32 = 2;

#[derive(Debug)]
pub(super) struct Path {
    pub(super) rtt: Rtt,
    pub(super) congestion: Congestion,
    pub(super) mtu: MtuSearch,
    pub(super) ecn: PathEcn,
    pub(super) reordering: Reordering,
    /// Bytes of ack-eliciting packets of this epoch that are neither acknowledged nor lost.
    pub(super) in_flight: u64,
    /// Ack-eliciting packets that are neither acknowledged nor lost, those of earlier epochs included.
    pub(super) eliciting: u64,
    /// The next number among the packets of this path.
    pub(super) next_seq: u64,
    /// Packets below left before the path led where it leads now: they count for nothing here.
    pub(super) epoch: u64,
    pub(super) largest_acked: Option<u64>,
    /// No pending packet of this path has a lower packet number.
    pub(super) oldest: u64,
    /// When the oldest unacknowledged packet counts as lost.
    pub(super) loss_time: Option<Instant>,
    pub(super) timeouts: u32,
    pub(super) probes: u8,
    /// From when the probe timeout runs: the last ack-eliciting packet, timeout or resumption.
    pub(super) timer_from: Instant,
    /// Packets sent before say nothing about time.
    pub(super) resumed_at: Option<Instant>,
    /// Losses count for a run from this packet on: the first that left after a round trip was measured.
    counts_from: u64,
    run: Rare<Run>,
}

/// A run of lost packets without one acknowledged in between (RFC 9002 7.6.2).
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    first: Option<Instant>,
    last: Option<Instant>,
    next_seq: u64,
}

/// What the ACK frame at hand brings for this path.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Round {
    pub(super) eliciting: bool,
    pub(super) marked: u64,
    /// The newest packet acknowledged: its number in the session, its number on the path, and when it left.
    pub(super) newest: Option<(u64, u64, Instant)>,
}

impl Path {
    pub(super) fn new(start: &PathStart, algorithm: Algorithm, oldest: u64, now: Instant) -> Self {
        let mtu = MtuSearch::new(start.mtu, start.max_mtu, start.loopback);
        Self {
            rtt: Rtt::new(start.rtt),
            congestion: Congestion::new(algorithm, mtu.current(), now),
            mtu,
            ecn: PathEcn::new(start.ecn),
            reordering: Reordering::new(),
            in_flight: 0,
            eliciting: 0,
            next_seq: 0,
            epoch: 0,
            largest_acked: None,
            oldest,
            loss_time: None,
            timeouts: 0,
            probes: 0,
            timer_from: now,
            resumed_at: None,
            counts_from: if start.rtt.is_some() { 0 } else { u64::MAX },
            run: Rare::new(),
        }
    }

    /// The path leads elsewhere: everything learnt about it is forgotten, but not what is on its way.
    pub(super) fn reset(&mut self, start: &PathStart, now: Instant) {
        self.rtt = Rtt::new(start.rtt);
        self.mtu = MtuSearch::new(start.mtu, start.max_mtu, start.loopback);
        self.congestion.reset(self.mtu.current(), now);
        self.ecn = PathEcn::new(start.ecn);
        self.reordering = Reordering::new();
        self.in_flight = 0;
        self.epoch = self.next_seq;
        self.loss_time = None;
        self.timeouts = 0;
        self.probes = 0;
        self.timer_from = now;
        self.counts_from = if start.rtt.is_some() { self.next_seq } else { u64::MAX };
        self.run = Rare::new();
    }

    /// Time may have jumped: no packet is held to have been on its way since before.
    pub(super) fn resume(&mut self, now: Instant) {
        self.resumed_at = Some(now);
        self.timer_from = now;
        self.timeouts = 0;
        self.loss_time = None;
        self.end_run();
    }

    /// A round trip was measured.
    pub(super) const fn on_sample(&mut self) {
        if self.counts_from == u64::MAX {
            self.counts_from = self.next_seq;
        }
    }

    /// A packet was lost, which was sent by an awake machine on the path that this still is, and wanted an acknowledgement,
    /// if it `counts`.
    pub(super) fn on_lost(&mut self, seq: u64, counts: bool, sent_at: Instant) {
        let counts = counts && seq >= self.counts_from;
        self.run.on_lost(seq, counts, sent_at);
    }

    /// How long nothing but losses came.
    pub(super) fn run_span(&self) -> Duration {
        self.run.span()
    }

    /// Something arrived.
    pub(super) fn end_run(&mut self) {
        if self.run.first.is_some() {
            self.run.end();
        }
    }

    /// What the model is told at the end of a round.
    pub(super) fn summary(&self, latest_rtt: Option<Duration>, newly_ce: u64, persistent: bool) -> Summary {
        Summary {
            in_flight: self.in_flight,
            latest_rtt,
            smoothed_rtt: self.rtt.smoothed(),
            min_rtt: self.rtt.min(),
            newly_ce,
            persistent,
        }
    }

    /// Nothing is under way.
    pub(super) fn rest(&mut self) {
        self.run.rest();
    }

    /// When a packet counts as sent.
    pub(super) fn effective(&self, sent_at: Instant) -> Instant {
        self.resumed_at.map_or(sent_at, |resumed| resumed.max(sent_at))
    }

    /// The size of datagrams now.
    pub(super) fn datagram(&self) -> usize {
        if self.timeouts >= SMALL_AFTER { BASE } else { self.mtu.current() }
    }

    /// When the next probe timeout is.
    pub(super) fn probe_time(&self, max_ack_delay: Duration) -> Option<Instant> {
        (self.eliciting > 0).then(|| self.timer_from + self.backoff(max_ack_delay))
    }

    fn backoff(&self, max_ack_delay: Duration) -> Duration {
        let pto = self.rtt.pto(max_ack_delay);
        pto.saturating_mul(1 << self.timeouts.min(16)).min(MAX_PTO.max(pto))
    }
}

impl Run {
    /// A packet was lost; in ascending order.
    fn on_lost(&mut self, seq: u64, counts: bool, sent_at: Instant) {
        if seq != self.next_seq {
            self.end();
        }
        self.next_seq = seq + 1;
        if counts {
            self.first.get_or_insert(sent_at);
            self.last = Some(sent_at);
        }
    }

    /// How much time of sending was lost altogether.
    fn span(&self) -> Duration {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        }
    }

    fn end(&mut self) {
        (self.first, self.last) = (None, None);
    }
}

impl Blank for Run {
    const BLANK: &'static Self = &Self { first: None, last: None, next_seq: 0 };

    fn is_blank(&self) -> bool {
        self.first.is_none()
    }
}

impl Round {
    /// A packet was newly acknowledged.
    #[inline]
    pub(super) fn add(&mut self, number: u64, record: &Record) {
        self.eliciting |= record.has(ELICITING);
        self.marked += u64::from(record.has(MARKED));
        if self.newest.is_none_or(|(newest, ..)| number > newest) {
            self.newest = Some((number, record.seq, record.sent_at));
        }
    }
}
