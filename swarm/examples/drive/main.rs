//! A node driven by commands on standard input, which tells what happens as JSON, one object per line.
//!
//! It puts one of our nodes beside any other implementation in a test. `drive --help` lists options and commands.
//! Ids: `ready` names the node by its v12 id (40 hex digits), events name peers by the first 16 of theirs, and
//! commands take either.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]
#![allow(clippy::disallowed_methods, reason = "a program reads the clock")]

mod dht;
mod report;

use std::error::Error;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use framing::v12::limits::{MAX_DATA_PAYLOAD, MAX_FRAG_PAYLOAD, MAX_VALUE};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use swarm::v12::{Config, Dht};
use swarm::v12::{Peer, Swarm, Topic};
use swarm::{PeerId, Preset, SendError, StoreError, TopicId, v12};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use report::{Ask, report};

const HELP: &str = "\
options:
  --bind IP            address to bind, default 127.0.0.1
  --port N             port to bind, default any
  --seed HEX           identity that lasts
  --join HEX           topic to join, 32 bytes
  --lan                announce and look up on the local network (loopback alone when bound to 127.0.0.1)
  --relay              introduce peers to each other
  --max-peers N        peers connected at once
  --bootstrap H:P      address to dial while nobody is connected (repeat; --seeds is the same)
  --no-frag            refuse messages that arrive as plaintext fragments (--allow-frag, the default, does not)
  --danger-frag        send messages over 65,474 bytes as plaintext fragments
  --no-flood           do not pass messages on
commands:
  dial IP:PORT | hello IP:PORT | send PEER|* N [SEED] | sendhex PEER|* HEX | broadcast N [SEED]
  flood COUNT SIZE [GAP_MS] [SEED] | stream PEER COUNT SIZE [SEED] | store KEY N [SEED] | storehex KEY HEX
  fetch KEY [TIMEOUT_MS] | raw IP:PORT HEX | pex [PEER] | relayreq TARGETID | goaway PEER|* | drop PEER
  dht | dhtmeet IP:PORT | dhtput KEY VALUE | dhtfind KEY
  peers | quiet on|off | counts [reset] | stats | kill | quit";

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("drive: {error}\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drive: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    addr: SocketAddr,
    seed: Option<String>,
    topic: Option<TopicId>,
    lan: bool,
    relay: bool,
    flood: bool,
    accept_fragments: bool,
    send_fragments: bool,
    max_peers: Option<NonZeroUsize>,
    seeds: Vec<SocketAddr>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let mut options = Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: None,
            topic: None,
            lan: false,
            relay: false,
            flood: true,
            accept_fragments: true,
            send_fragments: false,
            max_peers: None,
            seeds: Vec::new(),
        };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--bind" => options.addr.set_ip(value()?.parse::<IpAddr>()?),
                "--port" => options.addr.set_port(value()?.parse()?),
                "--seed" => options.seed = Some(value()?),
                "--join" => options.topic = Some(topic(&value()?)?),
                "--lan" => options.lan = true,
                "--relay" => options.relay = true,
                "--no-flood" => options.flood = false,
                "--no-frag" => options.accept_fragments = false,
                "--allow-frag" => options.accept_fragments = true,
                "--danger-frag" => options.send_fragments = true,
                "--max-peers" => options.max_peers = Some(value()?.parse()?),
                "--bootstrap" | "--seeds" => {
                    options.seeds.extend(value()?.to_socket_addrs()?.filter(SocketAddr::is_ipv4))
                }
                "--help" => return Ok(None),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(Some(options))
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    let config = Config::default()
        .accept_plaintext_fragments(options.accept_fragments)
        .danger_send_plaintext_fragments(options.send_fragments);
    let mut builder = Swarm::builder()
        .preset(Preset::Loopback)
        .listen(options.addr)
        .config(config)
        .lan(options.lan)
        .relay(options.relay)
        .flood(options.flood)
        .seeds(options.seeds);
    if let Some(seed) = &options.seed {
        builder = builder.hex_seed(seed);
    }
    if let Some(peers) = options.max_peers {
        builder = builder.max_peers(peers);
    }
    let swarm = builder.bind().await?;
    emit(
        "ready",
        json!({
            "impl": "rust",
            "id": swarm.v12_id().to_string(),
            "pub": HEXLOWER.encode(swarm.id().as_bytes()),
            "addr": swarm.local_addr().to_string(),
        }),
    );
    let joined = options.topic.map(|topic| swarm.join(topic)).transpose()?;
    if let Some(topic) = &joined {
        emit("joined", json!({ "topic_hash": v12::TopicHash::of(topic.id().as_bytes()).as_str() }));
    }
    let (asks, asked) = mpsc::channel(16);
    let mut jobs = JoinSet::new();
    jobs.spawn(report(swarm.events(), asked));
    let max_message = if options.send_fragments { MAX_FRAG_PAYLOAD } else { MAX_DATA_PAYLOAD };
    let mut driver = Driver { swarm, max_message, asks, jobs, dht: None, _joined: joined };
    let mut input = BufReader::new(tokio::io::stdin());
    while let Some(line) = next_line(&mut input).await? {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                emit("error", json!({ "message": error.to_string() }));
                continue;
            }
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["quit"] => break,
            // Not even a goodbye.
            ["kill"] => std::process::exit(0),
            [name, arguments @ ..] => {
                if let Err(error) = driver.command(name, arguments).await {
                    emit("error", json!({ "message": error.to_string() }));
                }
            }
        }
    }
    let unsent = driver.swarm.shutdown(Duration::from_secs(2)).await;
    emit("bye", json!({ "unsent": unsent.messages }));
    Ok(())
}

