//! Runs: a server on one core, a client on the other, and the state of the machine around them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::process::{Process, Stream};
use crate::report::progress;
use crate::{UsageError, workspace};

use super::{Peer, paths, summary};

const CLIENT_CORE: &str = "0";
const SERVER_CORE: &str = "1";

/// Nanoseconds of a cache line's way between the two cores and back that part the two states of a machine. One of them
/// has been seen at about 70, the other at about 400.
const FAR: u64 = 150;

/// How often a run is repeated when the machine changes during it.
const ATTEMPTS: u32 = 3;

/// Work whose figures are memory, and the time of cores that have nothing to do with each other.
const INDIFFERENT: [&str; 1] = ["idle-1000"];

const READY: Duration = Duration::from_secs(20);
const DONE: Duration = Duration::from_secs(180);

/// How far the two cores are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// As under one cache.
    Near,
    /// As under two.
    Far,
}

impl State {
    fn of(nanoseconds: u64) -> Self {
        if nanoseconds < FAR { Self::Near } else { Self::Far }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }

    /// With the word that belongs to it.
    pub(super) const fn preposition(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far from",
        }
    }
}

/// One run that counts.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) peer: &'static str,
    pub(super) work: String,
    /// `None` for work that does not depend on it.
    pub(super) state: Option<State>,
    pub(super) figures: Value,
    round: u32,
    /// Nanoseconds before and after.
    probes: (u64, u64),
}

impl Run {
    pub(super) fn json(&self) -> Value {
        json!({
            "run": self.peer, "work": self.work, "round": self.round, "state": self.state.map(State::name),
            "probe_before_ns": self.probes.0, "probe_after_ns": self.probes.1, "figures": self.figures,
        })
    }

    #[cfg(test)]
    pub(super) fn example(peer: &'static str, work: &str, state: State, figures: Value) -> Self {
        Self { peer, work: work.to_owned(), state: Some(state), figures, round: 1, probes: (0, 0) }
    }
}

/// The programs, and what is known about them.
#[derive(Debug)]
pub(super) struct Session {
    programs: PathBuf,
    logs: PathBuf,
    quick: bool,
    /// By peer and work.
    limits: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Session {
    pub(super) fn new(programs: PathBuf, quick: bool) -> anyhow::Result<Self> {
        let logs = workspace::root().join("target/xtask-bench/peers");
        // Logs grow; those of the last time are not there the first time.
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs)?;
        Ok(Self { programs, logs, quick, limits: BTreeMap::new() })
    }

    pub(super) fn limits(&self) -> &BTreeMap<String, BTreeMap<String, Value>> {
        &self.limits
    }

    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    fn command(&self, program: &str) -> Command {
        Command::new(self.programs.join(format!("bench-{program}")))
    }

    /// The works of the table that somebody can do, with who can, or those of `only`.
    pub(super) fn works(
        &self,
        peers: &[&'static Peer],
        only: Option<&str>,
    ) -> anyhow::Result<Vec<(&'static str, Vec<&'static Peer>)>> {
        let mut works = summary::works();
        if let Some(only) = only {
            if let Some(name) = only.split(',').find(|name| !works.contains(name)) {
                return Err(UsageError(format!("there is no work `{name}`; there are {}", works.join(", "))).into());
            }
            works.retain(|work| only.split(',').any(|name| name == *work));
        } else {
            // They take long, and are asked for by name.
            works.retain(|work| paths::relay(work).is_none());
        }
        let mut able: Vec<(&str, Vec<&Peer>)> = works.into_iter().map(|work| (work, Vec::new())).collect();
        for peer in peers {
            let mut command = self.command(peer.name);
            let output = command.arg("works").stdin(Stdio::null()).output();
            let output = output.with_context(|| format!("cannot start {command:?}"))?;
            let text = String::from_utf8_lossy(&output.stdout);
            for (work, able) in &mut able {
                if text.lines().any(|line| line == paths::of_programs(work)) {
                    able.push(peer);
                }
            }
        }
        able.retain(|(_, able)| !able.is_empty());
        Ok(able)
    }

    /// How far the cores are from each other now.
    fn probe(&self) -> anyhow::Result<u64> {
        let mut command = self.command("probe");
        let output = command.args([CLIENT_CORE, SERVER_CORE]).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot start {command:?}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim()
            .parse()
            .with_context(|| format!("the probe says nothing: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// One run, repeated while the machine changes during it.
    pub(super) fn run(&mut self, peer: &'static Peer, work: &str, round: u32) -> anyhow::Result<Run> {
        for _ in 0..ATTEMPTS {
            let before = self.probe()?;
            let figures = self.once(peer.name, work)?;
            let after = self.probe()?;
            let (state, then) = (State::of(before), State::of(after));
            let what = format!("round {round}, {work}, {}", peer.name);
            let indifferent = INDIFFERENT.contains(&work);
            // What a path lets through does not depend on it, as long as it is less than the machine can do.
            if indifferent || paths::relay(work).is_some() || state == then {
                let state = (!indifferent).then_some(state);
                progress(&format!("{what}: {} ({before}, {after} ns)", summary::line(work, &figures)));
                let probes = (before, after);
                return Ok(Run { peer: peer.name, work: work.to_owned(), state, figures, round, probes });
            }
            progress(&format!("{what}: dropped, the machine changed ({before}, {after} ns)"));
        }
        bail!("the machine changed in each of {ATTEMPTS} runs")
    }

    /// The figures of one run.
    fn once(&mut self, peer: &str, work: &str) -> anyhow::Result<Value> {
        let own = paths::of_programs(work);
        let mut command = self.command(peer);
        command.args(["server", own, "--cpu", SERVER_CORE]);
        let mut server = Process::spawn(command, &format!("{peer}-server"), &self.logs)?;
        let ready = server.wait("ticket", READY, |line| object(line, "ticket"))?;
        self.limits.entry(peer.to_owned()).or_default().insert(work.to_owned(), ready["limits"].clone());
        let mut ticket = ready["ticket"].as_str().context("a ticket that is no text")?.to_owned();
        let mut _relay = None;
        if let Some(options) = paths::relay(work) {
            let mut command = self.command("relay");
            command.arg(paths::server(&ticket).context("a ticket without an address")?).args(options);
            let mut relay = Process::spawn(command, &format!("{peer}-relay"), &self.logs)?;
            let address = relay.wait("address", READY, |line| (line.0 == Stream::Out).then(|| line.1.clone()))?;
            ticket = paths::by_way_of(address.trim(), &ticket).context("a ticket that leads past the relay")?;
            _relay = Some(relay);
        }
        let mut command = self.command(peer);
        command.args(["client", own, "--cpu", CLIENT_CORE, "--ticket", &ticket]);
        if self.quick {
            command.arg("--quick");
        }
        let mut client = Process::spawn(command, &format!("{peer}-client"), &self.logs)?;
        let mut complaint = String::new();
        let done = client.wait("figures", DONE, |line| {
            if line.0 == Stream::Err {
                complaint.clone_from(&line.1);
            }
            object(line, "figures")
        });
        Ok(done.with_context(|| format!("it says `{complaint}`"))?["figures"].clone())
    }
}

/// The line as an object, if it has this member.
fn object((stream, line): &(Stream, String), member: &str) -> Option<Value> {
    let object: Value = serde_json::from_str(line).ok().filter(|_| *stream == Stream::Out)?;
    object.get(member).is_some().then_some(object)
}
