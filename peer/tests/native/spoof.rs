//! Genuine handshake messages from addresses that are not their sender's.

use std::net::SocketAddr;

use peer::Event;
use sim::Link;
use sim::pair::Side;
use structs::Rejected;

use crate::support::*;

fn victim() -> SocketAddr {
    "10.9.9.9:1000".parse().unwrap()
}

fn bytes_to(pair: &Endpoints, addr: SocketAddr) -> usize {
    pair.captured().iter().filter(|datagram| datagram.to == addr).map(|datagram| datagram.payload.len()).sum()
}

/// Whoever can read a RESP must not be able to lead the session elsewhere by delivering it first.
#[test]
fn an_answer_from_an_address_that_was_not_dialled_changes_nothing() {
    let mut pair = pair(Link::perfect().delay(ms(20)), 6);
    pair.capture(1 << 20);
    dial(&mut pair);
    pair.run_for(ms(30));
    let resp = pair.captured().last().unwrap().payload.clone();
    assert_eq!(resp[0], 0xd1);
    pair.inject(Side::A, victim(), &resp);
    assert_eq!(pair.rejected(Side::A).of(Rejected::Unsolicited), 1);
    pair.run_for(ms(3000));
    assert_eq!(bytes_to(&pair, victim()), 0);
    let path = pair.a_events().iter().find_map(|timed| match &timed.event.event {
        Event::Connected(connected) => Some(connected.path),
        _ => None,
    });
    assert_eq!(path, Some(pair.path(Side::A)), "the genuine one was taken when it came");
}

/// An answer proves one address, so a copy of the question from another gets none.
#[test]
fn a_first_message_that_is_repeated_from_elsewhere_gets_no_second_answer() {
    let mut pair = pair(Link::perfect().delay(ms(20)), 7);
    pair.capture(1 << 20);
    pair.set_link(Side::A, Link::dead());
    dial(&mut pair);
    let init = pair.captured().first().unwrap().payload.clone();
    let genuine = pair.path(Side::B).remote;
    pair.inject(Side::B, victim(), &init);
    assert_eq!(bytes_to(&pair, victim()), 132);
    pair.inject(Side::B, genuine, &init);
    pair.run_for(ms(4000));
    assert_eq!(bytes_to(&pair, genuine), 0, "the answer went to the address that asked first");
    assert_eq!(bytes_to(&pair, victim()), 132);
    assert_eq!(pair.b.peers().count(), 0);
    // Once it is forgotten, the dial, which goes on, is answered.
    pair.set_link(Side::A, Link::perfect().delay(ms(20)));
    pair.run_for(ms(6000));
    assert_eq!(pair.b.peers().count(), 1);
}
