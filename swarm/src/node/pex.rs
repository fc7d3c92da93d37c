//! Peers tell each other of the others in a topic (SPEC 17).
//!
//! Each says where it is in a record that it signed itself, and in which of the topics that both share this may be passed on.
//! What is passed on is the records of those who are connected now, at an address that they name. So nobody is told of who
//! does not want to be found, and nobody learns an address that its owner did not sign and that nobody talks to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::Identity;
use crypto::topic::{TAG, member_tag};
use framing::limits::{MAX_RECORD, MAX_RECORD_ADDRESSES};
use framing::record::{Record, SignedRecord};
use framing::{DecodeError, Reader, Writer};
use nat::scope::Family;
use peer::Handle;
use peer::mux::Urgency;
use structs::{Epoch, Link, TokenBucket};

use super::Node;
use super::event::Event;
use super::topics::MAX_TOPICS;
use crate::discovery::Reach;
use crate::{PeerId, TopicId};

/// The name of the protocol, whose version is 1.
pub(super) const PROTOCOL: &str = "setowire/pex";

/// What a node knows for others and from others.
#[derive(Debug)]
pub(super) struct Pex {
    reach: Reach,
    identity: Arc<Identity>,
    epoch: Epoch,
    /// How our topics are joined: whether we may be passed on in them, and whether we dial whom others pass on.
    wishes: BTreeMap<TopicId, Wish>,
    sessions: BTreeMap<Handle, Known>,
    /// What we say to those at an address of each reach.
    own: [Option<SignedRecord>; 3],
    sequence: u64,
    signed_at: Duration,
    /// Counts what others said of themselves.
    version: u64,
    due: Option<Instant>,
    pub(super) readable: BTreeSet<Handle>,
    counters: Counters,
}

/// What peers told each other, through one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Records passed on.
    pub shared: u64,
    /// Records of others that were good for a dial.
    pub taken: u64,
    /// Records that were not: forged, of the past, of nobody who could be dialled there, or too many.
    pub refused: u64,
}

#[derive(Debug, Clone, Copy)]
struct Wish {
    announce: bool,
    lookup: bool,
}

/// One session with somebody in a topic of ours.
#[derive(Debug)]
struct Known {
    /// Where it says to be, when that came, and in which topics it may be passed on.
    record: Option<(SignedRecord, u64)>,
    passed_on_in: BTreeSet<TopicId>,
    /// The number and the topics of what we said last.
    said: Option<(u64, BTreeSet<TopicId>)>,
    /// What of the others it was told of, by topic.
    told: BTreeMap<TopicId, u64>,
    /// What of the others it was shown last because it asked, by topic, and how often it may ask.
    shown: BTreeMap<TopicId, u64>,
    questions: TokenBucket,
    /// It was asked and has not answered, and in which topic it was asked last.
    asked: bool,
    asked_in: Option<TopicId>,
    /// Records that it may still send in this minute.
    allowance: usize,
    allowance_until: Instant,
    /// How many of those may be dialled.
    dials: TokenBucket,
}

impl Known {
    fn new(now: Instant) -> Self {
        Self {
            record: None,
            passed_on_in: BTreeSet::new(),
            said: None,
            told: BTreeMap::new(),
            shown: BTreeMap::new(),
            questions: TokenBucket::new(1, QUESTIONS * SECONDS_PER_QUESTION, now),
            asked: false,
            asked_in: None,
            allowance: RECORDS_PER_MINUTE,
            allowance_until: now + EVERY,
            dials: TokenBucket::new(1, DIALS * DIAL_COST, now),
        }
    }
}

