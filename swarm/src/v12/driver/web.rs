//! Web servers as the existing nodes use them: bootstrap lists and piping servers, in the exact format (SPEC 4.12).
//!
//! Nothing there is sealed or signed. Addresses found are dialled as every address is that a stranger names.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crypto::v12::{NodeId, TopicHash};
use crypto::{Rng, Seed};
use relay::client::Named;
use reqwest::Method;
use serde_json::json;

use super::said::{self, Said};
use crate::discovery::{self, Reach, SourceError, Task};
use crate::driver::source::piping::{Language, Stranger};
use crate::driver::source::web::{ANSWER, Body, Server, Web};
use crate::driver::source::{Found, Outcome, Pace, Source, Span, Us};
use crate::{PeerId, TopicId};

/// A bootstrap server: a list of all who say to be there, whatever their topics.
#[derive(Debug)]
pub(crate) struct ListSource {
    web: Web,
    server: Server,
    id: NodeId,
    span: Span,
}

impl ListSource {
    pub(crate) fn new(web: Web, server: Server, id: NodeId, far: Reach) -> Self {
        let span = Span::of(server.reach(), far);
        Self { web, server, id, span }
    }

    async fn announce(&self, us: &Us) -> Result<(), SourceError> {
        let addr = best(us, self.span).ok_or(SourceError::NoAddress)?;
        let said = json!({ "id": self.id.to_string(), "ip": addr.ip().to_string(), "port": addr.port() });
        let body = Some((JSON, said.to_string().into_bytes()));
        self.web.ask(&self.server, Method::POST, ("announce", None), body, ANSWER).await.map(drop)
    }

    async fn look(&self, found: &mut Found) -> Result<(), SourceError> {
        let answer = self.web.ask(&self.server, Method::GET, ("peers", None), None, ANSWER).await?;
        let listed = said::listed(&answer, &self.id.to_string(), self.span);
        for addr in listed.ok_or_else(|| SourceError::Garbage { host: self.server.host.clone() })? {
            found.push(None, vec![addr]).await;
        }
        Ok(())
    }
}

impl Source for ListSource {
    const NAME: discovery::Source = discovery::Source::Http;
    const NAMES_ADDRESSES: bool = true;

    fn pace(&self) -> Pace {
        LIST
    }

    fn does(&self, task: &Task) -> bool {
        matches!(task, Task::AnnounceNode | Task::LookupNodes)
    }

    async fn attempt(self: Arc<Self>, task: Task, us: Us, mut found: Found) -> Result<Outcome, SourceError> {
        match task {
            Task::AnnounceNode => self.announce(&us).await?,
            _ => self.look(&mut found).await?,
        }
        Ok(found.outcome())
    }
}

/// How the existing nodes speak through piping servers.
pub(crate) struct Plain {
    id: NodeId,
    span: Span,
    seed: Seed,
    attempts: AtomicU64,
}

