//! A relay and its clients, with the sessions between them as perfect channels.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::{Identity, PeerId, Seed};
use relay::client::{self, Named};
use relay::message::{Message, Notice, Request};
use relay::{CircuitId, Client, Config, Server};
use structs::{Datagram, Epoch, Machine, Path, Rejected, TransmitBuf};

pub(crate) fn identity(number: u16) -> Identity {
    let [high, low] = number.to_be_bytes();
    Identity::from_seed(std::array::from_fn(|at| if at % 2 == 0 { high } else { low }))
}

pub(crate) fn id(number: u16) -> PeerId {
    identity(number).peer_id()
}

/// Each in a /16 of its own, from 20.0.0.1 on.
pub(crate) fn addr(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    ([20 + high, low, 0, 1], 4000).into()
}

/// The path of a session of the relay with a peer.
pub(crate) fn at(addr: SocketAddr) -> Path {
    Path::udp(self::addr(RELAY), addr)
}

pub(crate) const RELAY: u16 = 900;

pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) now: Instant,
    pub(crate) epoch: Epoch,
}

impl Lab {
    pub(crate) fn new(config: Config) -> Self {
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
        let mut server = Server::new(identity(RELAY), config, epoch, &Seed::fixed(9), now);
        server.set_addresses(&[addr(RELAY)]);
        Self { server, now, epoch }
    }

    /// A peer asks for something over its session.
    pub(crate) fn ask(&mut self, peer: u16, request: Request) -> Result<(), Rejected> {
        self.ask_from(peer, addr(peer), request)
    }

    pub(crate) fn ask_from(&mut self, peer: u16, from: SocketAddr, request: Request) -> Result<(), Rejected> {
        self.server.handle_message(id(peer), at(from), &request.encode(), self.now)
    }

    /// All that the relay says.
    pub(crate) fn notices(&mut self) -> Vec<(PeerId, Notice)> {
        let mut notices = Vec::new();
        while let Some((to, bytes)) = self.server.peek_message() {
            let Ok(Some(Message::Notice(notice))) = Message::decode(bytes) else { panic!("a notice") };
            notices.push((to, notice));
            self.server.sent(&to);
        }
        notices
    }

    /// What the relay says to one peer, and nothing to others.
    pub(crate) fn notice_to(&mut self, peer: u16) -> Notice {
        let [(to, notice)] = <[_; 1]>::try_from(self.notices()).expect("one notice");
        assert_eq!(to, id(peer));
        notice
    }

    pub(crate) fn reserve(&mut self, peer: u16) -> Notice {
        self.ask(peer, Request::Reserve { show: true }).unwrap();
        self.notice_to(peer)
    }

