//! Byte streams as paths of sessions, for networks that drop UDP (SPEC 9.10).
//!
//! A stream is a [`Link::Stream`] with a number. Those that we dial are numbered here: whoever drives the node opens one when
//! the first datagram for it leaves, and opens it again as long as [`Node::stream`] knows where it leads. So for a session a
//! connection that breaks is a path that loses datagrams for a while. Those that others open are numbered by the driver, from
//! [`ACCEPTED`] on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use framing::scope::is_usable;
use peer::{Handle, Target};
use structs::{Deadline, Link, Path};

use super::dials::any_local;
use super::{LEAVING, Node, transport_link};
use crate::carrier::{Carrier, StreamAddr};
use crate::{DialError, DialId, PeerId, TransportAddr};

/// The numbers of streams that others opened begin here.
pub const ACCEPTED: u32 = 1 << 31;

/// The streams that we dial.
#[derive(Debug)]
pub(super) struct Streams {
    falls_back: bool,
    next: u32,
    dialled: BTreeMap<u32, Dialled>,
    /// Dials whose addresses are tried by TCP too.
    fall_backs: BTreeMap<DialId, FallBack>,
    /// Sessions for which UDP is looked for.
    sought: BTreeMap<Handle, Search>,
}

#[derive(Debug)]
struct Dialled {
    to: StreamAddr,
    session: Handle,
}

#[derive(Debug)]
struct FallBack {
    at: Instant,
    addrs: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Search {
    addr: SocketAddr,
    next: Instant,
    pause: Duration,
}

impl Streams {
    pub(super) fn new(falls_back: bool) -> Self {
        let (dialled, fall_backs, sought) = Default::default();
        Self { falls_back, next: 0, dialled, fall_backs, sought }
    }

    /// A dial has succeeded: its addresses were not silent.
    pub(super) fn dial_over(&mut self, id: DialId) {
        self.fall_backs.remove(&id);
    }
}

impl Node {
    /// Dials a peer at these addresses and by these streams at once. With `fall_back`, addresses that are silent for 750 ms
    /// are tried by TCP as well. Otherwise as [`dial`](Self::dial).
    ///
    /// # Errors
    ///
    /// [`DialError`]; nothing was sent then.
    pub fn dial_streams(
        &mut self,
        peer: Option<PeerId>,
        addrs: &[SocketAddr],
        streams: &[StreamAddr],
        fall_back: bool,
        now: Instant,
    ) -> Result<DialId, DialError> {
        // Who has no UDP at all goes by TCP at once.
        let at_once = fall_back && self.streams.falls_back && !self.ways.ipv4 && !self.ways.ipv6;
        let instead = addrs.iter().filter(|addr| at_once && TransportAddr::of(**addr).is_none());
        let instead: Vec<StreamAddr> = instead.copied().map(StreamAddr::tcp).collect();
        let is_some = !streams.is_empty() || !instead.is_empty();
        let id = match self.dial(peer, addrs, now) {
            Err(DialError::NoAddress | DialError::NoWay { .. }) if is_some => self.dial_nowhere(peer)?,
            other => other?,
        };
        self.also_dial_streams(id, streams);
        self.also_dial_streams(id, &instead);
        if fall_back {
            self.fall_back(id, addrs);
        }
        if self.end_empty_dial(id) {
            return Err(streams.first().map_or(DialError::NoAddress, |to| DialError::BadAddress { addr: to.addr }));
        }
        Ok(id)
    }

    /// Tries these streams for a dial that is under way.
    pub fn also_dial_streams(&mut self, id: DialId, streams: &[StreamAddr]) {
        for to in streams.iter().take(MAX_STREAMS) {
            self.dial_stream(id, to.clone());
        }
    }

    /// Has the addresses of a dial that is under way tried by TCP if they are silent.
    pub fn fall_back(&mut self, id: DialId, addrs: &[SocketAddr]) {
        // Only what is silent by UDP.
        let is_tried = |addr: &SocketAddr| self.ways.to(*addr).is_some_and(|path| path.link == Link::Udp);
        let addrs: Vec<SocketAddr> = addrs.iter().copied().filter(is_tried).take(MAX_STREAMS).collect();
        if self.streams.falls_back && !addrs.is_empty() && self.dials.is_under_way(id) {
            self.streams.fall_backs.insert(id, FallBack { at: self.now + FALL_BACK_AFTER, addrs });
        }
    }

