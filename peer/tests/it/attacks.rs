//! The attacks that the existing nodes fall for and that one side alone can stop: each is tried against us, and an
//! honest peer succeeds at the same thing.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use crypto::Seed;
use crypto::v12::{Identity, NodeId, Nonce, PublicKey, Session};
use framing::v12::{GoawayReason, encode, fragments};
use peer::v12::{CloseReason, Config, Event, Implementation, Peer, Proof, SendError, max_buffered_bytes};
use sim::pair::{Setup, Side};
use sim::{Addresses, Link, Pair, clock};
use structs::{Datagram, Epoch, Machine, Rejected, TransmitBuf};

use crate::connect::befriended;
use crate::order::Script;
use crate::reference::{Release, Told};
use crate::support::*;

fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

fn hello(of: &Identity) -> Vec<u8> {
    frame(|out| encode::hello(of.wire_id(), *of.public(), out))
}

fn ping(of: &Identity) -> Vec<u8> {
    frame(|out| encode::ping(7, of.id(), out))
}

fn pong(of: &Identity) -> Vec<u8> {
    frame(|out| encode::pong(of.id(), out))
}

fn stranger() -> SocketAddr {
    Addresses::Private.at(9)
}

/// Alice, whom nobody but the test talks to: she accepts, from Bob's address.
struct Victim {
    peer: Peer,
    now: std::time::Instant,
    local: SocketAddr,
    bob: SocketAddr,
    /// Bytes from and to Bob's address.
    received: u64,
    sent: u64,
    events: Vec<Event>,
    /// PINGs sent to anybody.
    pings: usize,
    out: TransmitBuf,
}

impl Victim {
    fn new(config: Config) -> Self {
        let setup = Setup::new(Seed::fixed(1));
        let (to_bob, now) = (setup.path(Side::A), setup.now());
        let peer = Peer::accept(config, identity("alice"), to_bob, &Seed::fixed(5), epoch(), now);
        let (local, bob) = (to_bob.local, to_bob.remote);
        Self { peer, now, local, bob, received: 0, sent: 0, events: Vec::new(), pings: 0, out: TransmitBuf::new(16) }
    }

