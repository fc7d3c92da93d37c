//! What one node does with hostile datagrams, and two with each other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::envelope::NodeKey;
use crypto::{Rng, Seed};
use dht::message::{self, Answer, Echo, Front, Message, Outcome, Refused, Request, Transaction};
use dht::{Contact, Dht, Event, Family, Key, NodeId, QueryError, Subnets, Token};
use structs::{Datagram, Machine, Path, Rejected, TransmitBuf};

/// A node of which every byte is ours.
pub(crate) struct Stranger {
    key: NodeKey,
    pub(crate) addr: SocketAddr,
    rng: Rng,
}

impl Stranger {
    pub(crate) fn new(number: u64, addr: &str) -> Self {
        let mut rng = Seed::fixed(number).rng();
        Self { key: NodeKey::generate(&mut rng), addr: addr.parse().unwrap(), rng }
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId::from_bytes(*self.key.public())
    }

    pub(crate) fn seal(&mut self, to: &Dht, token: Token, body: &[u8]) -> Vec<u8> {
        let keys = self.key.shared_with(to.id().as_bytes()).unwrap();
        message::seal(&keys, NodeId::from_bytes(*self.key.public()), token, body, &mut self.rng).unwrap()
    }

    pub(crate) fn open(&self, from: &Dht, datagram: &[u8]) -> Message {
        let keys = self.key.shared_with(from.id().as_bytes()).unwrap();
        Message::decode(message::open(&keys, &mut datagram.to_vec()).unwrap()).unwrap()
    }
}

pub(crate) fn node(seed: u64, now: Instant) -> Dht {
    let seed = Seed::fixed(seed);
    Dht::new(NodeKey::generate(&mut seed.fork("key").rng()), Subnets::Public, crate::epoch(now), &seed, now)
}

pub(crate) fn give(dht: &mut Dht, from: SocketAddr, datagram: &[u8], now: Instant) -> Result<(), Rejected> {
    let path = Path::udp("9.9.9.9:1".parse().unwrap(), from);
    dht.handle_datagram(Datagram::new(path, &mut datagram.to_vec()), now)
}

pub(crate) fn take(dht: &mut Dht, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut out = TransmitBuf::new(1);
    let mut sent = Vec::new();
    while let Some(transmit) = dht.poll_transmit(&mut out, now) {
        sent.push((transmit.path.remote, out.bytes().to_vec()));
        out.clear();
    }
    sent
}

pub(crate) const TRANSACTION: Transaction = Transaction([3; 8]);

fn find() -> Message {
    Message::Request(TRANSACTION, Request::Find { target: Key::from_bytes([1; 32]), family: Family::V4 })
}

/// A node with 20 contacts that answered it.
pub(crate) fn well_known(now: Instant) -> Dht {
    let mut dht = node(1, now);
    for number in 0..30 {
        let mut other = Stranger::new(100 + number, &format!("30.0.{number}.1:7"));
        dht.bootstrap(&[Contact { id: other.id(), addr: other.addr }], now);
        let (_, datagram) = take(&mut dht, now).into_iter().find(|(to, _)| *to == other.addr).unwrap();
        let transaction = other.open(&dht, &datagram).transaction();
        let outcome = Outcome::Nodes(Vec::new());
        let answer = Answer { token: Token::from_bytes([1; 8]), observed: other.addr, outcome };
        let body = Message::Answer(transaction, answer).encode(0, 1200);
        let sealed = other.seal(&dht, Token::NONE, &body);
        assert_eq!(give(&mut dht, other.addr, &sealed, now), Ok(()));
        assert_eq!(give(&mut dht, other.addr, &sealed, now), Err(Rejected::Unsolicited), "taken once");
    }
    take(&mut dht, now);
    assert!(dht.table(Family::V4).len() >= 20);
    dht
}

