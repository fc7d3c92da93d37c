//! Two nodes meet in a topic and greet each other.
//!
//! Without arguments both run here, and the program ends when both were greeted. With a name, one node joins that topic
//! on the local network and stays until Enter is pressed: run it on two machines, or in two terminals.
//!
//! `cargo run -p setowire-swarm --example hello [-- lobby]`

#![allow(clippy::print_stdout, reason = "a program")]

use std::error::Error;
use std::time::Duration;

use swarm::{Preset, Swarm, TopicEvent};
use tokio::io::{AsyncReadExt as _, stdin};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(name) = std::env::args().nth(1) {
        let swarm = Swarm::new().await?;
        println!("{} waits in `{name}` (Enter to leave)", swarm.id().short());
        tokio::select! {
            done = greet(&swarm, &name, usize::MAX) => done?,
            _ = async { stdin().read(&mut [0]).await } => {}
        }
        swarm.shutdown(Duration::from_secs(1)).await;
        return Ok(());
    }
    let node = || Swarm::builder().preset(Preset::Loopback).lan(false).bind();
    let (alice, bob) = (node().await?, node().await?);
    // On a network they find each other by multicast; here one is told of the other.
    bob.dial((alice.id(), alice.local_addr())).await?;
    tokio::try_join!(greet(&alice, "hello", 1), greet(&bob, "hello", 1))?;
    tokio::join!(alice.shutdown(Duration::from_secs(1)), bob.shutdown(Duration::from_secs(1)));
    println!("both were greeted");
    Ok(())
}

/// Joins a topic, greets whoever is there, and returns after so many messages.
async fn greet(swarm: &Swarm, name: &str, messages: usize) -> Result<(), Box<dyn Error>> {
    let (topic, me) = (swarm.join(name)?, swarm.id().short());
    let (mut events, mut heard) = (topic.events(), 0);
    while heard < messages {
        match events.next().await {
            Some(TopicEvent::Joined(peer)) => {
                println!("{me}: {} is here", peer.id().short());
                topic.publish(format!("hello from {me}")).await?;
            }
            Some(TopicEvent::Message(m)) => {
                println!("{me}: {} says {:?}", m.from.short(), String::from_utf8_lossy(&m.data));
                heard += 1;
            }
            Some(TopicEvent::Left(peer, reason)) => println!("{me}: {} {reason}", peer.short()),
            Some(_) => {}
            None => break,
        }
    }
    Ok(())
}
