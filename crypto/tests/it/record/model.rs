//! Two ends that update and rekey at random over a network that loses, repeats, reorders and forges, against a model
//! that knows which generations the receiver can have.

use std::collections::BTreeSet;
use std::time::Duration;

use crypto::raw::Backend;
use crypto::record::{OpenError, RecordKeys, RekeyError, WINDOW};
use crypto::{Cipher, Rng, Seed};

use super::{at, combinations, pair, unsealed};

/// What a packet carries: acknowledgements, and at most one step of a rekey.
#[derive(Clone)]
struct Content {
    acks: BTreeSet<u64>,
    rekey: Option<[u8; 32]>,
    rekey_ack: Option<[u8; 32]>,
}

#[derive(Clone)]
struct Packet {
    pn: u64,
    generation: u64,
    content: Content,
    bytes: Vec<u8>,
}

/// One end: its keys, and as much of a peer as the rules need.
struct End {
    keys: RecordKeys,
    next: u64,
    /// The numbers of our packets that carried the step of the rekey that is to be acknowledged.
    carriers: BTreeSet<u64>,
    rekey: Option<[u8; 32]>,
    rekey_ack: Option<[u8; 32]>,
    /// The model: what was opened, the generation, and until when (in milliseconds) the one before is kept.
    opened: BTreeSet<u64>,
    generation: u64,
    old_until: u64,
}

#[derive(Default, Debug)]
struct Seen {
    opened: u64,
    late: u64,
    replayed: u64,
    gone: u64,
    forged: u64,
    updates: u64,
    rekeys: u64,
}

struct World {
    ends: [End; 2],
    /// Packets under way to each end.
    network: [Vec<Packet>; 2],
    rng: Rng,
    now: u64,
    seen: Seen,
}

