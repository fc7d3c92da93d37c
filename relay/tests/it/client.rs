//! The client: places at relays, and circuits to others.

use std::time::Duration;

use relay::client::{Config, ConnectError, Event, Named};
use relay::message::{Notice, Request};
use relay::{CircuitId, Code, Networks};
use structs::{Ecn, Link, Path, Rejected, Transmit, TransmitBuf};

use crate::lab::{ME, Web, addr, id, named, towards};

fn suggest(web: &mut Web, relays: &[u16]) {
    for number in relays {
        assert!(web.client.suggest(&named(*number), None, web.now));
    }
    web.settle();
}

#[test]
fn two_places_in_different_networks() {
    let mut web = Web::new(Config::default(), &[300, 301, 302]);
    // Three relays, of which two share a /16.
    let near = Named { relay: id(301), addrs: vec![([21, 44, 9, 9], 4000).into()] };
    suggest(&mut web, &[300]);
    assert_eq!(addr(300).to_string(), "21.44.0.1:4000");
    web.client.suggest(&near, None, web.now);
    web.settle();
    assert_eq!(web.held(), [300]);
    suggest(&mut web, &[302]);
    assert_eq!(web.held(), [300, 302]);
    assert_eq!(web.sessions, [300, 302], "no session with the one that is not needed");
    assert!(web.events.contains(&Event::Changed));
    assert!(web.client.needs(&id(300)) && !web.client.needs(&id(301)));
}

#[test]
fn who_names_a_relay_of_ours_does_not_say_where_it_is() {
    let mut web = Web::new(Config::default(), &[300]);
    suggest(&mut web, &[300]);
    let elsewhere = Named { relay: id(300), addrs: vec![addr(999)] };
    let known = |web: &Web| web.client.places().next().map(|status| status.addrs.to_vec());
    web.client.connect(id(7), std::slice::from_ref(&elsewhere), |_| None, web.now).unwrap();
    assert_eq!(known(&web), Some(named(300).addrs));
    // Who suggests it does.
    assert!(web.client.suggest(&elsewhere, None, web.now));
    assert_eq!(known(&web), Some(elsewhere.addrs));
}

#[test]
fn places_are_renewed_at_half_time() {
    let mut web = Web::new(Config::default(), &[300, 302]);
    suggest(&mut web, &[300, 302]);
    let first: Vec<Duration> = web.client.vouchers().map(|voucher| voucher.expires()).collect();
    web.events.clear();
    web.pass(Duration::from_secs(1799));
    assert_eq!(web.events, []);
    web.pass(Duration::from_secs(2));
    let renewed: Vec<Duration> = web.client.vouchers().map(|voucher| voucher.expires()).collect();
    let later = first.iter().zip(renewed).map(|(first, renewed)| (renewed - *first).as_secs());
    assert!(later.into_iter().all(|later| (1799..=1801).contains(&later)));
    assert_eq!(web.events, [Event::Changed], "to be published anew");
    web.pass(Duration::from_hours(24));
    assert_eq!(web.held(), [300, 302]);
    for number in [300, 302] {
        assert!(web.relay(number).server.has_reservation(&id(ME)));
    }
}

#[test]
fn a_dead_relay_is_replaced_within_twenty_seconds() {
    let mut web = Web::new(Config::default(), &[300, 302, 304]);
    suggest(&mut web, &[300, 302, 304]);
    assert_eq!(web.held(), [300, 302]);
    // At whatever moment it dies.
    web.pass(Duration::from_millis(33_333));
    web.kill(300);
    web.events.clear();
    let died = web.now;
    while web.held() != [302, 304] {
        web.pass(Duration::from_millis(100));
        assert!(web.now - died < Duration::from_secs(20), "not replaced: {:?}", web.held());
    }
    assert!(web.events.contains(&Event::Changed));
    // It is left alone for some minutes, then tried when it is needed.
    web.kill(302);
    web.pass(Duration::from_secs(60));
    assert_eq!(web.held(), [304]);
}

