//! One meeting of two nodes, from their start to their end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::agent::Agent;
use super::kind::{Kind, Manner};
use super::lab::{Lab, PUBLIC, PUBLIC6, Side};
use crate::process::Process;

/// What happens beside the meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scenario {
    /// Nothing.
    Plain,
    /// One side has IPv6 too, and so have the public hosts.
    Ipv6,
    /// The second kind is there twice, one NAT behind the other.
    Double,
    /// Both nodes are behind one NAT, of the second kind.
    Same,
    /// One datagram in ten is lost between the two sides.
    Loss,
    /// The NATs forget what nothing used for 20 s, and nothing is said for 50 s.
    Timeout,
    /// The second side's NAT gets another address, while both sides send.
    Rebind,
    /// The same while nobody says anything for 30 s.
    RebindIdle,
    /// The relay in use is killed, while both sides send.
    RelayKilled,
}

impl Scenario {
    pub(super) const ALL: [Self; 9] = [
        Self::Plain,
        Self::Ipv6,
        Self::Double,
        Self::Same,
        Self::Loss,
        Self::Timeout,
        Self::Rebind,
        Self::RebindIdle,
        Self::RelayKilled,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Ipv6 => "ipv6",
            Self::Double => "double",
            Self::Same => "same",
            Self::Loss => "loss",
            Self::Timeout => "timeout",
            Self::Rebind => "rebind",
            Self::RebindIdle => "rebind-idle",
            Self::RelayKilled => "relay-killed",
        }
    }

    fn manner(self) -> Manner {
        match self {
            // Twice, on the way from one to the other: 1 - (1 - 0.0513)^2 = 0.1.
            Self::Loss => Manner { loss: 513, ..Manner::default() },
            Self::Timeout => Manner { lifetime: 20, ..Manner::default() },
            _ => Manner::default(),
        }
    }

    /// Whether there is something to survive.
    pub(super) const fn is_trying(self) -> bool {
        matches!(self, Self::Timeout | Self::Rebind | Self::RebindIdle | Self::RelayKilled)
    }
}

/// A pair of NATs and what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) scenario: Scenario,
    pub(super) pair: [Kind; 2],
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.pair;
        match self.scenario {
            Scenario::Plain => write!(f, "{a} x {b}"),
            scenario => write!(f, "{}: {a} x {b}", scenario.name()),
        }
    }
}

/// How it went; times in milliseconds from the dial on.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Until the first request was answered; `None` if none was.
    pub(super) first: Option<f64>,
    /// Until the path was direct; `None` if it was not in time.
    pub(super) direct: Option<f64>,
    /// The way after that: `direct`, `punched` or `relay`.
    pub(super) path: String,
    /// Why it is relayed, or what went wrong.
    pub(super) why: String,
    /// What was to be survived.
    pub(super) survived: Option<Survival>,
    /// Everything there is, for the file.
    pub(super) json: Value,
}

/// How a session came through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survival {
    /// Messages that never came, in both directions, or came twice.
    pub(super) lost: u64,
    /// The longest time without a message while some were sent; in milliseconds.
    pub(super) gap: f64,
    /// Whether it was one session all the time.
    pub(super) whole: bool,
}

/// The port of the public hosts.
const PORT: u16 = 7400;
/// How long a public node may take to start.
const START: Duration = Duration::from_secs(15);
/// How long both sides have to become known to others, before the dial.
const KNOWN: Duration = Duration::from_secs(15);
/// How long a dial may take at most, whatever the goal.
const DIAL: Duration = Duration::from_secs(40);
/// Messages of each side while something happens, one each 20 ms, and what they hold.
const MESSAGES: u64 = 400;
const EVERY: Duration = Duration::from_millis(20);
const BYTES: usize = 400;
/// When it happens, after the first message.
const STRIKE: Duration = Duration::from_secs(2);
/// How long the last messages are waited for.
const LATE: Duration = Duration::from_secs(15);

/// What runs in the laboratory.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// The example `lab` of the library.
    pub(super) node: PathBuf,
    /// `setowire`.
    pub(super) serve: PathBuf,
}

/// A laboratory, and who is in it.
#[derive(Debug)]
pub(super) struct Stage {
    lab: Lab,
    programs: Programs,
    logs: PathBuf,
    servers: Vec<Process>,
    started: usize,
}

impl Stage {
    pub(super) fn new(lab: Lab, programs: &Programs, logs: &Path) -> Self {
        Self { lab, programs: programs.clone(), logs: logs.to_owned(), servers: Vec::new(), started: 0 }
    }

