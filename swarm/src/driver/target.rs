//! Whom to dial: what people have of a peer, as text or as values.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
#[cfg(feature = "ws")]
use std::sync::Arc;

use framing::uri::{Host, PeerUri};

#[cfg(feature = "ws")]
use super::carrier::WS_PATH;
use crate::carrier::StreamAddr;
#[cfg(feature = "ws")]
use crate::carrier::Upgrade;
use crate::{DialError, DialWay, ParseIdError, ParseTicketError, PeerId, Ticket, TransportAddr};

/// Whom to dial and where: an address, a host name with a port, or the id of a peer with any number of those.
///
/// As text: `192.0.2.1:4000`, `host.example:4000`, `<id>@192.0.2.1:4000`, `p2p://<id>@host.example:4000`, a
/// [`Ticket`], or an id alone, which the node has to look for. With an id nobody else is talked to; without one, whoever
/// answers is the peer. `tcp://host.example:443`, `tcp://<id>@192.0.2.1:443` and, with the feature `ws`,
/// `ws://<id>@host.example:80/setowire` (which path it is is known without saying) lead there by TCP and by a WebSocket only.
///
/// ```
/// use swarm::DialTarget;
/// let somebody: DialTarget = "192.0.2.1:4000".parse()?;
/// let also: DialTarget = ([192, 0, 2, 1], 4000).into();
/// assert_eq!(somebody, also);
/// # Ok::<(), swarm::ParseTargetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DialTarget {
    pub(crate) peer: Option<PeerId>,
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) hosts: Vec<String>,
    pub(crate) streams: Vec<StreamPlace>,
    pub(crate) relays: Vec<DialTarget>,
    pub(crate) way: DialWay,
}

/// Where a byte stream leads, before names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamPlace {
    /// An address or a name, with the port.
    host: String,
    /// What a WebSocket is asked for at.
    #[cfg(feature = "ws")]
    path: Option<String>,
}

/// Whom to dial and where, all names looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Resolved {
    pub(crate) peer: Option<PeerId>,
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) streams: Vec<StreamAddr>,
}

/// Why a text names nobody to dial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTargetError {
    /// It is neither an address nor a name with a port, with or without an id before it.
    #[error("{text:?} is no address: expected ip:port, name:port or <peer id>@name:port")]
    Address {
        /// The text.
        text: String,
    },
    /// What stands before the `@` is not the id of a peer.
    #[error("{text:?} is no peer id: {why}")]
    Id {
        /// What stands there.
        text: String,
        /// What is wrong with it.
        why: ParseIdError,
    },
    /// It begins as a ticket does and is none.
    #[error("not a usable ticket: {0}")]
    Ticket(#[from] ParseTicketError),
}

impl DialTarget {
    /// The holder of a key, at any of these addresses.
    #[must_use]
    pub fn peer(peer: PeerId, addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { peer: Some(peer), addrs: addrs.into_iter().collect(), ..Self::default() }
    }

    /// Adds an address that is dialled by TCP.
    #[must_use]
    pub fn tcp(mut self, addr: SocketAddr) -> Self {
        self.streams.push(StreamPlace::tcp(addr.to_string()));
        self
    }

    /// Adds an address.
    #[must_use]
    pub fn addr(mut self, addr: SocketAddr) -> Self {
        self.addrs.push(addr);
        self
    }

    /// Adds a relay at which the peer may have a place, by whatever names a peer. Relays are asked, one after the other, half a
    /// second after the addresses, or at once where there are none.
    ///
    /// ```
    /// # use swarm::{DialTarget, PeerId};
    /// # fn example(bob: PeerId, relay: PeerId) -> Result<(), swarm::ParseTargetError> {
    /// let behind = DialTarget::from(bob).via((relay, "192.0.2.1:4000".parse::<std::net::SocketAddr>().unwrap()));
    /// let only = DialTarget::from(bob).only_via("relay.example:4000".parse::<DialTarget>()?);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn via(mut self, relay: impl Into<Self>) -> Self {
        self.relays.push(relay.into());
        self
    }

    /// Has the peer reached through this relay, or others named so, and never directly: no direct path is tried, and the
    /// relay is asked not to say where this node is. A peer who is connected already stays connected as it is.
    #[must_use]
    pub fn only_via(mut self, relay: impl Into<Self>) -> Self {
        self.way = DialWay::Relayed;
        self.via(relay)
    }

    /// Has the peer reached directly, and never through a relay.
    #[must_use]
    pub fn directly(mut self) -> Self {
        self.way = DialWay::Direct;
        self
    }

    /// The same, dialled by TCP at once and not only after a while.
    pub(crate) fn also_by_tcp(&self) -> Self {
        let addrs = self.addrs.iter().map(ToString::to_string).chain(self.hosts.iter().cloned());
        let streams = self.streams.iter().cloned().chain(addrs.map(StreamPlace::tcp)).collect();
        Self { streams, ..self.clone() }
    }

    /// Looks the names up; all addresses of all of them are tried.
    pub(crate) async fn resolve(mut self) -> Result<Resolved, DialError> {
        let (mut failed, mut streams) = (None, Vec::new());
        for host in self.hosts {
            let found = tokio::net::lookup_host(&host).await.map(|found| self.addrs.extend(found));
            if let Err(error) = found {
                failed = Some(DialError::Unresolved { host, kind: error.kind() });
            }
        }
        for place in self.streams {
            let found = tokio::net::lookup_host(&place.host).await;
            match found.map(|found| streams.extend(found.map(|addr| place.at(addr)))) {
                Ok(()) => {}
                Err(error) => failed = Some(DialError::Unresolved { host: place.host, kind: error.kind() }),
            }
        }
        match failed {
            Some(error) if self.addrs.is_empty() && streams.is_empty() => Err(error),
            _ => Ok(Resolved { peer: self.peer, addrs: self.addrs, streams }),
        }
    }
}

