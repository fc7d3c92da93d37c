//! Values: those asked for, which alone are accepted, and those served.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use framing::v12::chunk::{Mode, State, Step};
use framing::v12::{Chunk, ChunkAssembler, ChunkSender, SenderConfig, encode, limits};
use structs::Rejected;

use super::config::{MAX_SERVES, MAX_WANTS};
use super::{ExchangeError, Implementation, Peer};

/// A request that brought nothing for this long is sent again: nodes of version 0.1.0 send everything once more,
/// later ones ignore it while a transfer runs.
const RETRY: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Exchange {
    value_limit: usize,
    wants: Vec<Want>,
    serves: Vec<Serve>,
    waiting: VecDeque<(Bytes, Bytes)>,
    /// Values that came lately: parts of them that come again were sent before our acknowledgement arrived.
    finished: VecDeque<Bytes>,
    /// The peer has been seen to send no CHUNK_ACK, as nodes of version 0.1.0.
    unacknowledging: bool,
    mark: Mark,
}

/// The PING whose answer says that a burst of chunks was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// No transfer waits for one.
    None,
    /// It is to be sent.
    Wanted,
    /// It is under way.
    Sent,
}

/// How many keys of values that came are remembered.
const MAX_FINISHED: usize = 2 * MAX_WANTS;
/// Chunks under way to a peer of this implementation, which reads from a larger buffer: about 43 KiB.
const WINDOW_TO_OURS: usize = 48;

#[derive(Debug)]
struct Serve {
    sender: ChunkSender,
    size: usize,
}

#[derive(Debug)]
struct Want {
    key: Bytes,
    assembler: ChunkAssembler,
    ask_at: Option<Instant>,
}

impl Exchange {
    pub(super) fn new(value_limit: usize) -> Self {
        Self {
            value_limit,
            wants: Vec::new(),
            serves: Vec::new(),
            waiting: VecDeque::new(),
            finished: VecDeque::new(),
            unacknowledging: false,
            mark: Mark::None,
        }
    }

    pub(super) fn want(&mut self, key: Bytes, now: Instant) -> Result<(), ExchangeError> {
        if key.is_empty() || key.len() > limits::MAX_KEY {
            return Err(ExchangeError::Key { len: key.len() });
        }
        if self.wants.iter().any(|want| want.key == key) {
            return Ok(());
        }
        if self.wants.len() >= MAX_WANTS {
            return Err(ExchangeError::Busy);
        }
        self.finished.retain(|finished| *finished != key);
        self.wants.push(Want { key, assembler: ChunkAssembler::new(self.value_limit), ask_at: Some(now) });
        Ok(())
    }

    pub(super) fn cancel(&mut self, key: &[u8]) {
        self.wants.retain(|want| want.key != key);
    }

    pub(super) fn wants(&self, key: &[u8]) -> bool {
        self.wants.iter().any(|want| want.key == key)
    }

    /// The peer has these keys now: what was asked for is asked for again.
    pub(super) fn on_have(&mut self, keys: &[Bytes], now: Instant) {
        for want in self.wants.iter_mut().filter(|want| keys.contains(&want.key)) {
            want.ask_at = Some(now);
        }
    }

