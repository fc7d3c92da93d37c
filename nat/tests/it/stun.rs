//! STUN against the vectors of RFC 5769, and the client against servers behind nothing, and NATs in between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crypto::Seed;
use data_encoding::HEXLOWER;
use nat::Filtering;
use nat::stun::{Change, Client, ClientError, Event, Message, Server, StunError, Transaction, Via, is_stun};
use sim::clock;
use sim::nat::{NatBox, NatKind};
use structs::{Datagram, Machine, Path, Rejected, TransmitBuf};

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.replace([' ', '\n'], "").as_bytes()).unwrap()
}

const TRANSACTION: Transaction = Transaction([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);

/// RFC 5769 section 2.1.
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae
    802200105354554e207465737420636c69656e74 002400046e0001ff 80290008932ff9b151263b36
    00060009 6576746a3a68367659202020 000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004e57a3bcf";
/// Section 2.2.
const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae 8022000b7465737420766563746f7220
    002000080001a147e112a643 000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004c07d4c96";
/// Section 2.3.
const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae 8022000b7465737420766563746f7220
    002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9 00080014a382954e4be67bf11784c97c8292c275bfe3ed41
    80280004c8fb0b4c";

#[test]
fn the_vectors_of_the_standard() {
    let v4 = Message::decode(&bytes(RESPONSE_V4)).unwrap();
    let mapped = "192.0.2.1:32853".parse().unwrap();
    assert_eq!(v4, Message::Success { transaction: TRANSACTION, mapped, other: None });
    let v6 = Message::decode(&bytes(RESPONSE_V6)).unwrap();
    let mapped = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
    assert_eq!(v6, Message::Success { transaction: TRANSACTION, mapped, other: None });
    // PRIORITY belongs to ICE, which this is not.
    let request = Message::decode(&bytes(REQUEST)).unwrap();
    assert_eq!(request, Message::Unknown { transaction: TRANSACTION, types: vec![0x24], fingerprint: true });
}

#[test]
fn every_changed_bit_of_a_vector_is_noticed() {
    for vector in [REQUEST, RESPONSE_V4, RESPONSE_V6] {
        let good = bytes(vector);
        let meant = Message::decode(&good);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let decoded = Message::decode(&bad);
            // Without its fingerprint, or with a length that swallows it, a message is one that never had any.
            let unmarked = (good.len() - 8) * 8..(good.len() - 6) * 8;
            let lost = matches!(decoded, Ok(Message::Unknown { fingerprint: false, .. }));
            assert!(decoded.is_err() || lost || unmarked.contains(&bit), "bit {bit}: {decoded:?} of {meant:?}");
        }
        for len in 0..good.len() {
            assert!(Message::decode(&good[..len]).is_err());
        }
        assert_eq!(Message::decode(&[&good[..], &[0; 4]].concat()), Err(StunError::Length));
    }
}

#[test]
fn what_is_written() {
    let transaction = Transaction([7; 12]);
    let plain = Message::Request { transaction, change: Change::default(), fingerprint: false };
    assert_eq!(plain.encode(false), [&bytes("000100002112a442")[..], &[7; 12]].concat());
    let change = Change { ip: true, port: true };
    let full = Message::Request { transaction, change, fingerprint: true };
    assert_eq!(full.encode(false).len(), 36);
    assert_eq!(Message::decode(&full.encode(false)), Ok(full.clone()));
    assert!(is_stun(&full.encode(false)) && !is_stun(&[0xd0; 64]) && !is_stun(&[]));
    let mapped = "192.0.2.1:32853".parse().unwrap();
    let success = Message::Success { transaction: TRANSACTION, mapped, other: None };
    assert_eq!(success.encode(false)[20..], bytes("002000080001a147e112a643"));
}

