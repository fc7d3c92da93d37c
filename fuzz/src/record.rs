//! The record keys of two ends that seal, open, update and rekey as the input says, over a network that it commands,
//! against a model of which packets can be opened.

use std::collections::BTreeSet;
use std::time::Instant;

use crypto::handshake::SessionSecrets;
use crypto::record::{
    HEADER_LEN, MAX_PACKETS, OLD_KEYS, OVERHEAD, OpenError, RecordKeys, RekeyError, SealError, WINDOW,
};
use crypto::{Cipher, Rng, Seed};
use sim::clock;

use crate::input::{Input, pattern};

/// Every packet must be opened or refused as the model says, whatever was forged, repeated, lost or late before.
pub fn record(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    while !input.is_empty() {
        world.step(&mut input);
    }
    world.settle();
}

struct Packet {
    pn: u64,
    generation: u64,
    /// The key in a REKEY or REKEY_ACK frame.
    rekey: Option<[u8; 32]>,
    text: Vec<u8>,
    bytes: Vec<u8>,
}

struct End {
    keys: RecordKeys,
    next: u64,
    /// What the next packets carry until one of them arrives, and in which packets it was.
    rekey: Option<[u8; 32]>,
    carriers: BTreeSet<u64>,
    opened: BTreeSet<u64>,
    generation: u64,
    old_until: Option<Instant>,
}

