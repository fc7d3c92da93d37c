//! Rows: what every command that measures or checks a list of things prints.
//!
//! In the JSON file a row is `{"name", "value", "unit", "goal", "ok", "note"}`, `goal` null where there is none and `ok`
//! null for what was not run. A row with a goal that was missed has `ok` false and does not fail the command; only a
//! [`Verdict::Failed`] does.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where the terminal is written to")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};

/// What a row says about its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Wrong: the command fails.
    Failed,
    /// Right, but slower or larger than hoped for.
    Missed,
    /// Not done; the note says why.
    NotRun,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::Missed => "missed",
            Self::NotRun => "not run",
        }
    }

    fn json(self) -> Value {
        match self {
            Self::Ok => Value::Bool(true),
            Self::Failed | Self::Missed => Value::Bool(false),
            Self::NotRun => Value::Null,
        }
    }
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) unit: String,
    pub(crate) goal: Option<f64>,
    pub(crate) verdict: Verdict,
    pub(crate) note: String,
}

impl Row {
    fn new(name: impl Into<String>, value: Value, verdict: Verdict, note: impl Into<String>) -> Self {
        Self { name: name.into(), value, unit: String::new(), goal: None, verdict, note: note.into() }
    }

    /// A check that passed.
    pub(crate) fn passed(name: impl Into<String>, note: impl Into<String>) -> Self {
        Self::new(name, json!("passed"), Verdict::Ok, note)
    }

    /// A check that failed.
    pub(crate) fn failed(name: impl Into<String>, note: impl Into<String>) -> Self {
        Self::new(name, json!("failed"), Verdict::Failed, note)
    }

    /// A check, with one note for each outcome.
    pub(crate) fn check(name: impl Into<String>, problems: &[String], passed: impl Into<String>) -> Self {
        if problems.is_empty() { Self::passed(name, passed) } else { Self::failed(name, problems.join("; ")) }
    }

    /// Something that could not be done here.
    pub(crate) fn not_run(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(name, json!("not run"), Verdict::NotRun, why)
    }

    /// A number. With a `goal` it should be at most that.
    pub(crate) fn figure(name: impl Into<String>, value: f64, unit: &str, goal: Option<f64>) -> Self {
        let verdict = if goal.is_some_and(|goal| value > goal) { Verdict::Missed } else { Verdict::Ok };
        Self { unit: unit.into(), goal, ..Self::new(name, json!(rounded(value)), verdict, "") }
    }

    /// A number that should be at least `goal`.
    pub(crate) fn at_least(name: impl Into<String>, value: f64, unit: &str, goal: f64) -> Self {
        let verdict = if value < goal { Verdict::Missed } else { Verdict::Ok };
        Self { verdict, goal: Some(goal), ..Self::figure(name, value, unit, None) }
    }

    /// The same row with this note.
    pub(crate) fn noting(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// One line of the JSON file, members in the order people read them.
    fn json(&self) -> String {
        let members = [
            ("name", json!(self.name)),
            ("value", self.value.clone()),
            ("unit", json!(self.unit)),
            ("goal", json!(self.goal)),
            ("ok", self.verdict.json()),
            ("note", json!(self.note)),
        ];
        format!("{{{}}}", members.map(|(name, value)| format!("\"{name}\":{value}")).join(","))
    }

    fn cells(&self) -> [String; 6] {
        [
            self.name.clone(),
            plain(&self.value),
            self.unit.clone(),
            self.goal.map(|goal| goal.to_string()).unwrap_or_default(),
            self.verdict.word().to_owned(),
            self.note.clone(),
        ]
    }
}

/// Three decimals are enough for anything a row holds.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The rows of one command, written out as they come.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
    json: Option<File>,
    progress: bool,
    started: Instant,
}

impl Report {
    /// A report that also goes to `json`. With `progress` each row is told on stderr when it is there, for commands that
    /// take long.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn new(json: Option<&Path>, progress: bool) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            File::create(path)
                .with_context(|| format!("cannot write {}; name another file with --json", path.display()))
        };
        Ok(Self { rows: Vec::new(), json: json.map(open).transpose()?, progress, started: Instant::now() })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the JSON file cannot be written.
    pub(crate) fn push(&mut self, row: Row) -> anyhow::Result<()> {
        if let Some(file) = &mut self.json {
            writeln!(file, "{}", row.json()).context("cannot write the JSON file")?;
        }
        if self.progress {
            let [name, value, unit, _, verdict, note] = row.cells();
            let seconds = self.started.elapsed().as_secs_f64();
            eprintln!(
                "[{seconds:6.1} s] {name}: {value} {unit} {verdict}{}{note}",
                if note.is_empty() { "" } else { ": " }
            );
        }
        self.rows.push(row);
        Ok(())
    }

    /// Whether nothing failed so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| row.verdict != Verdict::Failed)
    }

    /// Seconds since the report was begun.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Prints the table and tells whether nothing failed.
    pub(crate) fn finish(self) -> bool {
        if self.progress {
            eprintln!();
        }
        print!("{}", table(&self.rows));
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        println!(
            "{} rows: {} ok, {} failed, {} missed a goal, {} not run",
            self.rows.len(),
            count(Verdict::Ok),
            count(Verdict::Failed),
            count(Verdict::Missed),
            count(Verdict::NotRun)
        );
        self.is_clean()
    }
}

/// The rows with their columns aligned.
fn table(rows: &[Row]) -> String {
    let header = ["name", "value", "unit", "goal", "ok", "note"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(header).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Tells the user something on stdout.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Tells the user what is going on, on stderr.
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

/// Prints an error with its causes on stderr.
pub(crate) fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_six_members_in_json() {
        let row = Row::figure("fetch \"x\"", 1.23456, "ms", Some(5.0)).noting("n=1");
        let expected = r#"{"name":"fetch \"x\"","value":1.235,"unit":"ms","goal":5.0,"ok":true,"note":"n=1"}"#;
        assert_eq!(row.json(), expected);
        let parsed = |row: Row| serde_json::from_str::<Value>(&row.json()).unwrap();
        assert_eq!(parsed(Row::not_run("x", "no tool"))["ok"], Value::Null);
        assert_eq!(parsed(Row::passed("x", ""))["goal"], Value::Null);
    }

    #[test]
    fn only_a_failure_fails() {
        let mut report = Report::new(None, false).unwrap();
        report.push(Row::figure("slow", 9.0, "s", Some(5.0))).unwrap();
        report.push(Row::not_run("tool", "not installed")).unwrap();
        assert_eq!(report.rows[0].verdict, Verdict::Missed);
        assert!(report.is_clean());
        report.push(Row::failed("wrong", "")).unwrap();
        assert!(!report.is_clean());
    }

    #[test]
    fn columns_line_up() {
        let text = table(&[Row::passed("a long name", "n"), Row::figure("b", 1.0, "ms", None)]);
        let starts: Vec<_> = text.lines().map(|line| line.chars().position(|c| c == ' ').unwrap()).collect();
        assert_eq!(text.lines().count(), 3);
        assert!(starts.iter().all(|&start| start <= 13));
        assert!(text.lines().all(|line| line.chars().nth(11) == Some(' ')));
    }
}
