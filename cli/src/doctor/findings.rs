//! What was found, as lines and as fields.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use swarm::nat::{Confidence, Filtering, MappedBy, Mapping, Nat, Outside, PortMapping, Way};
use swarm::{Carrier, DialTarget, PeerId, RelayState, RelayStatus};

use crate::addresses::is_link_local;
use crate::http::Origin;
use crate::reach;

/// 1 January 2026: no clock that is right shows less.
const EPOCH: u64 = 1_767_225_600;

/// Everything that was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings {
    /// Of the interfaces.
    pub(super) ips: Vec<IpAddr>,
    /// Where the node listened.
    pub(super) bound: Vec<SocketAddr>,
    pub(super) nat: Nat,
    /// Who was asked.
    pub(super) asked: Vec<Asked>,
    /// What the sessions go by that were open before the peer was dialled.
    pub(super) carriers: Vec<Carrier>,
    /// Relays that are known, and what there is at each.
    pub(super) relays: Vec<RelayStatus>,
    pub(super) clock: Clock,
    /// What the router said, if it was asked.
    pub(super) router: PortMapping,
    pub(super) peer: Option<Peer>,
}

/// One who was named and asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) name: String,
    /// `node`, `stun` or `relay`.
    pub(super) kind: &'static str,
    /// How long a node took to be connected.
    pub(super) after: Option<Duration>,
    /// What the session with it goes by.
    pub(super) carrier: Option<Carrier>,
    pub(super) error: Option<String>,
    /// Its name has no address: it was not asked.
    pub(super) is_unknown: bool,
}

impl Asked {
    pub(super) const fn of(name: String, kind: &'static str) -> Self {
        Self { name, kind, after: None, carrier: None, error: None, is_unknown: false }
    }

    /// A STUN server; what it said is part of where others see us.
    pub(super) fn stun(name: &str, heard: bool, unknown: &BTreeSet<String>) -> Self {
        let is_unknown = unknown.contains(name);
        let error = (is_unknown || !heard).then(|| "nobody said where this machine is".to_owned());
        Self { is_unknown, error: error.map(|error| told(is_unknown, error)), ..Self::of(name.to_owned(), "stun") }
    }

    /// A relay that was named; what became of it is told with the relays that are known.
    pub(super) fn relay(target: &DialTarget, known: &[RelayStatus], unknown: &BTreeSet<String>) -> Self {
        let name = target.to_string();
        let place = place(&name);
        let is_it = |relay: &&RelayStatus| {
            name.contains(&relay.relay.to_string()) || relay.addrs.iter().any(|addr| addr.to_string() == place)
        };
        let error = known.iter().filter(|relay| relay.named).find(is_it).is_none();
        let is_unknown = error && unknown.contains(place);
        let error = error.then(|| told(is_unknown, "not reached".to_owned()));
        Self { is_unknown, error, ..Self::of(name, "relay") }
    }
}

/// Where somebody is, of whom an id and more may be said too.
pub(super) fn place(name: &str) -> &str {
    let name = name.rsplit_once("://").map_or(name, |(_, rest)| rest);
    let name = name.rsplit('@').next().unwrap_or_default();
    name.split('/').next().unwrap_or_default()
}

fn told(is_unknown: bool, error: String) -> String {
    if is_unknown { "no address: the name is not known, or no name server answers".to_owned() } else { error }
}

/// The clock of this machine. It is not compared with anybody's.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Clock {
    /// Seconds since 1970.
    pub(super) unix: u64,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self { unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) }
    }

    pub(super) const fn is_plausible(self) -> bool {
        self.unix >= EPOCH
    }
}

/// How a peer was reached.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) id: Option<PeerId>,
    /// From the dial to the session.
    pub(super) after: Option<Duration>,
    pub(super) addr: Option<SocketAddr>,
    pub(super) way: Option<Way>,
    /// What the session goes by.
    pub(super) carrier: Option<Carrier>,
    pub(super) rtt: Option<Duration>,
    pub(super) error: Option<String>,
    /// The exit status that follows.
    pub(super) code: u8,
}

impl Peer {
    pub(super) const fn of(name: String) -> Self {
        Self { name, id: None, after: None, addr: None, way: None, carrier: None, rtt: None, error: None, code: 0 }
    }
}

impl Findings {
    /// Addresses of one family, beyond this machine and more than one link.
    pub(super) fn ips(&self, v4: bool) -> impl Iterator<Item = IpAddr> {
        self.ips.iter().copied().filter(move |ip| ip.is_ipv4() == v4 && !ip.is_loopback() && !is_link_local(*ip))
    }

    /// Whether anybody answered.
    pub(super) fn is_heard(&self) -> bool {
        let connected = self.asked.iter().any(|asked| asked.after.is_some());
        connected
            || self.nat.addresses().next().is_some()
            || self.peer.as_ref().is_some_and(|peer| peer.way.is_some())
            || self.relays.iter().any(|relay| relay.state == RelayState::Held)
    }

