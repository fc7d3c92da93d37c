//! Answers name addresses, and a node sends there: how much whoever names one can have sent to it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use dht::message::{Answer, Front, Message, Outcome, Request};
use dht::{Contact, Dht, Item, Key, NodeId, Token, Wanted};
use structs::{Machine, TransmitBuf};

use crate::machine::{Stranger, give, node};

/// Answers all that a node asks liars, and counts what goes to each address until nothing happens any more for a while.
fn lie(
    dht: &mut Dht,
    liars: &mut [Stranger],
    named: &[Contact],
    start: Instant,
    until: Instant,
) -> Vec<(IpAddr, usize)> {
    let (mut now, mut sent, mut out) = (start, Vec::<(IpAddr, usize)>::new(), TransmitBuf::new(1));
    loop {
        let mut asked = Vec::new();
        while let Some(transmit) = dht.poll_transmit(&mut out, now) {
            let to = transmit.path.remote.ip();
            match sent.iter_mut().find(|(ip, _)| *ip == to) {
                Some((_, bytes)) => *bytes += out.bytes().len(),
                None => sent.push((to, out.bytes().len())),
            }
            if let Some(liar) = liars.iter().position(|liar| liar.addr == transmit.path.remote) {
                asked.push((liar, out.bytes().to_vec()));
            }
            out.clear();
        }
        while dht.poll_event().is_some() {}
        for (liar, datagram) in &asked {
            let liar = &mut liars[*liar];
            let Ok(Front::Sealed { .. }) = Front::decode(datagram) else { continue };
            let message = liar.open(dht, datagram);
            let outcome = match message {
                Message::Request(_, Request::Ping) => Outcome::Pong,
                _ => Outcome::Nodes(named.to_vec()),
            };
            let observed: SocketAddr = "9.9.9.9:1".parse().unwrap();
            let answer = Answer { token: Token::from_bytes([1; 8]), observed, outcome };
            let body = Message::Answer(message.transaction(), answer).encode(0, 1200);
            let sealed = liar.seal(dht, Token::NONE, &body);
            let _ = give(dht, liar.addr, &sealed, now);
        }
        if asked.is_empty() {
            let Some(deadline) = dht.poll_timeout().filter(|deadline| deadline.at <= until) else { return sent };
            now = now.max(deadline.at);
            dht.handle_timeout(now);
        }
    }
}

fn contact(of: &Stranger) -> Contact {
    Contact { id: of.id(), addr: of.addr }
}

/// What went to the victim.
fn to_victim(sent: &[(IpAddr, usize)]) -> usize {
    sent.iter().find(|(ip, _)| *ip == IpAddr::from([50, 0, 0, 1])).map_or(0, |(_, bytes)| *bytes)
}

#[test]
fn whom_a_liar_names_gets_a_few_requests() {
    let start = Instant::now();
    let (mut dht, mut liar) = (node(1, start), [Stranger::new(7, "8.8.8.8:1")]);
    // Twenty keys at one address, each at a port of its own.
    let victim = |number: u8| Contact {
        id: NodeId::from_bytes([number + 1; 32]),
        addr: SocketAddr::from(([50, 0, 0, 1], 1000 + u16::from(number))),
    };
    let named: Vec<Contact> = (0..20).map(victim).collect();
    dht.bootstrap(&liar.each_ref().map(contact), start);
    let hour = start + Duration::from_hours(1);
    let sent = lie(&mut dht, &mut liar, &named, start, hour);
    let upkeep = to_victim(&sent);
    assert!((1..=2 * BUDGET).contains(&upkeep), "{upkeep} bytes in an hour of several searches");
    // A search of the owner's, too.
    dht.get(Wanted::Value(Key::from_bytes([3; 32])), hour).unwrap();
    let searched = to_victim(&lie(&mut dht, &mut liar, &named, hour, hour + Duration::from_mins(1)));
    assert!((1..=BUDGET).contains(&searched), "{searched} bytes for one search");
}

/// What an attempt to punch may send to whom it names at most (SPEC 15.6): a search may send no more.
const BUDGET: usize = 64_000;

#[test]
fn searches_that_others_ask_for_send_little_to_whom_liars_name() {
    // Without an end, and more than sessions may ask for (SPEC 18).
    let start = Instant::now();
    let mut dht = node(1, start);
    let mut liars: [Stranger; 3] = std::array::from_fn(|n| Stranger::new(7 + n as u64, &format!("8.8.{n}.8:1")));
    dht.bootstrap(&liars.each_ref().map(contact), start);
    let (mut now, mut minutes, mut number) = (start, Vec::new(), 0_u32);
    // To know the liars costs the searches of upkeep.
    now += Duration::from_mins(2);
    lie(&mut dht, &mut liars, &[], start, now);
    let mut published = None;
    for _ in 0..4 {
        let mut bytes = 0;
        for _ in 0..60 {
            let named: Vec<Contact> = (0..20)
                .map(|_| {
                    number += 1;
                    let mut id = [7; 32];
                    id[..4].copy_from_slice(&number.to_be_bytes());
                    let port = 1000 + u16::try_from(number % 60_000).unwrap();
                    Contact { id: NodeId::from_bytes(id), addr: SocketAddr::from(([50, 0, 0, 1], port)) }
                })
                .collect();
            for search in 0..4 {
                let mut key = [search; 32];
                key[..4].copy_from_slice(&number.to_be_bytes());
                // What is too much is refused.
                let _ = dht.get_for_others(Wanted::Value(Key::from_bytes(key)), now);
            }
            published.take().map(|before| dht.withdraw(before));
            published = dht.put_for_others(Item::Value(number.to_be_bytes().to_vec().into()), now).ok();
            let until = now + Duration::from_secs(1);
            bytes += to_victim(&lie(&mut dht, &mut liars, &named, now, until));
            now = until;
        }
        minutes.push(bytes);
    }
    assert!(minutes.iter().all(|bytes| (1..=BUDGET).contains(bytes)), "bytes in each minute: {minutes:?}");
}
