//! Every bound of this crate, and every number that nodes must agree on. What a relay gives away is in its
//! [`Config`](crate::Config).

use std::time::Duration;

/// The longest datagram that a circuit carries: with [`HEADER_LEN`](crate::HEADER_LEN) and the headers of UDP and IPv6 it is
/// below the 1280 bytes that every path under IPv6 carries (SPEC 14.4).
pub const MAX_INNER: usize = 1200;

/// The longest control message (SPEC 14.3): RESERVED with the longest voucher, and room for what later versions add.
pub const MAX_MESSAGE: usize = 512;

/// How long a reservation holds unless it is renewed, which its holder does after half of it.
pub const RESERVATION: Duration = Duration::from_hours(1);

/// How long a circuit may be without a datagram.
pub const CIRCUIT_IDLE: Duration = Duration::from_mins(10);

/// Bytes that wait in a circuit for each direction. What comes on top of it is dropped and counted: congestion control
/// between the ends sees it. Separate, so that acknowledgements do not wait behind, or get lost among, bulk of the other way.
pub const LANE_BYTES: usize = 32 * 1024;

/// Bytes of one circuit that leave in one turn.
pub const TURN_BYTES: usize = 16 * 1024;

/// Peers that a relay remembers. The owner has a session with each, and says when it ends.
pub const MAX_SESSIONS: usize = 1024;

/// Control messages that wait for one peer, which its session has no room for.
pub const MAX_WAITING: usize = 64;

/// Above so many that wait for it a peer is not told of new circuits, and may ask for nothing.
pub const MAX_UNREAD: usize = 40;

/// What a peer may ask of a relay in a second, and at once.
pub const REQUESTS_PER_SECOND: u32 = 8;
/// See [`REQUESTS_PER_SECOND`].
pub const REQUESTS_AT_ONCE: u32 = 64;

/// Relays at which a client keeps reservations, in different networks.
pub const WANTED: usize = 2;

/// Relays that a client knows: to reserve at, and those of the peers that it dials.
pub const MAX_RELAYS: usize = 64;

/// Circuits of a client, in all and by one relay.
pub const MAX_CIRCUITS: usize = 64;
/// See [`MAX_CIRCUITS`].
pub const MAX_CIRCUITS_BY_RELAY: usize = 16;

/// Attempts of a client to open circuits at a time.
pub const MAX_ATTEMPTS: usize = 64;

/// Relays that are tried in one attempt: as many as a record can name.
pub const MAX_TRIED: usize = 4;

/// Relays that one peer names to another.
pub const MAX_NAMED: usize = 8;

/// Peers that a client has asked for relays and that have not answered.
pub const MAX_ASKED: usize = 64;

/// Circuits to one peer that an attempt opens: the second is there when the relay of the first dies.
pub const CIRCUITS_WANTED: u8 = 2;

/// How long a relay has for an answer before the next one is asked too.
pub const STAGGER: Duration = Duration::from_secs(1);

/// How long an attempt lasts.
pub const ATTEMPT: Duration = Duration::from_secs(10);

/// How long a relay may take for RESERVED.
pub const ANSWER: Duration = Duration::from_secs(5);

/// How long the owner may take to open a session with a relay.
pub const DIAL: Duration = Duration::from_secs(10);

/// After so long without a sign of a relay that is in use it is asked for one.
pub const QUIET: Duration = Duration::from_secs(10);

/// The same while datagrams to it are not answered by anything: a translator on the way may have moved us, which the session
/// with the relay finds out when it has something to say.
pub const UNANSWERED: Duration = Duration::from_millis(500);

/// How long the sign may take. With [`QUIET`] and a new reservation it is less than 20 s from the death of a relay to the
/// moment at which another has taken its place.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// Failures in a row after which a relay is left alone for [`BANISHED`].
pub const FAILURES: u8 = 3;

/// How long a relay is left alone after a failure, doubled with the second.
pub const RETRY: Duration = Duration::from_secs(10);

/// See [`FAILURES`]. A relay that fell silent while in use is left alone for as long.
pub const BANISHED: Duration = Duration::from_mins(5);

const _: () = {
    assert!(crate::HEADER_LEN + MAX_INNER + 48 <= 1280);
    assert!(framing::limits::MAX_VOUCHER + 16 <= MAX_MESSAGE);
    assert!(QUIET.as_secs() + PATIENCE.as_secs() < 20);
    assert!(2 + MAX_NAMED * (32 + framing::address::LEN) <= MAX_MESSAGE);
    assert!(MAX_INNER + 2 <= TURN_BYTES && TURN_BYTES <= LANE_BYTES);
};
