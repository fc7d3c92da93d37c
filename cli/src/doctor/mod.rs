//! `setowire doctor`: what kind of network this is, and how a peer is reached from it.

mod findings;
mod verdict;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use swarm::nat::PortMapping;
use swarm::{DialError, DialTarget, RelayState, Swarm};
use tokio::time::{sleep, timeout};

use self::findings::{Asked, Clock, Findings, Peer};
use self::verdict::Verdict;
use crate::exit::Failure;
use crate::helpers::Helpers;
use crate::output::Output;
use crate::{addresses, reach};

/// Places that a node wants at once: of more relays that are named the others are not asked.
const WANTED: usize = 2;
/// How often the node is asked what it has learnt.
const LOOK: Duration = Duration::from_millis(50);
/// Once something is known and does not change for so long, no more is expected.
const QUIET: Duration = Duration::from_secs(2);

/// Tell what kind of network this is, and how a peer is reached from it
///
/// Nobody is contacted but who is named: by --stun and --bootstrap for where others see this machine, by --relay, the router by --port-mapping, and the
/// peer; with --bootstrap also nodes and relays that the named ones know, for these are a network. The report is on standard output and
/// ends in one sentence that sums it up, and one that says what to do.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Whom to reach: an id, ID@HOST:PORT, HOST:PORT or a ticket
    #[arg(value_name = "PEER")]
    peer: Option<DialTarget>,

    #[command(flatten)]
    helpers: Helpers,

    /// Ask the router of this network to forward a port, by PCP, NAT-PMP and UPnP, and to stop at the end
    #[arg(long)]
    port_mapping: bool,

    /// How long each part may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,

    /// Write one object, with the version "v" of its fields
    #[arg(long)]
    json: bool,
}

/// Looks, asks, dials and tells.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let out = Output { json: options.json };
    let limit = Duration::from_secs(options.timeout);
    let swarm = options
        .helpers
        .builder()
        .agent(concat!("setowire-doctor/", env!("CARGO_PKG_VERSION")))
        .port_mapping(options.port_mapping)
        .bind()
        .await?;
    let mut findings = Findings {
        ips: addresses::interfaces().iter().map(if_addrs::Interface::ip).collect(),
        bound: swarm.local_addrs(),
        clock: Clock::now(),
        ..Findings::default()
    };
    // All that is asked is asked at once.
    let dials = options.helpers.bootstrap.iter().map(|target| reach(&swarm, target, limit));
    let (asked, (), unknown) = tokio::join!(all(dials), settle(&swarm, &options, limit), unknown(&options, limit));
    findings.asked.extend(asked);
    findings.carriers = swarm.peers().await.iter().map(|info| info.carrier).collect();
    (findings.nat, findings.relays, findings.router) = (swarm.nat(), swarm.relays(), swarm.port_mapping());
    findings.asked.extend(options.helpers.relay.iter().map(|target| Asked::relay(target, &findings.relays, &unknown)));
    let heard = findings.nat.addresses().next().is_some();
    findings.asked.extend(options.helpers.stun.iter().map(|name| Asked::stun(name, heard, &unknown)));
    let mut code = 0;
    if let Some(target) = &options.peer {
        let peer = meet(&swarm, target, limit).await;
        code = peer.code;
        findings.peer = Some(peer);
        // A session says where it sees us, too.
        findings.nat = swarm.nat();
    }
    let verdict = Verdict::of(&findings);
    for line in findings.lines() {
        out.data_line(&line);
    }
    out.data_line(&format!("verdict: {}", verdict.sentence));
    out.data_line(&format!("try: {}", verdict.suggestion));
    out.only_json(findings.json(&verdict));
    swarm.shutdown(Duration::from_millis(500)).await;
    if code == 0 { Ok(()) } else { Err(Failure::silent(code)) }
}

/// Runs them side by side.
async fn all<T>(work: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = work.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        for (one, done) in running.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = one.as_mut().poll(cx) {
                *done = Some(value);
            }
        }
        if running.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}

