//! Carriers of the application's own: everything works over them, and what they do wrong stays with them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use swarm::{
    Arrived, BindError, Carrier, DialError, DialTarget, Peer, Swarm, SwarmEvent, TopicEvent, Transport, TransportAddr,
};
use tokio::sync::mpsc;

use crate::carriers::converse;
use crate::support::{ECHO, LONG, builder, gone, node, within};

type Queue = mpsc::Sender<(u64, Vec<u8>)>;

/// What becomes of datagrams on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Whole,
    /// Every tenth is lost, every seventh comes twice.
    Bad,
    /// None is ever taken.
    Stuck,
    /// The word `end` ends it, by an error or a panic.
    Ends,
    Panics,
    /// It asks for patience before it takes any.
    Slow,
    /// One of this length comes whenever it is asked.
    Noisy(usize),
}

/// A place in a network of queues.
#[derive(Debug)]
struct Memory {
    place: u64,
    inbox: mpsc::Receiver<(u64, Vec<u8>)>,
    all: Vec<Queue>,
    manner: Manner,
    sent: usize,
    asked: usize,
    max: usize,
    longest: Arc<AtomicUsize>,
}

fn network(places: usize, manner: Manner) -> Vec<Memory> {
    let (all, inboxes): (Vec<_>, Vec<_>) = (0..places).map(|_| mpsc::channel(512)).unzip();
    let memory = |(place, inbox)| {
        let (all, longest) = (all.clone(), Arc::default());
        Memory { place, inbox, all, manner, sent: 0, asked: 0, max: 1200, longest }
    };
    (0..).zip(inboxes).map(memory).collect()
}