    /// Where a stream leads that we dial; nothing once no session wants it any more.
    #[must_use]
    pub fn stream(&self, number: u32) -> Option<&StreamAddr> {
        self.streams.dialled.get(&number).map(|dialled| &dialled.to)
    }

    /// The connection of a stream has broken. A session that has another path goes on there; one that has not waits for the
    /// stream, if we dial it, or for the other side to come by another.
    pub fn stream_lost(&mut self, number: u32, now: Instant) {
        self.tick(now);
        let link = Link::Stream(number);
        let of = |path: &Path| path.link == link;
        let users: Vec<(Handle, Path)> = match self.streams.dialled.get(&number) {
            Some(dialled) => {
                let session = self.endpoint.peer(dialled.session);
                let path = session.and_then(|session| session.paths().find(of));
                path.map(|path| (dialled.session, path)).into_iter().collect()
            }
            None => {
                self.sessions().filter_map(|(handle, _, session)| Some((handle, session.paths().find(of)?))).collect()
            }
        };
        for (handle, path) in users {
            let now = self.now;
            let left = self.endpoint.with(handle, now, |session, now| {
                session.lose_path(&path, now);
                !session.paths().any(|other| other.link == link)
            });
            if left == Some(true) {
                self.streams.dialled.remove(&number);
            }
        }
    }

    /// A transport has ended, and does not come again: nothing is dialled by it any more, sessions that have another path go on
    /// there, and the others are closed, so that their peers can be dialled elsewhere.
    pub fn transport_lost(&mut self, transport: u16, now: Instant) {
        self.tick(now);
        self.ways.transports.remove(&transport);
        let link = transport_link(transport);
        self.lose_ways(|path| path.link == link);
    }

    /// Says which families there are UDP sockets for from now on. Where there are none any more, sessions go on by another path,
    /// and those that have none are closed.
    pub fn set_families(&mut self, ipv4: bool, ipv6: bool, now: Instant) {
        self.tick(now);
        (self.ways.ipv4, self.ways.ipv6) = (ipv4, ipv6);
        self.lose_ways(|path| path.link == Link::Udp && !(if path.remote.is_ipv4() { ipv4 } else { ipv6 }));
    }

    /// These paths lead nowhere any more.
    fn lose_ways(&mut self, is_lost: impl Fn(&Path) -> bool) {
        let now = self.now;
        // Those too that were opened by what came just now.
        let on_it: Vec<(Handle, Path)> = self
            .endpoint
            .peers()
            .flat_map(|(handle, session)| session.paths().map(move |path| (handle, path)))
            .filter(|(_, path)| is_lost(path))
            .collect();
        for (handle, path) in on_it {
            self.endpoint.lose_path(handle, &path, now);
            // The last of a session stays in it.
            let left = self.endpoint.peer(handle);
            if left.is_some_and(|session| session.paths().all(|path| is_lost(&path))) {
                if let Some(session) = self.sessions.get_mut(&handle) {
                    session.ending = true;
                }
                self.endpoint.with(handle, now, |session, now| session.close(LEAVING, "", Duration::ZERO, now));
            }
        }
    }

    /// A stream that we dial is connected again: the other side knows it by another number, and has to hear of it.
    pub fn stream_restored(&mut self, number: u32, now: Instant) {
        self.tick(now);
        if let Some(session) = self.streams.dialled.get(&number).map(|dialled| dialled.session) {
            self.endpoint.with(session, self.now, |session, now| session.handle_resume(now));
        }
    }

    /// The path that a session goes by.
    #[cfg(feature = "tokio")]
    pub(crate) fn path(&self, session: Handle) -> Option<Path> {
        self.endpoint.peer(session).and_then(peer::Peer::path)
    }

    /// Whether a session goes by datagrams between both sides' sockets.
    pub(super) fn goes_by_datagrams(&self, session: Handle) -> bool {
        self.endpoint.peer(session).and_then(peer::Peer::path).is_some_and(|path| is_datagrams(&path))
    }

    /// A session is open: streams that were tried for it beside the way by which it came are not needed.
    pub(super) fn streams_connected(&mut self, session: Handle) {
        let link = self.endpoint.peer(session).and_then(peer::Peer::path).map(|path| path.link);
        self.streams
            .dialled
            .retain(|number, dialled| dialled.session != session || link == Some(Link::Stream(*number)));
        self.seek_datagrams(session);
    }

