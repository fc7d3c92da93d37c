use std::net::SocketAddr;
use std::sync::Arc;

use crypto::Seed;
use crypto::envelope::NodeKey;
use dht::message::{self, Answer, Echo, Front, Message, Outcome, Refused, Request, Transaction};
use dht::{Contact, Family, Key, Kind, NodeId, Token};
use framing::DecodeError;
use proptest::prelude::*;

fn v4(ip: u32, port: u16) -> SocketAddr {
    (ip.to_be_bytes(), port).into()
}

fn contacts(family: Family) -> impl Strategy<Value = Vec<Contact>> {
    let v4 = (any::<[u8; 32]>(), 1_u8..224, any::<u16>(), 1_u16..);
    let contact = v4.prop_map(move |(id, a, low, port)| {
        let [c, d] = low.to_be_bytes();
        let addr = match family {
            Family::V4 => ([a, 1, c, d], port).into(),
            Family::V6 => ([0x2600, a.into(), 0, 0, 0, 0, low, 1], port).into(),
        };
        Contact { id: NodeId::from_bytes(id), addr }
    });
    proptest::collection::vec(contact, 0..=20)
}

fn bytes(most: usize) -> impl Strategy<Value = Arc<[u8]>> {
    proptest::collection::vec(any::<u8>(), 0..=most).prop_map(Arc::from)
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Value), Just(Kind::Signed), Just(Kind::Peer)]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let announcements = proptest::collection::vec(bytes(300), 0..5);
    let peers = (any::<u16>(), any::<u32>(), announcements, contacts(Family::V4))
        .prop_map(|(total, next, announcements, nodes)| Outcome::Peers { total, next, announcements, nodes });
    prop_oneof![
        peers,
        (bytes(1072), contacts(Family::V6)).prop_map(|(item, nodes)| Outcome::Item { item, nodes }),
        (any::<u32>(), contacts(Family::V4)).prop_map(|(seconds, nodes)| Outcome::Stored { seconds, nodes }),
        Just(Outcome::Pong),
        contacts(Family::V4).prop_map(Outcome::Nodes),
        contacts(Family::V6).prop_map(Outcome::Nodes),
        Just(Outcome::Refused(Refused::Unknown)),
        any::<u8>().prop_map(|code| Outcome::Refused(Refused::of(code))),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let find = (any::<[u8; 32]>(), family)
        .prop_map(|(target, family)| Request::Find { target: Key::from_bytes(target), family });
    let key = any::<[u8; 32]>().prop_map(Key::from_bytes);
    let some = prop_oneof![Just(None), Just(Some(Family::V4)), Just(Some(Family::V6))];
    let peers = (key.clone(), some.clone(), any::<u32>()).prop_map(|(key, family, start)| Request::Peers {
        key,
        family,
        start,
    });
    let get = (kinds(), key.clone(), prop_oneof![Just(Family::V4), Just(Family::V6)])
        .prop_map(|(kind, key, family)| Request::Get { kind, key, family });
    let announce = (key, bytes(400), some.clone()).prop_map(|(key, announcement, family)| Request::Announce {
        key,
        announcement,
        family,
    });
    let put = (kinds(), bytes(1100), some.clone()).prop_map(|(kind, item, family)| Request::Put { kind, item, family });
    let request = prop_oneof![Just(Request::Ping), find, peers, get, announce, put];
    let answer = (any::<[u8; 8]>(), any::<u32>(), any::<u16>(), outcomes()).prop_map(|(token, ip, port, outcome)| {
        Answer { token: Token::from_bytes(token), observed: v4(ip, port), outcome }
    });
    let transaction = any::<[u8; 8]>().prop_map(Transaction);
    prop_oneof![
        (transaction.clone(), request).prop_map(|(transaction, request)| Message::Request(transaction, request)),
        transaction.clone().prop_map(Message::UnknownRequest),
        (transaction, answer).prop_map(|(transaction, answer)| Message::Answer(transaction, answer)),
    ]
}

