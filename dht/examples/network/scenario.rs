//! What is simulated, and how good it should be.

use std::time::{Duration, Instant};

use dht::{Family, Item, Subnets};
use sim::{Link, Places, Samples};

use crate::measure::{self, Figures, Load};
use crate::net::{Network, Plan, Start};
use crate::node::Lie;
use crate::options::Options;

/// Runs a scenario and prints its figures.
pub fn run(name: &str, options: &Options) {
    let started = Instant::now();
    let calm = name == "calm";
    let start = if calm && options.nodes <= JOINED { Start::Join } else { Start::Tables };
    let plan = Plan {
        nodes: options.nodes,
        seed: options.seed,
        start: options.start.unwrap_or(start),
        places: Places::World,
        link: Link::perfect().loss(f64::from(options.loss) / 1000.0),
        liars: match name {
            "liars20" | "grinders20" => 20,
            "liars40" | "grinders40" => 40,
            _ => 0,
        },
        lies: &[Lie::Invent, Lie::Drop, Lie::End, Lie::Collude],
        prey: None,
    };
    let mut rows = Rows { name };
    if name.starts_with("grinders") {
        return grinders(plan, options, &mut rows);
    }
    let mut network = Network::new(plan);
    match name {
        "subnet" => subnet(&mut network, &mut rows),
        "idle" => idle(&mut network, &mut rows),
        "churn" => {
            let span = Duration::from_secs(60) * options.minutes;
            // Half of the nodes in an hour.
            let replaced = options.nodes * options.minutes / 120;
            measure::run(&mut network, Load { queries: 0, replaced, span });
            let figures = measure::run(&mut network, Load { queries: options.queries, replaced, span });
            found(&mut rows, &figures, 99.0);
            cost(&mut rows, &figures, &network, None);
        }
        _ => {
            let span = Duration::from_millis(150) * options.queries;
            let figures = measure::run(&mut network, Load { queries: options.queries, replaced: 0, span });
            let least = match name {
                "liars40" => 90.0,
                "liars20" => 99.0,
                _ => 99.9,
            };
            found(&mut rows, &figures, least);
            cost(&mut rows, &figures, &network, calm.then_some(plan));
        }
    }
    let note = format!("{} steps, trace {:016x}", network.world.steps(), network.world.trace_hash());
    rows.most("time to simulate it", started.elapsed().as_secs_f64(), "s", None, &note);
}

/// Whether queries found what they must.
fn found(rows: &mut Rows<'_>, figures: &Figures, least: f64) {
    let note = format!("n={}", figures.lookups);
    rows.least("lookups that found the closest honest node", figures.closest, "%", least, &note);
    rows.least("of the 20 closest, honest ones found", figures.recall, "%", least, &note);
    rows.least("values found", figures.gets.found, "%", least, &format!("n={}", figures.gets.count));
    rows.least(
        "topics of which a peer was found",
        figures.peers.found,
        "%",
        least,
        &format!("n={}", figures.peers.count),
    );
}

/// What it took. Goals are for calm networks.
fn cost(rows: &mut Rows<'_>, figures: &Figures, network: &Network, calm: Option<Plan>) {
    let rtt = Samples::new(network.round_trips());
    let median = rtt.median().unwrap_or_default().as_secs_f64();
    let times = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() / median;
    let share = |time: &Samples<Duration>| {
        format!(
            "p50 {:.0?}, p90 {:.0?}, p99 {:.0?}",
            time.median().unwrap_or_default(),
            time.percentile(90.0).unwrap_or_default(),
            time.percentile(99.0).unwrap_or_default()
        )
    };
    rows.most("median round trip", median * 1e3, "ms", None, &share(&rtt));
    let rounds = calm.map(|plan| f64::from(plan.nodes).log2() / 2.0 + 1.0);
    let hops = f64::from(figures.hops.median().unwrap_or(0)) + 1.0;
    rows.most("rounds until the closest node answers, median", hops, "", rounds, &figures.hops.to_string());
    rows.most(
        "nodes asked by a lookup, median",
        f64::from(figures.asked.median().unwrap_or(0)),
        "",
        None,
        &figures.asked.to_string(),
    );
    let datagrams = figures.datagrams;
    rows.most("datagrams of a lookup, mean", datagrams, "", None, "a request and an answer for each node asked");
    let goal = |goal: f64| calm.map(|_| goal);
    rows.most(
        "median time to the end of a lookup",
        times(figures.time.median()),
        "RTT",
        goal(6.0),
        &share(&figures.time),
    );
    let first = figures.gets.first.median().max(figures.peers.first.median());
    let note = format!("values: {}; peers: {}", share(&figures.gets.first), share(&figures.peers.first));
    rows.most("median time to the first valid record", times(first), "RTT", goal(2.5), &note);
    let note = format!("{} stored on 20 nodes each, first", figures.published);
    rows.most("median time to publish", times(figures.publish.median()), "RTT", None, &note);
}

