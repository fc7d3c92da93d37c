//! A stop-and-wait machine with retransmission and bounded buffers, and one flaw to choose for every law.
//!
//! Wire: `1, number (4), token (4), text` asks for `2, number (4), token (4)`; `3` says goodbye.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use sim::Addresses;
use sim::conformance::{Reply, Subject};
use structs::{Datagram, Deadline, Ecn, Machine, Path, Rejected, Transmit, TransmitBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Draws tokens from a counter of the process.
    Impure,
    /// Measures round trips with whatever time it is told.
    Backward,
    /// Takes every timeout for its own.
    Hasty,
    /// Does not disarm its timer.
    Stuck,
    /// Has no bound on its queue.
    Hoarding,
    /// Trusts a length.
    Fragile,
    /// Answers with more than it was sent.
    Amplifying,
    /// Repeats its answers to an address that never proved itself.
    Repeating,
    /// Keeps its timer when it ends.
    Lingering,
    /// Ends, and takes commands nevertheless.
    Polite,
    /// Never ends.
    Immortal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Received(Path, Vec<u8>),
    Delivered { round_trip: Duration },
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    Full,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Closed,
}

#[derive(Debug)]
pub struct Toy {
    flaw: Flaw,
    path: Path,
    rng: Rng,
    newest: Instant,
    state: State,
    queue: VecDeque<Vec<u8>>,
    number: u32,
    token: [u8; 4],
    sent_at: Instant,
    tries: u32,
    due: bool,
    timer: Option<Instant>,
    answers: VecDeque<(Path, [u8; 9])>,
    expected: u32,
    events: VecDeque<Event>,
}

pub const LIMIT: usize = 4096;
const MOST_ANSWERS: usize = 16;
const MOST_TRIES: u32 = 6;
const HEADER: usize = 9;

impl Toy {
    pub fn new(flaw: Flaw, path: Path, seed: Seed, now: Instant) -> Self {
        Self {
            flaw,
            path,
            rng: seed.rng(),
            newest: now,
            state: State::Open,
            queue: VecDeque::new(),
            number: 0,
            token: [0; 4],
            sent_at: now,
            tries: 0,
            due: false,
            timer: None,
            answers: VecDeque::new(),
            expected: 0,
            events: VecDeque::new(),
        }
    }

    pub fn send(&mut self, text: &[u8], now: Instant) -> Result<(), SendError> {
        let now = self.clock(now);
        if self.state != State::Open && self.flaw != Flaw::Polite {
            return Err(SendError::Closed);
        }
        if self.buffered() + text.len() > LIMIT && self.flaw != Flaw::Hoarding {
            return Err(SendError::Full);
        }
        self.queue.push_back(text.to_vec());
        if self.queue.len() == 1 {
            self.offer(now);
        }
        Ok(())
    }

    pub fn close(&mut self, now: Instant) {
        self.clock(now);
        if self.state == State::Open {
            self.state = State::Closing;
        }
    }

    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub fn buffered(&self) -> usize {
        let queued: usize = self.queue.iter().map(Vec::len).sum();
        let received = |event: &Event| {
            if let Event::Received(_, text) = event { text.len() } else { 0 }
        };
        queued + self.answers.len() * HEADER + self.events.iter().map(received).sum::<usize>()
    }

    fn clock(&mut self, now: Instant) -> Instant {
        if self.flaw == Flaw::Backward {
            return now;
        }
        self.newest = self.newest.max(now);
        self.newest
    }

    fn offer(&mut self, now: Instant) {
        static TOKENS: AtomicU64 = AtomicU64::new(0);
        self.token = self.rng.array();
        if self.flaw == Flaw::Impure {
            self.token.copy_from_slice(&TOKENS.fetch_add(1, Ordering::Relaxed).to_be_bytes()[4..]);
        }
        self.tries = 0;
        self.sent_at = now;
        self.due = true;
    }

    fn end(&mut self) {
        self.state = State::Closed;
        self.queue.clear();
        self.answers.clear();
        self.due = false;
        if self.flaw != Flaw::Lingering {
            self.timer = None;
        }
        self.events.push_back(Event::Closed);
    }

    fn header(&self, kind: u8) -> Vec<u8> {
        [&[kind][..], &self.number.to_be_bytes(), &self.token].concat()
    }
}