#[test]
fn one_that_lives_is_not_replaced() {
    let mut web = Web::new(Config::default(), &[300, 302, 304]);
    suggest(&mut web, &[300, 302, 304]);
    web.pass(Duration::from_mins(20));
    assert_eq!(web.held(), [300, 302]);
    assert_eq!(web.sessions, [300, 302]);
}

#[test]
fn a_relay_that_fails_is_tried_less_and_less() {
    let mut web = Web::new(Config::default().wanted(1), &[300]);
    web.kill(300);
    suggest(&mut web, &[300]);
    let mut dials = Vec::new();
    let start = web.now;
    for _ in 0..7000 {
        web.pass(Duration::from_millis(100));
        if web.events.drain(..).any(|event| matches!(event, Event::Dial { .. })) {
            dials.push((web.now - start).as_secs());
        }
    }
    // 10 s for the dial, then 10 s, 20 s, and after the third failure 5 min of peace.
    assert_eq!(dials, [0, 20, 50, 360, 380, 410]);
}

#[test]
fn a_full_relay_is_left_and_another_one_taken() {
    let mut web = Web::new(Config::default().wanted(1), &[300, 302]);
    let now = web.now;
    for peer in 0..128u16 {
        let from = Path::udp(addr(300), addr(400 + peer));
        let request = Request::Reserve { show: true }.encode();
        let server = &mut web.relay(300).server;
        server.handle_message(id(400 + peer), from, &request, now).unwrap();
    }
    web.settle();
    suggest(&mut web, &[300, 302]);
    assert_eq!(web.held(), [302]);
    assert!(web.events.contains(&Event::Refused { relay: id(300), code: Code(2) }));
}

#[test]
fn a_session_that_ends_and_comes_back() {
    let mut web = Web::new(Config::default(), &[300, 302]);
    suggest(&mut web, &[300, 302]);
    web.events.clear();
    let now = web.now;
    web.relay(300).server.disconnected(&id(ME), now);
    web.client.disconnected(&id(300), now);
    web.settle();
    assert_eq!(web.held(), [302]);
    assert_eq!(web.events, [Event::Changed]);
    web.pass(Duration::from_secs(11));
    assert_eq!(web.held(), [300, 302], "tried again");
    // A newer session in place of an old one: the relay knows nothing of us there.
    let now = web.now;
    web.relay(302).server.disconnected(&id(ME), now);
    web.client.connected(id(302), towards(302), now);
    web.settle();
    assert!(web.relay(302).server.has_reservation(&id(ME)));
    assert_eq!(web.held(), [300, 302]);
}

#[test]
fn a_forged_voucher_is_no_place() {
    let lifetime = Duration::from_hours(1);
    let end = Duration::from_secs(1_700_003_600);
    // Another relay's, another client's, and the right one.
    for (relay, client, places) in [(301, ME, 0), (300, 2, 0), (300, ME, 1)] {
        let mut web = Web::new(Config::default().wanted(1), &[]);
        web.client.suggest(&named(300), Some(towards(300)), web.now);
        let voucher = relay::Voucher::sign(&crate::lab::identity(relay), id(client), end, &[]).unwrap();
        let reserved = Notice::Reserved { lifetime, rate: 1, voucher: voucher.as_bytes().to_vec() }.encode();
        let taken = web.client.handle_message(id(300), &reserved, web.now);
        assert_eq!(taken.is_ok(), places == 1);
        assert_eq!(web.client.vouchers().count(), places);
    }
}

/// Relays at which the peer 2 has a place.
fn with_target(relays: &[u16]) -> Web {
    let mut web = Web::new(Config::default().wanted(0), relays);
    let now = web.now;
    for number in relays {
        let path = Path::udp(addr(*number), addr(2));
        let request = Request::Reserve { show: true }.encode();
        web.relay(*number).server.handle_message(id(2), path, &request, now).unwrap();
    }
    web.settle();
    web
}

fn opened(web: &mut Web) -> Vec<(Path, crypto::PeerId)> {
    let opened = |event| match event {
        Event::Opened { path, relay, peer, addr: seen, .. } => {
            assert_eq!((peer, seen), (id(2), Some(addr(2))));
            Some((path, relay))
        }
        _ => None,
    };
    web.events.drain(..).filter_map(opened).collect()
}