    fn start(&mut self, host: &str, options: &[String], name: &str) -> anyhow::Result<Agent> {
        self.started += 1;
        let name = format!("{:04}-{host}-{name}", self.started);
        Agent::start(&self.lab, host, &self.programs.node, options, &name, &self.logs)
    }

    /// Public nodes that have met nobody: `setowire serve` as its users start it, and a node that begins there.
    ///
    /// # Errors
    /// When they do not come up.
    pub(super) fn open(&mut self) -> anyhow::Result<()> {
        self.servers.clear();
        let [(first, ip), (second, _)] = PUBLIC;
        let listen = format!("--listen 0.0.0.0:{PORT} --listen [::]:{PORT}");
        self.started += 1;
        let mut serve = self.lab.command(first, &self.programs.serve);
        serve.args(["serve", "--json"]).args(words(&listen));
        serve.arg("--identity").arg(self.logs.join("serve.identity"));
        let mut node = self.lab.command(second, &self.programs.node);
        node.args(words(&format!("--server {listen} --bootstrap {ip}:{PORT}")));
        for (command, host) in [(serve, first), (node, second)] {
            let mut server = Process::spawn(command, &format!("{:04}-{host}", self.started), &self.logs)?;
            server.wait("word that it is ready", START, |(_, line)| line.contains("\"ready\"").then_some(()))?;
            self.servers.push(server);
        }
        Ok(())
    }

