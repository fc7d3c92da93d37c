//! Peers that lie, and others who forge, repeat and cut.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crypto::Seed;
use nat::message::{EndCode, Message};
use nat::{Candidate, CandidateKind, Event, Failure, Punch, PunchError, Report, Setup};
use sim::clock;
use sim::nat::NatKind;
use structs::{Datagram, Link, Machine, Path, Rejected, TransmitBuf};

use crate::lab::{Lab, World};

const A: ([u8; 4], u16) = ([203, 0, 113, 1], 5000);
const B: ([u8; 4], u16) = ([198, 51, 100, 1], 5000);

fn setup(ours: ([u8; 4], u16), theirs: ([u8; 4], u16)) -> Setup {
    Setup {
        candidates: vec![Candidate { kind: CandidateKind::Reflexive, addr: ours.into() }],
        stated: vec![IpAddr::from(theirs.0)],
        birthday: true,
        ..Setup::default()
    }
}

/// Two that may send.
fn pair(change: impl Fn(&mut Setup)) -> [Punch; 2] {
    let now = clock::base();
    let mut theirs = setup(B, A);
    change(&mut theirs);
    let mut a = Punch::initiate(setup(A, B), &Seed::fixed(1), now);
    let mut b = Punch::respond(theirs, &Seed::fixed(2), now);
    b.handle_message(&a.poll_message().unwrap(), now).unwrap();
    a.handle_message(&b.poll_message().unwrap(), now).unwrap();
    b.handle_message(&a.poll_message().unwrap(), now).unwrap();
    [a, b]
}

fn datagrams(punch: &mut Punch, now: std::time::Instant) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut out = TransmitBuf::new(1);
    let mut all = Vec::new();
    punch.handle_timeout(now);
    while let Some(transmit) = punch.poll_transmit(&mut out, now) {
        all.push((transmit.path.remote, out.bytes().to_vec()));
        out.clear();
    }
    all
}

fn give(punch: &mut Punch, from: SocketAddr, bytes: &[u8], now: std::time::Instant) -> Result<(), Rejected> {
    let path = Path::udp(([0, 0, 0, 0], 0).into(), from);
    punch.handle_datagram(Datagram::new(path, &mut bytes.to_vec()), now)
}

