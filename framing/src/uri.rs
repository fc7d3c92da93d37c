//! The address of a peer as text: `p2p://<key>@host:port` (SPEC 7.7).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crypto::{ParsePeerIdError, PeerId};
use thiserror::Error;

/// Who a peer is and where it may be reached.
///
/// ```
/// use crypto::Identity;
/// use framing::uri::PeerUri;
///
/// let peer = Identity::from_seed([1; 32]).peer_id();
/// let uri = PeerUri::new(peer, "[2001:db8::1]:4242".parse()?);
/// let text = format!("p2p://{peer}@[2001:db8::1]:4242");
/// assert_eq!(uri.to_string(), text);
/// assert_eq!(text.parse::<PeerUri>()?, uri);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerUri {
    /// The key that the peer must prove.
    pub peer: PeerId,
    /// The machine.
    pub host: Host,
    /// The UDP port; not 0 in one that was parsed.
    pub port: u16,
}

impl PeerUri {
    /// The address, if the host is one and no name.
    #[must_use]
    pub const fn addr(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }

    /// The peer at an address.
    #[must_use]
    pub const fn new(peer: PeerId, addr: SocketAddr) -> Self {
        Self { peer, host: Host::Ip(addr.ip()), port: addr.port() }
    }
}

/// A machine, by its address or by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// To be looked up.
    Name(HostName),
}

/// A name of the domain name system in lower case, without a final dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(Box<str>);

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = UriError;

    /// Reads labels of 1 to 63 letters, digits, hyphens and underscores, at most 253 bytes in all. A name whose last label is a number
    /// is a misspelt address, and refused: resolvers would read it as another one.
    fn from_str(text: &str) -> Result<Self, UriError> {
        let is_label = |label: &str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len())
                && label.bytes().all(legal)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_number = |label: &str| {
            label.bytes().all(|byte| byte.is_ascii_digit()) || label.starts_with("0x") || label.starts_with("0X")
        };
        let last = text.rsplit('.').next().unwrap_or_default();
        if text.len() > 253 || !text.split('.').all(is_label) || is_number(last) {
            return Err(UriError::Host);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for PeerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}@", self.peer)?;
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            Host::Name(name) => f.write_str(name.as_str())?,
        }
        write!(f, ":{}", self.port)
    }
}

impl FromStr for PeerUri {
    type Err = UriError;

    /// Reads the one form there is: no path, no query, no zone, no percent signs. The key may also be hexadecimal, and the scheme, the
    /// key and names in either case.
    fn from_str(text: &str) -> Result<Self, UriError> {
        let (scheme, rest) = text.split_at_checked(SCHEME.len()).ok_or(UriError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(UriError::Scheme);
        }
        let (key, place) = rest.split_once('@').ok_or(UriError::NoKey)?;
        let peer = key.parse()?;
        let (host, port) = match place.strip_prefix('[') {
            Some(place) => {
                let (ip, port) = place.split_once("]:").ok_or(UriError::NoPort)?;
                (Host::Ip(ip.parse::<Ipv6Addr>().map_err(|_not_ipv6| UriError::Host)?.into()), port)
            }
            None => {
                let (host, port) = place.rsplit_once(':').ok_or(UriError::NoPort)?;
                let host = match host.parse::<Ipv4Addr>() {
                    Ok(ip) => Host::Ip(ip.into()),
                    Err(_name) => Host::Name(host.parse()?),
                };
                (host, port)
            }
        };
        Ok(Self { peer, host, port: parse_port(port)? })
    }
}

fn parse_port(text: &str) -> Result<u16, UriError> {
    // `u16::from_str` takes a plus sign, and leading zeros would not round-trip.
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| canonical).ok_or(UriError::Port)
}

const SCHEME: &str = "p2p://";

/// Why a text is not a [`PeerUri`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UriError {
    /// It does not begin with `p2p://`.
    #[error("the address of a peer begins with {SCHEME}")]
    Scheme,
    /// There is no `@` behind a key.
    #[error("the key of the peer is missing")]
    NoKey,
    /// The key is none.
    #[error(transparent)]
    Key(#[from] ParsePeerIdError),
    /// Neither an IPv4 address, nor an IPv6 address in brackets, nor a name.
    #[error("the host is neither an address nor a name")]
    Host,
    /// There is no port.
    #[error("the port is missing")]
    NoPort,
    /// The port is not a number from 1 to 65535 without leading zeros, or something stands behind it.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}