    /// A session is open, or goes another way: by a stream that we dial, UDP is looked for at the same address.
    pub(super) fn seek_datagrams(&mut self, session: Handle) {
        let path = self.endpoint.peer(session).and_then(peer::Peer::path);
        let to = match path.map(|path| path.link) {
            Some(Link::Stream(number)) => self.stream(number).filter(|to| to.carrier() == Carrier::Tcp),
            _ => None,
        };
        match to.map(|to| to.addr) {
            Some(addr) => {
                let first = Search { addr, next: self.now + FIRST_PAUSE, pause: FIRST_PAUSE };
                self.streams.sought.entry(session).or_insert(first);
            }
            None => drop(self.streams.sought.remove(&session)),
        }
    }

    /// A session is over, or was never one.
    pub(super) fn streams_closed(&mut self, session: Handle) {
        self.streams.sought.remove(&session);
        self.streams.dialled.retain(|_, dialled| dialled.session != session);
    }

    pub(super) fn streams_timeout(&mut self) {
        let now = self.now;
        let due = |at: Instant| at <= now;
        let late: Vec<DialId> =
            self.streams.fall_backs.iter().filter(|(_, dial)| due(dial.at)).map(|(id, _)| *id).collect();
        for id in late {
            let Some(FallBack { addrs, .. }) = self.streams.fall_backs.remove(&id) else { continue };
            for addr in addrs.into_iter().filter(is_usable) {
                self.dial_stream(id, StreamAddr::tcp(addr));
            }
        }
        for (session, search) in self.streams.sought.iter_mut().filter(|(_, search)| due(search.next)) {
            search.next = now + search.pause;
            search.pause = (search.pause * 2).min(LONGEST_PAUSE);
            let path = Path::udp(any_local(search.addr), search.addr);
            self.endpoint.with(*session, now, |session, now| session.add_path(path, now));
        }
    }

    pub(super) fn streams_deadline(&self) -> Option<Deadline> {
        if self.is_closed() {
            return None;
        }
        let fall_back = self.streams.fall_backs.values().map(|dial| dial.at).min();
        let datagrams = self.streams.sought.values().map(|search| search.next).min();
        Deadline::earliest(
            fall_back.map(|at| Deadline { at, reason: "fall back to streams" }),
            datagrams.map(|at| Deadline { at, reason: "look for datagrams" }),
        )
    }

    fn dial_stream(&mut self, id: DialId, to: StreamAddr) {
        // A dial that waits for the end of a session begins anew.
        let Some(expected) = self.dials.expected(id) else { return };
        if self.ending || !is_usable(&to.addr) || self.streams.dialled.len() >= MAX_DIALLED {
            return;
        }
        let target = match expected.map(crypto::PeerId::try_from) {
            Some(Ok(peer)) => Target::Known(peer),
            Some(Err(_)) => return,
            None => Target::Anyone,
        };
        self.streams.next = (self.streams.next + 1) % ACCEPTED;
        let number = self.streams.next;
        let path = Path { link: Link::Stream(number), local: any_local(to.addr), remote: to.addr };
        match self.endpoint.dial(target, path, self.now) {
            Ok(session) => {
                self.streams.dialled.insert(number, Dialled { to, session });
                self.dials.also(id, session);
            }
            Err(peer::DialError::AlreadyConnected(session)) => {
                self.streams.dialled.insert(number, Dialled { to, session });
                self.endpoint.with(session, self.now, |session, now| session.add_path(path, now));
            }
            Err(_) => {}
        }
    }
}

/// Whether datagrams of a path travel as such, so that its addresses are those of our sockets.
pub(super) const fn is_datagrams(path: &Path) -> bool {
    matches!(path.link, Link::Udp | Link::Socket(_))
}

/// For how long UDP may be silent before TCP is tried at the same address.
const FALL_BACK_AFTER: Duration = Duration::from_millis(750);
/// Streams of one dial: the endpoint tries no more.
const MAX_STREAMS: usize = 4;
/// Streams that we dial, of all sessions; further ones are not tried.
const MAX_DIALLED: usize = 256;
/// How long after the beginning UDP is looked for, and the longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