#[test]
fn probes_count_once_and_only_as_they_were_written() {
    let now = clock::base();
    let [mut a, mut b] = pair(|_| ());
    // The responder sends first, the initiator waits.
    let probe = datagrams(&mut b, now).remove(0);
    assert_eq!(probe.0, A.into());
    for len in 0..probe.1.len() {
        assert!(give(&mut a, B.into(), &probe.1[..len], now).is_err());
    }
    for bit in 0..probe.1.len() * 8 {
        let mut bent = probe.1.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(give(&mut a, B.into(), &bent, now).is_err(), "bit {bit}");
    }
    assert_eq!(give(&mut b, A.into(), &probe.1, now), Err(Rejected::Unauthentic), "its own, sent back");
    assert!(a.poll_timeout().is_some() && a.bytes_sent() == 0);
    assert_eq!(give(&mut a, B.into(), &probe.1, now), Ok(()));
    assert_eq!(give(&mut a, B.into(), &probe.1, now), Err(Rejected::Replayed));
    assert_eq!(give(&mut a, ([192, 0, 2, 66], 53).into(), &probe.1, now), Err(Rejected::Replayed), "from elsewhere");
    let answers = datagrams(&mut a, now);
    assert_eq!(answers.len(), 1, "one for one, and no longer");
    assert_eq!((answers[0].0, answers[0].1.len()), (B.into(), probe.1.len()));
    // The answer counts from where the probe went to, and once.
    assert_eq!(give(&mut b, ([192, 0, 2, 66], 53).into(), &answers[0].1, now), Err(Rejected::Unsolicited));
    assert_eq!(give(&mut b, A.into(), &answers[0].1, now), Ok(()));
    let confirm = datagrams(&mut b, now).pop().unwrap();
    assert_eq!(give(&mut a, ([192, 0, 2, 66], 53).into(), &confirm.1, now), Err(Rejected::Unsolicited));
    assert_eq!(give(&mut a, B.into(), &confirm.1, now), Ok(()));
    let chosen = datagrams(&mut a, now).pop().unwrap();
    assert_eq!(give(&mut b, ([192, 0, 2, 66], 53).into(), &chosen.1, now), Err(Rejected::Unproven));
    assert_eq!(give(&mut b, A.into(), &chosen.1, now), Ok(()));
    assert_eq!(b.poll_event(), Some(Event::Punched { link: Link::Udp, remote: A.into() }));
    // The initiator may not have heard of it, and asks again; nobody asks for ever.
    let agreed = datagrams(&mut b, now).pop().unwrap();
    let again = (0..100).filter(|_| give(&mut b, A.into(), &chosen.1, now).is_ok()).count();
    assert!((1..10).contains(&again), "{again}");
    assert_eq!(b.poll_event(), None, "once");
    assert_eq!(give(&mut a, B.into(), &agreed.1, now), Ok(()));
    assert_eq!(a.poll_event(), Some(Event::Punched { link: Link::Udp, remote: B.into() }));
    assert!(a.is_closed() && a.poll_timeout().is_none());
    assert_eq!(give(&mut a, B.into(), &agreed.1, now), Err(Rejected::Closed));
    assert_eq!(a.sockets_opened(0, &[], None, now), Err(PunchError::Closed));
    assert!(datagrams(&mut b, now + Duration::from_secs(2)).len() < 10 && b.is_closed());
}

#[test]
fn messages_out_of_turn_change_nothing() {
    let now = clock::base();
    let mut a = Punch::initiate(setup(A, B), &Seed::fixed(1), now);
    let mut b = Punch::respond(setup(B, A), &Seed::fixed(2), now);
    let offer = a.poll_message().unwrap();
    assert_eq!(a.handle_message(&offer, now), Err(Rejected::Unsolicited), "its own");
    assert_eq!(b.handle_message(&offer, now), Ok(()));
    assert_eq!(b.handle_message(&offer, now), Err(Rejected::Duplicate));
    let answer = b.poll_message().unwrap();
    assert_eq!(b.handle_message(&answer, now), Err(Rejected::Unsolicited));
    let other = Punch::initiate(setup(A, B), &Seed::fixed(9), now).poll_message().unwrap();
    assert_eq!(b.handle_message(&other, now), Err(Rejected::Unsolicited), "of another attempt");
    assert_eq!(a.handle_message(&answer, now), Ok(()));
    assert_eq!(a.handle_message(&answer, now), Err(Rejected::Unsolicited));
    let start = a.poll_message().unwrap();
    assert_eq!(a.handle_message(&start, now), Err(Rejected::Unsolicited));
    assert_eq!(b.handle_message(&start, now), Ok(()));
    assert_eq!(b.handle_message(&start, now), Err(Rejected::Unsolicited));
    for noise in [&[][..], &[0], &[9; 40], &[0; 600]] {
        assert!(a.handle_message(noise, now).is_err() && b.handle_message(noise, now).is_err());
    }
    assert_eq!(a.rejected().total() + b.rejected().total(), 15);
}

