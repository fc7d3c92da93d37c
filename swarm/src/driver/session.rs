//! One session, as the net task sees it: what the handles want goes into it, and what comes goes to whoever it is for.
//!
//! Here are its state, the visit and its end; what a visit does is in `messages.rs`, `streams.rs` and `requests.rs`.

mod messages;
mod requests;
mod slots;
mod streams;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framing::{StreamCode, StreamId};
use peer::Peer;
use peer::mux::{self, Event, Messages, ProtocolId};
use structs::Rare;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use self::requests::{Calling, Found};
use self::slots::{Slot, Slots};
use self::streams::Piped;
use super::busy_poll::Talk;
use super::call::Asked;
use super::conn::{Conn, Gone, Task, tidy};
use super::limits::{CALLS, OPENINGS, TASKS_PER_VISIT, UNNAMED_SWEEPS};
use super::pipe::{End, Pipe};
use super::services::Services;
use super::shared::Last;
use super::stream::Stream;
use crate::node::ProtocolIds;
use crate::{InboundError, OpenError, PeerId, RequestError, StreamError};

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) conn: Arc<Conn>,
    /// Where the peer is, as far as that is known.
    pub(crate) addr: SocketAddr,
    /// The relay that it is behind.
    pub(crate) relay: Option<Box<PeerId>>,
    /// What happened in it since it was visited last.
    pub(crate) events: Vec<Event>,
    /// It is to be visited.
    pub(crate) listed: bool,

    /// Taken from the outboxes, each message behind its length, and handed over up to here.
    messages: Vec<u8>,
    messages_at: usize,
    datagrams: Vec<u8>,
    datagrams_at: usize,
    /// A datagram was too long for the path: it is looked now and then whether it takes longer ones.
    pub(crate) narrowed: bool,
    /// Messages that were accepted and that the other side does not take.
    pub(crate) dropped: u64,
    /// The channel of messages has no room.
    blocked: bool,
    /// There are messages to read, and nobody had room for them.
    pub(crate) readable: bool,

    streams: Slots,
    /// Requests of the other side that were not answered, since it was asked last: of its streams, which are bounded.
    pub(crate) failed: Rare<Vec<(StreamId, InboundError)>>,
    /// What waits until the other side allows more streams.
    openings: Rare<VecDeque<Opening>>,
    /// What handles want, taken and not done yet.
    tasks: Vec<Task>,
    /// More of that than a visit does: it is to be visited again, once what was done has left.
    pub(crate) unfinished: bool,
    /// No request of ours has to be given up before.
    due: Option<Instant>,
    /// It was visited since its memory was looked at.
    pub(crate) used: bool,
    /// Since it was asked last.
    pub(super) talk: Talk,
    /// That was never done yet.
    pub(crate) is_new: bool,
}

#[derive(Debug)]
enum Opening {
    Stream { head: Vec<u8>, pipe: Arc<Pipe>, reply: oneshot::Sender<Result<Stream, OpenError>> },
    Call { asked: Asked, permit: OwnedSemaphorePermit, deadline: Instant },
}

/// Whether it brings something that a handle may answer.
const fn is_heard(event: &Event) -> bool {
    matches!(event, Event::Opened { .. } | Event::Readable { .. } | Event::Message { .. } | Event::Datagram { .. })
}

/// Whether the other side may answer it. A pump may be for reading only: what it writes counts when it is written.
const fn is_said(task: &Task) -> bool {
    !matches!(task, Task::Pump(_) | Task::Datagrams)
}

impl Opening {
    /// Whether nobody waits for it.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Stream { reply, .. } => reply.is_closed(),
            Self::Call { asked, .. } => asked.is_given_up(),
        }
    }
}

/// What a visit needs to know of the node.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) protocols: ProtocolIds,
    pub(crate) services: &'a Services,
    /// A buffer that all visits use.
    pub(crate) scratch: &'a mut Vec<u8>,
    pub(crate) now: Instant,
    /// Whom the last request was for.
    found: Option<Found>,
    /// The places of requests of ours that were answered, all of one session: to be given back together.
    places: Option<OwnedSemaphorePermit>,
}

impl<'a> Visit<'a> {
    pub(crate) const fn new(
        protocols: ProtocolIds,
        services: &'a Services,
        scratch: &'a mut Vec<u8>,
        now: Instant,
    ) -> Self {
        Self { protocols, services, scratch, now, found: None, places: None }
    }

    /// A request of ours is over: another may have its place when this visit is.
    fn give_back(&mut self, place: OwnedSemaphorePermit) {
        match &mut self.places {
            Some(places) => places.merge(place),
            None => self.places = Some(place),
        }
    }
}

