//! What goes over the wire: read back as written, and nothing else is read.

use std::net::{IpAddr, SocketAddr};

use framing::{DecodeError, Reader, Writer};
use nat::message::{EndCode, Message, Proposal, Start};
use nat::stun;
use nat::{
    AttemptId, Candidate, CandidateKind, Confidence, Filtering, Mapping, Method, Plan, Probe, ProbeKey, ProbeKind,
    Report, Role, Secret, Strays,
};
use proptest::prelude::*;

use crate::cases;

fn addr() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        (1_u32..0xe000_0000).prop_map(|ip| IpAddr::from(ip.to_be_bytes())),
        (1_u128..1 << 120).prop_map(|ip| IpAddr::from((ip | 0x2000 << 112).to_be_bytes())),
    ];
    (ip, 1_u16..).prop_map(SocketAddr::from)
}

fn candidate() -> impl Strategy<Value = Candidate> {
    use CandidateKind::{Host, Mapped, Predicted, Reflexive, Relayed};
    let kind = prop_oneof![Just(Host), Just(Reflexive), Just(Predicted), Just(Mapped), Just(Relayed)];
    (kind, addr()).prop_map(|(kind, addr)| Candidate { kind, addr })
}

fn report() -> impl Strategy<Value = Report> {
    let mapping = prop_oneof![
        Just(Mapping::Unknown),
        Just(Mapping::EndpointIndependent),
        Just(Mapping::AddressDependent),
        Just(Mapping::Sequential),
        Just(Mapping::Random),
        Just(Mapping::Blocked)
    ];
    let filtering = prop_oneof![
        Just(Filtering::Unknown),
        Just(Filtering::EndpointIndependent),
        Just(Filtering::AddressDependent),
        Just(Filtering::AddressAndPort)
    ];
    let strays = prop_oneof![Just(Strays::Unknown), Just(Strays::Ignored), Just(Strays::Recorded)];
    let confidence =
        prop_oneof![Just(Confidence::None), Just(Confidence::One), Just(Confidence::Few), Just(Confidence::Consistent)];
    (mapping, filtering, strays, confidence, any::<(bool, bool, i16, u16)>()).prop_map(
        |(mapping, filtering, strays, confidence, (preserves, public, delta, next))| Report {
            mapping,
            filtering,
            strays,
            confidence,
            preserves,
            public,
            delta,
            next,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let proposal = || {
        (any::<[u8; 8]>(), 0_u8..3, any::<[u8; 16]>(), report(), prop::collection::vec(candidate(), 0..=16)).prop_map(
            |(attempt, round, secret, report, candidates)| Proposal {
                attempt: AttemptId(attempt),
                round,
                secret: Secret::from_bytes(secret),
                report,
                candidates,
            },
        )
    };
    let role = || prop_oneof![Just(Role::Initiator), Just(Role::Responder)];
    let method = prop_oneof![
        Just(Method::Simple),
        Just(Method::Meet),
        role().prop_map(|seeker| Method::Search { seeker }),
        (role(), any::<bool>()).prop_map(|(seeker, ahead)| Method::Birthday { seeker, ahead })
    ];
    let plan = (method, role(), any::<bool>()).prop_map(|(method, first, opener)| Plan { method, first, opener });
    prop_oneof![
        proposal().prop_map(Message::Offer),
        proposal().prop_map(Message::Answer),
        (any::<[u8; 8]>(), 0_u8..3, plan, any::<u16>()).prop_map(|(attempt, round, plan, rtt_ms)| {
            Message::Start(Start { attempt: AttemptId(attempt), round, plan, rtt_ms })
        }),
        any::<[u8; 8]>().prop_map(|attempt| Message::End { attempt: AttemptId(attempt), why: EndCode::Hopeless }),
    ]
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn messages_are_read_back(message in message(), more in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = message.encode();
        prop_assert!(bytes.len() <= 400);
        prop_assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        // Later versions may add something.
        prop_assert_eq!(Message::decode(&[&bytes[..], &more].concat()), Ok(message));
        for len in 0..bytes.len() {
            prop_assert!(Message::decode(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn whatever_is_read_can_be_written(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0_u8..5) {
        let bytes: Vec<u8> = [kind].into_iter().chain(bytes).collect();
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert!(bytes.len() <= 512);
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
        let _ = stun::Message::decode(&bytes);
    }

    #[test]
    fn reports_are_read_back(report in report(), more in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = Vec::new();
        report.encode(&mut Writer::new(&mut bytes));
        prop_assert_eq!(bytes.len(), 10);
        prop_assert_eq!(Report::decode(&mut Reader::new(&bytes)), Ok(report));
        bytes.extend(&more);
        bytes[0] += u8::try_from(more.len()).unwrap();
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(Report::decode(&mut reader), Ok(report));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn probes_are_read_by_who_has_the_key(secrets in any::<[[u8; 16]; 2]>(), id in any::<[u8; 8]>(), number: u16, bit in 0_usize..224) {
        let secrets = secrets.map(Secret::from_bytes);
        let attempt = AttemptId(id);
        let [initiator, responder] = ProbeKey::derive(&secrets[0], &secrets[1], attempt);
        for kind in [ProbeKind::Probe, ProbeKind::Answer, ProbeKind::Confirm, ProbeKind::Chosen, ProbeKind::Agreed] {
            let probe = Probe { kind, number, attempt };
            let mut bytes = probe.seal(&initiator);
            prop_assert_eq!(Probe::open(&bytes, &initiator), Ok(probe));
            prop_assert_eq!(Probe::attempt(&bytes), Some(attempt));
            prop_assert_eq!(Probe::open(&bytes, &responder), Err(DecodeError::BadKey));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Probe::open(&bytes, &initiator).is_err());
            for len in 0..bytes.len() {
                prop_assert!(Probe::open(&bytes[..len], &initiator).is_err());
            }
            prop_assert!(Probe::open(&[&bytes[..], &[0]].concat(), &initiator).is_err());
        }
    }

    #[test]
    fn stun_is_read_back(id in any::<[u8; 12]>(), mapped in addr(), other in prop::option::of(addr()), ip: bool, port: bool, mark: bool) {
        let transaction = stun::Transaction(id);
        let change = stun::Change { ip, port };
        let request = stun::Message::Request { transaction, change, fingerprint: mark };
        prop_assert_eq!(stun::Message::decode(&request.encode(false)), Ok(request));
        let success = stun::Message::Success { transaction, mapped, other };
        let bytes = success.encode(mark);
        prop_assert!(bytes.len() <= stun::MAX_ANSWER);
        prop_assert_eq!(stun::Message::decode(&bytes), Ok(success));
    }
}

/// As the specification says, byte by byte; the MAC by the HMAC of Python's standard library.
#[test]
fn a_probe_to_the_byte() {
    let [key, _] = ProbeKey::derive(&Secret::from_bytes([1; 16]), &Secret::from_bytes([2; 16]), AttemptId([3; 8]));
    let probe = Probe { kind: ProbeKind::Answer, number: 0x0405, attempt: AttemptId([3; 8]) };
    let expected = "dc010405030303030303030331aa8ff8d657a1ad3cb68d9360033a85";
    assert_eq!(data_encoding::HEXLOWER.encode(&probe.seal(&key)), expected);
}

#[test]
fn what_no_peer_may_say() {
    let start = [&[2][..], &[9; 8], &[0, 0, 0, 0, 40]].concat();
    assert!(Message::decode(&start).is_ok());
    let mut round = start.clone();
    round[9] = 3;
    assert_eq!(Message::decode(&round), Err(DecodeError::OutOfRange));
    let mut plan = start;
    plan[10] = 4;
    assert_eq!(Message::decode(&plan), Err(DecodeError::OutOfRange));
    assert_eq!(Message::decode(&[4; 32]), Err(DecodeError::UnknownKind(4)));
    assert_eq!(Message::decode(&[0; 513]), Err(DecodeError::TooLong { len: 513, max: 512 }));
    assert_eq!(Message::decode(&[]), Err(DecodeError::Empty));
    let offer = |count: u8| [&[0][..], &[9; 8], &[0], &[7; 16], &[9], &[0; 9], &[count], &[0; 19 * 17]].concat();
    assert_eq!(Message::decode(&offer(17)), Err(DecodeError::TooLong { len: 17, max: 16 }));
    assert_eq!(Message::decode(&offer(1)), Err(DecodeError::BadAddress));
}
