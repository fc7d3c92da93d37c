//! When each task of a source is due: pure, so that its pauses can be tested without waiting for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crypto::Rng;

use super::Outcome;
use crate::discovery::{Progress, Source, SourceError, Task};

/// How often a source may be asked. All pauses are lengthened by up to an eighth, at random, so that those who began
/// together do not go on together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Between two searches: the first and the longest pause, doubled in between. Found or not, more may come.
    pub(crate) search: (Duration, Duration),
    /// Between two announcements that succeeded.
    pub(crate) renew: Duration,
    /// After a failure: the first and the longest pause, doubled in between.
    pub(crate) failed: (Duration, Duration),
    /// Tasks that run at once.
    pub(crate) parallel: usize,
}

/// The tasks of one source.
#[derive(Debug)]
pub(super) struct Schedule {
    source: Source,
    pace: Pace,
    entries: BTreeMap<Task, Entry>,
    running: usize,
    rng: Rng,
}

#[derive(Debug)]
struct Entry {
    progress: Progress,
    /// The next pause after success, and the next after failure.
    pause: Duration,
    penalty: Duration,
    /// It has to run again although it runs now: what it says has changed.
    again: bool,
    /// Whatever changes, it is not due before: it was done lately, or whom it asks wants to be left alone.
    not_before: Option<Instant>,
}

impl Schedule {
    pub(super) const fn new(source: Source, pace: Pace, rng: Rng) -> Self {
        Self { source, pace, entries: BTreeMap::new(), running: 0, rng }
    }

    /// Names all tasks that are wanted from now on. New ones are due at once.
    pub(super) fn want(&mut self, tasks: &BTreeSet<Task>, now: Instant) {
        // What still runs ends in `ended`.
        let running = &mut self.running;
        self.entries.retain(|task, entry| {
            let wanted = tasks.contains(task);
            if !wanted && entry.progress.next.is_none() {
                *running = running.saturating_sub(1);
            }
            wanted
        });
        for &task in tasks {
            let (source, pace) = (self.source, self.pace);
            self.entries.entry(task).or_insert_with(|| {
                let next = Some(now);
                let progress =
                    Progress { source, task, tried: 0, answered: 0, found: 0, error: None, next, pause: None };
                Entry { progress, pause: pace.search.0, penalty: pace.failed.0, again: false, not_before: None }
            });
        }
    }

    /// What is said of us has changed: these tasks are due now, or once more when they have ended; but none sooner than 30 s
    /// after it began, nor within the pause after a failure. Others may be able to change it again and again.
    pub(super) fn repeat(&mut self, which: impl Fn(&Task) -> bool, now: Instant) {
        for entry in self.entries.values_mut().filter(|entry| which(&entry.progress.task)) {
            match &mut entry.progress.next {
                Some(next) => *next = entry.not_before.map_or(now, |at| at.max(now)).min(*next),
                None => entry.again = true,
            }
        }
    }

    /// The network has changed, or nobody is there any more: searches start over with short pauses.
    pub(super) fn search_again(&mut self, now: Instant) {
        let (first, _) = self.pace.search;
        for entry in self.entries.values_mut().filter(|entry| entry.progress.task.is_search()) {
            entry.pause = first;
            entry.penalty = self.pace.failed.0;
            let soon = now.checked_add(first);
            entry.progress.next = entry.progress.next.and_then(|next| soon.map(|soon| next.min(soon)));
        }
    }

