//! A node for laboratories of networks: it obeys commands on standard input and tells what happens as JSON, one object per
//! line. `cargo xtask natlab` runs it on both sides of NATs, and on the public hosts between them.
//!
//! | command | answer |
//! |---|---|
//! | `status` | `status`: whether others can find it by its id, its ticket, its peers |
//! | `nat` | `nat`: where others see it, and what NAT that makes |
//! | `dial TARGET [MS]` | `dialled` when the first request is answered, or why not; `settled` once the path is direct, or after MS |
//! | `path ID` | `path`: how a peer is reached now |
//! | `send ID COUNT EVERY_MS BYTES` | `sent` when all of these numbered messages were accepted |
//! | `heard ID` | `heard`: which numbered messages came, and the longest pause between two of them |
//! | `quit` | it leaves, and ends |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]
#![allow(clippy::disallowed_methods, reason = "a program reads the clock, waits and runs tasks")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use swarm::discovery::Task;
use swarm::nat::Way;
use swarm::{Builder, DialTarget, Peer, PeerId, Preset, Protocol, RelayState, Swarm, SwarmEvent};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

/// What is asked to see that somebody is there.
const PING: Protocol = Protocol::new("lab/ping/1");
/// How long its answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// How often it is looked whether a path became direct.
const LOOK: Duration = Duration::from_millis(10);

const HELP: &str = "\
options:
  --server             a node that others begin at
  --listen IP:PORT     address to listen on (repeat), default every interface
  --seed HEX           identity that lasts, 64 digits
  --stun HOST:PORT     server that says where it sees the node (repeat)
  --serve-stun         answer such questions of others
  --port-mapping       ask the router to forward a port (with the feature `portmap`)
  --no-dht             no distributed hash table: peers are reached by what tickets say
  --relay TARGET       relay to be reached through (repeat)
  --bootstrap TARGET   node of the distributed hash table to begin at (repeat)";

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match options(std::env::args().skip(1)) {
        Ok(builder) => run(builder).await,
        Err(error) => Err(format!("{error}\n{HELP}").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Builder, Failure> {
    let mut builder = Swarm::builder().lan(false).agent("lab");
    while let Some(option) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{option} wants a value"));
        builder = match option.as_str() {
            "--server" => builder.preset(Preset::Server),
            "--listen" => builder.listen(value()?.parse::<SocketAddr>()?),
            "--seed" => {
                let bytes = data_encoding::HEXLOWER.decode(value()?.as_bytes())?;
                builder.seed(bytes.try_into().map_err(|_bytes| "a seed has 64 digits")?)
            }
            "--stun" => builder.stun([value()?]),
            "--serve-stun" => builder.serve_stun(true),
            #[cfg(feature = "portmap")]
            "--port-mapping" => builder.port_mapping(true),
            "--no-dht" => builder.dht(false),
            "--relay" => builder.relays([value()?.parse::<DialTarget>()?]),
            "--bootstrap" => builder.bootstrap([value()?.parse::<DialTarget>()?]),
            _ => return Err(format!("there is no option {option}").into()),
        };
    }
    Ok(builder)
}

async fn run(builder: Builder) -> Result<(), Failure> {
    let swarm = builder.bind().await?;
    let _answers = swarm.respond(PING, |_from, body| async move { Ok::<Bytes, Failure>(body) })?;
    let addrs: Vec<String> = swarm.local_addrs().iter().map(ToString::to_string).collect();
    tell("ready", &json!({ "id": swarm.id().to_string(), "addrs": addrs }));
    let mut events = swarm.events();
    let mut heard: BTreeMap<PeerId, Heard> = BTreeMap::new();
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(SwarmEvent::Data(message)) => heard.entry(message.from).or_default().note(&message.data),
                Some(event) => on_event(&event),
                None => return Ok(()),
            },
            line = lines.next_line() => match line? {
                Some(line) if line.trim() == "quit" => break,
                Some(line) => {
                    if let Err(error) = obey(&swarm, &heard, &line).await {
                        tell("refused", &json!({ "command": line, "why": error.to_string() }));
                    }
                }
                None => break,
            },
        }
    }
    swarm.shutdown(Duration::from_millis(500)).await;
    Ok(())
}

fn on_event(event: &SwarmEvent) {
    match event {
        SwarmEvent::Connected { peer, addr, .. } => {
            tell("connected", &json!({ "peer": peer.to_string(), "addr": addr.to_string() }));
        }
        SwarmEvent::Moved { peer, addr } => {
            tell("moved", &json!({ "peer": peer.to_string(), "addr": addr.to_string() }));
        }
        SwarmEvent::Disconnected { peer, reason } => {
            tell("disconnected", &json!({ "peer": peer.to_string(), "why": reason.to_string() }));
        }
        other => tell("other", &json!({ "what": format!("{other:?}") })),
    }
}

