//! Messages of all sizes, and many of them.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::lab::{Finding, Kind, Lab, Rows};
use super::node::{Node, TestBytes, connect, deliver};
use crate::report::progress;

/// Lengths in bytes; above 1200 the reference sends pieces in the clear.
const SIZES: [usize; 6] = [0, 3, 100, 1200, 5000, 60_000];
const WHOLE: usize = 1200;

/// Length of each message of a stream.
const STREAM_SIZE: usize = 1024;

/// A stream from the reference goes at 119 messages a second: its bucket holds 256 and drops what exceeds 128 a second.
const GAP_MS: f64 = 8.4;

/// How often a stream is tried whose receiver's socket overflows.
const ATTEMPTS: u32 = 3;

/// A message of each size in each direction.
pub(super) fn sizes(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    let [a, b] = lab.sides;
    let (mut left, mut right) = lab.connected(a, b)?;
    for size in SIZES {
        let found = one(lab, [&mut left, &mut right], [a, b], size);
        rows.add(&format!("data {a}->{b} {size} B"), None, found)?;
        if a != b {
            let found = one(lab, [&mut right, &mut left], [b, a], size);
            rows.add(&format!("data {b}->{a} {size} B"), None, found)?;
        }
    }
    Ok(())
}

fn one(lab: &Lab, [from, to]: [&mut Node; 2], kinds: [Kind; 2], size: usize) -> anyhow::Result<Finding> {
    let (event, time) = deliver(from, to, &lab.fresh(size))?;
    let in_clear = kinds[0] == Kind::Reference && size > WHOLE;
    if kinds[1] == Kind::Ours {
        ensure!(event["authenticated"] == !in_clear, "`authenticated` is wrong: {event}");
    }
    Ok(Finding::took(time).noting(if in_clear { "in pieces, not encrypted: all the reference can" } else { "" }))
}

/// Many messages, each way alone and then both at once.
pub(super) fn streams(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    let count = if lab.quick { 250 } else { 1000 };
    for [from, to] in lab.directions() {
        let found = one_way(lab, [from, to], count);
        let fault = (from == Kind::Reference && to == Kind::Reference).then_some(
            "a reference that receives acknowledges nothing, so one that sends stops after its window of 16",
        );
        rows.add(&format!("stream {count} x {STREAM_SIZE} B {from}->{to}"), fault, found)?;
    }
    let [a, b] = lab.sides;
    let found = (|| {
        let (mut left, mut right) = lab.connected(a, b)?;
        let start = Instant::now();
        let sent = [begin(lab, &mut left, a, count)?, begin(lab, &mut right, b, count)?];
        let to_right = arrived(&mut right, &sent[0])?;
        let to_left = arrived(&mut left, &sent[1])?;
        summary(&to_right, count, start.elapsed())?;
        summary(&to_left, count, start.elapsed())
    })();
    let fault = (a == Kind::Reference && b == Kind::Reference)
        .then_some("the references acknowledge with what they send themselves, and lose what runs ahead of it");
    rows.add(&format!("stream {count} x {STREAM_SIZE} B {a}<->{b}"), fault, found)
}

/// `count` messages in one direction. What the kernel drops at the socket of a receiver that has no time to read, as on a
/// busy machine, says nothing about the wire: then new nodes try it again, up to [`ATTEMPTS`] times in all.
fn one_way(lab: &Lab, [from, to]: [Kind; 2], count: usize) -> anyhow::Result<Finding> {
    let mut attempt = 1;
    loop {
        let (mut a, mut b) = lab.connected(from, to)?;
        let start = Instant::now();
        let sent = begin(lab, &mut a, from, count)?;
        let order = arrived(&mut b, &sent)?;
        let overflow = if order.len() < count { lab.overflow(&b)? } else { 0 };
        if overflow == 0 || attempt == ATTEMPTS {
            return summary(&order, count, start.elapsed());
        }
        progress(&format!("the socket of {to} overflowed: {overflow} datagrams too many for it; again with new nodes"));
        attempt += 1;
    }
}

/// Makes a node send `count` messages; what it will send.
fn begin(lab: &Lab, from: &mut Node, kind: Kind, count: usize) -> anyhow::Result<Vec<TestBytes>> {
    let seed = lab.next();
    let gap = if kind == Kind::Reference { GAP_MS } else { 0.0 };
    from.tell(&format!("flood {count} {STREAM_SIZE} {gap} {seed}"))?;
    Ok((0..count as u32).map(|i| TestBytes::new(STREAM_SIZE, seed * 1_000_000 + i)).collect())
}

fn arrived(to: &mut Node, sent: &[TestBytes]) -> anyhow::Result<Vec<usize>> {
    let digests: Vec<String> = sent.iter().map(|bytes| bytes.sha256.clone()).collect();
    // Twice the time it takes at 128 a second, without the burst.
    let limit = Duration::from_secs(5) + Duration::from_millis(16) * sent.len() as u32;
    to.arrivals(&digests, limit)
}

fn summary(order: &[usize], count: usize, time: Duration) -> anyhow::Result<Finding> {
    if order.len() < count {
        let lost = (0..count).find(|i| !order.contains(i)).unwrap_or_default();
        bail!("{} of {count} arrived; the first that did not was number {lost}", order.len());
    }
    if let Some(place) = order.windows(2).position(|pair| pair[0] > pair[1]) {
        bail!("number {} came before number {}", order[place], order[place + 1]);
    }
    let rate = count as f64 / time.as_secs_f64();
    Ok(Finding::count(count, "messages").noting(format!("in order, in {:.1} s: {rate:.0}/s", time.as_secs_f64())))
}

/// Two nodes that exchange `rounds` messages each way, one after the other.
///
/// # Errors
/// When one does not arrive.
pub(super) fn converse(lab: &Lab, a: &mut Node, b: &mut Node, rounds: usize) -> anyhow::Result<()> {
    for _ in 0..rounds {
        deliver(a, b, &lab.fresh(64))?;
        deliver(b, a, &lab.fresh(64))?;
    }
    Ok(())
}

/// [`connect`] and [`converse`].
///
/// # Errors
/// As they.
pub(super) fn acquaint(lab: &Lab, a: &mut Node, b: &mut Node, rounds: usize) -> anyhow::Result<()> {
    connect(a, b)?;
    converse(lab, a, b, rounds)
}
