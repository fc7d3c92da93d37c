//! A node, driven as the driver does: what its events cause leaves at the same moment.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use crypto::Identity;
use peer::mux::Urgency;
use relay::Networks;
use relay::client::Named;
use sim::world::Birth;
use structs::{Datagram, Deadline, Machine, Rejected, Transmit, TransmitBuf};
use swarm::PeerId;
use swarm::node::{Config, Event, Node};

pub(crate) struct Site {
    pub(crate) node: Node,
    events: VecDeque<Event>,
    /// Datagrams of the hash table are lost on the way to it and from it, as where UDP is dropped and all else goes by TCP.
    deaf: bool,
    /// Datagrams of the hash table that it sent.
    pub(crate) table_sent: usize,
}

pub(crate) fn identity(number: u32) -> Identity {
    let mut seed = [5; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Identity::from_seed(seed)
}

pub(crate) fn key(number: u32) -> crypto::PeerId {
    identity(number).peer_id()
}

/// The id of the machine with this number.
pub(crate) fn id(number: u32) -> PeerId {
    PeerId::from(key(number))
}

pub(crate) fn named(number: u32, addr: SocketAddr) -> Named {
    Named { relay: key(number), addrs: vec![addr] }
}

pub(crate) fn site(birth: &Birth, serve: relay::Config) -> Site {
    let relays = relay::client::Config::default().networks(Networks::Off);
    let config = Config::default().lan(false).serve(serve).relays(relays);
    Site::new(birth, config, false)
}

fn is_of_table(first: Option<&u8>) -> bool {
    matches!(first, Some(0xd8..=0xdb))
}

impl Site {
    pub(crate) fn new(birth: &Birth, config: Config, deaf: bool) -> Self {
        let node = Node::new(identity(birth.id.index()), config, birth.epoch, &birth.seed, birth.now);
        Self { node, events: VecDeque::new(), deaf, table_sent: 0 }
    }

    pub(crate) fn send(&mut self, peer: &PeerId, message: &[u8], now: Instant) {
        let (session, protocol) = (self.node.session(peer).expect("a session"), self.node.protocols().message);
        self.node.with(session, now, |session, _| session.send(protocol, message, Urgency::Normal)).unwrap().unwrap();
    }

    pub(crate) fn receive(&mut self, peer: &PeerId, now: Instant) -> Vec<Vec<u8>> {
        let (session, protocol) = (self.node.session(peer).expect("a session"), self.node.protocols().message);
        let mut came = Vec::new();
        let mut message = Vec::new();
        while self.node.with(session, now, |session, _| session.recv(protocol, &mut message)).flatten().is_some() {
            came.push(message.clone());
        }
        came
    }
}

impl Machine for Site {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        if self.deaf && is_of_table(datagram.payload.first()) {
            return Err(Rejected::Forbidden);
        }
        self.node.handle_datagram(datagram, now)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.node.handle_timeout(now);
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        loop {
            if let Some(transmit) = self.node.poll_transmit(out, now) {
                if is_of_table(out.bytes().first()) {
                    if self.deaf {
                        out.clear();
                        continue;
                    }
                    self.table_sent += 1;
                }
                return Some(transmit);
            }
            let before = self.events.len();
            self.events.extend(std::iter::from_fn(|| self.node.poll_event()));
            if self.events.len() == before {
                return self.node.poll_transmit(out, now);
            }
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.node.poll_event())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.node.poll_timeout()
    }
}
