//! Circuits: what is passed on, to whom, and what is not.

use std::time::Duration;

use proptest::prelude::*;
use relay::message::{Notice, Request};
use relay::{CircuitId, Code, Config};
use structs::Rejected;

use crate::lab::{Lab, addr, at, id};

#[test]
fn a_datagram_goes_through_as_it_came() {
    let mut lab = Lab::new(Config::default());
    let (ours, theirs) = lab.pair(1, 2);
    assert_ne!(ours, theirs, "each end has a name of its own");
    let inner = vec![0xe3; 1200];
    lab.send(addr(1), ours, &inner).unwrap();
    let expected = [&[0xc9][..], theirs.as_bytes(), &inner].concat();
    assert_eq!(expected.len(), 1209);
    assert_eq!(lab.sent(), [(addr(2), expected)]);
    lab.send(addr(2), theirs, b"back").unwrap();
    assert_eq!(lab.sent(), [(addr(1), [&[0xc9][..], ours.as_bytes(), b"back"].concat())]);
}

#[test]
fn nothing_else_is_passed_on() {
    let mut lab = Lab::new(Config::default());
    let (ours, theirs) = lab.pair(1, 2);
    let (other, _) = lab.pair(3, 4);
    // A name that nobody has; ours from elsewhere, another port included; theirs, and that of others, from us.
    assert_eq!(lab.send(addr(1), CircuitId::from_bytes([1; 8]), b"x"), Err(Rejected::UnknownPeer));
    assert_eq!(lab.send(addr(5), ours, b"x"), Err(Rejected::Unproven));
    let mut moved = addr(1);
    moved.set_port(4001);
    assert_eq!(lab.send(moved, ours, b"x"), Err(Rejected::Unproven));
    assert_eq!(lab.send(addr(1), theirs, b"x"), Err(Rejected::Unproven));
    assert_eq!(lab.send(addr(1), other, b"x"), Err(Rejected::Unproven));
    // Too short, empty, too long.
    assert_eq!(lab.send(addr(1), ours, b""), Err(Rejected::Malformed));
    assert_eq!(lab.send(addr(1), ours, &[0; 1201]), Err(Rejected::TooLarge));
    let raw = |lab: &mut Lab, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let datagram = structs::Datagram::new(at(addr(1)), &mut bytes);
        structs::Machine::handle_datagram(&mut lab.server, datagram, lab.now)
    };
    assert_eq!(raw(&mut lab, &[]), Err(Rejected::Empty));
    assert_eq!(raw(&mut lab, &[0xc8, 1, 2]), Err(Rejected::Malformed));
    // What a relay sends is never taken by another: there are no loops of relays.
    let returned = [&[0xc9][..], ours.as_bytes(), b"x"].concat();
    assert_eq!(raw(&mut lab, &returned), Err(Rejected::UnknownKind));
    assert_eq!(lab.sent(), []);
    assert_eq!(lab.server.rejected().total(), 10);
}

#[test]
fn a_moved_end_is_followed_when_its_session_is() {
    let mut lab = Lab::new(Config::default());
    let (ours, theirs) = lab.pair(1, 2);
    lab.server.moved(&id(1), at(addr(7)));
    assert_eq!(lab.send(addr(1), ours, b"x"), Err(Rejected::Unproven), "the old address is nobody's");
    lab.send(addr(7), ours, b"x").unwrap();
    lab.send(addr(2), theirs, b"y").unwrap();
    assert_eq!(lab.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [addr(2), addr(7)]);
    // What a peer asks comes over a path that its session has proved, too.
    lab.ask_from(2, addr(8), Request::Ping([0; 8])).unwrap();
    assert_eq!(lab.notice_to(2), Notice::Pong([0; 8]));
    lab.send(addr(7), ours, b"z").unwrap();
    assert_eq!(lab.sent()[0].0, addr(8));
}

