//! The machine of one conversation: dispatch only. What it does is in the modules beside it.

mod bulk;
mod verbs;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::handshake::{Acquaintance, Established, InitPayload, Ticket, negotiate};
use crypto::record::RecordKeys;
use crypto::{Cipher, PeerId, Rng, Seed};
use framing::{Kind, Role};
use structs::{Datagram, Deadline, Machine, Path, Rare, Rejected, RejectedCounts, Transmit, TransmitBuf};

use crate::cids::Cid;
use crate::dial::{Answer, Answered, Dial};
use crate::event::{Closed, Connected, Event, Reason, Unfinished};
use crate::limits::{MAX_REASON, REST_EARLY};
use crate::mux::{Mux, ProtocolId, Urgency};
use crate::session::{Context, Session, Silence, Start};
use crate::shared::{RouteChange, Shared, Target};
use crate::stats::{Counters, Stats};

/// One conversation between two peers: see the [crate documentation](crate) for the run loop.
///
/// It begins as a dial or with an accepted handshake, both of which an [`Endpoint`](crate::Endpoint) arranges, and ends
/// with [`Event::Closed`]. Commands may be given at any time before: what cannot leave yet waits within the bounds of
/// the [`Config`](crate::Config).
pub struct Peer {
    shared: Arc<Shared>,
    rng: Rng,
    phase: Phase,
    mux: Mux,
    role: Role,
    id: Option<PeerId>,
    /// The newest time seen: an older one counts as this.
    newest: Instant,
    established_at: Option<Instant>,
    events: VecDeque<Event>,
    routes: Rare<VecDeque<RouteChange>>,
    closed: Option<Box<Closed>>,
    counters: Counters,
    /// There with the first refusal: most sessions have none.
    rejected: Option<Box<RejectedCounts>>,
}

enum Phase {
    Dialling(Box<Dial>),
    Open(Box<Session>),
    Closed,
}

impl Peer {
    /// Begins a handshake with `target` at `path`.
    pub(crate) fn dial(
        shared: Arc<Shared>,
        target: Target,
        acquaintance: Option<Arc<Acquaintance>>,
        ticket: Option<Ticket>,
        path: Path,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let mut peer = Self::new(shared, Role::Dialler, target.id(), seed, now);
        let cid = peer.rng.array();
        match Dial::new(&peer.shared, (target, acquaintance), ticket, path, cid, &mut peer.rng, now) {
            Some(dial) => {
                peer.routes.push_back(RouteChange::AddCid(cid));
                peer.phase = Phase::Dialling(Box::new(dial));
            }
            None => peer.finish(Reason::NoAnswer),
        }
        peer
    }

    /// A session that the other side began, and whose first sealed packet is at hand: feed it next.
    pub(crate) fn accepted(shared: Arc<Shared>, accepted: Accepted, seed: Seed, now: Instant) -> Self {
        let mut peer = Self::new(shared, Role::Responder, Some(accepted.id), seed, now);
        peer.adopt(accepted, now);
        peer
    }

    fn new(shared: Arc<Shared>, role: Role, id: Option<PeerId>, seed: Seed, now: Instant) -> Self {
        let config = &shared.config;
        // Who dialled is no matter to the multiplexer: crossing dials may change it when streams are open already.
        let mux = Mux::new(Role::Dialler, Arc::clone(&config.protocols), Arc::clone(&shared.mux_limits), now);
        Self {
            rng: seed.rng(),
            phase: Phase::Closed,
            mux,
            role,
            id,
            newest: now,
            established_at: None,
            events: VecDeque::new(),
            routes: Rare::new(),
            closed: None,
            counters: Counters::default(),
            rejected: None,
            shared,
        }
    }

