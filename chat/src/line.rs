//! The conversation, line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use swarm::{Config, Events, Peer, PeerId, SendError, Swarm, SwarmEvent, Topic, TopicId};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::Cli;
use crate::message::Message;
use crate::{identity, sanitize};

/// How long the end of the input waits for somebody to hear what was said.
const NOBODY_YET: Duration = Duration::from_secs(10);
/// How long leaving may take.
const GRACE: Duration = Duration::from_secs(2);
/// Lines kept while nobody is there to hear them.
const MAX_KEPT: usize = 100;
/// Bytes of a line of input; what is longer could not be sent as one message.
const MAX_LINE: u64 = 65_536;

/// Says something that is not a message.
#[expect(clippy::print_stderr, reason = "the place for it")]
pub(crate) fn note(text: impl Display) {
    eprintln!("* {text}");
}

/// Runs the chat until the user leaves.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<()> {
    if !cli.v12 {
        note(
            "speaking the v12 wire of the existing nodes: not forward secret, and the only one until the native protocol is there",
        );
    }
    let dial = resolve(&cli.dial).await?;
    let mut builder = Swarm::builder()
        .config(Config::default().accept_plaintext_fragments(true))
        .listen(cli.bind.into())
        .lan(!cli.no_lan)
        .seeds(dial.iter().copied());
    if let Some(path) = &cli.identity {
        builder = builder.hex_seed(&identity::load_or_create(path, note)?);
    }
    let swarm = builder.bind().await?;
    note(format_args!("listening on {}", swarm.local_addr()));
    let topic = swarm.join(TopicId::from_name(&format!("chat:{}", cli.room)))?;
    note(format_args!("{} in {}; you are {}; /help lists the commands", cli.nick, cli.room, short(&swarm.id())));
    for addr in dial {
        let swarm = swarm.clone();
        tokio::spawn(async move {
            if let Err(error) = swarm.dial(addr).await {
                note(format_args!("{error}; still trying while nobody else is there"));
            }
        });
    }
    let events = swarm.events();
    Chat { nick: cli.nick, swarm, topic, peers: BTreeMap::new(), greeted: BTreeSet::new(), kept: Vec::new(), junk: 0 }
        .run(events, cli.linger)
        .await
}

struct Chat {
    nick: String,
    swarm: Swarm,
    topic: Topic,
    /// Who is connected, by the nick that it gave.
    peers: BTreeMap<PeerId, Option<String>>,
    /// Who was answered with our JOIN.
    greeted: BTreeSet<PeerId>,
    /// What was said while nobody was there.
    kept: Vec<String>,
    /// Messages that were none.
    junk: u64,
}

