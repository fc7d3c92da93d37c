//! Circuits that are open, and whether a session still needs them.
//!
//! A relay may say that anybody is at the other end of a circuit, and a dial may come to nothing: what no session goes through
//! is closed, so that circuits cost no more than the sessions that they are for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use relay::Code;
use structs::{Link, Path};

use super::{Node, is_circuit};
use crate::PeerId;
use crate::reach::Reach;

/// When each circuit is looked at next, by its link.
#[derive(Debug, Default)]
pub(super) struct Circuits {
    watched: BTreeMap<u32, Watch>,
}

#[derive(Debug)]
struct Watch {
    peer: crypto::PeerId,
    path: Path,
    at: Instant,
    /// Since when the session has gone another way that is no circuit.
    direct: Option<Instant>,
}

impl Circuits {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watched.values().map(|watch| watch.at).min()
    }

    /// Forgets a circuit that has ended.
    pub(super) fn forget(&mut self, path: &Path) {
        if let Link::Circuit(number) = path.link {
            self.watched.remove(&number);
        }
    }
}

/// What a circuit is good for.
enum Use {
    /// Its session goes through it, or through another one and may need this one next; or a dial is under way.
    Needed,
    /// Its session goes another way.
    Spare,
    None,
}

impl Node {
    /// A circuit to a peer is open, at whose other end the relay sees `addr`.
    pub(super) fn watch_circuit(&mut self, peer: crypto::PeerId, path: Path, addr: Option<IpAddr>) -> bool {
        let Link::Circuit(number) = path.link else { return false };
        let at = self.now + UNUSED;
        self.relays.circuits.watched.insert(number, Watch { peer, path, at, direct: None });
        addr.is_some_and(|addr| Reach::may_be_named_by(addr, path.remote.ip()))
    }

    /// Closes the circuits that nothing needs.
    pub(super) fn check_circuits(&mut self) {
        let now = self.now;
        let due = |(number, watch): (&u32, &Watch)| (watch.at <= now).then_some((*number, watch.peer, watch.path));
        let due: Vec<_> = self.relays.circuits.watched.iter().filter_map(due).collect();
        for (number, peer, path) in due {
            let needed = self.use_of(&peer, &path);
            let Some(watch) = self.relays.circuits.watched.get_mut(&number) else { continue };
            watch.at = now + UNUSED;
            watch.direct = match needed {
                Use::Spare => watch.direct.or(Some(now)),
                Use::Needed | Use::None => None,
            };
            let over = watch.direct.is_some_and(|since| now.saturating_duration_since(since) >= SPARE);
            if over || matches!(needed, Use::None) {
                self.close_circuit(&peer, &path);
            }
        }
    }

    fn use_of(&self, peer: &crypto::PeerId, path: &Path) -> Use {
        let id = PeerId::from(*peer);
        let Some(session) = self.session(&id).and_then(|handle| self.endpoint.peer(handle)) else {
            return if self.is_dialled(&id) { Use::Needed } else { Use::None };
        };
        match session.path() {
            _ if session.paths().all(|other| other.link != path.link) => Use::None,
            Some(used) if is_circuit(&used) => Use::Needed,
            _ => Use::Spare,
        }
    }

    pub(super) fn close_circuit(&mut self, peer: &crypto::PeerId, path: &Path) {
        let now = self.now;
        self.relays.client.close(path.link, Code::NONE, now);
        self.circuit_closed(peer, path);
    }

    /// A circuit has ended.
    pub(super) fn circuit_closed(&mut self, peer: &crypto::PeerId, path: &Path) {
        self.relays.circuits.forget(path);
        // A dial that goes on trying it has no room for the next one.
        if let Some(handle) = self.session(&PeerId::from(*peer)).or_else(|| self.endpoint.by_id(peer)) {
            self.endpoint.lose_path(handle, path, self.now);
        }
        if self.relays.client.circuits_to(peer).next().is_none() {
            self.relays.hints.forget(peer);
        }
    }
}

/// How long a circuit may be without a session, and how often it is looked whether it has one.
const UNUSED: Duration = Duration::from_secs(15);
/// How long a circuit is kept for a session that goes directly: the direct way may turn out not to last.
const SPARE: Duration = Duration::from_secs(60);