    /// Our dial lost against the other side's: its handshake is used, what waits here goes into that session.
    pub(crate) fn adopt(&mut self, accepted: Accepted, now: Instant) {
        let Accepted { established, keys, id, local, resumed, path } = accepted;
        if let Phase::Dialling(dial) = &self.phase {
            self.routes.push_back(RouteChange::RemoveCid(dial.cid()));
        }
        self.role = Role::Responder;
        let Established { remote_cid, payload, secrets, .. } = established;
        let InitPayload { capabilities, max_datagram, versions, .. } = payload;
        let start = Peering {
            id,
            secrets,
            keys,
            local,
            remote: remote_cid,
            token: None,
            capabilities,
            versions,
            max_datagram,
            confirm: None,
        };
        self.establish(start, Answered { resumed, rtt: None }, path, now);
    }

    /// Keeps quiet until then, because the other side dials us and goes first.
    pub(crate) fn suspend_dial(&mut self, until: Instant) {
        if let Phase::Dialling(dial) = &mut self.phase {
            dial.hold(until);
        }
    }

    /// Dials at another address as well.
    pub(crate) fn also_try(&mut self, path: Path, now: Instant) {
        self.newest = self.newest.max(now);
        if let Phase::Dialling(dial) = &mut self.phase {
            dial.also_try(path);
        }
    }

    /// A newer session of the same peer is there.
    pub(crate) fn replaced(&mut self, now: Instant) {
        self.with_session(now, |session, cx| session.end(Reason::Replaced, cx));
        if matches!(self.phase, Phase::Dialling(_)) {
            self.finish(Reason::Replaced);
        }
    }

    /// Which datagrams belong to this session has changed. To be asked until `None` after every call.
    pub(crate) fn poll_route(&mut self) -> Option<RouteChange> {
        // Asked after every call, and empty as a rule.
        if self.routes.is_empty() { None } else { self.routes.pop_front() }
    }

    /// Who the other side is: known from the dial, or proved; `None` while whoever answers is dialled.
    #[must_use]
    pub const fn id(&self) -> Option<PeerId> {
        self.id
    }

    /// Whether we dialled.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Whether the handshake is still under way.
    #[must_use]
    pub const fn is_dialling(&self) -> bool {
        matches!(self.phase, Phase::Dialling(_))
    }

    /// Whether the machine has ended: it is silent, and its commands are refused.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// When the handshake was over.
    #[must_use]
    pub const fn established_at(&self) -> Option<Instant> {
        self.established_at
    }

    /// The path in use.
    #[must_use]
    pub fn path(&self) -> Option<Path> {
        match &self.phase {
            Phase::Dialling(dial) => dial.path(),
            Phase::Open(session) => Some(session.paths.best().path),
            Phase::Closed => None,
        }
    }

