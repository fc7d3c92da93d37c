//! All that travels in one session: protocols, their streams, messages and datagrams, the credit for them, and whose turn it is.

mod error;
mod event;
mod limits;
mod pages;
mod protocol;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use framing::{CloseCode, Hello, PacketWriter, Role, Stream, StreamCode, StreamId};

pub use error::{OpenError, ReadError, RegisterError, SendError, WriteError};
pub use event::{Account, Direction, Event, MessageId, Read, Urgency};
pub(crate) use limits::Limits;
pub use protocol::{Protocol, ProtocolId, Protocols};

use crate::Violation;
use crate::sent::{Sent, SentFrames};

/// Whether a frame was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Received {
    /// The packet can be acknowledged.
    Taken,
    /// There is no room for its data (too many gaps before it): the packet must not be acknowledged, as if it had been lost. The
    /// other frames in it were taken, which does no harm when they are repeated.
    Refused,
}

/// Counters of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Frames for protocols that were not agreed.
    pub unknown_protocol: u32,
    /// Datagrams dropped because their queue was full, ours.
    pub datagrams_dropped_sent: u64,
    /// Datagrams dropped because their queue was full or because they came before HELLO, the other side's.
    pub datagrams_dropped_received: u64,
    /// Datagrams that were sent and lost.
    pub datagrams_lost: u64,
    /// STREAM frames refused because of too many gaps.
    pub refused: u64,
}

/// The multiplexer of one session.
#[derive(Debug)]
pub(crate) struct Mux {
    role: Role,
    protocols: Arc<Protocols>,
    limits: Limits,
}

impl Mux {
    /// A multiplexer for what `protocols` lists, within `limits`.
    pub(crate) fn new(role: Role, protocols: Arc<Protocols>, limits: Limits, _now: Instant) -> Self {
        let limits = limits.checked(protocols.len());
        Self { role, protocols, limits }
    }

    // ---- what the session does with it ----

    /// What HELLO announces beside the entries of [`protocols`](Self::protocols); the delay of acknowledgements is the caller's.
    pub(crate) fn announced(&self) -> framing::Limits {
        framing::Limits::INITIAL
    }

    /// The protocols of this side.
    pub(crate) fn protocols(&self) -> &Protocols {
        &self.protocols
    }

    /// Takes the other side's HELLO. A second one is a violation.
    pub(crate) fn on_hello(&mut self, _hello: &Hello<'_>) -> Result<(), Violation> {
        Ok(())
    }

    pub(crate) fn on_stream(&mut self, _frame: &Stream<'_>) -> Result<Received, Violation> {
        Ok(Received::Taken)
    }

    pub(crate) fn on_max_data(&mut self, _max: u64) {}

    pub(crate) fn on_max_stream_data(&mut self, _id: StreamId, _max: u64) -> Result<(), Violation> {
        Ok(())
    }

    pub(crate) fn on_max_streams(&mut self, _max: u64) {}

    pub(crate) fn on_reset(&mut self, _id: StreamId, _code: StreamCode, _final_size: u64) -> Result<(), Violation> {
        Ok(())
    }

    pub(crate) fn on_stop(&mut self, _id: StreamId, _code: StreamCode) -> Result<(), Violation> {
        Ok(())
    }

    pub(crate) fn on_datagram(&mut self, _protocol: u64, _data: &[u8]) -> Result<(), Violation> {
        Ok(())
    }

    pub(crate) fn on_goaway(&mut self, _code: CloseCode) {}

    /// We sent GOAWAY: streams that the other side opens from now on are refused.
    pub(crate) fn refuse_streams(&mut self) {}

    /// Writes frames until the packet is full or there is nothing more to send, and records what it wrote.
    pub(crate) fn fill(&mut self, _out: &mut PacketWriter<'_>, _sent: &mut SentFrames, _now: Instant) {}

    /// Whether [`fill`](Self::fill) has something to write.
    pub(crate) fn has_output(&self, _now: Instant) -> bool {
        false
    }

    /// When a protocol that waits for its rate cap may go on, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        None
    }

    /// A frame that [`fill`](Self::fill) wrote arrived. Frames of others are passed over.
    pub(crate) fn on_acked(&mut self, _frame: &Sent) {}

    /// A frame that [`fill`](Self::fill) wrote was lost. Frames of others are passed over.
    pub(crate) fn on_lost(&mut self, _frame: &Sent) {}

    /// The smoothed round-trip time, by which windows grow.
    pub(crate) fn set_rtt(&mut self, _rtt: Duration) {}

    /// How many bytes of frames a packet carries: bounds datagrams. Waiting ones that are longer are dropped and counted.
    pub(crate) fn set_packet_room(&mut self, _bytes: usize) {}

    /// What happened, oldest first.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Memory of all buffers, in bytes.
    pub(crate) fn buffered_bytes(&self) -> usize {
        0
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Whether everything that was accepted for sending was acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        true
    }

    // ---- what the application does with it ----

    /// The version in which a protocol is on: before HELLO our newest, `None` if the other side lacks it.
    pub(crate) fn version(&self, _protocol: ProtocolId) -> Option<u16> {
        None
    }

    /// What became of the messages so far.
    pub(crate) fn account(&self, _protocol: ProtocolId, _urgency: Urgency) -> Account {
        Account::default()
    }

    pub(crate) fn open_stream(&mut self, _protocol: ProtocolId) -> Result<StreamId, OpenError> {
        Err(OpenError::NotAgreed)
    }

    /// Takes as many of `data` as there is room for, at least one byte unless `data` is empty.
    pub(crate) fn write(&mut self, _stream: StreamId, _data: &[u8]) -> Result<usize, WriteError> {
        Err(WriteError::Closed)
    }

    /// Nothing more will be written.
    pub(crate) fn finish(&mut self, _stream: StreamId) -> Result<(), WriteError> {
        Err(WriteError::Closed)
    }

    /// Gives up what was not delivered.
    pub(crate) fn reset(&mut self, _stream: StreamId, _code: StreamCode) -> Result<(), WriteError> {
        Err(WriteError::Closed)
    }

    pub(crate) fn read(&mut self, _stream: StreamId, _out: &mut [u8]) -> Result<Read, ReadError> {
        Err(ReadError::Closed)
    }

    /// Nothing more will be read.
    pub(crate) fn stop(&mut self, _stream: StreamId, _code: StreamCode) -> Result<(), ReadError> {
        Err(ReadError::Closed)
    }

    pub(crate) fn send(
        &mut self,
        _protocol: ProtocolId,
        _message: &[u8],
        _urgency: Urgency,
    ) -> Result<MessageId, SendError> {
        Err(SendError::NotAgreed)
    }

    /// Puts the next message in `out`, replacing what it held: urgent ones first. Returns its length.
    pub(crate) fn recv(&mut self, _protocol: ProtocolId, _out: &mut Vec<u8>) -> Option<usize> {
        None
    }

    pub(crate) fn send_datagram(&mut self, _protocol: ProtocolId, _data: &[u8]) -> Result<(), SendError> {
        Err(SendError::NotAgreed)
    }

    pub(crate) fn recv_datagram(&mut self, _protocol: ProtocolId) -> Option<Bytes> {
        None
    }

    /// The application could not make sense of what came: stops this protocol on this session, and nothing else.
    pub(crate) fn fail_protocol(&mut self, _protocol: ProtocolId) {}
}
