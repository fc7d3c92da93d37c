//! A piping server as a source: what one posts to a path goes to who asks for it at the same time (SPEC 16.3).

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::Rng;
use crypto::rendezvous::Rendezvous;
use data_encoding::HEXLOWER;
use relay::client::Named;
use reqwest::Method;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::meeting::{Left, Meetings};
use super::web::{Server, Web, is_taken};
use super::{Found, Outcome, Pace, Source, Us};
use crate::discovery::{self, SourceError, Task};
use crate::{PeerId, TopicId, clock};

/// How nodes of one wire speak through a piping server.
pub(crate) trait Language: Debug + Send + Sync + 'static {
    /// What is known of a topic while it is looked up or announced once.
    type Place: Send + Sync;

    /// Of a topic.
    fn place(&self, topic: TopicId) -> Self::Place;

    /// The path where those in the topic say that they are.
    fn announced_at(&self, place: &Self::Place) -> String;

    /// The path where we are told of others who found us.
    fn inbox(&self, place: &Self::Place) -> String;

    /// What we say of ourselves: to all, or to one whom we found. `Err` if there is nothing to say.
    fn speak(
        &self,
        place: &Self::Place,
        to: Option<&Self::Stranger>,
        us: &Us,
        rng: &mut Rng,
    ) -> Result<super::web::Body, SourceError>;

    /// Reads what somebody says at one of our paths; `None` if it counts for nothing, or is our own.
    fn hear(&self, place: &Self::Place, in_inbox: bool, body: &[u8]) -> Option<Self::Stranger>;

    /// Somebody who was heard.
    type Stranger: Stranger;

    /// Randomness for one attempt.
    fn rng(&self) -> Rng;
}

/// Somebody who was heard at a piping server.
pub(crate) trait Stranger: Send + Sync {
    /// Who, if he says so in a way that counts, where, and behind which relays.
    fn candidate(&self) -> (Option<PeerId>, Vec<SocketAddr>, Vec<Named>);

    /// Where he is told of us.
    fn inbox(&self) -> String;
}

/// One server.
#[derive(Debug)]
pub(crate) struct PipingSource<L> {
    web: Web,
    server: Server,
    language: L,
    /// Taken while something is asked or posted where all in a topic do: whoever does both at once hears himself. Topics
    /// share them; who has many waits a little longer.
    turns: [Mutex<()>; TURNS],
}

impl<L: Language> PipingSource<L> {
    pub(crate) fn new(web: Web, server: Server, language: L) -> Self {
        Self { web, server, language, turns: std::array::from_fn(|_| Mutex::new(())) }
    }

    fn turn(&self, topic: TopicId) -> &Mutex<()> {
        let sum =
            topic.as_bytes().iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        let [first, ..] = &self.turns;
        self.turns.get(sum % TURNS).unwrap_or(first)
    }

