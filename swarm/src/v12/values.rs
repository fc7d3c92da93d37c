//! Store and fetch.
//!
//! Values travel in the clear and anybody may answer for any key: whoever needs to know that a value is right makes
//! the key its hash, or signs it. What is stored here is never overwritten by what others send.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use framing::v12::{encode, limits};
use peer::v12::ExchangeError;
use structs::Lru;

use super::{Config, Event};
use super::{GRANULARITY, LinkId, Node, later, policy};
use crate::{FetchError, FetchId, StoreError};

#[derive(Debug)]
pub(super) struct Values {
    store: Lru<Bytes, Stored>,
    fetches: BTreeMap<FetchId, Fetch>,
}

#[derive(Debug)]
struct Stored {
    value: Bytes,
    own: bool,
}

#[derive(Debug)]
struct Fetch {
    key: Bytes,
    timeout: Duration,
    until: Instant,
    asked: BTreeSet<LinkId>,
}

impl Values {
    pub(super) fn new(config: &Config) -> Self {
        Self { store: Lru::new(config.store_entries).max_weight(config.store_bytes), fetches: BTreeMap::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.store.weight()).unwrap_or(usize::MAX)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.fetches.values().map(|fetch| fetch.until).min()
    }

    fn put(&mut self, key: Bytes, value: Bytes, own: bool, now: Instant) -> bool {
        let weight = (key.len() + value.len()) as u64;
        self.store.insert(key, Stored { value, own }, weight, now).is_ok()
    }
}

impl Node {
    /// Keeps a value and tells the mesh that it is here. Storing a key again replaces its value.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing changed then.
    pub fn store(&mut self, key: Bytes, value: Bytes, now: Instant) -> Result<(), StoreError> {
        self.tick(now);
        if self.is_ending() {
            return Err(StoreError::Closed);
        }
        if key.is_empty() || key.len() > limits::MAX_KEY {
            return Err(StoreError::Key { len: key.len() });
        }
        if value.is_empty() {
            return Err(StoreError::Empty);
        }
        let (len, max) = (value.len(), self.config.value_limit);
        if len > max || !self.values.put(key.clone(), value, true, self.now) {
            return Err(StoreError::TooLarge {
                len,
                max: max.min(usize::try_from(self.config.store_bytes).unwrap_or(max)),
            });
        }
        for id in self.mesh() {
            self.tell_have(id, &[&key]);
        }
        Ok(())
    }

    /// Gets a value: the one kept here, or from the peers, who are all asked, and later ones as they connect. Ends with
    /// [`Event::Fetched`] carrying the id, after `timeout` at the latest.
    ///
    /// # Errors
    ///
    /// [`FetchError`]; nothing was asked then.
    pub fn fetch(&mut self, key: Bytes, timeout: Duration, now: Instant) -> Result<FetchId, FetchError> {
        self.tick(now);
        if self.is_ending() {
            return Err(FetchError::Closed);
        }
        if key.is_empty() || key.len() > limits::MAX_KEY {
            return Err(FetchError::Key { len: key.len() });
        }
        if self.values.fetches.len() >= policy::MAX_FETCHES || self.is_backlogged() {
            return Err(FetchError::TooMany { limit: policy::MAX_FETCHES });
        }
        let id = FetchId(self.next_operation());
        if let Some(stored) = self.values.store.get(&key, self.now) {
            let result = Ok(stored.value.clone());
            self.push_event(Event::Fetched { id, result });
            return Ok(id);
        }
        let fetch = Fetch { key, timeout, until: later(self.now, timeout.max(GRANULARITY)), asked: BTreeSet::new() };
        self.values.fetches.insert(id, fetch);
        let (mesh, others): (Vec<_>, Vec<_>) =
            self.connected().map(|(id, link)| (id, link.in_mesh)).partition(|(_, in_mesh)| *in_mesh);
        for (link, _) in mesh.into_iter().chain(others) {
            self.ask(id, link, policy::MAX_ASKED);
        }
        Ok(id)
    }

    /// Gives a fetch up; no event follows.
    pub fn cancel_fetch(&mut self, id: FetchId, now: Instant) {
        self.tick(now);
        self.end_fetch(id);
    }

