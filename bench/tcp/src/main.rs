//! Plain TCP: no encryption, no streams. What the kernel does alone.
//!
//! Each stream is a TCP connection, so "a new stream" costs a handshake, and the first belongs to what
//! [`Library::dial`] returns.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use harness::{Connection, FramedReceiver, FramedSender, Io, Library, Mtu, Settings, Work, machine};
use socket2::SockRef;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

fn main() -> ExitCode {
    harness::run::<Tcp>()
}

/// Data bytes of a segment in an IP packet as large as one with a UDP payload of 1452 bytes: 1480 less both headers.
const INTERNET_MSS: u32 = 1440;

#[derive(Debug)]
struct Tcp;

/// A place to connect to.
#[derive(Clone, Copy, Debug)]
struct Place {
    address: SocketAddr,
    mtu: Mtu,
}

impl Place {
    async fn connect(self) -> Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if self.mtu == Mtu::Internet {
            SockRef::from(&socket).set_tcp_mss(INTERNET_MSS)?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[derive(Clone, Debug)]
struct TcpConnection {
    /// The connection that [`Library::dial`] made or [`Library::accept`] found.
    first: Arc<Mutex<Option<TcpStream>>>,
    /// Where more go to; nowhere on the server.
    place: Option<Place>,
}

impl TcpConnection {
    fn new(first: TcpStream, place: Option<Place>) -> Self {
        Self { first: Arc::new(Mutex::new(Some(first))), place }
    }

    fn first(&self) -> Option<TcpStream> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn split(stream: TcpStream) -> (Io<OwnedWriteHalf>, Io<OwnedReadHalf>) {
    let (read, write) = stream.into_split();
    (Io(write), Io(read))
}

impl Library for Tcp {
    const NAME: &'static str = "tcp";

    type Listener = TcpListener;
    type Incoming = TcpStream;
    type Dialer = Place;
    type Connection = TcpConnection;

    fn supports(work: Work) -> bool {
        !matches!(work, Work::Datagrams | Work::Goodput) && !work.resumes()
    }

    fn limits(settings: &Settings) -> Vec<(&'static str, String)> {
        let segment = match settings.mtu() {
            Mtu::Internet => format!("segments of {INTERNET_MSS} bytes"),
            Mtu::Free => "segments as large as the device takes".to_owned(),
        };
        vec![
            ("cipher", "none".to_owned()),
            ("congestion control", machine::tcp_congestion_control()),
            ("mtu", segment),
            ("socket buffers", "sized by the kernel".to_owned()),
            ("other", "TCP_NODELAY".to_owned()),
        ]
    }

    async fn listen(settings: &Settings) -> Result<(TcpListener, String)> {
        let listener = TcpListener::bind((settings.bind, 0)).await?;
        if settings.mtu() == Mtu::Internet {
            SockRef::from(&listener).set_tcp_mss(INTERNET_MSS)?;
        }
        let address = listener.local_addr()?.to_string();
        Ok((listener, address))
    }

    async fn accept(listener: &TcpListener) -> Result<TcpStream> {
        Ok(listener.accept().await?.0)
    }

    async fn establish(incoming: TcpStream) -> Result<TcpConnection> {
        incoming.set_nodelay(true)?;
        Ok(TcpConnection::new(incoming, None))
    }

    async fn dialer(settings: &Settings, ticket: &str) -> Result<Place> {
        Ok(Place { address: ticket.parse()?, mtu: settings.mtu() })
    }

    async fn dial(place: &Place) -> Result<TcpConnection> {
        Ok(TcpConnection::new(place.connect().await?, Some(*place)))
    }
}

impl Connection for TcpConnection {
    type Send = Io<OwnedWriteHalf>;
    type Receive = Io<OwnedReadHalf>;
    type MessageSender = FramedSender<Self::Send>;
    type MessageReceiver = FramedReceiver<Self::Receive>;

    async fn open(&self) -> Result<(Self::Send, Self::Receive)> {
        match (self.first(), self.place) {
            (Some(stream), _) => Ok(split(stream)),
            (None, Some(place)) => Ok(split(place.connect().await?)),
            (None, None) => anyhow::bail!("the server does not connect"),
        }
    }

    async fn accept(&self) -> Result<Option<(Self::Send, Self::Receive)>> {
        Ok(self.first().map(split))
    }

    async fn open_messages(&self, gathered: bool) -> Result<Self::MessageSender> {
        Ok(FramedSender::new(self.open().await?.0, gathered))
    }

    async fn accept_messages(&self) -> Result<Self::MessageReceiver> {
        let stream = self.first().ok_or_else(|| anyhow::anyhow!("there are no messages after the first"))?;
        Ok(FramedReceiver::new(split(stream).1))
    }

    async fn close(self) {}
}
