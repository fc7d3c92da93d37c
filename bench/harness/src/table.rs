//! Distributed hash tables at the same work: nodes in one process, on loopback, with tables that are warm.
//!
//! A library implements [`Table`] in a program of its own and calls [`run`], which prints one line of JSON with the
//! figures. Nodes take turns: node `i` announces topic `i`, and one far from it in the list looks for it; where there are whole nodes,
//! one connects to another one that it never met. CPU time is that of the process, so of all nodes; datagrams are those that left this
//! network namespace, which nothing else should use.

use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::machine;

/// Nodes, unless `--nodes` says otherwise.
const NODES: usize = 50;
/// Topics, each announced once and looked for once; a tenth as many before that are not measured.
const TOPICS: usize = 50;
const QUICK_TOPICS: usize = 20;
/// How far from a node in the list is who it connects to.
const STRANGER: usize = 7;

/// A library's table.
#[expect(async_fn_in_trait, reason = "only used by the programs of this folder, generically")]
pub trait Table: Sized {
    /// As in the result.
    const NAME: &'static str;

    /// Starts this many nodes and returns when they know each other.
    ///
    /// # Errors
    /// When they do not.
    async fn start(nodes: usize) -> Result<Self>;

    /// Announces one node for a topic; returns when others keep that.
    ///
    /// # Errors
    /// When nobody does.
    async fn announce(&mut self, node: usize, topic: [u8; 32]) -> Result<()>;

    /// Looks for a topic to the end, and says when the first announcement was there.
    ///
    /// # Errors
    /// When there was none.
    async fn lookup(&mut self, node: usize, topic: [u8; 32]) -> Result<Instant>;

    /// Starts as many whole nodes, with tables that are warm, if the library has nodes that connect by key alone.
    ///
    /// # Errors
    /// When they do not find each other.
    async fn start_nodes(&mut self, _nodes: usize) -> Result<bool> {
        Ok(false)
    }

    /// Connects one of the whole nodes to another one of which it knows the key and nothing else, and asks it something; returns
    /// with the answer.
    ///
    /// # Errors
    /// When it is not found, or does not answer.
    async fn connect(&mut self, _node: usize, _to: usize) -> Result<()> {
        anyhow::bail!("there are no whole nodes")
    }
}

/// Runs the work on a table, and prints the figures.
#[must_use]
pub fn run<T: Table>() -> ExitCode {
    let result = figures::<T>();
    match result {
        Ok(figures) => {
            println!("{}", json!({ "table": T::NAME, "figures": figures }));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn figures<T: Table>() -> Result<Value> {
    let options: Vec<String> = env::args().skip(1).collect();
    let quick = options.iter().any(|option| option == "--quick");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        let mut table = T::start(NODES).await.context("the nodes do not find each other")?;
        let start = begun.elapsed();
        let topics = if quick { QUICK_TOPICS } else { TOPICS };
        let warm = topics / 10;
        let (mut announce, mut first, mut all) = (Series::default(), Vec::new(), Series::default());
        for number in 0..warm + topics {
            let topic = topic(number);
            let run = Run::begin()?;
            table.announce(number % NODES, topic).await.with_context(|| format!("announcement {number}"))?;
            if number >= warm {
                run.end(&mut announce)?;
            }
        }
        for number in 0..warm + topics {
            let run = Run::begin()?;
            let found = table.lookup((number + NODES / 2) % NODES, topic(number)).await;
            let found = found.with_context(|| format!("lookup {number}"))?;
            if number >= warm {
                first.push(found.saturating_duration_since(run.begun));
                run.end(&mut all)?;
            }
        }
        let mut connect = Series::default();
        if table.start_nodes(NODES).await.context("whole nodes do not find each other")? {
            for number in 0..warm + topics {
                // No two have met before.
                let (node, to) = (number % NODES, (number + STRANGER + number / NODES) % NODES);
                let run = Run::begin()?;
                table.connect(node, to).await.with_context(|| format!("connection {number}"))?;
                if number >= warm {
                    run.end(&mut connect)?;
                }
            }
        }
        let figure = |value: f64| Some(value).filter(|_| !connect.times.is_empty());
        Ok(json!({
            "connect_ms": figure(median(&connect.times)), "connect_cpu_ms": figure(connect.cpu()),
            "connect_datagrams": figure(connect.datagrams()),
            "nodes": NODES, "topics": topics, "start_ms": millis(start),
            "announce_ms": median(&announce.times), "announce_cpu_ms": announce.cpu(), "announce_datagrams": announce.datagrams(),
            "first_ms": median(&first), "lookup_ms": median(&all.times), "lookup_cpu_ms": all.cpu(),
            "lookup_datagrams": all.datagrams(),
        }))
    })
}

/// No two are alike, and they lie anywhere.
fn topic(number: usize) -> [u8; 32] {
    let mut state = number as u64 + 1;
    let mut topic = [0; 32];
    for chunk in topic.chunks_exact_mut(8) {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    topic
}

/// One operation under way.
struct Run {
    begun: Instant,
    cpu: Duration,
    datagrams: u64,
}

/// What operations took.
#[derive(Default)]
struct Series {
    times: Vec<Duration>,
    cpu: Duration,
    datagrams: u64,
}

impl Run {
    fn begin() -> Result<Self> {
        Ok(Self { datagrams: datagrams()?, cpu: Duration::from_nanos(machine::cpu_time()), begun: Instant::now() })
    }

    fn end(self, series: &mut Series) -> Result<()> {
        series.times.push(self.begun.elapsed());
        series.cpu += Duration::from_nanos(machine::cpu_time()).saturating_sub(self.cpu);
        series.datagrams += datagrams()? - self.datagrams;
        Ok(())
    }
}

impl Series {
    fn cpu(&self) -> f64 {
        millis(self.cpu) / self.times.len().max(1) as f64
    }

    fn datagrams(&self) -> f64 {
        self.datagrams as f64 / self.times.len().max(1) as f64
    }
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().map_or(f64::NAN, millis)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// UDP datagrams that left this network namespace so far.
fn datagrams() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().context("no UDP")?, lines.next().context("no UDP")?);
    let at = names.split(' ').position(|name| name == "OutDatagrams").context("no OutDatagrams")?;
    let value = values.split(' ').nth(at).context("no value")?;
    ensure!(!value.is_empty(), "no value");
    Ok(value.parse()?)
}