/// Bytes of a line of input. The longest message that is worth writing in hexadecimal digits fits several times.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// Why a line of input is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum LineError {
    #[error("a line of more than {MAX_LINE} bytes is no command")]
    TooLong,
    #[error("a line that is not UTF-8 is no command")]
    NotText,
}

/// The next line of input, without its end, or `None` when there will be no more. The rest of a line that is too long
/// is skipped, not kept.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Result<String, LineError>>> {
    let (mut line, mut len) = (Vec::new(), 0usize);
    loop {
        let buffer = input.fill_buf().await?;
        if buffer.is_empty() && len == 0 {
            return Ok(None);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        len = len.saturating_add(part.len());
        if len <= MAX_LINE {
            line.extend_from_slice(part);
        }
        let (used, over) = (part.len() + usize::from(end.is_some()), end.is_some() || buffer.is_empty());
        input.consume(used);
        if over {
            let text = if len > MAX_LINE { Err(LineError::TooLong) } else { Ok(line) };
            return Ok(Some(text.and_then(|line| String::from_utf8(line).or(Err(LineError::NotText)))));
        }
    }
}

struct Driver {
    swarm: Swarm,
    /// Bytes of the largest message that this node sends to anybody.
    max_message: usize,
    asks: mpsc::Sender<Ask>,
    /// Dials and fetches, which answer when they end.
    jobs: JoinSet<()>,
    dht: Option<Dht>,
    _joined: Option<Topic>,
}

