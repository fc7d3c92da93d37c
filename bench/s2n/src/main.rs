//! s2n-quic 1.
//!
//! Settings that are not the defaults, each because it is faster here: datagrams begin at the size they would grow to,
//! socket buffers are larger. With a free MTU datagrams are as large as s2n-quic allows, 9000 bytes.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use harness::work::INTERNET_MTU;
use harness::{
    Connection, FramedReceiver, FramedSender, Library, Mtu, ReceiveStream, SendStream, Settings, Work, machine,
};
use s2n_quic::client::Connect;
use s2n_quic::connection::{self, Handle, StreamAcceptor};
use s2n_quic::provider::datagram::default as datagrams;
use s2n_quic::provider::{io, limits, tls};
use s2n_quic::stream::{BidirectionalStream, ReceiveStream as S2nReceive, SendStream as S2nSend};
use s2n_quic::{Client, Server, application};
use tokio::sync::Mutex;

fn main() -> ExitCode {
    harness::run::<S2n>()
}

/// The name in the certificate.
const NAME: &str = "localhost";

/// Bytes of the headers of IPv4 and UDP, which s2n-quic counts in.
const HEADERS: u16 = 28;

/// The largest packet.
const JUMBO: u16 = 9000;

/// Streams at the same time.
const STREAMS: u64 = 1024;

/// Datagrams that wait on either side.
const DATAGRAMS: usize = 1024;

#[derive(Debug)]
struct S2n;

#[derive(Debug)]
struct Dialer {
    client: Client,
    remote: SocketAddr,
}

#[derive(Clone, Debug)]
struct S2nConnection {
    handle: Handle,
    acceptor: Arc<Mutex<StreamAcceptor>>,
}

#[derive(Debug)]
struct Sender(S2nSend);

/// A stream, and the chunks of it that were taken from the library at a time.
#[derive(Debug)]
struct Receiver {
    stream: S2nReceive,
    chunks: [Bytes; 64],
    /// What did not fit into the buffer of the last read.
    rest: Bytes,
}

impl From<connection::Connection> for S2nConnection {
    fn from(connection: connection::Connection) -> Self {
        let (handle, acceptor) = connection.split();
        Self { handle, acceptor: Arc::new(Mutex::new(acceptor)) }
    }
}

fn split(stream: BidirectionalStream) -> (Sender, Receiver) {
    let (receive, send) = stream.split();
    (Sender(send), Receiver { stream: receive, chunks: [const { Bytes::new() }; 64], rest: Bytes::new() })
}

const fn mtu(settings: &Settings) -> u16 {
    match settings.mtu() {
        Mtu::Internet => INTERNET_MTU + HEADERS,
        Mtu::Free => JUMBO,
    }
}

fn io(settings: &Settings) -> Result<io::Default> {
    Ok(io::Default::builder()
        .with_receive_address((settings.bind, 0).into())?
        .with_send_buffer_size(machine::SOCKET_BUFFER)?
        .with_recv_buffer_size(machine::SOCKET_BUFFER)?
        .with_max_mtu(mtu(settings))?
        .with_initial_mtu(mtu(settings))?
        .build()?)
}

fn limits() -> Result<limits::Limits> {
    Ok(limits::Limits::new()
        .with_max_open_local_bidirectional_streams(STREAMS)?
        .with_max_open_remote_bidirectional_streams(STREAMS)?
        // Idle connections must outlive the measurement; there are no keep-alives.
        .with_max_idle_timeout(Duration::from_secs(120))?)
}

/// Room for datagrams is there from the start, so only who uses them should have it.
fn datagrams(settings: &Settings) -> Result<datagrams::Endpoint> {
    let room = if settings.work == Work::Datagrams { DATAGRAMS } else { 1 };
    Ok(datagrams::Endpoint::builder().with_send_capacity(room)?.with_recv_capacity(room)?.build()?)
}

impl Library for S2n {
    const NAME: &'static str = "s2n-quic";

    type Listener = Mutex<Server>;
    type Incoming = connection::Connection;
    type Dialer = Dialer;
    type Connection = S2nConnection;

    fn supports(work: Work) -> bool {
        // Resumption is not offered without its unstable parts.
        !work.resumes()
    }

    fn limits(settings: &Settings) -> Vec<(&'static str, String)> {
        vec![
            ("cipher", "s2n-tls with AWS-LC, its default policy (AES-GCM first)".to_owned()),
            ("identity", "server only, ECDSA P-256 certificate".to_owned()),
            ("congestion control", "Cubic".to_owned()),
            ("mtu", format!("{} from the start", mtu(settings) - HEADERS)),
            ("windows", "the defaults".to_owned()),
            ("socket buffers", machine::udp_buffers()),
        ]
    }

