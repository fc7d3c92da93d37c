//! `cargo xtask model`: the symbolic models in `models/`, and their controls, each with the verdict it must have.

mod checks;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use crate::report::{Report, Row, Verdict, progress};
use crate::tools::VERIFPAL;
use crate::{UsageError, flags, steps, workspace};
use checks::{ALL, Check};

/// The release the verdicts are known for; others search in other ways.
const VERSION: &str = "1.6.7";

/// Checks at once.
const WORKERS: usize = 2;

/// A check that takes longer than this is stopped, and has failed.
const LIMIT: Duration = Duration::from_secs(300);

/// All checks together should take at most this long on two cores.
const GOAL_SECONDS: f64 = 120.0;

/// Where models are written as they are checked, with what was said about them.
const OUT: &str = "target/model";

/// Runs the checks.
///
/// # Errors
/// When no check has that name, when a model cannot be read, and when the JSON file cannot be written.
pub(crate) fn run(flags: &flags::Model) -> anyhow::Result<bool> {
    let filter = flags.filter.as_deref().unwrap_or_default();
    let wanted: Vec<&Check> = ALL.iter().filter(|check| check.name.contains(filter)).collect();
    if wanted.is_empty() {
        return Err(UsageError(format!("no check is called `{filter}`; models/README.md lists them")).into());
    }
    let sh = workspace::shell()?;
    let mut report = Report::new(flags.json.as_deref(), true)?;
    let Some(tool) = installed(&sh).or_else(|| install(&sh)) else {
        report.push(Row::not_run("models", VERIFPAL.missing()))?;
        return Ok(report.finish());
    };
    sh.create_dir(OUT)?;
    for check in &wanted {
        let base = format!("models/{}", check.base);
        sh.write_file(path(check, "vp"), check.text(&sh.read_file(base)?)?)?;
    }
    let before = report.seconds();
    check_all(&mut report, &tool, &wanted)?;
    let seconds = report.seconds() - before;
    report.push(Row::figure("all of it", seconds, "s", filter.is_empty().then_some(GOAL_SECONDS)))?;
    Ok(report.finish())
}

/// The checker, if the right release is on `PATH` or was installed by [`install`].
fn installed(sh: &Shell) -> Option<PathBuf> {
    let ours = workspace::root().join("target/tools/bin").join(VERIFPAL.name);
    [VERIFPAL.path(), Some(ours)].into_iter().flatten().find(|path| {
        let version = cmd!(sh, "{path} --version").quiet().ignore_stderr().read();
        version.is_ok_and(|line| line.split_whitespace().last() == Some(VERSION))
    })
}

/// Builds the checker into `target/tools`. It asks for a newer compiler than it needs.
fn install(sh: &Shell) -> Option<PathBuf> {
    let command =
        cmd!(sh, "cargo install verifpal --version {VERSION} --locked --ignore-rust-version --root target/tools");
    progress(&format!("== {command}"));
    command.quiet().run().ok()?;
    installed(sh)
}

fn path(check: &Check, end: &str) -> PathBuf {
    Path::new(OUT).join(format!("{}.{end}", check.name))
}

/// Pushes a row for each check, in their order.
fn check_all(report: &mut Report, tool: &Path, checks: &[&Check]) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let (sender, rows) = channel();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || work(next, tool, checks, &sender));
        }
        drop(sender);
        let mut done = BTreeMap::new();
        let mut pushed = 0;
        for (index, row) in rows {
            done.insert(index, row);
            while let Some(row) = done.remove(&pushed) {
                report.push(row?)?;
                pushed += 1;
            }
        }
        Ok(())
    })
}

/// Takes checks until there are no more, or nobody wants their rows.
fn work(next: &AtomicUsize, tool: &Path, checks: &[&Check], rows: &Sender<(usize, anyhow::Result<Row>)>) {
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(check) = checks.get(index) else { break };
        if rows.send((index, run_one(tool, check))).is_err() {
            break;
        }
    }
}

