//! Datagrams that nobody should send.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crypto::Rng;

use crate::Addresses;

/// Makes hostile datagrams, the better the more real ones it has seen.
#[derive(Debug)]
pub(super) struct Hostile {
    rng: Rng,
    seen: VecDeque<Vec<u8>>,
}

impl Hostile {
    pub(super) const fn new(rng: Rng) -> Self {
        Self { rng, seen: VecDeque::new() }
    }

    /// Remembers a real datagram; beyond [`SEEN`] a random one makes room, so that first packets stay in play.
    pub(super) fn learn(&mut self, datagram: &[u8]) {
        if self.seen.len() == SEEN {
            let index = index(&mut self.rng, SEEN);
            self.seen.swap_remove_back(index);
        }
        self.seen.push_back(datagram.to_vec());
    }

    /// The next datagram: noise, or a real one replayed, cut short, grown, bent or crossed with another.
    pub(super) fn datagram(&mut self) -> Vec<u8> {
        let noise = self.rng.below(4) == 0;
        let Some(mut datagram) = self.real().filter(|_| !noise) else {
            return self.noise();
        };
        match self.rng.below(7) {
            0 => {}
            1 => {
                // Half of them within what may be a header.
                let longest = if self.rng.below(2) == 0 { datagram.len() } else { datagram.len().min(64) };
                datagram.truncate(index(&mut self.rng, longest));
            }
            2 => datagram.extend(self.noise()),
            3 => self.bend(&mut datagram),
            4 => {
                // The interesting fields stand in front: kinds, lengths, counts.
                let front = datagram.len().min(16);
                let at = index(&mut self.rng, front);
                let extreme = [0x00, 0x01, 0x7f, 0x80, 0xff][index(&mut self.rng, 5)];
                if let Some(byte) = datagram.get_mut(at) {
                    *byte = extreme;
                }
            }
            5 => {
                let other = self.real().unwrap_or_default();
                datagram.truncate(index(&mut self.rng, datagram.len()));
                let from = index(&mut self.rng, other.len());
                datagram.extend(other.iter().skip(from));
            }
            _ => {
                let first = datagram.first().copied().unwrap_or(0);
                datagram = self.noise();
                if let Some(byte) = datagram.first_mut() {
                    *byte = first;
                }
            }
        }
        datagram.truncate(LARGEST);
        datagram
    }

    /// Random bytes: mostly short, at times as long as a datagram can be, at times none.
    pub(super) fn noise(&mut self) -> Vec<u8> {
        let longest = [4, 64, 64, 1500, 1500, 1500, 9000, LARGEST][index(&mut self.rng, 8)];
        let len = index(&mut self.rng, longest + 1);
        // Long noise repeats itself: what follows the first fields is rarely read, and random bytes are dear.
        let mut bytes = vec![0; len.min(512)];
        self.rng.fill(&mut bytes);
        while bytes.len() < len {
            let more = bytes.len().min(len - bytes.len());
            bytes.extend_from_within(..more);
        }
        bytes
    }

    /// Flips one to eight bits.
    pub(super) fn bend(&mut self, datagram: &mut [u8]) {
        for _ in 0..=self.rng.below(8) {
            let at = index(&mut self.rng, datagram.len());
            let bit = self.rng.below(8);
            if let Some(byte) = datagram.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }

    /// Somebody who is neither of the two machines.
    pub(super) fn stranger(&mut self, plan: Addresses) -> SocketAddr {
        plan.at(100 + u32::try_from(self.rng.below(1000)).unwrap_or(0))
    }

    /// The peer, whose address anybody can forge, or a stranger.
    pub(super) fn sender(&mut self, peer: SocketAddr, plan: Addresses) -> SocketAddr {
        let stranger = self.stranger(plan);
        if self.rng.below(2) == 0 { peer } else { stranger }
    }

    fn real(&mut self) -> Option<Vec<u8>> {
        let index = index(&mut self.rng, self.seen.len());
        self.seen.get(index).cloned()
    }
}

/// A random index below `len`; zero if there is none.
pub(super) fn index(rng: &mut Rng, len: usize) -> usize {
    usize::try_from(rng.below(len as u64)).unwrap_or(0)
}

/// How many real datagrams are remembered.
const SEEN: usize = 64;
/// The largest UDP payload over IPv4.
const LARGEST: usize = 65_507;