    fn give(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<(), Rejected> {
        if from == self.bob {
            self.received += datagram.len() as u64;
        }
        let path = structs::Path::udp(self.local, from);
        let result = self.peer.handle_datagram(Datagram::new(path, &mut datagram.to_vec()), self.now);
        self.drain();
        result
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.peer.poll_transmit(&mut self.out, self.now) {
            self.sent += transmit.len as u64;
            self.pings += self.out.segments(&transmit).filter(|datagram| datagram[0] == 0x03).count();
            self.out.clear();
        }
        while let Some(event) = self.peer.poll_event() {
            self.events.push(event);
        }
    }

    /// Lets time pass; after each step the account must balance.
    fn wait(&mut self, span: std::time::Duration) {
        let end = self.now + span;
        while let Some(at) = self.peer.poll_timeout().map(|deadline| deadline.at).filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.peer.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }
}

/// Messages over 1200 bytes travel unsealed: whoever says HELLO can forge them in any name.
#[test]
fn forged_fragments() {
    let config = Config::default().accept_plaintext_fragments(true);
    let message = noise(2000);
    let pieces: Vec<_> = fragments([9; 8], &message).unwrap().collect();
    // Before anything was proved.
    let mut victim = Victim::new(config.clone());
    victim.give(victim.bob, &hello(&identity("bob"))).unwrap();
    for piece in &pieces {
        assert_eq!(victim.give(victim.bob, piece), Err(Rejected::Unproven));
    }
    // In the name of a peer that has proved its key, from an address that answers PINGs.
    let mut pair = friends(&config, delayed(ms(30)), 1);
    pair.capture(1 << 22);
    answer_as_bob(&mut pair, stranger(), 5 * SECOND);
    pieces.iter().for_each(|piece| pair.inject(Side::A, stranger(), piece));
    assert_eq!(messages(pair.a_events()), []);
    // The peer itself may, and what comes is marked for what it is.
    let from = pair.path(Side::B).local;
    pieces.iter().for_each(|piece| pair.inject(Side::A, from, piece));
    assert_eq!(messages(pair.a_events()), [(message, false)]);
}

/// Keys never change and counters begin at zero: every restart repeats nonces, which gives messages and keys away.
#[test]
fn nonce_reuse_across_restarts() {
    let mut seen = BTreeSet::new();
    let (mut sealed, mut elapsed) = (0, std::time::Duration::ZERO);
    for run in 0..1000_u64 {
        // Most runs are seconds apart; some begin at the same moment, some with a clock that was set back.
        let unix = match run % 10 {
            0 => epoch().unix,
            1 => epoch().unix.saturating_sub(SECOND * 3600),
            _ => epoch().unix + elapsed,
        };
        let setup = Setup::new(Seed::fixed(run)).link(delayed(ms(1)));
        let (now, [to_b, to_a]) = (setup.now(), [setup.path(Side::A), setup.path(Side::B)]);
        let epoch = Epoch { instant: clock::base(), unix };
        let seed = Seed::fixed(run).fork("process");
        let alice = Peer::dial(Config::default(), identity("alice"), to_b, 8, &seed, epoch, now);
        let mut pair = setup.pair(alice, acceptor(Config::default(), to_a, run, now));
        pair.capture(1 << 20);
        assert!(pair.run_until(|pair| pair.a.proof() == Proof::Key && pair.b.proof() == Proof::Key, SECOND));
        for i in 0..20 {
            pair.with_a(|peer, now| peer.send(number(i, 10), now)).unwrap();
            pair.with_b(|peer, now| peer.send(number(i, 10), now)).unwrap();
        }
        pair.run_for(ms(100));
        pair.with_a(|peer, now| peer.close(GoawayReason::Quitting, now));
        pair.run_for(ms(10));
        elapsed += pair.elapsed();
        let at = pair.path(Side::A).local;
        for captured in pair.captured().iter().filter(|captured| captured.from == at) {
            for data in sealed_frames(&captured.payload) {
                sealed += 1;
                assert!(seen.insert(data[1..13].to_vec()), "run {run} repeats {:02x?}", &data[1..13]);
            }
        }
    }
    assert!(sealed >= 22_000, "{sealed} sealed packets were looked at");
    // What it looks like otherwise.
    let mut repeated = BTreeSet::new();
    let twice = (0..2).any(|_| {
        let mut pair = befriended(Release::Later, delayed(ms(1)), 1);
        pair.capture(1 << 16);
        pair.with_b(|node, now| node.write(Bytes::from_static(b"x"), now));
        pair.run_for(ms(10));
        let at = pair.path(Side::B).local;
        let from_node = pair.captured().iter().filter(|captured| captured.from == at);
        let data: Vec<_> = from_node.flat_map(|captured| sealed_frames(&captured.payload)).collect();
        data.iter().any(|data| !repeated.insert(data[1..13].to_vec()))
    });
    assert!(twice, "the existing nodes repeat theirs");
}

/// The DATA frames of a datagram.
fn sealed_frames(datagram: &[u8]) -> Vec<Vec<u8>> {
    match framing::v12::Frame::decode(datagram) {
        Ok(framing::v12::Frame::Batch(frames)) => frames.iter().flat_map(sealed_frames).collect(),
        Ok(framing::v12::Frame::Data(_)) => vec![datagram.to_vec()],
        _ => Vec::new(),
    }
}

/// Nothing in a HELLO ties the id to the key: first come takes an id, last come takes a session over.
#[test]
fn an_id_with_another_key() {
    let (bob, mallory) = (identity("bob"), identity("mallory"));
    let squatted = frame(|out| encode::hello(bob.wire_id(), *mallory.public(), out));
    let mut victim = Victim::new(Config::default());
    assert_eq!(victim.give(victim.bob, &squatted), Err(Rejected::IdMismatch));
    assert_eq!(victim.peer.remote(), None);
    assert_eq!(victim.sent, 0);
    victim.give(victim.bob, &hello(&bob)).unwrap();
    assert_eq!(victim.peer.remote(), Some(bob.public()));

    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    let from = pair.path(Side::B).local;
    for forged in [squatted, hello(&mallory), frame(|out| encode::hello_ack(mallory.wire_id(), *mallory.public(), out))]
    {
        pair.inject(Side::A, from, &forged);
    }
    assert_eq!(pair.rejected(Side::A).of(Rejected::KeyConflict), 2);
    pair.with_a(|peer, now| peer.send(number(1, 10), now)).unwrap();
    pair.run_for(ms(50));
    assert_eq!(numbers(pair.b_events()), [1], "the session is what it was");
}

/// Whoever shows a node its own key in the name of its peer ends the conversation, where nodes see that they talk to
/// themselves.
#[test]
fn our_own_key_from_the_address_of_a_peer() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    let from = pair.path(Side::B).local;
    pair.inject(Side::A, from, &hello(&identity("alice")));
    assert_eq!(pair.rejected(Side::A).of(Rejected::FromSelf), 1);
    assert!(pair.a.is_connected());
}

