//! The plain mode: lines in, lines out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use swarm::{Config, Message as Packet, Peer, PeerId, SendError, Swarm, Topic, TopicEvent, TopicEvents, TopicId};
use tokio::io::{AsyncBufReadExt as _, BufReader, Stdin};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::message::{self, Message, Writer};
use crate::{Options, Target, identity};

/// Lines that wait for somebody to come. When full, no more are read.
const HELD_LINES: usize = 256;
/// How long they wait after the end of input.
const HELD_FOR: Duration = Duration::from_secs(5);
/// Nicks that we remember to have joined; beyond it their comings and goings are not told.
const MAX_PRESENT: usize = 1024;
/// How long leaving may take.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the chat until it is left.
///
/// # Errors
///
/// What keeps it from starting, with what to do about it.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    if !options.v12 {
        notice("the native protocol is not there yet: speaking the v12 wire, as with --v12");
    }
    let mut targets = Vec::new();
    for target in &options.dial {
        targets.push((target.clone(), resolve(target).await?));
    }
    let seeds = targets.iter().flat_map(|(_, addrs)| addrs.iter().copied());
    // The existing nodes send what is longer than 1,200 bytes as plaintext fragments; it is shown with a mark.
    let config = Config::default().accept_plaintext_fragments(true);
    let mut builder = Swarm::builder().listen(options.bind).config(config).lan(!options.no_lan).seeds(seeds);
    if let Some(path) = &options.identity {
        let identity = identity::load_or_create(path, random_hex::<32>)?;
        if identity.created {
            notice(&format!("made the identity file {}", path.display()));
        }
        if identity.exposed {
            notice(&format!("others on this machine can read {0}: run `chmod 600 {0}`", path.display()));
        }
        builder = builder.hex_seed(&identity.seed);
    }
    let swarm = builder.bind().await.context("cannot start")?;
    let topic = swarm.join(TopicId::from_name(&format!("chat:{}", options.room)))?;
    let id = swarm.v12_id().to_string();
    notice(&format!("listening on {}", swarm.local_addr()));
    notice(&format!("you are {} ({}) in {}; /help lists the commands", options.nick, first8(&id), options.room));
    let events = topic.events();
    let mut chat = Chat {
        writer: Writer::new(&options.nick, id, random_hex::<4>()?),
        dials: JoinSet::new(),
        swarm,
        topic,
        peers: BTreeMap::new(),
        present: BTreeSet::new(),
        held: VecDeque::new(),
        holds: !io::stdin().is_terminal(),
        junk: 0,
    };
    for (target, addrs) in targets {
        chat.dials.spawn(contact(chat.swarm.clone(), target, addrs));
    }
    let result = chat.talk(events, options.linger).await;
    chat.leave().await;
    result
}

struct Chat {
    swarm: Swarm,
    topic: Topic,
    writer: Writer,
    peers: BTreeMap<PeerId, Neighbour>,
    /// Nicks whose joining was told, those behind a neighbour included.
    present: BTreeSet<String>,
    /// What was said while nobody was there.
    held: VecDeque<String>,
    /// Whether it is held at all: from a pipe it is, while a person is told that nobody is there.
    holds: bool,
    /// Messages that were none of a chat.
    junk: u64,
    dials: JoinSet<Result<(), String>>,
}

struct Neighbour {
    peer: Peer,
    nick: Option<String>,
    /// It said goodbye. The existing programs answer a greeting even on their way out.
    left: bool,
}

/// What ends the loop, or goes on.
enum Flow {
    Go,
    Quit,
}

impl Chat {
    /// Until the user leaves.
    async fn talk(&mut self, mut events: TopicEvents, linger: Option<Duration>) -> anyhow::Result<()> {
        let mut input = Input::new();
        let mut signals = Signals::new()?;
        let mut until: Option<Instant> = None;
        loop {
            let over = until.unwrap_or_else(Instant::now);
            let flow = tokio::select! {
                line = input.line(), if until.is_none() && self.held.len() < HELD_LINES => match line? {
                    Some(line) => self.on_line(&line).await?,
                    None => {
                        let patience = if self.held.is_empty() { Duration::ZERO } else { HELD_FOR };
                        if !self.held.is_empty() {
                            notice("nobody is here yet; waiting for somebody to come");
                        }
                        until = Some(Instant::now() + linger.unwrap_or(patience));
                        Flow::Go
                    }
                },
                event = events.next() => match event {
                    Some(event) => self.on_event(event, linger.is_none(), &mut until).await?,
                    None => Flow::Quit,
                },
                Some(dialled) = self.dials.join_next() => {
                    if let Ok(Err(error)) = dialled {
                        notice(&error);
                    }
                    Flow::Go
                }
                () = signals.any() => Flow::Quit,
                () = tokio::time::sleep_until(over), if until.is_some() => Flow::Quit,
            };
            if let Flow::Quit = flow {
                return Ok(());
            }
        }
    }

