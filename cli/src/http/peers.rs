//! The list of peers as the existing nodes keep it: `POST /announce` with `{"id", "ip", "port"}`, `GET /peers`.
//!
//! Whoever reads the list sends to every address on it, so nobody can put another's address there: the one that is announced
//! must be the one that the request comes from. A node on a private network may name any address of private networks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::limits;
use super::origin::{Origin, Shares};
use super::refusal::Refusal;

/// What a node announces. Some announce more, which is not kept: a list is for everybody.
#[derive(Debug, Deserialize)]
struct Announcement {
    id: String,
    /// Without it the one that the request comes from.
    #[serde(default)]
    ip: Option<IpAddr>,
    #[serde(default)]
    port: Option<u16>,
}

/// Who announced which id: nobody can replace what another one announced.
type Key = (u128, String);

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    entries: BTreeMap<Key, Entry>,
    shares: Shares,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    origin: Origin,
    ip: Ipv4Addr,
    port: u16,
    at: Instant,
}

/// One of the list.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    ip: Ipv4Addr,
    port: u16,
}

impl Peers {
    /// Takes in an announcement, in the place of an earlier one of the same node.
    pub(crate) fn announce(&mut self, origin: Origin, body: &[u8], now: Instant) -> Result<(), Refusal> {
        let malformed = |why: &str| Refusal::Malformed(why.to_owned());
        let Announcement { id, ip, port } = serde_json::from_slice(body)
            .map_err(|error| Refusal::Malformed(format!("not an announcement: {error}")))?;
        if !(16..=64).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(malformed("an id has 16 to 64 hexadecimal digits"));
        }
        let named = Origin::new(ip.unwrap_or(origin.ip()));
        let IpAddr::V4(ip) = named.ip() else {
            return Err(malformed("the nodes that read this list know IPv4 only"));
        };
        let port = port.filter(|port| *port != 0).ok_or_else(|| malformed("a port is missing"))?;
        if !named.may_be_named_by(origin) {
            return Err(Refusal::Foreign(named.ip()));
        }
        self.sweep(now);
        let key = (origin.host(), id);
        if !self.entries.contains_key(&key) {
            if self.entries.len() >= limits::ANNOUNCEMENTS {
                self.make_room(origin)?;
            }
            let (per_host, per_network) = (limits::ANNOUNCEMENTS_PER_HOST, limits::ANNOUNCEMENTS_PER_NETWORK);
            if !self.shares.has_room(origin, per_host, per_network) {
                return Err(Refusal::TooMany);
            }
        }
        if let Some(old) = self.entries.insert(key, Entry { origin, ip, port, at: now }) {
            self.shares.remove(old.origin);
        }
        self.shares.add(origin);
        Ok(())
    }

    /// The newest, as JSON: `[{"id":..,"ip":..,"port":..},..]`.
    pub(crate) fn list(&self, now: Instant) -> Vec<u8> {
        let mut entries: Vec<(&Key, &Entry)> = self.entries.iter().filter(|(_, entry)| entry.is_current(now)).collect();
        entries.sort_by_key(|(_, entry)| Reverse(entry.at));
        let listed: Vec<Listed<'_>> = entries
            .iter()
            .take(limits::LISTED)
            .map(|((_, id), entry)| Listed { id, ip: entry.ip, port: entry.port })
            .collect();
        // Digits and addresses can be written as JSON.
        serde_json::to_vec(&listed).unwrap_or_default()
    }

    /// Gives up the oldest entry of the network that has most, if it has more than that of a newcomer.
    fn make_room(&mut self, origin: Origin) -> Result<(), Refusal> {
        let network = self.shares.largest(origin).ok_or(Refusal::Full)?;
        let theirs = self.entries.iter().filter(|(_, entry)| entry.origin.network() == network);
        let key = theirs.min_by_key(|(_, entry)| entry.at).map(|(key, _)| key.clone()).ok_or(Refusal::Full)?;
        if let Some(old) = self.entries.remove(&key) {
            self.shares.remove(old.origin);
        }
        Ok(())
    }

    /// Forgets what is old, now and then.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < limits::SWEEP) {
            return;
        }
        self.swept = Some(now);
        let shares = &mut self.shares;
        self.entries.retain(|_, entry| {
            let current = entry.is_current(now);
            if !current {
                shares.remove(entry.origin);
            }
            current
        });
    }
}

