//! One conversation over the wire of the existing Python, JavaScript and C++ nodes.
//!
//! [`Peer`] speaks that wire as they do and closes what a single side can close of its holes:
//!
//! - nothing but answers of at most the same size goes to an address before it has proved itself, by a sealed packet
//!   that opens or, from peers that have nothing to say, by answering PINGs whose moments it cannot know;
//! - the id must be the hash of the key, keys without a shared secret are refused, a nonce is never used twice;
//! - a captured packet is not taken again, an address is changed only by a sealed packet newer than all before;
//! - GOAWAY is a hint that silence must confirm, values are taken only if they were asked for, plaintext fragments
//!   only if the configuration says so, and every buffer has a bound.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Peer`]: its state, its commands, the machine's five methods |
//! | `receive.rs` | what each frame does |
//! | `transmit.rs` | what leaves, in which order |
//! | `timers.rs` | what happens when nothing happens |
//! | `path.rs`, `proof.rs` | addresses and what they have proved |
//! | `replay.rs` | which packets are new, and when the peer has restarted |
//! | `window.rs` | how much may be under way |
//! | `exchange.rs` | values asked for and served |
//! | `note.rs` | what nodes tell each other sealed, beside messages |

mod config;
mod event;
mod exchange;
mod note;
mod path;
mod proof;
mod receive;
mod replay;
mod status;
mod timers;
mod transmit;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crypto::v12::{Identity, NonceSequence, PublicKey, Session};
use crypto::{Rng, Seed};
use framing::v12::{Batcher, GoawayReason, Reassembler, Reorder, limits};
use structs::{Datagram, Deadline, Epoch, Machine, Path, Rejected, Ring, TokenBucket, Transmit, TransmitBuf};

pub use config::{Config, max_buffered_bytes};
pub use event::{CloseReason, Event, ExchangeError, Proof, SendError};
pub use replay::Memory;
pub use status::{Implementation, Stats};

use config::{CONTROL_QUEUE_BYTES, FRAGMENT_BYTES, REORDER_BYTES, SEND_QUEUE_BYTES};
use exchange::Exchange;
use path::{Route, Routes};
use replay::Replay;
use window::Window;

/// Bytes that a dial may spend on its own account before its target has proved anything: eight HELLOs, and the
/// PINGs and the notes that follow an answer.
pub const DIAL_BUDGET: u64 = 8 * 41 + 16 * 29 + 4 * 128;

/// One conversation: see the [module documentation](self).
#[derive(Debug)]
pub struct Peer {
    config: Config,
    identity: Arc<Identity>,
    rng: Rng,
    now: Instant,
    created: Instant,

    state: State,
    /// We dialled, so that what we say first is on our own account.
    dialled: bool,
    remote: Option<PublicKey>,
    session: Option<Session>,
    nonces: NonceSequence,
    proof: Proof,
    implementation: Implementation,
    /// It has sent a BATCH, so it is not the other Rust node, whatever else is said in its name.
    batches: bool,
    routes: Routes,

    replay: Replay,
    reorder: Reorder,
    /// Numbers given up, in all and before the peer last restarted.
    skipped: u64,
    skipped_before: u64,
    epoch_begins: bool,
    reassembler: Reassembler,
    acks_owed: u32,
    ack_at: Option<Instant>,
    /// Until then a PING of a peer of ours is answered with what we have received, too: the last time may be lost.
    ack_pings_until: Instant,
    /// The peer was told to send nothing, because the owner takes no events.
    told_closed: bool,

    data: Ring<Bytes>,
    data_bytes: usize,
    full: bool,
    control: VecDeque<Vec<u8>>,
    control_bytes: usize,
    urgent: VecDeque<(Path, Vec<u8>)>,
    batcher: Batcher,
    staged: Option<Vec<u8>>,
    seq: u32,
    /// The last HELLO, and whether a message has left since the first of its burst.
    hello_at: Option<Instant>,
    sent_since_hello: bool,
    window: Window,
    marked_at: Option<Instant>,
    bucket: TokenBucket,

    hellos: u32,
    greetings: u32,
    greet_at: Option<Instant>,
    ponged: bool,
    heartbeat_at: Instant,
    last_heard: Instant,
    reset: Reset,
    suspect: Option<Suspicion>,
    suspect_from: Instant,
    leaving: Option<Leaving>,
    early_wants: Vec<Bytes>,
    exchange: Exchange,

    events: VecDeque<Event>,
    event_bytes: usize,
    stats: Stats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// HELLOs leave; nobody has answered.
    Dialing { sent: u32, left: u32, next: Instant },
    /// The key of the peer is known.
    Open,
    /// Goodbyes may still be in the queue; nothing else happens.
    Closed,
}

/// Whether the peer might hold the state of an earlier run of ours, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    /// It does not, or it does not matter.
    Done,
    /// It shows by then that it started afresh, or is told to.
    CheckAt(Instant),
    /// It was told to; messages wait for its answer until then.
    Until(Instant),
}

