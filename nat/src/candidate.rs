//! Addresses at which a peer may be reached: which are worth a try, and in what order.

use std::net::{IpAddr, SocketAddr};

use framing::{DecodeError, Reader, Writer, address};

use crate::limits;
use crate::scope::{Family, is_private, is_public, is_usable, same_link, same_site};

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CandidateKind {
    /// An interface of the host has it.
    Host,
    /// Others see us there.
    Reflexive,
    /// Others will see us there, if the NAT goes on as it did.
    Predicted,
    /// A router was asked to forward it to us.
    Mapped,
    /// A relay forwards it to us. It is dialled, not probed.
    Relayed,
}

/// An address at which a peer may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Candidate {
    /// Where it comes from.
    pub kind: CandidateKind,
    /// It.
    pub addr: SocketAddr,
}

impl Candidate {
    /// Length in bytes.
    pub const LEN: usize = 1 + address::LEN;

    /// Reads a candidate: kind, address. `None` for a kind that is not known.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], and [`DecodeError::BadAddress`] for an address that cannot be sent to.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let kind = match reader.u8()? {
            0 => Some(CandidateKind::Host),
            1 => Some(CandidateKind::Reflexive),
            2 => Some(CandidateKind::Predicted),
            3 => Some(CandidateKind::Mapped),
            4 => Some(CandidateKind::Relayed),
            _ => None,
        };
        let addr = address::decode(reader.array()?);
        if !is_usable(&addr) {
            return Err(DecodeError::BadAddress);
        }
        Ok(kind.map(|kind| Self { kind, addr }))
    }

    /// Appends what [`decode`](Self::decode) reads.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.u8(match self.kind {
            CandidateKind::Host => 0,
            CandidateKind::Reflexive => 1,
            CandidateKind::Predicted => 2,
            CandidateKind::Mapped => 3,
            CandidateKind::Relayed => 4,
        });
        writer.put(&address::encode(self.addr));
    }

    /// Its place among others, the lower the sooner: public IPv6, the local network, what others see, what is predicted, what
    /// a router forwards, relays.
    #[must_use]
    pub const fn rank(&self) -> u8 {
        let public = is_public(self.addr.ip());
        let v6 = matches!(Family::of(self.addr.ip()), Family::V6);
        match self.kind {
            CandidateKind::Relayed => 6,
            _ if v6 && public => 0,
            CandidateKind::Host if !public => 1,
            CandidateKind::Host | CandidateKind::Reflexive => 2,
            CandidateKind::Predicted => 3,
            CandidateKind::Mapped => 4,
        }
    }
}

/// Puts candidates of our own into the order in which they are told: the best first, each address once under its best kind,
/// those that nobody can send to left out, at most [`MAX_CANDIDATES`](limits::MAX_CANDIDATES).
#[must_use]
pub fn prepare(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut list: Vec<Candidate> = candidates
        .iter()
        .map(|candidate| Candidate { addr: canonical(candidate.addr), ..*candidate })
        .filter(|candidate| is_usable(&candidate.addr))
        .collect();
    // Stable: among equals the caller's order counts.
    list.sort_by_key(Candidate::rank);
    let mut seen = Vec::new();
    list.retain(|candidate| {
        let new = !seen.contains(&candidate.addr);
        seen.push(candidate.addr);
        new
    });
    list.truncate(limits::MAX_CANDIDATES);
    list
}

/// What is known of both sides when addresses of a peer are judged.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Our own addresses: those of interfaces, and public ones.
    pub ours: &'a [IpAddr],
    /// Where others than the peer, such as the relay between us, see the peer.
    pub stated: &'a [IpAddr],
    /// Both are in one network without a public address: private addresses are believed, and those of this machine if the peer is
    /// stated to be on it.
    pub local: bool,
}

impl Site<'_> {
    /// Whether an address that a peer names may be sent to.
    ///
    /// A public one has to be stated by somebody else too, so that nobody makes us send to a third party (SPEC 15.6). Others mean
    /// something only within one site: the peer has a public address of ours, and the address is not our own.
    #[must_use]
    pub fn admits(&self, candidate: &Candidate) -> bool {
        let ip = candidate.addr.ip().to_canonical();
        if candidate.kind == CandidateKind::Relayed || !is_usable(&candidate.addr) {
            return false;
        }
        if is_public(ip) {
            return self.stated.iter().any(|stated| same_site(*stated, ip));
        }
        if ip.is_loopback() {
            return self.local && self.stated.iter().any(|stated| stated.to_canonical().is_loopback());
        }
        let together = self.stated.iter().any(|stated| is_public(*stated) && self.is_ours(*stated));
        is_private(ip) && (self.local || together)
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        self.ours.iter().any(|own| same_site(*own, ip))
    }

    /// The candidates of a peer that are worth a try, in order. Those on a link of ours come first among private ones, and of a
    /// family that we do not have none is left.
    #[must_use]
    pub fn choose(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let mut list = prepare(candidates);
        list.retain(|candidate| {
            let family = Family::of(candidate.addr.ip());
            self.admits(candidate) && self.ours.iter().any(|own| Family::of(*own) == family)
        });
        let far = |candidate: &Candidate| {
            let near = self.ours.iter().any(|own| same_link(*own, candidate.addr.ip()));
            !is_public(candidate.addr.ip()) && !near
        };
        list.sort_by_key(|candidate| (candidate.rank(), far(candidate)));
        list
    }
}

pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
