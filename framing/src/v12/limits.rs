//! Every number of the v12 wire, and of the behaviour that the reference nodes expect on it.
//!
//! The first group binds: other numbers would not be understood. The second is what the reference nodes do themselves, and what they
//! therefore cope with; an implementation may be stricter. Sizes are bytes, times are [`Duration`].

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

// ---- the wire ----

/// The most that fits in one UDP datagram over IPv4: 65 535 less the IP and UDP headers.
pub const MAX_DATAGRAM: usize = 65_507;

/// The longest message that reference nodes send as one DATA frame; longer ones they send as plaintext FRAG frames.
pub const MAX_PAYLOAD: usize = 1200;

/// What a DATA frame adds to its payload: kind 1, nonce 12, tag 16, sequence number 4.
pub const DATA_OVERHEAD: usize = 1 + NONCE + TAG + SEQ;

/// The nonce in front of the ciphertext of a DATA frame.
pub const NONCE: usize = 12;

/// The authentication tag behind the ciphertext of a DATA frame.
pub const TAG: usize = 16;

/// The sequence number in front of the payload, inside the ciphertext.
pub const SEQ: usize = 4;

/// The longest message that fits in one encrypted DATA frame: 65 474. Reference nodes in Python, JavaScript and C++ take it.
pub const MAX_DATA_PAYLOAD: usize = MAX_DATAGRAM - DATA_OVERHEAD;

/// The data of one FRAG frame; only the last piece is shorter.
pub const FRAG_DATA: usize = 1188;

/// The longest message that FRAG frames can carry.
pub const MAX_FRAG_PAYLOAD: usize = u16::MAX as usize * FRAG_DATA;

/// The frames of one BATCH, each counted with its two-byte length; the two-byte header of the BATCH is not counted.
pub const BATCH_MTU: usize = 1400;

/// The most frames in one BATCH: its count is one byte.
pub const BATCH_MAX: usize = 255;

/// How long a frame waits for others to share its datagram.
pub const BATCH_INTERVAL: Duration = Duration::from_millis(2);

/// The data of one CHUNK; only the last part of a value is shorter.
pub const CHUNK: usize = 900;

/// The longest key of a stored value: its length is one byte.
pub const MAX_KEY: usize = 255;

/// The most keys in one HAVE that its count can say.
pub const HAVE_MAX: usize = 255;

/// The longest value whose chunks can be numbered.
pub const MAX_CHUNKED_VALUE: usize = u16::MAX as usize * CHUNK;

/// The `vlen` that marks a CHUNK as one part of a longer value.
pub const CHUNK_PART_MARK: u16 = 0xffff;

/// The most hashes in one IHAVE.
pub const IHAVE_MAX: usize = 200;

/// The longest topic text taken from a LAN beacon; the reference nodes send 12 or 24 characters.
pub const LAN_TOPIC_MAX: usize = 64;

/// A sequence number at which the plaintext of DATA begins with `{`, so that receivers may take it for JSON: start a new session
/// before this.
pub const SEQ_LIMIT: u32 = 0x7b00_0000;

// ---- what reference nodes do, and expect ----

/// How many keys a reference node tells in one HAVE.
pub const HAVE_BATCH: usize = 64;

/// How many addresses a reference node tells in one PEX.
pub const PEX_MAX: usize = 20;

/// How often addresses are exchanged.
pub const PEX_INTERVAL: Duration = Duration::from_secs(60);

/// How long the pieces of a message may take, counted from the first that arrives.
pub const FRAG_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a message waits for those missing in front of it.
pub const JITTER_HOLD: Duration = Duration::from_millis(50);

/// The longest value that is served or fetched, unless configured otherwise: 10 MiB.
pub const MAX_VALUE: usize = 10 * 1024 * 1024;

/// How many chunks may be unacknowledged.
pub const CHUNK_WINDOW: usize = 8;

/// How long to wait for the acknowledgement of a chunk before it is sent again.
pub const CHUNK_RTO: Duration = Duration::from_millis(1500);

/// How long a transfer is served without any progress.
pub const CHUNK_SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an incomplete value is kept without any progress; also how long a fetch may take to begin.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a PING goes to each peer.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a peer may be silent before it is dropped.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// Messages in flight when a session begins.
pub const CWND_INITIAL: u32 = 16;

/// The fewest messages in flight that the window can fall to.
pub const CWND_MIN: u32 = 1;

/// The most messages in flight that the window can rise to.
pub const CWND_MAX: u32 = 512;

/// What the window is multiplied by after a loss.
pub const CWND_DECREASE: f64 = 0.75;

/// Messages per second that a reference node sends to one peer.
pub const RATE: u32 = 128;

/// Messages that it sends at once after a pause.
pub const RATE_BURST: u32 = 256;

/// Control frames waiting for one peer.
pub const QUEUE_CTRL: usize = 256;

/// Messages waiting for one peer, on either side.
pub const QUEUE_DATA: usize = 2048;

/// How many HELLOs a dial sends.
pub const PUNCH_TRIES: u32 = 8;

/// The time between two HELLOs of a dial.
pub const PUNCH_INTERVAL: Duration = Duration::from_millis(300);

/// Peers at once.
pub const MAX_PEERS: usize = 100;

/// Addresses remembered for one peer.
pub const MAX_ADDRS_PER_PEER: usize = 4;

/// How often a relay announces itself.
pub const RELAY_INTERVAL: Duration = Duration::from_secs(30);

/// Relays remembered.
pub const RELAY_MAX: usize = 20;

/// Mesh peers aimed at.
pub const MESH_D: usize = 6;

/// The fewest mesh peers before more are taken in.
pub const MESH_D_LOW: usize = 4;

/// The most mesh peers before some are let go.
pub const MESH_D_HIGH: usize = 16;

/// Where LAN beacons go.
pub const LAN_GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 1), 45_678);

/// How often a LAN beacon is sent.
pub const LAN_INTERVAL: Duration = Duration::from_secs(5);

/// How long a node that ends goes on sending what is queued.
pub const DRAIN: Duration = Duration::from_secs(2);

/// The weight of a new sample in the smoothed round-trip time.
pub const RTT_ALPHA: f64 = 0.125;

/// The round-trip time assumed before the first sample.
pub const RTT_INITIAL: Duration = Duration::from_millis(100);