/// A HELLO shows a key and proves nothing: "connections" from addresses where nobody is.
#[test]
fn hello_without_the_key() {
    let mut victim = Victim::new(Config::default());
    for _ in 0..8 {
        victim.give(victim.bob, &hello(&identity("bob"))).unwrap();
        victim.wait(ms(300));
        assert_eq!(victim.peer.send(Bytes::new(), victim.now), Err(SendError::NotConnected));
        assert!(!victim.peer.send_control(vec![0x30, 0]));
    }
    victim.wait(20 * SECOND);
    assert!(victim.events.iter().all(|event| !matches!(event, Event::Proved(_))));
    assert_eq!(victim.events.last(), Some(&Event::Closed(CloseReason::Unproven)));
    let pair = friends(&Config::default(), delayed(ms(20)), 1);
    assert!(pair.b.is_connected());
}

/// Nothing remembers what was received: a recorded command is executed again.
#[test]
fn replay_of_recorded_packets() {
    // Within a session, from the peer's address and from another.
    let mut pair = friends(&Config::default(), delayed(ms(10)), 1);
    pair.capture(1 << 20);
    for i in 0..50 {
        pair.with_b(|peer, now| peer.send(number(i, 10), now)).unwrap();
        pair.run_for(ms(3));
    }
    pair.run_for(SECOND);
    let record: Vec<Vec<u8>> = pair.captured().iter().map(|captured| captured.payload.clone()).collect();
    let from = pair.path(Side::B).local;
    for datagram in &record {
        pair.inject(Side::A, from, datagram);
        pair.inject(Side::A, stranger(), datagram);
    }
    assert_eq!(numbers(pair.a_events()), (0..50).collect::<Vec<_>>(), "each once");
    assert!(pair.a.stats().rejected.of(Rejected::Replayed) >= 100);

    // After a restart of the peer that counts from zero again, with a forged HELLO to make room for it.
    let mut script = Script::new();
    let first: Vec<_> = (0..80).map(|seq| script.data(seq)).collect();
    first.iter().for_each(|datagram| script.give(datagram));
    script.hello();
    let second: Vec<_> = (0..30).map(|seq| script.sealed(seq, &[&(seq as u32).to_be_bytes(), b"more"])).collect();
    script.give(&second[0]);
    assert!(contains(script.pair.a_events(), &Event::Restarted));
    for datagram in &first {
        script.hello();
        script.give(datagram);
    }
    second.iter().for_each(|datagram| script.give(datagram));
    script.pair.run_for(ms(100));
    let heard = messages(script.pair.a_events());
    assert_eq!(heard.len(), 80 + 30, "the old ones once, and the new ones");
    let restarts = script.pair.a_events().iter().filter(|timed| timed.event == Event::Restarted).count();
    assert_eq!(restarts, 1);
}

/// GOAWAY, PING and PONG are not sealed: a stranger ends conversations, or keeps the dead alive.
#[test]
fn forged_signs_of_death_and_life() {
    let mut pair = befriended(Release::Later, delayed(ms(30)), 1);
    let from = pair.path(Side::B).local;
    pair.inject(Side::A, from, &[0x0a, 0x00]);
    pair.run_for(20 * SECOND);
    assert!(pair.a.is_connected(), "it goes on answering");

    // A PONG that nobody asked for proves nothing, however many there are.
    for step in [3, 17, 50, 130, 333] {
        let mut victim = Victim::new(Config::default());
        for turn in 0..9000 / step {
            if turn % 10 < 8 && turn < 100 {
                let _ = victim.give(victim.bob, &hello(&identity("bob")));
            }
            let _ = victim.give(victim.bob, &pong(&identity("bob")));
            victim.wait(ms(step));
        }
        assert_eq!(victim.peer.proof(), Proof::None, "a PONG each {step} ms");
    }

    // The peer is gone; somebody who answers in its name from elsewhere does not keep the conversation alive.
    let mut pair = friends(&Config::default(), delayed(ms(30)), 1);
    pair.capture(1 << 24);
    pair.set_link(Side::B, Link::dead());
    answer_as_bob(&mut pair, stranger(), 70 * SECOND);
    assert_eq!(closed(pair.a_events()).map(|closed| closed.1), Some(CloseReason::Timeout));
}

