//! One function for each law.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crypto::Seed;
use structs::{Datagram, Machine, Path, TransmitBuf};

use super::hostile::{Hostile, index};
use super::rig::{Manners, Plan, Record, Rig, Watch, compare, paths};
use super::{Law, Reply, Subject, Violation};
use crate::drive::{self, MAX_SEGMENTS};
use crate::{Link, clock};

/// Runs every law with every seed.
///
/// # Errors
///
/// The first [`Violation`].
pub fn check_all<S: Subject>(subject: &S, seeds: impl IntoIterator<Item = u64>) -> Result<(), Violation> {
    for seed in seeds {
        quiet(subject, seed)?;
        progress(subject, seed)?;
        pure(subject, seed)?;
        monotonic(subject, seed)?;
        lenient(subject, seed)?;
        bounded(subject, seed)?;
        anti_amplifying(subject, seed)?;
        terminal(subject, seed)?;
    }
    Ok(())
}

/// Two machines that are built and called alike put out the same datagrams, events, replies and deadlines.
///
/// # Errors
///
/// A [`Violation`] names the first output that differs.
pub fn pure<S: Subject>(subject: &S, seed: u64) -> Result<(), Violation> {
    guard(Law::Pure, seed, || {
        let plain = run(subject, Plan::new(seed))?;
        compare(&plain, &run(subject, Plan::new(seed))?)
    })
}

/// A machine that is given times up to ten seconds older than the newest it has seen puts out what it would with the
/// newest.
///
/// # Errors
///
/// A [`Violation`] names the first output that differs.
pub fn monotonic<S: Subject>(subject: &S, seed: u64) -> Result<(), Violation> {
    guard(Law::Monotonic, seed, || {
        let plain = run(subject, Plan::new(seed))?;
        compare(&plain, &run(subject, Plan::new(seed).manners(Manners::Backward))?)
    })
}

/// `handle_timeout` before the deadline, and twice at the deadline, changes no output. Drains may be put off for up to
/// twenty inputs, and the machines go on.
///
/// # Errors
///
/// A [`Violation`] names the first output that differs.
pub fn lenient<S: Subject>(subject: &S, seed: u64) -> Result<(), Violation> {
    guard(Law::Lenient, seed, || {
        let plain = run(subject, Plan::new(seed))?;
        compare(&plain, &run(subject, Plan::new(seed).manners(Manners::Eager))?)?;
        run(subject, Plan::new(seed).manners(Manners::Lazy).watch(Watch::Progress)).map(|_| ())
    })
}

/// After every timeout, punctual or late, and a drain, the deadline lies ahead or is gone.
///
/// # Errors
///
/// A [`Violation`] names the deadline that does not move.
pub fn progress<S: Subject>(subject: &S, seed: u64) -> Result<(), Violation> {
    guard(Law::Progress, seed, || {
        for manners in [Manners::Simple, Manners::Late] {
            for link in [weather(), Link::dead()] {
                run(subject, Plan::new(seed).manners(manners).link(link).watch(Watch::Progress))?;
            }
        }
        Ok(())
    })
}

/// The buffers keep to their limit after every single call: over a bad link, over none, with lazy drains, and with
/// hostile datagrams among the commands.
///
/// # Errors
///
/// A [`Violation`] tells how much was held.
pub fn bounded<S: Subject>(subject: &S, seed: u64) -> Result<(), Violation> {
    guard(Law::Bounded, seed, || {
        for (link, hostile) in [(weather(), 30), (Link::mobile().loss(0.5), 10), (Link::dead(), 0)] {
            for manners in [Manners::Simple, Manners::Lazy] {
                run(subject, Plan::new(seed).link(link).hostile(hostile).manners(manners).watch(Watch::Bounds))?;
            }
        }
        Ok(())
    })
}

/// Noise, and real datagrams replayed, cut, grown, bent and crossed, from the peer and from strangers, make no machine
/// panic.
///
/// # Errors
///
/// A [`Violation`] with what the panic said.
pub fn quiet<S: Subject>(subject: &S, seed: u64) -> Result<(), Violation> {
    guard(Law::Quiet, seed, || {
        run(subject, Plan::new(seed).hostile(80))?;
        // On top of it, the same for machines that have never met anybody.
        let mut rig = Rig::new(subject, Plan::new(seed).link(Link::dead()))?;
        for step in 0..u64::from(subject.steps()) {
            rig.run_until(Duration::from_millis(step * 10))?;
            let payload = rig.hostile.datagram();
            let from = rig.hostile.stranger(subject.addresses());
            rig.inject(usize::from(step % 2 == 0), from, payload)?;
        }
        rig.run()
    })
}

