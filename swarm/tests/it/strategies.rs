//! Strategies of the application: when they are called, and what becomes of whom they name.

use std::collections::BTreeSet;
use std::time::Duration;

use swarm::discovery::{Progress, Source, SourceError, Task};
use swarm::{DialTarget, PeerId, RandomWalk, Strategy, StrategyContext, Swarm};
use tokio::sync::watch;

use crate::support::{builder, connected, gone, node, within};

type Named = Result<Vec<DialTarget>, SourceError>;

const TICK: Duration = Duration::from_millis(10);

/// Names the same people in every step, and counts the steps.
#[derive(Debug)]
struct Counting {
    whom: Vec<DialTarget>,
    steps: watch::Sender<u64>,
}

fn counting(whom: Vec<DialTarget>) -> (Counting, watch::Receiver<u64>) {
    let (steps, counted) = watch::channel(0);
    (Counting { whom, steps }, counted)
}

impl Strategy for Counting {
    async fn step(&mut self, _: &StrategyContext) -> Named {
        self.steps.send_modify(|steps| *steps += 1);
        Ok(self.whom.clone())
    }

    fn every(&self) -> Duration {
        TICK
    }
}

/// Waits for so many more steps.
async fn stepped(counted: &mut watch::Receiver<u64>, more: u64) {
    let until = *counted.borrow() + more;
    drop(within(counted.wait_for(|steps| *steps >= until)).await.unwrap());
}

/// How the strategy with this number goes.
fn progress(swarm: &Swarm, number: u8) -> Progress {
    let report = swarm.discovery().of(Task::Strategy(number));
    report.iter().next().cloned().unwrap()
}

/// Waits until a strategy has failed so.
async fn failed(swarm: &Swarm, number: u8, error: SourceError) -> Progress {
    within(async {
        loop {
            let progress = progress(swarm, number);
            if progress.error.as_ref() == Some(&error) {
                return progress;
            }
            tokio::time::sleep(TICK).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_strategy_is_called_until_its_target_is_met_and_again_when_somebody_leaves() {
    let b = node().await;
    let (strategy, mut steps) = counting(vec![(b.id(), b.local_addr()).into()]);
    let (always, mut ticks) = counting(Vec::new());
    let a = builder().strategy(strategy, Some(1)).strategy(always, None).bind().await.unwrap();
    let mut events = a.events();
    assert_eq!(connected(&mut events).await.id(), b.id());
    stepped(&mut ticks, 2).await;
    let before = *steps.borrow();
    stepped(&mut ticks, 20).await;
    assert_eq!(*steps.borrow(), before);
    let at_rest = progress(&a, 0);
    assert_eq!((at_rest.source, at_rest.next, at_rest.error), (Source::Strategy, None, None));
    assert!(at_rest.found >= 1 && at_rest.tried == before, "{} of {before}", at_rest.tried);
    b.shutdown(Duration::from_secs(1)).await;
    gone(&mut events).await;
    stepped(&mut steps, 3).await;
    assert!(progress(&a, 0).tried > before);
}

/// Who the node is, how many are wanted, and who is there.
type Seen = (PeerId, Option<usize>, Vec<PeerId>);

/// Says what it sees.
#[derive(Debug)]
struct Watching(watch::Sender<Option<Seen>>);

impl Strategy for Watching {
    async fn step(&mut self, around: &StrategyContext) -> Named {
        self.0.send_replace(Some((around.id(), around.target(), around.peers())));
        Ok(Vec::new())
    }

    fn every(&self) -> Duration {
        TICK
    }
}

#[tokio::test]
async fn a_strategy_sees_who_is_there() {
    let (seen, mut watched) = watch::channel(None);
    let a = builder().strategy(Watching(seen), Some(9)).bind().await.unwrap();
    let alone = Some((a.id(), Some(9), Vec::new()));
    drop(within(watched.wait_for(|seen| *seen == alone)).await.unwrap());
    let b = node().await;
    within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    let both = Some((a.id(), Some(9), vec![b.id()]));
    drop(within(watched.wait_for(|seen| *seen == both)).await.unwrap());
}

#[derive(Debug)]
struct Panicking;

impl Strategy for Panicking {
    async fn step(&mut self, _: &StrategyContext) -> Named {
        panic!("as strategies should not")
    }
}

#[derive(Debug)]
struct Lost;

impl Strategy for Lost {
    async fn step(&mut self, _: &StrategyContext) -> Named {
        Err(SourceError::NobodyKnown)
    }

    fn every(&self) -> Duration {
        TICK
    }
}

#[tokio::test]
async fn what_breaks_is_told_of_and_breaks_nothing_else() {
    let b = node().await;
    let (strategy, _steps) = counting(vec![(b.id(), b.local_addr()).into()]);
    let a = builder().strategy(Panicking, None).strategy(Lost, None).strategy(strategy, Some(1)).bind().await.unwrap();
    assert_eq!(connected(&mut a.events()).await.id(), b.id());
    assert_eq!(failed(&a, 0, SourceError::Broken).await.tried, 1);
    let lost = failed(&a, 1, SourceError::NobodyKnown).await;
    within(async {
        while progress(&a, 1).tried < lost.tried + 3 {
            tokio::time::sleep(TICK).await;
        }
    })
    .await;
    assert_eq!(progress(&a, 1).answered, 0);
}

#[tokio::test]
async fn a_random_walk_begins_somewhere_and_asks_again_and_again() {
    let settings = || builder().dht(false).pex(true);
    let (b, c) = (settings().bind().await.unwrap(), settings().bind().await.unwrap());
    let walk = RandomWalk::new().bootstrap([(b.id(), b.local_addr())]);
    // More than there are.
    let a = settings().strategy(walk, Some(3)).bind().await.unwrap();
    let _topics = [&a, &b, &c].map(|node| node.join("lobby").unwrap());
    let mut events = a.events();
    within(c.dial((b.id(), b.local_addr()))).await.unwrap();
    let mut met = BTreeSet::new();
    while met.len() < 2 {
        met.insert(connected(&mut events).await.id());
    }
    assert_eq!(met, BTreeSet::from([b.id(), c.id()]));
    // Without questions it would be told of each once.
    within(async {
        while b.stats().await.unwrap().node.pex.shared < 6 {
            tokio::time::sleep(TICK).await;
        }
    })
    .await;
    let progress = progress(&a, 0);
    assert!(progress.found >= 1 && progress.error.is_none(), "{progress:?}");
}
