//! Places and circuits are few, and shared.

use std::time::Duration;

use framing::voucher::Voucher;
use relay::message::{Notice, Request};
use relay::{Code, Config};
use structs::{Machine, Rejected};

use crate::lab::{Lab, RELAY, addr, id};

#[test]
fn a_place_is_given_for_an_hour_with_a_voucher() {
    let mut lab = Lab::new(Config::default());
    let Notice::Reserved { lifetime, rate, voucher } = lab.reserve(1) else { panic!("a place") };
    assert_eq!((lifetime, rate), (Duration::from_secs(3600), 65536));
    let voucher = Voucher::decode(&voucher).unwrap();
    assert_eq!((voucher.relay(), voucher.client()), (id(RELAY), id(1)));
    assert_eq!(voucher.expires(), Duration::from_secs(1_700_003_600));
    assert_eq!(voucher.addresses().collect::<Vec<_>>(), [addr(RELAY)]);
    lab.pass(Duration::from_secs(1800));
    // Renewed, it holds for an hour from now, and so does its voucher.
    let Notice::Reserved { voucher, .. } = lab.reserve(1) else { panic!("a place") };
    assert_eq!(Voucher::decode(&voucher).unwrap().expires(), Duration::from_secs(1_700_005_400));
    lab.pass(Duration::from_secs(3599));
    assert!(lab.server.has_reservation(&id(1)));
    lab.pass(Duration::from_secs(1));
    assert!(!lab.server.has_reservation(&id(1)));
    assert_eq!(lab.connect(2, 1), Err(Code(5)));
    assert_eq!(lab.server.poll_timeout(), None);
}

#[test]
fn when_all_places_are_taken_the_newest_is_refused() {
    let mut lab = Lab::new(Config::default());
    for peer in 1..=128 {
        assert!(matches!(lab.reserve(peer), Notice::Reserved { .. }), "{peer}");
        lab.pass(Duration::from_secs(1));
    }
    let Notice::Refused { code: Code(2), wait } = lab.reserve(200) else { panic!("full") };
    assert_eq!(wait, Duration::from_secs(3600 - 128), "until the first place is free");
    // Those who have one renew it, and who gives one back makes room.
    assert!(matches!(lab.reserve(5), Notice::Reserved { .. }));
    lab.ask(7, Request::Release).unwrap();
    assert!(matches!(lab.reserve(200), Notice::Reserved { .. }));
    assert_eq!(lab.server.stats().reservations, 128);
}

#[test]
fn one_address_and_one_network_have_a_share() {
    let mut lab = Lab::new(Config::default());
    let mut reserve = |peer: u16, from: [u8; 4]| {
        lab.ask_from(peer, (from, peer).into(), Request::Reserve { show: true }).unwrap();
        matches!(lab.notice_to(peer), Notice::Reserved { .. })
    };
    let given = (1..=12).filter(|peer| reserve(*peer, [30, 1, 1, 1])).count();
    assert_eq!(given, 8);
    let given = (20..=80).filter(|peer| reserve(*peer, [30, 1, 2, *peer as u8])).count();
    assert_eq!(given, 24, "and 32 of the network");
    assert!(reserve(90, [30, 2, 1, 1]));
    // Loopback and private addresses are exempt.
    assert!((100..=120).all(|peer| reserve(peer, [127, 0, 0, 1])));
    // Two addresses of one IPv6 /64 count as one.
    let mut lab = Lab::new(Config::default());
    let mut given = 0;
    for peer in 1..=12u16 {
        lab.ask_from(peer, ([0x2001, 1, 1, 1, peer, 0, 0, 1], 4000).into(), Request::Reserve { show: true }).unwrap();
        given += usize::from(matches!(lab.notice_to(peer), Notice::Reserved { .. }));
    }
    assert_eq!(given, 8);
}

#[test]
fn a_peer_that_moved_into_a_full_network_loses_its_place() {
    let mut lab = Lab::new(Config::default().reservations_by(1, 1));
    assert!(matches!(lab.reserve(1), Notice::Reserved { .. }));
    assert!(matches!(lab.reserve(2), Notice::Reserved { .. }));
    lab.ask_from(2, addr(1), Request::Reserve { show: true }).unwrap();
    assert!(matches!(lab.notice_to(2), Notice::Refused { code: Code(3), .. }));
    assert_eq!(lab.server.stats().reservations, 1);
    // Nothing of it is left behind in the shares.
    assert!(matches!(lab.reserve(2), Notice::Reserved { .. }));
}

