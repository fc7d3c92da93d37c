//! `cargo xtask doctor`: what this machine lacks.

use serde_json::json;

use crate::report::{Report, Row};
use crate::{flags, interop, python, tools, workspace};

/// A row for each tool that some command wants.
///
/// # Errors
/// When the JSON file cannot be written.
pub(crate) fn run(flags: &flags::Doctor) -> anyhow::Result<bool> {
    let sh = workspace::shell()?;
    let mut report = Report::new(flags.json.as_deref(), false)?;
    for tool in tools::ALL {
        let wanted_by = format!("wanted by {}", tool.wanted_by);
        report.push(match tool.version(&sh) {
            Some(version) => Row { value: json!(version), ..Row::passed(tool.name, wanted_by) },
            None => Row::not_run(tool.name, format!("{wanted_by}; to get it: {}", tool.how_to_get)),
        })?;
    }
    report.push(match python::usable(&sh) {
        Ok(version) => {
            Row { value: json!(version), ..Row::passed("virtual environments", "wanted by interop, vectors") }
        }
        Err(why) => Row::not_run("virtual environments", why),
    })?;
    report.push(match interop::isolation(&sh) {
        Ok(()) => Row::passed("network namespaces", "interop and readme give the nodes a network of their own"),
        Err(why) => Row::not_run("network namespaces", why),
    })?;
    Ok(report.finish())
}
