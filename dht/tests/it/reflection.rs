//! Answers name addresses, and a node sends there: how much whoever names one can have sent to it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use dht::message::{Answer, Front, Message, Outcome, Request};
use dht::{Contact, Dht, Key, NodeId, Token, Wanted};
use structs::{Machine, TransmitBuf};

use crate::machine::{Stranger, give, node};

/// Answers all that a node asks one liar, and counts what goes to each address until nothing happens any more for a while.
fn lie(dht: &mut Dht, liar: &mut Stranger, named: &[Contact], start: Instant, until: Instant) -> Vec<(IpAddr, usize)> {
    let (mut now, mut sent, mut out) = (start, Vec::<(IpAddr, usize)>::new(), TransmitBuf::new(1));
    loop {
        let mut asked = Vec::new();
        while let Some(transmit) = dht.poll_transmit(&mut out, now) {
            let to = transmit.path.remote.ip();
            match sent.iter_mut().find(|(ip, _)| *ip == to) {
                Some((_, bytes)) => *bytes += out.bytes().len(),
                None => sent.push((to, out.bytes().len())),
            }
            if transmit.path.remote == liar.addr {
                asked.push(out.bytes().to_vec());
            }
            out.clear();
        }
        while dht.poll_event().is_some() {}
        for datagram in &asked {
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

#[test]
fn whom_a_liar_names_gets_a_few_requests() {
    let start = Instant::now();
    let (mut dht, mut liar) = (node(1, start), Stranger::new(7, "8.8.8.8:1"));
    // Twenty keys at one address, each at a port of its own.
    let victim = |number: u8| Contact {
        id: NodeId::from_bytes([number + 1; 32]),
        addr: SocketAddr::from(([50, 0, 0, 1], 1000 + u16::from(number))),
    };
    let named: Vec<Contact> = (0..20).map(victim).collect();
    dht.bootstrap(&[Contact { id: liar.id(), addr: liar.addr }], start);
    let hour = start + Duration::from_hours(1);
    let sent = lie(&mut dht, &mut liar, &named, start, hour);
    let of = |sent: &[(IpAddr, usize)]| {
        sent.iter().find(|(ip, _)| *ip == IpAddr::from([50, 0, 0, 1])).map_or(0, |(_, bytes)| *bytes)
    };
    let upkeep = of(&sent);
    assert!((1..=2 * BUDGET).contains(&upkeep), "{upkeep} bytes in an hour of several searches");
    // A search of the owner's, too.
    dht.get(Wanted::Value(Key::from_bytes([3; 32])), hour).unwrap();
    let searched = of(&lie(&mut dht, &mut liar, &named, hour, hour + Duration::from_mins(1)));
    assert!((1..=BUDGET).contains(&searched), "{searched} bytes for one search");
}

/// What an attempt to punch may send to whom it names at most (SPEC 15.6): a search may send no more.
const BUDGET: usize = 64_000;
