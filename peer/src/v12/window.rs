//! How many messages may be under way.
//!
//! The v12 wire has no acknowledgement. The existing nodes count any DATA or PONG from the peer as one, so a
//! one-way sender ends at two messages a second. Nodes answer PINGs in the order of arrival, though: a PONG says that
//! everything sent before its PING was taken in. Peers of this implementation say exactly what they received.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use framing::v12::limits;

use super::note::Ack;

/// Other implementations have 208 KiB of socket buffer at best, which hold about ninety datagrams of 1 KiB with
/// the kernel's overhead; nothing repairs what does not fit.
const OTHERS_MESSAGES: u64 = 48;
const OTHERS_BYTES: u64 = 48 * 1024;

#[derive(Debug)]
pub(super) struct Window {
    cwnd: u64,
    /// Messages and bytes ever sent and ever acknowledged in this epoch.
    sent: Count,
    acked: Count,
    /// What was sent when the PING under way left.
    mark: Option<Count>,
    /// What the peer is ready to take, if it said so.
    offered: Option<(u64, u64)>,
    /// Cumulative bytes behind each sequence number still under way, for acknowledgements by number.
    log: VecDeque<(u32, Count)>,
    /// What the peer says it never got of this epoch.
    missing: u64,
    last_loss: Option<Instant>,
    lost: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    messages: u64,
    bytes: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            cwnd: u64::from(limits::CWND_INITIAL),
            sent: Count::default(),
            acked: Count::default(),
            mark: None,
            offered: None,
            log: VecDeque::new(),
            missing: 0,
            last_loss: None,
            lost: 0,
        }
    }

    pub(super) fn cwnd(&self) -> u64 {
        self.cwnd
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.sent.messages.saturating_sub(self.acked.messages)
    }

    /// Messages that the peer reported as lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether a message of `bytes` may leave. When nothing is under way any one may, unless the peer takes none.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        let in_flight = self.in_flight();
        let (messages, limit) = self.offered.unwrap_or((OTHERS_MESSAGES, OTHERS_BYTES));
        if in_flight == 0 {
            return messages > 0;
        }
        let under_way = self.sent.bytes.saturating_sub(self.acked.bytes);
        in_flight < self.cwnd.min(messages) && under_way.saturating_add(bytes as u64) <= limit
    }

    /// A message left. Without a number (in plaintext fragments) only a PONG can acknowledge it.
    pub(super) fn on_sent(&mut self, seq: Option<u32>, bytes: usize) {
        self.sent.messages += 1;
        self.sent.bytes += bytes as u64;
        if let Some(seq) = seq {
            self.log.push_back((seq, self.sent));
        }
    }

    /// Whether something is under way that no number will acknowledge.
    pub(super) fn needs_pong(&self) -> bool {
        self.in_flight() > 0 && self.log.is_empty()
    }

    /// A PING leaves: its answer will acknowledge all that was sent before.
    pub(super) fn on_ping(&mut self) {
        self.mark = Some(self.sent);
    }

    /// Whether a PING is under way that acknowledges messages.
    pub(super) fn is_marked(&self) -> bool {
        self.mark.is_some_and(|mark| mark.messages > self.acked.messages)
    }

    /// The PONG came. Returns how many messages it acknowledged.
    pub(super) fn on_pong(&mut self) -> u64 {
        self.mark.take().map_or(0, |mark| self.acknowledge(mark))
    }

    /// A peer of this implementation said what it received. Returns how many messages that acknowledged.
    pub(super) fn on_ack(&mut self, ack: Ack, now: Instant) -> u64 {
        self.offered = Some((u64::from(ack.window_messages), u64::from(ack.window_bytes)));
        let covered = self.log.iter().take_while(|(seq, _)| *seq < ack.next).last().map(|(_, count)| *count);
        let acked = covered.map_or(0, |count| self.acknowledge(count));
        // It cannot have missed more than there was.
        let missing = ack.missing.min(self.sent.messages);
        if missing > self.missing {
            self.lost = self.lost.saturating_add(missing - self.missing);
            self.missing = missing;
            self.on_loss(now);
        }
        acked
    }

    /// Answers stopped coming, or a loss was reported: the window shrinks by a quarter, at most once a second.
    pub(super) fn on_loss(&mut self, now: Instant) {
        if self.last_loss.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1)) {
            return;
        }
        self.last_loss = Some(now);
        self.cwnd = (self.cwnd * 3 / 4).max(u64::from(limits::CWND_MIN));
    }

    /// An answer that should have come by now did not: what was under way is not known to be there any more, and
    /// must not hold up what comes after.
    pub(super) fn on_silence(&mut self, now: Instant) {
        self.on_loss(now);
        self.mark = None;
        self.acked = self.sent;
        self.log.clear();
    }

    /// The peer has restarted, and our numbering with it.
    pub(super) fn on_restart(&mut self) {
        *self = Self { lost: self.lost, last_loss: self.last_loss, ..Self::new() };
    }

    /// The peer has restarted and counts what it misses from zero, while our numbers go on.
    pub(super) fn on_peer_restart(&mut self) {
        self.missing = 0;
    }

    fn acknowledge(&mut self, up_to: Count) -> u64 {
        let newly = up_to.messages.saturating_sub(self.acked.messages);
        if newly > 0 {
            self.acked = up_to;
            self.cwnd = (self.cwnd + newly).min(u64::from(limits::CWND_MAX));
            while self.log.front().is_some_and(|(_, count)| count.messages <= up_to.messages) {
                self.log.pop_front();
            }
        }
        newly
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary base; only offsets are used")]
        Instant::now()
    }

    #[test]
    fn grows_with_answers_and_stays_in_its_bounds() {
        let (mut window, now) = (Window::new(), base());
        let mut seq = 0;
        for _ in 0..200 {
            while window.admits(100) {
                window.on_sent(Some(seq), 100);
                seq += 1;
            }
            window.on_ping();
            assert!(window.on_pong() > 0);
        }
        assert_eq!(window.cwnd(), u64::from(limits::CWND_MAX));
        assert_eq!(window.in_flight(), 0);
        for second in 0..60 {
            window.on_loss(now + Duration::from_secs(second));
            window.on_loss(now + Duration::from_millis(second * 1000 + 900));
        }
        assert_eq!(window.cwnd(), u64::from(limits::CWND_MIN));
    }

    #[test]
    fn loss_takes_a_quarter_at_most_once_a_second() {
        let (mut window, now) = (Window::new(), base());
        window.on_loss(now);
        window.on_loss(now + Duration::from_millis(999));
        assert_eq!(window.cwnd(), 12);
        window.on_loss(now + Duration::from_secs(1));
        assert_eq!(window.cwnd(), 9);
    }

    #[test]
    fn an_exact_acknowledgement_counts_numbers_and_reports_loss() {
        let (mut window, now) = (Window::new(), base());
        for seq in 0..10 {
            assert!(window.admits(1000));
            window.on_sent(Some(seq), 1000);
        }
        let ack = Ack { next: 6, missing: 1, window_messages: 512, window_bytes: 100_000 };
        assert_eq!(window.on_ack(ack, now), 6);
        assert_eq!((window.in_flight(), window.lost()), (4, 1));
        assert_eq!(window.on_ack(ack, now), 0, "the same again changes nothing");
        let small = Ack { window_bytes: 4500, ..ack };
        window.on_ack(small, now);
        assert!(!window.admits(1000), "the peer's offer bounds the bytes under way");
    }

    #[test]
    fn a_peer_that_takes_nothing_is_sent_nothing() {
        let (mut window, now) = (Window::new(), base());
        let closed = Ack { next: 0, missing: 0, window_messages: 0, window_bytes: 100_000 };
        window.on_ack(closed, now);
        assert!(!window.admits(1));
        window.on_ack(Ack { window_messages: 1, ..closed }, now);
        assert!(window.admits(1));
    }

    #[test]
    fn a_lie_about_losses_is_bounded_by_what_was_sent() {
        let (mut window, now) = (Window::new(), base());
        let lie = Ack { next: u32::MAX, missing: u64::MAX, window_messages: u32::MAX, window_bytes: u32::MAX };
        for seq in 0..3 {
            window.on_sent(Some(seq), 10);
        }
        for _ in 0..3 {
            window.on_ack(lie, now);
            window.on_peer_restart();
        }
        assert!(window.lost() <= 9, "{}", window.lost());
        assert_eq!(window.in_flight(), 0);
    }
}
