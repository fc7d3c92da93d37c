//! What a relay gives away.

use std::time::Duration;

use crate::limits::{MAX_INNER, MAX_UNREAD, MAX_WAITING};
use crate::{HEADER_LEN, Networks};

/// The limits of a relay. The defaults are those of a volunteer: of a line that is used for other things too.
///
/// Bytes are those of the datagrams on one side of the relay, headers of circuits included, of IP and UDP not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    pub(crate) serves: bool,
    pub(crate) reservations: usize,
    pub(crate) reservations_by_address: usize,
    pub(crate) reservations_by_network: usize,
    pub(crate) circuits: usize,
    pub(crate) circuits_by_peer: usize,
    pub(crate) circuits_by_address: usize,
    pub(crate) circuits_by_pair: usize,
    pub(crate) circuits_by_network: usize,
    pub(crate) circuits_by_network_to_peer: usize,
    pub(crate) rate: u32,
    pub(crate) burst: u32,
    pub(crate) total_rate: u32,
    pub(crate) total_burst: u32,
    pub(crate) circuit_bytes: Option<u64>,
    pub(crate) circuit_time: Option<Duration>,
    pub(crate) networks: Networks,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            serves: true,
            reservations: 128,
            reservations_by_address: 8,
            reservations_by_network: 32,
            circuits: 64,
            circuits_by_peer: 16,
            circuits_by_address: 32,
            circuits_by_pair: 4,
            circuits_by_network: 32,
            circuits_by_network_to_peer: 8,
            rate: 64 * 1024,
            burst: 256 * 1024,
            total_rate: 1024 * 1024,
            total_burst: 1024 * 1024,
            circuit_bytes: None,
            circuit_time: None,
            networks: Networks::Public,
        }
    }
}

impl Config {
    /// A node that does not relay, and says so to whoever asks.
    #[must_use]
    pub fn off() -> Self {
        Self { serves: false, ..Self::default() }
    }

    /// Whether it relays at all.
    #[must_use]
    pub const fn serves(&self) -> bool {
        self.serves
    }

    /// How many peers have a place. Default: 128, about 1 KiB each.
    #[must_use]
    pub const fn reservations(mut self, most: usize) -> Self {
        self.reservations = most;
        self
    }

    /// How many of them at one address (an IPv6 /64), and in one network (an IPv4 /16, an IPv6 /48). Default: 8 and 32. More let
    /// one party take all places.
    #[must_use]
    pub const fn reservations_by(mut self, address: usize, network: usize) -> Self {
        (self.reservations_by_address, self.reservations_by_network) = (address, network);
        self
    }

    /// How many circuits there are at a time. Default: 64, of up to 64 KiB of buffers each.
    #[must_use]
    pub const fn circuits(mut self, most: usize) -> Self {
        self.circuits = most;
        self
    }

    /// How many of them with one peer (at most 24), and begun from one address. Default: 16 and 32.
    #[must_use]
    pub const fn circuits_by(mut self, peer: usize, address: usize) -> Self {
        // What each of them may have to say when it ends must find room.
        let most = MAX_WAITING - MAX_UNREAD;
        self.circuits_by_peer = if peer < most { peer } else { most };
        self.circuits_by_address = address;
        self
    }

    /// How many circuits may lead from one address (an IPv6 /64) to one peer. Default: 4. More let one party take all that the
    /// peer may have.
    #[must_use]
    pub const fn circuits_by_pair(mut self, most: usize) -> Self {
        self.circuits_by_pair = most;
        self
    }

    /// How many circuits may be begun from one network (an IPv4 /16, an IPv6 /48) in all, and to one peer. Default: 32 and 8.
    #[must_use]
    pub const fn circuits_by_network(mut self, all: usize, to_peer: usize) -> Self {
        (self.circuits_by_network, self.circuits_by_network_to_peer) = (all, to_peer);
        self
    }

    /// Bytes per second that a circuit carries on average, both directions together, and at once. Default: 64 and 256 KiB. At
    /// least one datagram can be carried at once.
    #[must_use]
    pub const fn rate(mut self, rate: u32, burst: u32) -> Self {
        (self.rate, self.burst) = (rate, at_least_one(burst));
        self
    }

    /// The same for all circuits together. Default: 1 MiB and 1 MiB.
    #[must_use]
    pub const fn total_rate(mut self, rate: u32, burst: u32) -> Self {
        (self.total_rate, self.total_burst) = (rate, at_least_one(burst));
        self
    }

    /// How many bytes a circuit carries in all before it ends. Default: no bound.
    #[must_use]
    pub const fn circuit_bytes(mut self, most: Option<u64>) -> Self {
        self.circuit_bytes = most;
        self
    }

    /// How long a circuit lasts. Default: as long as it is used.
    #[must_use]
    pub const fn circuit_time(mut self, most: Option<Duration>) -> Self {
        self.circuit_time = most;
        self
    }

    /// Which addresses count against shares. Default: public ones.
    #[must_use]
    pub const fn networks(mut self, networks: Networks) -> Self {
        self.networks = networks;
        self
    }
}

const fn at_least_one(burst: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "1209")]
    let one = (HEADER_LEN + MAX_INNER) as u32;
    if burst < one { one } else { burst }
}
