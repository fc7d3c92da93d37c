//! Multicast on the local network, and broadcast where it is wanted, one interface at a time, and the list of interfaces.
//!
//! Everything here may fail on some machine (no IPv6, no multicast route, no permission, the port taken): what fails is
//! counted and the node goes on without it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::task::{Context, Poll};

use framing::limits::{BEACON_GROUP_V4, BEACON_GROUP_V6, BEACON_PORT};
use if_addrs::IfAddr;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use structs::{Datagram, Path, Transmit, TransmitBuf};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::node::{Interface, LAN_LINK};

/// Beacons read from each socket in one turn; the others wait for the next, or are dropped by the system.
const BEACONS_PER_TURN: usize = 64;
/// Beacons have at most 1200 bytes. What is larger is none, and reading part of it would be an error on Windows.
const BUFFER: usize = 65_536;
/// The number of the loopback interface nearly everywhere, for systems that do not list it.
const LOOPBACK: u32 = 1;

/// The sockets of the multicast groups, one for each family of addresses that the system has.
///
/// They are bound to the port of the groups, which all nodes of this machine share. Beacons leave by others.
#[derive(Debug)]
pub(crate) struct Lan {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    /// The interfaces joined, by their numbers, and the address that each was named by.
    joined_v4: BTreeMap<u32, Ipv4Addr>,
    joined_v6: BTreeSet<u32>,
    buffer: Box<[u8]>,
    /// The broadcast address of the subnet of each address of ours, if beacons are sent there too.
    broadcast: Option<BTreeMap<Ipv4Addr, Ipv4Addr>>,
    /// Sockets that could not be opened, interfaces that could not be joined, beacons that could not be read or sent.
    pub(crate) errors: u64,
}