    /// All paths that are proved, the one in use first.
    pub fn paths(&self) -> impl Iterator<Item = Path> + '_ {
        let session = match &self.phase {
            Phase::Open(session) => Some(session),
            _ => None,
        };
        let best = session.map(|session| session.paths.best().path);
        let others = session.into_iter().flat_map(|session| session.paths.iter());
        let others = others.filter(|state| state.is_full()).map(|state| state.path);
        best.into_iter().chain(others.filter(move |path| Some(*path) != best))
    }

    /// Whether it is a session that has heard nothing since [`Event::Silent`](crate::Event::Silent), and knows no other path.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(&self.phase, Phase::Open(session) if session.silence == Silence::Told)
    }

    /// Whether it is a dial that tries this path.
    #[must_use]
    pub fn tries(&self, path: &Path) -> bool {
        matches!(&self.phase, Phase::Dialling(dial) if dial.knows(path))
    }

    /// Tries another path: one from an address of ours, or to an address the other side named. It carries data once it
    /// has proved itself, and if it is the better one. Says whether there was room for it.
    pub fn add_path(&mut self, path: Path, now: Instant) -> bool {
        let added = self.with_session(now, |session, cx| {
            session.paths.find(&path).is_none() && session.new_path(path, true, cx).is_some()
        });
        added.unwrap_or(false)
    }

    /// Says whether a NAT is on the way, whose mapping is to be kept: then PINGs leave as often as
    /// [`Idle::KeepAlive`](crate::Idle::KeepAlive) says and do not get rarer. That they are answered says nothing about how long a
    /// mapping lasts, since each of them makes a new one.
    pub fn keep_mapping(&mut self, on: bool, now: Instant) {
        self.with_session(now, |session, cx| session.set_steady(on, cx));
    }

    /// Says that a path carries nothing any more, as when a relay ended a circuit. If it is the one in use, another proved one
    /// takes its place at once, and what was under way is sent again; the last proved path stays nevertheless, and the session
    /// with it as long as another could come. Says whether it was a path of the session.
    ///
    /// A dial does not try it any more, but goes on, also without any path: another one may come. Of a dial of an endpoint that
    /// one is to be told, by [`Endpoint::lose_path`](crate::Endpoint::lose_path).
    pub fn lose_path(&mut self, path: &Path, now: Instant) -> bool {
        if let Phase::Dialling(dial) = &mut self.phase {
            return dial.lose_path(path);
        }
        self.with_session(now, |session, cx| session.lose_path(path, cx)).unwrap_or(false)
    }

    /// The network has changed, or the machine was asleep: every path is asked anew, and silence so far is forgiven.
    pub fn handle_resume(&mut self, now: Instant) {
        self.with_session(now, |session, cx| session.on_resume(cx));
    }

    /// Ends the session: at once, or when everything accepted is acknowledged, but after `grace` at the latest.
    ///
    /// The other side is told `code` and `reason` (cut to 256 bytes). Codes of applications begin at 0x100. A dial is
    /// given up.
    pub fn close(&mut self, code: u64, reason: &str, grace: Duration, now: Instant) {
        let at = now + grace;
        self.with_session(now, |session, cx| session.close(code, reason, at, cx));
        if matches!(self.phase, Phase::Dialling(_)) {
            self.finish(Reason::Local { code });
        }
    }

    /// Key material that both sides of this session know and nobody else, for a purpose named by `label`; nothing
    /// before the handshake is over.
    #[must_use]
    pub fn exporter(&self, label: &[u8]) -> Option<[u8; 32]> {
        match &self.phase {
            Phase::Open(session) => Some(*session.keys.exporter(label)),
            _ => None,
        }
    }

    /// How many bytes wait in the buffers, both directions.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.mux.buffered_bytes()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            sent: self.counters.sent,
            bytes_sent: self.counters.bytes_sent,
            received: self.counters.received,
            bytes_received: self.counters.bytes_received,
            lost: 0,
            spurious: 0,
            rtt: None,
            window: 0,
            in_flight: 0,
            mtu: 0,
            paths: 0,
            generations: (0, 0),
            buffered_bytes: self.mux.buffered_bytes(),
            mux: self.mux.stats(),
            rejected: self.rejected.as_deref().copied().unwrap_or_default(),
        };
        if let Phase::Open(session) = &self.phase {
            session.describe(&mut stats);
        }
        stats
    }

    /// The next event of a protocol, if it is the turn of one: what became of the session itself goes first.
    pub(crate) fn poll_mux_event(&mut self) -> Option<crate::mux::Event> {
        if self.events.is_empty() { self.mux.poll_event() } else { None }
    }

    /// Comes to rest if it was quiet for a moment. Says whether it is at rest now, or over.
    pub(crate) fn rest_early(&mut self, now: Instant) -> bool {
        let at_rest = self.with_session(now, |session, cx| {
            session.rest_if_quiet(REST_EARLY, cx);
            !session.awake
        });
        at_rest.unwrap_or(!self.is_dialling())
    }

    pub(crate) fn is_awake(&self) -> bool {
        matches!(&self.phase, Phase::Open(session) if session.awake)
    }

    // ---- inside ----

    fn is_over(&self) -> bool {
        match &self.phase {
            Phase::Open(session) => session.ending.is_some() || session.closing.is_some(),
            Phase::Dialling(_) => false,
            Phase::Closed => true,
        }
    }

    fn with_session<R>(&mut self, now: Instant, run: impl FnOnce(&mut Session, &mut Context<'_>) -> R) -> Option<R> {
        self.newest = self.newest.max(now);
        let Phase::Open(session) = &mut self.phase else { return None };
        let mut cx = Context {
            shared: &self.shared,
            rng: &mut self.rng,
            mux: &mut self.mux,
            events: &mut self.events,
            routes: &mut self.routes,
            counters: &mut self.counters,
            now: self.newest,
        };
        let result = run(session, &mut cx);
        if session.ending.as_ref().is_some_and(|ending| ending.done && !ending.owes_answer) {
            self.retire();
        }
        Some(result)
    }

    #[cold]
    fn reject(&mut self, reason: Rejected) -> Rejected {
        self.rejected.get_or_insert_default().count(reason)
    }

    /// The session has said its last word.
    fn retire(&mut self) {
        if let Phase::Open(session) = &mut self.phase {
            session.release(&mut self.routes);
            let reason = session.ending.take().map_or(Reason::Abandoned, |ending| ending.reason);
            self.finish(reason);
        }
    }

    fn finish(&mut self, reason: Reason) {
        if let Phase::Dialling(dial) = &self.phase {
            self.routes.push_back(RouteChange::RemoveCid(dial.cid()));
        }
        self.phase = Phase::Closed;
        let mut unfinished = Vec::new();
        let protocols = u16::try_from(self.shared.config.protocols.len()).unwrap_or(u16::MAX);
        for protocol in (0..protocols).map(ProtocolId) {
            for urgency in [Urgency::Normal, Urgency::Urgent] {
                let account = self.mux.account(protocol, urgency);
                if account.accepted > account.acked {
                    unfinished.push(Unfinished { protocol, urgency, account });
                }
            }
        }
        self.closed = Some(Box::new(Closed { reason, unfinished }));
    }

    fn on_answer(&mut self, datagram: &Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        let dial = match &mut self.phase {
            Phase::Dialling(dial) => dial,
            Phase::Open(session) => return session.on_handshake_repeated(now),
            Phase::Closed => return Err(Rejected::Closed),
        };
        // An answer that comes from elsewhere, however genuine, must not lead the session there.
        if !dial.knows(&datagram.path) {
            return Err(Rejected::Unsolicited);
        }
        match dial.on_answer(&self.shared, datagram.payload, &mut self.rng, now)? {
            Answer::Hint => Ok(()),
            Answer::WrongPeer(obtained) => {
                self.finish(Reason::WrongPeer { obtained });
                Ok(())
            }
            Answer::Established(established, id, answered) => {
                let local = dial.cid();
                let Established { remote_cid, payload, secrets, xx3, .. } = *established;
                let start = Peering {
                    id,
                    secrets,
                    keys: None,
                    local,
                    remote: remote_cid,
                    token: Some(payload.reset_token),
                    capabilities: payload.capabilities,
                    versions: payload.versions,
                    max_datagram: payload.max_datagram,
                    confirm: xx3,
                };
                self.establish(start, answered, datagram.path, now);
                self.events.push_back(Event::Observed(payload.observed));
                Ok(())
            }
        }
    }

    fn establish(&mut self, with: Peering, answered: Answered, path: Path, now: Instant) {
        self.newest = self.newest.max(now);
        if negotiate(crypto::handshake::VERSIONS, with.versions).is_none() {
            return self.finish(Reason::NoCommonVersion);
        }
        if with.id == self.shared.identity.peer_id() {
            return self.finish(Reason::WrongPeer { obtained: with.id });
        }
        let cipher = Cipher::negotiated(self.shared.capabilities(), with.capabilities);
        let keys = with.keys.map_or_else(|| RecordKeys::new(&with.secrets, cipher), Ok);
        // Both have said that they have it.
        let Ok(keys) = keys else { return self.finish(Reason::NoCommonVersion) };
        let start = Start {
            role: self.role,
            peer: with.id,
            keys,
            path,
            local: with.local,
            remote: with.remote,
            remote_token: with.token,
            max_datagram: with.max_datagram,
            rtt: answered.rtt,
            confirm: with.confirm,
        };
        let mut cx = Context {
            shared: &self.shared,
            rng: &mut self.rng,
            mux: &mut self.mux,
            events: &mut self.events,
            routes: &mut self.routes,
            counters: &mut self.counters,
            now: self.newest,
        };
        self.phase = Phase::Open(Box::new(Session::new(start, &mut cx)));
        (self.id, self.established_at) = (Some(with.id), Some(self.newest));
        let Answered { resumed, .. } = answered;
        self.events.push_back(Event::Connected(Connected { peer: with.id, role: self.role, resumed, cipher, path }));
    }
}

