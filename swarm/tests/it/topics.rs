use swarm::{DisconnectReason, Swarm, TopicEvent};

use crate::support::{node, pair, within};

async fn joined(events: &mut swarm::TopicEvents) -> swarm::PeerId {
    loop {
        if let Some(TopicEvent::Joined(peer)) = within(events.next()).await {
            return peer.id();
        }
    }
}

#[tokio::test]
async fn members_find_out_about_each_other_and_others_do_not() {
    let (a, b, ab, ba) = pair().await;
    let (ours, secret) = (a.join("cats").unwrap(), a.join("secret").unwrap());
    let theirs = b.join("cats").unwrap();
    let (mut at_a, mut at_b, mut at_secret) = (ours.events(), theirs.events(), secret.events());
    assert_eq!(joined(&mut at_a).await, b.id());
    assert_eq!(joined(&mut at_b).await, a.id());

    assert_eq!(ours.publish("meow").await.unwrap().neighbours, 1);
    assert_eq!(secret.publish("to nobody").await.unwrap().neighbours, 0);
    let Some(TopicEvent::Message(message)) = within(at_b.next()).await else { panic!() };
    assert_eq!((message.from, message.topic, &message.data[..]), (a.id(), Some(ours.id()), &b"meow"[..]));
    // A message to one node alone is heard in the topics that both are in.
    ba.send("just you").await.unwrap();
    let Some(TopicEvent::Message(message)) = within(at_a.next()).await else { panic!() };
    assert_eq!((message.from, message.topic, &message.data[..]), (b.id(), None, &b"just you"[..]));

    drop(theirs);
    let Some(TopicEvent::Left(peer, DisconnectReason::Goodbye(0))) = within(at_a.next()).await else { panic!() };
    assert_eq!(peer, b.id());
    assert_eq!(ours.publish("anybody?").await.unwrap().neighbours, 0);
    assert!(within(ab.info()).await.is_some(), "who leaves a topic stays connected");
    let again = b.join("cats").unwrap();
    assert_eq!(joined(&mut at_a).await, b.id());
    drop(again);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), at_secret.next()).await.is_err());
}

#[tokio::test]
async fn a_ticket_is_all_that_a_newcomer_needs() {
    let (a, b) = (node().await, node().await);
    let topic = a.join("private room").unwrap();
    let text = topic.ticket(&a).to_string();
    let invited = b.join_ticket(&text.parse().unwrap()).unwrap();
    assert_eq!(invited.id(), topic.id());
    let mut events = invited.events();
    assert_eq!(joined(&mut events).await, a.id());
    assert_eq!(b.join_ticket(&a.ticket()).unwrap_err(), swarm::JoinError::NoTopic);
    let c = node().await;
    assert_eq!(within(c.dial(&a.ticket())).await.unwrap().id(), a.id());
}

#[tokio::test]
async fn publications_reach_all_neighbours_in_order() {
    let hub = node().await;
    let topic = hub.join("news").unwrap();
    let mut at_hub = topic.events();
    let mut readers = Vec::new();
    for _ in 0..10 {
        let other: Swarm = node().await;
        let events = other.join("news").unwrap();
        within(other.dial((hub.id(), hub.local_addr()))).await.unwrap();
        joined(&mut at_hub).await;
        readers.push((other, events.events(), events));
    }
    let publish = async {
        for n in 0..500u32 {
            assert_eq!(topic.publish(n.to_be_bytes().to_vec()).await.unwrap().neighbours, 10);
        }
    };
    let mut reading = tokio::task::JoinSet::new();
    for (node, mut events, topic) in readers {
        reading.spawn(async move {
            let mut next = 0u32;
            while next < 500 {
                match events.next().await.unwrap() {
                    TopicEvent::Message(message) => {
                        assert_eq!(message.data, next.to_be_bytes()[..]);
                        next += 1;
                    }
                    TopicEvent::Lagged(lost) => panic!("{lost} lost"),
                    _ => {}
                }
            }
            drop((node, topic));
        });
    }
    within(publish).await;
    while let Some(read) = within(reading.join_next()).await {
        read.unwrap();
    }
}
