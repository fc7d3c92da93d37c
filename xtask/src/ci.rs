//! `cargo xtask ci`: everything a change must pass, cheapest to be wrong about first.

use xshell::{Shell, cmd};

use crate::report::{Report, Row, progress, say};
use crate::tools::{CLIPPY, RUSTFMT};
use crate::workspace::Package;
use crate::{examples, flags, interop, natlab, programs, readme, sim, steps, test, tidy, vectors, workspace};

/// All checks together should take at most this long on two cores.
const GOAL_SECONDS: f64 = 25.0 * 60.0;

const DENY_RUSTDOC: [(&str, &str); 1] = [("RUSTDOCFLAGS", "-D warnings")];

/// Runs the checks and stops at the first that fails.
///
/// # Errors
/// When a tool that must be there cannot be started.
pub(crate) fn run(flags: &flags::Ci) -> anyhow::Result<bool> {
    let sh = workspace::shell()?;
    let mut report = Report::new(flags.json.as_deref(), true)?;
    let passed = all(&mut report, &sh, flags.skip_test)?;
    if passed {
        let seconds = report.seconds();
        report.push(Row::figure("all of it", seconds, "s", Some(GOAL_SECONDS)))?;
    }
    let clean = report.finish();
    if !passed {
        say("stopped at the first failure; its row holds the command that repeats it");
    }
    Ok(clean && passed)
}

fn all(report: &mut Report, sh: &Shell, skip_test: bool) -> anyhow::Result<bool> {
    let packages = workspace::packages(sh, "Cargo.toml")?;
    if skip_test {
        report.push(Row::not_run("tests", "--skip-test was given"))?;
    } else if !test::append(report)? {
        return Ok(false);
    }
    if !(lock_file(report, sh)?
        && formatting(report, sh)?
        && section(report, "tidy", "cargo xtask tidy", tidy::append)?
        && lints(report, sh, &packages)?
        && documentation(report, sh)?
        && features(report, sh, &packages)?)
    {
        return Ok(false);
    }
    let Some(programs) = programs::append(report, sh)? else { return Ok(false) };
    Ok(examples::append(report, &programs)?
        && section(report, "vectors", "cargo xtask vectors --check", vectors::check)?
        && section(report, "interop", "cargo xtask interop --quick", |report| interop::quick(report, &programs))?
        && section(report, "simulated networks", "cargo xtask sim dht", |report| sim::quick(report, &programs))?
        && section(report, "nodes behind NATs", "cargo xtask natlab --quick", natlab::quick)?
        && section(report, "readme", "cargo xtask readme --quick", |report| readme::quick(report, &programs))?
        && benches(report, sh, &packages)?
        && tarballs(report, sh, &packages)?)
}

/// Another command of ours, its rows among these.
fn section(
    report: &mut Report,
    name: &str,
    line: &str,
    append: impl FnOnce(&mut Report) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    progress(&format!("== {name}: {line}"));
    append(report)?;
    if !report.is_clean() {
        report.push(Row::failed(name, steps::repeat(line)))?;
    }
    Ok(report.is_clean())
}

fn lock_file(report: &mut Report, sh: &Shell) -> anyhow::Result<bool> {
    let command = cmd!(sh, "cargo metadata --locked --format-version 1").ignore_stdout();
    steps::run(report, "Cargo.lock is current", &[], command)
}

fn formatting(report: &mut Report, sh: &Shell) -> anyhow::Result<bool> {
    if RUSTFMT.version(sh).is_none() {
        report.push(Row::not_run("formatting", RUSTFMT.missing()))?;
        return Ok(true);
    }
    let mut passed = steps::run(report, "formatting", &[], cmd!(sh, "cargo fmt --all -- --check"))?;
    // What has a lock file of its own. The benchmarks of peers are not built here: their dependencies take long.
    for folder in ["fuzz", "bench"] {
        let manifest = format!("{folder}/Cargo.toml");
        if sh.path_exists(&manifest) {
            let command = cmd!(sh, "cargo fmt --all --manifest-path {manifest} -- --check");
            passed = passed && steps::run(report, &format!("formatting of {folder}"), &[], command)?;
        }
    }
    Ok(passed)
}