    /// A circuit: what the dialler and the target call it, or why there is none.
    pub(crate) fn connect(&mut self, from: u16, to: u16) -> Result<(CircuitId, CircuitId), relay::Code> {
        self.ask(from, Request::Connect { request: 5, show: true, target: id(to) }).unwrap();
        let (mut ours, mut theirs) = (None, None);
        for (peer, notice) in self.notices() {
            match notice {
                Notice::Opened { request: 5, circuit, addr } if peer == id(from) => {
                    assert_eq!(addr, Some(self::addr(to)));
                    ours = Some(circuit);
                }
                Notice::Incoming { circuit, peer: dialler, addr } if peer == id(to) => {
                    assert_eq!((dialler, addr), (id(from), Some(self::addr(from))));
                    theirs = Some(circuit);
                }
                Notice::NotOpened { request: 5, code } if peer == id(from) => return Err(code),
                Notice::Closed { code: relay::Code::REPLACED, .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        Ok((ours.unwrap(), theirs.unwrap()))
    }

    /// Two peers, the second with a place, and a circuit between them.
    pub(crate) fn pair(&mut self, from: u16, to: u16) -> (CircuitId, CircuitId) {
        self.reserve(to);
        self.connect(from, to).unwrap()
    }

    pub(crate) fn send(&mut self, from: SocketAddr, circuit: CircuitId, inner: &[u8]) -> Result<(), Rejected> {
        let mut datagram = [&[0xc8], &circuit.as_bytes()[..], inner].concat();
        self.server.handle_datagram(Datagram::new(at(from), &mut datagram), self.now)
    }

    /// What leaves: to whom, and the bytes.
    pub(crate) fn sent(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut out = TransmitBuf::new(8);
        let mut sent = Vec::new();
        while let Some(transmit) = self.server.poll_transmit(&mut out, self.now) {
            sent.extend(out.segments(&transmit).map(|segment| (transmit.path.remote, segment.to_vec())));
            out.clear();
        }
        sent
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(deadline) = self.server.poll_timeout().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            self.server.handle_timeout(self.now);
            if self.server.poll_timeout().is_some_and(|next| next.at <= self.now) {
                // Something could leave, and is taken by who calls.
                break;
            }
        }
        self.now = end;
    }
}

/// One client among relays, each of which may be dead.
pub(crate) struct Web {
    pub(crate) client: Client,
    pub(crate) relays: Vec<(u16, Lab, bool)>,
    pub(crate) now: Instant,
    pub(crate) events: Vec<client::Event>,
    /// Relays with which there is a session.
    pub(crate) sessions: Vec<u16>,
}

pub(crate) const ME: u16 = 1;

pub(crate) fn named(number: u16) -> Named {
    Named { relay: id(number), addrs: vec![addr(number)] }
}

/// The path of our session with a relay.
pub(crate) fn towards(number: u16) -> Path {
    Path::udp(([0, 0, 0, 0], 0).into(), addr(number))
}

impl Web {
    pub(crate) fn new(config: client::Config, relays: &[u16]) -> Self {
        let now = Instant::now();
        let lab = |number: &u16| {
            let mut lab = Lab::new(Config::default());
            lab.server =
                Server::new(identity(*number), Config::default(), lab.epoch, &Seed::fixed((*number).into()), now);
            lab.server.set_addresses(&[addr(*number)]);
            lab.now = now;
            (*number, lab, true)
        };
        let client = Client::new(id(ME), config, &Seed::fixed(1), now);
        Self { client, relays: relays.iter().map(lab).collect(), now, events: Vec::new(), sessions: Vec::new() }
    }

    pub(crate) fn relay(&mut self, number: u16) -> &mut Lab {
        &mut self.relays.iter_mut().find(|(known, ..)| *known == number).unwrap().1
    }

    pub(crate) fn kill(&mut self, number: u16) {
        self.relays.iter_mut().find(|(known, ..)| *known == number).unwrap().2 = false;
    }

    /// Carries messages and answers dials until nothing is said any more.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut busy = false;
            while let Some((to, message)) = self.client.peek_message() {
                if let Some((_, lab, true)) = self.relays.iter_mut().find(|(number, ..)| id(*number) == to) {
                    lab.now = self.now;
                    let _ = lab.server.handle_message(id(ME), at(addr(ME)), message, self.now);
                }
                self.client.sent(&to);
                busy = true;
            }
            for (number, lab, alive) in &mut self.relays {
                while let Some((to, message)) = lab.server.peek_message() {
                    if to == id(ME) && *alive {
                        let _ = self.client.handle_message(id(*number), message, self.now);
                    }
                    lab.server.sent(&to);
                    busy = true;
                }
            }
            while let Some(event) = self.client.poll_event() {
                if let client::Event::Dial { relay, .. } = &event {
                    // Where nobody answers, the dial takes its time.
                    let answers = |known: &&(u16, Lab, bool)| id(known.0) == *relay && known.2;
                    if let Some((number, ..)) = self.relays.iter().find(answers) {
                        self.sessions.push(*number);
                        self.client.connected(*relay, towards(*number), self.now);
                    }
                }
                self.events.push(event);
                busy = true;
            }
            if !busy {
                return;
            }
        }
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while let Some(deadline) = self.client.poll_timeout().filter(|deadline| deadline.at <= end) {
            assert!(deadline.at > self.now, "{deadline:?} makes no progress");
            self.now = deadline.at;
            self.client.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// The relays at which there is a place, by number.
    pub(crate) fn held(&self) -> Vec<u16> {
        let mut held: Vec<u16> = self
            .client
            .vouchers()
            .filter_map(|voucher| self.relays.iter().find(|(number, ..)| id(*number) == voucher.relay()))
            .map(|(number, ..)| *number)
            .collect();
        held.sort_unstable();
        held
    }
}
