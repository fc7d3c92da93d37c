//! Who may cost a node how much beside others: key agreements and signatures by network, and answers that are waited for.

use std::time::{Duration, Instant};

use dht::message::{Answer, Message, Outcome, Request};
use dht::{Contact, Dht, Event, Family, Key, Kind, Token};
use structs::{Machine, Rejected};

use crate::machine::{Stranger, TRANSACTION, give, node, take};
use crate::writes::greeted;

/// Of nodes at these addresses, each with a key of its own from a number on, and a token, those that are heard.
fn heard(dht: &mut Dht, first: u64, addrs: impl Iterator<Item = String>, request: &Request, now: Instant) -> usize {
    let body = Message::Request(TRANSACTION, request.clone()).encode(0, usize::MAX);
    let askers = (first..).zip(addrs).map(|(number, addr)| Stranger::new(number, &addr));
    let heard = askers.filter_map(|mut asker| {
        let token = greeted(dht, &asker, now);
        let sealed = asker.seal(dht, token, &body);
        let result = give(dht, asker.addr, &sealed, now);
        take(dht, now);
        match result {
            Ok(()) => Some(()),
            Err(reason) => {
                assert_eq!(reason, Rejected::LimitReached);
                None
            }
        }
    });
    heard.count()
}

#[test]
fn one_network_leaves_key_agreements_to_others() {
    let now = Instant::now();
    let mut dht = node(1, now);
    let many = || (0..300_u32).map(|port| format!("20.0.0.{}:{}", port % 250 + 1, 1000 + port));
    assert_eq!(heard(&mut dht, 1000, many(), &Request::Ping, now), 200);
    // An IPv6 /32 has many /48, and is one provider.
    let many = || (0..300).map(|net| format!("[2001:db8:{net:x}::1]:7"));
    assert_eq!(heard(&mut dht, 2000, many(), &Request::Ping, now), 200);
    let others = (0..100).map(|net| format!("20.0.{}.1:7", net + 1));
    assert_eq!(heard(&mut dht, 3000, others, &Request::Ping, now), 100);
    let later = now + Duration::from_secs(2);
    assert_eq!(heard(&mut dht, 4000, many(), &Request::Ping, later), 100, "50 a second");
}

#[test]
fn a_private_network_leaves_half_to_public_ones() {
    let now = Instant::now();
    let write = Request::Put { kind: Kind::Value, item: b"value".as_slice().into(), family: None };
    for request in [Request::Ping, write] {
        let mut dht = node(1, now);
        let home = (0..700).map(|host| format!("10.0.{}.{}:7", host / 250, host % 250 + 1));
        assert_eq!(heard(&mut dht, 1000, home, &request, now), 500, "{request:?}");
        let others = (0..600).map(|net| format!("20.{}.{}.1:7", net / 200, net % 200));
        assert_eq!(heard(&mut dht, 2000, others, &request, now), 500, "{request:?}");
    }
}

/// Asks a node of which nothing is remembered any more, and hands over its answer, which shows no token.
fn asked_among_strangers(strangers: std::ops::Range<u64>) -> bool {
    let now = Instant::now();
    let mut dht = node(1, now);
    let mut other = Stranger::new(2, "8.8.8.8:1");
    let contact = Contact { id: other.id(), addr: other.addr };
    let id = dht.ping(contact, now).unwrap();
    let (_, request) = take(&mut dht, now).remove(0);
    let find = Request::Find { target: Key::from_bytes([1; 32]), family: Family::V4 };
    let body = Message::Request(TRANSACTION, find).encode(1036, 1200);
    for number in strangers {
        let mut stranger = Stranger::new(1000 + number, &format!("9.{}.{}.8:1", number / 200, number % 200));
        let sealed = stranger.seal(&dht, Token::NONE, &body);
        let _ = give(&mut dht, stranger.addr, &sealed, now);
        take(&mut dht, now);
    }
    // Somebody also sends in its name.
    for _ in 0..100 {
        let mut noise = other.seal(&dht, Token::NONE, &body);
        *noise.last_mut().unwrap() ^= 1;
        assert!(give(&mut dht, other.addr, &noise, now).is_err());
    }
    take(&mut dht, now);
    let answer = Answer { token: Token::NONE, observed: other.addr, outcome: Outcome::Pong };
    let body = Message::Answer(other.open(&dht, &request).transaction(), answer).encode(0, 1200);
    let sealed = other.seal(&dht, Token::NONE, &body);
    let taken = give(&mut dht, other.addr, &sealed, now) == Ok(());
    let done = Event::PingDone { id, contact, answered: true };
    assert_eq!(std::iter::from_fn(|| dht.poll_event()).any(|event| event == done), taken);
    taken
}

#[test]
fn strangers_do_not_silence_who_is_waited_for() {
    assert!(asked_among_strangers(0..0));
    // They use up the agreements of strangers, and push its keys out.
    assert!(asked_among_strangers(0..600));
}
