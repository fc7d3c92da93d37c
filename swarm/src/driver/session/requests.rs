//! Requests: ours until they are answered, and those of the other side until a handler has answered them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use framing::{StreamCode, StreamId};
use peer::Peer;
use tokio::sync::OwnedSemaphorePermit;

use super::streams::{Came, hand_over_last, read_name, read_to};
use super::{Opening, Session, Slot, Visit, earlier};
use crate::driver::bodies::Held;
use crate::driver::call::Asked;
use crate::driver::limits::{BODIES_BYTES, KEPT_BYTES, PIPE_BYTES};
use crate::driver::services::Responder;
use crate::node::naming::{ANSWERED, Name};
use crate::{InboundError, RequestError};

/// A request that has come in part.
#[derive(Debug)]
pub(super) struct Hearing {
    pub(super) responder: Responder,
    pub(super) body: Vec<u8>,
    pub(super) held: Held,
}

/// Who answers requests of one name.
#[derive(Debug)]
pub(super) struct Found {
    name: String,
    responder: Responder,
}

impl Found {
    /// The body of a request of that name, and of no other.
    fn body<'a>(&self, request: &'a [u8]) -> Option<(&Responder, &'a [u8])> {
        let (len, rest) = request.split_first()?;
        let body = rest.strip_prefix(self.name.as_bytes())?;
        (usize::from(*len) == self.name.len()).then_some((&self.responder, body))
    }
}

/// A request of ours.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) asked: Asked,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) deadline: Instant,
    /// Of one that does not leave at once, or whose answer comes in pieces.
    pub(super) more: Option<Box<Pieces>>,
}

#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The request, handed over up to `at`; nothing once all of it is.
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
    /// What has come of the answer.
    answer: Vec<u8>,
}

impl Calling {
    /// Hands the request over, as far as there is room for it now.
    pub(super) fn begin(
        (asked, permit): (Asked, OwnedSemaphorePermit),
        deadline: Instant,
        stream: StreamId,
        peer: &mut Peer,
    ) -> Self {
        let mut at = 0;
        let left = match asked.short() {
            Some(short) => (!hand_over_last(short, &mut at, stream, peer)).then(|| short.to_vec()),
            None => Some(asked.take_long()).filter(|long| !hand_over_last(long, &mut at, stream, peer)),
        };
        let more = left.map(|bytes| Box::new(Pieces { bytes, at, answer: Vec::new() }));
        Self { asked, permit, deadline, more }
    }
}

