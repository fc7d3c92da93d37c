//! Asks the router of this network to forward a port: by PCP and NAT-PMP (RFC 6887, RFC 6886) and by UPnP at once, whichever it
//! speaks.
//!
//! Only the default gateway is asked, at its own address; what is announced by others on the network is not looked at. A mapping
//! is renewed after half of its time and given back at the end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{InternetProtocol, PortMappingOptions, PortMappingType, TimeoutConfig};
use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{PortMappingProtocol, SearchOptions};
use socket2::{Domain, Socket, Type};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::command::Command;
use crate::carrier::ListenAddr;
use crate::nat::{MappedBy, PortMapping};

/// What is to be forwarded, and who is told.
#[derive(Debug)]
pub(super) struct Mapper {
    /// The socket of UDP over IPv4, and that of TCP, if there are any.
    pub(super) udp: Option<SocketAddr>,
    pub(super) tcp: Option<SocketAddr>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Sender<PortMapping>,
    /// Finds the router.
    pub(super) router: fn() -> Option<Ipv4Addr>,
}

/// A port that is forwarded.
#[derive(Debug)]
struct Lease {
    external: SocketAddr,
    lifetime: Duration,
    how: How,
}

#[derive(Debug)]
enum How {
    Pcp(crab_nat::PortMapping),
    Upnp { gateway: Box<Gateway<Tokio>>, protocol: PortMappingProtocol, internal: SocketAddr },
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Wish {
    router: Ipv4Addr,
    protocol: InternetProtocol,
    internal: SocketAddr,
    /// The port that is preferred outside.
    external: u16,
}

impl Mapper {
    /// What a node that listens there may want to be forwarded, if others could reach it then.
    pub(super) fn of(
        listening: &[ListenAddr],
        commands: mpsc::Sender<Command>,
    ) -> (Option<Self>, watch::Receiver<PortMapping>) {
        let (status, mapping) = watch::channel(PortMapping::Off);
        let reaches = |at: &SocketAddr| at.is_ipv4() && !at.ip().is_loopback();
        let udp = |at: &ListenAddr| if let ListenAddr::Udp(at) = at { Some(*at).filter(reaches) } else { None };
        let tcp = |at: &ListenAddr| if let ListenAddr::Tcp(at) = at { Some(*at).filter(reaches) } else { None };
        let (udp, tcp) = (listening.iter().find_map(udp), listening.iter().find_map(tcp));
        let wanted = udp.is_some() || tcp.is_some();
        (wanted.then_some(Self { udp, tcp, commands, status, router: default_gateway }), mapping)
    }

