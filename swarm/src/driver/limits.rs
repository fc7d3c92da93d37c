//! Every bound and budget of the driver, with what happens when it is reached.

use std::time::Duration;

/// Commands that wait for the net task. When full, the caller waits.
pub(crate) const COMMANDS: usize = 256;

/// Commands taken in one turn, so that a busy application does not keep the node from its socket and its timers.
pub(crate) const COMMANDS_PER_TURN: usize = 64;

/// Batches sent in one turn: 1 MiB at most, after which the sockets are read again.
pub(crate) const TRANSMITS_PER_TURN: usize = 16;

/// Requests, answers and writes of handles that one visit to a session does, before what it did leaves. With all of them in one
/// batch either side would wait while the other works: 100 requests at a time are a quarter faster by halves, and no
/// slower by quarters; parts that grow together again, as those of 64 do, gain half of that.
pub(crate) const TASKS_PER_VISIT: usize = 50;

/// Visits in one turn to sessions whose handles want more than a visit does. Beyond it others come first.
pub(crate) const VISITS_PER_TURN: usize = 32;

/// Messages of one peer that wait to be handed to its session, in bytes with their lengths; a larger one is taken when
/// nothing waits. When full, the sender waits. As much again may be half handed over.
pub(crate) const OUTBOX_BYTES: usize = 256 << 10;

/// The same for datagrams.
pub(crate) const DATAGRAM_OUTBOX_BYTES: usize = 128 << 10;

/// Messages of one peer that were taken out of its session for a reader who has not read them, in bytes. Beyond it they
/// stay in the session, whose credit makes the sender wait.
pub(crate) const INBOX_BYTES: usize = 256 << 10;

/// Datagrams that wait for their reader, in bytes: beyond it the newest are dropped and counted.
pub(crate) const DATAGRAM_INBOX_BYTES: usize = 1 << 20;

/// Bytes that wait between the handle of a stream and its session, in each direction. When full, the writer waits, or
/// the session's credit makes the other side wait.
pub(crate) const PIPE_BYTES: usize = 256 << 10;

/// What an empty buffer keeps of its memory.
pub(crate) const KEPT_BYTES: usize = 4 << 10;

/// Requests to one peer that are under way or wait. Beyond it the caller waits.
pub(crate) const CALLS: usize = 1024;

/// Streams to one peer that wait for the other side to allow them. Beyond it opening one is an error.
pub(crate) const OPENINGS: usize = 256;

/// Streams of one protocol that wait to be accepted. Beyond it they are refused with a reason.
pub(crate) const INCOMING: usize = 1024;

/// Requests of one protocol that wait for their handler. Beyond it they are refused with a reason.
pub(crate) const REQUESTS: usize = 1024;

/// The largest request or answer that is taken, unless the application says otherwise.
pub(crate) const BODY_BYTES: usize = 1 << 20;

/// What requests of one peer that are not answered may take together, in bytes: those of at most 64 KiB, which the number of
/// streams bounds, and one alone aside. Beyond it they are refused with a reason.
pub(crate) const BODIES_BYTES: usize = 16 << 20;

/// The same, of those of all peers above 64 KiB: beyond it a peer of whom nothing else is held may still have one.
pub(crate) const ALL_BODIES_BYTES: usize = 256 << 20;

/// New sessions that keep what their first visits needed until the house is kept. Of more, those that were visited longest ago
/// give it back, so many in a turn: more than come.
pub(crate) const NEW_SESSIONS: usize = 32;
pub(crate) const NEW_PER_TURN: usize = 4;

/// How often [`INTERFACES_EVERY`] may pass over a stream that has not said what for. Then it is closed, with a reason: after 10 to
/// 15 s.
pub(crate) const UNNAMED_SWEEPS: u8 = 3;

/// How long an answer may take, unless the application says otherwise.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Events that wait for one reader. Beyond it messages stay in their sessions for a while, and then the reader loses them
/// and is told how many.
pub(crate) const EVENTS: usize = 256;

