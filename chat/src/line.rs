//! The plain mode: lines in, lines out.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use swarm::v12::Config;
use swarm::v12::Message as Packet;
use swarm::v12::{Peer, Published, Swarm, Topic, TopicEvent, TopicEvents};
use swarm::{PeerId, SendError, TopicId};
use tokio::io::BufReader;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::input::{Input, Line, MAX_LINE, MAX_TEXT};
use crate::message::{self, Message, Writer};
use crate::present::Present;
use crate::screen::Screen;
use crate::{Options, Target, identity};

/// Lines that wait for somebody to come. When full, no more are read.
const HELD_LINES: usize = 256;
/// Bytes of these lines.
const HELD_BYTES: usize = 1024 * 1024;
/// How long they wait after the end of input.
const HELD_FOR: Duration = Duration::from_secs(5);
/// How long sending them may take after the end of input, to neighbours that take them slowly.
const SEND_FOR: Duration = Duration::from_secs(30);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long what has been said may take to leave, after that.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the chat until it is left. `broken` tells why messages cannot be shown any more.
///
/// # Errors
///
/// What keeps it from starting, with what to do about it.
pub(crate) async fn run(options: Options, screen: &Screen, broken: oneshot::Receiver<io::Error>) -> anyhow::Result<()> {
    if !options.v12 {
        screen.notice("the native protocol is not there yet: speaking the v12 wire, as with --v12");
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
            screen.notice(&format!("made the identity file {}", path.display()));
        }
        if identity.exposed {
            screen.notice(&format!("others on this machine can read {0}: run `chmod 600 {0}`", path.display()));
        }
        builder = builder.hex_seed(&identity.seed);
    }
    let swarm = builder.bind().await.context("cannot start")?;
    let topic = swarm.join(TopicId::from_name(&format!("chat:{}", options.room)))?;
    let id = swarm.v12_id().to_string();
    screen.notice(&format!("listening on {}", swarm.local_addr()));
    screen.notice(&format!("you are {} ({}) in {}; /help lists the commands", options.nick, first8(&id), options.room));
    let events = topic.events();
    let mut chat = Chat {
        screen,
        writer: Writer::new(&options.nick, id, random_hex::<4>()?),
        dials: JoinSet::new(),
        swarm,
        topic,
        peers: BTreeMap::new(),
        present: Present::default(),
        held: Held::default(),
        sending: None,
        holds: !io::stdin().is_terminal(),
        junk: 0,
    };
    for (target, addrs) in targets {
        chat.dials.spawn(contact(chat.swarm.clone(), target, addrs));
    }
    let result = chat.talk(events, broken, options.linger).await;
    chat.leave().await;
    result
}

struct Chat<'a> {
    screen: &'a Screen,
    swarm: Swarm,
    topic: Topic,
    writer: Writer,
    peers: BTreeMap<PeerId, Neighbour>,
    present: Present,
    /// What was said and is not being sent: while nobody is there, and until its turn comes.
    held: Held,
    /// The message that waits for room at a neighbour that is slow. There is one at most, and no more input is read
    /// before it has left.
    sending: Option<Sending>,
    /// Whether it is held at all: from a pipe it is, while a person is told that nobody is there.
    holds: bool,
    /// Messages that were none of a chat.
    junk: u64,
    dials: JoinSet<Result<(), String>>,
}

type Sending = Pin<Box<dyn Future<Output = Result<Published, SendError>>>>;

/// Lines that wait, in order.
#[derive(Default)]
struct Held {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Held {
    /// Whether a line of any length fits.
    fn has_room(&self) -> bool {
        self.lines.len() < HELD_LINES && self.bytes.saturating_add(MAX_TEXT) <= HELD_BYTES
    }

    fn push(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len());
        self.lines.push_back(text.to_owned());
    }

