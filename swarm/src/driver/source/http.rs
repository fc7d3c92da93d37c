//! A bootstrap server as a source: sealed bodies that lie there for a while (SPEC 16.2).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use reqwest::Method;

use super::meeting::{Left, Meetings};
use super::web::{ANSWER, Server, Web};
use super::{Found, Outcome, Pace, Source, Us};
use crate::clock;
use crate::discovery::{self, SourceError, Task};
use crate::rendezvous::{self, SEALED};

/// One server.
#[derive(Debug)]
pub(crate) struct HttpSource {
    web: Web,
    server: Server,
    meetings: Meetings,
}

impl HttpSource {
    pub(crate) const fn new(web: Web, server: Server, meetings: Meetings) -> Self {
        Self { web, server, meetings }
    }

    async fn leave(&self, task: Task, us: &Us) -> Result<(), SourceError> {
        let place = self.meetings.place(task, super::day::today()).ok_or(SourceError::Broken)?;
        let body = self.meetings.body((&place, place.name()), us, &mut self.meetings.rng(), clock::epoch().unix)?;
        let path = format!("{SEALED}/{}/{}", HEXLOWER.encode(place.name()), self.meetings.slot(&place));
        let query = format!("ttl={}", TTL.as_secs());
        let body = Some(("application/octet-stream", body));
        self.web.ask(&self.server, Method::PUT, (&path, Some(&query)), body, ANSWER).await.map(drop)
    }

    async fn look(&self, task: Task, found: &mut Found) -> Result<(), SourceError> {
        let (mut known, unix) = (BTreeSet::new(), clock::epoch().unix);
        for day in super::day::now() {
            let place = self.meetings.place(task, day).ok_or(SourceError::Broken)?;
            let path = format!("{SEALED}/{}", HEXLOWER.encode(place.name()));
            let answer = self.web.ask(&self.server, Method::GET, (&path, None), None, ANSWER).await?;
            for body in rendezvous::listed(&answer) {
                let Some(left) = self.meetings.read((&place, place.name()), body, unix) else { continue };
                let Left { peer, addrs, relays } = left;
                // What lies in the place of a peer counts if it is that one's.
                let is_wanted = !matches!(task, Task::Peer(wanted) if wanted != peer);
                if is_wanted && known.insert(peer) {
                    found.push_via(Some(peer), addrs, relays).await;
                }
            }
        }
        Ok(())
    }
}

impl Source for HttpSource {
    const NAME: discovery::Source = discovery::Source::Http;
    const NAMES_ADDRESSES: bool = true;

    fn pace(&self) -> Pace {
        PACE
    }

    fn does(&self, task: &Task) -> bool {
        matches!(task, Task::Announce(_) | Task::Lookup(_) | Task::Record | Task::Peer(_))
    }

    async fn attempt(self: Arc<Self>, task: Task, us: Us, mut found: Found) -> Result<Outcome, SourceError> {
        if task.is_search() {
            self.look(task, &mut found).await?;
        } else {
            self.leave(task, &us).await?;
        }
        Ok(found.outcome())
    }
}

/// How long a body is to be kept: three times as long as until it is put there again.
const TTL: Duration = Duration::from_secs(540);
const PACE: Pace = Pace {
    search: (Duration::from_secs(5), Duration::from_secs(180)),
    renew: Duration::from_secs(180),
    failed: (Duration::from_secs(2), Duration::from_secs(300)),
    parallel: 4,
};
