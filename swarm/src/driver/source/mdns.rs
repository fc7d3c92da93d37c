//! Multicast DNS as a source (SPEC 10.3): a service for each topic, which names the topic to those who know it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crypto::topic::{NONCE, beacon_tag};
use crypto::{Rng, Seed};
use data_encoding::HEXLOWER;
use mdns_sd::{IfKind, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::service::Heard;
use super::{Found, Outcome, Pace, Reach, Source, Us};
use crate::discovery::{self, SourceError, Task};
use crate::{TopicId, clock};

/// The source.
pub(crate) struct MdnsSource {
    /// The one kind of addresses that are named and dialled.
    reach: Reach,
    running: Arc<Mutex<Option<Running>>>,
    rng: Mutex<Rng>,
}

/// The responder, which has a thread and sockets of its own.
struct Running {
    daemon: ServiceDaemon,
    /// By topic: the full name of the service that we announce.
    ours: BTreeMap<TopicId, String>,
    /// By full name: what others announce.
    heard: Arc<Mutex<BTreeMap<String, Heard>>>,
    listener: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.listener.abort();
        // It says goodbye for our services; that it has ended before is as well.
        let _ = self.daemon.shutdown();
    }
}

impl MdnsSource {
    /// `reach` is that of the node: beyond the local network there is no multicast.
    pub(crate) fn new(reach: Reach, seed: &Seed) -> Self {
        let reach = reach.min(Reach::Network);
        Self { reach, running: Arc::default(), rng: Mutex::new(seed.rng()) }
    }

    /// Does something with the responder, started if need be.
    async fn with<T>(&self, work: impl FnOnce(&mut Running) -> mdns_sd::Result<T>) -> Result<T, SourceError> {
        let mut running = self.running.lock().await;
        if running.is_none() {
            *running = Some(self.start().map_err(failed)?);
        }
        let Some(started) = running.as_mut() else { return Err(SourceError::Broken) };
        let result = work(started).map_err(failed);
        if result.is_err() {
            // Started anew by the next attempt.
            *running = None;
        }
        result
    }

    fn start(&self) -> mdns_sd::Result<Running> {
        let daemon = ServiceDaemon::new()?;
        if self.reach == Reach::Host {
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        }
        let events = daemon.browse(SERVICE)?;
        let heard = Arc::new(Mutex::new(BTreeMap::new()));
        let (known, reach) = (Arc::clone(&heard), self.reach);
        let listener = tokio::spawn(async move {
            while let Ok(event) = events.recv_async().await {
                let mut known = known.lock().await;
                match event {
                    ServiceEvent::ServiceResolved(service) => match read(&service, reach) {
                        Some(heard) if known.len() < MAX_HEARD || known.contains_key(&service.fullname) => {
                            known.insert(service.fullname.clone(), heard);
                        }
                        _ => drop(known.remove(&service.fullname)),
                    },
                    ServiceEvent::ServiceRemoved(_, name) => drop(known.remove(&name)),
                    _ => {}
                }
            }
        });
        Ok(Running { daemon, ours: BTreeMap::new(), heard, listener })
    }

    async fn announce(&self, topic: TopicId, us: &Us) -> Result<(), SourceError> {
        let addrs: Vec<&SocketAddr> = us.addrs.iter().filter(|addr| Reach::of(addr.ip()) == Some(self.reach)).collect();
        // A service has one port.
        let port = addrs.iter().find(|addr| addr.is_ipv4()).or(addrs.first()).map(|addr| addr.port());
        let port = port.ok_or(SourceError::NoAddress)?;
        let ips: Vec<IpAddr> = addrs.iter().filter(|addr| addr.port() == port).map(|addr| addr.ip()).collect();
        let nonce = self.rng.lock().await.array::<NONCE>();
        let tag = HEXLOWER.encode(&beacon_tag(topic.as_bytes(), hour(), &nonce));
        let name = HEXLOWER.encode(&nonce);
        let info =
            ServiceInfo::new(SERVICE, &name, &format!("{name}.local."), &ips[..], port, &[("t", tag.as_str())][..]);
        let info = info.map_err(failed)?;
        self.with(|running| {
            let full = info.get_fullname().to_owned();
            running.daemon.register(info)?;
            if let Some(before) = running.ours.insert(topic, full) {
                running.daemon.unregister(&before)?;
            }
            Ok(())
        })
        .await
    }

    async fn lookup(&self, topic: TopicId, found: &mut Found) -> Result<(), SourceError> {
        let (heard, ours) = self
            .with(|running| Ok((Arc::clone(&running.heard), running.ours.values().cloned().collect::<Vec<_>>())))
            .await?;
        let heard = heard.lock().await.clone();
        let hour = hour();
        for (_, service) in heard.into_iter().filter(|(name, _)| !ours.contains(name)) {
            if service.is_for(topic, hour) {
                found.push(None, service.addrs).await;
            }
        }
        Ok(())
    }
}

impl Source for MdnsSource {
    const NAME: discovery::Source = discovery::Source::Mdns;
    const NAMES_ADDRESSES: bool = true;

    fn pace(&self) -> Pace {
        PACE
    }

    fn does(&self, task: &Task) -> bool {
        matches!(task, Task::Announce(_) | Task::Lookup(_))
    }

    async fn attempt(self: Arc<Self>, task: Task, us: Us, mut found: Found) -> Result<Outcome, SourceError> {
        match task {
            Task::Announce(topic) => self.announce(topic, &us).await?,
            Task::Lookup(topic) => self.lookup(topic, &mut found).await?,
            _ => return Err(SourceError::Broken),
        }
        Ok(found.outcome())
    }

    async fn forget(&self, task: Task) {
        let Task::Announce(topic) = task else { return };
        if let Some(running) = self.running.lock().await.as_mut()
            && let Some(name) = running.ours.remove(&topic)
        {
            let _ = running.daemon.unregister(&name);
        }
    }
}

impl std::fmt::Debug for MdnsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MdnsSource").field("reach", &self.reach).finish_non_exhaustive()
    }
}

/// What a service says, if it is one of ours and may be dialled.
fn read(service: &ResolvedService, reach: Reach) -> Option<Heard> {
    let name = service.fullname.strip_suffix(SERVICE)?.strip_suffix('.')?;
    let tag = service.txt_properties.get_property_val_str("t")?;
    let addrs = service.addresses.iter().map(|ip| SocketAddr::new(ip.to_ip_addr(), service.port));
    Heard::read(name, tag, addrs, reach)
}

fn failed(error: mdns_sd::Error) -> SourceError {
    match error {
        mdns_sd::Error::Again => SourceError::Io { kind: std::io::ErrorKind::WouldBlock },
        _ => SourceError::Broken,
    }
}

fn hour() -> u64 {
    clock::epoch().unix.as_secs() / 3600
}

const SERVICE: &str = "_setowire._udp.local.";
/// Services of others that are remembered.
const MAX_HEARD: usize = 256;
/// A tag is good for an hour before and after its own.
const PACE: Pace = Pace {
    search: (Duration::from_millis(500), Duration::from_secs(5)),
    renew: Duration::from_secs(1800),
    failed: (Duration::from_secs(1), Duration::from_secs(60)),
    parallel: 4,
};
