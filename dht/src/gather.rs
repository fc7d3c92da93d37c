//! What a query makes of the answers of many: announcements gathered, records weighed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::message::Request;
use crate::subnet::is_public;
use crate::{Announcement, Contact, Distance, Item, Key, Subnets, Wanted, limits};

/// The announcements of a topic, from all who store them.
///
/// Most of the first answers hold only a part of what their nodes store. When the closest nodes are known, some of them are asked
/// for the rest, each until it went round its circle.
#[derive(Debug)]
pub(crate) struct Gather {
    subnets: Subnets,
    /// The newest time of each peer.
    seen: BTreeMap<[u8; 32], u64>,
    storers: Vec<Storer>,
}

#[derive(Debug)]
struct Storer {
    key: Key,
    distance: Distance,
    contact: Contact,
    /// Where its next answer begins.
    next: u32,
    /// How far it went; once round is 2^32.
    walked: u64,
    pages: u32,
    busy: bool,
    /// It was silent, or lied.
    useless: bool,
}

impl Storer {
    const fn has_more(&self) -> bool {
        self.walked <= u32::MAX as u64 && self.pages < limits::MAX_PAGES
    }
}

/// What one answer brought.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Those that were not known.
    pub(crate) announcements: Vec<Announcement>,
    /// How many were not what they must be.
    pub(crate) forged: u32,
}

impl Gather {
    pub(crate) const fn new(subnets: Subnets) -> Self {
        Self { subnets, seen: BTreeMap::new(), storers: Vec::new() }
    }

    /// Takes in the announcements that lie under `key`, wherever they come from.
    pub(crate) fn on_records(&mut self, key: Key, records: &[Arc<[u8]>], unix: Duration) -> News {
        let mut news = News::default();
        for bytes in records {
            let Some((peer, time)) = Announcement::claim(bytes) else {
                news.forged += 1;
                continue;
            };
            let known = self.seen.get(&peer).is_some_and(|known| *known >= time);
            if known || self.seen.len() >= limits::MAX_PEERS_FOUND && !self.seen.contains_key(&peer) {
                continue;
            }
            match Announcement::decode(key, bytes) {
                Ok(announcement) => {
                    // One that has ended is no lie.
                    if announcement.check(unix).is_ok() {
                        self.seen.insert(peer, time);
                        news.announcements.push(announcement);
                    }
                }
                Err(_) => news.forged += 1,
            }
        }
        news
    }

    /// Takes in an answer that began at `start`.
    pub(crate) fn on_page(
        &mut self,
        from: Contact,
        (key, start, next): (Key, u32, u32),
        records: &[Arc<[u8]>],
        unix: Duration,
    ) -> News {
        let news = self.on_records(key, records, unix);
        let distance = self.subnets.key_of(&from).distance(&key);
        let place = self.storers.iter().position(|storer| storer.contact == from && storer.key == key);
        let place = place.unwrap_or_else(|| {
            let (next, walked, pages) = (start, 0, 0);
            self.storers.push(Storer {
                key,
                distance,
                contact: from,
                next,
                walked,
                pages,
                busy: false,
                useless: false,
            });
            self.storers.len() - 1
        });
        if let Some(storer) = self.storers.get_mut(place) {
            let step = next.wrapping_sub(start);
            storer.walked += if step == 0 { 1 << 32 } else { step.into() };
            (storer.next, storer.busy) = (next, false);
            storer.pages += 1;
            storer.useless |= news.forged > 0 || records.is_empty();
        }
        news
    }

    /// Takes in that a node does not answer.
    pub(crate) fn on_failure(&mut self, contact: &Contact, key: &Key) {
        let asked = |storer: &&mut Storer| storer.contact == *contact && storer.key == *key;
        if let Some(storer) = self.storers.iter_mut().find(asked) {
            (storer.busy, storer.useless) = (false, true);
        }
    }

    /// Whom to ask for more now: of each key the closest who store something, each in a subnet of its own.
    pub(crate) fn next(&mut self) -> Option<(Contact, Request)> {
        self.storers.sort_by_key(|storer| (storer.key, storer.distance));
        let mut walkers: Vec<(Key, Option<_>)> = Vec::new();
        for storer in self.storers.iter_mut().filter(|storer| !storer.useless) {
            let subnet = self.subnets.of(storer.contact.addr.ip());
            let of_key = walkers.iter().filter(|(key, _)| *key == storer.key).count();
            let crowded = subnet.is_some() && walkers.contains(&(storer.key, subnet));
            if of_key >= limits::WALKERS || crowded {
                continue;
            }
            walkers.push((storer.key, subnet));
            if !storer.busy && storer.has_more() {
                storer.busy = true;
                let request = Request::Peers { key: storer.key, family: None, start: storer.next };
                return Some((storer.contact, request));
            }
        }
        None
    }
}

