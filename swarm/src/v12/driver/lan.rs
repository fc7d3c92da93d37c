//! Multicast on the local network, one interface at a time, and the list of interfaces.
//!
//! Everything here may fail on some machine (no multicast route, no permission, the port taken): what fails is
//! counted and the node goes on without it.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use structs::{Datagram, Path, Transmit, TransmitBuf};
use tokio::net::UdpSocket;

use super::limits::BEACONS_PER_TURN;
use crate::v12::{LAN_GROUP, LAN_LINK};

/// The two sockets of the multicast group.
#[derive(Debug)]
pub(crate) struct Lan {
    /// Bound to the port of the group, shared with every other node of this machine.
    receiver: UdpSocket,
    /// On a port of its own; each beacon names the interface it leaves by.
    sender: UdpSocket,
    joined: BTreeSet<Ipv4Addr>,
    buffer: Box<[u8]>,
    /// Interfaces that could not be joined and beacons that could not be sent.
    pub(crate) errors: u64,
}

impl Lan {
    /// Opens the sockets. No interface is joined yet.
    pub(crate) fn open() -> io::Result<Self> {
        let receiver = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // The existing nodes set this option alone: with another one (SO_REUSEPORT) they could not share the port.
        receiver.set_reuse_address(true)?;
        // Otherwise Linux also delivers what comes in on interfaces that only other programs have joined.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        receiver.set_multicast_all_v4(false)?;
        receiver.set_nonblocking(true)?;
        receiver.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, LAN_GROUP.port())).into())?;
        let sender = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // Other nodes of this machine hear us too.
        sender.set_multicast_loop_v4(true)?;
        // Never past the first router.
        sender.set_multicast_ttl_v4(1)?;
        sender.set_nonblocking(true)?;
        sender.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        Ok(Self {
            receiver: UdpSocket::from_std(receiver.into())?,
            sender: UdpSocket::from_std(sender.into())?,
            joined: BTreeSet::new(),
            buffer: vec![0; 2048].into_boxed_slice(),
            errors: 0,
        })
    }

    /// Joins the group on the interfaces of these addresses and leaves it on all others.
    pub(crate) fn follow(&mut self, interfaces: &[Ipv4Addr]) {
        let socket = SockRef::from(&self.receiver);
        let (group, wanted) = (LAN_GROUP.ip(), interfaces.iter().copied().collect::<BTreeSet<_>>());
        let gone: Vec<Ipv4Addr> = self.joined.difference(&wanted).copied().collect();
        for address in &gone {
            // An interface that no longer exists has taken its membership along.
            let _ = socket.leave_multicast_v4(group, address);
        }
        if !gone.is_empty() {
            // A membership belongs to the interface: where it had two addresses it went with the first.
            self.joined.clear();
        }
        for address in wanted {
            if self.joined.contains(&address) {
                continue;
            }
            match socket.join_multicast_v4(group, &address) {
                Ok(()) => {
                    self.joined.insert(address);
                }
                // The interface is joined already, by another address or before.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    self.joined.insert(address);
                }
                Err(_) => self.errors = self.errors.saturating_add(1),
            }
        }
    }

    /// Resolves when there may be a beacon to read. Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.receiver.readable().await
    }

    /// Gives the beacons that wait to `each`. Returns whether more may be waiting.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Datagram<'_>)) -> bool {
        for _ in 0..BEACONS_PER_TURN {
            match self.receiver.try_recv_from(&mut self.buffer) {
                Ok((len, remote)) => {
                    let path = Path { link: LAN_LINK, local: SocketAddr::V4(LAN_GROUP), remote };
                    each(Datagram::new(path, self.buffer.get_mut(..len).unwrap_or_default()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => self.errors = self.errors.saturating_add(1),
            }
        }
        true
    }

    /// Sends a beacon from the interface that its path names.
    pub(crate) fn send(&mut self, out: &TransmitBuf, transmit: &Transmit) -> Result<(), io::ErrorKind> {
        let sent = self.try_send(out, transmit).map_err(|error| error.kind());
        if sent.is_err() {
            self.errors = self.errors.saturating_add(1);
        }
        sent
    }

    fn try_send(&self, out: &TransmitBuf, transmit: &Transmit) -> io::Result<()> {
        let SocketAddr::V4(local) = transmit.path.local else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // Naming the interface also spares the route: the group is reached where no route leads to it.
        SockRef::from(&self.sender).set_multicast_if_v4(local.ip())?;
        for segment in out.segments(transmit) {
            self.sender.try_send_to(segment, transmit.path.remote)?;
        }
        Ok(())
    }
}

/// Under which IPv4 addresses a socket bound to `bound` is reached, in order.
///
/// A socket bound to one address has that one. Otherwise it is one per interface, and the loopback interface is always
/// among them: nodes of one machine find each other even where the system lists no interface at all.
pub(crate) fn addresses(bound: SocketAddrV4) -> Vec<SocketAddrV4> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let listed = if_addrs::get_if_addrs().unwrap_or_default();
    let mut found: BTreeSet<Ipv4Addr> = listed
        .iter()
        .filter_map(|interface| match interface.addr {
            if_addrs::IfAddr::V4(ref v4) => Some(v4.ip),
            if_addrs::IfAddr::V6(_) => None,
        })
        .filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
        .collect();
    found.insert(Ipv4Addr::LOCALHOST);
    found.into_iter().map(|ip| SocketAddrV4::new(ip, bound.port())).collect()
}
