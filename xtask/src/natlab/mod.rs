//! `cargo xtask natlab`: two nodes that look for each other through every pair of NATs.
//!
//! Laboratories of network namespaces ([`lab`]) run side by side. In each, public hosts run nodes, and pairs of fresh nodes behind
//! NATs of chosen kinds meet, one dialling the other by its id alone ([`trial`]). What they should achieve is in [`goals`].
//! `cargo xtask natlab check` asks the NATs whether they are what they are said to be, and `real` runs servers and routers that others
//! wrote ([`real`]).

mod agent;
mod check;
mod goals;
mod janitor;
mod kind;
mod lab;
mod real;
mod table;
mod trial;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::report::{Report, Row, progress, say};
use crate::tools::{CONNTRACK, IP, NFT, Tool};
use crate::{UsageError, flags, workspace};

use goals::{Goal, Summary};
use janitor::Janitor;
use kind::Kind;
use lab::Lab;
use trial::{Case, Outcome, Programs, Scenario, Stage};

/// Meetings of a pair, of a pair to which something happens, and of a pair of a quick run.
const RUNS: usize = 20;
const RUNS_OF_OTHERS: usize = 5;
const RUNS_OF_QUICK: usize = 3;

/// Laboratories side by side: their nodes wait most of the time.
const JOBS: usize = 6;

/// How long all of it may take.
const GOAL: Duration = Duration::from_mins(60);

/// Meetings after which the next laboratory that is free takes over.
const SHARE: usize = 5;

use Kind::{AddrCone, FullCone, None as Open, PortClash, PortCone, SymRand, SymSeq, UdpBlock};

/// The pairs of a quick run: one of each group of goals.
const QUICK: [[Kind; 2]; 6] = [
    [Open, PortCone],
    [PortCone, PortCone],
    [PortCone, SymSeq],
    [PortCone, SymRand],
    [PortCone, PortClash],
    [SymRand, SymRand],
];

/// The pairs to which something happens. The second of a pair is never without a NAT: it is the one that changes its address.
const OTHERS: [[Kind; 2]; 6] = [
    [Open, PortCone],
    [FullCone, PortCone],
    [PortCone, PortCone],
    [PortCone, SymSeq],
    [PortCone, SymRand],
    [SymRand, SymRand],
];

/// Pairs that are relayed whatever they try.
const RELAYED: [[Kind; 2]; 6] = [
    [SymSeq, SymRand],
    [SymRand, SymRand],
    [PortClash, SymSeq],
    [Open, UdpBlock],
    [PortCone, UdpBlock],
    [UdpBlock, UdpBlock],
];

/// Runs what the command line asks for.
///
/// # Errors
/// When something unknown is asked for, and when the nodes cannot be built.
pub(crate) fn run(flags: &flags::Natlab) -> anyhow::Result<bool> {
    match flags.what.as_deref() {
        Some("reflector") => return check::reflect(),
        Some("prober") => return check::probe(),
        Some("echo") => return check::echo(),
        Some("hops") => return check::hops(),
        Some("check" | "real") | None => {}
        Some(other) => {
            return Err(
                UsageError(format!("natlab knows no `{other}`; there are `check` and `real`, or nothing")).into()
            );
        }
    }
    let wanted = Wanted::new(flags)?;
    let mut report = Report::new(flags.json.as_deref(), true)?;
    let sh = workspace::shell()?;
    if let Err(why) = possible(&sh) {
        report.push(Row::not_run("natlab", format!("skipped: {why}")))?;
        return Ok(report.finish());
    }
    if flags.what.as_deref() == Some("check") {
        let _janitor = Janitor::start(&sh)?;
        check::append(&mut report, &logs()?, &Lab::new(0)?)?;
    } else if flags.what.is_some() {
        real(&mut report, &sh, wanted.programs.as_deref())?;
    } else {
        let summaries = wanted.run(&mut report, &sh)?;
        if wanted.is_all {
            real(&mut report, &sh, wanted.programs.as_deref())?;
        }
        report.push(Row::figure("all of it", report.seconds(), "s", Some(GOAL.as_secs_f64())))?;
        say(&table::markdown(&summaries));
    }
    Ok(report.finish())
}

