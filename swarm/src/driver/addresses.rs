//! Where peers are, as far as the owner of a node says and dials have shown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use framing::scope::is_usable;

use super::limits::{KNOWN_ADDRS, KNOWN_PEERS};
use super::shared::Shared;
use super::target::{DialTarget, ParseTargetError};
use crate::PeerId;

/// The addresses that a node knows of peers because its owner named them: from [`Swarm::addresses`](super::Swarm::addresses).
///
/// A peer that is dialled by its id is tried at them, beside those that the dial names; and where it was reached last is
/// tried first. Where it is seen elsewhere is not added: that may lead nowhere tomorrow. 1,024 peers, 8 addresses of each.
/// Cheap to clone; what is changed through one clone all see.
///
/// ```
/// # async fn example(swarm: swarm::Swarm, bob: swarm::PeerId) -> Result<(), Box<dyn std::error::Error>> {
/// let known = swarm.addresses();
/// known.add(bob, ["192.0.2.1:4000".parse()?])?;
/// swarm.dial(bob).await?;
/// std::fs::write("peers.txt", known.export())?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Addresses(pub(super) Arc<Shared>);

/// Why addresses were not added. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// As many peers are known as may be. Forget one.
    #[error("the addresses of {limit} peers are known already")]
    TooManyPeers {
        /// How many may be known.
        limit: usize,
    },
    /// As many addresses of the peer are known as may be. Remove one.
    #[error("{limit} addresses of the peer are known already")]
    TooManyAddresses {
        /// How many of one peer may be known.
        limit: usize,
    },
    /// Port 0, a multicast or an unspecified address.
    #[error("{addr} is not an address of a peer")]
    Unusable {
        /// The address.
        addr: SocketAddr,
    },
    /// A line of a text to import names nobody, or names a host instead of an address.
    #[error("line {line} is not <peer id>@<ip>:<port>{}", .why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Line {
        /// Its number, from 1 on.
        line: usize,
        /// What is wrong with it, if it names anything at all.
        why: Option<ParseTargetError>,
    },
}

impl Addresses {
    /// Adds addresses of a peer. Those that are known stay what they are.
    ///
    /// # Errors
    ///
    /// [`AddressError`]. Nothing changed then.
    pub fn add(&self, peer: PeerId, addrs: impl IntoIterator<Item = SocketAddr>) -> Result<(), AddressError> {
        let addrs = addrs.into_iter().map(|addr| (peer, addr));
        self.add_all(addrs.collect())
    }

    fn add_all(&self, addrs: Vec<(PeerId, SocketAddr)>) -> Result<(), AddressError> {
        self.0.with_book(|book| {
            book.check(&addrs)?;
            addrs.into_iter().for_each(|(peer, addr)| book.add(peer, addr));
            Ok(())
        })
    }

    /// Takes an address back, and says whether it was known. A session by it stays.
    pub fn remove(&self, peer: &PeerId, addr: SocketAddr) -> bool {
        self.0.with_book(|book| book.remove(peer, addr))
    }

    /// Takes all addresses of a peer back, and says whether there were any.
    pub fn forget(&self, peer: &PeerId) -> bool {
        self.0.with_book(|book| book.peers.remove(peer).is_some())
    }

    /// The addresses of a peer in the order in which they are dialled: where it was reached last, and behind those where it
    /// never was, as they were added.
    #[must_use]
    pub fn of(&self, peer: &PeerId) -> Vec<SocketAddr> {
        self.0.with_book(|book| book.of(peer))
    }

    /// The peers of whom addresses are known, in order of their ids.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        self.0.with_book(|book| book.peers.keys().copied().collect())
    }

    /// All that is known, as text: a line `<peer id>@<ip>:<port>` for each address, those of one peer in the order of
    /// [`of`](Self::of). [`import`](Self::import) reads it.
    #[must_use]
    pub fn export(&self) -> String {
        let line = |peer: &PeerId, addr: SocketAddr| format!("{}\n", DialTarget::from((*peer, addr)));
        self.0.with_book(|book| {
            book.peers.keys().flat_map(|peer| book.of(peer).into_iter().map(move |addr| line(peer, addr))).collect()
        })
    }

    /// Adds what [`export`](Self::export) wrote, or somebody by hand; empty lines and those that begin with `#` are skipped.
    /// Returns how many addresses were named.
    ///
    /// # Errors
    ///
    /// [`AddressError`]. Nothing changed then.
    pub fn import(&self, text: &str) -> Result<usize, AddressError> {
        let mut named = Vec::new();
        for (line, entry) in (1..).zip(text.lines().map(str::trim)) {
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            let target = entry.parse::<DialTarget>().map_err(|why| AddressError::Line { line, why: Some(why) })?;
            match (target.peer, &*target.addrs) {
                (Some(peer), [addr]) if target.streams.is_empty() => named.push((peer, *addr)),
                _ => return Err(AddressError::Line { line, why: None }),
            }
        }
        let count = named.len();
        self.add_all(named).map(|()| count)
    }
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Book {
    peers: BTreeMap<PeerId, Vec<Known>>,
    /// How often a peer was reached: tells which time was the last.
    successes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    addr: SocketAddr,
    /// When it was reached there; 0 is never.
    success: u64,
}

