//! What strangers leave at servers and say by multicast DNS: where a node would send because of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crypto::Identity;
use framing::limits::{MAX_RECORD_ADDRESSES, MAX_RECORD_VOUCHERS, MAX_VOUCHER_ADDRESSES};
use swarm::TopicId;
use swarm::discovery::Reach;
use swarm::fuzzing::{self, Server};
use swarm::rendezvous::{MAX_BODY, MAX_LISTED, list, listed};

use crate::input::Input;

const UNIX: Duration = Duration::from_secs(1_800_000_000);
const OWN: &str = "00112233445566778899aabbccddeeff00112233";

/// Whatever lies there: no panic, nobody who is not signed, nobody who may not be dialled, and no more than a few addresses.
pub fn rendezvous(data: &[u8]) {
    let mut input = Input::new(data);
    let reaches = [Reach::Host, Reach::Network, Reach::World];
    let (near, far) = (input.pick(&reaches), input.pick(&reaches));
    let topic = TopicId::from("fuzz");
    let ours = Server::new(Identity::from_seed([1; 32]), topic, near, far);
    let theirs = Server::new(Identity::from_seed([2; 32]), topic, near, far);
    match input.below(6) {
        0 => {
            let addrs: Vec<SocketAddr> = (0..input.below(20)).map(|_| address(&mut input)).collect();
            let later = Duration::from_secs(u64::from(input.u16()));
            let Some(mut body) = theirs.body(addrs.clone(), UNIX) else {
                assert!(addrs.iter().all(|addr| !ours.has(addr)), "there was something to say");
                return;
            };
            assert!(body.len() <= MAX_BODY);
            assert_eq!(theirs.read(&body, UNIX), None, "that is ourselves");
            let heard = ours.read(&body, UNIX + later);
            // An IPv4 address in the IPv6 form is written as what it is.
            let plain = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
            let expected: Vec<SocketAddr> =
                addrs.into_iter().filter(|addr| ours.has(addr)).take(MAX_RECORD_ADDRESSES).map(plain).collect();
            let it = Identity::from_seed([2; 32]).peer_id().into();
            match heard {
                Some((peer, found)) => assert_eq!((peer, found), (it, expected)),
                None => assert!(later.as_secs() >= 1200, "{later:?}"),
            }
            let at = usize::from(input.u16()) % body.len();
            body[at] ^= input.u8() | 1;
            assert_eq!(ours.read(&body, UNIX), None, "somebody changed it");
        }
        // Somebody who knows the topic seals anything.
        1 => {
            let body = ours.seal(input.rest());
            if let Some((_, addrs)) = body.and_then(|body| ours.read(&body, UNIX)) {
                let most = MAX_RECORD_ADDRESSES + MAX_RECORD_VOUCHERS * MAX_VOUCHER_ADDRESSES;
                assert!(!addrs.is_empty() && addrs.len() <= most);
                assert!(addrs.iter().all(|addr| ours.has(addr)));
            }
        }
        2 => {
            let answer = input.rest();
            let bodies: Vec<&[u8]> = listed(answer).collect();
            assert!(bodies.len() <= MAX_LISTED);
            assert!(bodies.iter().map(|body| body.len() + 2).sum::<usize>() <= answer.len());
            if bodies.iter().all(|body| body.len() <= MAX_BODY) {
                let again = list(bodies.iter().copied());
                assert!(answer.starts_with(&again));
            }
            bodies.iter().for_each(|body| assert_eq!(ours.read(body, UNIX), None, "nobody can forge that"));
        }
        3 => {
            if let Some((id, addrs)) = ours.met(input.rest(), OWN) {
                assert!(id != OWN && id.len() == 40 && (1..=2).contains(&addrs.len()));
                assert!(addrs.iter().all(|addr| addr.is_ipv4() && ours.has(addr)));
            }
        }
        4 => {
            if let Some(addrs) = ours.listed(input.rest(), OWN) {
                assert!(addrs.len() <= 256 && addrs.iter().all(|addr| addr.is_ipv4() && ours.has(addr)));
            }
        }
        _ => {
            let (reach, hour) = (input.pick(&reaches[..2]), u64::from(input.u32()));
            let addrs: Vec<SocketAddr> = (0..input.below(8)).map(|_| address(&mut input)).collect();
            let text = String::from_utf8_lossy(input.rest());
            let (name, tag) = text.split_once('.').unwrap_or((&text, ""));
            if let Some((found, is_for)) = fuzzing::service(name, tag, &addrs, reach, (topic, hour)) {
                assert!((1..=4).contains(&found.len()) && found.iter().all(|addr| addrs.contains(addr)));
                assert!(found.iter().all(|addr| Reach::of(addr.ip()) == Some(reach) && addr.port() != 0));
                assert!(!is_for, "nobody can guess that");
            }
        }
    }
}

fn address(input: &mut Input<'_>) -> SocketAddr {
    let port = input.pick(&[0, 1, 4000, 65_535]);
    match input.below(4) {
        0 => (input.array::<16>(), port).into(),
        1 => (Ipv4Addr::from(input.array::<4>()).to_ipv6_mapped(), port).into(),
        2 => (input.pick(&[[127, 0, 0, 1], [10, 0, 0, 1], [9, 9, 9, 9], [224, 0, 0, 1], [0; 4]]), port).into(),
        _ => (input.array::<4>(), port).into(),
    }
}