    /// One meeting. Who dials alternates with the number.
    pub(super) fn run(&mut self, case: Case, settle: Duration, number: usize) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(error) = self.meet(case, settle, number, &mut outcome) {
            outcome.why = format!("{error:#}");
        }
        let survived = outcome
            .survived
            .map(|survived| json!({ "lost": survived.lost, "gap_ms": survived.gap, "whole": survived.whole }));
        let log = format!("{}/{:04}-*", self.logs.display(), self.started);
        let told = json!({
            "case": case.to_string(), "scenario": case.scenario.name(), "pair": case.pair.map(Kind::name), "run": number,
            "first_ms": outcome.first, "direct_ms": outcome.direct, "path": outcome.path, "why": outcome.why,
            "survived": survived, "log": log,
        });
        if let (Value::Object(all), Value::Object(more)) = (&mut outcome.json, told) {
            all.extend(more);
        } else {
            outcome.json = json!({});
        }
        outcome
    }

    fn meet(&mut self, case: Case, settle: Duration, number: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
        let Case { scenario, pair: [first, second] } = case;
        outcome.json = json!({});
        let manner = scenario.manner();
        let (hosts, kinds) = match scenario {
            Scenario::Double => (["b1", "ad"], [second, first]),
            Scenario::Same => (["a1", "a2"], [second, first]),
            _ => (["a1", "b1"], [first, second]),
        };
        self.lab.set_up(Side::A, kinds[0], manner)?;
        self.lab.set_up(Side::B, kinds[1], manner)?;
        self.lab.set_ipv6(Side::A, scenario == Scenario::Ipv6)?;
        // Half of them meet by a ticket and through relays alone: in a hash table of four nodes all know each other before the dial.
        let by_ticket = (number / 2) % 2 == 1;
        let mut options = if by_ticket { words("--no-dht") } else { Vec::new() };
        let option = if by_ticket { "--relay" } else { "--bootstrap" };
        for (at, (_, ip)) in PUBLIC.into_iter().enumerate() {
            options.extend(words(&format!("{option} {ip}:{PORT}")));
            if scenario == Scenario::Ipv6 {
                options.extend(words(&format!("{option} [{}]:{PORT}", PUBLIC6[at])));
            }
        }
        // The second of the pair dials in runs with odd numbers.
        let (from, to) = if number.is_multiple_of(2) { (hosts[0], hosts[1]) } else { (hosts[1], hosts[0]) };
        let mut callee = self.start(to, &options, "called")?;
        let mut caller = self.start(from, &options, "dials")?;
        let known = callee.until("status", KNOWN, |status| status["known"] == true);
        // Who never becomes known may still be found; the dial will tell.
        let (known, status) = known.unwrap_or((KNOWN, Value::Null));
        let target = match status["ticket"].as_str() {
            Some(text) if by_ticket => text.to_owned(),
            _ => callee.id.clone(),
        };
        outcome.json =
            json!({ "from": from, "by": if by_ticket { "ticket" } else { "id" }, "known_ms": millis(known) });
        caller.tell(&format!("dial {target} {}", settle.as_millis()))?;
        let dialled = caller.event("dialled", DIAL)?;
        outcome.why = text(&dialled["why"]);
        if dialled["ok"] == true {
            outcome.first = dialled["ms"].as_f64();
            let settled = caller.event("settled", settle + DIAL)?;
            outcome.path = text(&settled["path"]);
            outcome.why = text(&settled["why"]);
            if matches!(outcome.path.as_str(), "direct" | "punched") {
                outcome.direct = settled["ms"].as_f64();
            }
            outcome.json["first_path"] = dialled["path"].clone();
            outcome.json["addr"] = settled["addr"].clone();
            if scenario.is_trying() {
                outcome.survived = Some(self.try_hard(case, &mut caller, &mut callee, hosts[1] == to)?);
            }
        }
        caller.quit()?;
        callee.quit()
    }

    /// Lets happen what the scenario is about. `called_is_second` tells on which side the one who was called is.
    fn try_hard(
        &mut self,
        case: Case,
        caller: &mut Agent,
        callee: &mut Agent,
        called_is_second: bool,
    ) -> anyhow::Result<Survival> {
        let manner = case.scenario.manner();
        let rebind = |lab: &Lab| lab.rebind(Side::B, case.pair[1], manner);
        match case.scenario {
            Scenario::Timeout => std::thread::sleep(Duration::from_secs(50)),
            Scenario::RebindIdle => {
                rebind(&self.lab)?;
                std::thread::sleep(Duration::from_secs(30));
            }
            _ => {}
        }
        // After a rebinding that nobody noticed, the other side is who wants something.
        let both = case.scenario != Scenario::RebindIdle;
        let order = format!("{MESSAGES} {} {BYTES}", EVERY.as_millis());
        let start = Instant::now();
        if both || called_is_second {
            caller.tell(&format!("send {} {order}", callee.id))?;
        }
        if both || !called_is_second {
            callee.tell(&format!("send {} {order}", caller.id))?;
        }
        std::thread::sleep(STRIKE);
        match case.scenario {
            Scenario::Rebind => rebind(&self.lab)?,
            Scenario::RelayKilled => self.kill_relay(caller, &callee.id.clone(), called_is_second)?,
            _ => {}
        }
        let limit = EVERY * u32::try_from(MESSAGES)? + LATE;
        let mut survival = Survival { whole: true, ..Survival::default() };
        let both_ways = [(both || called_is_second, caller.id.clone()), (both || !called_is_second, callee.id.clone())];
        for (at, agent) in [&mut *callee, &mut *caller].into_iter().enumerate() {
            let (sends, from) = &both_ways[at];
            if !sends {
                continue;
            }
            let left = limit.saturating_sub(start.elapsed());
            let all = |heard: &Value| heard["count"].as_u64() >= Some(MESSAGES);
            let heard = match agent.until(&format!("heard {from}"), left, all) {
                Ok((_, heard)) => heard,
                Err(_) => agent.ask(&format!("heard {from}"))?,
            };
            let count = |name: &str| heard[name].as_u64().unwrap_or(0);
            survival.lost += MESSAGES.saturating_sub(count("count")) + count("missing") + count("repeated");
            survival.gap = survival.gap.max(heard["gap_ms"].as_f64().unwrap_or(f64::INFINITY));
        }
        survival.whole = !caller.has_lost(&callee.id) && !callee.has_lost(&caller.id);
        if case.scenario == Scenario::RelayKilled {
            for (host, _) in PUBLIC {
                self.lab.shell(host, "nft flush ruleset")?;
            }
            self.open()?;
        }
        Ok(survival)
    }

    /// Kills the public node that the two talk through, if they do. With `silently` its host is gone too, and tells nobody that there
    /// is no such port.
    fn kill_relay(&mut self, caller: &mut Agent, callee: &str, silently: bool) -> anyhow::Result<()> {
        let path = caller.ask(&format!("path {callee}"))?;
        let addr = text(&path["addr"]);
        for (server, (host, ip)) in self.servers.iter_mut().zip(PUBLIC) {
            if addr.starts_with(&format!("{ip}:")) {
                if silently {
                    let table =
                        "add table ip gone; add chain ip gone out { type filter hook output priority 0; policy drop; }";
                    self.lab.shell(host, &format!("nft '{table}'"))?;
                }
                server.kill()?;
            }
        }
        Ok(())
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
