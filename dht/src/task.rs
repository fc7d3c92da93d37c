//! Queries for records, and rounds of publishing: what consists of several lookups, and of what follows from them.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::announcement::{days_to_ask, topic_key};
use crate::dht::{Ask, Dht, Goal, Purpose};
use crate::gather::{Fetch, Gather, News, Sake, Weighed};
use crate::message::{Outcome, Request};
use crate::publish::Delivery;
use crate::store::Shown;
use crate::{Contact, Event, Family, Found, Key, QueryError, QueryId, Refused, Tally, Wanted, limits};

/// What the owner waits for.
#[derive(Debug)]
pub(crate) struct Task {
    /// Lookups that are running.
    searches: usize,
    /// Requests besides them that are on their way.
    in_flight: usize,
    pub(crate) tally: Tally,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Peers(Gather),
    Get(Fetch),
    Deliver(Delivery),
}

impl Task {
    /// For whom it is done.
    pub(crate) const fn sake(&self) -> Sake {
        match &self.work {
            Work::Peers(_) => Sake::Owner,
            Work::Get(fetch) => fetch.sake,
            Work::Deliver(delivery) => delivery.sake,
        }
    }
}

impl Dht {
    /// Looks for those who announced themselves for a topic: [`Event::Peer`] for each, [`Event::PeersDone`] at the end. What
    /// lies here is handed out first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn peers(&mut self, topic: &[u8; 32], now: Instant) -> Result<QueryId, QueryError> {
        let now = self.at(now);
        self.admit_query()?;
        let id = self.new_query();
        let unix = self.unix(now);
        let keys: Vec<Key> = days_to_ask(unix).map(|day| topic_key(topic, day)).collect();
        let mut gather = Gather::new(self.subnets);
        let mut tally = Tally::default();
        self.store.expire(now);
        for key in &keys {
            let here = self.store.peers(key, 0, usize::MAX);
            let news = gather.on_records(*key, &here.announcements, unix);
            self.report_peers(id, news, &mut tally);
        }
        self.start_task(id, Work::Peers(gather), tally, &keys, Ask::Peers, now);
        Ok(id)
    }

    /// Looks for a record: [`Event::Record`] for the first, and for newer ones, [`Event::GetDone`] at the end.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn get(&mut self, wanted: Wanted, now: Instant) -> Result<QueryId, QueryError> {
        self.fetch(Fetch::new(wanted, Sake::Owner), now)
    }

    /// As [`get`](Self::get), for somebody else: what is found is not given to a node that lacks it, where it would count as ours. And
    /// of nodes that are known by hearsay only, [few](limits::STRANGERS_ASKED_AT_ONCE) at one public address are asked: whoever has us
    /// search has us send little to whom his friends name.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn get_for_others(&mut self, wanted: Wanted, now: Instant) -> Result<QueryId, QueryError> {
        self.fetch(Fetch::new(wanted, Sake::Others), now)
    }

    fn fetch(&mut self, mut fetch: Fetch, now: Instant) -> Result<QueryId, QueryError> {
        let now = self.at(now);
        self.admit_query()?;
        let id = self.new_query();
        let (key, kind) = (fetch.wanted.key(), fetch.wanted.kind());
        let mut tally = Tally::default();
        self.store.expire(now);
        if let Some(here) = self.store.get(kind, &key).cloned()
            && fetch.on_item(None, &here, self.subnets, self.unix(now)) == Weighed::Newest
        {
            tally.records += 1;
            self.events.extend(fetch.best.clone().map(|item| Event::Record { id, item }));
        }
        if fetch.is_done() {
            self.events.push_back(Event::GetDone { id, newest: fetch.best, tally });
        } else {
            self.start_task(id, Work::Get(fetch), tally, &[key], Ask::Get(kind), now);
        }
        Ok(id)
    }

    /// Ends a query for peers or for a record, which has no further events. Returns whether it was running.
    pub fn cancel(&mut self, id: QueryId) -> bool {
        let running = self.tasks.get(&id).is_some_and(|task| !matches!(task.work, Work::Deliver(_)));
        if running {
            self.drop_task(id);
            self.queries = self.queries.saturating_sub(1);
        }
        running
    }

    /// A round of publishing.
    pub(crate) fn deliver(&mut self, delivery: Delivery, now: Instant) -> QueryId {
        let id = self.new_query();
        let keys: Vec<Key> = delivery.requests.iter().map(|(key, _)| *key).collect();
        self.start_task(id, Work::Deliver(delivery), Tally::default(), &keys, Ask::Store, now);
        id
    }

    fn start_task(&mut self, id: QueryId, work: Work, tally: Tally, keys: &[Key], ask: Ask, now: Instant) {
        let families = [Family::V4, Family::V6].into_iter().filter(|family| !self.table(*family).is_empty());
        let families: Vec<Family> = families.collect();
        // One more than there are, so that it does not end before all have begun.
        let task = Task { searches: keys.len() * families.len() + 1, in_flight: 0, tally, work };
        self.tasks.insert(id, task);
        for key in keys {
            for family in &families {
                self.start_lookup(*key, *family, Goal::Part(id, ask), now);
            }
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.searches -= 1;
        }
        self.drive(id, now);
    }

    /// What a node is to store that a lookup is about to ask, if it is.
    pub(crate) fn choose(&mut self, id: QueryId, key: Key, contact: Contact, family: Family) -> Option<Request> {
        match &mut self.tasks.get_mut(&id)?.work {
            Work::Deliver(delivery) => delivery.choose(key, contact, family),
            Work::Peers(_) | Work::Get(_) => None,
        }
    }

    /// Takes in that a node which a lookup asked to store something does not.
    pub(crate) fn on_part_refused(&mut self, id: QueryId, key: Key, from: Contact, reason: Refused) {
        if let Some(Task { work: Work::Deliver(delivery), .. }) = self.tasks.get_mut(&id) {
            delivery.on_refusal(key, from, reason);
        }
    }

    /// Takes in what a node answered to a request of a lookup; `near` if it is [among the closest](crate::lookup::Lookup::is_near).
    pub(crate) fn on_part_answer(
        &mut self,
        id: QueryId,
        (from, near): (Contact, bool),
        request: &Request,
        outcome: Outcome,
        now: Instant,
    ) {
        let (subnets, unix) = (self.subnets, self.unix(now));
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match (&mut task.work, request, outcome) {
            (Work::Peers(gather), Request::Peers { key, start, .. }, Outcome::Peers { next, announcements, .. }) => {
                let news = gather.on_page(from, (*key, *start, next), &announcements, unix);
                let mut tally = task.tally;
                self.report_peers(id, news, &mut tally);
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.tally = tally;
                }
            }
            (Work::Peers(gather), Request::Peers { key, family: None, .. }, _) => gather.on_failure(&from, key),
            (Work::Get(fetch), Request::Get { .. }, Outcome::Item { item, .. }) => {
                match fetch.on_item(Some(from), &item, subnets, unix) {
                    Weighed::Forged => task.tally.forged += 1,
                    Weighed::Nothing => {}
                    Weighed::Newest => {
                        task.tally.records += 1;
                        self.events.extend(fetch.best.clone().map(|item| Event::Record { id, item }));
                    }
                }
            }
            (Work::Get(fetch), Request::Get { .. }, Outcome::Nodes(_)) => fetch.on_nothing(from, subnets),
            (Work::Deliver(delivery), Request::Find { target, .. }, _) if near => delivery.on_near(*target, from),
            (Work::Deliver(delivery), _, outcome) => delivery.on_outcome(&outcome),
            _ => {}
        }
    }

    /// Takes in that a lookup of a task has ended.
    pub(crate) fn on_part_done(&mut self, id: QueryId, key: Key, family: Family, found: Found, now: Instant) {
        let here = self.belongs_here(&key, family, &found);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.searches = task.searches.saturating_sub(1);
        task.tally.asked = task.tally.asked.saturating_add(found.asked);
        task.tally.hops = task.tally.hops.max(found.hops);
        if let Work::Deliver(delivery) = &mut task.work {
            delivery.on_found(key, &found.closest);
            delivery.on_population(family, found.population(&key, self.subnets));
            if let Some(request) = delivery.request(key).cloned().filter(|_| here) {
                let from = Ipv4Addr::UNSPECIFIED.into();
                let _kept = self.keep(&request, Shown { from, extra: 0, unix: self.unix(now) }, now);
            }
        }
    }

    /// Takes in the answer to a request besides the lookups; `None` if there is none.
    pub(crate) fn on_more(
        &mut self,
        id: QueryId,
        from: Contact,
        request: &Request,
        outcome: Option<Outcome>,
        now: Instant,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.in_flight = task.in_flight.saturating_sub(1);
        match (&mut task.work, outcome) {
            (Work::Deliver(delivery), Some(outcome)) => delivery.on_outcome(&outcome),
            (Work::Peers(gather), None) => {
                if let Request::Peers { key, .. } = request {
                    gather.on_failure(&from, key);
                }
            }
            (Work::Peers(_), Some(outcome)) => self.on_part_answer(id, (from, false), request, outcome, now),
            (Work::Deliver(_) | Work::Get(_), _) => {}
        }
    }

    /// Lets all tasks go on.
    pub(crate) fn drive_all(&mut self, now: Instant) {
        let ids: Vec<QueryId> = self.tasks.keys().copied().collect();
        ids.into_iter().for_each(|id| self.drive(id, now));
    }

    /// Sends what a task wants to send besides its lookups, and ends it when nothing is left to do.
    fn drive(&mut self, id: QueryId, now: Instant) {
        let searches = self.tasks.get(&id).map_or(0, |task| task.searches);
        while let Some(task) = self.tasks.get_mut(&id).filter(|_| !self.requests.is_full()) {
            let room = limits::MAX_STORES_IN_FLIGHT.saturating_sub(task.in_flight);
            let next = match &mut task.work {
                Work::Peers(gather) if searches == 0 => gather.next(),
                Work::Deliver(delivery) if room > 0 => delivery.queue.pop(),
                _ => None,
            };
            let Some((contact, request)) = next else { break };
            task.in_flight += 1;
            task.tally.more = task.tally.more.saturating_add(1);
            if !self.ask(contact, request.clone(), Purpose::More(id), now) {
                self.on_more(id, contact, &request, None, now);
            }
        }
        let Some(task) = self.tasks.get(&id) else { return };
        let waits = match &task.work {
            Work::Get(fetch) => !fetch.is_done() && task.searches > 0,
            Work::Peers(_) => task.searches > 0 || task.in_flight > 0,
            Work::Deliver(delivery) => task.searches > 0 || task.in_flight > 0 || !delivery.queue.is_empty(),
        };
        // What found no room goes on when there is some.
        if !waits && !self.requests.is_full() {
            self.end_task(id, now);
        }
    }

    fn end_task(&mut self, id: QueryId, now: Instant) {
        let Some(Task { tally, work, .. }) = self.drop_task(id) else { return };
        match work {
            Work::Peers(_) => self.events.push_back(Event::PeersDone { id, tally }),
            Work::Get(fetch) => {
                if let Some((to, item)) = fetch.gift() {
                    let request = Request::Put { kind: item.kind(), item: item.to_bytes(), family: None };
                    self.ask(to, request, Purpose::Gift, now);
                }
                self.events.push_back(Event::GetDone { id, newest: fetch.best, tally });
            }
            Work::Deliver(delivery) => self.on_delivered(delivery, tally, now),
        }
    }

    pub(crate) fn drop_task(&mut self, id: QueryId) -> Option<Task> {
        self.lookups.retain(|_, search| !matches!(search.goal, Goal::Part(task, _) if task == id));
        self.tasks.remove(&id)
    }

    fn report_peers(&mut self, id: QueryId, news: News, tally: &mut Tally) {
        tally.forged = tally.forged.saturating_add(news.forged);
        for announcement in news.announcements {
            tally.records = tally.records.saturating_add(1);
            self.events.push_back(Event::Peer { id, announcement });
        }
    }

    /// Whether we are among those who should keep what lies under a key.
    fn belongs_here(&self, key: &Key, family: Family, found: &Found) -> bool {
        let own = self.table(family).own().distance(key);
        let closer = found.closest.iter().filter(|contact| self.subnets.key_of(contact).distance(key) < own);
        self.server && closer.count() < limits::K
    }

    /// Keeps a record.
    pub(crate) fn keep(&mut self, request: &Request, shown: Shown, now: Instant) -> Result<u32, Refused> {
        let life = match request {
            Request::Announce { key, announcement, .. } => self.store.announce(*key, announcement, shown, now)?,
            Request::Put { kind, item, .. } => self.store.put(*kind, item, shown, now)?,
            _ => return Err(Refused::Unknown),
        };
        Ok(u32::try_from(life.as_secs()).unwrap_or(u32::MAX))
    }

    /// How many nodes closer to a key than us are known besides those who should keep what lies there.
    pub(crate) fn extra(&self, key: &Key, family: Family) -> u32 {
        let closer = self.table(family).closer(key);
        u32::try_from((closer + 1).saturating_sub(limits::K)).unwrap_or(u32::MAX)
    }
}
