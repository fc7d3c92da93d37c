//! One attempt of two peers, who can talk through others, to talk directly.
//!
//! | file | content |
//! |---|---|
//! | `punch.rs` | [`Punch`]: its state, its commands, the machine's five methods |
//! | `rounds.rs` | the coordination: who offers, answers, begins, and what follows when nothing arrives |
//! | `receive.rs` | what becomes of a datagram, and the choice of a path |
//! | `schedule.rs` | what is sent in a round, and when |

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use structs::{
    Datagram, Deadline, Ecn, Link, Machine, Path, Rejected, RejectedCounts, SlidingWindow, Transmit, TransmitBuf,
};
use thiserror::Error;

use crate::candidate::{Candidate, Site, canonical, prepare};
use crate::message::{EndCode, Message, Proposal};
use crate::plan::{Method, Plan, Role};
use crate::probe::{AttemptId, Probe, ProbeKey, ProbeKind, Secret};
use crate::report::{NatKind, Report};
use crate::schedule::{Schedule, Shot, Socket};
use crate::{limits, unspecified};

/// What one side brings to an attempt.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// What is known of our NAT over IPv4. Between hosts with IPv6 nothing depends on it.
    pub report: Report,
    /// Where we may be reached: all addresses of interfaces, and those that others see.
    pub candidates: Vec<Candidate>,
    /// Where others see us, the relay between us among them, as far as it is not in `candidates`. A peer that is seen at the same
    /// address is in our network. At most [`MAX_CANDIDATES`](limits::MAX_CANDIDATES) count.
    pub seen: Vec<IpAddr>,
    /// Where others than the peer see the peer: the relay between us, above all. Nothing is sent to public addresses that are not
    /// among them, whatever the peer says. At most [`MAX_CANDIDATES`](limits::MAX_CANDIDATES) count.
    pub stated: Vec<IpAddr>,
    /// Both are in one network, or on one machine, and private addresses are meant as they are.
    pub local: bool,
    /// Where the first socket has sent to of late, as far as it is at the addresses in `stated`: what goes there makes no NAT take
    /// another port. At most [`MAX_FLOWS`](limits::MAX_FLOWS) count.
    pub opened: Vec<SocketAddr>,
    /// Thousands of random ports may be tried, by us or from 256 sockets of ours: see [`Pace`](crate::Pace).
    pub birthday: bool,
    /// The number of the first socket that the machine may ask for.
    pub first_socket: u32,
    /// How many it may ask for. Below [`SPRAY_SOCKETS`](limits::SPRAY_SOCKETS) random NATs are less often overcome, with none
    /// rounds are repeated from the same port.
    pub max_sockets: u16,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Open `count` UDP sockets with the numbers from `first` on ([`Link::Socket`]), hand their datagrams to the machine, and call
    /// [`Punch::sockets_opened`].
    OpenSockets {
        /// The number of the first.
        first: u32,
        /// How many.
        count: u16,
        /// Find out where others see the first of them, and tell: it takes the place of the socket used before.
        observed: bool,
    },
    /// A path works both ways and both sides take it. Other sockets that were opened can be closed.
    Punched {
        /// Our socket.
        link: Link,
        /// The address of the peer.
        remote: SocketAddr,
    },
    /// There is none. All sockets that were opened can be closed.
    Failed(Failure),
}

/// Why there is no direct path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Failure {
    /// No method is known for these two NATs.
    #[error("no direct path is possible between these networks (ours: {ours}, theirs: {theirs})")]
    Hopeless {
        /// Ours.
        ours: NatKind,
        /// Theirs.
        theirs: NatKind,
    },
    /// Everything was tried and nothing arrived.
    #[error("no probe got through (ours: {ours}, theirs: {theirs})")]
    Unanswered {
        /// Ours.
        ours: NatKind,
        /// Theirs.
        theirs: NatKind,
    },
    /// The peer did not take part in time.
    #[error("the peer did not take part")]
    NoCoordination,
    /// The peer said that it is over.
    #[error("{0}")]
    Ended(EndCode),
}

/// Why a command was not carried out. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PunchError {
    /// No sockets were asked for.
    #[error("no sockets were asked for")]
    NotAsked,
    /// The attempt has ended.
    #[error("the attempt has ended")]
    Closed,
}

