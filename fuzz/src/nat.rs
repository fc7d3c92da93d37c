//! NAT traversal: what is read can be written; votes stay within their bounds; and two who punch, with somebody between them who
//! commands the network, keep to their budget, send to nobody else, and end once, both with the same outcome where they can.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crypto::Seed;
use framing::{Reader, Writer};
use nat::message::Message;
use nat::scope::{Family, is_public};
use nat::stun::{self, Client, Server};
use nat::{
    Candidate, CandidateKind, Confidence, Event, Filtering, Mapping, Observation, Observations, Probe, ProbeKey, Punch,
    Report, Scope, Secret, Setup, Strays,
};
use sim::clock;
use structs::{Datagram, Link, Machine, Path, Rejected, TransmitBuf};

use crate::input::Input;

/// The first byte chooses what the rest is for.
pub fn nat(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    match first % 4 {
        0 => codec(rest),
        1 => votes(&mut Input::new(rest)),
        2 => asking(&mut Input::new(rest)),
        _ => {
            let mut input = Input::new(rest);
            Attempt::new(&mut input).run(&mut input);
        }
    }
}

fn codec(data: &[u8]) {
    match Message::decode(data) {
        Ok(message) => {
            assert!(data.len() <= 512);
            let written = message.encode();
            assert!(written.len() <= 512);
            assert_eq!(Message::decode(&written), Ok(message));
        }
        Err(error) => assert!(Rejected::ALL.contains(&Rejected::from(error))),
    }
    match stun::Message::decode(data) {
        Ok(message) => {
            assert!(stun::is_stun(data));
            let written = message.encode(true);
            let again = stun::Message::decode(&written).expect("what is written is read");
            assert_eq!(again.transaction(), message.transaction());
            // An error that tells unknown attributes is read as an error.
            if !matches!(message, stun::Message::Unknown { .. }) {
                assert_eq!(again, message);
            }
        }
        Err(error) => assert!(Rejected::ALL.contains(&Rejected::from(error))),
    }
    let from = ([192, 0, 2, 1], 4000).into();
    let mut server = Server::new(Some(([198, 51, 100, 1], 3479).into()), clock::base());
    if let Ok(answer) = server.answer(data, from, clock::base()) {
        assert!(answer.datagram.len() <= stun::MAX_ANSWER && answer.datagram.len() <= data.len() * 4);
        assert!(stun::Message::decode(&answer.datagram).is_ok());
    }
    if let Ok(report) = Report::decode(&mut Reader::new(data)) {
        let mut written = Vec::new();
        report.encode(&mut Writer::new(&mut written));
        assert_eq!(Report::decode(&mut Reader::new(&written)), Ok(report));
    }
    if let Some(attempt) = Probe::attempt(data) {
        let [key, _] = ProbeKey::derive(&Secret::from_bytes([1; 16]), &Secret::from_bytes([2; 16]), attempt);
        assert!(data.len() == 28 && data.first() == Some(&0xdc));
        // Nobody guesses a MAC.
        assert!(Probe::open(data, &key).is_err());
    }
}

fn address(input: &mut Input<'_>) -> SocketAddr {
    let ip: IpAddr = match input.below(8) {
        0 => IpAddr::from(input.array::<4>()),
        1 => IpAddr::from(input.array::<16>()),
        2 => [203, 0, 113, 5].into(),
        3 => [10, 0, 0, input.u8()].into(),
        _ => [20 + input.u8() % 16, 0, 0, 1].into(),
    };
    let port = if input.flip() { 5000 } else { 40_000 + u16::from(input.u8()) };
    SocketAddr::new(ip, port)
}

