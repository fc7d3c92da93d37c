//! Values: those asked for, which alone are accepted, and those served.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use framing::v12::chunk::{Mode, State, Step};
use framing::v12::{Chunk, ChunkAssembler, ChunkSender, SenderConfig, encode, limits};
use structs::Rejected;

use super::config::{MAX_SERVES, MAX_WANTS};
use super::{ExchangeError, Peer};

/// A request that brought nothing for this long is sent again: nodes of version 0.1.0 send everything once more,
/// later ones ignore it while a transfer runs.
const RETRY: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Exchange {
    value_limit: usize,
    wants: Vec<Want>,
    serves: Vec<Serve>,
    waiting: VecDeque<(Bytes, Bytes)>,
    /// The peer has been seen to send no CHUNK_ACK, as nodes of version 0.1.0.
    unacknowledging: bool,
    /// A transfer waits for a PING to be answered.
    mark_wanted: bool,
}

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
            unacknowledging: false,
            mark_wanted: false,
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
    pub(super) fn on_chunk(&mut self, chunk: Chunk<'_>, now: Instant) -> Result<(Option<Vec<u8>>, Option<(Bytes, Bytes)>), Rejected> {
        let key = match chunk {
            Chunk::Whole { key, .. } | Chunk::Part { key, .. } => key,
        };
        let Some(index) = self.wants.iter().position(|want| want.key == key) else {
            return Err(Rejected::Unsolicited);
        };
        let limit = self.value_limit;
        let Some(want) = self.wants.get_mut(index) else { return Err(Rejected::Unsolicited) };
        let (ack, value) = match chunk {
            Chunk::Whole { value, .. } if value.is_empty() => return Err(Rejected::Malformed),
            Chunk::Whole { value, .. } if value.len() > limit => return Err(Rejected::TooLarge),
            Chunk::Whole { value, .. } => (None, Some(Bytes::copy_from_slice(value))),
            Chunk::Part { key, index, total, data } => {
                let value = want.assembler.add(index, total, data, now).map_err(Rejected::from)?;
                let mut ack = Vec::with_capacity(key.len() + 4);
                let encoded = encode::chunk_ack(key, index, &mut ack).is_ok();
                (encoded.then_some(ack), value.map(Bytes::from))
            }
        };
        want.ask_at = Some(now + RETRY);
        let complete = value.map(|value| (self.wants.remove(index).key, value));
        Ok((ack, complete))
    }

    pub(super) fn serve(&mut self, key: Bytes, value: Bytes, rtt: Duration, now: Instant) -> Result<(), ExchangeError> {
        if key.is_empty() || key.len() > limits::MAX_KEY {
            return Err(ExchangeError::Key { len: key.len() });
        }
        if value.is_empty() || value.len() > limits::MAX_CHUNKED_VALUE {
            return Err(ExchangeError::Value { len: value.len() });
        }
        let known = self.serves.iter().any(|serve| serve.sender.key() == &key) || self.waiting.iter().any(|(k, _)| *k == key);
        if known {
            return Ok(());
        }
        if self.serves.len() < MAX_SERVES {
            self.start(key, value, rtt, now);
        } else if self.waiting.len() < MAX_SERVES {
            self.waiting.push_back((key, value));
        } else {
            return Err(ExchangeError::Busy);
        }
        Ok(())
    }

    fn start(&mut self, key: Bytes, value: Bytes, rtt: Duration, now: Instant) {
        let mut config = SenderConfig::default().rtt(rtt);
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

    /// The PING that was sent for a transfer has been answered.
    pub(super) fn on_mark(&mut self, now: Instant) {
        for serve in &mut self.serves {
            serve.sender.on_mark(now);
        }
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
            self.serves.rotate_left(1);
            match step {
                Some(Step::Chunk(frame)) => return Some(frame),
                Some(Step::Mark) => self.mark_wanted = true,
                None => {}
            }
        }
        None
    }

    pub(super) fn take_mark_wanted(&mut self) -> bool {
        std::mem::take(&mut self.mark_wanted)
    }

    pub(super) fn put_back_mark(&mut self) {
        self.mark_wanted = true;
    }

    pub(super) fn wants_mark(&self) -> bool {
        self.mark_wanted
    }

    pub(super) fn handle_timeout(&mut self, rtt: Duration, now: Instant) {
        for serve in &mut self.serves {
            serve.sender.handle_timeout(now);
            self.unacknowledging |= serve.sender.mode() == Mode::Marked;
        }
        self.reap(rtt, now);
    }

    /// Removes ended transfers and starts waiting ones.
    pub(super) fn reap(&mut self, rtt: Duration, now: Instant) {
        self.serves.retain(|serve| serve.sender.state() == State::Running);
        while self.serves.len() < MAX_SERVES {
            let Some((key, value)) = self.waiting.pop_front() else { break };
            self.start(key, value, rtt, now);
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
        let rtt = self.rtt();
        self.exchange.serve(key, value, rtt, self.now)
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