/// One attempt to find a direct path, as a state machine.
///
/// Its messages ([`poll_message`](Self::poll_message), [`handle_message`](Self::handle_message)) go through the session of the two,
/// in order and complete; its datagrams go directly. Of these it sends at most [`MAX_BYTES`](limits::MAX_BYTES) in all, to addresses
/// of the peer that somebody else has stated too. An attempt ends with [`Event::Punched`] or [`Event::Failed`], exactly once, unless
/// it is [closed](Self::close).
pub struct Punch {
    pub(crate) role: Role,
    pub(crate) setup: Setup,
    pub(crate) rng: Rng,
    pub(crate) attempt: Option<AttemptId>,
    pub(crate) phase: Phase,
    pub(crate) round: u8,
    /// When the phase ends.
    pub(crate) deadline: Option<Instant>,
    pub(crate) offered_at: Instant,
    pub(crate) rtt: Duration,
    pub(crate) secret: Secret,
    pub(crate) theirs: Option<Proposal>,
    /// For what we send, and for what we get.
    pub(crate) keys: Option<[ProbeKey; 2]>,
    pub(crate) plan: Option<Plan>,
    /// The candidates of the peer that may be sent to.
    pub(crate) remotes: Vec<Candidate>,
    pub(crate) schedule: Schedule,
    /// The socket of the round: 0 for the main one, n + 1 for the n-th of those opened.
    pub(crate) own: u16,
    /// Sockets that were opened, and the first of those for the plan.
    pub(crate) opened: u16,
    pub(crate) extra: u16,
    /// Mappings that our NAT made for datagrams of others than this attempt since our report.
    pub(crate) made: u16,
    /// Of each probe by its number, from where to where.
    pub(crate) sent: Vec<Route>,
    pub(crate) bytes: u32,
    pub(crate) window: SlidingWindow,
    pub(crate) answered: VecDeque<(u16, Route)>,
    pub(crate) proved: Vec<(Route, u16)>,
    pub(crate) settle_at: Option<Instant>,
    pub(crate) chosen: Option<Chosen>,
    pub(crate) outbox: VecDeque<(Route, Probe, bool)>,
    pub(crate) messages: VecDeque<Vec<u8>>,
    pub(crate) events: VecDeque<Event>,
    rejected: RejectedCounts,
    now: Instant,
}

/// A local socket, by its number in this machine, and a remote address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) socket: u16,
    pub(crate) remote: SocketAddr,
}

/// The path that the initiator took, or the responder was told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen {
    pub(crate) route: Route,
    pub(crate) number: u16,
    /// How often it was said, or agreed to.
    pub(crate) tries: u8,
    pub(crate) due: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The peer has to begin, or to go on.
    Waiting,
    /// The owner is to open the socket of the next round.
    Gathering,
    /// The answer to our offer is due.
    Offered,
    /// The owner is to open the sockets of the plan.
    Arming,
    Probing,
    /// It is punched, and the initiator may not know yet that we do.
    Lingering,
    Closed,
}

impl Punch {
    /// Begins an attempt: a first message waits to be taken.
    #[must_use]
    pub fn initiate(setup: Setup, seed: &Seed, now: Instant) -> Self {
        let mut punch = Self::new(Role::Initiator, setup, seed, now);
        punch.attempt = Some(AttemptId(punch.rng.array()));
        punch.send_offer(now);
        punch
    }

    /// Waits for the first message of a peer that begins one.
    #[must_use]
    pub fn respond(setup: Setup, seed: &Seed, now: Instant) -> Self {
        Self::new(Role::Responder, setup, seed, now)
    }

    fn new(role: Role, mut setup: Setup, seed: &Seed, now: Instant) -> Self {
        setup.candidates = prepare(&setup.candidates);
        setup.seen.truncate(limits::MAX_CANDIDATES);
        setup.stated.truncate(limits::MAX_CANDIDATES);
        setup.opened.truncate(limits::MAX_FLOWS);
        setup.max_sockets = setup.max_sockets.min(limits::SPRAY_SOCKETS + u16::from(limits::MAX_ROUNDS));
        let mut rng = seed.fork("punch").rng();
        let secret = Secret(rng.array());
        Self {
            role,
            setup,
            rng,
            attempt: None,
            phase: Phase::Waiting,
            round: 0,
            deadline: Some(now + limits::COORDINATION_TIMEOUT),
            offered_at: now,
            rtt: Duration::ZERO,
            secret,
            theirs: None,
            keys: None,
            plan: None,
            remotes: Vec::new(),
            schedule: Schedule::default(),
            own: 0,
            opened: 0,
            extra: 0,
            made: 0,
            sent: Vec::new(),
            bytes: 0,
            window: SlidingWindow::new(),
            answered: VecDeque::new(),
            proved: Vec::new(),
            settle_at: None,
            chosen: None,
            outbox: VecDeque::new(),
            messages: VecDeque::new(),
            events: VecDeque::new(),
            rejected: RejectedCounts::default(),
            now,
        }
    }