fn votes(input: &mut Input<'_>) {
    let mut observed = Observations::new(Scope::Public, 5000);
    let mut now = clock::base();
    while !input.is_empty() {
        match input.below(8) {
            0 => now += input.pause() * 20,
            1 => {
                let _ = observed.sent_to(address(input), now);
            }
            2 => observed.heard_from(address(input), now),
            3 => observed.set_blocked(),
            _ => {
                let opened = now - Duration::from_millis(input.u8().into());
                let word = Observation { by: address(input), seen: address(input), opened, stray: input.below(8) == 0 };
                observed.record(word, now);
            }
        }
        for family in [Family::V4, Family::V6] {
            let report = observed.report(family);
            if let Some((addr, confidence)) = observed.reflexive(family) {
                assert!(is_public(addr.ip()) && addr.port() != 0 && Family::of(addr.ip()) == family);
                assert!(confidence != Confidence::None);
            } else {
                assert!(matches!(report.mapping, Mapping::Unknown | Mapping::Blocked));
            }
            assert_eq!(
                report.delta != 0,
                report.mapping == Mapping::Sequential || report.mapping == Mapping::Blocked && report.delta != 0
            );
            assert!(report.next == 0 || report.next >= 1024);
        }
    }
}

/// A client, and somebody who answers what he likes.
fn asking(input: &mut Input<'_>) {
    let mut client = Client::new(&Seed::fixed(1), clock::base());
    let (mut now, mut out) = (clock::base(), TransmitBuf::new(1));
    let server: SocketAddr = ([192, 0, 2, 1], 3478).into();
    let mut requests: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
    while !input.is_empty() {
        match input.below(6) {
            0 => drop(client.ask(address(input), now)),
            1 => drop(client.ask(server, now)),
            2 => {
                now += input.pause();
                client.handle_timeout(now);
            }
            _ => {
                let asked = requests.get(input.below(16)).cloned();
                let (to, request) = asked.unwrap_or((server, Vec::new()));
                let from = if input.below(4) == 0 { address(input) } else { to };
                let mut answer = match stun::Message::decode(&request) {
                    Ok(message) if input.below(8) > 0 => {
                        let other = input.flip().then(|| address(input));
                        let mapped = address(input);
                        let transaction = message.transaction();
                        stun::Message::Success { transaction, mapped, other }.encode(input.flip())
                    }
                    _ => input.bytes().to_vec(),
                };
                let path = Path::udp(([10, 0, 0, 2], 5000).into(), from);
                let _ = client.handle_datagram(Datagram::new(path, &mut answer), now);
            }
        }
        while let Some(transmit) = client.poll_transmit(&mut out, now) {
            assert!(out.bytes().len() <= 36);
            requests.insert(0, (transmit.path.remote, out.bytes().to_vec()));
            out.clear();
        }
        requests.truncate(64);
        if input.flip() {
            while client.poll_event().is_some() {}
        }
        assert_eq!(client.buffered_bytes(), 0);
        if client.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            client.handle_timeout(now);
            while client.poll_transmit(&mut out, now).is_some() {
                out.clear();
            }
            assert!(client.poll_timeout().is_none_or(|deadline| deadline.at > now), "no progress");
        }
    }
}

/// What somebody says of his NAT.
pub(crate) fn report(input: &mut Input<'_>) -> Report {
    Report {
        mapping: input.pick(&[
            Mapping::Unknown,
            Mapping::EndpointIndependent,
            Mapping::AddressDependent,
            Mapping::Sequential,
            Mapping::Random,
            Mapping::Blocked,
        ]),
        filtering: input.pick(&[Filtering::Unknown, Filtering::AddressDependent, Filtering::AddressAndPort]),
        strays: input.pick(&[Strays::Unknown, Strays::Ignored, Strays::Recorded]),
        delta: i16::from(input.u8()) - 128,
        next: input.u16(),
        ..Report::default()
    }
}

struct Side {
    punch: Punch,
    addr: SocketAddr,
    inbox: Vec<(SocketAddr, Link, Vec<u8>)>,
    messages: Vec<Vec<u8>>,
    asked: Option<u16>,
    result: Option<SocketAddr>,
    ended: bool,
    links: BTreeSet<u32>,
}

