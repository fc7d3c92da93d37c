//! Nodes that speak both wires.

use std::net::SocketAddr;

use swarm::{Preset, Security, SendError, Swarm, TopicEvent, TopicEvents, v12};

use crate::support::{builder, within};

fn legacy() -> v12::Builder {
    v12::Swarm::builder().preset(Preset::Loopback).lan(false)
}

async fn both() -> Swarm {
    builder().v12(legacy()).bind().await.unwrap()
}

/// The address of the other wire.
fn old(node: &Swarm) -> SocketAddr {
    node.v12().unwrap().local_addr()
}

/// The first thing that `find` makes of an event.
async fn until<T>(events: &mut TopicEvents, find: impl Fn(TopicEvent) -> Option<T>) -> T {
    within(async {
        loop {
            if let Some(found) = find(events.next().await.unwrap()) {
                return found;
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_comes_by_the_old_wire_is_marked() {
    let (node, other) = (both().await, legacy().bind().await.unwrap());
    let (ours, theirs) = (node.join("room").unwrap(), other.join("room").unwrap());
    let (mut at_ours, mut at_theirs) = (ours.events(), theirs.events());
    within(other.dial(old(&node))).await.unwrap();
    let joined = |event| match event {
        TopicEvent::Joined(peer) => Some(peer),
        _ => None,
    };
    let peer = until(&mut at_ours, joined).await;
    assert_eq!((peer.id(), peer.security()), (other.id(), Security::LegacyV12));
    peer.send("hello").await.unwrap();
    theirs.publish("good day").await.unwrap();
    let message = |event| match event {
        TopicEvent::Message(message) => Some(message),
        _ => None,
    };
    let heard = until(&mut at_ours, message).await;
    let expected = (&b"good day"[..], None, true, Security::LegacyV12);
    assert_eq!((&heard.data[..], heard.topic, heard.authenticated, heard.security), expected);
    loop {
        if let Some(v12::TopicEvent::Message(message)) = within(at_theirs.next()).await {
            assert_eq!(message.data, "hello");
            break;
        }
    }
}

#[tokio::test]
async fn two_nodes_on_both_wires_keep_the_native_session_alone() {
    let (a, b) = (both().await, both().await);
    let (at_a, at_b) = (a.join("room").unwrap(), b.join("room").unwrap());
    let (mut a_events, mut b_events) = (at_a.events(), at_b.events());
    // The old wire first, so that there is something to give up.
    within(a.v12().unwrap().dial(old(&b))).await.unwrap();
    let old_id = |node: &Swarm| node.v12().unwrap().id();
    let here = |id| move |event| matches!(event, TopicEvent::Joined(peer) if peer.id() == id).then_some(());
    let gone = |id| move |event| matches!(event, TopicEvent::Left(peer, _) if peer == id).then_some(());
    until(&mut a_events, here(old_id(&b))).await;
    until(&mut b_events, here(old_id(&a))).await;
    let peer = within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    assert_eq!(peer.security(), Security::Native);
    // Which of the two events is first is not said.
    let both = |joined, left| {
        let seen = std::cell::Cell::new((false, false));
        move |event| {
            let (mut came, mut went) = seen.get();
            came |= here(joined)(TopicEvent::clone(&event)).is_some();
            went |= gone(left)(event).is_some();
            seen.set((came, went));
            (came && went).then_some(())
        }
    };
    until(&mut a_events, both(b.id(), old_id(&b))).await;
    until(&mut b_events, both(a.id(), old_id(&a))).await;
    assert_eq!(at_a.publish("once").await.unwrap().neighbours, 1);
    // Nor does it come back.
    within(a.v12().unwrap().dial(old(&b))).await.unwrap_err();
    let wires: Vec<Security> = b.peers().await.into_iter().map(|info| info.security).collect();
    assert_eq!(wires, [Security::Native]);
}

#[tokio::test]
async fn the_identity_on_the_old_wire_belongs_to_the_native_one_unless_another_is_named() {
    let id = |node: &Swarm| node.v12().unwrap().id();
    let own = crypto::Identity::from_seed([7; 32]).v12();
    let derived = builder().seed([7; 32]).v12(legacy()).bind().await.unwrap();
    assert_eq!(id(&derived).as_bytes(), own.public().as_bytes());
    let named = builder().v12(legacy().seed(&[9; 32])).seed([7; 32]).bind().await.unwrap();
    let alone = legacy().seed(&[9; 32]).bind().await.unwrap();
    assert_eq!((named.id(), id(&named)), (derived.id(), alone.id()));
    assert_ne!(id(&both().await), id(&both().await), "without any, both are fresh");
}

#[tokio::test]
async fn without_the_other_wire_nobody_there_is_reached() {
    let (node, other) = (builder().bind().await.unwrap(), legacy().bind().await.unwrap());
    assert!(node.v12().is_none());
    within(other.dial(node.local_addr())).await.unwrap_err();
    let peer = node.peer(&other.id());
    assert_eq!(peer.security(), Security::Native, "there is no other");
    assert_eq!(peer.try_send("x"), Err(SendError::NotConnected { peer: other.id() }));
}
