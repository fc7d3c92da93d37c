//! Meeting at a server that knows nothing.

use crypto::Seed;
use crypto::rendezvous::{MAX_BODY, MAX_TEXT, Meeting, Rendezvous, TooLong};
use data_encoding::HEXLOWER;

fn lobby() -> Rendezvous {
    Rendezvous::new(Meeting::Topic, &[1; 32], 20_000)
}

/// Computed by the HMAC of Python's standard library.
#[test]
fn names_are_those_of_the_specification() {
    let place = lobby();
    assert_eq!(HEXLOWER.encode(place.name()), "48886802260d7aa01cf480a1777e4692e182de6e029a9ca8c294393b3b8f0dae");
    assert_eq!(
        HEXLOWER.encode(&place.inbox(&[2; 32])),
        "99f29bfdf7e64345d6809b2cd48fdecba5732d500288787f4607f26e0afcd85c"
    );
    assert_eq!(HEXLOWER.encode(&place.slot(&[3; 32])), "d8ae74d95c6a24a39dfc52c23fedaa4b");
    let peer = Rendezvous::new(Meeting::Peer, &[1; 32], 20_000);
    assert_eq!(HEXLOWER.encode(peer.name()), "429c4c974942b0eaf72cc6476f414d8466d771d457470c48f5bb9572d9631235");
    assert_ne!(Rendezvous::new(Meeting::Topic, &[1; 32], 20_001).name(), place.name());
}

#[test]
fn who_knows_the_secret_reads_what_lies_there() {
    let (place, mut rng) = (lobby(), Seed::from_bytes([7; 32]).rng());
    for (len, sealed) in [(0, 296), (254, 296), (255, 552), (510, 552), (511, MAX_BODY), (MAX_TEXT, MAX_BODY)] {
        let text = vec![9; len];
        let mut body = place.seal(place.name(), &text, &mut rng).unwrap();
        assert_eq!(body.len(), sealed);
        assert_eq!(lobby().open(place.name(), &mut body), Some(&text[..]));
    }
    assert_eq!(place.seal(place.name(), &[0; MAX_TEXT + 1], &mut rng), Err(TooLong));
}

#[test]
fn nobody_else_does_and_nothing_can_be_moved_or_changed() {
    let (place, mut rng) = (lobby(), Seed::from_bytes([7; 32]).rng());
    let body = place.seal(place.name(), b"here", &mut rng).unwrap();
    let open = |place: &Rendezvous, at: &[u8; 32], mut body: Vec<u8>| place.open(at, &mut body).is_some();
    assert!(open(&place, place.name(), body.clone()));
    assert!(!open(&place, &place.inbox(&[2; 32]), body.clone()));
    for other in [
        Rendezvous::new(Meeting::Peer, &[1; 32], 20_000),
        Rendezvous::new(Meeting::Topic, &[2; 32], 20_000),
        Rendezvous::new(Meeting::Topic, &[1; 32], 20_001),
    ] {
        assert!(!open(&other, place.name(), body.clone()));
    }
    for at in [0, 24, 100, body.len() - 1] {
        let mut changed = body.clone();
        changed[at] ^= 1;
        assert!(!open(&place, place.name(), changed));
    }
    for len in [0, 23, 24, 40, 41, 295] {
        assert!(!open(&place, place.name(), body[..len].to_vec()));
    }
}