/// Strangers that send noise, the recorded first datagrams of a dial, or distorted ones, never get more bytes back than
/// they sent (and the [budget](Subject::stranger_budget) of the machine itself), at any moment and however long they
/// wait.
///
/// The first datagrams are what a machine sends that never hears an answer: valid to the last bit for the victim, which
/// is built from the same seed, but sent from another address, by somebody who cannot read the answers.
///
/// # Errors
///
/// A [`Violation`] names the stranger and both amounts.
pub fn anti_amplifying<S: Subject>(subject: &S, seed: u64) -> Result<(), Violation> {
    guard(Law::AntiAmplifying, seed, || {
        for dialler in [0, 1] {
            let first = first_datagrams(subject, seed, dialler)?;
            reflect(subject, seed, 1 - dialler, &first)?;
        }
        Ok(())
    })
}

/// A machine that was told to close ends within five minutes. From then on it sends nothing, wants no timeout and
/// replies to every command that it is closed, whatever arrives.
///
/// # Errors
///
/// A [`Violation`] tells what it still did.
pub fn terminal<S: Subject>(subject: &S, seed: u64) -> Result<(), Violation> {
    guard(Law::Terminal, seed, || {
        let mut moments = Seed::fixed(seed).fork("close").rng();
        for (link, latest) in [(weather(), 20_000), (weather(), 500), (Link::dead(), 5_000)] {
            let mut rig = Rig::new(subject, Plan::new(seed).link(link))?;
            rig.run_until(Duration::from_millis(moments.below(latest)))?;
            // The last commands leave it with work on its hands.
            for _ in 0..moments.below(4) + 1 {
                rig.command(0, moments.next_u64())?;
            }
            let (machine, now) = rig.machine(0);
            subject.close(machine, now);
            rig.drain(0)?;
            let closed_at = rig.elapsed();
            while !subject.is_closed(rig.machine(0).0) {
                let now = rig.elapsed();
                if now > closed_at + LONGEST_GOODBYE {
                    return Err(format!("told to close at {closed_at:?} and not closed {LONGEST_GOODBYE:?} later"));
                }
                rig.run_until(now + Duration::from_millis(50))?;
            }
            rig.drain(0)?;
            silence(subject, &mut rig)?;
        }
        Ok(())
    })
}

/// Provokes a machine that has ended.
fn silence<S: Subject>(subject: &S, rig: &mut Rig<'_, S>) -> Result<(), String> {
    let sent_before = rig.sent(0);
    for step in 0..100 {
        let at = rig.elapsed();
        let provocation = match step % 4 {
            0 => {
                let (machine, now) = rig.machine(0);
                machine.handle_timeout(now);
                "a timeout"
            }
            1 => {
                let (payload, from) = (rig.hostile.datagram(), rig.hostile.stranger(subject.addresses()));
                rig.inject(0, from, payload)?;
                "a datagram"
            }
            2 => match rig.command(0, step)? {
                Reply::Closed => "a command",
                reply => return Err(format!("ended, and replied {reply:?} to a command at {at:?}")),
            },
            _ => "the time that passed",
        };
        rig.drain(0)?;
        let sent = rig.sent(0) - sent_before;
        if sent > 0 {
            return Err(format!("ended, and sent {sent} datagrams after {provocation} at {at:?}"));
        }
        if let Some(deadline) = rig.deadline(0) {
            return Err(format!("ended, and wants {:?} after {provocation} at {at:?}", deadline.reason));
        }
        rig.run_until(at + Duration::from_millis(step * 10))?;
    }
    Ok(())
}

/// What a machine sends to the other while it hears nothing.
fn first_datagrams<S: Subject>(subject: &S, seed: u64, dialler: usize) -> Result<Vec<Vec<u8>>, String> {
    let root = Seed::fixed(seed);
    let mut ops = root.fork("first").rng();
    let paths = paths([subject.addresses().at(0), subject.addresses().at(1)]);
    let mut machines = subject.fresh(root.fork("machines"), paths, clock::base());
    let (machine, mut out) = (&mut machines[dialler], TransmitBuf::new(MAX_SEGMENTS));
    let mut first = Vec::new();
    for turn in 0..20 {
        let now = clock::instant(Duration::from_secs(turn));
        if turn > 0 && turn < 8 {
            let _ = subject.command(machine, ops.next_u64(), now);
        }
        machine.handle_timeout(now);
        let keep = |path: Path, _, datagram: &[u8]| {
            if path.remote == paths[dialler].remote && first.len() < MOST_FIRST {
                first.push(datagram.to_vec());
            }
        };
        drive::drain(machine, &mut out, now, keep, |_| ()).map_err(|runaway| runaway.to_string())?;
    }
    Ok(first)
}