/// Connects to a node that was named.
async fn reach(swarm: &Swarm, target: &DialTarget, limit: Duration) -> Asked {
    let start = Instant::now();
    let outcome = timeout(limit, swarm.dial(target.clone())).await;
    let name = target.to_string();
    let failed = |error: String| Asked { error: Some(error), ..Asked::of(name.clone(), "node") };
    match outcome {
        Ok(Ok(peer)) => {
            let after = Some(start.elapsed());
            let carrier = peer.info().await.map(|info| info.carrier);
            Asked { after, carrier, ..Asked::of(name, "node") }
        }
        Ok(Err(error)) => {
            Asked { is_unknown: matches!(error, DialError::Unresolved { .. }), ..failed(error.to_string()) }
        }
        Err(_) => failed(format!("no answer within {} s", limit.as_secs())),
    }
}

/// Which hosts of those that nobody dials here have no address.
async fn unknown(options: &Options, limit: Duration) -> BTreeSet<String> {
    let relays = options.helpers.relay.iter().map(|target| findings::place(&target.to_string()).to_owned());
    let looked_up = options.helpers.stun.iter().cloned().chain(relays).map(|host| async move {
        let found = timeout(limit, tokio::net::lookup_host(host.as_str())).await;
        let is_known = found.is_ok_and(|found| found.is_ok_and(|mut addrs| addrs.next().is_some()));
        (!is_known).then_some(host)
    });
    all(looked_up).await.into_iter().flatten().collect()
}

/// Waits until those who were asked have said where they see us, or the time is over.
async fn settle(swarm: &Swarm, options: &Options, limit: Duration) {
    let none =
        options.helpers.stun.is_empty() && options.helpers.bootstrap.is_empty() && options.helpers.relay.is_empty();
    if none && !options.port_mapping {
        return;
    }
    let look = || (swarm.nat(), swarm.relays(), swarm.port_mapping());
    let (start, mut last, mut since) = (Instant::now(), look(), Instant::now());
    while start.elapsed() < limit {
        sleep(LOOK).await;
        let now = look();
        let named = now.1.iter().filter(|relay| relay.named);
        let places = named.filter(|relay| relay.state == RelayState::Held || relay.error.is_some()).count();
        let heard = now.0.addresses().next().is_some()
            || options.helpers.stun.is_empty() && options.helpers.bootstrap.is_empty();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if now.2 == PortMapping::Asking {
            // It asks by itself how often and how long it should.
        } else if none || heard && places >= options.helpers.relay.len().min(WANTED) && since.elapsed() >= QUIET {
            return;
        }
    }
}

/// Dials the peer, and waits until the way to it does not change any more.
async fn meet(swarm: &Swarm, target: &DialTarget, limit: Duration) -> Peer {
    let start = Instant::now();
    let name = target.to_string();
    let peer = match timeout(limit, swarm.dial(target.clone())).await {
        Ok(Ok(peer)) => peer,
        Ok(Err(error)) => {
            return Peer { code: reach::status(&error), error: Some(error.to_string()), ..Peer::of(name) };
        }
        Err(_) => {
            let error = format!("no answer within {} s{}", limit.as_secs(), reach::sources(swarm));
            return Peer { code: Failure::TIMED_OUT, error: Some(error), ..Peer::of(name) };
        }
    };
    let after = start.elapsed();
    let (id, begin) = (peer.id(), Instant::now());
    let look = async || swarm.peers().await.into_iter().find(|info| info.id == id);
    let mut info = look().await;
    while begin.elapsed() < limit && info.as_ref().is_some_and(reach::is_trying) {
        sleep(LOOK).await;
        info = look().await;
    }
    match info {
        Some(info) => Peer {
            id: Some(id),
            after: Some(after),
            addr: Some(info.addr),
            way: Some(info.path),
            carrier: Some(info.carrier),
            rtt: Some(info.rtt),
            ..Peer::of(name)
        },
        None => {
            let error = Some("it closed the session at once".to_owned());
            Peer { id: Some(id), code: Failure::REFUSED, error, ..Peer::of(name) }
        }
    }
}

impl Findings {
    /// The same as an object.
    fn json(&self, verdict: &Verdict) -> serde_json::Value {
        let mut object = self.fields();
        if let Some(fields) = object.as_object_mut() {
            fields.insert("verdict".to_owned(), json!(verdict.sentence));
            fields.insert("suggestion".to_owned(), json!(verdict.suggestion));
            fields.insert("class".to_owned(), json!(verdict.class));
        }
        object
    }
}
