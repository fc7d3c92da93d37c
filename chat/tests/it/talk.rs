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
    let (id, addr) = (words[1].len(), words[6].starts_with("127.0.0.1:"));
    assert_eq!((words.len(), id, words[2], words[4], words[5], addr), (7, 10, "bob", "ms", "native", true), "{line}");
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
    // A script that says something has to notice that nobody was told, without reading notices.
    assert!(status.code() == Some(1) && out.is_empty(), "{status}");
    assert!(err.contains(&"* nobody came: 1 message not delivered".to_owned()), "{err:?}");
    let mut empty = Chat::start("alone lobby");
    empty.close();
    assert!(empty.ended().0.success());
}

/// `echo hello | setowire-chat bob lobby --dial HOST:PORT`, where nobody answers.
#[test]
fn what_is_said_to_a_dead_address_alone_is_a_failure() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut bob = Chat::start(&format!("bob lobby --linger 0.5 --dial {}", silent.local_addr().unwrap()));
    bob.tell("hello");
    bob.close();
    let (status, out, err) = bob.ended();
    assert!(status.code() == Some(1) && out.is_empty(), "{status}");
    assert!(err.contains(&"* nobody came: 1 message not delivered".to_owned()), "{err:?}");
    // Who says nothing fails at nothing, and who leaves knows what he leaves.
    let mut quiet = Chat::start(&format!("bob lobby --linger 0.5 --dial {}", silent.local_addr().unwrap()));
    quiet.close();
    assert!(quiet.ended().0.success());
    let mut leaving = Chat::start(&format!("bob lobby --dial {}", silent.local_addr().unwrap()));
    leaving.tell("hello");
    leaving.tell("/quit");
    assert!(leaving.ended().0.success());
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
fn three_people_hear_each_other_though_two_know_one_only() {
    let (mut alice, mut bob) = Chat::pair();
    let mut carol = Chat::start(&format!("carol lobby --dial {}", bob.addr()));
    // Bob introduces them.
    for one in [&mut alice, &mut bob, &mut carol] {
        one.peers(2);
    }
    alice.tell("to everybody");
    assert_eq!(bob.said(), "alice\tto everybody");
    assert_eq!(carol.said(), "alice\tto everybody");
    carol.tell("from the far end");
    assert_eq!(alice.said(), "carol\tfrom the far end");
    assert_eq!(bob.said(), "carol\tfrom the far end");
    bob.close();
}

#[test]
fn something_is_said_to_one_person_alone() {
    let (mut alice, bob) = Chat::pair();
    let mut carol = Chat::start(&format!("carol lobby --dial {}", bob.addr()));
    for one in [&mut alice, &mut carol] {
        one.peers(2);
    }
    alice.tell("/msg carol  between us ");
    assert_eq!(carol.said(), "alice\t[dm] between us");
    alice.tell("to all");
    // What bob hears first is not what was said to carol.
    assert_eq!([bob.said(), carol.said()], ["alice\tto all", "alice\tto all"]);
    for wrong in ["/msg", "/msg dave hello", "/msg carol"] {
        alice.tell(wrong);
        alice.noted("* write /msg NICK TEXT");
    }
}

#[test]
fn two_of_one_nick_are_told_apart() {
    let (mut alice, bob) = Chat::pair();
    let id = alice.uri();
    let id = id.strip_prefix("p2p://").unwrap();
    let mut other = Chat::start(&format!("alice lobby --dial {}", alice.addr()));
    // Each of them has the other's nick for its own.
    alice.noted("* alice#");
    let seen = other.noted("* alice#");
    assert_eq!(seen, format!("* alice#{} joined", &id[..4]));
    let joined = bob.noted("* alice#");
    let name = joined.strip_prefix("* ").unwrap().strip_suffix(" joined").unwrap();
    other.tell("it is me");
    assert_eq!(bob.said(), format!("{name}\tit is me"));
    alice.tell("no, me");
    assert_eq!(bob.said(), format!("alice#{}\tno, me", &id[..4]));
    other.tell("/quit");
    bob.noted(&format!("* {name} left"));
    alice.noted("* alice#");
    alice.tell("again");
    // The mark goes with the session of the other one, which ends a little later.
    assert!(bob.said().ends_with("\tagain"));
}

#[test]
fn who_is_dialled_by_key_is_nobody_else() {
    let alice = Chat::start("alice lobby");
    alice.addr();
    let uri = alice.uri();
    let bob = Chat::start(&format!("bob lobby --dial {uri}"));
    bob.noted("* alice joined");
    let (_, place) = uri.split_once('@').unwrap();
    let other = bob.uri();
    let (wrong, _) = other.split_once('@').unwrap();
    let carol = Chat::start(&format!("carol lobby --peer {wrong}@{place}"));
    let told = carol.noted("* could not reach");
    assert!(told.contains(place) && told.contains("again"), "{told}");
    // Nobody joined.
    carol.signal("TERM");
    assert_eq!(carol.noted("* left "), "* left 0 peers");
}

#[test]
fn a_ticket_leads_into_the_room() {
    let mut alice = Chat::start("alice lobby");
    alice.tell("/invite");
    let told = alice.noted("* whoever has this comes here by ");
    let ticket = told.rsplit(' ').next().unwrap().trim_end_matches('`').to_owned();
    assert!(ticket.starts_with("seto1"), "{told}");
    let mut bob = Chat::start(&format!("bob {ticket}"));
    bob.noted("* alice joined");
    bob.tell("thank you");
    assert_eq!(alice.said(), "bob\tthank you");
    // As an address it leads to her alone.
    let carol = Chat::start(&format!("carol lobby --dial {ticket}"));
    carol.noted("* alice joined");
}

#[test]
fn two_people_talk_over_ipv6() {
    let spawn = |options: &str| {
        let mut command = std::process::Command::new(crate::program::BINARY);
        command.args(["--no-lan", "--bind", "[::1]:0"]).args(options.split(' '));
        Chat::spawn(command)
    };
    let alice = spawn("alice lobby");
    let mut bob = spawn(&format!("bob lobby --dial {}", alice.uri()));
    bob.noted("* alice joined");
    bob.tell("six");
    assert_eq!(alice.said(), "bob\tsix");
}
