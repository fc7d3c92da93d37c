//! One side ends and comes back with the same key.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::lab::{Finding, Kind, Lab, Rows, Setup};
use super::messages::{acquaint, converse};
use super::node::{Node, TestBytes};

/// Messages each way before the restart: more than can be sent for a try within [`LIMIT`] afterwards, so that what is
/// left of the old order is noticed.
const BEFORE: usize = 30;

/// Within this time messages flow both ways again.
const LIMIT: Duration = Duration::from_secs(10);

/// Time between two tries.
const TRY: Duration = Duration::from_millis(500);

/// Every way to restart either side.
pub(super) fn restarts(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    for [restarted, survivor] in lab.directions() {
        for clean in [false, true] {
            for same_port in [true, false] {
                let how = if clean { "quits" } else { "is killed" };
                let port = if same_port { "same port" } else { "other port" };
                let name = format!("restart {restarted} {how}, {port}, {survivor} stays");
                if lab.quick && clean == same_port {
                    rows.not_run(&name, "left out by --quick")?;
                    continue;
                }
                let fault = (survivor == Kind::Reference && restarted == Kind::Reference).then_some(
                    "a reference keeps order, counter and best address of a peer that comes back, \
                     and ignores the GOAWAY of one byte that its own kind sends",
                );
                rows.add(&name, fault, restart(lab, restarted, survivor, clean, same_port))?;
            }
        }
    }
    Ok(())
}

fn restart(lab: &Lab, restarted: Kind, survivor: Kind, clean: bool, same_port: bool) -> anyhow::Result<Finding> {
    let seed = format!("{:064x}", lab.next());
    let mut survivor = lab.node(survivor, &Setup::default())?;
    let mut node = lab.node(restarted, &Setup { seed: Some(seed.clone()), ..Setup::default() })?;
    acquaint(lab, &mut node, &mut survivor, BEFORE)?;

    let (name, port) = (node.name().to_owned(), node.port().to_owned());
    if clean {
        node.quit()?;
    } else {
        node.kill()?;
    }
    let setup = Setup { seed: Some(seed), port: same_port.then_some(port), ..Setup::default() };
    let mut node = lab.node(restarted, &setup)?;
    if node.name() != name {
        bail!("the same seed gave another id: {} instead of {name}", node.name());
    }
    let start = Instant::now();
    node.tell(&format!("dial {}", survivor.addr))?;
    let flowing = flow_again(lab, &mut node, &mut survivor, start);
    flowing.with_context(|| format!("the survivor says {}", survivor.inside(&name).unwrap_or_default()))?;
    let time = start.elapsed();
    converse(lab, &mut node, &mut survivor, 5).context("after the first messages")?;
    Ok(Finding::took(time).noting("until a message had arrived each way"))
}

/// Sends something each way again and again until one has arrived each way.
fn flow_again(lab: &Lab, a: &mut Node, b: &mut Node, start: Instant) -> anyhow::Result<()> {
    let (mut to_b, mut to_a): (Vec<TestBytes>, Vec<TestBytes>) = Default::default();
    let (mut at_a, mut at_b) = (false, false);
    while !(at_a && at_b) {
        if start.elapsed() > LIMIT {
            let arrived = |done| if done { "arrived" } else { "did not arrive" };
            bail!(
                "of {} messages each way, those to the survivor {} and those from it {}",
                to_b.len(),
                arrived(at_b),
                arrived(at_a)
            );
        }
        if !at_b {
            try_once(lab, a, b.name(), &mut to_b)?;
        }
        if !at_a {
            try_once(lab, b, a.name(), &mut to_a)?;
        }
        let pause = if at_a || at_b { TRY } else { TRY / 2 };
        at_b = at_b || any_arrived(b, &to_b, pause)?;
        at_a = at_a || any_arrived(a, &to_a, pause)?;
    }
    Ok(())
}

fn try_once(lab: &Lab, from: &mut Node, to: &str, sent: &mut Vec<TestBytes>) -> anyhow::Result<()> {
    let bytes = lab.fresh(64);
    from.tell(&format!("send {to} {} {}", bytes.len, bytes.seed))?;
    sent.push(bytes);
    Ok(())
}

/// Waits a little for one of these messages.
fn any_arrived(at: &mut Node, sent: &[TestBytes], limit: Duration) -> anyhow::Result<bool> {
    let one_of_them = |event: &serde_json::Value| sent.iter().any(|bytes| event["sha256"] == *bytes.sha256);
    match at.event("data", limit, one_of_them) {
        Ok(_) => Ok(true),
        // Nothing yet; a node that has ended answers no question either.
        Err(_) => at.settle().map(|()| false),
    }
}