fn lints(report: &mut Report, sh: &Shell, packages: &[Package]) -> anyhow::Result<bool> {
    if CLIPPY.version(sh).is_none() {
        report.push(Row::not_run("lints", CLIPPY.missing()))?;
        return Ok(true);
    }
    for (name, features) in [
        ("lints, all features", "--all-features"),
        ("lints, no default features", "--no-default-features"),
        ("lints, default features", ""),
    ] {
        let features = features.split_whitespace();
        let command = cmd!(sh, "cargo clippy --workspace --all-targets {features...} -- -D warnings");
        if !steps::run(report, name, &[], command)? {
            return Ok(false);
        }
    }
    // In one build of the workspace the features of a library are those that all want who depend on it; alone it has fewer, and
    // our programs have to ask for all that they use.
    let programs = packages.iter().filter(|package| package.published && !package.is_library());
    let programs: Vec<&str> = programs.flat_map(|package| ["-p", package.name.as_str()]).collect();
    let command = cmd!(sh, "cargo clippy {programs...} --bins -- -D warnings");
    if !steps::run(report, "lints, the programs alone", &[], command)? {
        return Ok(false);
    }
    for package in packages.iter().filter(|package| package.is_library()) {
        let name = &package.name;
        let command = cmd!(sh, "cargo clippy -p {name} --lib --no-default-features -- -D warnings");
        if !steps::run(report, &format!("lints, {name} alone"), &[], command)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn documentation(report: &mut Report, sh: &Shell) -> anyhow::Result<bool> {
    let command = cmd!(sh, "cargo doc --workspace --all-features --no-deps --exclude xtask");
    steps::run(report, "documentation", &DENY_RUSTDOC, command)
}

fn features(report: &mut Report, sh: &Shell, packages: &[Package]) -> anyhow::Result<bool> {
    for package in packages.iter().filter(|package| package.is_library()) {
        let name = &package.name;
        for feature in &package.features {
            let command = cmd!(sh, "cargo check -p {name} --lib --no-default-features --features {feature}");
            if !steps::run(report, &format!("{name} with only `{feature}`"), &[], command)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn benches(report: &mut Report, sh: &Shell, packages: &[Package]) -> anyhow::Result<bool> {
    let with_benches = packages.iter().filter(|package| package.targets("bench").next().is_some());
    let selected: Vec<&str> = with_benches.flat_map(|package| ["-p", package.name.as_str()]).collect();
    // The code is compiled as it is measured, but not optimised: that is the part that takes minutes.
    let command = cmd!(sh, "cargo check {selected...} --benches --all-features");
    steps::run(report, "benchmarks compile", &[], command)
}

/// What would be published holds the files it must.
fn tarballs(report: &mut Report, sh: &Shell, packages: &[Package]) -> anyhow::Result<bool> {
    for package in packages.iter().filter(|package| package.published) {
        let name = &package.name;
        let list = cmd!(sh, "cargo package --list --allow-dirty --offline -p {name}");
        let line = list.to_string();
        let row_name = format!("tarball of {name}");
        let Ok(listed) = list.quiet().read() else {
            report.push(Row::failed(row_name, steps::repeat(&line)))?;
            return Ok(false);
        };
        let wanted = ["Cargo.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"];
        let missing: Vec<String> = wanted
            .iter()
            .filter(|file| !listed.lines().any(|line| line == **file))
            .map(|file| format!("{file} is not in it"))
            .collect();
        report.push(Row::check(row_name, &missing, format!("{} files", listed.lines().count())))?;
    }
    Ok(report.is_clean())
}
