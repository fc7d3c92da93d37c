//! Control messages on their way into the sessions.
//!
//! A session takes a message or says that it has no room. Then what is for its peer waits, in order, and the others go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crypto::PeerId;

use crate::limits::MAX_WAITING;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: BTreeMap<PeerId, VecDeque<Vec<u8>>>,
    /// Those with messages whose sessions are not known to be full.
    ready: BTreeSet<PeerId>,
    bytes: usize,
}

impl Outbox {
    /// Adds a message. `false` if [`MAX_WAITING`] wait: then who listens has not read for long, and nothing was added.
    pub(crate) fn push(&mut self, to: PeerId, message: Vec<u8>) -> bool {
        let queue = self.waiting.entry(to).or_default();
        if queue.len() >= MAX_WAITING {
            return false;
        }
        if queue.is_empty() {
            self.ready.insert(to);
        }
        self.bytes += message.len();
        queue.push_back(message);
        true
    }

    /// The next message. It stays until [`sent`](Self::sent).
    pub(crate) fn peek(&self) -> Option<(PeerId, &[u8])> {
        let peer = self.ready.first()?;
        Some((*peer, self.waiting.get(peer)?.front()?))
    }

    /// The session has taken the message that was shown last for its peer.
    pub(crate) fn sent(&mut self, peer: &PeerId) {
        let Some(queue) = self.waiting.get_mut(peer) else { return };
        if let Some(message) = queue.pop_front() {
            self.bytes -= message.len();
        }
        if queue.is_empty() {
            self.waiting.remove(peer);
            self.ready.remove(peer);
        }
    }

    /// The session has no room.
    pub(crate) fn blocked(&mut self, peer: &PeerId) {
        self.ready.remove(peer);
    }

    /// The session has room again.
    pub(crate) fn writable(&mut self, peer: &PeerId) {
        if self.waiting.contains_key(peer) {
            self.ready.insert(*peer);
        }
    }

    /// The session is over.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.ready.remove(peer);
        let queue = self.waiting.remove(peer).unwrap_or_default();
        self.bytes -= queue.iter().map(Vec::len).sum::<usize>();
    }

    /// How many messages wait for a peer.
    pub(crate) fn waiting(&self, peer: &PeerId) -> usize {
        self.waiting.get(peer).map_or(0, VecDeque::len)
    }

    /// Bytes that wait.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