/// Somebody at `at` says that he is Bob, knows Bob's key, and answers every PING at once.
fn answer_as_bob<B: Machine>(pair: &mut Pair<Peer, B>, at: SocketAddr, span: std::time::Duration) {
    let bob = identity("bob");
    let (end, mut read) = (pair.elapsed() + span, pair.captured().len());
    let mut next = pair.elapsed();
    while pair.elapsed() < end {
        if next <= pair.elapsed() {
            next += ms(300);
            pair.inject(Side::A, at, &hello(&bob));
            pair.inject(Side::A, at, &ping(&bob));
        }
        pair.run_for(ms(5));
        let asked =
            pair.captured()[read..].iter().filter(|captured| captured.to == at && captured.payload[0] == 0x03).count();
        read = pair.captured().len();
        for _ in 0..asked {
            pair.inject(Side::A, at, &pong(&bob));
        }
    }
}

/// A PING, PONG or HELLO in a peer's name makes its sender's address the best path: in three seconds a stranger next
/// door reads what is not sealed and swallows what is.
#[test]
fn hijack_of_the_path() {
    let config = Config::default().danger_send_plaintext_fragments(true).accept_plaintext_fragments(true);
    let mut ours = friends(&config, delayed(ms(60)), 1);
    let mut theirs = befriended(Release::Later, delayed(ms(60)), 1);
    ours.capture(1 << 24);
    theirs.capture(1 << 24);
    answer_as_bob(&mut ours, stranger(), 10 * SECOND);
    answer_as_bob(&mut theirs, stranger(), 10 * SECOND);
    ours.with_a(|peer, now| peer.send(noise(100_000), now)).unwrap();
    for i in 0..20 {
        ours.with_a(|peer, now| peer.send(number(i, 100), now)).unwrap();
        theirs.with_a(|peer, now| peer.send(number(i, 100), now)).unwrap();
    }
    answer_as_bob(&mut ours, stranger(), 3 * SECOND);
    answer_as_bob(&mut theirs, stranger(), 3 * SECOND);
    assert_eq!(messages(ours.b_events()).len(), 21, "all of it arrives where it should");
    assert_eq!(theirs.take_b_events().len(), 20);
    let stolen =
        |captured: &&sim::Captured| captured.to == stranger() && matches!(captured.payload[0], 0x01 | 0x0b | 0x13);
    assert_eq!(ours.captured().iter().filter(stolen).count(), 0);
    assert_eq!(theirs.captured().iter().filter(stolen).count(), 0);
}

/// Values are stored whether anybody asked or not: anyone overwrites any key.
#[test]
fn values_that_nobody_asked_for() {
    let mut pair = friends(&Config::default(), delayed(ms(20)), 1);
    pair.capture(1 << 24);
    let from = pair.path(Side::B).local;
    let poison = frame(|out| encode::chunk(b"key", b"poison", out).unwrap());
    let part = frame(|out| encode::chunk_part(b"key", 0, 2, &[0; 900], out).unwrap());
    for datagram in [&poison, &part] {
        pair.inject(Side::A, from, datagram);
        pair.inject(Side::A, stranger(), datagram);
    }
    assert_eq!(pair.rejected(Side::A).of(Rejected::Unsolicited), 2);
    assert_eq!(pair.rejected(Side::A).of(Rejected::UnknownPeer), 2);
    // Asked for, but not of him, though he answers PINGs in the right name.
    pair.with_a(|peer, now| peer.want(Bytes::from_static(b"key"), now)).unwrap();
    answer_as_bob(&mut pair, stranger(), 5 * SECOND);
    pair.inject(Side::A, stranger(), &poison);
    assert!(pair.a_events().iter().all(|timed| !matches!(timed.event, Event::Value { .. })));
    pair.with_b(|peer, now| peer.serve(Bytes::from_static(b"key"), Bytes::from_static(b"truth"), now)).unwrap();
    let truth = Event::Value { key: Bytes::from_static(b"key"), value: Bytes::from_static(b"truth") };
    assert!(pair.run_until(|pair| contains(pair.a_events(), &truth), SECOND));
}

