//! What one node does with requests for records, hostile ones among them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::Identity;
use dht::message::{Answer, Echo, Front, Message, Outcome, Request};
use dht::{Announcement, Contact, Dht, Family, Item, Key, Kind, Refused, SignedValue, Token};
use structs::Rejected;

use crate::machine::{Stranger, TRANSACTION, give, node, take, well_known};

fn value(bytes: &[u8]) -> Request {
    Request::Put { kind: Kind::Value, item: bytes.into(), family: None }
}

fn signed(sequence: u64, value: &[u8]) -> Request {
    let identity = Identity::from_seed([1; 32]);
    let item = Item::Signed(SignedValue::sign(&identity, b"salt", sequence, value).unwrap());
    Request::Put { kind: Kind::Signed, item: item.to_bytes(), family: None }
}

fn announcement(seed: u8, key: Key, unix: Duration) -> Arc<[u8]> {
    let identity = Identity::from_seed([seed; 32]);
    let addresses = [([9, 8, 7, 6], 5).into()];
    let life = Duration::from_hours(2);
    Announcement::sign(&identity, key, unix, life, &addresses, &[]).unwrap().as_bytes().clone()
}

/// Asks a node with a token, and returns what it answers.
fn ask(dht: &mut Dht, asker: &mut Stranger, token: Token, request: Request, now: Instant) -> Option<Outcome> {
    let body = Message::Request(TRANSACTION, request).encode(0, usize::MAX);
    let sealed = asker.seal(dht, token, &body);
    let _ = give(dht, asker.addr, &sealed, now);
    take(dht, now).into_iter().filter(|(to, _)| *to == asker.addr).find_map(|(_, datagram)| {
        assert!(datagram.len() <= 1200);
        match Front::decode(&datagram) {
            Ok(Front::Sealed { .. }) => match asker.open(dht, &datagram) {
                Message::Answer(TRANSACTION, answer) => Some(answer.outcome),
                _ => None, // it asks back
            },
            _ => None,
        }
    })
}

/// The token that a node gives to who has none.
fn token(dht: &mut Dht, asker: &mut Stranger, now: Instant) -> Token {
    let body = Message::Request(TRANSACTION, value(b"")).encode(0, usize::MAX);
    let sealed = asker.seal(dht, Token::NONE, &body);
    assert_eq!(give(dht, asker.addr, &sealed, now), Err(Rejected::Unproven));
    let sent = take(dht, now);
    match Front::decode(&sent[0].1) {
        Ok(Front::Retry { token, .. }) => token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_stored_without_a_token_for_the_address() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let mut asker = Stranger::new(7, "8.8.8.8:1");
    let good = token(&mut dht, &mut asker, now);
    let body = Message::Request(TRANSACTION, value(b"value")).encode(0, usize::MAX);
    for token in [Token::NONE, Token::from_bytes([1; 8])] {
        let sealed = asker.seal(&dht, token, &body);
        assert_eq!(give(&mut dht, asker.addr, &sealed, now), Err(Rejected::Unproven));
        let sent = take(&mut dht, now);
        assert!(sent.len() == 1 && sent[0].1.len() == 18, "RETRY, and nothing else");
    }
    // Somebody else at that address, and the same node at another one.
    let mut thief = Stranger::new(8, "8.8.8.8:1");
    let stolen = thief.seal(&dht, good, &body);
    assert_eq!(give(&mut dht, thief.addr, &stolen, now), Err(Rejected::Unproven));
    let sealed = asker.seal(&dht, good, &body);
    assert_eq!(give(&mut dht, "8.8.8.8:2".parse().unwrap(), &sealed, now), Err(Rejected::Unproven));
    let later = now + Duration::from_mins(11);
    assert_eq!(give(&mut dht, asker.addr, &sealed, later), Err(Rejected::Unproven), "an old one");
    assert!(dht.store().is_empty());

    let mut dht = node(1, now);
    let good = token(&mut dht, &mut asker, now);
    let sealed = asker.seal(&dht, good, &body);
    for _ in 0..3 {
        assert_eq!(give(&mut dht, asker.addr, &sealed, now), Ok(()), "a replay changes nothing");
    }
    assert_eq!((dht.store().len(), dht.stats().items), (1, 1));
}

#[test]
fn refusals_say_why() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let mut asker = Stranger::new(7, "8.8.8.8:1");
    let token = token(&mut dht, &mut asker, now);
    let mut answer = |request| ask(&mut dht, &mut asker, token, request, now).unwrap();
    let refused = |reason| Outcome::Refused(reason);
    let day = Outcome::Stored { seconds: 86_400, nodes: Vec::new() };
    assert_eq!(answer(signed(5, b"five")), day);
    assert_eq!(answer(signed(4, b"four")), refused(Refused::Older));
    assert_eq!(answer(signed(5, b"other")), refused(Refused::Conflict));
    assert_eq!(answer(value(&[0; 1001])), refused(Refused::Limit));
    let Request::Put { item, .. } = signed(6, b"six") else { panic!("a put") };
    let mut forged = item.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(
        answer(Request::Put { kind: Kind::Signed, item: forged.into(), family: None }),
        refused(Refused::Signature)
    );
    let key = Key::from_bytes([3; 32]);
    let announce = |seed, unix| Request::Announce { key, announcement: announcement(seed, key, unix), family: None };
    assert_eq!(answer(announce(1, crate::NOON)), Outcome::Stored { seconds: 7200, nodes: Vec::new() });
    assert_eq!(answer(announce(2, crate::NOON - Duration::from_hours(3))), refused(Refused::Time));
    for seed in 2..=8 {
        assert_eq!(answer(announce(seed, crate::NOON)), Outcome::Stored { seconds: 7200, nodes: Vec::new() });
    }
    assert_eq!(answer(announce(9, crate::NOON)), refused(Refused::Quota));
    let get = Request::Get { kind: Kind::Signed, key: Key::from_bytes([4; 32]), family: Family::V4 };
    assert_eq!(answer(get), Outcome::Nodes(Vec::new()));
}

