//! What a query makes of the answers of many: announcements gathered, records weighed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::message::Request;
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
    /// The closest of those that have none.
    pub(crate) lacks: Option<Contact>,
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
    pub(crate) const fn new(wanted: Wanted) -> Self {
        Self { wanted, best: None, quorum: Vec::new(), lacks: None }
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
        if self.best.as_ref().is_some_and(|best| best.sequence() >= item.sequence()) {
            return Weighed::Nothing;
        }
        self.best = Some(item);
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

    /// Whether nobody else needs to be asked: a value that cannot change is enough once.
    pub(crate) fn is_done(&self) -> bool {
        self.quorum.len() >= limits::READ_QUORUM || matches!(self.best, Some(Item::Value(_)))
    }
}
