//! What the owner of a session decides.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use structs::TransmitBuf;

use crate::congestion::Algorithm;
use crate::limits;
use crate::mux::{self, Protocols};

/// What becomes of a session on which nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// It is kept: a PING leaves when nothing was sent for this long, and for longer and longer while nothing goes
    /// wrong, up to 110 s, unless [a NAT is on the way](crate::Peer::keep_mapping); after a change of address or a lost PING
    /// again after this long. The default is 15 s, which
    /// is below the shortest mapping times of home routers.
    KeepAlive(Duration),
    /// It is closed with the reason [`Idle`](crate::Reason::Idle) when nothing but acknowledgements came or went for
    /// this long.
    CloseAfter(Duration),
}

/// For which addresses the limits per address and per network hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubnetLimits {
    /// For public addresses; loopback, link-local and private ones are exempt.
    #[default]
    Public,
    /// For every address: simulations of attackers.
    All,
    /// For none.
    Off,
}

/// The settings of an endpoint and of all its sessions.
///
/// Values out of range are moved to the nearest end of the range.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) network: [u8; 32],
    pub(crate) protocols: Arc<Protocols>,
    pub(crate) agent: String,
    pub(crate) idle: Idle,
    pub(crate) dead_after: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) fall_back_to_xx: bool,
    pub(crate) tickets: bool,
    pub(crate) aes: bool,
    pub(crate) congestion: Algorithm,
    pub(crate) max_datagram: u16,
    pub(crate) mtu_discovery: bool,
    pub(crate) ecn: bool,
    pub(crate) send_buffer: usize,
    pub(crate) receive_buffer: usize,
    pub(crate) max_streams: u32,
    pub(crate) max_message: usize,
    pub(crate) datagram_queue: usize,
    pub(crate) update_after: Duration,
    pub(crate) update_packets: u64,
    pub(crate) rekey_after: Duration,
    pub(crate) rekey_packets: u64,
    pub(crate) max_peers: usize,
    pub(crate) handshakes_per_second: NonZeroU32,
    pub(crate) subnet_limits: SubnetLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: [0; 32],
            protocols: Arc::default(),
            agent: String::from(concat!("setowire-rs/", env!("CARGO_PKG_VERSION"))),
            idle: Idle::KeepAlive(Duration::from_secs(15)),
            dead_after: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            fall_back_to_xx: true,
            tickets: true,
            aes: true,
            congestion: Algorithm::default(),
            max_datagram: TransmitBuf::MAX_BATCH as u16,
            mtu_discovery: true,
            ecn: true,
            send_buffer: mux::DEFAULT_MEMORY,
            receive_buffer: mux::DEFAULT_MEMORY,
            max_streams: 256,
            max_message: 1 << 20,
            datagram_queue: 256 << 10,
            update_after: limits::UPDATE_AFTER,
            update_packets: limits::UPDATE_PACKETS,
            rekey_after: limits::REKEY_AFTER,
            rekey_packets: limits::REKEY_PACKETS,
            max_peers: 256,
            handshakes_per_second: NonZeroU32::new(1000).unwrap_or(NonZeroU32::MIN),
            subnet_limits: SubnetLimits::Public,
        }
    }
}

impl Config {
    /// Which network this is: nodes of different networks do not understand each other's first packets. Default: all
    /// zero.
    #[must_use]
    pub const fn network(mut self, network: [u8; 32]) -> Self {
        self.network = network;
        self
    }

    /// Sets the protocols that every session speaks. Default: none.
    #[must_use]
    pub fn protocols(mut self, protocols: Protocols) -> Self {
        self.protocols = Arc::new(protocols);
        self
    }

    /// What the other side is told of this program: at most 64 bytes, cut at a character. Default: the name and
    /// version of this crate. An empty one tells nothing.
    #[must_use]
    pub fn agent(mut self, agent: &str) -> Self {
        self.agent = agent
            .chars()
            .scan(0, |len, c| {
                *len += c.len_utf8();
                (*len <= 64).then_some(c)
            })
            .collect();
        self
    }

    /// What becomes of a session on which nothing happens. Default: kept, with a PING after 15 s. Range: 1 s to 1 h.
    #[must_use]
    pub fn idle(mut self, idle: Idle) -> Self {
        let range = |d: Duration| d.clamp(Duration::from_secs(1), Duration::from_secs(3600));
        self.idle = match idle {
            Idle::KeepAlive(d) => Idle::KeepAlive(range(d)),
            Idle::CloseAfter(d) => Idle::CloseAfter(range(d)),
        };
        self
    }

    /// How long a peer may leave everything unanswered before it counts as gone; never less than three probe
    /// timeouts. Default: 30 s. Range: 1 s to 1 h.
    ///
    /// Lower notices sooner that a peer is gone, and gives up sooner while a telephone is in a tunnel.
    #[must_use]
    pub fn dead_after(mut self, after: Duration) -> Self {
        self.dead_after = after.clamp(Duration::from_secs(1), Duration::from_secs(3600));
        self
    }

