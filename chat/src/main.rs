//! Chat between terminals, with no server in the middle.
//!
//! `main.rs` is the command line and the exit codes, `line.rs` the conversation, `message.rs` its JSON, `identity.rs`
//! the file behind `--identity`, `sanitize.rs` what a terminal is shown of others.

mod identity;
mod line;
mod message;
mod sanitize;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Chat between terminals, with no server in the middle.
///
/// Standard input is what you say, standard output carries `nick<TAB>text` of what others say; everything else is on
/// standard error and begins with `* `. Exit codes: 0 you left, 1 failed, 2 usage.
#[derive(Debug, Parser)]
#[command(name = "setowire-chat", version)]
struct Cli {
    /// What others call you: 1 to 24 visible characters.
    #[arg(value_parser = nick)]
    nick: String,
    /// The room: 1 to 64 characters. Whoever is in the same room meets.
    #[arg(default_value = "general", value_parser = room)]
    room: String,
    /// Speak the wire of the existing Python, JavaScript and C++ nodes. Today it is the only one.
    #[arg(long)]
    v12: bool,
    /// The address of somebody in the room, beside those found on the local network. Can be given several times.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    dial: Vec<(String, u16)>,
    /// The IPv4 address and port to listen on; port 0 for any that is free.
    #[arg(long, value_name = "IP:PORT", default_value_t = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))]
    bind: SocketAddrV4,
    /// Keep the identity in this file, which is made if it is not there. Without it every run is somebody new.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Neither announce yourself nor look for others on the local network.
    #[arg(long)]
    no_lan: bool,
    /// After the end of the input, listen for so many seconds more.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    linger: Duration,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            line::note(format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(line::run(cli));
    // Somebody may still sit at the keyboard: the thread that reads it is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            line::note(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn nick(text: &str) -> Result<String, String> {
    name(text, sanitize::MAX_NICK, "a nick")
}

fn room(text: &str) -> Result<String, String> {
    name(text, 64, "a room")
}

fn name(text: &str, max: usize, what: &str) -> Result<String, String> {
    let count = text.chars().count();
    if text.trim().is_empty() || count > max {
        return Err(format!("{what} has 1 to {max} characters"));
    }
    if !text.chars().all(sanitize::is_harmless) {
        return Err(format!("{what} has no control or invisible characters"));
    }
    Ok(text.to_owned())
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let usage = || "name a host and a port, as in example.org:4000 or 192.0.2.1:4000".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(usage)?;
    if host.is_empty() || host.contains([':', '[', ']']) {
        return Err("the wire knows IPv4 only: ".to_owned() + &usage());
    }
    match port.parse() {
        Ok(port) if port != 0 => Ok((host.to_owned(), port)),
        _ => Err("a port is a number from 1 to 65535: ".to_owned() + &usage()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let digits = text.strip_suffix('s').unwrap_or(text);
    let seconds: u64 = digits.parse().map_err(|_not_a_number| "give whole seconds, as in 5 or 5s".to_owned())?;
    // Ten years are for ever, and never overflow a clock.
    Ok(Duration::from_secs(seconds.min(10 * 365 * 86_400)))
}
