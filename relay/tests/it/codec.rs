//! The control messages and vouchers: layouts, additions, noise.

use std::net::SocketAddr;
use std::time::Duration;

use crypto::{Identity, PeerId};
use framing::DecodeError;
use framing::voucher::Voucher;
use proptest::collection::vec;
use proptest::prelude::*;
use relay::message::{Message, Notice, Request};
use relay::{CircuitId, Code};

fn peer() -> impl Strategy<Value = PeerId> {
    any::<u8>().prop_map(|number| Identity::from_seed([number; 32]).peer_id())
}

fn circuit() -> impl Strategy<Value = CircuitId> {
    any::<[u8; 8]>().prop_map(CircuitId::from_bytes)
}

fn addr() -> impl Strategy<Value = Option<SocketAddr>> {
    let v4 = (1..=223u8, any::<[u8; 3]>(), 1..=u16::MAX).prop_map(|(a, [b, c, d], port)| ([a, b, c, d], port).into());
    let v6 = (any::<[u16; 7]>(), 1..=u16::MAX)
        .prop_map(|([b, c, d, e, f, g, h], port)| SocketAddr::from(([0x2001, b, c, d, e, f, g, h], port)));
    prop_oneof![v4.prop_map(Some), v6.prop_map(Some), Just(None)]
}

fn named() -> impl Strategy<Value = SocketAddr> {
    addr().prop_filter_map("no address", |addr| addr)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any::<bool>().prop_map(|show| Request::Reserve { show }),
        Just(Request::Release),
        (any::<u32>(), any::<bool>(), peer()).prop_map(|(request, show, target)| Request::Connect {
            request,
            show,
            target
        }),
        (circuit(), any::<u8>()).prop_map(|(circuit, code)| Request::Close { circuit, code: Code(code) }),
        any::<[u8; 8]>().prop_map(Request::Ping),
    ]
}

fn notice() -> impl Strategy<Value = Notice> {
    let seconds = || any::<u32>().prop_map(|seconds| Duration::from_secs(seconds.into()));
    prop_oneof![
        (seconds(), any::<u32>(), vec(any::<u8>(), 0..=220)).prop_map(|(lifetime, rate, voucher)| Notice::Reserved {
            lifetime,
            rate,
            voucher
        }),
        (any::<u8>(), seconds()).prop_map(|(code, wait)| Notice::Refused { code: Code(code), wait }),
        (any::<u32>(), circuit(), addr()).prop_map(|(request, circuit, addr)| Notice::Opened {
            request,
            circuit,
            addr
        }),
        (any::<u32>(), any::<u8>()).prop_map(|(request, code)| Notice::NotOpened { request, code: Code(code) }),
        (circuit(), peer(), addr()).prop_map(|(circuit, peer, addr)| Notice::Incoming { circuit, peer, addr }),
        (circuit(), any::<u8>()).prop_map(|(circuit, code)| Notice::Closed { circuit, code: Code(code) }),
        any::<[u8; 8]>().prop_map(Notice::Pong),
        vec((peer(), named()), 0..=8).prop_map(Notice::Relays),
        vec((peer(), named()), 0..=8).prop_map(Notice::Places),
    ]
}