#[test]
fn circuits_through_the_relays_of_the_peer() {
    let mut web = with_target(&[300, 302, 304]);
    web.client.connect(id(2), &[named(300), named(302), named(304)], |_| None, web.now).unwrap();
    web.settle();
    let circuits = opened(&mut web);
    let relays: Vec<_> = circuits.iter().map(|(_, relay)| *relay).collect();
    assert_eq!(relays, [id(300), id(302)], "the first, and one in reserve");
    for (path, relay) in &circuits {
        assert!(matches!(path.link, Link::Circuit(_)));
        assert_eq!(web.client.circuit(path.link), Some((id(2), *relay)));
        assert!(web.client.needs(relay));
    }
    assert_eq!(web.client.circuits_to(&id(2)).count(), 2);
}

#[test]
fn the_next_relay_is_tried_when_one_is_dead_or_refuses() {
    let mut web = with_target(&[302]);
    web.relays.extend(Web::new(Config::default(), &[300, 304]).relays);
    web.kill(300);
    let start = web.now;
    web.client.connect(id(2), &[named(300), named(304), named(302)], |_| None, web.now).unwrap();
    while opened(&mut web).is_empty() {
        web.pass(Duration::from_millis(50));
        assert!(web.now - start <= Duration::from_millis(1100), "the second after a second, the third at once");
    }
}

#[test]
fn an_attempt_that_fails_says_why_at_each_relay() {
    let mut web = Web::new(Config::default(), &[300, 302]);
    web.kill(302);
    let attempt = web.client.connect(id(2), &[named(300), named(302)], |_| None, web.now).unwrap();
    web.pass(Duration::from_secs(10));
    let failed = web.events.iter().find(|event| matches!(event, Event::Failed { .. })).expect("an end");
    let reasons = vec![(id(300), Code(5)), (id(302), Code(0x81))];
    assert_eq!(*failed, Event::Failed { attempt, peer: id(2), reasons });

    let own = web.client.connect(id(2), &[named(2), named(ME)], |_| None, web.now);
    assert_eq!(own, Err(ConnectError::NoRelay));
    web.client.shut_down();
    assert_eq!(web.client.connect(id(2), &[named(300)], |_| None, web.now), Err(ConnectError::Closed));
}

#[test]
fn a_relay_that_dies_takes_its_circuits_along_and_is_noticed_soon_under_traffic() {
    let mut web = with_target(&[300, 302]);
    web.client.connect(id(2), &[named(300), named(302)], |_| None, web.now).unwrap();
    web.settle();
    let [(first, _), (second, _)] = <[_; 2]>::try_from(opened(&mut web)).unwrap();
    web.kill(300);
    let start = web.now;
    let mut gone = None;
    while gone.is_none() {
        for path in [first, second] {
            wrap(&mut web, path, &[0xe0; 50]);
        }
        web.pass(Duration::from_millis(100));
        let closed = |event| match event {
            Event::Closed { path, code, .. } => Some((path, code)),
            _ => None,
        };
        gone = web.events.drain(..).find_map(closed);
        assert!(web.now - start < Duration::from_secs(9));
    }
    assert_eq!(gone, Some((first, Code(0x80))));
    assert_eq!(web.client.circuits_to(&id(2)).collect::<Vec<_>>(), [second]);
    assert!(wrap(&mut web, first, b"x").is_none());
}

fn wrap(web: &mut Web, path: Path, inner: &[u8]) -> Option<(Path, Vec<u8>)> {
    let mut out = TransmitBuf::new(4);
    let transmit = Transmit { path, ecn: Ecn::NotEct, len: inner.len(), segment_size: inner.len(), ttl: None };
    let transmit = web.client.wrap(&transmit, inner, &mut out, web.now)?;
    Some((transmit.path, out.bytes().to_vec()))
}

