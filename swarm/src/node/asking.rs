//! Records by way of sessions (SPEC 18): who reaches nobody of the hash table, because UDP is dropped on the way, has peers look
//! there, and publish where he is.
//!
//! What is passed on is signed by whom it is of, so a peer that is asked can withhold a record and nothing else. This file asks;
//! `answering.rs` does what others ask for.

use std::collections::{BTreeMap, BTreeSet};

use framing::limits::MAX_RECORD;
use framing::record::SignedRecord;
use framing::{DecodeError, Reader, Role, Writer};
use peer::Handle;
use peer::mux::{SendError, Urgency};

use super::finder::Question;
use super::{Node, is_circuit};
use crate::PeerId;

/// The name of the protocol, whose version is 1.
pub(super) const PROTOCOL: &str = "setowire/find";

/// Whom we can ask, and what was asked.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Sessions that go through no relay.
    helpers: BTreeSet<Handle>,
    /// Who looks for a peer for us.
    searches: BTreeMap<PeerId, Search>,
    /// What is to be published.
    put: Option<Put>,
    /// Who had no room for a question.
    blocked: BTreeSet<Handle>,
    pub(super) readable: BTreeSet<Handle>,
}

#[derive(Debug, Default)]
struct Search {
    asked: BTreeSet<Handle>,
    /// The number of the newest record that was found.
    newest: Option<u64>,
    /// Records that were said to be of the peer: each costs a check of its signature.
    heard: u8,
}

/// Our record, and who publishes it. It is done when each of two does, or nobody is left to ask: one alone may say that he does
/// and not do it.
#[derive(Debug)]
struct Put {
    record: SignedRecord,
    asked: BTreeSet<Handle>,
    /// Who says that it is published.
    keepers: BTreeSet<Handle>,
    /// Who cannot, or has not said anything for too long.
    passed: BTreeSet<Handle>,
}

impl Put {
    const fn new(record: SignedRecord) -> Self {
        Self { record, asked: BTreeSet::new(), keepers: BTreeSet::new(), passed: BTreeSet::new() }
    }

    /// It is time to ask again: those who are silent make room for others, and are asked once more when there are none.
    fn pass_silent(&mut self, helpers: &BTreeSet<Handle>) {
        self.passed.extend(self.asked.difference(&self.keepers));
        self.asked.retain(|helper| self.keepers.contains(helper));
        if self.asked.is_empty() && helpers.is_subset(&self.passed) {
            self.passed.clear();
        }
    }

    /// Somebody says at how many nodes the record is. Whoever was given up may still say that he did it.
    fn hear(&mut self, from: Handle, count: u8) -> bool {
        if !self.asked.contains(&from) && !self.passed.contains(&from) {
            return false;
        }
        if count > 0 {
            self.passed.remove(&from);
            self.asked.insert(from);
            self.keepers.insert(from);
        } else {
            self.asked.remove(&from);
            self.keepers.remove(&from);
            self.passed.insert(from);
        }
        true
    }

    /// Whether somebody who was asked to publish it did so, and is no more.
    fn forget(&mut self, helper: Handle) -> bool {
        self.asked.remove(&helper);
        self.passed.remove(&helper);
        self.keepers.remove(&helper)
    }

    /// Who is asked next, if anybody: the first of these who was not.
    fn next(&self, helpers: &[Handle]) -> Option<Handle> {
        let fresh = |helper: &&Handle| !self.asked.contains(helper) && !self.passed.contains(helper);
        helpers.iter().find(fresh).copied().filter(|_| self.asked.len() < ASKED)
    }