impl Pex {
    pub(super) fn new(reach: Reach, identity: Arc<Identity>, epoch: Epoch) -> Self {
        Self {
            reach,
            identity,
            epoch,
            wishes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            own: [const { None }; 3],
            sequence: 0,
            signed_at: Duration::ZERO,
            version: 0,
            due: None,
            readable: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    pub(super) const fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) const fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn join(&mut self, topic: TopicId, announce: bool, lookup: bool) {
        if announce || lookup {
            self.wishes.insert(topic, Wish { announce, lookup });
        } else {
            self.wishes.remove(&topic);
        }
    }

    pub(super) fn forget(&mut self, session: Handle) {
        self.sessions.remove(&session);
        self.readable.remove(&session);
    }

    fn at_latest(&mut self, at: Option<Instant>) {
        self.due = [self.due, at].into_iter().flatten().min();
    }

    /// Signs where we are, for others at every reach, if that has changed or was long ago.
    fn sign(&mut self, addrs: &[SocketAddr], now: Instant) {
        let unix = self.epoch.unix_at(now);
        let addrs = |near: Reach| -> Vec<SocketAddr> {
            let reaches = |addr: &&SocketAddr| {
                let reach = Reach::of(addr.ip());
                addr.port() != 0 && reach.is_some_and(|reach| (near..=self.reach).contains(&reach))
            };
            addrs.iter().filter(reaches).copied().take(MAX_RECORD_ADDRESSES).collect()
        };
        let told = REACHES.map(addrs);
        let is_true = |(own, told): (&Option<SignedRecord>, &Vec<SocketAddr>)| -> bool {
            own.as_ref().map_or(told.is_empty(), |own| own.addresses().eq(told.iter().copied()))
        };
        if self.own.iter().zip(&told).all(is_true) && unix.abs_diff(self.signed_at) < SIGNED_EVERY {
            return;
        }
        self.signed_at = unix;
        self.sequence = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX).max(self.sequence.saturating_add(1));
        let (sequence, expires) = (self.sequence, unix.saturating_add(HOLDS));
        self.own = told.map(|addresses| {
            let record = Record { sequence, expires, addresses, ..Record::default() };
            (!record.addresses.is_empty()).then(|| record.sign(&self.identity).ok()).flatten()
        });
    }
}

impl Node {
    /// A neighbour came to a topic or left it: what is to be said may have changed.
    pub(super) fn pex_changed(&mut self, session: Handle) {
        let now = self.now;
        let Some(pex) = &mut self.pex else { return };
        pex.sessions.entry(session).or_insert_with(|| Known::new(now));
        pex.at_latest(now.checked_add(SOON));
        self.say_where_we_are(session);
    }

    /// What is due, if it is.
    pub(super) fn pex_timeout(&mut self) {
        let now = self.now;
        let Some(pex) = self.pex.as_mut().filter(|pex| pex.due.is_some_and(|due| due <= now)) else { return };
        let sessions: Vec<Handle> = pex.sessions.keys().copied().collect();
        pex.due = if sessions.is_empty() { None } else { now.checked_add(EVERY) };
        for session in sessions {
            self.say_where_we_are(session);
            self.pass_peers_on(session);
        }
    }

    /// The topics that a peer and we are in.
    fn shared_with(&self, session: Handle) -> BTreeSet<TopicId> {
        let is_there = |topic: &&TopicId| self.topics.neighbours(topic).any(|other| other == session);
        self.topics.joined().filter(is_there).copied().collect()
    }

    /// How far the way to a peer reaches: through a relay it may be anywhere.
    fn reach_of(&self, session: Handle) -> Option<Reach> {
        let session = self.sessions.get(&session)?;
        if session.relayed { Some(Reach::World) } else { Reach::of(session.addr.ip()) }
    }

    /// Where a session is, if its datagrams go there by themselves: through no relay, and in no stream.
    pub(crate) fn address_of(&self, session: Handle) -> Option<SocketAddr> {
        let path = self.endpoint.peer(session)?.path()?;
        (path.link == Link::Udp).then_some(path.remote)
    }

    fn pex_tag(&self, session: Handle, topic: &TopicId) -> Option<[u8; TAG]> {
        let exporter = self.endpoint.peer(session)?.exporter(EXPORTER)?;
        Some(member_tag(topic.as_bytes(), &exporter, 0))
    }