    /// Posts something; that nobody takes it within the time is no failure.
    async fn post(&self, path: &str, body: super::web::Body, within: Duration) -> Result<(), SourceError> {
        match self.web.ask(&self.server, Method::POST, (path, None), Some(body), within).await {
            Ok(_) => Ok(()),
            Err(SourceError::TimedOut { after }) if after == within => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What somebody posts within the time, if anybody does.
    async fn take(&self, path: &str, within: Duration) -> Result<Option<Vec<u8>>, SourceError> {
        match self.web.ask(&self.server, Method::GET, (path, None), None, within).await {
            Ok(body) => Ok(Some(body)),
            Err(SourceError::TimedOut { after }) if after == within => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn announce(&self, topic: TopicId, us: &Us) -> Result<(), SourceError> {
        let place = self.language.place(topic);
        let mut rng = self.language.rng();
        let body = self.language.speak(&place, None, us, &mut rng)?;
        let _turn = self.turn(topic).lock().await;
        self.post(&self.language.announced_at(&place), body, wait(&mut rng)).await
    }

    async fn lookup(&self, topic: TopicId, us: &Us, found: &mut Found) -> Result<(), SourceError> {
        let place = self.language.place(topic);
        let mut rng = self.language.rng();
        let (announced, inbox) = (self.language.announced_at(&place), self.language.inbox(&place));
        let until = Instant::now() + LOOKUP;
        let mut pause = wait(&mut rng);
        let asked = async {
            let _turn = self.turn(topic).lock().await;
            // Nobody is to find us both here and there at the same time as before.
            pause = wait(&mut rng);
            self.take(&announced, pause).await
        };
        let told = async {
            loop {
                match self.take(&inbox, LOOKUP).await {
                    Ok(None) => {}
                    // Somebody else asks in our inbox, or we did, and the server has not noticed that we left.
                    Err(error) if is_taken(&error) => sleep_until(Instant::now() + TAKEN).await,
                    result => return result,
                }
            }
        };
        let (mut asked, mut told) = (std::pin::pin!(asked), std::pin::pin!(told));
        let (mut has_asked, mut has_been_told) = (false, false);
        let mut met = Vec::new();
        // In its own inbox somebody is told for as long as the others may need to hear him and post there.
        while !(has_asked && has_been_told) {
            let (in_inbox, body) = tokio::select! {
                body = &mut asked, if !has_asked => {
                    has_asked = true;
                    (false, body?)
                }
                body = &mut told, if !has_been_told => {
                    has_been_told = true;
                    (true, body?)
                }
                () = sleep_until(until) => break,
            };
            let Some(stranger) = body.and_then(|body| self.language.hear(&place, in_inbox, &body)) else { continue };
            let (peer, addrs, relays) = stranger.candidate();
            found.push_via(peer, addrs, relays).await;
            if !in_inbox {
                met.push(stranger);
                // Whom we found is told at once.
                break;
            }
        }
        let mut rng = self.language.rng();
        for stranger in met {
            if let Ok(body) = self.language.speak(&place, Some(&stranger), us, &mut rng) {
                // He may have found us in another way by now.
                let _ = self.post(&stranger.inbox(), body, TELL).await;
            }
        }
        Ok(())
    }
}

impl<L: Language> Source for PipingSource<L> {
    const NAME: discovery::Source = discovery::Source::Piping;
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
            Task::Lookup(topic) => self.lookup(topic, &us, &mut found).await?,
            _ => return Err(SourceError::Broken),
        }
        Ok(found.outcome())
    }
}

/// That of native nodes.
#[derive(Debug)]
pub(crate) struct Sealed(pub(crate) Meetings);

/// A native node.
pub(crate) struct Signed {
    left: Left,
    inbox: [u8; crypto::rendezvous::NAME],
}

impl Stranger for Signed {
    fn candidate(&self) -> (Option<PeerId>, Vec<SocketAddr>, Vec<Named>) {
        (Some(self.left.peer), self.left.addrs.clone(), self.left.relays.clone())
    }

    fn inbox(&self) -> String {
        path(&self.inbox)
    }
}

impl Language for Sealed {
    type Place = Rendezvous;
    type Stranger = Signed;

    fn place(&self, topic: TopicId) -> Rendezvous {
        // Around midnight the days take turns, for those whose clocks differ.
        let day = super::day::turn(clock::epoch().unix);
        Rendezvous::new(crypto::rendezvous::Meeting::Topic, topic.as_bytes(), day)
    }

    fn announced_at(&self, place: &Rendezvous) -> String {
        path(place.name())
    }

    fn inbox(&self, place: &Rendezvous) -> String {
        path(&place.inbox(self.0.id().as_bytes()))
    }

    fn speak(
        &self,
        place: &Rendezvous,
        to: Option<&Signed>,
        us: &Us,
        rng: &mut Rng,
    ) -> Result<super::web::Body, SourceError> {
        let name = to.map_or(place.name(), |stranger| &stranger.inbox);
        Ok(("application/octet-stream", self.0.body((place, name), us, rng, clock::epoch().unix)?))
    }

    fn hear(&self, place: &Rendezvous, in_inbox: bool, body: &[u8]) -> Option<Signed> {
        let ours = place.inbox(self.0.id().as_bytes());
        let name = if in_inbox { &ours } else { place.name() };
        let left = self.0.read((place, name), body, clock::epoch().unix)?;
        let inbox = place.inbox(left.peer.as_bytes());
        Some(Signed { left, inbox })
    }

    fn rng(&self) -> Rng {
        self.0.rng()
    }
}

/// 128 bits are enough for a path.
fn path(name: &[u8; crypto::rendezvous::NAME]) -> String {
    let mut digits = HEXLOWER.encode(name);
    digits.truncate(32);
    digits
}

/// For how long something is asked or posted where all in a topic do: at random, so that two who began together do not
/// go on asking, or posting, together.
fn wait(rng: &mut Rng) -> Duration {
    SHORTEST + rng.duration_below(SHORTEST)
}

const SHORTEST: Duration = Duration::from_secs(4);
/// For how long one lookup listens in its inbox.
const LOOKUP: Duration = Duration::from_secs(20);
/// How long it waits for whom it found to take what it says.
const TELL: Duration = Duration::from_secs(10);
/// How soon the inbox is tried again that somebody else listens in.
const TAKEN: Duration = Duration::from_secs(2);
/// Topics that do not wait for each other.
const TURNS: usize = 64;
/// After a failure, which may be that two did the same at once.
const PACE: Pace = Pace {
    search: (Duration::from_millis(500), Duration::from_secs(10)),
    renew: Duration::from_secs(15),
    failed: (Duration::from_secs(1), Duration::from_secs(120)),
    parallel: 16,
};