/// Networks in which all liars have the places that are closest to one value: is it found?
fn grinders(plan: Plan, options: &Options, rows: &mut Rows<'_>) {
    let least = if plan.liars > 20 { 90.0 } else { 99.0 };
    let queries = (options.queries / PREYS).max(1);
    let (mut asked, mut closest, mut values, mut kept) = (0.0, 0.0, 0.0, Vec::new());
    for seed in (plan.seed..).take(PREYS as usize) {
        let value = Item::Value(seed.to_be_bytes().as_slice().into());
        let mut network = Network::new(Plan { prey: Some(value.key()), seed, ..plan });
        let hunt = measure::hunt(&mut network, &value, queries);
        (asked, closest, values) = (asked + hunt.asked, closest + hunt.closest, values + hunt.values);
        kept.push(hunt.kept);
    }
    let percent = |part: f64| part * 100.0 / f64::max(asked, 1.0);
    let note = format!("n={asked}, in {PREYS} networks with one value each");
    rows.least("lookups that found the closest honest node", percent(closest), "%", least, &note);
    rows.least("values found", percent(values), "%", least, &note);
    let kept = Samples::new(kept);
    let honest = kept.median().unwrap_or(0) as f64;
    rows.most("honest nodes that keep the value, median", honest, "", None, &kept.to_string());
}

/// How much of any table nodes of one public /24 get, who join as everybody does.
fn subnet(network: &mut Network, rows: &mut Rows<'_>) {
    let attackers = 100;
    for host in 1..=attackers {
        network.join_at(([198, 18, 7, host], 4000).into());
        network.world.run_for(Duration::from_millis(100));
    }
    // Their lookups let everybody know them, as far as anybody wants to.
    measure::run(network, Load { queries: 100, replaced: 0, span: Duration::from_secs(120) });
    let attacker = |ip: std::net::IpAddr| Subnets::Public.of(ip) == Subnets::Public.of([198, 18, 7, 1].into());
    let members = network.members.iter().filter(|member| !attacker(member.contact.addr.ip()));
    let held = members.filter_map(|member| {
        let table = network.world.get(member.id)?.dht.table(Family::V4);
        Some(table.iter().filter(|node| attacker(node.contact.addr.ip())).count())
    });
    let held = Samples::new(held);
    let most = held.max().unwrap_or(0) as f64;
    rows.most(
        "entries of one /24 in any table, the most",
        most,
        "",
        Some(10.0),
        &format!("of {attackers} nodes there; {held}"),
    );
}

/// What a node takes when nobody looks for anything: each checks its contacts, and is checked.
fn idle(network: &mut Network, rows: &mut Rows<'_>) {
    let before = network.world.traffic().sent;
    // What nodes tell their owners is taken, as an owner does.
    for _ in 0..IDLE.as_secs() / TAKEN.as_secs() {
        network.world.run_for(TAKEN);
        for member in &network.members {
            drop(network.world.take_events(member.id));
        }
    }
    let sent = network.world.traffic().sent;
    let nodes = network.members.len() as f64;
    // Of the whole program: the simulator's own share, and what the allocator does not give back, are in it.
    if let Some(bytes) = resident() {
        let note = "of the whole program; 64 for a node is the goal";
        rows.most("memory per node", bytes as f64 / 1024.0 / nodes, "KiB", Some(64.0), note);
    }
    let tables = network.world.machines().map(|node| node.dht.table(Family::V4).len());
    let contacts = Samples::new(tables);
    rows.most("contacts of a node, median", contacts.median().unwrap_or(0) as f64, "", None, &contacts.to_string());
    let datagrams = (sent.datagrams - before.datagrams) as f64 / nodes / IDLE.as_secs_f64();
    rows.most("datagrams sent by a node", datagrams, "/s", None, &format!("in {} minutes", IDLE.as_secs() / 60));
    let bytes = (sent.bytes - before.bytes) as f64 / nodes / IDLE.as_secs_f64();
    rows.most("bytes sent by a node", bytes, "/s", None, "without headers of UDP and IP");
}

/// The memory of this process in bytes, where the system tells.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

struct Rows<'a> {
    name: &'a str,
}

impl Rows<'_> {
    fn most(&mut self, what: &str, value: f64, unit: &str, goal: Option<f64>, note: &str) {
        let (bound, goal) = goal.map_or(("", String::new()), |goal| ("most", format!("{goal:.2}")));
        println!("{}: {what}\t{value:.3}\t{unit}\t{bound}\t{goal}\t{note}", self.name);
    }

    fn least(&mut self, what: &str, value: f64, unit: &str, goal: f64, note: &str) {
        println!("{}: {what}\t{value:.3}\t{unit}\tleast\t{goal}\t{note}", self.name);
    }
}

/// Networks with a value each that liars crowd around.
const PREYS: u32 = 10;
/// Longer than any cache remembers.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// How often events are taken meanwhile.
const TAKEN: Duration = Duration::from_secs(10);
/// Networks up to this size come into being by joining; larger ones take too long that way.
const JOINED: u32 = 1000;
