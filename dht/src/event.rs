//! What the machine tells its owner, and why it does not take a command.

use std::net::SocketAddr;

use framing::EncodeError;
use thiserror::Error;

use crate::{Announcement, Contact, Found, Item, Refused};

/// A command that ends later; its event carries the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub(crate) u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A lookup has ended.
    LookupDone {
        /// Which.
        id: QueryId,
        /// What came of it. Nothing, if there was nobody to ask.
        found: Found,
    },
    /// A ping has ended.
    PingDone {
        /// Which.
        id: QueryId,
        /// Who was asked.
        contact: Contact,
        /// Whether it answered, at its address and with its key.
        answered: bool,
    },
    /// A peer announced itself for a topic that is looked for. Of each peer there is one, and further ones if newer are found.
    Peer {
        /// Of which query.
        id: QueryId,
        /// Who, and where.
        announcement: Announcement,
    },
    /// A query for peers has ended.
    PeersDone {
        /// Which.
        id: QueryId,
        /// What it took.
        tally: Tally,
    },
    /// A record was found. The first that is valid comes at once; newer ones may follow.
    Record {
        /// By which query.
        id: QueryId,
        /// What was found.
        item: Item,
    },
    /// A query for a record has ended.
    GetDone {
        /// Which.
        id: QueryId,
        /// The newest that was found. Newest is the highest sequence among the answers of three nodes in different subnets, or of
        /// all that have a record where there are less.
        newest: Option<Item>,
        /// What it took.
        tally: Tally,
    },
    /// What we publish was stored, for the first time or again.
    Stored {
        /// What [`announce`](crate::Dht::announce) or [`put`](crate::Dht::put) returned.
        id: QueryId,
        /// 0 for the first time. After that one event of each publication waits at most.
        round: u32,
        /// How many nodes keep it now. If none, it is tried again soon.
        stored: u32,
        /// Why others do not.
        refused: Vec<Refused>,
        /// What it took.
        tally: Tally,
    },
    /// A node says that it sees us at an address, for the first time or unlike before. It is the word of one.
    Observed {
        /// Where it sees us.
        addr: SocketAddr,
        /// Who says so.
        by: Contact,
    },
}

impl Event {
    /// Whether it ends a query that the owner began.
    pub(crate) const fn ends_query(&self) -> bool {
        match self {
            Self::LookupDone { .. } | Self::PingDone { .. } | Self::PeersDone { .. } | Self::GetDone { .. } => true,
            Self::Stored { round, .. } => *round == 0,
            Self::Peer { .. } | Self::Record { .. } | Self::Observed { .. } => false,
        }
    }
}

/// What a query took, and brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Nodes that its lookups asked.
    pub asked: u32,
    /// Requests besides: for more announcements, or to store.
    pub more: u32,
    /// The most answers that led to the closest node of a lookup.
    pub hops: u8,
    /// Records that were handed out.
    pub records: u32,
    /// Records that were not what they must be.
    pub forged: u32,
}

/// Why something is not published. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// As [`QueryError::Busy`].
    #[error("too many queries at a time")]
    Busy,
    /// The machine has ended.
    #[error("the machine has ended")]
    Closed,
    /// [`MAX_PUBLICATIONS`](crate::limits::MAX_PUBLICATIONS) are published. Withdraw one.
    #[error("too many publications")]
    Full,
    /// Above a limit, or not to be sent to.
    #[error("not to be published: {0}")]
    Invalid(#[from] EncodeError),
    /// The address record has ended, or would last too long.
    #[error("the address record does not hold now")]
    Time,
}

impl From<QueryError> for PublishError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Busy => Self::Busy,
            QueryError::Closed => Self::Closed,
        }
    }
}

/// Why a query was not begun. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// [`MAX_LOOKUPS`](crate::limits::MAX_LOOKUPS) queries are running, or ended with events that nobody took. Take events,
    /// and try again.
    #[error("too many queries at a time")]
    Busy,
    /// The machine has ended.
    #[error("the machine has ended")]
    Closed,
}
