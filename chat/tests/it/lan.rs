//! Two chats find each other by multicast where there is nothing but the loopback interface: no default interface, no
//! route for the group.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::program::{BINARY, Chat};

/// A network namespace of its own, removed when dropped.
struct Namespace(String);

impl Namespace {
    /// `None`, with the reason printed, where none can be made.
    fn new() -> Option<Self> {
        let name = format!("setowire-chat-{}", std::process::id());
        let ip = |words: &[&str]| Command::new("ip").args(words).output();
        match ip(&["netns", "add", &name]) {
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
        let up = ip(&["netns", "exec", &namespace.0, "ip", "link", "set", "lo", "up"]).unwrap();
        assert!(up.status.success(), "{up:?}");
        Some(namespace)
    }

    fn chat(&self, nick: &str, room: &str) -> Chat {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, BINARY, nick, room, "--v12"]);
        Chat::spawn(command)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What remains is empty and harmless.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn people_in_one_room_find_each_other_where_only_the_loopback_interface_is_up() {
    let Some(namespace) = Namespace::new() else { return };
    let start = Instant::now();
    let (mut alice, bob) = (namespace.chat("alice", "lobby"), namespace.chat("bob", "lobby"));
    let other = namespace.chat("carol", "another room");
    alice.noted("* bob joined");
    bob.noted("* alice joined");
    // The beacons of a busy machine come late as well.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    alice.tell("hello");
    assert_eq!(bob.said(), "alice\thello");
    // A beacon of each room has been heard by all by now.
    let mut carol = other;
    carol.tell("/peers");
    carol.noted("* 0 peers here");
}
