//! From the options to a node that runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, anyhow};
use swarm::v12;
use swarm::{DialError, DialTarget, IdentityFile, Mainline, PeerId, Preset, Swarm};

use crate::Options;
use crate::screen::Screen;

/// Addresses that are shown, so that another can dial one of them.
const SHOWN_ADDRS: usize = 4;

/// Somebody to contact.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    text: String,
    target: DialTarget,
    /// Whoever it is, and so one of either wire.
    anybody: bool,
}

impl Target {
    /// Reads `host:port`, perhaps with an id before it, or a ticket.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let target: DialTarget = text.parse().map_err(|error: swarm::ParseTargetError| error.to_string())?;
        let target = Self { text: text.to_owned(), target, anybody: text.contains(':') && !text.contains('@') };
        match target.place().and_then(|place| place.rsplit_once(':')) {
            Some((_, port)) if port.parse() == Ok(0_u16) => {
                Err("0 is no port to contact: it is a number from 1 to 65535".into())
            }
            _ => Ok(target),
        }
    }

    /// The host and the port; a ticket has many, and no names.
    fn place(&self) -> Option<&str> {
        let bare = self.text.strip_prefix("p2p://").unwrap_or(&self.text);
        let place = bare.split_once('@').map_or(bare, |(_, place)| place);
        place.contains(':').then_some(place)
    }

    /// Whether only the id is known.
    fn is_id(&self) -> bool {
        self.text.parse::<PeerId>().is_ok()
    }

    /// Looks the name up.
    async fn addrs(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let Some(place) = self.place() else { return Ok(Vec::new()) };
        let found = tokio::net::lookup_host(place).await;
        let found = found.with_context(|| format!("cannot find the host of --dial {}; check the name", self.text))?;
        Ok(found.collect())
    }
}

/// A node that runs, and the addresses to contact first.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) swarm: Swarm,
    /// Each target, and where it is on the v12 wire.
    pub(crate) targets: Vec<(Target, Vec<SocketAddr>)>,
}

/// Starts the node.
///
/// # Errors
///
/// What keeps it from starting, with what to do about it.
pub(crate) async fn start(options: &Options, screen: &Screen) -> anyhow::Result<Started> {
    let mut targets = Vec::new();
    for target in &options.dial {
        // Looked up before anything is started, for a name that does not exist is a mistake of the user.
        let mut addrs = target.addrs().await?;
        addrs.retain(|addr| addr.is_ipv4() && target.anybody && options.v12.is_some());
        targets.push((target.clone(), addrs));
    }
    let mut builder = Swarm::builder()
        .agent(concat!("setowire-chat/", env!("CARGO_PKG_VERSION")))
        .lan(!options.no_lan)
        .seeds(options.dial.iter().map(|target| target.target.clone()))
        .relays(options.relay.iter().cloned())
        .stun(options.stun.iter().cloned())
        .http_bootstrap(options.http_bootstrap.iter().cloned())
        .piping(options.piping.iter().cloned())
        .mdns(options.mdns)
        .port_mapping(options.port_mapping);
    if let Some(path) = &options.cache {
        builder = builder.peer_cache(path);
    }
    for node in &options.bootstrap {
        let target: DialTarget = node.parse().with_context(|| format!("--bootstrap {node}"))?;
        builder = builder.bootstrap([target]);
    }
    for addr in &options.bind {
        builder = builder.listen(*addr);
    }
    if options.lan {
        builder = builder.preset(Preset::Lan);
    }
    if let Some(mainline) = mainline(options) {
        builder = builder.mainline(mainline);
    }
    let mut legacy = None;
    if let Some(addr) = options.v12 {
        // The existing nodes send what is longer than 1,200 bytes as plaintext fragments; it is shown with a mark.
        let config = v12::Config::default().accept_plaintext_fragments(true);
        let addr = addr.unwrap_or_else(|| beside(&options.bind));
        let seeds = targets.iter().flat_map(|(_, addrs)| addrs.iter().copied());
        legacy = Some(v12::Swarm::builder().listen(addr).config(config).lan(!options.no_lan).seeds(seeds));
    }
    if let Some(path) = &options.identity {
        let file = IdentityFile::read_or_create(path)?;
        if file.is_new() {
            screen.notice(&format!("made the identity file {}", path.display()));
        }
        if file.is_exposed() {
            screen.notice(&format!("others on this machine can read {0}: run `chmod 600 {0}`", path.display()));
        }
        builder = builder.identity(file.identity());
        if let Some(seed) = file.v12_seed() {
            legacy = legacy.map(|legacy| legacy.seed(seed));
        }
    }
    if let Some(legacy) = legacy {
        builder = builder.v12(legacy);
    }
    let swarm = builder.bind().await.context("cannot start")?;
    Ok(Started { swarm, targets })
}