#[test]
fn no_answer_is_longer_than_the_request_without_a_token() {
    let now = Instant::now();
    let mut dht = well_known(now);
    let mut asker = Stranger::new(7, "8.8.8.8:1");
    for least in [0, 36, 80, 200, 1035, 1036, 1100] {
        let sealed = asker.seal(&dht, Token::NONE, &find().encode(least, 1200));
        let _ = give(&mut dht, asker.addr, &sealed, now);
        let sent = take(&mut dht, now);
        assert_eq!(sent.len(), 1, "and it is not asked back");
        let (to, answer) = &sent[0];
        assert_eq!(*to, asker.addr);
        assert!(answer.len() <= sealed.len(), "{} for {}", answer.len(), sealed.len());
        match Front::decode(answer).unwrap() {
            Front::Sealed { .. } => {
                let Message::Answer(TRANSACTION, answer) = asker.open(&dht, answer) else { panic!("not an answer") };
                assert!(least >= 1036 && matches!(answer.outcome, Outcome::Nodes(nodes) if nodes.len() == 20));
                assert_eq!(answer.observed, asker.addr);
            }
            Front::Retry { echo, token } => {
                assert!(least < 1036);
                assert_eq!(echo.0, sealed[42..50]);
                // With the token the short request gets the whole answer, and the asker is asked back.
                let again = asker.seal(&dht, token, &find().encode(0, 1200));
                assert_eq!(give(&mut dht, asker.addr, &again, now), Ok(()));
                let sent = take(&mut dht, now);
                assert!(matches!(asker.open(&dht, &sent[0].1), Message::Answer(..)) && sent[0].1.len() == 1118);
                assert!(sent[1..].iter().all(|(to, _)| *to == asker.addr));
                // It is worth nothing at another address.
                assert_eq!(give(&mut dht, "8.8.4.4:1".parse().unwrap(), &again, now), Err(Rejected::Unproven));
                assert!(take(&mut dht, now).iter().all(|(_, datagram)| datagram.len() == 18));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        dht.table(Family::V4).get(&Contact { id: asker.id(), addr: asker.addr }).is_none(),
        "asking makes no contact"
    );
}

#[test]
fn what_was_not_asked_for_changes_nothing() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let mut other = Stranger::new(2, "8.8.8.8:1");
    let contact = Contact { id: other.id(), addr: other.addr };
    let id = dht.ping(contact, now).unwrap();
    let (_, request) = take(&mut dht, now).remove(0);
    let transaction = other.open(&dht, &request).transaction();
    let answer = Answer { token: Token::NONE, observed: other.addr, outcome: Outcome::Pong };
    let good = Message::Answer(transaction, answer.clone()).encode(0, 1200);
    let wrong = Message::Answer(TRANSACTION, answer).encode(0, 1200);

    let sealed = other.seal(&dht, Token::NONE, &wrong);
    assert_eq!(give(&mut dht, other.addr, &sealed, now), Err(Rejected::Unsolicited), "another transaction");
    let sealed = other.seal(&dht, Token::NONE, &good);
    assert_eq!(
        give(&mut dht, "8.8.8.8:2".parse().unwrap(), &sealed, now),
        Err(Rejected::Unsolicited),
        "another address"
    );
    let mut thief = Stranger::new(3, "8.8.8.8:1");
    let stolen = thief.seal(&dht, Token::NONE, &good);
    assert_eq!(give(&mut dht, other.addr, &stolen, now), Err(Rejected::Unsolicited), "another node");
    let retry = Front::Retry { echo: Echo([0; 8]), token: Token::NONE }.encode();
    assert_eq!(give(&mut dht, other.addr, &retry, now), Err(Rejected::Unsolicited));
    let welcome = Front::Welcome { echo: Echo([0; 8]), sender: other.id(), token: Token::NONE }.encode();
    assert_eq!(give(&mut dht, other.addr, &welcome, now), Err(Rejected::Unsolicited));
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 0x40;
        assert!(at == 1 || give(&mut dht, other.addr, &changed, now).is_err(), "byte {at}");
    }
    assert!(dht.table(Family::V4).is_empty() && dht.poll_event().is_none());
    take(&mut dht, now);

    assert_eq!(give(&mut dht, other.addr, &sealed, now), Ok(()));
    let events: Vec<Event> = std::iter::from_fn(|| dht.poll_event()).collect();
    assert!(events.contains(&Event::PingDone { id, contact, answered: true }));
    assert!(dht.table(Family::V4).get(&contact).is_some());
}