    /// The next task to begin, if one is due and few enough run. It counts as running from here on.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Task> {
        if self.running >= self.pace.parallel {
            return None;
        }
        let due = |entry: &&mut Entry| entry.progress.next.is_some_and(|next| next <= now);
        let entry = self.entries.values_mut().filter(due).min_by_key(|entry| entry.progress.next)?;
        self.running += 1;
        entry.not_before = now.checked_add(REPEATED);
        entry.progress.next = None;
        entry.progress.tried += 1;
        Some(entry.progress.task)
    }

    /// A task that ran has ended.
    pub(super) fn ended(&mut self, task: Task, result: Result<Outcome, SourceError>, now: Instant) {
        // It may not be wanted any more, or be wanted anew.
        let Some(entry) = self.entries.get_mut(&task).filter(|entry| entry.progress.next.is_none()) else { return };
        self.running = self.running.saturating_sub(1);
        // Without an address nobody was asked.
        let is_unasked = result == Err(SourceError::NoAddress);
        let failed = result.is_err();
        let pause = match result {
            Ok(outcome) => {
                entry.progress.answered += 1;
                entry.progress.found += outcome.found;
                entry.progress.error = None;
                entry.penalty = self.pace.failed.0;
                let (pause, longest) = (entry.pause, self.pace.search.1);
                entry.pause = (pause * 2).min(longest);
                if task.is_search() { pause } else { self.pace.renew }
            }
            Err(error) => {
                let rest = match &error {
                    SourceError::Status { retry, .. } => retry.unwrap_or_default(),
                    _ => Duration::ZERO,
                };
                entry.progress.error = Some(error);
                let (pause, longest) = (entry.penalty, self.pace.failed.1);
                entry.penalty = (pause * 2).min(longest);
                pause.max(rest)
            }
        };
        if failed {
            entry.not_before = if is_unasked { None } else { entry.not_before.max(now.checked_add(pause)) };
        }
        let rest = entry.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let pause = if std::mem::take(&mut entry.again) { pause.min(self.pace.failed.0.max(rest)) } else { pause };
        let spread = u64::try_from(pause.as_millis() / 8).unwrap_or(u64::MAX);
        let pause = pause + Duration::from_millis(self.rng.below(spread.saturating_add(1)));
        entry.progress.next = now.checked_add(pause).or(Some(now));
        entry.progress.pause = Some(pause);
    }

    /// When [`begin`](Self::begin) wants to be asked again; `None` while as many run as may.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.running >= self.pace.parallel {
            return None;
        }
        self.entries.values().filter_map(|entry| entry.progress.next).min()
    }

    /// How all of them go.
    pub(super) fn progress(&self) -> Vec<Progress> {
        self.entries.values().map(|entry| entry.progress.clone()).collect()
    }
}

/// How often something is said that changes again and again.
const REPEATED: Duration = Duration::from_secs(30);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does")]
mod tests {
    use crypto::Seed;

    use super::*;
    use crate::TopicId;

    const SECOND: Duration = Duration::from_secs(1);
    const PACE: Pace = Pace {
        search: (Duration::from_secs(10), Duration::from_secs(300)),
        renew: Duration::from_secs(900),
        failed: (Duration::from_secs(2), Duration::from_secs(60)),
        parallel: 2,
    };

    fn schedule() -> Schedule {
        Schedule::new(Source::Mainline, PACE, Seed::from_bytes([7; 32]).rng())
    }

    fn topic(byte: u8) -> TopicId {
        TopicId::from_bytes([byte; 32])
    }

    /// The seconds at which a task begins, if each try ends at once with this.
    fn begins(task: Task, result: &Result<Outcome, SourceError>, seconds: u64) -> Vec<u64> {
        let (mut schedule, start) = (schedule(), Instant::now());
        schedule.want(&[task].into(), start);
        let mut begun = Vec::new();
        for second in 0..seconds {
            let now = start + SECOND * u32::try_from(second).unwrap();
            while schedule.begin(now).is_some() {
                begun.push(second);
                schedule.ended(task, result.clone(), now);
            }
        }
        begun
    }