/// What SPEC 11.2 says a node must have for it.
fn fronts() -> [(Front, usize); 3] {
    let (echo, sender, token) = (Echo([1; 8]), NodeId::from_bytes([2; 32]), Token::from_bytes([3; 8]));
    [
        (Front::Hello { echo, sender }, 64),
        (Front::Welcome { echo, sender, token }, 50),
        (Front::Retry { echo, token }, 18),
    ]
}

proptest! {
    #![proptest_config(crate::cases(256))]

    #[test]
    fn bodies_are_read_as_they_were_written(message in messages(), least in 0_usize..1300) {
        let body = message.encode(least, usize::MAX);
        prop_assert!(body.len() >= least);
        prop_assert_eq!(Message::decode(&body), Ok(message.clone()));
        let bare = message.encode(0, usize::MAX);
        prop_assert_eq!(&body[..bare.len()], &bare[..], "padding stands behind");
        prop_assert!(body[bare.len()..].iter().all(|byte| *byte == 0));
        for len in 0..bare.len() {
            let end = Message::decode(&bare[..len]);
            prop_assert_eq!(end, Err(DecodeError::Truncated), "{} of {} bytes", len, bare.len());
        }
    }

    #[test]
    fn answers_keep_to_their_room(nodes in contacts(Family::V4), most in 36_usize..1100) {
        let answer = Answer { token: Token::NONE, observed: v4(1, 1), outcome: Outcome::Nodes(nodes.clone()) };
        let body = Message::Answer(Transaction([0; 8]), answer).encode(0, most);
        prop_assert!(body.len() <= most);
        let Ok(Message::Answer(_, Answer { outcome: Outcome::Nodes(some), .. })) = Message::decode(&body) else {
            panic!("{body:?}");
        };
        prop_assert_eq!(&some[..], &nodes[..some.len()], "the closest are kept");
        prop_assert!(some.len() == nodes.len() || body.len() + 50 > most, "as many as fit");
    }

    #[test]
    fn any_bytes_are_a_message_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..1200), kind in 0xd6_u8..0xde) {
        let _ = Message::decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let known = (0xd8..=0xdb).contains(&kind);
        prop_assert!(known || Front::decode(&bytes).is_err());
    }

    #[test]
    fn a_changed_message_is_another_one_or_none(message in messages(), at: prop::sample::Index, bit in 0_u8..8) {
        let mut body = message.encode(0, usize::MAX);
        let at = at.index(body.len());
        body[at] ^= 1 << bit;
        // All types that are not known are one.
        if at != 8 || !matches!(message, Message::UnknownRequest(_)) {
            prop_assert_ne!(Message::decode(&body), Ok(message), "byte {}", at);
        }
    }
}

#[test]
fn fronts_are_as_specified() {
    for (front, len) in fronts() {
        let bytes = front.encode();
        assert_eq!(bytes.len(), len);
        assert_eq!(Front::decode(&bytes), Ok(front));
        for short in 1..len {
            assert_eq!(Front::decode(&bytes[..short]), Err(DecodeError::Truncated), "{front:?} of {short}");
        }
        let mut later = [bytes.as_slice(), b"of a later version"].concat();
        later[1] = 0x55;
        assert_eq!(Front::decode(&later), Ok(front), "flags and what stands behind are passed over");
    }
    assert_eq!(Front::decode(&[]), Err(DecodeError::Empty));
    assert_eq!(Front::decode(&[0xdc; 100]), Err(DecodeError::UnknownKind(0xdc)));
    let [(hello, _), (welcome, _), (retry, _)] = fronts();
    let zeros = [0; 22];
    assert_eq!(hello.encode(), [&[0xd9, 0], &[1; 8][..], &[2; 32], &zeros].concat());
    assert_eq!(welcome.encode(), [&[0xda, 0], &[1; 8][..], &[2; 32], &[3; 8]].concat());
    assert_eq!(retry.encode(), [&[0xdb, 0], &[1; 8][..], &[3; 8]].concat());
}

