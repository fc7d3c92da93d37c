//! Whom one search asks next.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use super::message::{Contact, Id};
use super::table::distance;

/// Requests of one search that are under way at once, as in the existing nodes.
const PARALLEL: usize = 3;
/// Requests of one search.
const MOST: usize = 60;
/// Nodes that one search knows of.
const MAX_KNOWN: usize = 256;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Value,
    /// Those who are close to a key, to know them.
    Nodes,
}

#[derive(Debug)]
pub(super) struct Search {
    pub(super) goal: Goal,
    pub(super) key: Id,
    own: Id,
    /// By distance. `true`: it was asked.
    known: BTreeMap<Id, (Contact, bool)>,
    /// Who has yet to answer.
    open: Vec<SocketAddrV4>,
    asked: usize,
}

impl Search {
    pub(super) fn new(goal: Goal, key: Id, own: Id, start: Vec<Contact>) -> Self {
        let mut search = Self { goal, key, own, known: BTreeMap::new(), open: Vec::new(), asked: 0 };
        search.named(start.into_iter());
        search
    }

    /// Somebody named these. The farthest give way.
    pub(super) fn named(&mut self, contacts: impl Iterator<Item = Contact>) {
        for contact in contacts.filter(|contact| contact.id != self.own) {
            let is_known = self.known.values().any(|(known, _)| known.addr == contact.addr);
            if !is_known {
                self.known.entry(distance(&contact.id, &self.key)).or_insert((contact, false));
            }
        }
        while self.known.len() > MAX_KNOWN {
            self.known.pop_last();
        }
    }

    /// The next to ask: the closest of whom nothing was asked.
    pub(super) fn next(&mut self) -> Option<Contact> {
        if self.open.len() >= PARALLEL || self.asked >= MOST {
            return None;
        }
        let (contact, asked) = self.known.values_mut().find(|(_, asked)| !asked)?;
        *asked = true;
        self.asked += 1;
        self.open.push(contact.addr);
        Some(*contact)
    }

    /// Somebody has answered, or not in time.
    pub(super) fn ended(&mut self, addr: SocketAddrV4) {
        self.open.retain(|open| *open != addr);
    }

    /// Whether nobody is left to ask or to wait for.
    pub(super) fn is_over(&self) -> bool {
        self.open.is_empty() && (self.asked >= MOST || self.known.values().all(|(_, asked)| *asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_are_asked_first_three_at_a_time() {
        let contact = |byte| Contact { id: [byte; 20], addr: SocketAddrV4::new([10, 0, 0, byte].into(), 7) };
        let mut search = Search::new(Goal::Value, [0; 20], [99; 20], [9, 3, 5, 7, 99].map(contact).to_vec());
        assert_eq!([(); 4].map(|()| search.next()), [Some(contact(3)), Some(contact(5)), Some(contact(7)), None]);
        search.ended(contact(3).addr);
        search.named([contact(1), contact(9)].into_iter());
        assert_eq!([(); 2].map(|()| search.next()), [Some(contact(1)), None]);
        [1, 5, 7].iter().for_each(|byte| search.ended(contact(*byte).addr));
        assert!(!search.is_over());
        assert_eq!(search.next(), Some(contact(9)));
        search.ended(contact(9).addr);
        assert!(search.is_over() && search.next().is_none());
    }
}
