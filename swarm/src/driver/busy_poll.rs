//! Staying awake for what is due any moment.
//!
//! A thread that sleeps runs again some 5 µs after its datagram has come, on a virtual machine 20 to 50, and to wake it costs the sender
//! of that datagram more than the datagram. Where two programs take turns, most of each turn is that. So while there is a conversation,
//! the task looks for a short while whether the answer is there before it lets the thread sleep; other tasks run in between.
//!
//! What that may cost is bounded three times: a wait is short; beyond [`FREE`], which sleeping costs too, all waits together take at most
//! [`SHARE`] times what the work of the conversation takes; and where waiting was in vain it is tried more and more seldom. A node that
//! only sends, only receives, or does neither, sleeps as it always did.
//!
//! Where both sides stay awake the waits are as short as the other's work, where one sleeps they are as long as it takes to wake it. So
//! that two that fell asleep find back, what is saved up is spent on long waits too; that two awake stay so, short ones are free.

use std::time::{Duration, Instant};

/// Where several processors may be used: as long as a thread on the other side takes to wake, or to agree on keys.
const LIMIT: Duration = Duration::from_micros(100);

/// What it costs both sides together, in time of their processors, if one of them sleeps and is woken.
const FREE: Duration = Duration::from_micros(15);

/// Time awake for each unit of time at work.
const SHARE: u32 = 2;

/// What may be saved up of that.
const CREDIT: Duration = Duration::from_millis(1);

/// Both sides have said something within this time: they are talking.
const RECENT: Duration = Duration::from_millis(1);

/// Waits that are slept through after several in vain: at most so many.
const MAX_SKIP: u32 = 64;

/// The default of [`Builder::busy_poll`](super::Builder::busy_poll). Where all of a program has one processor, the others who run there do
/// not get on while we wait: who gives it one of its own says so.
pub(super) fn default_limit() -> Duration {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if processors > 1 { LIMIT } else { Duration::ZERO }
}

/// What a visit to a session brought.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Talk {
    /// Something came for a handle, which may answer.
    pub(super) heard: bool,
    /// A handle had something to say, which the other side may answer.
    pub(super) said: bool,
}

/// Whether the task stays awake when it has nothing to do.
#[derive(Debug)]
pub(super) struct BusyPoll {
    limit: Duration,
    /// When something came for a handle, and when a handle had something to say.
    heard: Option<Instant>,
    said: Option<Instant>,
    credit: Duration,
    /// Waits that are to be slept through, of as many as the last time.
    skip: u32,
    skipped: u32,
}

impl BusyPoll {
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, heard: None, said: None, credit: CREDIT, skip: 0, skipped: 0 }
    }

    /// A session was visited, in the turn that began at `now`.
    pub(super) fn on_talk(&mut self, talk: Talk, now: Instant) {
        let Talk { heard, said } = talk;
        if heard {
            self.heard = Some(now);
        }
        if said {
            self.said = Some(now);
        }
    }

    /// A turn has ended that began at `turn`, and there is nothing to do: until when to stay awake, if at all.
    pub(super) fn begin(&mut self, turn: Instant, clock: impl FnOnce() -> Instant) -> Option<(Instant, Instant)> {
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| turn.saturating_duration_since(at) < RECENT);
        if self.limit.is_zero() || !is_recent(self.heard) || !is_recent(self.said) {
            return None;
        }
        let now = clock();
        self.credit = (self.credit + SHARE * now.saturating_duration_since(turn)).min(CREDIT.max(self.limit));
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        (self.credit >= self.limit).then(|| (now, now + self.limit))
    }

    /// The task stayed awake from `since` to `now`, and something came or not.
    pub(super) fn end(&mut self, since: Instant, now: Instant, came: bool) {
        self.credit = self.credit.saturating_sub(now.saturating_duration_since(since).saturating_sub(FREE));
        self.skipped = if came { 0 } else { (2 * self.skipped).clamp(1, MAX_SKIP) };
        self.skip = self.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const WORK: Duration = Duration::from_micros(10);
    const BOTH: Talk = Talk { heard: true, said: true };

    /// Waits of a conversation whose answers come after `gap`: the share of the time that was spent awake, and how many answers came to
    /// a task that was.
    fn converse(gap: Duration, rounds: u32) -> (f64, u32) {
        converse_with(WORK, gap, rounds)
    }

    fn converse_with(work: Duration, gap: Duration, rounds: u32) -> (f64, u32) {
        let mut poll = BusyPoll::new(LIMIT);
        let (mut awake, mut all, mut met) = (Duration::ZERO, Duration::ZERO, 0);
        let start = clock::now();
        for _ in 0..rounds {
            let turn = start + all;
            poll.on_talk(BOTH, turn);
            if let Some((since, until)) = poll.begin(turn, || turn + work) {
                let waited = gap.min(until - since);
                poll.end(since, since + waited, gap < LIMIT);
                awake += waited;
                met += u32::from(gap < LIMIT);
            }
            all += work + gap;
        }
        (awake.as_secs_f64() / all.as_secs_f64(), met)
    }

    #[test]
    fn an_answer_that_is_near_is_met_awake() {
        let (_, met) = converse(WORK, 1000);
        assert_eq!(met, 1000);
    }

    #[test]
    fn time_awake_is_bounded_by_the_work() {
        // Of 90 µs each 10 are work. Of the other 80 at most 20 are awake, beside 15 of each wait, but for what was saved up.
        let (share, met) = converse(Duration::from_micros(80), 10_000);
        assert!(share < 0.28 && met > 2000, "{share} {met}");
    }

    #[test]
    fn waits_that_cost_less_than_sleeping_never_end() {
        // A little work on this side, more on the other.
        let (_, met) = converse_with(Duration::from_micros(3), FREE, 100_000);
        assert_eq!(met, 100_000);
    }

    #[test]
    fn answers_that_take_long_are_slept_for() {
        let (share, met) = converse(Duration::from_micros(200), 10_000);
        assert!(share < 0.01 && met == 0, "{share} {met}");
    }

    #[test]
    fn nobody_stays_awake_who_only_sends_or_only_receives() {
        for (heard, said) in [(true, false), (false, true), (false, false)] {
            let mut poll = BusyPoll::new(LIMIT);
            let turn = clock::now();
            poll.on_talk(Talk { heard, said }, turn);
            assert_eq!(poll.begin(turn, || turn), None);
        }
        let mut off = BusyPoll::new(Duration::ZERO);
        let turn = clock::now();
        off.on_talk(BOTH, turn);
        assert_eq!(off.begin(turn, || turn), None);
    }

    #[test]
    fn a_conversation_is_over_when_nothing_was_said_for_a_while() {
        let mut poll = BusyPoll::new(LIMIT);
        let turn = clock::now();
        poll.on_talk(BOTH, turn);
        assert!(poll.begin(turn, || turn).is_some());
        assert_eq!(poll.begin(turn + RECENT, || turn + RECENT), None);
    }
}