fn message() -> impl Strategy<Value = (Message, Vec<u8>)> {
    prop_oneof![
        request().prop_map(|request| (Message::Request(request), request.encode())),
        notice().prop_map(|notice| {
            let bytes = notice.encode();
            (Message::Notice(notice), bytes)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read((message, bytes) in message(), more in vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(Message::decode(&bytes), Ok(Some(message.clone())));
        // What a later version adds behind the fields is not looked at.
        let longer = [bytes.clone(), more].concat();
        prop_assert_eq!(Message::decode(&longer), Ok(Some(message)));
        for len in 1..bytes.len() {
            prop_assert_eq!(Message::decode(bytes.get(..len).unwrap()), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn noise_is_taken_or_refused(bytes in vec(any::<u8>(), 0..600)) {
        let decoded = Message::decode(&bytes);
        prop_assert!(bytes.len() <= 512 || decoded.is_err());
    }

    #[test]
    fn no_bit_of_a_voucher_can_change(bit in 0..1400usize, addrs in vec(addr(), 0..=4)) {
        let relay = Identity::from_seed([9; 32]);
        let client = Identity::from_seed([1; 32]).peer_id();
        let addrs: Vec<SocketAddr> = addrs.into_iter().flatten().collect();
        let voucher = Voucher::sign(&relay, client, Duration::from_secs(1_700_003_600), &addrs).unwrap();
        prop_assert!(voucher.as_bytes().len() <= 220);
        let read = Voucher::decode(voucher.as_bytes()).unwrap();
        prop_assert_eq!(&read, &voucher);
        prop_assert_eq!(read.addresses().collect::<Vec<_>>(), addrs);
        prop_assert_eq!((read.relay(), read.client()), (relay.peer_id(), client));
        let mut bytes = voucher.as_bytes().to_vec();
        let at = (bit / 8) % bytes.len();
        bytes[at] ^= 1 << (bit % 8);
        prop_assert!(Voucher::decode(&bytes).is_err());
    }
}

#[test]
fn the_layouts() {
    let id = Identity::from_seed([1; 32]).peer_id();
    let circuit = CircuitId::from_bytes([7; 8]);
    let addr: SocketAddr = ([192, 0, 2, 1], 4000).into();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1, 0x0f, 0xa0]].concat();
    let connect = Request::Connect { request: 0x0102_0304, show: true, target: id };
    assert_eq!(connect.encode(), [&[2, 1, 2, 3, 4, 1][..], id.as_bytes()].concat());
    assert_eq!(Request::Reserve { show: false }.encode(), [0, 0]);
    assert_eq!(Request::Release.encode(), [1]);
    assert_eq!(Request::Close { circuit, code: Code::IDLE }.encode(), [3, 7, 7, 7, 7, 7, 7, 7, 7, 9]);
    let reserved = Notice::Reserved { lifetime: Duration::from_hours(1), rate: 65536, voucher: vec![5; 3] };
    assert_eq!(reserved.encode(), [0x80, 0, 0, 0x0e, 0x10, 0, 1, 0, 0, 0, 3, 5, 5, 5]);
    let refused = Notice::Refused { code: Code::FULL, wait: Duration::from_secs(60) };
    assert_eq!(refused.encode(), [0x81, 2, 0, 0, 0, 60]);
    let opened = Notice::Opened { request: 1, circuit, addr: Some(addr) };
    assert_eq!(opened.encode(), [&[0x82, 0, 0, 0, 1][..], &[7; 8], &mapped].concat());
    let incoming = Notice::Incoming { circuit, peer: id, addr: None };
    assert_eq!(incoming.encode(), [&[0x84][..], &[7; 8], id.as_bytes(), &[0; 18]].concat());
    assert_eq!(Message::decode(&[0x7f, 1, 2]), Ok(None), "a type of a later version");
    assert_eq!(Message::decode(&[]), Err(DecodeError::Empty));
}

#[test]
fn a_voucher_holds_for_its_time_and_no_other_purpose() {
    let relay = Identity::from_seed([9; 32]);
    let client = Identity::from_seed([1; 32]).peer_id();
    let end = Duration::from_secs(1_700_003_600);
    let voucher = Voucher::sign(&relay, client, end, &[([192, 0, 2, 1], 4000).into()]).unwrap();
    assert!(voucher.holds_at(end - Duration::from_secs(1)));
    assert!(!voucher.holds_at(end));
    assert!(!voucher.holds_at(end - Duration::from_hours(25)), "claims to hold for more than a day");
    assert!(framing::record::SignedRecord::decode(voucher.as_bytes()).is_err(), "no record");
    assert!(Voucher::sign(&relay, client, end, &[([0, 0, 0, 0], 4000).into()]).is_err());
    assert!(Voucher::sign(&relay, client, end, &[([192, 0, 2, 1], 4000).into(); 5]).is_err());
}