/// A handshake that the other side began, and has confirmed.
pub(crate) struct Accepted {
    pub(crate) established: Established<InitPayload>,
    /// Of that handshake, if they were made already.
    pub(crate) keys: Option<RecordKeys>,
    pub(crate) id: PeerId,
    /// The connection id that we chose.
    pub(crate) local: Cid,
    /// It used a ticket.
    pub(crate) resumed: bool,
    pub(crate) path: Path,
}

/// What both kinds of handshake give.
struct Peering {
    id: PeerId,
    secrets: crypto::handshake::SessionSecrets,
    /// Of these secrets, if they were made already.
    keys: Option<RecordKeys>,
    local: Cid,
    remote: Cid,
    token: Option<[u8; 16]>,
    capabilities: u64,
    versions: u32,
    max_datagram: u16,
    confirm: Option<Vec<u8>>,
}

impl Machine for Peer {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        self.newest = self.newest.max(now);
        let now = self.newest;
        let Some(&first) = datagram.payload.first() else { return Err(self.reject(Rejected::Empty)) };
        let result = match Kind::of(first) {
            Some(Kind::Data) => match self.phase {
                Phase::Open(_) => {
                    self.with_session(now, |session, cx| session.on_data(datagram, cx)).unwrap_or(Err(Rejected::Closed))
                }
                Phase::Dialling(_) => Err(Rejected::Unsolicited),
                Phase::Closed => Err(Rejected::Closed),
            },
            Some(Kind::Resp | Kind::Xx2 | Kind::RespR | Kind::Cookie | Kind::Retry) => self.on_answer(&datagram, now),
            _ => Err(Rejected::UnknownKind),
        };
        result.map_err(|reason| self.reject(reason))
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.newest = self.newest.max(now);
        let now = self.newest;
        match &mut self.phase {
            Phase::Dialling(dial) => {
                if !dial.on_timeout(&self.shared, &mut self.rng, now) {
                    self.finish(Reason::NoAnswer);
                }
            }
            Phase::Open(_) => {
                if self.with_session(now, Session::on_timeout) == Some(false) {
                    self.retire();
                }
            }
            Phase::Closed => {}
        }
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        self.newest = self.newest.max(now);
        let now = self.newest;
        match &mut self.phase {
            Phase::Dialling(dial) => {
                let (path, message) = dial.poll(now)?;
                if !out.push(message) {
                    return None;
                }
                self.counters.sent += 1;
                self.counters.bytes_sent += message.len() as u64;
                out.finish(path, structs::Ecn::NotEct)
            }
            Phase::Open(_) => self.with_session(now, |session, cx| session.poll_transmit(out, cx)).flatten(),
            Phase::Closed => None,
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events
            .pop_front()
            .or_else(|| self.mux.poll_event().map(Event::Mux))
            .or_else(|| self.closed.take().map(|closed| Event::Closed(*closed)))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match &self.phase {
            Phase::Dialling(dial) => Some(Deadline { at: dial.deadline(), reason: "handshake" }),
            // A cap that is over waits for something else: for room in the window.
            Phase::Open(session) => session.deadline(&self.shared, self.mux.deadline().filter(|at| *at > self.newest)),
            Phase::Closed => None,
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Dialling(_) => "dialling",
            Phase::Open(_) => "open",
            Phase::Closed => "closed",
        };
        f.debug_struct("Peer").field("id", &self.id).field("phase", &phase).finish_non_exhaustive()
    }
}

/// A reason as CLOSE carries it.
pub(crate) fn cut(reason: &str) -> String {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default().to_owned()
}