#[test]
fn a_peer_that_names_victims_gets_nothing_sent_there() {
    let victims: Vec<Candidate> =
        ["192.0.2.66:53", "127.0.0.1:22", "10.0.0.1:80", "[2001:db8::66]:53", "169.254.0.1:9"]
            .iter()
            .map(|addr| Candidate { kind: CandidateKind::Reflexive, addr: addr.parse().unwrap() })
            .collect();
    // It also says that its ports are random, so that thousands are tried.
    for mapping in [nat::Mapping::EndpointIndependent, nat::Mapping::Random, nat::Mapping::Sequential] {
        let [mut a, _] = pair(|theirs| {
            theirs.candidates.clone_from(&victims);
            theirs.report = Report { mapping, next: 53, delta: 1, ..Report::default() };
        });
        let mut now = clock::base();
        while let Some(deadline) = a.poll_timeout() {
            now = now.max(deadline.at);
            assert_eq!(datagrams(&mut a, now), []);
            while a.poll_event().is_some() {}
        }
        assert!(a.is_closed());
    }
}

#[test]
fn thousands_of_ports_of_one_victim_stay_within_the_budget() {
    // The relay lies too: then the budget is all that is left.
    let [mut a, _] = pair(|theirs| {
        theirs.report = Report { mapping: nat::Mapping::Random, ..Report::default() };
    });
    let (mut now, mut bytes, mut busiest) = (clock::base(), 0, 0);
    while let Some(deadline) = a.poll_timeout() {
        now = now.max(deadline.at);
        let sent = datagrams(&mut a, now);
        bytes += sent.iter().map(|(_, datagram)| datagram.len()).sum::<usize>();
        busiest = busiest.max(sent.len());
        while let Some(message) = a.poll_message() {
            // Whoever answers every offer gets every round.
            drop(message);
        }
        while a.poll_event().is_some() {}
    }
    assert!((40_000..=64_000).contains(&bytes), "{bytes}");
    assert!(busiest <= 20, "{busiest} at once");
}

#[test]
fn a_waker_that_sleeps_makes_up_for_little() {
    let [mut a, _] = pair(|theirs| {
        theirs.report = Report { mapping: nat::Mapping::Random, ..Report::default() };
    });
    let late = clock::base() + Duration::from_millis(1200);
    assert!(datagrams(&mut a, late).len() <= 24);
}

#[test]
fn silence_refusal_and_cancelling_end_it_with_a_reason() {
    let now = clock::base();
    let mut lonely = Punch::initiate(setup(A, B), &Seed::fixed(1), now);
    lonely.handle_timeout(now + Duration::from_secs(5));
    assert_eq!(lonely.poll_event(), Some(Event::Failed(Failure::NoCoordination)));
    let mut a = Punch::initiate(setup(A, B), &Seed::fixed(1), now);
    let mut b = Punch::respond(setup(B, A), &Seed::fixed(2), now);
    b.handle_message(&a.poll_message().unwrap(), now).unwrap();
    drop(b.poll_message());
    b.refuse();
    a.handle_message(&b.poll_message().unwrap(), now).unwrap();
    assert_eq!(a.poll_event(), Some(Event::Failed(Failure::Ended(EndCode::Refused))));
    assert!(a.is_closed() && b.is_closed());
    let [mut a, mut b] = pair(|_| ());
    a.close();
    let end = a.poll_message().unwrap();
    assert!(matches!(Message::decode(&end), Ok(Message::End { why: EndCode::Cancelled, .. })));
    b.handle_message(&end, now).unwrap();
    assert_eq!(b.poll_event(), Some(Event::Failed(Failure::Ended(EndCode::Cancelled))));
    assert_eq!(
        Failure::Hopeless { ours: nat::NatKind::Random, theirs: nat::NatKind::Blocked }.to_string(),
        "no direct path is possible between these networks (ours: a new port for each, at random, theirs: no UDP)"
    );
}

/// Somebody on the way repeats every datagram from his own address, and bends copies of others.
#[test]
fn an_attempt_among_repeats_and_forgeries_still_succeeds() {
    for seed in 0..10 {
        let mut lab = Lab::new(World::new(NatKind::FullCone, NatKind::FullCone), seed);
        let end = Duration::from_secs(130);
        lab.begin();
        let mut copied = 0;
        while lab.step(end) {
            let fresh: Vec<_> = lab.seen[copied..].to_vec();
            copied = lab.seen.len();
            for (_, to, payload) in fresh {
                lab.forge(([192, 0, 2, 66], 53).into(), to, payload.clone());
                let mut bent = payload;
                bent[usize::try_from(seed).unwrap() % 28] ^= 1;
                lab.forge(([192, 0, 2, 66], 54).into(), to, bent);
            }
            if copied > 500 {
                break;
            }
        }
        assert!(lab.results().iter().all(Option::is_some), "{seed}");
    }
}

