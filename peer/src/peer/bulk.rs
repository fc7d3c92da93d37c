//! Verbs that move many messages at once.

use framing::{StreamCode, StreamId};

use super::{Peer, Phase};
use crate::limits::OVERHEAD;
use crate::mux::{Batch, ProtocolId, Read, ReadError, SendError, Urgency, WriteError};

impl Peer {
    /// Takes whole messages from the front of `batch`, as many as there is room for: at least one, unless there is no whole one.
    ///
    /// A batch is messages in a row, each behind its length as a variable-length integer: see
    /// [`push_message`](crate::mux::push_message). What is not whole at its end is left. If room was lacking,
    /// [`SendReady`](crate::mux::Event::SendReady) tells when to go on with the rest, as after a refusal.
    ///
    /// # Errors
    ///
    /// [`SendError`], about the first message: none was taken.
    pub fn send_batch(&mut self, protocol: ProtocolId, batch: &[u8], urgency: Urgency) -> Result<Batch, SendError> {
        if self.is_over() {
            return Err(SendError::Stopped { code: StreamCode::REFUSED });
        }
        self.mux.send_batch(protocol, batch, urgency)
    }

    /// Appends the next messages to `out`, urgent ones first, each behind its length: as many as `max` bytes hold, or one that is
    /// longer. Returns how many. [`Messages`](crate::mux::Messages) reads them.
    ///
    /// Where fewer than `max` bytes were appended there may still be more; after a call that returned 0,
    /// [`Message`](crate::mux::Event::Message) tells of the next.
    pub fn recv_batch(&mut self, protocol: ProtocolId, out: &mut Vec<u8>, max: usize) -> u64 {
        self.mux.recv_batch(protocol, out, max)
    }

    /// Appends what has come on a stream to `out`, `max` bytes at most.
    ///
    /// # Errors
    ///
    /// As those of [`read`](Self::read): nothing was read.
    pub fn read_into(&mut self, stream: StreamId, out: &mut Vec<u8>, max: usize) -> Result<Read, ReadError> {
        self.mux.read_into(stream, out, max)
    }

    /// The same, and says [`Read::End`] with the last of it rather than behind it. Where less came than `max`, nothing is left to be
    /// read now: an event tells of more.
    ///
    /// # Errors
    ///
    /// As those of [`read`](Self::read): nothing was read.
    pub fn read_rest(&mut self, stream: StreamId, out: &mut Vec<u8>, max: usize) -> Result<Read, ReadError> {
        self.mux.read_rest(stream, out, max)
    }

    /// Takes as many of `data` as there is room for, at least one byte unless `data` is empty. If that is all, nothing more will be
    /// written, as [`finish_stream`](Self::finish_stream) says; but no event tells that it arrived, for whom an answer will.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: nothing was taken.
    pub fn write_last(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        if self.is_over() {
            return Err(WriteError::Closed);
        }
        self.mux.write_last(stream, data)
    }

    /// Appends the oldest datagrams to `out`, each behind its length, as many as `max` bytes hold, or one that is longer.
    /// Returns how many. After a call that left none, [`Datagram`](crate::mux::Event::Datagram) tells of the next.
    pub fn recv_datagrams(&mut self, protocol: ProtocolId, out: &mut Vec<u8>, max: usize) -> u64 {
        self.mux.recv_datagrams(protocol, out, max)
    }

    /// The longest message that both sides take; `None` until the other side has said what it takes.
    #[must_use]
    pub fn max_message(&self) -> Option<usize> {
        self.mux.max_message()
    }

    /// How long a datagram may be for which none that waits to be sent gives way; of any length if none waits, and `None`
    /// if one would even for an empty one.
    #[must_use]
    pub fn datagram_room(&self, protocol: ProtocolId) -> Option<usize> {
        self.mux.datagram_room(protocol)
    }

    /// The longest datagram that the path takes that is used now, which may change at any time. `None` until the other side has
    /// said what it takes.
    #[must_use]
    pub fn max_datagram(&self, protocol: ProtocolId) -> Option<usize> {
        self.mux.datagram_limit(protocol, None)
    }

    /// The longest datagram that any path of this session can ever take. `None` until the other side has said what it takes.
    #[must_use]
    pub fn datagram_ceiling(&self, protocol: ProtocolId) -> Option<usize> {
        let Phase::Open(session) = &self.phase else { return None };
        self.mux.datagram_limit(protocol, Some(session.most(&self.shared).saturating_sub(OVERHEAD)))
    }
}