#[test]
fn circuits_are_few_in_all_and_for_each() {
    let mut lab = Lab::new(Config::default());
    for target in 1..=40 {
        lab.reserve(target);
    }
    assert_eq!(lab.connect(1, 1), Err(Code(6)));
    assert_eq!(lab.connect(1, 99), Err(Code(5)));
    for target in 2..=17 {
        lab.connect(1, target).unwrap();
    }
    assert_eq!(lab.connect(1, 18), Err(Code(4)), "the 17th of one dialler");
    for dialler in 101..=115 {
        lab.connect(dialler, 2).unwrap();
    }
    assert_eq!(lab.connect(120, 2), Err(Code(4)), "the 17th of one target");
    for dialler in 0..33 {
        lab.connect(200 + dialler, 3 + dialler).unwrap();
    }
    assert_eq!(lab.server.stats().circuits, 64);
    assert_eq!(lab.connect(300, 40), Err(Code(2)));
    // Who asks again for what it has gets a new one in place of the old.
    lab.connect(200, 3).unwrap();
    assert_eq!(lab.server.stats().circuits, 64);
    // A dialler that leaves makes room.
    lab.server.disconnected(&id(1), lab.now);
    lab.notices();
    lab.connect(300, 40).unwrap();
}

#[test]
fn diallers_of_one_address_share_a_bound() {
    let mut lab = Lab::new(Config::default().circuits_by(16, 2));
    for target in 1..=3 {
        lab.reserve(target);
    }
    let mut connect = |dialler: u16, target: u16| {
        let request = Request::Connect { request: 1, show: false, target: id(target) };
        lab.ask_from(dialler, addr(50), request).unwrap();
        lab.notices().iter().any(|(_, notice)| matches!(notice, Notice::NotOpened { code: Code(3), .. }))
    };
    assert!(!connect(10, 1) && !connect(11, 2));
    assert!(connect(12, 3));
}

#[test]
fn one_address_does_not_take_all_circuits_of_a_peer() {
    let mut lab = Lab::new(Config::default());
    (1..=2).for_each(|target| drop(lab.reserve(target)));
    let mut connect = |dialler: u16, from: u16, target: u16| {
        let request = Request::Connect { request: 1, show: false, target: id(target) };
        lab.ask_from(dialler, addr(from), request).unwrap();
        !lab.notices().iter().any(|(_, notice)| matches!(notice, Notice::NotOpened { code: Code(3), .. }))
    };
    assert!((10..14).all(|dialler| connect(dialler, 50, 1)));
    assert!(!connect(14, 50, 1), "the fifth from one address");
    assert!(connect(10, 50, 1), "its own may be replaced");
    assert!(connect(14, 50, 2) && connect(15, 51, 1));
}

/// Asks for a circuit from an address of its own in an IPv6 /48.
fn connect_v6(lab: &mut Lab, dialler: u16, network: u16, target: u16) -> Option<Code> {
    let from = ([0x2001, 0xdb8, network, dialler, 0, 0, 0, 1], 4000).into();
    lab.ask_from(dialler, from, Request::Connect { request: 1, show: false, target: id(target) }).unwrap();
    lab.notices().iter().find_map(|(_, notice)| match notice {
        Notice::NotOpened { code, .. } => Some(*code),
        _ => None,
    })
}

#[test]
fn one_network_takes_neither_all_circuits_nor_all_of_a_peer() {
    let mut lab = Lab::new(Config::default());
    (1..=10).for_each(|target| drop(lab.reserve(target)));
    let taken = (0..40).filter(|dialler| connect_v6(&mut lab, 100 + dialler, 1, 1).is_none()).count();
    assert_eq!(taken, 8, "to one peer");
    assert_eq!(connect_v6(&mut lab, 190, 1, 1), Some(Code::SHARE));
    let taken = (0..80).filter(|dialler| connect_v6(&mut lab, 200 + dialler, 1, 2 + dialler % 8).is_none()).count();
    assert_eq!(taken, 32 - 8, "in all");
    assert_eq!(connect_v6(&mut lab, 300, 2, 1), None, "others find room");
}

