//! A driven node, whoever wrote it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::process::{Line, Process, Stream};

/// How long a node may take to start, and to answer a question about itself.
const START: Duration = Duration::from_secs(15);

/// How long a connection may take: our node wants the other side to prove itself first.
pub(super) const CONNECT: Duration = Duration::from_secs(15);

/// How long a message may take.
pub(super) const DELIVER: Duration = Duration::from_secs(10);

/// A node that obeys the line protocol.
#[derive(Debug)]
pub(super) struct Node {
    process: Process,
    /// 40 hex digits.
    id: String,
    /// Where it listens.
    pub(super) addr: String,
}

impl Node {
    /// Waits until the process has told that it is ready.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn ready(mut process: Process) -> anyhow::Result<Self> {
        let event = process.wait("event `ready`", START, |line| event(line, "ready"))?;
        let field = |name: &str| {
            let text = event[name].as_str().map(str::to_owned);
            text.with_context(|| format!("the event `ready` has no {name}"))
        };
        Ok(Self { id: field("id")?, addr: field("addr")?, process })
    }

    /// The name other nodes have for it: the 16 hex digits that are on the wire.
    pub(super) fn name(&self) -> &str {
        self.id.get(..16).unwrap_or(&self.id)
    }

    /// All of its name: 40 hex digits.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The address it listens on, without the port.
    pub(super) fn ip(&self) -> &str {
        self.addr.rsplit_once(':').map_or("", |(ip, _)| ip)
    }

    /// The port it listens on.
    pub(super) fn port(&self) -> &str {
        self.addr.rsplit_once(':').map_or("0", |(_, port)| port)
    }

    /// Gives it a command.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn tell(&mut self, command: &str) -> anyhow::Result<()> {
        self.process.tell(command)
    }

    /// Waits for an event of this name that `matches`.
    ///
    /// # Errors
    /// When it does not come within `limit`.
    pub(super) fn event(
        &mut self,
        name: &str,
        limit: Duration,
        matches: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        self.process.wait(&format!("event `{name}`"), limit, |line| event(line, name).filter(&matches))
    }

    /// Waits until it tells of `peer` with an event of this name.
    ///
    /// # Errors
    /// As [`Node::event`].
    pub(super) fn of_peer(&mut self, name: &str, peer: &str, limit: Duration) -> anyhow::Result<Value> {
        self.event(name, limit, |event| is_peer(event, peer)).with_context(|| format!("waiting for `{name}` of {peer}"))
    }

    /// Waits for the message with these test bytes.
    ///
    /// # Errors
    /// As [`Node::event`].
    pub(super) fn message(&mut self, bytes: &TestBytes, limit: Duration) -> anyhow::Result<Value> {
        self.event("data", limit, |event| event["sha256"] == *bytes.sha256 && event["len"] == bytes.len)
            .with_context(|| format!("waiting for the message of {} bytes", bytes.len))
    }

    /// The positions in `expected` (digests) of the messages as they arrive, until all are there or `limit` has passed.
    ///
    /// # Errors
    /// When the node ends.
    pub(super) fn arrivals(&mut self, expected: &[String], limit: Duration) -> anyhow::Result<Vec<usize>> {
        let index: std::collections::BTreeMap<&str, usize> =
            expected.iter().enumerate().map(|(i, digest)| (digest.as_str(), i)).collect();
        let deadline = Instant::now() + limit;
        let mut order = Vec::with_capacity(expected.len());
        while order.len() < expected.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let position = |line: &Line| index.get(event(line, "data")?["sha256"].as_str()?).copied();
            match self.process.wait("further message", left, position) {
                Ok(position) => order.push(position),
                Err(_) if Instant::now() >= deadline => break,
                Err(error) => return Err(error),
            }
        }
        Ok(order)
    }

    /// What it says about `peer`, or null.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) fn inside(&mut self, peer: &str) -> anyhow::Result<Value> {
        self.tell("peers")?;
        let event = self.event("peers", START, |_| true)?;
        let peers = event["peers"].as_array().context("the event `peers` has no list")?;
        Ok(peers.iter().find(|info| same_peer(info["id"].as_str(), peer)).cloned().unwrap_or_default())
    }

    /// Waits until it has obeyed all commands so far.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        self.inside("").map(drop)
    }

    /// Lets it leave properly.
    ///
    /// # Errors
    /// When it does not end.
    pub(super) fn quit(mut self) -> anyhow::Result<()> {
        self.tell("quit")?;
        self.process.ended(START)
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill()
    }
}

/// The event in this line, if it is one of this name.
fn event(line: &Line, name: &str) -> Option<Value> {
    let (Stream::Out, text) = line else { return None };
    serde_json::from_str::<Value>(text).ok().filter(|event| event["event"] == name)
}

fn is_peer(event: &Value, peer: &str) -> bool {
    same_peer(event["peer"].as_str(), peer)
}

/// Names are 16 digits in some events and 40 in others.
fn same_peer(a: Option<&str>, b: &str) -> bool {
    a.is_some_and(|a| !b.is_empty() && a.get(..16) == b.get(..16))
}

/// Makes `from` dial `to`; the time until both told of the connection.
///
/// # Errors
/// When one of them does not.
pub(super) fn connect(from: &mut Node, to: &mut Node) -> anyhow::Result<Duration> {
    let start = Instant::now();
    from.tell(&format!("dial {}", to.addr))?;
    from.of_peer("connection", to.name(), CONNECT)?;
    to.of_peer("connection", from.name(), CONNECT)?;
    Ok(start.elapsed())
}

/// Sends `bytes` from one node to the other; the event that told of the arrival, and the time until then.
///
/// # Errors
/// When they do not arrive.
pub(super) fn deliver(from: &mut Node, to: &mut Node, bytes: &TestBytes) -> anyhow::Result<(Value, Duration)> {
    let start = Instant::now();
    from.tell(&format!("send {} {} {}", to.name(), bytes.len, bytes.seed))?;
    let sent = from.event("sent", DELIVER, |event| event["sha256"] == *bytes.sha256)?;
    if sent["targets"] != 1 {
        bail!("it was not sent: {sent}");
    }
    let event = to.message(bytes, DELIVER)?;
    Ok((event, start.elapsed()))
}

/// Bytes that every driver makes the same way from a length and a seed.
#[derive(Clone, Debug)]
pub(super) struct TestBytes {
    pub(super) len: usize,
    pub(super) seed: u32,
    pub(super) sha256: String,
}

impl TestBytes {
    /// The first `len` bytes of SHA-256("setowire-test" ‖ seed ‖ 0) ‖ SHA-256(.. ‖ 1) ‖ .., integers of 32 bits.
    pub(super) fn new(len: usize, seed: u32) -> Self {
        let mut bytes = Vec::with_capacity(len + 32);
        let blocks = (0_u32..).take_while(|i| (*i as usize) * 32 < len);
        for i in blocks {
            let block = Sha256::new().chain_update("setowire-test").chain_update(seed.to_be_bytes());
            bytes.extend_from_slice(&block.chain_update(i.to_be_bytes()).finalize());
        }
        bytes.truncate(len);
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { len, seed, sha256 }
    }
}
