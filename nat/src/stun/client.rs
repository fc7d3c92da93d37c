//! The asking side.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use crypto::{Rng, Seed};
use structs::{Datagram, Deadline, Ecn, Machine, Path, Rejected, RejectedCounts, Transmit, TransmitBuf};
use thiserror::Error;

use super::{Change, Message, Transaction};
use crate::report::Filtering;
use crate::scope::{is_public, is_usable};
use crate::{limits, unspecified};

/// What servers said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A server sees us at an address. Input for [`Observations`](crate::Observations).
    Observed {
        /// Where it sees us.
        seen: SocketAddr,
        /// Who says so.
        by: SocketAddr,
        /// When the first request to it left, which is when a NAT made a mapping for it.
        opened: Instant,
        /// A datagram had come from there before, or would have if our NAT had let it in.
        stray: bool,
    },
    /// What our NAT lets in, as far as a server with two addresses could try (RFC 5780 section 4.4).
    Filtering {
        /// Who tried.
        by: SocketAddr,
        /// What came of it.
        class: Filtering,
    },
    /// A server did not answer, or refused.
    Failed {
        /// Who.
        server: SocketAddr,
    },
}

/// Why a server is not asked. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// [`MAX_STUN_SERVERS`](limits::MAX_STUN_SERVERS) are being asked.
    #[error("too many servers at a time")]
    Busy,
    /// Nothing can be sent to the address.
    #[error("an address that cannot be sent to")]
    BadAddress,
    /// The machine has ended.
    #[error("the machine has ended")]
    Closed,
}

/// Asks servers for our address, and those with two addresses for what our NAT lets in, over one socket.
///
/// An answer counts once, from the address that was asked (or from which the answer was asked to come), with the transaction of
/// an open request. Everything else is [`Rejected`].
#[derive(Debug)]
pub struct Client {
    rng: Rng,
    /// Ordered, so that equal runs send alike.
    pending: BTreeMap<Transaction, Pending>,
    runs: BTreeMap<SocketAddr, Run>,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
    rejected: RejectedCounts,
    now: Instant,
    closed: bool,
}

/// What is asked of one server.
#[derive(Debug, Default)]
struct Run {
    other: Option<SocketAddr>,
    /// Whether answers came in from its other address, and from its other port.
    from_other: bool,
    from_port: bool,
    /// Requests of the stage that are open.
    open: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Where do you see me? First the server as it is named, then its other addresses.
    First,
    Again,
    /// Can you reach me from your other address and port, or from the other port alone?
    Filter(Change),
}

#[derive(Debug)]
struct Pending {
    server: SocketAddr,
    question: Question,
    to: SocketAddr,
    /// Where the answer must come from.
    from: SocketAddr,
    opened: Instant,
    tries: u8,
    due: Instant,
}

impl Client {
    /// A machine that asks nobody yet.
    #[must_use]
    pub fn new(seed: &Seed, now: Instant) -> Self {
        Self {
            rng: seed.fork("stun").rng(),
            pending: BTreeMap::new(),
            runs: BTreeMap::new(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            rejected: RejectedCounts::default(),
            now,
            closed: false,
        }
    }

    /// Asks a server. Nothing happens if it is being asked.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask(&mut self, server: SocketAddr, now: Instant) -> Result<(), ClientError> {
        let now = self.at(now);
        if self.closed {
            return Err(ClientError::Closed);
        }
        if !is_usable(&server) {
            return Err(ClientError::BadAddress);
        }
        if self.runs.contains_key(&server) {
            return Ok(());
        }
        if self.runs.len() >= limits::MAX_STUN_SERVERS || self.events.len() >= limits::MAX_STUN_SERVERS * 8 {
            return Err(ClientError::Busy);
        }
        self.runs.insert(server, Run::default());
        self.request(server, Question::First, server, server, now);
        Ok(())
    }

    /// Ends it: nothing is sent any more, and nothing taken in.
    pub fn close(&mut self) {
        self.closed = true;
        self.pending.clear();
        self.runs.clear();
        self.outbox.clear();
        self.events.clear();
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// What was refused, by reason.
    #[must_use]
    pub const fn rejected(&self) -> &RejectedCounts {
        &self.rejected
    }

    /// Bytes that wait to be taken: at most two requests of 36 bytes for each server.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.outbox.iter().map(|(_, datagram)| datagram.len()).sum()
    }

