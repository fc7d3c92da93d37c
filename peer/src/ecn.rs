//! Whether a path carries explicit congestion notification (RFC 9000 section 13.4.2).
//!
//! Packets are marked ECT(0). The peer counts the marks it sees and reports the totals. Counts that cannot be right
//! mean that the path clears or changes marks, and then a path is not marked any more. There is one packet-number
//! space for all paths, so one set of totals: what an ACK frame adds is judged against the marked packets that it newly
//! acknowledges, and the verdict falls on the paths which these took.

use structs::Ecn;

/// How many packets are marked before the first answer decides (RFC 9000 A.4).
const TEST_PACKETS: u32 = 10;

/// The state of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathEcn {
    state: State,
    /// Marked packets sent and lost while the path is tested.
    sent: u32,
    lost: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Marks a few packets, then waits.
    Testing,
    /// Marks all packets.
    Capable,
    /// Marks nothing.
    Failed,
}

impl PathEcn {
    /// A path to be tested, or one that never marks.
    pub(crate) const fn new(enabled: bool) -> Self {
        Self { state: if enabled { State::Testing } else { State::Failed }, sent: 0, lost: 0 }
    }

    /// The mark of the next datagrams.
    pub(crate) fn mark(&self) -> Ecn {
        match self.state {
            State::Testing if self.sent >= TEST_PACKETS => Ecn::NotEct,
            State::Testing | State::Capable => Ecn::Ect0,
            State::Failed => Ecn::NotEct,
        }
    }

    /// Whether marks are known to arrive.
    #[cfg(test)]
    pub(crate) fn is_capable(&self) -> bool {
        self.state == State::Capable
    }

    /// A marked packet left.
    pub(crate) fn on_sent(&mut self) {
        if self.state == State::Testing {
            self.sent = self.sent.saturating_add(1);
        }
    }

    /// A marked packet was lost. Should all of the test be lost, the path drops what is marked.
    pub(crate) fn on_lost(&mut self) {
        if self.state == State::Testing {
            self.lost = self.lost.saturating_add(1);
            if self.sent >= TEST_PACKETS && self.lost >= self.sent {
                self.state = State::Failed;
            }
        }
    }

    /// Marked packets were acknowledged, with counts that make sense or not.
    pub(crate) fn on_verdict(&mut self, plausible: bool) {
        self.state = match self.state {
            State::Failed => State::Failed,
            _ if plausible => State::Capable,
            _ => State::Failed,
        };
    }
}

/// The totals that the peer reported last, over all paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reported {
    ect0: u64,
    ect1: u64,
    ce: u64,
}

/// What an ACK frame says of marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The counts add up; so many more packets met congestion.
    Plausible { newly_ce: u64 },
    /// The counts are missing, shrink, or do not cover the marked packets.
    Broken,
}

impl Reported {
    /// Judges the counts of an ACK frame that raised the largest acknowledged number and newly acknowledges
    /// `newly_marked` packets that left as ECT(0), out of `ever_marked` sent so far. Frames that do not raise the
    /// largest number may be old ones, so their counts are not to be judged (RFC 9000 13.4.2.1).
    pub(crate) fn judge(&mut self, counts: Option<(u64, u64, u64)>, newly_marked: u64, ever_marked: u64) -> Judged {
        let Some((ect0, ect1, ce)) = counts else {
            return if newly_marked == 0 { Judged::Plausible { newly_ce: 0 } } else { Judged::Broken };
        };
        let (Some(new_ect0), Some(new_ect1), Some(newly_ce)) =
            (ect0.checked_sub(self.ect0), ect1.checked_sub(self.ect1), ce.checked_sub(self.ce))
        else {
            return Judged::Broken;
        };
        *self = Self { ect0, ect1, ce };
        // ECT(1) is never sent, and nobody can have seen more marks than there were.
        let total = ect0.checked_add(ce);
        if new_ect1 > 0
            || new_ect0.saturating_add(newly_ce) < newly_marked
            || total.is_none_or(|total| total > ever_marked)
        {
            return Judged::Broken;
        }
        Judged::Plausible { newly_ce }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_tested_with_ten_packets_and_then_marks_all() {
        let mut path = PathEcn::new(true);
        for _ in 0..TEST_PACKETS {
            assert_eq!(path.mark(), Ecn::Ect0);
            path.on_sent();
        }
        assert_eq!(path.mark(), Ecn::NotEct);
        path.on_verdict(true);
        assert!(path.is_capable());
        assert_eq!(path.mark(), Ecn::Ect0);
        path.on_verdict(false);
        assert_eq!(path.mark(), Ecn::NotEct);
        path.on_verdict(true);
        assert_eq!(path.mark(), Ecn::NotEct, "a failure is final");
    }

    #[test]
    fn losing_the_whole_test_turns_marks_off() {
        let mut path = PathEcn::new(true);
        (0..TEST_PACKETS).for_each(|_| path.on_sent());
        (1..TEST_PACKETS).for_each(|_| path.on_lost());
        assert_eq!(path.state, State::Testing);
        path.on_lost();
        assert_eq!(path.state, State::Failed);
        assert_eq!(PathEcn::new(false).mark(), Ecn::NotEct);
    }

    #[test]
    fn counts_are_judged() {
        let mut seen = Reported::default();
        assert_eq!(seen.judge(Some((3, 0, 1)), 4, 10), Judged::Plausible { newly_ce: 1 });
        // More than is newly acknowledged: the counts cover packets whose acknowledgement was lost.
        assert_eq!(seen.judge(Some((7, 0, 1)), 2, 10), Judged::Plausible { newly_ce: 0 });
        assert_eq!(seen.judge(Some((7, 0, 3)), 2, 10), Judged::Plausible { newly_ce: 2 });
        assert_eq!(seen.judge(None, 0, 10), Judged::Plausible { newly_ce: 0 });
        assert_eq!(seen.judge(None, 1, 10), Judged::Broken, "marks are not reported");
        assert_eq!(seen.judge(Some((6, 0, 3)), 0, 10), Judged::Broken, "a count shrank");
        assert_eq!(seen.judge(Some((7, 0, 3)), 1, 10), Judged::Broken, "a mark was cleared");
        assert_eq!(seen.judge(Some((7, 1, 3)), 0, 10), Judged::Broken, "ECT(1) was not sent");
        assert_eq!(seen.judge(Some((80, 1, 3)), 1, 20), Judged::Broken, "more than were sent");
        assert_eq!(seen.judge(Some((u64::MAX, 1, u64::MAX)), 0, 20), Judged::Broken);
    }
}
