//! Chats find each other by multicast, in networks made for the test.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::program::{BINARY, Chat};

/// A network namespace of its own, removed when dropped.
struct Namespace(String);

impl Namespace {
    /// One with its loopback interface up and nothing else. `None`, with the reason printed, where none can be made.
    fn new(name: &str) -> Option<Self> {
        let name = format!("setowire-{name}-{}", std::process::id());
        match Command::new("ip").args(["netns", "add", &name]).output() {
            Ok(made) if made.status.success() => {}
            Ok(refused) => {
                eprintln!("skipped: no namespace: {}", String::from_utf8_lossy(&refused.stderr).trim());
                return None;
            }
            Err(error) => {
                eprintln!("skipped: no program `ip`: {error}");
                return None;
            }
        }
        let namespace = Self(name);
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// Two, joined by an Ethernet with an MTU of 1,500 bytes.
    fn pair() -> Option<(Self, Self)> {
        let (a, b) = (Self::new("a")?, Self::new("b")?);
        a.ip(&format!("link add ether type veth peer name ether netns {}", b.0));
        for (namespace, addr) in [(&a, "10.77.0.1/24"), (&b, "10.77.0.2/24")] {
            namespace.ip(&format!("addr add {addr} dev ether"));
            namespace.ip("link set ether up");
        }
        Some((a, b))
    }

    fn ip(&self, words: &str) {
        let done = Command::new("ip").args(["-n", &self.0]).args(words.split(' ')).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    fn chat(&self, options: &str) -> Chat {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, BINARY]).args(options.split(' '));
        Chat::spawn(command)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What remains is empty and harmless.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// No default interface, and no route for the group.
fn meet_on_loopback(namespace: &str, option: &str) {
    let Some(namespace) = Namespace::new(namespace) else { return };
    let start = Instant::now();
    let chat = |who: &str| namespace.chat(format!("{who} {option}").trim_end());
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
    meet_on_loopback("lo", "");
}

#[test]
fn people_who_speak_both_wires_find_each_other_once() {
    meet_on_loopback("both", "--v12");
}

#[test]
fn people_on_two_machines_find_each_other_and_long_messages_cross_the_network() {
    let Some((here, there)) = Namespace::pair() else { return };
    let (mut alice, bob) = (here.chat("alice lobby"), there.chat("bob lobby"));
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
