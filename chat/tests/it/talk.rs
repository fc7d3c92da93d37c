//! Two people talk and leave.

use crate::program::Chat;

#[test]
fn two_people_talk_and_part() {
    let (mut alice, mut bob) = Chat::pair();
    alice.tell("hello");
    assert_eq!(bob.said(), "alice\thello");
    let text = r#"grüß Gott, "quoted" \ and / <b> 🦀 & {"type":"MSG"}"#;
    bob.tell(text);
    assert_eq!(alice.said(), format!("bob\t{text}"));
    // The same again, blanks around it, and a line that is none.
    for line in ["hello", "", "   ", "  hello  "] {
        alice.tell(line);
    }
    assert_eq!([bob.said(), bob.said()], ["alice\thello", "alice\thello"]);
    let long = "x".repeat(3000);
    alice.tell(&long);
    assert_eq!(bob.said(), format!("alice\t{long}"));

    alice.tell("/quit");
    bob.noted("* alice left");
    let (status, out, err) = alice.ended();
    assert!(status.success() && out.is_empty(), "its own lines are not repeated: {out:?}");
    assert_eq!(err.last().unwrap(), "* left 1 peer");
    bob.close();
    let (status, _, err) = bob.ended();
    assert_eq!((status.code(), err.last().unwrap().as_str()), (Some(0), "* left 0 peers"));
}

#[test]
fn commands_answer_on_standard_error() {
    let (mut alice, bob) = Chat::pair();
    alice.tell("/peers");
    alice.noted("* 1 peer here");
    let line = alice.noted("*   ");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words.len(), words[1].len(), words[2], words[4]), (6, 8, "bob", "ms"), "{line}");
    alice.tell("/nat");
    let local = alice.noted("* nat=unknown addr=LAN local=");
    assert_ne!(local.rsplit('=').next(), Some("0"));
    alice.tell("/help");
    alice.noted("* /quit");
    alice.tell("/frobnicate now");
    alice.noted("* there is no command /frobnicate");
    alice.tell(&"x".repeat(70_000));
    alice.noted("* not sent: ");
    alice.close();
    bob.noted("* alice left");
}

/// `echo hello | setowire-chat bob lobby`: the input ends before anybody is there.
#[test]
fn what_comes_from_a_pipe_waits_for_somebody_and_is_flushed() {
    let mut alice = Chat::start("alice lobby");
    let mut bob = Chat::start(&format!("bob lobby --linger 20 --dial {}", alice.addr()));
    for number in 0..100 {
        bob.tell(&format!("line {number}"));
    }
    bob.close();
    for number in 0..100 {
        assert_eq!(alice.said(), format!("bob\tline {number}"));
    }
    // The lingering one still listens.
    alice.tell("thanks");
    assert_eq!(bob.said(), "alice\tthanks");
    drop(bob);

    let mut carol = Chat::start(&format!("carol lobby --dial {}", alice.addr()));
    carol.tell("short visit");
    carol.close();
    assert_eq!(alice.said(), "carol\tshort visit");
    alice.noted("* carol left");
    assert!(carol.ended().0.success());
}

#[test]
fn nobody_comes() {
    let mut alone = Chat::start("alone lobby --linger 0.1");
    alone.tell("is anybody here?");
    alone.close();
    let (status, out, err) = alone.ended();
    assert!(status.success() && out.is_empty());
    assert!(err.contains(&"* nobody came: 1 message not delivered".to_owned()), "{err:?}");
    let mut empty = Chat::start("alone lobby");
    empty.close();
    assert!(empty.ended().0.success());
}

#[cfg(unix)]
#[test]
fn signals_leave_as_quit_does() {
    for name in ["INT", "TERM"] {
        let (alice, bob) = Chat::pair();
        alice.signal(name);
        bob.noted("* alice left");
        let (status, _, err) = alice.ended();
        assert_eq!((status.code(), err.last().unwrap().as_str()), (Some(0), "* left 1 peer"), "{name}");
    }
}

#[test]
fn three_people_hear_each_other_through_the_middle() {
    let (mut alice, mut bob) = Chat::pair();
    let mut carol = Chat::start(&format!("carol lobby --dial {}", bob.addr()));
    bob.noted("* carol joined");
    carol.noted("* bob joined");
    alice.tell("to everybody");
    assert_eq!(bob.said(), "alice\tto everybody");
    assert_eq!(carol.said(), "alice\tto everybody");
    carol.tell("from the far end");
    assert_eq!(alice.said(), "carol\tfrom the far end");
    assert_eq!(bob.said(), "carol\tfrom the far end");
    bob.close();
}
