//! Two chat programs in one room.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::lab::{Finding, Kind, Lab, Rows};
use crate::process::{Process, Stream};
use crate::workspace;

const LIMIT: Duration = Duration::from_secs(15);

/// Text that a careless encoder or decoder would change.
const TEXT: &str = r#"grüß Gott, "quoted" \ and / <b> 🦀 & {"type":"MSG"}"#;

/// Either program dials the other.
pub(super) fn rooms(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    for [dialler, listener] in lab.directions() {
        let found = talk(lab, dialler, listener);
        rows.add(&format!("chat {dialler} dials {listener}"), None, found)?;
    }
    Ok(())
}

fn talk(lab: &Lab, dialler: Kind, listener: Kind) -> anyhow::Result<Finding> {
    let start = Instant::now();
    let (mut bob, port) = chat(lab, listener, "bob", None)?;
    let (mut alice, _) = chat(lab, dialler, "alice", Some(port))?;
    noticed(&mut alice, "bob")?;
    noticed(&mut bob, "alice")?;
    let time = start.elapsed();
    for (number, text) in ["hello", TEXT].into_iter().enumerate() {
        said(&mut alice, &mut bob, &shown(listener, "alice"), &format!("{number} {text} from alice"))?;
        said(&mut bob, &mut alice, &shown(dialler, "bob"), &format!("{number} {text} from bob"))?;
    }
    bob.forget();
    alice.tell("/quit")?;
    noticed(&mut bob, "alice")?;
    alice.ended(LIMIT)?;
    bob.tell("/quit")?;
    bob.ended(LIMIT)?;
    Ok(Finding::took(time).noting("until both told of the other; messages each way, then a farewell"))
}

/// How a chat shows somebody on this wire.
fn shown(at: Kind, nick: &str) -> String {
    match at {
        Kind::Ours => format!("{nick}@v12"),
        Kind::Reference => nick.to_owned(),
    }
}

/// Starts a chat program; it and the port it listens on.
fn chat(lab: &Lab, kind: Kind, nick: &str, dial: Option<u16>) -> anyhow::Result<(Process, u16)> {
    let port = free_port()?;
    let mut command = match kind {
        Kind::Ours => {
            let mut command = lab.network.command(&lab.binaries.chat);
            // Without the local network two of ours meet on this wire alone.
            command.args([nick, "lobby", "--no-lan", "--bind", "127.0.0.1", &format!("--v12=127.0.0.1:{port}")]);
            if let Some(dial) = dial {
                command.args(["--dial", &format!("127.0.0.1:{dial}")]);
            }
            command
        }
        Kind::Reference => {
            let mut command = lab.network.command(&lab.reference.python);
            command.arg("-B").arg(workspace::root().join("interop/ref_chat.py"));
            command.args([nick, "lobby", "--port", &port.to_string(), "--lib"]).arg(&lab.reference.library);
            command
        }
    };
    command.env_remove("RUST_LOG");
    let mut process = lab.spawn(command, &format!("{kind}-{nick}"))?;
    process.wait("first word", LIMIT, |(stream, _)| (*stream == Stream::Err).then_some(()))?;
    if let (Kind::Reference, Some(dial)) = (kind, dial) {
        process.tell(&format!("/dial 127.0.0.1:{dial}"))?;
    }
    Ok((process, port))
}

/// Waits for a line about `nick` that is not a message.
pub(super) fn noticed(at: &mut Process, nick: &str) -> anyhow::Result<()> {
    at.wait(&format!("notice about {nick}"), LIMIT, |(stream, line)| {
        (*stream == Stream::Err && line.starts_with("* ") && line.contains(nick)).then_some(())
    })
}

/// One types a line, the other reads it as it was typed.
fn said(by: &mut Process, to: &mut Process, name: &str, text: &str) -> anyhow::Result<()> {
    by.tell(text)?;
    let expected = format!("{name}\t{text}");
    to.wait(&format!("line `{text}`"), LIMIT, |(stream, line)| {
        (*stream == Stream::Out && *line == expected).then_some(())
    })
}

/// A port nobody had a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
