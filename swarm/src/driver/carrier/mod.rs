//! Connections that carry the datagrams of sessions where UDP does not pass: TCP, and WebSockets (SPEC 9.10).
//!
//! For the node a connection is a [`Link::Stream`]. Those that it dials are opened when the first datagram for them leaves, and
//! again with growing pauses while the node wants them; those of others get a number when they are accepted.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Carriers`]: all connections of a node, and what the net task does with them |
//! | `connection.rs` | one connection, and its task |
//! | `frame.rs` | datagrams on a stream |
//! | `ws.rs` | datagrams on a WebSocket |
//! | `listen.rs`, `admission.rs` | listening, and who is let in |
//! | `transports.rs` | what the application brought beside them |

mod admission;
mod connection;
pub(crate) mod frame;
mod listen;
mod transports;
#[cfg(feature = "ws")]
mod ws;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use framing::Kind;
use structs::{Datagram, Link, Machine, Path, Transmit, TransmitBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::admission::Admission;
use self::connection::{Arrival, Inbox, Outbox, Start, What, spawn};
pub(super) use self::listen::Listener;
use self::listen::{Accepting, Newcomer};
pub(super) use self::transports::{Brought, Given, Transports};
use super::limits::{
    ACCEPTED_WAITING, ARRIVALS, ARRIVALS_PER_TURN, PROOF, RECONNECT, STREAM_IDLE, STREAM_QUEUE, UNPROVED_QUEUE,
};
use crate::carrier::{Carrier, ListenAddr};
use crate::node::{ACCEPTED, Node};

/// The path at which WebSockets are asked for.
#[cfg(feature = "ws")]
pub(super) const WS_PATH: &str = ws::PATH;

/// All connections of a node.
#[derive(Debug)]
pub(super) struct Carriers {
    accepting: Vec<Accepting>,
    /// For listeners that are still to come.
    accepted: mpsc::Sender<Newcomer>,
    newcomers: mpsc::Receiver<Newcomer>,
    arrivals: mpsc::Receiver<Arrival>,
    to_us: mpsc::Sender<Arrival>,
    /// What was received by waiting for it.
    newcomer: Option<Newcomer>,
    arrival: Option<Arrival>,
    open: BTreeMap<u32, Connection>,
    /// When those that we dial may be tried again.
    retries: BTreeMap<u32, Retry>,
    admission: Admission,
    next: u32,
    serial: u64,
    pub(super) counts: Counts,
}

/// What became of connections and datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Connections that were not let in, or pushed out before they proved anything.
    pub(super) refused: u64,
    /// Datagrams for which their connection had no room, or for which there was none.
    pub(super) dropped: u64,
}

#[derive(Debug)]
struct Connection {
    serial: u64,
    outbox: Outbox,
    carrier: Carrier,
    remote: SocketAddr,
    /// Our end, once it is open.
    local: Option<SocketAddr>,
    since: Instant,
    /// When the last packet of a session came over it.
    used: Option<Instant>,
}

/// A stream that we dial and that is not connected.
#[derive(Debug)]
struct Retry {
    next: Instant,
    pause: Duration,
    /// It was connected, and a session may wait for it.
    restores: bool,
}

impl Carriers {
    /// Inside of a tokio runtime only.
    pub(super) fn new(listeners: Vec<Listener>) -> Self {
        let (accepted, newcomers) = listen::newcomers();
        let (to_us, arrivals) = mpsc::channel(ARRIVALS);
        Self {
            accepting: listeners.into_iter().map(|listener| listener.start(accepted.clone())).collect(),
            accepted,
            newcomers,
            arrivals,
            to_us,
            newcomer: None,
            arrival: None,
            open: BTreeMap::new(),
            retries: BTreeMap::new(),
            admission: Admission::default(),
            next: 0,
            serial: 0,
            counts: Counts::default(),
        }
    }

    /// Accepts connections there too.
    pub(super) fn listen(&mut self, listener: Listener) {
        self.accepting.push(listener.start(self.accepted.clone()));
    }