impl Driver {
    async fn command(&mut self, name: &str, arguments: &[&str]) -> Result<(), Failure> {
        while self.jobs.try_join_next().is_some() {}
        let swarm = self.swarm.clone();
        match (name, arguments) {
            (name, _) if name.starts_with("dht") => return dht::command(&mut self.dht, name, arguments).await,
            ("dial", [addr, ..]) => {
                let addr = addr.parse()?;
                self.jobs.spawn(async move {
                    // `connection` tells of the other end.
                    if let Err(error) = swarm.dial(addr).await {
                        emit("error", json!({ "message": format!("dial: {error}") }));
                    }
                });
            }
            ("hello", [addr]) => {
                let id = swarm.v12_id();
                let hello = [&[0xa1], &id.wire().as_bytes()[..], swarm.id().as_bytes()].concat();
                raw(addr, &hello).await?;
            }
            ("raw", [addr, hex]) => raw(addr, &bytes(hex)?).await?,
            ("send", [to, len, seed @ ..]) => {
                self.send(to, payload(self.size(len)?, number(seed, 0)?)).await?;
            }
            ("sendhex", [to]) => self.send(to, Vec::new()).await?,
            ("sendhex", [to, hex]) => self.send(to, bytes(hex)?).await?,
            ("broadcast", [len, seed @ ..]) => {
                let data = payload(self.size(len)?, number(seed, 0)?);
                let (len, sha256) = (data.len(), digest(&data));
                let targets = swarm.broadcast(data).await?;
                emit("sent", json!({ "n": len, "sha256": sha256, "targets": targets }));
            }
            ("flood", [count, size, more @ ..]) => {
                let gap: f64 = more.first().map_or(Ok(0.0), |gap| gap.parse())?;
                let seed = number(more.get(1..).unwrap_or_default(), 1)?;
                self.flood(count.parse()?, self.size(size)?, Duration::try_from_secs_f64(gap / 1000.0)?, seed).await?;
            }
            ("stream", [to, count, size, seed @ ..]) => {
                let peer = self.peer(to).await?;
                let (count, size): (u32, usize) = (count.parse()?, self.size(size)?);
                let payloads = Payloads::new(count, size, number(seed, 1)?).await?;
                let start = Instant::now();
                for data in payloads {
                    peer.send(data).await?;
                }
                flooded(count, size, count as usize, start);
            }
            ("store", [key, len, seed @ ..]) => {
                let (len, max) = (len.parse()?, MAX_VALUE);
                if len > max {
                    return Err(StoreError::TooLarge { len, max }.into());
                }
                let value = payload(len, number(seed, 0)?);
                swarm.store(key, value).await?;
            }
            ("storehex", [key, hex]) => swarm.store(key, bytes(hex)?).await?,
            ("fetch", [key, timeout @ ..]) => {
                let limit = Duration::from_millis(timeout.first().map_or(Ok(30_000), |ms| ms.parse())?);
                self.jobs.spawn(fetch(swarm, (*key).to_owned(), limit));
            }
            ("pex", []) => swarm.exchange_peers(None).await?,
            ("pex", [peer]) => {
                let peer = self.peer(peer).await?;
                swarm.exchange_peers(Some(peer.id())).await?;
            }
            // The form with a relay's id and address is understood too: a relay we are connected to is asked.
            ("relayreq", [target] | [_, _, target]) => {
                let target: v12::WireId = target.get(..16).ok_or("an id has 16 or 40 hex digits")?.parse()?;
                emit("relay_requested", json!({ "ok": swarm.introduce(target).await? }));
            }
            ("goaway" | "drop", [to]) => {
                for peer in self.targets(to).await? {
                    peer.disconnect().await;
                }
            }
            ("peers", []) => {
                let peers: Vec<Value> = swarm.peers().await.iter().map(peer_info).collect();
                emit("peers", json!({ "peers": peers }));
            }
            ("quiet", [on @ ("on" | "off")]) => self.asks.send(Ask::Quiet(*on == "on")).await?,
            ("counts", reset @ ([] | ["reset"])) => {
                self.asks.send(Ask::Counts { reset: !reset.is_empty() }).await?;
            }
            ("stats", []) => self.stats().await?,
            _ => return Err(format!("unknown command {name}, or not with these arguments").into()),
        }
        Ok(())
    }

    /// The size of a message, refused before a message of it is made.
    fn size(&self, word: &str) -> Result<usize, Failure> {
        let (len, max) = (word.parse()?, self.max_message);
        if len > max { Err(SendError::TooLarge { len, max }.into()) } else { Ok(len) }
    }

    async fn send(&self, to: &str, data: Vec<u8>) -> Result<(), Failure> {
        let (len, sha256, mut targets) = (data.len(), digest(&data), 0);
        for peer in self.targets(to).await? {
            peer.send(data.clone()).await?;
            targets += 1;
        }
        emit("sent", json!({ "n": len, "sha256": sha256, "targets": targets }));
        Ok(())
    }