impl Lan {
    /// Opens the sockets. No interface is joined yet.
    ///
    /// # Errors
    ///
    /// That of IPv4, if there is no socket of either family.
    pub(crate) fn open() -> io::Result<Self> {
        let (v4, v6) = (receiver(Ipv4Addr::UNSPECIFIED.into()), receiver(Ipv6Addr::UNSPECIFIED.into()));
        let errors = u64::from(v4.is_err()) + u64::from(v6.is_err());
        let (v4, v6) = match (v4, v6) {
            (Err(error), Err(_)) => return Err(error),
            (v4, v6) => (v4.ok(), v6.ok()),
        };
        let (joined_v4, joined_v6) = (BTreeMap::new(), BTreeSet::new());
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Self { v4, v6, joined_v4, joined_v6, buffer, broadcast: None, errors })
    }

    /// The same with beacons of IPv4 sent to the broadcast address of their subnet as well, which also reaches nodes where multicast
    /// does not pass.
    pub(crate) fn broadcasting(self, on: bool) -> Self {
        Self { broadcast: on.then(BTreeMap::new), ..self }
    }

    /// Joins the groups on these interfaces and leaves them on all others. What failed before is tried again.
    ///
    /// Linux allows a socket 20 groups of IPv4 (`net.ipv4.igmp_max_memberships`): the first interfaces go first.
    pub(crate) fn follow(&mut self, interfaces: &[Interface]) {
        let (mut wanted_v4, mut wanted_v6) = (BTreeMap::new(), BTreeSet::new());
        for interface in interfaces {
            match interface.addr.ip() {
                // A membership belongs to the interface: one address of it is enough.
                IpAddr::V4(ip) => drop(wanted_v4.entry(interface.index).or_insert(ip)),
                IpAddr::V6(_) => drop(wanted_v6.insert(interface.index)),
            }
        }
        if let Some(broadcast) = &mut self.broadcast {
            *broadcast = interfaces.iter().filter_map(subnet).collect();
        }
        let mut failed = 0;
        if let Some(socket) = self.v4.as_ref().map(SockRef::from) {
            self.joined_v4.retain(|index, address| {
                let is_wanted = wanted_v4.get(index) == Some(address);
                if !is_wanted {
                    // An interface that no longer exists has taken its membership along.
                    let _ = socket.leave_multicast_v4(&BEACON_GROUP_V4, address);
                }
                is_wanted
            });
            wanted_v4.retain(|index, _| !self.joined_v4.contains_key(index));
            for (index, address) in wanted_v4 {
                if is_member(socket.join_multicast_v4(&BEACON_GROUP_V4, &address)) {
                    self.joined_v4.insert(index, address);
                } else {
                    failed += 1;
                }
            }
        }
        if let Some(socket) = self.v6.as_ref().map(SockRef::from) {
            for &index in self.joined_v6.difference(&wanted_v6) {
                let _ = socket.leave_multicast_v6(&BEACON_GROUP_V6, index);
            }
            self.joined_v6.retain(|index| wanted_v6.contains(index));
            for index in wanted_v6 {
                if self.joined_v6.contains(&index) {
                    continue;
                }
                if is_member(socket.join_multicast_v6(&BEACON_GROUP_V6, index)) {
                    self.joined_v6.insert(index);
                } else {
                    failed += 1;
                }
            }
        }
        self.errors = self.errors.saturating_add(failed);
    }

    /// Ready when there may be a beacon to read, or the runtime ends. For one task: the last to ask is woken.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sockets = [&self.v4, &self.v6].into_iter().flatten();
        if sockets.any(|socket| socket.poll_recv_ready(cx).is_ready()) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Gives the beacons that wait to `each`, 64 of each family at most. Returns whether more may be waiting.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Datagram<'_>)) -> bool {
        let v4 = self.v4.as_ref().zip(Some(IpAddr::from(BEACON_GROUP_V4)));
        let v6 = self.v6.as_ref().zip(Some(IpAddr::from(BEACON_GROUP_V6)));
        let (mut more, mut failed) = (false, 0);
        for (socket, group) in [v4, v6].into_iter().flatten() {
            let local = SocketAddr::new(group, BEACON_PORT);
            more |= receive_from(socket, local, &mut self.buffer, &mut each, &mut failed);
        }
        self.errors = self.errors.saturating_add(failed);
        more
    }

    /// Sends a beacon from the local address of its path, and by the interface that has it; to the broadcast address of the subnet
    /// too, if that is wanted.
    ///
    /// # Errors
    ///
    /// Why the system took it for neither. There is nothing to do: the next beacon is due soon.
    pub(crate) fn send(&mut self, out: &TransmitBuf, transmit: &Transmit) -> Result<(), io::ErrorKind> {
        let sent = try_send(out, transmit, transmit.path.remote).map_err(|error| error.kind());
        // Linux leads no IPv6 multicast to the loopback interface unless told to, which is no fault of this machine.
        let is_normal = transmit.path.local.ip() == IpAddr::from(Ipv6Addr::LOCALHOST)
            && sent == Err(io::ErrorKind::NetworkUnreachable);
        if sent.is_err() && !is_normal {
            self.errors = self.errors.saturating_add(1);
        }
        let IpAddr::V4(from) = transmit.path.local.ip() else { return sent };
        let Some(to) = self.broadcast.as_ref().and_then(|broadcast| broadcast.get(&from)) else { return sent };
        let also = try_send(out, transmit, SocketAddr::from((*to, BEACON_PORT)));
        if also.is_err() {
            self.errors = self.errors.saturating_add(1);
        }
        if also.is_ok() { Ok(()) } else { sent }
    }
}

/// An address of IPv4 with the broadcast address of its subnet, if that has one (RFC 919, RFC 3021).
fn subnet(interface: &Interface) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let IpAddr::V4(ip) = interface.addr.ip() else { return None };
    let hosts = u32::MAX.checked_shr(interface.prefix.into()).filter(|hosts| *hosts > 1)?;
    Some((ip, Ipv4Addr::from_bits(ip.to_bits() | hosts)))
}

