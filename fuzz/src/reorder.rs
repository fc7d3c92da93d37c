//! The jitter buffer against a model that looks through everything it holds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use framing::v12::{Reorder, ReorderError, limits};
use sim::clock;

use crate::input::Input;

/// Pushes, polls, lets time pass and starts over; every result and every figure must be the model's.
pub fn v12_reorder(data: &[u8]) {
    let mut input = Input::new(data);
    let (items, bytes) = (input.pick(&[0, 1, 2, 4, 64, 2048]), input.pick(&[0, 16, 64, 1024, 4 << 20]));
    let mut real = Reorder::new(items, bytes);
    let mut model = Model { items, bytes, ..Model::default() };
    let mut now = clock::base();
    while !input.is_empty() {
        match input.below(8) {
            0..=3 => {
                let ahead = u64::from(input.u8());
                let seq = (model.next + ahead).saturating_sub(4).min(u64::from(u32::MAX));
                push(&mut real, &mut model, seq, input.len() % 300, now);
            }
            4 => push(&mut real, &mut model, u64::from(input.u32()), input.len() % 300, now),
            5 => {
                let due = real.deadline().is_some_and(|at| at <= now);
                let message = real.poll(now);
                assert_eq!(due, message.is_some(), "the deadline says whether there is something");
                assert_eq!(message, model.poll(now));
            }
            6 => now += input.pause(),
            _ => {
                let next = if input.flip() { input.u32() } else { u32::from(input.u8()) };
                real.reset(next);
                model.held.clear();
                model.next = u64::from(next);
            }
        }
        agree(&real, &model);
    }
    // At the end everything that was taken leaves, in order.
    now += limits::JITTER_HOLD;
    while let Some(message) = model.poll(now) {
        assert_eq!(real.poll(now), Some(message));
        agree(&real, &model);
    }
    assert_eq!(real.poll(now), None);
    assert!(real.is_empty() && real.buffered_bytes() == 0 && real.deadline().is_none());
}

fn push(real: &mut Reorder, model: &mut Model, seq: u64, len: usize, now: Instant) {
    let seq = u32::try_from(seq).expect("a sequence number");
    model.pushes += 1;
    let mut payload = model.pushes.to_be_bytes().to_vec();
    payload.resize(len, 0);
    let payload = Bytes::from(payload);
    assert_eq!(real.push(seq, payload.clone(), now), model.push(seq, payload, now));
}

fn agree(real: &Reorder, model: &Model) {
    let bytes = |message: &Bytes| message.len();
    let held: usize = model.held.values().map(|(_, message)| bytes(message)).sum();
    let ready: usize = model.ready.iter().map(bytes).sum();
    assert_eq!(real.buffered_bytes(), held + ready);
    assert_eq!(real.len(), model.held.len() + model.ready.len());
    assert_eq!((real.next_seq(), real.skipped()), (model.next, model.skipped));
    assert!(real.buffered_bytes() <= 2 * model.bytes && real.len() <= 2 * model.items, "the bounds");
}

#[derive(Default)]
struct Model {
    items: usize,
    bytes: usize,
    next: u64,
    held: BTreeMap<u64, (Instant, Bytes)>,
    ready: VecDeque<Bytes>,
    skipped: u64,
    pushes: u64,
}

impl Model {
    fn push(&mut self, seq: u32, message: Bytes, now: Instant) -> Result<(), ReorderError> {
        let number = u64::from(seq);
        if number < self.next {
            return Err(ReorderError::Late { seq, next: self.next });
        }
        if self.held.contains_key(&number) {
            return Err(ReorderError::Duplicate { seq });
        }
        let ready: usize = self.ready.iter().map(Bytes::len).sum();
        if self.ready.len() >= self.items || ready + message.len() > self.bytes {
            return Err(ReorderError::Full);
        }
        self.held.insert(number, (now, message));
        self.release();
        while self.held.len() > self.items || self.held.values().map(|(_, m)| m.len()).sum::<usize>() > self.bytes {
            self.give_up_gap();
        }
        Ok(())
    }

    fn poll(&mut self, now: Instant) -> Option<Bytes> {
        let overdue = self.held.values().any(|(since, _)| *since + limits::JITTER_HOLD <= now);
        if self.ready.is_empty() && overdue {
            self.give_up_gap();
        }
        self.ready.pop_front()
    }

    fn release(&mut self) {
        while let Some((_, message)) = self.held.remove(&self.next) {
            self.ready.push_back(message);
            self.next += 1;
        }
    }

    fn give_up_gap(&mut self) {
        let first = *self.held.keys().next().expect("something is held");
        self.skipped += first - self.next;
        self.next = first;
        self.release();
    }
}