#[test]
fn strangers_cost_a_bounded_number_of_key_agreements() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let (mut answered, mut retried) = (0, 0);
    for number in 0..600_u64 {
        let mut asker = Stranger::new(1000 + number, &format!("8.{}.{}.8:1", number / 200, number % 200));
        let sealed = asker.seal(&dht, Token::NONE, &find().encode(1036, 1200));
        let _ = give(&mut dht, asker.addr, &sealed, now);
        for (_, sent) in take(&mut dht, now) {
            assert!(sent.len() <= sealed.len());
            if sent.len() == 18 { retried += 1 } else { answered += 1 }
        }
    }
    assert_eq!((answered, retried), (500, 100));
    let mut flood = Stranger::new(9, "7.7.7.7:1");
    let sealed = flood.seal(&dht, Token::NONE, &find().encode(1036, 1200));
    let limited = (0..300).filter(|_| give(&mut dht, flood.addr, &sealed, now) == Err(Rejected::LimitReached)).count();
    assert_eq!(limited, 100, "200 at once from one address");
}

#[test]
fn unknown_requests_are_refused_and_noise_is_not_answered() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let mut asker = Stranger::new(7, "8.8.8.8:1");
    let body = Message::UnknownRequest(TRANSACTION).encode(36, 36);
    let sealed = asker.seal(&dht, Token::NONE, &body);
    assert_eq!(give(&mut dht, asker.addr, &sealed, now), Ok(()));
    let (_, answer) = take(&mut dht, now).remove(0);
    let Message::Answer(TRANSACTION, answer) = asker.open(&dht, &answer) else { panic!("not an answer") };
    assert_eq!(answer.outcome, Outcome::Refused(Refused::Unknown));
    for len in 0..300 {
        for kind in [0xd8, 0xda, 0xdb, 0x00] {
            let mut noise = vec![len as u8; len];
            if let Some(first) = noise.first_mut() {
                *first = kind;
            }
            assert!(give(&mut dht, asker.addr, &noise, now).is_err());
        }
    }
    assert!(take(&mut dht, now).is_empty());
    assert!(dht.rejected().total() >= 1200);
}

#[test]
fn an_empty_network_is_tried_again_with_growing_pauses() {
    let start = Instant::now();
    let mut dht = node(1, start);
    assert!(dht.hello("8.8.8.8:1".parse().unwrap(), start));
    assert!(!dht.hello("8.8.8.8:1".parse().unwrap(), start) && !dht.hello("8.8.8.8:0".parse().unwrap(), start));
    let mut sent = Vec::new();
    let mut now = start;
    while now < start + Duration::from_secs(200) {
        for (_, datagram) in take(&mut dht, now) {
            assert_eq!((datagram[0], datagram.len()), (0xd9, 64));
            sent.push((now - start).as_secs());
        }
        now = dht.poll_timeout().expect("it keeps trying").at;
        dht.handle_timeout(now);
    }
    assert_eq!(sent, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    let lookup = dht.lookup(Key::from_bytes([1; 32]), Family::V4, now).unwrap();
    assert!(
        matches!(dht.poll_event(), Some(Event::LookupDone { id, found }) if id == lookup && found.closest.is_empty())
    );
}

#[test]
fn an_address_is_enough_to_begin_with() {
    let now = Instant::now();
    let [mut a, mut b] = [node(1, now), node(2, now)];
    let [at_a, at_b]: [SocketAddr; 2] = ["8.8.8.8:1".parse().unwrap(), "9.9.9.9:2".parse().unwrap()];
    a.hello(at_b, now);
    for _ in 0..20 {
        for (to, datagram) in take(&mut a, now) {
            assert_eq!(to, at_b);
            give(&mut b, at_a, &datagram, now).unwrap();
        }
        for (to, datagram) in take(&mut b, now) {
            assert_eq!(to, at_a);
            give(&mut a, at_b, &datagram, now).unwrap();
        }
    }
    assert!(a.table(Family::V4).get(&Contact { id: b.id(), addr: at_b }).is_some());
    assert!(b.table(Family::V4).get(&Contact { id: a.id(), addr: at_a }).is_some(), "it asked back");
    assert!(
        std::iter::from_fn(|| a.poll_event())
            .any(|event| matches!(event, Event::Observed { addr, .. } if addr == at_a))
    );
}

#[test]
fn queries_are_bounded_and_a_closed_machine_says_so() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let lookup = |dht: &mut Dht| dht.lookup(Key::from_bytes([1; 32]), Family::V4, now).map(drop);
    (0..24).for_each(|_| assert_eq!(lookup(&mut dht), Ok(())));
    assert_eq!(lookup(&mut dht), Err(QueryError::Busy), "until the events are taken");
    assert!(dht.poll_event().is_some());
    assert_eq!(lookup(&mut dht), Ok(()));
    dht.close();
    assert_eq!(lookup(&mut dht), Err(QueryError::Closed));
    assert_eq!(give(&mut dht, "8.8.8.8:1".parse().unwrap(), &[0xd8; 100], now), Err(Rejected::Closed));
    assert!(dht.poll_event().is_none() && dht.poll_timeout().is_none());
}