/// A socket on the port of the groups.
fn receiver(any: IpAddr) -> io::Result<UdpSocket> {
    let addr = SocketAddr::new(any, BEACON_PORT);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // On the BSDs the former does not share a port, and on Linux this one would not between users.
    #[cfg(any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly"
    ))]
    socket.set_reuse_port(true)?;
    if any.is_ipv4() {
        // On Windows it is the receiver who is asked whether nodes of one machine hear each other.
        socket.set_multicast_loop_v4(true)?;
        // Otherwise Linux also delivers what comes in on interfaces that only other programs have joined.
        #[cfg(target_os = "linux")]
        socket.set_multicast_all_v4(false)?;
    } else {
        // IPv4 has a socket of its own.
        socket.set_only_v6(true)?;
        socket.set_multicast_loop_v6(true)?;
        // Kernels before 4.20 do not have it: there we hear more than we asked for.
        #[cfg(target_os = "linux")]
        let _ = socket.set_multicast_all_v6(false);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// Whether the interface is joined after `result`. It was before if the system says so: some cannot leave by an address that
/// the interface no longer has.
fn is_member(result: io::Result<()>) -> bool {
    result.map_or_else(|error| error.kind() == io::ErrorKind::AddrInUse, |()| true)
}

fn receive_from(
    socket: &UdpSocket,
    local: SocketAddr,
    buffer: &mut [u8],
    each: &mut impl FnMut(Datagram<'_>),
    failed: &mut u64,
) -> bool {
    let mut is_broken = true;
    for _ in 0..BEACONS_PER_TURN {
        match socket.try_recv_from(buffer) {
            Ok((len, remote)) => {
                is_broken = false;
                let path = Path { link: LAN_LINK, local, remote };
                each(Datagram::new(path, buffer.get_mut(..len).unwrap_or_default()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => *failed = failed.saturating_add(1),
        }
    }
    if is_broken {
        // It would be readable for ever and keep the task awake: it is left alone until the system says that there is news.
        let _ = socket.try_io(Interest::READABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
    }
    !is_broken
}

fn try_send(out: &TransmitBuf, transmit: &Transmit, to: SocketAddr) -> io::Result<()> {
    let socket = sender(transmit.path.local, to)?;
    for segment in out.segments(transmit) {
        socket.send_to(segment, &to.into())?;
    }
    Ok(())
}

/// A socket for one beacon.
///
/// Whoever hears it dials its source, so that must be an address that the node answers at, and only a socket bound to it
/// is sure to use it on every system. Few beacons leave, and addresses come and go: such sockets are not kept.
fn sender(mut local: SocketAddr, remote: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    // Naming the interface also spares the route: the group is reached where none leads to it. Other nodes of this machine
    // hear us too, and nobody behind the first router.
    match (local, remote) {
        (SocketAddr::V4(_), SocketAddr::V4(remote)) if !remote.ip().is_multicast() => {
            socket.set_broadcast(true)?;
            socket.set_ttl_v4(1)?;
        }
        (SocketAddr::V4(local), SocketAddr::V4(_)) => {
            socket.set_multicast_if_v4(local.ip())?;
            socket.set_multicast_loop_v4(true)?;
            socket.set_multicast_ttl_v4(1)?;
        }
        (SocketAddr::V6(_), SocketAddr::V6(remote)) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_if_v6(remote.scope_id())?;
            socket.set_multicast_loop_v6(true)?;
            socket.set_multicast_hops_v6(1)?;
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    local.set_port(0);
    socket.set_nonblocking(true)?;
    socket.bind(&local.into())?;
    Ok(socket)
}

/// The addresses that sockets bound to `bound` are reached at: one for each interface and family, with the port of the socket,
/// by the numbers of the interfaces.
///
/// A socket bound to one address has that one. Otherwise the loopback interface is the first: nodes of one machine find
/// each other even where the system lists no interface at all.
pub(crate) fn interfaces(bound: &[SocketAddr]) -> Vec<Interface> {
    choose(&if_addrs::get_if_addrs().unwrap_or_default(), bound)
}

/// All addresses that sockets bound to `bound` are reached at, with their ports.
pub(crate) fn addresses(bound: &[SocketAddr]) -> Vec<SocketAddr> {
    let listed = if_addrs::get_if_addrs().unwrap_or_default();
    let mut found = Vec::new();
    for bound in bound {
        if !bound.ip().is_unspecified() {
            found.push(*bound);
            continue;
        }
        for mut addr in listed.iter().filter_map(usable).map(|interface| interface.addr) {
            if addr.is_ipv4() == bound.is_ipv4() {
                addr.set_port(bound.port());
                found.push(addr);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn choose(listed: &[if_addrs::Interface], bound: &[SocketAddr]) -> Vec<Interface> {
    let listed: Vec<Interface> = listed.iter().filter_map(usable).collect();
    let mut found: Vec<Interface> = Vec::new();
    for bound in bound {
        if bound.ip().is_unspecified() {
            found.extend(of_every_interface(&listed, bound));
        } else {
            found.push(of_one_address(&listed, *bound));
        }
    }
    // By number, since only so many send beacons and hardware comes before what containers make.
    found.sort_by_key(|interface| (!interface.addr.ip().is_loopback(), interface.index, interface.addr));
    found.dedup();
    found
}

/// An entry of the system's list, unless nothing leaves there.
fn usable(listed: &if_addrs::Interface) -> Option<Interface> {
    if !listed.is_oper_up() || listed.ip().is_unspecified() {
        return None;
    }
    let index = listed.index?;
    let (addr, prefix) = match &listed.addr {
        IfAddr::V4(v4) => (SocketAddr::new(v4.ip.into(), 0), v4.prefixlen),
        IfAddr::V6(v6) if v6.ip.is_unicast_link_local() => {
            // Systems of the BSD family write the number of the interface into the second group, which is zero otherwise.
            let [first, _, rest @ ..] = v6.ip.segments();
            let [c, d, e, f, g, h] = rest;
            (SocketAddrV6::new([first, 0, c, d, e, f, g, h].into(), 0, 0, index).into(), v6.prefixlen)
        }
        IfAddr::V6(v6) => (SocketAddr::new(v6.ip.into(), 0), v6.prefixlen),
    };
    Some(Interface { addr, prefix, index })
}

fn of_every_interface(listed: &[Interface], bound: &SocketAddr) -> impl Iterator<Item = Interface> {
    let mut best: BTreeMap<u32, Interface> = BTreeMap::new();
    for interface in listed.iter().filter(|interface| interface.addr.is_ipv4() == bound.is_ipv4()) {
        let known = best.entry(interface.index).or_insert(*interface);
        if rank(interface.addr.ip()) < rank(known.addr.ip()) {
            *known = *interface;
        }
    }
    let is_loopback = |interface: &&Interface| interface.addr.ip().is_loopback();
    let missing = best.values().find(is_loopback).is_none().then(|| {
        let (ip, prefix) = match bound {
            SocketAddr::V4(_) => (IpAddr::from(Ipv4Addr::LOCALHOST), 8),
            SocketAddr::V6(_) => (IpAddr::from(Ipv6Addr::LOCALHOST), 128),
        };
        // The other family may know its number.
        let index = listed.iter().find(is_loopback).map_or(LOOPBACK, |interface| interface.index);
        Interface { addr: SocketAddr::new(ip, 0), prefix, index }
    });
    let port = bound.port();
    best.into_values().chain(missing).map(move |mut interface| {
        interface.addr.set_port(port);
        interface
    })
}

/// Which address of an interface beacons leave from: the one that serves on this link and nowhere else.
fn rank(ip: IpAddr) -> u8 {
    match ip {
        ip if ip.is_loopback() => 0,
        // Every interface of IPv6 has one, whatever the router says.
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 1,
        // Where IPv4 has one beside others, it is a leftover.
        IpAddr::V4(ip) if ip.is_link_local() => 3,
        _ => 2,
    }
}

fn of_one_address(listed: &[Interface], bound: SocketAddr) -> Interface {
    let scope = match bound {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    };
    let is_ours =
        |interface: &&Interface| interface.addr.ip() == bound.ip() && (scope == 0 || interface.index == scope);
    // All of 127.0.0.0/8 is the loopback interface's, whatever it lists.
    let is_loopback = |interface: &&Interface| {
        bound.ip().is_loopback() && interface.addr.ip().is_loopback() && interface.addr.is_ipv4() == bound.is_ipv4()
    };
    let interface = listed.iter().find(is_ours).or_else(|| listed.iter().find(is_loopback));
    let host = if bound.is_ipv4() { 32 } else { 128 };
    let (prefix, index) = interface.map_or((host, scope), |interface| (interface.prefix, interface.index));
    let mut addr = bound;
    if let SocketAddr::V6(v6) = &mut addr
        && scope == 0
        && v6.ip().is_unicast_link_local()
    {
        v6.set_scope_id(index);
    }
    Interface { addr, prefix, index }
}

#[cfg(test)]
mod tests;
