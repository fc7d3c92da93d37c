//! Streams: between the pipes of their handles and the session.

use std::sync::Arc;

use framing::{StreamCode, StreamId};
use peer::Peer;
use peer::mux::{self, ReadError, WriteError};

use super::{Session, Slot, Visit};
use crate::driver::pipe::{End, Pipe};
use crate::{InboundError, RequestError, StreamError};

/// A stream that a handle has.
#[derive(Debug)]
pub(super) struct Piped {
    pub(super) pipe: Arc<Pipe>,
    /// Taken from the handle, handed over up to `at`.
    pub(super) out: Vec<u8>,
    pub(super) at: usize,
    /// Both directions, as far as this side is concerned.
    pub(super) out_over: bool,
    pub(super) in_over: bool,
}

impl Session {
    pub(super) fn write(&mut self, stream: StreamId, peer: &mut Peer) {
        let over = match self.streams.get_mut(stream) {
            Some(Slot::Piped(piped)) => piped.write(stream, peer, &mut self.talk.said),
            Some(Slot::Calling(calling)) => {
                if let Some(more) = calling.more.as_deref_mut()
                    && more.at < more.bytes.len()
                    && hand_over_last(&more.bytes, &mut more.at, stream, peer)
                {
                    (more.bytes, more.at) = (Vec::new(), 0);
                }
                false
            }
            Some(Slot::Answering { bytes }) => {
                let mut at = 0;
                let done = hand_over_last(bytes, &mut at, stream, peer);
                drop(bytes.split_to(at));
                done
            }
            _ => false,
        };
        if over {
            self.streams.remove(stream);
        }
    }

    pub(super) fn read(&mut self, stream: StreamId, peer: &mut Peer, visit: &mut Visit<'_>) {
        let over = match self.streams.get_mut(stream) {
            Some(Slot::Piped(piped)) => piped.read(stream, peer, visit.scratch),
            Some(Slot::Calling(_)) => return self.read_answer(stream, peer, visit),
            Some(Slot::Naming { .. } | Slot::Hearing(_)) => {
                if let Some(slot) = self.streams.remove(stream) {
                    self.read_request(stream, slot, peer, visit);
                }
                return;
            }
            _ => false,
        };
        if over {
            self.streams.remove(stream);
        }
    }

    pub(super) fn on_delivered(&mut self, stream: StreamId) {
        if let Some(Slot::Piped(piped)) = self.streams.get_mut(stream) {
            piped.pipe.delivered();
            piped.out_over = true;
            if piped.in_over {
                self.streams.remove(stream);
            }
        }
    }

    pub(super) fn on_stopped(&mut self, stream: StreamId, code: StreamCode, peer: &mut Peer) {
        match self.streams.get_mut(stream) {
            Some(Slot::Piped(piped)) => {
                piped.pipe.break_off(StreamError::from(code));
                (piped.out, piped.out_over) = (Vec::new(), true);
                if piped.in_over {
                    self.streams.remove(stream);
                }
            }
            Some(Slot::Calling(_)) => self.fail_call(stream, RequestError::from(code), peer),
            // Nobody waits for an answer, or for whoever takes the stream.
            Some(slot) => {
                if slot.is_asked() {
                    self.failed.push((stream, InboundError::GivenUp));
                }
                self.streams.remove(stream);
                let _ = peer.stop_stream(stream, StreamCode::CANCELLED);
            }
            None => {}
        }
    }

    /// A stream has said what it is for.
    pub(super) fn accept(&mut self, stream: StreamId, name: &str, peer: &mut Peer, visit: &mut Visit<'_>) {
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
    pub(super) fn turn_away(&mut self, stream: StreamId, code: StreamCode, peer: &mut Peer) {
        self.streams.remove(stream);
        let _ = peer.stop_stream(stream, code);
        let _ = peer.reset_stream(stream, code);
    }
}

impl Piped {
    /// Hands over what the handle wrote. Says whether the stream is over.
    fn write(&mut self, stream: StreamId, peer: &mut Peer, said: &mut bool) -> bool {
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
            *said = true;
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

/// However the net task lets go of it, no handle waits for it from then on. What was told before stays so.
impl Drop for Piped {
    fn drop(&mut self) {
        self.pipe.end(End::Broken(StreamError::Closed));
        self.pipe.break_off(StreamError::Closed);
    }
}

/// What reading brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
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
pub(super) fn read_to(into: &mut Vec<u8>, max: usize, stream: StreamId, peer: &mut Peer) -> Came {
    let room = max.saturating_add(1).saturating_sub(into.len());
    if room == 0 {
        return Came::TooMuch;
    }
    match peer.read_rest(stream, into, room) {
        Ok(_) if into.len() > max => Came::TooMuch,
        Ok(mux::Read::End) => Came::All,
        Ok(mux::Read::Bytes(_)) | Err(ReadError::Blocked) => Came::Some,
        Err(ReadError::Reset { code }) => Came::Reset(code),
        Err(_) => Came::Reset(StreamCode::CANCELLED),
    }
}

/// Reads up to the end of a name and no further.
pub(super) fn read_name(into: &mut Vec<u8>, stream: StreamId, peer: &mut Peer) -> Came {
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
pub(super) fn hand_over(bytes: &[u8], at: &mut usize, stream: StreamId, peer: &mut Peer) -> bool {
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

/// The same for the last that is written. Where all of it was taken the stream is finished.
pub(super) fn hand_over_last(bytes: &[u8], at: &mut usize, stream: StreamId, peer: &mut Peer) -> bool {
    loop {
        let left = bytes.get(*at..).unwrap_or_default();
        match peer.write_last(stream, left) {
            Ok(taken) => *at += taken,
            // As above.
            Err(_) => return false,
        }
        if *at >= bytes.len() {
            return true;
        }
    }
}
