use std::time::{Duration, Instant};

use framing::v12::{Batcher, Frame};
use proptest::prelude::*;

use super::{ms, start};

fn drain(batcher: &mut Batcher, now: Instant) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| batcher.poll(now)).collect()
}

/// The frames in a datagram, as the receiver sees them.
fn frames(datagram: &[u8]) -> Vec<Vec<u8>> {
    match Frame::decode(datagram) {
        Ok(Frame::Batch(frames)) => frames.iter().map(<[u8]>::to_vec).collect(),
        _ => vec![datagram.to_vec()],
    }
}

#[test]
fn a_lone_frame_leaves_bare_after_two_milliseconds() {
    let t = start();
    let mut batcher = Batcher::new();
    assert_eq!(batcher.deadline(), None);
    batcher.push(vec![0x55; 10], t);
    assert_eq!(batcher.deadline(), Some(t + ms(2)));
    assert_eq!(batcher.poll(t + Duration::from_micros(1999)), None);
    assert_eq!(batcher.poll(t + ms(2)), Some(vec![0x55; 10]));
    assert_eq!((batcher.poll(t + ms(9)), batcher.deadline(), batcher.buffered_bytes()), (None, None, 0));
}

#[test]
fn company_waits_for_the_first() {
    let t = start();
    let mut batcher = Batcher::new();
    batcher.push(vec![1; 3], t);
    batcher.push(vec![2; 2], t + ms(1));
    assert_eq!(batcher.poll(t + ms(1)), None);
    let expected = [0x13, 2, 0, 3, 1, 1, 1, 0, 2, 2, 2];
    assert_eq!(drain(&mut batcher, t + ms(2)), [expected]);
}

#[test]
fn a_datagram_is_filled_to_1402_bytes_and_no_further() {
    let t = start();
    let mut batcher = Batcher::new();
    batcher.push(vec![1; 698], t);
    batcher.push(vec![2; 698], t);
    assert_eq!(batcher.poll(t), None, "1400 bytes with their lengths: it may wait");
    batcher.push(vec![3; 1], t);
    let first = batcher.poll(t).unwrap();
    assert_eq!(first.len(), 1402);
    assert_eq!(frames(&first), [vec![1; 698], vec![2; 698]]);
    assert_eq!(batcher.poll(t), None);
    assert_eq!(drain(&mut batcher, t + ms(2)), [vec![3]]);
}

#[test]
fn what_is_too_long_to_share_leaves_at_once_and_in_order() {
    let t = start();
    let mut batcher = Batcher::new();
    batcher.push(vec![1; 5], t);
    batcher.push(vec![2; 1399], t);
    batcher.push(vec![3; 1398], t);
    assert_eq!(drain(&mut batcher, t), [vec![1; 5], vec![2; 1399]]);
    batcher.push(vec![1; 60_000], t);
    assert_eq!(drain(&mut batcher, t), [vec![3; 1398], vec![1; 60_000]]);
    assert!(batcher.is_empty());
}

#[test]
fn at_most_255_frames_share() {
    let t = start();
    let mut batcher = Batcher::new();
    for _ in 0..256 {
        batcher.push(vec![9], t);
    }
    let first = batcher.poll(t).unwrap();
    assert_eq!(frames(&first).len(), 255);
    assert_eq!(batcher.poll(t), None);
    assert_eq!(batcher.poll(t + ms(2)), Some(vec![9]));
}

#[test]
fn a_batch_is_never_inside_another() {
    let t = start();
    let mut batcher = Batcher::new();
    let batch = vec![0x13, 1, 0, 1, 0x55];
    batcher.push(vec![1], t);
    batcher.push(batch.clone(), t);
    batcher.push(vec![2], t);
    batcher.flush();
    assert_eq!(drain(&mut batcher, t), [vec![1], batch, vec![2]]);
}

#[test]
fn without_coalescing_every_frame_is_due_at_once() {
    let t = start();
    let mut batcher = Batcher::new();
    batcher.push(vec![1], t);
    batcher.push(vec![2], t);
    batcher.set_coalescing(false);
    batcher.push(vec![3], t + ms(1));
    assert!(batcher.deadline().unwrap() <= t);
    assert_eq!(drain(&mut batcher, t), [[1], [2], [3]]);
    batcher.set_coalescing(true);
    batcher.push(vec![4], t);
    assert_eq!(batcher.poll(t), None);
}

#[test]
fn flush_makes_everything_due_and_keeps_it_together() {
    let t = start();
    let mut batcher = Batcher::new();
    batcher.flush();
    assert_eq!(batcher.deadline(), None);
    batcher.push(vec![1], t);
    batcher.push(vec![2], t);
    batcher.push(Vec::new(), t);
    batcher.flush();
    assert_eq!(batcher.deadline(), Some(t));
    assert_eq!(drain(&mut batcher, t).len(), 1);
}

#[test]
fn the_oldest_datagrams_go_at_the_bound() {
    let t = start();
    let mut batcher = Batcher::new();
    for n in 0..20 {
        batcher.push(vec![n; 60_000], t);
        assert!(batcher.buffered_bytes() <= 1024 * 1024);
    }
    assert_eq!(batcher.dropped(), 3);
    assert_eq!(drain(&mut batcher, t).first().map(|datagram| datagram[0]), Some(3));
}

proptest! {
    #[test]
    fn order_size_and_delay_hold(
        steps in prop::collection::vec((0..3000_u64, prop_oneof![1..40_usize, 300..1500_usize]), 1..200),
    ) {
        let t = start();
        let mut batcher = Batcher::new();
        let (mut now, mut out, mut sent) = (t, Vec::new(), Vec::new());
        let mut pushed = Vec::new();
        for (n, (gap, len)) in steps.into_iter().enumerate() {
            let arrival = now + Duration::from_micros(gap);
            // The owner wakes at every deadline before that.
            while let Some(at) = batcher.deadline().filter(|&at| at <= arrival) {
                let due = drain(&mut batcher, at);
                prop_assert!(!due.is_empty(), "a deadline without an effect");
                out.extend(due.into_iter().map(|datagram| (at, datagram)));
            }
            now = arrival;
            let mut frame = vec![(n % 19) as u8; len];
            frame[len - 1] = (n % 251) as u8;
            pushed.push((now, frame.clone()));
            batcher.push(frame, now);
            out.extend(drain(&mut batcher, now).into_iter().map(|datagram| (now, datagram)));
        }
        let end = batcher.deadline().unwrap_or(now);
        out.extend(drain(&mut batcher, end).into_iter().map(|datagram| (end, datagram)));
        prop_assert!(batcher.is_empty());
        prop_assert_eq!(batcher.buffered_bytes(), 0);
        for (at, datagram) in &out {
            let inner = frames(datagram);
            prop_assert!(inner.len() == 1 || datagram.len() <= 1402);
            prop_assert!(inner.len() != 1 || *datagram == inner[0], "alone means bare");
            sent.extend(inner.into_iter().map(|frame| (*at, frame)));
        }
        prop_assert_eq!(sent.len(), pushed.len());
        for ((at, frame), (since, original)) in sent.iter().zip(&pushed) {
            prop_assert_eq!(frame, original);
            prop_assert!(*at <= *since + ms(2));
        }
    }
}
