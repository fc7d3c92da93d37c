//! A small internet of network namespaces.
//!
//! ```text
//!  a1, a2 ── nata ── ispa ── corea ── coreb ── ispb ── natb ── b1
//!  ad ── homea ──┘             │        │
//!                            pub1     pub2
//! ```
//!
//! From one NAT to the other there are four routers, so that a packet that may pass five dies behind its own NAT and before the other.
//! Both local networks have the same private addresses, as at home. All links are made from inside, so nothing of the machine's own
//! network changes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::kind::{Kind, Manner, rules};

/// Names of namespaces: this, the process they belong to, the number of the laboratory, the host.
pub(super) const PREFIX: &str = "setowire-natlab-";

/// One of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    pub(super) const fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The network of its provider, without the last number.
    const fn network(self) -> &'static str {
        match self {
            Self::A => "11.1.2",
            Self::B => "198.51.100",
        }
    }

    fn nat(self) -> String {
        format!("nat{}", self.letter())
    }
}

/// The public hosts; each also has the next address.
pub(super) const PUBLIC: [(&str, &str); 2] = [("pub1", "203.0.113.10"), ("pub2", "198.18.0.10")];

/// The second addresses of the public hosts.
pub(super) const SECOND: [&str; 2] = ["203.0.113.11", "198.18.0.11"];

/// The same in IPv6.
pub(super) const PUBLIC6: [&str; 2] = ["2001:db8:1::10", "2001:db8:2::10"];

const HOSTS: [&str; 13] =
    ["corea", "coreb", "ispa", "ispb", "nata", "natb", "pub1", "pub2", "a1", "a2", "b1", "homea", "ad"];

/// Host, interface, host, interface.
const LINKS: [(&str, &str, &str, &str); 12] = [
    ("corea", "core", "coreb", "core"),
    ("corea", "pub", "pub1", "eth0"),
    ("coreb", "pub", "pub2", "eth0"),
    ("corea", "isp", "ispa", "core"),
    ("coreb", "isp", "ispb", "core"),
    ("ispa", "nat", "nata", "wan"),
    ("ispb", "nat", "natb", "wan"),
    ("nata", "a1", "a1", "eth0"),
    ("nata", "a2", "a2", "eth0"),
    ("nata", "home", "homea", "wan"),
    ("homea", "lan", "ad", "eth0"),
    ("natb", "b1", "b1", "eth0"),
];

