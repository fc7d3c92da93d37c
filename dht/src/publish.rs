//! What the owner publishes: stored now, and again before it ends, until it is withdrawn.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::Identity;
use framing::EncodeError;

use crate::announcement::{check_places, days_to_announce, topic_key};
use crate::dht::Dht;
use crate::gather::Sake;
use crate::message::{Outcome, Request};
use crate::{
    Announcement, Contact, Event, Family, Item, Key, PublishError, QueryId, Refused, Relay, Table, Tally, limits,
};

/// Who announces itself, and where it can be found.
#[derive(Debug, Clone)]
pub struct Announcer {
    /// Signs the announcements, anew every time.
    pub identity: Arc<Identity>,
    /// Where it listens: at most 4, the preferred first.
    pub addresses: Vec<SocketAddr>,
    /// Who passes packets on to it: at most 2.
    pub relays: Vec<Relay>,
}

#[derive(Debug)]
pub(crate) struct Publication {
    what: What,
    sake: Sake,
    round: u32,
    stored: u32,
    /// The pause after a round in which nobody stored it.
    pause: Duration,
    /// The round that is running.
    running: Option<QueryId>,
    /// How many nodes of each family there were in the round before, or are in this one, for all that was known.
    population: [u64; 2],
}

#[derive(Debug)]
enum What {
    Topic([u8; 32], Announcer),
    Item(Item),
}

impl What {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Topic(a, by_a), Self::Topic(b, by_b)) => {
                a == b && by_a.identity.peer_id() == by_b.identity.peer_id()
            }
            (Self::Item(a), Self::Item(b)) => (a.kind(), a.key()) == (b.kind(), b.key()),
            _ => false,
        }
    }
}

/// One round: the same to each of the closest nodes.
#[derive(Debug)]
pub(crate) struct Delivery {
    publication: QueryId,
    pub(crate) sake: Sake,
    /// What is to be stored near which key.
    pub(crate) requests: Vec<(Key, Request)>,
    /// Who was asked to store something under which key, or waits for that.
    chosen: BTreeSet<(Key, Contact)>,
    /// Who is to store what, and was not asked yet.
    pub(crate) queue: Vec<(Contact, Request)>,
    pub(crate) stored: u32,
    pub(crate) refused: Vec<Refused>,
    /// How many nodes of each family there are, by the look of those that were found.
    population: [u64; 2],
}

impl Delivery {
    fn new(publication: QueryId, sake: Sake, requests: Vec<(Key, Request)>) -> Self {
        let (chosen, queue, refused) = (BTreeSet::new(), Vec::new(), Vec::new());
        Self { publication, sake, requests, chosen, queue, stored: 0, refused, population: [0; 2] }
    }

    /// What is to be stored under a key.
    pub(crate) fn request(&self, key: Key) -> Option<&Request> {
        self.requests.iter().find(|(other, _)| *other == key).map(|(_, request)| request)
    }

    /// What a node on the way is asked, if it is to store something and was not asked that yet: to do so, and to name others as it
    /// would if it were asked for them.
    pub(crate) fn choose(&mut self, key: Key, contact: Contact, family: Family) -> Option<Request> {
        let mut request = self.request(key)?.clone();
        if let Request::Announce { family: wanted, .. } | Request::Put { family: wanted, .. } = &mut request {
            *wanted = Some(family);
        }
        let few = self.chosen.iter().filter(|(other, _)| *other == key).count() < limits::K;
        (few && self.chosen.insert((key, contact))).then_some(request)
    }