/// A HELLO with a forged source brings its victim 315 times its size, a WANT 46,000 times.
#[test]
fn amplification() {
    let bob = identity("bob");
    let want = frame(|out| encode::want(b"key", out).unwrap());
    let have = frame(|out| encode::have([&b"key"[..]], out).unwrap());
    let batch = frame(|out| encode::batch([&want[..], &have, &[0x03, 0]], out).unwrap());
    let (hello, ping, pong) = (hello(&bob), ping(&bob), pong(&bob));
    let attacks: [&[&[u8]]; 7] = [
        &[&hello],
        &[hello.as_slice(); 8],
        &[&hello, &want, &want],
        &[&hello, &ping, &ping, &ping, &[0x03, 0]],
        &[&hello, &batch, &pong, &hello, &pong],
        &[&ping, &want, &batch, &[0x03, 0]],
        &[&hello, &[0x0a, 0], &hello, &have],
    ];
    for config in [Config::default(), Config::default().persistent_identity(true)] {
        for attack in attacks {
            for pause in [0, 1, 40, 300, 2000] {
                let mut victim = Victim::new(config.clone());
                for datagram in attack {
                    let _ = victim.give(victim.bob, datagram);
                    assert!(victim.sent <= victim.received, "{} for {}", victim.sent, victim.received);
                    let wanted: Vec<_> =
                        victim.events.iter().filter(|event| matches!(event, Event::Wanted(_))).collect();
                    assert!(wanted.is_empty(), "and the owner is not asked to serve");
                    victim.wait(ms(pause));
                    assert!(victim.sent <= victim.received, "{} for {}", victim.sent, victim.received);
                }
                for _ in 0..70 {
                    victim.wait(SECOND);
                    assert!(victim.sent <= victim.received, "{} for {}", victim.sent, victim.received);
                }
            }
        }
    }
    // Whoever is there gets what he asked for.
    let mut pair = befriended(Release::Later, delayed(ms(5)), 1);
    pair.with_b(|node, now| node.fetch(Bytes::from_static(b"key"), now));
    assert!(pair.run_until(|pair| contains(pair.a_events(), &Event::Wanted(Bytes::from_static(b"key"))), SECOND));
}

/// A request made before the proof is not lost: it is handed on when the proof is there.
#[test]
fn amplification_spares_the_hasty() {
    let bob = identity("bob");
    let mut victim = Victim::new(Config::default());
    let session = Session::derive(&bob, identity("alice").public()).unwrap();
    victim.give(victim.bob, &hello(&bob)).unwrap();
    victim.give(victim.bob, &frame(|out| encode::want(b"key", out).unwrap())).unwrap();
    let mut data = vec![1];
    session.seal(Nonce::new(1, 0), &[&[0; 4], b"hi"], &mut data);
    victim.give(victim.bob, &data).unwrap();
    let wanted = Event::Wanted(Bytes::from_static(b"key"));
    assert!(!victim.events.contains(&wanted), "a sealed packet may come from a forged address");
    let pong = frame(|out| encode::pong(bob.id(), out));
    for _ in 0..2000 {
        let before = victim.pings;
        victim.wait(ms(1));
        if victim.pings > before {
            let _ = victim.give(victim.bob, &pong);
        }
    }
    assert!(victim.events.contains(&wanted));
}

/// A key-proved peer had values and summaries sent to whatever address it forged.
#[test]
fn a_sealed_packet_from_a_forged_address_moves_no_traffic_there() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    pair.run_for(2 * SECOND);
    pair.with_a(|alice, now| {
        alice.serve(Bytes::from_static(b"key"), Bytes::from(vec![7; 1_000_000]), now).unwrap();
    });
    let elsewhere = "10.9.9.9:9".parse().unwrap();
    pair.rebind(Side::B, elsewhere);
    pair.with_b(|bob, now| bob.send(Bytes::from_static(b"from there"), now).unwrap());
    // Nobody at that address answers anything.
    pair.set_link(Side::A, Link::dead());
    let before = pair.traffic(Side::A).sent.bytes;
    let heard = pair.traffic(Side::B).sent.bytes;
    pair.run_for(5 * SECOND);
    let (sent, heard) = (pair.traffic(Side::A).sent.bytes - before, pair.traffic(Side::B).sent.bytes - heard);
    assert!(sent < 10_000, "{sent} bytes for {heard}");
}