    /// How long a dial may take in all. Default: 10 s. Range: 100 ms to 5 min.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout.clamp(Duration::from_millis(100), Duration::from_secs(300));
        self
    }

    /// Whether a dial by key that stays unanswered for a second asks whose key answers there (default: yes). It then
    /// fails at once with [`WrongPeer`](crate::Reason::WrongPeer) where another peer has taken the address; the
    /// price is one more datagram of 240 bytes.
    #[must_use]
    pub const fn fall_back_to_xx(mut self, allow: bool) -> Self {
        self.fall_back_to_xx = allow;
        self
    }

    /// Whether tickets for a quicker next handshake are issued and used (default: yes).
    #[must_use]
    pub const fn tickets(mut self, allow: bool) -> Self {
        self.tickets = allow;
        self
    }

    /// Whether AES-256-GCM may be agreed where both sides have it in hardware (default: yes). ChaCha20-Poly1305
    /// is always spoken.
    #[must_use]
    pub const fn aes(mut self, allow: bool) -> Self {
        self.aes = allow;
        self
    }

    /// Which congestion control new paths get. See [`Algorithm`].
    #[must_use]
    pub const fn congestion(mut self, algorithm: Algorithm) -> Self {
        self.congestion = algorithm;
        self
    }

    /// The largest datagram sent or taken, in bytes of UDP payload. Default: 65,507. Range: 1200 to 65,507.
    #[must_use]
    pub fn max_datagram(mut self, bytes: usize) -> Self {
        let bytes = bytes.clamp(limits::MIN_DATAGRAM, TransmitBuf::MAX_BATCH);
        self.max_datagram = u16::try_from(bytes).unwrap_or(u16::MAX);
        self
    }

    /// Whether larger datagrams than 1200 bytes are tried (RFC 8899). Default: yes.
    #[must_use]
    pub const fn mtu_discovery(mut self, discover: bool) -> Self {
        self.mtu_discovery = discover;
        self
    }

    /// Whether packets ask routers to mark congestion rather than to drop (RFC 3168). Default: yes.
    #[must_use]
    pub const fn ecn(mut self, ecn: bool) -> Self {
        self.ecn = ecn;
        self
    }

    /// How many bytes of messages and streams may wait to be acknowledged in one session. Default: 8 MiB. Range:
    /// 64 KiB to 1 GiB. One stream gets up to half of it, more or less. What is sent behind a lost packet stays until the
    /// repetition is acknowledged, so a path that loses packets is filled by two to three round trips of data. More costs
    /// memory in busy sessions.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = bytes.clamp(64 << 10, 1 << 30);
        self
    }

    /// How many bytes of messages and streams one session may hold unread. The window starts small and grows to this
    /// as long as the application keeps up. Default: 8 MiB. Range: 64 KiB to 1 GiB. One stream gets up to half of it, more
    /// or less; what came behind a lost packet counts. A peer can make a session hold all of it.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = bytes.clamp(64 << 10, 1 << 30);
        self
    }

    /// How many streams the other side may have open at a time. Default: 256. Range: 1 to 65,536.
    #[must_use]
    pub fn max_streams(mut self, streams: u32) -> Self {
        self.max_streams = streams.clamp(1, 65_536);
        self
    }

    /// The largest message sent or taken, in bytes. Default: 1 MiB. Range: 1 to half the receive buffer. Larger
    /// things belong on a stream.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes.max(1);
        self
    }

    /// How many bytes of unreliable datagrams may wait in each direction; beyond it the oldest is dropped and
    /// counted. Default: 256 KiB. Range: 1 KiB to 64 MiB.
    #[must_use]
    pub fn datagram_queue(mut self, bytes: usize) -> Self {
        self.datagram_queue = bytes.clamp(1 << 10, 64 << 20);
        self
    }

    /// After how long, and after how many packets, a side takes its next record key. Defaults: 120 s, 2^22. Ranges:
    /// from 1 s and 16 packets up to the defaults.
    #[must_use]
    pub fn update_after(mut self, time: Duration, packets: u64) -> Self {
        self.update_after = time.clamp(Duration::from_secs(1), limits::UPDATE_AFTER);
        self.update_packets = packets.clamp(16, limits::UPDATE_PACKETS);
        self
    }

    /// After how long, and after how many packets, the dialler asks for fresh ephemeral keys. Defaults: 15 min, 2^26.
    /// Ranges: from 1 s and 16 packets up to the defaults.
    #[must_use]
    pub fn rekey_after(mut self, time: Duration, packets: u64) -> Self {
        self.rekey_after = time.clamp(Duration::from_secs(1), limits::REKEY_AFTER);
        self.rekey_packets = packets.clamp(16, limits::REKEY_PACKETS);
        self
    }

    /// How many peers an endpoint talks to at a time, dials included. Default: 256. Range: 1 to 65,536.
    #[must_use]
    pub fn max_peers(mut self, peers: usize) -> Self {
        self.max_peers = peers.clamp(1, 65_536);
        self
    }

    /// How many handshakes a second an endpoint answers before it asks strangers to prove their address first.
    /// Default: 1000. One costs about 0.1 ms of a core.
    #[must_use]
    pub const fn handshakes_per_second(mut self, handshakes: NonZeroU32) -> Self {
        self.handshakes_per_second = handshakes;
        self
    }

    /// For which addresses the limits per address and per network hold. Default: public ones.
    #[must_use]
    pub const fn subnet_limits(mut self, limits: SubnetLimits) -> Self {
        self.subnet_limits = limits;
        self
    }

    /// The largest message that will be taken: what [`max_message`](Self::max_message) asked for, as far as the buffers
    /// allow it.
    #[must_use]
    pub fn largest_message(&self) -> usize {
        self.mux_limits().checked(self.protocols.len()).max_message
    }

    pub(crate) fn mux_limits(&self) -> mux::Limits {
        mux::Limits {
            max_message: self.max_message,
            streams: self.max_streams,
            send_memory: self.send_buffer,
            receive_memory: self.receive_buffer,
            datagram_memory: self.datagram_queue,
            ..mux::Limits::default()
        }
    }
}