    /// Takes in what became of a request to store something.
    pub(crate) fn on_outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Stored { .. } => self.stored += 1,
            Outcome::Refused(reason) => self.refused.push(*reason),
            _ => {}
        }
    }

    /// Takes in that a node which was [chosen](Self::choose) does not store what it was asked to. Who is busy may be chosen again.
    pub(crate) fn on_refusal(&mut self, key: Key, from: Contact, reason: Refused) {
        if reason == Refused::Busy {
            self.chosen.remove(&(key, from));
        } else {
            self.refused.push(reason);
        }
    }

    /// Takes in that a node is for now among those that are to store what belongs under a key.
    pub(crate) fn on_near(&mut self, key: Key, contact: Contact) {
        if self.chosen.iter().filter(|(other, _)| *other == key).count() < limits::K {
            self.on_found(key, &[contact]);
        }
    }

    /// Takes in how many nodes there are by the look of those that a lookup found.
    pub(crate) fn on_population(&mut self, family: Family, found: u64) {
        let [v4, v6] = &mut self.population;
        let population = if family == Family::V4 { v4 } else { v6 };
        *population = found.max(*population);
    }

    /// Takes in nodes that are to store what belongs under a key, the closest first.
    pub(crate) fn on_found(&mut self, key: Key, closest: &[Contact]) {
        let Some(request) = self.request(key).cloned() else { return };
        // The last is asked first.
        for contact in closest {
            if self.chosen.insert((key, *contact)) {
                self.queue.insert(0, (*contact, request.clone()));
            }
        }
    }
}

