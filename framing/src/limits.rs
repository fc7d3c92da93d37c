//! Every number of the native wire, with the section of SPEC that gives it. Sizes are bytes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::header::DataHeader;

// ---- datagrams ----

/// The generation of the layout that we write; receivers take every one from 1 on (SPEC 5.3).
pub const VERSION: u8 = 1;

/// What every path carries: no longer datagram is sent before its path showed that it can (SPEC 9.5).
pub const MIN_DATAGRAM: usize = 1200;

/// The authentication tag behind a sealed packet (SPEC 7.2).
pub const TAG: usize = 16;

/// What a sealed packet adds to its frames: header 13, tag 16 (SPEC 5.3).
pub const DATA_OVERHEAD: usize = DataHeader::LEN + TAG;

/// What a sealed packet of [`MIN_DATAGRAM`] bytes holds: 1171 bytes of frames.
pub const MIN_PAYLOAD: usize = MIN_DATAGRAM - DATA_OVERHEAD;

/// INIT with a payload of the length we send (SPEC 6.1).
pub const INIT_LEN: usize = 180;

/// RESP (SPEC 6.1).
pub const RESP_LEN: usize = 132;

/// COOKIE (SPEC 6.1).
pub const COOKIE_LEN: usize = 68;

/// XX1, padding included (SPEC 6.1).
pub const XX1_LEN: usize = 240;

/// XX2 (SPEC 6.1).
pub const XX2_LEN: usize = 180;

/// XX3 (SPEC 6.1).
pub const XX3_LEN: usize = 132;

/// `INIT_R` (SPEC 6.1).
pub const INIT_R_LEN: usize = 148;

/// `RESP_R` (SPEC 6.1).
pub const RESP_R_LEN: usize = 132;

/// RETRY: a header alone (SPEC 6.1).
pub const RETRY_LEN: usize = 12;

/// The shortest reset, as long as a packet with ten bytes of frames (SPEC 9.8).
pub const MIN_RESET: usize = 39;

/// The longest reset (SPEC 9.8).
pub const MAX_RESET: usize = 42;

/// The shortest packet that is answered with a reset (SPEC 9.8).
pub const MIN_RESET_TRIGGER: usize = MAX_RESET + 1;

// ---- frames ----

/// The first frame type that has a length, so that receivers can skip it unknown (SPEC 8.1).
pub const FIRST_SKIPPABLE: u64 = 0x40;

/// The most ranges in one ACK, the first included (SPEC 8.2).
pub const MAX_ACK_RANGES: usize = 64;

/// The longest delay that an acknowledgement is expected to be held back for, whatever HELLO says (SPEC 8.3).
pub const MAX_ACK_DELAY: Duration = Duration::from_secs(1);

/// The longest HELLO that is sent: it shares a packet of [`MIN_PAYLOAD`] with an ACK (SPEC 8.3).
pub const MAX_HELLO: usize = 1100;

/// The most protocol entries in a HELLO (SPEC 8.3).
pub const MAX_PROTOCOLS: usize = 64;

/// The longest name of a protocol (SPEC 8.3).
pub const MAX_PROTOCOL_NAME: usize = 64;

/// The longest name of an implementation (SPEC 8.3).
pub const MAX_AGENT: usize = 64;

/// The longest reason in CLOSE (SPEC 8.8).
pub const MAX_REASON: usize = 256;

/// The highest number of streams that either side may ever open: 2^60 (SPEC 8.5).
pub const MAX_STREAMS: u64 = 1 << 60;

/// The most bytes that a stream can carry, 2^62 - 1 (SPEC 8.5).
pub const MAX_OFFSET: u64 = crate::varint::MAX;

/// What a new session lets the other side send in all before HELLO says more (SPEC 8.3).
pub const INITIAL_MAX_DATA: u64 = 64 << 10;

/// What it lets the other side send on one stream (SPEC 8.3).
pub const INITIAL_MAX_STREAM_DATA: u64 = 16 << 10;

/// How many streams it lets the other side open (SPEC 8.3).
pub const INITIAL_MAX_STREAMS: u64 = 16;

/// The longest message it takes (SPEC 8.3).
pub const INITIAL_MAX_MESSAGE: u64 = INITIAL_MAX_STREAM_DATA;

/// The longest DATAGRAM frame, type and lengths included, that is sent before HELLO says more (SPEC 8.3).
pub const INITIAL_MAX_DATAGRAM_FRAME: u64 = 1100;

/// How long acknowledgements are held back at most, unless HELLO says otherwise (SPEC 8.3).
pub const INITIAL_ACK_DELAY: Duration = Duration::from_millis(25);

/// The longest life of a ticket (SPEC 6.6).
pub const MAX_TICKET_LIFETIME: Duration = Duration::from_hours(24);

/// How many frames for protocols we lack end a session (SPEC 8.6).
pub const MAX_UNKNOWN_PROTOCOL: u32 = 64;

// ---- records ----

/// The longest signed record: it fits where a value of the hash table does (SPEC 7.6).
pub const MAX_RECORD: usize = 1000;

/// The most addresses in a record (SPEC 7.6).
pub const MAX_RECORD_ADDRESSES: usize = 16;

/// The most relays in a record (SPEC 7.6).
pub const MAX_RECORD_RELAYS: usize = 4;

/// The most vouchers of relays in a record (SPEC 7.6).
pub const MAX_RECORD_VOUCHERS: usize = 2;

/// How far ahead a record may expire: a week (SPEC 7.6).
pub const MAX_RECORD_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The longest voucher of a relay: four of them fit in a record with four addresses (SPEC 14.2).
pub const MAX_VOUCHER: usize = 220;

/// The most addresses of a relay in a voucher (SPEC 14.2).
pub const MAX_VOUCHER_ADDRESSES: usize = 4;

/// How far ahead a voucher may end: a day (SPEC 14.2).
pub const MAX_VOUCHER_LIFETIME: Duration = Duration::from_hours(24);

// ---- beacons ----

/// Where beacons go over IPv4, of the local scope (SPEC 10.1).
pub const BEACON_GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 83, 87);

/// Where beacons go over IPv6, never past the link (SPEC 10.1).
pub const BEACON_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0x7365, 0x746f, 0x7769, 0x7265);

/// The port of both groups; that of v12 is another one (SPEC 10.1).
pub const BEACON_PORT: u16 = 29_531;

/// The most tags in a beacon (SPEC 10.1).
pub const MAX_BEACON_TAGS: usize = 64;

const _: () = assert!(crate::Beacon::HEADER + MAX_BEACON_TAGS * crypto::topic::TAG <= MIN_DATAGRAM);