    /// Whether anybody answered by UDP: `None` if nobody was asked, or nobody told by which way he did.
    pub(super) fn udp(&self) -> Option<bool> {
        let of_peer = self.peer.as_ref().and_then(|peer| peer.carrier);
        let carriers = self.asked.iter().filter_map(|asked| asked.carrier).chain(of_peer);
        let carriers = carriers.chain(self.carriers.iter().copied()).filter(|carrier| *carrier != Carrier::Relay);
        let mut carriers = carriers.peekable();
        if self.nat.addresses().next().is_some() || carriers.clone().any(|carrier| carrier == Carrier::Udp) {
            return Some(true);
        }
        // Of who is named by a stream nobody wanted UDP.
        let asked = self.asked.iter().filter(|asked| !asked.is_unknown).map(|asked| &asked.name);
        let is_stream = |name: &String| ["tcp://", "ws://"].iter().any(|scheme| name.starts_with(scheme));
        let was_tried = asked.clone().chain(self.peer.as_ref().map(|peer| &peer.name)).any(|name| !is_stream(name));
        let is_blocked = was_tried && (carriers.peek().is_some() || !self.is_heard() && asked.count() > 0);
        is_blocked.then_some(false)
    }

    /// The report, without its last two lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("ipv4: {}", family(self.ips(true))),
            format!("ipv6: {}", family(self.ips(false))),
            format!(
                "clock: {}{}",
                date(self.clock.unix),
                if self.clock.is_plausible() { "" } else { ", which is wrong" }
            ),
        ];
        for (name, outside) in [("ipv4", &self.nat.v4), ("ipv6", &self.nat.v6)] {
            if let Some(addr) = outside.addr {
                lines.push(format!(
                    "seen over {name}: {addr}, by {}; {}",
                    sureness(outside.confidence),
                    between(outside)
                ));
            }
        }
        if !self.nat.forwarded.is_empty() {
            lines.push(format!("forwarded by the router: {}", list(&self.nat.forwarded)));
        }
        match &self.router {
            PortMapping::Off => {}
            PortMapping::Forwarded { addr, by } => lines.push(format!("router: forwards {addr}, by {}", protocol(*by))),
            PortMapping::Failed { why } => lines.push(format!("router: forwards nothing: {why}")),
            _ => lines.push("router: no answer in time".to_owned()),
        }
        if self.asked.is_empty() && self.peer.is_none() && self.router == PortMapping::Off {
            lines.push("contacted: nobody".to_owned());
        }
        for asked in &self.asked {
            let outcome = match (&asked.error, asked.after) {
                (Some(error), _) => error.clone(),
                (None, Some(after)) => format!("connected in {} ms{}", after.as_millis(), by(asked.carrier)),
                (None, None) => "asked".to_owned(),
            };
            lines.push(format!("contacted {} {}: {outcome}", asked.kind, asked.name));
        }
        for relay in &self.relays {
            let at = relay.addrs.first().map_or_else(String::new, |addr| format!(" at {addr}"));
            lines.push(format!("relay {}{at}: {}", relay.relay.short(), state(relay)));
        }
        if let Some(peer) = &self.peer {
            let mut line = format!("peer {}: ", peer.name);
            line += &match (peer.way, &peer.error) {
                (Some(way), _) => format!(
                    "connected in {} ms{} at {}, {way}; round trip {:.1} ms",
                    peer.after.unwrap_or_default().as_millis(),
                    by(peer.carrier),
                    peer.addr.map_or_else(String::new, |addr| addr.to_string()),
                    peer.rtt.unwrap_or_default().as_secs_f64() * 1000.0,
                ),
                (None, error) => error.clone().unwrap_or_default(),
            };
            lines.push(line);
        }
        lines
    }

    /// The same as fields.
    pub(super) fn fields(&self) -> Value {
        let ms = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1000.0);
        json!({
            "ips": self.ips,
            "bound": self.bound,
            "clock": {"unix": self.clock.unix, "plausible": self.clock.is_plausible()},
            "ipv4": outside(&self.nat.v4),
            "ipv6": outside(&self.nat.v6),
            "forwarded": self.nat.forwarded,
            "behind_nat": self.nat.is_behind_nat(),
            "udp": self.udp(),
            "contacted": self.asked.iter().map(|asked| json!({
                "name": asked.name, "kind": asked.kind, "ms": ms(asked.after), "error": asked.error,
            })).collect::<Vec<_>>(),
            "relays": self.relays.iter().map(|relay| json!({
                "id": relay.relay.to_string(), "addrs": relay.addrs, "named": relay.named, "state": state(relay),
                "held": relay.state == RelayState::Held,
            })).collect::<Vec<_>>(),
            "router": router(&self.router),
            "peer": self.peer.as_ref().map(|peer| reach::and(
                json!({
                    "name": peer.name, "id": peer.id.map(|id| id.to_string()), "ms": ms(peer.after), "addr": peer.addr,
                    "rtt_ms": ms(peer.rtt), "error": peer.error,
                }),
                reach::fields(peer.way),
            )),
        })
    }
}

