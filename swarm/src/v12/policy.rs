//! Which addresses may be dialled or shared on whose word, and the bounds of everything a node keeps.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use crate::DialError;

/// Dials under way at once.
pub(super) const MAX_DIALS: usize = 64;
/// Of these, dials caused by what others say: the user's own find room.
pub(super) const MAX_SUGGESTED_DIALS: usize = MAX_DIALS / 2;
/// Handshakes of others that have not been proved: beyond it the oldest goes.
pub(super) const MAX_HALF_OPEN: usize = 64;
/// The same for one address; beyond it the newest is refused.
pub(super) const MAX_HALF_OPEN_PER_IP: usize = 16;
/// HELLOs of unknown senders looked at, per second and at once.
pub(super) const HANDSHAKE_RATE: (u32, u32) = (500, 500);
/// Sealed packets from unknown addresses that are tried, per second and at once: each costs an opening.
pub(super) const STRAY_RATE: (u32, u32) = (200, 200);
/// Beacons looked at, per second and at once.
pub(super) const BEACON_RATE: (u32, u32) = (50, 100);
/// Dials caused by what others say, per second and at once.
pub(super) const SUGGESTED_RATE: (u32, u32) = (16, 32);
/// Dials caused by one peer, per minute: of a peer that proved its key, and of one that proved its address only.
pub(super) const SUGGESTED_PER_MINUTE: (u32, u32) = (20, 4);
/// HELLOs spent on an address that somebody else named.
pub(super) const SUGGESTED_HELLOS: u32 = 3;
/// HELLOs spent on an address that the user named.
pub(super) const OWN_HELLOS: u32 = 8;
/// Topics joined at once.
pub(super) const MAX_TOPICS: usize = 64;
/// Fetches under way at once.
pub(super) const MAX_FETCHES: usize = 64;
/// Peers asked for one value.
pub(super) const MAX_ASKED: usize = 16;
/// Messages remembered to recognise copies, and for how long.
pub(super) const SEEN_MESSAGES: usize = 16_384;
pub(super) const SEEN_FOR: Duration = Duration::from_secs(600);
/// Neighbours counted for one message; copies from more are copies.
pub(super) const SEEN_SOURCES: usize = 32;
/// Requests of one peer for values that wait until those under way to it have arrived.
pub(super) const MAX_OWED: usize = 32;
/// Silence after which another key may take the address of a peer: a live one sends a PING each second.
pub(super) const SUCCESSION: Duration = Duration::from_millis(2500);
/// Keys whose ended sessions are remembered against replays, how much that may weigh, and for how long.
pub(super) const MEMORIES: usize = 1024;
pub(super) const MEMORY_BYTES: u64 = 8 * 1024 * 1024;
pub(super) const MEMORY_FOR: Duration = Duration::from_secs(600);
/// Keys of peers that are not talked to.
pub(super) const FORBIDDEN: usize = 1024;
/// Events that wait for the application, in number and in bytes; beyond either nothing is taken from the peers, whose
/// own bounds make the senders stop.
pub(super) const MAX_EVENTS: usize = 4096;
pub(super) const EVENT_BYTES: usize = 32 * 1024 * 1024;
/// Beacons and the like that wait to leave.
pub(super) const MAX_OUT: usize = 256;

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// This machine.
    Loopback,
    /// This link or site: RFC 1918, RFC 3927, RFC 6598.
    Private,
    /// Everywhere.
    Public,
}

/// The scope of an address that a peer can have; `None` for those that nobody has.
pub(super) fn scope(ip: Ipv4Addr) -> Option<Scope> {
    let [first, second, ..] = ip.octets();
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || first == 0 || first >= 240;
    if nobody || ip.is_documentation() {
        None
    } else if ip.is_loopback() {
        Some(Scope::Loopback)
    } else if ip.is_private() || ip.is_link_local() || (first == 100 && (64..128).contains(&second)) {
        Some(Scope::Private)
    } else {
        Some(Scope::Public)
    }
}

/// An IPv4 address that a user may dial.
pub(super) fn dialable(addr: SocketAddr) -> Result<SocketAddrV4, DialError> {
    let v4 = match addr {
        SocketAddr::V4(v4) => v4,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddrV4::new(ip, v6.port()),
            None => return Err(DialError::Unsupported { addr }),
        },
    };
    let ip = *v4.ip();
    if v4.port() == 0 || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
        return Err(DialError::BadAddress { addr });
    }
    Ok(v4)
}

/// Whether what a peer at `teller` says of `addr` is acted on, or `addr` may be told to a peer at `teller`: nobody
/// outside a network may make us probe inside it, nor needs to know what is in there.
pub(super) fn may_tell(teller: Ipv4Addr, addr: SocketAddrV4) -> bool {
    match (scope(teller), scope(*addr.ip())) {
        (Some(teller), Some(told)) => addr.port() != 0 && told >= teller,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(teller: [u8; 4], addr: [u8; 4], port: u16) -> bool {
        may_tell(teller.into(), SocketAddrV4::new(addr.into(), port))
    }

    #[test]
    fn nobody_outside_names_an_address_inside() {
        assert!(!told([8, 8, 4, 4], [127, 0, 0, 1], 1));
        assert!(!told([8, 8, 4, 4], [192, 168, 1, 1], 1));
        assert!(!told([192, 168, 1, 2], [127, 0, 0, 1], 1));
        assert!(told([192, 168, 1, 2], [10, 0, 0, 1], 1));
        assert!(told([127, 0, 0, 1], [127, 0, 0, 1], 1));
        assert!(told([8, 8, 4, 4], [9, 9, 9, 9], 1));
        assert!(!told([8, 8, 4, 4], [9, 9, 9, 9], 0));
        for nobody in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], [240, 1, 1, 1], [192, 0, 2, 1]] {
            assert!(!told([8, 8, 4, 4], nobody, 1), "{nobody:?}");
        }
    }
}
