//! Sockets beside those that the node was bound to: for attempts to punch through NATs, and for the sessions that go by what one
//! of them found. And the STUN servers, which are named by their owner and looked up here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::task::Context;
use std::time::Instant;

use structs::{Datagram, Link, Path};

use super::Driver;
use super::command::Command;
use super::limits::{EXTRA_SOCKETS, STUN_AGAIN, STUN_NAMES};
use crate::clock;
use crate::udp::{Buffers, Udp};

/// The sockets, by the numbers that the node gave them.
#[derive(Debug, Default)]
pub(super) struct Extra {
    sockets: BTreeMap<u32, Udp>,
}

impl Extra {
    /// Opens sockets with the numbers from `first` on, as many as the system gives, and says where they are.
    fn open(&mut self, ip: IpAddr, first: u32, count: u16) -> Vec<SocketAddr> {
        let room = EXTRA_SOCKETS.saturating_sub(self.sockets.len());
        let mut locals = Vec::new();
        for number in (first..).take(usize::from(count).min(room)) {
            let Ok(socket) = Udp::bind_small(ip) else { break };
            locals.push(socket.local());
            self.sockets.insert(number, socket);
        }
        locals
    }

    fn close(&mut self, first: u32, count: u16) {
        let last = first.saturating_add(count.into());
        self.sockets.retain(|number, _| !(first..last).contains(number));
    }

    pub(super) fn get_mut(&mut self, link: Link) -> Option<&mut Udp> {
        let Link::Socket(number) = link else { return None };
        self.sockets.get_mut(&number)
    }

    /// As [`Udp::receive`], of all of them.
    pub(super) fn receive(&mut self, buffers: &mut Buffers, mut each: impl FnMut(Datagram<'_>)) -> bool {
        let mut more = false;
        for (number, socket) in &mut self.sockets {
            let link = Link::Socket(*number);
            more |= socket.receive(buffers, |datagram| {
                each(Datagram { path: Path { link, ..datagram.path }, ..datagram });
            });
        }
        more
    }

    /// Whether one can be read, or the one with this link, which had no room, has some now. All others are asked, too, so that
    /// each wakes the task.
    pub(super) fn poll_ready(&self, blocked: Option<Link>, cx: &mut Context<'_>) -> bool {
        self.sockets.iter().any(|(number, socket)| {
            let blocked = blocked == Some(Link::Socket(*number));
            socket.poll_readable(cx).is_ready() || (blocked && socket.poll_writable(cx).is_ready())
        })
    }

    pub(super) fn receive_errors(&self) -> u64 {
        self.sockets.values().map(|socket| socket.receive_errors).sum()
    }
}

/// The STUN servers, by name, and when they are looked up next.
#[derive(Debug)]
pub(super) struct Stun {
    names: Vec<String>,
    due: Option<Instant>,
}

impl Stun {
    pub(super) fn new(names: Vec<String>, now: Instant) -> Self {
        let due = (!names.is_empty()).then_some(now);
        Self { names, due }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

impl Driver {
    /// The node wants more sockets: on the interface of the first one of IPv4.
    pub(super) fn open_sockets(&mut self, first: u32, count: u16) {
        let main = self.sockets.iter().map(|socket| socket.local().ip()).find(IpAddr::is_ipv4);
        let locals = main.map(|ip| self.extra.open(ip, first, count)).unwrap_or_default();
        self.node.sockets_opened(first, &locals, clock::now());
    }

    pub(super) fn close_sockets(&mut self, first: u32, count: u16) {
        self.extra.close(first, count);
    }

    /// Looks the names of STUN servers up, if it is time to: their addresses may change, and a name that nobody knows now may be
    /// known later.
    pub(super) fn keep_stun(&mut self, now: Instant) {
        if self.stun.due.is_none_or(|due| due > now) {
            return;
        }
        self.stun.due = now.checked_add(STUN_AGAIN);
        let (names, commands) = (self.stun.names.clone(), self.shared.commands.clone());
        tokio::spawn(async move {
            let mut servers = Vec::new();
            for name in names.iter().take(STUN_NAMES) {
                let Ok(found) = tokio::net::lookup_host(name).await else { continue };
                let found: Vec<SocketAddr> = found.collect();
                // One of each family: others of one name are the same server, or stand in for it.
                let of = |ipv4: bool| found.iter().find(|addr| addr.is_ipv4() == ipv4).copied();
                servers.extend([of(true), of(false)].into_iter().flatten());
            }
            if !servers.is_empty() {
                let _ = commands.send(Command::Stun(servers)).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;
    use std::time::Duration;

    use structs::{Ecn, Transmit, TransmitBuf};

    use super::*;
    use crate::udp::{Fragments, Sent};

    #[tokio::test]
    async fn each_socket_has_its_number_until_it_is_closed_and_the_hop_limit_is_for_one_datagram() {
        let (mut extra, mut buffers) = (Extra::default(), Buffers::default());
        let locals = extra.open([127, 0, 0, 1].into(), 7, 3);
        assert_eq!(locals.len(), 3);
        let mut main = Udp::bind(([127, 0, 0, 1], 0).into(), Fragments::Forbidden).unwrap();
        for ttl in [None, NonZeroU8::new(5), None] {
            for (number, to) in (7..).zip(&locals) {
                let mut out = TransmitBuf::new(1);
                out.push(&[number; 20]);
                let transmit = out.finish(Path::udp(main.local(), *to), Ecn::NotEct).unwrap();
                assert_eq!(main.send(&out, &Transmit { ttl, ..transmit }, 0), Sent::Done);
            }
        }
        let mut came = Vec::new();
        while came.len() < 9 {
            let ready = std::future::poll_fn(|cx| match extra.poll_ready(None, cx) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            });
            tokio::time::timeout(Duration::from_secs(5), ready).await.expect("datagrams");
            extra.receive(&mut buffers, |datagram| came.push((datagram.path.link, datagram.payload[0])));
        }
        assert!(came.iter().all(|(link, number)| *link == Link::Socket((*number).into())), "{came:?}");
        extra.close(7, 2);
        assert!(extra.get_mut(Link::Socket(8)).is_none() && extra.get_mut(Link::Socket(9)).is_some());
        assert!(extra.get_mut(Link::Udp).is_none());
        assert!(extra.open([127, 0, 0, 1].into(), 100, 2000).len() < EXTRA_SOCKETS, "bounded");
    }
}