struct Attempt {
    sides: [Side; 2],
    now: Instant,
    out: TransmitBuf,
    /// Nobody changed a message or a datagram, and no message was lost.
    honest: bool,
}

impl Attempt {
    fn new(input: &mut Input<'_>) -> Self {
        let now = clock::base();
        let addrs: [SocketAddr; 2] = [([203, 0, 113, 1], 5000).into(), ([198, 51, 100, 1], 5000).into()];
        let setups = [0, 1].map(|side: usize| {
            let report = report(input);
            let kinds = [CandidateKind::Reflexive, CandidateKind::Mapped, CandidateKind::Host, CandidateKind::Relayed];
            let more = Candidate { kind: input.pick(&kinds), addr: address(input) };
            let max_sockets = u16::from(input.u8()) * 2;
            Setup {
                report,
                candidates: vec![Candidate { kind: CandidateKind::Reflexive, addr: addrs[side] }, more],
                stated: vec![addrs[1 - side].ip()],
                birthday: input.below(4) > 0,
                first_socket: 100,
                max_sockets,
                ..Setup::default()
            }
        });
        let [a, b] = setups;
        let punches = [Punch::initiate(a, &Seed::fixed(1), now), Punch::respond(b, &Seed::fixed(2), now)];
        let mut addrs = addrs.into_iter();
        let sides = punches.map(|punch| Side {
            punch,
            addr: addrs.next().expect("two"),
            inbox: Vec::new(),
            messages: Vec::new(),
            asked: None,
            result: None,
            ended: false,
            links: BTreeSet::new(),
        });
        Self { sides, now, out: TransmitBuf::new(1), honest: true }
    }

    fn run(mut self, input: &mut Input<'_>) {
        self.drain(0);
        self.drain(1);
        while !input.is_empty() {
            let side = usize::from(input.flip());
            match input.below(10) {
                0..=2 => self.message(side, input),
                3..=5 => self.datagram(side, input),
                6 => self.open(side, input.u16() % 300),
                7 => {
                    let noise = input.bytes().to_vec();
                    let _ = self.sides[side].punch.handle_message(&noise, self.now);
                    let from = address(input);
                    self.give(side, from, Link::Udp, noise);
                    // It may have been a whole message.
                    self.honest = false;
                }
                _ => self.wait(input.pause()),
            }
            self.drain(0);
            self.drain(1);
        }
        self.finish();
    }

    /// The oldest message arrives, perhaps changed.
    fn message(&mut self, side: usize, input: &mut Input<'_>) {
        if self.sides[side].messages.is_empty() {
            return;
        }
        let mut message = self.sides[side].messages.remove(0);
        if input.below(16) == 0 && !message.is_empty() {
            let at = usize::from(input.u8()) % message.len();
            message[at] ^= input.u8() | 1;
            self.honest = false;
        }
        let _ = self.sides[side].punch.handle_message(&message, self.now);
    }

    /// A datagram arrives, is lost, repeated, changed or sent from elsewhere.
    fn datagram(&mut self, side: usize, input: &mut Input<'_>) {
        if self.sides[side].inbox.is_empty() {
            return;
        }
        let at = input.below(self.sides[side].inbox.len().min(255));
        let (mut from, link, mut bytes) = self.sides[side].inbox[at].clone();
        match input.below(8) {
            0 => {
                let bit = usize::from(input.u8()) % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            1 => from = address(input),
            2 => bytes.truncate(input.below(28)),
            3 => {}
            _ => drop(self.sides[side].inbox.remove(at)),
        }
        self.give(side, from, link, bytes);
    }

    fn give(&mut self, side: usize, from: SocketAddr, link: Link, mut bytes: Vec<u8>) {
        let path = Path { link, ..Path::udp(self.sides[side].addr, from) };
        let _ = self.sides[side].punch.handle_datagram(Datagram::new(path, &mut bytes), self.now);
    }

    fn open(&mut self, side: usize, count: u16) {
        let Some(wanted) = self.sides[side].asked.take() else { return };
        let _ = self.sides[side].punch.sockets_opened(count.min(wanted), &[], None, self.now);
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let next = |side: &Side| side.punch.poll_timeout().map(|deadline| deadline.at);
            let Some(at) = self.sides.iter().filter_map(next).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            for side in 0..2 {
                self.sides[side].punch.handle_timeout(self.now);
                self.drain(side);
                let deadline = self.sides[side].punch.poll_timeout();
                assert!(deadline.is_none_or(|deadline| deadline.at > self.now), "no progress: {deadline:?}");
            }
        }
        self.now = end;
    }

