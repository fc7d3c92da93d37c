//! Is a NAT of the kind it is said to be? Asked in the way of RFC 5780: where do others see me, and who gets through to me?

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::kind::{Kind, Manner};
use super::lab::{Lab, PUBLIC, SECOND, Side};
use crate::process::{Process, Stream};
use crate::report::{Report, Row, say};

/// The reflector has sockets at two addresses of one host, with these ports each.
const PORTS: [u16; 2] = [3578, 3579];
/// How long an answer is waited for, and how often it is asked for.
const ANSWER: Duration = Duration::from_millis(300);
const TRIES: usize = 2;
/// NATs, and what is between them.
const ROUTERS: u32 = 6;
/// The second side's host when it has no NAT.
const OPEN_HOST: &str = "198.51.100.141";
/// How many ports are looked at to tell a counter from chance.
const PORTS_SEEN: usize = 3;

/// A row for each kind: mapping, filtering and ports, as they are and as they should be.
///
/// # Errors
/// When a probe cannot be run.
pub(super) fn append(report: &mut Report, logs: &Path, lab: &Lab) -> anyhow::Result<()> {
    let (host, _) = PUBLIC[0];
    let program = std::env::current_exe().context("where this program is")?;
    let mut command = lab.command(host, &program);
    command.args(["natlab", "reflector"]);
    let mut reflector = Process::spawn(command, "check-reflector", logs)?;
    reflector.wait("word that it is ready", Duration::from_secs(5), |(_, line)| (line == "ready").then_some(()))?;
    for (side, hosts) in [(Side::A, ["a1", "ad"].as_slice()), (Side::B, ["b1"].as_slice())] {
        for kind in Kind::ALL {
            lab.set_up(side, kind, Manner::default())?;
            for host in hosts {
                if *host == "ad" && kind == Kind::None {
                    continue;
                }
                let mut command = lab.command(host, &program);
                command.args(["natlab", "prober"]);
                let mut prober = Process::spawn(command, &format!("check-{host}-{kind}"), logs)?;
                let found = prober.wait("verdict", Duration::from_secs(10), |(stream, line)| {
                    (*stream == Stream::Out).then(|| line.clone())
                })?;
                let (verdict, ports) = found.split_once('|').unwrap_or((&found, ""));
                let double = if *host == "ad" { " twice" } else { "" };
                let name = format!("{kind}{double} of side {}", side.letter());
                report.push(if verdict == kind.verdict() {
                    Row { value: json!(verdict), ..Row::passed(name, ports) }
                } else {
                    Row::failed(name, format!("it is {verdict} ({ports}), and should be {}", kind.verdict()))
                })?;
            }
        }
    }
    routers(report, logs, lab, &program)
}

/// A row for the number of routers between the sides: a packet that may pass five of them must not reach the other NAT.
fn routers(report: &mut Report, logs: &Path, lab: &Lab, program: &Path) -> anyhow::Result<()> {
    lab.set_up(Side::A, Kind::PortCone, Manner::default())?;
    lab.set_up(Side::B, Kind::None, Manner::default())?;
    let start = |host: &str, what: &str| {
        let mut command = lab.command(host, program);
        command.args(["natlab", what]);
        Process::spawn(command, &format!("check-{what}"), logs)
    };
    let (mut echo, mut hops) = (start("b1", "echo")?, start("a1", "hops")?);
    echo.wait("word that it is ready", Duration::from_secs(5), |(_, line)| (line == "ready").then_some(()))?;
    hops.tell("go")?;
    let found: u32 = hops.wait("number", Duration::from_secs(20), |(_, line)| line.parse().ok())?;
    let name = "routers from one side to the other";
    report.push(if found == ROUTERS {
        Row::figure(name, found.into(), "", None).noting("a packet that may pass five dies between the NATs")
    } else {
        Row::failed(name, format!("{found}, and should be {ROUTERS}"))
    })
}

fn bind(addr: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind(addr).with_context(|| format!("cannot bind {addr}"))?;
    socket.set_read_timeout(Some(ANSWER))?;
    Ok(socket)
}