    /// A chunk of a value: returns the acknowledgement to send, and the value if it is complete.
    #[expect(clippy::type_complexity, reason = "two optional results of one step")]
    pub(super) fn on_chunk(
        &mut self,
        chunk: Chunk<'_>,
        now: Instant,
    ) -> Result<(Option<Vec<u8>>, Option<(Bytes, Bytes)>), Rejected> {
        let key = match chunk {
            Chunk::Whole { key, .. } | Chunk::Part { key, .. } => key,
        };
        let Some(index) = self.wants.iter().position(|want| want.key == key) else {
            return match chunk {
                Chunk::Part { index, .. } if self.finished.iter().any(|finished| finished == key) => {
                    Ok((ack(key, index), None))
                }
                _ => Err(Rejected::Unsolicited),
            };
        };
        let limit = self.value_limit;
        let Some(want) = self.wants.get_mut(index) else { return Err(Rejected::Unsolicited) };
        let (answer, value) = match chunk {
            Chunk::Whole { value: [], .. } => return Err(Rejected::Malformed),
            Chunk::Whole { value, .. } if value.len() > limit => return Err(Rejected::TooLarge),
            Chunk::Whole { value, .. } => (None, Some(Bytes::copy_from_slice(value))),
            Chunk::Part { key, index, total, data } => {
                let value = want.assembler.add(index, total, data, now).map_err(Rejected::from)?;
                (ack(key, index), value.map(Bytes::from))
            }
        };
        want.ask_at = Some(now + RETRY);
        let Some(value) = value else { return Ok((answer, None)) };
        let key = self.wants.remove(index).key;
        if self.finished.len() >= MAX_FINISHED {
            self.finished.pop_front();
        }
        self.finished.push_back(key.clone());
        Ok((answer, Some((key, value))))
    }

    pub(super) fn serve(&mut self, key: Bytes, value: Bytes, to: Receiver, now: Instant) -> Result<(), ExchangeError> {
        if key.is_empty() || key.len() > limits::MAX_KEY {
            return Err(ExchangeError::Key { len: key.len() });
        }
        if value.is_empty() || value.len() > self.value_limit {
            return Err(ExchangeError::Value { len: value.len() });
        }
        let known =
            self.serves.iter().any(|serve| serve.sender.key() == &key) || self.waiting.iter().any(|(k, _)| *k == key);
        if known {
            return Ok(());
        }
        if self.serves.len() < MAX_SERVES {
            self.start(key, value, to, now);
        } else if self.waiting.len() < MAX_SERVES {
            self.waiting.push_back((key, value));
        } else {
            return Err(ExchangeError::Busy);
        }
        Ok(())
    }

    fn start(&mut self, key: Bytes, value: Bytes, to: Receiver, now: Instant) {
        let mut config = SenderConfig::default().rtt(to.rtt);
        if to.ours {
            config = config.window(WINDOW_TO_OURS);
        }
        if self.unacknowledging {
            config = config.assume_unacknowledged();
        }
        let size = value.len();
        // Key and value were checked when the transfer was accepted.
        if let Ok(sender) = ChunkSender::new(key, value, config, now) {
            self.serves.push(Serve { sender, size });
        }
    }

    pub(super) fn on_ack(&mut self, key: &[u8], index: u16, now: Instant) -> Result<(), Rejected> {
        let serve = self.serves.iter_mut().find(|serve| serve.sender.key() == key).ok_or(Rejected::Unsolicited)?;
        serve.sender.on_ack(index, now);
        self.unacknowledging = false;
        Ok(())
    }

    /// A PING was answered: perhaps the one that was sent for a transfer.
    pub(super) fn on_pong(&mut self, now: Instant) {
        if self.mark == Mark::Sent {
            self.mark = Mark::None;
            for serve in &mut self.serves {
                serve.sender.on_mark(now);
            }
        }
    }

    /// A PING leaves behind all chunks so far.
    pub(super) fn on_ping(&mut self) {
        if self.mark == Mark::Wanted {
            self.mark = Mark::Sent;
        }
    }

    /// Whether a transfer needs a PING.
    pub(super) fn wants_ping(&self) -> bool {
        self.mark == Mark::Wanted
    }

    /// Requests that are due.
    pub(super) fn due_wants(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for want in &mut self.wants {
            if want.ask_at.is_some_and(|at| at <= now) {
                want.ask_at = Some(now + RETRY);
                let mut frame = Vec::with_capacity(want.key.len() + 2);
                if encode::want(&want.key, &mut frame).is_ok() {
                    frames.push(frame);
                }
            }
        }
        frames
    }