    async fn flood(&self, count: u32, size: usize, gap: Duration, seed: u32) -> Result<(), Failure> {
        let payloads = Payloads::new(count, size, seed).await?;
        let (start, mut sent) = (Instant::now(), 0);
        for data in payloads {
            sent += self.swarm.broadcast(data).await?;
            if !gap.is_zero() {
                tokio::time::sleep(gap).await;
            }
        }
        flooded(count, size, sent, start);
        Ok(())
    }

    async fn stats(&self) -> Result<(), Failure> {
        let stats = self.swarm.stats().await?;
        let rejected: serde_json::Map<String, Value> =
            stats.node.rejected.iter().map(|(reason, count)| (reason.to_string(), count.into())).collect();
        let fields = json!({
            "rss_kib": rss_kib(),
            "cpu_s": cpu_s(),
            "peers": stats.node.peers,
            "half_open": stats.node.half_open,
            "datagrams_received": stats.node.datagrams_received,
            "datagrams_sent": stats.node.datagrams_sent,
            "messages": stats.node.messages,
            "duplicates": stats.node.duplicates,
            "buffered_bytes": stats.node.buffered_bytes,
            "rejected": rejected,
            "receive_buffer": stats.receive_buffer,
            "segments": stats.segments,
            "send_errors": stats.send_errors,
            "receive_errors": stats.receive_errors,
            "lan_errors": stats.lan_errors,
            "dropped": stats.dropped,
        });
        emit("stats", fields);
        Ok(())
    }

    async fn targets(&self, name: &str) -> Result<Vec<Peer>, Failure> {
        match name {
            "*" => Ok(self.swarm.peers().await.iter().map(|info| self.swarm.peer(&info.id)).collect()),
            _ => Ok(vec![self.peer(name).await?]),
        }
    }

    async fn peer(&self, name: &str) -> Result<Peer, Failure> {
        let peers = self.swarm.peers().await;
        let wanted = name.get(..16).unwrap_or(name);
        let found = peers.iter().find(|info| short(&info.id) == wanted);
        found.map(|info| self.swarm.peer(&info.id)).ok_or_else(|| format!("no peer {name}").into())
    }
}

async fn fetch(swarm: Swarm, key: String, limit: Duration) {
    let start = Instant::now();
    let result = swarm.fetch(&key).timeout(limit).await;
    let ms = start.elapsed().as_millis() as u64;
    match result {
        Ok(value) => {
            emit("fetched", json!({ "key": key, "len": value.len(), "sha256": digest(&value), "ms": ms }));
        }
        Err(error) => emit("fetch_failed", json!({ "key": key, "error": error.to_string(), "ms": ms })),
    }
}

/// Sends a datagram from a socket of its own.
async fn raw(to: &str, datagram: &[u8]) -> Result<(), Failure> {
    let to: SocketAddr = to.parse()?;
    if !to.ip().is_loopback() {
        return Err("raw datagrams go to 127.0.0.0/8 only".into());
    }
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?.send_to(datagram, to).await?;
    Ok(())
}

fn peer_info(info: &swarm::PeerInfo) -> Value {
    json!({
        "id": short(&info.id),
        "addr": info.addr.to_string(),
        "addrs": info.addrs,
        "mesh": info.in_mesh,
        "rtt": info.rtt.as_secs_f64() * 1000.0,
        "cwnd": info.window,
        "inflight": info.in_flight,
        "queued": info.queued,
        "sent": info.sent,
        "received": info.received,
        "proof": if info.proof == swarm::Proof::Key { "key" } else { "address" },
    })
}

