//! Who is there, as far as was told.

use std::collections::VecDeque;

/// Nicks that are remembered. Anybody can make some up: when full, the one that came first is forgotten, so that those
/// who come later are still told of.
pub(crate) const MAX_PRESENT: usize = 1024;

/// Nicks whose joining was told, those behind a neighbour included.
#[derive(Debug, Default)]
pub(crate) struct Present(VecDeque<String>);

impl Present {
    /// Whether the nick is new.
    pub(crate) fn insert(&mut self, nick: &str) -> bool {
        if self.0.iter().any(|known| known == nick) {
            return false;
        }
        if self.0.len() >= MAX_PRESENT {
            self.0.pop_front();
        }
        self.0.push_back(nick.to_owned());
        true
    }

    /// Whether the nick was there.
    pub(crate) fn remove(&mut self, nick: &str) -> bool {
        let at = self.0.iter().position(|known| known == nick);
        at.and_then(|at| self.0.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_nicks_do_not_silence_those_who_come_later() {
        let mut present = Present::default();
        assert!(present.insert("alice") && !present.insert("alice"));
        for number in 0..MAX_PRESENT {
            assert!(present.insert(&number.to_string()));
        }
        assert_eq!(present.0.len(), MAX_PRESENT);
        assert!(present.insert("bob") && present.remove("bob") && !present.remove("bob"));
        assert!(!present.remove("alice"), "the oldest was forgotten");
    }
}
