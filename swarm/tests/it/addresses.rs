//! Addresses that the owner of a node names while it runs.

use std::net::SocketAddr;
use std::time::Duration;

use swarm::{AddressError, DialError, PeerId, Swarm};

use crate::support::{builder, connect, connected, gone, within};

/// A node that looks for nobody.
async fn node() -> Swarm {
    builder().dht(false).bind().await.unwrap()
}

#[tokio::test]
async fn dials_follow_what_is_known_and_recent_success_goes_first() {
    let (a, b) = (node().await, node().await);
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (silent, there) = (silent.local_addr().unwrap(), b.local_addr());
    assert_eq!(within(a.dial(b.id())).await.unwrap_err(), DialError::NoAddress);
    let known = a.addresses();
    known.add(b.id(), [silent, there]).unwrap();
    assert_eq!(known.of(&b.id()), [silent, there]);
    let ab = within(a.dial(b.id())).await.unwrap();
    assert_eq!(ab.id(), b.id());
    assert_eq!(known.of(&b.id()), [there, silent], "where it was reached");

    // Another node takes it over, with the order.
    let c = node().await;
    let text = format!("# of a\n\n{}", known.export());
    assert_eq!(c.addresses().import(&text), Ok(2));
    assert_eq!((c.addresses().peers(), c.addresses().of(&b.id())), (vec![b.id()], vec![there, silent]));
    assert_eq!(within(c.dial(b.id())).await.unwrap().id(), b.id());

    // A dial that names an old address finds the peer where it is known to be.
    within(ab.disconnect(Duration::ZERO)).await;
    let ab = within(a.dial((b.id(), silent))).await.unwrap();
    assert!(known.remove(&b.id(), there) && !known.remove(&b.id(), there));
    within(ab.disconnect(Duration::ZERO)).await;
    assert!(known.forget(&b.id()));
    assert_eq!(within(a.dial(b.id())).await.unwrap_err(), DialError::NoAddress);
}

#[tokio::test]
async fn where_a_peer_is_seen_is_not_where_its_owner_says_it_is() {
    let (a, b) = (node().await, node().await);
    let elsewhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
    b.addresses().add(a.id(), [elsewhere]).unwrap();
    let (ab, _) = connect(&a, &b).await;
    assert_eq!(b.addresses().of(&a.id()), [elsewhere]);
    assert!(a.addresses().peers().is_empty(), "only what the owner named");
    // Of those the order changes, whoever began the session.
    let mut events = b.events();
    ab.disconnect(Duration::ZERO).await;
    gone(&mut events).await;
    b.addresses().add(a.id(), [a.local_addr()]).unwrap();
    within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    connected(&mut events).await;
    assert_eq!(b.addresses().of(&a.id()), [a.local_addr(), elsewhere]);
}

#[tokio::test]
async fn what_names_nobody_is_told_by_its_line_and_changes_nothing() {
    let (a, peer) = (node().await, PeerId::from_bytes([7; 32]));
    let known = a.addresses();
    let good = format!("{peer}@127.0.0.1:7");
    for wrong in ["127.0.0.1:7", "garbage", &peer.to_string(), &format!("{peer}@host.example:7")] {
        let text = format!("{good}\n  # a comment\n{wrong}\n");
        let error = known.import(&text).unwrap_err();
        assert!(matches!(error, AddressError::Line { line: 3, .. }), "{wrong}: {error}");
    }
    let error = known.import(&format!("{good}\n{peer}@127.0.0.1:0")).unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1:0 is not an address of a peer");
    assert!(known.peers().is_empty());
}
