//! Whom a chat contacts that was told of nobody, in a network where everything that leaves it is seen.

use std::net::{IpAddr, Ipv4Addr};

use testing::{Namespace, Program};

use crate::program::{BINARY, Chat};

/// Where names are asked for. Nobody answers there.
const RESOLVER: &str = "192.0.2.53";
/// Somebody who is named, to show that what leaves is seen (RFC 5737).
const STRANGER: &str = "192.0.2.1";
/// What the README says of Mainline: names, which are asked for before anybody is contacted.
const MAINLINE: [&str; 4] =
    ["router.bittorrent.com", "dht.transmissionbt.com", "dht.libtorrent.org", "relay.pkarr.org"];

/// A network with a way out, on which a watcher stands.
struct Watched {
    here: Namespace,
    watch: Program,
    _beyond: Namespace,
}

impl Watched {
    fn new(test: &str) -> Option<Self> {
        let (here, beyond) = Namespace::pair(test)?;
        here.ip("route add default via 10.77.0.2");
        let mut watch = beyond.command(std::env::current_exe().unwrap());
        watch.args(["--ignored", "--exact", "quiet::tells_what_passes", "--nocapture"]);
        let watch = Program::start(watch);
        let _ = watch.out.begins("watching");
        Some(Self { here, watch, _beyond: beyond })
    }

    /// Starts a chat whose names are looked up at [`RESOLVER`].
    fn chat(&self, options: &str) -> Chat {
        // What is mounted in a network namespace is mounted there alone.
        let script = format!(
            "f=$(mktemp) && echo nameserver {RESOLVER} >$f && mount --bind $f /etc/resolv.conf && rm $f && exec {BINARY} {options}"
        );
        let mut command = self.here.command("sh");
        command.args(["-c", &script]);
        Chat::spawn(command)
    }

    /// Whom anything went to until `last` was asked, but for groups of this network: address and port.
    fn contacted(&self, last: &str) -> Vec<(IpAddr, u16)> {
        let _ = self.watch.out.told(&format!("to {last} "));
        self.watch.out.look();
        let past = self.watch.out.past();
        let lines = past.iter().filter_map(|line| line.strip_prefix("to "));
        let of = |line: &str| {
            let [addr, _, port] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            (addr.parse::<IpAddr>().unwrap(), port.parse::<u16>().unwrap())
        };
        lines.map(of).filter(|(addr, port)| !addr.is_multicast() || *port == 5353).collect()
    }
}

/// As long as the last one takes to be sent to, the others had time to contact whom they want.
fn last(watched: &Watched) -> Chat {
    let chat = watched.chat(&format!("last lobby --no-mainline --dial {STRANGER}:7"));
    chat.noted("* could not reach");
    chat
}

#[test]
fn a_chat_that_stays_here_contacts_nobody() {
    let Some(watched) = Watched::new("quiet::a_chat_that_stays_here_contacts_nobody") else { return };
    let started = ["--lan", "--no-mainline", "--no-mainline --no-lan", "--bind 127.0.0.1", "--v12 --no-mainline"]
        .map(|options| watched.chat(&format!("alice lobby {options}")));
    for chat in &started {
        chat.addr();
    }
    let _last = last(&watched);
    let contacted = watched.contacted(STRANGER);
    assert!(contacted.iter().all(|to| *to == (STRANGER.parse::<IpAddr>().unwrap(), 7)), "{contacted:?}");
}

/// Nobody tells where they are, so nobody can be contacted: what is asked for is who would be.
#[test]
fn a_chat_as_it_is_asks_for_the_nodes_of_mainline_and_for_nobody_else() {
    let Some(watched) = Watched::new("quiet::a_chat_as_it_is_asks_for_the_nodes_of_mainline_and_for_nobody_else")
    else {
        return;
    };
    let resolver: IpAddr = RESOLVER.parse().unwrap();
    let chat = watched.chat("alice lobby");
    chat.addr();
    let _last = last(&watched);
    let _ = watched.watch.out.told(&format!("to {RESOLVER} "));
    let contacted = watched.contacted(STRANGER);
    let is_known = |(addr, port): &(IpAddr, u16)| {
        (*addr, *port) == (resolver, 53) || *addr == STRANGER.parse::<Ipv4Addr>().unwrap()
    };
    assert!(contacted.contains(&(resolver, 53)) && contacted.iter().all(is_known), "{contacted:?}");
    let past = watched.watch.out.past();
    let asked: Vec<&str> = past.iter().filter_map(|line| line.strip_prefix("asks ")).collect();
    assert!(!asked.is_empty() && asked.iter().all(|name| MAINLINE.contains(name)), "{asked:?}");
}

#[test]
#[ignore = "a part of another test"]
fn tells_what_passes() {
    testing::watch();
}
