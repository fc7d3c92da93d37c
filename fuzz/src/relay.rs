//! A relay, three of its clients, and strangers who know every message but no name of a circuit that is not theirs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::{Identity, PeerId, Seed};
use relay::client::{self, Named};
use relay::message::{Message, Notice, Request};
use relay::{CircuitId, Client, Code, Config, Networks, Server};
use sim::clock;
use structs::{Datagram, Ecn, Epoch, Link, Machine, Path, Transmit, TransmitBuf};

use crate::input::Input;

/// Runs a relay and its clients as the input commands.
///
/// Whatever arrives: no panic, timers that make progress, bounded buffers; no more bytes to anybody than came, and only to where
/// the session of an end of a circuit is; and what a client gets out of a circuit, the other end put in.
pub fn relay(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.settle();
    }
}

const STEPS: usize = 400;
const CLIENTS: u8 = 3;

struct World {
    now: Instant,
    server: Server,
    clients: Vec<(Client, SocketAddr)>,
    /// Bytes that came to the relay in datagrams, and left it.
    came: u64,
    left: u64,
    /// Names of circuits, as the relay told them, and to whom.
    names: BTreeMap<CircuitId, PeerId>,
    /// Open circuits of each client.
    paths: Vec<Vec<Path>>,
    /// What was put into circuits.
    sent: Vec<Vec<u8>>,
}

fn identity(number: u8) -> Identity {
    Identity::from_seed([number; 32])
}

fn id(number: u8) -> PeerId {
    identity(number).peer_id()
}

fn addr(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 4000).into()
}

const RELAY: u8 = 200;

fn to_relay() -> Path {
    Path::udp(([0, 0, 0, 0], 0).into(), addr(RELAY))
}