impl Chat {
    async fn run(mut self, mut events: Events, linger: Duration) -> anyhow::Result<()> {
        let mut lines = read_lines();
        let mut leave_at: Option<Instant> = None;
        let mut signals = Signals::new()?;
        loop {
            let forever = Instant::now() + Duration::from_secs(86_400 * 365);
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => if !self.on_event(event).await { break },
                    None => break,
                },
                line = lines.recv(), if leave_at.is_none() => match line {
                    Some(line) => if !self.on_line(&line).await { break },
                    None => {
                        let patience = if self.kept.is_empty() { Duration::ZERO } else { NOBODY_YET };
                        leave_at = Some(Instant::now() + linger.max(patience));
                    }
                },
                () = sleep_until(leave_at.unwrap_or(forever)), if leave_at.is_some() => break,
                () = signals.next() => break,
            }
            // Somebody came and has heard it all: nothing more to wait for.
            if leave_at.is_some() && linger.is_zero() && self.kept.is_empty() {
                break;
            }
        }
        self.leave().await;
        Ok(())
    }

    async fn leave(self) {
        let count = self.peers.len();
        if !self.kept.is_empty() {
            note(format_args!("nobody came to hear it: {} messages were not sent", self.kept.len()));
        }
        let leave = Message::Leave { nick: self.nick };
        let _ = timeout(GRACE, self.topic.publish(leave.encode())).await;
        let unsent = self.swarm.shutdown(GRACE).await;
        if unsent.messages > 0 {
            note(format_args!("{} messages had not left", unsent.messages));
        }
        note(format_args!("left {count} peers"));
    }

    /// Returns false when there is nobody to write to any more.
    async fn on_event(&mut self, event: SwarmEvent) -> bool {
        match event {
            SwarmEvent::Connected { peer, .. } => {
                self.peers.insert(peer.id(), None);
                self.join(&peer);
                for text in std::mem::take(&mut self.kept) {
                    self.say(&text).await;
                }
            }
            SwarmEvent::Disconnected { peer, reason } => {
                let name = self.peers.remove(&peer).flatten().unwrap_or_else(|| short(&peer));
                self.greeted.remove(&peer);
                note(format_args!("{name} disconnected ({reason})"));
            }
            SwarmEvent::Data(message) => return self.on_message(message.from, &message.data, message.authenticated),
            SwarmEvent::Missed { from, count } => {
                let name = self.name(&from);
                note(format_args!("{count} messages of {name} were lost on the way"));
            }
            SwarmEvent::Lagged(count) => note(format_args!("{count} messages came faster than they could be shown")),
            _ => {}
        }
        true
    }

    fn on_message(&mut self, from: PeerId, data: &[u8], authenticated: bool) -> bool {
        let Some(message) = Message::decode(data) else {
            self.junk += 1;
            return true;
        };
        match message {
            Message::Join { nick } => {
                let nick = sanitize::nick(&nick);
                let known = self.peers.entry(from).or_default();
                if known.replace(nick.clone()).is_none() {
                    note(format_args!("{nick} joined"));
                }
                if self.greeted.insert(from) {
                    self.join(&self.swarm.peer(&from));
                }
                true
            }
            Message::Say { author: Some(author), .. } if author == self.swarm.v12_id().to_string() => true,
            Message::Say { nick, text, author } => {
                let mut nick = sanitize::nick(&nick);
                if nick == self.nick {
                    // Somebody else of our name.
                    let author = sanitize::clean(author.as_deref().unwrap_or("?"), 4);
                    nick = format!("{nick}#{author}");
                }
                let mark = if authenticated { "" } else { " (not authenticated)" };
                print(format_args!("{nick}\t{}{mark}", sanitize::clean(&text, sanitize::MAX_TEXT)))
            }
            Message::Leave { nick } => {
                // The neighbour himself, or somebody further away whose goodbye it passes on.
                let nick = sanitize::nick(&nick);
                if let Some(known) = self.peers.get_mut(&from).filter(|known| known.as_ref() == Some(&nick)) {
                    *known = None;
                    self.greeted.remove(&from);
                }
                note(format_args!("{nick} left"));
                true
            }
        }
    }

    /// Returns false to leave.
    async fn on_line(&mut self, line: &str) -> bool {
        let line = line.trim();
        match line {
            "" => {}
            "/quit" | "/exit" => return false,
            "/help" | "/?" => {
                note("what you type is said to the room; /peers who is there, /nat how you are reached, /quit leaves");
            }
            "/nat" => note(format_args!("nat=unknown addr=LAN local={}", self.swarm.local_addr().port())),
            "/peers" => self.show_peers().await,
            command if command.starts_with('/') => {
                note(format_args!("no such command: {}; /help lists them", sanitize::clean(command, 40)));
            }
            text if self.peers.is_empty() => {
                if self.kept.len() < MAX_KEPT {
                    if self.kept.is_empty() {
                        note("nobody is here yet: kept for whoever comes first");
                    }
                    self.kept.push(text.to_owned());
                } else {
                    note("nobody is here yet, and no more is kept: this was not sent");
                }
            }
            text => self.say(text).await,
        }
        true
    }

    async fn say(&self, text: &str) {
        let author = Some(self.swarm.v12_id().to_string());
        let message = Message::Say { nick: self.nick.clone(), text: text.to_owned(), author };
        match self.topic.publish(message.encode()).await {
            Ok(published) if published.neighbours == 0 => note("nobody heard that"),
            Ok(_) => {}
            Err(SendError::TooLarge { len, max }) => {
                note(format_args!("too long: {len} bytes, and {max} can be sent at once; this was not sent"));
            }
            Err(error) => note(format_args!("not sent: {error}")),
        }
    }

    /// Tells one peer who we are. If its queue is full it hears our nick with the next thing we say.
    fn join(&self, peer: &Peer) {
        let _ = peer.try_send(Message::Join { nick: self.nick.clone() }.encode());
    }

    async fn show_peers(&self) {
        let peers = self.swarm.peers().await;
        note(format_args!("{} peer(s) connected", peers.len()));
        for peer in peers {
            let id: String = peer.id.v12_id().to_string().chars().take(8).collect();
            let nick = self.peers.get(&peer.id).and_then(Option::as_deref).unwrap_or("?");
            note(format_args!("  {id} nick={nick} rtt={}ms mesh={}", peer.rtt.as_millis(), peer.in_mesh));
        }
        if self.junk > 0 {
            note(format_args!("  {} messages were not of a chat", self.junk));
        }
    }

    fn name(&self, peer: &PeerId) -> String {
        self.peers.get(peer).cloned().flatten().unwrap_or_else(|| short(peer))
    }
}

/// The first eight characters of the id that the existing nodes show.
fn short(peer: &PeerId) -> String {
    peer.v12_id().to_string().chars().take(8).collect()
}

/// Prints a message; false when nobody reads the output any more.
fn print(text: impl Display) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// Every address of every name given.
async fn resolve(names: &[(String, u16)]) -> anyhow::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for (host, port) in names {
        let what = || format!("cannot find {host}: check the name, or give an address");
        let addrs = tokio::net::lookup_host((host.as_str(), *port)).await.with_context(what)?;
        let before = found.len();
        found.extend(addrs.filter(SocketAddr::is_ipv4));
        anyhow::ensure!(found.len() > before, "{host} has no IPv4 address, and the wire knows no other");
    }
    found.dedup();
    Ok(found)
}

/// The lines of standard input, read beside everything else. The channel ends with the input.
fn read_lines() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut input = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut input).take(MAX_LINE).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => break,
                Ok(_) if lines.send(String::from_utf8_lossy(&line).into_owned()).await.is_err() => break,
                Ok(_) => {}
            }
        }
    });
    receiver
}

/// Ctrl-C and, where there is such a thing, SIGTERM and SIGHUP.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, hangup: signal(SignalKind::hangup())? })
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    fn new() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
