//! Terminal chat between peers, with no server in the middle.

mod hearsay;
mod input;
mod line;
mod message;
mod network;
mod room;
mod sanitize;
mod screen;
mod signals;
mod ways;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use network::Target;
use screen::Screen;
use swarm::{DialTarget, Ticket};

/// Characters of the name of a room.
const MAX_ROOM: usize = 64;
/// A name may begin as tickets do if it is no longer than this.
const SHORT_ROOM: usize = 16;
/// How long what is still to be shown may take at the end. A pipe that nobody reads takes it for ever.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Chats with everybody in a room, with no server in the middle.
///
/// Messages arrive on standard output, one `nick<TAB>text` per line; everything else is on standard error, each line
/// beginning with `* `. Lines of standard input are messages, or commands: /msg, /peers, /invite, /nat, /help, /quit.
/// The end of input leaves, as Ctrl-C does.
///
/// People in the same room find each other by themselves: on the local network, through the BitTorrent Mainline DHT,
/// which is a network of strangers all over the internet, and through a table that these chats keep among themselves,
/// which begins at those you talk to. Who keeps a part of either learns your address, and the room only if its name can be
/// guessed; in the table of the chats also your id. With --lan nobody beyond the local network is contacted but
/// whom another option names.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "exit status: 0 when you leave, 1 on failure or if nobody came to read what a pipe said, 2 on wrong usage"
)]
pub(crate) struct Options {
    /// How others see you: 1 to 24 characters
    #[arg(value_parser = parse_nick)]
    nick: String,

    /// The room: any text of 1 to 64 characters; whoever types the same is in it. Or a ticket, as /invite writes them
    #[arg(default_value = "general", value_parser = parse_room)]
    room: Place,

    /// Speak the wire of the existing Python, JavaScript and C++ nodes too, and listen for it at an address of its own.
    /// Without this no byte of it is sent or answered
    #[arg(long, value_name = "IP:PORT", num_args = 0..=1, require_equals = true, value_parser = network::parse_v12_bind)]
    v12: Option<Option<SocketAddr>>,

    /// Contact the node at HOST:PORT or ID@HOST:PORT; repeat for more. Names are looked up and every address they have
    /// is tried, again and again while nobody is connected. With an id, as each chat tells its own, nobody else is
    /// talked to; the id alone is looked for
    #[arg(long, visible_alias = "peer", value_name = "WHERE", value_parser = Target::parse)]
    dial: Vec<Target>,

    /// The address to listen on, one for IPv4 and one for IPv6; without it all of both. Bound to 127.0.0.1 the chat
    /// stays on this machine
    #[arg(long, value_name = "IP:PORT", value_parser = network::parse_bind)]
    bind: Vec<SocketAddr>,

    /// Keep your identity in this file, which is made if there is none; without it you are somebody new in each run
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,

    /// Go on listening for so many seconds after the end of input. If nobody was there to read what you said, it
    /// waits for somebody to come: 5 seconds without this option
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    linger: Option<Duration>,

    /// Do not announce the room on the local network nor look for it there
    #[arg(long)]
    no_lan: bool,

    /// Stay on the local network: contact nobody beyond it but whom another option names
    #[arg(long, conflicts_with_all = ["no_lan", "mainline"])]
    lan: bool,

    /// Do not use the BitTorrent Mainline DHT. Neither does a chat that is bound to 127.0.0.1, unless told to
    #[arg(long, conflicts_with = "mainline")]
    no_mainline: bool,

    /// Contact this node of the BitTorrent Mainline DHT first, instead of four public ones; repeat for more
    #[arg(long, value_name = "HOST:PORT", value_parser = network::parse_node)]
    mainline: Vec<String>,

    /// Begin at this node of the table that these chats keep among themselves, and in which the room is looked for in any
    /// case: any chat that can be reached will do; repeat for more. With --lan, nodes beyond the local network are left
    /// out
    #[arg(long, value_name = "HOST:PORT", value_parser = network::parse_node)]
    bootstrap: Vec<String>,

    /// Use this relay before others: who does not reach you or whom you do not reach is talked to through it, and it can
    /// read nothing of that; repeat for more
    #[arg(long, value_name = "[ID@]HOST:PORT")]
    relay: Vec<DialTarget>,

    /// Ask this STUN server where it sees you, which helps to pass NATs; repeat for more
    #[arg(long, value_name = "HOST:PORT", value_parser = network::parse_node)]
    stun: Vec<String>,