    /// Asks, renews, and asks again later if that fails, until the node ends.
    pub(super) fn start(self) -> JoinHandle<()> {
        tokio::spawn(self.run())
    }

    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.status.send_replace(PortMapping::Asking);
            let asked = tokio::select! {
                // What is granted now is given back by the router, when its time is over.
                () = self.commands.closed() => return,
                asked = self.ask() => asked,
            };
            match asked {
                Ok(leases) => {
                    pause = FIRST_PAUSE;
                    if !self.keep(leases).await {
                        return;
                    }
                    let _ = self.commands.send(Command::Forwarded(Vec::new())).await;
                }
                Err(why) => drop(self.status.send_replace(PortMapping::Failed { why })),
            }
            tokio::select! {
                () = self.commands.closed() => return,
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// UDP first, then TCP at the same port outside.
    async fn ask(&self) -> Result<Vec<Lease>, String> {
        let router = (self.router)().ok_or("this machine has no default gateway over IPv4")?;
        let mut leases: Vec<Lease> = Vec::new();
        let mut failed = String::from("nothing listens on an IPv4 address that reaches the router");
        for (protocol, bound) in [(InternetProtocol::Udp, self.udp), (InternetProtocol::Tcp, self.tcp)] {
            let Some(internal) = bound.and_then(|bound| towards(router, bound)) else { continue };
            let external = leases.first().map_or(internal.port(), |lease| lease.external.port());
            match ask(Wish { router, protocol, internal, external }).await {
                Ok(lease) => leases.push(lease),
                Err(why) => failed = why,
            }
        }
        if leases.is_empty() { Err(failed) } else { Ok(leases) }
    }

    /// Holds the mappings. Returns whether they were lost; otherwise the node has ended.
    async fn keep(&self, mut leases: Vec<Lease>) -> bool {
        loop {
            let addrs = leases.iter().map(|lease| lease.external).collect();
            if let Some(first) = leases.first() {
                let by = first.how.name();
                self.status.send_replace(PortMapping::Forwarded { addr: first.external, by });
            }
            if self.commands.send(Command::Forwarded(addrs)).await.is_ok() {
                let half = leases.iter().map(|lease| lease.lifetime / 2).min().unwrap_or(LEASE / 2).max(SHORTEST);
                tokio::select! {
                    () = self.commands.closed() => {}
                    () = sleep(half) => {
                        for lease in &mut leases {
                            if lease.renew().await.is_err() {
                                return true;
                            }
                        }
                        continue;
                    }
                }
            }
            for lease in leases {
                lease.release().await;
            }
            self.status.send_replace(PortMapping::Off);
            return false;
        }
    }
}

/// Asks in every language at once. The first answer counts; a second mapping is given back.
async fn ask(wish: Wish) -> Result<Lease, String> {
    let mut asked = JoinSet::new();
    asked.spawn(async move { ask_pcp(wish).await.map_err(|why| format!("PCP and NAT-PMP: {why}")) });
    asked.spawn(async move { ask_upnp(wish).await.map_err(|why| format!("UPnP: {why}")) });
    let mut reasons = Vec::new();
    while let Some(done) = asked.join_next().await {
        match done {
            Ok(Ok(lease)) => {
                let kept = lease.external;
                tokio::spawn(async move {
                    while let Some(late) = asked.join_next().await {
                        if let Ok(Ok(late)) = late
                            && late.external != kept
                        {
                            late.release().await;
                        }
                    }
                });
                return Ok(lease);
            }
            Ok(Err(why)) => reasons.push(why),
            Err(_ended) => {}
        }
    }
    reasons.sort_unstable();
    Err(reasons.join("; "))
}

async fn ask_pcp(wish: Wish) -> Result<Lease, String> {
    let Wish { router, protocol, internal, external } = wish;
    let port = NonZeroU16::new(internal.port()).ok_or("the port is 0")?;
    let options = PortMappingOptions {
        external_port: NonZeroU16::new(external),
        lifetime_seconds: Some(u32::try_from(LEASE.as_secs()).unwrap_or(u32::MAX)),
        timeout_config: Some(PATIENCE),
    };
    let mapped = crab_nat::PortMapping::new(router.into(), internal.ip(), protocol, port, options).await;
    lease(mapped.map_err(|error| error.to_string())?).await
}

/// What was granted by PCP or NAT-PMP; the latter has to be asked for the address.
async fn lease(mapping: crab_nat::PortMapping) -> Result<Lease, String> {
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
        PortMappingType::NatPmp => {
            let asked = crab_nat::natpmp::external_address(mapping.gateway(), Some(PATIENCE)).await;
            IpAddr::V4(asked.map_err(|error| error.to_string())?)
        }
    };
    let external = SocketAddr::new(ip, mapping.external_port().get());
    Ok(Lease { external, lifetime: Duration::from_secs(mapping.lifetime().into()), how: How::Pcp(mapping) })
}

async fn ask_upnp(wish: Wish) -> Result<Lease, String> {
    let Wish { router, protocol, internal, external } = wish;
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddr::new(internal.ip(), 0);
    options.broadcast_address = SocketAddr::from((router, SSDP_PORT));
    options.timeout = Some(SEARCH);
    options.single_search_timeout = Some(SEARCH);
    let gateway = search_gateway(options).await.map_err(|error| error.to_string())?;
    if gateway.addr.ip() != router {
        return Err(format!("{} answered instead of the router", gateway.addr.ip()));
    }
    let protocol = match protocol {
        InternetProtocol::Udp => PortMappingProtocol::UDP,
        InternetProtocol::Tcp => PortMappingProtocol::TCP,
    };
    let seconds = u32::try_from(LEASE.as_secs()).unwrap_or(u32::MAX);
    let port = match gateway.add_port(protocol, external, internal, seconds, DESCRIPTION).await {
        Ok(()) => external,
        // Somebody else has that one.
        Err(_taken) => {
            let any = gateway.add_any_port(protocol, internal, seconds, DESCRIPTION).await;
            any.map_err(|error| error.to_string())?
        }
    };
    let ip = gateway.get_external_ip().await.map_err(|error| error.to_string())?;
    let how = How::Upnp { gateway: Box::new(gateway), protocol, internal };
    Ok(Lease { external: SocketAddr::new(ip, port), lifetime: LEASE, how })
}

impl How {
    fn name(&self) -> MappedBy {
        match self {
            Self::Pcp(mapping) => match mapping.mapping_type() {
                PortMappingType::Pcp { .. } => MappedBy::Pcp,
                PortMappingType::NatPmp => MappedBy::NatPmp,
            },
            Self::Upnp { .. } => MappedBy::Upnp,
        }
    }
}

impl Lease {
    async fn renew(&mut self) -> Result<(), String> {
        match &mut self.how {
            How::Pcp(mapping) => {
                mapping.renew().await.map_err(|error| error.to_string())?;
                *self = lease(mapping.clone()).await?;
            }
            How::Upnp { gateway, protocol, internal } => {
                let (seconds, port) = (u32::try_from(LEASE.as_secs()).unwrap_or(u32::MAX), self.external.port());
                let renewed = gateway.add_port(*protocol, port, *internal, seconds, DESCRIPTION).await;
                renewed.map_err(|error| error.to_string())?;
                let ip = gateway.get_external_ip().await.map_err(|error| error.to_string())?;
                self.external.set_ip(ip);
            }
        }
        Ok(())
    }