impl Dht {
    /// Announces a peer for a topic, now and again before the announcement ends, until it is [withdrawn](Self::withdraw).
    /// [`Event::Stored`] tells of every time. It takes the place of what the same peer announced for the topic before.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn announce(&mut self, topic: [u8; 32], announcer: Announcer, now: Instant) -> Result<QueryId, PublishError> {
        check_places(&announcer.addresses, &announcer.relays)?;
        self.publish(What::Topic(topic, announcer), Sake::Owner, now)
    }

    /// Puts a record where others find it, now and again before it ends, until it is [withdrawn](Self::withdraw).
    /// [`Event::Stored`] tells of every time. It takes the place of what was put under the same key before.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn put(&mut self, item: Item, now: Instant) -> Result<QueryId, PublishError> {
        self.put_for(Sake::Owner, item, now)
    }

    /// As [`put`](Self::put), for somebody else: as with [`get_for_others`](Self::get_for_others), few are asked that are known by
    /// hearsay only.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn put_for_others(&mut self, item: Item, now: Instant) -> Result<QueryId, PublishError> {
        self.put_for(Sake::Others, item, now)
    }

    fn put_for(&mut self, sake: Sake, item: Item, now: Instant) -> Result<QueryId, PublishError> {
        let now = self.at(now);
        match &item {
            Item::Value(value) if value.len() > limits::MAX_VALUE => {
                return Err(EncodeError::TooLong { len: value.len(), max: limits::MAX_VALUE }.into());
            }
            Item::Peer(record) => record.check(self.unix(now)).or(Err(PublishError::Time))?,
            Item::Value(_) | Item::Signed(_) => {}
        }
        self.publish(What::Item(item), sake, now)
    }

    /// Publishes something no longer. Others keep it until it ends there. Returns whether it was published.
    pub fn withdraw(&mut self, id: QueryId) -> bool {
        let Some(publication) = self.publications.remove(&id) else { return false };
        self.due.remove(&id);
        if let Some(task) = publication.running {
            self.drop_task(task);
            if publication.round == 0 {
                self.queries = self.queries.saturating_sub(1);
            }
        }
        true
    }

    /// When something is published again; `None` while it is, and if it is not published at all.
    #[must_use]
    pub fn next_round(&self, id: QueryId) -> Option<Instant> {
        self.due.get(&id)
    }

    fn publish(&mut self, what: What, sake: Sake, now: Instant) -> Result<QueryId, PublishError> {
        let now = self.at(now);
        let before = self.publications.iter().find(|(_, other)| other.what.is_same(&what)).map(|(id, _)| *id);
        if before.is_none() && self.publications.len() >= limits::MAX_PUBLICATIONS {
            return Err(PublishError::Full);
        }
        self.admit_query()?;
        before.map(|before| self.withdraw(before));
        let id = self.new_query();
        let (round, stored, pause, running, population) = (0, 0, Duration::ZERO, None, [0; 2]);
        let publication = Publication { what, sake, round, stored, pause, running, population };
        self.publications.insert(id, publication);
        self.start_round(id, now);
        Ok(id)
    }

    fn start_round(&mut self, id: QueryId, now: Instant) {
        let unix = self.unix(now);
        let population = self.populations();
        let Some(publication) = self.publications.get_mut(&id) else { return };
        publication.population = population;
        let requests: Vec<(Key, Request)> = match &publication.what {
            What::Topic(topic, Announcer { identity, addresses, relays }) => days_to_announce(unix)
                .filter_map(|day| {
                    let key = topic_key(topic, day);
                    let life = limits::ANNOUNCEMENT_LIFE;
                    let signed = Announcement::sign(identity, key, unix, life, addresses, relays).ok()?;
                    Some((key, Request::Announce { key, announcement: signed.as_bytes().clone(), family: None }))
                })
                .collect(),
            What::Item(item) => {
                vec![(item.key(), Request::Put { kind: item.kind(), item: item.to_bytes(), family: None })]
            }
        };
        let (round, sake) = (publication.round, publication.sake);
        let task = self.deliver(Delivery::new(id, sake, requests), now);
        // It can end at once.
        if let Some(publication) = self.publications.get_mut(&id).filter(|publication| publication.round == round) {
            publication.running = self.tasks.contains_key(&task).then_some(task);
        }
    }

    /// Takes in that a round has ended.
    pub(crate) fn on_delivered(&mut self, delivery: Delivery, tally: Tally, now: Instant) {
        let id = delivery.publication;
        let Some(publication) = self.publications.get_mut(&id) else { return };
        let round = publication.round;
        (publication.running, publication.stored) = (None, delivery.stored);
        for (population, found) in publication.population.iter_mut().zip(delivery.population) {
            *population = found.max(*population);
        }
        publication.round = round.saturating_add(1);
        let wait = if delivery.stored == 0 {
            publication.pause = (publication.pause * 2).clamp(limits::PUBLISH_RETRY, limits::PUBLISH_INTERVAL);
            publication.pause
        } else {
            publication.pause = Duration::ZERO;
            limits::PUBLISH_INTERVAL
        };
        let early = self.rng.duration_below(wait / 6);
        self.due.set(id, now.checked_add(wait.saturating_sub(early)));
        if round > 0 {
            let old = |event: &Event| matches!(event, Event::Stored { id: of, round, .. } if *of == id && *round > 0);
            self.events.retain(|event| !old(event));
        }
        let Delivery { stored, refused, .. } = delivery;
        self.events.push_back(Event::Stored { id, round, stored, refused, tally });
        self.publish_grown(now);
    }

    /// Publishes again what is due.
    pub(crate) fn publish_due(&mut self, now: Instant) {
        while let Some(id) = self.due.pop_due(now) {
            // A record that ends is published no more.
            let unix = self.unix(now);
            let ended = |what: &What| matches!(what, What::Item(Item::Peer(record)) if record.check(unix).is_err());
            if self.publications.get(&id).is_some_and(|publication| ended(&publication.what)) {
                self.publications.remove(&id);
            } else {
                self.start_round(id, now);
            }
        }
    }

    /// Publishes at once what was published when there were half as many nodes, or less: of those that are closest to it now, most
    /// were not there. What nobody stores has times of its own.
    pub(crate) fn publish_grown(&mut self, now: Instant) {
        if self.publications.is_empty() {
            return;
        }
        let population = self.populations();
        for (id, publication) in &mut self.publications {
            let mut families = population.iter().zip(publication.population);
            let grown = families.any(|(now, then)| *now > then && *now / 2 >= then);
            if grown && publication.stored > 0 && publication.running.is_none() {
                self.due.set(*id, Some(now));
            }
        }
    }

    /// How many nodes of each family there are, by the look of our neighbourhood.
    fn populations(&self) -> [u64; 2] {
        self.tables.each_ref().map(Table::population)
    }

    /// Publishes at once what nobody stores yet, or everything: there are new nodes.
    pub(crate) fn publish_unstored(&mut self, everything: bool, now: Instant) {
        for (id, publication) in &mut self.publications {
            if (everything || publication.stored == 0) && publication.running.is_none() {
                publication.pause = Duration::ZERO;
                self.due.set(*id, Some(now));
            }
        }
    }
}