/// What every router and host is set up with, once. Lines for `ip`.
const ADDRESSES: [(&str, &str); 12] = [
    (
        "corea",
        "addr add 100.127.0.1/30 dev core\naddr add 203.0.113.1/24 dev pub\naddr add 100.127.1.1/30 dev isp
route add 11.1.2.0/24 via 100.127.1.2\nroute add 198.51.100.0/24 via 100.127.0.2\nroute add 198.18.0.0/24 via 100.127.0.2
addr add 2001:db8:f0::1/64 dev core\naddr add 2001:db8:1::1/64 dev pub\naddr add 2001:db8:f1::1/64 dev isp
route add 2001:db8:a::/48 via 2001:db8:f1::2\nroute add 2001:db8:b::/48 via 2001:db8:f0::2\nroute add 2001:db8:2::/64 via 2001:db8:f0::2",
    ),
    (
        "coreb",
        "addr add 100.127.0.2/30 dev core\naddr add 198.18.0.1/24 dev pub\naddr add 100.127.2.1/30 dev isp
route add 198.51.100.0/24 via 100.127.2.2\nroute add 11.1.2.0/24 via 100.127.0.1\nroute add 203.0.113.0/24 via 100.127.0.1
addr add 2001:db8:f0::2/64 dev core\naddr add 2001:db8:2::1/64 dev pub\naddr add 2001:db8:f2::1/64 dev isp
route add 2001:db8:b::/48 via 2001:db8:f2::2\nroute add 2001:db8:a::/48 via 2001:db8:f0::1\nroute add 2001:db8:1::/64 via 2001:db8:f0::1",
    ),
    (
        "ispa",
        "addr add 100.127.1.2/30 dev core\naddr add 11.1.2.1/25 dev nat\nroute add default via 100.127.1.1
addr add 2001:db8:f1::2/64 dev core\naddr add 2001:db8:a:ff::1/64 dev nat\nroute add default via 2001:db8:f1::1
route add 2001:db8:a:1::/64 via 2001:db8:a:ff::2",
    ),
    (
        "ispb",
        "addr add 100.127.2.2/30 dev core\naddr add 198.51.100.1/25 dev nat\nroute add default via 100.127.2.1
addr add 2001:db8:f2::2/64 dev core\naddr add 2001:db8:b:ff::1/64 dev nat\nroute add default via 2001:db8:f2::1
route add 2001:db8:b:1::/64 via 2001:db8:b:ff::2",
    ),
    (
        "nata",
        "link add lan type bridge\nlink set lan up\nlink set a1 master lan\nlink set a2 master lan\nlink set home master lan
addr add 192.168.1.1/24 dev lan\naddr add 11.1.2.129/25 dev lan\naddr add 2001:db8:a:1::1/64 dev lan
addr add 2001:db8:a:ff::2/64 dev wan\nroute add default via 2001:db8:a:ff::1",
    ),
    (
        "natb",
        "link add lan type bridge\nlink set lan up\nlink set b1 master lan
addr add 192.168.1.1/24 dev lan\naddr add 198.51.100.129/25 dev lan\naddr add 2001:db8:b:1::1/64 dev lan
addr add 2001:db8:b:ff::2/64 dev wan\nroute add default via 2001:db8:b:ff::1",
    ),
    (
        "pub1",
        "addr add 203.0.113.10/24 dev eth0\naddr add 203.0.113.11/24 dev eth0\nroute add default via 203.0.113.1
addr add 2001:db8:1::10/64 dev eth0\nroute add default via 2001:db8:1::1",
    ),
    (
        "pub2",
        "addr add 198.18.0.10/24 dev eth0\naddr add 198.18.0.11/24 dev eth0\nroute add default via 198.18.0.1
addr add 2001:db8:2::10/64 dev eth0\nroute add default via 2001:db8:2::1",
    ),
    ("homea", "addr add 192.168.7.1/24 dev lan\naddr add 192.168.1.2/24 dev wan\nroute add default via 192.168.1.1"),
    ("ad", "addr add 192.168.7.11/24 dev eth0\nroute add default via 192.168.7.1"),
    ("a2", "addr add 192.168.1.12/24 dev eth0\nroute add default via 192.168.1.1"),
    ("a1", ""),
];

/// Forwarding for all: a host that nobody routes through forwards nothing. Duplicate detection would hold addresses back for a second.
const SETTINGS: &str = "echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
echo 20000 60999 > /proc/sys/net/ipv4/ip_local_port_range";

/// The namespaces of one laboratory. They are removed by the [janitor](super::janitor).
#[derive(Debug)]
pub(super) struct Lab {
    prefix: String,
}

impl Lab {
    /// Makes it; the number tells it from others of this process.
    ///
    /// # Errors
    /// With what the system refused.
    pub(super) fn new(number: usize) -> anyhow::Result<Self> {
        let lab = Self { prefix: format!("{PREFIX}{}-{number}-", std::process::id()) };
        let mut lines = String::new();
        for host in HOSTS {
            lines.push_str(&format!("netns add {}\n", lab.namespace(host)));
        }
        feed(Command::new("ip").args(["-batch", "-"]), &lines)?;
        for host in HOSTS {
            lab.shell(host, SETTINGS)?;
        }
        lines.clear();
        for (left, one, right, other) in LINKS {
            let (left, right) = (lab.namespace(left), lab.namespace(right));
            lines.push_str(&format!("link add {one} netns {left} type veth peer name {other} netns {right}\n"));
        }
        feed(Command::new("ip").args(["-batch", "-"]), &lines)?;
        for host in HOSTS {
            let mut lines = String::from("link set lo up\n");
            for (left, one, right, other) in LINKS {
                if left == host {
                    lines.push_str(&format!("link set {one} up\n"));
                }
                if right == host {
                    lines.push_str(&format!("link set {other} up\n"));
                }
            }
            lines.extend(ADDRESSES.iter().filter(|(name, _)| *name == host).map(|(_, more)| format!("{more}\n")));
            lab.ip(host, &lines)?;
        }
        Ok(lab)
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// A process that will run `program` on a host.
    pub(super) fn command(&self, host: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program);
        command
    }

