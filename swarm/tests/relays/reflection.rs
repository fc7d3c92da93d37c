//! Who names addresses in a session has little sent there, whatever he names them as (SPEC 9.1), and nothing to places of transports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crypto::topic::member_tag;
use crypto::{Identity, Seed};
use framing::record::Record;
use peer::mux::{ProtocolId, Urgency};
use relay::message::Notice;
use sim::world::Birth;
use sim::{Link, MachineId, World};
use swarm::TopicId;
use swarm::discovery::Reach;
use swarm::node::{Config, ProtocolIds, Ways};

use super::site::{Site, id, identity};
use super::{ms, secs};

/// What dials on the word of strangers may send into one network: 8 at once and 4 a minute (SPEC 9.1) of 16 KiB, which is what one
/// sends to who does not answer.
const fn budget(minutes: usize) -> usize {
    (8 + 4 * minutes) * (16 << 10)
}

const MINUTES: usize = 20;

/// A network that nobody answers in.
fn victim(number: usize) -> SocketAddr {
    SocketAddr::from(([50, 0, 0, (number % 4) as u8], 1000 + (number % 60_000) as u16))
}

fn topic() -> TopicId {
    TopicId::from("lobby")
}

fn node(birth: &Birth) -> Site {
    let ways = Ways { transports: [9].into(), ..Ways::default() };
    let config = Config::default().lan(false).find_relays(true).reach(Reach::World).pex(Some(Reach::World)).ways(ways);
    Site::new(birth, config.dht(Some(Reach::World)), false)
}

/// A node, and a liar with a session.
struct Stage {
    world: World<Site>,
    node: MachineId,
    liar: MachineId,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let mut world = World::new(Seed::fixed(seed)).link(Link::perfect().delay(ms(20)));
        let addrs: [SocketAddr; 2] = [([8, 8, 8, 8], 1).into(), ([9, 9, 9, 9], 1).into()];
        let [node, liar] = addrs.map(|addr| world.add_at(addr, |birth| node(&birth)));
        for (site, addr) in [node, liar].into_iter().zip(addrs) {
            world.with(site, |site, now| {
                site.node.set_addresses(&[], &[addr], now);
                site.node.join(topic(), true, true, now).unwrap();
            });
        }
        world.with(liar, |site, now| site.node.dial(Some(id(node.index())), &addrs[..1], now)).unwrap().unwrap();
        world.run_for(secs(3));
        assert!(world.get(node).unwrap().node.session(&id(liar.index())).is_some());
        world.capture(64 << 20);
        Self { world, node, liar }
    }

    /// The liar says this; for want of room nothing.
    fn say(&mut self, protocol: impl FnOnce(ProtocolIds) -> ProtocolId, message: &[u8]) {
        let peer = id(self.node.index());
        self.world.with(self.liar, |site, now| {
            let (session, protocol) = (site.node.session(&peer).expect("it lasts"), protocol(site.node.protocols()));
            let _ = site.node.with(session, now, |session, _| session.send(protocol, message, Urgency::Normal));
        });
    }

    /// Others, in the words of the liar: `count` in each of as many messages as a minute takes.
    fn others(&mut self, first: usize, addrs: impl Fn(usize) -> Vec<SocketAddr>) {
        let peer = id(self.node.index());
        let site = &self.world.get(self.liar).unwrap().node;
        let session = site.session(&peer).unwrap();
        let (_, _, session) = site.sessions().find(|(handle, ..)| *handle == session).unwrap();
        let tag = member_tag(topic().as_bytes(), &session.exporter(b"setowire pex v1").unwrap(), 0);
        let expires = Duration::from_secs(1_704_067_200) + self.world.elapsed() + secs(3600);
        for message in 0..4 {
            let mut bytes = [&[1][..], &tag, &[16]].concat();
            for number in 0..16 {
                let number = first + message * 16 + number;
                let record = Record { sequence: 1, expires, addresses: addrs(number), ..Record::default() };
                let signed = record.sign(&invented(number)).unwrap();
                bytes.extend((signed.as_bytes().len() as u16).to_be_bytes());
                bytes.extend(signed.as_bytes());
            }
            self.say(|ids| ids.pex.unwrap(), &bytes);
        }
    }

    /// What the node sent to whom it was only told of.
    fn sent(&self) -> BTreeMap<SocketAddr, usize> {
        let mut sent = BTreeMap::new();
        let from = self.world.addr(self.node).unwrap();
        for datagram in
            self.world.captured().iter().filter(|one| one.from == from && self.world.id_at(one.to).is_none())
        {
            *sent.entry(datagram.to).or_default() += datagram.payload.len();
        }
        assert_eq!(self.world.capture_missed(), 0);
        sent
    }

    fn sent_to_victims(&self) -> usize {
        let sent = self.sent();
        sent.iter().filter(|(addr, _)| addr.is_ipv4()).map(|(_, bytes)| bytes).sum()
    }
}

/// Keys cost nothing.
fn invented(number: usize) -> Identity {
    identity(1_000_000 + number as u32)
}

#[test]
fn peers_that_are_passed_on_make_a_node_send_little_to_one_network() {
    let mut stage = Stage::new(1);
    for minute in 0..MINUTES {
        stage.others(minute * 64, |number| (0..4).map(|port| victim(number * 4 + port)).collect());
        stage.world.run_for(secs(60));
    }
    let sent = stage.sent_to_victims();
    assert!((20_000..budget(MINUTES)).contains(&sent), "{sent} bytes in {MINUTES} minutes");
}

#[test]
fn relays_that_nobody_asked_for_make_a_node_send_nothing() {
    let mut stage = Stage::new(2);
    for second in 0..60 {
        let relays = (0..4).map(|n| second * 4 + n).map(|n| (invented(n).peer_id(), victim(n))).collect();
        stage.say(|ids| ids.relay, &Notice::Relays(relays).encode());
        stage.world.run_for(secs(1));
    }
    assert_eq!(stage.sent_to_victims(), 0);
}

#[test]
fn nothing_goes_to_places_of_transports_that_others_name() {
    let mut stage = Stage::new(3);
    let place = |number: usize| -> SocketAddr { format!("[100::{number:x}]:9").parse().unwrap() };
    stage.world.with(stage.node, |site, now| {
        // The owner may.
        site.node.dial(None, &[place(0xbee)], now).unwrap();
    });
    stage.world.run_for(secs(1));
    assert_eq!(stage.sent().into_keys().collect::<Vec<_>>(), [place(0xbee)]);
    for minute in 0..3 {
        stage.others(minute * 64, |number| vec![place(number)]);
        let relays = (0..4).map(|n| (invented(n).peer_id(), place(n))).collect();
        stage.say(|ids| ids.relay, &Notice::Relays(relays).encode());
        stage.world.run_for(secs(60));
    }
    assert_eq!(stage.sent().into_keys().collect::<Vec<_>>(), [place(0xbee)]);
}