    async fn listen(settings: &Settings) -> Result<(Mutex<Server>, String)> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
        let tls = tls::default::Server::builder()
            .with_certificate(certificate.pem().as_str(), key.serialize_pem().as_str())
            .map_err(|error| anyhow!("{error}"))?
            .build()
            .map_err(|error| anyhow!("{error}"))?;
        let server = Server::builder()
            .with_tls(tls)?
            .with_io(io(settings)?)?
            .with_limits(limits()?)?
            .with_datagram(datagrams(settings)?)?
            .start()?;
        let hex: String = certificate.pem().bytes().map(|byte| format!("{byte:02x}")).collect();
        let ticket = format!("{}/{hex}", server.local_addr()?);
        Ok((Mutex::new(server), ticket))
    }

    async fn accept(listener: &Mutex<Server>) -> Result<connection::Connection> {
        listener.lock().await.accept().await.context("the endpoint is closed")
    }

    /// Connections come with their handshakes finished.
    async fn establish(incoming: connection::Connection) -> Result<S2nConnection> {
        Ok(incoming.into())
    }

    async fn dialer(settings: &Settings, ticket: &str) -> Result<Dialer> {
        let (remote, hex) = ticket.split_once('/').context("a ticket without certificate")?;
        let certificate: Result<Vec<u8>, _> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(hex.get(i..i + 2).unwrap_or("no"), 16)).collect();
        let certificate = String::from_utf8(certificate?)?;
        let tls = tls::default::Client::builder()
            .with_certificate(certificate.as_str())
            .map_err(|error| anyhow!("{error}"))?
            .build()
            .map_err(|error| anyhow!("{error}"))?;
        let client = Client::builder()
            .with_tls(tls)?
            .with_io(io(settings)?)?
            .with_limits(limits()?)?
            .with_datagram(datagrams(settings)?)?
            .start()?;
        Ok(Dialer { client, remote: remote.parse()? })
    }

    async fn dial(dialer: &Dialer) -> Result<S2nConnection> {
        let connect = Connect::new(dialer.remote).with_server_name(NAME);
        Ok(dialer.client.connect(connect).await?.into())
    }
}

impl Connection for S2nConnection {
    type Send = Sender;
    type Receive = Receiver;
    type MessageSender = FramedSender<Sender>;
    type MessageReceiver = FramedReceiver<Receiver>;

    async fn open(&self) -> Result<(Sender, Receiver)> {
        Ok(split(self.handle.clone().open_bidirectional_stream().await?))
    }

    async fn accept(&self) -> Result<Option<(Sender, Receiver)>> {
        match self.acceptor.lock().await.accept_bidirectional_stream().await {
            Ok(stream) => Ok(stream.map(split)),
            Err(connection::Error::Application { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn open_messages(&self, gathered: bool) -> Result<Self::MessageSender> {
        Ok(FramedSender::new(self.open().await?.0, gathered))
    }

    async fn accept_messages(&self) -> Result<Self::MessageReceiver> {
        let (_, receive) = self.accept().await?.context("the connection ended before any message")?;
        Ok(FramedReceiver::new(receive))
    }

    async fn send_datagram(&self, bytes: &[u8]) -> Result<()> {
        let mut bytes = Bytes::copy_from_slice(bytes);
        std::future::poll_fn(|context| {
            let sent = self
                .handle
                .datagram_mut(|sender: &mut datagrams::Sender| sender.poll_send_datagram(&mut bytes, context));
            match sent {
                Ok(sent) => sent.map_err(|error| anyhow!("{error}")),
                Err(error) => Poll::Ready(Err(anyhow!("{error}"))),
            }
        })
        .await
    }

    async fn receive_datagrams(&self, mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        std::future::poll_fn(|context| {
            let received = self.handle.datagram_mut(|receiver: &mut datagrams::Receiver| {
                let first = std::task::ready!(receiver.poll_recv_datagram(context));
                Poll::Ready(first.map(|first| {
                    take(&first);
                    while let Some(next) = receiver.recv_datagram() {
                        take(&next);
                    }
                }))
            });
            match received {
                // The connection is over.
                Ok(received) => received.map(|received| Ok(received.is_ok())),
                Err(error) => Poll::Ready(Err(anyhow!("{error}"))),
            }
        })
        .await
    }

    async fn close(self) {
        self.handle.close(application::Error::UNKNOWN);
    }
}

impl SendStream for Sender {
    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.send(Bytes::copy_from_slice(bytes)).await?)
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(self.0.finish()?)
    }
}

impl ReceiveStream for Receiver {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.rest.is_empty() {
            match self.stream.receive().await? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let taken = self.rest.split_to(self.rest.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }

    /// Without copying: s2n-quic has it in buffers already.
    async fn drain(&mut self, _: &mut [u8], mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let (count, open) = self.stream.receive_vectored(&mut self.chunks).await?;
        for chunk in &mut self.chunks[..count] {
            take(&std::mem::take(chunk));
        }
        Ok(open)
    }
}