/// How the BitTorrent Mainline DHT is used, if it is.
fn mainline(options: &Options) -> Option<Mainline> {
    if !options.mainline.is_empty() {
        return Some(Mainline::default().bootstrap(options.mainline.iter().cloned()));
    }
    let stays = options.lan || options.no_mainline || is_local(&options.bind);
    (!stays).then(Mainline::default)
}

/// Whether what listens at these addresses has to do with this machine alone.
fn is_local(bound: &[SocketAddr]) -> bool {
    !bound.is_empty() && bound.iter().all(|addr| addr.ip().is_loopback())
}

/// Where the v12 wire listens if nothing was said: on the same IPv4 address, and nowhere else.
fn beside(bound: &[SocketAddr]) -> SocketAddr {
    let v4 = bound.iter().map(SocketAddr::ip).find(IpAddr::is_ipv4);
    let any = if is_local(bound) { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    SocketAddr::new(v4.unwrap_or(any.into()), 0)
}

/// Tells where the node listens and how others name it.
pub(crate) fn tell(swarm: &Swarm, screen: &Screen) {
    let list = swarm.local_addrs().iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" and ");
    screen.notice(&format!("listening on {list}"));
    if let Some(legacy) = swarm.v12() {
        screen.notice(&format!("listening for the v12 wire on {}", legacy.local_addr()));
    }
    let mut addrs = swarm.ticket().addrs().to_vec();
    // An address of a link means nothing without the name that the other machine has for it.
    addrs.retain(|addr| !matches!(addr, SocketAddr::V6(addr) if addr.scope_id() != 0));
    for addr in addrs.iter().take(SHOWN_ADDRS) {
        screen.notice(&format!("others reach you by --dial p2p://{}@{addr}", swarm.id()));
    }
}

/// Dials a target on every wire until one answers. A notice, if that is news.
///
/// # Errors
///
/// A notice, if none does.
pub(crate) async fn contact(swarm: Swarm, target: Target, on_v12: Vec<SocketAddr>) -> Result<Option<String>, String> {
    let legacy = async {
        for addr in on_v12 {
            if let Some(legacy) = swarm.v12()
                && legacy.dial(addr).await.is_ok()
            {
                return true;
            }
        }
        false
    };
    let searched = target.is_id();
    let (native, legacy) = tokio::join!(swarm.dial(target.target), legacy);
    match native {
        // He need not be in the room.
        Ok(peer) if searched => Ok(Some(format!("found {}", peer.id().short()))),
        Ok(_) | Err(DialError::Closed) => Ok(None),
        Err(_) if legacy => Ok(None),
        Err(error) => Err(format!("could not reach {}: {error}; trying again while nobody is here", target.text)),
    }
}

/// Whether an address may be named by or to somebody at another: nobody is sent into a network that he is not in.
pub(crate) fn is_in_reach(addr: SocketAddr, of: SocketAddr) -> bool {
    width(addr.ip()) >= width(of.ip())
}

/// How much of the world an address is good for: one machine, one network, all of it.
const fn width(ip: IpAddr) -> u8 {
    let ip = ip.to_canonical();
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    match (ip.is_loopback(), is_local) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    }
}

/// Bytes that nobody can guess.
///
/// # Errors
///
/// When the operating system has none.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the operating system gave no entropy: {error}"))?;
    Ok(bytes)
}

/// Reads `host:port`.
pub(crate) fn parse_node(text: &str) -> Result<String, String> {
    match Target::parse(text) {
        Ok(target) if target.anybody => Ok(text.to_owned()),
        _ => Err("write HOST:PORT".into()),
    }
}

/// Reads the beginning of a URL; whether the rest is one is found out when the node starts.
pub(crate) fn parse_url(text: &str) -> Result<String, String> {
    let is_web = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if is_web("http://") || is_web("https://") {
        return Ok(text.to_owned());
    }
    Err("write a URL, as in https://host.example".into())
}

