//! One session, as the net task sees it: what the handles want goes into it, and what comes goes to whoever it is for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use framing::{StreamCode, StreamId};
use peer::Peer;
use peer::mux::{self, Event, Messages, ProtocolId, ReadError, SendError as Refused, Urgency, WriteError};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::conn::{Call, Conn, Gone, Task, tidy};
use super::limits::{CALLS, DATAGRAM_INBOX_BYTES, KEPT_BYTES, OPENINGS, PIPE_BYTES};
use super::pipe::{End, Pipe};
use super::services::{Responder, Services};
use super::stream::Stream;
use crate::node::naming::{ANSWERED, Name};
use crate::node::{Connection, ProtocolIds};
use crate::{OpenError, RequestError, StreamError};

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) conn: Arc<Conn>,
    pub(crate) connection: Connection,
    /// What happened in it since it was visited last.
    pub(crate) events: Vec<Event>,
    /// It is to be visited.
    pub(crate) listed: bool,

    /// Taken from the outboxes, each message behind its length, and handed over up to here.
    messages: Vec<u8>,
    messages_at: usize,
    datagrams: Vec<u8>,
    datagrams_at: usize,
    /// Messages that were accepted and that the other side does not take.
    pub(crate) dropped: u64,
    /// The channel of messages has no room.
    blocked: bool,
    /// There are messages to read, and nobody had room for them.
    pub(crate) readable: bool,

    streams: BTreeMap<StreamId, Slot>,
    /// What waits until the other side allows more streams.
    openings: VecDeque<Opening>,
    /// An empty buffer.
    tasks: Vec<Task>,
    /// No request of ours has to be given up before.
    due: Option<Instant>,
    /// It was visited since its memory was looked at.
    pub(crate) used: bool,
}

/// What a stream is for.
#[derive(Debug)]
enum Slot {
    /// A handle of the application has it.
    Piped(Box<Piped>),
    /// A request of ours.
    Calling(Box<Calling>),
    /// The other side opened it and has not said in full what for.
    Naming { request: bool, bytes: Vec<u8> },
    /// A request of the other side is coming in.
    Hearing(Box<Hearing>),
    /// Its handler is at work.
    Thinking,
    /// Our answer is going out.
    Answering { bytes: Bytes },
}

impl Slot {
    /// Of which of the two protocols its stream is.
    fn is_request(&self) -> bool {
        match self {
            Self::Piped(_) => false,
            Self::Naming { request, .. } => *request,
            Self::Calling(_) | Self::Hearing { .. } | Self::Thinking | Self::Answering { .. } => true,
        }
    }
}

/// A stream that a handle has.
#[derive(Debug)]
struct Piped {
    pipe: Arc<Pipe>,
    /// Taken from the handle, handed over up to `at`.
    out: Vec<u8>,
    at: usize,
    /// Both directions, as far as this side is concerned.
    out_over: bool,
    in_over: bool,
}

/// A request that has come in part.
#[derive(Debug)]
struct Hearing {
    responder: Responder,
    body: Vec<u8>,
}

#[derive(Debug)]
struct Calling {
    reply: oneshot::Sender<Result<Bytes, RequestError>>,
    _permit: OwnedSemaphorePermit,
    timeout: std::time::Duration,
    deadline: Instant,
    max_answer: usize,
    /// What is left of the request.
    bytes: Vec<u8>,
    at: usize,
    /// What has come of the answer.
    answer: Vec<u8>,
}

#[derive(Debug)]
enum Opening {
    Stream { head: Vec<u8>, pipe: Arc<Pipe>, reply: oneshot::Sender<Result<Stream, OpenError>> },
    Call { call: Call, deadline: Instant },
}

impl Opening {
    /// Whether nobody waits for it.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Stream { reply, .. } => reply.is_closed(),
            Self::Call { call, .. } => call.reply.is_closed(),
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
}

impl Session {
    pub(crate) fn new(conn: Arc<Conn>, connection: Connection) -> Self {
        Self {
            conn,
            connection,
            events: Vec::new(),
            listed: false,
            messages: Vec::new(),
            messages_at: 0,
            datagrams: Vec::new(),
            datagrams_at: 0,
            dropped: 0,
            blocked: false,
            readable: false,
            streams: BTreeMap::new(),
            openings: VecDeque::new(),
            tasks: Vec::new(),
            due: None,
            used: false,
        }
    }

