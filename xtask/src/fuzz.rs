//! `cargo xtask fuzz`: cargo-fuzz on the targets in `fuzz`, starting from the committed corpora.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::json;
use xshell::{Shell, cmd};

use crate::report::{Report, Row, Verdict, progress};
use crate::tools::CARGO_FUZZ;
use crate::{UsageError, flags, steps, workspace};

/// Runs one target or all of them.
///
/// # Errors
/// For a target that does not exist, and when cargo cannot be started.
pub(crate) fn run(flags: &flags::Fuzz) -> anyhow::Result<bool> {
    let sh = workspace::shell()?;
    if !sh.path_exists("fuzz/Cargo.toml") {
        return Err(UsageError("there is no folder `fuzz` with targets".to_owned()).into());
    }
    let known: Vec<String> = workspace::packages(&sh, "fuzz/Cargo.toml")?
        .iter()
        .flat_map(|package| package.targets("bin").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let wanted: Vec<&String> = known.iter().filter(|name| flags.target == "all" || **name == flags.target).collect();
    if wanted.is_empty() {
        let message = format!("there is no fuzz target `{}`; say `all` or one of: {}", flags.target, known.join(", "));
        return Err(UsageError(message).into());
    }
    let mut report = Report::new(flags.json.as_deref(), true)?;
    for target in wanted {
        report.push(match CARGO_FUZZ.path() {
            None => Row::not_run(target, CARGO_FUZZ.missing()),
            Some(_) => fuzz(&sh, target, flags.secs.unwrap_or(60))?,
        })?;
    }
    Ok(report.finish())
}

/// Runs one target. What it learns goes below `target`, so that the committed corpus changes only by hand.
fn fuzz(sh: &Shell, target: &str, seconds: u32) -> anyhow::Result<Row> {
    let learnt = Path::new("target/fuzz-corpus").join(target);
    let committed = Path::new("fuzz/corpus").join(target);
    sh.create_dir(&learnt)?;
    let folders = [Some(&learnt), sh.path_exists(&committed).then_some(&committed)];
    let folders: Vec<_> = folders.into_iter().flatten().collect();
    // The sanitizers are an unstable option; this opens them on the stable compiler.
    let env = [("RUSTC_BOOTSTRAP", "1")];
    let limit = format!("-max_total_time={seconds}");
    let command = cmd!(sh, "cargo fuzz run {target} {folders...} -- {limit} -timeout=10 -rss_limit_mb=2048");
    let line = steps::in_shell(&env, &command);
    progress(&format!("== {target}: {line}"));
    let output = Command::from(command)
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .with_context(|| format!("cannot start `{line}`"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let runs = text.lines().rev().find_map(runs).unwrap_or(0);
        return Ok(Row { value: json!(runs), unit: "runs".into(), ..Row::passed(target, format!("{seconds} s")) });
    }
    progress(&text);
    let artifact = text.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
    let why = artifact.map_or_else(|| "it did not run".to_owned(), |path| format!("input in {path}"));
    Ok(Row { verdict: Verdict::Failed, ..Row::failed(target, format!("{why}; {}", steps::repeat(&line))) })
}

/// The count in libFuzzer's last line, `Done 1234 runs in 60 second(s)`.
fn runs(line: &str) -> Option<u64> {
    line.strip_prefix("Done ")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_line_of_the_fuzzer_has_the_count() {
        assert_eq!(super::runs("Done 1234 runs in 60 second(s)"), Some(1234));
        assert_eq!(super::runs("#12 NEW cov: 3"), None);
    }
}
