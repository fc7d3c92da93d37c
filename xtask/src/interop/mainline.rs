//! A BitTorrent Mainline DHT of libtorrent's nodes, and ours in it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::chat::noticed;
use super::lab::{Finding, Kind, Lab, Rows};
use crate::process::{Process, Stream};
use crate::{python, workspace};

/// Nodes of libtorrent.
const NODES: usize = 10;

const START: Duration = Duration::from_secs(30);

/// Searches are repeated after 10, 20 and 40 seconds.
const MEET: Duration = Duration::from_secs(60);

/// What the chat makes a topic of.
const TOPIC: &str = "chat:lobby";

/// Two of ours meet by topic alone, libtorrent sees and finds both, and a third finds one by its id.
pub(super) fn all(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    const MEETING: &str = "mainline rs meets rs by topic";
    if !lab.sides.contains(&Kind::Ours) {
        return Ok(());
    }
    if let Err(why) = python::libtorrent(&workspace::shell()?, &lab.reference) {
        return rows.not_run(MEETING, &why);
    }
    let mut nodes = nodes(lab)?;
    nodes.process.tell(&format!("watch {TOPIC}"))?;
    let mut alice = Chat::start(lab, "alice", "lobby", 1, &nodes, &[])?;
    let announced = nodes.see("announced", &alice);
    let announced = announced.map(|time| Finding::took(time).noting("from its start to the first alert about it"));
    rows.add("mainline libtorrent is told of rs", None, announced)?;

    let start = Instant::now();
    let mut bob = Chat::start(lab, "bob", "lobby", 2, &nodes, &[])?;
    let met = noticed(&mut bob.process, "alice").and_then(|()| noticed(&mut alice.process, "bob"));
    let note = format!("through {NODES} nodes of libtorrent {}, from the start of the second", nodes.version);
    rows.add(MEETING, None, met.map(|()| Finding::took(start.elapsed()).noting(note)))?;

    // Bob says that he is there once he has seen who is.
    let found = nodes.see("announced", &bob).and_then(|_| {
        nodes.process.tell(&format!("lookup {TOPIC}"))?;
        let start = Instant::now();
        nodes.see("found", &alice)?;
        nodes.see("found", &bob)?;
        Ok(start.elapsed())
    });
    rows.add("mainline libtorrent finds both rs", None, found.map(Finding::took))?;

    let start = Instant::now();
    let mut carol = Chat::start(lab, "carol", "elsewhere", 3, &nodes, &["--dial", &alice.id])?;
    let connected = alice.id.get(..10).context("an id is longer").and_then(|id| carol.notice("* found", id));
    rows.add("mainline rs finds rs by its id", None, connected.map(|()| Finding::took(start.elapsed())))?;
    Ok(())
}

/// The nodes of libtorrent.
struct Nodes {
    process: Process,
    version: String,
    first: String,
}

fn nodes(lab: &Lab) -> anyhow::Result<Nodes> {
    let mut command = lab.network.command(&lab.reference.python);
    command.arg("-B").arg(workspace::root().join("interop/lt_dht.py")).args(["--nodes", &NODES.to_string()]);
    let mut process = lab.spawn(command, "libtorrent")?;
    let ready = process.wait("event `ready`", START, |(_, line)| event(line, "ready"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("the event `ready` is not as it should be");
    Ok(Nodes { version: text(&ready["version"])?, first: text(&ready["nodes"][0])?, process })
}

impl Nodes {
    /// Waits until one of them tells this of a chat.
    fn see(&mut self, name: &str, chat: &Chat) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let what = format!("event `{name}` with {}", chat.addr);
        self.process.wait(&what, MEET, |(_, line)| event(line, name).filter(|event| event["addr"] == *chat.addr))?;
        Ok(start.elapsed())
    }
}

fn event(line: &str, name: &str) -> Option<Value> {
    serde_json::from_str::<Value>(line).ok().filter(|event| event["event"] == name)
}

/// A chat of ours that has nothing but the DHT to find others by.
struct Chat {
    process: Process,
    addr: String,
    id: String,
}

impl Chat {
    fn start(lab: &Lab, nick: &str, room: &str, host: u8, nodes: &Nodes, more: &[&str]) -> anyhow::Result<Self> {
        let mut command = lab.network.command(&lab.binaries.chat);
        let bind = format!("127.0.2.{host}:0");
        command.args([nick, room, "--no-lan", "--bind", &bind, "--mainline", &nodes.first]).args(more);
        command.env_remove("RUST_LOG");
        let mut process = lab.spawn(command, nick)?;
        let told = |(stream, line): &(Stream, String)| {
            let uri = line.strip_prefix("* others reach you by --dial p2p://").filter(|_| *stream == Stream::Err)?;
            uri.split_once('@').map(|(id, addr)| (id.to_owned(), addr.to_owned()))
        };
        let (id, addr) = process.wait("its address", START, told)?;
        Ok(Self { process, addr, id })
    }

    /// Waits for a notice with both texts in it.
    fn notice(&mut self, one: &str, other: &str) -> anyhow::Result<()> {
        self.process.wait(&format!("notice `{one} {other}`"), MEET, |(stream, line)| {
            (*stream == Stream::Err && line.contains(one) && line.contains(other)).then_some(())
        })
    }
}
