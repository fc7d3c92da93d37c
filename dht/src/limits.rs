//! Every bound of this crate, and every number that nodes must agree on.

use std::time::Duration;

/// Contacts in a bucket, nodes in an answer, and nodes that store a value (SPEC 11.1).
pub const K: usize = 20;

/// Contacts that wait for a place in one bucket. Above it the one heard longest ago goes.
pub const MAX_SPARES: usize = 10;

/// Contacts of one subnet in a bucket, those that wait included.
pub const MAX_SUBNET_IN_BUCKET: usize = 2;

/// Contacts of one subnet in a table, those that wait included.
pub const MAX_SUBNET_IN_TABLE: usize = 10;

/// How long after its last answer a contact is asked whether it is still there. What others do with the table, and lookups
/// of our own, put it off. With 200 contacts it is one datagram in 4 s at most.
pub const CHECK_INTERVAL: Duration = Duration::from_mins(15);

/// How soon a contact is asked again after it did not answer; doubled with every time, up to [`CHECK_INTERVAL`].
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Unanswered requests in a row after which a contact yields its place to one that waits: one loss is not death.
pub const FAILURES_TO_YIELD: u8 = 2;

/// Unanswered requests in a row after which a contact goes although nobody wants its place. With the intervals above, after
/// 7.5 minutes: shorter outages of our own network cost no contacts where nothing waits.
pub const FAILURES_TO_FORGET: u8 = 5;

/// How long a bucket may see no lookup before one is made for a key in it.
pub const REFRESH_INTERVAL: Duration = Duration::from_hours(1);

/// Contacts that are kept over a restart to begin with: long-lived ones, of different subnets.
pub const ANCHORS: usize = 4;

/// Contacts that are read from, and written to, a cache: about 12 KiB.
pub const MAX_SAVED: usize = 256;