    async fn on_line(&mut self, line: &str) -> anyhow::Result<Flow> {
        match line.trim() {
            "" => {}
            "/quit" => return Ok(Flow::Quit),
            "/help" => help(),
            "/peers" => self.list_peers().await,
            // Names as the reference prints them; what its STUN would find out is not looked for.
            "/nat" => notice(&format!("nat=unknown addr=LAN local={}", self.swarm.local_addr().port())),
            command if command.starts_with('/') => {
                let name = command.split_whitespace().next().unwrap_or(command);
                notice(&format!("there is no command {name}; /help lists them"));
            }
            text if self.peers.is_empty() && self.holds => self.held.push_back(text.to_owned()),
            text if self.peers.is_empty() => notice(&format!("nobody is here to read it: {text}")),
            text => self.say(text).await?,
        }
        Ok(Flow::Go)
    }

    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        match self.topic.publish(self.writer.say(text)).await {
            Ok(_) => {}
            Err(SendError::TooLarge { len, max }) => {
                notice(&format!(
                    "not sent: {len} bytes with their wrapping are over the {max} of one message; split it"
                ));
            }
            Err(error) => return Err(error).context("cannot send"),
        }
        Ok(())
    }

    async fn on_event(&mut self, event: TopicEvent, leaves: bool, until: &mut Option<Instant>) -> anyhow::Result<Flow> {
        match event {
            TopicEvent::Joined(peer) => {
                notice(&format!("connected to {}", first8(&peer.id().v12_id().to_string())));
                self.greet(&peer).await;
                self.peers.insert(peer.id(), Neighbour { peer, nick: None, left: false });
                while let Some(text) = self.held.pop_front() {
                    self.say(&text).await?;
                }
                if until.is_some() && leaves {
                    // What was said has somebody to read it, and there will be no more.
                    return Ok(Flow::Quit);
                }
            }
            TopicEvent::Message(packet) => self.on_packet(&packet).await,
            TopicEvent::Left(id, reason) => {
                if let Some(nick) = self.peers.remove(&id).and_then(|gone| gone.nick)
                    && self.present.remove(&nick)
                {
                    notice(&format!("{nick} disconnected ({reason})"));
                }
            }
            TopicEvent::Lagged(lost) => notice(&format!("{lost} messages came too fast to be shown")),
            _ => {}
        }
        Ok(Flow::Go)
    }

    async fn on_packet(&mut self, packet: &Packet) {
        match message::read(&packet.data, self.writer.id()) {
            // Neighbours pass on what they hear, our own greeting included.
            Some(Message::Join { author: Some(author), .. }) if author == self.writer.id() => {}
            Some(Message::Join { nick, author }) => {
                let mark = mark(packet);
                // Without an author, the first JOIN over a link is the neighbour's own; later ones it passes on.
                let theirs = author.is_none_or(|author| author == packet.from.v12_id().to_string());
                let neighbour = self.peers.get_mut(&packet.from).filter(|_| theirs);
                if neighbour.as_ref().is_some_and(|it| it.left && it.nick.as_ref() == Some(&nick)) {
                    return;
                }
                if let Some(neighbour) = neighbour.filter(|neighbour| neighbour.nick.is_none()) {
                    neighbour.nick = Some(nick.clone());
                    let peer = neighbour.peer.clone();
                    self.greet(&peer).await;
                }
                if self.present.len() < MAX_PRESENT && self.present.insert(nick.clone()) {
                    notice(&format!("{nick} joined{mark}"));
                }
            }
            Some(Message::Say { nick, text, ours: false }) => show(&nick, &format!("{text}{}", mark(packet))),
            Some(Message::Say { ours: true, .. }) => {}
            Some(Message::Leave { nick }) => {
                if let Some(neighbour) = self.peers.get_mut(&packet.from) {
                    neighbour.left |= neighbour.nick.as_ref() == Some(&nick);
                }
                if self.present.remove(&nick) {
                    notice(&format!("{nick} left{}", mark(packet)));
                }
            }
            None => self.junk += 1,
        }
    }

    /// Tells a neighbour who we are. One that is gone again needs no greeting.
    async fn greet(&mut self, peer: &Peer) {
        let _ = peer.send(self.writer.join()).await;
    }

    async fn list_peers(&self) {
        let peers = self.swarm.peers().await;
        notice(&format!("{} here", count(peers.len(), "peer")));
        for info in peers {
            let nick = self.peers.get(&info.id).and_then(|neighbour| neighbour.nick.as_deref()).unwrap_or("?");
            let (id, ms) = (info.id.v12_id().to_string(), info.rtt.as_secs_f64() * 1000.0);
            let mesh = if info.in_mesh { " mesh" } else { "" };
            notice(&format!("  {} {nick} {ms:.1} ms{mesh}", first8(&id)));
        }
        if self.junk > 0 {
            notice(&format!(
                "{} were none of a chat",
                count(usize::try_from(self.junk).unwrap_or(usize::MAX), "message")
            ));
        }
    }

    async fn leave(mut self) {
        if !self.held.is_empty() {
            notice(&format!("nobody came: {} not delivered", count(self.held.len(), "message")));
        }
        // Nobody needs to hear it if the node has ended.
        let _ = self.topic.publish(self.writer.leave()).await;
        let peers = self.swarm.peers().await.len();
        let unsent = self.swarm.shutdown(GRACE).await;
        if unsent.messages > 0 {
            notice(&format!(
                "{} did not leave in time",
                count(usize::try_from(unsent.messages).unwrap_or(usize::MAX), "message")
            ));
        }
        notice(&format!("left {}", count(peers, "peer")));
    }
}

