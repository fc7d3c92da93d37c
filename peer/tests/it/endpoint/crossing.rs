//! Two dials at the same time give one session, and both sides agree which.

use framing::Role;
use peer::{Config, Reason, Target};
use sim::pair::Side;
use sim::{Link, Pair};

use super::support::*;

/// Both dial, the second side `head_start` milliseconds after the first. Returns when both are at rest.
fn cross(names: [&str; 2], anyone: [bool; 2], links: [Link; 2], head_start: u64, seed: u64) -> Ours {
    let setup = setup(Link::perfect(), seed).link_from(Side::A, links[0]).link_from(Side::B, links[1]);
    let mut pair = named(names, &Config::default(), setup, seed);
    let [for_a, for_b] = [names[1], names[0]].map(|name| Target::Known(id(name)));
    dial(&mut pair, Side::A, if anyone[0] { Target::Anyone } else { for_a });
    pair.run_for(ms(head_start));
    let path = pair.path(Side::B);
    // By then there may be a session.
    let _ = pair.with_b(|b, now| b.dial(if anyone[1] { Target::Anyone } else { for_b }, path, now));
    pair.run_for(12 * SECOND);
    pair
}

/// One session on each side, with opposite roles and the same keys.
fn check(pair: &Ours, what: &str) {
    assert_eq!((open(&pair.a), open(&pair.b)), (1, 1), "{what}");
    assert_eq!((pair.a.stats().peers, pair.b.stats().peers), (1, 1), "{what}: dials are left");
    assert_eq!((pair.a.stats().half_open, pair.b.stats().half_open), (0, 0), "{what}");
    let [a, b] = [&pair.a, &pair.b].map(|side| side.peers().next().expect("a session").1);
    assert_ne!(a.role(), b.role(), "{what}");
    assert_eq!(a.exporter(b"test"), b.exporter(b"test"), "{what}: two halves of different sessions");
    assert!(a.exporter(b"test").is_some());
}

/// Dials by key, for every order in which first messages and answers can arrive.
fn cross_by_key(delays: &[u64], head_starts: &[u64]) {
    for names in [["alice", "bob"], ["bob", "alice"]] {
        for &there in delays {
            for &back in delays {
                for &head_start in head_starts {
                    let links = [delayed(ms(there)), delayed(ms(back))];
                    let pair = cross(names, [false; 2], links, head_start, 1);
                    let what = format!("{names:?}, {there} ms, {back} ms, {head_start} ms");
                    check(&pair, &what);
                    let lost = [pair.a_events(), pair.b_events()].map(closed);
                    assert_eq!(lost, [vec![], vec![]], "{what}: a handle was lost");
                    assert_eq!(connected(pair.a_events()).len() + connected(pair.b_events()).len(), 2, "{what}");
                }
            }
        }
    }
}

#[test]
fn dials_by_key_that_cross_give_one_session_whatever_the_delays() {
    cross_by_key(&[0, 10, 150], &[0, 5, 200]);
}

/// The same with more delays: `cargo test -- --ignored`.
#[test]
#[ignore = "takes a minute"]
fn dials_by_key_that_cross_give_one_session_whatever_many_delays() {
    cross_by_key(&[0, 1, 10, 50, 150, 400, 700], &[0, 1, 5, 40, 120, 300, 600]);
}

#[test]
fn dials_at_the_same_moment_are_settled_by_the_smaller_id() {
    let [smaller, larger] = sorted();
    let pair = cross([smaller, larger], [false; 2], [delayed(ms(20)); 2], 0, 1);
    check(&pair, "the same moment");
    let (a, b) = (connected(pair.a_events()), connected(pair.b_events()));
    assert_eq!((a[0].1.role, b[0].1.role), (Role::Dialler, Role::Responder));
}

#[test]
fn dials_that_cross_under_loss_give_one_session() {
    for seed in 0..24 {
        let link = delayed(ms(30)).loss(0.25).duplicate(0.1).reorder(0.2, ms(80));
        let pair = cross(["alice", "bob"], [false; 2], [link; 2], (seed % 4) * 20, seed);
        check(&pair, &format!("seed {seed}"));
    }
}