/// A few meetings, among the rows of another command.
///
/// # Errors
/// As [`run`].
pub(crate) fn quick(report: &mut Report) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    if let Err(why) = possible(&sh) {
        return report.push(Row::not_run("natlab", format!("skipped: {why}")));
    }
    Wanted::quick().run(report, &sh).map(drop)
}

/// The rows of what others wrote.
fn real(report: &mut Report, sh: &Shell, folder: Option<&Path>) -> anyhow::Result<()> {
    let program = programs(sh, folder)?.node;
    let _janitor = Janitor::start(sh)?;
    let logs = workspace::root().join("target/natlab/real");
    fs::create_dir_all(&logs)?;
    let lab = Lab::new(JOBS)?;
    real::coturn(report, sh, &lab, &program, &logs)?;
    real::miniupnpd(report, sh, &lab, &program, &logs)
}

/// Sees to it that there is all that is needed.
///
/// # Errors
/// What this machine or user lacks.
fn possible(sh: &Shell) -> Result<(), String> {
    let user = cmd!(sh, "id -u").quiet().read().map_err(|error| error.to_string())?;
    if user.trim() != "0" {
        return Err("it makes network namespaces, for which it has to be root".to_owned());
    }
    for (tool, package) in [(&IP, "iproute2"), (&NFT, "nftables"), (&CONNTRACK, "conntrack")] {
        install(sh, tool, package)?;
    }
    let name = format!("{}{}-try", lab::PREFIX, std::process::id());
    // What is made in it goes with it.
    let line = "ip netns add $1 && ip -n $1 link add x type veth peer name y && ip netns exec $1 nft add table ip x && \
                ip netns exec $1 nft 'add chain ip x y { type nat hook postrouting priority 100; }'; code=$?; ip netns del $1; exit $code";
    let output = Command::new("sh").args(["-c", line, "sh", &name]).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("network namespaces, veth or NAT by nftables are refused: {}", said.trim().replace('\n', "; ")))
}

fn install(sh: &Shell, tool: &Tool, package: &str) -> Result<(), String> {
    if tool.path().is_some() {
        return Ok(());
    }
    progress(&format!("{} is missing; installing {package}", tool.name));
    let update = || cmd!(sh, "apt-get update -qq").quiet().ignore_stdout().ignore_stderr().run();
    let install = || {
        let command = cmd!(sh, "apt-get install -y -qq --no-install-recommends {package}");
        command.env("DEBIAN_FRONTEND", "noninteractive").quiet().ignore_stdout().ignore_stderr().run()
    };
    // Lists may be old or missing; what counts is whether it is there in the end.
    if install().is_err() && update().is_ok() {
        let _ = install();
    }
    if tool.path().is_some() { Ok(()) } else { Err(tool.missing()) }
}

/// Makes the folder of the logs anew.
fn logs() -> anyhow::Result<PathBuf> {
    let logs = workspace::root().join("target/natlab");
    // What is left of another run may be missing.
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    Ok(logs)
}

/// What is to be run.
#[derive(Debug)]
struct Wanted {
    cases: Vec<(Case, usize)>,
    jobs: usize,
    quick: bool,
    /// Nothing was left out.
    is_all: bool,
    /// Where the programs are, if they were built before.
    programs: Option<PathBuf>,
}

/// Some meetings of a case.
#[derive(Clone, Copy, Debug)]
struct Share {
    case: Case,
    first: usize,
    count: usize,
}

impl Wanted {
    fn quick() -> Self {
        let cases = QUICK.map(|pair| (Case { scenario: Scenario::Plain, pair }, RUNS_OF_QUICK)).to_vec();
        Self { cases, jobs: JOBS, quick: true, is_all: false, programs: None }
    }

