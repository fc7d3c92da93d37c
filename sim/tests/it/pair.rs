use std::time::Duration;

use crypto::Seed;
use sim::pair::{Setup, Side, Step};
use sim::{Addresses, Dropped, Link, Pair, pcap};
use structs::Rejected;

use crate::toy::{Event, Flaw, Toy};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn pair(setup: Setup) -> Pair<Toy, Toy> {
    let toy = |side, seed| Toy::new(Flaw::None, setup.path(side), Seed::fixed(seed), setup.now());
    let (a, b) = (toy(Side::A, 1), toy(Side::B, 2));
    setup.pair(a, b)
}

fn over(link: Link, seed: u64) -> Pair<Toy, Toy> {
    pair(Setup::new(Seed::fixed(seed)).link(link))
}

fn received(event: &Event) -> Option<&[u8]> {
    if let Event::Received(_, text) = event { Some(text) } else { None }
}

#[test]
fn the_retries_leave_when_they_should() {
    let mut pair = over(Link::dead(), 1);
    pair.capture(1 << 20);
    pair.with_a(|a, now| a.send(b"hello", now)).unwrap();
    pair.run_for(100 * SECOND);
    let left: Vec<_> = pair.captured().iter().map(|datagram| datagram.at.as_secs()).collect();
    assert_eq!(left, [0, 1, 3, 7, 15, 31]);
    assert!(pair.captured().iter().all(|datagram| datagram.dropped == Some(Dropped::Lost)));
    let closed = pair.take_a_events();
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].at, &closed[0].event), (63 * SECOND, &Event::Closed));
    assert!(pair.a_events().is_empty());
    assert_eq!((pair.elapsed(), pair.next_at(), pair.step()), (100 * SECOND, None, Step::Idle));
}

#[test]
fn a_round_trip_takes_both_delays() {
    let setup = Setup::new(Seed::fixed(1));
    let setup = setup.link(Link::perfect().delay(30 * MS)).link_from(Side::B, Link::perfect().delay(12 * MS));
    let mut pair = pair(setup);
    pair.a.send(b"hello", pair.now()).unwrap();
    pair.touch();
    assert_eq!(pair.deadline(Side::A).map(|deadline| deadline.reason), Some("retransmit"));
    assert_eq!((pair.step(), pair.elapsed()), (Step::Arrived(Side::B), 30 * MS));
    assert_eq!((pair.step(), pair.elapsed()), (Step::Arrived(Side::A), 42 * MS));
    assert_eq!(pair.step(), Step::Idle);
    assert_eq!(pair.a_events()[0].event, Event::Delivered { round_trip: 42 * MS });
    assert_eq!(received(&pair.b_events()[0].event), Some(&b"hello"[..]));
}

#[test]
fn waiting_ends_at_the_event_or_at_the_limit() {
    let mut pair = over(Link::perfect().delay(50 * MS), 1);
    pair.with_a(|a, now| a.send(b"hello", now)).unwrap();
    assert!(!pair.run_until(|pair| !pair.b_events().is_empty(), 49 * MS));
    assert_eq!((pair.elapsed(), pair.in_flight()), (49 * MS, 1));
    assert!(pair.run_until(|pair| !pair.b_events().is_empty(), SECOND));
    assert_eq!(pair.elapsed(), 50 * MS);
}

/// A conversation over bad weather: its trace hash, and whether everything arrived.
fn conversation(link: Link, seed: u64) -> (u64, Pair<Toy, Toy>) {
    let mut pair = over(link, seed);
    for number in 0..50_u8 {
        pair.with_a(|a, now| a.send(&[number; 40], now)).unwrap();
        pair.with_b(|b, now| b.send(&[number; 30], now)).unwrap();
    }
    let all = |pair: &Pair<Toy, Toy>| {
        let count =
            |events: &[sim::Timed<Event>]| events.iter().filter(|timed| received(&timed.event).is_some()).count();
        count(pair.a_events()) == 50 && count(pair.b_events()) == 50
    };
    assert!(pair.run_until(all, 600 * SECOND));
    (pair.trace_hash(), pair)
}

#[test]
fn equal_seeds_give_equal_traces() {
    assert_eq!(conversation(Link::mobile(), 7).0, conversation(Link::mobile(), 7).0);
    assert_ne!(conversation(Link::mobile(), 7).0, conversation(Link::mobile(), 8).0);
}

