use std::time::Instant;

use bytes::Bytes;
use framing::v12::{Reorder, ReorderError};
use proptest::prelude::*;

use super::{Lcg, ms, start};

fn payload(seq: u32) -> Bytes {
    Bytes::copy_from_slice(&seq.to_be_bytes())
}

fn push(reorder: &mut Reorder, seq: u32, now: Instant) {
    reorder.push(seq, payload(seq), now).unwrap();
}

fn drain(reorder: &mut Reorder, now: Instant) -> Vec<u32> {
    let poll = || reorder.poll(now).map(|payload| u32::from_be_bytes(payload[..].try_into().unwrap()));
    std::iter::from_fn(poll).collect()
}

#[test]
fn in_order_leaves_at_once() {
    let t = start();
    let mut reorder = Reorder::default();
    for seq in 0..1000 {
        push(&mut reorder, seq, t);
        assert_eq!(reorder.deadline(), Some(t));
        assert_eq!(drain(&mut reorder, t), [seq]);
        assert_eq!((reorder.deadline(), reorder.buffered_bytes()), (None, 0));
    }
    assert_eq!((reorder.next_seq(), reorder.skipped()), (1000, 0));
}

#[test]
fn a_gap_that_fills_delays_only_what_is_behind_it() {
    let t = start();
    let mut reorder = Reorder::default();
    push(&mut reorder, 0, t);
    push(&mut reorder, 2, t + ms(1));
    push(&mut reorder, 3, t + ms(2));
    assert_eq!(drain(&mut reorder, t + ms(2)), [0]);
    assert_eq!(reorder.deadline(), Some(t + ms(51)));
    push(&mut reorder, 1, t + ms(50));
    assert_eq!(drain(&mut reorder, t + ms(50)), [1, 2, 3]);
    assert_eq!((reorder.deadline(), reorder.skipped()), (None, 0));
}

#[test]
fn after_a_loss_there_is_no_lasting_delay() {
    let t = start();
    let mut reorder = Reorder::default();
    push(&mut reorder, 1, t);
    assert_eq!(drain(&mut reorder, t + ms(49)), [0; 0]);
    assert_eq!(drain(&mut reorder, t + ms(50)), [1]);
    assert_eq!((reorder.skipped(), reorder.next_seq()), (1, 2));
    for seq in 2..10 {
        push(&mut reorder, seq, t + ms(50));
        assert_eq!(drain(&mut reorder, t + ms(50)), [seq]);
    }
    assert_eq!(reorder.push(0, payload(0), t), Err(ReorderError::Late { seq: 0, next: 10 }));
}

#[test]
fn hold_counts_from_the_arrival_of_what_is_held() {
    let t = start();
    let mut reorder = Reorder::default();
    push(&mut reorder, 5, t);
    push(&mut reorder, 3, t + ms(40));
    assert_eq!(reorder.deadline(), Some(t + ms(50)));
    // 5 must leave now, and everything before it with it: nobody overtakes.
    assert_eq!(drain(&mut reorder, t + ms(50)), [3, 5]);
    assert_eq!((reorder.skipped(), reorder.next_seq()), (4, 6));
    // Two gaps, of which only the first is over.
    push(&mut reorder, 7, t + ms(60));
    push(&mut reorder, 9, t + ms(70));
    assert_eq!(drain(&mut reorder, t + ms(110)), [7]);
    assert_eq!(reorder.deadline(), Some(t + ms(120)));
    assert_eq!(drain(&mut reorder, t + ms(120)), [9]);
}

#[test]
fn duplicates_and_late_ones_are_told_apart() {
    let t = start();
    let mut reorder = Reorder::default();
    push(&mut reorder, 2, t);
    assert_eq!(reorder.push(2, payload(9), t), Err(ReorderError::Duplicate { seq: 2 }));
    push(&mut reorder, 0, t);
    assert_eq!(reorder.push(0, payload(0), t), Err(ReorderError::Late { seq: 0, next: 1 }));
    push(&mut reorder, 1, t);
    assert_eq!(drain(&mut reorder, t), [0, 1, 2]);
}

#[test]
fn a_full_buffer_gives_up_its_oldest_gap_and_loses_nothing() {
    let t = start();
    let mut reorder = Reorder::new(4, 1000);
    for seq in [10, 12, 14, 16] {
        push(&mut reorder, seq, t);
    }
    assert_eq!(drain(&mut reorder, t), [0; 0]);
    push(&mut reorder, 18, t);
    assert_eq!(drain(&mut reorder, t), [10]);
    assert_eq!((reorder.skipped(), reorder.len()), (10, 4));
    // The newcomer itself may be the one behind the oldest gap.
    push(&mut reorder, 11, t);
    assert_eq!(drain(&mut reorder, t), [11, 12]);
    push(&mut reorder, 20, t);
    assert_eq!(drain(&mut reorder, t + ms(50)), [14, 16, 18, 20]);

    let mut reorder = Reorder::new(100, 10);
    for seq in [1, 3] {
        push(&mut reorder, seq, t);
    }
    push(&mut reorder, 5, t);
    assert_eq!(drain(&mut reorder, t), [1], "12 bytes are above 10");
    assert_eq!(reorder.buffered_bytes(), 8);
    assert_eq!(reorder.push(7, Bytes::from_static(&[0; 11]), t), Err(ReorderError::Full));
}

#[test]
fn what_nobody_polls_is_refused_in_the_end() {
    let t = start();
    let mut reorder = Reorder::new(4, 1000);
    for seq in 0..4 {
        push(&mut reorder, seq, t);
    }
    assert_eq!(reorder.push(4, payload(4), t), Err(ReorderError::Full));
    assert_eq!(reorder.push(9, payload(9), t), Err(ReorderError::Full));
    assert_eq!(reorder.next_seq(), 4);
    assert_eq!(drain(&mut reorder, t), [0, 1, 2, 3]);
    push(&mut reorder, 4, t);
    assert_eq!(drain(&mut reorder, t), [4]);
}