    /// Accepts no more connections where `goes` says so; those that were accepted stay. The ports are free when the tasks have
    /// ended.
    pub(super) fn stop_listening(&mut self, goes: impl Fn(ListenAddr) -> bool) -> Vec<JoinHandle<()>> {
        let all = std::mem::take(&mut self.accepting).into_iter();
        let (gone, kept): (Vec<Accepting>, Vec<Accepting>) = all.partition(|accepting| goes(accepting.at()));
        self.accepting = kept;
        gone.into_iter().filter_map(Accepting::stop).collect()
    }

    /// Where connections are accepted.
    pub(super) fn listening(&self) -> impl Iterator<Item = ListenAddr> {
        self.accepting.iter().map(Accepting::at)
    }

    /// Where accepting has failed since this was asked before, and how.
    pub(super) fn take_failures(&mut self) -> impl Iterator<Item = (ListenAddr, io::ErrorKind)> {
        self.accepting.iter_mut().filter_map(|accepting| Some((accepting.at(), accepting.take_failure()?)))
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// What a connection is.
    pub(super) fn carrier(&self, number: u32) -> Option<Carrier> {
        self.open.get(&number).map(|connection| connection.carrier)
    }

    /// Ready when something came. For one task: the last to ask is woken.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.arrival.is_some() || self.newcomer.is_some() {
            return Poll::Ready(());
        }
        if let Poll::Ready(arrival) = self.arrivals.poll_recv(cx) {
            self.arrival = arrival;
            return Poll::Ready(());
        }
        if let Poll::Ready(Some(newcomer)) = self.newcomers.poll_recv(cx) {
            self.newcomer = Some(newcomer);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Takes in what came. Returns whether there is more, and whether there were datagrams.
    pub(super) fn receive(&mut self, node: &mut Node, now: Instant) -> (bool, bool) {
        let mut more = true;
        for _ in 0..ACCEPTED_WAITING {
            let Some(newcomer) = self.newcomer.take().or_else(|| self.newcomers.try_recv().ok()) else {
                more = false;
                break;
            };
            self.let_in(newcomer, now);
        }
        let mut came = false;
        for _ in 0..ARRIVALS_PER_TURN {
            let Some(arrival) = self.arrival.take().or_else(|| self.arrivals.try_recv().ok()) else {
                return (more, came);
            };
            let Arrival { link, serial, what } = arrival;
            if self.open.get(&link).is_none_or(|connection| connection.serial != serial) {
                // Of a connection that was given up meanwhile.
                continue;
            }
            match what {
                What::Opened(local) => self.opened(link, local, node, now),
                What::Frames(frames) => {
                    came = true;
                    self.take(link, frames, node, now);
                }
                What::Closed => self.closed(link, node, now),
            }
        }
        (true, came)
    }

    fn let_in(&mut self, newcomer: Newcomer, now: Instant) {
        let Newcomer { stream, remote, at } = newcomer;
        loop {
            self.next = (self.next + 1) % ACCEPTED;
            if !self.open.contains_key(&(ACCEPTED | self.next)) {
                break;
            }
        }
        let link = ACCEPTED | self.next;
        let Some(evicted) = self.admission.admit(link, remote.ip()) else {
            self.counts.refused += 1;
            return;
        };
        if let Some(evicted) = evicted.and_then(|evicted| self.open.remove(&evicted)) {
            self.counts.refused += 1;
            evicted.outbox.abort();
        }
        connection::prepare(&stream);
        let (start, carrier) = match at {
            #[cfg(feature = "ws")]
            ListenAddr::WebSocket(_) => (Start::Upgrade(stream), Carrier::WebSocket),
            _ => (Start::Accepted(stream), Carrier::Tcp),
        };
        self.spawn(link, start, carrier, remote, now);
    }

    fn spawn(&mut self, link: u32, start: Start, carrier: Carrier, remote: SocketAddr, now: Instant) {
        self.serial += 1;
        let serial = self.serial;
        let outbox = spawn(start, Inbox { link, serial, arrivals: self.to_us.clone() });
        let connection = Connection { serial, outbox, carrier, remote, local: None, since: now, used: None };
        self.open.insert(link, connection);
    }

    fn opened(&mut self, link: u32, local: SocketAddr, node: &mut Node, now: Instant) {
        if let Some(connection) = self.open.get_mut(&link) {
            connection.local = Some(local);
        }
        if self.retries.get(&link).is_some_and(|retry| retry.restores) {
            node.stream_restored(link, now);
        }
    }

    fn take(&mut self, link: u32, mut frames: Vec<u8>, node: &mut Node, now: Instant) {
        let Some(connection) = self.open.get_mut(&link) else { return };
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let local = connection.local.unwrap_or(unspecified);
        let path = Path { link: Link::Stream(link), local, remote: connection.remote };
        let mut used = false;
        frame::each(&mut frames, |payload| {
            let is_packet = payload.first().copied().and_then(Kind::of) == Some(Kind::Data);
            // What is refused is counted in the node.
            used |= node.handle_datagram(Datagram::new(path, payload), now).is_ok() && is_packet;
        });
        if used && connection.used.replace(now).is_none() {
            self.admission.proved(link);
            self.retries.remove(&link);
        }
    }

    fn closed(&mut self, link: u32, node: &mut Node, now: Instant) {
        let Some(connection) = self.open.remove(&link) else { return };
        self.admission.remove(link);
        let was_used = connection.used.is_some();
        if link < ACCEPTED {
            let [first, longest] = RECONNECT;
            let pause = self.retries.get(&link).map_or(first, |retry| (retry.pause * 2).min(longest));
            let restores = was_used || self.retries.get(&link).is_some_and(|retry| retry.restores);
            let next = if was_used { now } else { now + pause };
            self.retries.insert(link, Retry { next, pause, restores });
        }
        if was_used {
            node.stream_lost(link, now);
        }
    }

    /// Sends a batch over a connection, which is made if need be.
    pub(super) fn send(&mut self, node: &Node, out: &TransmitBuf, transmit: &Transmit, now: Instant) {
        let Link::Stream(link) = transmit.path.link else { return };
        if !self.open.contains_key(&link) && self.retries.get(&link).is_none_or(|retry| retry.next <= now) {
            self.connect(link, node, now);
        }
        self.counts.dropped += match self.open.get(&link) {
            Some(connection) => {
                let is_ours = link < ACCEPTED || connection.used.is_some();
                connection.outbox.push(out, transmit, if is_ours { STREAM_QUEUE } else { UNPROVED_QUEUE })
            }
            None => out.segments(transmit).count() as u64,
        };
    }

    fn connect(&mut self, link: u32, node: &Node, now: Instant) {
        if let Some(to) = node.stream(link).cloned() {
            let (carrier, remote) = (to.carrier(), to.addr);
            self.spawn(link, Start::Connect(to), carrier, remote, now);
        }
    }

    /// When [`reconnect`](Self::reconnect) wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self.retries.iter().filter(|(link, retry)| retry.restores && !self.open.contains_key(link));
        waiting.map(|(_, retry)| retry.next).min()
    }

