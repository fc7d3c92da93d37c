//! The node as a state machine: whose a datagram is, what is due, and what leaves.

use std::time::Instant;

use framing::Kind;
use structs::{Datagram, Deadline, Link, Machine, Rejected, Transmit, TransmitBuf};

use super::finder::Finder;
use super::lan::{LAN_LINK, Lan};
use super::pex::Pex;
use super::{Event, Node};

impl Machine for Node {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.tick(now);
        if datagram.path.link != LAN_LINK {
            let kind = datagram.payload.first().copied().and_then(Kind::of);
            return match kind {
                Some(Kind::Dht) if datagram.path.link == Link::Udp => self.on_table_datagram(datagram),
                _ => self.handle_from_anywhere(datagram),
            };
        }
        let Some(lan) = &mut self.lan else { return Err(Rejected::Forbidden) };
        if let Some(addr) = lan.handle(datagram.payload, datagram.path.remote, self.now)? {
            let first = lan.goes_first(addr);
            self.suggest(addr, first);
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        self.endpoint.handle_timeout(self.now);
        if let Some(lan) = &mut self.lan {
            lan.handle_timeout(self.now);
        }
        if let Some(finder) = &mut self.finder {
            finder.handle_timeout(self.now);
        }
        self.hear_finder();
        self.dial_postponed();
        self.dial_through_relays();
        self.streams_timeout();
        self.relays_timeout();
        self.punches_timeout();
        self.outside_timeout();
        self.settle_places();
        self.pex_timeout();
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.tick(now);
        if let Some((path, beacon)) = self.lan.as_mut().and_then(Lan::poll_transmit) {
            out.push(&beacon);
            return out.finish(path, structs::Ecn::NotEct);
        }
        let now = self.now;
        // Contacts of the table come and go, each with a flow of its own.
        let finder = self.finder.as_mut().filter(|_| !self.punches.want_quiet());
        let transmit = finder.and_then(|finder| finder.poll_transmit(out, now));
        let transmit = transmit.or_else(|| self.outside.poll_transmit(out, now));
        let (of, transmit) = match transmit {
            Some(transmit) => (None, transmit),
            None => match self.punch_transmit(out) {
                Some((session, transmit)) => (Some(session), transmit),
                None => (None, self.transmit(out)?),
            },
        };
        if transmit.path.link == Link::Udp && self.outside.on_sent(transmit.path.remote, now) {
            self.punches.count_mapping(of);
        }
        Some(transmit)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.hear_finder();
        self.settle_places();
        loop {
            while let Some(event) = self.events.pop_front() {
                if !self.is_dial_of_relay(&event) {
                    return Some(event);
                }
            }
            if let Some(event) = self.endpoint.poll_event() {
                self.on_session_event(event.peer, event.event);
            } else if !self.read_relays()
                && !self.read_pex()
                && !self.read_find()
                && !self.read_punching()
                && (self.paused || !self.read_topics())
            {
                break;
            }
        }
        let closed = self.is_closed() && !std::mem::replace(&mut self.told_closed, true);
        closed.then_some(Event::Closed)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let postponed = self.dials.postponed().map(|at| Deadline { at, reason: "postponed dial" });
        let lan = Deadline::earliest(self.lan.as_ref().and_then(Lan::poll_timeout), postponed);
        let finder = self.finder.as_ref().and_then(Finder::poll_timeout);
        let lan = Deadline::earliest(Deadline::earliest(lan, self.relays_deadline()), finder);
        let lan = Deadline::earliest(lan, self.streams_deadline());
        let punches = Deadline::earliest(self.punches_deadline(), self.outside.poll_timeout());
        let pex = self.pex.as_ref().and_then(Pex::poll_timeout).map(|at| Deadline { at, reason: "peer exchange" });
        let punches = Deadline::earliest(punches, pex);
        Deadline::earliest(Deadline::earliest(self.endpoint.poll_timeout(), lan), punches)
    }
}
