use std::net::SocketAddr;

use crypto::Identity;
use framing::uri::{Host, PeerUri, UriError};
use proptest::prelude::*;

fn key() -> String {
    Identity::from_seed([1; 32]).peer_id().to_string()
}

fn parse(place: &str) -> Result<PeerUri, UriError> {
    format!("p2p://{}@{place}", key()).parse()
}

#[test]
fn addresses_and_names_round_trip() {
    for place in [
        "192.0.2.1:1",
        "[::1]:65535",
        "[2001:db8::7]:4242",
        "[::ffff:192.0.2.1]:9",
        "localhost:80",
        "a-b.example.org:4242",
        "xn--bcher-kva.example:4242",
        "_sip.example:1",
        "1.2.3.4.example:5",
    ] {
        let uri = parse(place).unwrap();
        assert_eq!(uri.to_string(), format!("p2p://{}@{place}", key()));
        assert_eq!(uri.peer, Identity::from_seed([1; 32]).peer_id());
        assert_eq!(uri.addr(), place.parse::<SocketAddr>().ok());
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }
}

#[test]
fn other_spellings_of_the_same() {
    let hex: String = Identity::from_seed([1; 32]).peer_id().as_bytes().iter().map(|b| format!("{b:02X}")).collect();
    let expected = parse("Example.org:7").unwrap();
    assert_eq!(expected.to_string(), format!("p2p://{}@example.org:7", key()));
    assert_eq!(format!("P2P://{hex}@EXAMPLE.org:7").parse(), Ok(expected.clone()));
    assert_eq!(format!("p2p://{}@example.org:7", key().to_uppercase()).parse(), Ok(expected.clone()));
    assert!(matches!(&expected.host, Host::Name(name) if name.as_str() == "example.org"));
    assert_eq!(expected.addr(), None);
    let long = parse("[2001:0DB8:0:0:0:0:0:7]:4").unwrap();
    assert_eq!(long.to_string(), format!("p2p://{}@[2001:db8::7]:4", key()));
    assert_eq!(PeerUri::new(long.peer, "[2001:db8::7]:4".parse().unwrap()), long);
}

#[test]
fn bad_ones_say_what_is_wrong() {
    let parse_all = |text: &str| text.parse::<PeerUri>().unwrap_err();
    for text in ["", "p2p:", "http://x@y:1", "p2p:/x", "\u{e4}\u{e4}\u{e4}\u{e4}", "p2p//x@h:1"] {
        assert_eq!(parse_all(text), UriError::Scheme, "{text}");
    }
    for text in ["p2p://", "p2p://abc", &format!("p2p://{}", key())] {
        assert_eq!(parse_all(text), UriError::NoKey, "{text}");
    }
    for text in ["p2p://@h:1", "p2p://abc@h:1", &format!("p2p://{}1@h:1", &key()[1..])] {
        assert!(matches!(parse_all(text), UriError::Key(_)), "{text}");
    }
    for place in ["", "host", "[::1]", "[::1]7", "1.2.3.4", "[::1"] {
        assert_eq!(parse(place), Err(UriError::NoPort), "{place}");
    }
    for place in [
        ":1",
        "1.2.3:1",
        "1.2.3.4.5:1",
        "256.1.1.1:1",
        "0x7f.1:1",
        "0x7f000001:1",
        "1234:1",
        "::1:1",
        "2001:db8::1:1",
        "[fe80::1%eth0]:1",
        "[1.2.3.4]:1",
        "[]:1",
        "a b:1",
        "a..b:1",
        "a.:1",
        ".a:1",
        "-a:1",
        "a-:1",
        "b\u{fc}cher:1",
        "a%2e:1",
        "user@host:1",
        "a/b:1",
        "127.1:1",
    ] {
        assert_eq!(parse(place), Err(UriError::Host), "{place}");
    }
    assert_eq!(parse(&format!("{}:1", "a".repeat(64))), Err(UriError::Host));
    assert!(parse(&format!("{}:1", "a".repeat(63))).is_ok());
    assert_eq!(parse(&format!("{}a:1", "a.".repeat(127))), Err(UriError::Host), "255 bytes");
    assert!(parse(&format!("{}a:1", "a.".repeat(126))).is_ok());
    for place in
        ["h:", "h:0", "h:00", "h:01", "h:+1", "h:-1", "h:65536", "h:1 ", "h: 1", "h:1/", "h:1?q", "h:1#f", "h:x"]
    {
        assert_eq!(parse(place), Err(UriError::Port), "{place}");
    }
    assert!(!UriError::Host.to_string().ends_with('.'));
}

proptest! {
    #[test]
    fn every_address_round_trips(addr: SocketAddr, port in 1..=u16::MAX) {
        let uri = PeerUri::new(Identity::from_seed([1; 32]).peer_id(), SocketAddr::new(addr.ip(), port));
        prop_assert_eq!(uri.to_string().parse(), Ok(uri));
    }

    #[test]
    fn no_text_panics_and_what_parses_round_trips(place in "\\PC{0,40}", host in "[a-z0-9.:\\[\\]@-]{0,20}", port in "[0-9]{0,6}") {
        let _ = parse(&place);
        if let Ok(uri) = parse(&format!("{host}:{port}")) {
            prop_assert_eq!(uri.to_string().parse(), Ok(uri));
        }
    }
}
