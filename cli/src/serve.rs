//! `setowire serve`: what a group needs to run on a machine that all of it reach.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use swarm::{ListenAddr, PeerId, ServeRelay, Swarm};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{self, Config, Rate};
use crate::exit::Failure;
use crate::http::{Listener, Origin, Site};
use crate::output::Output;
use crate::settings::Settings;
use crate::signals::{Signal, Signals};
use crate::{addresses, identity};

/// Where the node listens if nothing was said.
pub(crate) const PORT: u16 = 7400;
/// How long what waits may take to leave at the end.
const GRACE: Duration = Duration::from_secs(2);

/// Serve others: a node to begin at, a relay, STUN, lists of peers by HTTP
///
/// Without a word about what to serve it does all that a node can: others begin at it, are relayed by it, and ask it by
/// STUN where it sees them. Each part is told by a line on standard output: its name, a tab, and what to give to others, those addresses
/// first that are of the internet. Both HTTP servers speak plain HTTP; a server in front of them adds TLS.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Options {
    /// Where the node listens: IP:PORT for UDP, with TCP at the same port if no other kind is named, or tcp://IP:PORT or
    /// ws://IP:PORT; repeat for more. Without it 0.0.0.0:7400 and, where there is IPv6, `[::]:7400`
    #[arg(long, value_name = "ADDR", env = "SETOWIRE_LISTEN", value_delimiter = ',')]
    pub(crate) listen: Vec<ListenAddr>,

    /// The identity of the node, made if there is none; without it the one that `setowire id` shows
    #[arg(long, value_name = "FILE", env = "SETOWIRE_IDENTITY")]
    pub(crate) identity: Option<PathBuf>,

    /// A node at which others begin: it is in the distributed hash table, and peers connect to it
    #[arg(long)]
    pub(crate) bootstrap: bool,

    /// A relay: peers who cannot reach each other talk through it, and it can read nothing of that
    #[arg(long)]
    pub(crate) relay: bool,

    /// A STUN server, on the sockets of the node: it tells others where it sees them
    #[arg(long)]
    pub(crate) stun: bool,

    /// A list of peers by HTTP, as the existing nodes use it, and sealed bodies for those of this project
    #[arg(long, value_name = "IP:PORT", env = "SETOWIRE_HTTP")]
    pub(crate) http: Option<SocketAddr>,

    /// A piping server: what is sent to a path is received from it. It may be at the same address as --http
    #[arg(long, value_name = "IP:PORT", env = "SETOWIRE_PIPING")]
    pub(crate) piping: Option<SocketAddr>,

    /// Another server stands in front of the HTTP servers and names the address of whoever asks in X-Forwarded-For
    #[arg(long)]
    pub(crate) behind_proxy: bool,

    /// A configuration; what is said here goes before what is said there
    #[arg(long, value_name = "FILE", env = "SETOWIRE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Write objects on standard output: {"v":1,"t":"role","role":..,"give":[..]}, then {"t":"ready"}, at last {"t":"end"}
    #[arg(long)]
    json: bool,
}

/// Serves until a signal comes.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let out = Output { json: options.json };
    let mut signals = Signals::new()?;
    let config = match &options.config {
        Some(path) => config::read(path)?,
        None => Config::default(),
    };
    let settings = Settings::of(&options, &config);
    // All that can fail comes before the first line, so that nothing is promised that is not kept.
    let listeners = listeners(&settings).await?;
    let node = if settings.is_node() { Some(node(&settings, out).await?) } else { None };

    if let Some(node) = &node {
        let bound = node.local_addrs();
        let roles = [("bootstrap", settings.bootstrap.value), ("relay", settings.relay.value)];
        for (name, _) in roles.iter().filter(|(_, on)| *on) {
            tell(out, name, &named(node.id(), &node.listeners()));
        }
        if settings.stun.value {
            tell(out, "stun", &addresses::reachable(&bound).iter().map(SocketAddr::to_string).collect::<Vec<_>>());
        }
        warn_if_private(out, &bound);
    }
    let (end, ending) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for (names, listener) in listeners {
        let urls: Vec<String> =
            addresses::reachable(&[listener.local()?]).iter().map(|addr| format!("http://{addr}")).collect();
        for name in names {
            tell(out, name, &urls);
        }
        tasks.spawn(listener.run(ending.clone()));
    }
    out.event("ready", json!({"t": "ready"}));

    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = ended(node.as_ref()) => return Err(anyhow::anyhow!("the node has ended by itself").into()),
    };
    out.event(&format!("ending: {signal}"), json!({"t": "end", "signal": signal.to_string()}));
    let _ = end.send(true);
    let all = async {
        if let Some(node) = &node {
            node.shutdown(GRACE).await;
        }
        while tasks.join_next().await.is_some() {}
    };
    tokio::select! {
        () = all => {}
        // Somebody is in a hurry.
        _ = signals.next() => {}
    }
    match signal {
        Signal::Interrupt => Err(Failure::silent(Failure::INTERRUPTED)),
        Signal::Terminate => Ok(()),
    }
}