impl World {
    fn new(combination: (Cipher, Backend), seed: u64) -> Self {
        let ends = pair(combination).map(|keys| End {
            keys,
            next: 0,
            carriers: BTreeSet::new(),
            rekey: None,
            rekey_ack: None,
            opened: BTreeSet::new(),
            generation: 0,
            old_until: 0,
        });
        let rng = Seed::fixed(seed).fork("world").rng();
        Self { ends, network: [vec![], vec![]], rng, now: 0, seen: Seen::default() }
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.rng.below(n as u64)).unwrap()
    }

    fn step(&mut self) {
        let side = self.below(2);
        match self.below(17) {
            0..=4 => self.send(side),
            5..=9 => self.deliver(side),
            10 => self.lose(side),
            11 => self.forge(side),
            12 => self.now += self.rng.below(40),
            13 | 14 => self.update(side),
            15 => self.ends[side].keys.rest(),
            _ => self.start_rekey(),
        }
    }

    fn send(&mut self, side: usize) {
        self.now += 1;
        let skip = self.rng.below(3) / 2;
        let end = &mut self.ends[side];
        end.next += skip;
        let acks = end.opened.iter().rev().take(64).copied().collect();
        let content = Content { acks, rekey: end.rekey, rekey_ack: end.rekey_ack };
        let mut bytes = unsealed(&end.next.to_be_bytes());
        end.keys.seal(&mut bytes, end.next).unwrap();
        if content.rekey.is_some() || content.rekey_ack.is_some() {
            end.carriers.insert(end.next);
        }
        let packet = Packet { pn: end.next, generation: end.keys.send_generation(), content, bytes };
        end.next += 1;
        self.network[1 - side].push(packet);
    }

    /// A random packet arrives; one time in four it stays under way as well.
    fn deliver(&mut self, side: usize) {
        if self.network[side].is_empty() {
            return;
        }
        let len = self.network[side].len();
        // Mostly the oldest.
        let at = if self.below(3) == 0 { self.below(len) } else { 0 };
        let packet = if self.below(4) == 0 { self.network[side][at].clone() } else { self.network[side].remove(at) };
        self.receive(side, &packet);
    }

    fn receive(&mut self, side: usize, packet: &Packet) {
        let now = at(1) + Duration::from_millis(self.now);
        let end = &mut self.ends[side];
        let (ours, theirs) = (end.generation, packet.generation);
        assert!(theirs <= ours + 1, "the sender ran ahead");
        let has_key = theirs >= ours || (theirs + 1 == ours && self.now < end.old_until);
        let highest = end.opened.last().copied();
        let in_time = highest.is_none_or(|highest| packet.pn + WINDOW > highest);
        let expected = if !has_key {
            Err(OpenError::Unauthentic)
        } else if end.opened.contains(&packet.pn) || !in_time {
            Err(OpenError::Replayed { pn: packet.pn })
        } else {
            Ok((packet.pn, theirs, theirs > ours, packet.pn.to_be_bytes().to_vec()))
        };
        let mut bytes = packet.bytes.clone();
        let result = end.keys.open(&mut bytes, now);
        let result = result.map(|opened| (opened.pn, opened.generation, opened.advanced, opened.payload.to_vec()));
        assert_eq!(result, expected, "in generation {ours}, kept until {} at {}", end.old_until, self.now);
        match result {
            Err(OpenError::Replayed { .. }) => self.seen.replayed += 1,
            Err(_) => self.seen.gone += 1,
            Ok((_, _, advanced, _)) => {
                self.seen.opened += 1;
                self.seen.late += u64::from(theirs < ours);
                end.opened.insert(packet.pn);
                if advanced {
                    end.generation += 1;
                    end.old_until = self.now + 100;
                    end.keys.keep_old_until(now + Duration::from_millis(100));
                }
                self.process(side, &packet.content);
            }
        }
        let end = &self.ends[side];
        assert_eq!(end.keys.receive_generation(), end.generation);
        assert_eq!(end.keys.next_expected(), end.opened.last().map_or(0, |highest| highest + 1));
    }

    fn process(&mut self, side: usize, content: &Content) {
        let end = &mut self.ends[side];
        for &pn in &content.acks {
            end.keys.on_ack(pn);
            if end.carriers.contains(&pn) {
                end.carriers.clear();
                (end.rekey, end.rekey_ack) = (None, None);
                end.keys.on_rekey_ack_acknowledged();
            }
        }
        if let Some(e_i) = &content.rekey {
            match end.keys.on_rekey(e_i, &mut self.rng) {
                Ok(e_r) => {
                    end.carriers.clear();
                    end.rekey_ack = Some(e_r);
                }
                Err(error) => assert!(matches!(error, RekeyError::Repeated | RekeyError::Pending), "{error}"),
            }
        }
        if let Some(e_r) = &content.rekey_ack {
            match end.keys.on_rekey_ack(e_r) {
                Ok(()) => self.seen.rekeys += 1,
                Err(error) => assert_eq!(error, RekeyError::Repeated),
            }
        }
    }

    fn lose(&mut self, side: usize) {
        let len = self.network[side].len();
        if len > 0 {
            let at = self.below(len);
            self.network[side].remove(at);
        }
    }

    /// A packet under way with one bit changed, or noise: nothing may change, whatever the state.
    fn forge(&mut self, side: usize) {
        let len = self.network[side].len();
        let mut bytes = if len > 0 && self.below(4) > 0 {
            let at = self.below(len);
            let mut bytes = self.network[side][at].bytes.clone();
            let bit = self.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        } else {
            let mut bytes = vec![0; 60];
            self.rng.fill(&mut bytes);
            bytes
        };
        let now = at(1) + Duration::from_millis(self.now);
        let end = &mut self.ends[side];
        let failures = end.keys.failures();
        assert_eq!(end.keys.open(&mut bytes, now).unwrap_err(), OpenError::Unauthentic);
        assert_eq!(end.keys.failures(), failures + 1);
        assert_eq!(end.keys.receive_generation(), end.generation);
        self.seen.forged += 1;
    }

    fn update(&mut self, side: usize) {
        let end = &mut self.ends[side];
        if end.keys.can_update() {
            assert_eq!(end.keys.update(), Ok(end.keys.send_generation()));
            self.seen.updates += 1;
        } else {
            assert!(end.keys.update().is_err());
        }
    }

    fn start_rekey(&mut self) {
        let end = &mut self.ends[0];
        if end.keys.is_rekeying() {
            assert_eq!(end.keys.start_rekey(&mut self.rng), Err(RekeyError::Pending));
        } else {
            end.carriers.clear();
            end.rekey = Some(end.keys.start_rekey(&mut self.rng).unwrap());
        }
    }

    /// A network that works again: everything under way is done, and both ends can still talk.
    fn settle(&mut self) {
        for _ in 0..12 {
            for side in [0, 1] {
                self.send(side);
                for packet in std::mem::take(&mut self.network[1 - side]) {
                    self.receive(1 - side, &packet);
                }
            }
            for side in [0, 1] {
                self.update(side);
            }
        }
        let [a, b] = &self.ends;
        assert!(!a.keys.is_rekeying() && !b.keys.is_rekeying());
        assert!(a.generation > 0 && b.generation > 0);
    }
}

#[test]
fn generations_survive_any_network() {
    let mut total = Seen::default();
    for combination in combinations() {
        for seed in 0..60 {
            // The seed of a failure is in the output.
            println!("{combination:?} seed {seed}");
            let mut world = World::new(combination, seed);
            (0..600).for_each(|_| world.step());
            world.settle();
            total.opened += world.seen.opened;
            total.late += world.seen.late;
            total.replayed += world.seen.replayed;
            total.gone += world.seen.gone;
            total.forged += world.seen.forged;
            total.updates += world.seen.updates;
            total.rekeys += world.seen.rekeys;
        }
    }
    println!("{total:?}");
    // The schedules really go everywhere.
    let least = [total.opened, total.late, total.replayed, total.gone, total.forged, total.updates, total.rekeys];
    assert!(least.iter().all(|&count| count > 100), "{total:?}");
}