/// Dials of which one at least names no key.
fn cross_by_address(delays: &[u64], head_starts: &[u64]) {
    for names in [["alice", "bob"], ["bob", "alice"]] {
        for anyone in [[true, true], [true, false], [false, true]] {
            for &there in delays {
                for &back in delays {
                    for &head_start in head_starts {
                        let links = [delayed(ms(there)), delayed(ms(back))];
                        let pair = cross(names, anyone, links, head_start, 1);
                        let what = format!("{names:?}, {anyone:?}, {there} ms, {back} ms, {head_start} ms");
                        check(&pair, &what);
                        for (_, _, reason) in [pair.a_events(), pair.b_events()].map(closed).into_iter().flatten() {
                            assert_eq!(reason, Reason::Replaced, "{what}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn dials_to_an_address_that_cross_leave_one_session() {
    cross_by_address(&[5, 150], &[0, 40, 300]);
}

/// The same with more delays: `cargo test -- --ignored`.
#[test]
#[ignore = "takes a minute"]
fn dials_to_an_address_that_cross_leave_one_session_whatever_the_delays() {
    cross_by_address(&[0, 1, 10, 150, 400], &[0, 1, 5, 40, 300, 700]);
}

#[test]
fn one_whose_dial_counts_follows_the_other_to_where_it_is() {
    // The smaller one dials an address that is no longer the larger one's; the larger one dials from the new one.
    let [smaller, larger] = sorted();
    let mut pair: Ours = Pair::new(
        endpoint(smaller, Config::default(), 1, sim::clock::base()),
        endpoint(larger, Config::default(), 1, sim::clock::base()),
        delayed(ms(20)),
        crypto::Seed::fixed(1),
    );
    let gone = structs::Path::udp(at(&pair, Side::A), ([10, 9, 9, 9], 9).into());
    let target = Target::Known(id(larger));
    let handle = pair.with_a(|a, now| a.dial(target, gone, now)).expect("a dial");
    dial(&mut pair, Side::B, Target::Known(id(smaller)));
    assert!(pair.run_until(both_open, 2 * SECOND));
    check(&pair, "another address");
    assert_eq!(connected(pair.a_events())[0].0, handle);
    assert_eq!(pair.a.stats().cookies_sent, 1, "the address was proved first");
}

#[test]
fn a_dial_that_gave_way_goes_on_if_the_other_one_stops() {
    let [smaller, larger] = sorted();
    let mut pair = named([smaller, larger], &Config::default(), setup(delayed(ms(20)), 1), 1);
    let handle = dial(&mut pair, Side::A, Target::Known(id(larger)));
    dial(&mut pair, Side::B, Target::Known(id(smaller)));
    pair.run_for(ms(25));
    // Bob has answered; Alice, whose dial counts, gives it up before she hears.
    pair.with_a(|a, now| a.with(handle, now, |peer, now| peer.close(BYE, "", ms(0), now)));
    assert!(pair.run_until(both_open, 5 * SECOND));
    pair.run_for(10 * SECOND);
    check(&pair, "given up");
    assert_eq!(connected(pair.b_events())[0].1.role, Role::Dialler);
}

#[test]
fn a_recorded_first_message_does_not_hold_a_dial_for_ever() {
    let [smaller, larger] = sorted();
    let mut pair = named([smaller, larger], &Config::default(), setup(Link::dead(), 1), 1);
    pair.capture(1 << 20);
    dial(&mut pair, Side::A, Target::Known(id(larger)));
    pair.run_for(15 * SECOND);
    let recorded = sent_kind(&pair, at(&pair, Side::A), 0xd0).remove(0);
    for side in [Side::A, Side::B] {
        pair.set_link(side, delayed(ms(20)));
    }
    let begun = pair.elapsed();
    let thief = ([10, 0, 7, 7], 7).into();
    pair.inject(Side::B, thief, &recorded);
    dial(&mut pair, Side::B, Target::Known(id(smaller)));
    while !both_open(&pair) {
        assert!(pair.elapsed() < begun + 8 * SECOND, "held for ever");
        pair.inject(Side::B, thief, &recorded);
        pair.run_for(ms(250));
    }
    assert_eq!(connected(pair.b_events())[0].1.role, Role::Dialler);
}
