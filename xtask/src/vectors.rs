//! `cargo xtask vectors`: the golden vectors in `vectors/v12`, computed by the published Python node.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::python::{self, Unavailable};
use crate::report::{Report, Row};
use crate::{flags, workspace};

const FOLDER: &str = "vectors/v12";

/// Regenerates the vectors in place, or compares them.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn run(flags: &flags::Vectors) -> anyhow::Result<bool> {
    let mut report = Report::new(flags.json.as_deref(), false)?;
    if flags.check {
        check(&mut report)?;
    } else {
        regenerate(&mut report, true)?;
    }
    Ok(report.finish())
}

/// Compares the committed vectors with what the reference computes.
///
/// # Errors
/// As [`run`].
pub(crate) fn check(report: &mut Report) -> anyhow::Result<()> {
    regenerate(report, false)
}

fn regenerate(report: &mut Report, write: bool) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let name = "vectors of the v12 wire";
    let reference = match python::reference(&sh) {
        Ok(reference) => reference,
        Err(Unavailable::Missing(why)) => return report.push(Row::not_run(name, why)),
        Err(Unavailable::Broken(error)) => return report.push(Row::failed(name, format!("{error:#}"))),
    };
    let fresh = sh.create_temp_dir()?;
    let (python, library, out) = (&reference.python, &reference.library, fresh.path());
    // Isolated from the user's Python settings; `-B` because the folder of the script is part of the repository.
    let command = cmd!(sh, "{python} -B interop/make_vectors.py --lib {library} --given {FOLDER} --out {out}")
        .env("PYTHONHASHSEED", "0");
    let printed = match command.quiet().read() {
        Ok(printed) => printed,
        Err(error) => return report.push(Row::failed(name, format!("the reference could not be asked: {error}"))),
    };
    let mut files = 0;
    for line in printed.lines() {
        let told: Value = serde_json::from_str(line).context("make_vectors.py printed no JSON")?;
        let file = told["file"].as_str().context("make_vectors.py named no file")?;
        report.push(compare(&sh, out, file, &told["values"], write)?)?;
        files += 1;
    }
    if files == 0 {
        report.push(Row::failed(name, format!("there is no JSON file in {FOLDER}")))?;
    }
    Ok(())
}

/// The row of one file; with `write` it is replaced where it differs.
fn compare(sh: &Shell, fresh: &Path, file: &str, values: &Value, write: bool) -> anyhow::Result<Row> {
    let name = format!("{FOLDER}/{file}");
    if *values == json!(0) {
        return Ok(Row::not_run(name, "nothing in this file comes from the reference"));
    }
    let (old, new) = (sh.read_file(&name)?, sh.read_file(fresh.join(file))?);
    let parse = |text: &str| serde_json::from_str::<Value>(text).with_context(|| format!("{name} holds no JSON"));
    let difference = first_difference("", &parse(&old)?, &parse(&new)?);
    let row = match difference {
        None => Row::passed(name, "as the reference computes them"),
        Some(place) if write => {
            sh.write_file(&name, new)?;
            Row::passed(name, format!("rewritten; the first difference was at {place}"))
        }
        Some(place) => {
            Row::failed(name, format!("differs from the reference at {place}; `cargo xtask vectors` rewrites it"))
        }
    };
    Ok(Row { value: values.clone(), unit: "values".into(), ..row })
}

/// Path of the first place where two documents differ.
fn first_difference(path: &str, a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().find_map(|(key, value)| first_difference(&format!("{path}/{key}"), value, &b[key]))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| first_difference(&format!("{path}/{i}"), a, b))
        }
        (a, b) => (a != b).then(|| if path.is_empty() { "/".to_owned() } else { path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_by_its_place() {
        let a = json!({"vectors": [{"seed": "00", "id": "a"}, {"seed": "01", "id": "b"}]});
        let mut b = a.clone();
        assert_eq!(first_difference("", &a, &b), None);
        b["vectors"][1]["id"] = json!("c");
        assert_eq!(first_difference("", &a, &b).as_deref(), Some("/vectors/1/id"));
        assert_eq!(first_difference("", &a, &json!([])).as_deref(), Some("/"));
    }
}
