//! Every bound of this crate, and every number that both sides must agree on.

use std::time::Duration;

// ---- observations ----

/// Words about us that are kept, in both families together: about 8 KiB.
pub const MAX_VOTES: usize = 64;

/// Words that are kept of one network. A fifth replaces the oldest.
pub const MAX_VOTES_OF_SUBNET: usize = 4;

/// How long a word counts.
pub const VOTE_LIFETIME: Duration = Duration::from_mins(10);

/// Addresses that were sent to and are remembered, about 50 KiB. The one sent to longest ago goes, and with it for a while the
/// ability to tell what a NAT lets in; the mappings that it has made since the newest known one are still counted.
pub const MAX_FLOWS: usize = 512;

/// For how long after the last datagram a NAT may keep a mapping, and let in what comes to it: RFC 4787 asks for 2 minutes and
/// recommends 5.
pub const LONGEST_MAPPING: Duration = Duration::from_mins(10);

/// Addresses of the host that are looked at.
pub const MAX_LOCAL: usize = 32;

/// The longest step from one port to the next that counts as a sequence: other hosts behind the NAT take ports in between.
pub const MAX_STEP: u16 = 64;

// ---- STUN ----

/// Servers that one client asks at a time. More are refused.
pub const MAX_STUN_SERVERS: usize = 16;

/// How soon a request is sent again; doubled with every time (RFC 8489 section 6.2.1).
pub const STUN_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a request is sent: the last answer is waited for until 7.5 s have passed.
pub const STUN_TRIES: u8 = 4;

/// How soon a request that a filter may keep from being answered is sent again, and how often.
pub const STUN_FILTER_TIMEOUT: Duration = Duration::from_millis(300);
/// See [`STUN_FILTER_TIMEOUT`]. With a tenth of the datagrams lost, one in 150 open filters is taken for a closed one.
pub const STUN_FILTER_TRIES: u8 = 3;

/// Requests of one IPv4 address or IPv6 /64 that a server answers in a second.
pub const STUN_PER_SECOND: u32 = 20;

/// Requests that a server answers in a second in all: 68 KB at most.
pub const STUN_IN_ALL: u32 = 1000;

/// Addresses whose requests are counted. The one that asked longest ago goes.
pub const MAX_COUNTED: usize = 1024;

// ---- punching ----

/// Candidates in a message. More are refused.
pub const MAX_CANDIDATES: usize = 16;

/// The longest message of the coordination.
pub const MAX_MESSAGE: usize = 512;

/// What one attempt sends in all, in bytes of UDP payload (SPEC 15.6): the consent of a peer is worth no more.
pub const MAX_BYTES: u32 = 64_000;

/// Probes that one attempt sends in all, without answers. With [`Probe::LEN`](crate::Probe::LEN) they are 57 kB.
pub const MAX_PROBES: u16 = 2048;

/// Probes in a second of a search through ports.
pub const SEARCH_RATE: u32 = 1000;

/// Probes in a second of two sequences that meet.
pub const MEET_RATE: u32 = 400;

/// Ports that are tried ahead of the last one seen of a sequence.
pub const MAX_AHEAD: u16 = 400;

/// Sockets that the side with random ports opens: with 1,024 probes of the other side 98 of 100 attempts meet, with 1,700 all but
/// one in a thousand.
pub const SPRAY_SOCKETS: u16 = 256;

/// Random ports that the other side probes.
pub const SCATTER_PROBES: u16 = 1700;

/// The same, where all of them have to be sent before the sockets are opened.
pub const SCATTER_AHEAD: u16 = 1500;

/// How long after an attempt with many probes began the next one may.
pub const BIRTHDAY_INTERVAL: Duration = Duration::from_secs(20);

/// Probes of an attempt that needed none of those many.
pub const FEW_PROBES: usize = 64;

/// When, after the first, the tries to an address leave, in milliseconds: from 20 in a second to one.
pub const TRIES: [u16; 9] = [50, 120, 250, 450, 800, 1300, 2000, 3000, 4000];

/// How long the second side waits beyond a round trip through the coordinator, so that the first has sent for sure.
pub const ORDER_MARGIN: Duration = Duration::from_millis(50);

/// Routers that an opener may pass: out of the networks of most customers, and not into those of others.
pub const OPENER_TTL: u8 = 5;

/// The longest round trip through the coordinator that is waited for.
pub const MAX_RTT: Duration = Duration::from_secs(1);

/// How long an address is given, and how long if it is the last round of an attempt.
pub const SIMPLE_ROUND: Duration = Duration::from_millis(1500);
/// See [`SIMPLE_ROUND`].
pub const LAST_ROUND: Duration = Duration::from_secs(5);

/// How long the coordinator, and the owner who was asked for sockets, may take.
pub const COORDINATION_TIMEOUT: Duration = Duration::from_secs(5);
/// See [`COORDINATION_TIMEOUT`].
pub const SOCKETS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a side that was told which path is taken goes on answering.
pub const LINGER: Duration = Duration::from_secs(2);

/// How long a proved path is held back while a better one is still being tried.
pub const SETTLE: Duration = Duration::from_millis(30);

/// How soon CHOSEN is sent again, and how often.
pub const CHOSEN_INTERVAL: Duration = Duration::from_millis(150);
/// See [`CHOSEN_INTERVAL`].
pub const CHOSEN_TRIES: u8 = 8;

/// Rounds of one attempt, each with its own order.
pub const MAX_ROUNDS: u8 = 3;

/// Paths that are known to work, and probes of the peer that were answered, that are remembered. Those that come first stay.
pub const MAX_PROVED: usize = 16;
/// See [`MAX_PROVED`]. The oldest go.
pub const MAX_ANSWERED: usize = 64;

/// Datagrams that wait to be taken. Above it probes are left out: the next ones are due soon.
pub const MAX_QUEUED: usize = 512;

/// Messages of the coordination that wait to be taken. More are never made: each answers one, or begins a round.
pub const MAX_OUTGOING: usize = 8;

const _: () = assert!(MAX_PROBES as usize * crate::Probe::LEN <= MAX_BYTES as usize);
const _: () = assert!(crate::Probe::LEN <= 61);
