//! A node as a STUN server, and as one that asks.

use std::net::UdpSocket;
use std::time::Duration;

use nat::stun::{Change, Message, Transaction};
use swarm::{Preset, Swarm};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_as_a_stun_server_only_if_it_is_told_to() {
    for serves in [true, false] {
        let node = Swarm::builder().preset(Preset::Loopback).serve_stun(serves).bind().await.unwrap();
        let addr = node.local_addr();
        let answer = tokio::task::spawn_blocking(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(if serves { 5000 } else { 300 }))).unwrap();
            let transaction = Transaction([7; 12]);
            let request = Message::Request { transaction, change: Change::default(), fingerprint: true };
            socket.send_to(&request.encode(true), addr).unwrap();
            let mut buffer = [0; 600];
            let (len, _) = socket.recv_from(&mut buffer).ok()?;
            let Message::Success { transaction: same, mapped, .. } = Message::decode(&buffer[..len]).unwrap() else {
                panic!("no success");
            };
            assert_eq!((same, mapped), (transaction, socket.local_addr().unwrap()));
            Some(len)
        });
        assert_eq!(answer.await.unwrap().is_some(), serves);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_asked_by_name_and_a_name_that_nobody_knows_holds_up_nothing() {
    let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let names = [String::from("nobody.invalid:3478"), format!("localhost:{}", server.local_addr().unwrap().port())];
    let node = Swarm::builder().preset(Preset::Loopback).stun(names).bind().await.unwrap();
    let mut buffer = [0; 600];
    let asked = tokio::time::timeout(Duration::from_secs(20), server.recv_from(&mut buffer)).await;
    let (len, _) = asked.expect("a question").unwrap();
    assert!(matches!(Message::decode(&buffer[..len]), Ok(Message::Request { .. })));
    // What is on this machine says nothing of where others see the node.
    assert_eq!(node.nat(), swarm::Nat::default());
}
