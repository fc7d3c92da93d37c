//! Sessions over connections: the same as over UDP, and instead of it where that does not pass.

use std::net::SocketAddr;
use std::time::Duration;

use swarm::{Carrier, DialTarget, Peer, Preset, Swarm, SwarmEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{ECHO, builder, connected, gone, node, pattern, within};

async fn listener(at: &str) -> Swarm {
    builder().listen_on(at.parse().unwrap()).bind().await.unwrap()
}

/// The text by which a node is dialled that listens on one thing only.
fn text(swarm: &Swarm) -> String {
    let listeners = swarm.listeners();
    let [at] = &listeners[..] else { panic!("{listeners:?}") };
    at.to_string().replace("://", &format!("://{}@", swarm.id()))
}

async fn carrier(peer: &Peer) -> Carrier {
    within(peer.info()).await.expect("connected").carrier
}

/// The handle of a peer that is or will be connected.
async fn at(swarm: &Swarm, other: &Swarm) -> Peer {
    let mut events = swarm.events();
    loop {
        let peer = connected(&mut events).await;
        if peer.id() == other.id() {
            return peer;
        }
    }
}

/// Messages, datagrams, requests and streams in both directions.
pub(crate) async fn converse(a: &Swarm, b: &Swarm, ab: &Peer) {
    let ba = at(b, a).await;
    let (mut at_a, mut at_b) = (ab.messages().unwrap(), ba.messages().unwrap());
    for round in 0..200_usize {
        let len = [1, 100, 1_000, 20_000, 100_000][round % 5];
        let message: Vec<u8> = (0..len).map(|byte| pattern(round as u8, byte)).collect();
        within(ab.send(message.clone())).await.unwrap();
        within(ba.send(message.clone())).await.unwrap();
        assert_eq!(within(at_b.next()).await.unwrap(), message);
        assert_eq!(within(at_a.next()).await.unwrap(), message);
    }
    let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    assert_eq!(within(ab.request(ECHO, "anybody there?").into_future()).await.unwrap(), "anybody there?");
    let mut incoming = b.accept(ECHO).unwrap();
    let mut stream = within(ab.open_stream(ECHO)).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000).map(|at| pattern(9, at)).collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        stream.write_all(&copy).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut read = Vec::new();
    let mut stream = within(incoming.next()).await.unwrap();
    within(stream.read_to_end(&mut read)).await.unwrap();
    assert!(read == sent);
    within(writer).await.unwrap();
}

#[tokio::test]
async fn a_whole_conversation_by_tcp_only() {
    let (a, b) = (node().await, listener("tcp://127.0.0.1:0").await);
    assert!(b.listeners().iter().all(|at| matches!(at, swarm::ListenAddr::Tcp(_))));
    let ab = within(a.dial(text(&b).parse::<DialTarget>().unwrap())).await.unwrap();
    assert_eq!((ab.id(), carrier(&ab).await), (b.id(), Carrier::Tcp));
    converse(&a, &b, &ab).await;
    assert_eq!((carrier(&ab).await, carrier(&b.peer(&a.id())).await), (Carrier::Tcp, Carrier::Tcp));
    let mut events = b.events();
    ab.disconnect(Duration::from_secs(1)).await;
    assert_eq!(gone(&mut events).await, swarm::DisconnectReason::Closed(0));
}

