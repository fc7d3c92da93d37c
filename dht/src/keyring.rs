//! What is remembered of nodes to save work: the keys that we share with them, and the tokens that they gave us.

use std::num::NonZeroUsize;
use std::time::Instant;

use crypto::envelope::{NodeKey, SharedKeys, WeakKey};
use structs::Lru;

use crate::{Contact, NodeId, Token, limits};

#[derive(Debug)]
pub(crate) struct Keyring {
    own: NodeKey,
    keys: Lru<NodeId, SharedKeys>,
    tokens: Lru<Contact, Token>,
}

impl Keyring {
    pub(crate) fn new(own: NodeKey) -> Self {
        let most = NonZeroUsize::MIN.saturating_add(limits::MAX_NODES - 1);
        let tokens = Lru::new(most).time_to_live(limits::TOKENS_KEPT);
        Self { own, keys: Lru::new(most).time_to_live(limits::KEYS_KEPT), tokens }
    }

    /// Gives back what is too old to be used.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.keys.remove_expired(now);
        self.tokens.remove_expired(now);
    }

    pub(crate) const fn id(&self) -> NodeId {
        NodeId::from_bytes(*self.own.public())
    }

    /// Whether the keys with a node are there, so that a datagram of its costs no key agreement.
    pub(crate) fn knows(&self, id: &NodeId, now: Instant) -> bool {
        self.keys.contains(id, now)
    }

    /// The keys with a node, made if need be.
    pub(crate) fn with(&mut self, id: &NodeId, now: Instant) -> Result<&SharedKeys, WeakKey> {
        if !self.keys.contains(id, now) {
            let keys = self.own.shared_with(id.as_bytes())?;
            self.insert(*id, keys, now);
        }
        self.keys.get(id, now).ok_or(WeakKey)
    }

    /// The keys with a node that is not remembered yet, for [`insert`](Self::insert) once it proved to have them.
    pub(crate) fn agree(&self, id: &NodeId) -> Result<SharedKeys, WeakKey> {
        self.own.shared_with(id.as_bytes())
    }

    pub(crate) fn insert(&mut self, id: NodeId, keys: SharedKeys, now: Instant) {
        // Without weights nothing is too heavy.
        let _ = self.keys.insert(id, keys, 0, now);
    }

    /// The token that a node gave us, or none.
    pub(crate) fn token(&self, contact: &Contact, now: Instant) -> Token {
        self.tokens.peek(contact, now).copied().unwrap_or(Token::NONE)
    }

    pub(crate) fn set_token(&mut self, contact: Contact, token: Token, now: Instant) {
        let _ = self.tokens.insert(contact, token, 0, now);
    }
}
