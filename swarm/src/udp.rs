//! A UDP socket: batched receiving, segmentation offload, and errors as facts.

mod ready;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use structs::{Datagram, Ecn, Link, Path, Transmit, TransmitBuf};

use ready::Ready;

/// Buffers of one receiving call, 64 KiB each since the kernel may join 64 datagrams into one.
pub(crate) const RECEIVE_BUFFERS: usize = 8;
/// Asked of the kernel for each direction of a socket. It grants what `net.core.rmem_max` allows.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
const _: () = assert!(RECEIVE_BUFFERS * 65_536 <= 1024 * 1024, "the receive buffers stay below 1 MiB");

/// Whether IP may split datagrams on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragments {
    /// Datagrams over the MTU arrive, if all of their pieces do.
    #[cfg(feature = "v12")]
    Allowed,
    /// They are dropped: whoever sends probes how large they may be.
    Forbidden,
}

/// What sockets are read into, one after the other: one for a node, however many sockets it has.
#[derive(Debug)]
pub(crate) struct Buffers([Box<[u8]>; RECEIVE_BUFFERS]);

impl Default for Buffers {
    fn default() -> Self {
        Self(std::array::from_fn(|_| vec![0; 65_536].into_boxed_slice()))
    }
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Udp {
    io: Ready,
    state: UdpSocketState,
    local: SocketAddr,
    fragments: Fragments,
    /// Errors of receiving. Nothing follows from them: the next datagram is awaited.
    pub(crate) receive_errors: u64,
    failed: Option<io::ErrorKind>,
}

/// What became of a transmit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// All of it left.
    Done,
    /// The socket takes no more for now; `from` bytes of it left.
    Blocked {
        /// Where to go on.
        from: usize,
    },
    /// The system refused it.
    Failed(io::ErrorKind),
}