/// What lies under a key, from several who store it.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) wanted: Wanted,
    pub(crate) best: Option<Item>,
    /// Those whose records were valid, one of each subnet that counts.
    quorum: Vec<Contact>,
    /// Somebody who is reached from everywhere has the best.
    is_public: bool,
    /// For whom it is looked for.
    pub(crate) sake: Sake,
    /// The closest of those that have none.
    lacks: Option<Contact>,
}

/// For whom something is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sake {
    Owner,
    Others,
}

/// What an answer changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Weighed {
    /// It was not what was asked for.
    Forged,
    /// Nothing: it has ended, or there is a newer one.
    Nothing,
    /// It is the newest so far.
    Newest,
}

impl Fetch {
    pub(crate) const fn new(wanted: Wanted, sake: Sake) -> Self {
        Self { wanted, best: None, quorum: Vec::new(), is_public: false, sake, lacks: None }
    }

    /// Takes in what somebody stores; `from` is `None` for ourselves.
    pub(crate) fn on_item(&mut self, from: Option<Contact>, bytes: &[u8], subnets: Subnets, unix: Duration) -> Weighed {
        let Ok(item) = self.wanted.decode(bytes) else { return Weighed::Forged };
        if let Item::Peer(record) = &item
            && record.check(unix).is_err()
        {
            return Weighed::Nothing;
        }
        if let Some(from) = from {
            let subnet = subnets.of(from.addr.ip());
            let same = |other: &Contact| subnet.is_some() && subnets.of(other.addr.ip()) == subnet;
            if !self.quorum.iter().any(|other| other.id == from.id || same(other)) {
                self.quorum.push(from);
            }
        }
        let is_public = from.is_some_and(|from| is_public(from.addr.ip()));
        if let Some(best) = self.best.as_ref().filter(|best| best.sequence() >= item.sequence()) {
            self.is_public |= is_public && *best == item;
            return Weighed::Nothing;
        }
        (self.best, self.is_public) = (Some(item), is_public);
        Weighed::Newest
    }

    /// Takes in that somebody stores nothing.
    pub(crate) fn on_nothing(&mut self, from: Contact, subnets: Subnets) {
        let key = self.wanted.key();
        let distance = |contact: &Contact| subnets.key_of(contact).distance(&key);
        if self.lacks.is_none_or(|lacks| distance(&from) < distance(&lacks)) {
            self.lacks = Some(from);
        }
    }

    /// What is given to whom, when all is over: the best to the closest that has none. What was found for others is not, for its place
    /// there counts as ours; nor what was seen in private networks only to who is outside.
    pub(crate) fn gift(&self) -> Option<(Contact, &Item)> {
        let to = self.lacks.filter(|lacks| self.is_public || !is_public(lacks.addr.ip()))?;
        self.best.as_ref().filter(|_| self.sake == Sake::Owner).map(|item| (to, item))
    }

    /// Whether nobody else needs to be asked: a value that cannot change is enough once.
    pub(crate) fn is_done(&self) -> bool {
        self.quorum.len() >= limits::READ_QUORUM || matches!(self.best, Some(Item::Value(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    #[test]
    fn what_only_private_nodes_have_is_not_given_away() {
        let node = |id: u8, ip: [u8; 4]| Contact { id: NodeId::from_bytes([id; 32]), addr: (ip, 4000).into() };
        let [home, public, lacks] = [node(1, [10, 0, 0, 1]), node(2, [8, 8, 8, 8]), node(3, [9, 9, 9, 9])];
        let item = Item::Value(b"value".as_slice().into());
        let gift = |from: &[Option<Contact>], sake, lacks| {
            let mut fetch = Fetch::new(Wanted::Value(item.key()), sake);
            fetch.on_nothing(lacks, Subnets::Public);
            for from in from {
                fetch.on_item(*from, &item.to_answer(), Subnets::Public, Duration::ZERO);
            }
            fetch.gift().map(|(to, item)| (to, item.clone()))
        };
        assert_eq!(gift(&[Some(public)], Sake::Owner, lacks), Some((lacks, item.clone())));
        assert_eq!(gift(&[Some(home), Some(public)], Sake::Owner, lacks), Some((lacks, item.clone())));
        assert_eq!(gift(&[Some(home)], Sake::Owner, lacks), None);
        assert_eq!(gift(&[None], Sake::Owner, lacks), None, "nor what lies here");
        assert_eq!(gift(&[Some(home)], Sake::Owner, node(3, [10, 0, 0, 3])).map(|(to, _)| to.id), Some(lacks.id));
        assert_eq!(gift(&[Some(public)], Sake::Others, lacks), None);
    }
}
