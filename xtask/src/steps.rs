//! Commands that either succeed or do not, one row each.

use xshell::Cmd;

use crate::report::{Report, Row, Verdict, progress};

/// Runs `command` in the environment `env` with its output on the terminal, and adds a row with the seconds it took.
/// `Ok(false)` when it failed; the note then holds the command that repeats it.
///
/// # Errors
/// When the JSON file of the report cannot be written.
pub(crate) fn run(report: &mut Report, name: &str, env: &[(&str, &str)], command: Cmd<'_>) -> anyhow::Result<bool> {
    let line = in_shell(env, &command);
    progress(&format!("== {name}: {line}"));
    let before = report.seconds();
    let outcome = command.quiet().envs(env.iter().copied()).run();
    let row = Row::figure(name, report.seconds() - before, "s", None);
    let failed = outcome.is_err();
    report.push(if failed { Row { verdict: Verdict::Failed, ..row }.noting(repeat(&line)) } else { row })?;
    Ok(!failed)
}

/// What a shell runs to do the same.
pub(crate) fn in_shell(env: &[(&str, &str)], command: &Cmd<'_>) -> String {
    let mut line: String = env.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
    line.push_str(&command.to_string());
    line
}

/// The note of a row that failed.
pub(crate) fn repeat(line: &str) -> String {
    format!("to repeat: {line}")
}
