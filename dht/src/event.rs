//! What the machine tells its owner, and why it does not take a command.

use std::net::SocketAddr;

use thiserror::Error;

use crate::{Contact, Found};

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
    /// Another node says that it sees us at an address that the one before did not see. It is the word of one.
    Observed {
        /// Where it sees us.
        addr: SocketAddr,
        /// Who says so.
        by: Contact,
    },
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