    /// The next chunk of a transfer, each in turn.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        for _ in 0..self.serves.len() {
            let step = self.serves.first_mut().and_then(|serve| serve.sender.poll(now));
            self.unacknowledging |= self.serves.first().is_some_and(|serve| serve.sender.mode() == Mode::Marked);
            self.serves.rotate_left(1);
            match step {
                Some(Step::Chunk(frame)) => return Some(frame),
                Some(Step::Mark) => self.mark = Mark::Wanted,
                None => {}
            }
        }
        None
    }

    pub(super) fn handle_timeout(&mut self, to: Receiver, now: Instant) {
        for serve in &mut self.serves {
            serve.sender.handle_timeout(now);
            self.unacknowledging |= serve.sender.mode() == Mode::Marked;
        }
        self.reap(to, now);
    }

    /// Removes ended transfers and starts waiting ones.
    pub(super) fn reap(&mut self, to: Receiver, now: Instant) {
        self.serves.retain(|serve| serve.sender.state() == State::Running);
        while self.serves.len() < MAX_SERVES {
            let Some((key, value)) = self.waiting.pop_front() else { break };
            self.start(key, value, to, now);
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        !self.serves.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let serves = self.serves.iter().filter_map(|serve| serve.sender.deadline());
        serves.chain(self.wants.iter().filter_map(|want| want.ask_at)).min()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        let wants: usize = self.wants.iter().map(|want| want.assembler.buffered_bytes()).sum();
        let serves: usize = self.serves.iter().map(|serve| serve.size).sum();
        let waiting: usize = self.waiting.iter().map(|(_, value)| value.len()).sum();
        wants + serves + waiting
    }
}

/// What a transfer should know of the peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receiver {
    /// The round-trip time to it.
    pub(super) rtt: Duration,
    /// Whether it is of this implementation.
    pub(super) ours: bool,
}

fn ack(key: &[u8], index: u16) -> Option<Vec<u8>> {
    let mut ack = Vec::with_capacity(key.len() + 4);
    encode::chunk_ack(key, index, &mut ack).is_ok().then_some(ack)
}

impl Peer {
    /// Asks the peer for a value, until it comes or [`cancel_want`](Self::cancel_want) is called. Asking twice is
    /// asking once.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Key`], [`Busy`](ExchangeError::Busy) with 16 values asked for at once,
    /// [`NotConnected`](ExchangeError::NotConnected) or [`Closed`](ExchangeError::Closed); nothing changed then.
    pub fn want(&mut self, key: Bytes, now: Instant) -> Result<(), ExchangeError> {
        self.now = self.now.max(now);
        self.can_exchange()?;
        self.exchange.want(key, self.now)
    }

    /// Takes a request back: what still comes of it is refused.
    pub fn cancel_want(&mut self, key: &[u8]) {
        self.exchange.cancel(key);
    }

    /// Whether the peer has been asked for this value and has not delivered it yet.
    #[must_use]
    pub fn is_wanting(&self, key: &[u8]) -> bool {
        self.exchange.wants(key)
    }

    /// Sends a value to the peer, which asked for it. A transfer of the same key that runs already goes on.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Key`], [`Value`](ExchangeError::Value), [`Busy`](ExchangeError::Busy) with 4 transfers
    /// running and 4 waiting, [`NotConnected`](ExchangeError::NotConnected) or [`Closed`](ExchangeError::Closed);
    /// nothing is sent then.
    pub fn serve(&mut self, key: Bytes, value: Bytes, now: Instant) -> Result<(), ExchangeError> {
        self.now = self.now.max(now);
        self.can_exchange()?;
        let to = self.receiver();
        self.exchange.serve(key, value, to, self.now)
    }

    pub(super) fn receiver(&self) -> Receiver {
        Receiver { rtt: self.rtt(), ours: self.implementation == Implementation::Ours }
    }

    /// Whether a value is on its way to the peer.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.exchange.is_serving()
    }

    fn can_exchange(&self) -> Result<(), ExchangeError> {
        if self.is_closed() {
            Err(ExchangeError::Closed)
        } else if self.is_connected() {
            Ok(())
        } else {
            Err(ExchangeError::NotConnected)
        }
    }
}
