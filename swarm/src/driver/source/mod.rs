//! Sources of addresses beyond the local network: each a task of its own beside the net task.
//!
//! A [`Source`] knows how to do one [`Task`] once. When it is done again, how long failures keep it from trying, and what
//! can be read about it are the same for all of them, in `run.rs` and `schedule.rs`. The net task tells all sources at
//! once what is wanted ([`Wanted`]), and takes what they find from one channel ([`Candidate`]); a source that hangs or
//! fails delays no other. Whether somebody found is dialled is decided by the node (`swarm/src/node/candidates.rs`).
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Source`], what sources are told and tell, [`Sources`] |
//! | `run.rs` | the task of one source |
//! | `schedule.rs` | when each of its tasks is due |
//! | `us.rs` | what this node says of itself |
//! | `day.rs` | names that change every day |
//! | `mainline.rs` | the BitTorrent Mainline DHT |
//! | `mdns.rs`, `service.rs` | multicast DNS, and what a service there says |
//! | `cache.rs` | a file of peers of earlier runs |
//! | `strategy.rs`, `walk.rs` | what the application brings, and asking random peers as one such |
//! | `web.rs` | asking web servers |
//! | `meeting.rs`, `http.rs`, `piping.rs` | what is left for others at bootstrap servers and piping servers |

#[cfg(feature = "cache")]
mod cache;
#[cfg(any(feature = "mainline", feature = "http"))]
mod day;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "mainline")]
mod mainline;
#[cfg(feature = "mdns")]
mod mdns;
#[cfg(any(feature = "http", feature = "fuzzing"))]
mod meeting;
#[cfg(feature = "http")]
pub(crate) mod piping;
mod run;
mod schedule;
#[cfg(any(feature = "mdns", feature = "fuzzing"))]
mod service;
mod strategy;
mod us;
mod walk;
#[cfg(feature = "http")]
pub(crate) mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crypto::Seed;
use framing::record::SignedRecord;
use relay::client::Named;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

#[cfg(feature = "cache")]
pub(crate) use self::cache::{CacheSource, Keeper, PeerCache, Seen};
#[cfg(feature = "http")]
pub(crate) use self::http::HttpSource;
#[cfg(feature = "mainline")]
pub use self::mainline::Mainline;
#[cfg(feature = "mainline")]
pub(crate) use self::mainline::MainlineSource;
#[cfg(feature = "mdns")]
pub(crate) use self::mdns::MdnsSource;
#[cfg(any(feature = "http", feature = "fuzzing"))]
pub(crate) use self::meeting::{Meetings, Span};
pub(crate) use self::schedule::Pace;
#[cfg(feature = "fuzzing")]
pub(crate) use self::service::Heard;
pub(crate) use self::strategy::{Given as GivenStrategy, plan};
pub use self::strategy::{Strategy, StrategyContext};
pub(crate) use self::us::Announcer;
pub use self::walk::RandomWalk;
use super::limits::CANDIDATES;
use super::shared::Wish;
use crate::discovery::{self, Progress, SourceError, Task};
pub(crate) use crate::reach::Reach;
use crate::{PeerId, TopicId};

/// A way to find peers and to be found.
///
/// What an implementation has to keep between tries is behind `&self`: tasks run side by side, [`Pace::parallel`] of them.
pub(crate) trait Source: Send + Sync + 'static {
    /// Its name.
    const NAME: discovery::Source;

    /// Whether it says all of our addresses and relays, and so has to say them anew when they change.
    const NAMES_ADDRESSES: bool = false;

    /// How often it may be asked.
    fn pace(&self) -> Pace;

    /// Which of the tasks it can do at all.
    fn does(&self, task: &Task) -> bool;

    /// Does one task once, and hands over whom it finds while it goes on. The future is dropped when the task is not
    /// wanted any more, or after a minute; a panic in it counts as [`SourceError::Broken`].
    fn attempt(
        self: Arc<Self>,
        task: Task,
        us: Us,
        found: Found,
    ) -> impl Future<Output = Result<Outcome, SourceError>> + Send;

    /// A task that was attempted is not wanted any more.
    fn forget(&self, task: Task) -> impl Future<Output = ()> + Send {
        let _ = task;
        std::future::ready(())
    }

    /// An attempt panicked or took too long: what it used is not to be used again.
    fn broken(&self) {}
}

/// What is said of this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Us {
    /// The UDP port of our IPv4 socket, as others reach it.
    pub(crate) port: u16,
    /// Our signed addresses, once any are known that others may reach.
    pub(crate) record: Option<SignedRecord>,
    /// All addresses that we know of, whoever may reach them: where others see us first.
    pub(crate) addrs: Vec<SocketAddr>,
}

/// How a try ended that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// Addresses and relays found.
    pub(crate) found: u64,
}

/// Somebody who may be there: a stranger's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Whose word.
    pub(crate) source: discovery::Source,
    /// In answer to what.
    pub(crate) task: Task,
    /// Who it is said to be. Without it whoever answers is the peer, and has to prove the topic.
    pub(crate) peer: Option<PeerId>,
    /// Where, 16 addresses at most.
    pub(crate) addrs: Vec<SocketAddr>,
    /// Relays that have a place for it.
    pub(crate) relays: Vec<Named>,
}

/// Where an attempt puts whom it finds.
#[derive(Debug)]
pub(crate) struct Found {
    source: discovery::Source,
    task: Task,
    candidates: mpsc::Sender<Candidate>,
    count: u64,
}

impl Found {
    /// Hands over one candidate. Waits while the node has as many as it takes. Addresses above 16 are left out.
    pub(crate) async fn push(&mut self, peer: Option<PeerId>, addrs: Vec<SocketAddr>) {
        self.push_via(peer, addrs, Vec::new()).await;
    }

    /// The same for one who may also be reached through relays.
    pub(crate) async fn push_via(&mut self, peer: Option<PeerId>, mut addrs: Vec<SocketAddr>, relays: Vec<Named>) {
        addrs.truncate(CANDIDATE_ADDRS);
        if addrs.is_empty() && relays.is_empty() {
            return;
        }
        self.count += (addrs.len() + relays.len()) as u64;
        let (source, task) = (self.source, self.task);
        // An error means that the node has ended, and this task with it.
        let _ = self.candidates.send(Candidate { source, task, peer, addrs, relays }).await;
    }

    /// What the attempt comes to.
    pub(crate) const fn outcome(&self) -> Outcome {
        Outcome { found: self.count }
    }
}

/// What the node wants of every source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    pub(crate) topics: BTreeMap<TopicId, Interest>,
    /// Peers to be found by their id.
    pub(crate) peers: BTreeSet<PeerId>,
    /// Whether our record is published.
    pub(crate) record: bool,
    /// Whether peers of earlier runs are to be dialled.
    pub(crate) reconnect: bool,
    /// What we are and want in our own distributed hash table.
    pub(crate) nodes: Interest,
    pub(crate) us: Us,
    /// Rises when searches are to start over, for the network has changed or nobody is connected any more.
    pub(crate) restarts: u64,
}

/// Being found, and finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Interest {
    pub(crate) announce: bool,
    pub(crate) lookup: bool,
}

impl Wanted {
    fn tasks(&self) -> BTreeSet<Task> {
        let announced = self.topics.iter().filter(|(_, how)| how.announce).map(|(topic, _)| Task::Announce(*topic));
        let looked_for = self.topics.iter().filter(|(_, how)| how.lookup).map(|(topic, _)| Task::Lookup(*topic));
        let record = self.record.then_some(Task::Record);
        let nodes = [(self.nodes.announce, Task::AnnounceNode), (self.nodes.lookup, Task::LookupNodes)];
        let reconnect = self.reconnect.then_some(Task::Reconnect);
        let nodes = nodes.into_iter().filter_map(|(wanted, task)| wanted.then_some(task));
        announced
            .chain(looked_for)
            .chain(self.peers.iter().map(|peer| Task::Peer(*peer)))
            .chain(record)
            .chain(reconnect)
            .chain(nodes)
            .collect()
    }
}

/// All sources of a node, as the net task has them. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Sources {
    wanted: watch::Sender<Wanted>,
    candidates: mpsc::Receiver<Candidate>,
    /// One that was received by waiting for one.
    next: Option<Candidate>,
    from: mpsc::Sender<Candidate>,
    tasks: JoinSet<()>,
    reports: Vec<Reports>,
    /// Some of them look for peers by their id.
    find: bool,
    seed: Seed,
}

/// What one source tells about its tasks.
pub(crate) type Reports = watch::Receiver<Vec<Progress>>;

impl Sources {
    /// No source yet.
    pub(crate) fn new(seed: Seed) -> Self {
        let (from, candidates) = mpsc::channel(CANDIDATES);
        let (wanted, _) = watch::channel(Wanted::default());
        Self { wanted, candidates, next: None, from, tasks: JoinSet::new(), reports: Vec::new(), find: false, seed }
    }

    /// Starts a source. Must be called inside of a tokio runtime.
    pub(crate) fn start<S: Source>(&mut self, source: S) {
        let (report, reports) = watch::channel(Vec::new());
        let rng = self.seed.fork(&format!("{} {}", S::NAME, self.reports.len())).rng();
        self.find |= source.does(&Task::Peer(PeerId::from_bytes([0; 32])));
        self.tasks.spawn(run::run(source, self.wanted.subscribe(), self.from.clone(), report, rng));
        self.reports.push(reports);
    }

    /// Whether there are none, and telling them something is of no use.
    pub(crate) fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// Whether any of them looks for peers by their id.
    pub(crate) const fn can_find(&self) -> bool {
        self.find
    }

    /// Where the progress of each source can be read.
    pub(crate) fn reports(&self) -> Vec<Reports> {
        self.reports.clone()
    }

    /// Changes what is wanted. Nobody is woken if it stays the same.
    pub(crate) fn want(&mut self, change: impl FnOnce(&mut Wanted)) {
        self.wanted.send_if_modified(|wanted| {
            let before = wanted.clone();
            change(wanted);
            *wanted != before
        });
    }

    /// The topics that are joined from now on.
    pub(crate) fn want_topics(&mut self, topics: &BTreeMap<TopicId, Wish>) {
        let how = |wish: &Wish| Interest { announce: wish.announce, lookup: wish.lookup };
        self.want(|wanted| wanted.topics = topics.iter().map(|(topic, wish)| (*topic, how(wish))).collect());
    }

    /// Ready when there is a candidate. For one task: the last to ask is woken.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.next.is_some() {
            return Poll::Ready(());
        }
        // The channel does not end: we hold a sender ourselves.
        let Poll::Ready(Some(candidate)) = self.candidates.poll_recv(cx) else { return Poll::Pending };
        self.next = Some(candidate);
        Poll::Ready(())
    }

    /// The next candidate.
    pub(crate) fn take(&mut self) -> Option<Candidate> {
        self.next.take().or_else(|| self.candidates.try_recv().ok())
    }
}

/// The IPv4 address that a node is bound to, if it has to do with IPv4.
#[cfg(feature = "mainline")]
pub(crate) fn ipv4(sockets: &[SocketAddr]) -> Option<std::net::Ipv4Addr> {
    sockets.iter().find_map(|addr| match addr {
        SocketAddr::V4(addr) => Some(*addr.ip()),
        SocketAddr::V6(_) => None,
    })
}

/// Addresses of one candidate.
const CANDIDATE_ADDRS: usize = 16;
/// The longest that one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(60);
