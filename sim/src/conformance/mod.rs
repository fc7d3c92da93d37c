//! The laws of [`structs::machine`], as checks that every machine's tests run.
//!
//! A [`Subject`] tells the suite how to build a pair of machines, how to command one and what it claims of itself. Each
//! law is a function of a subject and a seed, and [`check_all`] runs them all. A law that compares runs (pure,
//! monotonic, lenient) lets the same script of commands, hostile datagrams and network weather happen twice and
//! reports the first datagram, event or deadline that differs.
//!
//! A panic of the machine, wherever it occurs, is a violation of the law under test and carries its seed. What the
//! suite cannot see: how much a machine allocates for a moment while it takes a datagram in.

mod hostile;
mod laws;
mod rig;

use std::fmt::{self, Debug};
use std::time::Instant;

use crypto::Seed;
use structs::{Machine, Path};

use crate::Addresses;

pub use laws::{anti_amplifying, bounded, check_all, lenient, monotonic, progress, pure, quiet, terminal};

/// A kind of machine, and what the suite must know to drive it.
pub trait Subject {
    /// The machine. Its events are compared by what `Debug` prints of them.
    type Machine: Machine<Event: Debug>;

    /// Two machines that can talk to each other over `paths`: the first is the path of the first one. All randomness
    /// comes from `seed`, and nothing else may differ from call to call.
    fn fresh(&self, seed: Seed, paths: [Path; 2], now: Instant) -> [Self::Machine; 2];

    /// Gives a machine a valid command that `op` chooses: any number must do. All commands should be reachable, those
    /// that end the machine excepted.
    fn command(&self, machine: &mut Self::Machine, op: u64, now: Instant) -> Reply;

    /// Gives the command that ends a machine, at once or after a goodbye.
    fn close(&self, machine: &mut Self::Machine, now: Instant);

    /// Whether a machine has ended.
    fn is_closed(&self, machine: &Self::Machine) -> bool;

    /// How many bytes a machine buffers at this moment.
    fn buffered_bytes(&self, machine: &Self::Machine) -> usize;

    /// How many bytes it may buffer by its configuration.
    fn buffered_limit(&self, machine: &Self::Machine) -> usize;

    /// How many bytes a machine may send to a stranger on its own account, beyond what the stranger sent: zero unless
    /// it dials addresses that it hears of.
    fn stranger_budget(&self) -> u64 {
        0
    }

    /// The addresses of the two, for machines that refuse some.
    fn addresses(&self) -> Addresses {
        Addresses::default()
    }

    /// How many commands and hostile datagrams a run consists of. A slow machine may lower it.
    fn steps(&self) -> u32 {
        200
    }
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It was taken.
    Done,
    /// It was refused, for now or for good: a bound, a state, an argument.
    Refused,
    /// It was refused because the machine has ended.
    Closed,
}

/// A law of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// The same calls give the same output.
    Pure,
    /// An older `now` counts as the newest seen.
    Monotonic,
    /// Drains may be put off; early and repeated timeouts do nothing.
    Lenient,
    /// After a timeout and a drain the deadline lies ahead.
    Progress,
    /// The buffers keep to their limit.
    Bounded,
    /// Hostile input does not panic.
    Quiet,
    /// Strangers get no more than they send.
    AntiAmplifying,
    /// A machine that has ended is silent and says that it is closed.
    Terminal,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pure => "pure",
            Self::Monotonic => "monotonic",
            Self::Lenient => "lenient",
            Self::Progress => "progress",
            Self::Bounded => "bounded",
            Self::Quiet => "quiet",
            Self::AntiAmplifying => "anti-amplifying",
            Self::Terminal => "terminal",
        })
    }
}

/// A machine broke a law.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// The seed with which it can be seen again.
    pub seed: u64,
    /// What was seen, and when, for the person who reads the failed test.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {} (seed {}): {}", self.law, self.seed, self.detail)
    }
}

impl std::error::Error for Violation {}
