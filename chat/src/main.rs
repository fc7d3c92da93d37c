//! Terminal chat between peers, with no server in the middle.

mod identity;
mod input;
mod line;
mod message;
mod present;
mod sanitize;
mod screen;

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use screen::Screen;

/// How long what is still to be shown may take at the end. A pipe that nobody reads takes it for ever.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Chats with everybody in a room, with no server in the middle.
///
/// Messages arrive on standard output, one `nick<TAB>text` per line; everything else is on standard error, each line
/// beginning with `* `. Lines of standard input are messages, or commands: /peers, /nat, /help, /quit. The end of
/// input leaves, as Ctrl-C does.
///
/// People in the same room find each other on the local network by themselves. No third party is contacted.
#[derive(Debug, Parser)]
#[command(version, after_help = "exit status: 0 when you leave, 1 on failure, 2 on wrong usage")]
pub(crate) struct Options {
    /// How others see you: 1 to 24 characters
    #[arg(value_parser = parse_nick)]
    nick: String,

    /// The room: any text of 1 to 64 characters; whoever types the same is in it
    #[arg(default_value = "general", value_parser = parse_room)]
    room: String,

    /// Speak the wire of the existing Python, JavaScript and C++ nodes. It is the only one there is until the native
    /// protocol lands
    #[arg(long)]
    v12: bool,

    /// Contact the node at this address; repeat for more. Names are looked up and every address they have is tried,
    /// again and again while nobody is connected
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_target)]
    dial: Vec<Target>,

    /// The address to listen on. Bound to 127.0.0.1 the chat stays on this machine
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:0", value_parser = parse_bind)]
    bind: SocketAddr,

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
}

/// A host and a port to contact.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: String,
    port: u16,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
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
    if let Err(error) = &result {
        screen.notice(&format!("{error:#}"));
    }
    screen.close(LAST_LINES);
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse_nick(text: &str) -> Result<String, String> {
    let nick = text.trim();
    if nick == "?" || sanitize::nick(nick) != nick {
        return Err("a nick has 1 to 24 characters that can be printed and does not begin with `*`".into());
    }
    Ok(nick.to_owned())
}

fn parse_room(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().count() > 64 || text.chars().any(char::is_control) {
        return Err("a room has 1 to 64 characters and no control characters".into());
    }
    Ok(text.to_owned())
}

fn parse_target(text: &str) -> Result<Target, String> {
    let (host, port) = text.rsplit_once(':').ok_or("write HOST:PORT, as in 192.0.2.7:4000")?;
    if host.is_empty() || host.contains([':', '/', '[', ' ']) {
        return Err("write a name or an IPv4 address before the port: this wire knows IPv4 only".into());
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok(Target { host: host.to_owned(), port }),
        _ => Err(format!("`{port}` is no port: it is a number from 1 to 65535")),
    }
}

fn parse_bind(text: &str) -> Result<SocketAddr, String> {
    let addr = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)));
    match addr {
        Ok(addr) if addr.is_ipv4() => Ok(addr),
        Ok(_) => Err("this wire knows IPv4 only".into()),
        Err(_) => Err(format!("write IP:PORT, as in {}:4000 (port 0 is any that is free)", Ipv4Addr::UNSPECIFIED)),
    }
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
        assert!(parse_target("localhost:1").is_ok());
        for bad in ["", "localhost", ":1", "a:0", "a:65536", "a:b", "[::1]:1", "http://a:1"] {
            assert!(parse_target(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse_bind("127.0.0.1"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        for bad in ["", "[::1]:0", "::1", "localhost:1", "1.2.3.4:x"] {
            assert!(parse_bind(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse_seconds("1.5s"), Ok(Duration::from_millis(1500)));
        for bad in ["", "-1", "NaN", "1e9", "x"] {
            assert!(parse_seconds(bad).is_err(), "{bad:?}");
        }
    }
}
