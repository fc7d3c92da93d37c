//! `cargo xtask interop`: our node beside the published Python node, and in a Mainline DHT made of libtorrent's nodes.
//!
//! Every node is a process that is told what to do on stdin and tells what happens on stdout (the protocol is in
//! `interop/README.md`), so a row of the matrix is the same code whoever stands on either side. Where the machine allows
//! it the nodes live in a network namespace that holds nothing but a loopback interface: nothing can be contacted outside.

mod bootstrap;
mod chat;
mod dht;
mod lab;
mod leaving;
mod mainline;
mod meeting;
mod messages;
mod node;
mod restart;
mod values;

use xshell::{Shell, cmd};

use crate::network::Network;
use crate::programs::{self, Programs};
use crate::python::{self, Unavailable};
use crate::report::{Report, Row, progress};
use crate::{UsageError, flags, workspace};
use lab::{Binaries, Kind, Lab, Rows};

/// A group of rows that share their nodes.
struct Group {
    /// What the names of its rows begin with.
    name: &'static str,
    run: fn(&Lab, &mut Rows<'_>) -> anyhow::Result<()>,
}

const GROUPS: [Group; 12] = [
    Group { name: "handshake", run: meeting::handshake },
    Group { name: "data", run: messages::sizes },
    Group { name: "stream", run: messages::streams },
    Group { name: "fetch", run: values::fetches },
    Group { name: "pex", run: meeting::exchange },
    Group { name: "restart", run: restart::restarts },
    Group { name: "leaving", run: leaving::all },
    Group { name: "lan", run: meeting::lan },
    Group { name: "bootstrap", run: bootstrap::lists },
    Group { name: "chat", run: chat::rooms },
    Group { name: "dht", run: dht::values },
    Group { name: "mainline", run: mainline::all },
];

/// Runs the matrix.
///
/// # Errors
/// For an unknown pair, and when a file of the report or a log cannot be written.
pub(crate) fn run(flags: &flags::Interop) -> anyhow::Result<bool> {
    let pair = flags.pair.as_deref().unwrap_or("rs-py");
    let sides =
        Kind::pair(pair).ok_or_else(|| UsageError(format!("there is no pair `{pair}`; say rs-py, py-py or rs-rs")))?;
    let filter = flags.filter.as_deref().unwrap_or_default();
    if !GROUPS.iter().any(|group| selected(group.name, filter)) {
        let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
        return Err(UsageError(format!("no row begins with `{filter}`; the groups are {}", names.join(", "))).into());
    }
    let mut report = Report::new(flags.json.as_deref(), true)?;
    append(&mut report, sides, filter, flags.quick, None)?;
    Ok(report.finish())
}

/// The rows CI runs, with programs that are built already.
///
/// # Errors
/// As [`run`].
pub(crate) fn quick(report: &mut Report, programs: &Programs) -> anyhow::Result<()> {
    append(report, [Kind::Ours, Kind::Reference], "", true, Some(programs))
}

/// Whether the nodes can have a network of their own here; what is missing otherwise.
///
/// # Errors
/// The sentence that says it.
pub(crate) fn isolation(sh: &Shell) -> Result<(), String> {
    Network::isolated(sh).map(drop)
}

fn append(
    report: &mut Report,
    sides: [Kind; 2],
    filter: &str,
    quick: bool,
    programs: Option<&Programs>,
) -> anyhow::Result<()> {
    let sh = workspace::shell()?;
    let reference = match python::reference(&sh) {
        Ok(reference) => reference,
        Err(Unavailable::Missing(why)) => return report.push(Row::not_run("interop", why)),
        Err(Unavailable::Broken(error)) => return report.push(Row::failed("interop", format!("{error:#}"))),
    };
    let binaries = if sides.contains(&Kind::Ours) {
        match binaries(&sh, quick, programs) {
            Ok(binaries) => binaries,
            Err(error) => return report.push(Row::failed("our node", format!("it does not build: {error}"))),
        }
    } else {
        Binaries::default()
    };
    let lab = Lab::new(sides, quick, Network::best(&sh), reference, binaries);
    sh.remove_path("target/interop/logs")?;
    for group in GROUPS.iter().filter(|group| selected(group.name, filter)) {
        let logs = lab.enter(group.name)?;
        let mut rows = Rows::new(report, group.name, filter);
        if let Err(error) = (group.run)(&lab, &mut rows) {
            rows.stopped(&error)?;
        }
        if rows.is_clean() {
            sh.remove_path(logs)?;
        }
    }
    Ok(())
}

/// Whether rows whose names begin with `group` can hold the text `filter`.
fn selected(group: &str, filter: &str) -> bool {
    group.contains(filter) || filter.starts_with(group)
}

/// Our node and our programs: those of the tests where it is to be quick, else as they are shipped.
fn binaries(sh: &Shell, quick: bool, programs: Option<&Programs>) -> anyhow::Result<Binaries> {
    let of = |programs: &Programs| Binaries {
        drive: programs.example("drive"),
        chat: programs.binary("setowire-chat"),
        setowire: programs.binary("setowire"),
    };
    if let Some(programs) = programs {
        return Ok(of(programs));
    }
    progress("building our node");
    if quick {
        programs::build(sh).quiet().run()?;
        return Ok(of(&Programs::of_tests(sh)?));
    }
    cmd!(sh, "cargo build --release -p setowire-swarm --example drive --all-features").quiet().run()?;
    cmd!(sh, "cargo build --release -p setowire-chat -p setowire-cli").quiet().run()?;
    Ok(of(&Programs::shipped(sh)?))
}
