//! What others wrote: coturn as the STUN server that says what kind of NAT there is, miniupnpd as the router that forwards a port.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use xshell::Shell;

use super::agent::Agent;
use super::install;
use super::kind::{Kind, Manner};
use super::lab::{Lab, PUBLIC, SECOND, Side};
use crate::process::Process;
use crate::report::{Report, Row};
use crate::tools::{MINIUPNPD, TURNSERVER};

/// The port of STUN.
const STUN: u16 = 3478;
/// How long a node may take to know what NAT it is behind, or to have a port forwarded.
const KNOWN: Duration = Duration::from_secs(15);
/// How long a server may take to start.
const START: Duration = Duration::from_secs(5);

/// A row for each kind of NAT: what a node says of it that asks a server of coturn.
///
/// # Errors
/// When nothing can be started.
pub(super) fn coturn(report: &mut Report, sh: &Shell, lab: &Lab, program: &Path, logs: &Path) -> anyhow::Result<()> {
    if let Err(why) = install(sh, &TURNSERVER, "coturn") {
        return report.push(Row::not_run("coturn", format!("skipped: {why}")));
    }
    let (host, ip) = PUBLIC[0];
    let mut command = lab.command(host, Path::new(TURNSERVER.name));
    let file = logs.join("turnserver.pid");
    command.args(["-n", "-S", "--no-tls", "--no-dtls", "--no-cli", "--no-auth", "--log-file", "stdout"]);
    command.args(["--listening-ip", ip, "--listening-ip", SECOND[0], "--listening-port", &STUN.to_string()]);
    command.arg("--pidfile").arg(file);
    let mut server = Process::spawn(command, "coturn", logs)?;
    server.wait("word that it is ready", START, |(_, line)| line.contains("SQLite").then_some(()))?;
    for kind in Kind::ALL {
        lab.set_up(Side::A, kind, Manner::default())?;
        let options = ["--stun".to_owned(), format!("{ip}:{STUN}")];
        let mut agent = Agent::start(lab, "a1", program, &options, &format!("coturn-{kind}"), logs)?;
        let expected = expected(kind);
        let said = |nat: &Value| format!("{}, {}", plain(&nat["mapping"]), plain(&nat["filtering"]));
        let found = agent.until("nat", KNOWN, |nat| said(nat) == expected);
        let name = format!("coturn: {kind}");
        report.push(match found {
            Ok((time, nat)) => {
                Row::figure(name, time.as_secs_f64(), "s", None).noting(format!("{}; {}", said(&nat), nat["addr"]))
            }
            Err(error) => Row::failed(name, format!("expected {expected}: {error:#}")),
        })?;
        agent.quit()?;
    }
    Ok(())
}

/// What a node should say of its NAT: mapping and filtering. A NAT that has a port for each address is not asked what it lets in to
/// another one.
fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::None | Kind::FullCone => "EndpointIndependent, EndpointIndependent",
        Kind::AddrCone => "EndpointIndependent, AddressDependent",
        Kind::PortCone | Kind::PortClash => "EndpointIndependent, AddressAndPort",
        Kind::SymSeq => "Sequential, AddressAndPort",
        Kind::SymRand => "Random, AddressAndPort",
        Kind::UdpBlock => "Blocked, Unknown",
    }
}

/// A row for a port that a router forwards: somebody outside reaches the node by it, though the NAT lets nobody in, and it is gone once
/// the node has left.
///
/// # Errors
/// When nothing can be started.
pub(super) fn miniupnpd(report: &mut Report, sh: &Shell, lab: &Lab, program: &Path, logs: &Path) -> anyhow::Result<()> {
    if let Err(why) = install(sh, &MINIUPNPD, "miniupnpd-nftables") {
        return report.push(Row::not_run("miniupnpd", format!("skipped: {why}")));
    }
    for (name, upnp, natpmp) in [("UPnP alone", "yes", "no"), ("NAT-PMP and PCP alone", "no", "yes")] {
        lab.set_up(Side::A, Kind::SymRand, Manner::default())?;
        lab.set_up(Side::B, Kind::SymRand, Manner::default())?;
        lab.shell("nata", &format!("nft -f - <<'END'\n{TABLE}\nEND"))?;
        let config = logs.join("miniupnpd.conf");
        fs::write(&config, format!("{CONFIG}enable_upnp={upnp}\nenable_natpmp={natpmp}\n"))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = lab.command("nata", Path::new(MINIUPNPD.name));
        command.arg("-d").arg("-f").arg(&config).arg("-P").arg(logs.join("miniupnpd.pid"));
        let mut router = Process::spawn(command, "miniupnpd", logs)?;
        router.wait("word that it is ready", START, |(_, line)| line.contains("starting").then_some(()))?;
        let name = format!("miniupnpd: {name}");
        report.push(match forwarded(lab, program, logs) {
            Ok(time) => {
                Row::figure(name, time.as_secs_f64(), "s", None).noting("reached from outside; withdrawn at the end")
            }
            Err(error) => Row::failed(name, format!("{error:#}")),
        })?;
        router.kill()?;
    }
    Ok(())
}

fn forwarded(lab: &Lab, program: &Path, logs: &Path) -> anyhow::Result<Duration> {
    let mut inside = Agent::start(lab, "a1", program, &["--port-mapping".to_owned()], "miniupnpd-inside", logs)?;
    let mut outside = Agent::start(lab, "b1", program, &[], "miniupnpd-outside", logs)?;
    let (time, nat) = inside.until("nat", KNOWN, |nat| nat["forwarded"].get(0).is_some())?;
    let addr = plain(&nat["forwarded"][0]);
    outside.tell(&format!("dial {}@{addr}", inside.id))?;
    let dialled = outside.event("dialled", Duration::from_secs(20))?;
    anyhow::ensure!(dialled["ok"] == true, "dialling {addr}: {dialled}");
    outside.quit()?;
    inside.quit()?;
    let rules = lab.read("nata", "nft list chain inet upnp prerouting_miniupnpd")?;
    anyhow::ensure!(!rules.contains("dnat"), "the port is still forwarded after the end: {rules}");
    Ok(time)
}

const CONFIG: &str = "ext_ifname=wan
listening_ip=lan
secure_mode=yes
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=5b6f0f3c-2c3e-4a6a-9b7e-1f6f2b7c9d10
allow 1024-65535 192.168.0.0/16 1024-65535
";

const TABLE: &str = "table inet upnp {
  chain miniupnpd { }
  chain pass { type filter hook forward priority -5; jump miniupnpd; }
  chain prerouting_miniupnpd { }
  chain before { type nat hook prerouting priority -105; jump prerouting_miniupnpd; }
  chain postrouting_miniupnpd { }
  chain after { type nat hook postrouting priority 95; jump postrouting_miniupnpd; }
}";

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| json!(value).to_string(), str::to_owned)
}
