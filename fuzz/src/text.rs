//! What people copy and paste: whom to dial, tickets, ids, where to listen, names of peers.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use framing::uri::PeerUri;
use swarm::{DialTarget, ListenAddr, PeerId, Ticket};

/// Whatever the text, readers end without a panic, and what was read means the same when it is written and read again.
pub fn text(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    again::<PeerId>(text);
    again::<ListenAddr>(text);
    again::<PeerUri>(text);
    if let Some(ticket) = again::<Ticket>(text) {
        assert!(ticket.addrs().len() <= Ticket::MAX_ADDRS && ticket.relays().len() <= Ticket::MAX_RELAYS);
        assert!(ticket.relays().iter().all(|relay| relay.addrs.len() <= Ticket::MAX_RELAY_ADDRS));
        let target = DialTarget::from(&ticket);
        assert_eq!(ticket.to_string().parse(), Ok(target));
    }
    if let Ok(target) = text.parse::<DialTarget>() {
        // Of a ticket all but the first address is left out.
        let written = target.to_string();
        let again: DialTarget = written.parse().expect("what is written can be read");
        assert_eq!(again.to_string(), written);
    }
    if let Ok(id) = text.parse::<PeerId>() {
        assert_eq!(text.parse(), Ok(DialTarget::from(id)), "an id alone is somebody to dial");
    }
}

fn again<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let written = value.to_string();
    assert_eq!(written.parse().ok().as_ref(), Some(&value), "{written}");
    Some(value)
}
