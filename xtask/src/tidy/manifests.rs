//! What every manifest and crate folder must hold.

use xshell::Shell;

use crate::report::{Report, Row};
use crate::workspace::Package;

/// Fields that every package takes from the workspace, and that published ones take besides.
const INHERITED: [&str; 4] = ["version", "edition", "rust-version", "license"];
const INHERITED_IF_PUBLISHED: [&str; 3] = ["repository", "keywords", "categories"];
const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

/// A row per package.
pub(super) fn check(report: &mut Report, sh: &Shell, packages: &[Package]) -> anyhow::Result<()> {
    for package in packages {
        let manifest = sh.read_file(package.folder.join("Cargo.toml"))?;
        let mut problems = manifest_problems(&manifest, package.published);
        if package.published {
            if !package.folder.join("README.md").is_file() {
                problems.push("it has no README.md".to_owned());
            }
            for licence in LICENCES {
                let copy = sh.read_file(package.folder.join(licence)).ok();
                if copy.is_none() || copy != sh.read_file(licence).ok() {
                    problems.push(format!("{licence} is not a copy of the one at the root"));
                }
            }
        }
        report.push(Row::check(format!("manifest of {}", package.short()), &problems, ""))?;
    }
    Ok(())
}

fn manifest_problems(manifest: &str, published: bool) -> Vec<String> {
    let sections = sections(manifest);
    let has = |section: &str, wanted: &str| sections.iter().any(|(name, line)| name == section && line == wanted);
    let begins = |start: &str| sections.iter().any(|(name, line)| name == "package" && line.starts_with(start));
    let mut problems = Vec::new();
    let published_fields = INHERITED_IF_PUBLISHED.iter().filter(|_| published);
    for field in INHERITED.iter().chain(published_fields) {
        if !has("package", &format!("{field}.workspace = true")) {
            problems.push(format!("`{field}` is not inherited from the workspace"));
        }
    }
    if !has("lints", "workspace = true") {
        problems.push("the lints are not inherited from the workspace".to_owned());
    }
    for field in ["description", "readme"].iter().filter(|_| published) {
        if !begins(&format!("{field} = ")) {
            problems.push(format!("it has no `{field}`"));
        }
    }
    for (section, line) in &sections {
        let is_dependency = section.ends_with("dependencies");
        if is_dependency && !line.contains("workspace = true") && !line.contains("path = ") {
            problems.push(format!("`{line}` names a version of its own; it belongs to the root manifest"));
        }
    }
    problems
}

/// The lines of a manifest with the name of their table, without comments and empty lines.
fn sections(manifest: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']).to_owned();
        } else {
            lines.push((section.clone(), line.to_owned()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::manifest_problems;

    const GOOD: &str = "[package]\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
        license.workspace = true\n\n[dependencies]\n# why\nbytes.workspace = true\n\n[lints]\nworkspace = true\n";

    #[test]
    fn what_is_not_inherited_is_found() {
        assert!(manifest_problems(GOOD, false).is_empty());
        for line in ["license.workspace = true\n", "[lints]\nworkspace = true\n"] {
            assert_eq!(manifest_problems(&GOOD.replace(line, ""), false).len(), 1, "{line}");
        }
        assert_eq!(manifest_problems(&GOOD.replace("bytes.workspace = true", "bytes = \"1\""), false).len(), 1);
    }

    #[test]
    fn a_published_crate_needs_more() {
        assert_eq!(manifest_problems(GOOD, true).len(), 5);
    }
}