    /// Gives it back. What cannot be given back now ends with its time.
    async fn release(self) {
        let released = async {
            match self.how {
                How::Pcp(mapping) => drop(mapping.try_drop().await),
                How::Upnp { gateway, protocol, .. } => {
                    drop(gateway.remove_port(protocol, self.external.port()).await);
                }
            }
        };
        let _ = timeout(RELEASE, released).await;
    }
}

/// The address that the router sees a socket at.
fn towards(router: Ipv4Addr, bound: SocketAddr) -> Option<SocketAddr> {
    let IpAddr::V4(ip) = bound.ip() else { return None };
    if !ip.is_unspecified() {
        return Some(bound);
    }
    // Nothing is sent: the system says which address it would be sent from.
    let asked = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    asked.connect(&SocketAddr::from((router, SSDP_PORT)).into()).ok()?;
    Some(SocketAddr::new(asked.local_addr().ok()?.as_socket()?.ip(), bound.port()))
}

/// The default gateway over IPv4, as far as this system tells.
fn default_gateway() -> Option<Ipv4Addr> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return gateway_of(&std::fs::read_to_string("/proc/net/route").ok()?);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

/// The gateway of the best default route in a table as Linux writes it (proc(5)): addresses in the order of the machine's bytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn gateway_of(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, destination, gateway, flags, _, _, metric, mask, ..] = fields[..] else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let through = destination == "00000000" && mask == "00000000" && flags & UP_AND_GATEWAY == UP_AND_GATEWAY;
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        through.then_some((metric.parse::<u32>().ok()?, Ipv4Addr::from(gateway.to_ne_bytes())))
    });
    routes.min().map(|(_, gateway)| gateway)
}

/// `RTF_UP` and `RTF_GATEWAY`.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UP_AND_GATEWAY: u32 = 3;
/// What is asked for; a node that crashed leaves no more than this behind (RFC 6886 section 3.3 recommends two hours).
const LEASE: Duration = Duration::from_hours(2);
/// The shortest time between two renewals, whatever the router says.
const SHORTEST: Duration = Duration::from_secs(30);
/// Repeats of PCP and NAT-PMP: 250 ms, 500 ms and so on (RFC 6886 section 3.1), of which four are enough on a local network.
const PATIENCE: TimeoutConfig =
    TimeoutConfig { initial_timeout: Duration::from_millis(250), max_retries: 3, max_retry_timeout: None };
/// How long a router may take to say that it speaks UPnP.
const SEARCH: Duration = Duration::from_secs(3);
/// How long giving one mapping back may take.
const RELEASE: Duration = Duration::from_secs(1);
/// For how long the end of a node waits for that.
pub(super) const GIVE_BACK: Duration = Duration::from_secs(2);
/// Between two attempts while the router grants nothing.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(30);
const SSDP_PORT: u16 = 1900;
const DESCRIPTION: &str = "setowire";

#[cfg(test)]
mod tests;
