//! Datagrams in and out, and which socket they go by.

use std::time::Instant;

use structs::{Link, Machine, Path};

use super::Driver;
use super::limits::TRANSMITS_PER_TURN;
use crate::node::LAN_LINK;
use crate::udp::{Sent, Udp};

impl Driver {
    /// Returns whether there is more, and whether anything came.
    pub(super) fn receive(&mut self, now: Instant) -> (bool, bool) {
        let Self { node, sockets, carriers, transports, extra, buffers, lan, .. } = self;
        let (mut more, mut came) = (false, false);
        for socket in sockets {
            // One call: sessions are visited before the next, so that what they hold stays little. What is refused is
            // counted in the node.
            more |= socket.receive(buffers, |datagram| {
                came = true;
                let _ = node.handle_datagram(datagram, now);
            });
        }
        more |= extra.receive(buffers, |datagram| {
            came = true;
            let _ = node.handle_datagram(datagram, now);
        });
        let (waits, arrived) = carriers.receive(node, now);
        (more, came) = (more | waits, came | arrived);
        let (waits, arrived) = transports.receive(node, now);
        (more, came) = (more | waits, came | arrived);
        if let Some(lan) = lan {
            more |= lan.receive(|datagram| _ = node.handle_datagram(datagram, now));
        }
        (more, came)
    }

    /// Sends. Returns whether there is more to send, or room for what could not be handed over before.
    pub(super) fn transmit(&mut self, now: Instant) -> bool {
        for sent in 0..TRANSMITS_PER_TURN {
            let (transmit, from) = match self.held.take() {
                Some(held) => held,
                None => {
                    self.out.clear();
                    match self.node.poll_transmit(&mut self.out, now) {
                        Some(transmit) => (transmit, 0),
                        None => return sent > 0 && !self.waiting.is_empty(),
                    }
                }
            };
            if let Link::Stream(_) = transmit.path.link {
                self.carriers.send(&self.node, &self.out, &transmit, now);
                continue;
            }
            if transmit.path.link == LAN_LINK {
                // What fails is counted there.
                let _ = self.lan.as_mut().map(|lan| lan.send(&self.out, &transmit));
                continue;
            }
            if let Link::Custom(_) = transmit.path.link {
                self.transports.send(&self.out, &transmit);
                continue;
            }
            let socket = match transmit.path.link {
                link @ Link::Socket(_) => self.extra.get_mut(link),
                _ => socket_for(&self.sockets, &transmit.path).and_then(|at| self.sockets.get_mut(at)),
            };
            let Some(socket) = socket else {
                // There is no way to that family, or the socket is closed: the session hears nothing and tries its other paths.
                self.send_errors += 1;
                continue;
            };
            match socket.send(&self.out, &transmit, from) {
                Sent::Done => {}
                Sent::Blocked { from } => {
                    self.held = Some((transmit, from));
                    return false;
                }
                // As if it were lost on the way, which is what the session is made for.
                Sent::Failed(_) => self.send_errors += 1,
            }
        }
        true
    }
}

/// By which socket a path goes: the one it came in by; for a new one, one that is bound to every interface, or else one
/// that can reach the address.
pub(super) fn socket_for(sockets: &[Udp], path: &Path) -> Option<usize> {
    let (local, remote) = (path.local, path.remote);
    let fit = |socket: &Udp| {
        let bound = socket.local();
        if bound.is_ipv4() != remote.is_ipv4() {
            return 0;
        }
        let same_port = bound.port() == local.port();
        let same_ip = bound.ip() == local.ip();
        let reaches = bound.ip().is_unspecified() || bound.ip().is_loopback() == remote.ip().is_loopback();
        1 + 8 * u8::from(same_port && (same_ip || bound.ip().is_unspecified()))
            + 4 * u8::from(same_port)
            + 2 * u8::from(reaches)
            + u8::from(bound.ip().is_unspecified())
    };
    let (at, socket) = sockets.iter().enumerate().rev().max_by_key(|(_, socket)| fit(socket))?;
    (fit(socket) > 0).then_some(at)
}
