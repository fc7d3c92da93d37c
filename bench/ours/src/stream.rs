//! Streams, and requests in the shape of streams: what is asked, and what is answered, is written at once.

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes};
use harness::{ReceiveStream, SendStream};
use swarm::{Inbound, Protocol, Reply, Request, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use crate::Session;

/// The half that is written.
#[derive(Debug)]
pub(crate) enum Sender {
    Stream(WriteHalf<Stream>),
    /// Asks when it is written.
    Asking(Option<Asking>),
    /// Answers when it is written.
    Answering(Option<Reply>),
}

/// The half that is read.
#[derive(Debug)]
pub(crate) enum Receiver {
    Stream(ReadHalf<Stream>),
    /// The request, as soon as it is written.
    Asking(Option<oneshot::Receiver<Request>>),
    /// What is left of what came.
    Bytes(Bytes),
}

/// Whom to ask, for whom.
#[derive(Debug)]
pub(crate) struct Asking {
    session: Session,
    protocol: Protocol,
    ask: oneshot::Sender<Request>,
}

/// The halves of a stream.
pub(crate) fn split(stream: Stream) -> (Sender, Receiver) {
    let (receive, send) = tokio::io::split(stream);
    (Sender::Stream(send), Receiver::Stream(receive))
}

/// The halves of a request to come.
pub(crate) fn asking(session: &Session, protocol: Protocol) -> (Sender, Receiver) {
    let (ask, asked) = oneshot::channel();
    (Sender::Asking(Some(Asking { session: session.clone(), protocol, ask })), Receiver::Asking(Some(asked)))
}

/// The halves of a request that came.
pub(crate) fn answering(inbound: Inbound) -> (Sender, Receiver) {
    let (body, reply) = inbound.split();
    (Sender::Answering(Some(reply)), Receiver::Bytes(body))
}

impl SendStream for Sender {
    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stream(stream) => stream.write_all(bytes).await?,
            Self::Asking(asking) => {
                let Asking { session, protocol, ask } = asking.take().context("written twice")?;
                // Nobody may be left to read the answer.
                let _ = ask.send(session.0.peer.request(protocol, bytes));
            }
            Self::Answering(reply) => reply.take().context("written twice")?.answer(bytes.to_vec()),
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        match self {
            Self::Stream(stream) => Ok(stream.shutdown().await?),
            Self::Asking(None) | Self::Answering(None) => Ok(()),
            Self::Asking(Some(_)) | Self::Answering(Some(_)) => bail!("nothing was written"),
        }
    }
}

impl ReceiveStream for Receiver {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if let Self::Asking(asked) = self {
            let Some(request) = asked.take() else { bail!("the request has failed") };
            *self = Self::Bytes(request.await?.await?);
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
