//! Joins a topic, says hello to everybody there and prints what they say.
//!
//! Run it in two terminals: `cargo run -p setowire-swarm --example hello`. An argument is the name of the topic.

#![allow(clippy::print_stdout, reason = "a program")]

use std::error::Error;
use std::time::Duration;

use swarm::v12::{Swarm, TopicEvent};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "hello".into());
    let swarm = Swarm::new().await?;
    let topic = swarm.join(name.as_str())?;
    println!("{} waits in `{name}` (Enter to leave)", swarm.id().short());

    let mut events = topic.events();
    let mut enter = std::pin::pin!(enter());
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut enter => break,
        };
        match event {
            Some(TopicEvent::Joined(peer)) => {
                println!("+ {}", peer.id().short());
                peer.send("hello").await?;
                topic.publish(format!("everybody, meet {}", peer.id().short())).await?;
            }
            Some(TopicEvent::Message(m)) => println!("{}: {}", m.from.short(), String::from_utf8_lossy(&m.data)),
            Some(TopicEvent::Left(peer, reason)) => println!("- {} {reason}", peer.short()),
            Some(TopicEvent::Lagged(lost)) => println!("(missed {lost} messages)"),
            Some(_) => {}
            None => break,
        }
    }
    swarm.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

/// Resolves at the first line of standard input, and at its end.
async fn enter() {
    use tokio::io::{AsyncBufReadExt, BufReader, stdin};
    // What the line says, or why there is none, makes no difference.
    let _ = BufReader::new(stdin()).lines().next_line().await;
}
