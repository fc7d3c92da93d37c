//! `cargo xtask bench`: the criterion benchmarks, with their medians as rows. What `cargo xtask bench peers` and `dht` do is in
//! `peers` and `tables`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;
use std::{fs, io};

use anyhow::Context as _;
use serde_json::Value;
use xshell::cmd;

use crate::report::{Report, Row, progress};
use crate::{UsageError, flags, peers, steps, tables, workspace};

/// Runs the benchmarks of every layer that has some, or the comparison with other libraries.
///
/// # Errors
/// For an area that does not exist, and when cargo cannot be started.
pub(crate) fn run(flags: &flags::Bench) -> anyhow::Result<bool> {
    match flags.area.as_deref() {
        None | Some("layers") => layers(flags),
        Some("peers") => peers::run(flags),
        Some("dht") => tables::run(flags),
        Some(area) => {
            Err(UsageError(format!("there is no benchmark `{area}`; there are `layers`, `peers` and `dht`")).into())
        }
    }
}

fn layers(flags: &flags::Bench) -> anyhow::Result<bool> {
    if flags.only.is_some() || flags.work.is_some() || flags.rounds.is_some() || flags.svg.is_some() {
        return Err(UsageError(
            "--only and --rounds go with `cargo xtask bench peers` and `dht`, --work and --svg with `peers`".into(),
        )
        .into());
    }
    let sh = workspace::shell()?;
    let mut report = Report::new(flags.json.as_deref(), true)?;
    let commit = cmd!(sh, "git rev-parse --short HEAD").quiet().ignore_stderr().read().unwrap_or_default();
    let options: &[&str] = if flags.quick {
        &["--noplot", "--warm-up-time", "0.3", "--measurement-time", "0.7", "--sample-size", "20"]
    } else {
        &["--noplot"]
    };
    for package in workspace::packages(&sh, "Cargo.toml")? {
        let name = &package.name;
        let short = package.short();
        for target in package.targets("bench") {
            let started = SystemTime::now();
            let command = cmd!(sh, "cargo bench -p {name} --bench {target} --all-features -- {options...}");
            let line = command.to_string();
            progress(&format!("== {name}: {line}"));
            // A folder of its own: whoever else measures here at the same time writes to another.
            let results = workspace::root().join("target/xtask-bench").join(short).join(target);
            let mut process = Command::from(command);
            // The table alone goes to stdout.
            process.env("CRITERION_HOME", &results).stdin(Stdio::null()).stdout(io::stderr());
            let status = process.status().with_context(|| format!("cannot start `{line}`"))?;
            if !status.success() {
                report.push(Row::failed(short, steps::repeat(&line)))?;
                continue;
            }
            let measured = estimates(&results, started)?;
            if measured.is_empty() {
                report.push(Row::not_run(short, format!("the bench `{target}` measures nothing yet")))?;
            }
            for (id, estimate) in measured {
                let row = Row::figure(format!("{short}: {id}"), estimate.median_ns, "ns", None);
                report.push(row.noting(format!("{}n={}, commit {commit}", estimate.rate(), estimate.samples)))?;
            }
        }
    }
    Ok(report.finish())
}

/// What criterion wrote about one benchmark.
#[derive(Debug)]
struct Estimate {
    median_ns: f64,
    samples: usize,
    /// Bytes (true) or elements (false) of one iteration.
    throughput: Option<(bool, f64)>,
}

impl Estimate {
    /// Throughput at the median, for the note.
    fn rate(&self) -> String {
        match self.throughput {
            Some((true, bytes)) => format!("{:.1} MB/s, ", bytes / self.median_ns * 1e3),
            Some((false, elements)) => format!("{:.2} M/s, ", elements / self.median_ns * 1e3),
            None => String::new(),
        }
    }
}

/// The benchmarks under `folder` that were measured after `since`, by name.
fn estimates(folder: &Path, since: SystemTime) -> anyhow::Result<Vec<(String, Estimate)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("new/estimates.json") && fs::metadata(&path)?.modified()? >= since {
                found.push(estimate(&path)?);
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn estimate(path: &Path) -> anyhow::Result<(String, Estimate)> {
    let read = |name: &str| -> anyhow::Result<Value> {
        let path: PathBuf = path.with_file_name(name);
        let text = fs::read_to_string(&path).with_context(|| format!("criterion left no {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    };
    let (estimates, benchmark, sample) = (read("estimates.json")?, read("benchmark.json")?, read("sample.json")?);
    let median_ns = estimates["median"]["point_estimate"].as_f64().context("an estimate without a median")?;
    let throughput = benchmark["throughput"].as_object().and_then(|map| {
        let (unit, amount) = map.iter().next()?;
        Some((unit.starts_with("Bytes"), amount.as_f64()?))
    });
    let samples = sample["times"].as_array().map_or(0, Vec::len);
    let id = benchmark["full_id"].as_str().context("a benchmark without a name")?;
    Ok((id.to_owned(), Estimate { median_ns, samples, throughput }))
}
