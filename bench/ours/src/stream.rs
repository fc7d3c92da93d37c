//! Streams, and requests in the shape of streams.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes};
use harness::{ReceiveStream, SendStream};
use swarm::{Inbound, Peer, Protocol, Request, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

/// The half that is written.
#[derive(Debug)]
pub(crate) enum Sender {
    Stream(WriteHalf<Stream>),
    /// Asks when it is finished.
    Asking(Arc<Asking>),
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
    /// Reads the answer, once the request is finished.
    Asking(Arc<Asking>),
    /// What is left of what came.
    Bytes(Bytes),
}

/// What both halves of a request share.
#[derive(Debug)]
pub(crate) struct Asking {
    peer: Peer,
    protocol: Protocol,
    draft: Mutex<Draft>,
}

#[derive(Debug)]
enum Draft {
    Body(Vec<u8>),
    Asked(Request),
    Over,
}

impl Asking {
    /// What there is now, in exchange for what there is then.
    fn replace(&self, draft: Draft) -> Draft {
        std::mem::replace(&mut self.draft.lock().unwrap_or_else(PoisonError::into_inner), draft)
    }
}

/// The halves of a stream.
pub(crate) fn split(stream: Stream) -> (Sender, Receiver) {
    let (receive, send) = tokio::io::split(stream);
    (Sender::Stream(send), Receiver::Stream(receive))
}

/// The halves of a request to come.
pub(crate) fn asking(peer: &Peer, protocol: Protocol) -> (Sender, Receiver) {
    let asking = Asking { peer: peer.clone(), protocol, draft: Mutex::new(Draft::Body(Vec::new())) };
    let asking = Arc::new(asking);
    (Sender::Asking(Arc::clone(&asking)), Receiver::Asking(asking))
}

/// The halves of a request that came.
pub(crate) fn answering(mut inbound: Inbound) -> (Sender, Receiver) {
    let receiver = Receiver::Bytes(inbound.take_body());
    (Sender::Answering { inbound: Some(inbound), body: Vec::new() }, receiver)
}

impl SendStream for Sender {
    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stream(stream) => stream.write_all(bytes).await?,
            Self::Asking(asking) => match &mut *asking.draft.lock().unwrap_or_else(PoisonError::into_inner) {
                Draft::Body(body) => body.extend_from_slice(bytes),
                Draft::Asked(_) | Draft::Over => bail!("written behind the end"),
            },
            Self::Answering { body, .. } => body.extend_from_slice(bytes),
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        match self {
            Self::Stream(stream) => stream.shutdown().await?,
            Self::Asking(asking) => {
                let Draft::Body(body) = asking.replace(Draft::Over) else { bail!("finished twice") };
                asking.replace(Draft::Asked(asking.peer.request(asking.protocol, body)));
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
        if let Self::Asking(asking) = self {
            let Draft::Asked(request) = asking.replace(Draft::Over) else { bail!("no request was finished") };
            *self = Self::Bytes(request.await?);
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