/// One line of output. A reader that is gone ends the program: nobody is left to drive it.
fn emit(event: &str, fields: Value) {
    use std::io::Write as _;
    let mut line = format!("{{\"event\":\"{event}\"");
    for (name, value) in fields.as_object().into_iter().flatten() {
        // Writing to a string does not fail.
        let _ = write!(line, ",{}:{value}", json!(name));
    }
    line.push_str("}\n");
    let mut out = std::io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// The first `len` bytes of SHA256("setowire-test", seed, 0), SHA256("setowire-test", seed, 1) and so on.
fn payload(len: usize, seed: u32) -> Vec<u8> {
    let blocks = u32::try_from(len.div_ceil(32)).unwrap_or(u32::MAX);
    let prefix = Sha256::new().chain_update(b"setowire-test").chain_update(seed.to_be_bytes());
    let mut bytes = Vec::with_capacity(len + 32);
    for index in 0..blocks {
        bytes.extend_from_slice(&prefix.clone().chain_update(index.to_be_bytes()).finalize());
    }
    bytes.truncate(len);
    bytes
}

/// The messages of a flood. Making one takes about as long as sending it, so they are made before the clock starts as
/// far as they fit into [`PREPARED`], and on another thread than the node's.
struct Payloads {
    ready: std::vec::IntoIter<Vec<u8>>,
    rest: std::ops::Range<u32>,
    size: usize,
    seed: u32,
}

/// Bytes of messages made beforehand.
const PREPARED: usize = 128 * 1024 * 1024;

impl Payloads {
    async fn new(count: u32, size: usize, seed: u32) -> Result<Self, Failure> {
        let ready = count.min(u32::try_from(PREPARED / size.max(size_of::<Vec<u8>>())).unwrap_or(u32::MAX));
        let make = move || (0..ready).map(|index| payload(size, nth(seed, index))).collect::<Vec<_>>();
        let made = tokio::task::spawn_blocking(make).await?;
        Ok(Self { ready: made.into_iter(), rest: ready..count, size, seed })
    }
}

impl Iterator for Payloads {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.ready.next().or_else(|| Some(payload(self.size, nth(self.seed, self.rest.next()?))))
    }
}

fn flooded(count: u32, size: usize, sent: usize, start: Instant) {
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    emit("flooded", json!({ "count": count, "size": size, "sent": sent, "ms": ms.round() }));
}

/// The seed of the message number `index` of a flood.
const fn nth(seed: u32, index: u32) -> u32 {
    seed.wrapping_mul(1_000_000).wrapping_add(index)
}

fn number(words: &[&str], default: u32) -> Result<u32, Failure> {
    Ok(words.first().map_or(Ok(default), |word| word.parse())?)
}

fn short(id: &PeerId) -> String {
    id.v12_id().wire().to_string()
}

fn digest(data: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(data))
}

fn bytes(hex: &str) -> Result<Vec<u8>, Failure> {
    Ok(HEXLOWER_PERMISSIVE.decode(hex.as_bytes())?)
}

fn topic(hex: &str) -> Result<TopicId, Failure> {
    Ok(TopicId::from_bytes(bytes(hex)?.try_into().or(Err("a topic has 32 bytes, 64 hex digits"))?))
}

fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// Resident memory, where the system tells it.
fn rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
}

/// Time on a processor, of all threads that still run.
fn cpu_s() -> Option<f64> {
    let mut nanoseconds = 0u64;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let times = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += times.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn lines_that_are_no_commands_are_told_and_the_next_is_read() {
        let long = [&vec![b'x'; MAX_LINE][..], b"\n", &vec![b'y'; MAX_LINE + 1], b"\n"].concat();
        let bytes = [&b"peers\n\n\xff\xfe\n"[..], &long, b"stats"].concat();
        for capacity in [1000, 1 << 16] {
            let mut input = BufReader::with_capacity(capacity, &bytes[..]);
            let mut lines = Vec::new();
            while let Some(line) = next_line(&mut input).await.unwrap() {
                lines.push(line.map(|line| line.chars().take(5).collect::<String>()));
            }
            let text = |text: &str| Ok(text.to_owned());
            let expected = [
                text("peers"),
                text(""),
                Err(LineError::NotText),
                text("xxxxx"),
                Err(LineError::TooLong),
                text("stats"),
            ];
            assert_eq!(lines, expected);
        }
    }
}
