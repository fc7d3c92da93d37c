//! Every bound and interval of a session.

use std::time::Duration;

use structs::{Link, Path};

/// The smallest path that is used: every datagram of this size must pass (SPEC 9.5, RFC 8899 section 5.1.2).
pub(crate) const MIN_DATAGRAM: usize = 1200;
/// A sealed packet without its plaintext: 13 bytes of header, 16 of tag (SPEC 5.3).
pub(crate) const OVERHEAD: usize = 29;
pub(crate) const HEADER: usize = 13;
/// Packets that want an answer have at least this many bytes: whoever forgot the session may answer them with a reset,
/// which must be shorter (SPEC 9.8).
pub(crate) const MIN_RESETTABLE: usize = 43;
pub(crate) const TAG: usize = 16;

/// The first message is repeated after this long, then after twice as long, and so on (SPEC 9.1).
pub(crate) const RETRY: Duration = Duration::from_millis(250);
/// The longest time between two repetitions.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(5);
/// A dial by key asks who is there when nothing came for this long.
pub(crate) const FALL_BACK_AFTER: Duration = Duration::from_secs(1);
/// How many addresses one dial may try at a time.
pub(crate) const DIAL_PATHS: usize = 4;
/// And how many byte streams and circuits through relays besides.
pub(crate) const DIAL_STREAMS: usize = 4;
pub(crate) const DIAL_CIRCUITS: usize = 2;

/// Whether a dial that tries these paths may try one more.
pub(crate) fn has_room(tried: &[Path], path: &Path) -> bool {
    let most = match Rank::of(path) {
        Rank::Circuit => DIAL_CIRCUITS,
        Rank::Stream => DIAL_STREAMS,
        Rank::Datagrams => DIAL_PATHS,
    };
    tried.iter().filter(|other| Rank::of(other) == Rank::of(path)).count() < most
}

/// What carries a path, the better the higher (SPEC 9.4): a path of a higher rank takes the place of one of a lower rank as
/// soon as it is proved, and is not left for one that is quicker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A relay has less to give than the network, and gives it to others too.
    Circuit,
    /// A loss holds up all that follows.
    Stream,
    /// What the session is made for.
    Datagrams,
}

impl Rank {
    pub(crate) const fn of(path: &Path) -> Self {
        match path.link {
            Link::Circuit(_) => Self::Circuit,
            Link::Stream(_) => Self::Stream,
            Link::Udp | Link::Socket(_) | Link::Custom(_) => Self::Datagrams,
        }
    }
}

/// The datagrams of a byte stream: long enough that their headers do not count, and short enough that those that are dropped
/// at a full queue are not much of it. A size of the ladder of SPEC 9.5.
pub(crate) const STREAM_DATAGRAM: usize = 16_336;

/// Paths of a session, those being tried included: 4 and 4 (the bound of SPEC 9.4).
pub(crate) const PATHS: usize = 8;
/// Paths that strangers to the session can make us try at a time: an authentic packet from a new address is needed.
pub(crate) const PROBED_PATHS: usize = 4;
/// How often a PATH_CHALLENGE is sent before a path is given up.
pub(crate) const CHALLENGES: u8 = 3;
/// The longest wait for the answer to a challenge: a round trip measured while the other side slept says nothing.
pub(crate) const CHALLENGE_PATIENCE: Duration = Duration::from_secs(5);
/// Connection ids we issue ahead, so that every path can have its own.
pub(crate) const CIDS_ISSUED: usize = 4;
/// Connection ids of the other side that we keep.
pub(crate) const CIDS_KEPT: usize = 8;
/// Runs of numbers among the connection ids given back: they are numbered in order, so more is an attack.
pub(crate) const CIDS_RETIRED: usize = 32;

/// The longest time between two PINGs of an adaptive keepalive.
pub(crate) const KEEPALIVE_MAX: Duration = Duration::from_secs(110);
/// The shortest silence on the only path that the owner is told of.
pub(crate) const SILENT: Duration = Duration::from_millis(400);

/// After so long without anything a path counts as silent, unless one probe timeout is longer still.
pub(crate) const LONG_SILENT: Duration = Duration::from_secs(1);
/// The clock stood still for this long: we were suspended (SPEC 9.6).
pub(crate) const SUSPEND: Duration = Duration::from_secs(5);

/// A session that was not used for so long gives back what it can make again: longer than the pauses of a lively talk,
/// and a few microseconds when it goes on.
pub(crate) const REST_AFTER: Duration = Duration::from_secs(2);
/// The same for a new one, where many are new: longer than whoever began to talk waits before the next word on a short path.
pub(crate) const REST_EARLY: Duration = Duration::from_millis(5);
/// And the models of its paths after so long, with a PING: shorter than the first pause between two of them, and longer
/// than the pauses of what comes in pieces, such as video.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(10);

/// Larger datagrams are tried for when something would fill them, or after so long (SPEC 9.5): a session that is over
/// before needs none.
pub(crate) const SEARCH_AFTER: Duration = Duration::from_millis(10);

/// Record keys are updated after so long and so many packets (SPEC 7.3).
pub(crate) const UPDATE_AFTER: Duration = Duration::from_secs(120);
pub(crate) const UPDATE_PACKETS: u64 = 1 << 22;
/// Fresh ephemeral keys are exchanged after so long and so many packets.
pub(crate) const REKEY_AFTER: Duration = Duration::from_secs(15 * 60);
pub(crate) const REKEY_PACKETS: u64 = 1 << 26;

/// Tickets each side issues in a session: four in all (SPEC 6.6).
pub(crate) const TICKETS: u8 = 2;
/// How long a ticket can be used.
pub(crate) const TICKET_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The longest reason in a CLOSE.
pub(crate) const MAX_REASON: usize = 256;
/// Events that wait for the owner, beyond which the other side's tales of our address are passed over.
pub(crate) const MAX_EVENTS: usize = 1024;
/// PATH_RESPONSEs that wait to be sent; the oldest is dropped.
pub(crate) const MAX_RESPONSES: usize = 4;