impl Plain {
    pub(crate) fn new(id: NodeId, span: Span, seed: Seed) -> Self {
        Self { id, span, seed, attempts: AtomicU64::new(0) }
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Somebody of the old wire.
#[derive(Debug)]
pub(crate) struct Unproved {
    addrs: Vec<SocketAddr>,
    inbox: String,
}

impl Stranger for Unproved {
    fn candidate(&self) -> (Option<PeerId>, Vec<SocketAddr>, Vec<Named>) {
        (None, self.addrs.clone(), Vec::new())
    }

    fn inbox(&self) -> String {
        self.inbox.clone()
    }
}

impl Language for Plain {
    type Place = TopicHash;
    type Stranger = Unproved;

    fn place(&self, topic: TopicId) -> TopicHash {
        TopicHash::of(topic.as_bytes())
    }

    fn announced_at(&self, place: &TopicHash) -> String {
        format!("p2p-{place}-announce")
    }

    fn inbox(&self, place: &TopicHash) -> String {
        format!("p2p-{place}-{}", self.id)
    }

    fn speak(&self, _: &TopicHash, _: Option<&Unproved>, us: &Us, _: &mut Rng) -> Result<Body, SourceError> {
        // The existing nodes take nobody for there who does not name an address here.
        let addr = best(us, self.span).ok_or(SourceError::NoAddress)?;
        let local = us.addrs.iter().find(|addr| addr.is_ipv4() && !addr.ip().is_loopback()).copied().unwrap_or(addr);
        let said = json!({
            "id": self.id.to_string(),
            "ip": addr.ip().to_string(),
            "port": addr.port(),
            "lip": local.ip().to_string(),
            "lport": local.port(),
            "nat": "unknown",
        });
        Ok((JSON, said.to_string().into_bytes()))
    }

    fn hear(&self, place: &TopicHash, _: bool, body: &[u8]) -> Option<Unproved> {
        let Said { id, addrs } = said::met(body, &self.id.to_string(), self.span)?;
        Some(Unproved { addrs, inbox: format!("p2p-{place}-{id}") })
    }

    fn rng(&self) -> Rng {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        self.seed.fork(&format!("attempt {attempt}")).rng()
    }
}

/// The address to name at a server.
fn best(us: &Us, span: Span) -> Option<SocketAddr> {
    let mut ours: Vec<SocketAddr> = us.addrs.iter().copied().filter(|addr| addr.is_ipv4() && span.has(addr)).collect();
    // Stable: where others see us stands first.
    ours.sort_by_key(|addr| std::cmp::Reverse(Reach::of(addr.ip())));
    ours.first().copied()
}

const JSON: &str = "application/json";
/// As the existing nodes: at the start and then every three minutes.
const LIST: Pace = Pace {
    search: (Duration::from_secs(5), Duration::from_secs(180)),
    renew: Duration::from_secs(180),
    failed: (Duration::from_secs(2), Duration::from_secs(300)),
    parallel: 2,
};

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// What the existing nodes say, from `vectors/v12/json_messages.json`.
    #[test]
    fn bodies_and_paths_are_those_of_the_existing_nodes() {
        let vectors: Value = serde_json::from_str(include_str!("../../../../vectors/v12/json_messages.json")).unwrap();
        let topics: Value = serde_json::from_str(include_str!("../../../../vectors/v12/topics.json")).unwrap();
        let identity = |seed: u8| crypto::v12::Identity::from_seed(&[seed; 32]);
        let server = Server::parse("http://127.0.0.1:1").unwrap();
        let span = Span::of(server.reach(), Reach::World);
        let ours = Plain::new(identity(1).id(), span, Seed::from_bytes([1; 32]));
        for vector in topics["vectors"].as_array().unwrap() {
            let topic = data_encoding::HEXLOWER.decode(vector["topic_hex"].as_str().unwrap().as_bytes()).unwrap();
            let place = ours.place(TopicId::from_bytes(topic.try_into().unwrap()));
            assert_eq!(format!("/{}", ours.announced_at(&place)), vector["announce_path"].as_str().unwrap());
            let heard = ours.hear(&place, false, vectors["me_with_stun"].to_string().as_bytes()).unwrap();
            assert_eq!(format!("/{}", heard.inbox), vector["inbox_path"].as_str().unwrap());
            let addrs = ["203.0.113.7:50000", "127.0.0.1:40001"].map(|addr| addr.parse().unwrap());
            assert_eq!(heard.addrs, addrs);
        }
        let place = ours.place(TopicId::from("lobby"));
        let heard = ours.hear(&place, true, vectors["me_without_stun"].to_string().as_bytes()).unwrap();
        assert_eq!(heard.addrs, ["127.0.0.1:40001".parse().unwrap()]);
        let texts = &vectors["js_texts"];
        for text in ["me_without_stun", "me_with_stun"] {
            assert!(ours.hear(&place, true, texts[text].as_str().unwrap().as_bytes()).is_some(), "{text}");
        }
        // What we say has the same members, of the same kinds.
        let us = Us { addrs: vec!["127.0.0.1:7".parse().unwrap()], ..Us::default() };
        let (kind, said) = ours.speak(&place, None, &us, &mut ours.rng()).unwrap();
        let said: Value = serde_json::from_slice(&said).unwrap();
        let keys =
            |value: &Value| value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!((kind, keys(&said)), ("application/json", keys(&vectors["me_with_stun"])));
        assert_eq!((&said["ip"], &said["port"]), (&json!("127.0.0.1"), &json!(7)));
        assert_eq!(said["id"].as_str().unwrap().len(), 40);
        assert!(ours.hear(&place, true, said.to_string().as_bytes()).is_none(), "ourselves");
        assert!(ours.speak(&place, None, &Us::default(), &mut ours.rng()).is_err());
    }

    #[test]
    fn what_is_no_address_is_nobodys() {
        let server = Server::parse("https://host.example").unwrap();
        let ours = Plain::new(
            crypto::v12::Identity::from_seed(&[1; 32]).id(),
            Span::of(server.reach(), Reach::World),
            Seed::from_bytes([1; 32]),
        );
        let place = ours.place(TopicId::from("lobby"));
        let says = |ip: Value, port: Value| {
            let said = json!({ "id": "ab".repeat(20), "ip": ip, "port": port });
            ours.hear(&place, false, said.to_string().as_bytes()).is_some()
        };
        assert!(says(json!("9.9.9.9"), json!(9)));
        for (ip, port) in [
            (json!("host.example"), json!(9)),
            (json!("127.0.0.1"), json!(9)),
            (json!("192.168.1.1"), json!(9)),
            (json!("224.0.0.1"), json!(9)),
            (json!("9.9.9.9"), json!(0)),
            (json!("9.9.9.9"), json!(65_536)),
            (json!("9.9.9.9"), json!("9")),
            (json!(null), json!(9)),
        ] {
            assert!(!says(ip.clone(), port.clone()), "{ip} {port}");
        }
        for garbage in ["", "[", "{}", "null", "[1]", "{\"id\":7}", "{\"id\":\"ab\",\"ip\":\"9.9.9.9\",\"port\":9}"] {
            assert!(ours.hear(&place, false, garbage.as_bytes()).is_none(), "{garbage}");
        }
    }
}