#[test]
fn a_server_answers_what_it_understands_and_tells_what_it_does_not() {
    let now = clock::base();
    let from = "192.0.2.7:4000".parse().unwrap();
    let mut server = Server::new(None, now);
    let transaction = Transaction([1; 12]);
    let request = |change, fingerprint| Message::Request { transaction, change, fingerprint }.encode(false);
    let answer = server.answer(&request(Change::default(), true), from, now).unwrap();
    assert_eq!((answer.datagram.len(), answer.via), (40, Via::Same));
    assert_eq!(Message::decode(&answer.datagram), Ok(Message::Success { transaction, mapped: from, other: None }));
    assert_eq!(server.answer(&request(Change::default(), false), from, now).unwrap().datagram.len(), 32);
    // Error 420 names the attribute.
    let refused = server.answer(&bytes(REQUEST), from, now).unwrap().datagram;
    assert_eq!(Message::decode(&refused), Ok(Message::Error { transaction: TRANSACTION, code: 420 }));
    assert!(refused.windows(6).any(|part| part == [0, 0x0a, 0, 2, 0, 0x24]));
    assert_eq!(server.answer(&bytes(RESPONSE_V4), from, now), Err(Rejected::Unsolicited));
    let change = Change { ip: true, port: true };
    assert_eq!(server.answer(&request(change, true), from, now), Err(Rejected::Forbidden));
    let other = "198.51.100.9:3479".parse().unwrap();
    let answer = Server::new(Some(other), now).answer(&request(change, true), from, now).unwrap();
    assert_eq!(answer.via, Via::Other(change));
    // The longest answers to the shortest requests.
    for (from, other, most) in [("192.0.2.7:1", "192.0.3.7:2", 44), ("[2001:db8::1]:1", "[2001:db8::2]:2", 68)] {
        let mut server = Server::new(Some(other.parse().unwrap()), now);
        let answer = server.answer(&request(Change::default(), false), from.parse().unwrap(), now).unwrap();
        assert_eq!(answer.datagram.len(), most);
    }
}

#[test]
fn a_server_answers_nobody_without_end() {
    let now = clock::base();
    let mut server = Server::new(None, now);
    let request = Message::Request { transaction: Transaction([1; 12]), change: Change::default(), fingerprint: true }
        .encode(true);
    let mut ask = |from: SocketAddr, now| server.answer(&request, from, now).is_ok();
    let greedy = (0..100).filter(|port| ask(([192, 0, 2, 1], 1000 + port).into(), now)).count();
    assert_eq!(greedy, 20, "whatever its port");
    assert!(ask(([192, 0, 2, 2], 1).into(), now));
    assert!(ask(([192, 0, 2, 1], 1).into(), now + Duration::from_secs(1)));
    let all = (0..5000_u16).filter(|n| ask(([20, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]], 1).into(), now)).count();
    assert!(all < 1000, "{all}");
}

/// A client behind a box, and a server with two addresses.
fn ask(kind: NatKind, other: bool) -> (Vec<Event>, u64) {
    let local: SocketAddr = ([10, 0, 0, 2], 5000).into();
    let (ips, ports) = ([[192, 0, 2, 1], [198, 51, 100, 1]], [3478, 3479]);
    let mut nat = NatBox::new(kind, [203, 0, 113, 1].into(), &Seed::fixed(1));
    let mut at = Duration::ZERO;
    let mut client = Client::new(&Seed::fixed(2), clock::base());
    let mut server = Server::new(other.then_some((ips[1], ports[1]).into()), clock::base());
    client.ask((ips[0], ports[0]).into(), clock::base()).unwrap();
    let mut flights: BTreeMap<(Duration, u32), (SocketAddr, SocketAddr, Vec<u8>)> = BTreeMap::new();
    let (mut out, mut events, mut number) = (TransmitBuf::new(1), Vec::new(), 0);
    loop {
        let now = clock::base() + at;
        while let Some(transmit) = client.poll_transmit(&mut out, now) {
            let request = out.bytes().to_vec();
            out.clear();
            let to = transmit.path.remote;
            let Some(seen) = nat.outbound(local, to, at) else { continue };
            let answer = server.answer(&request, seen, now).unwrap();
            let ip = usize::from(to.ip() == std::net::IpAddr::from(ips[1]));
            let port = usize::from(to.port() == ports[1]);
            let (ip, port) = match answer.via {
                Via::Same => (ip, port),
                Via::Other(change) => (ip ^ usize::from(change.ip), port ^ usize::from(change.port)),
            };
            number += 1;
            let from = (ips[ip], ports[port]).into();
            flights.insert((at + Duration::from_millis(40), number), (from, seen, answer.datagram));
        }
        events.extend(std::iter::from_fn(|| client.poll_event()));
        let deadline = client.poll_timeout().map(|deadline| deadline.at.duration_since(clock::base()));
        match flights.first_key_value().map(|(key, _)| *key) {
            Some(key) if deadline.is_none_or(|deadline| key.0 <= deadline) => {
                let (from, to, mut datagram) = flights.remove(&key).unwrap();
                at = key.0;
                if let Some(inside) = nat.inbound(from, to, at) {
                    let path = Path::udp(inside, from);
                    let _ = client.handle_datagram(Datagram::new(path, &mut datagram), clock::base() + at);
                }
            }
            _ => {
                let Some(deadline) = deadline else { break };
                at = deadline;
                client.handle_timeout(clock::base() + at);
            }
        }
    }
    (events, client.rejected().total())
}

