//! `setowire join`: who is in a topic, and what they say; what is said here goes to them.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde_json::json;
use swarm::{DialTarget, PeerId, SendError, Swarm, Ticket, Topic, TopicEvent};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::config::{self, Config, Preset};
use crate::exit::Failure;
use crate::helpers::Helpers;
use crate::output::Output;
use crate::settings::Settings;
use crate::signals::{Signal, Signals};
use crate::{identity, serve, text};

/// Lines that wait for somebody to be there, and bytes of them; beyond either the input waits.
const HELD: (usize, usize) = (1024, 1 << 20);
/// Lines on their way from the input.
const LINES: usize = 16;
/// Bytes of a line. What a message may carry is less, and told by whoever sends it.
const MAX_LINE: u64 = 1 << 20;
/// How long what was said waits for somebody after the end of the input, if nothing was said of that.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what waits may take to leave at the end.
const GRACE: Duration = Duration::from_secs(2);

/// Join a topic: tell who is there and what they say, and publish what is on standard input
///
/// What others say is on standard output: the id, a tab, and the text on one line. Who comes and goes is told on standard error. Lines wait
/// until somebody is there. Ctrl-C leaves, and so does the end of the input once all of it is said. Others are found on the local network, at
/// those who are named, and as the configuration says.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The name of the topic, or an invitation to it
    #[arg(value_name = "TOPIC|TICKET")]
    topic: Place,

    /// Somebody to connect to: an id, ID@HOST:PORT, HOST:PORT or a ticket; repeat for more
    #[arg(long, value_name = "PEER")]
    dial: Vec<DialTarget>,

    #[command(flatten)]
    helpers: Helpers,

    /// Who to be, made if there is none; without it somebody new in each run
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,

    /// A configuration: where it speaks of serving, it is passed over. The preset is "public" if it says nothing
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Stay for so many seconds after the end of the input; without it until all of it is said, 10 at most
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    linger: Option<u64>,

    /// Write objects: {"v":1,"t":"ready",..}, then {"t":"joined",..}, {"t":"left",..}, {"t":"message",..}, {"t":"sent",..}, {"t":"end"}
    #[arg(long)]
    json: bool,
}

/// Where to go.
#[derive(Debug, Clone)]
enum Place {
    Name(String),
    Invited(Box<Ticket>),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a topic has a name".to_owned()),
            _ if text.starts_with("seto1") => match text.parse::<Ticket>() {
                Ok(ticket) if ticket.topic_id().is_none() => {
                    Err("this ticket is for a peer and names no topic".to_owned())
                }
                Ok(ticket) => Ok(Self::Invited(Box::new(ticket))),
                Err(error) => Err(error.to_string()),
            },
            name => Ok(Self::Name(name.to_owned())),
        }
    }
}

/// Joins, and stays until it is time to leave.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let out = Output { json: options.json };
    let mut signals = Signals::new()?;
    let swarm = node(&options, out).await?;
    let topic = match &options.topic {
        Place::Name(name) => swarm.join(name.as_str())?,
        Place::Invited(ticket) => swarm.join_ticket(ticket)?,
    };
    let (id, ticket) = (swarm.id().to_string(), topic.ticket(&swarm).to_string());
    let fields = json!({"t": "ready", "id": id, "ticket": ticket});
    out.event(&format!("you are {id}; others come by: setowire join {ticket}"), fields);
    let mut room = Room { topic, out, here: BTreeSet::new() };
    let stay = tokio::select! {
        stay = room.stay(options.linger.map(Duration::from_secs)) => stay,
        signal = signals.next() => match signal {
            Signal::Interrupt => Err(Failure::silent(Failure::INTERRUPTED)),
            Signal::Terminate => Ok(()),
        },
    };
    let unsent = tokio::select! {
        unsent = swarm.shutdown(GRACE) => unsent.messages,
        // Somebody is in a hurry.
        _ = signals.next() => 0,
    };
    if unsent > 0 {
        out.note(&format!("messages that did not leave in time: {unsent}"));
    }
    out.only_json(json!({"t": "end", "unsent": unsent}));
    stay
}

/// Starts the node.
async fn node(options: &Options, out: Output) -> Result<Swarm, Failure> {
    let mut config = match &options.config {
        Some(path) => config::read(path)?,
        None => Config::default(),
    };
    config.preset.get_or_insert(Preset::Public);
    let settings = Settings::of(&serve::Options::default(), &config);
    let mut builder = options
        .helpers
        .add_to(settings.builder())
        .agent(concat!("setowire-join/", env!("CARGO_PKG_VERSION")))
        .seeds(options.dial.iter().cloned());
    for addr in &config.bind {
        builder = builder.listen_on(*addr);
    }
    if let Some(path) = &options.identity {
        builder = builder.identity(identity::load_or_create(path, out)?);
    }
    Ok(builder.bind().await.context("the node cannot start")?)
}

