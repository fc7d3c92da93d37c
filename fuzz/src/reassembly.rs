//! Fragments: the reassembler against a model, with honest messages and pieces that fit nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use framing::v12::limits::{FRAG_DATA, FRAG_TIMEOUT};
use framing::v12::{FragmentError, Frame, Reassembler, fragments};
use sim::clock;

use crate::input::{Input, pattern};

/// Hands in pieces of honest messages and arbitrary ones; results and figures must be the model's, and what is complete
/// must be the message, unless a forged piece took part.
pub fn v12_reassembly(data: &[u8]) {
    let mut input = Input::new(data);
    let max = input.pick(&[0, 1, 1188, 5000, 20_000, 1 << 20]);
    let mut pair = Pair { real: Reassembler::new(max), model: Model { max, ..Model::default() }, now: clock::base() };
    let mut forged = [false; MESSAGES];
    // Bounds the work, not the coverage: long messages cost the most.
    let mut budget = 4096_usize;
    while !input.is_empty() && budget > 0 {
        budget -= 1;
        match input.below(8) {
            0..=3 => {
                let name = input.below(MESSAGES);
                let pieces = pieces(name);
                let (index, data) = &pieces[input.below(pieces.len())];
                let total = u16::try_from(pieces.len()).expect("a short message");
                if let Some(message) = pair.add(id(name), *index, total, data) {
                    assert!(forged[name] || message == honest(name), "message {name}");
                }
            }
            4 => {
                let name = input.below(MESSAGES);
                let mut pieces = pieces(name);
                let total = u16::try_from(pieces.len()).expect("a short message");
                budget = budget.saturating_sub(pieces.len());
                let turn = input.below(pieces.len());
                pieces.rotate_left(turn);
                if input.flip() {
                    pieces.reverse();
                }
                for (index, data) in pieces {
                    if let Some(message) = pair.add(id(name), index, total, &data) {
                        assert!(forged[name] || message == honest(name), "message {name}");
                    }
                }
            }
            5 | 6 => {
                let (name, index, total) = (input.below(MESSAGES), input.u16(), input.u16());
                let len = if input.flip() { FRAG_DATA } else { input.len() % 1300 };
                forged[name] = true;
                pair.add(id(name), index, total, &pattern(0xf0, len));
            }
            _ => {
                pair.now += input.pause();
                if input.flip() {
                    pair.real.handle_timeout(pair.now);
                    pair.model.expire(pair.now);
                    pair.agree();
                }
            }
        }
    }
    pair.now += FRAG_TIMEOUT;
    pair.real.handle_timeout(pair.now);
    assert!(pair.real.is_empty() && pair.real.buffered_bytes() == 0 && pair.real.deadline().is_none());
}

/// The honest messages, by name.
const MESSAGES: usize = 24;

fn id(name: usize) -> [u8; 8] {
    (name as u64).to_be_bytes()
}

fn honest(name: usize) -> Vec<u8> {
    let len = [1, 1187, 1188, 1189, 2376, 2377, 5000, 9000, 30_000][name % 9];
    pattern(u8::try_from(name).expect("a small number"), len)
}

/// Through the codec, as they travel.
fn pieces(name: usize) -> Vec<(u16, Vec<u8>)> {
    let message = honest(name);
    let frames = fragments(id(name), &message).expect("a length that goes");
    frames
        .map(|frame| match Frame::decode(&frame) {
            Ok(Frame::Frag { index, data, .. }) => (index, data.to_vec()),
            other => panic!("{other:?} from a fragment"),
        })
        .collect()
}

struct Pair {
    real: Reassembler,
    model: Model,
    now: Instant,
}

impl Pair {
    fn add(&mut self, id: [u8; 8], index: u16, total: u16, data: &[u8]) -> Option<Bytes> {
        let result = self.real.add(id, index, total, data, self.now);
        assert_eq!(result, self.model.add(id, index, total, data, self.now));
        self.agree();
        result.ok().flatten()
    }

    fn agree(&self) {
        let Self { real, model, .. } = self;
        assert_eq!(real.buffered_bytes(), model.bytes());
        assert!(real.buffered_bytes() <= model.max && real.len() <= Reassembler::MAX_SETS, "the bounds");
        assert_eq!((real.len(), real.dropped()), (model.sets.len(), model.dropped));
        assert_eq!(real.deadline(), model.sets.first().map(|set| set.since + FRAG_TIMEOUT));
    }
}

#[derive(Default)]
struct Model {
    max: usize,
    sets: Vec<Set>,
    finished: VecDeque<([u8; 8], Instant)>,
    dropped: u64,
}

struct Set {
    id: [u8; 8],
    since: Instant,
    total: u16,
    pieces: BTreeMap<u16, Vec<u8>>,
}

impl Set {
    fn bytes(&self) -> usize {
        self.pieces.values().map(Vec::len).sum()
    }
}

impl Model {
    fn bytes(&self) -> usize {
        self.sets.iter().map(Set::bytes).sum()
    }

    fn expire(&mut self, now: Instant) {
        let before = self.sets.len();
        self.sets.retain(|set| set.since + FRAG_TIMEOUT > now);
        self.dropped += (before - self.sets.len()) as u64;
        self.finished.retain(|(_, at)| *at + FRAG_TIMEOUT > now);
    }

    fn drop_at(&mut self, place: usize) {
        self.sets.remove(place);
        self.dropped += 1;
    }

    fn add(
        &mut self,
        id: [u8; 8],
        index: u16,
        total: u16,
        data: &[u8],
        now: Instant,
    ) -> Result<Option<Bytes>, FragmentError> {
        self.expire(now);
        if self.finished.iter().any(|(finished, _)| *finished == id) {
            return Ok(None);
        }
        let known = self.sets.iter().find(|set| set.id == id);
        let shortest = FRAG_DATA * usize::from(total.saturating_sub(1)) + 1;
        match known {
            Some(set) if set.total != total => return Err(FragmentError::TotalChanged { total, first: set.total }),
            None if shortest > self.max => return Err(FragmentError::TooLarge { len: shortest, max: self.max }),
            _ => {}
        }
        if index >= total {
            return Err(FragmentError::BadIndex { index, total });
        }
        let len = data.len();
        if len == 0 || len > FRAG_DATA || (index + 1 < total && len != FRAG_DATA) {
            return Err(FragmentError::BadLength { len });
        }
        match known {
            Some(set) if set.pieces.contains_key(&index) => return Ok(None),
            Some(_) => {}
            None => {
                if self.sets.len() == Reassembler::MAX_SETS {
                    self.drop_at(0);
                }
                self.sets.push(Set { id, since: now, total, pieces: BTreeMap::new() });
            }
        }
        while self.bytes() + len > self.max {
            match self.sets.iter().position(|set| set.id != id) {
                Some(oldest) => self.drop_at(oldest),
                None => {
                    let len = self.bytes() + len;
                    self.drop_at(0);
                    return Err(FragmentError::TooLarge { len, max: self.max });
                }
            }
        }
        let place = self.sets.iter().position(|set| set.id == id).expect("never dropped for itself");
        let set = &mut self.sets[place];
        set.pieces.insert(index, data.to_vec());
        if set.pieces.len() < usize::from(total) {
            return Ok(None);
        }
        let set = self.sets.remove(place);
        if self.finished.len() == 2 * Reassembler::MAX_SETS {
            self.finished.pop_front();
        }
        self.finished.push_back((id, now));
        Ok(Some(set.pieces.into_values().flatten().collect::<Vec<u8>>().into()))
    }
}