#[cfg(feature = "ws")]
#[tokio::test]
async fn a_whole_conversation_by_websocket_only() {
    let (a, b) = (node().await, listener("ws://127.0.0.1:0").await);
    let ab = within(a.dial(text(&b).parse::<DialTarget>().unwrap())).await.unwrap();
    assert_eq!((ab.id(), carrier(&ab).await), (b.id(), Carrier::WebSocket));
    converse(&a, &b, &ab).await;
    assert_eq!(carrier(&b.peer(&a.id())).await, Carrier::WebSocket);
    // Anywhere else there is nothing.
    let wrong = text(&b) + "/chat";
    let mut raw = TcpStream::connect(b.listeners()[0].addr()).await.unwrap();
    let request = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    raw.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(raw.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
    let c = node().await;
    assert!(within(c.dial(wrong.parse::<DialTarget>().unwrap())).await.is_err());
}

#[tokio::test]
async fn without_an_id_whoever_answers_is_the_peer() {
    let (a, b) = (node().await, listener("tcp://127.0.0.1:0").await);
    let target: DialTarget = b.listeners()[0].to_string().parse().unwrap();
    assert_eq!(within(a.dial(target)).await.unwrap().id(), b.id());
}

#[tokio::test]
async fn a_server_listens_on_tcp_at_the_port_of_its_udp() {
    let at: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let server = builder().preset(Preset::Server).listen(at).bind().await.unwrap();
    let listeners = server.listeners();
    let [udp, tcp] = &listeners[..] else { panic!("{listeners:?}") };
    assert_eq!(tcp.to_string(), udp.to_string().replace("udp", "tcp"));
    let plain = builder().preset(Preset::Server).listen(at).listen_on("tcp://127.0.0.1:0".parse().unwrap());
    assert_eq!(plain.bind().await.unwrap().listeners().len(), 2, "what is named is what there is");
}

/// A port at which UDP is heard by nobody and TCP leads to a node.
async fn without_udp(tcp: SocketAddr) -> (SocketAddr, tokio::net::UdpSocket, watch::Sender<u32>) {
    let (front, silent) = loop {
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(silent) = tokio::net::UdpSocket::bind(front.local_addr().unwrap()).await {
            break (front, silent);
        }
    };
    let at = front.local_addr().unwrap();
    (at, silent, forward(front, tcp))
}

/// Passes connections on, and breaks all of them whenever the number changes.
fn forward(front: TcpListener, to: SocketAddr) -> watch::Sender<u32> {
    let (breaks, broken) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut outer, _)) = front.accept().await {
            let mut broken = broken.clone();
            broken.mark_unchanged();
            tokio::spawn(async move {
                let Ok(mut inner) = TcpStream::connect(to).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => {}
                    _ = broken.changed() => {}
                }
            });
        }
    });
    breaks
}

#[tokio::test]
async fn where_udp_is_silent_tcp_is_tried_and_may_be_forbidden() {
    let b = listener("tcp://127.0.0.1:0").await;
    let (front, _silent, _breaks) = without_udp(b.listeners()[0].addr()).await;
    for target in [DialTarget::from((b.id(), front)), DialTarget::from(front)] {
        let a = node().await;
        let began = tokio::time::Instant::now();
        let ab = within(a.dial(target)).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(700), "UDP had its time: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!((ab.id(), carrier(&ab).await), (b.id(), Carrier::Tcp));
        converse(&a, &b, &ab).await;
        a.shutdown(Duration::from_secs(1)).await;
    }
    let never = builder().tcp_fallback(false).bind().await.unwrap();
    within(never.dial((b.id(), front))).await.unwrap_err();
}

/// Passes datagrams on between one peer and a node, as long as it is allowed to.
fn pass(front: tokio::net::UdpSocket, to: SocketAddr) -> watch::Sender<bool> {
    let (gate, open) = watch::channel(true);
    tokio::spawn(async move {
        let back = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (mut out, mut home, mut from) = (vec![0; 65_536], vec![0; 65_536], None);
        loop {
            tokio::select! {
                received = front.recv_from(&mut out) => {
                    let Ok((len, addr)) = received else { continue };
                    from = Some(addr);
                    if *open.borrow() {
                        let _ = back.send_to(&out[..len], to).await;
                    }
                }
                received = back.recv_from(&mut home) => {
                    let (Ok((len, _)), Some(from)) = (received, from) else { continue };
                    if *open.borrow() {
                        let _ = front.send_to(&home[..len], from).await;
                    }
                }
            }
        }
    });
    gate
}

