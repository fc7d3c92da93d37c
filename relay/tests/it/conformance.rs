//! The laws of the machine interface, for a relay whose clients come and go.

use std::time::{Duration, Instant};

use crypto::Seed;
use relay::message::{Message, Notice, Request};
use relay::{CircuitId, Config, Networks, Server};
use sim::conformance::{Reply, Subject, check_all};
use structs::{Datagram, Deadline, Epoch, Machine, Path, Rejected, Transmit, TransmitBuf};

use crate::lab::{id, identity};

/// A relay with two clients at the addresses of the other side, so that what it is sent can be the datagrams of a circuit.
#[derive(Debug)]
struct Relay {
    server: Server,
    /// The path to the other side, which has a place and a circuit to a third one.
    path: Path,
    names: Vec<CircuitId>,
    outgoing: Vec<Vec<u8>>,
    /// The newest time seen.
    now: Instant,
}

impl Relay {
    fn ask(&mut self, peer: u16, request: Request, now: Instant) -> Result<(), Rejected> {
        let path = if peer == 1 { self.path } else { Path::udp(self.path.local, crate::lab::addr(peer)) };
        self.server.handle_message(id(peer), path, &request.encode(), now)?;
        while let Some((to, message)) = self.server.peek_message() {
            if let Ok(Some(Message::Notice(Notice::Opened { circuit, .. } | Notice::Incoming { circuit, .. }))) =
                Message::decode(message)
            {
                self.names.push(circuit);
            }
            self.server.sent(&to);
        }
        Ok(())
    }
}

impl Machine for Relay {
    type Event = relay::server::Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.now = self.now.max(now);
        self.server.handle_datagram(datagram, self.now)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.server.handle_timeout(self.now);
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.now = self.now.max(now);
        let now = self.now;
        if let Some(datagram) = self.outgoing.pop() {
            out.push(&datagram);
            return out.finish(self.path, structs::Ecn::NotEct);
        }
        self.server.poll_transmit(out, now)
    }

    fn poll_event(&mut self) -> Option<Self::Event> {
        self.server.poll_event()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.server.poll_timeout()
    }
}

struct Relays;

impl Subject for Relays {
    type Machine = Relay;

    fn fresh(&self, seed: Seed, paths: [Path; 2], now: Instant) -> [Relay; 2] {
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
        // The same seed on both sides: what one sends has the names of the other's circuits.
        paths.map(|path| {
            let config = Config::default().rate(4_000, 6_000).total_rate(10_000, 8_000).networks(Networks::Off);
            let server = Server::new(identity(900), config, epoch, &seed, now);
            let mut relay = Relay { server, path, names: Vec::new(), outgoing: Vec::new(), now };
            for peer in 1..=3 {
                relay.ask(peer, Request::Reserve { show: true }, now).expect("a fresh relay has room");
            }
            relay.ask(1, Request::Connect { request: 0, show: true, target: id(2) }, now).expect("a circuit");
            relay.ask(3, Request::Connect { request: 0, show: true, target: id(1) }, now).expect("a circuit");
            relay
        })
    }

    fn command(&self, machine: &mut Relay, op: u64, now: Instant) -> Reply {
        machine.now = machine.now.max(now);
        let now = machine.now;
        let [kind, peer, len, ..] = op.to_be_bytes();
        let peer = u16::from(peer % 5) + 1;
        let named = machine.names.get(usize::from(len) % machine.names.len().max(1)).copied();
        let circuit = named.unwrap_or(CircuitId::from_bytes([0; 8]));
        let result = match kind % 8 {
            0 => machine.ask(peer, Request::Reserve { show: len % 2 == 0 }, now),
            1 => machine.ask(peer, Request::Connect { request: 1, show: true, target: id(u16::from(len % 5)) }, now),
            2 => machine.ask(peer, Request::Close { circuit, code: relay::Code::NONE }, now),
            3 => machine.ask(peer, Request::Ping([len; 8]), now),
            4 if peer > 3 => {
                machine.server.disconnected(&id(peer), now);
                Ok(())
            }
            _ if machine.server.is_closed() => Err(Rejected::Closed),
            _ => {
                // What a client of the other relay would send.
                let datagram = [&[0xc8], &circuit.as_bytes()[..], &vec![len; usize::from(len) * 4 + 1]].concat();
                if machine.outgoing.len() < 16 {
                    machine.outgoing.push(datagram);
                }
                Ok(())
            }
        };
        match result {
            Ok(()) if machine.server.is_closed() => Reply::Closed,
            Ok(()) => Reply::Done,
            Err(Rejected::Closed) => Reply::Closed,
            Err(_) => Reply::Refused,
        }
    }

    fn close(&self, machine: &mut Relay, _now: Instant) {
        machine.outgoing.clear();
        machine.server.close();
    }

    fn is_closed(&self, machine: &Relay) -> bool {
        machine.server.is_closed()
    }

    fn buffered_bytes(&self, machine: &Relay) -> usize {
        machine.server.buffered_bytes()
    }

    fn buffered_limit(&self, _machine: &Relay) -> usize {
        64 * 64 * 1024
    }
}

#[test]
fn the_laws() {
    if let Err(violation) = check_all(&Relays, 0..3) {
        panic!("{violation}");
    }
}
