//! The distributed hash table of the old wire: values through each other's nodes.
//!
//! Existing nodes never begin to use it by themselves, so each side is told of the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::lab::{Finding, Kind, Lab, Rows, Setup};
use super::node::{DELIVER, Node};

/// What a node asks and is not told in time, it gives up after 5 s.
const FIND: Duration = Duration::from_secs(15);

/// A third node finds through one side what the other side put, both ways round.
pub(super) fn values(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    for [keeper, user] in lab.directions() {
        let found = through(lab, keeper, user);
        rows.add(&format!("dht {user} puts and {user} finds through {keeper}"), None, found)?;
        rows.add(&format!("dht {user} finds what {keeper} put"), None, direct(lab, keeper, user))?;
    }
    Ok(())
}

/// Two nodes that know the one in the middle alone.
fn through(lab: &Lab, keeper: Kind, user: Kind) -> anyhow::Result<Finding> {
    let mut middle = Table::start(lab, keeper)?;
    let [mut one, mut other] = [Table::start(lab, user)?, Table::start(lab, user)?];
    let (key, value) = names(lab);
    one.meet(&middle)?;
    one.put(&key, &value)?;
    // The middle has the value once it says so.
    middle.find(&key, Some(&value))?;
    other.meet(&middle)?;
    let start = Instant::now();
    other.find(&key, Some(&value))?;
    let time = start.elapsed();
    other.find("nothing", None)?;
    Ok(Finding::took(time))
}

/// Whoever asks is told what the other keeps as its own.
fn direct(lab: &Lab, keeper: Kind, user: Kind) -> anyhow::Result<Finding> {
    let (mut middle, mut one) = (Table::start(lab, keeper)?, Table::start(lab, user)?);
    let (key, value) = names(lab);
    middle.put(&key, &value)?;
    one.meet(&middle)?;
    let start = Instant::now();
    one.find(&key, Some(&value))?;
    Ok(Finding::took(start.elapsed()))
}

fn names(lab: &Lab) -> (String, String) {
    let number = lab.next();
    (format!("key:{number}"), format!("value-{number}-\"quoted\"-ü"))
}

/// A node of the table.
struct Table {
    node: Node,
    addr: String,
    id: String,
}

impl Table {
    fn start(lab: &Lab, kind: Kind) -> anyhow::Result<Self> {
        let mut node = lab.node(kind, &Setup::default())?;
        node.tell("dht")?;
        let event = node.event("dht", DELIVER, |_| true)?;
        let text = |name: &str| event[name].as_str().map(str::to_owned).context("the event `dht` lacks something");
        Ok(Self { addr: text("addr")?, id: text("id")?, node })
    }

    fn meet(&mut self, other: &Self) -> anyhow::Result<()> {
        self.node.tell(&format!("dhtmeet {} {}", other.addr, other.id))?;
        self.node.event("dhtmet", DELIVER, |event| event["addr"] == *other.addr).map(drop)
    }

    fn put(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        self.node.tell(&format!("dhtput {key} {value}"))?;
        self.node.event("dhtput", DELIVER, |event| event["key"] == *key).map(drop)
    }

    fn find(&mut self, key: &str, expected: Option<&str>) -> anyhow::Result<()> {
        self.node.tell(&format!("dhtfind {key}"))?;
        let event = self.node.event("dhtfound", FIND, |event| event["key"] == *key)?;
        if event["value"].as_str() != expected {
            bail!("found {} instead of {expected:?}", event["value"]);
        }
        Ok(())
    }
}
