//! What is remembered of the v12 wire, where nobody proves what he says.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use swarm::Security;

/// Nicks that are remembered. Anybody can make some up: when full, the one that came first is forgotten, so that those
/// who come later are still told of.
const MAX_PRESENT: usize = 1024;
/// Messages that are remembered, 16 bytes each; the oldest is forgotten.
const MAX_SEEN: usize = 1024;

/// Nicks whose joining was told, those behind a neighbour included.
#[derive(Debug, Default)]
pub(crate) struct Hearsay(VecDeque<Told>);

#[derive(Debug)]
struct Told {
    nick: String,
    v12_id: String,
}

impl Hearsay {
    /// Whether the nick is new.
    pub(crate) fn insert(&mut self, nick: &str, v12_id: &str) -> bool {
        if self.0.iter().any(|known| known.nick == nick) {
            return false;
        }
        if self.0.len() >= MAX_PRESENT {
            self.0.pop_front();
        }
        self.0.push_back(Told { nick: nick.to_owned(), v12_id: v12_id.to_owned() });
        true
    }

    /// Whether the nick was there.
    pub(crate) fn remove(&mut self, nick: &str) -> bool {
        let at = self.0.iter().position(|known| known.nick == nick);
        at.and_then(|at| self.0.remove(at)).is_some()
    }

    /// Forgets who has this id, and returns the nick.
    pub(crate) fn remove_id(&mut self, v12_id: &str) -> Option<String> {
        let at = self.0.iter().position(|known| known.v12_id == v12_id)?;
        self.0.remove(at).map(|told| told.nick)
    }
}

/// The messages that were heard last, so that what comes by both wires is shown once. Only the same bytes count as the
/// same message, and ours are never the same twice.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// With a key of its own, so that nobody can write a message that is taken for another.
    hash: RandomState,
    wires: BTreeMap<u64, Security>,
    order: VecDeque<u64>,
}

impl Seen {
    /// Whether this came by the other wire.
    pub(crate) fn is_copy(&mut self, content: &[u8], security: Security) -> bool {
        let hash = self.hash.hash_one(content);
        if let Some(first) = self.wires.get(&hash) {
            // What comes twice by one wire was said twice: copies are recognised there.
            return *first != security;
        }
        if self.order.len() >= MAX_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.wires.remove(&oldest);
        }
        self.order.push_back(hash);
        self.wires.insert(hash, security);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_nicks_do_not_silence_those_who_come_later() {
        let mut present = Hearsay::default();
        assert!(present.insert("alice", "1") && !present.insert("alice", "2"));
        for number in 0..MAX_PRESENT {
            assert!(present.insert(&number.to_string(), "3"));
        }
        assert_eq!(present.0.len(), MAX_PRESENT);
        assert!(present.insert("bob", "4") && present.remove("bob") && !present.remove("bob"));
        assert!(!present.remove("alice"), "the oldest was forgotten");
        assert!(present.insert("carol", "5"));
        assert_eq!((present.remove_id("5"), present.remove_id("5")), (Some("carol".to_owned()), None));
    }

    #[test]
    fn what_comes_by_both_wires_is_a_copy_and_what_comes_by_one_is_not() {
        let mut seen = Seen::default();
        for (first, second) in [(Security::Native, Security::LegacyV12), (Security::LegacyV12, Security::Native)] {
            let content = format!("{first:?}");
            assert!(!seen.is_copy(content.as_bytes(), first) && !seen.is_copy(content.as_bytes(), first));
            assert!(seen.is_copy(content.as_bytes(), second) && seen.is_copy(content.as_bytes(), second));
        }
        for number in 0..MAX_SEEN {
            assert!(!seen.is_copy(&number.to_be_bytes(), Security::Native));
        }
        assert_eq!((seen.order.len(), seen.wires.len()), (MAX_SEEN, MAX_SEEN));
        assert!(!seen.is_copy(b"Native", Security::LegacyV12), "forgotten");
    }
}