    /// Which attempt it is, once that is decided: probes name it.
    #[must_use]
    pub const fn attempt(&self) -> Option<AttemptId> {
        self.attempt
    }

    /// Takes in a message of the peer.
    ///
    /// # Errors
    /// [`Rejected`]: it does not decode, belongs to another attempt, or is not what follows now.
    pub fn handle_message(&mut self, message: &[u8], now: Instant) -> Result<(), Rejected> {
        let now = self.at(now);
        let result = match Message::decode(message) {
            _ if self.is_closed() => Err(Rejected::Closed),
            Ok(message) => self.on_message(message, now),
            Err(error) => Err(error.into()),
        };
        result.map_err(|reason| self.rejected.count(reason))
    }

    /// The next message for the peer.
    pub fn poll_message(&mut self) -> Option<Vec<u8>> {
        self.messages.pop_front()
    }

    /// Says that sockets which [`Event::OpenSockets`] asked for are there. Fewer than that are fewer chances, and none is a reason to
    /// go on without.
    ///
    /// If the first was to be observed, `candidates` replaces all that were told before, and `report` what was known of the NAT.
    ///
    /// # Errors
    /// [`PunchError`].
    pub fn sockets_opened(
        &mut self,
        count: u16,
        candidates: &[Candidate],
        report: Option<Report>,
        now: Instant,
    ) -> Result<(), PunchError> {
        let now = self.at(now);
        match self.phase {
            Phase::Closed => Err(PunchError::Closed),
            Phase::Gathering => {
                if let Some(report) = report {
                    (self.setup.report, self.made) = (report, 0);
                }
                if count > 0 {
                    self.opened = self.opened.saturating_add(1);
                    self.own = self.opened;
                    if !candidates.is_empty() {
                        self.setup.candidates = prepare(candidates);
                    }
                }
                self.on_gathered(now);
                Ok(())
            }
            Phase::Arming => {
                let count = count.min(self.wanted());
                self.extra = self.opened.saturating_add(1);
                self.opened = self.opened.saturating_add(count);
                self.on_armed(count, now);
                Ok(())
            }
            _ => Err(PunchError::NotAsked),
        }
    }

    /// Ends the attempt. A message that says so waits to be taken.
    pub fn close(&mut self) {
        if !self.is_closed() {
            self.say_end(EndCode::Cancelled);
            self.shut();
            self.events.clear();
        }
    }

    /// Whether it has ended. Events and messages may still wait to be taken.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Says that a datagram of ours, and none of this attempt, went where none had gone before: a NAT with a new port for each
    /// address has made a mapping. The probes that wait are moved on by one.
    pub fn count_mapping(&mut self) {
        self.made = self.made.saturating_add(1);
        self.schedule.count_mapping();
    }

    /// Whether it counts the mappings that our NAT makes: as long as it does, nothing else of ours should make one.
    #[must_use]
    pub const fn counts_mappings(&self) -> bool {
        let meets = matches!(self.plan, Some(Plan { method: Method::Meet, .. }));
        meets && matches!(self.phase, Phase::Arming | Phase::Probing)
    }

    /// What was refused, by reason.
    #[must_use]
    pub const fn rejected(&self) -> &RejectedCounts {
        &self.rejected
    }

    /// Bytes of datagrams that were sent so far, or wait to be taken: never above [`MAX_BYTES`](limits::MAX_BYTES).
    #[must_use]
    pub const fn bytes_sent(&self) -> u32 {
        self.bytes
    }

    /// Probes that were sent so far, answers not counted: never above [`MAX_PROBES`](limits::MAX_PROBES).
    #[must_use]
    pub fn probes_sent(&self) -> usize {
        self.sent.len()
    }

