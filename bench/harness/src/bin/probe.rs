//! How far two cores are from each other: nanoseconds that a cache line takes from one to the other and back.
//!
//! A virtual machine may find its cores under one last-level cache at one time and under two at another, and everything
//! that two processes do together is faster or slower by it, up to a factor of two. `bench-probe A B` prints one number.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use harness::machine;

/// There and back this often between two looks at the clock.
const ROUNDS: u64 = 100;

/// How long it goes on.
const TIME: u64 = 10_000_000;

/// The line that goes to and fro, with nothing else on it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Ball(AtomicU64);

fn main() -> Result<()> {
    let mut cores = std::env::args().skip(1).map(|core| core.parse::<usize>());
    let (near, far) = (cores.next().context("two cores, please")??, cores.next().context("two cores, please")??);
    let (ball, over) = (Ball::default(), AtomicBool::new(false));
    let nanoseconds = thread::scope(|scope| {
        let other = scope.spawn(|| -> Result<()> {
            machine::pin(far)?;
            let mut next = 1;
            while !over.load(Ordering::Relaxed) {
                if ball.0.load(Ordering::Acquire) == next {
                    ball.0.store(next + 1, Ordering::Release);
                    next += 2;
                }
                hint::spin_loop();
            }
            Ok(())
        });
        let measured = machine::pin(near).map(|()| play(&ball.0));
        over.store(true, Ordering::Relaxed);
        other.join().map_err(|_| anyhow!("the other thread is gone"))??;
        measured
    })?;
    println!("{nanoseconds}");
    Ok(())
}

/// The median of the rounds: what else runs on the cores costs some of them, not most.
fn play(ball: &AtomicU64) -> u64 {
    let begun = machine::monotonic();
    let (mut samples, mut next) = (Vec::new(), 0);
    while machine::monotonic() - begun < TIME || samples.len() < 20 {
        let before = machine::monotonic();
        for _ in 0..ROUNDS {
            ball.store(next + 1, Ordering::Release);
            next += 2;
            while ball.load(Ordering::Acquire) != next {
                hint::spin_loop();
            }
        }
        samples.push((machine::monotonic() - before) / ROUNDS);
    }
    samples.sort_unstable();
    samples[samples.len() / 2]
}