/// What there is at a relay.
fn state(relay: &RelayStatus) -> String {
    match (relay.state, relay.error) {
        (RelayState::Held, _) => "a place".to_owned(),
        (_, Some(error)) => format!("no place: {error}"),
        (RelayState::Asked, None) => "asked".to_owned(),
        _ => "not asked".to_owned(),
    }
}

/// What the router said; null if it was not asked.
fn router(mapping: &PortMapping) -> Value {
    match mapping {
        PortMapping::Off => Value::Null,
        PortMapping::Forwarded { addr, by } => json!({"addr": addr, "by": protocol(*by), "error": null}),
        PortMapping::Failed { why } => json!({"addr": null, "by": null, "error": why}),
        _ => json!({"addr": null, "by": null, "error": "no answer in time"}),
    }
}

const fn protocol(by: MappedBy) -> &'static str {
    match by {
        MappedBy::Pcp => "PCP",
        MappedBy::NatPmp => "NAT-PMP",
        MappedBy::Upnp => "UPnP",
        _ => "another protocol",
    }
}

fn outside(outside: &Outside) -> Value {
    json!({
        "addr": outside.addr,
        "mapping": mapping(outside.mapping),
        "filtering": filtering(outside.filtering),
        "sure": sureness(outside.confidence),
        "translated": outside.translated,
    })
}

/// What a session goes by, where that is worth a word.
const fn by(carrier: Option<Carrier>) -> &'static str {
    match carrier {
        Some(Carrier::Tcp) => " by TCP",
        Some(Carrier::WebSocket) => " by WebSocket",
        _ => "",
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn family(ips: impl Iterator<Item = IpAddr>) -> String {
    let ips: Vec<IpAddr> = ips.collect();
    match ips.iter().any(|ip| Origin::new(*ip).is_public()) {
        _ if ips.is_empty() => "none".to_owned(),
        true => list(&ips),
        false => format!("{} (private)", list(&ips)),
    }
}

const fn sureness(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::None => "nobody",
        Confidence::One => "one",
        Confidence::Few => "a few",
        Confidence::Consistent => "several in different networks",
        _ => "somebody",
    }
}

/// What is between the machine and the internet.
fn between(outside: &Outside) -> String {
    match outside.translated {
        Some(false) => "no NAT".to_owned(),
        _ => {
            let lets_in = match outside.filtering {
                Filtering::EndpointIndependent | Filtering::AddressDependent | Filtering::AddressAndPort => {
                    format!(" and lets in {}", filtering(outside.filtering))
                }
                _ => "; whom it lets in is not known".to_owned(),
            };
            format!("a NAT that maps {}{lets_in}", mapping(outside.mapping))
        }
    }
}

const fn mapping(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::EndpointIndependent => "to one port for all",
        Mapping::AddressDependent => "to a port for each address",
        Mapping::Sequential => "to a new port for each, in sequence",
        Mapping::Random => "to a new port for each, at random",
        Mapping::Blocked => "nothing",
        _ => "in a way not known yet",
    }
}

const fn filtering(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::EndpointIndependent => "everybody",
        Filtering::AddressDependent => "addresses that were sent to",
        Filtering::AddressAndPort => "addresses and ports that were sent to",
        _ => "nobody knows whom",
    }
}

/// A moment as people write it, in UTC.
fn date(unix: u64) -> String {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years, which are all equally long.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    format!("{year:04}-{month:02}-{day_of_month:02} {:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(EPOCH), "2026-01-01 00:00 UTC");
        assert_eq!(date(EPOCH - 1), "2025-12-31 23:59 UTC");
        assert!(Clock::now().is_plausible() && !Clock::default().is_plausible());
    }

    #[test]
    fn the_report_says_what_was_found() {
        let mut found = Findings::default();
        assert_eq!(found.lines()[0], "ipv4: none");
        assert!(found.lines().contains(&"contacted: nobody".to_owned()) && !found.is_heard());
        found.ips = vec!["192.168.1.2".parse().unwrap(), "127.0.0.1".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(found.lines()[..2], ["ipv4: 192.168.1.2 (private)", "ipv6: none"]);
        let outside = &mut found.nat.v4;
        outside.addr = Some(([203, 0, 113, 7], 4000).into());
        (outside.mapping, outside.filtering) = (Mapping::EndpointIndependent, Filtering::AddressAndPort);
        (outside.confidence, outside.translated) = (Confidence::Few, Some(true));
        let line = "seen over ipv4: 203.0.113.7:4000, by a few; a NAT that maps to one port for all and lets in addresses and ports that were sent to";
        assert_eq!(found.lines()[3], line);
        assert!(found.is_heard());
        assert_eq!(found.fields()["udp"], true);
    }
}
