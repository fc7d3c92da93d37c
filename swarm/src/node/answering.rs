//! What this node does in the hash table for peers that reach nobody there (SPEC 18): it looks for records, and publishes theirs as
//! long as the session lasts.

use std::collections::BTreeMap;
use std::time::Instant;

use ::dht::{Event, Item, QueryId, Wanted};
use framing::record::SignedRecord;
use framing::scope::Subnet;
use peer::Handle;
use structs::TokenBucket;

use super::asking::Message;
use super::{Node, is_circuit};
use crate::PeerId;

/// What is done for others.
#[derive(Debug, Default)]
pub(super) struct Answering {
    sessions: BTreeMap<Handle, Served>,
    /// Searches that are running: for which session, and for whom.
    searches: BTreeMap<QueryId, (Handle, crypto::PeerId)>,
    /// Records that are published.
    published: BTreeMap<QueryId, Published>,
}

#[derive(Debug)]
struct Served {
    questions: TokenBucket,
    published: Option<QueryId>,
    /// Sessions are cheap, networks are not: what is shared out is counted by these.
    network: Subnet,
}

impl Served {
    fn new(network: Subnet, now: Instant) -> Self {
        let (rate, burst) = QUESTIONS;
        Self { questions: TokenBucket::new(rate, burst, now), published: None, network }
    }
}

#[derive(Debug)]
struct Published {
    session: Handle,
    sequence: u64,
    /// At how many nodes it is, once a round has ended.
    kept: Option<u8>,
}

impl Answering {
    /// Whether there is room for one more search of this session.
    fn has_room_to_search(&self, session: Handle, network: Subnet) -> bool {
        let of_session = self.searches.values().filter(|(asked, _)| *asked == session).count();
        let same = |asked: &Handle| self.sessions.get(asked).is_some_and(|served| served.network == network);
        let of_network = self.searches.values().filter(|(asked, _)| same(asked)).count();
        self.searches.len() < MAX_SEARCHES && of_session < SESSION_SEARCHES && of_network < NETWORK_SEARCHES
    }

    /// Whether there is room for one more record from this network.
    fn has_room_to_publish(&self, network: Subnet) -> bool {
        let same = self.sessions.values().filter(|served| served.published.is_some() && served.network == network);
        self.published.len() < MAX_PUBLISHED && same.count() < NETWORK_PUBLISHED
    }
}

impl Node {
    /// Whether a session may ask for something now, and from which network it does. Who asks too often, asks one who knows nobody, or
    /// asks through a relay, whose address says nothing of his network, is told that there is nothing.
    fn may_ask(&mut self, session: Handle) -> Option<Subnet> {
        let now = self.now;
        let path = self.endpoint.peer(session).and_then(peer::Peer::path).filter(|path| !is_circuit(path))?;
        let network = Subnet::of(path.remote.ip());
        let served = self.answering.sessions.entry(session).or_insert_with(|| Served::new(network, now));
        served.network = network;
        let may = served.questions.try_take(1, now);
        let is_connected = self.finder.as_ref().is_some_and(super::Finder::is_connected);
        (may && is_connected).then_some(network)
    }

    /// A peer wants to know where another one is.
    pub(super) fn search_for(&mut self, session: Handle, of: [u8; 32]) {
        let now = self.now;
        let is_asked = |(asked, key): &(Handle, crypto::PeerId)| *asked == session && *key.as_bytes() == of;
        if self.answering.searches.values().any(is_asked) {
            // The answers to the first time it was asked are to come.
            return;
        }
        let room = self.may_ask(session).is_some_and(|network| self.answering.has_room_to_search(session, network));
        let key = crypto::PeerId::from_bytes(of).ok().filter(|_| room);
        let search = key.and_then(|key| {
            let query = self.finder.as_mut()?.get_for_others(Wanted::Peer(key), now).ok()?;
            Some((query, key))
        });
        match search {
            // What is known already comes with the events that follow.
            Some((query, key)) => drop(self.answering.searches.insert(query, (session, key))),
            None => self.tell_record(session, of, &[]),
        }
    }