/// A node with contacts, a value of the greatest length, and many announcements.
fn full(now: Instant) -> (Dht, Key, Key) {
    let mut dht = well_known(now);
    let topic = Key::from_bytes([1; 32]);
    let longest = [7; 1000];
    for number in 0..12 {
        let mut owner = Stranger::new(200 + number, &format!("40.0.{number}.1:7"));
        let token = token(&mut dht, &mut owner, now);
        let seed = u8::try_from(number).unwrap();
        let request =
            Request::Announce { key: topic, announcement: announcement(seed, topic, crate::NOON), family: None };
        ask(&mut dht, &mut owner, token, request, now);
        ask(&mut dht, &mut owner, token, value(&longest), now);
    }
    assert_eq!((dht.store().announcements(), dht.store().len()), (12, 13));
    (dht, topic, Item::Value(Arc::from(longest)).key())
}

#[test]
fn no_answer_to_who_proved_nothing_is_longer_than_its_request() {
    let now = Instant::now();
    let (mut dht, topic, key) = full(now);
    let family = Family::V4;
    let requests = [
        Request::Ping,
        Request::Find { target: topic, family },
        Request::Peers { key: topic, family: Some(family), start: 0 },
        Request::Peers { key: topic, family: None, start: 0 },
        Request::Get { kind: Kind::Value, key, family },
        Request::Get { kind: Kind::Peer, key, family },
        Request::Announce { key: topic, announcement: announcement(1, topic, crate::NOON), family: None },
        value(b"x"),
        signed(1, &[1; 996]),
    ];
    let mut number = 1000;
    for request in requests {
        let padded = request.padded_len();
        for least in [0, 36, 100, 500, 1000, padded] {
            number += 1;
            let mut asker = Stranger::new(number, "8.8.8.8:1");
            let later = now + Duration::from_secs(number - 1000);
            let sealed =
                asker.seal(&dht, Token::NONE, &Message::Request(TRANSACTION, request.clone()).encode(least, 0));
            let _ = give(&mut dht, asker.addr, &sealed, later);
            let sent: usize = take(&mut dht, later)
                .iter()
                .filter(|(to, _)| *to == asker.addr)
                .map(|(_, datagram)| {
                    assert!(datagram.len() <= 1200);
                    let answered = matches!(Front::decode(datagram), Ok(Front::Sealed { .. }));
                    assert!(answered || least < padded || request.is_write(), "{request:?}");
                    datagram.len()
                })
                .sum();
            assert!(sent > 0 && sent <= sealed.len(), "{sent} for {} of {request:?}", sealed.len());
        }
    }
}