    /// Bytes that wait to be taken: at most [`MAX_QUEUED`](limits::MAX_QUEUED) datagrams and
    /// [`MAX_OUTGOING`](limits::MAX_OUTGOING) messages.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.outbox.len() * Probe::LEN + self.messages.iter().map(Vec::len).sum::<usize>()
    }

    /// The newest time seen.
    pub(crate) fn at(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    pub(crate) fn our_addresses(&self) -> Vec<IpAddr> {
        let candidates = self.setup.candidates.iter().map(|candidate| candidate.addr.ip());
        candidates.chain(self.setup.seen.iter().copied()).collect()
    }

    pub(crate) fn admitted(&self, theirs: &Proposal) -> Vec<Candidate> {
        let ours = self.our_addresses();
        Site { ours: &ours, stated: &self.setup.stated, local: self.setup.local }.choose(&theirs.candidates)
    }

    pub(crate) fn link(&self, socket: u16) -> Link {
        match socket.checked_sub(1) {
            None => Link::Udp,
            Some(number) => Link::Socket(self.setup.first_socket.saturating_add(number.into())),
        }
    }

    pub(crate) fn socket(&self, link: Link) -> Option<u16> {
        match link {
            Link::Udp => Some(0),
            Link::Socket(number) => {
                let number = u16::try_from(number.checked_sub(self.setup.first_socket)?).ok()?.checked_add(1)?;
                (number <= self.opened).then_some(number)
            }
            _ => None,
        }
    }

    /// Queues a datagram, if the budget and the queue have room for it.
    pub(crate) fn send(&mut self, route: Route, kind: ProbeKind, number: u16, opener: bool) -> Result<(), Rejected> {
        let attempt = self.attempt.ok_or(Rejected::Unsolicited)?;
        let bytes = self.bytes.saturating_add(PROBE_LEN);
        if bytes > limits::MAX_BYTES || self.outbox.len() >= limits::MAX_QUEUED {
            return Err(Rejected::LimitReached);
        }
        self.bytes = bytes;
        self.outbox.push_back((route, Probe { kind, number, attempt }, opener));
        Ok(())
    }

    fn shoot(&mut self, shot: Shot) {
        let socket = match shot.socket {
            Socket::Own => self.own,
            Socket::Extra(index) => self.extra.saturating_add(index),
        };
        let route = Route { socket, remote: shot.to };
        let number = match u16::try_from(self.sent.len()) {
            Ok(number) if number < limits::MAX_PROBES => number,
            _ => return,
        };
        if self.send(route, ProbeKind::Probe, number, shot.opener).is_ok() {
            self.sent.push(route);
        }
    }

    pub(crate) fn say(&mut self, message: &Message) {
        if self.messages.len() < limits::MAX_OUTGOING {
            self.messages.push_back(message.encode());
        }
    }

    pub(crate) fn say_end(&mut self, why: EndCode) {
        if let Some(attempt) = self.attempt {
            self.say(&Message::End { attempt, why });
        }
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        self.shut();
        self.events.push_back(Event::Failed(failure));
    }

    pub(crate) fn shut(&mut self) {
        self.phase = Phase::Closed;
        self.deadline = None;
        self.schedule = Schedule::default();
        self.settle_at = None;
        self.chosen = None;
        self.keys = None;
        self.outbox = VecDeque::new();
        self.answered = VecDeque::new();
        self.proved = Vec::new();
    }

    pub(crate) fn kinds(&self) -> (NatKind, NatKind) {
        let theirs = self.theirs.as_ref().map_or(NatKind::Unknown, |theirs| theirs.report.kind());
        (self.setup.report.kind(), theirs)
    }
}

impl Machine for Punch {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        let now = self.at(now);
        let path = Path { remote: canonical(datagram.path.remote), ..datagram.path };
        let result = if self.is_closed() { Err(Rejected::Closed) } else { self.receive(path, datagram.payload, now) };
        result.map_err(|reason| self.rejected.count(reason))
    }

    fn handle_timeout(&mut self, now: Instant) {
        let now = self.at(now);
        if self.settle_at.is_some_and(|at| at <= now) {
            self.choose(now);
        }
        if self.chosen.is_some_and(|chosen| chosen.due.is_some_and(|due| due <= now)) {
            self.repeat_chosen(now);
        }
        if self.deadline.is_some_and(|at| at <= now) {
            self.on_deadline(now);
        }
        // Last: a phase that ends may begin with probes that are due at once.
        while let Some(shot) = self.schedule.pop(now) {
            self.shoot(shot);
        }
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, _now: Instant) -> Option<Transmit> {
        let [key, _] = self.keys.as_ref()?;
        let (route, probe, opener) = self.outbox.pop_front()?;
        out.push(&probe.seal(key));
        let path = Path { link: self.link(route.socket), local: unspecified(route.remote), remote: route.remote };
        let ttl = if opener { NonZeroU8::new(limits::OPENER_TTL) } else { None };
        out.finish(path, Ecn::NotEct).map(|transmit| Transmit { ttl, ..transmit })
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let named = |at: Option<Instant>, reason| at.map(|at| Deadline { at, reason });
        let probe = named(self.schedule.next(), "probe");
        let choice = named(self.settle_at, "better path");
        let chosen = named(self.chosen.and_then(|chosen| chosen.due), "path chosen");
        let phase = named(self.deadline, "end of a round");
        Deadline::earliest(Deadline::earliest(probe, choice), Deadline::earliest(chosen, phase))
    }
}

impl fmt::Debug for Punch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Punch").field("role", &self.role).field("phase", &self.phase).finish_non_exhaustive()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "28")]
const PROBE_LEN: u32 = Probe::LEN as u32;