/// How long messages wait for a reader of events who does not read.
pub(crate) const STALL: Duration = Duration::from_millis(100);

/// Topics joined at once.
pub(crate) const TOPICS: usize = 64;

/// Publications that wait for neighbours without room. Beyond it the caller waits.
pub(crate) const PUBLICATIONS: usize = 8;

/// How long a broadcast or a publication waits for peers without room; then they are left out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How often the list of interfaces is read: a laptop that changes its network is found again within this time.
pub(crate) const INTERFACES_EVERY: Duration = Duration::from_secs(5);

/// How long the goodbyes of a shutdown may wait once its time is over.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(100);

/// A wake that comes so much later than its deadline means that the machine or the process slept: paths are asked anew.
pub(crate) const ASLEEP: Duration = Duration::from_secs(3);

/// Peers to dial while nobody is connected, beside those that the builder was given. Further ones are ignored.
pub(crate) const SEEDS: usize = 256;

/// Candidates that wait for the net task, of all sources. Beyond it they wait in their sources.
pub(crate) const CANDIDATES: usize = 64;

/// Peers that are looked for by their id, and callers who wait for one of them, or for a peer to tell of others. Beyond it they
/// are refused.
pub(crate) const SEARCHES: usize = 64;

/// Strategies of the application. Those beyond are left out.
pub(crate) const STRATEGIES: usize = 8;

/// Dials of one strategy at a time. Whom it names beyond is dialled if it names him again.
pub(crate) const STRATEGY_DIALS: usize = 16;

/// How long whom a strategy named is left alone, whatever came of it, and how many it may have named in that time: beyond it those
/// named first may be dialled again.
pub(crate) const STRATEGY_REST: (Duration, usize) = (SEARCH, 256);

/// Peers that a random walk asked and that have not answered, and how long that is waited for. Beyond it nobody is asked.
pub(crate) const WALK_UNANSWERED: (usize, Duration) = (5, Duration::from_secs(3));

/// How often a strategy is called, unless it says otherwise, and how often at most and at least.
pub(crate) const STRATEGY_TICK: Duration = Duration::from_millis(500);
/// See [`STRATEGY_TICK`].
pub(crate) const STRATEGY_SHORTEST_TICK: Duration = Duration::from_millis(10);
/// See [`STRATEGY_TICK`].
pub(crate) const STRATEGY_LONGEST_TICK: Duration = Duration::from_hours(24);

/// How long a peer is looked for whom somebody waits for.
pub(crate) const SEARCH: Duration = Duration::from_secs(30);

/// How long a dial waits for the names and ids of the relays that it is to use, where the peer has addresses too, and where it
/// has none.
pub(crate) const RELAY_PATIENCE: Duration = Duration::from_secs(1);
pub(crate) const RELAY_PATIENCE_ALONE: Duration = Duration::from_secs(10);

/// After how long a peer that is dialled at addresses is looked for by its id too, and for how long.
pub(crate) const BESIDE_DIAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(9));

/// Queries of handles in the distributed hash table that run at a time. Beyond it the caller waits.
pub(crate) const QUERIES: usize = 8;

/// Values that handles keep alive in the distributed hash table. Beyond it they are refused.
pub(crate) const VALUES: usize = 128;

/// How often the contacts of the distributed hash table are written down for the next run, which is done at the end too.
pub(crate) const CACHE_EVERY: Duration = Duration::from_secs(600);

/// Peers whose last address is remembered, so that a request can reach them again.
pub(crate) const REMEMBERED: usize = 1024;

/// Peers whose addresses the owner named, and addresses of each. Beyond it they are refused.
pub(crate) const KNOWN_PEERS: usize = 1024;
/// See [`KNOWN_PEERS`]: as many as one dial tries.
pub(crate) const KNOWN_ADDRS: usize = 8;

/// Datagrams of one batch where there is no UDP socket whose limit counts.
pub(crate) const SEGMENTS: usize = 64;

/// What a node listens on beside relays, all kinds together, but for the TCP that a server adds to its UDP. More is refused, at the
/// start too.
pub(crate) const LISTENERS: usize = 16;

