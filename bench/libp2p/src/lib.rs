//! libp2p 0.57, over QUIC and over TCP with Noise and Yamux.
//!
//! Its transports and muxers, without its `Swarm`: that adds the negotiation of a protocol to every stream and a way
//! through channels, which makes new streams many times slower. So these figures are better than those of applications
//! that are built as libp2p's documentation says. Each connection has a task of ours that drives its muxer.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, anyhow};
use futures::StreamExt as _;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use harness::{Connection, FramedReceiver, FramedSender, Library, ReceiveStream, SendStream, Settings, Work};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt as _, SubstreamBox};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent};
use libp2p::core::{Endpoint, Transport as _};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Mutex, mpsc, oneshot};

/// What every transport of libp2p can be made to.
pub type Transport = Boxed<(PeerId, StreamMuxerBox)>;

/// Streams that were asked for and are not open yet.
const ASKED: usize = 1024;

/// One of libp2p's transports.
pub trait Kind: Send + Sync + 'static {
    /// In the table.
    const NAME: &'static str;

    /// The transport of whoever has `key`.
    ///
    /// # Errors
    /// When libp2p refuses it.
    fn transport(key: &Keypair) -> Result<Transport>;

    /// The address libp2p's way.
    fn multiaddr(address: SocketAddr) -> Multiaddr;

    /// As in [`Library::limits`].
    fn limits() -> Vec<(&'static str, String)>;
}

/// libp2p over `K`.
pub struct Libp2p<K>(PhantomData<K>);

impl<K> fmt::Debug for Libp2p<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Libp2p")
    }
}

/// A transport, and where it connects to.
#[derive(Debug)]
pub struct Dialer {
    transport: Mutex<Transport>,
    remote: Multiaddr,
}

type Established = std::io::Result<(PeerId, StreamMuxerBox)>;

/// What becomes a connection.
pub struct Incoming(Pin<Box<dyn Future<Output = Established> + Send>>);

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incoming")
    }
}

impl<K: Kind> Library for Libp2p<K> {
    const NAME: &'static str = K::NAME;

    type Listener = Mutex<Transport>;
    type Incoming = Incoming;
    type Dialer = Dialer;
    type Connection = Libp2pConnection;

    fn supports(work: Work) -> bool {
        !matches!(work, Work::Datagrams | Work::Goodput) && !work.resumes()
    }

    fn limits(_: &Settings) -> Vec<(&'static str, String)> {
        K::limits()
    }

    async fn listen(settings: &Settings) -> Result<(Mutex<Transport>, String)> {
        let mut transport = K::transport(&Keypair::generate_ed25519())?;
        transport.listen_on(ListenerId::next(), K::multiaddr((settings.bind, 0).into()))?;
        let address = loop {
            if let Some(TransportEvent::NewAddress { listen_addr, .. }) = transport.next().await {
                break listen_addr;
            }
        };
        Ok((Mutex::new(transport), address.to_string()))
    }