impl Udp {
    /// Binds a socket for one address family and asks for large buffers.
    pub(crate) fn bind(addr: SocketAddr, fragments: Fragments) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            // IPv4 has a socket of its own.
            socket.set_only_v6(true)?;
        }
        let socket = Self::finish(socket, addr, fragments)?;
        socket.enlarge();
        Ok(socket)
    }

    /// Binds a socket that is one of many, with a port of the system's choice and buffers of the usual size.
    pub(crate) fn bind_small(ip: IpAddr) -> io::Result<Self> {
        let addr = SocketAddr::new(ip, 0);
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        Self::finish(socket, addr, Fragments::Forbidden)
    }

    fn finish(socket: Socket, addr: SocketAddr, fragments: Fragments) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        let io = Ready::new(socket.into())?;
        let local = io.local_addr()?;
        Ok(Self { state: offloads(&io, fragments)?, fragments, io, local, receive_errors: 0, failed: None })
    }

    /// Asks for large buffers. Asking is all one can do: the system caps it, and what it granted is read back.
    fn enlarge(&self) {
        let _ = self.io.socket().set_recv_buffer_size(SOCKET_BUFFER);
        let _ = self.io.socket().set_send_buffer_size(SOCKET_BUFFER);
    }

    pub(crate) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// The last error of receiving since this was asked before.
    pub(crate) const fn take_failure(&mut self) -> Option<io::ErrorKind> {
        self.failed.take()
    }

    /// Bytes that the kernel buffers for receiving, with its overhead per datagram (`SO_RCVBUF` as read back).
    pub(crate) fn receive_buffer(&self) -> usize {
        self.io.socket().recv_buffer_size().unwrap_or(0)
    }

    /// The datagrams that one sending call takes.
    pub(crate) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Resolves when there may be something to read. Cancel-safe.
    #[cfg(feature = "v12")]
    pub(crate) async fn readable(&self) {
        std::future::poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Resolves when there may be room to send. Cancel-safe.
    #[cfg(feature = "v12")]
    pub(crate) async fn writable(&self) {
        std::future::poll_fn(|cx| self.poll_writable(cx)).await;
    }

    /// Ready when there may be something to read, or the runtime ends. For one task: the last to ask is woken.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_readable(cx)
    }

    /// The same for room to send.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_writable(cx)
    }

    /// Makes one receiving call and gives each datagram to `each`. Returns whether more may be waiting.
    pub(crate) fn receive(&mut self, buffers: &mut Buffers, mut each: impl FnMut(Datagram<'_>)) -> bool {
        let Buffers(buffers) = buffers;
        let mut meta = [RecvMeta::default(); RECEIVE_BUFFERS];
        let mut filled = 0;
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let (io, state, errors, failed) = (&self.io, &self.state, &mut self.receive_errors, &mut self.failed);
        let more = io.try_read(|| {
            match state.recv(io.udp(), &mut slices, &mut meta) {
                Ok(count) => filled = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) => (*errors, *failed) = (errors.saturating_add(1), Some(error.kind())),
            }
            // A call that fills fewer buffers than it was given has emptied the socket. Saying so here spares the
            // call that would only return EAGAIN; the next datagram raises the readiness again.
            if filled < RECEIVE_BUFFERS.min(quinn_udp::BATCH_SIZE) {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        for (buffer, meta) in buffers.iter_mut().zip(&meta).take(filled) {
            let local = SocketAddr::new(meta.dst_ip.unwrap_or(self.local.ip()), self.local.port());
            let path = Path { link: Link::Udp, local, remote: meta.addr };
            let ecn = meta.ecn.map_or(Ecn::NotEct, |mark| match mark {
                quinn_udp::EcnCodepoint::Ect0 => Ecn::Ect0,
                quinn_udp::EcnCodepoint::Ect1 => Ecn::Ect1,
                quinn_udp::EcnCodepoint::Ce => Ecn::Ce,
            });
            let bytes = buffer.get_mut(..meta.len).unwrap_or_default();
            if bytes.is_empty() {
                each(Datagram { path, ecn, payload: bytes });
                continue;
            }
            for payload in bytes.chunks_mut(meta.stride.max(1)) {
                each(Datagram { path, ecn, payload });
            }
        }
        more.is_ok()
    }

    /// Sends the rest of a transmit, from byte `from` on.
    pub(crate) fn send(&mut self, out: &TransmitBuf, transmit: &Transmit, from: usize) -> Sent {
        let remote = transmit.path.remote;
        // The kernel would refuse these as invalid arguments, as it does what its offload cannot do.
        if remote.port() == 0 || remote.ip().is_unspecified() || remote.is_ipv4() != self.local.is_ipv4() {
            return Sent::Failed(io::ErrorKind::InvalidInput);
        }
        if let Some(ttl) = transmit.ttl {
            return self.send_near(out, transmit, ttl.get().into());
        }
        let size = transmit.segment_size.max(1);
        let bytes = out.bytes().get(..transmit.len).unwrap_or_default();
        let segments = self.max_segments();
        if from == 0
            && transmit.len > size
            && transmit.len.div_ceil(size) <= segments
            && self.offload_fits(size, remote)
        {
            match self.send_from(self.source(&transmit.path), bytes, transmit) {
                Ok(()) => return Sent::Done,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked { from: 0 },
                // One by one below, which tells whether the offload was at fault or an address.
                Err(_) => {}
            }
        }
        let mut at = from;
        let (mut source, mut refused) = (self.source(&transmit.path), None);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let segment = rest.get(..size).unwrap_or(rest);
            let sent = match source {
                Some(_) => self.send_from(source, segment, transmit),
                // The plain call does, and no error of it switches the offload off.
                None => self.io.try_write(|io| io.socket().send_to(segment, &remote.into()).map(drop)),
            };
            match sent {
                Ok(()) => at += segment.len(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked { from: at },
                // An interface may be gone since the peer wrote to its address: let the system choose.
                Err(_) if source.is_some() => source = None,
                Err(error) => {
                    refused = Some(error.kind());
                    at += segment.len();
                }
            }
        }
        let at_fault = refused.is_some() || (source.is_none() && self.source(&transmit.path).is_some());
        if at_fault && self.max_segments() < segments {
            // The failure switched the offload off, but an address was at fault.
            if let Ok(state) = offloads(&self.io, self.fragments) {
                self.state = state;
            }
        }
        refused.map_or(Sent::Done, Sent::Failed)
    }

    /// Sends what is to pass few routers only. Where that cannot be said to the system, or not be taken back, nothing leaves or
    /// nothing more does.
    fn send_near(&mut self, out: &TransmitBuf, transmit: &Transmit, ttl: u32) -> Sent {
        let failed = |error: io::Error| Sent::Failed(error.kind());
        let ipv4 = self.local.is_ipv4();
        let set = |io: &Ready, ttl: u32| match ipv4 {
            true => io.socket().set_ttl_v4(ttl),
            false => io.socket().set_unicast_hops_v6(ttl),
        };
        let before = if ipv4 { self.io.socket().ttl_v4() } else { self.io.socket().unicast_hops_v6() };
        let usual = match before {
            Ok(usual) => usual,
            Err(error) => return failed(error),
        };
        if let Err(error) = set(&self.io, ttl) {
            return failed(error);
        }
        let remote = transmit.path.remote;
        // One that finds no room is lost, as on the way.
        let sent = out
            .segments(transmit)
            .try_for_each(|segment| self.io.try_write(|io| io.socket().send_to(segment, &remote.into()).map(drop)));
        match (set(&self.io, usual), sent) {
            (Ok(()), Ok(())) => Sent::Done,
            (Err(error), _) | (_, Err(error)) => failed(error),
        }
    }

    fn send_from(&mut self, src_ip: Option<IpAddr>, contents: &[u8], transmit: &Transmit) -> io::Result<()> {
        let (destination, segment_size) = (transmit.path.remote, Some(transmit.segment_size));
        let ecn = match transmit.ecn {
            Ecn::NotEct => None,
            Ecn::Ect0 => Some(quinn_udp::EcnCodepoint::Ect0),
            Ecn::Ect1 => Some(quinn_udp::EcnCodepoint::Ect1),
            Ecn::Ce => Some(quinn_udp::EcnCodepoint::Ce),
        };
        let message = quinn_udp::Transmit { destination, ecn, contents, segment_size, src_ip };
        self.io.try_write(|io| self.state.try_send(io.udp(), &message))
    }

    /// The address to send from: the one the peer wrote to, where the socket has several to choose from.
    fn source(&self, path: &Path) -> Option<IpAddr> {
        let several = self.local.ip().is_unspecified();
        Some(path.local.ip()).filter(|ip| several && ip.is_ipv4() == self.local.is_ipv4() && !ip.is_unspecified())
    }

    /// Whether segments of this size may leave as one batch. The kernel refuses segments over the MTU of the path; who
    /// does not probe it has to guess: 1,500 (1,472 of payload) on most networks and 65,536 on the loopback interface.
    fn offload_fits(&self, segment: usize, remote: SocketAddr) -> bool {
        self.fragments == Fragments::Forbidden || segment <= 1472 || remote.ip().is_loopback()
    }
}

/// Switches on what the system offers to read and write many datagrams by one call.
///
/// That also forbids fragmentation by IP, which suits protocols that probe the MTU. Where one does not, a message over
/// the MTU is one large datagram that IP must split, so the permission is given back.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn offloads(io: &Ready, fragments: Fragments) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(io.udp())?;
    if fragments == Fragments::Forbidden {
        return Ok(state);
    }
    rustix::net::sockopt::set_ip_mtu_discover(io, rustix::net::sockopt::Ipv4PathMtuDiscovery::DONT)?;
    Ok(state)
}

/// Where the permission to fragment cannot be given back, the options are set on another socket: this one keeps the
/// system's defaults, and reads and writes one datagram by one call.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn offloads(io: &Ready, fragments: Fragments) -> io::Result<UdpSocketState> {
    if fragments == Fragments::Forbidden {
        return UdpSocketState::new(io.udp());
    }
    let other = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    UdpSocketState::new((&other).into())
}