    /// When to look for requests of ours that are to be given up: not before the first of them is.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Gives back memory that is not in use.
    pub(crate) fn tidy(&mut self) {
        self.used = false;
        tidy(&mut self.messages);
        tidy(&mut self.datagrams);
        if self.events.is_empty() {
            self.events = Vec::new();
        }
        self.tasks = Vec::new();
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
        self.pending() == 0 && self.streams.values().all(written)
    }

    /// Does everything that can be done now.
    pub(crate) fn visit(&mut self, peer: &mut Peer, visit: &mut Visit<'_>) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.on_event(event, peer, visit);
        }
        self.events = events;
        let mut tasks = std::mem::take(&mut self.tasks);
        let inbox_room = self.conn.take(&mut self.messages, &mut self.datagrams, &mut tasks);
        for task in tasks.drain(..) {
            self.perform(task, peer, visit);
        }
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
                self.read_request(stream, Slot::Naming { request, bytes: Vec::new() }, peer, visit);
            }
            Event::Readable { stream } => self.read(stream, peer, visit),
            Event::Writable { stream } => self.write(stream, peer, visit),
            Event::Delivered { stream } => self.on_delivered(stream),
            Event::Stopped { stream, code } => self.on_stopped(stream, code, peer),
            Event::StreamsAvailable => self.open(peer, visit),
            Event::Agreed => {
                if let Some(max) = peer.max_message() {
                    self.conn.set_max_message(max);
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
        for (stream, slot) in std::mem::take(&mut self.streams) {
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
                Slot::Calling(calling) => {
                    let _ = calling.reply.send(Err(RequestError::from(code)));
                }
                Slot::Naming { .. } | Slot::Hearing { .. } | Slot::Thinking | Slot::Answering { .. } => {}
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

    // ---- messages and datagrams ----

    fn send_messages(&mut self, peer: &mut Peer, visit: &Visit<'_>) {
        while !self.blocked {
            let left = self.messages.get(self.messages_at..).unwrap_or_default();
            if left.is_empty() {
                self.messages.clear();
                self.messages_at = 0;
                // What was put into the outbox meanwhile.
                self.conn.take_messages(&mut self.messages);
                if self.messages.is_empty() {
                    return;
                }
                continue;
            }
            match peer.send_batch(visit.protocols.message, left, Urgency::Normal) {
                Ok(taken) if taken.bytes > 0 => self.messages_at += taken.bytes,
                Err(Refused::Blocked) => self.blocked = true,
                Err(Refused::Stopped { .. } | Refused::NotAgreed) => self.on_refused(),
                // The first of them was accepted before the other side said that it takes only shorter ones.
                Ok(_) | Err(_) => {
                    self.dropped += 1;
                    let rest = Messages::new(left).next().map_or(0, |first| first.len() + prefix(first.len()));
                    self.messages_at += rest.max(1);
                }
            }
        }
    }

    fn send_datagrams(&mut self, peer: &mut Peer, visit: &Visit<'_>) {
        let protocol = visit.protocols.message;
        loop {
            let left = self.datagrams.get(self.datagrams_at..).unwrap_or_default();
            let Some(first) = Messages::new(left).next() else {
                self.datagrams.clear();
                self.datagrams_at = 0;
                // What was put into the outbox meanwhile.
                self.conn.take_datagrams(&mut self.datagrams);
                if self.datagrams.is_empty() {
                    return;
                }
                continue;
            };
            let len = first.len();
            if peer.datagram_room(protocol).is_none_or(|room| room < len) {
                // It is asked again once some have left: no datagram is dropped that could have waited.
                return;
            }
            if let Err(Refused::TooLarge { max, .. }) = peer.send_datagram(protocol, first) {
                self.conn.set_max_datagram(max);
            }
            self.datagrams_at += len + prefix(len);
        }
    }

    /// Whether datagrams wait for others to leave.
    pub(crate) fn has_datagrams(&self) -> bool {
        self.datagrams_at < self.datagrams.len()
    }

    /// Moves messages to whoever reads those of this peer by himself. Where nobody does they are events: the driver
    /// takes those.
    fn read_messages(&mut self, peer: &mut Peer, visit: &mut Visit<'_>) {
        while let Some(room) = self.conn.inbox_room() {
            if room == 0 {
                return;
            }
            visit.scratch.clear();
            if peer.recv_batch(visit.protocols.message, visit.scratch, room) == 0 {
                self.readable = false;
                return;
            }
            self.conn.deliver(visit.scratch);
        }
    }

    fn read_datagrams(&mut self, peer: &mut Peer, visit: &mut Visit<'_>) {
        if !self.conn.wants_datagrams() {
            // They stay where they are, and the oldest give way.
            return;
        }
        loop {
            visit.scratch.clear();
            let count = peer.recv_datagrams(visit.protocols.message, visit.scratch, DATAGRAM_INBOX_BYTES);
            if count == 0 {
                return;
            }
            self.conn.deliver_datagrams(visit.scratch, count);
        }
    }

    // ---- what handles want ----

    fn perform(&mut self, task: Task, peer: &mut Peer, visit: &mut Visit<'_>) {
        match task {
            Task::Pump(stream) => {
                self.write(stream, peer, visit);
                self.read(stream, peer, visit);
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
            Task::Call(call) => {
                let deadline = visit.now.checked_add(call.timeout).unwrap_or(visit.now + FOREVER);
                // No more than that many wait for an answer; others were given up.
                if self.openings.len() >= OPENINGS + CALLS {
                    self.openings.retain(|opening| !opening.is_given_up());
                }
                self.openings.push_back(Opening::Call { call, deadline });
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
                Opening::Call { deadline, call } if *deadline <= visit.now => {
                    let after = call.timeout;
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
                    self.write(stream, peer, visit);
                }
                (Ok(stream), Opening::Call { call, deadline }) => {
                    let Call { mut bytes, max_answer, timeout, reply, permit } = call;
                    let mut at = 0;
                    if hand_over(&bytes, &mut at, stream, peer) {
                        (bytes, at) = (Vec::new(), 0);
                        let _ = peer.finish_stream(stream);
                    }
                    let answer = Vec::new();
                    let calling = Calling { reply, _permit: permit, timeout, deadline, max_answer, bytes, at, answer };
                    self.streams.insert(stream, Slot::Calling(Box::new(calling)));
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

    /// Gives up what nobody waits for any more: to be called now and then.
    pub(crate) fn sweep(&mut self, peer: &mut Peer) {
        self.openings.retain(|opening| !opening.is_given_up());
        let given_up = |slot: &Slot| matches!(slot, Slot::Calling(calling) if calling.reply.is_closed());
        let calls = self.streams.iter().filter(|(_, slot)| given_up(slot)).map(|(stream, _)| *stream);
        for stream in calls.collect::<Vec<_>>() {
            self.fail_call(stream, RequestError::Closed, peer);
        }
    }

    fn answer(&mut self, stream: StreamId, answer: Result<Bytes, StreamCode>, peer: &mut Peer, visit: &mut Visit<'_>) {
        match self.streams.remove(&stream) {
            Some(Slot::Thinking) => {}
            // The asking side may have gone on without it.
            other => return drop(other.map(|slot| self.streams.insert(stream, slot))),
        }
        match answer {
            Err(code) => {
                let _ = peer.reset_stream(stream, code);
            }
            Ok(bytes) if bytes.len() < KEPT_BYTES => {
                visit.scratch.clear();
                visit.scratch.push(ANSWERED);
                visit.scratch.extend_from_slice(&bytes);
                let mut at = 0;
                if hand_over(visit.scratch, &mut at, stream, peer) {
                    let _ = peer.finish_stream(stream);
                } else {
                    let bytes = Bytes::copy_from_slice(visit.scratch.get(at..).unwrap_or_default());
                    self.streams.insert(stream, Slot::Answering { bytes });
                }
            }
            Ok(bytes) => {
                if peer.write(stream, &[ANSWERED]) != Ok(1) {
                    // There is no room for a byte. The status goes with the rest, later.
                    let mut whole = Vec::with_capacity(bytes.len() + 1);
                    whole.push(ANSWERED);
                    whole.extend_from_slice(&bytes);
                    self.streams.insert(stream, Slot::Answering { bytes: whole.into() });
                } else {
                    self.streams.insert(stream, Slot::Answering { bytes });
                }
                self.write(stream, peer, visit);
            }
        }
    }

    // ---- streams: out ----

    fn write(&mut self, stream: StreamId, peer: &mut Peer, visit: &mut Visit<'_>) {
        let over = match self.streams.get_mut(&stream) {
            Some(Slot::Piped(piped)) => piped.write(stream, peer),
            Some(Slot::Calling(calling)) => {
                if calling.at < calling.bytes.len() && hand_over(&calling.bytes, &mut calling.at, stream, peer) {
                    calling.bytes = Vec::new();
                    let _ = peer.finish_stream(stream);
                }
                false
            }
            Some(Slot::Answering { bytes }) => {
                let mut at = 0;
                let done = hand_over(bytes, &mut at, stream, peer);
                drop(bytes.split_to(at));
                done && {
                    let _ = peer.finish_stream(stream);
                    true
                }
            }
            _ => false,
        };
        if over {
            self.remove(stream, peer, visit);
        }
    }

    fn on_delivered(&mut self, stream: StreamId) {
        if let Some(Slot::Piped(piped)) = self.streams.get_mut(&stream) {
            piped.pipe.delivered();
            piped.out_over = true;
            if piped.in_over {
                self.streams.remove(&stream);
            }
        }
    }

    fn on_stopped(&mut self, stream: StreamId, code: StreamCode, peer: &mut Peer) {
        match self.streams.get_mut(&stream) {
            Some(Slot::Piped(piped)) => {
                piped.pipe.break_off(StreamError::from(code));
                (piped.out, piped.out_over) = (Vec::new(), true);
                if piped.in_over {
                    self.streams.remove(&stream);
                }
            }
            Some(Slot::Calling(_)) => self.fail_call(stream, RequestError::from(code), peer),
            // Nobody waits for the answer.
            Some(Slot::Answering { .. } | Slot::Thinking | Slot::Hearing(_) | Slot::Naming { .. }) => {
                self.streams.remove(&stream);
                let _ = peer.stop_stream(stream, StreamCode::CANCELLED);
            }
            None => {}
        }
    }

    // ---- streams: in ----

    fn read(&mut self, stream: StreamId, peer: &mut Peer, visit: &mut Visit<'_>) {
        let over = match self.streams.get_mut(&stream) {
            Some(Slot::Piped(piped)) => piped.read(stream, peer, visit.scratch),
            Some(Slot::Calling(_)) => return self.read_answer(stream, peer, visit),
            Some(Slot::Naming { .. } | Slot::Hearing(_)) => {
                if let Some(slot) = self.streams.remove(&stream) {
                    self.read_request(stream, slot, peer, visit);
                }
                return;
            }
            _ => false,
        };
        if over {
            self.streams.remove(&stream);
        }
    }

    fn read_answer(&mut self, stream: StreamId, peer: &mut Peer, visit: &mut Visit<'_>) {
        let Some(Slot::Calling(calling)) = self.streams.get_mut(&stream) else { return };
        visit.scratch.clear();
        let max = calling.max_answer.saturating_add(1);
        match read_to(visit.scratch, max.saturating_sub(calling.answer.len()), stream, peer) {
            Came::Some => calling.answer.extend_from_slice(visit.scratch),
            Came::TooMuch => {
                let max = calling.max_answer;
                self.fail_call(stream, RequestError::AnswerTooLarge { max }, peer);
            }
            Came::Reset(code) => self.fail_call(stream, RequestError::from(code), peer),
            Came::All => {
                let Some(Slot::Calling(calling)) = self.streams.remove(&stream) else { return };
                if calling.at < calling.bytes.len() {
                    // It did not want to hear the rest.
                    let _ = peer.reset_stream(stream, StreamCode::CANCELLED);
                }
                let Calling { mut answer, reply, .. } = *calling;
                let result = if answer.is_empty() {
                    // Most answers come in one piece.
                    let answer = visit.scratch.split_first().filter(|(status, _)| **status == ANSWERED);
                    answer.map(|(_, answer)| Bytes::copy_from_slice(answer))
                } else {
                    answer.extend_from_slice(visit.scratch);
                    (answer.first() == Some(&ANSWERED)).then(|| Bytes::from(answer).slice(1..))
                };
                let _ = reply.send(result.ok_or(RequestError::Rejected));
            }
        }
    }

    /// A request of ours is given up.
    fn fail_call(&mut self, stream: StreamId, error: RequestError, peer: &mut Peer) {
        if let Some(Slot::Calling(calling)) = self.streams.remove(&stream) {
            let _ = calling.reply.send(Err(error));
            let _ = peer.reset_stream(stream, StreamCode::CANCELLED);
            let _ = peer.stop_stream(stream, StreamCode::CANCELLED);
        }
    }

    /// Reads what a stream of the other side is for, and the body of a request. The slot is kept while there is more to
    /// come.
    fn read_request(&mut self, stream: StreamId, slot: Slot, peer: &mut Peer, visit: &mut Visit<'_>) {
        let mut hearing = match slot {
            Slot::Hearing(hearing) => hearing,
            Slot::Naming { request: false, mut bytes } => {
                // No further than the name: the rest is for the handle.
                let came = read_name(&mut bytes, stream, peer);
                match Name::read(&bytes) {
                    Name::Incomplete if came == Came::Some => {
                        self.streams.insert(stream, Slot::Naming { request: false, bytes });
                    }
                    Name::Complete(name, _) if !matches!(came, Came::Reset(_)) => {
                        self.accept(stream, name, peer, visit);
                    }
                    _ => self.turn_away(stream, StreamCode::FAILED, peer),
                }
                return;
            }
            Slot::Naming { request: true, bytes } => {
                visit.scratch.clear();
                visit.scratch.extend_from_slice(&bytes);
                // All that came: behind the name is the body.
                let came = read_to(visit.scratch, NAME_AND_MORE, stream, peer);
                let (name, body) = match Name::read(visit.scratch) {
                    Name::Incomplete if came == Came::Some => {
                        let bytes = visit.scratch.clone();
                        self.streams.insert(stream, Slot::Naming { request: true, bytes });
                        return;
                    }
                    Name::Complete(name, body) if !matches!(came, Came::Reset(_)) => (name, body),
                    _ => return self.turn_away(stream, StreamCode::FAILED, peer),
                };
                let Some(responder) = visit.services.responder(name) else {
                    return self.turn_away(stream, StreamCode::UNKNOWN_PROTOCOL, peer);
                };
                if came == Came::All {
                    return self.heard(stream, &responder, Bytes::copy_from_slice(body), peer);
                }
                Box::new(Hearing { responder, body: body.to_vec() })
            }
            slot => return drop(self.streams.insert(stream, slot)),
        };
        match read_to(&mut hearing.body, hearing.responder.max_request(), stream, peer) {
            Came::Some => drop(self.streams.insert(stream, Slot::Hearing(hearing))),
            Came::TooMuch => self.turn_away(stream, StreamCode::TOO_LARGE, peer),
            Came::Reset(_) => {
                let _ = peer.reset_stream(stream, StreamCode::CANCELLED);
            }
            Came::All => {
                let Hearing { responder, body } = *hearing;
                self.heard(stream, &responder, body.into(), peer);
            }
        }
    }

    /// A request is there in full.
    fn heard(&mut self, stream: StreamId, responder: &Responder, body: Bytes, peer: &mut Peer) {
        let asked = match body.len() > responder.max_request() {
            true => Err(StreamCode::TOO_LARGE),
            false => responder.ask(Arc::clone(&self.conn), stream, body),
        };
        match asked {
            Ok(()) => drop(self.streams.insert(stream, Slot::Thinking)),
            Err(code) => {
                let _ = peer.reset_stream(stream, code);
            }
        }
    }

    /// A stream has said what it is for.
    fn accept(&mut self, stream: StreamId, name: &str, peer: &mut Peer, visit: &mut Visit<'_>) {
        let pipe = Arc::new(Pipe::default());
        match visit.services.offer(name, Arc::clone(&self.conn), stream, Arc::clone(&pipe)) {
            Ok(()) => {
                let (out, at) = (Vec::new(), 0);
                let piped = Piped { pipe, out, at, out_over: false, in_over: false };
                self.streams.insert(stream, Slot::Piped(Box::new(piped)));
                self.read(stream, peer, visit);
            }
            Err(code) => self.turn_away(stream, code, peer),
        }
    }

    /// Takes a stream of the other side for nothing, and says why.
    fn turn_away(&mut self, stream: StreamId, code: StreamCode, peer: &mut Peer) {
        self.streams.remove(&stream);
        let _ = peer.stop_stream(stream, code);
        let _ = peer.reset_stream(stream, code);
    }

    fn remove(&mut self, stream: StreamId, peer: &mut Peer, _visit: &Visit<'_>) {
        if let Some(Slot::Answering { .. }) = self.streams.remove(&stream) {
            // The request was read to its end.
            let _ = peer;
        }
    }

    // ---- time, and the end ----

    /// Gives up requests whose time is over.
    fn expire(&mut self, peer: &mut Peer, visit: &Visit<'_>) {
        if self.due.is_none_or(|due| due > visit.now) {
            return;
        }
        // Most requests are answered long before: to look at all of them now is less work than to keep their order.
        let mut late = Vec::new();
        self.due = None;
        for (stream, slot) in &self.streams {
            if let Slot::Calling(calling) = slot {
                let Calling { deadline, timeout, .. } = &**calling;
                if *deadline <= visit.now {
                    late.push((*stream, *timeout));
                } else {
                    earlier(&mut self.due, Some(*deadline));
                }
            }
        }
        for (stream, after) in late {
            self.fail_call(stream, RequestError::Timeout { after }, peer);
        }
        for opening in std::mem::take(&mut self.openings) {
            match opening {
                Opening::Call { deadline, call } if deadline <= visit.now => {
                    let after = call.timeout;
                    let _ = call.reply.send(Err(RequestError::Timeout { after }));
                }
                opening => {
                    if let Opening::Call { deadline, .. } = &opening {
                        earlier(&mut self.due, Some(*deadline));
                    }
                    self.openings.push_back(opening);
                }
            }
        }
    }

    /// The session is over: whoever waits for something in it is told.
    pub(crate) fn end(mut self, gone: Gone) {
        let error = match gone {
            Gone::Disconnected => StreamError::Disconnected,
            Gone::Closed => StreamError::Closed,
        };
        for task in self.conn.close(gone) {
            match task {
                Task::Open { reply, .. } => drop(reply.send(Err(open_error(gone)))),
                Task::Call(call) => drop(call.reply.send(Err(request_error(gone)))),
                Task::Pump(_) | Task::Answer { .. } | Task::Datagrams => {}
            }
        }
        for opening in self.openings.drain(..) {
            match opening {
                Opening::Stream { reply, .. } => drop(reply.send(Err(open_error(gone)))),
                Opening::Call { call, .. } => drop(call.reply.send(Err(request_error(gone)))),
            }
        }
        for slot in std::mem::take(&mut self.streams).into_values() {
            match slot {
                Slot::Piped(piped) => {
                    piped.pipe.end(End::Broken(error));
                    piped.pipe.break_off(error);
                }
                Slot::Calling(calling) => drop(calling.reply.send(Err(request_error(gone)))),
                Slot::Naming { .. } | Slot::Hearing(_) | Slot::Thinking | Slot::Answering { .. } => {}
            }
        }
    }
}

impl Piped {
    /// Hands over what the handle wrote. Says whether the stream is over.
    fn write(&mut self, stream: StreamId, peer: &mut Peer) -> bool {
        loop {
            if self.at == self.out.len() {
                self.out.clear();
                self.at = 0;
            }
            let wishes = self.pipe.take(&mut self.out);
            if let Some(code) = wishes.stop
                && !self.in_over
            {
                let _ = peer.stop_stream(stream, code);
                self.in_over = true;
            }
            if let Some(code) = wishes.reset
                && !self.out_over
            {
                let _ = peer.reset_stream(stream, code);
                self.pipe.break_off(StreamError::Reset { code: code.into() });
                (self.out, self.at, self.out_over) = (Vec::new(), 0, true);
            }
            if self.out_over {
                break;
            }
            if self.out.is_empty() {
                if wishes.finish {
                    // It is over when the other side has it all.
                    let _ = peer.finish_stream(stream);
                }
                break;
            }
            if !hand_over(&self.out, &mut self.at, stream, peer) {
                break;
            }
        }
        self.out_over && self.in_over
    }

    /// Hands over what came. Says whether the stream is over.
    fn read(&mut self, stream: StreamId, peer: &mut Peer, scratch: &mut Vec<u8>) -> bool {
        while !self.in_over {
            let room = self.pipe.room();
            if room == 0 {
                break;
            }
            scratch.clear();
            match peer.read_into(stream, scratch, room) {
                Ok(mux::Read::Bytes(_)) => self.pipe.deliver(scratch),
                Ok(mux::Read::End) => {
                    self.pipe.end(End::Finished);
                    self.in_over = true;
                }
                Err(ReadError::Blocked) => break,
                Err(ReadError::Reset { code }) => {
                    self.pipe.end(End::Broken(StreamError::from(code)));
                    self.in_over = true;
                }
                Err(_) => {
                    self.pipe.end(End::Broken(StreamError::Closed));
                    self.in_over = true;
                }
            }
        }
        self.out_over && self.in_over
    }
}

/// What reading brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// Some bytes, or none; there will be more.
    Some,
    /// Everything, to the end.
    All,
    /// More than may be kept.
    TooMuch,
    /// The other side gave up.
    Reset(StreamCode),
}

/// Reads everything there is, as long as `into` has no more than `max` bytes.
fn read_to(into: &mut Vec<u8>, max: usize, stream: StreamId, peer: &mut Peer) -> Came {
    loop {
        let room = max.saturating_add(1).saturating_sub(into.len());
        if room == 0 {
            return Came::TooMuch;
        }
        match peer.read_into(stream, into, room) {
            Ok(mux::Read::Bytes(_)) => {}
            Ok(mux::Read::End) => return Came::All,
            Err(ReadError::Blocked) => return Came::Some,
            Err(ReadError::Reset { code }) => return Came::Reset(code),
            Err(_) => return Came::Reset(StreamCode::CANCELLED),
        }
    }
}

/// Reads up to the end of a name and no further.
fn read_name(into: &mut Vec<u8>, stream: StreamId, peer: &mut Peer) -> Came {
    loop {
        let whole = into.first().map_or(1, |len| 1 + usize::from(*len));
        let room = whole.saturating_sub(into.len());
        if room == 0 {
            return Came::Some;
        }
        match peer.read_into(stream, into, room) {
            Ok(mux::Read::Bytes(_)) => {}
            Ok(mux::Read::End) => return Came::All,
            Err(ReadError::Blocked) => return Came::Some,
            Err(ReadError::Reset { code }) => return Came::Reset(code),
            Err(_) => return Came::Reset(StreamCode::CANCELLED),
        }
    }
}

/// Writes the rest of `bytes`, from `at` on. Says whether all of it was taken.
fn hand_over(bytes: &[u8], at: &mut usize, stream: StreamId, peer: &mut Peer) -> bool {
    while let Some(left) = bytes.get(*at..).filter(|left| !left.is_empty()) {
        match peer.write(stream, left) {
            Ok(taken) => *at += taken,
            Err(WriteError::Blocked) => return false,
            // An event says why, and ends it.
            Err(_) => return false,
        }
    }
    true
}

/// Brings a deadline forward, if this one is earlier.
pub(crate) fn earlier(due: &mut Option<Instant>, at: Option<Instant>) {
    *due = [*due, at].into_iter().flatten().min();
}

fn refuse(opening: Opening, error: RequestError) {
    match opening {
        Opening::Stream { reply, .. } => drop(reply.send(Err(OpenError::Refused))),
        Opening::Call { call, .. } => drop(call.reply.send(Err(error))),
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

/// The length of what says how long a message is.
const fn prefix(len: usize) -> usize {
    framing::varint::len(len as u64)
}

/// What is read of a request before its name is known: more than any name.
const NAME_AND_MORE: usize = PIPE_BYTES;
/// A time that nobody waits for.
const FOREVER: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);