    /// Says in which topics we may be passed on, and where we are, if that is news.
    fn say_where_we_are(&mut self, session: Handle) {
        let now = self.now;
        let shared = self.shared_with(session);
        // Where one stranger alone says that we are, nobody is told to send.
        let reflexive = [Family::V4, Family::V6].map(|family| self.outside.sure(family));
        let seen = self.outside.forwarded().iter().copied().chain(reflexive.into_iter().flatten());
        let mut addrs: Vec<SocketAddr> = seen.chain(self.outside.own().iter().copied()).collect();
        let mut known = BTreeSet::new();
        addrs.retain(|addr| known.insert(*addr) && !is_link_local(addr.ip()));
        let (Some(reach), Some(pex)) = (self.reach_of(session), self.pex.as_mut()) else { return };
        pex.sign(&addrs, now);
        let Some(Some(record)) = pex.own.get(reach as usize) else { return };
        let passed_on_in: BTreeSet<TopicId> =
            shared.into_iter().filter(|topic| pex.wishes.get(topic).is_some_and(|wish| wish.announce)).collect();
        let Some(known) = pex.sessions.get(&session) else { return };
        let is_news = match &known.said {
            Some((sequence, topics)) => *sequence != record.sequence() || *topics != passed_on_in,
            None => !passed_on_in.is_empty(),
        };
        if !is_news {
            return;
        }
        let (record, sequence) = (record.as_bytes().to_vec(), record.sequence());
        let tags: Vec<[u8; TAG]> = passed_on_in.iter().filter_map(|topic| self.pex_tag(session, topic)).collect();
        let mut message = Vec::new();
        let mut writer = Writer::new(&mut message);
        writer.u8(WHERE);
        writer.u8(u8::try_from(tags.len()).unwrap_or(u8::MAX));
        tags.iter().for_each(|tag| writer.put(tag));
        writer.put(&record);
        if self.send_pex(session, &message)
            && let Some(known) = self.pex.as_mut().and_then(|pex| pex.sessions.get_mut(&session))
        {
            known.said = Some((sequence, passed_on_in));
        }
    }

    /// Tells a peer of up to twenty others in each topic who said something since it was told last.
    fn pass_peers_on(&mut self, to: Handle) {
        for topic in self.shared_with(to) {
            let (Some(tag), Some(pex)) = (self.pex_tag(to, &topic), &self.pex) else { return };
            let told = pex.sessions.get(&to).and_then(|known| known.told.get(&topic)).copied().unwrap_or(0);
            let mut news = self.others_for(to, &topic);
            news.retain(|(version, _)| *version > told);
            news.sort_unstable_by_key(|(version, _)| *version);
            news.truncate(MAX_SHARED);
            let Some((version, _)) = news.last().copied() else { continue };
            let (count, message) = (news.len(), others(&tag, &news));
            if self.send_pex(to, &message)
                && let Some(pex) = &mut self.pex
                && let Some(known) = pex.sessions.get_mut(&to)
            {
                known.told.insert(topic, version);
                pex.counters.shared = pex.counters.shared.saturating_add(count as u64);
            }
        }
    }

    /// Those of whom a peer may be told in a topic, and the number of what each said of itself.
    fn others_for(&self, to: Handle, topic: &TopicId) -> Vec<(u64, &SignedRecord)> {
        let (Some(reach), Some(pex)) = (self.reach_of(to), &self.pex) else { return Vec::new() };
        let unix = pex.epoch.unix_at(self.now);
        self.topics
            .neighbours(topic)
            .filter(|other| *other != to)
            .filter_map(|other| {
                let known = pex.sessions.get(&other)?;
                let (record, version) = known.record.as_ref()?;
                let addr = self.address_of(other)?;
                let is_there = record.addresses().any(|named| named == addr);
                let is_theirs = record.addresses().all(|addr| Reach::of(addr.ip()) >= Some(reach));
                let may_be = known.passed_on_in.contains(topic) && record.check(unix).is_ok();
                (may_be && is_there && is_theirs).then_some((*version, record))
            })
            .collect()
    }