#[test]
fn either_end_closes_and_the_other_is_told() {
    for closer in [1, 2] {
        let mut lab = Lab::new(Config::default());
        let (ours, theirs) = lab.pair(1, 2);
        let (name, other, told) = if closer == 1 { (ours, theirs, 2) } else { (theirs, ours, 1) };
        // By its own name for it, not by the other's.
        assert_eq!(lab.ask(closer, Request::Close { circuit: other, code: Code::NONE }), Err(Rejected::UnknownPeer));
        lab.ask(closer, Request::Close { circuit: name, code: Code::REFUSED }).unwrap();
        assert_eq!(lab.notice_to(told), Notice::Closed { circuit: other, code: Code(7) });
        assert_eq!(lab.send(addr(1), ours, b"x"), Err(Rejected::UnknownPeer));
        assert_eq!(lab.ask(closer, Request::Close { circuit: name, code: Code::NONE }), Err(Rejected::UnknownPeer));
        assert_eq!(lab.server.stats().circuits, 0);
    }
}

#[test]
fn the_end_of_a_session_ends_circuits_and_place() {
    let mut lab = Lab::new(Config::default());
    let (ours, _) = lab.pair(1, 2);
    lab.send(addr(1), ours, b"under way").unwrap();
    lab.server.disconnected(&id(2), lab.now);
    assert_eq!(lab.notice_to(1), Notice::Closed { circuit: ours, code: Code(8) });
    assert_eq!(lab.sent(), [], "nothing goes to where somebody was");
    assert!(!lab.server.has_reservation(&id(2)));
    assert_eq!(lab.connect(1, 2), Err(Code(5)));
    assert_eq!(lab.server.buffered_bytes(), 0);
}

#[test]
fn a_circuit_in_use_stays_and_an_idle_one_ends_after_ten_minutes() {
    let mut lab = Lab::new(Config::default());
    let (ours, theirs) = lab.pair(1, 2);
    for _ in 0..10 {
        lab.pass(Duration::from_secs(9 * 60));
        lab.send(addr(1), ours, b"x").unwrap();
        assert_eq!(lab.sent().len(), 1);
    }
    assert_eq!(lab.notices(), [], "and outlives the reservation");
    assert!(!lab.server.has_reservation(&id(2)));
    lab.pass(Duration::from_secs(599));
    assert_eq!(lab.server.stats().circuits, 1);
    lab.pass(Duration::from_secs(1));
    let notices = lab.notices();
    assert_eq!(notices.len(), 2);
    assert!(notices.contains(&(id(1), Notice::Closed { circuit: ours, code: Code(9) })));
    assert!(notices.contains(&(id(2), Notice::Closed { circuit: theirs, code: Code(9) })));
}

