//! Dials that reach a peer who is connected by another address.
//!
//! Either he has several, or he has restarted and the session that we hold leads nowhere. A second session would
//! confuse him in the first case, and the first one is useless in the second: so the dial waits until he is heard
//! from by his old address, or has been silent for longer than a live peer is; then it goes on.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::Event;
use super::links::Origin;
use super::{LinkId, Node, policy};
use crate::{DialError, DialId};

#[derive(Debug)]
pub(super) struct Redial {
    known: LinkId,
    target: SocketAddrV4,
    dials: Vec<DialId>,
    since: Instant,
    check: Instant,
}

/// A live peer of any implementation sends a PING each second, and answers ours.
const SILENCE: Duration = Duration::from_millis(1500);
const CHECK: Duration = Duration::from_millis(50);

impl Node {
    /// Somebody who names the key of a connected peer answered at `target`.
    pub(super) fn hold_dial(&mut self, known: LinkId, target: SocketAddrV4, dials: Vec<DialId>) {
        // Where others said that he is, he need not be dialled.
        if !dials.is_empty() {
            let check = self.now + CHECK;
            self.redials.push(Redial { known, target, dials, since: self.now, check });
        }
    }

    pub(super) fn redial_deadline(&self) -> Option<Instant> {
        self.redials.iter().map(|redial| redial.check).min()
    }

    pub(super) fn run_redials(&mut self) {
        let now = self.now;
        if self.redial_deadline().is_none_or(|check| check > now) {
            return;
        }
        for mut redial in std::mem::take(&mut self.redials) {
            let known = self.links.get(&redial.known).filter(|link| link.connected);
            let heard = known.is_some_and(|link| link.peer.last_heard() > redial.since);
            let stalled = known.is_some_and(|link| link.is_stalled);
            match known.and_then(|link| link.peer_id()) {
                Some(peer) if heard => {
                    for id in redial.dials {
                        self.push_event(Event::Dialled { id, peer });
                    }
                }
                Some(_) if now < redial.since + SILENCE || stalled => {
                    redial.check = now + CHECK;
                    self.redials.push(redial);
                }
                known => {
                    if known.is_some() {
                        self.lose(redial.known);
                    }
                    self.dial_out(redial.target, Origin::Dialled(redial.dials), policy::OWN_HELLOS);
                }
            }
        }
    }

    pub(super) fn fail_redials(&mut self) {
        for id in std::mem::take(&mut self.redials).into_iter().flat_map(|redial| redial.dials) {
            self.push_event(Event::DialFailed { id, error: DialError::Closed });
        }
    }
}
