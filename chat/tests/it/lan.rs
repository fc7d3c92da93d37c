//! Chats find each other by multicast, in networks made for the test.

use std::time::{Duration, Instant};

use testing::Namespace;

use crate::program::{BINARY, Chat};

fn chat(of: &Namespace, options: &str) -> Chat {
    let mut command = of.command(BINARY);
    command.args(options.split(' '));
    Chat::spawn(command)
}

/// No default interface, and no route for the group.
fn meet_on_loopback(test: &str, option: &str) {
    let Some(namespace) = Namespace::new(test) else { return };
    let start = Instant::now();
    let chat = |who: &str| chat(&namespace, format!("{who} {option}").trim_end());
    let (mut alice, mut bob) = (chat("alice lobby"), chat("bob lobby"));
    let mut carol = chat("carol another");
    alice.noted("* bob ");
    bob.noted("* alice ");
    // The beacons of a busy machine come late as well.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    // The native wire wins, whichever was first.
    for (one, other) in [(&mut alice, " bob "), (&mut bob, " alice ")] {
        one.peers_once(|peers| matches!(peers, [peer] if peer.contains(other) && peer.contains(" native ")));
    }
    alice.tell("hello");
    assert_eq!(bob.said(), "alice\thello");
    // A beacon of each room has been heard by all by now.
    carol.tell("/peers");
    carol.noted("* 0 peers here");
}

#[test]
fn people_in_one_room_find_each_other_where_only_the_loopback_interface_is_up() {
    meet_on_loopback("lan::people_in_one_room_find_each_other_where_only_the_loopback_interface_is_up", "");
}

#[test]
fn people_who_speak_both_wires_find_each_other_once() {
    meet_on_loopback("lan::people_who_speak_both_wires_find_each_other_once", "--v12");
}

#[test]
fn people_on_two_machines_find_each_other_and_long_messages_cross_the_network() {
    let test = "lan::people_on_two_machines_find_each_other_and_long_messages_cross_the_network";
    let Some((here, there)) = Namespace::pair(test) else { return };
    let (mut alice, bob) = (chat(&here, "alice lobby"), chat(&there, "bob lobby"));
    assert!(alice.uri().contains("@10.77.0.1:"), "an address that the other can dial");
    alice.noted("* connected to");
    bob.noted("* alice joined");
    for len in [1, 1400, 1500, 3000] {
        alice.tell(&"x".repeat(len));
        assert_eq!(bob.said(), format!("alice\t{}", "x".repeat(len)));
    }
    alice.tell(&"y".repeat(60_000));
    assert!(bob.said().starts_with("alice\tyyy"));
}
