//! Stored values, fetched by the other side.

use std::time::Duration;

use anyhow::bail;

use super::lab::{Finding, Kind, Lab, Rows};
use super::node::Node;

const KB: usize = 1000;
const MB: usize = 1000 * KB;

/// A reference keeps the last 255 pieces of 900 bytes of what it is to send.
const RING: usize = 255 * 900;

/// Half of what the socket of a reference holds when it is not read in time.
const SOCKET: usize = 50 * KB;

/// A value of 10 MB should come within this many milliseconds.
const GOAL_10_MB: f64 = 5000.0;

/// Values of all sizes from each side.
pub(super) fn fetches(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    for [server, client] in lab.directions() {
        let (mut fetching, mut serving) = lab.connected(client, server)?;
        for &size in sizes(server) {
            let name = format!("fetch {} by {client} from {server}", size_text(size));
            if lab.quick && sizes(server).last() == Some(&size) {
                rows.not_run(&name, "left out by --quick: the largest takes longest")?;
                continue;
            }
            let fault = fault(server, client, size);
            let limit = Duration::from_secs(if fault.is_some() { 5 } else { 25 });
            let found = fetch(lab, &mut serving, &mut fetching, size, limit);
            let goal = (size == 10 * MB).then_some(GOAL_10_MB);
            let found = found.map(|found| found.within(goal));
            rows.add(&name, fault, found)?;
        }
    }
    Ok(())
}

/// What to fetch from such a server: from a reference up to one value that it cannot send.
fn sizes(server: Kind) -> &'static [usize] {
    match server {
        Kind::Ours => &[100, 10 * KB, 200 * KB, MB, 10 * MB],
        Kind::Reference => &[100, 10 * KB, 100 * KB, MB],
    }
}

/// Why such a fetch may fail without a fault of ours.
fn fault(server: Kind, client: Kind, size: usize) -> Option<&'static str> {
    if server != Kind::Reference {
        return None;
    }
    if size > RING {
        return Some("the reference sends a value through a ring of 255 pieces, from which the oldest fall out");
    }
    (client == Kind::Reference && size > SOCKET)
        .then_some("the reference sends a value in one burst, and asks only once for what its socket lost of it")
}

fn fetch(lab: &Lab, serving: &mut Node, fetching: &mut Node, size: usize, limit: Duration) -> anyhow::Result<Finding> {
    let value = lab.fresh(size);
    let key = format!("value-{}", value.seed);
    serving.tell(&format!("store {key} {size} {}", value.seed))?;
    serving.settle()?;
    fetching.tell(&format!("fetch {key} {}", limit.as_millis()))?;
    let of_key = |event: &serde_json::Value| event["key"] == *key;
    let event = match fetching.event("fetched", limit, of_key) {
        Ok(event) => event,
        Err(error) => match fetching.event("fetch_failed", Duration::from_secs(2), of_key) {
            Ok(event) => bail!("{event}"),
            Err(_) => return Err(error),
        },
    };
    if event["sha256"] != *value.sha256 || event["len"] != size {
        bail!("another value came: {event}");
    }
    let time = Duration::from_millis(event["ms"].as_u64().unwrap_or_default());
    let rate = size as f64 / 1e6 / time.as_secs_f64().max(0.001);
    Ok(Finding::took(time).noting(if size >= MB { format!("{rate:.1} MB/s") } else { String::new() }))
}

fn size_text(size: usize) -> String {
    match size {
        MB.. => format!("{} MB", size / MB),
        KB.. => format!("{} kB", size / KB),
        _ => format!("{size} B"),
    }
}
