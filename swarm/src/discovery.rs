//! What a node does to find others, and what came of it.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::{PeerId, TopicId};

pub use crate::reach::Reach;

/// Where addresses of peers come from, beside multicast on the local network and what the application names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Source {
    /// Our own distributed hash table.
    Dht,
    /// The BitTorrent Mainline DHT.
    Mainline,
    /// A bootstrap server.
    Http,
    /// A piping server.
    Piping,
    /// The file of peers of earlier runs.
    Cache,
    /// Multicast DNS.
    Mdns,
    /// A [`Strategy`](crate::Strategy) that the application brought.
    Strategy,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dht => "dht",
            Self::Mainline => "mainline",
            Self::Http => "http",
            Self::Piping => "piping",
            Self::Cache => "cache",
            Self::Mdns => "mdns",
            Self::Strategy => "strategy",
        })
    }
}

/// Something that a source does again and again, until it is not wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Task {
    /// Saying that this node is in a topic.
    Announce(TopicId),
    /// Looking for others in a topic.
    Lookup(TopicId),
    /// Saying where this node is, for those who know its id.
    Record,
    /// Looking for a peer of which nothing but the id is known.
    Peer(PeerId),
    /// Saying that this node relays for others.
    AnnounceRelay,
    /// Looking for relays, because nobody comes to this node who was not called.
    LookupRelays,
    /// Looking for peers of earlier runs, while nobody is connected.
    Reconnect,
    /// Saying that this node is one of our own distributed hash table. No source is asked for it yet.
    AnnounceNode,
    /// Looking for nodes of our own distributed hash table. No source is asked for it yet.
    LookupNodes,
    /// Finding peers until enough are connected, as the application says: the number of the strategy, in the order in which the
    /// builder was given them, from 0.
    Strategy(u8),
}

impl Task {
    /// Whether it looks for others. Otherwise it makes others find us.
    #[must_use]
    pub const fn is_search(&self) -> bool {
        matches!(
            self,
            Self::Lookup(_)
                | Self::Peer(_)
                | Self::Reconnect
                | Self::LookupNodes
                | Self::LookupRelays
                | Self::Strategy(_)
        )
    }
}

/// How one task of one source goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The source.
    pub source: Source,
    /// What it does.
    pub task: Task,
    /// How often it was tried.
    pub tried: u64,
    /// How many of these tries ended with an answer, be it that nobody is there.
    pub answered: u64,
    /// Addresses that were found, repetitions included; of a strategy, whom it named.
    pub found: u64,
    /// Why the last try failed, if it did.
    pub error: Option<SourceError>,
    /// When it is tried next; `None` while it is being tried, and of a strategy while enough peers are connected.
    pub next: Option<Instant>,
    /// How long after the end of the last try that is, if there was one and it is the source that decides.
    pub pause: Option<Duration>,
}

/// Why a source has no answer. The task is tried again, after a pause that grows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A host name that the source begins with has no address.
    #[error("{host} has no address: {}", crate::error::lookup(*.kind))]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver said.
        kind: io::ErrorKind,
    },
    /// The system refused a socket or a file, or the network is down.
    #[error("{kind}")]
    Io {
        /// What it said.
        kind: io::ErrorKind,
    },
    /// Nobody is known whom the source could ask.
    #[error("nobody to ask is known")]
    NobodyKnown,
    /// None of the nodes or servers that are known answered.
    #[error("nobody answered")]
    NobodyAnswered,
    /// They answered and took nothing.
    #[error("refused with code {code}")]
    Refused {
        /// The code that most of them gave.
        code: i32,
    },
    /// There is no connection to a server: it is not there, does not take any, or has no certificate that is trusted.
    #[error("no connection to {host}: {kind}")]
    Unreachable {
        /// The server.
        host: String,
        /// What the system said, or [`Other`](io::ErrorKind::Other).
        kind: io::ErrorKind,
    },
    /// A server answered that it cannot or will not.
    #[error("{status} from {host}")]
    Status {
        /// The server.
        host: String,
        /// The HTTP status.
        status: u16,
        /// For how long it wants to be left alone, if it says so; at most 10 min count.
        retry: Option<Duration>,
    },
    /// A file was damaged. It was put aside, and a new one begun.
    #[error("the file was damaged, and is now {}", .aside.display())]
    Damaged {
        /// Where it is now.
        aside: std::path::PathBuf,
    },
    /// A server answers what nobody understands.
    #[error("{host} answers what is not understood")]
    Garbage {
        /// The server.
        host: String,
    },
    /// A server answers more than is read.
    #[error("{host} answers more than {max} bytes")]
    Oversized {
        /// The server.
        host: String,
        /// How much is read, in bytes.
        max: usize,
    },
    /// No answer in time.
    #[error("no answer within {} s", .after.as_secs())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// There is nothing to say yet: no address of ours is known that others could reach.
    #[error("no address of this node is known that others could reach")]
    NoAddress,
    /// What is to be said does not fit.
    #[error("what is to be said has {len} bytes, and {max} fit")]
    TooLong {
        /// Bytes that it has.
        len: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// The source broke off; it is started anew, unless it is a strategy of the application.
    #[error("the source broke off")]
    Broken,
}

impl fmt::Display for Progress {
    /// The source, and what its last try came to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source)?;
        match &self.error {
            Some(error) => match self.pause {
                Some(pause) => write!(f, "{error}, retry in {} s", pause.as_secs()),
                None => error.fmt(f),
            },
            None if self.answered == 0 => f.write_str("no answer yet"),
            None if !self.task.is_search() => f.write_str("announced"),
            None if self.found == 0 => f.write_str("nobody there"),
            None => write!(f, "{} addresses", self.found),
        }
    }
}

/// How tasks go, of one source or of all.
///
/// ```
/// assert_eq!(swarm::discovery::Report::default().to_string(), "no source");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report(Vec<Progress>);

impl Report {
    /// The tasks, by source.
    pub fn iter(&self) -> impl Iterator<Item = &Progress> {
        self.0.iter()
    }

    /// Those of one kind.
    #[must_use]
    pub fn of(&self, task: Task) -> Self {
        self.iter().filter(|progress| progress.task == task).cloned().collect()
    }
}

impl FromIterator<Progress> for Report {
    fn from_iter<I: IntoIterator<Item = Progress>>(tasks: I) -> Self {
        Self(tasks.into_iter().collect())
    }
}

impl fmt::Display for Report {
    /// What every source says, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no source");
        }
        for (at, progress) in self.0.iter().enumerate() {
            write!(f, "{}{progress}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does")]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_every_source_says() {
        let task = Task::Lookup("lobby".into());
        let progress = |task, answered, found, error| {
            let next = Some(Instant::now());
            Progress { source: Source::Mainline, task, tried: 2, answered, found, error, next, pause: None }
        };
        let tries = [
            progress(task, 0, 0, Some(SourceError::NobodyAnswered)),
            progress(task, 2, 0, None),
            progress(task, 1, 3, None),
            progress(Task::Record, 1, 0, None),
            progress(Task::Record, 0, 0, None),
        ];
        let report: Report = tries.into_iter().collect();
        let text = "mainline: nobody answered; mainline: nobody there; mainline: 3 addresses";
        assert_eq!(report.of(task).to_string(), text);
        assert_eq!(report.of(Task::Record).to_string(), "mainline: announced; mainline: no answer yet");
    }
}
