//! Ways of the application's own to find peers, each a task of its own beside the net task.
//!
//! A [`Strategy`] says whom to dial, and nothing else: when it is asked, until how many peers are connected, and what is dialled how
//! often is the same for all of them, here.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{ATTEMPT, Reports, Sources};
use crate::discovery::{Progress, Source, SourceError, Task};
use crate::driver::limits::{
    STRATEGIES, STRATEGY_DIALS, STRATEGY_LONGEST_TICK, STRATEGY_REST, STRATEGY_SHORTEST_TICK, STRATEGY_TICK,
};
use crate::driver::shared::Shared;
use crate::driver::target::DialTarget;
use crate::{PeerId, clock};

/// A way of the application's own to find peers.
///
/// [`Builder::strategy`](crate::Builder::strategy) gives it to a node with a target: it is called [again and again](Self::every)
/// while fewer peers are connected, and always if there is no target. Whom it names is dialled as by
/// [`Swarm::dial`](crate::Swarm::dial): at addresses, or looked for by an id alone. Who is connected is not dialled, nor anybody
/// twice in half a minute; 16 dials go on at once, and who is named beyond that is dialled when he is named again.
///
/// It runs on a task of its own. [`Swarm::discovery`](crate::Swarm::discovery) says how it goes, as
/// [`Task::Strategy`].
///
/// ```
/// use swarm::discovery::SourceError;
/// use swarm::{DialTarget, Preset, Strategy, StrategyContext, Swarm, SwarmEvent};
///
/// /// People whom this program knows, one at a time.
/// #[derive(Debug)]
/// struct Friends(Vec<DialTarget>);
///
/// impl Strategy for Friends {
///     async fn step(&mut self, _: &StrategyContext) -> Result<Vec<DialTarget>, SourceError> {
///         let next = self.0.first().cloned().ok_or(SourceError::NobodyKnown)?;
///         self.0.rotate_left(1);
///         Ok(vec![next])
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), swarm::BindError> {
/// let node = || Swarm::builder().preset(Preset::Loopback).lan(false);
/// let alice = node().bind().await?;
/// let friends = Friends(vec![(alice.id(), alice.local_addr()).into()]);
/// // Until one is there, and again when nobody is.
/// let bob = node().strategy(friends, Some(1)).bind().await?;
/// let mut events = bob.events();
/// while !matches!(events.next().await, Some(SwarmEvent::Connected { .. })) {}
/// # Ok(()) }
/// ```
pub trait Strategy: fmt::Debug + Send + 'static {
    /// Does one step, and names whom to dial now: nobody, if it has nobody new.
    ///
    /// The next step begins when this one has ended. One that takes a minute is dropped where it waits, and one that the node's end
    /// comes before too; a panic ends the strategy, and nothing else.
    ///
    /// # Errors
    ///
    /// Why nobody can be named. The next step is tried all the same, at its time.
    fn step(&mut self, around: &StrategyContext) -> impl Future<Output = Result<Vec<DialTarget>, SourceError>> + Send;

    /// The pause from one step to the next, at least 10 ms and at most a day. Asked once, when the node starts. Default: half a second.
    fn every(&self) -> Duration {
        STRATEGY_TICK
    }
}

/// What a [`Strategy`] may know of its node.
#[derive(Debug, Clone)]
pub struct StrategyContext {
    pub(super) shared: Arc<Shared>,
    target: Option<usize>,
}

impl StrategyContext {
    /// Who the node is.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.shared.id
    }

    /// The peers of native sessions that are open now, in order: those that count for the target.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        self.shared.conns().iter().map(|conn| conn.peer).collect()
    }

    /// How many peers are wanted; `None` if there are never enough.
    #[must_use]
    pub const fn target(&self) -> Option<usize> {
        self.target
    }

    fn is_met(&self) -> bool {
        self.target.is_some_and(|target| self.shared.connected() >= target)
    }

    fn is_connected(&self, target: &DialTarget) -> bool {
        target.peer.is_some_and(|peer| self.shared.conn(&peer).is_some())
    }
}

/// [`Strategy`], whose futures have as many types as there are strategies, behind one.
trait Stepping: fmt::Debug + Send {
    fn pause(&self) -> Duration;

    fn next_step<'a>(&'a mut self, around: &'a StrategyContext) -> Pin<Box<dyn Future<Output = Named> + Send + 'a>>;
}

/// What comes of a step.
type Named = Result<Vec<DialTarget>, SourceError>;

impl<S: Strategy> Stepping for S {
    fn pause(&self) -> Duration {
        self.every()
    }

    fn next_step<'a>(&'a mut self, around: &'a StrategyContext) -> Pin<Box<dyn Future<Output = Named> + Send + 'a>> {
        Box::pin(self.step(around))
    }
}

/// A strategy as the builder was given it.
#[derive(Debug)]
pub(crate) struct Given {
    strategy: Box<dyn Stepping>,
    target: Option<usize>,
}

impl Given {
    pub(crate) fn new(strategy: impl Strategy, target: Option<usize>) -> Self {
        Self { strategy: Box::new(strategy), target }
    }
}

/// A strategy whose node is not there yet, and where it is to say how it goes.
#[derive(Debug)]
pub(crate) struct Planned {
    given: Given,
    report: watch::Sender<Vec<Progress>>,
}

