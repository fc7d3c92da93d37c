//! Listening for connections.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::carrier::ListenAddr;
use crate::driver::limits::{ACCEPTED_WAITING, NO_DESCRIPTORS};

/// A connection that somebody opened.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
    pub(super) at: ListenAddr,
}

/// A bound socket that accepts connections once it is [started](Self::start).
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    at: ListenAddr,
}

impl Listener {
    /// Binds. Inside of a tokio runtime only.
    pub(crate) fn bind(at: ListenAddr) -> io::Result<Self> {
        let addr = at.addr();
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            // IPv4 has a socket of its own.
            socket.set_only_v6(true)?;
        }
        // A port whose last connections have just been closed can be bound again; elsewhere this would mean more.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let at = at.bound(socket.local_addr()?);
        Ok(Self { socket, at })
    }

    /// Where it listens, with the port that the system chose.
    pub(crate) const fn at(&self) -> ListenAddr {
        self.at
    }

    /// Accepts connections until [`Accepting`] is dropped. When nobody takes them, they wait in the system.
    pub(super) fn start(self, newcomers: mpsc::Sender<Newcomer>) -> Accepting {
        let Self { socket, at } = self;
        let task = tokio::spawn(async move {
            loop {
                match socket.accept().await {
                    Ok((stream, remote)) => {
                        if newcomers.send(Newcomer { stream, remote, at }).await.is_err() {
                            return;
                        }
                    }
                    // The other side gave up at once, or there are no descriptors left: UDP is not troubled by that.
                    Err(_) => tokio::time::sleep(NO_DESCRIPTORS).await,
                }
            }
        });
        Accepting(task.abort_handle())
    }
}

/// A listener at work.
#[derive(Debug)]
pub(super) struct Accepting(AbortHandle);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The queue of all listeners.
pub(super) fn newcomers() -> (mpsc::Sender<Newcomer>, mpsc::Receiver<Newcomer>) {
    mpsc::channel(ACCEPTED_WAITING)
}

/// Connections that the system accepts before we do.
const BACKLOG: i32 = 256;
