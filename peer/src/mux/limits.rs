//! What a session may hold: every bound of the multiplexer, and what the other side is told of them.

use super::pages::{PAGE, Pool};

/// Bounds of one session's buffers. Sizes are bytes.
///
/// Memory is counted as it is allocated, in pages of 1 or 16 KiB. What the other side may send is announced such that, whatever it sends
/// and however little of it is read, the pages stay below `receive_memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The longest message that is sent or taken: at least 16 KiB, at most a quarter of the memory for sending
    /// and, with its length, half of the widest window.
    pub(crate) max_message: usize,
    /// How many streams of bytes the other side may have open: 16 to 4096.
    pub(crate) streams: u32,
    /// What is kept until it is acknowledged, in all: at least 256 KiB.
    pub(crate) send_memory: usize,
    /// What is kept until it is read, in all, waiting datagrams included: at least 1 MiB more than unfilled pages may take.
    pub(crate) receive_memory: usize,
    /// The window of a new session, 64 KiB up to what the memory allows. It doubles whenever it is used up within two round trips.
    pub(crate) initial_window: usize,
    /// The longest DATAGRAM frame that is taken; 0 for none.
    pub(crate) max_datagram: usize,
    /// Datagrams that wait, in each direction, of all protocols together: at most an eighth of either memory.
    pub(crate) datagram_memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 1 << 20,
            streams: 256,
            send_memory: DEFAULT_MEMORY,
            receive_memory: DEFAULT_MEMORY,
            initial_window: 256 << 10,
            max_datagram: 9000,
            datagram_memory: 128 << 10,
        }
    }
}

impl Limits {
    /// The same with every number within its range.
    pub(crate) fn checked(mut self, protocols: usize) -> Self {
        self.streams = self.streams.clamp(16, 4096);
        self.send_memory = self.send_memory.clamp(256 << 10, MAX_MEMORY);
        self.datagram_memory = self.datagram_memory.min(self.send_memory / 8).min(self.receive_memory / 8);
        self.receive_memory = self.receive_memory.clamp((1 << 20) + self.slack(protocols), MAX_MEMORY);
        let most = (self.send_memory / 4).min(self.window_ceiling(protocols) / 2 - 8);
        self.max_message = self.max_message.clamp(MIN_MESSAGE, most);
        self.initial_window = self.initial_window.clamp(MIN_WINDOW, self.window_ceiling(protocols));
        self
    }

    /// What pages that are not full, ranges, and datagrams can take beside the window: two pages for each stream and channel that
    /// the other side may have open, and for each stream of ours.
    fn slack(&self, protocols: usize) -> usize {
        let halves = self.streams as usize * 2 + 2 * protocols;
        halves * 2 * PAGE + Pool::slack(MAX_MEMORY) + self.datagram_memory + MAX_RANGES * 16
    }

    /// The widest that the window of the session may become.
    pub(super) fn window_ceiling(&self, protocols: usize) -> usize {
        self.receive_memory.saturating_sub(self.slack(protocols)).max(MIN_WINDOW)
    }

    /// The widest that the window of one stream may become: somebody who reads nothing of it leaves a third to the others.
    pub(super) fn stream_ceiling(&self, protocols: usize) -> usize {
        self.window_ceiling(protocols) / 3 * 2
    }

    /// How many streams the other side may have open, channels included.
    pub(super) fn max_streams(&self, protocols: usize) -> u64 {
        u64::from(self.streams) + 2 * protocols as u64
    }
}

/// What a session may hold in either direction unless it is told otherwise.
///
/// Data behind a lost packet stays at both ends until the repetition arrives: a stream at full speed needs room for a round trip of
/// it, for another because some of it is always being repeated, and for a third where so much is lost that repetitions are as well.
/// One stream gets 4.4 MiB of this: 36 MB/s over 50 ms if every hundredth packet is lost, 25 MB/s if every twentieth is.
pub(crate) const DEFAULT_MEMORY: usize = 8 << 20;

/// What every side takes (SPEC 8.3).
const MIN_MESSAGE: usize = framing::limits::INITIAL_MAX_MESSAGE as usize;

/// What every side allows in all (SPEC 8.3).
const MIN_WINDOW: usize = framing::limits::INITIAL_MAX_DATA as usize;

/// The window of a new stream. Doubles like that of the session.
pub(super) const STREAM_WINDOW: usize = 64 << 10;

/// What one stream of bytes may hold that was never sent, after which its writer waits until half of it left. What waits behind more
/// than the caches hold that are near to a core is fetched from afar when it is sealed, which costs more than the sealing.
pub(super) const STREAM_AHEAD: usize = 512 << 10;

/// And so much where the other side gives no credit: streams that nobody reads leave memory to others.
pub(super) const STREAM_LEAST_AHEAD: usize = 64 << 10;

/// Ranges that arrived ahead of a gap, of all streams together: 32 KiB. Data that would begin another is refused like a lost packet;
/// data that fills a gap never is.
pub(super) const MAX_RANGES: usize = 2048;

/// No session may be given more than this: 1 GiB.
const MAX_MEMORY: usize = 1 << 30;

/// The greatest number of frames for protocols we lack (SPEC 8.6).
pub(super) const MAX_UNKNOWN: u32 = framing::limits::MAX_UNKNOWN_PROTOCOL;

/// What all protocols together send in one round of the scheduler (and so the longest turn of one). Over any time in which much more
/// is sent, shares are exact; 4 KiB are 3 % of a second at 1 Mbit/s.
pub(super) const ROUND: u32 = 4 << 10;

/// What urgent messages may take in a row while others wait: about a packet. After that, as much of others leaves in between.
pub(super) const URGENT_BURST: u32 = 1452;

/// The type of a DATAGRAM frame (SPEC 8.1).
pub(super) const DATAGRAM: u64 = 0x13;

/// With less room than this it says nothing about what waits that it does not fit.
pub(super) const MIN_ROOM: usize = 64;

/// How often a datagram may fail to fit an empty packet before it is dropped.
pub(super) const UNFIT_TRIES: u8 = 8;

/// A byte stream is worth writing to again when there is room for this much.
pub(super) const WRITABLE: usize = 4 << 10;

/// The window of a stream of messages has room for so many of the longest that came.
pub(super) const MESSAGES_AHEAD: u64 = 4;