    /// Whether it is published, once that is known.
    fn outcome(&self) -> Option<bool> {
        let known = self.asked.iter().all(|helper| self.keepers.contains(helper));
        known.then_some(!self.asked.is_empty())
    }
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// The record of this peer is wanted.
    Get([u8; 32]),
    /// The sender's record is to be published.
    Put(&'a [u8]),
    /// A record of this peer; if it is empty, there are no others.
    Record([u8; 32], &'a [u8]),
    /// The record with this number was published at so many.
    Kept(u64, u8),
}

impl<'a> Message<'a> {
    /// `None` for one of a later version.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(DecodeError::TooLong { len: bytes.len(), max: MAX_MESSAGE });
        }
        let mut reader = Reader::new(bytes);
        Ok(Some(match reader.u8()? {
            GET => Self::Get(reader.array()?),
            PUT => Self::Put(reader.rest()),
            RECORD => Self::Record(reader.array()?, reader.rest()),
            KEPT => Self::Kept(reader.u64()?, reader.u8()?),
            _ => return Ok(None),
        }))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        match self {
            Self::Get(peer) => {
                writer.u8(GET);
                writer.put(peer);
            }
            Self::Put(record) => {
                writer.u8(PUT);
                writer.put(record);
            }
            Self::Record(peer, record) => {
                writer.u8(RECORD);
                writer.put(peer);
                writer.put(record);
            }
            Self::Kept(sequence, count) => {
                writer.u8(KEPT);
                writer.u64(*sequence);
                writer.u8(*count);
            }
        }
        bytes
    }
}

impl Node {
    /// A session is open, or goes another way: it may be one of those that can be asked.
    pub(super) fn note_helper(&mut self, session: Handle) {
        let direct = self.endpoint.peer(session).and_then(peer::Peer::path).is_some_and(|path| !is_circuit(&path));
        if direct {
            self.asking.helpers.insert(session);
        } else {
            self.asking.helpers.remove(&session);
        }
        self.helpers_changed();
    }

    /// A session is over: what was asked of it is asked of others.
    pub(super) fn forget_helper(&mut self, session: Handle) {
        let now = self.now;
        self.asking.readable.remove(&session);
        self.asking.helpers.remove(&session);
        self.asking.blocked.remove(&session);
        let put = self.asking.put.as_mut();
        let was_kept = put.is_some_and(|put| put.forget(session) && put.keepers.is_empty());
        for peer in self.asking.searches.keys().copied().collect::<Vec<_>>() {
            self.search_over(peer, session);
        }
        if let Some(finder) = self.finder.as_mut().filter(|_| was_kept) {
            finder.record_lost(now);
        }
        self.forget_served(session);
        self.helpers_changed();
    }

    fn helpers_changed(&mut self) {
        if let Some(finder) = &mut self.finder {
            finder.set_helped(!self.asking.helpers.is_empty(), self.now);
        }
        self.hear_finder();
    }

    /// Whom to ask: relays that have a place for us first, who are known to be of use, then those whom we dialled.
    fn chosen_helpers(&self) -> Vec<Handle> {
        let held: BTreeSet<PeerId> = self.relays.client.vouchers().map(|voucher| voucher.relay().into()).collect();
        let mut helpers: Vec<Handle> = self.asking.helpers.iter().copied().collect();
        helpers.sort_by_key(|helper| {
            let is_relay = self.sessions.get(helper).is_some_and(|session| held.contains(&session.peer));
            let is_ours = self.endpoint.peer(*helper).is_some_and(|session| session.role() == Role::Dialler);
            (!is_relay, !is_ours)
        });
        helpers
    }

    /// Asks up to two peers. Whoever does not speak the protocol is not asked again, and the next one is.
    pub(super) fn ask_helpers(&mut self, question: &Question) {
        match question {
            Question::Peer(peer) => self.ask_for_peer(peer),
            Question::Publish(record) => {
                let same = self.asking.put.take().filter(|put| put.record.sequence() == record.sequence());
                let mut put = same.unwrap_or_else(|| Put::new(record.clone()));
                put.pass_silent(&self.asking.helpers);
                self.asking.put = Some(put);
                self.put_on();
            }
        }
        // If nobody is left, the finder goes back to who it knows itself.
        if self.asking.helpers.is_empty() {
            self.helpers_changed();
        }
    }

    fn ask_for_peer(&mut self, peer: &PeerId) {
        let message = Message::Get(*peer.as_bytes()).encode();
        let mut asked = BTreeSet::new();
        for helper in self.chosen_helpers() {
            if asked.len() >= ASKED {
                break;
            }
            if self.ask_helper(helper, &message) {
                asked.insert(helper);
            }
        }
        if !asked.is_empty() {
            let newest = self.asking.searches.get(peer).and_then(|search| search.newest);
            self.asking.searches.insert(*peer, Search { asked, newest, heard: 0 });
        }
    }