    fn new(flags: &flags::Natlab) -> anyhow::Result<Self> {
        let mut wanted = if flags.quick { Self::quick() } else { Self::all() };
        if let Some(names) = &flags.scenario {
            let known = Scenario::ALL.map(Scenario::name);
            if let Some(unknown) = names.split(',').find(|name| !known.contains(name)) {
                return Err(UsageError(format!("no scenario `{unknown}`; there are {}", known.join(", "))).into());
            }
            wanted.cases.retain(|(case, _)| names.split(',').any(|name| name == case.scenario.name()));
        }
        if let Some(pairs) = &flags.filter {
            let pairs = pairs.split(',').map(parse).collect::<anyhow::Result<Vec<_>>>()?;
            wanted.cases.retain(|(case, _)| pairs.iter().any(|pair| is_of(case.pair, *pair)));
        }
        if let Some(runs) = flags.runs {
            wanted.cases.iter_mut().for_each(|(_, count)| *count = runs as usize);
        }
        wanted.is_all &= flags.scenario.is_none() && flags.filter.is_none() && flags.runs.is_none();
        wanted.programs.clone_from(&flags.programs);
        wanted.jobs = flags.jobs.map_or(wanted.jobs, |jobs| jobs.max(1) as usize);
        Ok(wanted)
    }

    fn all() -> Self {
        let mut cases = Vec::new();
        for (at, a) in Kind::ALL.into_iter().enumerate() {
            for b in Kind::ALL.into_iter().skip(at) {
                cases.push((Case { scenario: Scenario::Plain, pair: [a, b] }, RUNS));
            }
        }
        for scenario in Scenario::ALL {
            let pairs = match scenario {
                Scenario::Plain => continue,
                Scenario::RelayKilled => RELAYED,
                // There is one NAT only.
                Scenario::Same => [FullCone, AddrCone, PortCone, PortClash, SymSeq, SymRand].map(|kind| [kind, kind]),
                _ => OTHERS,
            };
            cases.extend(pairs.map(|pair| (Case { scenario, pair }, RUNS_OF_OTHERS)));
        }
        Self { cases, jobs: JOBS, quick: false, is_all: true, programs: None }
    }

    /// Lets all of them meet, and adds a row for each case.
    fn run(&self, report: &mut Report, sh: &Shell) -> anyhow::Result<Vec<Summary>> {
        let programs = programs(sh, self.programs.as_deref())?;
        let logs = logs()?;
        let janitor = Janitor::start(sh)?;
        let mut shares = VecDeque::new();
        for (case, runs) in &self.cases {
            for first in (0..*runs).step_by(SHARE) {
                shares.push_back(Share { case: *case, first, count: SHARE.min(runs - first) });
            }
        }
        // What takes longest begins first.
        shares.make_contiguous().sort_by_key(|share| !share.case.scenario.is_trying());
        let jobs = self.jobs.min(shares.len());
        let file = logs.join("runs.jsonl");
        let file = File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
        let (queue, done) = (Mutex::new(shares), Mutex::new((file, Vec::new())));
        let outcome = std::thread::scope(|scope| {
            let (queue, done, programs, logs) = (&queue, &done, &programs, &logs);
            let workers: Vec<_> =
                (0..jobs).map(|number| scope.spawn(move || work(number, queue, done, programs, logs))).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a laboratory broke down")))
            })
        });
        drop(janitor);
        outcome?;
        let (_, mut outcomes) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcomes.sort_by_key(|(case, number, _): &(Case, usize, Outcome)| (*case, *number));
        let mut summaries = Vec::new();
        for (case, _) in &self.cases {
            let of: Vec<Outcome> =
                outcomes.iter().filter(|(other, ..)| other == case).map(|(.., outcome)| outcome.clone()).collect();
            let summary = Summary::new(*case, &of);
            report.push(summary.row(self.quick))?;
            summaries.push(summary);
        }
        Ok(summaries)
    }
}

type Done = (File, Vec<(Case, usize, Outcome)>);