impl Book {
    /// Whether all of these can be added.
    fn check(&self, addrs: &[(PeerId, SocketAddr)]) -> Result<(), AddressError> {
        let mut newly: BTreeMap<PeerId, Vec<SocketAddr>> = BTreeMap::new();
        let mut peers = self.peers.len();
        for &(peer, addr) in addrs {
            if !is_usable(&addr) {
                return Err(AddressError::Unusable { addr });
            }
            let known = self.peers.get(&peer);
            let new = newly.entry(peer).or_insert_with(|| {
                peers += usize::from(known.is_none());
                Vec::new()
            });
            if peers > KNOWN_PEERS {
                return Err(AddressError::TooManyPeers { limit: KNOWN_PEERS });
            }
            if new.contains(&addr) || known.is_some_and(|known| known.iter().any(|known| known.addr == addr)) {
                continue;
            }
            if known.map_or(0, Vec::len) + new.len() >= KNOWN_ADDRS {
                return Err(AddressError::TooManyAddresses { limit: KNOWN_ADDRS });
            }
            new.push(addr);
        }
        Ok(())
    }

    /// Adds one that was [checked](Self::check).
    fn add(&mut self, peer: PeerId, addr: SocketAddr) {
        let known = self.peers.entry(peer).or_default();
        if known.iter().all(|known| known.addr != addr) {
            known.push(Known { addr, success: 0 });
        }
    }

    fn remove(&mut self, peer: &PeerId, addr: SocketAddr) -> bool {
        let Some(known) = self.peers.get_mut(peer) else { return false };
        let before = known.len();
        known.retain(|known| known.addr != addr);
        let removed = known.len() < before;
        if known.is_empty() {
            self.peers.remove(peer);
        }
        removed
    }

    /// The best first.
    pub(super) fn of(&self, peer: &PeerId) -> Vec<SocketAddr> {
        self.peers.get(peer).into_iter().flatten().map(|known| known.addr).collect()
    }

    /// A session with a peer goes by an address. Only of those that the owner named it is remembered.
    pub(super) fn reached(&mut self, peer: &PeerId, addr: SocketAddr) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        let Some(used) = known.iter_mut().find(|known| known.addr == addr) else { return };
        self.successes += 1;
        used.success = self.successes;
        known.sort_by_key(|known| std::cmp::Reverse(known.success));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn where_a_peer_was_reached_last_is_first_and_the_bounds_hold() {
        let (mut book, peer) = (Book::default(), PeerId::from_bytes([1; 32]));
        book.reached(&peer, addr(9));
        assert!(book.of(&peer).is_empty(), "nobody named it");
        let add = |book: &mut Book, addrs: &[(PeerId, SocketAddr)]| {
            book.check(addrs)?;
            addrs.iter().for_each(|(peer, addr)| book.add(*peer, *addr));
            Ok(())
        };
        assert_eq!(add(&mut book, &[1, 2, 3, 1].map(|port| (peer, addr(port)))), Ok(()));
        book.reached(&peer, addr(3));
        book.reached(&peer, addr(2));
        assert_eq!(book.of(&peer), [addr(2), addr(3), addr(1)]);
        assert!(book.remove(&peer, addr(2)) && !book.remove(&peer, addr(2)));
        (10..20).for_each(|port| book.reached(&peer, addr(port)));
        assert_eq!(book.of(&peer), [addr(3), addr(1)], "what is seen pushes out nothing that was named");
        let limit = KNOWN_ADDRS;
        let many: Vec<_> = (30..36).map(|port| (peer, addr(port))).collect();
        assert_eq!(
            add(&mut book, &[&many[..], &[(peer, addr(36))]].concat()),
            Err(AddressError::TooManyAddresses { limit })
        );
        assert_eq!(book.of(&peer).len(), 2, "all or nothing");
        assert_eq!(add(&mut book, &many), Ok(()));
        assert_eq!(add(&mut book, &[(peer, addr(36))]), Err(AddressError::TooManyAddresses { limit }));
        assert_eq!(add(&mut book, &[(peer, addr(35))]), Ok(()));
        assert_eq!(add(&mut book, &[(peer, addr(0))]), Err(AddressError::Unusable { addr: addr(0) }));
        let other = |n: usize| {
            let mut id = [2; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            PeerId::from_bytes(id)
        };
        let others: Vec<_> = (0..KNOWN_PEERS).map(|n| (other(n), addr(1))).collect();
        assert_eq!(add(&mut book, &others), Err(AddressError::TooManyPeers { limit: KNOWN_PEERS }));
        assert_eq!(add(&mut book, &others[1..]), Ok(()));
        assert_eq!(add(&mut book, &others[..1]), Err(AddressError::TooManyPeers { limit: KNOWN_PEERS }));
        assert!(book.remove(&other(1), addr(1)));
        assert_eq!(add(&mut book, &others[..1]), Ok(()), "who has no address is not known");
    }
}
