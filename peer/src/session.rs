//! A session that has keys: the parts, and what they have in common.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::handshake::Ticket;
use crypto::record::RecordKeys;
use crypto::{PeerId, Rng};
use framing::Role;
use structs::{Path, Rare, Rejected};

use crate::ack::Acks;
use crate::cids::{Cid, LocalCids, RemoteCid, RemoteCids};
use crate::event::{Event, Reason};
use crate::limits::{
    MAX_RESPONSES, MIN_DATAGRAM, OVERHEAD, RETRY, RETRY_MAX, Rank, SEARCH_AFTER, STREAM_DATAGRAM, TICKETS,
};
use crate::mux::Mux;
use crate::path::Paths;
use crate::recovery::{Outcome, PathSlot, PathStart, Recovery};
use crate::rekey::RekeyClock;
use crate::shared::{RouteChange, Shared};
use crate::stats::{Counters, Stats};

/// What a session borrows from its [`Peer`](crate::Peer) while it works.
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) rng: &'a mut Rng,
    pub(crate) mux: &'a mut Mux,
    pub(crate) events: &'a mut VecDeque<Event>,
    pub(crate) routes: &'a mut Rare<VecDeque<RouteChange>>,
    pub(crate) counters: &'a mut Counters,
    pub(crate) now: Instant,
}

impl Context<'_> {
    pub(crate) fn challenge(&mut self) -> [u8; 8] {
        self.rng.array()
    }
}

/// The state behind the handshake.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) role: Role,
    pub(crate) peer: PeerId,
    pub(crate) keys: RecordKeys,
    pub(crate) recovery: Recovery,
    pub(crate) acks: Acks,
    pub(crate) paths: Paths,
    pub(crate) local: LocalCids,
    pub(crate) remote: RemoteCids,
    pub(crate) rekey: RekeyClock,
    /// The ids of the tickets that we gave, so that a lost frame is repeated as it was.
    pub(crate) tickets_issued: [Option<[u8; 16]>; TICKETS as usize],
    pub(crate) tickets_received: u8,
    max_datagram: u16,
    /// Where the other side said last that it sees us.
    pub(crate) observed: Option<SocketAddr>,
    pub(crate) control: Control,
    /// The last handshake message, until the other side has shown that it has it.
    pub(crate) confirm: Option<Box<Confirm>>,
    pub(crate) ending: Option<Box<Ending>>,
    /// A wish to end, once all is delivered or time is up.
    pub(crate) closing: Option<Box<Closing>>,
    /// The highest packet number received.
    pub(crate) highest: u64,
    pub(crate) last_heard: Instant,
    /// Since when the other side owes us a sign of life.
    pub(crate) unanswered: Option<Instant>,
    /// What was done about the silence.
    pub(crate) silence: Silence,
    /// When something other than acknowledgements and PINGs last came or went.
    pub(crate) last_used: Instant,
    pub(crate) last_sent: Instant,
    /// In milliseconds, since there may be many sessions.
    pub(crate) keepalive: u32,
    /// It does not grow: something on the way forgets those who are silent.
    pub(crate) keepalive_steady: bool,
    /// Until when the pacer holds packets back.
    pub(crate) paced_until: Option<Instant>,
    pub(crate) greeted: bool,
    /// When anything was done last: a long time before a deadline that passed means that the clock stood still.
    pub(crate) last_called: Instant,
    /// Kept for its memory.
    pub(crate) outcome: Option<Box<Outcome>>,
    /// Larger datagrams are not tried for before, unless something would fill them.
    pub(crate) search_from: Option<Instant>,
    /// It holds what it gives back when it comes to rest.
    pub(crate) awake: bool,
}

/// What was done about a silence, since something was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    Nothing,
    /// The owner knows of it.
    Told,
    /// The path was left.
    Left,
}

/// Single frames that wait to be sent. All of them are repeated when lost, by what they are, not by what they said.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) hello: bool,
    pub(crate) ping: bool,
    pub(crate) rekey: bool,
    pub(crate) observed: bool,
    pub(crate) goaway: bool,
    /// One bit for each ticket of ours that is to be announced.
    pub(crate) tickets: u8,
    pub(crate) new_cids: Rare<Vec<u64>>,
    pub(crate) retire: Rare<Vec<u64>>,
    /// To be returned on the path they came by: its remote end, and the data.
    pub(crate) responses: Rare<Vec<(Path, [u8; 8])>>,
}

impl Control {
    /// Whether anything of it belongs into the next packet of the path in use.
    pub(crate) fn has_output(&self) -> bool {
        self.hello
            || self.ping
            || self.rekey
            || self.observed
            || self.goaway
            || self.tickets != 0
            || !self.new_cids.is_empty()
            || !self.retire.is_empty()
    }

    pub(crate) fn respond(&mut self, path: Path, data: [u8; 8]) {
        if self.responses.len() >= MAX_RESPONSES {
            self.responses.remove(0);
        }
        self.responses.push((path, data));
    }
}

/// XX3, repeated until a packet of the responder opens.
#[derive(Debug)]
pub(crate) struct Confirm {
    pub(crate) message: Vec<u8>,
    pub(crate) next_at: Instant,
    pub(crate) interval: Duration,
}

impl Confirm {
    pub(crate) const fn new(message: Vec<u8>, now: Instant) -> Self {
        Self { message, next_at: now, interval: RETRY }
    }

    pub(crate) fn on_sent(&mut self, now: Instant) {
        self.next_at = now + self.interval;
        self.interval = (self.interval * 2).min(RETRY_MAX);
    }
}

