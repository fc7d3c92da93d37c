//! What a node keeps for others: announcements of topics, and what lies under a key alone.
//!
//! The invariants, after every call:
//!
//! - everything in it was verified: it is what its key and its signer say;
//! - under a key, for each signer, there is the newest that was shown; nothing goes back;
//! - there are at most [`MAX_STORED`](limits::MAX_STORED) records, in [`MAX_STORED_BYTES`](limits::MAX_STORED_BYTES), and of one
//!   signer, address, subnet and topic no more than their [limits];
//! - everything ends.
//!
//! When it is full, newcomers have the places of those who have more than others: of two subnets, the one with fewer records gains, and
//! the same goes for two addresses that do not count among themselves. So a flood from few networks, or from one host, displaces itself.

mod quotas;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::Seed;
use structs::Deadlines;

use crate::item::{self, Claim};
use crate::subnet::address_of;
use crate::{Announcement, Item, Key, Kind, Refused, Subnets, limits};
use quotas::Quotas;

/// The records that a node keeps for others.
#[derive(Debug)]
pub struct Store {
    subnets: Subnets,
    /// What makes the order of announcements a secret of this node.
    secret: [u8; 32],
    entries: BTreeMap<Place, Entry>,
    ends: Deadlines<Place>,
    quotas: Quotas,
    bytes: usize,
    announcements: usize,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    key: Key,
    /// `None` for an announcement.
    kind: Option<Kind>,
    /// On the circle of announcements.
    point: u32,
    /// Of an announcement; elsewhere zeros.
    peer: [u8; 32],
}

#[derive(Debug, Clone)]
struct Entry {
    /// As it is handed out.
    bytes: Arc<[u8]>,
    /// Sequence or time: more is newer.
    version: u64,
    signer: Option<[u8; 32]>,
    /// When it ends to be true, as time since 1970-01-01 00:00 UTC.
    expires: Duration,
    from: IpAddr,
    /// When it was shown to us last.
    shown: Instant,
    end: Instant,
}

impl Entry {
    const fn new(bytes: Arc<[u8]>, version: u64, signer: Option<[u8; 32]>, from: IpAddr, now: Instant) -> Self {
        Self { bytes, version, signer, expires: Duration::MAX, from, shown: now, end: now }
    }

    fn cost(&self) -> usize {
        self.bytes.len() + limits::STORED_OVERHEAD
    }
}

/// Some of the announcements of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// How many there are.
    pub total: u16,
    /// Where to go on: where it began if that was all.
    pub next: u32,
    /// Bytes of [`Announcement`]s.
    pub announcements: Vec<Arc<[u8]>>,
}

/// Who shows a record, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// By whom: an address that was proved.
    pub from: IpAddr,
    /// How many nodes closer to the key than us, besides those who should have it, are known. Each halves its life here.
    pub extra: u32,
    /// Time since 1970-01-01 00:00 UTC.
    pub unix: Duration,
}

impl Store {
    /// An empty store. Use a seed that nothing else uses.
    #[must_use]
    pub fn new(subnets: Subnets, seed: &Seed) -> Self {
        Self {
            subnets,
            secret: seed.rng().array(),
            entries: BTreeMap::new(),
            ends: Deadlines::new(),
            quotas: Quotas::default(),
            bytes: 0,
            announcements: 0,
        }
    }

    /// Keeps an [`Announcement`] for `key`, and returns for how long.
    ///
    /// # Errors
    /// [`Refused`] says why nothing changed.
    pub fn announce(&mut self, key: Key, bytes: &Arc<[u8]>, shown: Shown, now: Instant) -> Result<Duration, Refused> {
        self.expire(now);
        if bytes.len() > Announcement::MAX_LEN {
            return Err(Refused::Limit);
        }
        let (peer, time) = Announcement::claim(bytes).ok_or(Refused::Limit)?;
        let place = Place { key, kind: None, point: self.point(&peer), peer };
        let mut entry = Entry::new(bytes.clone(), time, Some(peer), shown.from, now);
        let plan = self.plan(place, &entry, now)?;
        entry.expires = match plan.known {
            Some(expires) => expires,
            None => {
                let announcement = Announcement::decode(key, bytes).map_err(Refused::from)?;
                announcement.check(shown.unix)?;
                announcement.expires()
            }
        };
        self.insert(place, entry, plan, halved(limits::ANNOUNCEMENT_LIFE, shown.extra), (shown.unix, now))
    }