#[tokio::test]
async fn a_session_moves_to_udp_when_that_works_and_back_when_it_does_not() {
    let server = builder().preset(Preset::Server).listen("127.0.0.1:0".parse().unwrap());
    let (a, b) = (node().await, server.bind().await.unwrap());
    let (udp, tcp) = (b.listeners()[0].addr(), b.listeners()[1].addr());
    let (front, datagrams, _breaks) = without_udp(tcp).await;
    let gate = pass(datagrams, udp);
    let target: DialTarget = format!("tcp://{}@{front}", b.id()).parse().unwrap();
    let ab = within(a.dial(target)).await.unwrap();
    assert_eq!(carrier(&ab).await, Carrier::Tcp);
    let mut messages = at(&b, &a).await.messages().unwrap();
    let mut sent = 0_u32;
    for (open, there) in [(true, Carrier::Udp), (false, Carrier::Tcp)] {
        gate.send_replace(open);
        let before = sent;
        within(async {
            while carrier(&ab).await != there || sent < before + 50 {
                ab.send(sent.to_be_bytes().to_vec()).await.unwrap();
                assert_eq!(messages.next().await.unwrap(), sent.to_be_bytes()[..]);
                sent += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    drop(messages);
    converse(&a, &b, &ab).await;
    assert_eq!(carrier(&ab).await, Carrier::Tcp);
}

#[tokio::test]
async fn who_begins_at_a_node_that_is_silent_by_udp_reaches_it_by_tcp() {
    let b = listener("tcp://127.0.0.1:0").await;
    let (front, _silent, _breaks) = without_udp(b.listeners()[0].addr()).await;
    let a = builder().bootstrap([front]).bind().await.unwrap();
    assert_eq!(carrier(&at(&a, &b).await).await, Carrier::Tcp);
}

#[tokio::test]
async fn a_connection_that_breaks_loses_nothing() {
    let b = listener("tcp://127.0.0.1:0").await;
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = front.local_addr().unwrap();
    let breaks = forward(front, b.listeners()[0].addr());
    let a = node().await;
    let target: DialTarget = format!("tcp://{}@{addr}", b.id()).parse().unwrap();
    let ab = within(a.dial(target)).await.unwrap();
    let ba = at(&b, &a).await;
    let (mut at_a, mut at_b) = (ab.messages().unwrap(), ba.messages().unwrap());
    let mut events = a.events();
    connected(&mut events).await;
    const COUNT: u32 = 3000;
    let send = |peer: Peer| async move {
        for at in 0..COUNT {
            let mut message = vec![0; 2000];
            message[..4].copy_from_slice(&at.to_be_bytes());
            peer.send(message).await.unwrap();
        }
    };
    let (one, other) = (tokio::spawn(send(ab.clone())), tokio::spawn(send(ba.clone())));
    for at in 0..COUNT {
        if at % 500 == 250 {
            breaks.send_modify(|count| *count += 1);
        }
        for messages in [&mut at_a, &mut at_b] {
            assert_eq!(within(messages.next()).await.unwrap()[..4], at.to_be_bytes());
        }
    }
    within(one).await.unwrap();
    within(other).await.unwrap();
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, SwarmEvent::Disconnected { .. }), "{event:?}");
    }
    // And when the side that is dialled has something to say just then.
    breaks.send_modify(|count| *count += 1);
    ba.send("after a break").await.unwrap();
    assert_eq!(within(at_a.next()).await.unwrap(), "after a break");
}

#[tokio::test]
async fn garbage_is_closed_and_costs_nothing() {
    let b = builder().preset(Preset::Server).listen("127.0.0.1:0".parse().unwrap()).bind().await.unwrap();
    let at = b.listeners()[1].addr();
    // What is not of this protocol ends with the third byte.
    for wrong in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0], &[0, 4, 0x16, 3, 1], &[0xff; 9]] {
        let mut raw = TcpStream::connect(at).await.unwrap();
        raw.write_all(wrong).await.unwrap();
        let mut answer = Vec::new();
        // A reset does as well as an end.
        let _ = within(raw.read_to_end(&mut answer)).await;
        assert!(answer.is_empty());
    }
    // Ten megabytes of frames that nobody can read, and of one that never ends.
    let mut raw = TcpStream::connect(at).await.unwrap();
    let mut frame = vec![0xe5; 2 + 40_000];
    frame[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    for _ in 0..250 {
        within(raw.write_all(&frame)).await.unwrap();
    }
    let mut endless = TcpStream::connect(at).await.unwrap();
    within(endless.write_all(&frame[..39_000])).await.unwrap();
    // Thousands of connections that say nothing: there are never more than a bounded number.
    let mut crowd = Vec::new();
    for at_once in 0..2000 {
        if let Ok(raw) = TcpStream::connect(at).await {
            crowd.push(raw);
        }
        if at_once % 500 == 499 {
            assert!(b.stats().await.unwrap().connections <= 128);
            crowd.clear();
        }
    }
    // Somebody who means it gets in all the same.
    let a = node().await;
    let target: DialTarget = format!("tcp://{}@{at}", b.id()).parse().unwrap();
    let ab = within(a.dial(target)).await.unwrap();
    assert_eq!(carrier(&ab).await, Carrier::Tcp);
    assert!(b.stats().await.unwrap().connections_refused > 0);
}

#[tokio::test]
async fn who_says_nothing_is_closed_after_a_while() {
    let b = listener("tcp://127.0.0.1:0").await;
    let at = b.listeners()[0].addr();
    let mut silent = TcpStream::connect(at).await.unwrap();
    let mut slow = TcpStream::connect(at).await.unwrap();
    let began = tokio::time::Instant::now();
    slow.write_all(&[4]).await.unwrap();
    let mut nothing = [0];
    let ended = |read: std::io::Result<usize>| !matches!(read, Ok(1..));
    assert!(ended(within(silent.read(&mut nothing)).await));
    assert!(ended(within(slow.read(&mut nothing)).await));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