    /// Has our record published by as many as there should be, and says so when they do it.
    fn put_on(&mut self) {
        let (helpers, now) = (self.chosen_helpers(), self.now);
        let Some(mut put) = self.asking.put.take() else { return };
        let message = Message::Put(put.record.as_bytes()).encode();
        while let Some(helper) = put.next(&helpers) {
            let asked = self.ask_helper(helper, &message);
            if asked { &mut put.asked } else { &mut put.passed }.insert(helper);
        }
        let outcome = put.outcome();
        self.asking.put = Some(put);
        if let Some((finder, kept)) = self.finder.as_mut().zip(outcome) {
            finder.published_by_others(kept, now);
        }
    }

    /// Says whether it could be asked.
    fn ask_helper(&mut self, helper: Handle, message: &[u8]) -> bool {
        match self.send_find(helper, message) {
            Some(Ok(())) => return true,
            // It is asked when it has room, or has said what it speaks.
            Some(Err(SendError::Blocked)) => drop(self.asking.blocked.insert(helper)),
            _ => drop(self.asking.helpers.remove(&helper)),
        }
        false
    }

    pub(super) fn send_find(&mut self, session: Handle, message: &[u8]) -> Option<Result<(), SendError>> {
        let (protocol, now) = (self.protocols.find, self.now);
        self.endpoint.with(session, now, |session, _| session.send(protocol, message, Urgency::Normal).map(drop))
    }

    /// A session that had no room for a question has, or speaks the protocol as it turns out.
    pub(super) fn find_writable(&mut self, session: Handle) {
        if !self.asking.blocked.remove(&session) {
            return;
        }
        if let Some(put) = &mut self.asking.put {
            put.passed.remove(&session);
        }
        if let Some(finder) = &mut self.finder {
            finder.ask_again(self.now);
        }
        self.hear_finder();
    }

    /// Reads what one session asks or answers, a bounded part of it. Says whether there was any.
    pub(super) fn read_find(&mut self) -> bool {
        let Some(session) = self.asking.readable.pop_first() else { return false };
        let (protocol, now) = (self.protocols.find, self.now);
        let mut bytes = Vec::new();
        for turn in 0.. {
            let received = self.endpoint.with(session, now, |session, _| session.recv(protocol, &mut bytes));
            let Some(Some(_)) = received else { break };
            let Some(peer) = self.sessions.get(&session).map(|session| session.peer) else { break };
            match Message::decode(&bytes) {
                Ok(Some(Message::Get(of))) => self.search_for(session, of),
                Ok(Some(Message::Put(record))) => self.publish_for(session, peer, record),
                Ok(Some(Message::Record(of, record))) => self.on_record_of(session, PeerId::from_bytes(of), record),
                Ok(Some(Message::Kept(sequence, count))) => self.on_kept(session, sequence, count),
                Ok(None) => {}
                Err(_malformed) => {
                    // What cannot be understood ends this protocol with this peer, and nothing else.
                    self.endpoint.with(session, now, |session, _| session.fail_protocol(protocol));
                    self.forget_helper(session);
                    break;
                }
            }
            if turn >= MESSAGES {
                self.asking.readable.insert(session);
                break;
            }
        }
        self.hear_finder();
        true
    }

    /// A peer that was asked found a record, or says that this was all.
    fn on_record_of(&mut self, from: Handle, peer: PeerId, record: &[u8]) {
        let now = self.now;
        let Some(search) = self.asking.searches.get_mut(&peer).filter(|search| search.asked.contains(&from)) else {
            return;
        };
        if record.is_empty() || search.heard >= RECORDS {
            // This was all, or more than there can be to say.
            return self.search_over(peer, from);
        }
        search.heard += 1;
        let is_its = |record: &SignedRecord| PeerId::from(record.peer()) == peer;
        let Some(record) = SignedRecord::decode(record).ok().filter(is_its) else {
            // Who says what is not true has no more to say.
            return self.search_over(peer, from);
        };
        let is_newer = search.newest.is_none_or(|newest| newest < record.sequence());
        if is_newer && self.finder.as_mut().is_some_and(|finder| finder.on_record_of(&record, now)) {
            search.newest = Some(record.sequence());
        }
    }

