//! What one side sends in a round, and when.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crypto::Rng;

use crate::limits;
use crate::observe::step;

/// One probe that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shot {
    /// From the socket of the round, or from one of the others.
    pub(crate) socket: Socket,
    pub(crate) to: SocketAddr,
    /// It is to die on its way.
    pub(crate) opener: bool,
}

/// From which socket something leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    /// The one of the round.
    Own,
    /// One of those that were opened for this plan, from 0.
    Extra(u16),
}

/// A row of probes to ever other places, at a fixed rate.
#[derive(Debug)]
pub(crate) enum Sweep {
    /// To the ports of `ip` from `next` on.
    Ahead { ip: IpAddr, next: u16, delta: i16, sent: u16 },
    /// To ports of `ip` that are all different and in no order.
    Scatter { ip: IpAddr, at: u64, stride: u64, left: u16 },
    /// To one address from ever other sockets, all of them a second time in the end.
    Spray { to: SocketAddr, sockets: u16, sent: u16 },
    /// To the port that the other side's next mapping will have.
    Meet { ip: IpAddr, next: u16, delta: i16, we_are_first: bool, sent: u16 },
}

impl Sweep {
    pub(crate) fn scatter(ip: IpAddr, left: u16, rng: &mut Rng) -> Self {
        // A stride without a factor in common with the number of ports visits each of them once.
        let stride = loop {
            let stride = rng.below(PORTS) | 1;
            if gcd(stride, PORTS) == 1 {
                break stride;
            }
        };
        Self::Scatter { ip, at: rng.below(PORTS), stride, left }
    }

    const fn rate(&self) -> u32 {
        match self {
            Self::Ahead { .. } | Self::Scatter { .. } | Self::Spray { .. } => limits::SEARCH_RATE,
            Self::Meet { .. } => limits::MEET_RATE,
        }
    }

    fn shot(&mut self) -> Option<(Socket, SocketAddr)> {
        match self {
            Self::Ahead { ip, next, delta, sent } => {
                let port = step(*next, *delta, usize::from(*sent));
                *sent = sent.checked_add(1).filter(|sent| *sent <= limits::MAX_AHEAD)?;
                Some((Socket::Own, SocketAddr::new(*ip, port)))
            }
            Self::Scatter { ip, at, stride, left } => {
                *left = left.checked_sub(1)?;
                *at = (*at + *stride) % PORTS;
                let port = u16::try_from(FIRST_PORT + *at).ok()?;
                Some((Socket::Own, SocketAddr::new(*ip, port)))
            }
            Self::Spray { to, sockets, sent } => {
                if *sent >= sockets.saturating_mul(2) {
                    return None;
                }
                let socket = *sent % (*sockets).max(1);
                *sent += 1;
                Some((Socket::Extra(socket), *to))
            }
            Self::Meet { ip, next, delta, we_are_first, sent } => {
                if *sent >= limits::MAX_AHEAD {
                    return None;
                }
                let (first, second) = offsets(*sent / MEET_RUN);
                let theirs = if *we_are_first { second } else { first };
                let port = step(*next, *delta, usize::from(*sent + theirs));
                *sent += 1;
                Some((Socket::Own, SocketAddr::new(*ip, port)))
            }
        }
    }
}

/// By how many ports the initiator and the responder may have been overtaken by others behind their NATs, in the run with this
/// number. Both sides assume the same in the same run, and the i-th datagrams of both meet: first none, then ever more.
fn offsets(run: u16) -> (u16, u16) {
    let mut left = run;
    for sum in 0.. {
        if left <= sum {
            return (sum - left, left);
        }
        left -= sum + 1;
    }
    (0, 0)
}

/// What one side sends in a round.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// All of these are sent to with every try.
    targets: Vec<SocketAddr>,
    due: VecDeque<Shot>,
    /// Since when.
    due_since: Option<Instant>,
    start: Option<Instant>,
    tries: usize,
    next_try: Option<Instant>,
    sweep: Option<Sweep>,
    next_shot: Option<Instant>,
}

impl Schedule {
    /// Begins at `start`, the openers at once: two to each target, for one may be lost.
    pub(crate) fn new(
        targets: Vec<SocketAddr>,
        sweep: Option<Sweep>,
        opener: bool,
        start: Instant,
        now: Instant,
    ) -> Self {
        let openers = targets.iter().chain(&targets).filter(|_| opener);
        let due = openers.map(|to| Shot { socket: Socket::Own, to: *to, opener: true }).collect();
        let next_try = (!targets.is_empty()).then_some(start);
        let next_shot = sweep.is_some().then_some(start);
        Self { targets, due, due_since: Some(now), start: Some(start), tries: 0, next_try, sweep, next_shot }
    }

    pub(crate) fn targets(&self) -> &[SocketAddr] {
        &self.targets
    }

    /// The next shot that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Shot> {
        if let Some(shot) = self.due.pop_front() {
            return Some(shot);
        }
        if self.next_try.is_some_and(|at| at <= now) {
            let wait = limits::TRIES.get(self.tries).map(|wait| Duration::from_millis((*wait).into()));
            self.next_try = self.start.zip(wait).map(|(start, wait)| start + wait);
            self.tries += 1;
            self.due.extend(self.targets.iter().map(|to| Shot { socket: Socket::Own, to: *to, opener: false }));
            return self.due.pop_front().or_else(|| self.pop(now));
        }
        let at = self.next_shot.filter(|at| *at <= now)?;
        let Some(((socket, to), rate)) = self.sweep.as_mut().and_then(|sweep| Some((sweep.shot()?, sweep.rate())))
        else {
            self.next_shot = None;
            return None;
        };
        let interval = Duration::from_secs(1) / rate;
        // Who wakes late catches up a little and gives up the rest: a burst is not what the rate means.
        let earliest = now.checked_sub(interval * BURST).unwrap_or(at);
        self.next_shot = Some(at.max(earliest) + interval);
        Some(Shot { socket, to, opener: false })
    }

    /// When the next one is.
    pub(crate) fn next(&self) -> Option<Instant> {
        let queued = self.due_since.filter(|_| !self.due.is_empty());
        [queued, self.next_try, self.next_shot].into_iter().flatten().min()
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The ports that NATs give.
const FIRST_PORT: u64 = 1024;
const PORTS: u64 = 65_536 - FIRST_PORT;
/// Datagrams of one run.
const MEET_RUN: u16 = 8;
/// Shots that may be made up for.
const BURST: u32 = 16;
