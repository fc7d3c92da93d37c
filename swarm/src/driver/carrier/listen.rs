//! Listening for connections.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

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
        let (failed, failures) = watch::channel(None);
        let task = tokio::spawn(async move {
            loop {
                let error = match socket.accept().await {
                    Ok((stream, remote)) => {
                        if newcomers.send(Newcomer { stream, remote, at }).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    Err(error) => error.kind(),
                };
                // The other side may have given up at once, which is no fault here. Or there are no descriptors left: UDP is
                // not troubled by that.
                if error != io::ErrorKind::ConnectionAborted {
                    failed.send_replace(Some(error));
                }
                tokio::time::sleep(NO_DESCRIPTORS).await;
            }
        });
        Accepting { at, task: Some(task), failures }
    }
}

/// A listener at work.
#[derive(Debug)]
pub(super) struct Accepting {
    at: ListenAddr,
    /// Until it is stopped.
    task: Option<JoinHandle<()>>,
    failures: watch::Receiver<Option<io::ErrorKind>>,
}

impl Accepting {
    /// Where it listens.
    pub(super) const fn at(&self) -> ListenAddr {
        self.at
    }

    /// The last error of accepting since this was asked before.
    pub(super) fn take_failure(&mut self) -> Option<io::ErrorKind> {
        let is_news = self.failures.has_changed().is_ok_and(|changed| changed);
        is_news.then(|| *self.failures.borrow_and_update()).flatten()
    }

    /// Accepts no more. The port is free when the task has ended.
    pub(super) fn stop(mut self) -> Option<JoinHandle<()>> {
        let task = self.task.take()?;
        task.abort();
        Some(task)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The queue of all listeners.
pub(super) fn newcomers() -> (mpsc::Sender<Newcomer>, mpsc::Receiver<Newcomer>) {
    mpsc::channel(ACCEPTED_WAITING)
}

/// Connections that the system accepts before we do.
const BACKLOG: i32 = 256;