    /// Keeps an [`Item`] under the key that follows from it, and returns for how long.
    ///
    /// # Errors
    /// [`Refused`] says why nothing changed.
    pub fn put(&mut self, kind: Kind, bytes: &Arc<[u8]>, shown: Shown, now: Instant) -> Result<Duration, Refused> {
        self.expire(now);
        let Claim { key, sequence, signer, front } = Claim::of(kind, bytes)?;
        let place = Place { key, kind: Some(kind), point: 0, peer: [0; 32] };
        let answer = if front == 0 { bytes.clone() } else { bytes.get(front..).unwrap_or_default().into() };
        let mut entry = Entry::new(answer, sequence, signer, shown.from, now);
        let plan = self.plan(place, &entry, now)?;
        entry.expires = match plan.known {
            Some(expires) => expires,
            None => match Item::decode(kind, bytes).map_err(Refused::from)? {
                Item::Peer(record) => {
                    record.check(shown.unix).or(Err(Refused::Time))?;
                    record.expires()
                }
                Item::Value(_) | Item::Signed(_) => Duration::MAX,
            },
        };
        self.insert(place, entry, plan, halved(limits::ITEM_LIFE, shown.extra), (shown.unix, now))
    }

    /// The announcements of a key: from `start` on their circle on, as many as fit into `room` bytes with 2 for each, and of one
    /// subnet at most 2, where addresses count.
    #[must_use]
    pub fn peers(&self, key: &Key, start: u32, room: usize) -> Page {
        let [first, begin, last] = topic(key, start);
        let mut page = Page { total: 0, next: start, announcements: Vec::new() };
        let (mut left, mut subnets) = (room, Vec::new());
        let total = self.entries.range(first..=last).count();
        page.total = u16::try_from(total).unwrap_or(u16::MAX);
        for (place, entry) in self.entries.range(begin..=last).chain(self.entries.range(first..begin)) {
            let subnet = self.subnets.of(entry.from);
            let same = subnets.iter().filter(|other| **other == subnet).count();
            if subnet.is_some() && same >= limits::MAX_SUBNET_IN_ANSWER {
                continue;
            }
            let Some(rest) = left.checked_sub(entry.bytes.len() + 2) else {
                page.next = place.point;
                break;
            };
            left = rest;
            subnets.push(subnet);
            page.announcements.push(entry.bytes.clone());
        }
        page
    }

    /// What lies under a key, [as an answer carries it](Item::to_answer).
    #[must_use]
    pub fn get(&self, kind: Kind, key: &Key) -> Option<&Arc<[u8]>> {
        let place = Place { key: *key, kind: Some(kind), point: 0, peer: [0; 32] };
        self.entries.get(&place).map(|entry| &entry.bytes)
    }

