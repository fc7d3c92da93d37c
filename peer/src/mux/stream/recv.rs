//! The half of a stream that we read: what came stays until it is read, in order.

use framing::{Open, StreamCode, StreamId, StreamKind};
use structs::RangeSet;

use crate::Violation;
use crate::mux::flow::Window;
use crate::mux::pages::{Pages, Pool};
use crate::mux::protocol::ProtocolId;

/// What is known of the purpose of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mux) enum Purpose {
    /// The frame that says so has not come, or the list that it refers to.
    Unknown(Option<Open>),
    Known {
        protocol: ProtocolId,
        kind: StreamKind,
    },
    /// Nobody reads it: it only remains to be known how long it is.
    Discarded,
}

#[derive(Debug)]
pub(in crate::mux) struct RecvHalf {
    pub(in crate::mux) id: StreamId,
    pub(in crate::mux) purpose: Purpose,
    /// Starts where reading goes on.
    pub(in crate::mux) data: Pages,
    /// The end of what can be read.
    pub(in crate::mux) ready: u64,
    /// What came behind gaps.
    ahead: RangeSet,
    /// The end of all that came, so what counts against the window of the session.
    highest: u64,
    pub(in crate::mux) window: Window,
    /// How long the stream is.
    pub(in crate::mux) final_size: Option<u64>,
    /// The other side gave up.
    pub(in crate::mux) reset: Option<StreamCode>,
    /// What the other side wants our half to be stopped with, before it is known whether there is one.
    pub(in crate::mux) stopped_early: Option<StreamCode>,
    /// Why we read no further.
    pub(in crate::mux) stop: Option<StreamCode>,
    /// STREAM_STOP is to be sent.
    pub(in crate::mux) stop_queued: bool,
    /// MAX_STREAM_DATA is to be sent.
    pub(in crate::mux) credit_queued: bool,
    /// The application was told that there is something to read.
    pub(in crate::mux) told: bool,
}

/// What a piece changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mux) enum Arrival {
    /// So many bytes more count against the window of the session.
    Taken { new: u64 },
    /// It would begin another range behind a gap, and there are too many.
    Refused,
}

/// What is at the front of a stream of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mux) enum Front {
    /// Not even its length.
    Nothing,
    /// A message that is not whole: it ends here.
    Partial { end: u64 },
    /// A whole one: so many bytes of length, so many of content.
    Whole { prefix: usize, len: usize },
    /// One that is longer than allowed.
    TooLarge,
}

impl RecvHalf {
    pub(in crate::mux) const fn new(id: StreamId, window: usize, ceiling: usize) -> Self {
        Self {
            id,
            purpose: Purpose::Unknown(None),
            data: Pages::EMPTY,
            ready: 0,
            ahead: RangeSet::new(),
            highest: 0,
            window: Window::new(window, ceiling),
            final_size: None,
            reset: None,
            stopped_early: None,
            stop: None,
            stop_queued: false,
            credit_queued: false,
            told: false,
        }
    }

    /// Gives back room that nothing needs now.
    pub(in crate::mux) fn rest(&mut self) {
        self.data.rest();
        self.ahead.shrink_to_fit();
    }

    pub(in crate::mux) const fn is_discarded(&self) -> bool {
        matches!(self.purpose, Purpose::Discarded)
    }

    /// Where reading goes on: all before counts as read.
    pub(in crate::mux) const fn read(&self) -> u64 {
        if self.is_discarded() { self.highest } else { self.data.start() }
    }

    /// Whether everything that will ever come has come.
    pub(in crate::mux) fn is_complete(&self) -> bool {
        self.final_size == Some(self.ready)
    }

    /// Whether nothing is left to be learned about a stream that nobody reads.
    pub(in crate::mux) fn is_done(&self) -> bool {
        self.is_discarded() && self.final_size == Some(self.highest)
    }

    /// How many ranges there are behind gaps.
    pub(in crate::mux) fn ranges(&self) -> usize {
        self.ahead.len()
    }

    /// Takes a piece. `session` is how many new bytes the window of the session allows, `may_split` whether there may be one more
    /// range behind a gap.
    #[inline]
    pub(in crate::mux) fn on_data(
        &mut self,
        offset: u64,
        data: &[u8],
        fin: bool,
        session: u64,
        may_split: bool,
        pool: &mut Pool,
    ) -> Result<Arrival, Violation> {
        // Decoding saw to it that this is below 2^62.
        let end = offset + data.len() as u64;
        if end > self.window.max() {
            return Err(Violation::FlowControl);
        }
        self.check_end(end, fin)?;
        let new = end.saturating_sub(self.highest);
        if new > session {
            return Err(Violation::FlowControl);
        }
        let unread = !self.is_discarded() && self.reset.is_none();
        let gap = unread && offset > self.ready && !data.is_empty();
        if gap && !may_split && !self.touches(offset, end) {
            return Ok(Arrival::Refused);
        }
        self.highest = self.highest.max(end);
        if fin {
            self.final_size = Some(end);
        }
        if gap {
            self.data.write_at(offset, data, pool);
            self.ahead.insert(offset..end);
            // Nearly everything that can be read was read, and yet the sender is at the end of the window: a loss holds it up.
            if self.ready - self.data.start() < self.window.size() / 8 {
                self.window.press(self.highest);
            }
        } else if unread && end > self.ready && !data.is_empty() {
            // What came before is not overwritten: it may have been read.
            let known = usize::try_from(self.ready - offset).unwrap_or(usize::MAX);
            if let Some(fresh) = data.get(known..) {
                if self.ready == self.data.end() {
                    self.data.append(fresh, pool);
                } else {
                    self.data.write_at(self.ready, fresh, pool);
                }
            }
            self.ready = end;
            self.join();
        }
        Ok(Arrival::Taken { new })
    }

