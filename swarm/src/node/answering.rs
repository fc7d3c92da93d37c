//! What this node does in the hash table for peers that reach nobody there (SPEC 18): it looks for records, and publishes theirs as
//! long as the session lasts.

use std::collections::BTreeMap;
use std::time::Instant;

use ::dht::{Event, Item, QueryId, Wanted};
use framing::record::SignedRecord;
use peer::Handle;
use structs::TokenBucket;

use super::Node;
use super::asking::Message;
use crate::PeerId;

/// What is done for others.
#[derive(Debug, Default)]
pub(super) struct Answering {
    sessions: BTreeMap<Handle, Served>,
    /// Searches that are running: for which session, and for whom.
    searches: BTreeMap<QueryId, (Handle, crypto::PeerId)>,
    /// Records that are published: whose, and their numbers.
    published: BTreeMap<QueryId, (Handle, u64)>,
}

#[derive(Debug)]
struct Served {
    questions: TokenBucket,
    published: Option<QueryId>,
}

impl Served {
    fn new(now: Instant) -> Self {
        let (rate, burst) = QUESTIONS;
        Self { questions: TokenBucket::new(rate, burst, now), published: None }
    }
}

impl Node {
    /// Whether a session may ask for something now.
    fn may_ask(&mut self, session: Handle) -> bool {
        let now = self.now;
        let served = self.answering.sessions.entry(session).or_insert_with(|| Served::new(now));
        // Who asks too often, or asks one who knows nobody, is told that there is nothing.
        served.questions.try_take(1, now) && self.has_contacts()
    }

    /// A peer wants to know where another one is.
    pub(super) fn search_for(&mut self, session: Handle, of: [u8; 32]) {
        let now = self.now;
        let room = self.may_ask(session) && self.answering.searches.len() < MAX_SEARCHES;
        let key = crypto::PeerId::from_bytes(of).ok().filter(|_| room);
        let search = key.and_then(|key| {
            let query = self.finder.as_mut()?.get(Wanted::Peer(key), now).ok()?;
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
        let Ok(record) = SignedRecord::decode(record) else { return };
        let sequence = record.sequence();
        let before = self.answering.sessions.get(&session).and_then(|served| served.published);
        let room = before.is_some() || self.answering.published.len() < MAX_PUBLISHED;
        // Nobody speaks for others.
        let may = self.may_ask(session) && room && PeerId::from(record.peer()) == peer;
        let query = self.finder.as_mut().filter(|_| may).and_then(|finder| finder.put(Item::Peer(record), now).ok());
        let Some(query) = query else { return self.tell_kept(session, sequence, 0) };
        // The one before is published no longer: it had the same key.
        before.map(|before| self.answering.published.remove(&before));
        self.answering.published.insert(query, (session, sequence));
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
            Event::Stored { id, stored, .. } => published.get(id).map(|(session, sequence)| {
                (*session, Message::Kept(*sequence, u8::try_from(*stored).unwrap_or(u8::MAX)).encode())
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
/// Searches for others at a time: a third of those that a node may have running.
const MAX_SEARCHES: usize = 8;
/// Peers whose records are published: a quarter of what a node may publish.
const MAX_PUBLISHED: usize = 64;