/// The session is over; a last packet says so.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) reason: Reason,
    /// The code and words of our CLOSE; nothing if it was the other side that closed: then one acknowledgement is due.
    pub(crate) close: Option<(u64, String)>,
    pub(crate) next_at: Instant,
    pub(crate) interval: Duration,
    /// When the machine falls silent.
    pub(crate) end_at: Instant,
    /// Nothing more is to be said.
    pub(crate) done: bool,
    /// Their CLOSE is still to be acknowledged.
    pub(crate) owes_answer: bool,
}

/// See [`Peer::close`](crate::Peer::close).
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) code: u64,
    pub(crate) reason: String,
    pub(crate) at: Instant,
}

/// What a handshake gives a session to begin with.
pub(crate) struct Start {
    pub(crate) role: Role,
    pub(crate) peer: PeerId,
    pub(crate) keys: RecordKeys,
    pub(crate) path: Path,
    pub(crate) local: Cid,
    pub(crate) remote: Cid,
    pub(crate) remote_token: Option<[u8; 16]>,
    pub(crate) max_datagram: u16,
    pub(crate) rtt: Option<Duration>,
    pub(crate) confirm: Option<Vec<u8>>,
}

impl Session {
    pub(crate) fn new(start: Start, cx: &mut Context<'_>) -> Self {
        let Start { role, peer, keys, path, local, remote, remote_token, max_datagram, rtt, confirm } = start;
        let config = &cx.shared.config;
        let now = cx.now;
        let remote_cid = RemoteCid { sequence: 0, cid: remote, token: remote_token };
        let slot = PathSlot(0);
        let mut session = Self {
            role,
            peer,
            keys,
            recovery: Recovery::new(config.congestion),
            acks: Acks::new(),
            paths: Paths::new(path, slot, remote_cid, now),
            local: LocalCids::new(local),
            remote: RemoteCids::new(remote, remote_token),
            rekey: RekeyClock::new(now),
            tickets_issued: [None; TICKETS as usize],
            tickets_received: 0,
            max_datagram,
            observed: None,
            control: Control {
                hello: true,
                observed: role == Role::Dialler,
                tickets: if config.tickets { (1 << TICKETS) - 1 } else { 0 },
                ..Control::default()
            },
            confirm: confirm.map(|message| Box::new(Confirm::new(message, now))),
            ending: None,
            closing: None,
            highest: 0,
            last_heard: now,
            unanswered: None,
            silence: Silence::Nothing,
            last_used: now,
            last_sent: now,
            keepalive: 0,
            keepalive_steady: false,
            paced_until: None,
            greeted: false,
            last_called: now,
            search_from: now.checked_add(SEARCH_AFTER),
            outcome: None,
            awake: true,
        };
        session.set_keepalive(session.keepalive_base(cx.shared));
        let start = PathStart { rtt, ..session.path_start(&path, cx.shared) };
        session.recovery.add_path(slot, &start, now);
        cx.mux.set_packet_room(session.recovery.mtu(slot).saturating_sub(OVERHEAD));
        cx.routes.push_back(RouteChange::AddCid(local));
        cx.routes.extend(remote_token.map(RouteChange::AddToken));
        session
    }

    /// The longest datagram that both sides take, in bytes of UDP payload.
    pub(crate) fn most(&self, shared: &Shared) -> usize {
        self.max_datagram.min(shared.config.max_datagram).into()
    }

    /// What recovery is told of a path that nothing is known about.
    pub(crate) fn path_start(&self, path: &Path, shared: &Shared) -> PathStart {
        let most = self.most(shared);
        let (mtu, max_mtu) = match Rank::of(path) {
            // It carries what every path does and no more (SPEC 14.4).
            Rank::Circuit => (MIN_DATAGRAM, MIN_DATAGRAM),
            // What both sides take passes.
            Rank::Stream => (most.min(STREAM_DATAGRAM), most.min(STREAM_DATAGRAM)),
            Rank::Datagrams if shared.config.mtu_discovery => (MIN_DATAGRAM, most),
            Rank::Datagrams => (MIN_DATAGRAM, MIN_DATAGRAM),
        };
        // The address beyond a circuit is that of the relay, and no router sees the datagrams of a stream.
        let datagrams = Rank::of(path) == Rank::Datagrams;
        PathStart {
            mtu,
            max_mtu,
            loopback: datagrams && path.remote.ip().is_loopback(),
            rtt: None,
            ecn: shared.config.ecn && Rank::of(path) != Rank::Stream,
        }
    }

    /// A ticket with this id, as both sides of the session can make it.
    pub(crate) fn ticket(&self, id: [u8; 16], expires: Instant) -> Ticket {
        Ticket::new(id, *self.keys.ticket_psk(&id), self.peer, expires)
    }

    /// The answer to our first message once more: the last message of the handshake was lost.
    pub(crate) fn on_handshake_repeated(&mut self, now: Instant) -> Result<(), Rejected> {
        if let Some(confirm) = &mut self.confirm {
            confirm.next_at = now;
        }
        Err(Rejected::Duplicate)
    }

    pub(crate) fn describe(&self, stats: &mut Stats) {
        let best = self.paths.best().slot;
        let counts = self.recovery.counts();
        (stats.lost, stats.spurious) = (counts.lost, counts.spurious);
        stats.rtt = self.recovery.rtt(best).map(|rtt| rtt.smoothed());
        stats.window = self.recovery.window(best);
        stats.in_flight = self.recovery.in_flight(best);
        stats.mtu = self.recovery.mtu(best);
        stats.paths = self.paths.len();
        stats.generations = (self.keys.send_generation(), self.keys.receive_generation());
    }
}
