//! The kinds of work.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;

/// The largest UDP payload that path MTU discovery of the usual stacks finds on the Internet: 1500 bytes less the headers
/// of IPv6 and UDP. It is the limit of all works but [`Work::Bulk`] with [`Mtu::Free`].
pub const INTERNET_MTU: u16 = 1452;

/// How large datagrams may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtu {
    /// At most [`INTERNET_MTU`] bytes of UDP payload.
    Internet,
    /// Whatever the library does best with on the path at hand.
    Free,
}

/// What client and server do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One stream, writes of 64 KiB, client to server.
    Bulk(Mtu),
    /// One stream, writes of 64 KiB, client to server, for a while: for paths that take their time.
    Goodput,
    /// Reliable messages in order with their boundaries, client to server, as fast as they are taken.
    Messages {
        /// Bytes of each.
        size: usize,
        /// Whether whoever sends puts several into one write, as an application can that has more to send.
        gathered: bool,
    },
    /// 64 bytes there and back on one stream, one at a time.
    PingPong,
    /// A new stream for every request of 64 bytes, this many at a time.
    Requests(usize),
    /// Unreliable datagrams of 1 KiB, client to server.
    Datagrams,
    /// A new connection, one request on it, and its end; this many at a time.
    Connects {
        /// How many are under way together.
        parallel: usize,
        /// Whether each but the first may use what an earlier one left.
        resumed: bool,
    },
    /// A thousand connections to one server, each with one request, then nothing.
    Idle,
}

impl Work {
    /// All of them with their names, in the order of the table.
    pub const ALL: [(&'static str, Self); 14] = [
        ("bulk", Self::Bulk(Mtu::Internet)),
        ("bulk-free-mtu", Self::Bulk(Mtu::Free)),
        ("messages-64", Self::Messages { size: 64, gathered: false }),
        ("messages-64-gathered", Self::Messages { size: 64, gathered: true }),
        ("messages-1k", Self::Messages { size: 1024, gathered: false }),
        ("ping-pong", Self::PingPong),
        ("requests", Self::Requests(1)),
        ("requests-100", Self::Requests(100)),
        ("datagrams-1k", Self::Datagrams),
        ("connects", Self::Connects { parallel: 1, resumed: false }),
        ("connects-resumed", Self::Connects { parallel: 1, resumed: true }),
        ("connects-32", Self::Connects { parallel: 32, resumed: false }),
        ("idle-1000", Self::Idle),
        ("goodput", Self::Goodput),
    ];

    /// The limit on datagrams.
    #[must_use]
    pub const fn mtu(self) -> Mtu {
        match self {
            Self::Bulk(mtu) => mtu,
            _ => Mtu::Internet,
        }
    }

    /// Whether connections may use what earlier ones left.
    #[must_use]
    pub const fn resumes(self) -> bool {
        matches!(self, Self::Connects { resumed: true, .. })
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, work)| work == self).map_or("work without a name", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Work {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, work)| *work);
        found.with_context(|| format!("there is no work `{name}`"))
    }
}
