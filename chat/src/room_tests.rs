use super::*;

const V12_ID: &str = "abababababababababababababababababababab";

fn id(byte: u8) -> PeerId {
    PeerId::from_bytes([byte; 32])
}

/// As somebody called `me` who speaks both wires.
fn room() -> Room {
    Room::new("me", id(255), Some(V12_ID.into()))
}

fn native(from: u8, published: bool) -> Way {
    Way { from: id(from), security: Security::Native, authenticated: true, published }
}

fn v12(from: u8) -> Way {
    Way { from: id(from), security: Security::LegacyV12, authenticated: true, published: false }
}

fn message(nick: &str, v12_id: Option<&str>, kind: Kind) -> Message {
    Message { nick: nick.into(), v12_id: v12_id.map(str::to_owned), kind }
}

/// The notice that somebody's coming causes.
fn joins(room: &mut Room, byte: u8, nick: &str) -> Option<String> {
    room.insert(id(byte), Security::Native);
    room.hear(native(byte, false), message(nick, None, Kind::Join), b"").notice
}

fn says(room: &mut Room, way: Way, nick: &str, text: &str) -> Option<(String, String)> {
    room.hear(way, message(nick, None, Kind::Say(text.into())), text.as_bytes()).line
}

fn line(name: &str, text: &str) -> Option<(String, String)> {
    Some((name.to_owned(), text.to_owned()))
}

#[test]
fn two_of_one_nick_are_told_apart_by_their_keys() {
    let mut room = room();
    assert_eq!(joins(&mut room, 1, "bob").as_deref(), Some("bob joined"));
    assert_eq!(says(&mut room, native(1, true), "bob", "x"), line("bob", "x"));
    assert_eq!(joins(&mut room, 2, "bob").as_deref(), Some("bob#aiba joined"));
    assert_eq!(room.name(&id(1)), "bob#aeaq");
    // Ours counts too, and so does what looks like a mark.
    assert_eq!(joins(&mut room, 3, "me").as_deref(), Some("me#ambq joined"));
    assert_eq!(joins(&mut room, 4, "bob#aeaq").as_deref(), Some("bob#aeaq#aqca joined"));
    assert_eq!(joins(&mut room, 5, "eve@v12").as_deref(), Some("eve@v12#aucq joined"));
    let gone = room.remove(&id(2), DisconnectReason::Timeout);
    assert_eq!(gone.as_deref(), Some("bob#aiba disconnected (timed out)"));
    assert_eq!(room.name(&id(1)), "bob");
}

#[test]
fn ids_that_begin_alike_are_shown_as_far_as_they_differ() {
    let mut room = room();
    for last in [1, 2] {
        let mut bytes = [7; 32];
        bytes[4] = last;
        let alike = PeerId::from_bytes(bytes);
        room.insert(alike, Security::Native);
        let way = Way { from: alike, ..native(0, false) };
        room.hear(way, message("bob", None, Kind::Join), b"");
    }
    let names: Vec<String> = room.people.keys().map(|id| room.name(id)).collect();
    assert!(names[0].len() > "bob#abcd".len() && names[0] != names[1], "{names:?}");
}

#[test]
fn natives_speak_for_themselves_alone() {
    let mut room = room();
    // What was said is heard before the greeting, which travels in a channel of its own.
    room.insert(id(1), Security::Native);
    let said = room.hear(native(1, true), message("bob", None, Kind::Say("x".into())), b"1");
    assert_eq!((said.notice.as_deref(), said.line), (Some("bob joined"), line("bob", "x")));
    assert_eq!(room.hear(native(1, false), message("bob", None, Kind::Join), b""), Heard::default());
    let renamed = room.hear(native(1, false), message("rob", None, Kind::Join), b"");
    assert_eq!(renamed.notice.as_deref(), Some("bob is now rob"));
    // For one alone, and for all: each only the way it should come.
    let direct = |kind| message("rob", None, kind);
    assert_eq!(room.hear(native(1, false), direct(Kind::Direct("y".into())), b"2").line, line("rob", "[dm] y"));
    assert!(room.hear(native(1, true), direct(Kind::Direct("y".into())), b"3").junk);
    assert!(room.hear(native(1, false), direct(Kind::Say("y".into())), b"4").junk);
    // Nobody is heard who is not here, or not any more.
    assert_eq!(says(&mut room, native(9, true), "eve", "z"), None);
    assert_eq!((room.len(), room.natives()), (1, 1));
    let left = room.hear(native(1, true), message("rob", None, Kind::Leave), b"");
    assert_eq!(left.notice.as_deref(), Some("rob left"));
    assert_eq!((room.len(), room.natives(), room.is_empty()), (0, 0, false));
    assert_eq!(room.hear(native(1, false), message("rob", None, Kind::Join), b""), Heard::default());
    assert_eq!(room.remove(&id(1), DisconnectReason::Closed(0)), None, "told already");
}