    /// Forgets what has ended.
    pub fn expire(&mut self, now: Instant) {
        while let Some(place) = self.ends.pop_due(now) {
            self.remove(&place);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.ends = Deadlines::new();
        self.quotas = Quotas::default();
        (self.bytes, self.announcements) = (0, 0);
    }

    /// When something ends next.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.next().map(|(at, _)| at)
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many of them are announcements.
    #[must_use]
    pub const fn announcements(&self) -> usize {
        self.announcements
    }

    /// What they cost, with [`STORED_OVERHEAD`](limits::STORED_OVERHEAD) for each.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the announcements of a peer stand on their circles.
    fn point(&self, peer: &[u8; 32]) -> u32 {
        let [a, b, c, d, ..] = *item::place(&self.secret, &[peer]).as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// What keeping a record would take, by cheap checks only.
    fn plan(&self, place: Place, new: &Entry, now: Instant) -> Result<Plan, Refused> {
        let old = self.entries.get(&place);
        match old {
            Some(old) if old.version > new.version => return Err(Refused::Older),
            Some(old) if old.version == new.version && old.bytes != new.bytes => return Err(Refused::Conflict),
            Some(old) if old.version == new.version => {
                return Ok(Plan { known: Some(old.expires), victims: Vec::new() });
            }
            _ => {}
        }
        self.quotas.check(self.subnets, old, new)?;
        let mut victims = Vec::new();
        if place.kind.is_none() && old.is_none() {
            victims.extend(self.plan_topic(&place.key, new, now)?);
        }
        self.plan_room(place, new, &mut victims)?;
        Ok(Plan { known: None, victims })
    }

    /// Whose place in its topic a new announcement gets, if there is none left.
    fn plan_topic(&self, key: &Key, new: &Entry, now: Instant) -> Result<Option<Place>, Refused> {
        let [first, _, last] = topic(key, 0);
        let subnet = self.subnets.of(new.from);
        let entries = || self.entries.range(first..=last);
        let of_subnet = |wanted| entries().filter(move |(_, entry)| self.subnets.of(entry.from) == wanted);
        let own = of_subnet(subnet).count();
        if subnet.is_some() && own >= limits::MAX_STORED_PER_TOPIC_AND_SUBNET {
            return Err(Refused::Quota);
        }
        if entries().count() < limits::MAX_STORED_PER_TOPIC {
            return Ok(None);
        }
        let oldest = entries().min_by_key(|(_, entry)| entry.shown);
        if let Some((place, entry)) = oldest
            && now.saturating_duration_since(entry.shown) > limits::PUBLISH_INTERVAL + limits::CLOCK_TOLERANCE
        {
            return Ok(Some(*place));
        }
        let (count, crowd) = largest(entries().map(|(_, entry)| self.subnets.of(entry.from))).ok_or(Refused::Full)?;
        let oldest_of = |among: &dyn Fn(&Entry) -> bool| {
            let all = entries().filter(|(_, entry)| among(entry));
            all.min_by_key(|(_, entry)| entry.shown).map(|(place, _)| *place)
        };
        if crowd.is_some() {
            let enough = count > own + 1;
            return enough.then(|| oldest_of(&|entry| self.subnets.of(entry.from) == crowd)).ok_or(Refused::Full);
        }
        // Those of no subnet that counts are one against others, but one address does not crowd out the rest of them.
        let homes = || of_subnet(None).map(|(_, entry)| address_of(entry.from));
        let (most, home) = largest(homes()).ok_or(Refused::Full)?;
        let enough = match subnet {
            Some(_) => count > own + 1,
            None => most > homes().filter(|home| *home == address_of(new.from)).count() + 1,
        };
        enough.then(|| oldest_of(&|entry| address_of(entry.from) == home)).ok_or(Refused::Full)
    }

    /// Adds those to `victims` that have to go for the record as a whole.
    fn plan_room(&self, place: Place, new: &Entry, victims: &mut Vec<Place>) -> Result<(), Refused> {
        let cost = |place: &Place| self.entries.get(place).map_or(0, Entry::cost);
        let (mut count, mut bytes) = (self.entries.len() + 1, self.bytes + new.cost());
        for gone in victims.iter().chain([&place]) {
            count -= usize::from(self.entries.contains_key(gone));
            bytes -= cost(gone);
        }
        let fits = |count, bytes| count <= limits::MAX_STORED && bytes <= limits::MAX_STORED_BYTES;
        if fits(count, bytes) {
            return Ok(());
        }
        for crowded in self.quotas.crowded(self.subnets, new).filter(|crowded| *crowded != place) {
            if !victims.contains(&crowded) {
                count -= 1;
                bytes -= cost(&crowded);
                victims.push(crowded);
            }
            if fits(count, bytes) {
                return Ok(());
            }
        }
        Err(Refused::Full)
    }

    /// Keeps a record for at most `life`, and not longer than it is true, which it may be no more. Returns for how long.
    fn insert(
        &mut self,
        place: Place,
        mut entry: Entry,
        plan: Plan,
        life: Duration,
        (unix, now): (Duration, Instant),
    ) -> Result<Duration, Refused> {
        let left = entry.expires.checked_sub(unix).filter(|left| !left.is_zero()).ok_or(Refused::Time)?;
        let life = life.min(left);
        plan.victims.iter().for_each(|victim| self.remove(victim));
        entry.end = now.checked_add(life).unwrap_or(now);
        if let Some(old) = self.entries.get(&place).filter(|_| plan.known.is_some()) {
            // Whoever showed it first answers for it; being shown again does not shorten its life.
            (entry.from, entry.end) = (old.from, entry.end.max(old.end));
        }
        self.remove(&place);
        self.bytes += entry.cost();
        self.announcements += usize::from(place.kind.is_none());
        self.quotas.add(self.subnets, place, &entry);
        self.ends.set(place, Some(entry.end));
        self.entries.insert(place, entry);
        Ok(life)
    }

    fn remove(&mut self, place: &Place) {
        let Some(entry) = self.entries.remove(place) else { return };
        self.ends.remove(place);
        self.bytes -= entry.cost();
        self.announcements -= usize::from(place.kind.is_none());
        self.quotas.remove(self.subnets, place, &entry);
    }
}

/// What becomes of a record that may be kept.
struct Plan {
    /// The same record is there already, byte for byte, so that its signature need not be checked again: when it ends to be true.
    known: Option<Duration>,
    /// Those that go for it.
    victims: Vec<Place>,
}

/// What there is most of, and how often.
fn largest<K: Ord>(all: impl Iterator<Item = K>) -> Option<(usize, K)> {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts.into_iter().map(|(one, count)| (count, one)).max()
}

/// The first place of a topic, that from `start` on, and the last.
fn topic(key: &Key, start: u32) -> [Place; 3] {
    let place = |point, peer| Place { key: *key, kind: None, point, peer: [peer; 32] };
    [place(0, 0), place(start, 0), place(u32::MAX, u8::MAX)]
}

fn halved(life: Duration, extra: u32) -> Duration {
    life / (1 << extra.min(limits::MAX_HALVINGS))
}
