//! A transfer: sender and assembler over a network that loses, repeats, reorders and lies.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use framing::v12::chunk::{Mode, State, Step};
use framing::v12::limits::CHUNK;
use framing::v12::{Chunk, ChunkAssembler, ChunkSender, Frame, SenderConfig};
use sim::clock;

use crate::input::{Input, pattern};

/// Runs one transfer as the input commands.
///
/// Parts are those of the value, what is assembled is the value unless a forged part took part, an honest transfer that
/// is done was taken in, timers make progress and nothing holds more than its bound.
pub fn v12_chunks(data: &[u8]) {
    let mut input = Input::new(data);
    let value = pattern(3, input.pick(&[0, 1, 899, 900, 901, 1800, 1801, 7200, 60_000, 200_000]));
    let mut transfer = Transfer::new(&mut input, value);
    let mut budget = 3000_usize;
    while !input.is_empty() && budget > 0 {
        budget -= 1;
        match input.below(12) {
            0 => transfer.send(1),
            1 => transfer.send(usize::MAX),
            2..=4 => {
                let place = if input.flip() { 0 } else { input.below(256) };
                transfer.deliver(place, input.below(4) == 0);
            }
            5 => {
                let place = input.below(256);
                transfer.parts.remove(place.min(transfer.parts.len()));
            }
            6 => transfer.answer(input.below(256), input.below(4) == 0),
            7 => {
                transfer.acks.pop_front();
            }
            8 => transfer.wait(input.pause()),
            9 => {
                transfer.lied = true;
                transfer.sender.on_ack(input.u16(), transfer.now);
            }
            10 => {
                // A mark that is answered though the parts before it may be lost.
                transfer.lied = true;
                if input.flip() {
                    transfer.sender.assume_unacknowledged();
                } else {
                    transfer.sender.on_mark(transfer.now);
                }
            }
            _ => {
                let (index, total, len) = (input.u16(), input.u16(), input.len() % 1000);
                transfer.forge(index, total, &pattern(0xf0, len));
            }
        }
        transfer.check();
    }
    transfer.finish();
}

struct Transfer {
    now: Instant,
    value: Bytes,
    window: usize,
    sender: ChunkSender,
    assembler: ChunkAssembler,
    parts: VecDeque<Vec<u8>>,
    acks: VecDeque<u16>,
    max_value: usize,
    /// The sender was told what is not so: it may believe that it is done.
    lied: bool,
    /// The assembler was given parts of something else.
    forged: bool,
    /// The assembler gave up and forgot parts it had acknowledged.
    forgot: bool,
    /// Parts that the sender has reason to believe unacknowledged.
    unacknowledged: BTreeSet<u16>,
    whole: bool,
}

impl Transfer {
    fn new(input: &mut Input<'_>, value: Vec<u8>) -> Self {
        let now = clock::base();
        let window = input.below(65);
        let mut config = SenderConfig::default().window(window).burst(u16::from(input.u8())).rtt(input.pause());
        if input.flip() {
            config = config.assume_unacknowledged();
        }
        let max_value = input.pick(&[0, 900, 7200, 60_000, 1 << 20]);
        let value = Bytes::from(value);
        let sender =
            ChunkSender::new(Bytes::from_static(b"key"), value.clone(), config, now).expect("a length that goes");
        Self {
            now,
            value,
            window: window.clamp(1, 256),
            sender,
            assembler: ChunkAssembler::new(max_value),
            parts: VecDeque::new(),
            acks: VecDeque::new(),
            max_value,
            lied: false,
            forged: false,
            forgot: false,
            unacknowledged: BTreeSet::new(),
            whole: false,
        }
    }

