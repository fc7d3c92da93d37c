//! Others who take nothing: readers of the output, and neighbours.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::program::Chat;

/// Whether everything could be written, or nothing more for this long.
fn stalls(written: &Receiver<()>, limit: Duration) -> bool {
    loop {
        match written.recv_timeout(limit) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

#[test]
fn a_pipe_that_nobody_reads_stops_neither_commands_nor_signals() {
    let (mut alice, _unread) = Chat::unread("alice lobby", false);
    let mut bob = Chat::start(&format!("bob lobby --dial {}", alice.addr()));
    bob.noted("* alice joined");
    // Some fill the pipe, 1,024 wait, the rest is lost.
    for _ in 0..2500 {
        bob.tell(&"x".repeat(200));
    }
    bob.tell("/quit");
    assert!(bob.ended().0.success());
    alice.noted("* bob joined");
    alice.noted("* bob ");
    alice.tell("/peers");
    alice.noted("* 0 peers here");
    assert_eq!(alice.terminated().code(), Some(0));
}

#[test]
fn what_was_lost_is_told() {
    let (alice, unread) = Chat::unread("alice lobby", false);
    let mut bob = Chat::start(&format!("bob lobby --dial {}", alice.addr()));
    bob.noted("* alice joined");
    for _ in 0..2500 {
        bob.tell(&"x".repeat(200));
    }
    bob.tell("/quit");
    alice.noted("* bob joined");
    // He left; his goodbye may be among what came too fast.
    alice.noted("* bob ");
    alice.signal("TERM");
    // Whether bob still counts depends on which of his goodbyes has come.
    alice.noted("* left ");
    let told = alice.noted("* ");
    assert!(told.contains("messages could not be shown"), "{told}");
    let (status, ..) = alice.ended();
    assert_eq!(status.code(), Some(0));
    drop(unread);
}

#[test]
fn notices_that_nobody_reads_stop_neither_commands_nor_signals() {
    let (mut alice, _unread) = Chat::unread("alice lobby", true);
    // Far more than the pipe of the input holds.
    let written = alice.flood("/help", 30_000);
    assert!(!stalls(&written, Duration::from_secs(20)), "commands are read");
    assert_eq!(alice.terminated().code(), Some(0));
}

#[test]
fn a_reader_that_is_gone_ends_it_politely() {
    let (alice, unread) = Chat::unread("alice lobby", false);
    let mut bob = Chat::start(&format!("bob lobby --dial {}", alice.addr()));
    bob.noted("* alice joined");
    drop(unread);
    bob.tell("is anybody reading?");
    bob.noted("* alice left");
    assert_eq!(alice.ended().0.code(), Some(0));
}

#[test]
fn a_neighbour_that_takes_nothing_stops_neither_events_nor_signals() {
    for name in ["INT", "TERM"] {
        let (mut alice, bob) = Chat::pair();
        let mut carol = Chat::start(&format!("carol lobby --dial {}", alice.addr()));
        carol.noted("* alice joined");
        bob.signal("STOP");
        let written = alice.flood(&"x".repeat(3000), 100_000);
        assert!(stalls(&written, Duration::from_secs(1)), "there is no room at bob");
        carol.tell("still there?");
        assert_eq!(alice.said(), "carol\tstill there?");
        if name == "TERM" {
            assert_eq!(alice.terminated().code(), Some(0));
        } else {
            alice.signal(name);
            assert_eq!(alice.ended().0.code(), Some(0));
        }
    }
}

#[test]
fn a_line_without_end_is_refused_and_the_next_one_is_not() {
    let (mut alice, bob) = Chat::pair();
    alice.tell(&"x".repeat(10_000_000));
    alice.noted("* not sent: a line of more than 65536 bytes");
    alice.tell("short");
    assert_eq!(bob.said(), "alice\tshort");
}