    async fn accept(listener: &Mutex<Transport>) -> Result<Incoming> {
        let mut transport = listener.lock().await;
        loop {
            match transport.next().await.context("the transport is closed")? {
                TransportEvent::Incoming { upgrade, .. } => return Ok(Incoming(Box::pin(upgrade))),
                TransportEvent::ListenerError { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
    }

    async fn establish(incoming: Incoming) -> Result<Libp2pConnection> {
        Ok(Libp2pConnection::new(incoming.0.await?.1))
    }

    async fn dialer(_: &Settings, ticket: &str) -> Result<Dialer> {
        let transport = K::transport(&Keypair::generate_ed25519())?;
        Ok(Dialer { transport: Mutex::new(transport), remote: ticket.parse()? })
    }

    async fn dial(dialer: &Dialer) -> Result<Libp2pConnection> {
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
        let dial = dialer.transport.lock().await.dial(dialer.remote.clone(), options)?;
        Ok(Libp2pConnection::new(dial.await?.1))
    }
}

/// A handle to the task that drives a muxer. The connection ends when its streams and handles are gone, or when closed.
#[derive(Clone, Debug)]
pub struct Libp2pConnection {
    asked: mpsc::Sender<Ask>,
    arrived: Arc<Mutex<mpsc::UnboundedReceiver<SubstreamBox>>>,
}

/// What a handle wants from its task.
#[derive(Debug)]
enum Ask {
    Stream(oneshot::Sender<SubstreamBox>),
    End,
}

/// The task's side of a connection.
struct Driver {
    muxer: StreamMuxerBox,
    asked: mpsc::Receiver<Ask>,
    /// Those that wait for a stream.
    waiting: VecDeque<oneshot::Sender<SubstreamBox>>,
    arrived: mpsc::UnboundedSender<SubstreamBox>,
}

impl Driver {
    /// Does what can be done now. Ready when the connection is to end.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(ask) = self.asked.poll_recv(context) {
            match ask {
                Some(Ask::Stream(reply)) => self.waiting.push_back(reply),
                Some(Ask::End) | None => return Poll::Ready(()),
            }
        }
        while !self.waiting.is_empty() {
            match self.muxer.poll_outbound_unpin(context) {
                Poll::Ready(Ok(stream)) => {
                    if let Some(reply) = self.waiting.pop_front() {
                        let _ = reply.send(stream);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        loop {
            match self.muxer.poll_inbound_unpin(context) {
                Poll::Ready(Ok(stream)) => {
                    // Whoever does not want streams has dropped the other end.
                    let _ = self.arrived.send(stream);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(event) = self.muxer.poll_unpin(context) {
            if event.is_err() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Libp2pConnection {
    fn new(muxer: StreamMuxerBox) -> Self {
        let (asked, asks) = mpsc::channel(ASKED);
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let mut driver = Driver { muxer, asked: asks, waiting: VecDeque::new(), arrived };
        tokio::spawn(async move {
            std::future::poll_fn(|context| driver.poll(context)).await;
            let Driver { muxer, .. } = driver;
            // The other side hears of it, or is gone itself.
            let _ = muxer.close().await;
        });
        Self { asked, arrived: Arc::new(Mutex::new(arrivals)) }
    }
}

impl Connection for Libp2pConnection {
    type Send = Sender;
    type Receive = Receiver;
    type MessageSender = FramedSender<Sender>;
    type MessageReceiver = FramedReceiver<Receiver>;

    async fn open(&self) -> Result<(Sender, Receiver)> {
        let (reply, stream) = oneshot::channel();
        self.asked.send(Ask::Stream(reply)).await.map_err(|_| anyhow!("the connection is over"))?;
        let (receive, send) = stream.await?.split();
        Ok((Sender(send), Receiver(receive)))
    }

    async fn accept(&self) -> Result<Option<(Sender, Receiver)>> {
        let stream = self.arrived.lock().await.recv().await;
        Ok(stream.map(|stream| {
            let (receive, send) = stream.split();
            (Sender(send), Receiver(receive))
        }))
    }

    async fn open_messages(&self, gathered: bool) -> Result<Self::MessageSender> {
        Ok(FramedSender::new(self.open().await?.0, gathered))
    }

    async fn accept_messages(&self) -> Result<Self::MessageReceiver> {
        let (_, receive) = self.accept().await?.context("the connection ended before any message")?;
        Ok(FramedReceiver::new(receive))
    }

    async fn close(self) {
        // Full only when the task is gone.
        let _ = self.asked.send(Ask::End).await;
    }
}

/// The writing half of a stream.
#[derive(Debug)]
pub struct Sender(WriteHalf<SubstreamBox>);

/// The reading half of a stream.
#[derive(Debug)]
pub struct Receiver(ReadHalf<SubstreamBox>);

impl SendStream for Sender {
    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

impl ReceiveStream for Receiver {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.0.read(buffer).await?)
    }
}
