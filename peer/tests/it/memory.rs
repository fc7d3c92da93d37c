//! What a peer costs that has nothing to do.

use peer::v12::{Config, Peer};

use crate::connect::befriended;
use crate::reference::Release;
use crate::support::*;

#[test]
fn an_idle_peer_is_small() {
    let mut ours = friends(&Config::default(), delayed(ms(10)), 1);
    ours.run_for(60 * SECOND);
    assert_eq!(ours.a.buffered_bytes(), 0);
    assert_eq!(ours.a.replay_memory(), 0, "nonces that only rise need no filter");
    let mut theirs = befriended(Release::Later, delayed(ms(10)), 1);
    for i in 0..50 {
        theirs.with_b(|node, now| node.write(number(i, 100), now));
    }
    theirs.run_for(SECOND);
    let busy = theirs.a.replay_memory();
    assert!(busy > 0 && busy < 256 * 1024, "{busy}");
    theirs.run_for(700 * SECOND);
    assert_eq!(theirs.a.replay_memory(), 0, "what is old is forgotten");
    println!("a peer: {} bytes inline, 0 on the heap for queues when idle, {busy} with a filter", size_of::<Peer>());
    assert!(size_of::<Peer>() < 4096, "{}", size_of::<Peer>());
}
