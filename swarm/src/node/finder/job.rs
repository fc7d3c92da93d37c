//! One thing that a node does again and again in the distributed hash table, and when it is due.

use std::time::{Duration, Instant};

use dht::QueryId;

use crate::discovery::{Progress, Source, SourceError, Task};

#[derive(Debug)]
pub(super) struct Job {
    pub(super) progress: Progress,
    /// When it is begun. What the table repeats by itself is due only when it has to say something else.
    pub(super) due: Option<Instant>,
    /// The query or publication, as long as there is one.
    pub(super) query: Option<QueryId>,
    /// The last pause, while it grows.
    pause: Duration,
}

impl Job {
    /// Due at once.
    pub(super) const fn new(task: Task, now: Instant) -> Self {
        let (source, next) = (Source::Dht, Some(now));
        let progress = Progress { source, task, tried: 0, answered: 0, found: 0, error: None, next, pause: None };
        Self { progress, due: next, query: None, pause: Duration::ZERO }
    }

    /// It runs.
    pub(super) fn begun(&mut self, query: QueryId) {
        self.query = Some(query);
        self.progress.tried = self.progress.tried.saturating_add(1);
        self.wait(None);
    }

    /// Others were asked to do it. It is due again unless they answer, each time after twice as long: what they do may take long.
    pub(super) fn asked(&mut self, now: Instant) {
        self.progress.tried = self.progress.tried.saturating_add(1);
        self.pause = (self.pause * 2).clamp(ANSWER.0, ANSWER.1);
        self.wait(now.checked_add(self.pause));
    }

    /// There was no room for it.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.wait(Some(now + BUSY));
    }

    /// It cannot be done now: again after a pause that grows.
    pub(super) fn failed(&mut self, error: SourceError, now: Instant) {
        self.query = None;
        self.pause = (self.pause * 2).clamp(FAILED.0, FAILED.1);
        self.progress.error = Some(error);
        self.wait(now.checked_add(self.pause));
    }

    /// It cannot be done as long as nothing changes.
    pub(super) fn stuck(&mut self, error: SourceError) {
        self.query = None;
        self.progress.error = Some(error);
        self.wait(None);
    }

    /// A search has ended, in which the nodes that were asked answered: the next one comes after a pause that doubles from
    /// the first to the longest.
    pub(super) fn searched(&mut self, (first, longest): (Duration, Duration), now: Instant) {
        self.query = None;
        self.progress.answered = self.progress.answered.saturating_add(1);
        let had_failed = self.progress.error.take().is_some();
        self.pause = if had_failed { first } else { (self.pause * 2).clamp(first, longest) };
        self.wait(now.checked_add(self.pause));
    }

    /// Something was published, and is published again by the table itself at `next`, or about then.
    pub(super) fn published(&mut self, error: Option<SourceError>, next: Option<Instant>) {
        self.progress.answered = self.progress.answered.saturating_add(u64::from(error.is_none()));
        self.progress.error = error;
        self.progress.next = next;
    }

    /// There is news: it is due now, and the pauses begin anew.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.pause = Duration::ZERO;
        if self.query.is_none() {
            self.wait(Some(now));
        }
    }

    /// It is due within this time.
    pub(super) fn at_latest(&mut self, pause: Duration, now: Instant) {
        let at = now.checked_add(pause);
        self.pause = self.pause.min(pause);
        if self.query.is_none() && self.due > at {
            self.wait(at);
        }
    }

    fn wait(&mut self, due: Option<Instant>) {
        (self.due, self.progress.next) = (due, due);
    }
}

/// How soon something is tried again that there was no room for.
const BUSY: Duration = Duration::from_millis(500);
/// How long others may take to answer: at first, and at most.
const ANSWER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// After a failure: the first and the longest pause, doubled in between.
const FAILED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does")]
mod tests {
    use super::*;
    use crate::TopicId;

    fn pauses(mut end: impl FnMut(&mut Job, Instant)) -> Vec<u64> {
        let mut now = Instant::now();
        let mut job = Job::new(Task::Lookup(TopicId::from_bytes([1; 32])), now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            end(&mut job, now);
            let due = job.due.unwrap();
            pauses.push((due - now).as_secs());
            now = due;
        }
        pauses
    }

    #[test]
    fn pauses_grow_and_begin_anew_after_a_failure() {
        let range = (Duration::from_secs(1), Duration::from_secs(300));
        assert_eq!(pauses(|job, now| job.searched(range, now)), [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(pauses(|job, now| job.failed(SourceError::NobodyKnown, now)), [2, 4, 8, 16, 32, 60, 60, 60]);
        let mut turn = 0;
        let mixed = pauses(|job, now| {
            turn += 1;
            if turn < 6 { job.failed(SourceError::NobodyKnown, now) } else { job.searched(range, now) }
        });
        assert_eq!(mixed, [2, 4, 8, 16, 32, 1, 2, 4]);
    }

    #[test]
    fn a_long_pause_is_cut_short_and_never_made_longer() {
        let mut now = Instant::now();
        let mut job = Job::new(Task::Record, now);
        for _ in 0..8 {
            job.searched((Duration::from_secs(18), Duration::from_secs(300)), now);
            now = job.due.unwrap();
        }
        job.searched((Duration::from_secs(18), Duration::from_secs(300)), now);
        job.at_latest(Duration::from_secs(18), now);
        assert_eq!(job.due, Some(now + Duration::from_secs(18)));
        job.at_latest(Duration::from_secs(60), now);
        assert_eq!(job.due, Some(now + Duration::from_secs(18)));
    }
}