    /// Connects again what sessions may wait for.
    pub(super) fn reconnect(&mut self, node: &Node, now: Instant) {
        if self.retries.is_empty() {
            return;
        }
        self.retries.retain(|link, _| node.stream(*link).is_some());
        let due = |(link, retry): (&u32, &Retry)| {
            (retry.restores && retry.next <= now && !self.open.contains_key(link)).then_some(*link)
        };
        let due: Vec<u32> = self.retries.iter().filter_map(due).collect();
        for link in due {
            self.connect(link, node, now);
        }
    }

    /// Closes what nobody needs: connections that proved nothing in time, that carry nothing any more, that no session of ours
    /// wants. To be called now and again.
    pub(super) fn sweep(&mut self, node: &mut Node, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        let over = |(link, connection): (&u32, &Connection)| {
            let late = match connection.used {
                Some(used) => age(used) >= STREAM_IDLE,
                None => age(connection.since) >= PROOF,
            };
            let unwanted = *link < ACCEPTED && node.stream(*link).is_none();
            (late || unwanted).then_some(*link)
        };
        let over: Vec<u32> = self.open.iter().filter_map(over).collect();
        for link in over {
            // Its task writes what waits, and ends.
            self.closed(link, node, now);
        }
        self.retries.retain(|link, _| node.stream(*link).is_some());
    }
}