    fn pop(&mut self) -> Option<String> {
        let text = self.lines.pop_front()?;
        self.bytes = self.bytes.saturating_sub(text.len());
        Some(text)
    }
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

impl Chat<'_> {
    /// Until the user leaves. Nothing in here waits for a neighbour or for whoever reads the output, so signals are
    /// always heard.
    async fn talk(
        &mut self,
        mut events: TopicEvents,
        mut broken: oneshot::Receiver<io::Error>,
        linger: Option<Duration>,
    ) -> anyhow::Result<()> {
        let mut input = Input::new(BufReader::new(tokio::io::stdin()));
        let mut signals = Signals::new()?;
        // Since the end of input.
        let mut until: Option<Instant> = None;
        loop {
            self.send_next();
            if until.is_some() && linger.is_none() && self.sending.is_none() && self.held.lines.is_empty() {
                // What was said has somebody to read it, and there will be no more.
                return Ok(());
            }
            let over = until.unwrap_or_else(Instant::now);
            let flow = tokio::select! {
                line = input.line(), if until.is_none() && self.sending.is_none() && self.held.has_room() => {
                    match line? {
                        Line::Text(line) => self.on_line(&line).await,
                        Line::TooLong => {
                            self.notice(&format!("not sent: a line of more than {MAX_LINE} bytes; split it"));
                            Flow::Go
                        }
                        Line::End => {
                            if !self.held.lines.is_empty() {
                                self.notice("nobody is here yet; waiting for somebody to come");
                            }
                            until = Some(Instant::now() + linger.unwrap_or(HELD_FOR));
                            Flow::Go
                        }
                    }
                },
                result = sent(&mut self.sending), if self.sending.is_some() => {
                    self.on_sent(result)?;
                    Flow::Go
                },
                event = events.next() => match event {
                    Some(event) => {
                        let alone = self.peers.is_empty();
                        self.on_event(event);
                        if alone && !self.peers.is_empty() && linger.is_none() {
                            until = until.map(|_| Instant::now() + SEND_FOR);
                        }
                        Flow::Go
                    }
                    None => Flow::Quit,
                },
                Some(dialled) = self.dials.join_next() => {
                    if let Ok(Err(error)) = dialled {
                        self.notice(&error);
                    }
                    Flow::Go
                }
                error = &mut broken => match error {
                    // Nobody reads any more: the end of a pipe, as in `setowire-chat ops | head -1`.
                    Ok(error) if error.kind() == io::ErrorKind::BrokenPipe => Flow::Quit,
                    Ok(error) => return Err(error).context("cannot write the messages"),
                    Err(_) => Flow::Quit,
                },
                () = signals.any() => Flow::Quit,
                () = tokio::time::sleep_until(over), if until.is_some() => Flow::Quit,
            };
            if let Flow::Quit = flow {
                return Ok(());
            }
        }
    }

    /// Begins to send the line whose turn it is.
    fn send_next(&mut self) {
        if self.sending.is_none()
            && !self.peers.is_empty()
            && let Some(text) = self.held.pop()
        {
            let (topic, message) = (self.topic.clone(), self.writer.say(&text));
            self.sending = Some(Box::pin(async move { topic.publish(message).await }));
        }
    }

    fn on_sent(&mut self, result: Result<Published, SendError>) -> anyhow::Result<()> {
        self.sending = None;
        match result {
            Ok(_) => Ok(()),
            Err(SendError::TooLarge { len, max }) => {
                self.notice(&format!(
                    "not sent: {len} bytes with their wrapping are over the {max} of one message; split it"
                ));
                Ok(())
            }
            Err(error) => Err(error).context("cannot send"),
        }
    }

    async fn on_line(&mut self, line: &str) -> Flow {
        match line.trim() {
            "" => {}
            "/quit" => return Flow::Quit,
            "/help" => self.help(),
            "/peers" => self.list_peers().await,
            // Names as the reference prints them; what its STUN would find out is not looked for.
            "/nat" => self.notice(&format!("nat=unknown addr=LAN local={}", self.swarm.local_addr().port())),
            command if command.starts_with('/') => {
                let name = command.split_whitespace().next().unwrap_or(command);
                self.notice(&format!("there is no command {name}; /help lists them"));
            }
            text if self.peers.is_empty() && !self.holds => {
                self.notice(&format!("nobody is here to read it: {text}"));
            }
            text => self.held.push(text),
        }
        Flow::Go
    }

