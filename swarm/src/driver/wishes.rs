//! What the handles want of the node: topics, readers of events, dials, figures.

use std::net::SocketAddr;
use std::time::Instant;

use peer::Handle;
use relay::client::Named;
use structs::Link;
use tokio::sync::oneshot;

use super::Driver;
use super::command::Command;
use super::limits::COMMANDS_PER_TURN;
use super::shared::Changes;
use crate::carrier::{Carrier, StreamAddr};
use crate::udp::Udp;
use crate::{DialError, DialWay, PeerId, PeerInfo, Proof, Security, node};

/// What a node and its sockets count.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The node's own counters.
    pub node: node::Stats,
    /// Bytes that the kernel buffers for receiving, of the first socket.
    pub receive_buffer: usize,
    /// The datagrams that one sending call takes; 1 where the system has no segmentation offload.
    pub segments: usize,
    /// Batches that the system refused to send.
    pub send_errors: u64,
    /// Receiving calls that failed.
    pub receive_errors: u64,
    /// Multicast joins and beacons that failed, or 1 if multicast could not be set up at all.
    pub lan_errors: u64,
    /// Messages that were accepted and could not be sent: their peer takes none or only shorter ones, which it said too
    /// late, or left before.
    pub dropped: u64,
    /// Connections that carry sessions beside UDP, and those that have not proved anything yet.
    pub connections: usize,
    /// Connections that were not let in, or pushed out before they proved anything.
    pub connections_refused: u64,
    /// Datagrams for which a connection had no room.
    pub connection_drops: u64,
    /// Datagrams that a transport of the application was not given: they were too long for it, or it had no room.
    pub transport_drops: u64,
    /// Streams and requests that are open or wait to be, of all sessions.
    pub streams: usize,
    /// Requests of peers that were not answered: [`SwarmEvent::RequestFailed`](super::SwarmEvent::RequestFailed) tells of them one
    /// by one.
    pub requests_failed: u64,
}

impl Driver {
    /// Takes what the handles left without waiting for an answer.
    pub(super) fn take_changes(&mut self, now: Instant) {
        let Changes { ending, topics, subscribers, seeds } = self.shared.take();
        for seed in seeds {
            self.dial_target(&seed, None);
            self.seeds.add(seed, now);
        }
        if let Some(topics) = topics {
            for topic in self.topics.keys().filter(|topic| !topics.contains_key(topic)) {
                self.node.leave(topic, now);
            }
            self.subscribers.retain(|s| s.topic().is_none_or(|topic| topics.contains_key(topic)));
            for (topic, wish) in topics.iter().filter(|(topic, wish)| self.topics.get(topic) != Some(wish)) {
                // The handles allow no more topics than the node does.
                let _ = self.node.join(*topic, wish.announce, wish.lookup, now);
            }
            self.sources.want_topics(&topics);
            self.topics = topics;
        }
        for mut subscriber in subscribers {
            if subscriber.topic().is_none_or(|topic| self.topics.contains_key(topic)) {
                subscriber.catch_up(&self.roster);
                self.subscribers.push(subscriber);
            }
        }
        self.begin_to_end(ending, now);
    }

    /// Returns how many there were.
    pub(super) fn take_commands(&mut self, now: Instant) -> usize {
        for taken in 0..COMMANDS_PER_TURN {
            let Some(command) = self.request.take().or_else(|| self.requests.try_recv().ok()) else {
                return taken;
            };
            // Whoever asked may have left something before: events that tell of what is done now have to reach him.
            self.take_changes(now);
            self.apply(command, now);
        }
        COMMANDS_PER_TURN
    }

    pub(super) fn apply(&mut self, command: Command, now: Instant) {
        // A reply that nobody waits for is dropped.
        match command {
            Command::Dial { peer, addrs, streams, relays, way, reply } => {
                self.dial((peer, addrs, streams), &relays, way, reply, now);
            }
            Command::AddRelay { relay, addrs, again, reply } => self.add_relay((relay, addrs), again, reply),
            Command::RemoveRelay(relay) => self.remove_relay(relay),
            Command::Listen { at, reply } => drop(reply.send(self.listen(at, now))),
            Command::StopListening { at, reply } => self.stop_listening(at, reply, now),
            Command::Publish { topic, data, permit, reply } => self.publish((topic, data), permit, reply, now),
            Command::AskForOthers { peer, reply } => self.ask_for_others(peer, reply, now),
            Command::Peers(reply) => drop(reply.send(self.peers())),
            Command::Stats(reply) => drop(reply.send(self.stats())),
            Command::Disconnect { peer, grace, reply } => {
                if let Some(handle) = self.node.session(&peer) {
                    // What was accepted goes first.
                    self.list(handle);
                    self.visit_all(now);
                    if let Some(session) = self.sessions.get(&handle) {
                        session.conn.refuse();
                        self.shared.disconnect(&session.conn, session.last());
                    }
                    self.node.disconnect(&peer, grace, now);
                }
                let _ = reply.send(());
            }
            Command::Stun(servers) => self.node.set_stun_servers(&servers, now),
            #[cfg(feature = "portmap")]
            Command::Forwarded(addrs) => self.node.set_forwarded(&addrs, now),
            Command::Bootstrap(addrs) => drop(self.node.bootstrap(&addrs, now)),
            Command::TableGet { wanted, permit, reply } => self.table_get(wanted, permit, reply, now),
            Command::TablePut { value, permit, reply } => self.table_put(value, permit, reply, now),
            Command::TableWithdraw(key, reply) => drop(reply.send(self.table_withdraw(&key, now))),
            Command::TableStats(reply) => drop(reply.send(self.node.table_stats())),
            Command::Resume => self.node.handle_resume(now),
        }
    }

