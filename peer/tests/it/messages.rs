//! What is sent arrives, whole and in order.

use bytes::Bytes;
use framing::v12::{encode, fragments, limits};
use peer::v12::{Config, Event, SendError};
use sim::Link;
use sim::pair::Side;

use crate::connect::befriended;
use crate::reference::{Release, Told};
use crate::support::*;

const SIZES: [usize; 7] = [0, 3, 100, 1200, 5000, 60_000, 65_474];

#[test]
fn messages_of_every_size_arrive_both_ways_in_order() {
    for link in [Link::perfect(), delayed(ms(25)), Link::lan()] {
        let mut pair = friends(&Config::default(), link, 1);
        for size in SIZES {
            pair.with_a(|peer, now| peer.send(noise(size), now)).expect("room");
            pair.with_b(|peer, now| peer.send(noise(size), now)).expect("room");
        }
        pair.run_for(2 * SECOND);
        let sent: Vec<_> = SIZES.iter().map(|&size| (noise(size), true)).collect();
        assert_eq!(messages(pair.a_events()), sent);
        assert_eq!(messages(pair.b_events()), sent);
        assert!(pair.a.is_drained() && pair.b.is_drained());
    }
}

#[test]
fn an_empty_message_is_one_too() {
    let mut pair = friends(&Config::default(), Link::perfect(), 1);
    for _ in 0..10 {
        pair.with_a(|peer, now| peer.send(Bytes::new(), now)).expect("room");
    }
    pair.run_for(SECOND);
    assert_eq!(messages(pair.b_events()), vec![(Bytes::new(), true); 10]);
}

#[test]
fn what_no_sealed_datagram_holds_is_refused() {
    let mut pair = friends(&Config::default(), Link::perfect(), 1);
    let now = pair.now();
    let refused = Err(SendError::TooLarge { len: 65_475, max: 65_474 });
    assert_eq!(pair.a.send(noise(65_475), now), refused);
    assert_eq!(pair.a.max_message(), limits::MAX_DATA_PAYLOAD);
    assert_eq!(pair.a.queued(), 0);
}

#[test]
fn longer_ones_travel_in_the_clear_if_both_sides_say_so() {
    let config = Config::default().danger_send_plaintext_fragments(true).accept_plaintext_fragments(true);
    let mut pair = friends(&config, delayed(ms(10)), 1);
    for size in [65_475, 500_000, 100] {
        pair.with_a(|peer, now| peer.send(noise(size), now)).expect("room");
    }
    assert!(matches!(pair.a.send(noise(524_289), pair.now()), Err(SendError::TooLarge { max: 524_288, .. })));
    pair.run_for(3 * SECOND);
    let mut received = messages(pair.b_events());
    received.sort_by_key(|(data, _)| data.len());
    assert_eq!(received, [(noise(100), true), (noise(65_475), false), (noise(500_000), false)]);
}

/// Many long ones do not leave all at once: the receiver's socket buffer would not hold them.
#[test]
fn fragments_wait_for_each_other() {
    let config = Config::default().danger_send_plaintext_fragments(true).accept_plaintext_fragments(true);
    let mut pair = friends(&config, delayed(ms(10)), 1);
    let before = pair.traffic(Side::A).sent.bytes;
    for _ in 0..20 {
        pair.with_a(|peer, now| peer.send(noise(200_000), now)).expect("room");
    }
    assert!(pair.traffic(Side::A).sent.bytes - before < 300_000);
    assert!(pair.run_until(|pair| messages(pair.b_events()).len() == 20, 10 * SECOND));
}

#[test]
fn fragments_are_refused_unless_they_are_asked_for() {
    let mut pair = friends(&Config::default(), delayed(ms(1)), 1);
    let from = pair.path(Side::B).local;
    for piece in fragments([1; 8], &noise(2000)).expect("not too long") {
        pair.inject(Side::A, from, &piece);
    }
    pair.run_for(SECOND);
    assert_eq!(messages(pair.a_events()), []);
    assert_eq!(pair.a.stats().rejected.of(structs::Rejected::Forbidden), 2);
}