impl Entry {
    fn is_current(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < limits::ANNOUNCEMENT_LIFE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ID: &str = "e3f03f52612aadacbcbc96c9ea08aa1835740dd7";

    fn from(ip: impl Into<IpAddr>) -> Origin {
        Origin::new(ip.into())
    }

    fn told(peers: &mut Peers, origin: Origin, body: &Value, now: Instant) -> Result<(), Refusal> {
        peers.announce(origin, body.to_string().as_bytes(), now)
    }

    fn list(peers: &Peers, now: Instant) -> Value {
        serde_json::from_slice(&peers.list(now)).unwrap()
    }

    #[test]
    fn what_was_announced_is_listed_until_it_is_old() {
        let (mut peers, now, us) = (Peers::default(), Instant::now(), from([203, 0, 113, 7]));
        let entry = json!({"id": ID, "ip": "203.0.113.7", "port": 50000});
        told(&mut peers, us, &entry, now).unwrap();
        assert_eq!(list(&peers, now), json!([entry]));
        // Others know more fields, and leave out what can be seen.
        let wordy = json!({"id": ID, "ip": null, "port": 50001, "topic": "x", "nat": "unknown", "lip": "10.0.0.1"});
        told(&mut peers, us, &wordy, now).unwrap();
        assert_eq!(list(&peers, now), json!([{"id": ID, "ip": "203.0.113.7", "port": 50001}]));
        assert_eq!(list(&peers, now + limits::ANNOUNCEMENT_LIFE), json!([]));
    }

    #[test]
    fn nobody_announces_another() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let of = |ip: &str| json!({"id": ID, "ip": ip, "port": 1});
        for (origin, ip) in [
            ([203, 0, 113, 7], "203.0.113.8"),
            ([203, 0, 113, 7], "127.0.0.1"),
            ([10, 0, 0, 1], "203.0.113.8"),
            ([10, 0, 0, 1], "224.0.0.1"),
            ([10, 0, 0, 1], "0.0.0.0"),
        ] {
            assert!(matches!(told(&mut peers, from(origin), &of(ip), now), Err(Refusal::Foreign(_))), "{ip}");
        }
        told(&mut peers, from([10, 0, 0, 1]), &of("192.168.0.1"), now).unwrap();
        told(&mut peers, from([203, 0, 113, 8]), &of("203.0.113.8"), now).unwrap();
        assert_eq!(list(&peers, now).as_array().unwrap().len(), 2, "the same id twice, by different hosts");
    }

    #[test]
    fn what_is_malformed_is_told() {
        let (mut peers, now, us) = (Peers::default(), Instant::now(), from([203, 0, 113, 7]));
        for body in [
            json!({}),
            json!([]),
            json!({"id": 7, "ip": "203.0.113.7", "port": 1}),
            json!({"id": "xyz", "ip": "203.0.113.7", "port": 1}),
            json!({"id": ID, "ip": "host.example", "port": 1}),
            json!({"id": ID, "ip": "203.0.113.7"}),
            json!({"id": ID, "ip": "203.0.113.7", "port": 0}),
            json!({"id": ID, "ip": "203.0.113.7", "port": 65536}),
            json!({"id": ID, "ip": "2001:db8::1", "port": 1}),
        ] {
            assert!(matches!(told(&mut peers, us, &body, now), Err(Refusal::Malformed(_))), "{body}");
        }
        assert!(matches!(peers.announce(us, b"\xff{", now), Err(Refusal::Malformed(_))));
        assert_eq!(list(&peers, now), json!([]));
    }

    #[test]
    fn one_host_and_one_network_have_bounds() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let mut add = |origin, number: usize| {
            told(&mut peers, from(origin), &json!({"id": format!("{number:040x}"), "port": 1}), now)
        };
        for number in 0..limits::ANNOUNCEMENTS_PER_HOST {
            add([203, 0, 113, 1], number).unwrap();
        }
        assert_eq!(add([203, 0, 113, 1], 99), Err(Refusal::TooMany));
        assert_eq!(add([203, 0, 113, 1], 0), Ok(()), "again");
        let others = limits::ANNOUNCEMENTS_PER_NETWORK - limits::ANNOUNCEMENTS_PER_HOST;
        for number in 0..others {
            add([203, 0, 113, 2 + u8::try_from(number).unwrap()], number).unwrap();
        }
        assert_eq!(add([203, 0, 113, 250], 0), Err(Refusal::TooMany));
        assert_eq!(add([203, 0, 112, 250], 0), Ok(()));
    }

    #[test]
    fn all_together_have_a_bound() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let mut add = |ip: [u8; 4], number: usize, now| {
            let body = json!({"id": format!("{number:040x}"), "ip": Origin::new(ip.into()).ip(), "port": 1});
            told(&mut peers, from(ip), &body, now).map(|()| peers.entries.len())
        };
        for number in 0..limits::ANNOUNCEMENTS {
            add([127, 0, 0, 1], number, now).unwrap();
        }
        let kept = add([203, 0, 113, 7], 0, now).unwrap();
        assert_eq!(kept, limits::ANNOUNCEMENTS, "it takes the place of one of those who have most");
        assert_eq!(add([127, 0, 0, 1], 9999, now), Err(Refusal::Full));
        let later = now + limits::ANNOUNCEMENT_LIFE;
        assert_eq!(add([127, 0, 0, 1], 9999, later), Ok(1));
        assert!(peers.list(now).len() < 30_000);
    }
}