/// One laboratory: takes shares until there are no more.
fn work(
    number: usize,
    queue: &Mutex<VecDeque<Share>>,
    done: &Mutex<Done>,
    programs: &Programs,
    logs: &Path,
) -> anyhow::Result<()> {
    let logs = logs.join(format!("lab{number}"));
    fs::create_dir_all(&logs)?;
    let mut stage = Stage::new(Lab::new(number)?, programs, &logs);
    loop {
        let share = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(Share { case, first, count }) = share else { return Ok(()) };
        stage.open()?;
        for number in first..first + count {
            let outcome = stage.run(case, Goal::of(case).settle(), number);
            tell(case, number, &outcome);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(done.0, "{}", outcome.json).context("cannot write the file of the runs")?;
            done.1.push((case, number, outcome));
        }
    }
}

fn tell(case: Case, number: usize, outcome: &Outcome) {
    let ms = |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.0} ms"));
    let why = if outcome.why.is_empty() { String::new() } else { format!(": {}", outcome.why) };
    let (first, direct) = (ms(outcome.first), ms(outcome.direct));
    let survived = outcome.survived.map(|s| format!(", lost {}, gap {:.0} ms, whole {}", s.lost, s.gap, s.whole));
    progress(&format!("{case} #{number}: answered {first}, direct {direct}{}{why}", survived.unwrap_or_default()));
}

/// The nodes: those of a folder, or else built, in a profile that the tests have built already.
fn programs(sh: &Shell, folder: Option<&Path>) -> anyhow::Result<Programs> {
    if let Some(folder) = folder {
        return Ok(Programs { node: folder.join("lab"), serve: folder.join("setowire") });
    }
    // With the features of the tests, which have built the libraries already.
    let command = cmd!(sh, "cargo build --quiet --workspace --all-features --example lab --bin setowire");
    progress(&format!("== {command}"));
    command.quiet().run()?;
    let metadata = cmd!(sh, "cargo metadata --no-deps --format-version 1").quiet().read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let target = Path::new(metadata["target_directory"].as_str().context("cargo names no target directory")?);
    Ok(Programs { node: target.join("debug/examples/lab"), serve: target.join("debug/setowire") })
}

/// `a-b`, or one kind with any other.
fn parse(text: &str) -> anyhow::Result<[Option<Kind>; 2]> {
    let kind = |name: &str| {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UsageError(format!("no kind `{name}`; there are {}", Kind::ALL.map(Kind::name).join(", "))))
    };
    Ok(match text.split_once('-') {
        Some((a, b)) => [Some(kind(a)?), Some(kind(b)?)],
        None => [Some(kind(text)?), None],
    })
}

fn is_of([a, b]: [Kind; 2], [one, other]: [Option<Kind>; 2]) -> bool {
    let fits = |kind: Kind, wanted: Option<Kind>| wanted.is_none_or(|wanted| wanted == kind);
    fits(a, one) && fits(b, other) || fits(b, one) && fits(a, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_meetings_as_promised() {
        let all = Wanted::all();
        let plain = all.cases.iter().filter(|(case, _)| case.scenario == Scenario::Plain);
        assert_eq!(plain.map(|(_, runs)| runs).sum::<usize>(), 36 * 20);
        for scenario in Scenario::ALL.into_iter().filter(|scenario| *scenario != Scenario::Plain) {
            let of = all.cases.iter().filter(|(case, _)| case.scenario == scenario);
            assert_eq!(of.map(|(_, runs)| runs).sum::<usize>(), 6 * 5, "{scenario:?}");
        }
        assert!(OTHERS.iter().all(|[_, second]| *second != Open));
    }

    #[test]
    fn pairs_are_chosen_in_either_order() {
        let is = |pair, text| is_of(pair, parse(text).unwrap());
        assert!(is([PortCone, SymRand], "symrand-portcone") && is([PortCone, SymRand], "symrand"));
        assert!(!is([PortCone, SymRand], "symrand-symrand") && !is([PortCone, AddrCone], "symrand"));
        assert!(parse("cone").is_err());
    }
}