impl StreamPlace {
    const fn tcp(host: String) -> Self {
        Self {
            host,
            #[cfg(feature = "ws")]
            path: None,
        }
    }

    fn at(&self, addr: SocketAddr) -> StreamAddr {
        #[cfg(feature = "ws")]
        if let Some(path) = &self.path {
            let (host, path) = (self.host.clone(), path.clone());
            return StreamAddr { addr, upgrade: Some(Arc::new(Upgrade { host, path })) };
        }
        StreamAddr::tcp(addr)
    }

    /// What stands in front of it, and behind.
    fn around(&self) -> (&str, &str) {
        #[cfg(feature = "ws")]
        if let Some(path) = &self.path {
            return ("ws://", path);
        }
        ("tcp://", "")
    }
}

impl FromStr for DialTarget {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("seto1")) && !text.contains([':', '.', '@']) {
            return Ok(text.parse::<Ticket>()?.into());
        }
        let wrong = || ParseTargetError::Address { text: text.to_owned() };
        if let Some(rest) = text.strip_prefix("tcp://") {
            return Self::stream(rest, StreamPlace::tcp);
        }
        #[cfg(feature = "ws")]
        if let Some(rest) = text.strip_prefix("ws://") {
            let (rest, path) = rest.find('/').map_or((rest, WS_PATH), |at| rest.split_at(at));
            let path: String = path.to_owned();
            if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains('#') {
                return Err(wrong());
            }
            return Self::stream(rest, |host| StreamPlace { host, path: Some(path) });
        }
        let bare = text.strip_prefix("p2p://").or_else(|| text.strip_prefix("udp://")).unwrap_or(text);
        let (peer, place) = match bare.split_once('@') {
            Some((id, place)) => {
                let wrong = |why| ParseTargetError::Id { text: id.to_owned(), why };
                (Some(id.parse::<PeerId>().map_err(wrong)?), place)
            }
            None => (None, bare),
        };
        if let (None, Ok(peer)) = (peer, place.parse::<PeerId>()) {
            return Ok(peer.into());
        }
        let mut target = Self { peer, ..Self::default() };
        if let Ok(addr) = place.parse::<SocketAddr>() {
            target.addrs.push(addr);
            return Ok(target);
        }
        // A name, read as strictly as a URI reads it.
        let (name, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_why| wrong())?;
        let name: framing::uri::HostName = name.parse().map_err(|_why| wrong())?;
        target.hosts.push(format!("{}:{port}", name.as_str()));
        Ok(target)
    }
}