/// Answers the only datagram that a node has for somebody.
fn answer(dht: &mut Dht, other: &mut Stranger, observed: SocketAddr, now: Instant) {
    let (_, datagram) = take(dht, now).into_iter().find(|(to, _)| *to == other.addr).unwrap();
    let transaction = other.open(dht, &datagram).transaction();
    let answer = Answer { token: Token::from_bytes([1; 8]), observed, outcome: Outcome::Pong };
    let sealed = other.seal(dht, Token::NONE, &Message::Answer(transaction, answer).encode(0, 1200));
    assert_eq!(give(dht, other.addr, &sealed, now), Ok(()));
}

#[test]
fn who_is_greeted_is_asked_once_and_becomes_a_contact() {
    let now = sim::clock::base();
    let (mut dht, mut other) = (node(1, now), Stranger::new(2, "30.0.0.1:7"));
    assert!(dht.greet(other.addr, now));
    let (_, hello) = take(&mut dht, now).pop().unwrap();
    let Ok(Front::Hello { echo, .. }) = Front::decode(&hello) else { panic!("{hello:?}") };
    let welcome = Front::Welcome { echo, sender: other.id(), token: Token::from_bytes([1; 8]) }.encode();
    assert_eq!(give(&mut dht, "30.0.0.2:7".parse().unwrap(), &welcome, now), Err(Rejected::Unsolicited));
    assert_eq!(give(&mut dht, other.addr, &welcome, now), Ok(()));
    assert_eq!(give(&mut dht, other.addr, &welcome, now), Err(Rejected::Unsolicited), "taken once");
    let seen = "1.2.3.4:5".parse().unwrap();
    answer(&mut dht, &mut other, seen, now);
    assert_eq!(dht.table(Family::V4).len(), 1);
    assert!(!dht.greet(other.addr, now), "it is known");
    // Nobody is asked again by itself, and nobody very often.
    let mut dht = node(1, now);
    let asked = (0..100).filter(|n| dht.greet(SocketAddr::from(([30, 0, *n, 1], 7)), now)).count();
    assert!((1..20).contains(&asked), "{asked}");
    take(&mut dht, now);
    assert_eq!(dht.poll_timeout(), None);
}

#[test]
fn where_each_sees_us_is_told_once_until_it_changes() {
    let now = sim::clock::base();
    let mut dht = node(1, now);
    let mut tell = |host: u8, seen: &str| {
        let mut other = Stranger::new(u64::from(host), &format!("30.0.{host}.1:7"));
        let contact = Contact { id: other.id(), addr: other.addr };
        dht.ping(contact, now).unwrap();
        answer(&mut dht, &mut other, seen.parse().unwrap(), now);
        take(&mut dht, now);
        let observed = |event| match event {
            Event::Observed { addr, by } => Some((addr.to_string(), by)),
            _ => None,
        };
        let events = std::iter::from_fn(|| dht.poll_event()).filter_map(observed).collect::<Vec<_>>();
        assert!(events.iter().all(|(addr, by)| addr == seen && *by == contact));
        events.len()
    };
    assert_eq!(tell(1, "1.2.3.4:5"), 1);
    assert_eq!(tell(2, "1.2.3.4:5"), 1);
    assert_eq!(tell(1, "1.2.3.4:5"), 0);
    assert_eq!(tell(1, "1.2.3.4:6"), 1);
}