    /// Polls the sender, up to `steps` times or until it wants nothing; a mark goes unanswered.
    fn send(&mut self, steps: usize) {
        for _ in 0..steps.min(1000) {
            let Some(step) = self.sender.poll(self.now) else { break };
            let Step::Chunk(frame) = step else { continue };
            match Frame::decode(&frame) {
                Ok(Frame::Chunk(Chunk::Part { key, index, total, data })) => {
                    let start = usize::from(index) * CHUNK;
                    let end = (start + CHUNK).min(self.value.len());
                    assert_eq!((key, data), (&b"key"[..], &self.value[start..end]), "part {index}");
                    assert_eq!(usize::from(total), self.value.len().div_ceil(CHUNK));
                    if self.sender.mode() != Mode::Marked {
                        self.unacknowledged.insert(index);
                        assert!(self.unacknowledged.len() <= self.window, "more under way than the window");
                    }
                }
                Ok(Frame::Chunk(Chunk::Whole { key, value })) => {
                    assert_eq!((key, value), (&b"key"[..], &self.value[..]));
                    assert!(!std::mem::replace(&mut self.whole, true), "nothing repeats a whole value");
                    continue;
                }
                other => panic!("{other:?} from a sender"),
            }
            self.parts.push_back(frame);
            if self.parts.len() > 512 {
                self.parts.pop_front();
            }
        }
        if steps == usize::MAX {
            assert_eq!(self.sender.poll(self.now), None, "a sender that never has enough");
            let deadline = self.sender.deadline();
            assert!(deadline.is_none_or(|at| at > self.now), "{deadline:?} is no progress at {:?}", self.now);
            assert!(self.sender.state() != State::Running || deadline.is_some(), "nothing ends this");
        }
    }

    fn deliver(&mut self, place: usize, keep: bool) {
        if self.parts.is_empty() {
            return;
        }
        let place = place % self.parts.len();
        let Some(frame) = (if keep { self.parts.get(place).cloned() } else { self.parts.remove(place) }) else {
            return;
        };
        let Ok(Frame::Chunk(Chunk::Part { index, total, data, .. })) = Frame::decode(&frame) else {
            panic!("only parts are under way");
        };
        self.add(index, total, data);
    }

    fn forge(&mut self, index: u16, total: u16, data: &[u8]) {
        self.forged = true;
        self.add(index, total, data);
    }

    fn add(&mut self, index: u16, total: u16, data: &[u8]) {
        let before = self.assembler.received();
        self.forgot |= self.assembler.deadline().is_some_and(|at| at <= self.now);
        let complete = self.assembler.is_complete();
        match self.assembler.add(index, total, data, self.now) {
            Ok(Some(value)) => {
                assert!(!complete, "a value is returned once");
                assert!(value.len() <= self.max_value);
                assert!(self.forged || value == self.value, "the value");
                self.acks.push_back(index);
            }
            Ok(None) => self.acks.push_back(index),
            Err(_) => {
                assert!(self.assembler.received() <= before);
                assert!(self.forged || self.value.len() > self.max_value, "an honest part was refused");
            }
        }
        if self.acks.len() > 512 {
            self.acks.pop_front();
        }
    }

    fn answer(&mut self, place: usize, keep: bool) {
        if self.acks.is_empty() {
            return;
        }
        let place = place % self.acks.len();
        let ack = if keep { self.acks.get(place).copied() } else { self.acks.remove(place) };
        let Some(index) = ack else { return };
        self.sender.on_ack(index, self.now);
        self.unacknowledged.remove(&index);
    }

    fn wait(&mut self, pause: Duration) {
        self.now += pause;
        self.sender.handle_timeout(self.now);
        self.forgot |= self.assembler.handle_timeout(self.now);
        assert!(self.assembler.deadline().is_none_or(|at| at > self.now));
    }

    fn check(&mut self) {
        let (taken, total) = self.sender.progress();
        assert!(taken <= total);
        assert!(self.assembler.buffered_bytes() <= self.max_value, "the bound");
        assert!(self.assembler.received() <= usize::from(self.assembler.total().unwrap_or(0)));
        // Whoever falls back to marks forgets what is under way, and may send it all again.
        if self.sender.mode() == Mode::Marked {
            self.lied = true;
        }
        if self.lied {
            self.unacknowledged.clear();
        }
        let honest = !self.lied && !self.forged && !self.forgot && total > 1;
        if honest && self.sender.state() == State::Done {
            assert!(self.assembler.is_complete(), "done, though the parts are not there");
        }
        if self.sender.state() != State::Running {
            assert_eq!(self.sender.poll(self.now), None);
            assert_eq!(self.sender.deadline(), None);
        }
    }

    /// Left alone, a transfer ends, and not by waking all the time.
    fn finish(&mut self) {
        for _ in 0..2000 {
            self.send(usize::MAX);
            self.check();
            let Some(at) = self.sender.deadline() else {
                assert_ne!(self.sender.state(), State::Running);
                return;
            };
            self.wait(at.saturating_duration_since(self.now));
        }
        panic!("a transfer that nobody answers never ends");
    }
}
