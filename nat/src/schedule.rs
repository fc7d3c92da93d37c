//! What one side sends in a round, and when.

use std::collections::{BTreeSet, VecDeque};
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
    Meet(Meeting),
}

/// Two sequences that meet. The number of a datagram is that of the mapping that our NAT makes for it, since the peer was told of
/// the sequence: it counts what others of our datagrams made, and nothing is sent where a mapping is already.
#[derive(Debug)]
pub(crate) struct Meeting {
    pub(crate) ip: IpAddr,
    pub(crate) next: u16,
    pub(crate) delta: i16,
    pub(crate) we_are_first: bool,
    /// Mappings made since the peer was told.
    pub(crate) made: u16,
    /// Ports that were sent to.
    pub(crate) used: BTreeSet<u16>,
    /// Ports behind the sequence that were sent to only to keep the count.
    pub(crate) behind: u16,
}

impl Meeting {
    fn shot(&mut self) -> Option<SocketAddr> {
        if self.made >= limits::MAX_AHEAD {
            return None;
        }
        let (first, second) = offsets(self.made / MEET_RUN);
        let theirs = if self.we_are_first { second } else { first };
        let mut port = step(self.next, self.delta, i64::from(self.made) + i64::from(theirs));
        // A hostile step may lead to the same ports again and again: then it ends.
        let mut tries = 0;
        while !self.used.insert(port) {
            tries += 1;
            if tries > limits::MAX_AHEAD {
                return None;
            }
            self.behind = self.behind.saturating_add(1);
            port = step(self.next, self.delta, -i64::from(MEET_BEHIND) - i64::from(self.behind));
        }
        self.made += 1;
        Some(SocketAddr::new(self.ip, port))
    }
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
            Self::Meet(_) => limits::MEET_RATE,
        }
    }

    fn shot(&mut self) -> Option<(Socket, SocketAddr)> {
        match self {
            Self::Ahead { ip, next, delta, sent } => {
                let port = step(*next, *delta, i64::from(*sent));
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
            Self::Meet(meeting) => Some((Socket::Own, meeting.shot()?)),
        }
    }
}

/// By how many ports the sequences of the initiator and of the responder may be ahead of what was told, because others behind the
/// NAT made mappings, or behind it, because some were counted that the NAT did not make. Both sides assume the same in the run with
/// this number, so that their i-th datagrams meet: a square spiral around nothing, in which one of the two changes by one.
fn offsets(run: u16) -> (i32, i32) {
    let (mut at, mut direction) = ((0, 0), (1, 0));
    let mut left = i32::from(run);
    for length in 1.. {
        for _ in 0..2 {
            let walked = left.min(length);
            at = (at.0 + direction.0 * walked, at.1 + direction.1 * walked);
            left -= walked;
            direction = (-direction.1, direction.0);
        }
        if left == 0 {
            break;
        }
    }
    at
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

    /// Another datagram of ours made our NAT make a mapping.
    pub(crate) fn count_mapping(&mut self) {
        if let Some(Sweep::Meet(meeting)) = &mut self.sweep {
            meeting.made = meeting.made.saturating_add(1);
        }
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
const MEET_RUN: u16 = 5;
/// More than any sequence is assumed to be behind.
const MEET_BEHIND: u16 = 8;
/// Shots that may be made up for.
const BURST: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_offsets_up_to_four_are_tried_one_step_after_another() {
        let runs: Vec<(i32, i32)> = (0..limits::MAX_AHEAD / MEET_RUN).map(offsets).collect();
        assert_eq!(runs.get(..5), Some(&[(0, 0), (1, 0), (1, 1), (0, 1), (-1, 1)][..]));
        let steps = runs.iter().zip(runs.iter().skip(1)).map(|(a, b)| (a.0 - b.0).abs() + (a.1 - b.1).abs());
        assert!(steps.into_iter().all(|step| step == 1));
        let near: BTreeSet<(i32, i32)> = runs.iter().copied().filter(|(x, y)| x.abs() <= 4 && y.abs() <= 4).collect();
        assert!(runs.len() == 80 && near.len() == 80, "the 81st is (4, -4)");
    }

    #[test]
    fn every_datagram_of_a_meeting_makes_a_mapping_and_a_hostile_step_ends_it() {
        let meeting = |delta| Meeting {
            ip: [203, 0, 113, 1].into(),
            next: 40_000,
            delta,
            we_are_first: true,
            made: 3,
            used: (40_003..40_006).collect(),
            behind: 0,
        };
        let mut ports: BTreeSet<u16> = (40_003..40_006).collect();
        let mut fair = meeting(1);
        let mut shots = 0;
        while let Some(to) = fair.shot() {
            assert!(ports.insert(to.port()), "{to} twice");
            shots += 1;
        }
        assert_eq!(shots, limits::MAX_AHEAD - 3);
        let mut hostile = meeting(0);
        assert!(hostile.shot().is_some() && hostile.shot().is_none());
    }
}