#[test]
fn who_is_far_does_not_hear_of_who_is_near() {
    let now = sim::clock::base();
    let mut dht = node(1, now);
    let addrs = ["192.168.1.7:7", "30.0.0.1:7"];
    for (number, addr) in (10..).zip(addrs) {
        let mut other = Stranger::new(number, addr);
        dht.ping(Contact { id: other.id(), addr: other.addr }, now).unwrap();
        answer(&mut dht, &mut other, "1.2.3.4:5".parse().unwrap(), now);
    }
    take(&mut dht, now);
    let mut named = |addr: &str| {
        let mut asker = Stranger::new(99, addr);
        let sealed = asker.seal(&dht, Token::NONE, &find().encode(1036, 1200));
        give(&mut dht, asker.addr, &sealed, now).unwrap();
        let (_, datagram) = take(&mut dht, now).into_iter().find(|(to, _)| *to == asker.addr).unwrap();
        let Message::Answer(_, Answer { outcome: Outcome::Nodes(nodes), .. }) = asker.open(&dht, &datagram) else {
            panic!("no nodes")
        };
        let mut named: Vec<String> = nodes.iter().map(|contact| contact.addr.to_string()).collect();
        named.sort_unstable();
        named
    };
    assert_eq!(named("9.9.9.9:9"), ["30.0.0.1:7"]);
    assert_eq!(named("192.168.1.8:9"), ["192.168.1.7:7", "30.0.0.1:7"]);
}

/// Answers everything that a node asks strangers, each of whom names those of his group, until it asks nothing more.
fn answer_all(dht: &mut Dht, groups: &mut [Vec<Stranger>], now: Instant) {
    answer_with(dht, groups, now, |_, _| None);
}

/// As [`answer_all`], but some requests are answered otherwise.
fn answer_with(
    dht: &mut Dht,
    groups: &mut [Vec<Stranger>],
    now: Instant,
    mut otherwise: impl FnMut(SocketAddr, &Request) -> Option<Outcome>,
) {
    loop {
        let sent = take(dht, now);
        if sent.is_empty() {
            return;
        }
        for (to, datagram) in sent {
            let of = |group: &Vec<Stranger>| group.iter().position(|other| other.addr == to);
            let Some((group, at)) = groups.iter().zip(0..).find_map(|(group, number)| Some((number, of(group)?)))
            else {
                continue;
            };
            let group: &mut Vec<Stranger> = &mut groups[group];
            let named = group.iter().take(20).map(|other| Contact { id: other.id(), addr: other.addr }).collect();
            let Message::Request(transaction, request) = group[at].open(dht, &datagram) else { continue };
            let usual = if request == Request::Ping { Outcome::Pong } else { Outcome::Nodes(named) };
            let outcome = otherwise(to, &request).unwrap_or(usual);
            let answer = Answer { token: Token::from_bytes([1; 8]), observed: to, outcome };
            let body = Message::Answer(transaction, answer).encode(0, 1200);
            let sealed = group[at].seal(dht, Token::NONE, &body);
            assert_eq!(give(dht, to, &sealed, now), Ok(()));
        }
    }
}

#[test]
fn two_to_begin_with_are_compared() {
    let group = |number: u64| -> Vec<Stranger> {
        let stranger = |host: u64| Stranger::new(1000 * number + host, &format!("{}.0.{host}.1:7", 30 + number));
        (0..25).map(stranger).collect()
    };
    let begin = |groups: &[Vec<Stranger>], (group, at): (usize, usize)| {
        let other = &groups[group][at];
        Contact { id: other.id(), addr: other.addr }
    };
    for (second, disagreements) in [((0, 1), 0), ((1, 0), 1)] {
        let now = Instant::now();
        let mut dht = node(1, now);
        let mut groups = [group(0), group(1)];
        dht.bootstrap(&[begin(&groups, (0, 0))], now);
        answer_all(&mut dht, &mut groups, now);
        assert!(dht.table(Family::V4).iter().all(|node| groups[0].iter().any(|other| other.addr == node.contact.addr)));
        dht.bootstrap(&[begin(&groups, second)], now);
        answer_all(&mut dht, &mut groups, now);
        assert_eq!(dht.stats().disagreements, disagreements);
        // A third is a contact like others.
        dht.bootstrap(&[begin(&groups, (1, 3))], now);
        answer_all(&mut dht, &mut groups, now);
        assert_eq!(dht.stats().disagreements, disagreements);
        let known = |group: usize| {
            let is_there =
                |other: &&Stranger| dht.table(Family::V4).get(&Contact { id: other.id(), addr: other.addr }).is_some();
            groups[group].iter().filter(is_there).count()
        };
        if disagreements > 0 {
            assert!(known(1) >= 10, "those that the first did not name: {}", known(1));
        }
    }
}

