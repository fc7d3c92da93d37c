//! Nodes that find each other: dialled, told by a third, or by beacon.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::lab::{Finding, Kind, Lab, Rows, Setup};
use super::messages::converse;
use super::node::{CONNECT, Node, connect, deliver};

/// Beacons go out every five seconds.
const BEACONS: Duration = Duration::from_secs(20);

/// Either side dials; a message in each direction proves the session.
pub(super) fn handshake(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    for [dialler, listener] in lab.directions() {
        let found = (|| {
            let mut a = lab.node(dialler, &Setup::default())?;
            let mut b = lab.node(listener, &Setup::default())?;
            let time = connect(&mut a, &mut b)?;
            deliver(&mut a, &mut b, &lab.fresh(32))?;
            deliver(&mut b, &mut a, &lab.fresh(32))?;
            Ok(Finding::took(time).noting("until both told of the connection"))
        })();
        rows.add(&format!("handshake {dialler} dials {listener}"), None, found)?;
    }
    Ok(())
}

/// Two nodes that know only the one in the middle hear of each other from it.
pub(super) fn exchange(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    for [middle, outer] in lab.directions() {
        let found = introduced(lab, middle, outer);
        rows.add(&format!("pex {middle} between {outer} and {outer}"), None, found)?;
        if middle == Kind::Reference {
            rows.add(&format!("pex {middle} tells {outer} of a stranger"), None, told(lab, middle, outer))?;
        }
    }
    Ok(())
}

fn introduced(lab: &Lab, middle: Kind, outer: Kind) -> anyhow::Result<Finding> {
    let mut middle = lab.node(middle, &Setup::default())?;
    let mut a = lab.node(outer, &Setup::default())?;
    let mut b = lab.node(outer, &Setup::default())?;
    connect(&mut a, &mut middle)?;
    connect(&mut b, &mut middle)?;
    let early = !a.inside(b.name())?.is_null();
    let start = Instant::now();
    middle.tell("pex")?;
    a.of_peer("connection", b.name(), CONNECT)?;
    b.of_peer("connection", a.name(), CONNECT)?;
    let time = start.elapsed();
    deliver(&mut a, &mut b, &lab.fresh(100))?;
    deliver(&mut b, &mut a, &lab.fresh(100))?;
    let note = if early { "they had met by gossip before the exchange" } else { "until both told of the connection" };
    Ok(Finding::took(time).noting(note))
}

/// The same by the frame alone: the third node is known to nobody, so gossip cannot introduce it.
fn told(lab: &Lab, teller: Kind, listener: Kind) -> anyhow::Result<Finding> {
    let (mut listener, mut teller) = lab.connected(listener, teller)?;
    // Only a peer that has proved its key is believed.
    converse(lab, &mut listener, &mut teller, 1)?;
    let mut stranger = lab.node(lab.sides[0], &Setup::default())?;
    let start = Instant::now();
    teller.tell(&format!("ctrl {} {}", listener.name(), pex_frame(&stranger)?))?;
    listener.of_peer("connection", stranger.name(), CONNECT)?;
    stranger.of_peer("connection", listener.name(), CONNECT)?;
    Ok(Finding::took(start.elapsed()).noting("until both told of the connection"))
}

/// A PEX frame about one node, in hex: type, count, then id, address as text and port, each with its length but the last.
fn pex_frame(node: &Node) -> anyhow::Result<String> {
    let ip: String = node.ip().bytes().map(|byte| format!("{byte:02x}")).collect();
    let port: u16 = node.port().parse().context("a node told of no port")?;
    Ok(format!("300108{}{:02x}{ip}{port:04x}", node.name(), node.ip().len()))
}

/// Beacons on the loopback interface.
pub(super) fn lan(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    let [a, b] = lab.sides;
    rows.add(&format!("lan {a} and {b}"), None, same_topic(lab, a, b))?;
    let apart = format!("lan {a} and {b}, two topics");
    if lab.quick {
        return rows.not_run(&apart, "left out by --quick: it waits for beacons that must do nothing");
    }
    rows.add(&apart, None, two_topics(lab, a, b))
}

fn on_lan(lab: &Lab, kind: Kind, topic: &str) -> anyhow::Result<Node> {
    lab.node(kind, &Setup { lan: true, topic: Some(topic.repeat(32)), ..Setup::default() })
}

fn same_topic(lab: &Lab, a: Kind, b: Kind) -> anyhow::Result<Finding> {
    let start = Instant::now();
    let mut a = on_lan(lab, a, "5e")?;
    let mut b = on_lan(lab, b, "5e")?;
    a.of_peer("connection", b.name(), BEACONS)?;
    b.of_peer("connection", a.name(), BEACONS)?;
    let time = start.elapsed();
    deliver(&mut a, &mut b, &lab.fresh(100))?;
    deliver(&mut b, &mut a, &lab.fresh(100))?;
    Ok(Finding::took(time).noting("from their start; a beacon every 5 s"))
}

fn two_topics(lab: &Lab, a: Kind, b: Kind) -> anyhow::Result<Finding> {
    let mut a = on_lan(lab, a, "0a")?;
    let mut b = on_lan(lab, b, "0b")?;
    let start = Instant::now();
    if let Ok(event) = a.of_peer("connection", b.name(), Duration::from_secs(12)) {
        anyhow::bail!("they met: {event}");
    }
    if let Ok(event) = b.of_peer("connection", a.name(), Duration::ZERO) {
        anyhow::bail!("they met: {event}");
    }
    Ok(Finding::took(start.elapsed()).noting("two beacons of each heard, and no connection"))
}