/// On a public host: tells everybody who asks where it sees them, from the socket that was asked or, if so asked, from another. A
/// request is two bytes: whether to answer from the other address, and from the other port. Never ends.
///
/// # Errors
/// When an address cannot be bound.
pub(super) fn reflect() -> anyhow::Result<bool> {
    let mut sockets = Vec::new();
    for ip in [PUBLIC[0].1, SECOND[0]] {
        for port in PORTS {
            sockets.push(bind(SocketAddr::new(ip.parse()?, port))?);
        }
    }
    say("ready");
    std::thread::scope(|scope| {
        for (at, socket) in sockets.iter().enumerate() {
            let sockets = &sockets;
            scope.spawn(move || {
                let mut request = [0; 2];
                loop {
                    // A timeout, or the word of a router that somebody is gone.
                    let Ok((2, from)) = socket.recv_from(&mut request) else { continue };
                    let from_other = at ^ (usize::from(request[0] != 0) << 1) ^ usize::from(request[1] != 0);
                    if let Some(socket) = sockets.get(from_other) {
                        let _ = socket.send_to(from.to_string().as_bytes(), from);
                    }
                }
            });
        }
    });
    Ok(true)
}

/// On a host that has no NAT: sends everything back. Never ends.
///
/// # Errors
/// When the port cannot be bound.
pub(super) fn echo() -> anyhow::Result<bool> {
    let socket = bind(SocketAddr::from(([0, 0, 0, 0], PORTS[0])))?;
    say("ready");
    loop {
        let mut bytes = [0; 64];
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(bytes.get(..length).unwrap_or_default(), from);
        }
    }
}

/// Behind a NAT: once told to, counts the routers on the way to the host that echoes, and prints their number.
///
/// # Errors
/// When nothing comes back.
pub(super) fn hops() -> anyhow::Result<bool> {
    std::io::stdin().read_line(&mut String::new())?;
    let server = SocketAddr::new(OPEN_HOST.parse()?, PORTS[0]);
    for ttl in 1..16 {
        let socket = bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
        socket.set_ttl(ttl)?;
        socket.send_to(b"?", server)?;
        if socket.recv_from(&mut [0; 64]).is_ok() {
            say(&(ttl - 1).to_string());
            return Ok(true);
        }
    }
    bail!("nothing came back");
}

/// Behind a NAT: asks the reflector and prints mapping, filtering and ports.
///
/// # Errors
/// When no socket can be had.
pub(super) fn probe() -> anyhow::Result<bool> {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let servers: Vec<SocketAddr> = [(PUBLIC[0].1, PORTS[0]), (SECOND[0], PORTS[0]), (SECOND[0], PORTS[1])]
        .into_iter()
        .map(|(ip, port)| Ok(SocketAddr::new(ip.parse()?, port)))
        .collect::<anyhow::Result<_>>()?;
    let [first, second, third] = servers.as_slice() else { bail!("three servers") };
    let socket = bind(any)?;
    let own = socket.local_addr()?.port();
    let seen: Vec<Option<SocketAddr>> =
        [first, second, third].into_iter().map(|server| ask(&socket, *server, [0, 0])).collect();
    let [Some(one), Some(two), Some(three)] = seen.as_slice() else {
        say("blocked|no answer");
        return Ok(true);
    };
    let mapping = if one == two && two == three {
        "EIM"
    } else if two == three {
        "ADM"
    } else {
        "APDM"
    };
    let fresh = bind(any)?;
    ask(&fresh, *first, [0, 0]);
    let filtering = match (ask(&fresh, *first, [1, 1]), ask(&fresh, *first, [0, 1])) {
        (Some(_), _) => "EIF",
        (None, Some(_)) => "ADF",
        (None, None) => "APDF",
    };
    let ports: BTreeSet<u16> = [one, two, three].into_iter().map(|addr| addr.port()).collect();
    let steps = one.port().abs_diff(two.port()) <= 2 && two.port().abs_diff(three.port()) <= 2;
    let kept = match ports.first() {
        Some(port) if ports.len() == 1 && *port == own => "kept",
        _ if ports.len() == PORTS_SEEN && steps => "counted",
        _ => "random",
    };
    say(&format!("{mapping} {filtering} {kept}|ports {}, {}, {}", one.port(), two.port(), three.port()));
    Ok(true)
}

/// Where the server sees us, if its answer comes.
fn ask(socket: &UdpSocket, server: SocketAddr, request: [u8; 2]) -> Option<SocketAddr> {
    for _ in 0..TRIES {
        socket.send_to(&request, server).ok()?;
        let deadline = Instant::now() + ANSWER;
        let mut answer = [0; 64];
        while Instant::now() < deadline {
            if let Ok((length, _)) = socket.recv_from(&mut answer) {
                return std::str::from_utf8(&answer[..length]).ok()?.parse().ok();
            }
        }
    }
    None
}