impl Transport for Memory {
    fn poll_send(&mut self, cx: &mut Context<'_>, to: u64, datagram: &[u8]) -> Poll<io::Result<()>> {
        if self.manner == Manner::Stuck {
            return Poll::Pending;
        }
        self.asked += 1;
        if self.manner == Manner::Slow && !self.asked.is_multiple_of(16) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.longest.fetch_max(datagram.len(), Ordering::Relaxed);
        self.sent += 1;
        let copies = match (self.manner, self.sent) {
            (Manner::Bad, sent) if sent % 10 == 0 => 0,
            (Manner::Bad, sent) if sent % 7 == 0 => 2,
            _ => 1,
        };
        let to = self.all.get(usize::try_from(to).unwrap()).ok_or(io::ErrorKind::HostUnreachable)?;
        (0..copies).for_each(|_| drop(to.try_send((self.place, datagram.to_vec()))));
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<Arrived>> {
        if let Manner::Noisy(len) = self.manner {
            return Poll::Ready(Ok(Arrived { len, from: 1 }));
        }
        let (from, datagram) = ready!(self.inbox.poll_recv(cx)).ok_or(io::ErrorKind::BrokenPipe)?;
        match self.manner {
            _ if datagram != b"end" => {}
            Manner::Ends => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Manner::Panics => panic!("a transport of somebody who tests"),
            _ => {}
        }
        into[..datagram.len()].copy_from_slice(&datagram);
        Poll::Ready(Ok(Arrived { len: datagram.len(), from }))
    }

    fn max_datagram(&self) -> usize {
        self.max
    }
}

const MEMORY: u16 = 9;

async fn only(memory: Memory) -> Swarm {
    let swarm = builder().transport(MEMORY, memory).bind().await.unwrap();
    assert!(swarm.local_addrs().is_empty() && swarm.listeners().is_empty(), "no socket");
    swarm
}

async fn carrier(peer: &Peer) -> Carrier {
    within(peer.info()).await.expect("connected").carrier
}

/// Two nodes without a socket, and the longest datagram that the first sent.
async fn two(manner: Manner, max: usize) -> (Swarm, Swarm, Peer, Arc<AtomicUsize>) {
    let [mut one, mut other]: [Memory; 2] = network(2, manner).try_into().unwrap();
    (one.max, other.max) = (max, max);
    let longest = Arc::clone(&one.longest);
    let (a, b) = (only(one).await, only(other).await);
    let ab = within(a.dial((b.id(), TransportAddr::new(MEMORY, 1)))).await.unwrap();
    assert_eq!((ab.id(), carrier(&ab).await), (b.id(), Carrier::Custom));
    (a, b, ab, longest)
}

#[tokio::test]
async fn everything_works_without_a_socket() {
    for (manner, max) in [(Manner::Whole, 1200), (Manner::Whole, 9000), (Manner::Bad, 1400)] {
        let (a, b, ab, longest) = two(manner, max).await;
        converse(&a, &b, &ab).await;
        let longest = longest.load(Ordering::Relaxed);
        assert!(longest <= max && (max < 1400 || longest > 1200), "{longest} of {max}");

        let (ours, theirs) = (a.join("cats").unwrap(), b.join("cats").unwrap());
        let (mut at_a, mut at_b) = (ours.events(), theirs.events());
        let Some(TopicEvent::Joined(peer)) = within(at_a.next()).await else { panic!() };
        assert_eq!(peer.id(), b.id());
        let Some(TopicEvent::Joined(_)) = within(at_b.next()).await else { panic!() };
        assert_eq!(ours.publish("meow").await.unwrap().neighbours, 1);
        let Some(TopicEvent::Message(message)) = within(at_b.next()).await else { panic!() };
        assert_eq!((message.from, &message.data[..]), (a.id(), &b"meow"[..]));

        let mut datagrams = b.peer(&a.id()).datagrams().unwrap();
        within(async {
            // One of them may be lost.
            loop {
                ab.send_datagram("quick").await.unwrap();
                if let Ok(got) = tokio::time::timeout(Duration::from_millis(100), datagrams.next()).await {
                    break assert_eq!(got.unwrap(), "quick");
                }
            }
        })
        .await;

        // Who is gone is dialled again where it was.
        let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
        ab.disconnect(Duration::from_secs(1)).await;
        assert_eq!(within(ab.request(ECHO, "again").into_future()).await.unwrap(), "again");
        assert_eq!(carrier(&ab).await, Carrier::Custom);
    }
}

#[tokio::test]
async fn a_transport_beside_udp_is_one_more_way() {
    let [one, other]: [Memory; 2] = network(2, Manner::Whole).try_into().unwrap();
    let (a, b) = (only(one).await, builder().listen("127.0.0.1:0".parse().unwrap()).transport(MEMORY, other));
    let (b, c) = (b.bind().await.unwrap(), node().await);
    let ab = within(a.dial((b.id(), TransportAddr::new(MEMORY, 1)))).await.unwrap();
    let cb = within(c.dial((b.id(), b.local_addr()))).await.unwrap();
    assert_eq!((carrier(&ab).await, carrier(&cb).await), (Carrier::Custom, Carrier::Udp));
    converse(&a, &b, &ab).await;
}

#[tokio::test]
async fn who_has_no_such_transport_says_so_at_once() {
    let (a, place) = (node().await, TransportAddr::new(MEMORY, 1));
    let error = a.dial(place).await.unwrap_err();
    assert_eq!(error, DialError::NoWay { addr: place.into() });
    assert_eq!(error.to_string(), "[100::1]:9 cannot be reached: this node has no transport 9");
    assert_eq!(a.dial("[100::1]:9".parse::<DialTarget>().unwrap()).await.unwrap_err(), error);
    let mut memories = network(10, Manner::Whole).into_iter();
    let mut next = || memories.next().unwrap();
    assert_eq!(builder().transport(0, next()).bind().await.unwrap_err(), BindError::Transport { id: 0 });
    let twice = builder().transport(4, next()).transport(4, next());
    assert_eq!(twice.bind().await.unwrap_err(), BindError::Transport { id: 4 });
    let (mut short, mut least) = (next(), next());
    (short.max, least.max) = (1199, 1200);
    let error = builder().transport(MEMORY, short).bind().await.unwrap_err();
    assert_eq!(error, BindError::ShortDatagrams { id: MEMORY, longest: 1199 });
    only(least).await;
}

#[tokio::test]
async fn a_transport_that_takes_nothing_holds_up_nobody_else() {
    let [one, _other]: [Memory; 2] = network(2, Manner::Stuck).try_into().unwrap();
    let a = builder().listen("127.0.0.1:0".parse().unwrap()).transport(MEMORY, one).bind().await.unwrap();
    let b = node().await;
    let stuck = tokio::spawn({
        let a = a.clone();
        async move { a.dial(TransportAddr::new(MEMORY, 1)).await }
    });
    let ab = within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    converse(&a, &b, &ab).await;
    assert!(matches!(within(stuck).await.unwrap(), Err(DialError::NoAnswer { .. })));
    within(a.shutdown(Duration::from_secs(1))).await;
}

#[tokio::test]
async fn a_transport_that_ends_or_panics_takes_its_sessions_and_no_others() {
    for manner in [Manner::Ends, Manner::Panics] {
        let [one, other]: [Memory; 2] = network(2, manner).try_into().unwrap();
        let all = other.all.clone();
        let with = |memory| builder().listen("127.0.0.1:0".parse().unwrap()).transport(MEMORY, memory).bind();
        let (a, b, c) = (with(one).await.unwrap(), with(other).await.unwrap(), node().await);
        let place = TransportAddr::new(MEMORY, 1);
        let ab = within(a.dial((b.id(), place))).await.unwrap();
        let ac = within(a.dial((c.id(), c.local_addr()))).await.unwrap();
        assert_eq!((carrier(&ab).await, carrier(&ac).await), (Carrier::Custom, Carrier::Udp));

        let mut events = a.events();
        all[0].send((1, b"end".to_vec())).await.unwrap();
        let lost = async {
            loop {
                if let Some(SwarmEvent::TransportLost { transport }) = events.next().await {
                    break transport;
                }
            }
        };
        // Well before any silence would tell.
        let lost = tokio::time::timeout(Duration::from_secs(5), lost).await.expect("at once");
        assert_eq!((lost, gone(&mut events).await), (MEMORY, swarm::DisconnectReason::Local));
        assert_eq!(a.dial(place).await.unwrap_err(), DialError::NoWay { addr: place.into() });

        // The peer is there by another way, and who came that way never noticed.
        let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
        let again = tokio::time::timeout(Duration::from_secs(9), a.dial((b.id(), b.local_addr())));
        let ab = again.await.expect("not only when the old session would have been given up").unwrap();
        assert_eq!(within(ab.request(ECHO, "again").into_future()).await.unwrap(), "again");
        assert_eq!(carrier(&ab).await, Carrier::Udp);
        converse(&a, &c, &ac).await;
    }
}

/// Runs it on a thread of its own, which a transport may hold up for good.
fn apart<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, waiting) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
        done.send(()).unwrap();
    });
    match waiting.recv_timeout(LONG) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the thread was held up"),
        _ => thread.join().unwrap(),
    }
}