impl DialTarget {
    /// `[id@]host:port` of a byte stream.
    fn stream(text: &str, place: impl FnOnce(String) -> StreamPlace) -> Result<Self, ParseTargetError> {
        let datagrams: Self = match text.split_once("://") {
            None => text.parse()?,
            Some(_) => return Err(ParseTargetError::Address { text: text.to_owned() }),
        };
        let addr = datagrams.addrs.first().map(SocketAddr::to_string);
        match addr.or_else(|| datagrams.hosts.first().cloned()) {
            Some(host) => Ok(Self { peer: datagrams.peer, streams: vec![place(host)], ..Self::default() }),
            None => Err(ParseTargetError::Address { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for DialTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) if self.addrs.is_empty() && self.hosts.is_empty() && self.streams.is_empty() => {
                return peer.fmt(f);
            }
            _ => {}
        }
        let stream = self.streams.first().filter(|_| self.addrs.is_empty() && self.hosts.is_empty());
        let (before, behind) = stream.map_or(("", ""), StreamPlace::around);
        f.write_str(before)?;
        if let Some(peer) = &self.peer {
            write!(f, "{peer}@")?;
        }
        if let Some(place) = stream {
            return write!(f, "{}{behind}", place.host);
        }
        match (self.addrs.first(), self.hosts.first()) {
            (Some(addr), _) => addr.fmt(f),
            (None, Some(host)) => host.fmt(f),
            (None, None) => f.write_str("nowhere"),
        }
    }
}

impl From<PeerId> for DialTarget {
    /// Whoever holds the key, wherever it is: the node has to look for it.
    fn from(peer: PeerId) -> Self {
        Self::peer(peer, [])
    }
}

impl From<SocketAddr> for DialTarget {
    fn from(addr: SocketAddr) -> Self {
        Self { addrs: vec![addr], ..Self::default() }
    }
}

impl From<TransportAddr> for DialTarget {
    fn from(place: TransportAddr) -> Self {
        Self::from(SocketAddr::from(place))
    }
}

impl From<(PeerId, TransportAddr)> for DialTarget {
    fn from((peer, place): (PeerId, TransportAddr)) -> Self {
        Self::peer(peer, [place.into()])
    }
}

impl<I: Into<std::net::IpAddr>> From<(I, u16)> for DialTarget {
    fn from(addr: (I, u16)) -> Self {
        Self::from(SocketAddr::from(addr))
    }
}

impl From<(PeerId, SocketAddr)> for DialTarget {
    fn from((peer, addr): (PeerId, SocketAddr)) -> Self {
        Self::peer(peer, [addr])
    }
}

impl From<(PeerId, Vec<SocketAddr>)> for DialTarget {
    fn from((peer, addrs): (PeerId, Vec<SocketAddr>)) -> Self {
        Self::peer(peer, addrs)
    }
}

impl From<Ticket> for DialTarget {
    fn from(ticket: Ticket) -> Self {
        let relays = ticket.relays().iter().map(|relay| Self::peer(relay.peer, relay.addrs.iter().copied())).collect();
        Self { relays, ..Self::peer(ticket.peer(), ticket.addrs().iter().copied()) }
    }
}

impl From<&Ticket> for DialTarget {
    fn from(ticket: &Ticket) -> Self {
        ticket.clone().into()
    }
}

impl From<PeerUri> for DialTarget {
    fn from(uri: PeerUri) -> Self {
        let (peer, port) = (Some(PeerId::from(uri.peer)), uri.port);
        match uri.host {
            Host::Ip(ip) => Self { peer, addrs: vec![SocketAddr::new(ip, port)], ..Self::default() },
            Host::Name(name) => Self { peer, hosts: vec![format!("{}:{port}", name.as_str())], ..Self::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_addresses_in_several_ways() {
        let id = PeerId::from_bytes([7; 32]);
        for text in ["192.0.2.1:4000", "[2001:db8::1]:4000"] {
            let target: DialTarget = text.parse().unwrap();
            assert_eq!((target.peer, target.addrs.len(), target.hosts.len()), (None, 1, 0));
            let target: DialTarget = format!("{id}@{text}").parse().unwrap();
            assert_eq!((target.peer, target.addrs.len()), (Some(id), 1));
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        let target: DialTarget = format!("p2p://{id}@host.example:7").parse().unwrap();
        assert_eq!((target.peer, target.hosts), (Some(id), vec![String::from("host.example:7")]));
        assert_eq!(id.to_string().parse(), Ok(DialTarget::from(id)));
        assert_eq!(DialTarget::from(id).to_string(), id.to_string());
        let ticket = Ticket::new(id, ["192.0.2.1:4000".parse().unwrap()]);
        assert_eq!(ticket.to_string().parse::<DialTarget>().unwrap(), DialTarget::from(ticket));
        assert!(
            matches!("abc@192.0.2.1:4".parse::<DialTarget>(), Err(ParseTargetError::Id { text, .. }) if text == "abc")
        );
        assert!(matches!("seto1abc".parse::<DialTarget>(), Err(ParseTargetError::Ticket(_))));
        for text in ["tcp://192.0.2.1:443", "tcp://host.example:443", "tcp://[2001:db8::1]:1"] {
            let target: DialTarget = text.parse().unwrap();
            assert_eq!((target.peer, target.addrs.len(), target.hosts.len(), target.streams.len()), (None, 0, 0, 1));
            assert_eq!(target.to_string(), text);
            let with_id = text.replace("tcp://", &format!("tcp://{id}@"));
            let target: DialTarget = with_id.parse().unwrap();
            assert_eq!((target.peer, target.to_string()), (Some(id), with_id));
        }
        #[cfg(feature = "ws")]
        {
            let target: DialTarget = "ws://host.example:80".parse().unwrap();
            assert_eq!(target.to_string(), "ws://host.example:80/setowire");
            let target: DialTarget = format!("ws://{id}@[::1]:80/behind/a/proxy?x=1").parse().unwrap();
            assert_eq!(target.to_string(), format!("ws://{id}@[::1]:80/behind/a/proxy?x=1"));
            for wrong in ["ws://", "ws:///x", "ws://host/x", "ws://host:1/a b", "ws://host:1/a#b", "ws://tcp://h:1"] {
                assert!(wrong.parse::<DialTarget>().is_err(), "{wrong:?}");
            }
        }
        for wrong in ["tcp://", "tcp://host", "tcp://udp://host:1", "tcp://seto1abc", &format!("tcp://{id}")] {
            assert!(wrong.parse::<DialTarget>().is_err(), "{wrong:?}");
        }
        for wrong in ["", "4000", "host.example", "host:99999", "x@192.0.2.1:4", ":7", "1.2.3:4"] {
            assert!(wrong.parse::<DialTarget>().is_err(), "{wrong:?}");
        }
    }
}
