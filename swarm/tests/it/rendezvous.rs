//! Nodes that find each other at web servers, and servers that are no help.

use std::time::Duration;

use crypto::rendezvous::{Meeting, Rendezvous};
use crypto::{Identity, Seed};
use framing::record::Record;
use swarm::discovery::{Progress, Source, SourceError, Task};
use swarm::{BindError, Builder, Swarm, Topic, TopicEvent, TopicId};

use crate::servers::{Manner, Server};
use crate::support::{builder, within};

/// A node that finds others at servers only.
fn alone() -> Builder {
    builder().dht(false)
}

async fn joined(topic: &Topic, by: &Swarm) {
    let mut events = topic.events();
    loop {
        if let Some(TopicEvent::Joined(peer)) = within(events.next()).await
            && peer.id() == by.id()
        {
            return;
        }
    }
}

/// How a task goes, as soon as it is so.
async fn progress(swarm: &Swarm, task: Task, is_so: impl Fn(&Progress) -> bool) -> Progress {
    within(async {
        loop {
            let report = swarm.discovery().of(task);
            if let Some(progress) = report.iter().find(|progress| is_so(progress)) {
                return progress.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_meet_at_a_bootstrap_server_that_learns_no_name() {
    let server = Server::start(Manner::Bootstrap).await;
    let bind = || async { alone().http_bootstrap([&server.url]).bind().await.unwrap() };
    let (a, b) = (bind().await, bind().await);
    let lobby = TopicId::from("lobby");
    let at_a = a.join(lobby).unwrap();
    progress(&a, Task::Announce(lobby), |progress| progress.answered > 0).await;
    let at_b = b.join(lobby).unwrap();
    tokio::join!(joined(&at_a, &b), joined(&at_b, &a));
    let found = progress(&b, Task::Lookup(lobby), |progress| progress.found > 0).await;
    assert_eq!(found.source, Source::Http);
    let secrets = [lobby.as_bytes().to_vec(), a.id().as_bytes().to_vec(), b.id().as_bytes().to_vec()];
    for (path, body) in server.asked() {
        for secret in &secrets {
            let digits = data_encoding::HEXLOWER.encode(secret);
            assert!(!path.contains(&digits[..16]), "{path}");
            assert!(!body.windows(8).any(|bytes| bytes == &secret[..8]));
        }
        assert!(body.is_empty() || [296, 552, 1064].contains(&body.len()), "{}", body.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_found_there_by_its_id() {
    let server = Server::start(Manner::Bootstrap).await;
    let bind = || async { alone().http_bootstrap([&server.url]).bind().await.unwrap() };
    let (a, b) = (bind().await, bind().await);
    progress(&a, Task::Record, |progress| progress.answered > 0).await;
    assert_eq!(within(b.dial(a.id())).await.unwrap().id(), a.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_meet_at_a_piping_server() {
    let server = Server::start(Manner::Piping).await;
    let bind = || async { alone().piping([&server.url]).bind().await.unwrap() };
    let (a, b) = (bind().await, bind().await);
    let (at_a, at_b) = (a.join("lobby").unwrap(), b.join("lobby").unwrap());
    tokio::join!(joined(&at_a, &b), joined(&at_b, &a));
    assert!(server.asked().iter().all(|(line, _)| line.split(' ').nth(1).is_some_and(|path| path.len() == 32)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_looks_leaves_nothing_at_a_piping_server_but_for_whom_he_found() {
    let server = Server::start(Manner::Piping).await;
    let bind = || async { alone().piping([&server.url]).bind().await.unwrap() };
    let (seen, unseen) = (bind().await, bind().await);
    let _announced = seen.join_with("lobby", true, false).unwrap();
    let looked_for = unseen.join_with("lobby", false, true).unwrap();
    joined(&looked_for, &seen).await;
    let posts = server.asked().into_iter().filter(|(line, _)| line.starts_with("POST"));
    let paths: std::collections::BTreeSet<String> = posts.map(|(line, _)| line).collect();
    assert!(paths.len() <= 2, "one place and one inbox: {paths:?}");
}

/// Two who have no family of addresses in common, at a server of each kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_address_for_the_other_is_met_through_a_relay() {
    let relay = crate::relays::relay().await;
    let at = relay.local_addrs().into_iter().find(std::net::SocketAddr::is_ipv6).unwrap();
    for manner in [Manner::Bootstrap, Manner::Piping] {
        let server = Server::start(manner).await;
        let node = |on: &str| {
            let node = alone().listen(on.parse().unwrap()).use_relays(true);
            if matches!(manner, Manner::Bootstrap) {
                node.http_bootstrap([&server.url])
            } else {
                node.piping([&server.url])
            }
        };
        let b = node("[::1]:0").relays([at]).bind().await.unwrap();
        crate::relays::places(&b, 1).await;
        let a = node("127.0.0.1:0").bind().await.unwrap();
        let (at_b, at_a) = (b.join("lobby").unwrap(), a.join("lobby").unwrap());
        tokio::join!(joined(&at_a, &b), joined(&at_b, &a));
        let there = a.peers().await.into_iter().find(|info| info.id == b.id()).unwrap();
        assert_eq!(there.relay, Some(relay.id()));
    }
}

/// What a server says that is no help, and that nothing else is held up by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_no_help_are_told_of_and_delay_nobody() {
    let good = Server::start(Manner::Bootstrap).await;
    let mut bad = Vec::new();
    for manner in [Manner::Silent, Manner::Slow, Manner::Huge, Manner::Unavailable, Manner::Elsewhere] {
        bad.push(Server::start(manner).await);
    }
    let mut urls: Vec<String> = bad.iter().map(|server| server.url.clone()).collect();
    urls.push(String::from("http://nobody.invalid"));
    // A port that nothing listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    urls.push(format!("http://{closed}"));
    urls.push(good.url.clone());
    let bind = || async { alone().http_bootstrap(urls.clone()).piping(urls.clone()).bind().await.unwrap() };
    let (a, b) = (bind().await, bind().await);
    let lobby = TopicId::from("lobby");
    let begun = std::time::Instant::now();
    let (at_a, at_b) = (a.join(lobby).unwrap(), b.join(lobby).unwrap());
    tokio::join!(joined(&at_a, &b), joined(&at_b, &a));
    // Sooner than any of the others gives up.
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    let lookup = Task::Lookup(lobby);
    let says = |expected: fn(&SourceError) -> bool| {
        let a = &a;
        async move {
            progress(a, lookup, move |progress| {
                progress.source == Source::Http && progress.error.as_ref().is_some_and(expected)
            })
            .await
        }
    };
    let busy = says(|error| matches!(error, SourceError::Status { status: 503, retry: Some(_), .. })).await;
    assert!(busy.pause.unwrap() >= Duration::from_secs(7));
    assert!(busy.to_string().contains("503 from 127.0.0.1:") && busy.to_string().contains("retry in "), "{busy}");
    says(|error| matches!(error, SourceError::Status { status: 302, .. })).await;
    says(|error| matches!(error, SourceError::Oversized { max: 262_144, .. })).await;
    says(|error| matches!(error, SourceError::Unresolved { host, .. } if host == "nobody.invalid")).await;
    says(|error| matches!(error, SourceError::Unreachable { kind: std::io::ErrorKind::ConnectionRefused, .. })).await;
    says(|error| matches!(error, SourceError::TimedOut { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_there_counts_by_its_signature_its_time_and_its_reach() {
    let server = Server::start(Manner::Bootstrap).await;
    let (mut rng, unix) = (Seed::from_bytes([1; 32]).rng(), std::time::UNIX_EPOCH.elapsed().unwrap());
    let lobby = TopicId::from("lobby");
    let place = Rendezvous::new(Meeting::Topic, lobby.as_bytes(), unix.as_secs() / 86_400);
    let digits = data_encoding::HEXLOWER.encode(place.name());
    let mut leave = |slot: u8, text: &[u8]| {
        let body = place.seal(place.name(), text, &mut rng).unwrap();
        server.keep(&format!("sealed/{digits}/{}", format!("{slot:02x}").repeat(16)), body);
    };
    let who = Identity::from_seed([9; 32]);
    let record = |addr: &str, life: Duration| {
        let addresses = vec![addr.parse().unwrap()];
        let expires = unix + life - Duration::from_secs(60);
        Record { sequence: 1, expires, addresses, ..Record::default() }.sign(&who).unwrap().as_bytes().to_vec()
    };
    let hour = Duration::from_secs(3600);
    leave(1, &record("192.168.7.7:7", hour));
    leave(2, &record("9.9.9.9:9", hour));
    leave(3, &record("127.0.0.1:9", Duration::ZERO));
    let mut forged = record("127.0.0.1:9", hour);
    *forged.last_mut().unwrap() ^= 1;
    leave(4, &forged);
    leave(5, b"nothing");
    server.keep(&format!("sealed/{digits}/{}", "06".repeat(16)), vec![6; 2048]);
    let node = alone().http_bootstrap([&server.url]).bind().await.unwrap();
    let _topic = node.join_with(lobby, false, true).unwrap();
    let looked = progress(&node, Task::Lookup(lobby), |progress| progress.answered > 0).await;
    assert_eq!((looked.found, looked.error), (0, None));
    leave(7, &record("127.0.0.1:9", hour));
    let looked = progress(&node, Task::Lookup(lobby), |progress| progress.found > 0).await;
    assert_eq!(looked.found, 1);
}

#[tokio::test]
async fn what_is_no_url_is_refused_at_once() {
    let bound = alone().piping(["ppng.io"]).bind().await;
    assert!(matches!(bound, Err(BindError::Url { url }) if url == "ppng.io"));
}

#[cfg(feature = "v12")]
mod v12 {
    use swarm::v12::{Swarm, SwarmEvent};

    use super::*;

    fn alone() -> swarm::v12::Builder {
        Swarm::builder().preset(swarm::Preset::Loopback).lan(false)
    }

    async fn connected(swarm: &Swarm, to: &Swarm) {
        let mut events = swarm.events();
        loop {
            if let SwarmEvent::Connected { peer, .. } = within(events.next()).await.expect("the node is there")
                && peer.id() == to.id()
            {
                return;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_of_the_old_wire_meet_in_a_list_without_any_topic() {
        let server = Server::start(Manner::Bootstrap).await;
        for listed in [
            serde_json::json!({ "id": "ab".repeat(20), "ip": "host.example", "port": 9 }),
            serde_json::json!({ "id": 7, "ip": null, "port": -1 }),
            serde_json::json!([1, 2]),
        ] {
            server.announce(listed);
        }
        let bind = || async { alone().bootstrap_http([&server.url]).bind().await.unwrap() };
        let (a, b) = (bind().await, bind().await);
        tokio::join!(connected(&a, &b), connected(&b, &a));
        let said = server.asked().into_iter().find(|(line, _)| line == "POST announce").unwrap().1;
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        let id = said["id"].as_str().unwrap();
        assert!([a.v12_id().to_string(), b.v12_id().to_string()].contains(&id.to_owned()));
        assert_eq!(said["ip"], "127.0.0.1");
        assert!(
            [a.local_addr().port(), b.local_addr().port()].map(u64::from).contains(&said["port"].as_u64().unwrap())
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_of_the_old_wire_meet_at_a_piping_server() {
        let server = Server::start(Manner::Piping).await;
        let bind = || async { alone().piping([&server.url]).bind().await.unwrap() };
        let (a, b) = (bind().await, bind().await);
        let _topics = (a.join("lobby").unwrap(), b.join("lobby").unwrap());
        tokio::join!(connected(&a, &b), connected(&b, &a));
        let hash = crypto::v12::TopicHash::of(TopicId::from("lobby").as_bytes());
        let announced = format!("POST p2p-{hash}-announce");
        assert!(server.asked().iter().any(|(line, _)| *line == announced));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_server_says_that_is_no_list_is_told_of() {
        let server = Server::start(Manner::Garbage).await;
        let node = alone().bootstrap_http([&server.url]).bind().await.unwrap();
        let error = within(async {
            loop {
                let report = node.discovery().of(Task::LookupNodes);
                if let Some(error) = report.iter().find_map(|progress| progress.error.clone()) {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(matches!(error, SourceError::Garbage { .. }), "{error}");
    }
}