/// Lets strangers send to one machine, and keeps the account of each.
fn reflect<S: Subject>(subject: &S, seed: u64, victim: usize, first: &[Vec<u8>]) -> Result<(), String> {
    let root = Seed::fixed(seed);
    let mut dice = root.fork("strangers").rng();
    let mut hostile = Hostile::new(root.fork("hostile").rng());
    first.iter().for_each(|datagram| hostile.learn(datagram));
    let paths = paths([subject.addresses().at(0), subject.addresses().at(1)]);
    let mut machines = subject.fresh(root.fork("machines"), paths, clock::base());
    let (machine, mut out) = (&mut machines[victim], TransmitBuf::new(MAX_SEGMENTS));
    let mut accounts: BTreeMap<SocketAddr, Account> = BTreeMap::new();

    let mut at = Duration::ZERO;
    for turn in 0..subject.steps() + QUIET_TURNS {
        if turn < subject.steps() {
            at += Duration::from_millis(dice.below(300));
            let real = first.get(index(&mut dice, first.len())).cloned().unwrap_or_default();
            // Some come back and keep to their own way; most send one datagram, so that nothing they sent before
            // makes up for what they get for it.
            let regular = dice.below(3) == 0;
            let number = if regular { u32::try_from(dice.below(REGULARS)).unwrap_or(0) } else { 100 + turn };
            let from = subject.addresses().at(200 + number);
            let mut payload = match number % 5 {
                0 => hostile.noise(),
                1 => real,
                2 => hostile.datagram(),
                3 => {
                    // What is barely enough to be answered gains the most.
                    let mut cut = real;
                    cut.truncate(index(&mut dice, SHORTEST));
                    cut
                }
                _ => {
                    let mut bent = real;
                    hostile.bend(&mut bent);
                    bent
                }
            };
            accounts.entry(from).or_default().received += payload.len() as u64;
            let path = Path { remote: from, ..paths[victim] };
            // The machine counts what it refuses.
            let _ = machine.handle_datagram(Datagram::new(path, &mut payload), clock::instant(at));
        } else {
            let due = machine.poll_timeout().map_or(Duration::MAX, |deadline| clock::offset(deadline.at));
            at = due.clamp(at + Duration::from_millis(1), at + Duration::from_secs(10));
        }
        let now = clock::instant(at);
        if machine.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            machine.handle_timeout(now);
        }
        let charge = |path: Path, _, datagram: &[u8]| {
            if let Some(account) = accounts.get_mut(&path.remote) {
                account.sent += datagram.len() as u64;
            }
        };
        drive::drain(machine, &mut out, now, charge, |_| ()).map_err(|runaway| runaway.to_string())?;
        for (stranger, account) in &accounts {
            if account.sent > account.received + subject.stranger_budget() {
                let Account { sent, received } = account;
                return Err(format!("{stranger} sent {received} bytes and was sent {sent} by {at:?}"));
            }
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Account {
    /// By the victim, from the stranger.
    received: u64,
    /// By the victim, to the stranger.
    sent: u64,
}

fn run<S: Subject>(subject: &S, plan: Plan) -> Result<Vec<Record>, String> {
    let mut rig = Rig::new(subject, plan)?;
    rig.run()?;
    Ok(rig.log)
}

impl Plan {
    fn new(seed: u64) -> Self {
        Self { seed, link: weather(), hostile: 20, manners: Manners::Simple, watch: Watch::Nothing }
    }

    fn link(self, link: Link) -> Self {
        Self { link, ..self }
    }

    fn hostile(self, hostile: u64) -> Self {
        Self { hostile, ..self }
    }

    fn manners(self, manners: Manners) -> Self {
        Self { manners, ..self }
    }

    fn watch(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }
}

/// A link on which everything happens within a short run.
fn weather() -> Link {
    Link::perfect()
        .delay(Duration::from_millis(20))
        .jitter(Duration::from_millis(20))
        .loss(0.05)
        .reorder(0.05, Duration::from_millis(40))
        .duplicate(0.05)
        .corrupt(0.02)
}

/// Runs a law and makes a violation of what it finds, a panic included.
fn guard(law: Law, seed: u64, check: impl FnOnce() -> Result<(), String>) -> Result<(), Violation> {
    let detail = match catch_unwind(AssertUnwindSafe(check)) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(detail)) => detail,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", text.unwrap_or("without a word"))
        }
    };
    Err(Violation { law, seed, detail })
}

/// Far beyond any drain of send buffers that a user would wait for.
const LONGEST_GOODBYE: Duration = Duration::from_secs(300);
/// As many first datagrams as are worth replaying.
const MOST_FIRST: usize = 32;
/// Below this many bytes an answer is most likely the longer one.
const SHORTEST: usize = 64;
/// How many strangers come back.
const REGULARS: u64 = 8;
/// How many timers the victim may let fire after the last datagram.
const QUIET_TURNS: u32 = 100;
