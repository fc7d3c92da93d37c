//! Datagrams on WebSockets (RFC 6455): each is a binary message.

use std::io;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use structs::TransmitBuf;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error, Message};

use super::connection::{Chunks, Inbox, What};
use super::frame;
use crate::carrier::Upgrade;

type Socket = WebSocketStream<TcpStream>;

/// Where WebSockets are asked for: everything else gets 404.
pub(super) const PATH: &str = "/setowire";

/// Asks for a WebSocket on a connection of ours.
pub(super) async fn ask(stream: TcpStream, upgrade: &Upgrade) -> io::Result<Socket> {
    let uri: Uri = format!("ws://{}{}", upgrade.host, upgrade.path).parse().or(Err(io::ErrorKind::InvalidInput))?;
    let request = ClientRequestBuilder::new(uri);
    let asked = tokio_tungstenite::client_async_with_config(request, stream, Some(config())).await;
    asked.map(|(socket, _answer)| socket).map_err(io_error)
}

/// Makes a WebSocket of a connection of somebody else, if it asks for one at [`PATH`].
pub(super) async fn answer(stream: TcpStream) -> io::Result<Socket> {
    #[expect(clippy::result_large_err, reason = "the signature of the library")]
    let check = |request: &Request, answer: Response| -> Result<Response, ErrorResponse> {
        if request.uri().path() == PATH {
            return Ok(answer);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        Err(refusal)
    };
    tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config())).await.map_err(io_error)
}

pub(super) async fn serve(socket: Socket, inbox: &Inbox, chunks: Chunks) -> io::Result<()> {
    inbox.tell(What::Opened(socket.get_ref().local_addr()?)).await?;
    let (sink, stream) = socket.split();
    // What ends first ends the other.
    tokio::select! {
        read = read(stream, inbox) => read,
        written = write(sink, chunks) => written,
    }
}

async fn read(stream: SplitStream<Socket>, inbox: &Inbox) -> io::Result<()> {
    let mut messages = stream.ready_chunks(MESSAGES);
    while let Some(messages) = messages.next().await {
        let mut frames = Vec::new();
        for message in messages {
            match message.map_err(io_error)? {
                Message::Binary(datagram) if datagram.first().is_some_and(|first| frame::is_carried(*first)) => {
                    frame::push(&mut frames, &datagram);
                }
                // The library answers these.
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(_) => return Ok(()),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        if !frames.is_empty() {
            inbox.tell(What::Frames(frames)).await?;
        }
    }
    Ok(())
}

async fn write(mut sink: SplitSink<Socket, Message>, mut chunks: Chunks) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    while let Some(bytes) = chunks.next().await {
        let mut rest = bytes.clone();
        while let Some(datagram) = take(&mut rest) {
            timeout(chunks.patience(), sink.feed(Message::Binary(datagram))).await.map_err(late)?.map_err(io_error)?;
        }
        timeout(chunks.patience(), sink.flush()).await.map_err(late)?.map_err(io_error)?;
        chunks.done(bytes.len());
    }
    timeout(chunks.patience(), sink.close()).await.map_err(late)?.map_err(io_error)
}

/// Takes the datagram of the first frame.
fn take(frames: &mut Bytes) -> Option<Bytes> {
    let len = usize::from(u16::from_be_bytes(*frames.first_chunk()?));
    let frame = (frames.len() >= 2 + len).then(|| frames.split_to(2 + len))?;
    Some(frame.slice(2..))
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        _ => io::ErrorKind::InvalidData.into(),
    }
}

/// One message is one datagram, and none is longer than that of UDP.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(TransmitBuf::MAX_BATCH))
        .max_frame_size(Some(TransmitBuf::MAX_BATCH))
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MOST_WRITTEN)
}

/// Messages handed over at once, at most.
const MESSAGES: usize = 32;
/// Read at once, in bytes.
const READ_BUFFER: usize = 16 << 10;
/// Collected before it is written, in bytes, and the most that may be while the socket takes nothing.
const WRITE_BUFFER: usize = 64 << 10;
const MOST_WRITTEN: usize = 256 << 10;