#[test]
fn far_jumps_and_the_end_of_numbers() {
    let t = start();
    let mut reorder = Reorder::default();
    push(&mut reorder, u32::MAX, t);
    push(&mut reorder, u32::MAX - 1, t);
    assert_eq!(drain(&mut reorder, t + ms(50)), [u32::MAX - 1, u32::MAX]);
    assert_eq!(reorder.skipped(), u64::from(u32::MAX) - 1);
    assert_eq!(reorder.next_seq(), 1 << 32);
    assert_eq!(reorder.push(0, payload(0), t), Err(ReorderError::Late { seq: 0, next: 1 << 32 }));
    assert_eq!(reorder.push(u32::MAX, payload(0), t), Err(ReorderError::Late { seq: u32::MAX, next: 1 << 32 }));
    reorder.reset(0);
    push(&mut reorder, 0, t);
    assert_eq!(drain(&mut reorder, t), [0]);
}

#[test]
fn reset_forgets_what_is_held() {
    let t = start();
    let mut reorder = Reorder::default();
    push(&mut reorder, 0, t);
    push(&mut reorder, 7, t);
    reorder.reset(5);
    assert_eq!((reorder.len(), reorder.buffered_bytes(), reorder.next_seq()), (1, 4, 5));
    assert_eq!(drain(&mut reorder, t), [0], "what may leave still does");
    assert_eq!(reorder.deadline(), None);
    push(&mut reorder, 5, t);
    assert_eq!(drain(&mut reorder, t), [5]);
}

/// The same rules without any cleverness.
#[derive(Default)]
struct Model {
    next: u64,
    held: Vec<(u64, Instant)>,
    skipped: u64,
}

impl Model {
    fn push(&mut self, seq: u32, now: Instant) -> bool {
        let seq = u64::from(seq);
        let fresh = seq >= self.next && !self.held.iter().any(|held| held.0 == seq);
        if fresh {
            self.held.push((seq, now));
        }
        fresh
    }

    fn poll(&mut self, now: Instant) -> Option<u32> {
        let lowest = self.held.iter().map(|held| held.0).min()?;
        let expired = self.held.iter().any(|held| held.1 + ms(50) <= now);
        if lowest != self.next && !expired {
            return None;
        }
        self.skipped += lowest - self.next;
        self.next = lowest + 1;
        self.held.retain(|held| held.0 != lowest);
        Some(lowest as u32)
    }

    fn deadline(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.1 + ms(50)).min()
    }
}

proptest! {
    #[test]
    fn behaves_like_the_model(seed: u64, loss in 0..40_u64, jitter in 0..120_u64, from in prop_oneof![Just(0), Just(u32::MAX - 150)]) {
        let mut rng = Lcg(seed);
        let t = start();
        // One message each 4 ms, delayed by up to `jitter` ms, some lost, some twice.
        let mut arrivals: Vec<(u64, u32)> = Vec::new();
        for n in 0..200_u32 {
            let Some(seq) = from.checked_add(n) else { break };
            for _ in 0..1 + u64::from(rng.percent(10)) {
                if !rng.percent(loss) {
                    arrivals.push((u64::from(n) * 4 + rng.below(jitter + 1), seq));
                }
            }
        }
        arrivals.sort();
        let (mut real, mut model) = (Reorder::default(), Model { next: u64::from(from), ..Model::default() });
        real.reset(from);
        let mut delivered = Vec::new();
        let mut step = |real: &mut Reorder, model: &mut Model, now: Instant| {
            let got = drain(real, now);
            let expected: Vec<_> = std::iter::from_fn(|| model.poll(now)).collect();
            assert_eq!(got, expected);
            assert_eq!((real.next_seq(), real.skipped(), real.len()), (model.next, model.skipped, model.held.len()));
            assert_eq!(real.deadline(), model.deadline());
            assert_eq!(real.buffered_bytes(), 4 * model.held.len());
            delivered.extend(got);
        };
        let mut accepted = 0;
        for (at, seq) in arrivals {
            let now = t + ms(at);
            while let Some(at) = real.deadline().filter(|&at| at <= now) {
                step(&mut real, &mut model, at);
            }
            let fresh = model.push(seq, now);
            prop_assert_eq!(real.push(seq, payload(seq), now).is_ok(), fresh);
            accepted += usize::from(fresh);
            step(&mut real, &mut model, now);
        }
        while let Some(at) = real.deadline() {
            step(&mut real, &mut model, at);
        }
        prop_assert_eq!(delivered.len(), accepted, "what was taken is delivered");
        prop_assert!(delivered.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn bounds_hold_for_any_order(seqs in prop::collection::vec((0..200_u32, 0..20_usize, 0..30_u64), 0..300), polled: bool) {
        let mut now = start();
        let mut reorder = Reorder::new(8, 64);
        let mut last = None;
        for (seq, len, wait) in seqs {
            now += ms(wait);
            let mut bytes = vec![0; len];
            bytes.extend(seq.to_be_bytes());
            let _ = reorder.push(seq, bytes.into(), now);
            prop_assert!(reorder.len() <= 17 && reorder.buffered_bytes() <= 2 * 64 + 24);
            while polled && let Some(payload) = reorder.poll(now) {
                let seq = payload.last_chunk::<4>().map(|seq| u32::from_be_bytes(*seq));
                prop_assert!(seq > last, "{seq:?} after {last:?}");
                last = seq;
            }
            prop_assert!(!polled || reorder.len() <= 8);
        }
    }
}
