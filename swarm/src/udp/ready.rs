//! When a socket can be read, and when it takes more.
//!
//! A socket that is registered for both tells of room whenever a datagram of ours was taken from the other side's queue,
//! if the kernel is asked for that: on the loopback interface after each, and this process sleeps and wakes once more for
//! nothing in every round trip. So room is asked for only while there is none, by a second registration.

#![expect(clippy::disallowed_types, reason = "the socket of the driver")]

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use quinn_udp::UdpSockRef;
use socket2::SockRef;
use tokio::io::Interest;

#[cfg(not(unix))]
pub(super) use self::always::Ready;
#[cfg(unix)]
pub(super) use self::on_demand::Ready;

#[cfg(unix)]
mod on_demand {
    use std::net::UdpSocket;
    use std::os::fd::{AsFd, BorrowedFd};

    use tokio::io::unix::AsyncFd;

    use super::*;

    #[expect(
        deprecated,
        reason = "what takes its place is unsafe for types that may change their descriptor; this cannot"
    )]
    fn register(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
        AsyncFd::with_interest(socket, interest)
    }

    /// A socket that does not block.
    #[derive(Debug)]
    pub(in super::super) struct Ready {
        io: AsyncFd<UdpSocket>,
        /// The same socket, while it has no room.
        full: Option<AsyncFd<UdpSocket>>,
    }

    impl Ready {
        pub(in super::super) fn new(socket: UdpSocket) -> io::Result<Self> {
            Ok(Self { io: register(socket, Interest::READABLE)?, full: None })
        }

        pub(in super::super) fn local_addr(&self) -> io::Result<SocketAddr> {
            self.io.get_ref().local_addr()
        }

        pub(in super::super) fn udp(&self) -> UdpSockRef<'_> {
            self.io.get_ref().into()
        }

        pub(in super::super) fn socket(&self) -> SockRef<'_> {
            self.io.get_ref().into()
        }

        /// Reads, unless it is known that there is nothing. `read` says so by [`io::ErrorKind::WouldBlock`].
        pub(in super::super) fn try_read(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
            self.io.try_io(Interest::READABLE, |_| read())
        }

        /// Writes, unless it is known that there is no room.
        pub(in super::super) fn try_write(&mut self, write: impl FnOnce(&Self) -> io::Result<()>) -> io::Result<()> {
            if let Some(full) = &self.full {
                // What is ready once stays so until it is used up, as it is with this.
                full.try_io(Interest::WRITABLE, |_| Ok(()))?;
                self.full = None;
            }
            let written = write(self);
            if matches!(&written, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                let same = self.io.get_ref().try_clone()?;
                self.full = Some(register(same, Interest::WRITABLE)?);
            }
            written
        }

        /// Ready when there may be something to read, or the runtime ends. For one task: the last to ask is woken.
        pub(in super::super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
            self.io.poll_read_ready(cx).map(drop)
        }

        /// The same for room to write.
        pub(in super::super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
            self.full.as_ref().map_or(Poll::Ready(()), |full| full.poll_write_ready(cx).map(drop))
        }
    }

    impl AsFd for Ready {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.io.as_fd()
        }
    }
}

#[cfg(not(unix))]
mod always {
    use tokio::net::UdpSocket;

    use super::*;

    /// A socket that does not block.
    #[derive(Debug)]
    pub(in super::super) struct Ready(UdpSocket);

    impl Ready {
        pub(in super::super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
            UdpSocket::from_std(socket).map(Self)
        }

        pub(in super::super) fn local_addr(&self) -> io::Result<SocketAddr> {
            self.0.local_addr()
        }

        pub(in super::super) fn udp(&self) -> UdpSockRef<'_> {
            (&self.0).into()
        }

        pub(in super::super) fn socket(&self) -> SockRef<'_> {
            (&self.0).into()
        }

        /// Reads, unless it is known that there is nothing. `read` says so by [`io::ErrorKind::WouldBlock`].
        pub(in super::super) fn try_read(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
            self.0.try_io(Interest::READABLE, read)
        }

        /// Writes, unless it is known that there is no room.
        pub(in super::super) fn try_write(&mut self, write: impl FnOnce(&Self) -> io::Result<()>) -> io::Result<()> {
            self.0.try_io(Interest::WRITABLE, || write(self))
        }

        /// Ready when there may be something to read, or the runtime ends. For one task: the last to ask is woken.
        pub(in super::super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
            self.0.poll_recv_ready(cx).map(drop)
        }

        /// The same for room to write.
        pub(in super::super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
            self.0.poll_send_ready(cx).map(drop)
        }
    }
}