/// The HTTP servers, with the names of their parts.
async fn listeners(settings: &Settings) -> anyhow::Result<Vec<(Vec<&'static str>, Listener)>> {
    let mut listeners = Vec::new();
    let mut add = async |addr, names: &[&'static str]| -> anyhow::Result<()> {
        let site = Site::new(names.contains(&"http"), names.contains(&"piping"), settings.behind_proxy.value);
        listeners.push((names.to_vec(), Listener::bind(addr, site).await?));
        Ok(())
    };
    match (settings.http.value, settings.piping.value) {
        (Some(http), Some(piping)) if http == piping => add(http, &["http", "piping"]).await?,
        (http, piping) => {
            if let Some(addr) = http {
                add(addr, &["http"]).await?;
            }
            if let Some(addr) = piping {
                add(addr, &["piping"]).await?;
            }
        }
    }
    Ok(listeners)
}

/// Starts the node.
async fn node(settings: &Settings, out: Output) -> anyhow::Result<Swarm> {
    let file = identity::path(settings.identity.value.as_deref())?;
    let mut builder = settings
        .builder()
        .agent(concat!("setowire/", env!("CARGO_PKG_VERSION")))
        .identity(identity::load_or_create(&file, out)?)
        .dht(settings.bootstrap.value || settings.relay.value)
        .serve_relay(if settings.relay.value { ServeRelay::Always } else { ServeRelay::Never })
        .serve_stun(settings.stun.value);
    for addr in &settings.bind.value {
        builder = builder.listen_on(*addr);
    }
    if let Some(Rate(rate)) = settings.relay_rate.value {
        // A second's worth at once, as without a word.
        builder = builder.relay_limits(settings.relay_limits().total_rate(rate, rate));
    }
    builder.bind().await.context("the node cannot start")
}

/// What others name the node by. TCP at the address of a UDP socket needs no word: it is tried where UDP is silent.
fn named(id: PeerId, listeners: &[ListenAddr]) -> Vec<String> {
    let udp: Vec<SocketAddr> = of_kind(listeners, "udp");
    let mut named: Vec<String> = addresses::reachable(&udp).iter().map(|addr| format!("{id}@{addr}")).collect();
    for kind in ["tcp", "ws"] {
        let bound: Vec<SocketAddr> = of_kind(listeners, kind);
        let other: Vec<SocketAddr> = bound.into_iter().filter(|addr| !udp.contains(addr)).collect();
        named.extend(addresses::reachable(&other).iter().map(|addr| format!("{kind}://{id}@{addr}")));
    }
    named
}

/// The addresses of one kind of listener.
fn of_kind(listeners: &[ListenAddr], kind: &str) -> Vec<SocketAddr> {
    let is_it = |listener: &&ListenAddr| listener.to_string().starts_with(&format!("{kind}://"));
    listeners.iter().filter(is_it).map(ListenAddr::addr).collect()
}

/// One part, and what to give to others.
fn tell(out: Output, role: &str, give: &[String]) {
    out.data(&format!("{role}\t{}", give.join(" ")), json!({"t": "role", "role": role, "give": give}));
}

/// A server that nobody beyond the network reaches is mostly a mistake.
fn warn_if_private(out: Output, bound: &[SocketAddr]) {
    let told = addresses::reachable(bound);
    let public = told.iter().any(|addr| Origin::new(addr.ip()).is_public());
    if let (false, Some(first)) = (public || told.iter().all(|addr| addr.ip().is_loopback()), told.first()) {
        let port = first.port();
        out.note(&format!(
            "no interface has an address of the internet: others reach this node from there only if a router forwards port {port}"
        ));
    }
}

/// Resolves when the node has ended.
async fn ended(node: Option<&Swarm>) {
    match node {
        Some(node) => {
            let mut events = node.events();
            while events.next().await.is_some() {}
        }
        None => std::future::pending().await,
    }
}
