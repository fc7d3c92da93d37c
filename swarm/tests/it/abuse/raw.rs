//! A peer that speaks the session as it likes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use crypto::{Identity, Seed};
use framing::StreamCode;
use peer::mux::{self, Protocol as Wire, ProtocolId, Protocols};
use peer::{Config, Endpoint, Handle, Target};
use structs::{Datagram, Epoch, Machine, Path, TransmitBuf};
use swarm::{Peer, Swarm, SwarmEvent};
use tokio::net::UdpSocket;

use crate::support::{ECHO, LONG, connect, node, within};

pub(super) const NAMES: [&str; 4] = ["setowire/topic", "setowire/message", "setowire/stream", "setowire/request"];
pub(super) static TOPIC: LazyLock<ProtocolId> = LazyLock::new(|| protocols(&NAMES).1[0]);
pub(super) static MESSAGE: LazyLock<ProtocolId> = LazyLock::new(|| protocols(&NAMES).1[1]);
pub(super) static STREAM: LazyLock<ProtocolId> = LazyLock::new(|| protocols(&NAMES).1[2]);
pub(super) static REQUEST: LazyLock<ProtocolId> = LazyLock::new(|| protocols(&NAMES).1[3]);

/// As a node has them, and their ids.
pub(super) fn protocols(names: &[&str]) -> (Protocols, Vec<ProtocolId>) {
    let mut protocols = Protocols::new();
    let ids = names.iter().map(|name| {
        let streams = name.ends_with("stream") || name.ends_with("request");
        let protocol = Wire::new(name, 1).accepts_streams(streams).datagrams(name.ends_with("message"));
        protocols.register(protocol).unwrap()
    });
    let ids = ids.collect();
    (protocols, ids)
}

/// A session without anything above it, which does what a test says.
pub(super) struct Raw {
    pub(super) endpoint: Endpoint,
    pub(super) socket: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) session: Option<Handle>,
    pub(super) events: Vec<mux::Event>,
    pub(super) closed: Option<peer::Closed>,
    pub(super) out: TransmitBuf,
    pub(super) buffer: Vec<u8>,
}