/// Numbers strategies, and makes the places where it can be read how they go.
pub(crate) fn plan(strategies: Vec<Given>) -> (Vec<Planned>, Vec<Reports>) {
    let planned = |(given, number): (Given, u8)| {
        let (source, task) = (Source::Strategy, Task::Strategy(number));
        let progress = Progress { source, task, tried: 0, answered: 0, found: 0, error: None, next: None, pause: None };
        let (report, reports) = watch::channel(vec![progress]);
        (Planned { given, report }, reports)
    };
    strategies.into_iter().take(STRATEGIES).zip(0..).map(planned).unzip()
}

impl Sources {
    /// Starts strategies, which end with the sources: inside of a tokio runtime only.
    pub(crate) fn start_strategies(&mut self, strategies: Vec<Planned>, shared: &Arc<Shared>) {
        for Planned { given, report } in strategies {
            let around = StrategyContext { shared: Arc::clone(shared), target: given.target };
            self.tasks.spawn(run(given.strategy, around, report));
        }
    }
}

/// Runs a strategy until the node has ended. One that panics is not called again.
async fn run(strategy: Box<dyn Stepping>, around: StrategyContext, report: watch::Sender<Vec<Progress>>) {
    let mut steps = JoinSet::new();
    steps.spawn(go(strategy, around, report.clone()));
    if let Some(Err(error)) = steps.join_next().await
        && error.is_panic()
    {
        tell(&report, |progress| progress.error = Some(SourceError::Broken));
    }
}

async fn go(mut strategy: Box<dyn Stepping>, around: StrategyContext, report: watch::Sender<Vec<Progress>>) {
    let every = strategy.pause().clamp(STRATEGY_SHORTEST_TICK, STRATEGY_LONGEST_TICK);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut dials, mut lately) = (JoinSet::new(), Lately::default());
    loop {
        ticks.tick().await;
        if around.shared.is_closed() {
            return;
        }
        while dials.try_join_next().is_some() {}
        if around.is_met() {
            report.send_if_modified(|tasks| tasks.iter_mut().any(|progress| progress.next.take().is_some()));
            continue;
        }
        tell(&report, |progress| {
            progress.tried += 1;
            progress.next = None;
        });
        let step = timeout(ATTEMPT, strategy.next_step(&around)).await;
        let now = clock::now();
        let error = match step.unwrap_or(Err(SourceError::TimedOut { after: ATTEMPT })) {
            Ok(targets) => {
                tell(&report, |progress| {
                    progress.answered += 1;
                    progress.found += targets.len() as u64;
                });
                for target in targets {
                    if dials.len() < STRATEGY_DIALS && !around.is_connected(&target) && lately.try_name(&target, now) {
                        let shared = Arc::clone(&around.shared);
                        // Events tell of who is there; who is not may be named again.
                        dials.spawn(async move { drop(shared.dial(target).await) });
                    }
                }
                None
            }
            Err(error) => Some(error),
        };
        tell(&report, |progress| {
            progress.error = error;
            progress.next = now.checked_add(every);
            progress.pause = Some(every);
        });
    }
}

fn tell(report: &watch::Sender<Vec<Progress>>, change: impl FnOnce(&mut Progress)) {
    report.send_modify(|tasks| {
        if let Some(progress) = tasks.first_mut() {
            change(progress);
        }
    });
}

/// Whom a strategy named lately, and until when each is left alone: the oldest first.
#[derive(Debug, Default)]
struct Lately(VecDeque<(DialTarget, Instant)>);

impl Lately {
    /// Whether somebody may be dialled now. If so, he is left alone from here on.
    fn try_name(&mut self, target: &DialTarget, now: Instant) -> bool {
        let (rest, most) = STRATEGY_REST;
        while self.0.front().is_some_and(|(_, until)| *until <= now) {
            self.0.pop_front();
        }
        if self.0.iter().any(|(named, _)| named == target) {
            return false;
        }
        if self.0.len() >= most {
            self.0.pop_front();
        }
        self.0.push_back((target.clone(), now.checked_add(rest).unwrap_or(now)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_again_and_again_is_dialled_twice_a_minute() {
        let (mut lately, start) = (Lately::default(), clock::now());
        let targets: Vec<DialTarget> = (1..=2).map(|n: u8| ([127, 0, 0, n], 7).into()).collect();
        let mut dialled = [0; 2];
        for tick in 0..120 {
            let now = start + STRATEGY_TICK * tick;
            for (target, dialled) in targets.iter().zip(&mut dialled) {
                *dialled += u32::from(lately.try_name(target, now));
            }
        }
        assert_eq!(dialled, [2, 2]);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (mut lately, now) = (Lately::default(), clock::now());
        let most = u16::try_from(STRATEGY_REST.1).unwrap();
        let target = |port: u16| DialTarget::from(([127, 0, 0, 1], port));
        assert!((1..=most + 1).all(|port| lately.try_name(&target(port), now)));
        assert_eq!(lately.0.len(), STRATEGY_REST.1);
        // Of all of them the first was forgotten.
        assert!(!lately.try_name(&target(2), now) && lately.try_name(&target(1), now));
    }

    #[test]
    fn strategies_are_numbered_and_those_beyond_the_bound_left_out() {
        #[derive(Debug)]
        struct Nobody;
        impl Strategy for Nobody {
            async fn step(&mut self, _: &StrategyContext) -> Named {
                Err(SourceError::NobodyKnown)
            }
        }
        let (planned, reports) = plan((0..=STRATEGIES).map(|_| Given::new(Nobody, None)).collect());
        let tasks: Vec<Task> =
            reports.iter().flat_map(|report| report.borrow().clone()).map(|told| told.task).collect();
        assert_eq!(tasks, (0..8).map(Task::Strategy).collect::<Vec<_>>());
        assert_eq!(planned.len(), STRATEGIES);
    }
}