struct World {
    ends: [End; 2],
    /// Packets that each end sealed, the newest last.
    sealed: [Vec<Packet>; 2],
    rng: Rng,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let ends = [true, false].map(|initiator| {
            let secrets = SessionSecrets::new([1; 32], [2; 32], [3; 32], [4; 20], initiator);
            let keys = RecordKeys::new(&secrets, Cipher::ChaCha20Poly1305).expect("every build has it");
            let (carriers, opened) = (BTreeSet::new(), BTreeSet::new());
            End { keys, next: 0, rekey: None, carriers, opened, generation: 0, old_until: None }
        });
        Self { ends, sealed: [vec![], vec![]], rng: Seed::fixed(1).rng(), now: clock::base() }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let side = usize::from(input.flip());
        match input.below(12) {
            0 | 1 => {
                let (skip, len) = (u64::from(input.u8() / 200), input.len() % 2000);
                self.seal(side, skip, len);
            }
            2 => {
                // A jump as long as the receiver can follow.
                let skip = u64::from(input.u32() >> 2);
                self.seal(side, skip, 0);
            }
            3 => self.misuse(side, input),
            4 | 5 => {
                let back = input.below(64);
                self.deliver(side, back, true);
            }
            6 => {
                let (back, bit) = (input.below(64), usize::from(input.u16()));
                self.forge(side, back, |bytes| {
                    let len = bytes.len();
                    bytes[bit / 8 % len] ^= 1 << (bit % 8);
                });
            }
            7 => {
                let (back, len) = (input.below(64), usize::from(input.u16()));
                self.forge(side, back, |bytes| bytes.truncate(len % bytes.len()));
            }
            8 => self.hostile(side, &mut input.bytes().to_vec()),
            9 => self.update(side),
            10 => self.start_rekey(),
            _ => {
                self.now += input.pause() / 8;
                let now = self.now;
                let end = &mut self.ends[side];
                end.keys.expire_old(now);
                // Which changes nothing that can be seen.
                end.keys.rest();
                end.old_until = end.old_until.filter(|until| now < *until);
                assert_eq!(end.keys.deadline(), end.old_until);
            }
        }
    }

    fn seal(&mut self, side: usize, skip: u64, len: usize) {
        let end = &mut self.ends[side];
        let pn = end.next + skip;
        // The receiver follows less than 2^31 numbers from the highest that it has.
        if pn >= MAX_PACKETS || pn > self.highest(side) + (1 << 31) - 2 {
            return;
        }
        let end = &mut self.ends[side];
        let text = pattern(len.to_le_bytes()[0], len);
        let mut bytes = [&[0; HEADER_LEN], &text[..], &[0; OVERHEAD - HEADER_LEN]].concat();
        end.keys.seal(&mut bytes, pn).expect("a new number");
        end.next = pn + 1;
        if end.rekey.is_some() {
            end.carriers.insert(pn);
        }
        self.sealed[side].push(Packet { pn, generation: end.keys.send_generation(), rekey: end.rekey, text, bytes });
    }

    /// The highest number that the other end has opened, 0 if none.
    fn highest(&self, side: usize) -> u64 {
        self.ends[1 - side].opened.last().copied().unwrap_or(0)
    }

    /// Numbers that may not be used, and buffers that are too short.
    fn misuse(&mut self, side: usize, input: &mut Input<'_>) {
        let end = &mut self.ends[side];
        let (short, old) = (input.below(OVERHEAD), u64::from(input.u32()));
        assert_eq!(end.keys.seal(&mut vec![0; short], end.next), Err(SealError::TooShort));
        if old < end.next {
            let expected = SealError::NumberUsed { pn: old, next: end.next };
            assert_eq!(end.keys.seal(&mut [0; OVERHEAD], old), Err(expected));
        }
        assert_eq!(end.keys.seal(&mut [0; OVERHEAD], MAX_PACKETS + old), Err(SealError::Exhausted));
    }

    /// The other end gets the packet that was sealed `back` packets ago, and perhaps acknowledges it.
    fn deliver(&mut self, side: usize, back: usize, acknowledge: bool) {
        let Some(at) = self.sealed[side].len().checked_sub(1 + back) else { return };
        let packet = &self.sealed[side][at];
        let end = &mut self.ends[1 - side];
        let (ours, theirs) = (end.generation, packet.generation);
        assert!(theirs <= ours + 1, "the sender ran ahead");
        let old = end.old_until.is_some_and(|until| self.now < until);
        let in_time = end.opened.last().is_none_or(|highest| packet.pn + WINDOW > *highest);
        // Far behind, the low bits of the number stand for another one.
        let readable = end.opened.last().is_none_or(|highest| packet.pn + (1 << 31) > highest + 1);
        let expected = if !readable || !(theirs >= ours || (theirs + 1 == ours && old)) {
            Err(OpenError::Unauthentic)
        } else if end.opened.contains(&packet.pn) || !in_time {
            Err(OpenError::Replayed { pn: packet.pn })
        } else {
            Ok((packet.pn, theirs, theirs > ours, packet.text.clone()))
        };
        let mut bytes = packet.bytes.clone();
        let result = end.keys.open(&mut bytes, self.now);
        let result = result.map(|opened| (opened.pn, opened.generation, opened.advanced, opened.payload.to_vec()));
        assert_eq!(result, expected);
        if !old {
            end.old_until = None;
        }
        let Ok((pn, _, advanced, _)) = result else { return };
        end.opened.insert(pn);
        if advanced {
            end.generation += 1;
            end.old_until = Some(self.now + OLD_KEYS);
        }
        if let Some(key) = packet.rekey {
            self.on_rekey(1 - side, &key);
        }
        if acknowledge {
            let end = &mut self.ends[side];
            end.keys.on_ack(pn);
            if end.carriers.contains(&pn) {
                end.carriers.clear();
                end.rekey = None;
                end.keys.on_rekey_ack_acknowledged();
            }
        }
        self.agree(1 - side);
    }

    fn on_rekey(&mut self, side: usize, key: &[u8; 32]) {
        let end = &mut self.ends[side];
        if side == 0 {
            match end.keys.on_rekey_ack(key) {
                Ok(()) | Err(RekeyError::Repeated) => {}
                Err(error) => panic!("{error}"),
            }
        } else {
            match end.keys.on_rekey(key, &mut self.rng) {
                Ok(answer) => {
                    end.rekey = Some(answer);
                    end.carriers.clear();
                }
                Err(RekeyError::Repeated | RekeyError::Pending) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn forge(&mut self, side: usize, back: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(at) = self.sealed[side].len().checked_sub(1 + back) else { return };
        let mut bytes = self.sealed[side][at].bytes.clone();
        change(&mut bytes);
        self.hostile(1 - side, &mut bytes);
    }

    /// Bytes that nobody sealed: they are refused and change nothing.
    fn hostile(&mut self, side: usize, bytes: &mut [u8]) {
        let end = &mut self.ends[side];
        let failures = end.keys.failures();
        let tail = bytes.last_chunk::<16>().copied();
        let error = end.keys.open(bytes, self.now).expect_err("forged");
        if bytes.len() < OVERHEAD {
            assert_eq!((error, end.keys.failures()), (OpenError::TooShort, failures));
        } else {
            assert_eq!((error, end.keys.failures()), (OpenError::Unauthentic, failures + 1));
        }
        assert_eq!(bytes.last_chunk::<16>().copied(), tail, "a reset token");
        end.old_until = end.old_until.filter(|until| self.now < *until);
        self.agree(side);
    }

    fn update(&mut self, side: usize) {
        let end = &mut self.ends[side];
        let before = end.keys.send_generation();
        let may = end.keys.can_update();
        assert_eq!(end.keys.update().is_ok(), may);
        assert_eq!(end.keys.send_generation(), before + u64::from(may));
    }

    fn start_rekey(&mut self) {
        let end = &mut self.ends[0];
        if end.keys.is_rekeying() {
            assert_eq!(end.keys.start_rekey(&mut self.rng), Err(RekeyError::Pending));
        } else {
            end.rekey = Some(end.keys.start_rekey(&mut self.rng).expect("the initiator"));
            end.carriers.clear();
        }
    }

    fn agree(&self, side: usize) {
        let end = &self.ends[side];
        assert_eq!(end.keys.receive_generation(), end.generation);
        assert_eq!(end.keys.next_expected(), end.opened.last().map_or(0, |highest| highest + 1));
        assert_eq!(end.keys.deadline(), end.old_until);
    }

    /// Once packets arrive again, both ends understand each other and every rekey ends.
    fn settle(&mut self) {
        for _ in 0..8 {
            for side in [0, 1] {
                self.seal(side, 0, 0);
                self.deliver(side, 0, true);
                self.update(side);
            }
        }
        assert!(self.ends.iter().all(|end| !end.keys.is_rekeying() && end.generation > 0));
    }
}