#[test]
fn on_the_other_wire_everything_has_a_mark() {
    let mut room = room();
    room.insert(id(1), Security::LegacyV12);
    let heard = room.hear(v12(1), message("bob", None, Kind::Join), b"");
    assert_eq!((heard.notice.as_deref(), heard.greet), (Some("bob joined (v12)"), true));
    assert_eq!(room.hear(v12(1), message("bob", None, Kind::Join), b""), Heard::default());
    assert_eq!(joins(&mut room, 2, "bob").as_deref(), Some("bob joined"), "another one, natively");
    assert_eq!(says(&mut room, v12(1), "bob", "x"), line("bob@v12", "x"));
    let plain = Way { authenticated: false, ..v12(1) };
    assert_eq!(says(&mut room, plain, "bob", "y"), line("bob@v12", "y (not authenticated)"));
    // Passed on by bob.
    let carol = room.hear(plain, message("carol", Some(&"c".repeat(40)), Kind::Join), b"");
    assert_eq!((carol.notice.as_deref(), carol.greet), (Some("carol joined (v12, not authenticated)"), false));
    assert!(room.hear(v12(1), message("bob", None, Kind::Direct("z".into())), b"").junk);
    // Our own, come back.
    assert_eq!(room.hear(v12(1), message("me", Some(V12_ID), Kind::Say("x".into())), b"me"), Heard::default());
    let gone = room.hear(v12(1), message("carol", None, Kind::Leave), b"");
    assert_eq!(gone.notice.as_deref(), Some("carol left (v12)"));
    let gone = room.remove(&id(1), DisconnectReason::Timeout);
    assert_eq!(gone.as_deref(), Some("bob@v12 disconnected (timed out)"));
}

#[test]
fn somebody_on_both_wires_is_one_person() {
    let own = id(1).v12_id().to_string();
    // The old wire first.
    let mut both = room();
    both.insert(id(1), Security::LegacyV12);
    both.hear(v12(1), message("bob", Some(&own), Kind::Join), b"");
    both.insert(id(2), Security::Native);
    assert_eq!(both.remove(&id(1), DisconnectReason::Local), None);
    let native_join = message("bob", Some(&own), Kind::Join);
    let heard = both.hear(native(2, false), native_join.clone(), b"");
    assert_eq!(heard.notice.as_deref(), Some("bob is here natively"));
    // What comes by both is shown once, whichever is first.
    assert_eq!(says(&mut both, native(2, true), "bob", "one"), line("bob", "one"));
    assert_eq!(says(&mut both, v12(3), "bob", "one"), None);
    assert_eq!(says(&mut both, v12(3), "bob", "two"), line("bob@v12", "two"));
    assert_eq!(says(&mut both, native(2, true), "bob", "two"), None);

    // The native wire first: his coming and going on the other one is not told.
    let mut both = room();
    both.insert(id(2), Security::Native);
    both.hear(native(2, false), native_join, b"");
    for kind in [Kind::Join, Kind::Leave] {
        assert_eq!(both.hear(v12(3), message("bob", Some(&own), kind), b"").notice, None);
    }
    assert!(both.hear(v12(3), message("carol", Some(&"c".repeat(40)), Kind::Join), b"").notice.is_some());
}

#[test]
fn one_person_is_found_by_name_nick_or_id() {
    let mut room = room();
    joins(&mut room, 1, "bob");
    joins(&mut room, 2, "bob");
    joins(&mut room, 3, "bob the builder");
    joins(&mut room, 4, "carol");
    assert_eq!(room.find("carol  hello there "), Ok((id(4), "hello there")));
    assert_eq!(room.find("bob#aiba x"), Ok((id(2), "x")));
    assert_eq!(room.find("bob the builder x"), Ok((id(3), "x")));
    assert_eq!(room.find(&format!("{} x", id(1))), Ok((id(1), "x")));
    assert_eq!(room.find(&format!("{} x", id(1).short())), Ok((id(1), "x")));
    let why = room.find("bob x").unwrap_err();
    assert!(why.contains("bob#aeaq, bob#aiba"), "{why}");
    for nobody in ["", "dave x", "carol", "carolx y"] {
        assert!(room.find(nobody).unwrap_err().contains("/msg NICK TEXT"), "{nobody}");
    }
    room.insert(id(5), Security::LegacyV12);
    room.hear(v12(5), message("dora", None, Kind::Join), b"");
    assert!(room.find("dora x").unwrap_err().contains("v12"));
}

#[test]
fn a_neighbour_introduces_only_so_many() {
    let mut room = room();
    joins(&mut room, 1, "bob");
    joins(&mut room, 2, "carol");
    let addr = SocketAddr::from(([192, 0, 2, 1], 7));
    let others = |ids: std::ops::RangeInclusive<u8>| ids.map(|byte| (id(byte), addr)).collect::<Vec<_>>();
    // Those who are here and we ourselves are not strangers.
    let mut list = others(1..=4);
    list.push((id(255), addr));
    let heard = room.hear(native(1, false), message("bob", None, Kind::Meet(list.clone())), b"");
    assert_eq!(heard.meet, others(3..=4));
    assert!(room.hear(native(1, true), message("bob", None, Kind::Meet(list.clone())), b"").junk);
    assert!(room.hear(v12(1), message("bob", None, Kind::Meet(list)), b"").junk);
    for (ids, expected) in [(10..=39, 30), (40..=89, 32), (90..=99, 0)] {
        let heard = room.hear(native(1, false), message("bob", None, Kind::Meet(others(ids))), b"");
        assert_eq!(heard.meet.len(), expected);
    }
    let heard = room.hear(native(2, false), message("carol", None, Kind::Meet(others(10..=19))), b"");
    assert_eq!(heard.meet.len(), 10);
}
