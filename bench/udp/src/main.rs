//! Bare UDP through tokio: no encryption, no reliability, no order. The floor below every latency of the others.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use harness::{Connection, FramedReceiver, FramedSender, Library, ReceiveStream, SendStream, Settings, Work, machine};
use tokio::io::Interest;
use tokio::net::UdpSocket;

fn main() -> ExitCode {
    harness::run::<Udp>()
}

/// Bytes of the largest datagram.
const LARGEST: usize = 64 * 1024;

#[derive(Debug)]
struct Udp;

/// A connected socket that passes for a connection, and for both halves of a stream.
#[derive(Clone, Debug)]
struct Socket(Arc<UdpSocket>);

/// A socket, and where it will connect to.
#[derive(Debug)]
struct Dialer {
    local: SocketAddr,
    remote: SocketAddr,
}

impl Library for Udp {
    const NAME: &'static str = "udp";

    type Listener = Arc<UdpSocket>;
    type Incoming = Socket;
    type Dialer = Dialer;
    type Connection = Socket;

    fn supports(work: Work) -> bool {
        matches!(work, Work::PingPong | Work::Datagrams)
    }

    fn limits(_: &Settings) -> Vec<(&'static str, String)> {
        vec![
            ("cipher", "none".to_owned()),
            ("congestion control", "none".to_owned()),
            ("mtu", "a datagram for each write".to_owned()),
            ("socket buffers", machine::udp_buffers()),
        ]
    }

    async fn listen(settings: &Settings) -> Result<(Arc<UdpSocket>, String)> {
        let socket = UdpSocket::from_std(machine::udp_socket((settings.bind, 0).into())?)?;
        let address = socket.local_addr()?.to_string();
        Ok((Arc::new(socket), address))
    }

    /// The first datagram is the connection, and there is only one.
    async fn accept(listener: &Arc<UdpSocket>) -> Result<Socket> {
        if listener.peer_addr().is_ok() {
            std::future::pending::<()>().await;
        }
        let (_, remote) = listener.peek_from(&mut [0; LARGEST]).await?;
        listener.connect(remote).await?;
        Ok(Socket(Arc::clone(listener)))
    }

    async fn establish(incoming: Socket) -> Result<Socket> {
        Ok(incoming)
    }

    async fn dialer(settings: &Settings, ticket: &str) -> Result<Dialer> {
        Ok(Dialer { local: (settings.bind, 0).into(), remote: ticket.parse()? })
    }

    async fn dial(dialer: &Dialer) -> Result<Socket> {
        let socket = UdpSocket::from_std(machine::udp_socket(dialer.local)?)?;
        socket.connect(dialer.remote).await?;
        Ok(Socket(Arc::new(socket)))
    }
}

impl Connection for Socket {
    type Send = Self;
    type Receive = Self;
    type MessageSender = FramedSender<Self>;
    type MessageReceiver = FramedReceiver<Self>;

    async fn open(&self) -> Result<(Self, Self)> {
        Ok((self.clone(), self.clone()))
    }

    async fn accept(&self) -> Result<Option<(Self, Self)>> {
        Ok(Some((self.clone(), self.clone())))
    }

    async fn open_messages(&self, _: bool) -> Result<Self::MessageSender> {
        bail!("datagrams are not reliable")
    }

    async fn accept_messages(&self) -> Result<Self::MessageReceiver> {
        bail!("datagrams are not reliable")
    }

    async fn send_datagram(&self, bytes: &[u8]) -> Result<()> {
        self.0.send(bytes).await?;
        Ok(())
    }

    async fn receive_datagrams(&self, mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let mut buffer = [0; 2048];
        let length = self.0.recv(&mut buffer).await?;
        take(&buffer[..length]);
        // What is there already, without asking the runtime again.
        while let Ok(length) = self.0.try_io(Interest::READABLE, || self.0.try_recv(&mut buffer)) {
            take(&buffer[..length]);
        }
        Ok(true)
    }

    async fn close(self) {}
}

impl SendStream for Socket {
    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.send(bytes).await?;
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

impl ReceiveStream for Socket {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.0.recv(buffer).await?)
    }
}
