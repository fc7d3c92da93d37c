//! Messages and datagrams: between the outbox and the inbox of a session and its state machine.

use peer::Peer;
use peer::mux::{Messages, SendError as Refused, Urgency};

use super::{Session, Visit};
use crate::driver::limits::DATAGRAM_INBOX_BYTES;

impl Session {
    pub(super) fn send_messages(&mut self, peer: &mut Peer, visit: &Visit<'_>) {
        while !self.blocked {
            let left = self.messages.get(self.messages_at..).unwrap_or_default();
            if left.is_empty() {
                self.messages.clear();
                self.messages_at = 0;
                // What was put into the outbox meanwhile.
                self.conn.take_messages(&mut self.messages);
                if self.messages.is_empty() {
                    return;
                }
                continue;
            }
            match peer.send_batch(visit.protocols.message, left, Urgency::Normal) {
                Ok(taken) if taken.bytes > 0 => self.messages_at += taken.bytes,
                Err(Refused::Blocked) => self.blocked = true,
                Err(Refused::Stopped { .. } | Refused::NotAgreed) => self.on_refused(),
                // The first of them was accepted before the other side said that it takes only shorter ones.
                Ok(_) | Err(_) => {
                    self.dropped += 1;
                    let rest = Messages::new(left).next().map_or(0, |first| first.len() + prefix(first.len()));
                    self.messages_at += rest.max(1);
                }
            }
        }
    }

    pub(super) fn send_datagrams(&mut self, peer: &mut Peer, visit: &Visit<'_>) {
        let protocol = visit.protocols.message;
        loop {
            let left = self.datagrams.get(self.datagrams_at..).unwrap_or_default();
            let Some(first) = Messages::new(left).next() else {
                self.datagrams.clear();
                self.datagrams_at = 0;
                // What was put into the outbox meanwhile.
                self.conn.take_datagrams(&mut self.datagrams);
                if self.datagrams.is_empty() {
                    return;
                }
                continue;
            };
            let len = first.len();
            if peer.datagram_room(protocol).is_none_or(|room| room < len) {
                // It is asked again once some have left: no datagram is dropped that could have waited.
                return;
            }
            if let Err(Refused::TooLarge { max, .. }) = peer.send_datagram(protocol, first) {
                self.conn.set_max_datagram(max);
                self.narrowed = true;
            }
            self.datagrams_at += len + prefix(len);
        }
    }

    /// Whether datagrams wait for others to leave.
    pub(crate) fn has_datagrams(&self) -> bool {
        self.datagrams_at < self.datagrams.len()
    }

    /// Moves messages to whoever reads those of this peer by himself. Where nobody does they are events: the driver
    /// takes those.
    pub(super) fn read_messages(&mut self, peer: &mut Peer, visit: &mut Visit<'_>) {
        while let Some(room) = self.conn.inbox_room() {
            if room == 0 {
                return;
            }
            visit.scratch.clear();
            if peer.recv_batch(visit.protocols.message, visit.scratch, room) == 0 {
                self.readable = false;
                return;
            }
            self.conn.deliver(visit.scratch);
        }
    }

    pub(super) fn read_datagrams(&mut self, peer: &mut Peer, visit: &mut Visit<'_>) {
        if !self.conn.wants_datagrams() {
            // They stay where they are, and the oldest give way.
            return;
        }
        loop {
            visit.scratch.clear();
            let count = peer.recv_datagrams(visit.protocols.message, visit.scratch, DATAGRAM_INBOX_BYTES);
            if count == 0 {
                return;
            }
            self.conn.deliver_datagrams(visit.scratch, count);
        }
    }
}

/// The length of what says how long a message is.
const fn prefix(len: usize) -> usize {
    framing::varint::len(len as u64)
}