/// Connections that others opened, of one node. Beyond it they are closed at once.
pub(crate) const CONNECTIONS: usize = 512;

/// The same for one public IPv4 address or IPv6 /64.
pub(crate) const CONNECTIONS_PER_ADDRESS: usize = 64;

/// Connections that others opened and that have not carried a packet of a session: for one more the oldest is closed.
pub(crate) const UNPROVED: usize = 128;

/// How long a connection may take until it carries a packet of a session.
pub(crate) const PROOF: Duration = Duration::from_secs(10);

/// How long a connection is kept that carries none any more: longer than sessions are silent, and as long as one that has
/// moved to UDP may want to come back.
pub(crate) const STREAM_IDLE: Duration = Duration::from_mins(10);

/// How long a connection may take to be made, and to become a WebSocket.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// How long a connection may take no byte of what waits for it. Then it is closed.
pub(crate) const STREAM_WRITE: Duration = Duration::from_secs(30);

/// The same when it is to be closed anyway.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// What waits for one connection, in bytes, and for one that has proved nothing. Beyond it datagrams are dropped whole, as a
/// network would: their session repeats what has to arrive, and learns what the connection carries. Were they held, one
/// connection would hold up all sessions.
pub(crate) const STREAM_QUEUE: usize = 256 << 10;
pub(crate) const UNPROVED_QUEUE: usize = 16 << 10;

/// Read from one connection at once, in bytes; one frame may take as much again.
pub(crate) const STREAM_READ: usize = 64 << 10;

/// Pieces that came by connections and wait for the net task. Beyond it the connections wait, and their senders.
pub(crate) const ARRIVALS: usize = 64;

/// Pieces taken in one turn.
pub(crate) const ARRIVALS_PER_TURN: usize = 8;

/// Transports that the application brings to one node. Beyond it the node does not start.
pub(crate) const TRANSPORTS: usize = 8;

/// Datagrams that wait for one transport, in bytes, and in how many batches. Beyond it they are dropped whole, as those of a
/// connection are.
pub(crate) const TRANSPORT_QUEUE: usize = 256 << 10;
/// See [`TRANSPORT_QUEUE`].
pub(crate) const TRANSPORT_BATCHES: usize = 256;

/// Datagrams that one transport is asked for at once, those that are refused among them, and their bytes, to which the last may
/// add its own; and how often before the net task has taken any. Beyond it nothing is asked of the transport.
pub(crate) const TRANSPORT_ARRIVED: usize = 64;
/// See [`TRANSPORT_ARRIVED`].
pub(crate) const TRANSPORT_BATCH: usize = 64 << 10;
/// See [`TRANSPORT_ARRIVED`].
pub(crate) const TRANSPORT_ARRIVALS: usize = 16;

/// New connections that wait for the net task, and that it lets in in one turn. Beyond it they wait in the system.
pub(crate) const ACCEPTED_WAITING: usize = 16;

/// How long accepting pauses when the system has no descriptors left.
pub(crate) const NO_DESCRIPTORS: Duration = Duration::from_millis(500);

/// The first and the longest pause between two attempts to connect.
pub(crate) const RECONNECT: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(8)];

/// The most that the driver holds for one peer beside its session.
const PER_PEER: usize = 2 * (OUTBOX_BYTES + DATAGRAM_OUTBOX_BYTES) + 2 * INBOX_BYTES + DATAGRAM_INBOX_BYTES;
const _: () = assert!(PER_PEER <= 4 << 20, "a peer that does not read costs 4 MiB at most, streams aside");

/// Sockets beside those that a node was bound to. Beyond it attempts to punch get fewer.
pub(crate) const EXTRA_SOCKETS: usize = 1024;

/// STUN servers that are looked up, and how often. Those beyond are left out.
pub(crate) const STUN_NAMES: usize = 8;
/// See [`STUN_NAMES`].
pub(crate) const STUN_AGAIN: Duration = Duration::from_mins(15);