/// Reads `ip:port`, or an IP alone for any port.
pub(crate) fn parse_bind(text: &str) -> Result<SocketAddr, String> {
    let addr = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)));
    addr.map_err(|_neither| format!("write IP:PORT, as in {}:4000 (port 0 is any that is free)", Ipv4Addr::UNSPECIFIED))
}

/// As [`parse_bind`], for the v12 wire.
pub(crate) fn parse_v12_bind(text: &str) -> Result<SocketAddr, String> {
    match parse_bind(text)? {
        addr if addr.is_ipv4() => Ok(addr),
        _ => Err("the v12 wire knows IPv4 only".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        let id = "a".repeat(52);
        for (text, place, anybody) in [
            ("localhost:1", "localhost:1", true),
            ("[::1]:1", "[::1]:1", true),
            (&format!("{id}@h.example:7"), "h.example:7", false),
            (&format!("p2p://{id}@[::1]:7"), "[::1]:7", false),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.place(), target.anybody), (Some(place), anybody));
        }
        let ticket = swarm::Ticket::new(PeerId::from_bytes([7; 32]), []).to_string();
        let target = Target::parse(&ticket).unwrap();
        assert_eq!((target.place(), target.anybody), (None, false));
        for bad in ["", "localhost", ":1", "a:0", "a:65536", "a:b", "::1", "http://a:1", "x@a:1"] {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse_bind("127.0.0.1"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert!(parse_bind("[::1]:7").is_ok() && parse_bind("::1").is_ok());
        for bad in ["", "localhost:1", "1.2.3.4:x"] {
            assert!(parse_bind(bad).is_err(), "{bad:?}");
        }
        assert!(parse_node("localhost:6881").is_ok() && parse_node("[::1]:6881").is_ok());
        for bad in [id.as_str(), "localhost", "localhost:0", &format!("{id}@localhost:1")] {
            assert!(parse_node(bad).is_err(), "{bad:?}");
        }
        assert!(parse_v12_bind("0.0.0.0:7").is_ok() && parse_v12_bind("[::]:7").is_err());
    }

    #[test]
    fn nobody_is_sent_into_a_network_that_he_is_not_in() {
        let networks = [
            &["127.0.0.1", "::1", "::ffff:127.0.0.1"][..],
            &["10.0.0.1", "169.254.0.1", "fd00::1", "fe80::1"],
            &["192.0.2.1", "2001:db8::1"],
        ];
        for (wider, addrs) in networks.iter().enumerate() {
            for (narrower, others) in networks.iter().enumerate() {
                for (addr, of) in addrs.iter().flat_map(|addr| others.iter().map(move |of| (addr, of))) {
                    let [addr, of] = [addr, of].map(|ip| SocketAddr::new(ip.parse().unwrap(), 7));
                    assert_eq!(is_in_reach(addr, of), wider >= narrower, "{addr} {of}");
                }
            }
        }
    }

    #[test]
    fn strangers_are_contacted_unless_something_speaks_against_it() {
        use clap::Parser as _;
        for (words, expected) in [
            ("", true),
            ("--no-lan", true),
            ("--bind 0.0.0.0:7 --bind [::1]:7", true),
            ("--bind 127.0.0.1:7 --bind [::1]:7", false),
            ("--bind 127.0.0.1:7 --mainline 127.0.0.1:6881", true),
            ("--no-mainline", false),
            ("--lan", false),
        ] {
            let options =
                Options::try_parse_from(["chat", "alice"].into_iter().chain(words.split_whitespace())).unwrap();
            assert_eq!(mainline(&options).is_some(), expected, "{words:?}");
        }
    }

    #[test]
    fn the_other_wire_is_no_more_open_than_the_native_one() {
        for (bound, expected) in [
            (&[][..], "0.0.0.0:0"),
            (&["127.0.0.1:7"], "127.0.0.1:0"),
            (&["[::1]:7"], "127.0.0.1:0"),
            (&["[::]:7", "192.0.2.1:7"], "192.0.2.1:0"),
            (&["[::]:7"], "0.0.0.0:0"),
        ] {
            let bound: Vec<SocketAddr> = bound.iter().map(|addr| addr.parse().unwrap()).collect();
            assert_eq!(beside(&bound).to_string(), expected);
        }
    }
}
