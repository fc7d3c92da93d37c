use peer::mux::Urgency;
use peer::{Event, Target};
use sim::Link;
use sim::pair::Side;

use crate::support::*;

#[test]
fn a_dial_by_key_takes_one_round_trip_and_both_know_whom_they_talk_to() {
    let mut pair = pair(Link::perfect().delay(ms(50)), 1);
    let (a, b) = connected(&mut pair);
    let connected = pair.a_events().iter().find(|timed| matches!(timed.event.event, Event::Connected(_))).unwrap();
    assert_eq!(connected.at, ms(100));
    assert_eq!(pair.a.peer(a).unwrap().id(), Some(identity(2).peer_id()));
    assert_eq!(pair.b.peer(b).unwrap().id(), Some(identity(1).peer_id()));
    let key = |peer: Option<&peer::Peer>| peer.unwrap().exporter(b"test").unwrap();
    assert_eq!(key(pair.a.peer(a)), key(pair.b.peer(b)));
}

#[test]
fn a_dial_by_address_finds_out_who_is_there() {
    let mut pair = pair(Link::perfect().delay(ms(50)), 2);
    let path = pair.path(Side::A);
    let a = pair.with_a(|a, now| a.dial(Target::Anyone, path, now)).unwrap();
    assert!(pair.run_until(|pair| pair.b.peers().any(|(_, peer)| !peer.is_dialling()), ms(5000)));
    assert_eq!(pair.a.peer(a).unwrap().id(), Some(identity(2).peer_id()));
}

#[test]
fn messages_arrive_in_order() {
    let mut pair = pair(Link::perfect().delay(ms(20)), 3);
    let (a, b) = connected(&mut pair);
    let (_, ids) = protocols();
    for n in 0_u32..1000 {
        send_a(&mut pair, a, ids[ECHO], &n.to_be_bytes());
    }
    pair.run_for(ms(1000));
    let mut message = Vec::new();
    for n in 0_u32..1000 {
        let len = pair.with_b(|endpoint, now| endpoint.with(b, now, |peer, _| peer.recv(ids[ECHO], &mut message)));
        assert_eq!((len, &message[..]), (Some(Some(4)), &n.to_be_bytes()[..]));
    }
    pair.run_for(ms(200));
    let account = pair.a.peer(a).unwrap().account(ids[ECHO], Urgency::Normal);
    assert_eq!((account.accepted, account.acked), (1000, 1000));
}