/// Any text in an ip field was handed to the resolver.
#[test]
fn names_instead_of_addresses() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    let from = pair.path(Side::B).local;
    let ann = |ip: &[u8]| [&[0x20][..], &[7; 8], &[ip.len() as u8], ip, &[0x0f, 0xa0]].concat();
    let fwd = |ip: &[u8]| [&[0x22][..], &[7; 8], &[ip.len() as u8], ip, &[0x0f, 0xa0]].concat();
    let pex = |ip: &[u8]| [&[0x30, 1, 8][..], &[7; 8], &[ip.len() as u8], ip, &[0x0f, 0xa0]].concat();
    for ip in [&b"evil.example"[..], b"127.1", b"::1", b"0x7f.1", b"1.2.3.4.", b"", b"\xff\xfe"] {
        for datagram in [ann(ip), fwd(ip)] {
            pair.inject(Side::A, from, &datagram);
        }
        // With two bytes it would be a whole entry of the other form, whose address is binary.
        if ip.len() != 2 {
            pair.inject(Side::A, from, &pex(ip));
        }
    }
    let told = |pair: &Ours| pair.a_events().iter().filter(|timed| !matches!(timed.event, Event::Writable)).count();
    assert_eq!(told(&pair), 0);
    for datagram in [ann(b"10.1.2.3"), fwd(b"10.1.2.3"), pex(b"10.1.2.3")] {
        pair.inject(Side::A, from, &datagram);
    }
    assert_eq!(told(&pair), 3);
    // The same in sealed gossip.
    let mut script = Script::new();
    for ip in ["evil.example", "127.1", "::1", "10.1.2.3"] {
        let text = format!(r#"{{"_gossip":true,"id":"e3f03f52612aadac","ip":"{ip}","port":4000}}"#);
        let sealed = script.sealed(script.pair.elapsed().as_nanos() as u64 + ip.len() as u64 * 100, &[text.as_bytes()]);
        script.give(&sealed);
    }
    let peers = script.pair.a_events().iter().filter(|timed| matches!(timed.event, Event::Peers(_))).count();
    assert_eq!(peers, 1);
}

/// Fragments, messages out of order and parts of values were kept without bound.
#[test]
fn memory_exhaustion() {
    let limit = max_buffered_bytes(1_000_000);
    let config = Config::default().accept_plaintext_fragments(true).value_limit(1_000_000);
    let mut script = Script::with(config);
    script.say(0);
    script.pair.with_a(|peer, now| peer.want(Bytes::from_static(b"key"), now)).unwrap();
    let message = noise(30_000);
    for id in 0..2000_u64 {
        // All but the last piece of each.
        let pieces: Vec<_> = fragments(id.to_be_bytes(), &message).unwrap().collect();
        pieces[..25].iter().for_each(|piece| script.give(piece));
        let part = frame(|out| encode::chunk_part(b"key", (id * 7 % 1111) as u16, 1111, &[1; 900], out).unwrap());
        script.give(&part);
        // Far ahead of what is next.
        let ahead = script.sealed(1 + id, &[&(10_000 + id as u32 * 2).to_be_bytes(), &[3; 5000]]);
        script.give(&ahead);
        assert!(script.pair.a.buffered_bytes() < limit);
    }
    assert!(script.pair.a.buffered_bytes() < 8 * 1024 * 1024, "{}", script.pair.a.buffered_bytes());
    script.pair.take_a_events();
    let honest: Vec<_> = fragments([0xee; 8], &message).unwrap().collect();
    honest.iter().for_each(|piece| script.give(piece));
    assert_eq!(messages(script.pair.a_events()), [(message, false)]);
}