fn run_one(tool: &Path, check: &Check) -> anyhow::Result<Row> {
    let (model, sessions) = (path(check, "vp"), check.sessions.to_string());
    let line = format!("verifpal verify --sessions {sessions} {}", model.display());
    let root = workspace::root();
    let log = root.join(path(check, "log"));
    let mut command = Command::new(tool);
    command
        .args(["verify", "--fail-on-attack", "--result-code", "--sessions", &sessions])
        .arg(&model)
        .current_dir(&root)
        // The other cores have checks of their own.
        .env("VERIFPAL_THREADS", "1")
        .stderr(File::create(&log).with_context(|| format!("cannot write {}", log.display()))?);
    let started = Instant::now();
    let ended = limited(command, LIMIT).with_context(|| format!("cannot run `{line}`"))?;
    let row = Row::figure(check.name, started.elapsed().as_secs_f64(), "s", None);
    let problem = match ended {
        None => Some(format!("not done within {} s", LIMIT.as_secs())),
        Some((code, said)) => {
            let complaint = fs::read_to_string(&log).unwrap_or_default();
            fs::write(&log, [said.as_str(), &complaint].concat())?;
            problem(check, code, &said, &complaint)
        }
    };
    Ok(match problem {
        None => row.noting(format!("{} as it must be: {}", check.code, check.shows)),
        Some(problem) => Row { verdict: Verdict::Failed, ..row }.noting(format!("{problem}; {}", steps::repeat(&line))),
    })
}

/// What is wrong with an answer.
fn problem(check: &Check, exit_code: Option<i32>, said: &str, complaint: &str) -> Option<String> {
    let Some(code) = said.lines().last().filter(|_| matches!(exit_code, Some(0 | 2))) else {
        return Some(complaint.lines().next().unwrap_or("it said nothing").to_owned());
    };
    if code != check.code {
        return Some(format!("{code}, and must be {}", check.code));
    }
    if exit_code != Some(check.exit_code()) {
        return Some(format!("exit code {exit_code:?}, and must be {}", check.exit_code()));
    }
    said.contains("search truncated").then(|| "the search was not complete".to_owned())
}

/// Runs `command` for at most `limit`: its exit code and what it wrote to stdout. `None` when it had to be stopped.
fn limited(mut command: Command, limit: Duration) -> anyhow::Result<Option<(Option<i32>, String)>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().context("it has no stdout")?;
    let (sender, text) = channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        // Nobody listens to one that took too long.
        let _ = sender.send(stdout.read_to_string(&mut text).map(|_| text));
    });
    let text = text.recv_timeout(limit);
    if text.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    // Its stdout is closed by now.
    let _ = reader.join();
    Ok(match text {
        Ok(text) => Some((status.code(), text?)),
        Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: &Check = &ALL[0];

    #[test]
    fn an_answer_must_be_the_expected_one() {
        let said = |code: &str| format!("PASS + ..  [search exhausted at 2 sessions]\n{code}\n");
        assert_eq!(problem(CHECK, Some(0), &said(CHECK.code), ""), None);
        let other = CHECK.code.replacen('0', "1", 1);
        assert!(problem(CHECK, Some(2), &said(&other), "").unwrap().contains("must be"));
        assert!(problem(CHECK, Some(2), &said(CHECK.code), "").unwrap().contains("exit code"));
        assert_eq!(problem(CHECK, Some(1), "", "parse error: x\n at y").unwrap(), "parse error: x");
        assert_eq!(problem(CHECK, None, "", "").unwrap(), "it said nothing");
        let cut = said(CHECK.code).replace("exhausted", "truncated");
        assert_eq!(problem(CHECK, Some(0), &cut, "").unwrap(), "the search was not complete");
    }

    #[cfg(unix)]
    #[test]
    fn what_takes_too_long_is_stopped() {
        let shell = |line: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", line]);
            command
        };
        let ended = limited(shell("echo a1; exit 2"), LIMIT).unwrap();
        assert_eq!(ended, Some((Some(2), "a1\n".to_owned())));
        // It would wait for ever: its own stdout is open, and nobody writes to the pipe.
        assert_eq!(limited(shell("exec tail -f /dev/null"), Duration::from_millis(50)).unwrap(), None);
    }
}