/// A topic that is joined, and who is in it.
struct Room {
    topic: Topic,
    out: Output,
    here: BTreeSet<PeerId>,
}

impl Room {
    /// Stays until the input has ended and is said, and what is to follow is over.
    async fn stay(&mut self, linger: Option<Duration>) -> Result<(), Failure> {
        let (mut events, mut lines) = (self.topic.events(), lines());
        // What was read and not said, and when it is time to leave: since the end of the input.
        let (mut held, mut until) = (VecDeque::new(), None);
        loop {
            if until.is_some() && linger.is_none() && held.is_empty() {
                return Ok(());
            }
            let can_say = !self.here.is_empty() && !held.is_empty();
            let has_room = held.len() < HELD.0 && held.iter().map(Line::len).sum::<usize>() < HELD.1;
            let over = until.unwrap_or_else(Instant::now);
            tokio::select! {
                event = events.next() => self.on_event(event.context("the node has ended by itself")?),
                () = std::future::ready(()), if can_say => if let Some(line) = held.pop_front() {
                    self.say(line).await?;
                },
                line = lines.recv(), if has_room && until.is_none() => match line {
                    Some(line) => held.push_back(line),
                    None => until = Some(Instant::now() + linger.unwrap_or(PATIENCE)),
                },
                () = sleep_until(over), if until.is_some() => {
                    let nobody = anyhow!("nobody came: {} lines are not delivered; name somebody by --dial", held.len());
                    return if held.is_empty() { Ok(()) } else { Err(Failure::new(Failure::UNREACHED, nobody)) };
                }
            }
        }
    }

    /// Publishes a line.
    async fn say(&self, line: Line) -> Result<(), Failure> {
        let Line::Whole(line) = line else {
            self.out.note(&format!("a line over {MAX_LINE} bytes is left out"));
            return Ok(());
        };
        match self.topic.publish(line).await {
            Ok(published) => {
                if published.neighbours == 0 {
                    self.out.note("nobody heard the last line");
                }
                self.out.only_json(json!({"t": "sent", "neighbours": published.neighbours}));
            }
            Err(error @ SendError::TooLarge { .. }) => self.out.note(&format!("a line is left out: {error}")),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn on_event(&mut self, event: TopicEvent) {
        match event {
            TopicEvent::Joined(peer) => {
                let id = peer.id();
                self.here.insert(id);
                self.out.event(&format!("{id} is here"), json!({"t": "joined", "id": id.to_string()}));
            }
            TopicEvent::Left(id, reason) => {
                self.here.remove(&id);
                let fields = json!({"t": "left", "id": id.to_string(), "reason": reason.to_string()});
                self.out.event(&format!("{id} left: {reason}"), fields);
            }
            TopicEvent::Message(message) => {
                let ((name, value), id) = (text::field(&message.data), message.from.to_string());
                self.out.data(
                    &format!("{id}\t{}", text::shown(&message.data)),
                    json!({"t": "message", "id": id, name: value}),
                );
            }
            TopicEvent::Lagged(lost) => {
                let fields = json!({"t": "lagged", "messages": lost});
                self.out.event(&format!("messages that came too fast, and are lost: {lost}"), fields);
            }
            _ => {}
        }
    }
}

/// What was read.
enum Line {
    Whole(Bytes),
    TooLong,
}

impl Line {
    fn len(&self) -> usize {
        match self {
            Self::Whole(line) => line.len(),
            Self::TooLong => 0,
        }
    }
}

/// The lines of standard input, until it ends or cannot be read.
fn lines() -> mpsc::Receiver<Line> {
    let (lines, read) = mpsc::channel(LINES);
    tokio::spawn(async move {
        let mut input = BufReader::new(tokio::io::stdin());
        let mut skipping = false;
        loop {
            let mut line = Vec::new();
            match (&mut input).take(MAX_LINE).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let is_whole = line.last() == Some(&b'\n');
            let is_long = !is_whole && line.len() as u64 >= MAX_LINE;
            // The rest of a line that was too long is read and told of once.
            if std::mem::replace(&mut skipping, is_long) {
                continue;
            }
            let line = match is_long {
                true => Line::TooLong,
                false => Line::Whole(Bytes::copy_from_slice(line.strip_suffix(b"\n").unwrap_or(&line))),
            };
            if lines.send(line).await.is_err() {
                return;
            }
        }
    });
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_names_or_invitations() {
        let ticket = Ticket::new(PeerId::from_bytes([7; 32]), []);
        assert!(matches!("lobby".parse(), Ok(Place::Name(name)) if name == "lobby"));
        let invitation = ticket.clone().topic("lobby".into()).to_string();
        assert!(matches!(invitation.parse(), Ok(Place::Invited(_))));
        for wrong in ["", "seto1", &ticket.to_string(), &invitation.replace("seto1", "seto1a")] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