#[test]
fn a_server_with_two_addresses_finds_out_filters_and_strays() {
    let filter = |kind| {
        let (events, rejected) = ask(kind, true);
        assert_eq!(rejected, 0);
        events.into_iter().find_map(|event| match event {
            Event::Filtering { class, .. } => Some(class),
            _ => None,
        })
    };
    assert_eq!(filter(NatKind::FullCone), Some(Filtering::EndpointIndependent));
    assert_eq!(filter(NatKind::AddrCone), Some(Filtering::AddressDependent));
    assert_eq!(filter(NatKind::PortCone), Some(Filtering::AddressAndPort));
    assert_eq!(filter(NatKind::SymSeq), Some(Filtering::AddressAndPort));
    assert_eq!(filter(NatKind::UdpBlock), None);
    let ports = |kind| -> Vec<(u16, bool)> {
        let seen = |event| match event {
            Event::Observed { seen, stray, .. } => Some((seen.port(), stray)),
            _ => None,
        };
        ask(kind, true).0.into_iter().filter_map(seen).collect()
    };
    assert_eq!(ports(NatKind::PortCone), [(5000, false), (5000, false), (5000, true)]);
    let clash = ports(NatKind::PortClash);
    assert!(clash[..2] == [(5000, false), (5000, false)] && clash[2].1 && clash[2].0 != 5000, "{clash:?}");
    assert_eq!(ports(NatKind::SymSeq), [(40_000, false), (40_001, false), (40_002, true)]);
}

#[test]
fn a_server_with_one_address_tells_ours_and_one_that_is_silent_fails() {
    let (events, _) = ask(NatKind::PortCone, false);
    assert!(matches!(events[..], [Event::Observed { stray: false, .. }]), "{events:?}");
    let (events, _) = ask(NatKind::UdpBlock, false);
    assert!(matches!(events[..], [Event::Failed { .. }]), "{events:?}");
}

#[test]
fn answers_count_once_from_whom_was_asked_with_the_right_transaction() {
    let now = clock::base();
    let server: SocketAddr = ([192, 0, 2, 1], 3478).into();
    let local: SocketAddr = ([10, 0, 0, 2], 5000).into();
    let mut client = Client::new(&Seed::fixed(2), now);
    assert_eq!(client.ask(([0, 0, 0, 0], 1).into(), now), Err(ClientError::BadAddress));
    client.ask(server, now).unwrap();
    let mut out = TransmitBuf::new(1);
    client.poll_transmit(&mut out, now).unwrap();
    let transaction = Message::decode(out.bytes()).unwrap().transaction();
    let mut give = |transaction, from, mapped: SocketAddr| {
        let mut answer = Message::Success { transaction, mapped, other: None }.encode(true);
        client.handle_datagram(Datagram::new(Path::udp(local, from), &mut answer), now)
    };
    let mapped = ([203, 0, 113, 1], 5000).into();
    assert_eq!(give(Transaction([0; 12]), server, mapped), Err(Rejected::Unsolicited));
    assert_eq!(give(transaction, ([192, 0, 2, 2], 3478).into(), mapped), Err(Rejected::Unsolicited));
    assert_eq!(give(transaction, ([192, 0, 2, 1], 3479).into(), mapped), Err(Rejected::Unsolicited));
    assert_eq!(give(transaction, server, ([224, 0, 0, 1], 5000).into()), Err(Rejected::BadAddress));
    assert_eq!(give(transaction, server, ([203, 0, 113, 1], 0).into()), Err(Rejected::BadAddress));
    assert_eq!(give(transaction, server, mapped), Ok(()));
    assert_eq!(give(transaction, server, mapped), Err(Rejected::Unsolicited));
    assert!(matches!(client.poll_event(), Some(Event::Observed { .. })));
    assert!(client.poll_event().is_none() && client.poll_timeout().is_none());
}