    fn on_event(&mut self, event: TopicEvent) {
        match event {
            TopicEvent::Joined(peer) => {
                self.notice(&format!("connected to {}", first8(&peer.id().v12_id().to_string())));
                self.greet(&peer);
                self.peers.insert(peer.id(), Neighbour { peer, nick: None, left: false });
            }
            TopicEvent::Message(packet) => self.on_packet(&packet),
            TopicEvent::Left(id, reason) => {
                if let Some(nick) = self.peers.remove(&id).and_then(|gone| gone.nick)
                    && self.present.remove(&nick)
                {
                    self.notice(&format!("{nick} disconnected ({reason})"));
                }
            }
            TopicEvent::Lagged(lost) => self.notice(&format!("{lost} messages came too fast to be shown")),
            _ => {}
        }
    }

    fn on_packet(&mut self, packet: &Packet) {
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
                    self.greet(&peer);
                }
                if self.present.insert(&nick) {
                    self.notice(&format!("{nick} joined{mark}"));
                }
            }
            Some(Message::Say { nick, text, ours: false }) => {
                self.screen.show(&nick, &format!("{text}{}", mark(packet)));
            }
            Some(Message::Say { ours: true, .. }) => {}
            Some(Message::Leave { nick }) => {
                if let Some(neighbour) = self.peers.get_mut(&packet.from) {
                    neighbour.left |= neighbour.nick.as_ref() == Some(&nick);
                }
                if self.present.remove(&nick) {
                    self.notice(&format!("{nick} left{}", mark(packet)));
                }
            }
            None => self.junk += 1,
        }
    }

    /// Tells a neighbour who we are. One that is gone again needs no greeting, and room there is: only two greetings
    /// ever go to one neighbour, all else goes to the topic.
    fn greet(&mut self, peer: &Peer) {
        let _ = peer.try_send(self.writer.join());
    }

    async fn list_peers(&self) {
        let peers = self.swarm.peers().await;
        self.notice(&format!("{} here", count(peers.len(), "peer")));
        for info in peers {
            let nick = self.peers.get(&info.id).and_then(|neighbour| neighbour.nick.as_deref()).unwrap_or("?");
            let (id, ms) = (info.id.v12_id().to_string(), info.rtt.as_secs_f64() * 1000.0);
            let mesh = if info.in_mesh { " mesh" } else { "" };
            self.notice(&format!("  {} {nick} {ms:.1} ms{mesh}", first8(&id)));
        }
        if self.junk > 0 {
            self.notice(&format!(
                "{} were none of a chat",
                count(usize::try_from(self.junk).unwrap_or(usize::MAX), "message")
            ));
        }
    }

    async fn leave(mut self) {
        let waiting = self.held.lines.len().saturating_add(usize::from(self.sending.take().is_some()));
        if waiting > 0 {
            let why = if self.peers.is_empty() { "nobody came" } else { "there was no room" };
            self.notice(&format!("{why}: {} not delivered", count(waiting, "message")));
        }
        // Nobody needs to hear it if the node has ended, and who takes no more now gets it late or not at all.
        let _ = timeout(GOODBYE, self.topic.publish(self.writer.leave())).await;
        let peers = self.swarm.peers().await.len();
        let unsent = self.swarm.shutdown(GRACE).await;
        if unsent.messages > 0 {
            self.notice(&format!(
                "{} did not leave in time",
                count(usize::try_from(unsent.messages).unwrap_or(usize::MAX), "message")
            ));
        }
        self.notice(&format!("left {}", count(peers, "peer")));
    }

    fn notice(&self, text: &str) {
        self.screen.notice(text);
    }

    fn help(&self) {
        for line in [
            "/peers  who is connected: id, nick, round trip, and whether messages are passed on there",
            "/nat    what is known of the way to the outside",
            "/help   this list",
            "/quit   leave, as the end of input and Ctrl-C do",
        ] {
            self.notice(line);
        }
    }
}

/// What came of the message that is being sent; for ever nothing if there is none. Cancel-safe: it is sent further
/// with the next call.
async fn sent(sending: &mut Option<Sending>) -> Result<Published, SendError> {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
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