impl Raw {
    pub(super) async fn new(seed: u64, names: &[&str], configure: impl FnOnce(Config) -> Config) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (seed, now) = (Seed::fixed(seed), Instant::now());
        let epoch = Epoch { instant: now, unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap() };
        let identity = Identity::generate(&mut seed.fork("identity").rng());
        let config = configure(Config::default().protocols(protocols(names).0));
        Self {
            endpoint: Endpoint::new(identity, config, epoch, &seed, now),
            local: socket.local_addr().unwrap(),
            socket,
            session: None,
            events: Vec::new(),
            closed: None,
            out: TransmitBuf::new(1),
            buffer: vec![0; 1 << 16],
        }
    }

    /// A session with a node, and what the node has of it.
    pub(super) async fn connected(seed: u64, to: &Swarm) -> (Self, Peer) {
        let mut raw = Self::new(seed, &NAMES, |config| config).await;
        let peer = raw.connect(to).await;
        (raw, peer)
    }

    pub(super) async fn connect(&mut self, to: &Swarm) -> Peer {
        let mut events = to.events();
        self.dial(to);
        self.until(|raw| raw.session.is_some() && raw.has(|event| matches!(event, mux::Event::Agreed))).await;
        loop {
            if let Some(SwarmEvent::Connected { peer, .. }) = within(events.next()).await
                && peer.id() == self.endpoint.id().into()
            {
                return peer;
            }
        }
    }

    pub(super) fn dial(&mut self, to: &Swarm) {
        let target = Target::Known(to.id().try_into().unwrap());
        self.endpoint.dial(target, Path::udp(self.local, to.local_addr()), Instant::now()).unwrap();
    }

    /// Moves what there is to move, and waits for more if there is nothing.
    pub(super) async fn step(&mut self) {
        self.flush().await;
        let at = self.endpoint.poll_timeout().map_or(Instant::now() + LONG, |deadline| deadline.at);
        let received = tokio::time::timeout_at(at.into(), self.socket.recv_from(&mut self.buffer)).await;
        if let Ok(Ok((len, from))) = received {
            let datagram = Datagram::new(Path::udp(self.local, from), &mut self.buffer[..len]);
            let _ = self.endpoint.handle_datagram(datagram, Instant::now());
        } else {
            self.endpoint.handle_timeout(Instant::now());
        }
        self.flush().await;
    }

    pub(super) async fn flush(&mut self) {
        loop {
            while let Some(event) = self.endpoint.poll_event() {
                match event.event {
                    peer::Event::Connected(_) => self.session = Some(event.peer),
                    peer::Event::Mux(event) => self.events.push(event),
                    peer::Event::Closed(closed) => self.closed = Some(closed),
                    _ => {}
                }
            }
            self.out.clear();
            let Some(transmit) = self.endpoint.poll_transmit(&mut self.out, Instant::now()) else { return };
            for segment in self.out.segments(&transmit) {
                let _ = self.socket.send_to(segment, transmit.path.remote).await;
            }
        }
    }

    pub(super) async fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        within(async {
            while !done(self) {
                self.step().await;
            }
        })
        .await;
    }

    /// Goes on until something else is done.
    pub(super) async fn during<F: Future>(&mut self, other: F) -> F::Output {
        let mut other = std::pin::pin!(other);
        within(async {
            loop {
                self.flush().await;
                tokio::select! {
                    biased;
                    done = &mut other => break done,
                    () = self.step() => {}
                }
            }
        })
        .await
    }

    pub(super) fn has(&self, is: impl Fn(&mux::Event) -> bool) -> bool {
        self.events.iter().any(is)
    }

    pub(super) fn with<R>(&mut self, command: impl FnOnce(&mut peer::Peer) -> R) -> R {
        let session = self.session.unwrap();
        self.endpoint.with(session, Instant::now(), |peer, _| command(peer)).unwrap()
    }

    /// A stream with these first bytes.
    pub(super) fn stream(&mut self, protocol: ProtocolId, bytes: &[u8]) -> framing::StreamId {
        self.with(|peer| {
            let stream = peer.open_stream(protocol).unwrap();
            assert_eq!(peer.write(stream, bytes).unwrap_or(0), bytes.len());
            stream
        })
    }

    /// What the other side says of a stream that it does not want.
    pub(super) async fn refusal(&mut self, stream: framing::StreamId) -> StreamCode {
        let mut told = None;
        self.until(|raw| {
            told = told.or_else(|| {
                raw.events.iter().find_map(|event| match event {
                    mux::Event::Stopped { stream: of, code } if *of == stream => Some(*code),
                    _ => None,
                })
            });
            let read = raw.with(|peer| peer.read(stream, &mut [0; 64]));
            if let Err(mux::ReadError::Reset { code }) = read {
                told = Some(code);
            }
            told.is_some()
        })
        .await;
        told.unwrap()
    }

    /// The next stream that the node opens.
    pub(super) async fn opened(&mut self) -> framing::StreamId {
        let mut stream = None;
        self.until(|raw| {
            let opened = raw.events.iter().position(|event| matches!(event, mux::Event::Opened { .. }));
            if let Some(mux::Event::Opened { stream: id, .. }) = opened.map(|at| raw.events.remove(at)) {
                stream = Some(id);
            }
            stream.is_some()
        })
        .await;
        stream.unwrap()
    }
}

pub(super) fn named(name: &str, rest: &[u8]) -> Vec<u8> {
    [&[name.len() as u8], name.as_bytes(), rest].concat()
}

/// Streams and requests that a node has.
pub(super) async fn streams(node: &Swarm) -> usize {
    node.stats().await.unwrap().streams
}

/// The node serves somebody else.
pub(super) async fn serves(node: &Swarm) {
    let other = self::node().await;
    let (peer, _) = connect(&other, node).await;
    assert_eq!(within(peer.request(ECHO, "still here?").into_future()).await, Ok(Bytes::from("still here?")));
}

/// A node that answers [`ECHO`].
pub(super) async fn victim() -> (Swarm, swarm::Responding) {
    let node = node().await;
    let echo = node.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    (node, echo)
}
