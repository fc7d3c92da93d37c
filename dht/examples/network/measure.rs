//! Queries in a network, and whether they found what they must.

use std::sync::Arc;
use std::time::Duration;

use crypto::Identity;
use dht::{Announcer, Contact, Event, Family, Found, Item, Key, QueryId, Wanted, limits};
use sim::Samples;

use crate::net::{Member, Network};

/// What is done to a network.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Queries of each kind: for nodes, for a value, for the peers of a topic.
    pub queries: u32,
    /// Nodes that are replaced.
    pub replaced: u32,
    /// How long it takes; everything is spread evenly over it.
    pub span: Duration,
}

/// What came of the queries whose node lived to see the end.
#[derive(Debug)]
pub struct Figures {
    pub lookups: usize,
    /// Of 100 lookups: those that found the closest honest node.
    pub closest: f64,
    /// Of 100 honest nodes that are among the 20 closest in truth: those found.
    pub recall: f64,
    /// How many answers led to the closest.
    pub hops: Samples<u8>,
    /// Nodes asked by one lookup.
    pub asked: Samples<u32>,
    /// Until the end.
    pub time: Samples<Duration>,
    /// Requests of a lookup and their answers, repetitions not counted.
    pub datagrams: f64,
    pub gets: Finds,
    pub peers: Finds,
    /// Until a record was stored everywhere.
    pub publish: Samples<Duration>,
    pub published: String,
}

/// What came of queries for records.
#[derive(Debug)]
pub struct Finds {
    pub count: usize,
    /// Of 100: those that found one that was valid.
    pub found: f64,
    /// Until the first.
    pub first: Samples<Duration>,
}

/// A query by a random honest node.
struct Query {
    by: Member,
    what: What,
    id: QueryId,
    start: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Nodes(Key),
    Value,
    Peers,
}

/// A record that was published before.
struct Published {
    value: Key,
    topic: [u8; 32],
    by: Member,
    ids: Vec<QueryId>,
    start: Duration,
}

/// Publishes some records, lets honest nodes ask, and replaces others meanwhile.
pub fn run(network: &mut Network, load: Load) -> Figures {
    let published = if load.queries > 0 { publish(network) } else { Vec::new() };
    let begin = network.world.elapsed();
    let moments = |count: u32| (0..count).map(move |number| (load.span * number / count.max(1), number));
    let mut agenda: Vec<(Duration, Option<u32>)> =
        moments(load.queries * 3).map(|(at, number)| (at, Some(number))).collect();
    agenda.extend(moments(load.replaced).map(|(at, _)| (at, None)));
    agenda.sort_unstable();
    let mut queries = Vec::new();
    for (at, number) in agenda {
        network.world.run_for((begin + at).saturating_sub(network.world.elapsed()));
        match number {
            Some(number) => queries.extend(ask(network, number, &published)),
            None => network.replace(),
        }
    }
    network.world.run_for(PATIENCE);
    figures(network, &queries, &published)
}

/// What came of a value that liars crowd around.
#[derive(Debug)]
pub struct Hunt {
    /// Queries of each kind that ended.
    pub asked: f64,
    /// Those that found the closest honest node.
    pub closest: f64,
    /// Those that found the value.
    pub values: f64,
    /// Honest nodes that keep it.
    pub kept: usize,
}

/// Lets one honest node publish a value, and others look for it and for the nodes closest to it.
pub fn hunt(network: &mut Network, value: &Item, queries: u32) -> Hunt {
    if let Some(by) = network.anybody() {
        let item = value.clone();
        network.world.with(by.id, |node, now| node.dht.put(item, now).ok());
    }
    network.world.run_for(PATIENCE);
    let key = value.key();
    let keeps = |member: &&Member| {
        let node = network.world.get(member.id);
        !member.lies && node.is_some_and(|node| node.dht.store().get(value.kind(), &key).is_some())
    };
    let kept = network.members.iter().filter(keeps).count();
    let mut asked = Vec::new();
    for _ in 0..queries {
        let Some(by) = network.anybody() else { continue };
        let start = network.world.elapsed();
        let ids = network.world.with(by.id, |node, now| {
            let nodes = node.dht.lookup(key, Family::V4, now);
            [(What::Nodes(key), nodes), (What::Value, node.dht.get(Wanted::Value(key), now))]
        });
        let ids = ids.into_iter().flatten();
        asked.extend(ids.filter_map(|(what, id)| Some(Query { by, what, id: id.ok()?, start })));
        network.world.run_for(Duration::from_millis(450));
    }
    network.world.run_for(PATIENCE);
    let figures = figures(network, &asked, &[]);
    let found = |share: f64, of: usize| share * of as f64 / 100.0;
    Hunt {
        asked: figures.lookups.min(figures.gets.count) as f64,
        closest: found(figures.closest, figures.lookups),
        values: found(figures.gets.found, figures.gets.count),
        kept,
    }
}

/// Lets random nodes publish a value and announce a topic each.
fn publish(network: &mut Network) -> Vec<Published> {
    let mut all = Vec::new();
    for _ in 0..PUBLISHED {
        let (value, topic): ([u8; 32], [u8; 32]) = (network.rng.array(), network.rng.array());
        let identity = Arc::new(Identity::generate(&mut network.rng));
        let Some(by) = network.anybody() else { continue };
        let announcer = Announcer { identity, addresses: vec![by.contact.addr], relays: Vec::new() };
        let item = Item::Value(value.as_slice().into());
        let key = item.key();
        let start = network.world.elapsed();
        let put = network.world.with(by.id, |node, now| node.dht.put(item, now).ok()).flatten();
        let announced = network.world.with(by.id, |node, now| node.dht.announce(topic, announcer, now).ok()).flatten();
        let ids = put.into_iter().chain(announced).collect();
        all.push(Published { value: key, topic, by, ids, start });
        network.world.run_for(Duration::from_millis(100));
    }
    network.world.run_for(PATIENCE);
    all
}

