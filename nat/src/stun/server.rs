//! The answering side.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Instant;

use structs::{Lru, Rejected, TokenBucket};

use super::{Change, Message};
use crate::limits;

/// From which of the server's addresses an answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// From the one that the request came to.
    Same,
    /// From another of the four (RFC 5780 section 3).
    Other(Change),
}

/// What is to be sent to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The datagram.
    pub datagram: Vec<u8>,
    /// From where.
    pub via: Via,
}

/// Answers Binding requests.
///
/// A request without attributes has 20 bytes; its answer has 32 over IPv4 and 44 over IPv6, with an other address 44 and 68,
/// and a fingerprint adds 8 to both sides. So an answer is at most 3.4 times as long as what it answers and never longer than
/// [`MAX_ANSWER`](super::MAX_ANSWER). No address gets more than [`STUN_PER_SECOND`](limits::STUN_PER_SECOND) of them, all
/// together no more than [`STUN_IN_ALL`](limits::STUN_IN_ALL): requests above are dropped.
#[derive(Debug)]
pub struct Server {
    /// The socket address that differs in IP and port from the one that the server is asked at.
    other: Option<SocketAddr>,
    askers: Lru<u128, TokenBucket>,
    all: TokenBucket,
}

impl Server {
    /// A server. `other` is its second address and port, if it can answer from there: it has to be a host of four sockets then.
    #[must_use]
    pub fn new(other: Option<SocketAddr>, now: Instant) -> Self {
        Self {
            other,
            askers: Lru::new(NonZeroUsize::MIN.saturating_add(limits::MAX_COUNTED - 1)),
            all: TokenBucket::new(limits::STUN_IN_ALL, limits::STUN_IN_ALL, now),
        }
    }

    /// The answer to a datagram from `from`.
    ///
    /// # Errors
    /// [`Rejected`]: it is no request, too many came, or it is to be answered from an address that there is not (a request that
    /// asks for that is answered by error 420 only if CHANGE-REQUEST is unknown to a server, which it is not).
    pub fn answer(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Result<Answer, Rejected> {
        let message = Message::decode(datagram)?;
        if !self.may_ask(from.ip(), now) {
            return Err(Rejected::LimitReached);
        }
        match message {
            Message::Request { transaction, change, fingerprint } => {
                let via = if change == Change::default() { Via::Same } else { Via::Other(change) };
                if via != Via::Same && self.other.is_none() {
                    return Err(Rejected::Forbidden);
                }
                let success = Message::Success { transaction, mapped: from, other: self.other };
                Ok(Answer { datagram: success.encode(fingerprint), via })
            }
            unknown @ Message::Unknown { .. } => Ok(Answer { datagram: unknown.encode(false), via: Via::Same }),
            Message::Success { .. } | Message::Error { .. } => Err(Rejected::Unsolicited),
        }
    }

    fn may_ask(&mut self, ip: IpAddr, now: Instant) -> bool {
        let asker = match ip.to_canonical() {
            IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
            IpAddr::V6(ip) => u128::from(ip) & (u128::MAX << 64),
        };
        let may = match self.askers.get_mut(&asker, now) {
            Some(bucket) => bucket.try_take(1, now),
            None => {
                let mut bucket = TokenBucket::new(limits::STUN_PER_SECOND, limits::STUN_PER_SECOND, now);
                let may = bucket.try_take(1, now);
                // Without weights nothing is too heavy.
                let _ = self.askers.insert(asker, bucket, 0, now);
                may
            }
        };
        may && self.all.try_take(1, now)
    }
}