/// A HELLO came from a new address: if the old one stays silent and the new one answers, the peer has restarted.
#[derive(Debug, Clone, Copy)]
struct Suspicion {
    path: Path,
    since: Instant,
}

/// Somebody said GOAWAY in the peer's name.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    code: u8,
    since: Instant,
}

/// How long we wait before the first note to an unknown peer: the other Rust node shows itself right after the
/// handshake, and would hand a note to its application.
const GREETING_DELAY: Duration = Duration::from_millis(20);
/// Until the peer shows what it runs, the note is repeated after this long, each time twice as long.
const GREETING_INTERVAL: Duration = Duration::from_millis(250);
/// So many notes greet a peer that shows nothing.
const MAX_GREETINGS: u32 = 4;
/// How long a peer may stay without any proof.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer with a fresh session takes at most to show it, when its application speaks first.
const RESET_CHECK: Duration = Duration::from_millis(250);
/// How long a peer takes at most to answer a reset.
const RESET_TIMEOUT: Duration = Duration::from_secs(1);
/// A live peer of any implementation sends a PING each second, and answers ours.
const SUSPICION: Duration = Duration::from_millis(1500);
/// Messages wait no longer for a suspicion to resolve, and this much passes before the next: anybody can raise one.
const SUSPICION_LIMIT: Duration = Duration::from_secs(10);
/// HELLOs closer together than this are one dial: nobody's dial has longer pauses.
const HELLO_BURST: Duration = Duration::from_secs(3);
/// How long after a message a peer's PINGs are answered with what was received.
const ACK_REPEAT: Duration = Duration::from_secs(10);
/// After GOAWAY, this much silence confirms it.
const GOAWAY_SILENCE: Duration = Duration::from_secs(2);
/// After GOAWAY, a peer that still answers this much later has not left.
const GOAWAY_DOUBT: Duration = Duration::from_secs(12);

impl Peer {
    /// Dials whoever is at `path`: up to `hellos` HELLOs, 300 ms apart and then further, until one is answered.
    #[must_use]
    pub fn dial(
        config: Config,
        identity: Arc<Identity>,
        path: Path,
        hellos: u32,
        seed: &Seed,
        epoch: Epoch,
        now: Instant,
    ) -> Self {
        let mut peer = Self::new(config, identity, seed, epoch, now);
        peer.state = State::Dialing { sent: 0, left: hellos.clamp(1, limits::PUNCH_TRIES), next: now };
        peer.dialled = true;
        peer.add_route(Route::new(path, DIAL_BUDGET, now));
        peer
    }

    /// Expects the HELLO of a peer that dialled us: hand it in next. Until something else is proved, no more bytes
    /// leave than came in.
    #[must_use]
    pub fn accept(
        config: Config,
        identity: Arc<Identity>,
        path: Path,
        seed: &Seed,
        epoch: Epoch,
        now: Instant,
    ) -> Self {
        let mut peer = Self::new(config, identity, seed, epoch, now);
        peer.add_route(Route::new(path, 0, now));
        peer
    }

    fn new(config: Config, identity: Arc<Identity>, seed: &Seed, epoch: Epoch, now: Instant) -> Self {
        let mut rng = seed.rng();
        let nonces = NonceSequence::new(epoch.unix_at(now), &mut rng);
        let replay = Replay::new(rng.array());
        Self {
            exchange: Exchange::new(config.value_limit),
            config,
            identity,
            rng,
            now,
            created: now,
            state: State::Open,
            dialled: false,
            remote: None,
            session: None,
            nonces,
            proof: Proof::None,
            implementation: Implementation::Unknown,
            batches: false,
            routes: Routes::default(),
            replay,
            reorder: Reorder::new(limits::QUEUE_DATA, REORDER_BYTES),
            skipped: 0,
            skipped_before: 0,
            epoch_begins: true,
            reassembler: Reassembler::new(FRAGMENT_BYTES),
            acks_owed: 0,
            ack_at: None,
            ack_pings_until: now,
            told_closed: false,
            data: Ring::new(limits::QUEUE_DATA),
            data_bytes: 0,
            full: false,
            control: VecDeque::new(),
            control_bytes: 0,
            urgent: VecDeque::new(),
            batcher: Batcher::new(),
            staged: None,
            seq: 0,
            hello_at: None,
            sent_since_hello: false,
            window: Window::new(),
            marked_at: None,
            bucket: TokenBucket::new(limits::RATE, limits::RATE_BURST, now),
            hellos: 0,
            greetings: 0,
            greet_at: None,
            ponged: false,
            heartbeat_at: now + limits::HEARTBEAT,
            last_heard: now,
            reset: Reset::Done,
            suspect: None,
            suspect_from: now,
            leaving: None,
            early_wants: Vec::new(),
            events: VecDeque::new(),
            event_bytes: 0,
            stats: Stats::default(),
        }
    }

