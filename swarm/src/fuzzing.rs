//! What reads the words of strangers and has no public type: for fuzzers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::rendezvous::{Meeting, Rendezvous};
use crypto::{Identity, Seed};

use crate::discovery::Reach;
use crate::driver::carrier::frame;
use crate::driver::source::{Heard, Meetings, Span, Us};
use crate::v12::driver::said;
use crate::{PeerId, TopicId};

/// The datagrams of a byte stream that arrives in these pieces, read as a connection does, and what is left; `None` if it is
/// not of this protocol.
pub fn stream<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let (mut partial, mut datagrams) = (Vec::new(), Vec::new());
    for piece in pieces {
        partial.extend_from_slice(piece);
        let whole = frame::complete(&partial).ok()?;
        if whole == 0 {
            continue;
        }
        let rest = partial.split_off(whole);
        frame::each(&mut partial, |datagram| datagrams.push(datagram.to_vec()));
        partial = rest;
    }
    Some((datagrams, partial))
}

/// Appends a datagram to a byte stream.
pub fn push(out: &mut Vec<u8>, datagram: &[u8]) {
    frame::push(out, datagram);
}

/// What one node says and hears of one topic at one server.
#[derive(Debug)]
pub struct Server {
    meetings: Meetings,
    place: Rendezvous,
    span: Span,
}

impl Server {
    /// A server that is so near, for a node that goes so far.
    #[must_use]
    pub fn new(identity: Identity, topic: TopicId, near: Reach, far: Reach) -> Self {
        let span = Span::of(near, far);
        let meetings = Meetings::new(Arc::new(identity), span, Seed::fixed(1));
        Self { meetings, place: Rendezvous::new(Meeting::Topic, topic.as_bytes(), 20_000), span }
    }

    /// Where we are, as it is left there; `None` if there is nothing to say.
    #[must_use]
    pub fn body(&self, addrs: Vec<SocketAddr>, unix: Duration) -> Option<Vec<u8>> {
        let us = Us { addrs, ..Us::default() };
        self.meetings.body((&self.place, self.place.name()), &us, &mut self.meetings.rng(), unix).ok()
    }

    /// A text that only those who know the topic can seal.
    #[must_use]
    pub fn seal(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.place.seal(self.place.name(), text, &mut self.meetings.rng()).ok()
    }

    /// Who left a body, and where he or a relay of his is dialled.
    #[must_use]
    pub fn read(&self, body: &[u8], unix: Duration) -> Option<(PeerId, Vec<SocketAddr>)> {
        let left = self.meetings.read((&self.place, self.place.name()), body, unix)?;
        let relays = left.relays.into_iter().flat_map(|named| named.addrs);
        Some((left.peer, left.addrs.into_iter().chain(relays).collect()))
    }

    /// Whether an address may be dialled that somebody names there.
    #[must_use]
    pub fn has(&self, addr: &SocketAddr) -> bool {
        self.span.has(addr)
    }

    /// What an existing node says at a piping server: its id, and where it is dialled.
    #[must_use]
    pub fn met(&self, body: &[u8], own: &str) -> Option<(String, Vec<SocketAddr>)> {
        said::met(body, own, self.span).map(|said| (said.id, said.addrs))
    }

    /// The list of a bootstrap server of the existing nodes.
    #[must_use]
    pub fn listed(&self, answer: &[u8], own: &str) -> Option<Vec<SocketAddr>> {
        said::listed(answer, own, self.span)
    }
}

/// Where a service of multicast DNS is, and whether it is one for this topic and hour.
#[must_use]
pub fn service(
    name: &str,
    tag: &str,
    addrs: &[SocketAddr],
    reach: Reach,
    (topic, hour): (TopicId, u64),
) -> Option<(Vec<SocketAddr>, bool)> {
    let heard = Heard::read(name, tag, addrs.iter().copied(), reach)?;
    let is_for = heard.is_for(topic, hour);
    Some((heard.addrs, is_for))
}