    /// Asks a peer whom it knows in a topic that both are in and in which others are looked for: another one each time, where there
    /// are more. Whom it names is dialled, as far as candidates are, and [`Event::Others`] says that it answered, which it need not.
    ///
    /// Says whether it was asked: not without such a topic, nor where [`Config::pex`](super::Config::pex) is off on either side.
    pub fn ask_for_others(&mut self, peer: &PeerId, now: Instant) -> bool {
        self.tick(now);
        let (Some(session), Some(pex)) = (self.session(peer), &self.pex) else { return false };
        let Some(last) = pex.sessions.get(&session).map(|known| known.asked_in) else { return false };
        let mut topics = self.shared_with(session);
        topics.retain(|topic| pex.wishes.get(topic).is_some_and(|wish| wish.lookup));
        let next = topics.iter().find(|topic| Some(**topic) > last).or(topics.first()).copied();
        let Some((topic, tag)) = next.and_then(|topic| Some((topic, self.pex_tag(session, &topic)?))) else {
            return false;
        };
        let message = [&[WHO][..], &tag[..]].concat();
        if !self.send_pex(session, &message) {
            return false;
        }
        if let Some(known) = self.pex.as_mut().and_then(|pex| pex.sessions.get_mut(&session)) {
            (known.asked, known.asked_in) = (true, Some(topic));
        }
        true
    }

    /// A peer asks whom we know in a topic: it is told of up to twenty, and of the next when it asks again.
    fn on_who(&mut self, from: Handle, tag: &[u8; TAG]) {
        let now = self.now;
        // Before anything is looked for.
        let known = self.pex.as_mut().and_then(|pex| pex.sessions.get_mut(&from));
        let may_ask = known.is_some_and(|known| known.questions.try_take(SECONDS_PER_QUESTION, now));
        if !may_ask {
            return;
        }
        let shared = self.shared_with(from);
        let topic = shared.into_iter().find(|topic| self.pex_tag(from, topic).as_ref() == Some(tag));
        let Some((topic, pex)) = topic.zip(self.pex.as_ref()) else { return };
        let shown = pex.sessions.get(&from).and_then(|known| known.shown.get(&topic)).copied().unwrap_or(0);
        let mut known = self.others_for(from, &topic);
        // First those behind the last that it was shown, then from the beginning.
        known.sort_unstable_by_key(|(version, _)| (*version <= shown, *version));
        known.truncate(MAX_SHARED);
        let last = known.last().map_or(0, |(version, _)| *version);
        let (count, message) = (known.len(), others(tag, &known));
        if self.send_pex(from, &message)
            && let Some(pex) = &mut self.pex
            && let Some(known) = pex.sessions.get_mut(&from)
        {
            known.shown.insert(topic, last);
            pex.counters.shared = pex.counters.shared.saturating_add(count as u64);
        }
    }

    /// What has no room now is said in the next round.
    fn send_pex(&mut self, session: Handle, message: &[u8]) -> bool {
        let (Some(protocol), now) = (self.protocols.pex, self.now) else { return false };
        let sent = self.endpoint.with(session, now, |session, _| session.send(protocol, message, Urgency::Normal));
        matches!(sent, Some(Ok(_)))
    }

    /// Reads what one session has to say of itself or others. Says whether there was any.
    pub(super) fn read_pex(&mut self) -> bool {
        let (Some(pex), Some(protocol)) = (&mut self.pex, self.protocols.pex) else { return false };
        let Some(session) = pex.readable.pop_first() else { return false };
        let now = self.now;
        let mut message = Vec::new();
        for turn in 0.. {
            let received = self.endpoint.with(session, now, |session, _| session.recv(protocol, &mut message));
            let Some(Some(_)) = received else { break };
            if self.on_pex(session, &message).is_err() {
                // What cannot be understood ends this protocol with this peer, and nothing else.
                self.endpoint.with(session, now, |session, _| session.fail_protocol(protocol));
                if let Some(pex) = &mut self.pex {
                    pex.forget(session);
                }
                break;
            }
            if turn >= MESSAGES {
                if let Some(pex) = &mut self.pex {
                    pex.readable.insert(session);
                }
                break;
            }
        }
        true
    }

