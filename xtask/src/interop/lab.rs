//! What the groups of rows need: nodes, seeds, and a place for what they find.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::node::{Node, TestBytes, connect};
use crate::network::Network;
use crate::process::Process;
use crate::python::Reference;
use crate::report::{Report, Row};
use crate::workspace;

/// Who wrote a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// We did.
    Ours,
    /// The published Python node.
    Reference,
}

impl Kind {
    /// The two sides of `rs-py`, `py-py` or `rs-rs`.
    pub(super) fn pair(text: &str) -> Option<[Self; 2]> {
        match text {
            "rs-py" => Some([Self::Ours, Self::Reference]),
            "py-py" => Some([Self::Reference; 2]),
            "rs-rs" => Some([Self::Ours; 2]),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "rs",
            Self::Reference => "py",
        })
    }
}

/// What we built.
#[derive(Debug, Default)]
pub(super) struct Binaries {
    pub(super) drive: PathBuf,
    pub(super) chat: PathBuf,
    pub(super) setowire: PathBuf,
}

/// How a node is started.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    /// Hex; a new key without it.
    pub(super) seed: Option<String>,
    /// Any free one without it.
    pub(super) port: Option<String>,
    pub(super) lan: bool,
    /// Topic in hex.
    pub(super) topic: Option<String>,
    /// URL of an HTTP bootstrap server; for a reference.
    pub(super) bootstrap_http: Option<String>,
}

/// The place where nodes meet.
#[derive(Debug)]
pub(super) struct Lab {
    pub(super) sides: [Kind; 2],
    pub(super) quick: bool,
    pub(super) network: Network,
    pub(super) reference: Reference,
    pub(super) binaries: Binaries,
    logs: RefCell<PathBuf>,
    seeds: Cell<u32>,
    started: Cell<u32>,
}

impl Lab {
    pub(super) fn new(
        sides: [Kind; 2],
        quick: bool,
        network: Network,
        reference: Reference,
        binaries: Binaries,
    ) -> Self {
        let (logs, seeds, started) = Default::default();
        Self { sides, quick, network, reference, binaries, logs, seeds, started }
    }

    /// Makes the folder for the logs of a group.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn enter(&self, group: &str) -> anyhow::Result<PathBuf> {
        let logs = workspace::root().join("target/interop/logs").join(group);
        fs::create_dir_all(&logs)?;
        self.logs.replace(logs.clone());
        Ok(logs)
    }

    /// Who faces whom: both orders of the sides, or the one there is.
    pub(super) fn directions(&self) -> Vec<[Kind; 2]> {
        let [a, b] = self.sides;
        if a == b { vec![[a, b]] } else { vec![[a, b], [b, a]] }
    }

    /// Test bytes that no message had before: the reference drops what it has seen within ten minutes.
    pub(super) fn fresh(&self, len: usize) -> TestBytes {
        TestBytes::new(len, self.next())
    }

    /// A number that was not handed out before.
    pub(super) fn next(&self) -> u32 {
        self.seeds.set(self.seeds.get() + 1);
        self.seeds.get()
    }

    /// Starts a node.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) fn node(&self, kind: Kind, setup: &Setup) -> anyhow::Result<Node> {
        let mut command = match kind {
            Kind::Ours => self.network.command(&self.binaries.drive),
            Kind::Reference => {
                let mut command = self.network.command(&self.reference.python);
                command.arg("-B").arg(workspace::root().join("interop/py_node.py"));
                command.arg("--lib").arg(&self.reference.library);
                command
            }
        };
        for (option, value) in [
            ("--seed", &setup.seed),
            ("--port", &setup.port),
            ("--join", &setup.topic),
            ("--bootstrap-http", &setup.bootstrap_http),
        ] {
            if let Some(value) = value {
                command.args([option, value]);
            }
        }
        if setup.lan {
            command.arg("--lan");
        }
        Node::ready(self.spawn(command, &kind.to_string())?)
    }

    /// How many datagrams the kernel dropped at the socket of a node because it did not read them in time: the last
    /// column of `/proc/net/udp`. 0 where the system has no such file.
    ///
    /// # Errors
    /// When the file cannot be read in the network of the nodes.
    pub(super) fn overflow(&self, node: &Node) -> anyhow::Result<u64> {
        const TABLE: &str = "/proc/net/udp";
        if !Path::new(TABLE).exists() {
            return Ok(0);
        }
        let output = self.network.command(Path::new("cat")).arg(TABLE).output()?;
        let local = format!(":{:04X}", node.port().parse::<u16>()?);
        let of_node = |line: &&str| line.split_whitespace().nth(1).is_some_and(|address| address.ends_with(&local));
        let text = String::from_utf8_lossy(&output.stdout);
        let drops = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
        Ok(text.lines().filter(of_node).filter_map(drops).sum())
    }

    /// Starts a process whose log is in the folder of the group.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn spawn(&self, command: std::process::Command, name: &str) -> anyhow::Result<Process> {
        self.started.set(self.started.get() + 1);
        Process::spawn(command, &format!("{:03}-{name}", self.started.get()), &self.logs.borrow())
    }

    /// Two nodes, the first of which has dialled the second.
    ///
    /// # Errors
    /// When they do not come up or not together.
    pub(super) fn connected(&self, dialler: Kind, listener: Kind) -> anyhow::Result<(Node, Node)> {
        let mut a = self.node(dialler, &Setup::default())?;
        let mut b = self.node(listener, &Setup::default())?;
        connect(&mut a, &mut b)?;
        Ok((a, b))
    }
}