impl Session {
    pub(super) fn answer(
        &mut self,
        stream: StreamId,
        answer: Result<Bytes, StreamCode>,
        peer: &mut Peer,
        visit: &mut Visit<'_>,
    ) {
        match self.streams.remove(stream) {
            Some(Slot::Thinking { .. }) => {}
            // The asking side may have gone on without it.
            Some(slot) => return self.streams.insert(stream, slot),
            None => return,
        }
        match answer {
            Err(code) => {
                self.failed.push((stream, InboundError::Rejected));
                let _ = peer.reset_stream(stream, code);
            }
            Ok(bytes) if bytes.len() < KEPT_BYTES => {
                visit.scratch.clear();
                visit.scratch.push(ANSWERED);
                visit.scratch.extend_from_slice(&bytes);
                let mut at = 0;
                if !hand_over_last(visit.scratch, &mut at, stream, peer) {
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
                self.write(stream, peer);
            }
        }
    }

    pub(super) fn read_answer(&mut self, stream: StreamId, peer: &mut Peer, visit: &mut Visit<'_>) {
        let Some(Slot::Calling(calling)) = self.streams.get_mut(stream) else { return };
        visit.scratch.clear();
        let held = calling.more.as_ref().map_or(0, |more| more.answer.len());
        let max = calling.asked.max_answer().saturating_add(1);
        match read_to(visit.scratch, max.saturating_sub(held), stream, peer) {
            Came::Some if visit.scratch.is_empty() => {}
            Came::Some => calling.more.get_or_insert_default().answer.extend_from_slice(visit.scratch),
            Came::TooMuch => {
                let max = calling.asked.max_answer();
                self.fail_call(stream, RequestError::AnswerTooLarge { max }, peer);
            }
            Came::Reset(code) => self.fail_call(stream, RequestError::from(code), peer),
            Came::All => {
                let Some(Slot::Calling(calling)) = self.streams.remove(stream) else { return };
                let Calling { asked, permit, more, .. } = calling;
                visit.give_back(permit);
                let Pieces { bytes, mut answer, .. } = more.map(|more| *more).unwrap_or_default();
                if !bytes.is_empty() {
                    // It did not want to hear the rest.
                    let _ = peer.reset_stream(stream, StreamCode::CANCELLED);
                }
                let result = if answer.is_empty() {
                    // Most answers come in one piece.
                    let answer = visit.scratch.split_first().filter(|(status, _)| **status == ANSWERED);
                    answer.map(|(_, answer)| Bytes::copy_from_slice(answer))
                } else {
                    answer.extend_from_slice(visit.scratch);
                    (answer.first() == Some(&ANSWERED)).then(|| Bytes::from(answer).slice(1..))
                };
                asked.answer(result.ok_or(RequestError::Rejected));
            }
        }
    }

    /// A request of ours is given up.
    pub(super) fn fail_call(&mut self, stream: StreamId, error: RequestError, peer: &mut Peer) {
        if let Some(Slot::Calling(calling)) = self.streams.remove(stream) {
            calling.asked.answer(Err(error));
            let _ = peer.reset_stream(stream, StreamCode::CANCELLED);
            let _ = peer.stop_stream(stream, StreamCode::CANCELLED);
        }
    }

    /// Reads what a stream of the other side is for, and the body of a request. The slot is kept while there is more to
    /// come.
    pub(super) fn read_request(&mut self, stream: StreamId, slot: Slot, peer: &mut Peer, visit: &mut Visit<'_>) {
        let mut hearing = match slot {
            Slot::Hearing(hearing) => hearing,
            Slot::Naming { request: false, mut bytes, sweeps } => {
                // No further than the name: the rest is for the handle.
                let came = read_name(&mut bytes, stream, peer);
                match Name::read(&bytes) {
                    Name::Incomplete if came == Came::Some => {
                        self.streams.insert(stream, Slot::Naming { request: false, bytes, sweeps });
                    }
                    Name::Complete(name, _) if !matches!(came, Came::Reset(_)) => {
                        self.accept(stream, name, peer, visit);
                    }
                    _ => self.turn_away(stream, StreamCode::FAILED, peer),
                }
                return;
            }
            Slot::Naming { request: true, bytes, sweeps } => {
                visit.scratch.clear();
                visit.scratch.extend_from_slice(&bytes);
                // All that came: behind the name is the body.
                let came = read_to(visit.scratch, NAME_AND_MORE, stream, peer);
                // Most are for whom the last one was for.
                if came == Came::All
                    && let Some((responder, body)) = visit.found.as_ref().and_then(|found| found.body(visit.scratch))
                {
                    return self.heard(stream, responder, Bytes::copy_from_slice(body), None, peer);
                }
                let (name, body) = match Name::read(visit.scratch) {
                    Name::Incomplete if came == Came::Some => {
                        let bytes = visit.scratch.clone();
                        self.streams.insert(stream, Slot::Naming { request: true, bytes, sweeps });
                        return;
                    }
                    Name::Complete(name, body) if !matches!(came, Came::Reset(_)) => (name, body),
                    _ if matches!(came, Came::Reset(_)) => return self.refuse(stream, InboundError::GivenUp, peer),
                    _ => return self.refuse(stream, InboundError::Unnamed, peer),
                };
                let Some(responder) = visit.services.responder(name) else {
                    return self.refuse(stream, InboundError::Unsupported, peer);
                };
                if came == Came::All {
                    self.heard(stream, &responder, Bytes::copy_from_slice(body), None, peer);
                    visit.found = Some(Found { name: name.into(), responder });
                    return;
                }
                Box::new(Hearing { responder, body: body.to_vec(), held: visit.services.bodies.hold() })
            }
            slot => return self.streams.insert(stream, slot),
        };
        match read_to(&mut hearing.body, hearing.responder.max_request(), stream, peer) {
            Came::Some | Came::All if !self.has_room_for(&mut hearing) => {
                self.refuse(stream, InboundError::Full, peer);
            }
            Came::Some => self.streams.insert(stream, Slot::Hearing(hearing)),
            Came::TooMuch => {
                let max = hearing.responder.max_request();
                self.refuse(stream, InboundError::TooLarge { max }, peer);
            }
            Came::Reset(_) => {
                self.failed.push((stream, InboundError::GivenUp));
                let _ = peer.reset_stream(stream, StreamCode::CANCELLED);
            }
            Came::All => {
                let Hearing { responder, body, held } = *hearing;
                self.heard(stream, &responder, body.into(), Some(held), peer);
            }
        }
    }

    /// Whether a request may be held beside the others, of this session and of all: small ones, of which the streams bound the
    /// number, and one of any size. To make large ones wait instead would have several halves keep each other from their ends.
    fn has_room_for(&self, hearing: &mut Hearing) -> bool {
        let body = hearing.body.len();
        if body <= SMALL_BODY {
            return true;
        }
        let others = self.streams.bodies();
        let is_alone = others == 0;
        (is_alone || others.saturating_add(body) <= BODIES_BYTES) && hearing.held.resize(body, is_alone)
    }

    /// A request is there in full.
    fn heard(&mut self, stream: StreamId, responder: &Responder, body: Bytes, held: Option<Held>, peer: &mut Peer) {
        let (len, max) = (body.len(), responder.max_request());
        let asked = match len > max {
            true => Err(InboundError::TooLarge { max }),
            false => responder.ask(Arc::clone(&self.conn), stream, body),
        };
        match asked {
            Ok(()) => self.streams.insert(stream, Slot::Thinking { body: len, _held: held }),
            Err(cause) => {
                self.failed.push((stream, cause));
                let _ = peer.reset_stream(stream, refusal(cause));
            }
        }
    }

    /// Turns a request away that is not there in full.
    fn refuse(&mut self, stream: StreamId, cause: InboundError, peer: &mut Peer) {
        self.failed.push((stream, cause));
        self.turn_away(stream, refusal(cause), peer);
    }

    /// Gives up requests whose time is over.
    pub(super) fn expire(&mut self, peer: &mut Peer, visit: &Visit<'_>) {
        if self.due.is_none_or(|due| due > visit.now) {
            return;
        }
        // Most requests are answered long before: to look at all of them now is less work than to keep their order.
        let mut late = Vec::new();
        self.due = None;
        for (stream, slot) in self.streams.iter() {
            if let Slot::Calling(calling) = slot {
                if calling.deadline <= visit.now {
                    late.push((stream, calling.asked.timeout()));
                } else {
                    earlier(&mut self.due, Some(calling.deadline));
                }
            }
        }
        for (stream, after) in late {
            self.fail_call(stream, RequestError::Timeout { after }, peer);
        }
        for opening in self.openings.take() {
            match opening {
                Opening::Call { deadline, asked, .. } if deadline <= visit.now => {
                    let after = asked.timeout();
                    asked.answer(Err(RequestError::Timeout { after }));
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
}

/// What the asking side is told.
const fn refusal(cause: InboundError) -> StreamCode {
    match cause {
        InboundError::Unsupported => StreamCode::UNKNOWN_PROTOCOL,
        InboundError::TooLarge { .. } => StreamCode::TOO_LARGE,
        InboundError::Full => StreamCode::REFUSED,
        InboundError::Rejected => StreamCode::REJECTED,
        InboundError::GivenUp | InboundError::Unnamed | InboundError::Closed => StreamCode::FAILED,
    }
}

/// Requests that are always held.
const SMALL_BODY: usize = 64 << 10;
/// What is read of a request before its name is known: more than any name.
const NAME_AND_MORE: usize = PIPE_BYTES;
