//! The old wire: not there unless it is asked for, and then beside the native one.

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use swarm::v12::{Topic, TopicEvent, TopicEvents};
use swarm::{Preset, Swarm, TopicId, v12};
use tokio::runtime::Runtime;

use crate::program::Chat;

const LIMIT: Duration = Duration::from_secs(30);

/// A node of the old wire alone, whose user is called `olga`.
struct Olga {
    runtime: Runtime,
    swarm: v12::Swarm,
    topic: Topic,
    events: TopicEvents,
    count: u32,
}

impl Olga {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bound = runtime.block_on(v12::Swarm::builder().preset(Preset::Loopback).lan(false).bind());
        let swarm = bound.unwrap();
        let topic = swarm.join(TopicId::from_name("chat:lobby")).unwrap();
        let events = topic.events();
        Self { runtime, swarm, topic, events, count: 0 }
    }

    fn addr(&self) -> String {
        self.swarm.local_addr().to_string()
    }

    fn send(&mut self, mut message: Value) {
        self.count += 1;
        message["nick"] = "olga".into();
        message["_selfId"] = self.swarm.v12_id().to_string().into();
        message["_n"] = self.count.into();
        self.runtime.block_on(self.topic.publish(message.to_string())).unwrap();
    }

    fn say(&mut self, text: &str) {
        self.send(json!({ "type": "MSG", "text": text }));
    }

    /// Waits for the next message of this type.
    fn hears(&mut self, kind: &str) -> Value {
        let next = async {
            loop {
                if let TopicEvent::Message(message) = self.events.next().await.unwrap() {
                    let message: Value = serde_json::from_slice(&message.data).unwrap();
                    if message["type"] == kind {
                        return message;
                    }
                }
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(LIMIT, next).await.expect("a message") })
    }
}

fn first8(id: &str) -> String {
    id[..8].to_owned()
}

/// First bytes: of what dials somebody whose key is not known (SPEC 5.2), and of a HELLO on the old wire.
const XX1: u8 = 0xD3;
const HELLO: u8 = 0xA1;

#[test]
fn the_old_wire_is_silent_unless_it_is_asked_for() {
    // A node of the old wire is not answered,
    let alice = Chat::start("alice lobby");
    let olga = Olga::new();
    let addr = alice.addr().parse().unwrap();
    olga.runtime.block_on(olga.swarm.dial(addr)).unwrap_err();
    // and nothing is sent to one.
    let dialled = |start: fn(&str) -> Chat| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let _chat = start(&format!("bob lobby --dial {}", socket.local_addr().unwrap()));
        let first = || {
            let mut datagram = [0; 2048];
            let len = socket.recv(&mut datagram).unwrap();
            assert!(len > 0);
            datagram[0]
        };
        // The dial repeats itself until it gives up.
        [first(), first(), first(), first()]
    };
    assert_eq!(dialled(Chat::start), [XX1; 4]);
    let kinds = dialled(Chat::start_v12);
    assert!(kinds.contains(&XX1) && kinds.contains(&HELLO), "{kinds:x?}");
}

#[test]
fn somebody_on_the_old_wire_is_heard_with_a_mark() {
    let mut olga = Olga::new();
    let mut alice = Chat::start_v12(&format!("alice lobby --dial {}", olga.addr()));
    let greeting = olga.hears("JOIN");
    assert_eq!((&greeting["nick"], greeting["_selfId"].as_str().unwrap().len()), (&json!("alice"), 40));
    olga.send(json!({ "type": "JOIN" }));
    alice.noted("* olga joined (v12)");
    let peers = alice.peers(1);
    let id = first8(&olga.swarm.v12_id().to_string());
    assert!(peers[0].starts_with(&format!("*   {id} olga@v12 ")) && peers[0].contains(" ms v12 127"), "{peers:?}");
    olga.say("good day");
    assert_eq!(alice.said(), "olga@v12\tgood day");
    for text in ["good day", "good day"] {
        alice.tell(text);
        let said = olga.hears("MSG");
        assert_eq!((&said["nick"], &said["text"]), (&json!("alice"), &json!(text)));
    }
    // What others on the way would read is not sent as if it were for one alone.
    alice.tell("/msg olga psst");
    alice.noted("* not sent: on the v12 wire");
    // A line that only a native message has room for.
    alice.tell(&"x".repeat(65_500));
    alice.noted("* not sent to those on the v12 wire");
    olga.send(json!({ "type": "LEAVE" }));
    alice.noted("* olga left (v12)");
    alice.tell("/quit");
    olga.hears("LEAVE");
}