    fn search_over(&mut self, peer: PeerId, helper: Handle) {
        let now = self.now;
        let Some(search) = self.asking.searches.get_mut(&peer) else { return };
        if search.asked.remove(&helper) && search.asked.is_empty() {
            self.asking.searches.remove(&peer);
            if let Some(finder) = &mut self.finder {
                finder.searched_by_others(peer, now);
            }
        }
    }

    fn on_kept(&mut self, from: Handle, sequence: u64, count: u8) {
        let put = self.asking.put.as_mut().filter(|put| put.record.sequence() == sequence);
        if put.is_some_and(|put| put.hear(from, count)) {
            self.put_on();
        }
    }
}

const GET: u8 = 0;
const PUT: u8 = 1;
const RECORD: u8 = 0x80;
const KEPT: u8 = 0x81;

/// The longest message.
const MAX_MESSAGE: usize = 1 + 32 + MAX_RECORD;
/// Peers that are asked the same.
const ASKED: usize = 2;
/// Records of one peer that are heard each time it is asked for.
const RECORDS: u8 = 16;
/// Messages of one session read at a time.
const MESSAGES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_says_that_he_publishes_is_not_enough_as_long_as_there_are_others() {
        let record = framing::record::Record::default().sign(&crypto::Identity::from_seed([1; 32])).unwrap();
        let [liar, refuses, silent, honest] = handles();
        let all = [liar, refuses, silent, honest];
        let mut put = Put::new(record);
        let ask = |put: &mut Put| {
            while let Some(next) = put.next(&all) {
                put.asked.insert(next);
            }
            put.asked.clone()
        };
        assert_eq!(ask(&mut put), BTreeSet::from([liar, refuses]));
        assert!(put.hear(liar, 9) && put.outcome().is_none());
        // Who has not been asked has nothing to say.
        assert!(!put.hear(honest, 1) && put.hear(refuses, 0));
        assert_eq!(ask(&mut put), BTreeSet::from([liar, silent]));
        assert_eq!(put.outcome(), None);
        put.pass_silent(&BTreeSet::from(all));
        assert_eq!(ask(&mut put), BTreeSet::from([liar, honest]));
        assert!(put.hear(honest, 3));
        assert_eq!(put.outcome(), Some(true));
        // Late, and nevertheless.
        assert!(put.hear(silent, 1) && put.outcome() == Some(true));
        // With nobody left to ask, one is enough.
        assert!(put.hear(honest, 0) && put.hear(silent, 0));
        assert_eq!((ask(&mut put), put.outcome()), (BTreeSet::from([liar]), Some(true)));
        // None is not, and then all are asked again.
        assert!(put.forget(liar) && put.outcome() == Some(false));
        put.pass_silent(&BTreeSet::from([refuses, silent, honest]));
        assert_eq!(put.next(&all[1..]), Some(refuses));
    }

    /// Of four sessions.
    fn handles() -> [Handle; 4] {
        let now = sim::clock::base();
        let epoch = structs::Epoch { instant: now, unix: std::time::Duration::ZERO };
        let (identity, seed) = (crypto::Identity::from_seed([2; 32]), crypto::Seed::fixed(1));
        let mut endpoint = peer::Endpoint::new(identity, peer::Config::default(), epoch, &seed, now);
        [1, 2, 3, 4].map(|port| {
            let path = structs::Path::udp(([127, 0, 0, 1], 9).into(), ([127, 0, 0, 1], port).into());
            endpoint.dial(peer::Target::Anyone, path, now).unwrap()
        })
    }

    #[test]
    fn messages_are_read_as_they_are_written() {
        let record = [7; 40];
        for message in [
            Message::Get([1; 32]),
            Message::Put(&record),
            Message::Record([2; 32], &record),
            Message::Record([2; 32], &[]),
            Message::Kept(u64::MAX, 3),
        ] {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Ok(Some(message)));
        }
        assert_eq!(Message::decode(&[2, 0]), Ok(None), "of a later version");
        assert!(Message::decode(&[GET; 32]).is_err() && Message::decode(&[]).is_err());
        assert!(Message::decode(&[KEPT; 9]).is_err() && Message::decode(&vec![PUT; MAX_MESSAGE + 1]).is_err());
    }
}