#[test]
fn a_bound_on_bytes_and_time_ends_a_circuit_with_its_reason() {
    let mut lab = Lab::new(Config::default().circuit_bytes(Some(10_000)));
    let (ours, _) = lab.pair(1, 2);
    let mut passed = 0;
    while lab.send(addr(1), ours, &[0; 1000]).is_ok() {
        passed += lab.sent().iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    assert_eq!(passed, 10 * 1009, "the one that reaches the bound is the last");
    assert!(lab.notices().iter().all(|(_, notice)| matches!(notice, Notice::Closed { code: Code(10), .. })));

    let mut lab = Lab::new(Config::default().circuit_time(Some(Duration::from_secs(60))));
    lab.pair(1, 2);
    lab.pass(Duration::from_secs(60));
    let notices = lab.notices();
    assert_eq!(notices.len(), 2);
    assert!(notices.iter().all(|(_, notice)| matches!(notice, Notice::Closed { code: Code(11), .. })));
}

#[test]
fn the_rate_of_a_circuit_and_of_all() {
    // A burst, then 64 KiB per second.
    let mut lab = Lab::new(Config::default());
    let (ours, _) = lab.pair(1, 2);
    let mut passed = 0;
    let mut flood = |lab: &mut Lab, seconds: u32| {
        for _ in 0..seconds * 100 {
            for _ in 0..5 {
                let _ = lab.send(addr(1), ours, &[0; 1200]);
            }
            passed += lab.sent().iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
            lab.pass(Duration::from_millis(10));
        }
        passed
    };
    let first = flood(&mut lab, 10);
    let more = flood(&mut lab, 10) - first;
    assert!((256 * 1024 + 9 * 65536..=256 * 1024 + 10 * 65536).contains(&first), "{first}");
    assert!((10 * 65536 - 4000..=10 * 65536 + 4000).contains(&more), "{more}");
    assert!(lab.server.stats().dropped > 0 && lab.server.buffered_bytes() <= 64 * 1024);

    // Many circuits share what there is for all, about equally.
    let mut lab = Lab::new(Config::default().rate(1 << 20, 1 << 20).total_rate(100_000, 10_000));
    let circuits: Vec<_> = (0..10).map(|n| (addr(10 + n), lab.pair(10 + n, 30 + n).0)).collect();
    let mut by_target = std::collections::BTreeMap::<_, usize>::new();
    for _ in 0..2000 {
        for (from, circuit) in &circuits {
            let _ = lab.send(*from, *circuit, &[0; 1000]);
        }
        lab.sent().iter().for_each(|(to, bytes)| *by_target.entry(*to).or_default() += bytes.len());
        lab.pass(Duration::from_millis(10));
    }
    let all: usize = by_target.values().sum();
    assert!((1_990_000..=2_012_000).contains(&all), "{all}");
    let (least, most) = (by_target.values().min().unwrap(), by_target.values().max().unwrap());
    assert!(by_target.len() == 10 && most - least <= 20_000, "{by_target:?}");
}

#[test]
fn a_flood_one_way_leaves_room_for_the_other() {
    let mut lab = Lab::new(Config::default());
    let (ours, theirs) = lab.pair(1, 2);
    let mut answered = 0;
    for round in 0..2000 {
        for _ in 0..4 {
            let _ = lab.send(addr(1), ours, &[0; 1200]);
        }
        // An acknowledgement now and then.
        if round % 4 == 0 {
            lab.send(addr(2), theirs, &[0; 40]).unwrap();
        }
        answered += lab.sent().iter().filter(|(to, _)| *to == addr(1)).count();
        lab.pass(Duration::from_millis(10));
    }
    assert!(answered >= 495, "{answered} of 500");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is sent: what leaves is a part of what came, in order, to the other end alone.
    #[test]
    fn what_leaves_is_what_came(sends in proptest::collection::vec((0..4usize, 1..1200usize, 0..30u64), 1..200)) {
        let mut lab = Lab::new(Config::default().rate(20_000, 4_000).total_rate(30_000, 5_000));
        let (a, b) = lab.pair(1, 2);
        let (c, d) = lab.pair(3, 4);
        let ends = [(addr(1), a), (addr(2), b), (addr(3), c), (addr(4), d)];
        let others = [1, 0, 3, 2];
        let mut came: [Vec<Vec<u8>>; 4] = Default::default();
        let mut left: [Vec<Vec<u8>>; 4] = Default::default();
        let deliver = |lab: &mut Lab, left: &mut [Vec<Vec<u8>>; 4]| {
            for (to, bytes) in lab.sent() {
                let end = ends.iter().position(|(addr, _)| *addr == to).expect("an end");
                assert_eq!((bytes[0], &bytes[1..9]), (0xc9, &ends[end].1.as_bytes()[..]));
                left[end].push(bytes[9..].to_vec());
            }
        };
        for (number, (from, len, wait)) in (0u16..).zip(sends) {
            let mut inner = vec![0; len];
            inner.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, value)| *byte = value);
            let (source, circuit) = ends[from];
            if lab.send(source, circuit, &inner).is_ok() {
                came[others[from]].push(inner);
            }
            deliver(&mut lab, &mut left);
            lab.pass(Duration::from_millis(wait));
        }
        for _ in 0..3000 {
            lab.pass(Duration::from_millis(10));
            deliver(&mut lab, &mut left);
        }
        prop_assert_eq!(came, left);
        prop_assert_eq!(lab.server.buffered_bytes(), 0);
    }
}