#[test]
fn answers_hold_records_and_contacts_beside_them() {
    let now = Instant::now();
    let (mut dht, topic, key) = full(now);
    let mut asker = Stranger::new(7, "8.8.8.8:1");
    let token = token(&mut dht, &mut asker, now);
    let mut answer = |request| ask(&mut dht, &mut asker, token, request, now).unwrap();
    let family = Family::V4;
    match answer(Request::Peers { key: topic, family: Some(family), start: 0 }) {
        Outcome::Peers { total: 12, announcements, nodes, .. } => {
            assert_eq!((announcements.len(), nodes.len()), (5, 8), "what announcements leave is for contacts");
        }
        other => panic!("{other:?}"),
    }
    match answer(Request::Peers { key: topic, family: None, start: 0 }) {
        Outcome::Peers { announcements, nodes, .. } => assert_eq!((announcements.len(), nodes.len()), (8, 0)),
        other => panic!("{other:?}"),
    }
    match answer(Request::Get { kind: Kind::Value, key, family }) {
        Outcome::Item { item, nodes } => assert_eq!((item.len(), nodes.len()), (1000, 1)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_proves_nothing_has_ten_requests_in_five_seconds() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let mut asker = Stranger::new(7, "8.8.8.8:1");
    let body = Message::Request(TRANSACTION, Request::Ping).encode(36, 36);
    let sealed = asker.seal(&dht, Token::NONE, &body);
    let mut answered = |at| (0..50).filter(|_| give(&mut dht, asker.addr, &sealed, at).is_ok()).count();
    assert_eq!(answered(now), 10);
    assert_eq!(answered(now + Duration::from_secs(5)), 10);
}

#[test]
fn a_subnet_has_its_share_of_requests() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let body = Message::Request(TRANSACTION, Request::Ping).encode(36, 36);
    let mut limited = 0;
    for host in 1..=10 {
        let mut asker = Stranger::new(host, &format!("8.8.8.{host}:1"));
        let sealed = asker.seal(&dht, Token::NONE, &body);
        let flood = (0..200).filter(|_| give(&mut dht, asker.addr, &sealed, now) == Err(Rejected::LimitReached));
        limited += flood.count();
        take(&mut dht, now);
    }
    // 800 of 2000 are looked at, of which 10 of each of the first four hosts are answered.
    assert_eq!(limited, 2000 - 40);
    let mut other = Stranger::new(99, "8.8.9.1:1");
    let sealed = other.seal(&dht, Token::NONE, &body);
    assert_eq!(give(&mut dht, other.addr, &sealed, now), Ok(()));
}

#[test]
fn what_is_cut_is_not_answered() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let mut asker = Stranger::new(7, "8.8.8.8:1");
    let token = token(&mut dht, &mut asker, now);
    for request in
        [signed(1, b"value"), Request::Get { kind: Kind::Peer, key: Key::from_bytes([1; 32]), family: Family::V6 }]
    {
        let body = Message::Request(TRANSACTION, request).encode(0, usize::MAX);
        for len in 9..body.len() {
            let sealed = asker.seal(&dht, token, &body[..len]);
            assert_eq!(
                give(&mut dht, asker.addr, &sealed, now + Duration::from_secs(len as u64)),
                Err(Rejected::Malformed)
            );
        }
    }
    assert!(take(&mut dht, now).is_empty() && dht.store().is_empty());
}

#[test]
fn a_client_answers_nobody_and_is_not_asked_back() {
    let now = Instant::now();
    let mut dht = node(1, now);
    dht.set_server(false);
    let mut other = Stranger::new(7, "8.8.8.8:1");
    let sealed = other.seal(&dht, Token::NONE, &Message::Request(TRANSACTION, Request::Ping).encode(36, 36));
    assert_eq!(give(&mut dht, other.addr, &sealed, now), Err(Rejected::Forbidden));
    let hello = Front::Hello { echo: Echo([0; 8]), sender: other.id() }.encode();
    assert_eq!(give(&mut dht, other.addr, &hello, now), Err(Rejected::Forbidden));
    assert!(take(&mut dht, now).is_empty());

    // What it sends says so, and a server that gets it asks nothing back.
    let mut server = node(2, now);
    let server_at = "9.9.9.9:9".parse().unwrap();
    dht.bootstrap(&[Contact { id: server.id(), addr: server_at }], now);
    let at = "8.8.4.4:1".parse().unwrap();
    for _ in 0..4 {
        for (_, datagram) in take(&mut dht, now) {
            assert!(matches!(Front::decode(&datagram), Ok(Front::Sealed { client: true, .. })));
            let _ = give(&mut server, at, &datagram, now);
        }
        for (_, datagram) in take(&mut server, now) {
            let _ = give(&mut dht, server_at, &datagram, now);
        }
    }
    assert_eq!((dht.table(Family::V4).len(), server.table(Family::V4).len()), (1, 0));
    assert_eq!(server.stats().asked, 0);
}