#[test]
fn those_on_both_wires_see_each_other_once() {
    let mut olga = Olga::new();
    let mut alice = Chat::start_v12(&format!("alice lobby --dial {}", olga.addr()));
    let (addr, v12_addr) = (alice.addr(), alice.v12_addr());
    alice.noted("* connected to");
    let dials = format!("--dial {addr} --dial {v12_addr} --dial {}", olga.addr());
    let mut bob = Chat::start_v12(&format!("bob lobby {dials}"));
    while olga.hears("JOIN")["nick"] != "bob" {}
    olga.send(json!({ "type": "JOIN" }));
    for (one, other) in [(&mut alice, "bob"), (&mut bob, "alice")] {
        one.peers_once(|peers| {
            let is = |name: &str, wire: &str| peers.iter().any(|peer| peer.contains(name) && peer.contains(wire));
            peers.len() == 2 && is(&format!(" {other} "), " native ") && is(" olga@v12 ", " v12 ")
        });
    }
    // Olga passes on what she hears; it counts once all the same.
    for round in 0..20 {
        alice.tell(&format!("a{round}"));
        let heard = bob.said();
        assert!(heard == format!("alice\ta{round}") || heard == format!("alice@v12\ta{round}"), "{heard}");
        assert_eq!(olga.hears("MSG")["text"], format!("a{round}"));
        olga.say(&format!("o{round}"));
        assert_eq!([alice.said(), bob.said()], [format!("olga@v12\to{round}"), format!("olga@v12\to{round}")]);
    }
    bob.tell("/quit");
    alice.noted("* bob left");
    assert_eq!(alice.peers(1).len(), 1, "olga is still there");
}

/// A file of this run in the folder that cargo gives to tests.
fn file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn identities_made_before_stay_the_same_on_the_old_wire() {
    let seed: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let (runtime, native) = (Runtime::new().unwrap(), Swarm::builder().preset(Preset::Loopback).lan(false));
    let _entered = runtime.enter();
    let quiet = || v12::Swarm::builder().preset(Preset::Loopback).lan(false);
    let (before, _first) = quiet().hex_seed(&seed).bind_manual().unwrap();
    let (now, _second) = native.seed(bytes).v12(quiet()).bind_manual().unwrap();
    let ids = [before.v12_id(), now.v12().unwrap().v12_id()].map(|id| first8(&id.to_string()));
    assert_ne!(ids[0], ids[1]);

    let contents = [format!("{{\"seed\":\"{seed}\"}}\n"), format!("{{\"version\":1,\"seed\":\"{seed}\"}}\n")];
    for (at, (content, v12_id)) in contents.iter().zip(&ids).enumerate() {
        let path = file(&format!("old-{at}.json"), content);
        let you = |start: fn(&str) -> Chat| start(&format!("alice --identity {}", path.display())).noted("* you are ");
        let short = now.id().short();
        assert!(you(Chat::start).starts_with(&format!("* you are alice ({short}) in")));
        let told = you(Chat::start_v12);
        assert!(told.starts_with(&format!("* you are alice ({short}, on the v12 wire {v12_id}) in")), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), *content, "the file is left as it is");
        fs::remove_file(path).unwrap();
    }
}