    /// What a line of a shell on a host prints.
    ///
    /// # Errors
    /// When it cannot be run.
    pub(super) fn read(&self, host: &str, line: &str) -> anyhow::Result<String> {
        let output = self.command(host, Path::new("sh")).args(["-c", line]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn ip(&self, host: &str, lines: &str) -> anyhow::Result<()> {
        feed(Command::new("ip").args(["-n", &self.namespace(host), "-batch", "-"]), lines)
            .with_context(|| format!("setting up {host}"))
    }

    /// Runs lines of a shell on a host.
    ///
    /// # Errors
    /// When they fail.
    pub(super) fn shell(&self, host: &str, lines: &str) -> anyhow::Result<()> {
        feed(&mut self.command(host, Path::new("sh")), lines).with_context(|| format!("in {host}"))
    }

    /// Makes a side's NAT one of this kind that knows nothing, and gives its hosts the addresses that go with it.
    ///
    /// # Errors
    /// With what the system refused.
    pub(super) fn set_up(&self, side: Side, kind: Kind, manner: Manner) -> anyhow::Result<()> {
        let network = side.network();
        let hosts: &[(&str, u8)] = if side == Side::A { &[("a1", 11), ("a2", 12)] } else { &[("b1", 21)] };
        for (host, number) in hosts {
            let (addr, gate) = match kind {
                Kind::None => (format!("{network}.{}/25", 120 + number), format!("{network}.129")),
                _ => (format!("192.168.1.{number}/24"), "192.168.1.1".to_owned()),
            };
            let lines =
                format!("ip -4 addr flush dev eth0 && ip addr add {addr} dev eth0 && ip route add default via {gate}");
            self.shell(host, &lines)?;
        }
        self.translate(side, kind, manner, 10)?;
        if side == Side::A {
            let kind = if kind == Kind::None { Kind::PortCone } else { kind };
            self.renew("homea", kind, "192.168.1.2", manner)?;
        }
        // Only with a router do packets go to the hosts behind it.
        let network = format!("{network}.128/25");
        let route = match kind {
            Kind::None => format!("ip route replace {network} via {}.10", side.network()),
            _ => format!("ip route del {network} 2>/dev/null; true"),
        };
        self.shell(&format!("isp{}", side.letter()), &route)
    }

    /// The provider gives a side another address. All mappings are gone with the old one.
    ///
    /// # Errors
    /// With what the system refused.
    pub(super) fn rebind(&self, side: Side, kind: Kind, manner: Manner) -> anyhow::Result<()> {
        self.translate(side, kind, manner, 20)
    }

    fn translate(&self, side: Side, kind: Kind, manner: Manner, last: u8) -> anyhow::Result<()> {
        let (nat, network) = (side.nat(), side.network());
        let wan = format!("{network}.{last}");
        let lines = format!(
            "ip -4 addr flush dev wan && ip addr add {wan}/25 dev wan && ip route replace default via {network}.1"
        );
        self.shell(&nat, &lines)?;
        self.renew(&nat, kind, &wan, manner)
    }

    fn renew(&self, nat: &str, kind: Kind, wan: &str, manner: Manner) -> anyhow::Result<()> {
        let Manner { lifetime, .. } = manner;
        feed(self.command(nat, Path::new("nft")).args(["-f", "-"]), &rules(kind, wan, manner))
            .with_context(|| format!("rules of {nat}"))?;
        let timeouts = format!(
            "cd /proc/sys/net/netfilter
echo {} > nf_conntrack_udp_timeout\necho {lifetime} > nf_conntrack_udp_timeout_stream\nconntrack -F >/dev/null 2>&1",
            lifetime.min(30)
        );
        self.shell(nat, &timeouts)
    }

    /// Gives the hosts of a side IPv6, or takes it away.
    ///
    /// # Errors
    /// With what the system refused.
    pub(super) fn set_ipv6(&self, side: Side, on: bool) -> anyhow::Result<()> {
        let letter = side.letter();
        let host = format!("{letter}1");
        let mut lines = String::from("ip -6 addr flush dev eth0 scope global");
        if on {
            let network = format!("2001:db8:{letter}:1");
            lines.push_str(&format!(
                " && ip addr add {network}::11/64 dev eth0 && ip -6 route replace default via {network}::1"
            ));
        }
        self.shell(&host, &lines)
    }
}

/// Runs a command with `text` on its standard input.
fn feed(command: &mut Command, text: &str) -> anyhow::Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{command:?} says: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
