//! How much the HTTP servers do for others. What goes beyond is refused with a status that says so.

use std::time::Duration;

/// Connections at once, in all of one listener.
pub(crate) const CONNECTIONS: usize = 1024;
/// Connections at once from one public address (IPv6: /64); see [`PRIVATE`] for others. A sender or receiver that waits holds one.
pub(crate) const CONNECTIONS_PER_HOST: usize = 64;
/// Connections at once from one public /24 (IPv6: /48).
pub(crate) const CONNECTIONS_PER_NETWORK: usize = 256;
/// What an address of a private network may have, in shares of a public one: more may be behind it, but not everybody. Addresses of
/// this machine are not counted, as a server in front may be one.
pub(crate) const PRIVATE: usize = 4;
/// Requests to the lists by one public address in a second.
pub(crate) const REQUESTS_PER_SECOND: usize = 20;
/// Addresses that are counted for it at once.
pub(crate) const PACED: usize = 16_384;
/// How long the head of a request may take, and how long a connection may have none.
pub(crate) const HEAD: Duration = Duration::from_secs(10);
/// Bytes of the head of a request; also those of a body that are read at once.
pub(crate) const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
pub(crate) const HEADERS: usize = 64;
/// How long the body of an announcement may take.
pub(crate) const BODY: Duration = Duration::from_secs(10);
/// How long a connection, which has one request, lives where it waits for nobody: one that lives longer is slow. The longest answer
/// then takes 2 KiB/s.
pub(crate) const LIFE: Duration = Duration::from_secs(60);
/// After how long without a word from the other end it is asked whether it is there, how often, and how often it may say nothing.
pub(crate) const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// How long connections have to finish when the server ends.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// How often what is old is looked for.
pub(crate) const SWEEP: Duration = Duration::from_secs(1);
/// What is told to those who are refused for a while, in seconds.
pub(crate) const RETRY_AFTER: u32 = 60;

/// Bytes of an announcement of the existing nodes, which have about 100.
pub(crate) const ANNOUNCEMENT_BYTES: usize = 4 * 1024;
/// How long an announcement is listed. They are repeated every 3 minutes.
pub(crate) const ANNOUNCEMENT_LIFE: Duration = Duration::from_secs(10 * 60);
/// Announcements that are kept: about 200 bytes each.
pub(crate) const ANNOUNCEMENTS: usize = 4096;
/// Announcements of one public address, and of one public /24.
pub(crate) const ANNOUNCEMENTS_PER_HOST: usize = 16;
/// See [`ANNOUNCEMENTS_PER_HOST`].
pub(crate) const ANNOUNCEMENTS_PER_NETWORK: usize = 64;
/// Announcements in one list, the newest: about 25 KB.
pub(crate) const LISTED: usize = 256;

/// Sealed bodies that are kept, in all: 16 MiB.
pub(crate) const SEALED: usize = 8192;
/// Sealed bodies of one public address (IPv6: /64), and of one public /24 (IPv6: /48).
pub(crate) const SEALED_PER_HOST: usize = 128;
/// See [`SEALED_PER_HOST`].
pub(crate) const SEALED_PER_NETWORK: usize = 512;

/// Bytes of a path that is met at.
pub(crate) const PIPE_PATH: usize = 256;
/// How long a sender waits for a receiver, and a receiver for a sender.
/// The existing nodes wait so long, and begin again.
pub(crate) const PIPE_WAIT: Duration = Duration::from_secs(2 * 60);
/// Who waits at once: some connections are left for the lists, which may be at the same address.
pub(crate) const PIPE_WAITING: usize = CONNECTIONS / 4 * 3;
/// Bytes of what is passed on: rendezvous messages have some hundred.
pub(crate) const PIPE_BYTES: u64 = 1 << 20;
/// Bytes of a sender who waits that are read, so that it is noticed when one with a short message goes away.
pub(crate) const PIPE_AHEAD: usize = HEAD_BYTES;
/// Parts of a body that wait for a receiver who reads slowly, each of [`HEAD_BYTES`] at most.
pub(crate) const PIPE_PARTS: usize = 2;
/// How long it may take to pass on a body, to its last byte.
pub(crate) const PIPE_TRANSFER: Duration = Duration::from_secs(60);

const _: () = assert!(SEALED * swarm::rendezvous::MAX_BODY <= 16 << 20 && ANNOUNCEMENT_BYTES <= HEAD_BYTES);
