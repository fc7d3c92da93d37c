//! What comes from others may be anything: a peer that takes all it can, and datagrams of no meaning.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use crypto::{Identity, Seed};
use framing::{StreamCode, StreamId};
use peer::mux::{OpenError, Protocol, ProtocolId, Protocols, ReadError};
use peer::{Endpoint, Event, Handle, Target};
use structs::{Datagram, Ecn, Epoch, Machine as _, Path, TransmitBuf};
use swarm::Swarm;
use tokio::net::UdpSocket;
use tokio::sync::oneshot::error::TryRecvError;

use crate::support::{ECHO, LONG, connect, no_streams, node, pair, within};

/// Sessions without a node: what they do is up to the test.
pub(crate) struct Raw {
    pub(crate) socket: UdpSocket,
    endpoint: Endpoint,
    streams: ProtocolId,
    local: SocketAddr,
    out: TransmitBuf,
}

impl Raw {
    pub(crate) async fn bind() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let local = socket.local_addr().unwrap();
        let mut protocols = Protocols::new();
        let streams = protocols.register(Protocol::new("setowire/stream", 1).accepts_streams(true)).unwrap();
        let (seed, now) = (Seed::fixed(u64::from(local.port())), Instant::now());
        let epoch = Epoch { instant: now, unix: SystemTime::UNIX_EPOCH.elapsed().unwrap() };
        let identity = Identity::generate(&mut seed.fork("identity").rng());
        let config = peer::Config::default().protocols(protocols);
        let endpoint = Endpoint::new(identity, config, epoch, &seed, now);
        Self { socket, endpoint, streams, local, out: TransmitBuf::new(1) }
    }

    pub(crate) fn dial(&mut self, node: &Swarm) -> Handle {
        let path = Path::udp(self.local, node.local_addr());
        self.endpoint.dial(Target::Anyone, path, Instant::now()).unwrap()
    }

    /// Sends what there is to send.
    pub(crate) async fn flush(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit(&mut self.out, Instant::now()) {
            self.socket.send_to(self.out.bytes(), transmit.path.remote).await.unwrap();
            self.out.clear();
        }
    }

    /// Sends, waits for a datagram or for the time, and returns what happened.
    async fn turn(&mut self) -> Vec<Event> {
        self.flush().await;
        let mut events = Vec::new();
        while let Some(event) = self.endpoint.poll_event() {
            events.push(event.event);
        }
        if !events.is_empty() {
            return events;
        }
        let wake = self.endpoint.poll_timeout().map_or(Instant::now() + LONG, |deadline| deadline.at);
        let mut bytes = vec![0; 1 << 16];
        match tokio::time::timeout_at(wake.into(), self.socket.recv_from(&mut bytes)).await {
            Err(_) => self.endpoint.handle_timeout(Instant::now()),
            Ok(received) => {
                let (len, from) = received.unwrap();
                let datagram =
                    Datagram { path: Path::udp(self.local, from), ecn: Ecn::NotEct, payload: &mut bytes[..len] };
                let _ = self.endpoint.handle_datagram(datagram, Instant::now());
            }
        }
        events
    }

    async fn connect(&mut self, node: &Swarm) -> Handle {
        let session = self.dial(node);
        let agreed = |event: &Event| matches!(event, Event::Mux(peer::mux::Event::Agreed));
        within(async { while !self.turn().await.iter().any(agreed) {} }).await;
        session
    }

    /// With what codes streams are reset, as far as it is told now.
    async fn refusals(&mut self, session: Handle) -> Vec<StreamCode> {
        let mut codes = Vec::new();
        for event in self.turn().await {
            if let Event::Mux(peer::mux::Event::Readable { stream }) = event
                && let Err(ReadError::Reset { code }) = self.with(session, |peer| peer.read(stream, &mut [0]))
            {
                codes.push(code);
            }
        }
        codes
    }

    fn with<R>(&mut self, session: Handle, command: impl FnOnce(&mut peer::Peer) -> R) -> R {
        self.endpoint.with(session, Instant::now(), |peer, _| command(peer)).unwrap()
    }
}

/// Opens a stream that begins with these bytes, and gives it up at once if `give_up`.
fn open(peer: &mut peer::Peer, streams: ProtocolId, head: &[u8], give_up: bool) -> Result<StreamId, OpenError> {
    let stream = peer.open_stream(streams)?;
    assert_eq!(peer.write(stream, head), Ok(head.len()));
    if give_up {
        assert_eq!(peer.finish_stream(stream), Ok(()));
        assert_eq!(peer.stop_stream(stream, StreamCode::CANCELLED), Ok(()));
    }
    Ok(stream)
}

/// Requests, one after the other, until told to stop. How many were answered, and the longest time one took.
async fn served(peer: swarm::Peer, mut stop: tokio::sync::oneshot::Receiver<()>) -> (u32, Duration) {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while stop.try_recv() == Err(TryRecvError::Empty) {
        let start = Instant::now();
        let answer = peer.request(ECHO, "are you there?").await;
        assert_eq!(answer, Ok(Bytes::from("are you there?")));
        longest = longest.max(start.elapsed());
        count += 1;
    }
    (count, longest)
}