    /// Tells a peer that has connected, or restarted, what we have: the 64 keys used last.
    pub(super) fn summarise(&mut self, id: LinkId) {
        let keys: Vec<Bytes> = self.values.store.iter().take(limits::HAVE_BATCH).map(|(key, _)| key.clone()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        self.tell_have(id, &keys);
    }

    fn tell_have(&mut self, id: LinkId, keys: &[&[u8]]) {
        let mut frame = Vec::new();
        if keys.is_empty() || encode::have(keys.iter().copied(), &mut frame).is_err() {
            return;
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.peer.send_control(frame);
        }
        self.touch(id);
    }

    /// Asks a peer for the value of a fetch unless `most` have been. When as many as may be are under way from it, it
    /// is asked once one has come.
    fn ask(&mut self, fetch_id: FetchId, id: LinkId, most: usize) {
        let Some(fetch) = self.values.fetches.get_mut(&fetch_id) else {
            return;
        };
        let Some(link) = self.links.get_mut(&id) else { return };
        if fetch.asked.len() < most && link.peer.want(fetch.key.clone(), self.now).is_ok() {
            fetch.asked.insert(id);
            self.touch(id);
        }
    }

    /// A peer has connected: what is being fetched may be there.
    pub(super) fn ask_newcomer(&mut self, id: LinkId) {
        let fetches: Vec<FetchId> = self.values.fetches.keys().copied().collect();
        for fetch in fetches {
            self.ask(fetch, id, policy::MAX_ASKED);
        }
    }

    /// A peer has these keys: it is asked even if others were that may have nothing.
    pub(super) fn on_have(&mut self, id: LinkId, keys: &[Bytes]) {
        let fetches: Vec<FetchId> =
            self.values.fetches.iter().filter(|(_, fetch)| keys.contains(&fetch.key)).map(|(id, _)| *id).collect();
        for fetch in fetches {
            self.ask(fetch, id, 2 * policy::MAX_ASKED);
        }
    }

    pub(super) fn on_want(&mut self, id: LinkId, key: Bytes) {
        if self.serve(id, &key) == Err(ExchangeError::Busy) {
            // Beyond the bound the peer asks again, or not: it is owed nothing.
            if let Some(link) = self.links.get_mut(&id)
                && link.owed.len() < policy::MAX_OWED
                && !link.owed.contains(&key)
            {
                link.owed.push_back(key);
            }
        }
    }

    /// Starts what a peer asked for while it was busy. Returns whether anything was.
    pub(super) fn serve_owed(&mut self, id: LinkId) -> bool {
        let mut served = false;
        while let Some(key) = self.links.get_mut(&id).and_then(|link| link.owed.pop_front()) {
            match self.serve(id, &key) {
                Ok(()) => served = true,
                Err(ExchangeError::Busy) => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.owed.push_front(key);
                    }
                    break;
                }
                Err(_) => {}
            }
        }
        served
    }

    fn serve(&mut self, id: LinkId, key: &Bytes) -> Result<(), ExchangeError> {
        let Some(value) = self.values.store.get(key, self.now).map(|stored| stored.value.clone()) else {
            return Ok(());
        };
        let link = self.links.get_mut(&id).ok_or(ExchangeError::Closed)?;
        link.peer.serve(key.clone(), value, self.now)
    }

    pub(super) fn on_value(&mut self, id: LinkId, key: Bytes, value: Bytes) {
        let done: Vec<FetchId> =
            self.values.fetches.iter().filter(|(_, fetch)| fetch.key == key).map(|(id, _)| *id).collect();
        if done.is_empty() {
            return;
        }
        let own = self.values.store.peek(&key, self.now).is_some_and(|stored| stored.own);
        if !own {
            self.values.put(key.clone(), value.clone(), false, self.now);
        }
        for fetch in done {
            self.end_fetch(fetch);
            self.push_event(Event::Fetched { id: fetch, result: Ok(value.clone()) });
        }
        if let Some(from) = self.links.get(&id).and_then(super::PeerLink::peer_id) {
            self.push_event(Event::Synced { key, value, from });
        }
    }

    pub(super) fn expire_fetches(&mut self) {
        let now = self.now;
        let late: Vec<(FetchId, Duration, usize)> = self
            .values
            .fetches
            .iter()
            .filter(|(_, fetch)| fetch.until <= now)
            .map(|(id, fetch)| (*id, fetch.timeout, fetch.asked.len()))
            .collect();
        for (id, after, asked) in late {
            self.end_fetch(id);
            self.push_event(Event::Fetched { id, result: Err(FetchError::Timeout { after, asked }) });
        }
    }

    /// The node ends: nothing that was begun is left without an answer.
    pub(super) fn fail_operations(&mut self) {
        for (id, fetch) in std::mem::take(&mut self.values.fetches) {
            self.cancel_wants(fetch);
            self.push_event(Event::Fetched { id, result: Err(FetchError::Closed) });
        }
    }

    /// Removes a fetch; peers are not asked any longer unless another fetch wants the same.
    fn end_fetch(&mut self, id: FetchId) {
        let Some(fetch) = self.values.fetches.remove(&id) else {
            return;
        };
        if self.values.fetches.values().any(|other| other.key == fetch.key) {
            return;
        }
        for id in self.cancel_wants(fetch) {
            let waiting = self.values.fetches.iter().filter(|(_, fetch)| !fetch.asked.contains(&id));
            let waiting: Vec<FetchId> = waiting.map(|(fetch, _)| *fetch).collect();
            for fetch in waiting {
                self.ask(fetch, id, policy::MAX_ASKED);
            }
        }
    }

    /// Returns the peers that were asked, which now have room for other requests.
    fn cancel_wants(&mut self, fetch: Fetch) -> BTreeSet<LinkId> {
        for id in &fetch.asked {
            if let Some(link) = self.links.get_mut(id) {
                link.peer.cancel_want(&fetch.key);
            }
        }
        fetch.asked
    }

    pub(super) fn forget_asked(&mut self, id: LinkId) {
        for fetch in self.values.fetches.values_mut() {
            fetch.asked.remove(&id);
        }
    }
}