async fn obey(swarm: &Swarm, heard: &BTreeMap<PeerId, Heard>, line: &str) -> Result<(), Failure> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["status"] => tell("status", &status(swarm).await),
        ["nat"] => tell("nat", &nat(swarm)),
        ["dial", target, rest @ ..] => {
            let settle = rest.first().map_or(Ok(0), |ms| ms.parse())?;
            let (swarm, target) = (swarm.clone(), target.parse::<DialTarget>()?);
            drop(tokio::spawn(async move { dial(&swarm, target, Duration::from_millis(settle)).await }));
        }
        ["path", id] => tell("path", &path(&swarm.peer(&id.parse()?)).await),
        ["send", id, count, every, bytes] => {
            let peer = swarm.peer(&id.parse()?);
            let (count, every, bytes) = (count.parse()?, Duration::from_millis(every.parse()?), bytes.parse()?);
            drop(tokio::spawn(async move {
                let outcome = send(&peer, count, every, bytes).await;
                let why = outcome.err().map(|error| error.to_string());
                tell("sent", &json!({ "peer": peer.to_string(), "ok": why.is_none(), "count": count, "why": why }));
            }));
        }
        ["heard", id] => tell("heard", &heard.get(&id.parse()?).map_or_else(|| Heard::default().json(), Heard::json)),
        _ => return Err("no such command".into()),
    }
    Ok(())
}

async fn status(swarm: &Swarm) -> Value {
    let report = swarm.discovery();
    let records = report.of(Task::Record);
    let published = records.iter().all(|progress| progress.answered > 0 && progress.error.is_none());
    let held = swarm.relays().iter().filter(|relay| relay.state == RelayState::Held).count();
    let known = published && (held > 0 || swarm.nat().is_behind_nat() == Some(false));
    let peers: Vec<String> = swarm.peers().await.iter().map(|peer| peer.id.to_string()).collect();
    json!({
        "known": known,
        "relays": held,
        "ticket": swarm.ticket().to_string(),
        "peers": peers,
        "discovery": report.to_string(),
    })
}

fn nat(swarm: &Swarm) -> Value {
    let nat = swarm.nat();
    let forwarded: Vec<String> = nat.forwarded.iter().map(ToString::to_string).collect();
    json!({
        "addr": nat.v4.addr.map(|addr| addr.to_string()),
        "mapping": format!("{:?}", nat.v4.mapping),
        "filtering": format!("{:?}", nat.v4.filtering),
        "forwarded": forwarded,
    })
}

/// Dials, and asks something until it is answered; then waits for a direct path.
async fn dial(swarm: &Swarm, target: DialTarget, settle: Duration) {
    let start = Instant::now();
    let ms = || start.elapsed().as_secs_f64() * 1000.0;
    let failed = |why: String| tell("dialled", &json!({ "ok": false, "ms": ms(), "why": why }));
    let peer = match swarm.dial(target).await {
        Ok(peer) => peer,
        Err(error) => return failed(error.to_string()),
    };
    let connected = ms();
    if let Err(error) = peer.request(PING, "ping").timeout(ANSWER).await {
        return failed(format!("connected, but no answer: {error}"));
    }
    let (answered, mut way) = (ms(), path(&peer).await);
    tell("dialled", &with(way.clone(), json!({ "ok": true, "connected_ms": connected, "ms": answered })));
    while way["path"] == "relay" && start.elapsed() < settle {
        tokio::time::sleep(LOOK).await;
        way = path(&peer).await;
    }
    tell("settled", &with(way, json!({ "ms": ms() })));
}

/// How a peer is reached now: `direct`, `punched`, `relay` (and why), or not (`none`).
async fn path(peer: &Peer) -> Value {
    let Some(info) = peer.info().await else { return json!({ "path": "none" }) };
    let (way, why) = match info.path {
        Way::Direct => ("direct", None),
        Way::Punched => ("punched", None),
        Way::Relayed { why, .. } => ("relay", Some(why.to_string())),
        _ => ("other", None),
    };
    json!({ "path": way, "why": why, "addr": info.addr.to_string(), "rtt_ms": info.rtt.as_secs_f64() * 1000.0 })
}

/// Sends messages that begin with their number.
async fn send(peer: &Peer, count: u64, every: Duration, bytes: usize) -> Result<(), swarm::SendError> {
    let mut pace = tokio::time::interval(every);
    for number in 0..count {
        pace.tick().await;
        let mut message = number.to_be_bytes().to_vec();
        message.resize(bytes.max(message.len()), 0);
        peer.send(message).await?;
    }
    Ok(())
}

/// The numbered messages of one peer.
#[derive(Debug, Default)]
struct Heard {
    count: u64,
    next: u64,
    /// Numbers that were passed over, and those that came again or late.
    missing: u64,
    repeated: u64,
    last: Option<Instant>,
    gap: Duration,
}

impl Heard {
    fn note(&mut self, message: &[u8]) {
        let Some(number) = message.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)) else { return };
        let now = Instant::now();
        if number == 0 {
            *self = Self::default();
        } else if let Some(last) = self.last {
            self.gap = self.gap.max(now - last);
        }
        self.last = Some(now);
        self.count += 1;
        if number < self.next {
            self.repeated += 1;
        } else {
            self.missing += number - self.next;
            self.next = number + 1;
        }
    }

    fn json(&self) -> Value {
        let gap = self.gap.as_secs_f64() * 1000.0;
        json!({ "count": self.count, "missing": self.missing, "repeated": self.repeated, "gap_ms": gap })
    }
}

/// The members of both objects.
fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

fn tell(event: &str, what: &Value) {
    println!("{}", with(what.clone(), json!({ "event": event })));
}
