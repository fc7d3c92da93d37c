//! The published node at our HTTP bootstrap server.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::lab::{Finding, Kind, Lab, Rows, Setup};
use super::node::{CONNECT, Node, deliver};
use crate::process::{Process, Stream};

/// A node announces itself half a second after its start.
const ANNOUNCE: Duration = Duration::from_secs(15);
const END: Duration = Duration::from_secs(10);

/// Fetches a page in the network of the nodes.
const FETCH: &str = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=8).read().decode())";

/// Two published nodes that know nothing but our server.
pub(super) fn lists(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    const NAMES: [&str; 2] = ["bootstrap py announces itself to rs", "bootstrap py finds py by the list of rs"];
    if lab.binaries.setowire == Path::new("") {
        return NAMES.iter().try_for_each(|name| rows.not_run(name, "our server is not on either side"));
    }
    let (mut server, url) = serve(lab)?;
    let start = Instant::now();
    let first = lab.node(Kind::Reference, &Setup { bootstrap_http: Some(url.clone()), ..Setup::default() })?;
    let listed = announced(lab, &url, &first);
    let stopped = listed.is_err();
    rows.add(
        NAMES[0],
        None,
        listed.map(|()| Finding::took(start.elapsed()).noting("from its start until it is listed")),
    )?;
    if stopped {
        return rows.not_run(NAMES[1], "the first did not announce itself");
    }
    rows.add(NAMES[1], None, found(lab, &url, first))?;
    server.terminate()?;
    server.exited(END)
}

/// Our server, and its URL.
fn serve(lab: &Lab) -> anyhow::Result<(Process, String)> {
    let mut command = lab.network.command(&lab.binaries.setowire);
    command.args(["serve", "--http", "127.0.0.1:0"]);
    let mut server = lab.spawn(command, "setowire")?;
    let url = server.wait("line `http`", CONNECT, |(stream, line)| {
        line.strip_prefix("http\t").filter(|_| *stream == Stream::Out).map(str::to_owned)
    })?;
    Ok((server, url))
}

/// Waits until the list says of a node what it said of itself, and no more.
fn announced(lab: &Lab, url: &str, node: &Node) -> anyhow::Result<()> {
    let deadline = Instant::now() + ANNOUNCE;
    let port: u16 = node.port().parse().context("a node told of no port")?;
    loop {
        let mut command = lab.network.command(&lab.reference.python);
        let output = command.args(["-c", FETCH]).arg(format!("{url}/peers")).output()?;
        ensure!(output.status.success(), "the list: {}", String::from_utf8_lossy(&output.stderr));
        let list: Value = serde_json::from_slice(&output.stdout).context("the list is no JSON")?;
        if list == json!([{"id": node.id(), "ip": node.ip(), "port": port}]) {
            return Ok(());
        }
        if list != json!([]) || Instant::now() > deadline {
            bail!("the list is {list}");
        }
    }
}

/// A second node that reads the list.
fn found(lab: &Lab, url: &str, mut first: Node) -> anyhow::Result<Finding> {
    let start = Instant::now();
    let mut second = lab.node(Kind::Reference, &Setup { bootstrap_http: Some(url.to_owned()), ..Setup::default() })?;
    second.of_peer("connection", first.name(), CONNECT)?;
    first.of_peer("connection", second.name(), CONNECT)?;
    let time = start.elapsed();
    deliver(&mut first, &mut second, &lab.fresh(100))?;
    deliver(&mut second, &mut first, &lab.fresh(100))?;
    Ok(Finding::took(time).noting("from the start of the second until both told of the connection"))
}
