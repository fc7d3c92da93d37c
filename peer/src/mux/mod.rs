//! All that travels in one session: protocols, their streams, messages and datagrams, the credit for them, and whose turn it is.
//!
//! Every protocol is registered under a name before the start and announced with its versions; what both sides have in common is on,
//! in the highest common version. A protocol sends three kinds of things:
//!
//! - streams of bytes, both ways, with half close, reset and backpressure;
//! - messages: whole or not at all, in order among those of the same protocol and [`Urgency`], each with a [`MessageId`] whose arrival
//!   is told. What was accepted is accounted for to the last message, also when the session ends ([`Account`]);
//! - datagrams, which may be lost, and of which the oldest give way when a queue is full.
//!
//! A loss holds up nothing but the stream that it hit. Protocols share the link by weight, with optional caps; urgent messages leave
//! in the next packet, but never take more than half of the bytes while others wait.
//!
//! Everything is bounded: what is kept for sending and for reading, streams, ranges behind gaps, and events, of which there is at most
//! one for each fact until it is polled.

mod batch;
mod datagram;
mod error;
mod event;
mod flow;
mod lanes;
mod limits;
mod message;
mod pages;
mod protocol;
mod receive;
mod scheduler;
mod stream;
#[cfg(test)]
mod tests;
mod transmit;
mod verbs;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framing::{Role, StreamId};
use structs::Rare;

pub use batch::{Batch, Messages, push_message};
pub use error::{OpenError, ReadError, RegisterError, SendError, WriteError};
pub use event::{Account, Direction, Event, MessageId, Read, Urgency};
pub(crate) use limits::{DEFAULT_MEMORY, Limits};
pub use protocol::{Protocol, ProtocolId, Protocols};

use datagram::Queue;
use flow::{Credit, Window};
use lanes::Lanes;
use pages::Pool;
use protocol::Agreement;
use scheduler::Scheduler;
use stream::recv::Purpose;
use stream::{NONE, Slot, Streams};

/// Whether a frame was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Received {
    /// The packet can be acknowledged.
    Taken,
    /// There are too many gaps before its data: the packet must not be acknowledged, as if it had been lost. The other frames in it
    /// were taken, which does no harm when they are repeated.
    Refused,
}

/// Counters of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Frames for protocols that were not agreed.
    pub unknown_protocol: u32,
    /// Datagrams dropped because their queue was full, or their protocol ended: ours.
    pub datagrams_dropped_sent: u64,
    /// The same of the other side's, and those that came before HELLO.
    pub datagrams_dropped_received: u64,
    /// Datagrams that were sent and lost.
    pub datagrams_lost: u64,
    /// STREAM frames refused because of too many gaps.
    pub refused: u64,
}

/// A frame that is to be sent before any data. There is at most one of a kind for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Reset(StreamId),
    Stop(StreamId),
    Credit(StreamId),
}

/// The multiplexer of one session.
#[derive(Debug)]
pub(crate) struct Mux {
    protocols: Arc<Protocols>,
    limits: Arc<Limits>,
    /// What HELLO said, once it came.
    agreement: Option<Agreement>,
    /// What the other side allows. Its `max_streams` follows MAX_STREAMS.
    theirs: framing::Limits,
    /// For each protocol, by its id.
    lanes: Lanes,
    streams: Streams,
    send_pool: Pool,
    recv_pool: Pool,

    /// What we may send in all streams.
    credit: Credit,
    /// What was accepted for any stream and never sent.
    unsent: u64,
    /// The channel whose message was begun although the credit did not allow all of it.
    oversized: Slot,
    /// What the other side may send in all streams; how much it did, and how much of that was read or given up.
    window: Window,
    received: u64,
    consumed: u64,
    /// How many streams it may have opened in all.
    max_streams: u64,
    /// Ranges behind gaps, of all streams.
    ranges: usize,

    scheduler: Scheduler,
    control: Rare<VecDeque<Control>>,
    /// MAX_DATA, MAX_STREAMS are to be sent.
    data_queued: bool,
    streams_queued: bool,
    /// Sending halves with something that needs no credit.
    again: Rare<VecDeque<Slot>>,
    /// Protocols, a bit for each, that have urgent messages, streams, datagrams to send.
    urgent_ready: u64,
    streams_ready: u64,
    datagrams_ready: u64,
    /// Whose urgent messages were sent last.
    urgent_turn: u8,
    /// The protocol whose datagram did not fit, and how often that happened to it.
    unfit: Option<u8>,
    unfit_tries: u8,
    /// Entries of theirs that datagrams came for and that we lack, a bit for each.
    strange_datagrams: u64,
    /// Nothing could be written, and nothing has changed since.
    stalled: bool,

    /// Sending halves whose writers wait for room, and whether room was made.
    waiting: Rare<Vec<Slot>>,
    unblock: bool,
    /// A stream could not be opened.
    wants_streams: bool,
    /// A channel of messages waits to be opened, or for what the other side takes.
    channels_wait: bool,
    /// We sent GOAWAY; the other side did.
    refuses_streams: bool,
    refused_streams: bool,

