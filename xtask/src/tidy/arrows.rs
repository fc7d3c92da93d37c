//! Which crate may use which.

use xshell::{Shell, cmd};

use crate::report::{Report, Row};
use crate::workspace::Package;

/// Crates of the workspace, without the prefix of their names, and the ones of ours that each may use.
const ARROWS: [(&str, &[&str]); 13] = [
    ("structs", &[]),
    ("crypto", &[]),
    ("framing", &["crypto", "structs"]),
    ("peer", &["framing", "crypto", "structs"]),
    ("dht", &["framing", "crypto", "structs"]),
    ("nat", &["framing", "crypto", "structs"]),
    ("relay", &["framing", "crypto", "structs"]),
    ("sim", &["structs", "crypto"]),
    ("swarm", &["peer", "dht", "nat", "relay", "framing", "crypto", "structs"]),
    ("chat", &["swarm"]),
    ("cli", &["swarm"]),
    ("testing", &[]),
    ("xtask", &[]),
];

/// Crates whose tests may use the simulator, which itself stands on the layers below them.
const TESTED_WITH_SIM: [&str; 5] = ["peer", "dht", "nat", "relay", "swarm"];

/// Programs, whose tests may use what starts programs.
const TESTED_AS_PROGRAMS: [&str; 2] = ["chat", "cli"];

/// The layers that are told what happens instead of asking the system.
const NO_SYSTEM: [&str; 7] = ["structs", "crypto", "framing", "peer", "dht", "nat", "relay"];

/// Crates that open sockets, run tasks or read entropy.
const SYSTEM: [&str; 6] = ["tokio", "socket2", "mio", "quinn-udp", "getrandom", "if-addrs"];

/// A feature that is there to add one of [`SYSTEM`], or whose C libraries bring one that is never called from here.
const SYSTEM_FEATURES: [&str; 3] = ["os", "tokio", "fast"];

/// A row per package for its arrows.
pub(super) fn check(report: &mut Report, packages: &[Package]) -> anyhow::Result<()> {
    for package in packages {
        let used = package.dependencies.iter().filter(|dependency| dependency.internal).count();
        let note = format!("{used} of ours");
        report.push(Row::check(format!("arrows of {}", package.short()), &problems(package), note))?;
    }
    Ok(())
}

fn problems(package: &Package) -> Vec<String> {
    let short = package.short();
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == short) else {
        return vec!["the crate has no line in the table of arrows in xtask/src/tidy/arrows.rs".to_owned()];
    };
    let mut problems = Vec::new();
    for dependency in package.dependencies.iter().filter(|dependency| dependency.internal) {
        let target = dependency.name.strip_prefix("setowire-").unwrap_or(&dependency.name);
        let test_only = dependency.kind == "dev";
        let with_sim = test_only && target == "sim" && TESTED_WITH_SIM.contains(&short);
        let as_program = test_only && target == "testing" && TESTED_AS_PROGRAMS.contains(&short);
        if !with_sim && !as_program && !allowed.contains(&target) {
            problems.push(format!("{short} -> {target} ({}) is not an arrow of the architecture", dependency.kind));
        }
        // With a version it stays in the published manifest, where it makes a circle that cannot be published.
        if test_only && dependency.requirement != "*" {
            problems.push(format!("the dev-dependency on {target} has a version; give only its path"));
        }
    }
    problems
}

/// A row per layer: nothing that touches the system is in its tree, whatever its features but those made for that.
pub(super) fn check_trees(report: &mut Report, sh: &Shell, packages: &[Package]) -> anyhow::Result<()> {
    for package in packages.iter().filter(|package| NO_SYSTEM.contains(&package.short())) {
        let name = &package.name;
        let features: Vec<&str> =
            package.features.iter().map(String::as_str).filter(|feature| !SYSTEM_FEATURES.contains(feature)).collect();
        let list = features.join(",");
        let row_name = format!("no system in {}", package.short());
        // The name of the library: `quinn_udp`.
        let format = "{lib}";
        let command = cmd!(
            sh,
            "cargo tree -q -p {name} -e normal --no-default-features --features {list} --prefix none --format {format}"
        );
        let tree = match command.quiet().read() {
            Ok(tree) => tree,
            Err(error) => {
                report.push(Row::failed(row_name, error.to_string()))?;
                continue;
            }
        };
        let found: Vec<String> = SYSTEM
            .iter()
            .filter(|system| tree.lines().any(|line| line.trim() == system.replace('-', "_")))
            .map(|system| format!("{system} is in its tree: cargo tree -p {name} --no-default-features -i {system}"))
            .collect();
        let note = if list.is_empty() { "no features".to_owned() } else { format!("with {list}") };
        report.push(Row::check(row_name, &found, note))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn edited(name: &str, edit: impl FnOnce(&mut Package)) -> Vec<String> {
        let packages = workspace::packages(&workspace::shell().unwrap(), "Cargo.toml").unwrap();
        let mut package = packages.into_iter().find(|package| package.short() == name).unwrap();
        edit(&mut package);
        problems(&package)
    }

    fn dependency(name: &str, kind: &str, requirement: &str) -> workspace::Dependency {
        let (name, kind, requirement) = (name.to_owned(), kind.to_owned(), requirement.to_owned());
        workspace::Dependency { name, kind, requirement, internal: true }
    }

    #[test]
    fn an_arrow_upwards_is_found() {
        assert!(
            !edited("framing", |p| p.dependencies.push(dependency("setowire-peer", "normal", "=0.1.0"))).is_empty()
        );
        assert!(!edited("peer", |p| p.dependencies.push(dependency("setowire-sim", "normal", "*"))).is_empty());
        assert!(!edited("structs", |p| p.dependencies.push(dependency("setowire-sim", "dev", "*"))).is_empty());
    }

    #[test]
    fn a_dev_dependency_of_ours_has_no_version() {
        assert!(!edited("peer", |p| p.dependencies.push(dependency("setowire-sim", "dev", "=0.1.0"))).is_empty());
        assert!(edited("peer", |p| p.dependencies = vec![dependency("setowire-sim", "dev", "*")]).is_empty());
    }

    #[test]
    fn a_crate_outside_of_the_table_is_found() {
        assert!(!edited("peer", |p| p.name = "setowire-stranger".to_owned()).is_empty());
    }
}