    fn pauses(begun: &[u64]) -> Vec<u64> {
        begun.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn are_about(pauses: &[u64], expected: &[u64]) -> bool {
        pauses.iter().zip(expected).all(|(got, want)| (*want..=want + want / 8 + 1).contains(got))
    }

    #[test]
    fn pauses_grow_to_their_limit_and_failures_have_their_own() {
        let searches = pauses(&begins(Task::Lookup(topic(1)), &Ok(Outcome { found: 3 }), 1500));
        assert!(are_about(&searches, &[10, 20, 40, 80, 160, 300, 300]), "{searches:?}");
        let announcements = pauses(&begins(Task::Announce(topic(1)), &Ok(Outcome { found: 0 }), 4000));
        assert!(are_about(&announcements, &[900, 900, 900]), "{announcements:?}");
        let failures = pauses(&begins(Task::Record, &Err(SourceError::NobodyAnswered), 400));
        assert!(are_about(&failures, &[2, 4, 8, 16, 32, 60, 60]), "{failures:?}");
    }

    #[test]
    fn who_is_told_to_stay_away_does() {
        let status = |retry| SourceError::Status { host: String::from("host.example"), status: 503, retry };
        let patient = begins(Task::Record, &Err(status(Some(SECOND * 40))), 200);
        assert!(are_about(&pauses(&patient), &[40, 40, 40]), "{patient:?}");
        let other = begins(Task::Record, &Err(status(None)), 20);
        assert!(are_about(&pauses(&other), &[2, 4, 8]), "{other:?}");
    }

    #[test]
    fn whatever_changes_nobody_is_asked_who_wants_to_be_left_alone_nor_all_the_time() {
        let (mut schedule, start) = (schedule(), Instant::now());
        let task = Task::Announce(topic(1));
        schedule.want(&[task].into(), start);
        let busy = SourceError::Status { host: String::new(), status: 429, retry: Some(SECOND * 200) };
        let mut begun = Vec::new();
        for second in 0..600_u32 {
            let now = start + SECOND * second;
            // As if somebody told us another address every second.
            schedule.repeat(|task| !task.is_search(), now);
            while schedule.begin(now).is_some() {
                begun.push(second);
                schedule.repeat(|task| !task.is_search(), now);
                schedule.ended(task, if second == 0 { Err(busy.clone()) } else { Ok(Outcome::default()) }, now);
            }
        }
        let pauses: Vec<u32> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses[0] >= 200 && pauses.iter().all(|pause| *pause >= 30), "{pauses:?}");
        // Who had no address says it as soon as there is one.
        schedule.want(&[].into(), start);
        let later = start + SECOND * 600;
        schedule.want(&[task].into(), later);
        assert_eq!(schedule.begin(later), Some(task));
        schedule.ended(task, Err(SourceError::NoAddress), later);
        schedule.repeat(|task| !task.is_search(), later);
        assert_eq!(schedule.begin(later), Some(task));
    }

    #[test]
    fn no_more_run_than_may_and_who_waits_longest_goes_first() {
        let (mut schedule, now) = (schedule(), Instant::now());
        let tasks: BTreeSet<Task> = (0..4).map(|byte| Task::Lookup(topic(byte))).collect();
        schedule.want(&tasks, now);
        let (first, second) = (schedule.begin(now).unwrap(), schedule.begin(now).unwrap());
        assert_eq!((schedule.begin(now), schedule.deadline()), (None, None));
        // One that is not wanted any more makes room, and its end changes nothing.
        let rest: BTreeSet<Task> = tasks.into_iter().filter(|task| *task != first).collect();
        schedule.want(&rest, now);
        let third = schedule.begin(now).unwrap();
        schedule.ended(first, Ok(Outcome { found: 0 }), now);
        assert_eq!(schedule.begin(now), None);
        schedule.ended(second, Ok(Outcome { found: 0 }), now);
        schedule.ended(third, Ok(Outcome { found: 0 }), now);
        let fourth = schedule.begin(now).unwrap();
        assert!(![first, second, third].contains(&fourth));
        assert_eq!(schedule.begin(now), None, "the others have a pause");
        assert_eq!(schedule.progress().len(), 3);
    }

    #[test]
    fn what_is_said_anew_is_said_soon_even_while_it_is_being_said() {
        let (mut schedule, now) = (schedule(), Instant::now());
        let (announce, lookup) = (Task::Announce(topic(1)), Task::Lookup(topic(1)));
        schedule.want(&[announce, lookup].into(), now);
        while schedule.begin(now).is_some() {}
        schedule.repeat(|task| !task.is_search(), now);
        for task in [announce, lookup] {
            schedule.ended(task, Ok(Outcome { found: 0 }), now);
        }
        let next = |schedule: &Schedule, task| {
            let progress = schedule.progress().into_iter().find(|progress| progress.task == task).unwrap();
            progress.next.unwrap().duration_since(now)
        };
        let soon = next(&schedule, announce);
        assert!(soon >= SECOND * 30 && soon < SECOND * 34 && next(&schedule, lookup) >= SECOND * 10, "{soon:?}");
        schedule.repeat(|task| !task.is_search(), now);
        assert_eq!(next(&schedule, announce), SECOND * 30);
        // Searches come closer, and never go away.
        schedule.search_again(now);
        assert!(next(&schedule, lookup) <= SECOND * 10);
    }
}