    /// Queues a message: it is delivered in order, once, unless the network loses it, which this wire cannot repair.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was queued then.
    pub fn send(&mut self, message: Bytes, now: Instant) -> Result<(), SendError> {
        self.now = self.now.max(now);
        match self.state {
            State::Closed => return Err(SendError::Closed),
            State::Open if self.proof >= Proof::Address => {}
            _ => return Err(SendError::NotConnected),
        }
        let (len, max) = (message.len(), self.max_message());
        if len > max {
            return Err(SendError::TooLarge { len, max });
        }
        if self.data.is_full() || self.data_bytes + len > SEND_QUEUE_BYTES {
            self.full = true;
            return Err(SendError::Full);
        }
        if self.data.push(message).is_err() {
            self.full = true;
            return Err(SendError::Full);
        }
        self.data_bytes += len;
        Ok(())
    }

    /// Queues a frame of the control plane (HAVE, PEX, RELAY_*, IHAVE), which travels in the clear. Returns false,
    /// and queues nothing, when the peer is not connected or the queue is full.
    pub fn send_control(&mut self, frame: Vec<u8>) -> bool {
        let fits = self.control.len() < limits::QUEUE_CTRL && self.control_bytes + frame.len() <= CONTROL_QUEUE_BYTES;
        if !self.is_connected() || !fits {
            return false;
        }
        self.control_bytes += frame.len();
        self.control.push_back(frame);
        true
    }

    /// Says goodbye and ends the session. What waits in the queues is dropped: look at
    /// [`is_drained`](Self::is_drained) first. Returns how many messages that were.
    pub fn close(&mut self, code: GoawayReason, now: Instant) -> u64 {
        self.now = self.now.max(now);
        if self.is_closed() {
            return 0;
        }
        let (unsent, connected) = (self.data.len() as u64, self.is_connected());
        self.end(CloseReason::Local);
        if connected {
            self.farewell(code);
        }
        unsent
    }

    /// Ends the machine and gives what of this key must not be taken for new in a later session: hand it to
    /// [`recall`](Self::recall) of the next. Empty if nothing sealed ever came.
    #[must_use]
    pub fn forget(self) -> Vec<Arc<Memory>> {
        self.replay.into_memories()
    }

    /// Remembers earlier sessions with the same key: captured packets of them stay refused, those of the existing
    /// nodes for five to ten minutes.
    pub fn recall(&mut self, memories: &[Arc<Memory>]) {
        self.replay.recall(memories);
    }

    fn add_route(&mut self, route: Route) -> bool {
        let path = route.path;
        let Some(added) = self.routes.add(route) else { return false };
        if let Some(removed) = added.removed {
            self.push_event(Event::PathRemoved(removed));
        }
        self.push_event(Event::PathAdded(path));
        true
    }

    /// Ends the session. Only a goodbye that is queued after it still leaves.
    fn end(&mut self, reason: CloseReason) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.data.clear();
        self.data_bytes = 0;
        self.control.clear();
        self.control_bytes = 0;
        self.urgent.clear();
        self.staged = None;
        self.batcher = Batcher::new();
        self.reorder = Reorder::new(0, 0);
        self.reassembler = Reassembler::new(0);
        self.early_wants.clear();
        self.exchange = Exchange::new(self.config.value_limit);
        self.push_event(Event::Closed(reason));
    }

    fn push_event(&mut self, event: Event) {
        self.event_bytes += weight(&event);
        self.events.push_back(event);
    }

    /// Whether the owner takes events too slowly for the peer to be told to go on.
    fn is_backlogged(&self) -> bool {
        self.events.len() >= config::MAX_EVENTS / 2 || self.event_bytes >= config::EVENT_BYTES / 2
    }

    fn is_flooded(&self) -> bool {
        self.events.len() >= config::MAX_EVENTS || self.event_bytes >= config::EVENT_BYTES
    }

    /// Derives the session on first need: a HELLO alone costs nothing but its answer.
    fn session(&mut self) -> Option<&Session> {
        if self.session.is_none() {
            let remote = self.remote?;
            match Session::derive(&self.identity, &remote) {
                Ok(session) => self.session = Some(session),
                Err(weak) => self.end(weak.into()),
            }
        }
        self.session.as_ref()
    }
}

impl Machine for Peer {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.now = self.now.max(now);
        let result = self.receive(datagram);
        result.map_err(|reason| self.stats.rejected.count(reason))
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.run_timers();
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.now = self.now.max(now);
        self.transmit(out)
    }

    fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.event_bytes = self.event_bytes.saturating_sub(weight(&event));
        Some(event)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.next_deadline()
    }
}

/// Bytes that an event holds.
fn weight(event: &Event) -> usize {
    match event {
        Event::Message { data, .. } => data.len(),
        Event::Value { key, value } => key.len() + value.len(),
        Event::Wanted(key) => key.len(),
        Event::Has(keys) => keys.iter().map(|key| key.len() + size_of::<Bytes>()).sum(),
        Event::Peers(peers) => size_of_val(peers.as_slice()),
        _ => 0,
    }
}