    /// The round trip in microseconds.
    rtt: u32,
    packet_room: usize,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Mux {
    /// A multiplexer for what `protocols` lists, within `limits`.
    pub(crate) fn new(role: Role, protocols: Arc<Protocols>, limits: impl Into<Arc<Limits>>, now: Instant) -> Self {
        let count = protocols.len();
        let limits = limits.into();
        let checked = limits.checked(count);
        let limits = if *limits == checked { limits } else { Arc::new(checked) };
        let Limits { send_memory, receive_memory, .. } = checked;
        let entry = |at| protocols.newest(ProtocolId(at));
        Self {
            lanes: Lanes::new((0..u16::try_from(count).unwrap_or(0)).map(entry)),
            scheduler: Scheduler::new(&protocols, now),
            protocols,
            limits,
            agreement: None,
            theirs: framing::Limits::INITIAL,
            streams: Streams::new(role),
            send_pool: Pool::new(send_memory),
            recv_pool: Pool::new(receive_memory),
            credit: Credit::new(framing::Limits::INITIAL.max_data),
            unsent: 0,
            oversized: NONE,
            window: Window::new(checked.initial_window, checked.window_ceiling(count)),
            received: 0,
            consumed: 0,
            max_streams: checked.max_streams(count),
            ranges: 0,
            control: Rare::new(),
            data_queued: false,
            streams_queued: false,
            again: Rare::new(),
            urgent_ready: 0,
            streams_ready: 0,
            datagrams_ready: 0,
            urgent_turn: 0,
            unfit: None,
            unfit_tries: 0,
            strange_datagrams: 0,
            stalled: false,
            waiting: Rare::new(),
            unblock: false,
            wants_streams: false,
            channels_wait: false,
            refuses_streams: false,
            refused_streams: false,
            rtt: in_micros(INITIAL_RTT),
            packet_room: framing::limits::MIN_PAYLOAD,
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// What HELLO announces beside the entries of [`protocols`](Self::protocols); the delay of acknowledgements is the caller's.
    pub(crate) fn announced(&self) -> framing::Limits {
        framing::Limits {
            max_data: self.limits.initial_window as u64,
            max_stream_data: limits::STREAM_WINDOW as u64,
            max_streams: self.limits.max_streams(self.lanes.len()),
            max_message: self.limits.max_message as u64,
            max_datagram_frame: self.limits.max_datagram as u64,
            ..framing::Limits::INITIAL
        }
    }

    /// The protocols of this side.
    pub(crate) fn protocols(&self) -> &Protocols {
        &self.protocols
    }

    /// We sent GOAWAY: streams that the other side opens from now on are refused.
    pub(crate) const fn refuse_streams(&mut self) {
        self.refuses_streams = true;
    }

    /// The smoothed round-trip time, by which windows grow.
    pub(crate) const fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = in_micros(rtt);
    }

    const fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt as u64)
    }

    /// Memory of all buffers, in bytes.
    pub(crate) const fn buffered_bytes(&self) -> usize {
        self.send_pool.memory() + self.recv_pool.memory() + self.ranges * 16
    }

    /// The part of it that holds something.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) const fn held_bytes(&self) -> usize {
        self.send_pool.used() + self.recv_pool.used() + self.ranges * 16
    }

    /// Nothing has happened for long: gives back what memory a busy time left behind.
    pub(crate) fn rest(&mut self) {
        for half in self.streams.sends.iter_mut() {
            half.data.narrow(&mut self.send_pool);
        }
        for half in self.streams.recvs.iter_mut() {
            half.data.narrow(&mut self.recv_pool);
        }
        self.pack();
        self.streams.rest();
        for at in 0..self.lanes.len() {
            let Some(lane) = self.lanes.used_mut(at) else { continue };
            lane.ready.shrink_to_fit();
            for (queue, pool) in [(&mut lane.outgoing, &mut self.send_pool), (&mut lane.incoming, &mut self.recv_pool)]
            {
                if let Some(mut empty) = queue.take_if(|queue| queue.is_empty()) {
                    empty.clear(pool);
                }
            }
        }
        self.lanes.rest();
        self.send_pool.rest();
        self.recv_pool.rest();
        self.control.rest();
        self.again.rest();
        self.waiting.rest();
        self.events.shrink_to_fit();
    }

    /// Gives back the places that streams left beside others.
    fn pack(&mut self) {
        let Self { streams, lanes, .. } = self;
        if self.waiting.is_empty() && self.oversized == NONE {
            streams.pack_sends(|half, from, to| {
                let channel = |lanes: &mut Lanes| {
                    let channel = lanes.used_mut(half.protocol.index())?.used_channel(Urgency::of(half.kind)?)?;
                    (channel.send == from).then(|| channel.send = to)
                };
                channel(lanes);
            });
        }
        streams.pack_recvs(|half, from, to| {
            let channel = |lanes: &mut Lanes| {
                let Purpose::Known { protocol, kind } = half.purpose else { return None };
                let channel = lanes.used_mut(protocol.index())?.used_channel(Urgency::of(kind)?)?;
                (channel.recv == from).then(|| channel.recv = to)
            };
            channel(lanes);
        });
    }

    fn stream_ceiling(&self) -> usize {
        self.limits.stream_ceiling(self.lanes.len())
    }

    fn push(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

/// Keeps an empty queue short, but not so short that a busy session allocates for each round.
fn relax<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > MAX_EMPTY {
        queue.shrink_to(MAX_EMPTY / 2);
    }
}

/// Up to an hour: what is kept for each of many sessions is kept short.
const fn in_micros(rtt: Duration) -> u32 {
    let micros = rtt.as_micros();
    if micros > u32::MAX as u128 { u32::MAX } else { micros as u32 }
}

/// Places that an empty queue keeps until the session rests: for a hundred short streams with three events each.
const MAX_EMPTY: usize = 512;

/// Until one was measured (RFC 9002 section 6.2.2 is more careful: here the cost of guessing low is a narrow window).
const INITIAL_RTT: Duration = Duration::from_millis(100);
