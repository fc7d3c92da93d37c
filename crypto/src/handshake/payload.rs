//! What the two ends tell each other inside a handshake, sealed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What the initiator says: in INIT, INIT_R or XX3. 40 bytes on the wire, of which 18 are zero and ignored, and so is
/// everything behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitPayload {
    /// Nanoseconds since 1970 by the clock of the sender, or whatever it counts up: tells the responder a replayed INIT
    /// from a new one of the same peer, and need not be right.
    pub timestamp: u64,
    /// The versions of the protocol it speaks, one bit for each: see [`negotiate`](super::negotiate).
    pub versions: u32,
    /// What it can do, one bit for each: see [`CAPABILITY_AES`](super::CAPABILITY_AES). Unknown bits are ignored.
    pub capabilities: u64,
    /// The longest datagram it wants to get, in bytes.
    pub max_datagram: u16,
}

/// What the responder says: in RESP, XX2 or RESP_R. 48 bytes on the wire; what follows them is ignored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RespPayload {
    /// The versions of the protocol it speaks.
    pub versions: u32,
    /// What it can do.
    pub capabilities: u64,
    /// The longest datagram it wants to get, in bytes.
    pub max_datagram: u16,
    /// Where the message that is answered came from: how the initiator looks from outside.
    pub observed: SocketAddr,
    /// What ends a datagram that resets the session: shown only to the initiator, who must keep it to itself.
    pub reset_token: [u8; 16],
}

impl std::fmt::Debug for RespPayload {
    /// Leaves the token out: who knows it can end the session.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RespPayload")
            .field("versions", &self.versions)
            .field("capabilities", &self.capabilities)
            .field("max_datagram", &self.max_datagram)
            .field("observed", &self.observed)
            .finish_non_exhaustive()
    }
}

impl InitPayload {
    /// Length on the wire in bytes.
    pub const LEN: usize = 40;

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        concat(&[
            &self.timestamp.to_be_bytes(),
            &self.versions.to_be_bytes(),
            &self.capabilities.to_be_bytes(),
            &self.max_datagram.to_be_bytes(),
        ])
    }

    /// `None` if there are fewer bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.get(..Self::LEN)?);
        Some(Self {
            timestamp: u64::from_be_bytes(fields.next()?),
            versions: u32::from_be_bytes(fields.next()?),
            capabilities: u64::from_be_bytes(fields.next()?),
            max_datagram: u16::from_be_bytes(fields.next()?),
        })
    }
}

impl RespPayload {
    /// Length on the wire in bytes.
    pub const LEN: usize = 48;

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        concat(&[
            &self.versions.to_be_bytes(),
            &self.capabilities.to_be_bytes(),
            &self.max_datagram.to_be_bytes(),
            &encode_address(self.observed),
            &self.reset_token,
        ])
    }

    /// `None` if there are fewer bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            versions: u32::from_be_bytes(fields.next()?),
            capabilities: u64::from_be_bytes(fields.next()?),
            max_datagram: u16::from_be_bytes(fields.next()?),
            observed: decode_address(fields.next()?, u16::from_be_bytes(fields.next()?)),
            reset_token: fields.next()?,
        })
    }
}

/// An address in 18 bytes: IPv6 or IPv4-mapped (16), port (2). Flow labels and scopes are of no use to others.
pub(crate) fn encode_address(address: SocketAddr) -> [u8; 18] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    concat(&[&ip.octets(), &address.port().to_be_bytes()])
}

fn decode_address(ip: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(ip)).to_canonical(), port)
}

/// The parts one after the other, then zeros.
fn concat<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(parts.iter().copied().flatten()).for_each(|(to, from)| *to = *from);
    out
}

/// Takes fixed-length fields off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}
