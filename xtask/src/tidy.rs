//! `cargo xtask tidy`: rules of the repository that the compiler does not know.

mod arrows;
mod documents;
mod manifests;
mod text;

use crate::report::{Report, Row};
use crate::{flags, workspace};

/// Checks all rules.
///
/// # Errors
/// When git or cargo cannot be asked, or a file not be read.
pub(crate) fn run(flags: &flags::Tidy) -> anyhow::Result<bool> {
    let mut report = Report::new(flags.json.as_deref(), false)?;
    append(&mut report)?;
    Ok(report.finish())
}

/// The rows of all rules.
///
/// # Errors
/// As [`run`].
pub(crate) fn append(report: &mut Report) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let packages = workspace::packages(&sh, "Cargo.toml")?;
    arrows::check(report, &packages)?;
    arrows::check_trees(report, &sh, &packages)?;
    manifests::check(report, &sh, &packages)?;
    let files = match workspace::tracked_files(&sh) {
        Ok(files) => files,
        Err(error) => return report.push(Row::not_run("rules about files", format!("{error:#}"))),
    };
    documents::check(report, &sh, &packages, &files)?;
    text::check_words(report, &sh, &files)?;
    text::check_lengths(report, &sh, &files)
}