/// A BATCH in a BATCH in a BATCH overflows the stack.
#[test]
fn batches_within_batches() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    let from = pair.path(Side::B).local;
    let mut nested = ping(&identity("bob"));
    for _ in 0..5000 {
        nested = [&[0x13, 1][..], &(nested.len() as u16).to_be_bytes(), &nested].concat();
    }
    let sent = pair.traffic(Side::A).sent;
    pair.inject(Side::A, from, &nested);
    assert_eq!(pair.traffic(Side::A).sent, sent);
    assert_eq!(pair.rejected(Side::A).of(Rejected::Nested), 1);
    let batch = frame(|out| encode::batch([&ping(&identity("bob"))[..], &ping(&identity("bob"))], out).unwrap());
    pair.capture(1 << 16);
    pair.inject(Side::A, from, &batch);
    let pongs = pair.captured().iter().filter(|captured| captured.payload[0] == 0x04).count();
    assert_eq!(pongs, 2, "one level is read");
}

/// Single datagrams that end the process of one existing node or another.
#[test]
fn datagrams_that_kill() {
    for weak in weak_keys() {
        let mut victim = Victim::new(Config::default());
        let weak_hello = frame(|out| encode::hello(NodeId::of(&weak).wire(), weak, out));
        let _ = victim.give(victim.bob, &weak_hello);
        let _ = victim.give(victim.bob, &[1; 60]);
        victim.wait(SECOND);
        assert!(victim.peer.is_closed());
        assert_eq!(victim.events.last(), Some(&Event::Closed(CloseReason::WeakKey)));
    }
    let config = Config::default().accept_plaintext_fragments(true);
    let mut pair = friends(&config, delayed(ms(5)), 1);
    let from = pair.path(Side::B).local;
    let mut index_over_total = vec![0x0b];
    index_over_total.extend([[7; 8].as_slice(), &[0, 9, 0, 2], b"data"].concat());
    let bad_forward = [&[0x22][..], &[7; 8], b"999.1.1.1\0\0"].concat();
    for datagram in
        [&index_over_total[..], &bad_forward, &[0x0a], &[0x0b], &[0x12], &[0x13], &[0x13, 255], &[0x30, 255], &[]]
    {
        pair.inject(Side::A, from, datagram);
    }
    pair.run_for(5 * SECOND);
    pair.with_a(|peer, now| peer.send(number(1, 10), now)).unwrap();
    pair.run_for(SECOND);
    assert_eq!(numbers(pair.b_events()), [1]);
    // Nor do we kill: a GOAWAY has two bytes.
    let mut pair = befriended(Release::Later, delayed(ms(5)), 1);
    pair.capture(1 << 16);
    pair.with_a(|peer, now| peer.close(GoawayReason::Quitting, now));
    let goaway: Vec<_> = pair.captured().iter().filter(|captured| captured.payload[0] == 0x0a).collect();
    assert!(!goaway.is_empty() && goaway.iter().all(|captured| captured.payload.len() == 2));
}

/// The PEX of the other Rust node is not sealed either: whoever forges it switches acknowledgements off.
#[test]
fn a_forged_implementation() {
    let mut pair = befriended(Release::Later, delayed(ms(5)), 1);
    for i in 0..4 {
        pair.with_b(|node, now| node.write(number(i, 10), now));
    }
    pair.run_for(ms(50));
    let from = pair.path(Side::B).local;
    let pex = [&[0x30, 1][..], &[7; 8], &[10, 1, 2, 3, 0x0f, 0xa0]].concat();
    pair.inject(Side::A, from, &pex);
    assert_eq!(pair.a.implementation(), Implementation::Reference);
    let mut ours = friends(&Config::default(), delayed(ms(5)), 1);
    ours.inject(Side::A, from, &pex);
    assert_eq!(ours.a.implementation(), Implementation::Ours);
}

/// Points of small order on the curve and its twist (RFC 7748, section 6.1 has the reason).
fn weak_keys() -> Vec<PublicKey> {
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    [[0; 32], one, minus_one].into_iter().map(PublicKey::from).collect()
}