    fn dial(
        &mut self,
        (peer, addrs, streams): (Option<PeerId>, Vec<SocketAddr>, Vec<StreamAddr>),
        relays: &[Named],
        way: DialWay,
        reply: oneshot::Sender<Result<PeerId, DialError>>,
        now: Instant,
    ) {
        let dialled = match peer {
            Some(peer) => self.node.dial_by(peer, &addrs, relays, way, now),
            None => self.node.dial(None, &addrs, now),
        };
        let dialled = match dialled {
            Ok(id) if way != DialWay::Relayed => {
                self.node.also_dial_streams(id, &streams);
                self.node.fall_back(id, &addrs);
                Ok(id)
            }
            Err(DialError::NoAddress) if way != DialWay::Relayed && !streams.is_empty() => {
                self.node.dial_streams(peer, &addrs, &streams, true, now)
            }
            Err(DialError::NoWay { .. }) if way != DialWay::Relayed => {
                self.node.dial_streams(peer, &addrs, &streams, true, now)
            }
            dialled => dialled,
        };
        match (dialled, peer) {
            (Ok(id), peer) => {
                self.dials.insert(id, reply);
                if let Some(peer) = peer.filter(|_| way == DialWay::Any) {
                    self.searches.beside_dial(peer, now);
                }
            }
            (Err(DialError::NoAddress), Some(peer)) if way != DialWay::Relayed => self.find(peer, reply, now),
            // Whoever asked may have given up.
            (Err(error), _) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        let info = |(handle, id, session): (Handle, PeerId, &peer::Peer)| {
            let stats = session.stats();
            let addr = session.path()?.remote;
            Some(PeerInfo {
                id,
                addr,
                path: self.node.way(handle),
                relay: self.node.relay_of(handle),
                carrier: self.carrier(session.path()?.link),
                addrs: stats.paths,
                rtt: stats.rtt.unwrap_or_default(),
                proof: Proof::Key,
                security: Security::Native,
                in_mesh: false,
                queued: stats.buffered_bytes,
                in_flight: usize::try_from(stats.in_flight).unwrap_or(usize::MAX),
                window: usize::try_from(stats.window).unwrap_or(usize::MAX),
                sent: stats.sent,
                received: stats.received,
            })
        };
        let mut peers: Vec<PeerInfo> = self.node.sessions().filter_map(info).collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers
    }

    fn carrier(&self, link: Link) -> Carrier {
        match link {
            Link::Udp | Link::Socket(_) => Carrier::Udp,
            Link::Stream(number) => {
                let dialled = || self.node.stream(number).map(StreamAddr::carrier);
                self.carriers.carrier(number).or_else(dialled).unwrap_or(Carrier::Tcp)
            }
            Link::Circuit(_) => Carrier::Relay,
            Link::Custom(_) => Carrier::Custom,
        }
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            node: self.node.stats(),
            receive_buffer: self.sockets.first().map_or(0, Udp::receive_buffer),
            segments: self.sockets.iter().map(Udp::max_segments).min().unwrap_or(1),
            send_errors: self.send_errors,
            receive_errors: self.sockets.iter().map(|socket| socket.receive_errors).sum::<u64>()
                + self.extra.receive_errors(),
            lan_errors: self.lan.as_ref().map_or(u64::from(self.lan_failed), |lan| lan.errors),
            dropped: self.dropped + self.sessions.values().map(|session| session.dropped).sum::<u64>(),
            connections: self.carriers.len(),
            connections_refused: self.carriers.counts.refused,
            connection_drops: self.carriers.counts.dropped,
            transport_drops: self.transports.dropped,
            streams: self.sessions.values().map(|session| session.streams()).sum(),
            requests_failed: self.requests_failed,
        }
    }
}
