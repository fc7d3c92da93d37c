//! What makes the next handshake with a known peer cheaper.

use std::fmt;
use std::time::Instant;

use zeroize::Zeroizing;

use crate::PeerId;

/// A key that two peers took from a session they had, for one resumed handshake.
///
/// Good for one use: the responder forgets its side before it answers, and
/// [`Initiator::resume`](super::Initiator::resume) takes the ticket. Keep it in memory only. Not `Clone`; the key is
/// wiped on drop and not shown by `Debug`.
pub struct Ticket {
    id: [u8; 16],
    psk: Zeroizing<[u8; 32]>,
    peer: PeerId,
    expires: Instant,
}

impl Ticket {
    /// A ticket to `peer`, which knows it by `id`. The key is the exporter of the session with the label `ticket` and
    /// the id.
    pub fn new(id: [u8; 16], psk: [u8; 32], peer: PeerId, expires: Instant) -> Self {
        Self { id, psk: Zeroizing::new(psk), peer, expires }
    }

    /// The name of the ticket, which is sent in the clear.
    pub const fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// The key.
    pub fn psk(&self) -> &[u8; 32] {
        &self.psk
    }

    /// Who holds the other side.
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// When it stops being of use.
    pub const fn expires(&self) -> Instant {
        self.expires
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("peer", &self.peer).field("expires", &self.expires).finish_non_exhaustive()
    }
}
