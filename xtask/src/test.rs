//! `cargo xtask test`: what the README calls.

use std::io::{BufRead as _, BufReader};
use std::num::NonZeroUsize;
use std::process::{Child, Command, Stdio};
use std::{env, fs, thread};

use anyhow::Context as _;
use serde_json::json;
use xshell::{Cmd, Shell, cmd};

use crate::report::{Report, Row, Verdict, progress, say};
use crate::{flags, steps, workspace};

/// Names the file in which a test that finds it cannot run on this machine leaves a line `test: reason`.
const SKIPS: &str = "SETOWIRE_SKIPPED_TESTS";

/// Tells the harness how many tests of a program run at once; without it one on each core.
const THREADS: &str = "RUST_TEST_THREADS";

/// Runs all tests.
///
/// # Errors
/// When cargo cannot be started or a file of the report not written.
pub(crate) fn run(flags: &flags::Test) -> anyhow::Result<bool> {
    let mut report = Report::new(flags.json.as_deref(), true)?;
    append(&mut report)?;
    Ok(report.finish())
}

/// Runs all tests into `report`; `Ok(false)` when some failed.
///
/// # Errors
/// As [`run`].
pub(crate) fn append(report: &mut Report) -> anyhow::Result<bool> {
    let sh = workspace::shell()?;
    let skips = sh.current_dir().join("target").join("skipped-tests.txt");
    sh.write_file(&skips, "")?;
    sh.set_var(SKIPS, &skips);
    if env::var_os(THREADS).is_none() {
        // Tests of nodes wait for each other's datagrams and timers most of the time.
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        sh.set_var(THREADS, (2 * cores).to_string());
    }

    let ahead = match cmd!(sh, "cargo test --workspace --all-features --no-run").quiet().run() {
        Ok(()) => Ahead::start(&sh),
        // What keeps them from being built is told below.
        Err(_) => None,
    };
    suite(report, "tests of the workspace", cmd!(sh, "cargo test --workspace --all-features --no-fail-fast"))?;
    drop(ahead);
    replay(report, &sh)?;
    for line in fs::read_to_string(&skips)?.lines() {
        let (name, why) = line.split_once(": ").unwrap_or((line, "no reason given"));
        report.push(Row::not_run(name, why))?;
    }
    Ok(report.is_clean())
}

/// The build of the fuzz targets, while tests wait for each other and leave much of the processor to others. It goes on with what
/// they leave, and is waited for with the end of the value.
#[derive(Debug)]
struct Ahead(Child);

impl Ahead {
    /// None where it would stand in the way: in a folder for all builds cargo runs one at a time.
    fn start(sh: &Shell) -> Option<Self> {
        if !cfg!(unix) || env::var_os("CARGO_TARGET_DIR").is_some() || !sh.path_exists("fuzz/Cargo.toml") {
            return None;
        }
        let build = cmd!(sh, "nice -n 19 cargo test --manifest-path fuzz/Cargo.toml --no-run --quiet");
        // It is told, and fails again, when the tests are run.
        let (out, err) = (Stdio::null(), Stdio::null());
        Command::from(build).stdin(Stdio::null()).stdout(out).stderr(err).spawn().ok().map(Self)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

/// The committed inputs of the fuzz targets, as ordinary tests of the crate in `fuzz`.
fn replay(report: &mut Report, sh: &Shell) -> anyhow::Result<()> {
    let name = "replay of the fuzz corpora";
    if sh.path_exists("fuzz/Cargo.toml") {
        suite(report, name, cmd!(sh, "cargo test --manifest-path fuzz/Cargo.toml --no-fail-fast"))
    } else {
        report.push(Row::not_run(name, "there is no folder `fuzz`"))
    }
}

/// One run of `cargo test`: its output goes to the terminal as it comes, and is counted on the way.
fn suite(report: &mut Report, name: &str, command: Cmd<'_>) -> anyhow::Result<()> {
    let line = steps::in_shell(&[], &command);
    progress(&format!("== {name}: {line}"));
    let before = report.seconds();
    let mut child = Command::from(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for text in BufReader::new(stdout).lines() {
            let text = text?;
            say(&text);
            tally.read(&text);
        }
    }
    let succeeded = child.wait()?.success();
    let seconds = report.seconds() - before;
    let note = if succeeded { format!("in {seconds:.1} s") } else { tally.blame(&line) };
    let row = Row { value: json!(tally.passed), unit: "passed".into(), ..Row::passed(name, note) };
    report.push(if succeeded { row } else { Row { verdict: Verdict::Failed, ..row } })?;
    for (test, why) in tally.ignored {
        report.push(Row::not_run(test, why))?;
    }
    Ok(())
}

/// What the lines of the test harness add up to.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    passed: u64,
    failed: Vec<String>,
    /// Tests left out by an attribute, with the reason it gives.
    ignored: Vec<(String, String)>,
}

impl Tally {
    /// Takes in one line of output, such as `test codec::short ... ok` or `test result: ok. 3 passed; ..`.
    fn read(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let passed = rest.split(['.', ';']).find_map(|part| part.trim().strip_suffix(" passed"));
            self.passed += passed.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        } else if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            // A block of documentation marked `ignore` or `compile_fail` is an example, not a test that is left out.
            if let Some(why) = outcome.strip_prefix("ignored")
                && !name.contains(" (line ")
            {
                let why = why.trim_start_matches([',', ' ']);
                let why = if why.is_empty() { "marked `ignore` without a reason" } else { why };
                self.ignored.push((name.to_owned(), why.to_owned()));
            } else if outcome.starts_with("FAILED") {
                self.failed.push(name.to_owned());
            }
        }
    }

    /// The note of a run that failed.
    fn blame(&self, line: &str) -> String {
        if self.failed.is_empty() {
            return steps::repeat(line);
        }
        format!("failed: {}; {}", self.failed.join(", "), steps::repeat(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_the_harness_adds_up() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test a::d ... ignored, needs root",
            "test src/lib.rs - x (line 7) ... ignored",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 41 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.passed, 42);
        assert_eq!(tally.failed, ["a::c"]);
        assert_eq!(tally.ignored, [("a::d".to_owned(), "needs root".to_owned())]);
    }
}