#[test]
fn who_did_much_lately_takes_no_part_in_more() {
    let [_, mut b] = pair(|theirs| {
        theirs.report = Report { mapping: nat::Mapping::Random, ..Report::default() };
        theirs.birthday = false;
    });
    assert_eq!(b.poll_event(), Some(Event::Failed(Failure::Ended(EndCode::Refused))));
    let end = b.poll_message().unwrap();
    assert!(matches!(Message::decode(&end), Ok(Message::End { why: EndCode::Refused, .. })));
}

/// Sockets that never come are not waited for, and what begins without them begins at that moment.
#[test]
fn an_owner_who_opens_no_sockets_delays_an_attempt_but_does_not_stop_it() {
    let random = |setup: &mut Setup| {
        setup.report = Report { mapping: nat::Mapping::Random, strays: nat::Strays::Ignored, ..Report::default() };
        setup.max_sockets = 256;
    };
    let [_, mut b] = pair(random);
    assert!(matches!(b.poll_event(), Some(Event::OpenSockets { count: 256, observed: false, .. })));
    let mut sent = 0;
    while let Some(deadline) = b.poll_timeout() {
        let now = deadline.at;
        sent += datagrams(&mut b, now).len();
        assert!(b.poll_timeout().is_none_or(|next| next.at > now), "no progress");
    }
    assert!(sent > 0 && b.is_closed());
}

#[test]
fn who_decides_on_the_plan_does_not_make_us_do_what_our_nat_does_not_need() {
    use nat::message::{EndCode, Message, Start};
    use nat::{Mapping, Method, Plan, Punch, Report, Role, Setup};

    let report = |mapping, next| Report { mapping, next, delta: 1, ..Report::default() };
    let sequence = report(Mapping::Sequential, 40_000);
    let same = report(Mapping::EndpointIndependent, 0);
    let birthday = Method::Birthday { seeker: Role::Responder, ahead: false };
    let search = Method::Search { seeker: Role::Responder };
    for (theirs, ours, method, takes_part) in [
        (sequence, same, Method::Meet, false),
        (same, sequence, Method::Meet, false),
        (sequence, sequence, Method::Meet, true),
        (same, same, birthday, false),
        (same, same, search, false),
        (sequence, same, search, true),
        (sequence, same, Method::Simple, true),
    ] {
        let now = clock::base();
        let setup = |report| Setup { report, birthday: true, ..Setup::default() };
        let mut other = Punch::initiate(setup(theirs), &Seed::fixed(1), now);
        let mut punch = Punch::respond(setup(ours), &Seed::fixed(2), now);
        punch.handle_message(&other.poll_message().unwrap(), now).unwrap();
        assert!(matches!(Message::decode(&punch.poll_message().unwrap()), Ok(Message::Answer(_))));
        let plan = Plan { method, first: Role::Responder, opener: false };
        let start = Start { attempt: other.attempt().unwrap(), round: 0, plan, rtt_ms: u16::MAX };
        punch.handle_message(&Message::Start(start).encode(), now).unwrap();
        assert_eq!(punch.is_closed(), !takes_part, "{method:?}");
        assert_eq!(punch.counts_mappings(), takes_part && method == Method::Meet);
        let end = punch.poll_message().map(|message| Message::decode(&message).unwrap());
        assert_eq!(matches!(end, Some(Message::End { why: EndCode::Refused, .. })), !takes_part);
    }
}