/// The trace depends on nothing of this process or machine.
#[test]
fn the_trace_is_portable() {
    assert_eq!(conversation(Link::mobile().loss(0.1), 7).0, 8177364620035002671);
}

#[test]
fn the_counters_balance() {
    let (_, mut pair) = conversation(Link::mobile().loss(0.1).duplicate(0.2), 3);
    pair.run_for(100 * SECOND);
    assert_eq!(pair.in_flight(), 0);
    for side in [Side::A, Side::B] {
        let traffic = pair.traffic(side);
        assert!(traffic.dropped_for(Dropped::Lost).datagrams > 0 && traffic.duplicated.datagrams > 0);
        let arrived = traffic.delivered.datagrams + traffic.dropped().datagrams;
        assert_eq!(traffic.sent.datagrams + traffic.duplicated.datagrams, arrived);
        let arrived = traffic.delivered.bytes + traffic.dropped().bytes;
        assert_eq!(traffic.sent.bytes + traffic.duplicated.bytes, arrived);
    }
}

#[test]
fn injected_datagrams_are_refused_and_counted() {
    let mut pair = over(Link::perfect(), 1);
    pair.capture(10);
    pair.inject(Side::B, Addresses::Private.at(9), b"?????????");
    pair.inject(Side::B, Addresses::Private.at(9), b"");
    pair.inject(Side::B, Addresses::Private.at(9), b"too much for the tap");
    assert_eq!(pair.rejected(Side::B).of(Rejected::UnknownKind), 2);
    assert_eq!(pair.rejected(Side::B).of(Rejected::Empty), 1);
    assert_eq!((pair.captured().len(), pair.capture_missed()), (2, 1));
}

#[test]
fn answers_to_strangers_have_no_route() {
    let mut pair = over(Link::perfect(), 1);
    pair.capture(1000);
    pair.inject(Side::B, Addresses::Public.at(1), &[1; 20]);
    assert_eq!(pair.traffic(Side::B).dropped_for(Dropped::NoRoute).datagrams, 1);
    let answer = &pair.captured()[1];
    assert_eq!((answer.to, answer.dropped), (Addresses::Public.at(1), Some(Dropped::NoRoute)));
}

#[test]
fn a_rebound_address_shows_to_the_other_alone() {
    let mut pair = pair(Setup::new(Seed::fixed(1)).addresses(Addresses::Public));
    let (home, away) = (Addresses::Public.at(0), Addresses::Public.at(50));
    assert_eq!(pair.path(Side::A).local, home);
    pair.rebind(Side::A, away);
    pair.capture(1000);
    pair.with_a(|a, now| a.send(b"hello", now)).unwrap();
    pair.run_for(SECOND);
    assert_eq!((pair.captured()[0].from, pair.path(Side::B).remote), (away, away));
    // The toy takes text from the address that it knows alone, but acknowledges to wherever it came from.
    assert!(pair.b_events().is_empty());
    assert!(matches!(pair.a_events()[0].event, Event::Delivered { .. }));
    // What still goes to the old address is lost.
    pair.with_b(|b, now| b.send(b"hello", now)).unwrap();
    pair.run_for(SECOND);
    assert!(pair.traffic(Side::B).dropped_for(Dropped::NoRoute).datagrams > 0);
}

#[test]
fn a_second_address_sends_and_receives() {
    let extra = Addresses::Private.at(70);
    let setup = Setup::new(Seed::fixed(1));
    let path = structs::Path { local: extra, ..setup.path(Side::A) };
    let a = Toy::new(Flaw::None, path, Seed::fixed(1), setup.now());
    let b = Toy::new(Flaw::None, setup.path(Side::B), Seed::fixed(2), setup.now());
    let mut pair = setup.pair(a, b);
    pair.add_addr(Side::A, extra);
    pair.capture(1000);
    pair.with_a(|a, now| a.send(b"hello", now)).unwrap();
    pair.run_for(SECOND);
    assert_eq!((pair.captured()[0].from, pair.captured()[1].to), (extra, extra));
    assert!(matches!(pair.a_events()[0].event, Event::Delivered { .. }));
}