    fn on_pex(&mut self, from: Handle, message: &[u8]) -> Result<(), DecodeError> {
        if message.len() > MAX_MESSAGE {
            return Err(DecodeError::TooLong { len: message.len(), max: MAX_MESSAGE });
        }
        let mut reader = Reader::new(message);
        match reader.u8()? {
            WHERE => {
                let count = usize::from(reader.u8()?);
                if count > MAX_TOPICS {
                    return Err(DecodeError::TooLong { len: count, max: MAX_TOPICS });
                }
                let tags = (0..count).map(|_| reader.array()).collect::<Result<BTreeSet<[u8; TAG]>, _>>()?;
                self.on_where(from, &tags, reader.rest());
            }
            OTHERS => {
                let (tag, count) = (reader.array()?, usize::from(reader.u8()?));
                if count > MAX_SHARED {
                    return Err(DecodeError::TooLong { len: count, max: MAX_SHARED });
                }
                let mut records = Vec::with_capacity(count);
                for _ in 0..count {
                    let len = usize::from(reader.u16()?);
                    if len > MAX_RECORD {
                        return Err(DecodeError::TooLong { len, max: MAX_RECORD });
                    }
                    records.push(reader.take(len)?);
                }
                self.on_others(from, &tag, &records);
            }
            WHO => {
                let tag = reader.array()?;
                self.on_who(from, &tag);
            }
            // Of a later version.
            _ => {}
        }
        Ok(())
    }

    /// A peer says where it is.
    fn on_where(&mut self, from: Handle, tags: &BTreeSet<[u8; TAG]>, record: &[u8]) {
        let now = self.now;
        let Some(peer) = self.sessions.get(&from).map(|session| session.peer) else { return };
        // It may know that we share a topic before we do.
        let ours: Vec<TopicId> = self.topics.joined().copied().collect();
        let named = |topic: &TopicId| self.pex_tag(from, topic).is_some_and(|tag| tags.contains(&tag));
        let passed_on_in: BTreeSet<TopicId> = ours.into_iter().filter(named).collect();
        let Some(pex) = &mut self.pex else { return };
        let unix = pex.epoch.unix_at(now);
        let is_its = |record: &SignedRecord| PeerId::from(record.peer()) == peer && record.check(unix).is_ok();
        let Some(record) = SignedRecord::decode(record).ok().filter(is_its) else {
            pex.counters.refused = pex.counters.refused.saturating_add(1);
            return;
        };
        let known = pex.sessions.entry(from).or_insert_with(|| Known::new(now));
        let is_older = known.record.as_ref().is_some_and(|(last, _)| last.sequence() > record.sequence());
        if !is_older {
            pex.version += 1;
            known.record = Some((record, pex.version));
            known.passed_on_in = passed_on_in;
            pex.at_latest(now.checked_add(SOON));
        }
    }

