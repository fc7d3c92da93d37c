//! iroh 1, without relays and address lookup: both ends know each other's address.
//!
//! Settings that are not the defaults, each because it is faster here: datagrams begin at the 1452 bytes they would grow
//! to. Keep-alives, several paths and the rest of what makes connections through NATs are left as they are. Its sockets
//! have the buffers iroh gives them, which cannot be set.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use harness::work::INTERNET_MTU;
use harness::{Connection, FramedReceiver, FramedSender, Library, ReceiveStream, SendStream, Settings, Work};
use iroh::endpoint::{
    ConnectionError, Incoming, MtuDiscoveryConfig, OutgoingZeroRttConnection, QuicTransportConfig, RecvStream, VarInt,
    presets,
};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};

fn main() -> ExitCode {
    harness::run::<Iroh>()
}

const PROTOCOL: &[u8] = b"bench";

/// Streams at the same time.
const STREAMS: u32 = 1024;

/// Datagrams taken at a time.
const DATAGRAMS: usize = 64;

#[derive(Debug)]
struct Iroh;

#[derive(Debug)]
struct Dialer {
    endpoint: Endpoint,
    remote: EndpointAddr,
    resume: bool,
}

/// A connection whose handshake is finished, or one that may send before.
#[derive(Clone, Debug)]
enum IrohConnection {
    Full(iroh::endpoint::Connection),
    Early(OutgoingZeroRttConnection),
}

#[derive(Debug)]
struct Sender(iroh::endpoint::SendStream);

#[derive(Debug)]
struct Receiver(RecvStream);

async fn bind(settings: &Settings) -> Result<Endpoint> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(INTERNET_MTU);
    let transport = QuicTransportConfig::builder()
        .initial_mtu(INTERNET_MTU)
        .mtu_discovery_config(Some(mtu))
        .max_concurrent_bidi_streams(STREAMS.into())
        .build();
    let address: SocketAddr = (settings.bind, 0).into();
    let builder = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .clear_ip_transports()
        .transport_config(transport)
        .alpns(vec![PROTOCOL.to_vec()]);
    // What is full in one work must not be resumed.
    let builder = if settings.work.resumes() { builder } else { builder.max_tls_tickets(0) };
    let builder = match address {
        SocketAddr::V4(address) => builder.bind_addr::<SocketAddrV4>(address)?,
        SocketAddr::V6(address) => builder.bind_addr::<SocketAddrV6>(address)?,
    };
    Ok(builder.bind().await?)
}

impl Library for Iroh {
    const NAME: &'static str = "iroh";

    type Listener = Endpoint;
    type Incoming = Incoming;
    type Dialer = Dialer;
    type Connection = IrohConnection;

    fn supports(_: Work) -> bool {
        true
    }

    fn limits(_: &Settings) -> Vec<(&'static str, String)> {
        vec![
            ("cipher", "AES-256-GCM by ring, the first choice of rustls".to_owned()),
            ("identity", "both sides, Ed25519 public keys".to_owned()),
            ("congestion control", "the default".to_owned()),
            ("mtu", format!("{INTERNET_MTU} from the start")),
            ("windows", "the defaults".to_owned()),
            ("socket buffers", "set by iroh".to_owned()),
            ("keep-alive", "5 s, the default".to_owned()),
            ("resumption", "TLS 1.3 ticket, request as 0-RTT".to_owned()),
        ]
    }

    async fn listen(settings: &Settings) -> Result<(Endpoint, String)> {
        let endpoint = bind(settings).await?;
        let address = *endpoint.bound_sockets().first().context("no socket")?;
        let ticket = format!("{address}/{}", endpoint.id());
        Ok((endpoint, ticket))
    }

    async fn accept(listener: &Endpoint) -> Result<Incoming> {
        listener.accept().await.context("the endpoint is closed")
    }

    async fn establish(incoming: Incoming) -> Result<IrohConnection> {
        Ok(IrohConnection::Full(incoming.await?))
    }

    async fn dialer(settings: &Settings, ticket: &str) -> Result<Dialer> {
        let (address, id) = ticket.split_once('/').context("a ticket without id")?;
        let id: EndpointId = id.parse()?;
        let remote = EndpointAddr::new(id).with_ip_addr(address.parse()?);
        Ok(Dialer { endpoint: bind(settings).await?, remote, resume: settings.work.resumes() })
    }

    async fn dial(dialer: &Dialer) -> Result<IrohConnection> {
        let connecting = dialer.endpoint.connect_with_opts(dialer.remote.clone(), PROTOCOL, Default::default()).await?;
        if !dialer.resume {
            return Ok(IrohConnection::Full(connecting.await?));
        }
        match connecting.into_0rtt() {
            Ok(early) => Ok(IrohConnection::Early(early)),
            // Only the first has no ticket.
            Err(connecting) => Ok(IrohConnection::Full(connecting.await?)),
        }
    }
}

impl IrohConnection {
    fn full(&self) -> Result<&iroh::endpoint::Connection> {
        match self {
            Self::Full(connection) => Ok(connection),
            Self::Early(_) => anyhow::bail!("this work is not done before a handshake ends"),
        }
    }
}

impl Connection for IrohConnection {
    type Send = Sender;
    type Receive = Receiver;
    type MessageSender = FramedSender<Sender>;
    type MessageReceiver = FramedReceiver<Receiver>;

    async fn open(&self) -> Result<(Sender, Receiver)> {
        let (send, receive) = match self {
            Self::Full(connection) => connection.open_bi().await?,
            Self::Early(connection) => connection.open_bi().await?,
        };
        Ok((Sender(send), Receiver(receive)))
    }

    async fn accept(&self) -> Result<Option<(Sender, Receiver)>> {
        match self.full()?.accept_bi().await {
            Ok((send, receive)) => Ok(Some((Sender(send), Receiver(receive)))),
            Err(ConnectionError::ApplicationClosed(_)) => Ok(None),
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
        Ok(self.full()?.send_datagram_wait(Bytes::copy_from_slice(bytes)).await?)
    }

    async fn receive_datagrams(&self, mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let mut datagrams = [const { Bytes::new() }; DATAGRAMS];
        let count = match self.full()?.read_many_datagrams(&mut datagrams).await {
            Ok(count) => count,
            Err(ConnectionError::ApplicationClosed(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        datagrams.iter().take(count).for_each(|datagram| take(datagram));
        Ok(true)
    }

    async fn close(self) {
        match self {
            Self::Full(connection) => connection.close(VarInt::from_u32(0), b""),
            Self::Early(connection) => connection.close(VarInt::from_u32(0), b""),
        }
    }
}

impl SendStream for Sender {
    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(self.0.finish()?)
    }
}

impl ReceiveStream for Receiver {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.0.read(buffer).await?.unwrap_or(0))
    }

    /// Without copying: iroh has it in buffers already.
    async fn drain(&mut self, _: &mut [u8], mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let chunk = self.0.read_chunk(64 * 1024).await?;
        if let Some(chunk) = &chunk {
            take(chunk);
        }
        Ok(chunk.is_some())
    }
}