    fn at(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn request(&mut self, server: SocketAddr, question: Question, to: SocketAddr, from: SocketAddr, now: Instant) {
        let transaction = Transaction(self.rng.array());
        let pending = Pending { server, question, to, from, opened: now, tries: 0, due: now };
        self.pending.insert(transaction, pending);
        if let Some(run) = self.runs.get_mut(&server) {
            run.open = run.open.saturating_add(1);
        }
        self.send(transaction, now);
    }

    fn send(&mut self, transaction: Transaction, now: Instant) {
        let Some(pending) = self.pending.get_mut(&transaction) else { return };
        let (change, wait) = match pending.question {
            Question::Filter(change) => (change, limits::STUN_FILTER_TIMEOUT),
            _ => (Change::default(), limits::STUN_TIMEOUT * 2_u32.pow(u32::from(pending.tries))),
        };
        pending.tries = pending.tries.saturating_add(1);
        pending.due = now + wait;
        let to = pending.to;
        // What nobody takes is late, and sent again.
        if self.outbox.len() < limits::MAX_STUN_SERVERS * 2 {
            let request = Message::Request { transaction, change, fingerprint: true };
            self.outbox.push_back((to, request.encode(true)));
        }
    }

    fn receive(&mut self, datagram: &Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        let message = Message::decode(datagram.payload)?;
        let transaction = message.transaction();
        let from = canonical(datagram.path.remote);
        if self.pending.get(&transaction).is_none_or(|pending| canonical(pending.from) != from) {
            return Err(Rejected::Unsolicited);
        }
        let (mapped, other) = match message {
            Message::Success { mapped, .. } if !is_usable(&mapped) => return Err(Rejected::BadAddress),
            Message::Success { mapped, other, .. } => (Some(mapped), other),
            Message::Error { .. } => (None, None),
            _ => return Err(Rejected::Unsolicited),
        };
        if let Some(pending) = self.pending.remove(&transaction) {
            self.on_end(&pending, mapped, other, now);
        }
        Ok(())
    }

    /// A request has its answer, an error or none at all.
    fn on_end(&mut self, pending: &Pending, mapped: Option<SocketAddr>, other: Option<SocketAddr>, now: Instant) {
        let server = pending.server;
        let Some(run) = self.runs.get_mut(&server) else { return };
        run.open = run.open.saturating_sub(1);
        match pending.question {
            Question::First => match mapped {
                None => self.events.push_back(Event::Failed { server }),
                // Where both are not different, and of one family, there is nothing to be learnt.
                Some(seen) => {
                    run.other = other.filter(|other| {
                        let differs = other.ip() != server.ip() && other.port() != server.port();
                        // Nobody sends us into our own network by naming a place in it.
                        let near = |addr: &SocketAddr| (is_public(addr.ip()), addr.ip().to_canonical().is_loopback());
                        let same = other.is_ipv4() == server.is_ipv4() && near(other) == near(&server);
                        differs && is_usable(other) && same
                    });
                    self.events.push_back(Event::Observed { seen, by: server, opened: pending.opened, stray: false });
                    if let Some(other) = run.other {
                        let port = SocketAddr::new(server.ip(), other.port());
                        let both = Change { ip: true, port: true };
                        self.request(server, Question::Filter(both), server, other, now);
                        self.request(server, Question::Filter(Change { ip: false, port: true }), server, port, now);
                        return;
                    }
                }
            },
            Question::Filter(change) => {
                run.from_other |= mapped.is_some() && change.ip;
                run.from_port |= mapped.is_some() && !change.ip;
                if run.open > 0 {
                    return;
                }
                let class = match (run.from_other, run.from_port) {
                    (true, _) => Filtering::EndpointIndependent,
                    (false, true) => Filtering::AddressDependent,
                    (false, false) => Filtering::AddressAndPort,
                };
                self.events.push_back(Event::Filtering { by: server, class });
                if let Some(other) = run.other {
                    // The first has sent nothing to us yet; the second has tried to.
                    let clean = SocketAddr::new(other.ip(), server.port());
                    self.request(server, Question::Again, clean, clean, now);
                    self.request(server, Question::Again, other, other, now);
                    return;
                }
            }
            Question::Again => {
                if let Some(seen) = mapped {
                    let stray = Some(pending.to) == run.other;
                    self.events.push_back(Event::Observed { seen, by: pending.to, opened: pending.opened, stray });
                }
            }
        }
        if self.runs.get(&server).is_some_and(|run| run.open == 0) {
            self.runs.remove(&server);
        }
    }
}

/// A dual-stack socket shows IPv4 addresses in the form of IPv6.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

impl Machine for Client {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        let now = self.at(now);
        let result = if self.closed { Err(Rejected::Closed) } else { self.receive(&datagram, now) };
        result.map_err(|reason| self.rejected.count(reason))
    }

    fn handle_timeout(&mut self, now: Instant) {
        let now = self.at(now);
        let due: Vec<Transaction> =
            self.pending.iter().filter(|(_, pending)| pending.due <= now).map(|(id, _)| *id).collect();
        for transaction in due {
            let Some(pending) = self.pending.get(&transaction) else { continue };
            let most = match pending.question {
                Question::Filter(_) => limits::STUN_FILTER_TRIES,
                _ => limits::STUN_TRIES,
            };
            if pending.tries < most {
                self.send(transaction, now);
            } else if let Some(pending) = self.pending.remove(&transaction) {
                self.on_end(&pending, None, None, now);
            }
        }
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, _now: Instant) -> Option<Transmit> {
        let (remote, datagram) = self.outbox.pop_front()?;
        out.push(&datagram);
        out.finish(Path::udp(unspecified(remote), remote), Ecn::NotEct)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.pending.values().map(|pending| pending.due).min()?;
        Some(Deadline { at, reason: "answer of a server" })
    }
}

const _: () = assert!(limits::STUN_TIMEOUT.as_millis() > 0 && limits::STUN_FILTER_TIMEOUT.as_millis() > 0);