impl Session {
    pub(crate) fn new(conn: Arc<Conn>, addr: SocketAddr) -> Self {
        Self {
            conn,
            addr,
            relay: None,
            events: Vec::new(),
            listed: false,
            messages: Vec::new(),
            messages_at: 0,
            datagrams: Vec::new(),
            datagrams_at: 0,
            narrowed: false,
            dropped: 0,
            blocked: false,
            readable: false,
            streams: Slots::default(),
            failed: Rare::new(),
            openings: Rare::new(),
            tasks: Vec::new(),
            unfinished: false,
            due: None,
            used: false,
            talk: Talk::default(),
            is_new: true,
        }
    }

    /// Where the peer was last.
    pub(crate) fn last(&self) -> Last {
        self.relay.as_deref().map_or(Last::At(self.addr), |relay| Last::Behind(*relay, self.addr))
    }

    /// When to look for requests of ours that are to be given up: not before the first of them is.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Gives back memory that is not in use.
    pub(crate) fn tidy(&mut self) {
        (self.used, self.is_new) = (false, false);
        tidy(&mut self.messages);
        tidy(&mut self.datagrams);
        if self.events.is_empty() {
            self.events = Vec::new();
        }
        if self.tasks.is_empty() {
            self.tasks = Vec::new();
        }
        self.failed.rest();
        self.openings.rest();
        self.streams.tidy();
        for slot in self.streams.values_mut() {
            if let Slot::Piped(piped) = slot {
                tidy(&mut piped.out);
                piped.pipe.tidy();
            }
        }
        self.conn.tidy();
    }

    /// Streams, requests and what waits to become one.
    pub(crate) fn streams(&self) -> usize {
        self.streams.len() + self.openings.len()
    }

    /// Messages that were accepted and that the session has not taken.
    pub(crate) fn pending(&self) -> u64 {
        let left = self.messages.get(self.messages_at..).unwrap_or_default();
        Messages::new(left).count() as u64 + self.conn.pending()
    }

    /// Whether nothing that was accepted, in messages or on streams, waits here.
    pub(crate) fn is_drained(&self) -> bool {
        let written = |slot: &Slot| match slot {
            Slot::Piped(piped) => piped.out_over || (piped.at == piped.out.len() && !piped.pipe.has_output()),
            Slot::Answering { bytes } => bytes.is_empty(),
            _ => true,
        };
        self.tasks.is_empty() && self.pending() == 0 && self.streams.values().all(written)
    }