fn ask(network: &mut Network, number: u32, published: &[Published]) -> Option<Query> {
    let target = Key::from_bytes(network.rng.array());
    let by = network.anybody()?;
    let start = network.world.elapsed();
    let one = published.get(usize::try_from(network.rng.below(published.len() as u64)).ok()?)?;
    let (value, topic) = (one.value, one.topic);
    let (what, id) = network.world.with(by.id, |node, now| match number % 3 {
        0 => (What::Nodes(target), node.dht.lookup(target, Family::V4, now)),
        1 => (What::Value, node.dht.get(Wanted::Value(value), now)),
        _ => (What::Peers, node.dht.peers(&topic, now)),
    })?;
    Some(Query { by, what, id: id.ok()?, start })
}

fn figures(network: &Network, queries: &[Query], published: &[Published]) -> Figures {
    let events = |query: &Query| network.world.events(query.by.id).iter();
    let mut lookups: Vec<(&Query, Found, Duration)> = Vec::new();
    let (mut gets, mut peers) = (Vec::new(), Vec::new());
    for query in queries {
        // By the end of the query, so that those whose node was replaced meanwhile do not count.
        let ended = events(query).find(|timed| ends(&timed.event, query.id));
        let Some(ended) = ended else { continue };
        let first = events(query).find(|timed| brings(&timed.event, query.id)).map(|timed| timed.at - query.start);
        match (&ended.event, query.what) {
            (Event::LookupDone { found, .. }, _) => lookups.push((query, found.clone(), ended.at)),
            (_, What::Value) => gets.push(first),
            (_, _) => peers.push(first),
        }
    }
    let (mut closest, mut hit, mut wanted) = (0, 0, 0);
    for (query, found, at) in &lookups {
        let truth = truth(&network.members, query, *at);
        let is_found = |contact: &Contact| found.closest.contains(contact);
        closest += usize::from(truth.first().is_none_or(is_found));
        hit += truth.iter().filter(|contact| is_found(contact)).count();
        wanted += truth.len();
    }
    let (publish, stored): (Vec<Duration>, Vec<u32>) = published.iter().flat_map(|one| stored(network, one)).unzip();
    let asked = Samples::new(lookups.iter().map(|(_, found, _)| found.asked));
    Figures {
        lookups: lookups.len(),
        closest: percent(closest, lookups.len()),
        recall: percent(hit, wanted),
        hops: Samples::new(lookups.iter().map(|(_, found, _)| found.hops)),
        datagrams: lookups.iter().map(|(_, found, _)| f64::from(found.asked) * 2.0).sum::<f64>()
            / lookups.len().max(1) as f64,
        asked,
        time: Samples::new(lookups.iter().map(|(query, _, at)| *at - query.start)),
        gets: Finds::new(&gets),
        peers: Finds::new(&peers),
        publish: Samples::new(publish),
        published: format!("{}", Samples::new(stored)),
    }
}

impl Finds {
    fn new(all: &[Option<Duration>]) -> Self {
        let first = Samples::new(all.iter().flatten().copied());
        Self { count: all.len(), found: percent(first.len(), all.len()), first }
    }
}

fn ends(event: &Event, query: QueryId) -> bool {
    match event {
        Event::LookupDone { id, .. } | Event::GetDone { id, .. } | Event::PeersDone { id, .. } => *id == query,
        _ => false,
    }
}

fn brings(event: &Event, query: QueryId) -> bool {
    matches!(event, Event::Record { id, .. } | Event::Peer { id, .. } if *id == query)
}

/// How long it took to store what somebody published for the first time, and by how many nodes it is kept.
fn stored(network: &Network, one: &Published) -> Vec<(Duration, u32)> {
    let events = network.world.events(one.by.id).iter();
    let first = events.filter_map(|timed| match &timed.event {
        Event::Stored { id, round: 0, stored, .. } if one.ids.contains(id) => Some((timed.at - one.start, *stored)),
        _ => None,
    });
    first.collect()
}

/// The honest ones of the 20 nodes closest to the target that were there during the whole lookup, the closest first.
fn truth(members: &[Member], query: &Query, end: Duration) -> Vec<Contact> {
    let What::Nodes(target) = query.what else { return Vec::new() };
    let there = members.iter().filter(|member| member.id != query.by.id && member.settled(query.start, end));
    let mut all: Vec<_> = there.map(|member| (member.key.distance(&target), member)).collect();
    if all.len() > limits::K {
        all.select_nth_unstable_by_key(limits::K - 1, |(distance, _)| *distance);
        all.truncate(limits::K);
    }
    all.sort_unstable_by_key(|(distance, _)| *distance);
    all.iter().filter(|(_, member)| !member.lies).map(|(_, member)| member.contact).collect()
}

fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Values, and topics, that are published.
const PUBLISHED: u32 = 20;
/// How long after the last query began all have ended.
const PATIENCE: Duration = Duration::from_secs(20);
