//! The task of one source: begins what is due, and takes note of how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crypto::Rng;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep_until, timeout};

use super::schedule::Schedule;
use super::{ATTEMPT, Candidate, Found, Outcome, Source, Wanted};
use crate::clock;
use crate::discovery::{Progress, SourceError, Task};

/// Runs a source until the node has ended.
pub(super) async fn run<S: Source>(
    source: S,
    mut wanted: watch::Receiver<Wanted>,
    candidates: mpsc::Sender<Candidate>,
    report: watch::Sender<Vec<Progress>>,
    rng: Rng,
) {
    let mut schedule = Schedule::new(S::NAME, source.pace(), rng);
    let source = Arc::new(source);
    let mut attempts: JoinSet<Result<Outcome, SourceError>> = JoinSet::new();
    let mut begun: BTreeMap<tokio::task::Id, (Task, AbortHandle)> = BTreeMap::new();
    let mut known = Wanted::default();
    let mut wanted_before = BTreeSet::new();
    let mut news = true;
    loop {
        let now = clock::now();
        if std::mem::take(&mut news) {
            let new = wanted.borrow_and_update().clone();
            let tasks: BTreeSet<Task> = new.tasks().into_iter().filter(|task| source.does(task)).collect();
            for task in wanted_before.difference(&tasks) {
                source.forget(*task).await;
            }
            schedule.want(&tasks, now);
            wanted_before.clone_from(&tasks);
            begun.retain(|_, (task, attempt)| {
                let wanted = tasks.contains(task);
                if !wanted {
                    attempt.abort();
                }
                wanted
            });
            if new.us.port != known.us.port {
                schedule.repeat(|task| matches!(task, Task::Announce(_) | Task::AnnounceNode), now);
            }
            if S::NAMES_ADDRESSES && (new.us.addrs != known.us.addrs || new.us.record != known.us.record) {
                schedule.repeat(|task| !task.is_search(), now);
            }
            if new.us.record != known.us.record {
                schedule.repeat(|task| matches!(task, Task::Record), now);
            }
            if new.restarts != known.restarts {
                schedule.search_again(now);
            }
            known = new;
        }
        while let Some(task) = schedule.begin(now) {
            let found = Found { source: S::NAME, task, candidates: candidates.clone(), count: 0 };
            let attempt = Arc::clone(&source).attempt(task, known.us.clone(), found);
            let attempt = async move { timeout(ATTEMPT, attempt).await.unwrap_or(Err(TIMED_OUT)) };
            let handle = attempts.spawn(attempt);
            begun.insert(handle.id(), (task, handle));
        }
        report.send_replace(schedule.progress());
        let deadline = schedule.deadline();
        let pause = async {
            match deadline {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => news = true,
                // The node has ended.
                Err(_) => return,
            },
            Some(ended) = attempts.join_next_with_id() => {
                let (id, result) = match ended {
                    Ok((id, result)) => (id, Some(result)),
                    // One that was aborted is not wanted any more.
                    Err(error) => (error.id(), error.is_panic().then_some(Err(SourceError::Broken))),
                };
                if let (Some((task, _)), Some(result)) = (begun.remove(&id), result) {
                    if matches!(result, Err(SourceError::Broken | TIMED_OUT)) {
                        source.broken();
                    }
                    schedule.ended(task, result, clock::now());
                }
            }
            () = pause => {}
        }
    }
}

const TIMED_OUT: SourceError = SourceError::TimedOut { after: ATTEMPT };