#[test]
fn at_a_peer_that_is_full_who_has_most_makes_room() {
    let mut lab = Lab::new(Config::default());
    drop(lab.reserve(1));
    for dialler in 0..16 {
        assert_eq!(connect_v6(&mut lab, 100 + dialler, 1 + dialler / 8, 1), None);
    }
    assert_eq!(connect_v6(&mut lab, 200, 3, 1), None);
    assert_eq!(connect_v6(&mut lab, 201, 3, 1), None);
    assert_eq!(lab.server.stats().circuits, 16);
    // Who has enough himself pushes nobody out.
    for dialler in 202..210 {
        connect_v6(&mut lab, dialler, 3, 1);
    }
    assert_eq!(connect_v6(&mut lab, 210, 3, 1), Some(Code::TOO_MANY));
    assert_eq!(lab.server.stats().circuits, 16);
}

#[test]
fn addresses_are_told_only_of_those_who_want_it() {
    let mut lab = Lab::new(Config::default());
    lab.ask(2, Request::Reserve { show: false }).unwrap();
    lab.notices();
    lab.ask(1, Request::Connect { request: 1, show: false, target: id(2) }).unwrap();
    for (_, notice) in lab.notices() {
        match notice {
            Notice::Opened { addr, .. } | Notice::Incoming { addr, .. } => assert_eq!(addr, None),
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn requests_are_limited_and_so_is_what_nobody_reads() {
    let mut lab = Lab::new(Config::default());
    let mut taken = 0;
    for _ in 0..1000 {
        taken += usize::from(lab.ask(1, Request::Ping([0; 8])).is_ok());
        lab.notices();
    }
    assert_eq!(taken, 64);
    lab.pass(Duration::from_secs(1));
    let taken = (0..100).filter(|_| lab.ask(1, Request::Ping([0; 8])).is_ok()).count();
    assert_eq!(taken, 8, "and eight a second");

    // A target that reads nothing is told of no more circuits than it has room for, and everybody else goes on.
    let mut lab = Lab::new(Config::default());
    lab.ask(2, Request::Reserve { show: true }).unwrap();
    let mut busy = false;
    for round in 0..200u16 {
        let dialler = 10 + round;
        lab.server.blocked(&id(2));
        lab.ask(dialler, Request::Connect { request: 1, show: true, target: id(2) }).unwrap();
        while let Some((to, message)) = lab.server.peek_message() {
            assert_ne!(to, id(2), "it is blocked");
            busy |= message.ends_with(&[13]);
            lab.server.sent(&to);
        }
        lab.server.disconnected(&id(dialler), lab.now);
    }
    assert!(busy);
    lab.server.writable(&id(2));
    assert!(lab.notices().len() <= 64);
}

#[test]
fn strangers_to_the_protocol_are_passed_over() {
    let mut lab = Lab::new(Config::default());
    let now = lab.now;
    let mut hand = |bytes: &[u8]| lab.server.handle_message(id(1), crate::lab::at(addr(1)), bytes, now);
    assert_eq!(hand(&[0x40]), Err(Rejected::UnknownKind));
    assert_eq!(hand(&Notice::Pong([0; 8]).encode()), Err(Rejected::Unsolicited));
    assert_eq!(hand(&[2, 0]), Err(Rejected::Malformed));
    assert_eq!(hand(&[]), Err(Rejected::Empty));
    assert_eq!(hand(&[0; 513]), Err(Rejected::TooLarge));
    lab.server.close();
    assert_eq!(lab.ask(1, Request::Release), Err(Rejected::Closed));
}

#[test]
fn a_node_that_does_not_relay_says_so() {
    let mut lab = Lab::new(Config::off());
    assert!(matches!(lab.reserve(1), Notice::Refused { code: Code(1), .. }));
    assert_eq!(lab.connect(1, 2), Err(Code(1)));
    lab.ask(1, Request::Ping([1; 8])).unwrap();
    assert_eq!(lab.notice_to(1), Notice::Pong([1; 8]));
    assert!(!lab.server.serves());
}
