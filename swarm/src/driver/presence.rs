//! Who is there: what the node says of its sessions and topics, for the handles and the readers of events.

use std::collections::BTreeMap;
use std::sync::Arc;

use peer::Handle;
use structs::Link;
use tokio::sync::oneshot;

use super::Driver;
use super::conn::{Conn, Gone};
use super::events::{Message, SwarmEvent};
use super::session::Session;
use crate::clock;
use crate::node::Event;
use crate::{DisconnectReason, PeerId, Security, TopicId};

impl Driver {
    /// Has it written down that a session is open with somebody, and where.
    #[cfg(feature = "cache")]
    pub(super) fn note(&self, handle: Handle, begun: bool) {
        if let (Some(keeper), Some(session)) = (&self.keeper, self.sessions.get(&handle)) {
            let addr = self.node.address_of(handle);
            keeper.seen(super::source::Seen { peer: session.conn.peer, addr, begun });
        }
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Session { session: handle, event } => {
                if let Some(session) = self.sessions.get_mut(&handle) {
                    session.events.push(event);
                    self.node.drain_session(handle, |event| session.events.push(event));
                    if !std::mem::replace(&mut session.listed, true) {
                        self.work.push(handle);
                    }
                }
            }
            Event::Connected { session, connection } => {
                self.arrived += 1;
                let max = self.node.max_message();
                let conn = Arc::new(Conn::new(connection.peer, session, max, Arc::clone(&self.shared.ready)));
                self.shared.connect(Arc::clone(&conn));
                let again = self.roster.get_mut(&connection.peer).is_some();
                if again {
                    self.left(connection.peer, DisconnectReason::Replaced);
                }
                self.roster.insert(Arc::clone(&conn), connection.addr);
                self.sessions.insert(session, Box::new(Session::new(conn, connection.addr)));
                self.reached(session);
                let event = self.roster.connected(&connection.peer);
                self.pass(event);
                self.found(connection.peer);
                #[cfg(feature = "cache")]
                self.note(session, true);
            }
            Event::Moved { session, path } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.addr = path.remote;
                    let peer = session.conn.peer;
                    if let Some(present) = self.roster.get_mut(&peer) {
                        present.addr = path.remote;
                    }
                    self.pass(Some(SwarmEvent::Moved { peer, addr: path.remote }));
                }
                self.reached(session);
                #[cfg(feature = "cache")]
                self.note(session, false);
            }
            Event::Joined { topic, peer, .. } => {
                if let Some(present) = self.roster.get_mut(&peer) {
                    present.topics.insert(topic);
                    let event = self.roster.joined(topic, &peer);
                    self.pass(event);
                }
            }
            Event::Left { topic, peer, .. } => self.left_topic(topic, peer, DisconnectReason::Goodbye(0)),
            Event::Publication { topic, from, data, .. } => {
                let (topic, security) = (Some(topic), Security::Native);
                let message = Message { from, data, topic, authenticated: true, security };
                self.pass(Some(SwarmEvent::Data(message)));
            }
            #[cfg(feature = "v12")]
            Event::V12Key { session, key } => {
                // It proves nothing: acted on by the other wire only where its peer is at the address of this one.
                let session = self.sessions.get(&session).map(|session| session.addr.ip());
                if let (Some(legacy), Some(ip)) = (&self.legacy, session) {
                    legacy.forbid(PeerId::from_bytes(key), ip);
                }
            }
            Event::Disconnected { session, peer, reason, unfinished } => {
                let messages = unfinished.iter().filter(|channel| channel.protocol == self.node.protocols().message);
                self.unsent += messages.map(|channel| channel.account.unsent).sum::<u64>();
                self.on_disconnected(session, peer, reason);
            }
            Event::Dialled { id, peer } => {
                // That session was not opened by others.
                self.arrived = self.arrived.saturating_sub(1);
                answer(&mut self.dials, &id, Ok(peer));
            }
            Event::Others { peer, count, .. } => self.searches.answered(&peer, count),
            Event::RelaysChanged => self.relays.stale = true,
            Event::RelayRefused { relay, code } => {
                self.relays.stale = true;
                self.pass(Some(SwarmEvent::RelayRefused { relay, code }));
            }
            Event::Table(event) => self.on_table_event(event, clock::now()),
            Event::Nat(nat) => {
                self.shared.set_nat(&nat);
                self.pass(Some(SwarmEvent::Nat(*nat)));
            }
            Event::OpenSockets { first, count } => self.open_sockets(first, count),
            Event::CloseSockets { first, count } => self.close_sockets(first, count),
            Event::DialFailed { id, error } => answer(&mut self.dials, &id, Err(error)),
            _ => {}
        }
    }

    /// A session goes by the address of a peer, not by that of a relay or of a connection.
    fn reached(&mut self, handle: Handle) {
        let relay = self.node.relay_of(handle);
        if let Some(session) = self.sessions.get_mut(&handle) {
            session.relay = relay.map(Box::new);
        }
        let path = self.node.path(handle).filter(|path| matches!(path.link, Link::Udp | Link::Custom(_)));
        if let (Some(path), Some(session)) = (path, self.sessions.get(&handle)) {
            self.shared.with_book(|book| book.reached(&session.conn.peer, path.remote));
        }
    }

    pub(super) fn on_disconnected(&mut self, handle: Handle, peer: PeerId, reason: DisconnectReason) {
        let Some(mut session) = self.sessions.remove(&handle) else { return };
        #[cfg(feature = "cache")]
        if let Some(keeper) = &self.keeper {
            keeper.seen(super::source::Seen { peer, addr: None, begun: false });
        }
        let pending = session.pending();
        self.unsent += pending;
        self.dropped += pending + session.dropped;
        self.shared.disconnect(&session.conn, session.last());
        let failed = session.unanswered();
        session.end(if self.shared.is_closed() { Gone::Closed } else { Gone::Disconnected });
        self.pass_failed(handle, peer, failed);
        // Unless a newer session has taken its place.
        if self.roster.get_mut(&peer).is_some_and(|present| present.conn.session == handle) {
            self.left(peer, reason);
        }
    }

    /// A peer is gone, from its topics too.
    pub(super) fn left(&mut self, peer: PeerId, reason: DisconnectReason) {
        let topics = self.roster.get_mut(&peer).map(|present| present.topics.clone()).unwrap_or_default();
        for topic in topics {
            self.left_topic(topic, peer, reason);
        }
        self.roster.remove(&peer);
        self.searches.left(&peer);
        self.pass(Some(SwarmEvent::Disconnected { peer, reason }));
    }

    pub(super) fn left_topic(&mut self, topic: TopicId, peer: PeerId, reason: DisconnectReason) {
        if self.roster.get_mut(&peer).is_some_and(|present| present.topics.remove(&topic)) {
            self.pass(Some(SwarmEvent::Left { topic, peer, reason }));
        }
    }
}

/// Gives the caller of a finished command its answer. Seeds are dialled for nobody.
fn answer<K: Ord, T>(waiting: &mut BTreeMap<K, oneshot::Sender<T>>, id: &K, result: T) {
    if let Some(reply) = waiting.remove(id) {
        // The caller may have given up.
        let _ = reply.send(result);
    }
}