impl Machine for Toy {
    type Event = Event;

    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        let now = self.clock(now);
        if self.state == State::Closed {
            return Err(Rejected::Closed);
        }
        let payload = &*datagram.payload;
        let kind = *payload.first().ok_or(Rejected::Empty)?;
        if self.flaw == Flaw::Fragile && kind == 2 {
            let _ = payload[8];
        }
        let Some((header, text)) = payload.split_at_checked(HEADER) else {
            return Err(Rejected::Malformed);
        };
        let number = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        match kind {
            1 => {
                if self.answers.len() >= MOST_ANSWERS || self.buffered() + text.len() + HEADER > LIMIT {
                    return Err(Rejected::LimitReached);
                }
                let mut answer = [2; HEADER];
                answer[1..].copy_from_slice(&header[1..]);
                let copies = if self.flaw == Flaw::Repeating { 2 + text.len() / HEADER } else { 1 };
                self.answers.extend(std::iter::repeat_n((datagram.path, answer), copies));
                if number == self.expected && datagram.path.remote == self.path.remote {
                    self.expected = self.expected.wrapping_add(1);
                    self.events.push_back(Event::Received(datagram.path, text.to_vec()));
                }
                Ok(())
            }
            2 if self.queue.is_empty() || header[1..] != self.header(2)[1..] => Err(Rejected::Unsolicited),
            2 => {
                self.queue.pop_front();
                self.number = self.number.wrapping_add(1);
                self.timer = None;
                self.due = false;
                let round_trip = now.saturating_duration_since(self.sent_at);
                self.events.push_back(Event::Delivered { round_trip });
                if !self.queue.is_empty() {
                    self.offer(now);
                }
                Ok(())
            }
            3 if datagram.path.remote == self.path.remote => {
                self.end();
                Ok(())
            }
            _ => Err(Rejected::UnknownKind),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock(now);
        let Some(timer) = self.timer else { return };
        if now < timer && self.flaw != Flaw::Hasty {
            return;
        }
        if self.flaw != Flaw::Stuck {
            self.timer = None;
        }
        if self.tries >= MOST_TRIES {
            self.end();
        } else {
            self.due = self.flaw != Flaw::Stuck;
        }
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, now: Instant) -> Option<Transmit> {
        let now = self.clock(now);
        if let Some((path, answer)) = self.answers.pop_front() {
            let mut answer = answer.to_vec();
            answer.resize(if self.flaw == Flaw::Amplifying { 64 } else { HEADER }, 0);
            out.push(&answer);
            let path = Path { local: self.path.local, ..path };
            return out.finish(path, Ecn::NotEct);
        }
        if self.state == State::Closing && self.flaw != Flaw::Immortal {
            out.push(&[3; HEADER]);
            self.end();
            return out.finish(self.path, Ecn::NotEct);
        }
        if !std::mem::take(&mut self.due) {
            return None;
        }
        let text = self.queue.front()?;
        out.push(&[&self.header(1)[..], text].concat());
        self.timer = now.checked_add(Duration::from_secs(1 << self.tries));
        self.tries += 1;
        out.finish(self.path, Ecn::NotEct)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timer.map(|at| Deadline { at, reason: "retransmit" })
    }
}

/// The toy as a subject of the conformance suite.
pub struct Toys(pub Flaw);

impl Subject for Toys {
    type Machine = Toy;

    fn fresh(&self, seed: Seed, [a, b]: [Path; 2], now: Instant) -> [Toy; 2] {
        [Toy::new(self.0, a, seed.fork("a"), now), Toy::new(self.0, b, seed.fork("b"), now)]
    }

    fn command(&self, machine: &mut Toy, op: u64, now: Instant) -> Reply {
        let len = if op.is_multiple_of(4) { 900 } else { usize::from(op.to_be_bytes()[0]) };
        match machine.send(&vec![op.to_be_bytes()[1]; len], now) {
            Ok(()) => Reply::Done,
            Err(SendError::Full) => Reply::Refused,
            Err(SendError::Closed) => Reply::Closed,
        }
    }

    fn close(&self, machine: &mut Toy, now: Instant) {
        machine.close(now);
    }

    fn is_closed(&self, machine: &Toy) -> bool {
        machine.is_closed()
    }

    fn buffered_bytes(&self, machine: &Toy) -> usize {
        machine.buffered()
    }

    fn buffered_limit(&self, _machine: &Toy) -> usize {
        LIMIT
    }

    fn addresses(&self) -> Addresses {
        Addresses::Public
    }
}