#[test]
fn a_restarted_machine_takes_its_place() {
    let mut pair = over(Link::perfect().delay(10 * MS), 1);
    pair.with_b(|b, now| b.close(now));
    pair.run_for(SECOND);
    assert!(pair.a.is_closed() && pair.b.is_closed());
    let now = pair.now();
    let (path_a, path_b) = (pair.path(Side::A), pair.path(Side::B));
    assert!(pair.replace_a(Toy::new(Flaw::None, path_a, Seed::fixed(3), now)).is_closed());
    assert!(pair.replace_b(Toy::new(Flaw::None, path_b, Seed::fixed(4), now)).is_closed());
    pair.take_b_events();
    pair.with_a(|a, now| a.send(b"again", now)).unwrap();
    pair.run_for(SECOND);
    assert_eq!(received(&pair.b_events()[0].event), Some(&b"again"[..]));
}

#[test]
fn a_link_changes_under_way() {
    let mut pair = over(Link::perfect(), 1);
    pair.set_link(Side::A, Link::dead());
    pair.with_a(|a, now| a.send(b"hello", now)).unwrap();
    pair.run_for(5 * SECOND);
    pair.set_link(Side::A, Link::perfect());
    pair.run_for(5 * SECOND);
    assert_eq!(pair.b_events()[0].at, 7 * SECOND);
}

#[test]
#[should_panic(expected = "no progress: after its timeout at 1s side A still wants")]
fn a_deadline_that_does_not_move_stops_the_run() {
    let setup = Setup::new(Seed::fixed(1)).link(Link::dead());
    let toy = |side| Toy::new(Flaw::Stuck, setup.path(side), Seed::fixed(1), setup.now());
    let (a, b) = (toy(Side::A), toy(Side::B));
    let mut pair = setup.pair(a, b);
    pair.with_a(|a, now| a.send(b"hello", now)).unwrap();
    pair.run_for(10 * SECOND);
}

#[test]
fn a_capture_becomes_a_file_of_packets() {
    let mut pair = over(Link::perfect().delay(1500 * MS), 1);
    pair.capture(1000);
    pair.with_a(|a, now| a.send(b"odd", now)).unwrap();
    pair.run_for(2 * SECOND);
    let file = pcap(pair.captured());
    let captured: Vec<_> = pair.captured().iter().map(|datagram| datagram.payload.len()).collect();
    assert_eq!(captured, [12, 12, 9], "the text, its retry, the answer");
    assert_eq!(file.len(), 24 + captured.iter().map(|len| 16 + 28 + len).sum::<usize>());
    assert_eq!(file[..8], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0]);
    assert_eq!(file[20..24], [101, 0, 0, 0]);
    let retry = &file[24 + 56..][..56];
    assert_eq!(retry[..8], [1, 0, 0, 0, 0, 0, 0, 0], "at one second");
    assert_eq!(retry[8..16], [40, 0, 0, 0, 40, 0, 0, 0]);
    let packet = &retry[16..];
    assert_eq!(packet[..4], [0x45, 0, 0, 40]);
    assert_eq!(packet[12..28], [10, 0, 0, 1, 10, 0, 0, 2, 0x0f, 0xa0, 0x0f, 0xa0, 0, 20, packet[26], packet[27]]);
    assert_eq!(sum(&packet[..20]), 0xffff, "the header sums up to minus zero");
    assert_eq!(sum(&[&packet[12..20], &[0, 17, 0, 20], &packet[20..]].concat()), 0xffff);
    assert_eq!(packet[37..], *b"odd");
}

/// The one's complement sum of 16-bit words.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    (sum & 0xffff) + (sum >> 16)
}

#[test]
fn a_suspended_machine_sees_nothing_until_it_is_resumed() {
    let (_, mut pair) = conversation(Link::perfect().delay(SECOND / 10), 4);
    pair.run_for(100 * SECOND);
    pair.suspend(Side::B);
    let before = pair.traffic(Side::A);
    pair.with_a(|a, now| a.send(b"somebody there?", now)).unwrap();
    pair.run_for(2 * SECOND);
    assert!(pair.is_suspended(Side::B) && pair.traffic(Side::A).sent.datagrams > before.sent.datagrams);
    assert_eq!(pair.traffic(Side::A).delivered, before.delivered);
    pair.resume(Side::B);
    assert!(pair.traffic(Side::A).delivered.datagrams > before.delivered.datagrams, "kept in its socket");
}