    /// Whether the piece continues, or is continued by, what is behind a gap: then it begins no new range.
    fn touches(&self, offset: u64, end: u64) -> bool {
        self.ahead.contains(offset.saturating_sub(1)) || self.ahead.contains(offset) || self.ahead.contains(end)
    }

    fn join(&mut self) {
        while let Some(next) = self.ahead.first().filter(|next| next.start <= self.ready) {
            self.ready = self.ready.max(next.end);
            self.ahead.pop_first();
            if self.ahead.is_empty() {
                self.ahead.clear();
            }
        }
    }

    /// A stream has one length, and nothing behind it.
    fn check_end(&self, end: u64, fin: bool) -> Result<(), Violation> {
        let wrong = match self.final_size {
            Some(size) => end > size || (fin && end != size),
            None => fin && end < self.highest,
        };
        if wrong { Err(Violation::FlowControl) } else { Ok(()) }
    }

    /// The other side gave up after so many bytes. Returns how many more bytes count against the window of the session, and how many
    /// of all that count will never be read.
    pub(in crate::mux) fn on_reset(
        &mut self,
        code: StreamCode,
        size: u64,
        session: u64,
        pool: &mut Pool,
    ) -> Result<(u64, u64), Violation> {
        self.check_end(size, true)?;
        let new = size.saturating_sub(self.highest);
        if size > self.window.max() || new > session {
            return Err(Violation::FlowControl);
        }
        // All of it is here, or nobody cares.
        if self.reset.is_some() || self.is_complete() {
            return Ok((0, 0));
        }
        let counted = self.highest;
        (self.highest, self.final_size) = (size, Some(size));
        if self.is_discarded() {
            return Ok((new, new));
        }
        debug_assert!(counted >= self.ready, "what can be read has come");
        self.reset = Some(code);
        self.ahead.clear();
        self.data.truncate(self.ready, pool);
        Ok((new, size - self.ready))
    }

    /// Nobody reads any further. Returns how many bytes will never be read.
    pub(in crate::mux) fn discard(&mut self, pool: &mut Pool) -> u64 {
        if self.is_discarded() {
            return 0;
        }
        // What a reset gave up is counted already.
        let end = if self.reset.is_some() { self.ready } else { self.highest };
        let unread = end - self.data.start();
        self.purpose = Purpose::Discarded;
        self.ahead.clear();
        self.data.advance(self.data.end().max(end), pool);
        unread
    }

    /// Lets go of what was read.
    #[inline]
    pub(in crate::mux) fn consume(&mut self, len: usize, pool: &mut Pool) {
        self.data.advance(self.data.start() + len as u64, pool);
    }

    /// The first message.
    #[inline]
    pub(in crate::mux) fn front(&self, max: usize) -> Front {
        let start = self.data.start();
        let Some((prefix, len)) = self.data.varint(start, self.ready) else { return Front::Nothing };
        let Some(len) = usize::try_from(len).ok().filter(|len| *len <= max) else { return Front::TooLarge };
        let end = start + (prefix + len) as u64;
        if end <= self.ready { Front::Whole { prefix, len } } else { Front::Partial { end } }
    }

    /// The whole messages at the front, as many as take up to `room` bytes with their lengths, none of them longer than `max`: how many,
    /// and their bytes. One may be longer than the room if `at_least_one` is set.
    #[inline]
    pub(in crate::mux) fn whole(&self, max: usize, room: usize, at_least_one: bool) -> (u64, usize) {
        let start = self.data.start();
        let end = self.ready.min(start.saturating_add(room as u64));
        let mut walk = self.data.messages(start, end, max);
        if walk.messages == 0
            && at_least_one
            && let Front::Whole { prefix, len } = self.front(max)
        {
            (walk.messages, walk.end) = (1, start + (prefix + len) as u64);
        }
        (walk.messages, usize::try_from(walk.end - start).unwrap_or(usize::MAX))
    }

    /// Whether the first message is whole.
    pub(in crate::mux) fn has_whole(&self, max: usize) -> bool {
        matches!(self.front(max), Front::Whole { .. })
    }
}