#[test]
fn datagrams_are_wrapped_and_unwrapped() {
    let mut web = with_target(&[300]);
    web.client.connect(id(2), &[named(300)], |_| None, web.now).unwrap();
    web.settle();
    let [(path, _)] = <[_; 1]>::try_from(opened(&mut web)).unwrap();
    let (to, bytes) = wrap(&mut web, path, &[0xe0; 1200]).unwrap();
    assert_eq!((to, bytes.len(), bytes[0]), (towards(300), 1209, 0xc8));
    assert!(wrap(&mut web, path, &[0xe0; 1201]).is_none(), "too long for a circuit");
    // A batch stays one.
    let mut out = TransmitBuf::new(4);
    let transmit = Transmit { path, ecn: Ecn::NotEct, len: 250, segment_size: 100, ttl: None };
    let transmit = web.client.wrap(&transmit, &[0xe0; 250], &mut out, web.now).unwrap();
    assert_eq!((transmit.len, transmit.segment_size), (277, 109));

    let now = web.now;
    let circuit = &bytes[1..9];
    let mut back = [&[0xc9][..], circuit, &[0xe1; 60]].concat();
    let (inside, inner) = web.client.unwrap(&towards(300), &mut back, now).unwrap();
    assert_eq!((inside, &*inner), (path, &[0xe1; 60][..]));
    // From anybody else, with another name, of another kind, or with something else inside than a session has.
    let mut unwrap =
        |from: u16, bytes: &[u8]| web.client.unwrap(&towards(from), &mut bytes.to_vec(), now).map(drop).unwrap_err();
    assert_eq!(unwrap(301, &[&[0xc9][..], circuit, &[0xe1; 60]].concat()), Rejected::Unproven);
    assert_eq!(unwrap(300, &[&[0xc9][..], &[1; 8], &[0xe1; 60]].concat()), Rejected::UnknownPeer);
    assert_eq!(unwrap(300, &[&[0xc8][..], circuit, &[0xe1; 60]].concat()), Rejected::UnknownKind);
    for inside in [0xc8, 0xc9, 0xd8, 0xdd, 0xde, 0x01, 0x30] {
        assert_eq!(unwrap(300, &[&[0xc9][..], circuit, &[inside; 60]].concat()), Rejected::Nested);
    }
    assert_eq!(unwrap(300, &[0xc9]), Rejected::Malformed);
}

#[test]
fn circuits_come_in_only_from_relays_with_a_place_and_so_many() {
    let mut web = Web::new(Config::default(), &[300]);
    let incoming = |number: u8| {
        let circuit = CircuitId::from_bytes([number; 8]);
        Notice::Incoming { circuit, peer: id(7), addr: Some(addr(7)) }.encode()
    };
    assert_eq!(web.client.handle_message(id(300), &incoming(1), web.now), Err(Rejected::Unsolicited));
    suggest(&mut web, &[300]);
    for number in 0..40 {
        let taken = web.client.handle_message(id(300), &incoming(number), web.now).is_ok();
        assert_eq!(taken, number < 16);
    }
    assert_eq!(web.client.handle_message(id(300), &incoming(3), web.now), Err(Rejected::LimitReached), "a name twice");
    web.settle();
    let came = |event: &&Event| matches!(event, Event::Incoming { peer, .. } if *peer == id(7));
    assert_eq!(web.events.iter().filter(came).count(), 16);
    // One that is refused is free again.
    let path = web.client.circuits_to(&id(7)).next().unwrap();
    web.client.close(path.link, Code::REFUSED, web.now);
    assert!(web.client.handle_message(id(300), &incoming(99), web.now).is_ok());
}

#[test]
fn a_suggestion_can_be_taken_back() {
    let mut web = Web::new(Config::default(), &[300, 302, 304]);
    suggest(&mut web, &[300, 302, 304]);
    web.client.forget(&id(300), web.now);
    web.settle();
    assert_eq!(web.held(), [302, 304], "exactly that one leaves");
    assert!(!web.relay(300).server.has_reservation(&id(ME)));
}

#[test]
fn without_shares_one_network_will_do() {
    let mut web = Web::new(Config::default().networks(Networks::Off), &[300, 301]);
    let near = Named { relay: id(301), addrs: vec![([21, 44, 9, 9], 4000).into()] };
    suggest(&mut web, &[300]);
    web.client.suggest(&near, None, web.now);
    web.settle();
    assert_eq!(web.held(), [300, 301]);
}