    /// Leave your sealed address at this HTTP server, as `setowire serve --http` is one, and look there for others; it cannot
    /// tell which room it is. Repeat for more
    #[arg(long, value_name = "URL", value_parser = network::parse_url)]
    http_bootstrap: Vec<String>,

    /// Exchange sealed addresses through this piping server, as `setowire serve --piping` is one; repeat for more
    #[arg(long, value_name = "URL", value_parser = network::parse_url)]
    piping: Vec<String>,

    /// Keep those you met in this file, which is made if there is none, and contact them first in the next run
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,

    /// Look for the room by multicast DNS too
    #[arg(long)]
    mdns: bool,

    /// Ask the router to forward a port to you, by PCP, NAT-PMP and UPnP
    #[arg(long)]
    port_mapping: bool,
}

/// Which room.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    Name(String),
    /// One that somebody invites to, and where he is.
    Ticket(Box<Ticket>),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Name(name) => name,
            Self::Ticket(_) => "the room of the ticket",
        })
    }
}

fn main() -> ExitCode {
    // Wrong usage ends here, with code 2.
    let options = Options::parse();
    let (screen, broken) = match Screen::start(io::stdout(), io::stderr()) {
        Ok(started) => started,
        Err(error) => {
            // There is nowhere to tell that this cannot be told.
            let _ = writeln!(io::stderr(), "* cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start").and_then(|runtime| {
        let result = runtime.block_on(line::run(options, &screen, broken));
        // A thread may still wait for a line of input; nobody waits for it.
        runtime.shutdown_background();
        result
    });
    let code = result.unwrap_or_else(|error| {
        screen.notice(&format!("{error:#}"));
        ExitCode::FAILURE
    });
    screen.close(LAST_LINES);
    code
}

fn parse_nick(text: &str) -> Result<String, String> {
    let nick = text.trim();
    if nick == "?" || sanitize::nick(nick) != nick {
        return Err("a nick has 1 to 24 characters that can be printed and does not begin with `*`".into());
    }
    Ok(nick.to_owned())
}

fn parse_room(text: &str) -> Result<Place, String> {
    let len = text.chars().count();
    // Part of a ticket is no room: whoever lost the rest of one would sit in it alone. One with a topic is longer than
    // any name.
    if len > SHORT_ROOM && text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("seto1")) {
        let ticket: Ticket = text.parse().map_err(|error: swarm::ParseTicketError| error.to_string())?;
        ticket.topic_id().ok_or("the ticket is for no room; use it as --dial")?;
        return Ok(Place::Ticket(Box::new(ticket)));
    }
    if text.is_empty() || len > MAX_ROOM || text.chars().any(char::is_control) {
        return Err("a room has 1 to 64 characters and no control characters".into());
    }
    Ok(Place::Name(text.to_owned()))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.strip_suffix('s').unwrap_or(text).parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|limit| *limit <= Duration::from_secs(7 * 86_400))
        .ok_or_else(|| "write a number of seconds, at most a week".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_options_are_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn values_are_checked() {
        assert!(parse_nick("alice").is_ok() && parse_nick(&"ä".repeat(24)).is_ok());
        for bad in ["", " ", "?", "*a", "a\u{1b}b", &"x".repeat(25)] {
            assert!(parse_nick(bad).is_err(), "{bad:?}");
        }
        assert!(parse_room("ein Zimmer 🦀").is_ok() && parse_room(&"ä".repeat(64)).is_ok());
        for bad in ["", "a\nb", &"x".repeat(65)] {
            assert!(parse_room(bad).is_err(), "{bad:?}");
        }
        let ticket = Ticket::new(swarm::PeerId::from_bytes([7; 32]), ["192.0.2.1:7".parse().unwrap()]);
        let invites = ticket.clone().topic("x".into());
        assert_eq!(parse_room(&invites.to_string()), Ok(Place::Ticket(Box::new(invites))));
        assert_eq!(parse_room("seto1 fans"), Ok(Place::Name("seto1 fans".into())));
        let cut = ticket.to_string()[..30].to_owned();
        for bad in [ticket.to_string(), cut, format!("seto1{}", "a".repeat(100))] {
            assert!(parse_room(&bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse_seconds("1.5s"), Ok(Duration::from_millis(1500)));
        for bad in ["", "-1", "NaN", "1e9", "x"] {
            assert!(parse_seconds(bad).is_err(), "{bad:?}");
        }
    }
}
