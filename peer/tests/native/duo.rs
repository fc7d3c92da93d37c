//! Two endpoints behind one link: a machine made of two, told apart by their local addresses.

use std::net::SocketAddr;
use std::time::Instant;

use peer::Endpoint;
use structs::{Datagram, Deadline, Machine, Rejected, Transmit, TransmitBuf};

/// What comes in goes to the one whose address it was sent to; they take turns to send.
pub(crate) struct Duo {
    pub(crate) members: [Endpoint; 2],
    pub(crate) addrs: [SocketAddr; 2],
    turn: usize,
}

impl Duo {
    pub(crate) const fn new(members: [Endpoint; 2], addrs: [SocketAddr; 2]) -> Self {
        Self { members, addrs, turn: 0 }
    }
}

impl Machine for Duo {
    type Event = (usize, peer::endpoint::Event);

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        let at = usize::from(datagram.path.local == self.addrs[1]);
        self.members[at].handle_datagram(datagram, now)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.members.iter_mut().for_each(|member| member.handle_timeout(now));
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        for _ in 0..2 {
            self.turn ^= 1;
            if let Some(transmit) = self.members[self.turn].poll_transmit(out, now) {
                return Some(transmit);
            }
        }
        None
    }

    fn poll_event(&mut self) -> Option<Self::Event> {
        (0..2).find_map(|at| self.members[at].poll_event().map(|event| (at, event)))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earliest(self.members[0].poll_timeout(), self.members[1].poll_timeout())
    }
}
