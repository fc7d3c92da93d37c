//! `cargo xtask bench peers`: other libraries, doing the same work on the same two cores.
//!
//! The programs are in the folder `bench`, which says what they do and how fair that is. Here they are built, started in
//! turn, and compared: only runs between which the machine was in the same state, only within one state.

mod chart;
mod environment;
mod paths;
mod session;
mod summary;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::report::{progress, say};
use crate::{UsageError, flags, steps, workspace};

use session::Session;
use summary::Summary;

const MANIFEST: &str = "bench/Cargo.toml";

/// What is compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// As in the table; its program is `bench-NAME`.
    pub(crate) name: &'static str,
    /// The package of the program.
    package: &'static str,
    /// Whose version is told; `None` for what the system has.
    library: Option<&'static str>,
    pub(crate) role: Role,
}

/// How a peer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that is to be better.
    Ours,
    /// One to be better than.
    Rival,
    /// Not encrypted: told for orientation, never the best.
    Floor,
}

/// In the order of the table.
const PEERS: [Peer; 8] = [
    Peer { name: "setowire", package: "bench-ours", library: Some("setowire-swarm"), role: Role::Ours },
    Peer { name: "quinn", package: "bench-quinn", library: Some("quinn"), role: Role::Rival },
    Peer { name: "s2n-quic", package: "bench-s2n", library: Some("s2n-quic"), role: Role::Rival },
    Peer { name: "iroh", package: "bench-iroh", library: Some("iroh"), role: Role::Rival },
    Peer { name: "libp2p-quic", package: "bench-libp2p", library: Some("libp2p"), role: Role::Rival },
    Peer { name: "libp2p-tcp", package: "bench-libp2p", library: Some("libp2p"), role: Role::Rival },
    Peer { name: "tcp", package: "bench-tcp", library: None, role: Role::Floor },
    Peer { name: "udp", package: "bench-udp", library: None, role: Role::Floor },
];

/// What `--quick` is about.
const QUICK: [&str; 4] = ["setowire", "quinn", "tcp", "udp"];

/// Runs the comparison.
///
/// # Errors
/// When a program cannot be built, or names something unknown on the command line.
pub(crate) fn run(flags: &flags::Bench) -> anyhow::Result<bool> {
    let peers = chosen(flags)?;
    let sh = workspace::shell()?;
    let mut packages: Vec<&str> = peers.iter().map(|peer| peer.package).collect();
    packages.push("bench-harness");
    build(&sh, &packages)?;
    let mut log = Log::new(flags.json.as_deref())?;
    let environment = environment::describe(&sh);
    log.write(&json!({ "environment": environment, "versions": versions(&sh, &peers)? }))?;
    let mut session = Session::new(programs(&sh)?, flags.quick)?;
    let works = session.works(&peers, flags.work.as_deref())?;
    let rounds = flags.rounds.unwrap_or(if flags.quick { 3 } else { 5 });
    let mut runs = Vec::new();
    let mut failures = 0_usize;
    for round in 1..=rounds {
        for (work, able) in &works {
            for peer in able {
                match session.run(peer, work, round) {
                    Ok(run) => {
                        log.write(&run.json())?;
                        runs.push(run);
                    }
                    Err(error) => {
                        failures += 1;
                        progress(&format!("round {round}, {work}, {}: {error:#}", peer.name));
                        log.write(&json!({ "failed": format!("{error:#}"), "peer": peer.name, "work": work }))?;
                    }
                }
            }
        }
    }
    log.write(&json!({ "limits": session.limits() }))?;
    say(&environment::markdown(&environment, &versions(&sh, &peers)?, session.limits()));
    let summaries = Summary::of_states(&runs, &peers);
    for summary in &summaries {
        say(&summary.markdown());
        log.write(&summary.json())?;
    }
    if let (Some(path), Some(summary)) = (&flags.svg, summaries.first()) {
        fs::write(path, chart::draw(summary)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if summaries.is_empty() {
        bail!("no run was good: the machine changed in all of them, or they failed");
    }
    if failures > 0 {
        say(&format!("{failures} runs failed; their logs are in {}", session.logs().display()));
    }
    Ok(failures == 0)
}

/// The peers the command line asks for.
fn chosen(flags: &flags::Bench) -> anyhow::Result<Vec<&'static Peer>> {
    let Some(only) = flags.only.as_deref() else {
        return Ok(PEERS.iter().filter(|peer| !flags.quick || QUICK.contains(&peer.name)).collect());
    };
    only.split(',')
        .map(|name| {
            PEERS.iter().find(|peer| peer.name == name).ok_or_else(|| {
                let known: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
                UsageError(format!("there is no peer `{name}`; there are {}", known.join(", "))).into()
            })
        })
        .collect()
}

/// Builds these packages and nothing else, each by itself: in one build, what one library wants of a dependency
/// would be in the programs of the others too.
///
/// # Errors
/// With the command that failed.
pub(crate) fn build(sh: &Shell, packages: &[&str]) -> anyhow::Result<()> {
    for package in packages {
        let command = cmd!(sh, "cargo build --release --locked --manifest-path {MANIFEST} -p {package}");
        let line = command.to_string();
        progress(&format!("== {line}"));
        command.quiet().run().with_context(|| steps::repeat(&line))?;
    }
    Ok(())
}

/// The folder the programs are in.
///
/// # Errors
/// When cargo cannot be asked.
pub(crate) fn programs(sh: &Shell) -> anyhow::Result<std::path::PathBuf> {
    let text = cmd!(sh, "cargo metadata --no-deps --locked --format-version 1 --manifest-path {MANIFEST}");
    let metadata: Value = serde_json::from_str(&text.quiet().read()?)?;
    let target = metadata["target_directory"].as_str().context("cargo names no target directory")?;
    Ok(Path::new(target).join("release"))
}

/// Name and version of what is measured, out of the lock file.
fn versions(sh: &Shell, peers: &[&Peer]) -> anyhow::Result<Vec<(&'static str, String)>> {
    let lock = sh.read_file(Path::new(MANIFEST).with_file_name("Cargo.lock"))?;
    let version = |library: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{library}\"\nversion = \""))?;
        rest.split('"').next().map(str::to_owned)
    };
    let mut versions: Vec<_> = peers
        .iter()
        .map(|peer| {
            let known = peer.library.and_then(|library| Some(format!("{library} {}", version(library)?)));
            (peer.name, known.unwrap_or_else(|| "of the kernel, through tokio".to_owned()))
        })
        .collect();
    versions.push(("tokio", version("tokio").unwrap_or_default()));
    Ok(versions)
}

/// The file of `--json`: one object per line, each with a member that says what it is.
#[derive(Debug)]
pub(crate) struct Log(Option<File>);

impl Log {
    pub(crate) fn new(path: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        Ok(Self(path.map(open).transpose()?))
    }

    pub(crate) fn write(&mut self, line: &Value) -> anyhow::Result<()> {
        match &mut self.0 {
            Some(file) => writeln!(file, "{line}").context("cannot write the JSON file"),
            None => Ok(()),
        }
    }
}