#[tokio::test]
async fn ten_thousand_streams_of_one_peer_meet_their_limits_and_others_are_served() {
    const STREAMS: usize = 10_000;
    let (victim, honest) = (node().await, node().await);
    let _echo = victim.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    // Streams are accepted, and nobody takes them.
    let incoming = victim.accept(ECHO).unwrap();
    let (to_victim, _) = connect(&honest, &victim).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn(served(to_victim, stopped));
    let mut raw = Raw::bind().await;
    let session = raw.connect(&victim).await;
    let streams = raw.streams;

    // Each asks for something else that is refused, or is given up while it waits to be taken.
    let heads: [&[u8]; 4] = [b"\x06echo/1", b"\x08nobody/1", b"\x41too long", b"\x02\xff\xfe"];
    let (mut opened, mut limited) = (0, 0);
    let mut codes: BTreeMap<u64, usize> = BTreeMap::new();
    within(async {
        while opened < STREAMS {
            let head = heads[opened % heads.len()];
            match raw.with(session, |peer| open(peer, streams, head, opened % heads.len() == 0)) {
                Ok(_) => opened += 1,
                Err(OpenError::Limit { max }) => {
                    assert!(max >= 256);
                    limited += 1;
                    for code in raw.refusals(session).await {
                        *codes.entry(code.into()).or_default() += 1;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    assert!(limited > 0);
    let [unknown, failed] = [StreamCode::UNKNOWN_PROTOCOL, StreamCode::FAILED].map(|code| codes[&code.into()]);
    assert!(unknown > STREAMS / 5 && failed > 2 * STREAMS / 5, "{codes:?}");

    // Then streams that never say what for: as many as are allowed, and no more.
    let mut silent = 0;
    within(async {
        loop {
            match raw.with(session, |peer| open(peer, streams, &[6], false)) {
                Ok(_) => silent += 1,
                Err(_) if silent >= 200 => break,
                Err(_) => drop(raw.refusals(session).await),
            }
        }
    })
    .await;
    let held = within(async {
        loop {
            let _ = tokio::time::timeout(Duration::from_millis(5), raw.turn()).await;
            let held = victim.stats().await.unwrap().streams;
            if held >= silent {
                break held;
            }
        }
    })
    .await;
    // Beside them a request of the other peer, and one that has just been answered.
    assert!(held <= 256 + 4, "{held} streams are held");
    drop(stop);
    let (count, longest) = within(serving).await.unwrap();
    assert!(count > 10 && longest < Duration::from_secs(2), "{count} requests were answered, in {longest:?} at most");
    raw.with(session, |peer| peer.close(0, "", Duration::ZERO, Instant::now()));
    raw.flush().await;
    drop(incoming);
    no_streams(&victim).await;
}

#[tokio::test]
async fn streams_beyond_what_the_application_takes_are_refused_by_name() {
    let (_a, b, ab, _) = pair().await;
    let mut incoming = b.accept(ECHO).unwrap();
    let (mut waiting, mut refused) = (0, 0);
    // A stream that is dropped makes room for another; its place in the queue stays taken.
    for _ in 0..1100 {
        let mut stream = within(ab.open_stream(ECHO)).await.unwrap();
        stream.stop(1);
        let ended = within(tokio::io::AsyncWriteExt::shutdown(&mut stream)).await;
        match ended.map_err(|error| *error.get_ref().unwrap().downcast_ref().unwrap()) {
            Ok(()) => waiting += 1,
            Err(swarm::StreamError::Refused) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(waiting >= 1024 && refused > 0 && waiting + refused == 1100, "{waiting} wait, {refused} were refused");
    drop(within(incoming.next()).await.unwrap());
    drop(incoming);
    no_streams(&b).await;
}

#[tokio::test]
async fn garbage_disturbs_nobody_and_is_counted() {
    let (a, b, ab, ba) = pair().await;
    let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    let mut messages = ba.messages().unwrap();
    let before = b.stats().await.unwrap().node.endpoint;
    let (target, (stop, mut stopped)) = (b.local_addr(), tokio::sync::oneshot::channel::<()>());
    let flood = tokio::spawn(async move {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut rng = Seed::fixed(1).rng();
        let mut bytes = [0; 1500];
        let mut sent = 0u64;
        while sent < 256 * 8 || stopped.try_recv() == Err(TryRecvError::Empty) {
            rng.fill(&mut bytes);
            bytes[0] = sent as u8;
            let len = if sent.is_multiple_of(3) { rng.below(64) } else { rng.below(1500) } as usize;
            socket.send_to(&bytes[..len], target).await.unwrap();
            sent += 1;
            if sent.is_multiple_of(32) {
                // More would fill the buffer of the socket, and nobody could tell what is lost there.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        sent
    });
    let send = async {
        for n in 0..5000u32 {
            ab.send(n.to_be_bytes()).await.unwrap();
        }
    };
    let receive = async {
        for n in 0..5000u32 {
            assert_eq!(messages.next().await.unwrap(), n.to_be_bytes()[..]);
        }
    };
    let ask = async {
        for n in 0..200u32 {
            assert_eq!(ab.request(ECHO, n.to_be_bytes()).await, Ok(Bytes::copy_from_slice(&n.to_be_bytes())));
        }
    };
    within(async { tokio::join!(send, receive, ask) }).await;
    drop(stop);
    let sent = within(flood).await.unwrap();
    let rejected = within(async {
        loop {
            let rejected = b.stats().await.unwrap().node.endpoint.rejected.total() - before.rejected.total();
            // What did not fit into the buffer of the socket is nobody's to count.
            if rejected > 256 {
                break rejected;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(rejected <= sent, "{rejected} of {sent}");
    let after = b.stats().await.unwrap().node;
    assert_eq!((after.connected, after.endpoint.accepted), (1, before.accepted));
    // The first message of a stranger who knows no key is hardly more than random bytes: a few are answered.
    assert!(after.endpoint.half_open <= 64);
    drop(a);
}