/// Lines of standard input.
struct Input {
    reader: BufReader<Stdin>,
    /// The part of a line that has been read.
    line: Vec<u8>,
}

impl Input {
    fn new() -> Self {
        Self { reader: BufReader::new(tokio::io::stdin()), line: Vec::new() }
    }

    /// The next line, or `None` at the end of input. Cancel-safe: what was read stays for the next call.
    async fn line(&mut self) -> anyhow::Result<Option<String>> {
        let read = self.reader.read_until(b'\n', &mut self.line).await.context("cannot read the input")?;
        if read == 0 && self.line.is_empty() {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        Ok(Some(line))
    }
}

/// What asks the program to end. Kept for the whole run, so that no signal falls between two waits.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What asks the program to end. Kept for the whole run, so that no signal falls between two waits.
#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self(tokio::signal::windows::ctrl_c()?))
    }

    async fn any(&mut self) {
        // None means that it cannot come any more.
        let _ = self.0.recv().await;
    }
}

/// The IPv4 addresses of a host.
async fn resolve(target: &Target) -> anyhow::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let found = found.with_context(|| format!("cannot find the host of --dial {target}; check the name"))?;
    let addrs: Vec<SocketAddr> = found.filter(SocketAddr::is_ipv4).collect();
    anyhow::ensure!(!addrs.is_empty(), "the host of --dial {target} has no IPv4 address, which this wire needs");
    Ok(addrs)
}

/// Dials every address of a target until one answers.
async fn contact(swarm: Swarm, target: Target, addrs: Vec<SocketAddr>) -> Result<(), String> {
    let mut why = String::new();
    for addr in addrs {
        match swarm.dial(addr).await {
            Ok(_) => return Ok(()),
            Err(swarm::DialError::Closed) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(format!("could not reach {target}: {why}; trying again while nobody is here"))
}

fn random_hex<const N: usize>() -> anyhow::Result<String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the operating system gave no entropy: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn help() {
    for line in [
        "/peers  who is connected: id, nick, round trip, and whether messages are passed on there",
        "/nat    what is known of the way to the outside",
        "/help   this list",
        "/quit   leave, as the end of input and Ctrl-C do",
    ] {
        notice(line);
    }
}

/// What is shown behind what anybody on the network may have written.
fn mark(packet: &Packet) -> &'static str {
    if packet.authenticated { "" } else { " (not authenticated)" }
}

fn first8(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A message, on standard output.
fn show(nick: &str, text: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{nick}\t{text}").and_then(|()| out.flush()).is_err() {
        // Nobody reads any more: the end of a pipe, as in `setowire-chat ops | head -1`.
        std::process::exit(0);
    }
}

/// Everything else, on standard error.
fn notice(text: &str) {
    // There is nowhere to tell that this cannot be told.
    let _ = writeln!(io::stderr(), "* {text}");
}
