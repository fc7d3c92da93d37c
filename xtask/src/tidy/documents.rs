//! What the documents at the root say about the repository is true.

use xshell::Shell;

use crate::report::{Report, Row};
use crate::workspace::Package;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const CHANGELOG: &str = "CHANGELOG.md";

/// Ends of words that are names of files.
const FILE_ENDS: [&str; 3] = [".rs", ".md", ".toml"];

/// A row per document.
pub(super) fn check(report: &mut Report, sh: &Shell, packages: &[Package], files: &[String]) -> anyhow::Result<()> {
    report.push(match sh.read_file(ARCHITECTURE) {
        Err(_) => Row::failed("files named in ARCHITECTURE.md", "there is no ARCHITECTURE.md at the root"),
        Ok(text) => {
            let named = named_files(&text, files);
            let missing: Vec<String> = named
                .iter()
                .filter(|name| !exists(name, files))
                .map(|name| format!("`{name}` does not exist"))
                .collect();
            Row::check("files named in ARCHITECTURE.md", &missing, format!("{} names", named.len()))
        }
    })?;
    let versions: Vec<&str> = packages.iter().map(|package| package.version.as_str()).collect();
    report.push(match sh.read_file(CHANGELOG) {
        Err(_) => Row::failed("version in CHANGELOG.md", "there is no CHANGELOG.md at the root"),
        Ok(text) => {
            let top = top_version(&text);
            let wrong: Vec<String> = versions
                .iter()
                .filter(|version| top != Some(**version))
                .take(1)
                .map(|version| format!("the workspace is {version}, the top heading says {}", top.unwrap_or("nothing")))
                .collect();
            Row::check("version in CHANGELOG.md", &wrong, top.unwrap_or_default())
        }
    })
}

/// The words in backticks that are names of files or folders of ours.
fn named_files(text: &str, files: &[String]) -> Vec<String> {
    let folders: Vec<&str> = files.iter().filter_map(|file| file.split_once('/')).map(|(folder, _)| folder).collect();
    let mut names: Vec<String> = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|word| !word.contains([' ', '*', '<', '{', ':', '=']))
        .filter(|word| {
            let in_folder = word.split_once('/').is_some_and(|(folder, _)| folders.contains(&folder));
            in_folder || FILE_ENDS.iter().any(|end| word.len() > end.len() && word.ends_with(end))
        })
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Whether there is such a file or folder; a name without its folders is enough.
fn exists(name: &str, files: &[String]) -> bool {
    let name = name.trim_end_matches('/');
    let inside = format!("{name}/");
    let below = format!("/{name}");
    files.iter().any(|file| file == name || file.starts_with(&inside) || file.ends_with(&below))
}

/// The version of the first heading of the second level, such as `## [0.1.0] - 2026-01-31` or `## 0.1.0 (unreleased)`.
fn top_version(text: &str) -> Option<&str> {
    let heading = text.lines().find_map(|line| line.strip_prefix("## "))?;
    heading.split([' ', '[', ']']).find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_backticks_are_looked_up() {
        let files = ["peer/src/v12/path.rs", "README.md"].map(str::to_owned);
        let text = "See `path.rs`, `peer/src/`, `peer/src/gone.rs`, `cargo test`, `HELLO/ACK`, `a.md`.";
        let named = named_files(text, &files);
        assert_eq!(named, ["a.md", "path.rs", "peer/src/", "peer/src/gone.rs"]);
        let found: Vec<bool> = named.iter().map(|name| exists(name, &files)).collect();
        assert_eq!(found, [false, true, true, false]);
    }

    #[test]
    fn the_top_version_of_a_changelog() {
        assert_eq!(top_version("# Changelog\n\n## [0.1.0] - 2026-01-31\n## [0.0.9]"), Some("0.1.0"));
        assert_eq!(top_version("## 0.2.0 (unreleased)\n"), Some("0.2.0"));
        assert_eq!(top_version("## Unreleased\n"), None);
    }
}
