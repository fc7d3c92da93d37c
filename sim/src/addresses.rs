//! Which addresses simulated machines get.

use std::net::{Ipv4Addr, SocketAddr};

/// A plan that numbers machines from zero and gives each an address.
///
/// The kind of address matters to machines that judge them: they may refuse loopback addresses, treat private ones
/// as the local network, or count how many peers share a /16 or /24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addresses {
    /// `10.0.0.1:4000`, `10.0.0.2:4000` and on: one private network of up to 16,777,214 hosts.
    #[default]
    Private,
    /// `127.0.0.1:4000`, `127.0.0.1:4001` and on: one host. The ports wrap after 61,536 machines.
    Loopback,
    /// Global unicast addresses at port 4000, every machine in a /24 of its own, the first 71 in a /8 and the first
    /// 18,176 in a /16 of their own. They wrap after 4,653,056 machines.
    Public,
}

impl Addresses {
    /// The address of machine number `index`.
    #[must_use]
    pub fn at(self, index: u32) -> SocketAddr {
        match self {
            Self::Private => {
                let [_, b, c, d] = (index % 0x00ff_fffe + 1).to_be_bytes();
                (Ipv4Addr::new(10, b, c, d), PORT).into()
            }
            Self::Loopback => {
                let port = index % (u32::from(u16::MAX - PORT) + 1) + u32::from(PORT);
                (Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap_or(PORT)).into()
            }
            Self::Public => {
                let [_, _, c, b] = (index / PUBLIC_BLOCKS).to_be_bytes();
                let [.., a] = (FIRST_PUBLIC_BLOCK + index % PUBLIC_BLOCKS).to_be_bytes();
                (Ipv4Addr::new(a, b, c, 1), PORT).into()
            }
        }
    }
}

/// The UDP port of machines; on loopback, of the first.
const PORT: u16 = 4000;

/// 20.0.0.0/8 to 90.0.0.0/8 hold no range of special purpose (RFC 6890).
const FIRST_PUBLIC_BLOCK: u32 = 20;
const PUBLIC_BLOCKS: u32 = 71;