    /// A peer wants to be found.
    pub(super) fn publish_for(&mut self, session: Handle, peer: PeerId, record: &[u8]) {
        let now = self.now;
        let Ok(record) = SignedRecord::decode(record) else { return self.tell_kept(session, 0, 0) };
        let sequence = record.sequence();
        let before = self.answering.sessions.get(&session).and_then(|served| served.published);
        if let Some(same) = before.and_then(|id| self.answering.published.get(&id)).filter(|p| p.sequence == sequence) {
            // It is published, or about to be: asking again begins nothing anew.
            if let Some(kept) = same.kept {
                self.tell_kept(session, sequence, kept);
            }
            return;
        }
        let network = self.may_ask(session);
        let room = |network| before.is_some() || self.answering.has_room_to_publish(network);
        // Nobody speaks for others.
        let may = network.is_some_and(room) && PeerId::from(record.peer()) == peer;
        let query =
            self.finder.as_mut().filter(|_| may).and_then(|finder| finder.put_for_others(Item::Peer(record), now).ok());
        let Some(query) = query else { return self.tell_kept(session, sequence, 0) };
        // The one before is published no longer: it had the same key.
        before.map(|before| self.answering.published.remove(&before));
        self.answering.published.insert(query, Published { session, sequence, kept: None });
        if let Some(served) = self.answering.sessions.get_mut(&session) {
            served.published = Some(query);
        }
    }

    /// Takes what the table says of questions of others, and returns what it says of other things.
    pub(super) fn take_answer(&mut self, event: Event) -> Option<Event> {
        let Answering { searches, published, .. } = &mut self.answering;
        let answer = match &event {
            Event::Record { id, item: Item::Peer(record) } => searches
                .get(id)
                .map(|(session, key)| (*session, Message::Record(*key.as_bytes(), record.as_bytes()).encode())),
            Event::GetDone { id, .. } => {
                searches.remove(id).map(|(session, key)| (session, Message::Record(*key.as_bytes(), &[]).encode()))
            }
            Event::Stored { id, stored, .. } => published.get_mut(id).map(|published| {
                let kept = u8::try_from(*stored).unwrap_or(u8::MAX);
                published.kept = Some(kept);
                (published.session, Message::Kept(published.sequence, kept).encode())
            }),
            _ => None,
        };
        let Some((session, message)) = answer else { return Some(event) };
        // Without room for the answer the question is asked again.
        let _ = self.send_find(session, &message);
        None
    }

    /// A session is over: nothing more is done for it.
    pub(super) fn forget_served(&mut self, session: Handle) {
        let now = self.now;
        let Some(served) = self.answering.sessions.remove(&session) else { return };
        let mut ended: Vec<QueryId> = served.published.into_iter().collect();
        let of = |(query, (asked, _)): (&QueryId, &(Handle, crypto::PeerId))| (*asked == session).then_some(*query);
        ended.extend(self.answering.searches.iter().filter_map(of));
        for query in ended {
            self.answering.searches.remove(&query);
            self.answering.published.remove(&query);
            if let Some(finder) = &mut self.finder {
                finder.cancel(query, now);
            }
        }
    }

    fn tell_record(&mut self, session: Handle, of: [u8; 32], record: &[u8]) {
        // Without room for the answer the question is asked again.
        let _ = self.send_find(session, &Message::Record(of, record).encode());
    }

    fn tell_kept(&mut self, session: Handle, sequence: u64, count: u8) {
        let _ = self.send_find(session, &Message::Kept(sequence, count).encode());
    }
}

/// Questions of one session in a second, and at once.
const QUESTIONS: (u32, u32) = (1, 16);
/// Searches for others at a time: a third of those that a node may have running. Those of one session, and of one network.
const MAX_SEARCHES: usize = 8;
const SESSION_SEARCHES: usize = 2;
const NETWORK_SEARCHES: usize = 4;
/// Peers whose records are published: a quarter of what a node may publish. Those of one network.
const MAX_PUBLISHED: usize = 64;
const NETWORK_PUBLISHED: usize = 16;
