//! `cargo xtask sim dht`: networks of thousands of nodes in virtual time.
//!
//! The simulation is the example `network` of `setowire-dht`, which has the simulator at hand; here it is built and started, and its
//! lines become rows. The same seed gives the same figures on every machine, so a goal that is missed is a failure.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use xshell::{Cmd, cmd};

use crate::programs::Programs;
use crate::report::{Report, Row, Verdict, progress};
use crate::{UsageError, flags, steps, workspace};

/// Runs the simulation.
///
/// # Errors
/// For an area that does not exist, and when cargo cannot be started.
pub(crate) fn run(flags: &flags::Sim) -> anyhow::Result<bool> {
    if flags.area != "dht" {
        return Err(UsageError(format!("there is no simulation `{}`; there is `dht`", flags.area)).into());
    }
    let mut options = Vec::new();
    let numbers = [
        ("--nodes", flags.nodes.map(u64::from)),
        ("--seed", flags.seed),
        ("--queries", flags.queries.map(u64::from)),
        ("--minutes", flags.minutes.map(u64::from)),
        ("--loss", flags.loss.map(u64::from)),
    ];
    for (name, value) in numbers {
        options.extend(value.into_iter().flat_map(|value| [name.to_owned(), value.to_string()]));
    }
    for (name, value) in [("--start", &flags.start), ("--only", &flags.only)] {
        options.extend(value.iter().flat_map(|value| [name.to_owned(), value.clone()]));
    }
    let mut report = Report::new(flags.json.as_deref(), true)?;
    let sh = workspace::shell()?;
    let command = cmd!(
        sh,
        "cargo run --quiet -p setowire-dht --features crypto/fast --example network --release -- {options...}"
    );
    start(command)?.report(&mut report)?;
    Ok(report.finish())
}

/// A thousand nodes, less of everything, with programs that are built already.
///
/// # Errors
/// As [`run`].
pub(crate) fn quick(report: &mut Report, programs: &Programs) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let program = programs.example("network");
    // Each is one thread, and the two take about as long.
    let runs = ["calm,churn,liars20,liars40", "subnet"].map(|only| {
        let options = "--nodes 1000 --queries 100 --minutes 3 --start tables --only".split(' ');
        start(cmd!(sh, "{program} {options...} {only}"))
    });
    for run in runs {
        run?.report(report)?;
    }
    Ok(())
}

/// A simulation that runs.
#[derive(Debug)]
struct Running {
    line: String,
    child: Child,
}

fn start(command: Cmd<'_>) -> anyhow::Result<Running> {
    let line = command.to_string();
    progress(&format!("== {line}"));
    let mut child = Command::from(command);
    child.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = child.spawn().with_context(|| format!("cannot start `{line}`"))?;
    Ok(Running { line, child })
}

impl Running {
    /// Waits for its rows, and its end.
    fn report(mut self, report: &mut Report) -> anyhow::Result<()> {
        let out = self.child.stdout.take().context("a child without its output")?;
        for printed in BufReader::new(out).lines() {
            let printed = printed?;
            report
                .push(row(&printed).unwrap_or_else(|| Row::failed("simulation", format!("it printed `{printed}`"))))?;
        }
        let status = self.child.wait()?;
        if !status.success() {
            report.push(Row::failed("simulation", format!("it ended with {status}; {}", steps::repeat(&self.line))))?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of the simulation: name, value, unit, bound, goal, note.
fn row(line: &str) -> Option<Row> {
    let mut cells = line.split('\t');
    let (name, value, unit) = (cells.next()?, cells.next()?.parse().ok()?, cells.next()?);
    let (bound, goal, note) = (cells.next()?, cells.next()?, cells.next()?);
    let goal = if bound.is_empty() { None } else { Some(goal.parse().ok()?) };
    let row =
        if bound == "least" { Row::at_least(name, value, unit, goal?) } else { Row::figure(name, value, unit, goal) };
    let verdict = if row.verdict == Verdict::Missed { Verdict::Failed } else { row.verdict };
    Some(Row { verdict, ..row }.noting(note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_row() {
        let verdict = |line: &str| row(line).unwrap().verdict;
        assert_eq!(verdict("calm: values found\t99.5\t%\tleast\t99.9\tn=400"), Verdict::Failed);
        assert_eq!(verdict("calm: values found\t100.0\t%\tleast\t99.9\tn=400"), Verdict::Ok);
        assert_eq!(verdict("calm: time\t6.1\tRTT\tmost\t6.00\t"), Verdict::Failed);
        assert_eq!(verdict("calm: time\t6.1\tRTT\t\t\tp90 7"), Verdict::Ok);
        assert_eq!(row("calm: time\t6.1\tRTT"), None);
        assert_eq!(row("calm: time\tsoon\tRTT\t\t\t"), None);
    }
}
