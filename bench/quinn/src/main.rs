//! quinn 0.11.
//!
//! Settings that are not the defaults, each because it is faster here: datagrams begin at the 1452 bytes they would grow
//! to, and socket buffers are larger. Jumbo datagrams make quinn slower on loopback, so the work with a free MTU has the
//! same 1452 bytes. Windows beyond the default of 1.25 MB make it slower too, and small writes want a smaller one: see
//! [`SMALL_SEND_WINDOW`].

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use harness::work::INTERNET_MTU;
use harness::{Connection, FramedReceiver, FramedSender, Library, ReceiveStream, SendStream, Settings, Work, machine};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

fn main() -> ExitCode {
    harness::run::<Quinn>()
}

/// The name in the certificate, and the protocol.
const NAME: &str = "localhost";
const PROTOCOL: &[u8] = b"bench";

/// Bytes in flight on a stream or a connection: the default of a stream.
const WINDOW: u32 = 1_250_000;

/// The same where every write is small. quinn walks over all writes in flight for each packet, so more of them cost more
/// than they gain: of 8 KiB to 8 MiB this was the fastest, at six times the messages of the default.
const SMALL_SEND_WINDOW: u64 = 64 * 1024;

/// Streams at the same time.
const STREAMS: u32 = 1024;

#[derive(Debug)]
struct Quinn;

/// What connects.
#[derive(Debug)]
struct Dialer {
    endpoint: Endpoint,
    remote: SocketAddr,
    resume: bool,
}

#[derive(Clone, Debug)]
struct QuinnConnection(quinn::Connection);

#[derive(Debug)]
struct Sender(quinn::SendStream);

#[derive(Debug)]
struct Receiver(quinn::RecvStream);

fn send_window(work: Work) -> u64 {
    match work {
        Work::Messages { size: 0..=256, gathered: false } => SMALL_SEND_WINDOW,
        _ => WINDOW.into(),
    }
}

fn transport(settings: &Settings) -> Result<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(INTERNET_MTU);
    let mut transport = TransportConfig::default();
    transport
        .initial_mtu(INTERNET_MTU)
        .mtu_discovery_config(Some(mtu))
        .stream_receive_window(WINDOW.into())
        .receive_window(WINDOW.into())
        .send_window(send_window(settings.work))
        .datagram_receive_buffer_size(Some(WINDOW as usize))
        .datagram_send_buffer_size(1024 * 1024)
        .max_concurrent_bidi_streams(STREAMS.into())
        // Idle connections must outlive the measurement; there are no keep-alives.
        .max_idle_timeout(Some(Duration::from_secs(120).try_into()?));
    Ok(transport)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn endpoint(settings: &Settings, server: Option<ServerConfig>) -> Result<Endpoint> {
    let socket = machine::udp_socket((settings.bind, 0).into())?;
    Ok(Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime))?)
}

impl Library for Quinn {
    const NAME: &'static str = "quinn";

    type Listener = Endpoint;
    type Incoming = quinn::Incoming;
    type Dialer = Dialer;
    type Connection = QuinnConnection;

    fn supports(_: Work) -> bool {
        true
    }

    fn limits(settings: &Settings) -> Vec<(&'static str, String)> {
        vec![
            ("cipher", "AES-256-GCM by ring, the first choice of rustls".to_owned()),
            ("identity", "server only, Ed25519 certificate".to_owned()),
            ("congestion control", "Cubic".to_owned()),
            ("mtu", format!("{INTERNET_MTU} from the start")),
            ("windows", format!("{} KiB, sending {} KiB", WINDOW / 1024, send_window(settings.work) / 1024)),
            ("socket buffers", machine::udp_buffers()),
            ("resumption", "TLS 1.3 ticket, request as 0-RTT".to_owned()),
        ]
    }

    async fn listen(settings: &Settings) -> Result<(Endpoint, String)> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
        let certificate = certificate.der().clone();
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
        tls.alpn_protocols = vec![PROTOCOL.to_vec()];
        if settings.work.resumes() {
            tls.max_early_data_size = u32::MAX;
        } else {
            tls.send_tls13_tickets = 0;
        }
        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        server.transport_config(Arc::new(transport(settings)?));
        let endpoint = endpoint(settings, Some(server))?;
        let hex: String = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
        let ticket = format!("{}/{hex}", endpoint.local_addr()?);
        Ok((endpoint, ticket))
    }

    async fn accept(listener: &Endpoint) -> Result<quinn::Incoming> {
        listener.accept().await.context("the endpoint is closed")
    }

    async fn establish(incoming: quinn::Incoming) -> Result<QuinnConnection> {
        Ok(QuinnConnection(incoming.await?))
    }

    async fn dialer(settings: &Settings, ticket: &str) -> Result<Dialer> {
        let (remote, hex) = ticket.split_once('/').context("a ticket without certificate")?;
        let certificate: Result<Vec<u8>, _> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(hex.get(i..i + 2).unwrap_or("no"), 16)).collect();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(certificate?))?;
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![PROTOCOL.to_vec()];
        let resume = settings.work.resumes();
        if resume {
            tls.enable_early_data = true;
        } else {
            tls.resumption = rustls::client::Resumption::disabled();
        }
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        client.transport_config(Arc::new(transport(settings)?));
        let mut endpoint = endpoint(settings, None)?;
        endpoint.set_default_client_config(client);
        Ok(Dialer { endpoint, remote: remote.parse()?, resume })
    }

    async fn dial(dialer: &Dialer) -> Result<QuinnConnection> {
        let connecting = dialer.endpoint.connect(dialer.remote, NAME)?;
        let connecting = if dialer.resume {
            match connecting.into_0rtt() {
                Ok((connection, _)) => return Ok(QuinnConnection(connection)),
                // Only the first has no ticket.
                Err(connecting) => connecting,
            }
        } else {
            connecting
        };
        Ok(QuinnConnection(connecting.await?))
    }
}

impl Connection for QuinnConnection {
    type Send = Sender;
    type Receive = Receiver;
    type MessageSender = FramedSender<Sender>;
    type MessageReceiver = FramedReceiver<Receiver>;

    async fn open(&self) -> Result<(Sender, Receiver)> {
        let (send, receive) = self.0.open_bi().await?;
        Ok((Sender(send), Receiver(receive)))
    }

    async fn accept(&self) -> Result<Option<(Sender, Receiver)>> {
        match self.0.accept_bi().await {
            Ok((send, receive)) => Ok(Some((Sender(send), Receiver(receive)))),
            Err(quinn::ConnectionError::ApplicationClosed(_)) => Ok(None),
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
        Ok(self.0.send_datagram_wait(Bytes::copy_from_slice(bytes)).await?)
    }

    async fn receive_datagrams(&self, mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        match self.0.read_datagram().await {
            Ok(datagram) => take(&datagram),
            Err(quinn::ConnectionError::ApplicationClosed(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    async fn close(self) {
        self.0.close(VarInt::from_u32(0), b"");
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

    /// Without copying: quinn has it in buffers already.
    async fn drain(&mut self, _: &mut [u8], mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let chunk = self.0.read_chunk(64 * 1024, true).await?;
        if let Some(chunk) = &chunk {
            take(&chunk.bytes);
        }
        Ok(chunk.is_some())
    }
}