#[test]
fn bodies_are_as_specified() {
    let transaction = Transaction([9; 8]);
    let encode = |message: Message| message.encode(0, usize::MAX);
    assert_eq!(encode(Message::Request(transaction, Request::Ping)), [&[9; 8][..], &[0]].concat());
    let find = Request::Find { target: Key::from_bytes([4; 32]), family: Family::V6 };
    assert_eq!(encode(Message::Request(transaction, find.clone())), [&[9; 8][..], &[1], &[4; 32], &[6]].concat());
    let key = Key::from_bytes([4; 32]);
    let request = |request| encode(Message::Request(transaction, request))[8..].to_vec();
    let peers = Request::Peers { key, family: None, start: 0x0102_0304 };
    assert_eq!(request(peers), [&[2][..], &[4; 32], &[0, 1, 2, 3, 4]].concat());
    let get = Request::Get { kind: Kind::Signed, key, family: Family::V4 };
    assert_eq!(request(get), [&[3, 2][..], &[4; 32], &[4]].concat());
    let announce = |family| Request::Announce { key, announcement: Arc::from([7; 3]), family };
    assert_eq!(request(announce(None)), [&[4][..], &[4; 32], &[0, 3, 7, 7, 7, 0]].concat());
    assert_eq!(request(announce(Some(Family::V6))), [&[4][..], &[4; 32], &[0, 3, 7, 7, 7, 6]].concat());
    let put = |family| Request::Put { kind: Kind::Peer, item: Arc::from([7; 300]), family };
    assert_eq!(request(put(None))[..5], [5, 3, 1, 44, 7]);
    assert_eq!(request(put(Some(Family::V4)))[303..], [7, 4]);
    let contact = Contact { id: NodeId::from_bytes([5; 32]), addr: v4(0x0801_0203, 0x1234) };
    let mapped = |ip: [u8; 4], port: [u8; 2]| [&[0; 10][..], &[0xff; 2], &ip, &port].concat();
    let front = [&[9; 8][..], &[0x81], &[7; 8], &mapped([1, 2, 3, 4], [0, 80])].concat();
    let answer = |outcome| {
        let answer = Answer { token: Token::from_bytes([7; 8]), observed: v4(0x0102_0304, 80), outcome };
        encode(Message::Answer(transaction, answer))
    };
    let nodes = answer(Outcome::Nodes(vec![contact]));
    assert_eq!(nodes, [&front[..], &[1], &[5; 32], &mapped([8, 1, 2, 3], [0x12, 0x34])].concat());
    let with_type = |kind: u8| [&front[..8], &[kind], &front[9..]].concat();
    assert_eq!(answer(Outcome::Pong), with_type(0x80));
    assert_eq!(answer(Outcome::Refused(Refused::Unknown)), [&with_type(0xff)[..], &[0]].concat());

    let one = || vec![contact];
    let stands_behind = |body: Vec<u8>, kind, fields: &[u8]| {
        assert_eq!(body, [&with_type(kind)[..], fields, &nodes[35..]].concat());
    };
    let announcements = vec![Arc::from([7; 2])];
    let peers = Outcome::Peers { total: 5, next: 0x0102_0304, announcements, nodes: one() };
    stands_behind(answer(peers), 0x82, &[0, 5, 1, 2, 3, 4, 1, 0, 2, 7, 7]);
    stands_behind(answer(Outcome::Item { item: Arc::from([7; 2]), nodes: one() }), 0x83, &[0, 2, 7, 7]);
    assert_eq!(
        answer(Outcome::Stored { seconds: 7200, nodes: Vec::new() }),
        [&with_type(0x84)[..], &[0, 0, 28, 32, 0]].concat()
    );
    stands_behind(answer(Outcome::Stored { seconds: 7200, nodes: one() }), 0x84, &[0, 0, 28, 32]);
    for code in 0..9 {
        assert_eq!(answer(Outcome::Refused(Refused::of(code))), [&with_type(0xff)[..], &[code]].concat());
    }

    let refused = |edit: fn(&mut Vec<u8>)| {
        let mut body = nodes.clone();
        edit(&mut body);
        Message::decode(&body).unwrap_err()
    };
    assert_eq!(refused(|body| body[35] = 21), DecodeError::TooLong { len: 21, max: 20 });
    assert_eq!(refused(|body| body[35] = 2), DecodeError::Truncated);
    assert_eq!(refused(|body| body[84..86].fill(0)), DecodeError::BadAddress);
    assert_eq!(refused(|body| body[8] = 0x85), DecodeError::UnknownFrame(0x85));
    let mut mixed = nodes.clone();
    mixed[35] = 2;
    mixed.extend_from_slice(&[&[5; 32][..], &[0x26; 16], &[0, 9]].concat());
    assert_eq!(Message::decode(&mixed), Err(DecodeError::BadAddress), "of two families");
    let mut find = encode(Message::Request(transaction, find));
    find[41] = 5;
    assert_eq!(Message::decode(&find), Err(DecodeError::OutOfRange));
    find[8] = 0x33;
    assert_eq!(Message::decode(&find), Ok(Message::UnknownRequest(transaction)), "to be refused, not ignored");
}