#[test]
fn own_neighbours_are_looked_for_again() {
    let start = Instant::now();
    let mut dht = node(1, start);
    let mut groups = [(0..25).map(|host| Stranger::new(host, &format!("30.0.{host}.1:7"))).collect::<Vec<_>>()];
    dht.bootstrap(&[Contact { id: groups[0][0].id(), addr: groups[0][0].addr }], start);
    answer_all(&mut dht, &mut groups, start);
    let mut own = Vec::new();
    let mut now = start;
    while now < start + Duration::from_mins(20) {
        now = dht.poll_timeout().unwrap().at.max(now);
        let asked = dht.stats().asked;
        dht.handle_timeout(now);
        // Those are asked in a lookup, not one by one.
        if dht.stats().asked > asked + 3 {
            own.push((now - start).as_secs());
        }
        answer_all(&mut dht, &mut groups, now);
    }
    assert_eq!(own[..4], [60, 180, 420, 900], "{own:?}");
}

#[test]
fn who_refuses_to_store_is_asked_for_others() {
    for reason in [Refused::Full, Refused::Busy] {
        let now = Instant::now();
        let mut dht = node(1, now);
        let mut groups = [(0..60).map(|host| Stranger::new(host, &format!("30.0.{host}.1:7"))).collect::<Vec<_>>()];
        let all: Vec<Contact> = groups[0].iter().map(|other| Contact { id: other.id(), addr: other.addr }).collect();
        for few in all.chunks(8) {
            dht.bootstrap(few, now);
            answer_all(&mut dht, &mut groups, now);
        }
        assert!(dht.table(Family::V4).len() >= 40);
        // Names the closest to the target that there are.
        let closest = |target: &Key| {
            let mut closest = all.clone();
            closest.sort_by_cached_key(|contact| Subnets::Public.key_of(contact).distance(target));
            closest.truncate(20);
            closest
        };
        let item = dht::Item::Value([7; 100].as_slice().into());
        let mut refused: Vec<SocketAddr> = Vec::new();
        let mut stored: Vec<SocketAddr> = Vec::new();
        let mut found: Vec<SocketAddr> = Vec::new();
        while dht.poll_event().is_some() {}
        dht.put(item.clone(), now).unwrap();
        answer_with(&mut dht, &mut groups, now, |to, request| match request {
            Request::Find { target, .. } => {
                found.push(to);
                Some(Outcome::Nodes(closest(target)))
            }
            Request::Put { .. } if reason == Refused::Busy && refused.contains(&to) => {
                stored.push(to);
                Some(Outcome::Stored { seconds: 60, nodes: Vec::new() })
            }
            Request::Put { family, .. } => {
                // The first is part of the lookup.
                assert!(family.is_some() || !refused.contains(&to));
                refused.push(to);
                Some(Outcome::Refused(reason))
            }
            _ => None,
        });
        let all_asked = |asked: &[SocketAddr]| closest(&item.key()).iter().all(|contact| asked.contains(&contact.addr));
        assert!(all_asked(&refused) && all_asked(&found), "each of the closest named others");
        let done = std::iter::from_fn(|| dht.poll_event()).find_map(|event| match event {
            Event::Stored { stored, refused, .. } => Some((stored, refused.len())),
            _ => None,
        });
        let (count, reasons) = done.expect("it ends");
        match reason {
            Refused::Full => assert!(count == 0 && reasons >= 20, "{count} {reasons}"),
            _ => assert!(count >= 15 && all_asked(&[&stored[..], &found[..]].concat()), "{count} {reasons}"),
        }
    }
}