    /// A peer says where others are.
    fn on_others(&mut self, from: Handle, tag: &[u8; TAG], records: &[&[u8]]) {
        let now = self.now;
        let shared = self.shared_with(from);
        let topic = shared.into_iter().find(|topic| self.pex_tag(from, topic).as_ref() == Some(tag));
        let (Some(near), id) = (self.reach_of(from), self.id()) else { return };
        let own: BTreeSet<SocketAddr> = self.outside.own().iter().copied().collect();
        let Some(pex) = &mut self.pex else { return };
        let is_wanted = topic.and_then(|topic| pex.wishes.get(&topic)).is_some_and(|wish| wish.lookup);
        let (unix, far) = (pex.epoch.unix_at(now), pex.reach);
        let Some(known) = pex.sessions.get_mut(&from) else { return };
        if known.allowance_until <= now {
            (known.allowance, known.allowance_until) = (RECORDS_PER_MINUTE, now + EVERY);
        }
        let has_answered = std::mem::take(&mut known.asked);
        if has_answered {
            // What we asked for ourselves takes no room from what we did not.
            known.allowance = known.allowance.saturating_add(MAX_SHARED).min(RECORDS_PER_MINUTE);
        }
        let mut dials = Vec::new();
        for record in records {
            if !is_wanted || known.allowance == 0 {
                pex.counters.refused = pex.counters.refused.saturating_add(1);
                continue;
            }
            known.allowance -= 1;
            // Nobody outside of a network may make us knock at doors inside of it, nor at our own.
            let may_be_dialled = |addr: &SocketAddr| {
                Reach::of(addr.ip()).is_some_and(|reach| (near..=far).contains(&reach)) && !own.contains(addr)
            };
            let good = SignedRecord::decode(record).ok().filter(|record| record.check(unix).is_ok());
            let peer = good.as_ref().map(|record| PeerId::from(record.peer()));
            let addrs: Vec<SocketAddr> =
                good.iter().flat_map(SignedRecord::addresses).filter(may_be_dialled).take(MAX_DIALLED).collect();
            match peer {
                Some(peer) if peer != id && !addrs.is_empty() => {
                    // Who is connected already costs nothing: it is not dialled.
                    if !self.by_peer.contains_key(&peer) {
                        if !known.dials.try_take(DIAL_COST, now) {
                            pex.counters.refused = pex.counters.refused.saturating_add(1);
                            continue;
                        }
                        dials.push((peer, addrs));
                    }
                    pex.counters.taken = pex.counters.taken.saturating_add(1);
                }
                _ => pex.counters.refused = pex.counters.refused.saturating_add(1),
            }
        }
        for (peer, addrs) in dials {
            self.suggest_candidate(Some(peer), &addrs, now);
        }
        if let Some(peer) = self.sessions.get(&from).filter(|_| has_answered).map(|session| session.peer) {
            self.events.push_back(Event::Others { session: from, peer, count: records.len() });
        }
    }
}

/// The message that tells of others.
fn others(tag: &[u8; TAG], known: &[(u64, &SignedRecord)]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut writer = Writer::new(&mut message);
    writer.u8(OTHERS);
    writer.put(tag);
    writer.u8(u8::try_from(known.len()).unwrap_or(u8::MAX));
    for (_, record) in known {
        writer.u16(u16::try_from(record.as_bytes().len()).unwrap_or(u16::MAX));
        writer.put(record.as_bytes());
    }
    message
}

/// It means nothing without the name of an interface, which each machine has its own of.
const fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// What a message says: where its sender is, where others are, or that the sender wants to know of others.
const WHERE: u8 = 0;
const OTHERS: u8 = 1;
const WHO: u8 = 2;

/// In the order of their numbers.
const REACHES: [Reach; 3] = [Reach::Host, Reach::Network, Reach::World];
/// Records in one message.
const MAX_SHARED: usize = 20;
/// The longest message: twenty records, their tag and their lengths.
const MAX_MESSAGE: usize = 1 + TAG + 1 + MAX_SHARED * (2 + MAX_RECORD);
/// Records of others that one peer may send in a minute, beyond which they are left out.
const RECORDS_PER_MINUTE: usize = 64;
/// Records of others by one peer that are dialled at once, and the seconds until it may be one more.
const DIALS: u32 = 20;
const DIAL_COST: u32 = 15;
/// Questions of one peer that are answered at once; those beyond are not. An answer is up to 200 times as long as its question.
const QUESTIONS: u32 = 8;
/// How long it takes until one more is answered.
const SECONDS_PER_QUESTION: u32 = 6;
/// Addresses of one of them that are dialled: budget and patience are the node's.
const MAX_DIALLED: usize = 4;
/// Messages of one session read at a time.
const MESSAGES: usize = 8;
/// How often peers are told of others, and how soon after somebody came.
const EVERY: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(1);
/// How long our record holds, and how often it is signed anew.
const HOLDS: Duration = Duration::from_secs(2 * 3600);
const SIGNED_EVERY: Duration = Duration::from_secs(3600);
/// What the secret of the tags is derived for.
const EXPORTER: &[u8] = b"setowire pex v1";