#[test]
fn a_reference_node_and_we_understand_each_other() {
    for release in [Release::First, Release::Later] {
        let mut pair = befriended(release, delayed(ms(15)), 1);
        let sizes = [0, 3, 100, 1200, 5000, 60_000];
        for size in sizes {
            pair.with_a(|peer, now| peer.send(noise(size), now)).expect("room");
        }
        for size in [0, 3, 100, 1200] {
            pair.with_b(|node, now| node.write(noise(size), now));
        }
        pair.run_for(3 * SECOND);
        let told: Vec<Told> = pair.take_b_events().into_iter().map(|timed| timed.event).collect();
        assert_eq!(told, sizes.map(|size| Told::Message(noise(size))));
        assert_eq!(messages(pair.a_events()), [0, 3, 100, 1200].map(|size| (noise(size), true)));
    }
}

#[test]
fn gossip_of_a_reference_node_is_told_as_peers_and_not_as_a_message() {
    let mut pair = befriended(Release::Later, delayed(ms(15)), 1);
    let text = r#"{"_gossip": true, "id": "e3f03f52612aadac", "ip": "10.1.2.3", "port": 40001}"#;
    pair.with_b(|node, now| node.write(Bytes::from_static(text.as_bytes()), now));
    pair.with_b(|node, now| node.write(Bytes::from_static(br#"{"type":"MSG"}"#), now));
    pair.run_for(SECOND);
    assert_eq!(messages(pair.a_events()), [(Bytes::from_static(br#"{"type":"MSG"}"#), true)]);
    let told = pair.a_events().iter().find_map(|timed| match &timed.event {
        Event::Peers(peers) => Some(peers.clone()),
        _ => None,
    });
    assert_eq!(told, Some(vec![("e3f03f52612aadac".parse().unwrap(), "10.1.2.3:40001".parse().unwrap())]));
}

/// Between two of ours there is no such thing: whatever an application sends, the other receives.
#[test]
fn an_application_may_send_what_looks_like_gossip() {
    let mut pair = friends(&Config::default(), delayed(ms(15)), 1);
    let text = Bytes::from_static(br#"{"_gossip":1,"x":[1],"bye":8}"#);
    pair.with_a(|peer, now| peer.send(text.clone(), now)).expect("room");
    pair.run_for(SECOND);
    assert_eq!(messages(pair.b_events()), [(text, true)]);
    assert!(!pair.b.is_closed());
}

#[test]
fn control_frames_arrive_and_are_told() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    let mut have = Vec::new();
    encode::have([&b"one"[..], b"two"], &mut have).unwrap();
    assert!(pair.with_a(|peer, _| peer.send_control(have)));
    let (id, at) = (identity("carol").wire_id(), "10.0.0.9:4000".parse().unwrap());
    let mut frames = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    encode::relay_ann(id, at, &mut frames[0]).unwrap();
    encode::relay_req(identity("alice").wire_id(), id, at, &mut frames[1]).unwrap();
    encode::relay_fwd(id, at, &mut frames[2]).unwrap();
    encode::pex([framing::v12::PexEntry { id, addr: at }], &mut frames[3]).unwrap();
    for frame in frames {
        assert!(pair.with_a(|peer, _| peer.send_control(frame)));
    }
    pair.run_for(ms(100));
    let told: Vec<Event> = pair.take_b_events().into_iter().map(|timed| timed.event).collect();
    let expected = [
        Event::Has(vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")]),
        Event::RelayAnnounced { id, addr: at },
        Event::IntroductionRequested { to: id, addr: at },
        Event::Introduced { id, addr: at },
        Event::Peers(vec![(id, at)]),
    ];
    assert_eq!(told, expected);
}