    /// Does everything that can be done now.
    pub(crate) fn visit(&mut self, peer: &mut Peer, visit: &mut Visit<'_>) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.talk.heard |= is_heard(&event);
            self.on_event(event, peer, visit);
        }
        self.events = events;
        let mut tasks = std::mem::take(&mut self.tasks);
        let left = tasks.len();
        let inbox_room = self.conn.take(&mut self.messages, &mut self.datagrams, &mut tasks);
        self.talk.said |= !self.messages.is_empty() || !self.datagrams.is_empty();
        for task in tasks.drain(..tasks.len().min(TASKS_PER_VISIT)) {
            self.talk.said |= is_said(&task);
            self.perform(task, peer, visit);
        }
        // Behind those that were left waits what came meanwhile.
        self.unfinished = left > 0 || !tasks.is_empty();
        self.tasks = tasks;
        self.send_messages(peer, visit);
        self.send_datagrams(peer, visit);
        if self.readable && inbox_room {
            self.read_messages(peer, visit);
        }
        self.expire(peer, visit);
    }

    fn on_event(&mut self, event: Event, peer: &mut Peer, visit: &mut Visit<'_>) {
        match event {
            Event::Opened { stream, protocol, .. } => {
                let request = protocol == visit.protocols.request;
                self.read_request(stream, Slot::Naming { request, bytes: Vec::new(), sweeps: 0 }, peer, visit);
            }
            Event::Readable { stream } => self.read(stream, peer, visit),
            Event::Writable { stream } => self.write(stream, peer),
            Event::Delivered { stream } => self.on_delivered(stream),
            Event::Stopped { stream, code } => self.on_stopped(stream, code, peer),
            Event::StreamsAvailable => self.open(peer, visit),
            Event::Agreed => {
                if let Some(max) = peer.max_message() {
                    self.conn.set_max_message(max);
                }
                if let Some(max) = peer.datagram_ceiling(visit.protocols.message) {
                    self.conn.set_max_datagram(max);
                }
            }
            Event::Message { protocol } if protocol == visit.protocols.message => {
                self.readable = true;
                self.read_messages(peer, visit);
            }
            Event::Datagram { protocol } if protocol == visit.protocols.message => self.read_datagrams(peer, visit),
            Event::SendReady { protocol, .. } if protocol == visit.protocols.message => self.blocked = false,
            Event::ChannelClosed { protocol, .. } if protocol == visit.protocols.message => self.on_refused(),
            Event::ProtocolFailed { protocol, code } => self.on_failed(protocol, code, peer, visit),
            _ => {}
        }
    }

    /// A protocol is over in this session, and the streams of it with it: no other event says so.
    fn on_failed(&mut self, protocol: ProtocolId, code: StreamCode, peer: &mut Peer, visit: &mut Visit<'_>) {
        if protocol == visit.protocols.message {
            return self.on_refused();
        }
        let is_request = match protocol {
            of if of == visit.protocols.request => true,
            of if of == visit.protocols.stream => false,
            _ => return,
        };
        for (stream, slot) in std::mem::take(&mut self.streams).into_iter() {
            if slot.is_request() != is_request {
                self.streams.insert(stream, slot);
                continue;
            }
            match slot {
                Slot::Piped(piped) => {
                    let error = StreamError::from(code);
                    piped.pipe.end(End::Broken(error));
                    piped.pipe.break_off(error);
                }
                Slot::Calling(calling) => calling.asked.answer(Err(RequestError::from(code))),
                slot if slot.is_asked() => self.failed.push((stream, InboundError::Closed)),
                Slot::Naming { .. } | Slot::Hearing { .. } | Slot::Thinking { .. } | Slot::Answering { .. } => {}
            }
        }
        // What waits is refused.
        self.open(peer, visit);
    }

    /// The other side takes no messages any more.
    fn on_refused(&mut self) {
        let left = self.messages.get(self.messages_at..).unwrap_or_default();
        self.dropped += Messages::new(left).count() as u64 + self.conn.refuse_messages();
        (self.messages, self.messages_at, self.blocked) = (Vec::new(), 0, false);
    }

    // ---- what handles want ----

    fn perform(&mut self, task: Task, peer: &mut Peer, visit: &mut Visit<'_>) {
        match task {
            Task::Pump(stream) => {
                self.write(stream, peer);
                // What comes is read as it comes, unless there was no room for it.
                if matches!(self.streams.get_mut(stream), Some(Slot::Piped(piped)) if piped.pipe.is_starved()) {
                    self.read(stream, peer, visit);
                }
            }
            Task::Open { head, pipe, reply } => {
                if self.openings.len() >= OPENINGS {
                    self.openings.retain(|opening| !opening.is_given_up());
                }
                if self.openings.len() >= OPENINGS {
                    let _ = reply.send(Err(OpenError::TooMany { limit: OPENINGS }));
                    return;
                }
                self.openings.push_back(Opening::Stream { head, pipe, reply });
                self.open(peer, visit);
            }
            Task::Call { asked, permit } => {
                let deadline = visit.now.checked_add(asked.timeout()).unwrap_or(visit.now + FOREVER);
                // No more than that many wait for an answer; others were given up.
                if self.openings.len() >= OPENINGS + CALLS {
                    self.openings.retain(|opening| !opening.is_given_up());
                }
                self.openings.push_back(Opening::Call { asked, permit, deadline });
                earlier(&mut self.due, Some(deadline));
                self.open(peer, visit);
            }
            Task::Answer { stream, answer } => self.answer(stream, answer, peer, visit),
            Task::Datagrams => self.read_datagrams(peer, visit),
        }
    }

    /// Opens what waits to be opened, as far as the other side allows.
    fn open(&mut self, peer: &mut Peer, visit: &mut Visit<'_>) {
        while let Some(opening) = self.openings.pop_front() {
            let protocol = match &opening {
                opening if opening.is_given_up() => continue,
                Opening::Call { deadline, asked, .. } if *deadline <= visit.now => {
                    let after = asked.timeout();
                    refuse(opening, RequestError::Timeout { after });
                    continue;
                }
                Opening::Stream { .. } => visit.protocols.stream,
                Opening::Call { .. } => visit.protocols.request,
            };
            match (peer.open_stream(protocol), opening) {
                (Ok(stream), Opening::Stream { head, pipe, reply }) => {
                    let handle = Stream::new(Arc::clone(&self.conn), stream, Arc::clone(&pipe));
                    let piped = Piped { pipe, out: head, at: 0, out_over: false, in_over: false };
                    self.streams.insert(stream, Slot::Piped(Box::new(piped)));
                    // If the caller gave up, now or before it takes the handle, that is dropped, which closes the stream.
                    let _ = reply.send(Ok(handle));
                    self.write(stream, peer);
                }
                (Ok(stream), Opening::Call { asked, permit, deadline }) => {
                    let calling = Calling::begin((asked, permit), deadline, stream, peer);
                    self.streams.insert(stream, Slot::Calling(calling));
                }
                (Err(mux::OpenError::Limit { .. }), opening) => {
                    self.openings.push_front(opening);
                    return;
                }
                (Err(mux::OpenError::Refused { .. }), opening) => refuse(opening, RequestError::Refused),
                (Err(_), opening) => refuse(opening, RequestError::Unsupported),
            }
        }
    }

    /// Gives up what nobody waits for any more, and streams that have not said what for since a while: to be called now and
    /// then. Learns whether the path takes longer datagrams by now.
    pub(crate) fn sweep(&mut self, peer: &mut Peer, messages: ProtocolId) {
        if let Some(max) = peer.max_datagram(messages).filter(|_| self.narrowed) {
            self.conn.set_max_datagram(max);
        }
        if !self.openings.is_empty() {
            self.openings.retain(|opening| !opening.is_given_up());
        }
        let given_up = |slot: &Slot| matches!(slot, Slot::Calling(calling) if calling.asked.is_given_up());
        let calls = self.streams.iter().filter(|(_, slot)| given_up(slot)).map(|(stream, _)| stream);
        for stream in calls.collect::<Vec<_>>() {
            self.fail_call(stream, RequestError::Closed, peer);
        }
        for slot in self.streams.values_mut() {
            if let Slot::Naming { sweeps, .. } = slot {
                *sweeps = sweeps.saturating_add(1);
            }
        }
        let late = |slot: &Slot| matches!(slot, Slot::Naming { sweeps, .. } if *sweeps >= UNNAMED_SWEEPS);
        let unnamed = self.streams.iter().filter(|(_, slot)| late(slot)).map(|(stream, _)| stream);
        for stream in unnamed.collect::<Vec<_>>() {
            if self.streams.get_mut(stream).is_some_and(|slot| slot.is_asked()) {
                self.failed.push((stream, InboundError::Unnamed));
            }
            self.turn_away(stream, StreamCode::FAILED, peer);
        }
    }

    /// The session is over: the requests of the other side that were not answered, those that nobody was told of yet first.
    pub(crate) fn unanswered(&mut self) -> Vec<(StreamId, InboundError)> {
        let mut failed = self.failed.take();
        let open = self.streams.iter().filter(|(_, slot)| slot.is_asked());
        failed.extend(open.map(|(stream, _)| (stream, InboundError::Closed)));
        failed
    }

    /// The session is over: whoever waits for something in it is told.
    pub(crate) fn end(mut self, gone: Gone) {
        let error = match gone {
            Gone::Disconnected => StreamError::Disconnected,
            Gone::Closed => StreamError::Closed,
        };
        let left = std::mem::take(&mut self.tasks);
        for task in left.into_iter().chain(self.conn.close(gone)) {
            match task {
                Task::Open { reply, .. } => drop(reply.send(Err(open_error(gone)))),
                Task::Call { asked, .. } => asked.answer(Err(request_error(gone))),
                Task::Pump(_) | Task::Answer { .. } | Task::Datagrams => {}
            }
        }
        for opening in self.openings.take() {
            match opening {
                Opening::Stream { reply, .. } => drop(reply.send(Err(open_error(gone)))),
                Opening::Call { asked, .. } => asked.answer(Err(request_error(gone))),
            }
        }
        for (_, slot) in std::mem::take(&mut self.streams).into_iter() {
            match slot {
                Slot::Piped(piped) => {
                    piped.pipe.end(End::Broken(error));
                    piped.pipe.break_off(error);
                }
                Slot::Calling(calling) => calling.asked.answer(Err(request_error(gone))),
                Slot::Naming { .. } | Slot::Hearing(_) | Slot::Thinking { .. } | Slot::Answering { .. } => {}
            }
        }
    }
}

/// Brings a deadline forward, if this one is earlier.
pub(crate) fn earlier(due: &mut Option<Instant>, at: Option<Instant>) {
    *due = [*due, at].into_iter().flatten().min();
}

fn refuse(opening: Opening, error: RequestError) {
    match opening {
        Opening::Stream { reply, .. } => drop(reply.send(Err(OpenError::Refused))),
        Opening::Call { asked, .. } => asked.answer(Err(error)),
    }
}

const fn open_error(gone: Gone) -> OpenError {
    match gone {
        Gone::Disconnected => OpenError::NotConnected,
        Gone::Closed => OpenError::Closed,
    }
}

pub(crate) const fn request_error(gone: Gone) -> RequestError {
    match gone {
        Gone::Disconnected => RequestError::Disconnected,
        Gone::Closed => RequestError::Closed,
    }
}

/// A time that nobody waits for.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
