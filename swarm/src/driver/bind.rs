//! The sockets that a node begins with, and how one is bound.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::carrier::Listener;
use crate::carrier::ListenAddr;
use crate::udp::{Fragments, Udp};
use crate::{BindError, Preset};

/// Binds what was asked for; of what was not asked for, IPv6 may be missing.
pub(super) fn all(listen: &[ListenAddr], preset: Preset) -> Result<(Vec<Udp>, Vec<Listener>), BindError> {
    for _ in 0..PORTS {
        let bound = once(listen, preset);
        // The port that the system chose for UDP may be taken on TCP: it chooses another one.
        let taken = |error: &BindError| match error {
            BindError::AddrInUse { addr } => !listen.iter().any(|asked| asked.addr().port() == addr.port()),
            _ => false,
        };
        if !bound.as_ref().is_err_and(taken) {
            return bound;
        }
    }
    once(listen, preset)
}

fn once(asked: &[ListenAddr], preset: Preset) -> Result<(Vec<Udp>, Vec<Listener>), BindError> {
    let mut sockets = Vec::new();
    if asked.is_empty() {
        let (v4, v6) = match preset {
            Preset::Loopback => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            _ => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        };
        sockets.push(udp(SocketAddr::from((v4, 0)))?);
        let port = sockets.first().map_or(0, |socket| socket.local().port());
        let second = udp(SocketAddr::from((v6, port))).or_else(|_taken| udp(SocketAddr::from((v6, 0))));
        sockets.extend(second.ok());
    }
    let mut listeners = Vec::new();
    for at in asked {
        match at {
            ListenAddr::Udp(addr) => sockets.push(udp(*addr)?),
            at => listeners.push(stream(*at)?),
        }
    }
    if preset == Preset::Server && listeners.is_empty() {
        let same = sockets.iter().map(|socket| stream(ListenAddr::Tcp(socket.local())));
        listeners = same.collect::<Result<_, _>>()?;
    }
    Ok((sockets, listeners))
}

/// One UDP socket.
pub(super) fn udp(addr: SocketAddr) -> Result<Udp, BindError> {
    Udp::bind(addr, Fragments::Forbidden).map_err(|error| BindError::from_io(addr, &error))
}

/// One listener for connections.
pub(super) fn stream(at: ListenAddr) -> Result<Listener, BindError> {
    Listener::bind(at).map_err(|error| BindError::from_io(at.addr(), &error))
}

/// How often the system is asked for a port that is free on both UDP and TCP.
const PORTS: usize = 8;
