//! What carries the datagrams of sessions, and how addresses of it are written.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
#[cfg(feature = "ws")]
use std::sync::Arc;

use crate::PeerId;

/// What carries the datagrams of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Carrier {
    /// UDP.
    Udp,
    /// A TCP stream, in which each datagram stands behind its length (SPEC 9.10).
    Tcp,
    /// A WebSocket, each of whose binary messages is a datagram (SPEC 9.10).
    WebSocket,
    /// A circuit through a relay.
    Relay,
    /// What the application brought.
    Custom,
}

/// Where a byte stream leads, and what is spoken on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAddr {
    /// The other end of the TCP connection.
    pub addr: SocketAddr,
    /// What is asked for, if a WebSocket is.
    #[cfg(feature = "ws")]
    pub(crate) upgrade: Option<Arc<Upgrade>>,
}

/// The request that makes a WebSocket of a TCP connection.
#[cfg(feature = "ws")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// With the port, as it was written.
    pub(crate) host: String,
    /// Begins with a slash.
    pub(crate) path: String,
}

impl StreamAddr {
    /// Datagrams behind their lengths, on TCP.
    #[must_use]
    pub const fn tcp(addr: SocketAddr) -> Self {
        Self {
            addr,
            #[cfg(feature = "ws")]
            upgrade: None,
        }
    }

    /// Which of the carriers it is.
    #[must_use]
    pub const fn carrier(&self) -> Carrier {
        #[cfg(feature = "ws")]
        if self.upgrade.is_some() {
            return Carrier::WebSocket;
        }
        Carrier::Tcp
    }
}

/// Where a node listens. As text: `udp://0.0.0.0:7400`, `tcp://[::]:7400`, `ws://127.0.0.1:7401`; an address alone is one
/// of UDP. A port of 0 is one of the system's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ListenAddr {
    /// Datagrams.
    Udp(SocketAddr),
    /// Datagrams on TCP streams.
    Tcp(SocketAddr),
    /// Datagrams on WebSockets that are asked for at `/setowire`.
    #[cfg(feature = "ws")]
    WebSocket(SocketAddr),
}

/// Why a text says nowhere to listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is nothing to listen on: expected udp://ip:port, tcp://ip:port or, with the feature for it, ws://ip:port"
)]
#[non_exhaustive]
pub struct ParseListenError {
    /// The text.
    pub text: String,
}

impl ListenAddr {
    /// The address.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        match self {
            Self::Udp(addr) | Self::Tcp(addr) => *addr,
            #[cfg(feature = "ws")]
            Self::WebSocket(addr) => *addr,
        }
    }

    /// The same at another address.
    #[cfg(feature = "tokio")]
    pub(crate) const fn bound(self, addr: SocketAddr) -> Self {
        match self {
            Self::Udp(_) => Self::Udp(addr),
            Self::Tcp(_) => Self::Tcp(addr),
            #[cfg(feature = "ws")]
            Self::WebSocket(_) => Self::WebSocket(addr),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, place) = text.split_once("://").unwrap_or(("udp", text));
        let wrong = || ParseListenError { text: text.to_owned() };
        let addr = place.parse().map_err(|_not_an_address| wrong())?;
        match kind {
            "udp" => Ok(Self::Udp(addr)),
            "tcp" => Ok(Self::Tcp(addr)),
            #[cfg(feature = "ws")]
            "ws" => Ok(Self::WebSocket(addr)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(addr) => write!(f, "udp://{addr}"),
            Self::Tcp(addr) => write!(f, "tcp://{addr}"),
            #[cfg(feature = "ws")]
            Self::WebSocket(addr) => write!(f, "ws://{addr}"),
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Udp(addr)
    }
}

/// By what others reach a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Listener {
    /// A socket of its own, with the port that the system chose.
    Socket(ListenAddr),
    /// A place at a relay.
    Relay(PeerId),
}

impl From<ListenAddr> for Listener {
    fn from(at: ListenAddr) -> Self {
        Self::Socket(at)
    }
}

impl From<PeerId> for Listener {
    fn from(relay: PeerId) -> Self {
        Self::Relay(relay)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(at) => write!(f, "{at}"),
            Self::Relay(relay) => write!(f, "relay {}", relay.short()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen_is_written_as_it_is_read() {
        let mut texts = vec!["udp://0.0.0.0:7400", "tcp://[::]:7400"];
        if cfg!(feature = "ws") {
            texts.push("ws://127.0.0.1:0");
        }
        for text in texts {
            assert_eq!(text.parse::<ListenAddr>().map(|addr| addr.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("127.0.0.1:7".parse(), Ok(ListenAddr::Udp(([127, 0, 0, 1], 7).into())));
        for wrong in ["", "tcp://", "tcp://localhost:7", "sctp://127.0.0.1:7", "tcp://127.0.0.1", "tcp:127.0.0.1:7"] {
            let error = wrong.parse::<ListenAddr>().unwrap_err();
            assert_eq!(error.text, wrong);
        }
    }
}
