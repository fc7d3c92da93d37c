//! Nodes that cannot reach each other, one having IPv4 only and the other IPv6 only, and those that relay for them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use swarm::{
    Builder, DialError, DialTarget, Events, Peer, PeerId, Protocol, RelayCode, RelayState, ServeRelay, Swarm,
    SwarmEvent,
};

use crate::support::{builder, connected, node, within};

pub(crate) const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

fn on(addr: &str) -> Builder {
    builder().listen(addr.parse().unwrap())
}

/// A relay, on both.
pub(crate) async fn relay() -> Swarm {
    on(V4).listen(V6.parse().unwrap()).serve_relay(ServeRelay::Always).bind().await.unwrap()
}

/// The address of a node in the family of another address.
fn addr(of: &Swarm, like: &str) -> SocketAddr {
    let v4 = like == V4;
    of.local_addrs().iter().copied().find(|addr| addr.is_ipv4() == v4).unwrap()
}

/// A node that only those reach who have its address family, and these relays.
pub(crate) async fn behind(family: &str, relays: &[&Swarm]) -> Swarm {
    let relays: Vec<SocketAddr> = relays.iter().map(|relay| addr(relay, family)).collect();
    on(family).relays(relays).bind().await.unwrap()
}

/// Waits until a node has so many places.
pub(crate) async fn places(node: &Swarm, count: usize) {
    within(async {
        while held(node).len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn held(node: &Swarm) -> Vec<PeerId> {
    let held = node.relays().into_iter().filter(|relay| relay.state == RelayState::Held);
    held.map(|relay| relay.relay).collect()
}

/// The relay that a peer is reached through.
async fn through(node: &Swarm, peer: &PeerId) -> Option<PeerId> {
    node.peers().await.into_iter().find(|info| info.id == *peer)?.relay
}

async fn come(events: &mut Events, from: &PeerId) -> Peer {
    loop {
        let peer = connected(events).await;
        if peer.id() == *from {
            return peer;
        }
    }
}

/// Says something each way.
async fn talk(there: &Peer, back: &Peer) {
    for (to, from, text) in [(there, back, "there"), (back, there, "and back")] {
        to.send(text).await.unwrap();
        assert_eq!(within(from.messages().unwrap().next()).await.unwrap(), text.as_bytes());
    }
}

#[tokio::test]
async fn a_ticket_leads_through_the_relay_of_whoever_made_it() {
    let relay = relay().await;
    let (a, b) = (on(V4).bind().await.unwrap(), behind(V6, &[&relay]).await);
    let mut events = b.events();
    places(&b, 1).await;
    assert!(matches!(within(gained(&mut events)).await, id if id == relay.id()));
    let [status] = <[_; 1]>::try_from(b.relays()).unwrap();
    assert!(status.named && status.addrs.contains(&addr(&relay, V6)) && status.error.is_none());
    let ticket: swarm::Ticket = b.ticket().to_string().parse().unwrap();
    assert_eq!(ticket.relays().iter().map(|relay| relay.peer).collect::<Vec<_>>(), [relay.id()]);
    // B reaches the relay over IPv6, but has it from the relay that there is another way.
    let there = within(a.dial(ticket)).await.unwrap();
    let back = come(&mut events, &a.id()).await;
    talk(&there, &back).await;
    assert_eq!(through(&a, &b.id()).await, Some(relay.id()));
    assert_eq!(through(&b, &a.id()).await, Some(relay.id()));
    let stats = relay.stats().await.unwrap().node.relay;
    assert_eq!((stats.reservations, stats.circuits), (1, 1));
}

async fn gained(events: &mut Events) -> PeerId {
    loop {
        if let Some(SwarmEvent::RelayGained { relay }) = events.next().await {
            return relay;
        }
    }
}

#[tokio::test]
async fn a_relay_may_be_named_by_the_stream_that_leads_to_it() {
    let tcp = "tcp://127.0.0.1:0".parse().unwrap();
    let relay = on(V4).listen_on(tcp).serve_relay(ServeRelay::Always).bind().await.unwrap();
    // Its UDP has another port.
    let at = relay.listeners()[1].addr();
    for name in [format!("tcp://{}@{at}", relay.id()), format!("tcp://{at}")] {
        let b = on(V4).relays([name.parse::<DialTarget>().unwrap()]).bind().await.unwrap();
        places(&b, 1).await;
        let later = on(V4).bind().await.unwrap();
        assert_eq!(within(later.add_relay(name.parse::<DialTarget>().unwrap())).await, Ok(relay.id()));
        places(&later, 1).await;
    }
}

#[tokio::test]
async fn an_id_is_enough_where_relays_are_found_in_the_table() {
    let relay = relay().await;
    let beside = |family| on(family).bootstrap([addr(&relay, family)]).use_relays(true);
    let (a, b) = (beside(V4).bind().await.unwrap(), beside(V6).bind().await.unwrap());
    let mut events = b.events();
    // Nobody told it of any.
    places(&b, 1).await;
    assert!(b.relays().iter().all(|status| !status.named));
    let there = within(a.dial(b.id())).await.unwrap();
    let back = come(&mut events, &a.id()).await;
    talk(&there, &back).await;
    assert_eq!(through(&a, &b.id()).await, Some(relay.id()));
}

#[tokio::test]
async fn who_was_reached_through_a_relay_is_asked_through_it_again() {
    const ECHO: Protocol = Protocol::new("test/echo/1");
    let relay = relay().await;
    let (a, b) = (on(V4).bind().await.unwrap(), behind(V6, &[&relay]).await);
    let _echoes = b.respond(ECHO, |_from, body| async move { Ok::<_, Infallible>(body) }).unwrap();
    places(&b, 1).await;
    let there = within(a.dial(b.ticket())).await.unwrap();
    there.disconnect(Duration::ZERO).await;
    within(async {
        while through(&a, &b.id()).await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // The address of the session was that of the relay, where B is not.
    assert_eq!(within(there.request(ECHO, "again").into_future()).await.unwrap(), "again");
    assert_eq!(through(&a, &b.id()).await, Some(relay.id()));
}

#[tokio::test]
async fn members_of_a_topic_meet_through_a_relay() {
    let relay = relay().await;
    let beside = |family| on(family).bootstrap([addr(&relay, family)]).use_relays(true);
    let (a, b) = (beside(V4).bind().await.unwrap(), beside(V6).bind().await.unwrap());
    let (at_a, at_b) = (a.join("lobby").unwrap(), b.join("lobby").unwrap());
    for (topic, other) in [(at_a, &b), (at_b, &a)] {
        let mut events = topic.events();
        within(async {
            loop {
                match events.next().await {
                    Some(swarm::TopicEvent::Joined(peer)) if peer.id() == other.id() => break,
                    Some(_) => {}
                    None => panic!("the node is there"),
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_relay_dies_and_nothing_is_lost() {
    let mut relays = Vec::new();
    for _ in 0..3 {
        let (relay, driver) = on(V4).listen(V6.parse().unwrap()).serve_relay(ServeRelay::Always).bind_manual().unwrap();
        relays.push((relay, tokio::spawn(driver.run())));
    }
    let a = on(V4).bind().await.unwrap();
    let b = behind(V6, &relays.iter().map(|(relay, _)| relay).collect::<Vec<_>>()).await;
    places(&b, 2).await;
    let mut events = b.events();
    let there = within(a.dial(b.ticket())).await.unwrap();
    let back = come(&mut events, &a.id()).await;
    talk(&there, &back).await;
    // The other way is there.
    within(async {
        while a.peers().await.iter().any(|info| info.id == b.id() && info.addrs < 2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let doomed = through(&a, &b.id()).await.unwrap();
    let at = relays.iter().position(|(relay, _)| relay.id() == doomed).unwrap();
    let sending = tokio::spawn(async move {
        for number in 0..2000u32 {
            there.send(number.to_be_bytes()).await.unwrap();
            if number % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        there
    });
    let mut messages = back.messages().unwrap();
    for number in 0..2000u32 {
        assert_eq!(within(messages.next()).await.unwrap(), number.to_be_bytes()[..]);
        if number == 300 {
            // Without a word: much is under way.
            relays[at].1.abort();
        }
    }
    sending.await.unwrap();
    let other = through(&a, &b.id()).await.unwrap();
    assert!(other != doomed && relays.iter().any(|(relay, _)| relay.id() == other));
    // And another one takes its place.
    within(async {
        while held(&b).len() < 2 || held(&b).contains(&doomed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_through_a_relay_becomes_direct_unless_that_is_not_wanted() {
    let relay = relay().await;
    let (b, c) = (behind(V4, &[&relay]).await, behind(V4, &[&relay]).await);
    places(&b, 1).await;
    places(&c, 1).await;
    let a = on(V4).bind().await.unwrap();
    let to = (relay.id(), addr(&relay, V4));
    within(a.dial(DialTarget::from(b.id()).via(to))).await.unwrap();
    within(a.dial(DialTarget::peer(c.id(), [c.local_addr()]).only_via(to))).await.unwrap();
    assert_eq!(through(&a, &c.id()).await, Some(relay.id()));
    within(async {
        while through(&a, &b.id()).await.is_some() || through(&b, &a.id()).await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(through(&a, &c.id()).await, Some(relay.id()), "against the wish of the owner");
}

#[tokio::test]
async fn who_is_to_be_reached_directly_is_not_relayed() {
    let relay = relay().await;
    let b = behind(V6, &[&relay]).await;
    places(&b, 1).await;
    let a = on(V4).relays([addr(&relay, V4)]).bind().await.unwrap();
    places(&a, 1).await;
    let target = DialTarget::peer(b.id(), [b.local_addr()]).via((relay.id(), addr(&relay, V4)));
    let failed = within(a.dial(target.clone().directly())).await.unwrap_err();
    assert!(matches!(failed, DialError::NoWay { .. }), "{failed}");
    assert_eq!(relay.stats().await.unwrap().node.relay.opened, 0);
    // A relay that both have named is found without anybody naming it for the peer.
    within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    assert_eq!(through(&a, &b.id()).await, Some(relay.id()));
}

#[tokio::test]
async fn who_does_not_relay_says_so() {
    let (not, b) = (node().await, on(V4).bind().await.unwrap());
    let mut events = b.events();
    assert_eq!(b.add_relay(not.local_addr()).await.unwrap(), not.id());
    let code = loop {
        if let Some(SwarmEvent::RelayRefused { relay, code }) = within(events.next()).await {
            assert_eq!(relay, not.id());
            break code;
        }
    };
    assert_eq!(code, RelayCode::NOT_RELAYING);
    within(async {
        while b.relays().iter().all(|status| status.error != Some(RelayCode::NOT_RELAYING)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(held(&b).is_empty() && b.ticket().relays().is_empty());
}

#[tokio::test]
async fn a_relay_that_is_taken_back_is_the_one_that_leaves() {
    let (one, two) = (relay().await, relay().await);
    let b = behind(V4, &[&one, &two]).await;
    places(&b, 2).await;
    let mut events = b.events();
    b.remove_relay(&one.id()).await;
    loop {
        if let Some(SwarmEvent::RelayLost { relay }) = within(events.next()).await {
            assert_eq!(relay, one.id());
            break;
        }
    }
    assert_eq!(held(&b), [two.id()]);
    assert!(b.relays().iter().all(|status| status.relay == two.id()));
}
