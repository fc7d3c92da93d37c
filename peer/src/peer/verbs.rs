//! What an application does in a session: streams, messages and datagrams of its protocols.

use bytes::Bytes;
use framing::{StreamCode, StreamId};

use super::{Peer, Phase};
use crate::mux::{Account, MessageId, OpenError, ProtocolId, Read, ReadError, SendError, Urgency, WriteError};

impl Peer {
    /// The version in which a protocol is on: our newest before the other side has greeted, `None` if it lacks it.
    #[must_use]
    pub fn version(&self, protocol: ProtocolId) -> Option<u16> {
        self.mux.version(protocol)
    }

    /// What became of the messages so far.
    #[must_use]
    pub fn account(&self, protocol: ProtocolId, urgency: Urgency) -> Account {
        self.mux.account(protocol, urgency)
    }

    /// Opens a stream of bytes. Possible before the handshake is over: it leaves with the first sealed packet.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: nothing was opened.
    pub fn open_stream(&mut self, protocol: ProtocolId) -> Result<StreamId, OpenError> {
        if self.is_over() {
            return Err(OpenError::Refused { code: StreamCode::REFUSED });
        }
        self.mux.open_stream(protocol)
    }

    /// Takes as many of `data` as there is room for, at least one byte unless `data` is empty.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: nothing was taken.
    pub fn write(&mut self, stream: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        if self.is_over() {
            return Err(WriteError::Closed);
        }
        self.mux.write(stream, data)
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: nothing changed.
    pub fn finish_stream(&mut self, stream: StreamId) -> Result<(), WriteError> {
        self.mux.finish(stream)
    }

    /// Gives up what was written and not delivered.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: nothing changed.
    pub fn reset_stream(&mut self, stream: StreamId, code: StreamCode) -> Result<(), WriteError> {
        self.mux.reset(stream, code)
    }

    /// Reads into `out`.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: nothing was read.
    pub fn read(&mut self, stream: StreamId, out: &mut [u8]) -> Result<Read, ReadError> {
        self.mux.read(stream, out)
    }

    /// Says that nothing more will be read.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: nothing changed.
    pub fn stop_stream(&mut self, stream: StreamId, code: StreamCode) -> Result<(), ReadError> {
        self.mux.stop(stream, code)
    }

    /// Takes a message, to be delivered in the order of its urgency.
    ///
    /// # Errors
    ///
    /// [`SendError`]: it was not taken.
    pub fn send(&mut self, protocol: ProtocolId, message: &[u8], urgency: Urgency) -> Result<MessageId, SendError> {
        if self.is_over() {
            return Err(SendError::Stopped { code: StreamCode::REFUSED });
        }
        self.mux.send(protocol, message, urgency)
    }

    /// Puts the next message in `out`, replacing what it held, and returns its length: urgent ones first.
    pub fn recv(&mut self, protocol: ProtocolId, out: &mut Vec<u8>) -> Option<usize> {
        self.mux.recv(protocol, out)
    }

    /// Takes a datagram, which is sent once or, if the queue is full, dropped and counted.
    ///
    /// # Errors
    ///
    /// [`SendError`]: it was not taken.
    pub fn send_datagram(&mut self, protocol: ProtocolId, data: &[u8]) -> Result<(), SendError> {
        if self.is_over() {
            return Err(SendError::Stopped { code: StreamCode::REFUSED });
        }
        let sent = self.mux.send_datagram(protocol, data);
        if let (Err(SendError::TooLarge { .. }), Phase::Open(session)) = (&sent, &mut self.phase) {
            session.search_from = None;
        }
        sent
    }

    /// The next datagram.
    pub fn recv_datagram(&mut self, protocol: ProtocolId) -> Option<Bytes> {
        self.mux.recv_datagram(protocol)
    }

    /// Stops one protocol on this session, because what came could not be understood. The others go on.
    pub fn fail_protocol(&mut self, protocol: ProtocolId) {
        self.mux.fail_protocol(protocol);
    }
}
