//! What a library must offer to be measured.
//!
//! Futures are `Send` because some libraries start tasks of their own; the runtime has one thread all the same.

use std::future::Future;
use std::net::IpAddr;

use anyhow::Result;

use crate::work::{Mtu, Work};

/// What a program was started for, so that a library can choose its best settings for it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What will be done.
    pub work: Work,
    /// The address the server listens on and the client sends from.
    pub bind: IpAddr,
}

impl Settings {
    /// The limit on datagrams.
    #[must_use]
    pub const fn mtu(&self) -> Mtu {
        self.work.mtu()
    }
}

/// A library under measurement.
pub trait Library: Send + Sync + 'static {
    /// Its name in the table.
    const NAME: &'static str;

    /// The side that is connected to.
    type Listener: Send + Sync + 'static;
    /// A connection that has arrived and is not ready.
    type Incoming: Send + 'static;
    /// The side that connects.
    type Dialer: Send + Sync + 'static;
    /// What both have then.
    type Connection: Connection;

    /// Whether it offers what `work` wants.
    fn supports(work: Work) -> bool;

    /// What figures depend on: cipher, congestion control, packet sizes, socket buffers.
    fn limits(settings: &Settings) -> Vec<(&'static str, String)>;

    /// Listens on a port the system chooses. The string is all a client must know, without white space.
    fn listen(settings: &Settings) -> impl Future<Output = Result<(Self::Listener, String)>> + Send;

    /// The next connection. Must not wait for its handshake: that is [`establish`](Self::establish)'s.
    fn accept(listener: &Self::Listener) -> impl Future<Output = Result<Self::Incoming>> + Send;

    /// Finishes the server's side of the handshake.
    fn establish(incoming: Self::Incoming) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// Prepares to connect to whoever printed `ticket`; one local endpoint for all connections where there is such a thing.
    fn dialer(settings: &Settings, ticket: &str) -> impl Future<Output = Result<Self::Dialer>> + Send;

    /// Connects, and returns when a request can be sent.
    fn dial(dialer: &Self::Dialer) -> impl Future<Output = Result<Self::Connection>> + Send;
}

/// An established connection.
pub trait Connection: Clone + Send + Sync + 'static {
    /// The half of a stream that is written.
    type Send: SendStream;
    /// The half of a stream that is read.
    type Receive: ReceiveStream;
    /// Where messages go in. [`FramedSender`](crate::FramedSender) for who has only streams.
    type MessageSender: MessageSender;
    /// Where messages come out. [`FramedReceiver`](crate::FramedReceiver) for who has only streams.
    type MessageReceiver: MessageReceiver;

    /// Opens a stream in both directions.
    fn open(&self) -> impl Future<Output = Result<(Self::Send, Self::Receive)>> + Send;

    /// The next stream the other side opened, `None` when the connection is over.
    fn accept(&self) -> impl Future<Output = Result<Option<(Self::Send, Self::Receive)>>> + Send;

    /// Opens a way for messages. With `gathered` several may go into one write.
    fn open_messages(&self, gathered: bool) -> impl Future<Output = Result<Self::MessageSender>> + Send;

    /// The other end of [`open_messages`](Self::open_messages).
    fn accept_messages(&self) -> impl Future<Output = Result<Self::MessageReceiver>> + Send;

    /// Sends a datagram. Waits while the local queue is full, where the library can.
    fn send_datagram(&self, bytes: &[u8]) -> impl Future<Output = Result<()>> + Send {
        let _ = bytes;
        async { Err(anyhow::anyhow!("no datagrams")) }
    }

    /// Hands the next datagrams to `take`, one or as many as there are. False when the connection is over.
    fn receive_datagrams(&self, take: impl FnMut(&[u8]) + Send) -> impl Future<Output = Result<bool>> + Send {
        let _ = take;
        async { Err(anyhow::anyhow!("no datagrams")) }
    }

    /// Ends the connection and tells the other side.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// The writing half of a stream.
pub trait SendStream: Send + 'static {
    /// Hands all of `bytes`, which the caller uses again, to the library.
    fn write_all(&mut self, bytes: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Says that nothing follows. Need not wait for the other side.
    fn finish(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// The reading half of a stream.
pub trait ReceiveStream: Send + 'static {
    /// Reads at least one byte into `buffer`; 0 at the end of the stream.
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = Result<usize>> + Send;

    /// Hands what arrived to `take`, in whatever buffers the library has it. False at the end of the stream. `buffer` is
    /// there for libraries that only copy.
    fn drain(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) + Send,
    ) -> impl Future<Output = Result<bool>> + Send {
        async move {
            let length = self.read(buffer).await?;
            take(&buffer[..length]);
            Ok(length > 0)
        }
    }

    /// Reads until `buffer` is full or the stream ends; the bytes read.
    fn read_full(&mut self, buffer: &mut [u8]) -> impl Future<Output = Result<usize>> + Send {
        async move {
            let mut length = 0;
            while length < buffer.len() {
                match self.read(&mut buffer[length..]).await? {
                    0 => break,
                    more => length += more,
                }
            }
            Ok(length)
        }
    }
}

/// Where messages go in.
pub trait MessageSender: Send + 'static {
    /// Sends one message. It must not wait for later ones unless they were to be gathered.
    fn send(&mut self, message: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Sends what was gathered.
    fn flush(&mut self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// Where messages come out.
pub trait MessageReceiver: Send + 'static {
    /// Hands the next messages to `take`, one or as many as there are. False when there are no more.
    fn receive(&mut self, take: impl FnMut(&[u8]) + Send) -> impl Future<Output = Result<bool>> + Send;
}