    fn drain(&mut self, side: usize) {
        let allowed = self.sides[1 - side].addr.ip();
        while let Some(transmit) = self.sides[side].punch.poll_transmit(&mut self.out, self.now) {
            let bytes = self.out.bytes().to_vec();
            self.out.clear();
            let this = &mut self.sides[side];
            assert!(!this.ended || this.result.is_some(), "it sends after its end");
            assert_eq!(bytes.len(), 28);
            let to = transmit.path.remote;
            match transmit.path.link {
                Link::Udp => {}
                Link::Socket(number) => assert!(this.links.contains(&number), "a socket that was not asked for"),
                link => panic!("{link:?}"),
            }
            let other = self.sides[1 - side].addr;
            if to == other {
                let from = self.sides[side].addr;
                self.sides[1 - side].inbox.push((from, Link::Udp, bytes));
            } else {
                // What answers a datagram that authenticates goes where that came from.
                assert!(to.ip() == allowed || !self.sides[side].punch.is_closed());
            }
        }
        let this = &mut self.sides[side];
        this.inbox.truncate(4096);
        while let Some(event) = this.punch.poll_event() {
            match event {
                Event::OpenSockets { first, count, .. } => {
                    assert!(count > 0 && first >= 100);
                    this.links.extend((0..u32::from(count)).map(|number| first + number));
                    this.asked = Some(count);
                }
                Event::Punched { remote, .. } => {
                    assert!(!this.ended, "it ends twice");
                    (this.ended, this.result) = (true, Some(remote));
                }
                Event::Failed(_) => {
                    assert!(!this.ended, "it ends twice");
                    this.ended = true;
                }
                event => panic!("{event:?}"),
            }
        }
        assert!(this.punch.bytes_sent() <= 64_000 && this.punch.probes_sent() <= 2048);
        assert_eq!(this.punch.is_closed(), this.ended && this.punch.poll_timeout().is_none());
        let fresh: Vec<Vec<u8>> = std::iter::from_fn(|| self.sides[side].punch.poll_message()).collect();
        assert!(fresh.iter().all(|message| Message::decode(message).is_ok()), "it writes what cannot be read");
        self.sides[1 - side].messages.extend(fresh);
    }

    /// Everything arrives from now on. It ends.
    fn finish(mut self) {
        for _ in 0..4000 {
            for side in 0..2 {
                for message in std::mem::take(&mut self.sides[side].messages) {
                    let _ = self.sides[side].punch.handle_message(&message, self.now);
                    self.drain(side);
                }
                for (from, link, bytes) in std::mem::take(&mut self.sides[side].inbox) {
                    self.give(side, from, link, bytes);
                    self.drain(side);
                }
                self.open(side, 300);
                self.drain(side);
            }
            if self.sides.iter().all(|side| side.punch.is_closed()) {
                break;
            }
            self.wait(Duration::from_millis(20));
        }
        assert!(self.sides.iter().all(|side| side.ended && side.punch.is_closed()), "it does not end");
        let [a, b] = &self.sides;
        // The initiator says so only when it knows that the responder does.
        assert!(!self.honest || a.result.is_none() || b.result.is_some(), "one of them alone");
    }
}