#[test]
fn only_the_other_node_can_read_or_change_a_sealed_datagram() {
    let mut rng = Seed::fixed(1).rng();
    let [a, b, c] = [(); 3].map(|()| NodeKey::generate(&mut rng));
    let id = NodeId::from_bytes(*a.public());
    let from_a = a.shared_with(b.public()).unwrap();
    let to_b = b.shared_with(a.public()).unwrap();
    let body = Message::Request(Transaction([9; 8]), Request::Ping).encode(36, 36);
    let sealed = message::seal(&from_a, id, Token::from_bytes([6; 8]), &body, &mut rng).unwrap();
    assert_eq!(sealed.len(), 82 + 36);
    assert_eq!(sealed[..42], [&[0xd8, 0], &id.as_bytes()[..], &[6; 8]].concat());
    let front = Front::decode(&sealed).unwrap();
    let echo = Echo(sealed[42..50].try_into().unwrap());
    assert_eq!(front, Front::Sealed { sender: id, token: Token::from_bytes([6; 8]), echo, client: false });

    assert_eq!(message::open(&to_b, &mut sealed.clone()).unwrap(), &body);
    assert!(message::open(&from_a, &mut sealed.clone()).is_err(), "not back to its sender");
    assert!(message::open(&c.shared_with(a.public()).unwrap(), &mut sealed.clone()).is_err());
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(message::open(&to_b, &mut changed).is_err(), "bit {bit}");
    }
    for len in 0..sealed.len() {
        assert!(message::open(&to_b, &mut sealed.clone()[..len]).is_err(), "{len} bytes");
        assert!(len >= 91 || Front::decode(&sealed[..len]).is_err(), "no room for a body in {len} bytes");
    }
}

#[test]
fn no_answer_is_longer_than_the_padded_request() {
    let nodes = vec![Contact { id: NodeId::from_bytes([5; 32]), addr: v4(0x0801_0203, 1) }; 20];
    let find = Request::Find { target: Key::from_bytes([4; 32]), family: Family::V4 };
    for (request, outcome) in [(Request::Ping, Outcome::Pong), (find, Outcome::Nodes(nodes))] {
        for outcome in [outcome, Outcome::Refused(Refused::Unknown)] {
            let answer = Answer { token: Token::NONE, observed: v4(1, 1), outcome };
            let answer = Message::Answer(Transaction([0; 8]), answer).encode(0, usize::MAX);
            assert!(answer.len() <= request.padded_len());
            assert!(82 + answer.len() <= 1200);
        }
    }
}