#[test]
fn a_transport_that_always_has_something_holds_up_nobody_else() {
    // Empty, refused at once, and longer than where it was to be written.
    for len in [0, 1, 65_537] {
        apart(move || async move {
            let [one, _other]: [Memory; 2] = network(2, Manner::Noisy(len)).try_into().unwrap();
            let a = builder().listen("127.0.0.1:0".parse().unwrap()).transport(MEMORY, one).bind().await.unwrap();
            let b = node().await;
            let ab = within(a.dial((b.id(), b.local_addr()))).await.unwrap();
            let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
            for _ in 0..100 {
                // Many times what it takes, and a fraction of it when a turn has half a million datagrams.
                let answer = tokio::time::timeout(Duration::from_secs(1), ab.request(ECHO, "quick").into_future());
                assert_eq!(answer.await.expect("in time").unwrap(), "quick");
            }
            within(a.shutdown(Duration::from_secs(1))).await;
        });
    }
}

#[tokio::test]
async fn the_goodbyes_of_a_node_leave_by_its_transport() {
    for manner in [Manner::Whole, Manner::Slow] {
        let (a, b, ab, _) = two(manner, 1200).await;
        let mut events = b.events();
        within(a.shutdown(Duration::from_secs(1))).await;
        assert_eq!(gone(&mut events).await, swarm::DisconnectReason::Closed(0), "the goodbye left");
        drop(ab);
    }
}

#[tokio::test]
async fn a_node_has_ended_when_its_transports_have() {
    for manner in [Manner::Slow, Manner::Stuck] {
        let [one, other]: [Memory; 2] = network(2, manner).try_into().unwrap();
        let (to_a, mut at_b) = (one.all[0].clone(), other.inbox);
        let a = only(one).await;
        let dial = tokio::spawn({
            let a = a.clone();
            async move { a.dial(TransportAddr::new(MEMORY, 1)).await }
        });
        if manner == Manner::Slow {
            within(at_b.recv()).await.expect("it dials");
        }
        within(a.shutdown(Duration::from_secs(1))).await;
        assert!(to_a.is_closed(), "{manner:?}: whoever waited may use again what it was made of");
        assert!(within(dial).await.unwrap().is_err());
    }
}