/// What a row found.
#[derive(Debug)]
pub(super) struct Finding {
    value: f64,
    unit: &'static str,
    goal: Option<f64>,
    note: String,
}

impl Finding {
    /// Something took this long.
    pub(super) fn took(time: Duration) -> Self {
        Self { value: time.as_secs_f64() * 1000.0, unit: "ms", goal: None, note: String::new() }
    }

    /// So many things arrived.
    pub(super) fn count(count: usize, unit: &'static str) -> Self {
        Self { value: count as f64, unit, goal: None, note: String::new() }
    }

    /// The same with a note.
    pub(super) fn noting(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// The same with a goal it should not exceed.
    pub(super) fn within(self, goal: Option<f64>) -> Self {
        Self { goal, ..self }
    }
}

/// Where the rows of a group go.
pub(super) struct Rows<'r> {
    report: &'r mut Report,
    group: &'static str,
    filter: &'r str,
    clean: bool,
}

impl<'r> Rows<'r> {
    /// Only rows whose name contains `filter` are told.
    pub(super) fn new(report: &'r mut Report, group: &'static str, filter: &'r str) -> Self {
        Self { report, group, filter, clean: true }
    }

    /// Whether every row was told what it hoped for.
    pub(super) fn is_clean(&self) -> bool {
        self.clean
    }

    /// Adds a row. With `fault`, a failure is a proven fault of the reference, which this sentence explains.
    ///
    /// # Errors
    /// When the report cannot be written.
    pub(super) fn add(
        &mut self,
        name: &str,
        fault: Option<&str>,
        found: anyhow::Result<Finding>,
    ) -> anyhow::Result<()> {
        if !name.contains(self.filter) {
            return Ok(());
        }
        self.report.push(match (found, fault) {
            (Ok(found), _) => Row::figure(name, found.value, found.unit, found.goal).noting(found.note),
            (Err(error), Some(fault)) => {
                self.clean = false;
                let note = format!("{fault}; seen here: {error:#}; {}", self.logs());
                Row { value: json!("fault of the reference"), ..Row::passed(name, note) }
            }
            (Err(error), None) => {
                self.clean = false;
                Row::failed(name, format!("{error:#}; {}", self.logs()))
            }
        })
    }

    /// Adds a row for what made the group stop.
    ///
    /// # Errors
    /// When the report cannot be written.
    pub(super) fn stopped(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        self.clean = false;
        let note = format!("the group stopped: {error:#}; {}", self.logs());
        self.report.push(Row::failed(self.group, note))
    }

    fn logs(&self) -> String {
        format!("logs in target/interop/logs/{}", self.group)
    }

    /// Adds a row for something that was left out.
    ///
    /// # Errors
    /// When the report cannot be written.
    pub(super) fn not_run(&mut self, name: &str, why: &str) -> anyhow::Result<()> {
        if !name.contains(self.filter) {
            return Ok(());
        }
        self.report.push(Row::not_run(name, why))
    }
}
