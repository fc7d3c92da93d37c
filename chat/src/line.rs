//! The plain mode: lines in, lines out.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use swarm::{Peer, PeerId, Published, Security, SendError, Swarm, Topic, TopicEvent, TopicEvents, TopicId};
use tokio::io::BufReader;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::input::{Input, Line, MAX_LINE, MAX_TEXT};
use crate::message::{self, MAX_MEET, Writer};
use crate::network::{self, Started};
use crate::room::{Room, Way};
use crate::screen::Screen;
use crate::signals::Signals;
use crate::{Options, Place, ways};

/// Lines that wait for somebody to come. When full, no more are read.
const HELD_LINES: usize = 256;
/// Bytes of these lines.
const HELD_BYTES: usize = 1024 * 1024;
/// How long they wait after the end of input.
const HELD_FOR: Duration = Duration::from_secs(5);
/// How long sending them may take after the end of input, to neighbours that take them slowly.
const SEND_FOR: Duration = Duration::from_secs(30);
/// Bytes of a message that the v12 wire takes. A line of any length fits into a native one.
const MAX_V12: usize = 65_474;
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long what has been said may take to leave, after that.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the chat until it is left. `broken` tells why messages cannot be shown any more. The exit status is that of a failure if
/// the time was over before what was said had somebody to read it.
///
/// # Errors
///
/// What keeps it from starting, with what to do about it.
pub(crate) async fn run(
    options: Options,
    screen: &Screen,
    broken: oneshot::Receiver<io::Error>,
) -> anyhow::Result<ExitCode> {
    let Started { swarm, targets } = network::start(&options, screen).await?;
    let topic = match &options.room {
        Place::Name(name) => swarm.join(TopicId::from_name(&format!("chat:{name}"))),
        Place::Ticket(ticket) => swarm.join_ticket(ticket),
    }?;
    network::tell(&swarm, screen);
    let v12_id = swarm.v12().map(|legacy| legacy.v12_id().to_string());
    let id = swarm.id();
    let also = v12_id.as_deref().map(|id| format!(", on the v12 wire {}", first8(id))).unwrap_or_default();
    screen.notice(&format!(
        "you are {} ({}{also}) in {}; /help lists the commands",
        options.nick,
        id.short(),
        options.room
    ));
    let events = topic.events();
    let mut chat = Chat {
        screen,
        writer: Writer::new(&options.nick, v12_id.clone(), format!("{:08x}", u32::from_be_bytes(network::random()?))),
        dials: JoinSet::new(),
        room: Room::new(&options.nick, id, v12_id),
        swarm,
        topic,
        held: Held::default(),
        sending: None,
        holds: !io::stdin().is_terminal(),
        junk: 0,
    };
    for (target, addrs) in targets {
        chat.dials.spawn(network::contact(chat.swarm.clone(), target, addrs));
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
    room: Room,
    /// What was said and is not being sent: while nobody is there, and until its turn comes.
    held: Held,
    /// The message that waits for room at a neighbour that is slow. There is one at most, and no more input is read
    /// before it has left.
    sending: Option<Sending>,
    /// Whether it is held at all: from a pipe it is, while a person is told that nobody is there.
    holds: bool,
    /// Messages that were none of a chat.
    junk: u64,
    dials: JoinSet<Result<Option<String>, String>>,
}

/// A message on its way.
struct Sending {
    outcome: Pin<Box<dyn Future<Output = Result<Published, SendError>>>>,
    /// Its bytes.
    len: usize,
    /// The neighbours that should get it, those of the v12 wire aside.
    natives: usize,
}

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

/// What ends the loop, or goes on.
enum Flow {
    Go,
    Quit,
    /// The time after the end of input is over.
    Late,
}

impl Chat<'_> {
    /// Until the user leaves. Nothing in here waits for a neighbour or for whoever reads the output, so signals are
    /// always heard.
    async fn talk(
        &mut self,
        mut events: TopicEvents,
        mut broken: oneshot::Receiver<io::Error>,
        linger: Option<Duration>,
    ) -> anyhow::Result<ExitCode> {
        let mut input = Input::new(BufReader::new(tokio::io::stdin()));
        let mut signals = Signals::new()?;
        // Since the end of input.
        let mut until: Option<Instant> = None;
        loop {
            self.send_next();
            if until.is_some() && linger.is_none() && self.sending.is_none() && self.held.lines.is_empty() {
                // What was said has somebody to read it, and there will be no more.
                return Ok(ExitCode::SUCCESS);
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
                        let alone = self.room.is_empty();
                        self.on_event(event).await;
                        if alone && !self.room.is_empty() && linger.is_none() {
                            until = until.map(|_| Instant::now() + SEND_FOR);
                        }
                        Flow::Go
                    }
                    None => Flow::Quit,
                },
                Some(dialled) = self.dials.join_next() => {
                    if let Ok(Ok(Some(notice)) | Err(notice)) = dialled {
                        self.notice(&notice);
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
                () = tokio::time::sleep_until(over), if until.is_some() => Flow::Late,
            };
            match flow {
                Flow::Go => {}
                // Whoever leaves knows what he leaves behind.
                Flow::Quit => return Ok(ExitCode::SUCCESS),
                // A script that says something has to notice that nobody was told.
                Flow::Late => return Ok(if self.waiting() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
            }
        }
    }

    /// Messages that were said and have not left.
    fn waiting(&self) -> usize {
        self.held.lines.len().saturating_add(usize::from(self.sending.is_some()))
    }

    /// Begins to send the line whose turn it is.
    fn send_next(&mut self) {
        if self.sending.is_none()
            && !self.room.is_empty()
            && let Some(text) = self.held.pop()
        {
            let (topic, message) = (self.topic.clone(), self.writer.say(&text));
            let (len, natives) = (message.len(), self.room.natives());
            self.sending =
                Some(Sending { outcome: Box::pin(async move { topic.publish(message).await }), len, natives });
        }
    }

    fn on_sent(&mut self, result: Result<Published, SendError>) -> anyhow::Result<()> {
        let Some(Sending { len, natives, .. }) = self.sending.take() else { return Ok(()) };
        match result {
            Ok(_) if len > MAX_V12 && self.room.has_v12() => {
                self.notice(&format!(
                    "not sent to those on the v12 wire: {len} bytes with their wrapping are over the {MAX_V12} of one \
                     message there; split it"
                ));
                Ok(())
            }
            // Whoever left meanwhile is not missed.
            Ok(published) if published.neighbours < natives.min(self.room.natives()) => {
                self.notice("somebody here takes nothing and missed what you said; /peers lists who is here");
                Ok(())
            }
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
            command if command.split_whitespace().next() == Some("/msg") => {
                self.send_direct(command.strip_prefix("/msg").unwrap_or_default().trim_start());
            }
            "/invite" => {
                let ticket = self.swarm.ticket().topic(self.topic.id());
                self.notice(&format!("whoever has this comes here by `setowire-chat NICK {ticket}`"));
            }
            // Names as the reference prints them; what its STUN would find out is not looked for.
            "/nat" => ways::lines(&self.swarm).iter().for_each(|line| self.notice(line)),
            command if command.starts_with('/') => {
                let name = command.split_whitespace().next().unwrap_or(command);
                self.notice(&format!("there is no command {name}; /help lists them"));
            }
            text if self.room.is_empty() && !self.holds => {
                self.notice(&format!("nobody is here to read it: {text}"));
            }
            text => self.held.push(text),
        }
        Flow::Go
    }

    /// Sends something to one neighbour, whom the text begins with.
    fn send_direct(&mut self, text: &str) {
        let sent = self.room.find(text).and_then(|(id, text)| {
            let message = self.writer.direct(text);
            let failed = |error| format!("not sent to {}: {error}", self.room.name(&id));
            self.swarm.peer(&id).try_send(message).map_err(failed)
        });
        if let Err(why) = sent {
            self.notice(&why);
        }
    }

    async fn on_event(&mut self, event: TopicEvent) {
        match event {
            TopicEvent::Joined(peer) => {
                let id = peer.id();
                match peer.security() {
                    Security::LegacyV12 => {
                        self.notice(&format!("connected to {} (v12)", first8(&id.v12_id().to_string())));
                    }
                    _ => {
                        self.notice(&format!("connected to {}", id.short()));
                        self.introduce_others(&peer).await;
                    }
                }
                self.greet(&peer);
                self.room.insert(id, peer.security());
            }
            TopicEvent::Message(packet) => self.on_packet(&packet).await,
            TopicEvent::Left(id, reason) => {
                if let Some(notice) = self.room.remove(&id, reason) {
                    self.notice(&notice);
                }
            }
            TopicEvent::Lagged(lost) => self.notice(&format!("{lost} messages came too fast to be shown")),
            _ => {}
        }
    }

    async fn on_packet(&mut self, packet: &swarm::Message) {
        let Some(message) = message::read(&packet.data) else {
            self.junk += 1;
            return;
        };
        let way = Way {
            from: packet.from,
            security: packet.security,
            authenticated: packet.authenticated,
            published: packet.topic.is_some(),
        };
        let heard = self.room.hear(way, message, &packet.data);
        if let Some(notice) = heard.notice {
            self.notice(&notice);
        }
        if let Some((name, text)) = heard.line {
            self.screen.show(&name, &text);
        }
        if !heard.meet.is_empty() {
            self.meet(&packet.from, heard.meet).await;
        }
        if heard.greet {
            self.greet(&self.swarm.peer(&packet.from));
        }
        self.junk += u64::from(heard.junk);
    }

    /// Tells a neighbour who we are. One that is gone again needs no greeting, and room there is: only two greetings
    /// ever go to one neighbour, all else goes to the topic.
    fn greet(&mut self, peer: &Peer) {
        let _ = peer.try_send(self.writer.join());
    }

    /// Tells somebody who has come of the others, which are neighbours of ours alone so far: natively nobody passes on what
    /// is said.
    async fn introduce_others(&mut self, peer: &Peer) {
        let peers = self.swarm.peers().await;
        let Some(at) = peers.iter().find(|info| info.id == peer.id()).map(|info| info.addr) else { return };
        let others = peers.iter().filter(|info| {
            let native = info.security == Security::Native && info.id != peer.id();
            native && self.room.contains(&info.id) && network::is_in_reach(info.addr, at)
        });
        let others: Vec<_> = others.map(|info| (info.id, info.addr)).collect();
        for some in others.chunks(MAX_MEET) {
            // Without room it meets them by others, or not.
            let _ = peer.try_send(self.writer.meet(some));
        }
    }

    /// Dials those of whom a neighbour tells.
    async fn meet(&mut self, teller: &PeerId, others: Vec<(PeerId, SocketAddr)>) {
        let Some(teller) = self.swarm.peer(teller).info().await else { return };
        for (id, addr) in others.into_iter().filter(|(_, addr)| network::is_in_reach(*addr, teller.addr)) {
            let swarm = self.swarm.clone();
            // Who cannot be reached from here is no news: nobody asked for it.
            self.dials.spawn(async move {
                let _ = swarm.dial((id, addr)).await;
                Ok(None)
            });
        }
    }

    async fn list_peers(&self) {
        let peers = self.swarm.peers().await;
        let (here, elsewhere): (Vec<_>, Vec<_>) = peers.into_iter().partition(|info| self.room.contains(&info.id));
        self.notice(&format!("{} here", count(here.len(), "peer")));
        for info in here {
            let (name, ms, addr) = (self.room.name(&info.id), info.rtt.as_secs_f64() * 1000.0, info.addr);
            let (id, wire) = match info.security {
                Security::LegacyV12 => (first8(&info.id.v12_id().to_string()).to_owned(), "v12"),
                _ => (info.id.short().to_string(), "native"),
            };
            self.notice(&format!("  {id} {name} {ms:.1} ms {wire} {addr}"));
        }
        if !elsewhere.is_empty() {
            self.notice(&format!("{} connected and not in this room", count(elsewhere.len(), "peer")));
        }
        if self.junk > 0 {
            self.notice(&format!(
                "{} were none of a chat",
                count(usize::try_from(self.junk).unwrap_or(usize::MAX), "message")
            ));
        }
    }

    async fn leave(mut self) {
        let waiting = self.waiting();
        self.sending = None;
        if waiting > 0 {
            let why = if self.room.is_empty() { "nobody came" } else { "there was no room" };
            self.notice(&format!("{why}: {} not delivered", count(waiting, "message")));
        }
        // Nobody needs to hear it if the node has ended, and who takes no more now gets it late or not at all.
        let _ = timeout(GOODBYE, self.topic.publish(self.writer.leave())).await;
        let peers = self.room.len();
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
            "/msg NICK TEXT  say something to one person alone",
            "/peers          who is here: id, name, round trip, wire, address",
            "/invite         a ticket, which leads into this room whoever has it",
            "/nat            what is known of the way to the outside",
            "/help           this list",
            "/quit           leave, as the end of input and Ctrl-C do",
        ] {
            self.notice(line);
        }
    }
}

/// What came of the message that is being sent; for ever nothing if there is none. Cancel-safe: it is sent further
/// with the next call.
async fn sent(sending: &mut Option<Sending>) -> Result<Published, SendError> {
    match sending {
        Some(sending) => sending.outcome.as_mut().await,
        None => std::future::pending().await,
    }
}

fn first8(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
