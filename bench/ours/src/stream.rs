//! Streams, and requests in the shape of streams.

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes};
use harness::{ReceiveStream, SendStream};
use swarm::{Inbound, Peer, Protocol, Request, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

/// The half that is written.
#[derive(Debug)]
pub(crate) enum Sender {
    Stream(WriteHalf<Stream>),
    /// Asks when it is finished.
    Asking {
        peer: Peer,
        protocol: Protocol,
        body: Vec<u8>,
        ask: Option<oneshot::Sender<Request>>,
    },
    /// Answers when it is finished.
    Answering {
        inbound: Option<Inbound>,
        body: Vec<u8>,
    },
}

/// The half that is read.
#[derive(Debug)]
pub(crate) enum Receiver {
    Stream(ReadHalf<Stream>),
    /// The request, as soon as it is finished.
    Asking(Option<oneshot::Receiver<Request>>),
    /// What is left of what came.
    Bytes(Bytes),
}

/// The halves of a stream.
pub(crate) fn split(stream: Stream) -> (Sender, Receiver) {
    let (receive, send) = tokio::io::split(stream);
    (Sender::Stream(send), Receiver::Stream(receive))
}

/// The halves of a request to come.
pub(crate) fn asking(peer: &Peer, protocol: Protocol) -> (Sender, Receiver) {
    let (ask, asked) = oneshot::channel();
    let sender = Sender::Asking { peer: peer.clone(), protocol, body: Vec::new(), ask: Some(ask) };
    (sender, Receiver::Asking(Some(asked)))
}

/// The halves of a request that came.
pub(crate) fn answering(inbound: Inbound) -> (Sender, Receiver) {
    let receiver = Receiver::Bytes(inbound.body().clone());
    (Sender::Answering { inbound: Some(inbound), body: Vec::new() }, receiver)
}

impl SendStream for Sender {
    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stream(stream) => stream.write_all(bytes).await?,
            Self::Asking { body, .. } | Self::Answering { body, .. } => body.extend_from_slice(bytes),
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        match self {
            Self::Stream(stream) => stream.shutdown().await?,
            Self::Asking { peer, protocol, body, ask } => {
                let ask = ask.take().context("finished twice")?;
                // Nobody may be left to read the answer.
                let _ = ask.send(peer.request(*protocol, body));
            }
            Self::Answering { inbound, body } => {
                inbound.take().context("finished twice")?.answer(std::mem::take(body));
            }
        }
        Ok(())
    }
}

impl ReceiveStream for Receiver {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if let Self::Asking(asked) = self {
            let Some(request) = asked.take() else { bail!("the request has failed") };
            let answer = request.await?.await?;
            *self = Self::Bytes(answer);
        }
        match self {
            Self::Stream(stream) => Ok(stream.read(buffer).await?),
            Self::Bytes(bytes) => {
                let length = bytes.len().min(buffer.len());
                bytes.copy_to_slice(&mut buffer[..length]);
                Ok(length)
            }
            Self::Asking(_) => bail!("the request has failed"),
        }
    }
}