/// A token for an asker, without a key agreement: what HELLO is answered with.
pub(crate) fn greeted(dht: &mut Dht, asker: &Stranger, now: Instant) -> Token {
    let hello = Front::Hello { echo: Echo([1; 8]), sender: asker.id() }.encode();
    assert_eq!(give(dht, asker.addr, &hello, now), Ok(()));
    let answers = take(dht, now).into_iter().filter(|(to, _)| *to == asker.addr);
    let token = |(_, datagram): (_, Vec<u8>)| match Front::decode(&datagram) {
        Ok(Front::Welcome { token, .. }) => Some(token),
        _ => None, // it asks something itself
    };
    answers.filter_map(token).next().expect("an answer")
}

#[test]
fn many_addresses_with_tokens_cost_a_bounded_number_of_key_agreements() {
    let now = Instant::now();
    let mut dht = node(1, now);
    // The first of them is a contact: it answered.
    let mut friend = Stranger::new(5, "8.8.8.8:1");
    dht.bootstrap(&[Contact { id: friend.id(), addr: friend.addr }], now);
    let asked = take(&mut dht, now).into_iter().find(|(to, _)| *to == friend.addr).unwrap().1;
    let answer = Answer { token: Token::NONE, observed: friend.addr, outcome: Outcome::Nodes(Vec::new()) };
    let body = Message::Answer(friend.open(&dht, &asked).transaction(), answer).encode(0, 1200);
    let sealed = friend.seal(&dht, Token::NONE, &body);
    assert_eq!(give(&mut dht, friend.addr, &sealed, now), Ok(()));
    let body = Message::Request(TRANSACTION, Request::Ping).encode(0, 1200);
    let flood = |dht: &mut Dht, numbers: std::ops::Range<u64>, now: Instant| {
        let all = numbers.map(|number| {
            // Each of a network of its own, with a key of its own.
            let mut asker = Stranger::new(1000 + number, &format!("20.{}.{}.1:7", number / 200, number % 200));
            let token = greeted(dht, &asker, now);
            let sealed = asker.seal(dht, token, &body);
            let result = give(dht, asker.addr, &sealed, now);
            take(dht, now);
            result
        });
        all.filter(|result| *result == Err(Rejected::LimitReached)).count()
    };
    assert_eq!(flood(&mut dht, 0..1100, now), 100);
    // 512 others have been heard since, so its keys are forgotten, and it has a share of its own.
    let token = greeted(&mut dht, &friend, now);
    let sealed = friend.seal(&dht, token, &body);
    assert_eq!(give(&mut dht, friend.addr, &sealed, now), Ok(()));
    assert_eq!(flood(&mut dht, 2000..2100, now + Duration::from_millis(50)), 50, "as many as the time brought");
}

#[test]
fn many_addresses_cost_a_bounded_number_of_signatures() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let heard = |dht: &mut Dht, ip: String, count: u64| {
        let mut asker = Stranger::new(7, &ip);
        let token = greeted(dht, &asker, now);
        let body = Message::Request(TRANSACTION, signed(1, b"value")).encode(0, usize::MAX);
        let sealed = asker.seal(dht, token, &body);
        let heard = (0..count).filter(|_| give(dht, asker.addr, &sealed, now).is_ok()).count();
        take(dht, now);
        heard
    };
    // An address has 200 requests at once, one of which was for the token.
    assert_eq!(heard(&mut dht, "20.0.0.1:7".into(), 300), 199);
    assert_eq!(heard(&mut dht, "20.0.0.2:7".into(), 300), 256 - 199, "its network has 256 of this kind");
    let others: usize = (1..20).map(|number| heard(&mut dht, format!("20.0.{number}.1:7"), 199)).sum();
    assert_eq!(others, 1000 - 256);
}