impl World {
    fn new() -> Self {
        let now = clock::base();
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
        let config = Config::default()
            .reservations(2)
            .circuits(3)
            .circuits_by(2, 8)
            .rate(3_000, 5_000)
            .total_rate(6_000, 8_000)
            .circuit_bytes(Some(40_000));
        let server = Server::new(identity(RELAY), config, epoch, &Seed::fixed(7), now);
        let client = |number: u8| {
            let config = client::Config::default().networks(Networks::Off);
            (Client::new(id(number), config, &Seed::fixed(number.into()), now), addr(number))
        };
        Self {
            now,
            server,
            clients: (0..CLIENTS).map(client).collect(),
            came: 0,
            left: 0,
            names: BTreeMap::new(),
            paths: vec![Vec::new(); usize::from(CLIENTS)],
            sent: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let which = input.below(usize::from(CLIENTS));
        let number = u8::try_from(which).unwrap_or(0);
        let (now, at) = (self.now, Path::udp(addr(RELAY), self.clients[which].1));
        match input.below(12) {
            0 => {
                let named = Named { relay: id(RELAY), addrs: vec![addr(RELAY)] };
                self.clients[which].0.suggest(&named, Some(to_relay()), now);
            }
            1 => {
                let named = Named { relay: id(RELAY), addrs: Vec::new() };
                let target = id(u8::try_from(input.below(usize::from(CLIENTS) + 1)).unwrap_or(0));
                let _ = self.clients[which].0.connect(target, &[named], |_| Some(to_relay()), now);
            }
            2 => {
                if let Some(path) = self.path(which, input) {
                    self.clients[which].0.close(path.link, Code(input.u8()), now);
                }
            }
            3 | 4 => {
                if let Some(path) = self.path(which, input) {
                    self.send(which, path, input);
                }
            }
            5 => {
                // The session of a client goes another way, or ends.
                if input.flip() {
                    self.clients[which].1.set_port(4000 + u16::from(input.u8() % 4));
                    self.server.moved(&id(number), Path::udp(addr(RELAY), self.clients[which].1));
                } else {
                    self.server.disconnected(&id(number), now);
                    self.clients[which].0.disconnected(&id(RELAY), now);
                    self.clients[which].0.connected(id(RELAY), to_relay(), now);
                }
            }
            6 => {
                let wait = [1, 30, 500, 8_000, 20_000, 300_000, 1_000_000, 4_000_000][input.below(8)];
                self.pass(Duration::from_millis(wait));
            }
            7 => {
                let _ = self.server.handle_message(id(number), at, input.bytes(), now);
            }
            8 => {
                let _ = self.clients[which].0.handle_message(id(RELAY), input.bytes(), now);
            }
            9 => {
                let request = match input.below(3) {
                    0 => Request::Reserve { show: input.flip() },
                    1 => Request::Connect { request: input.u32(), show: input.flip(), target: id(input.u8() % 5) },
                    _ => Request::Close { circuit: self.name(input), code: Code(input.u8()) },
                };
                let _ = self.server.handle_message(id(number), at, &request.encode(), now);
            }
            10 => {
                // To the relay, with a name of anybody, from anywhere.
                let name = self.name(input);
                let from = if input.flip() { at } else { Path::udp(addr(RELAY), addr(input.u8())) };
                let bytes = [&[0xc8], &name.as_bytes()[..], input.bytes()].concat();
                self.into_relay(from, bytes);
            }
            _ => {
                let name = self.name(input);
                let from = if input.flip() { to_relay() } else { Path::udp(addr(0), addr(input.u8())) };
                let mut bytes = [&[0xc9], &name.as_bytes()[..], input.bytes()].concat();
                if let Ok((path, inner)) = self.clients[which].0.unwrap(&from, &mut bytes, now) {
                    assert!(matches!(path.link, Link::Circuit(_)) && from == to_relay() && !inner.is_empty());
                }
            }
        }
    }

    fn path(&mut self, which: usize, input: &mut Input<'_>) -> Option<Path> {
        let at = input.below(self.paths[which].len().max(1));
        self.paths[which].get(at).copied()
    }

    fn name(&mut self, input: &mut Input<'_>) -> CircuitId {
        let at = input.below(self.names.len().max(1));
        self.names.keys().nth(at).copied().unwrap_or(CircuitId::from_bytes(input.array()))
    }

    fn send(&mut self, which: usize, path: Path, input: &mut Input<'_>) {
        let len = 1 + usize::from(input.u16()) % 1300;
        let mut inner = vec![0xe0; len];
        inner.iter_mut().skip(1).zip(self.sent.len().to_be_bytes()).for_each(|(byte, value)| *byte = value);
        let mut out = TransmitBuf::new(2);
        let transmit = Transmit { path, ecn: Ecn::NotEct, len, segment_size: len, ttl: None };
        if self.clients[which].0.wrap(&transmit, &inner, &mut out, self.now).is_some() {
            self.sent.push(inner);
            let from = Path::udp(addr(RELAY), self.clients[which].1);
            self.into_relay(from, out.bytes().to_vec());
        }
    }

    fn into_relay(&mut self, from: Path, mut bytes: Vec<u8>) {
        self.came += bytes.len() as u64;
        let _ = self.server.handle_datagram(Datagram::new(from, &mut bytes), self.now);
        if bytes.get(9) == Some(&0xe0) {
            self.sent.push(bytes.split_off(9));
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        let mut turns = 0;
        loop {
            self.settle();
            let clients = self.clients.iter().filter_map(|(client, _)| client.poll_timeout());
            let next = clients.chain(self.server.poll_timeout()).map(|deadline| deadline.at).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            assert!(next > self.now, "no progress");
            self.now = next;
            self.server.handle_timeout(next);
            self.clients.iter_mut().for_each(|(client, _)| client.handle_timeout(next));
            turns += 1;
            assert!(turns < 20_000, "no rest");
        }
        self.now = end;
    }

    /// Carries everything until nothing is said any more.
    fn settle(&mut self) {
        let mut turns = 0;
        while self.carry() {
            turns += 1;
            assert!(turns < 10_000, "talk without an end");
        }
        assert!(self.server.buffered_bytes() <= 3 * 64 * 1024 + 5 * 64 * 512);
        assert!(self.left <= self.came, "more left than came");
    }

    fn carry(&mut self) -> bool {
        let mut busy = false;
        let now = self.now;
        for (number, (client, from)) in (0u8..).zip(&mut self.clients) {
            while let Some((to, message)) = client.peek_message() {
                assert_eq!(to, id(RELAY));
                let _ = self.server.handle_message(id(number), Path::udp(addr(RELAY), *from), message, now);
                client.sent(&to);
                busy = true;
            }
            while let Some(event) = client.poll_event() {
                let paths = &mut self.paths[usize::from(number)];
                match event {
                    client::Event::Dial { relay, .. } => client.connected(relay, to_relay(), now),
                    client::Event::Opened { path, .. } | client::Event::Incoming { path, .. } => paths.push(path),
                    client::Event::Closed { path, .. } => paths.retain(|other| *other != path),
                    _ => {}
                }
                busy = true;
            }
        }
        while let Some((to, message)) = self.server.peek_message() {
            if let Ok(Some(Message::Notice(Notice::Opened { circuit, .. } | Notice::Incoming { circuit, .. }))) =
                Message::decode(message)
            {
                self.names.insert(circuit, to);
            }
            if let Some((client, _)) =
                (0u8..).zip(&mut self.clients).find(|(n, _)| id(*n) == to).map(|(_, client)| client)
            {
                let _ = client.handle_message(id(RELAY), message, now);
            }
            self.server.sent(&to);
            busy = true;
        }
        let mut out = TransmitBuf::new(4);
        while let Some(transmit) = self.server.poll_transmit(&mut out, now) {
            self.left += transmit.len as u64;
            for segment in out.segments(&transmit) {
                let to = self.clients.iter_mut().find(|(_, at)| *at == transmit.path.remote);
                let mut bytes = segment.to_vec();
                if let Some((client, _)) = to
                    && let Ok((_, inner)) = client.unwrap(&to_relay(), &mut bytes, now)
                {
                    assert!(self.sent.iter().any(|sent| sent.as_slice() == &*inner), "nobody has sent that");
                }
            }
            out.clear();
            busy = true;
        }
        while self.server.poll_event().is_some() {}
        busy
    }
}