/// Content that was seen is not delivered again: honest repetitions vanish, and whoever knows the hash suppresses.
#[test]
fn suppression_by_content() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    for _ in 0..5 {
        pair.with_a(|peer, now| peer.send(Bytes::from_static(b"yes"), now)).unwrap();
    }
    pair.run_for(ms(100));
    assert_eq!(messages(pair.b_events()).len(), 5);
    let mut node = befriended(Release::Later, delayed(ms(5)), 1);
    for _ in 0..5 {
        node.with_b(|node, now| node.write(Bytes::from_static(b"yes"), now));
    }
    node.run_for(ms(100));
    assert_eq!(messages(node.a_events()).len(), 5);
    for _ in 0..5 {
        node.with_a(|peer, now| peer.send(Bytes::from_static(b"yes"), now)).unwrap();
    }
    node.run_for(ms(500));
    assert_eq!(node.b.duplicates, 4, "the existing nodes do");
}

/// A sequence number that reads `{"_g` and a payload that completes it are swallowed as gossip, which dials.
#[test]
fn a_message_that_reads_as_gossip() {
    let rest = br#"ossip":1,"id":"e3f03f52612aadac","ip":"10.1.2.3","port":4000}"#;
    let mut script = Script::new();
    script.say(0x7aff_fffe);
    script.say(0x7aff_ffff);
    let swallowed = script.sealed(2, &[br#"{"_g"#, rest]);
    script.give(&swallowed);
    script.pair.run_for(ms(60));
    assert_eq!(messages(script.pair.a_events()).last(), Some(&(Bytes::from_static(rest), true)));
    assert!(script.pair.a_events().iter().all(|timed| !matches!(timed.event, Event::Peers(_))));
    // From a peer that is nowhere near that number it is what it says.
    let mut script = Script::new();
    script.say(0);
    let gossip = script.sealed(1, &[br#"{"_g"#, rest]);
    script.give(&gossip);
    assert!(script.pair.a_events().iter().any(|timed| matches!(timed.event, Event::Peers(_))));
}

/// What a receiver expects survives the sender's restart: a restarted node is not heard until it has caught up.
#[test]
fn deafness_after_a_restart() {
    let mut script = Script::new();
    (0..500).for_each(|seq| script.say(seq));
    script.hello();
    let again: Vec<_> = (0..20).map(|seq| script.sealed(seq, &[&(seq as u32).to_be_bytes(), b"again"])).collect();
    again.iter().for_each(|datagram| script.give(datagram));
    assert_eq!(messages(script.pair.a_events())[500..], vec![(Bytes::from_static(b"again"), true); 20]);
    // Without a HELLO there was no restart.
    let more = script.sealed(3, &[&3_u32.to_be_bytes(), b"other"]);
    script.give(&more);
    assert_eq!(messages(script.pair.a_events()).len(), 520);
}

/// A sender that is too fast loses messages and is not told.
#[test]
fn silent_loss_of_what_was_queued() {
    let mut pair = befriended(Release::Later, delayed(ms(5)), 1);
    let (mut taken, mut refused) = (Vec::new(), 0);
    for i in 0..3000 {
        match pair.with_a(|peer, now| peer.send(number(i, 10), now)) {
            Ok(()) => taken.push(Told::Message(number(i, 10))),
            Err(error) => {
                assert_eq!(error, SendError::Full);
                refused += 1;
            }
        }
    }
    assert!(refused > 800 && taken.len() >= 2048);
    assert!(pair.run_until(|pair| pair.a.is_drained(), 30 * SECOND));
    let told: Vec<Told> = pair.take_b_events().into_iter().map(|timed| timed.event).collect();
    assert_eq!(told, taken, "what was taken arrived");
    for i in 0..3000 {
        pair.with_b(|node, now| node.write(number(i, 10), now));
    }
    assert!(pair.b.lost > 0, "the existing nodes lose it");
}

/// Keys that are not UTF-8 raise in the middle of a datagram, and the rest of it is lost.
#[test]
fn keys_that_are_not_text() {
    let mut pair = friends(&Config::default(), delayed(ms(5)), 1);
    let key = Bytes::from_static(b"\xff\xfe\x00\xc0");
    pair.with_a(|peer, now| peer.want(key.clone(), now)).unwrap();
    assert!(pair.run_until(|pair| contains(pair.b_events(), &Event::Wanted(key.clone())), SECOND));
    pair.with_b(|peer, now| peer.serve(key.clone(), noise(2000), now)).unwrap();
    let value = Event::Value { key: key.clone(), value: noise(2000) };
    assert!(pair.run_until(|pair| contains(pair.a_events(), &value), SECOND));
}
