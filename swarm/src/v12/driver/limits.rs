//! Every bound and budget of the driver, with what happens when it is reached.

use std::time::Duration;

/// Commands that wait for the net task. When full, the caller waits.
pub(crate) const COMMANDS: usize = 256;

/// Commands taken in one turn, so that a busy application does not keep the node from its socket and its timers.
pub(crate) const COMMANDS_PER_TURN: usize = 64;

/// How long commands may follow each other before what they cause is sent. A broadcast costs 3 to 5 us, so some fifty
/// of them leave by one call; nobody notices the delay.
pub(crate) const CORK: Duration = Duration::from_micros(200);

/// Topics joined at once. When reached, `join` says so.
pub(crate) const TOPICS: usize = 64;

/// Events that wait for one subscriber. When full, the net task stops receiving for [`STALL`] at most; then the
/// subscriber loses events and is told how many.
pub(crate) const EVENTS: usize = 256;

/// How long one subscriber may keep the node from receiving. Long enough for a task that is merely scheduled late on a
/// busy machine; below the 250 ms after which peers take an unanswered PING for a loss. The kernel's buffer holds what
/// arrives meanwhile.
pub(crate) const STALL: Duration = Duration::from_millis(100);

/// Bytes that wait between the handles and the node, per peer. When reached, `send` waits and `try_send` says full.
/// 256 KiB is some 240 messages of 1 KiB: a few milliseconds of work for the net task, so it never runs dry.
pub(crate) const OUTBOX_BYTES: u32 = 256 * 1024;

/// What a message costs beside its bytes, so that empty ones are bounded too.
pub(crate) const MESSAGE_COST: u32 = 64;

/// Messages handed to the node for one peer before the next peer has its turn.
pub(crate) const OUTBOX_PER_VISIT: usize = 64;

/// Messages of at most this size reach every peer, so that `send` need not ask the node before it answers.
pub(crate) const SURE_MESSAGE: usize = 1200;

/// Broadcasts that wait for room at some peer. When reached, the next one waits. None waits for long at a peer that
/// takes too little, see [`BROADCAST_TRIES`].
pub(crate) const BROADCASTS: usize = 64;

/// How often a full peer that broadcasts wait for is tried, since the node tells of room only when half of a queue is
/// free: 8 s at the 128 messages/s that the existing nodes take.
pub(crate) const BROADCAST_RETRY: Duration = Duration::from_millis(20);

/// Tries that a full peer is given to take [`BROADCAST_PROGRESS`]: 1 s, some round trips even by way of a satellite and
/// a pause of a busy machine, yet bearable for those who share the broadcast. When it takes less, what waits for it is
/// skipped and counted, and later broadcasts do not wait for it until half of its queue is free. Tries are counted and
/// not time, so that a task which did not run for a while does not blame its peers.
pub(crate) const BROADCAST_TRIES: u32 = 50;

/// Messages that a peer must take in [`BROADCAST_TRIES`] to be waited for any longer. An eighth of what the existing
/// nodes take. One would not do: the window of a peer that is gone reopens after every unanswered PING, for a single
/// message in the end, and whoever takes one message a second must not set the pace of everybody.
pub(crate) const BROADCAST_PROGRESS: usize = 16;

/// A message counts as one more for each so many bytes: two of the largest are progress enough.
pub(crate) const BROADCAST_PROGRESS_BYTES: usize = 8 * 1024;

/// Batches sent in one turn: 4 MiB at most, after which the socket is read again.
pub(crate) const TRANSMITS_PER_TURN: usize = 64;

/// Multicast datagrams read in one turn. Anybody on the network can write them; there is one beacon per node and
/// interface every 5 s.
pub(crate) const BEACONS_PER_TURN: usize = 16;

/// How often the list of interfaces is read: a laptop that changes its network is found again within this time.
pub(crate) const INTERFACES_EVERY: Duration = Duration::from_secs(5);

/// How long the goodbyes of a shutdown may wait for a blocked socket once its time is over.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(100);

/// The most that the driver holds for one peer: its outbox, and a copy of each broadcast that waits for it.
const PER_PEER: usize = OUTBOX_BYTES as usize + BROADCASTS * 65_535;
const _: () = assert!(PER_PEER <= 8 * 1024 * 1024, "a peer that does not read costs 8 MiB at most");
