//! The examples that run by themselves: they end in time, and say what they should.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::programs::Programs;
use crate::report::{Report, Row};
use crate::steps;

/// How long one may take: all of them are done within a second or two.
const LIMIT: Duration = Duration::from_secs(60);

/// The examples, and the last line of what each prints.
const EXAMPLES: [(&str, &str); 5] = [
    ("hello", "both were greeted"),
    ("memory_transport", "1000000 bytes went through memory and came back, with 0 sockets"),
    ("request", "nobody there knows cube/1"),
    ("stream", "10000000 bytes went out and arrived, 10000000 came back"),
    ("two_nodes_test", "test answers_arrive ... ok"),
];

/// Runs each; `Ok(false)` when one failed.
///
/// # Errors
/// When an example cannot be started.
pub(crate) fn append(report: &mut Report, programs: &Programs) -> anyhow::Result<bool> {
    for (name, last) in EXAMPLES {
        let wrong = run(&programs.example(name), last)?;
        let line = format!("cargo run -p setowire-swarm --example {name}");
        let wrong: Vec<String> = wrong.map(|wrong| format!("{wrong}; {}", steps::repeat(&line))).into_iter().collect();
        report.push(Row::check(format!("example {name}"), &wrong, "prints what it should"))?;
    }
    Ok(report.is_clean())
}

/// What is wrong with a program that should end in time and print `last` as its last line.
fn run(program: &Path, last: &str) -> anyhow::Result<Option<String>> {
    let mut child = Command::new(program).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    // It prints less than a pipe holds, so it never waits for a reader.
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(Some(format!("it did not end within {} s", LIMIT.as_secs())));
        }
        thread::sleep(Duration::from_millis(20));
    };
    let mut printed = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut printed)?;
    }
    if !status.success() {
        return Ok(Some(format!("it ended with {status}")));
    }
    let found = printed.lines().last().unwrap_or("nothing");
    Ok((found != last).then(|| format!("its last line is {found:?} and not {last:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_program_ends_and_what_it_prints_last_is_looked_at() {
        let run = |program: &str, last| run(Path::new(program), last).unwrap();
        assert_eq!(run("true", "nothing"), None);
        assert!(run("true", "done").unwrap().starts_with("its last line is"));
        assert!(run("false", "nothing").unwrap().starts_with("it ended with"));
    }
}
