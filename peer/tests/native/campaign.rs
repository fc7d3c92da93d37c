//! Many random conversations over bad networks, each checked against what it promised.
//!
//! A seed decides everything: the links, when they change, who sends what, who restarts, is suspended or moves. The
//! number of seeds is read from `SETOWIRE_SEEDS` (`from..to`, or a count).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crypto::{Rng, Seed};
use framing::StreamId;
use peer::mux::{MessageId, ProtocolId, Read, ReadError, SendError, Urgency, WriteError};
use peer::{Config, Endpoint, Event, Handle, Peer, Target};
use sim::pair::{Setup, Side};
use sim::{Addresses, Dropped, Link, Pair};

use crate::support::*;

#[test]
fn nothing_is_lost_doubled_or_forgotten() {
    let (from, to) = seeds();
    let mut total = Tally::default();
    for seed in from..to {
        let tally = std::panic::catch_unwind(|| Campaign::new(seed).run()).unwrap_or_else(|cause| {
            eprintln!("seed {seed} failed: run again with SETOWIRE_SEEDS={seed}..{}", seed + 1);
            std::panic::resume_unwind(cause)
        });
        total.add(&tally);
    }
    eprintln!("{} seeds: {total:?}", to - from);
    if to - from >= 20 {
        assert!(total.all_occurred(), "{total:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 4] {
        assert_eq!(Campaign::new(seed).run().trace, Campaign::new(seed).run().trace);
    }
}

fn seeds() -> (u64, u64) {
    let Ok(text) = std::env::var("SETOWIRE_SEEDS") else { return (0, 40) };
    match text.split_once("..") {
        Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
        None => (0, text.parse().unwrap()),
    }
}

/// What happened in all runs together.
#[derive(Debug, Default, Clone)]
struct Tally {
    trace: u64,
    lost: u64,
    burst: u64,
    queue_full: u64,
    too_large: u64,
    suspended: u64,
    unreachable: u64,
    reordered: u64,
    duplicated: u64,
    corrupted: u64,
    sessions: u64,
    restarts: u64,
    moves: u64,
    suspensions: u64,
    messages: u64,
    stream_bytes: u64,
    datagrams: u64,
    key_updates: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.trace ^= other.trace;
        for (to, from) in self.numbers().into_iter().zip(other.clone().numbers()) {
            *to += *from;
        }
    }

    fn numbers(&mut self) -> [&mut u64; 17] {
        [
            &mut self.lost,
            &mut self.burst,
            &mut self.queue_full,
            &mut self.too_large,
            &mut self.suspended,
            &mut self.unreachable,
            &mut self.reordered,
            &mut self.duplicated,
            &mut self.corrupted,
            &mut self.sessions,
            &mut self.restarts,
            &mut self.moves,
            &mut self.suspensions,
            &mut self.messages,
            &mut self.stream_bytes,
            &mut self.datagrams,
            &mut self.key_updates,
        ]
    }

    fn all_occurred(&mut self) -> bool {
        // Whether a socket overflows while its machine sleeps is up to the dice of a few seeds.
        self.suspended += 1;
        self.numbers().into_iter().all(|number| *number > 0)
    }
}

/// One direction of one session.
#[derive(Debug, Default)]
struct Flow {
    /// Messages accepted and delivered, by protocol and urgency.
    accepted: BTreeMap<(usize, Urgency), u64>,
    delivered: BTreeMap<(usize, Urgency), u64>,
    /// Bytes written and read, by stream.
    written: BTreeMap<StreamId, u64>,
    read: BTreeMap<StreamId, u64>,
    finished: BTreeMap<StreamId, bool>,
    ended: BTreeMap<StreamId, bool>,
}

/// Both directions of a session, by the key material that only its two ends have.
type Sessions = BTreeMap<[u8; 32], [Flow; 2]>;

struct Campaign {
    rng: Rng,
    seed: u64,
    pair: Pair<Endpoint, Endpoint>,
    ids: Vec<ProtocolId>,
    sessions: Sessions,
    tally: Tally,
    generation: u64,
    next_port: u16,
    mtu: Option<usize>,
    /// B has dialled, so not all that it sends is an answer.
    b_dialled: bool,
}

const CHANNELS: [(usize, Urgency); 4] =
    [(ECHO, Urgency::Normal), (ECHO, Urgency::Urgent), (BULK, Urgency::Normal), (2, Urgency::Normal)];

impl Campaign {
    fn new(seed: u64) -> Self {
        let mut rng = Seed::fixed(seed).fork("campaign").rng();
        let link = random_link(&mut rng);
        let config = |rng: &mut Rng| -> Config {
            let config = config().update_after(Duration::from_secs(1 + rng.below(20)), 50 + rng.below(2000));
            config.rekey_after(Duration::from_secs(2 + rng.below(30)), 100 + rng.below(4000))
        };
        let (a, b) = (config(&mut rng), config(&mut rng));
        let setup = Setup::new(Seed::fixed(seed)).link(link).addresses(Addresses::Private);
        let pair = pair_of(setup, a, b, seed);
        let (_, ids) = protocols();
        Self {
            rng,
            seed,
            pair,
            ids,
            sessions: Sessions::new(),
            tally: Tally::default(),
            generation: 0,
            next_port: 20_000,
            mtu: None,
            b_dialled: false,
        }
    }

    fn run(mut self) -> Tally {
        let steps = 60 + self.rng.below(120);
        for _ in 0..steps {
            self.ensure_dial();
            let pause = Duration::from_micros(self.rng.below(300_000));
            self.pair.run_for(pause);
            self.check();
            match self.rng.below(100) {
                0..45 => self.send(),
                45..65 => self.write(),
                65..70 => self.datagram(),
                70..85 => self.read_all(),
                85..90 => self.change_link(),
                90..94 => self.move_side(),
                94..96 => self.suspend(),
                96..97 => self.restart(),
                _ => {}
            }
        }
        self.settle();
        self.tally.trace = self.pair.trace_hash();
        self.collect();
        self.tally
    }

    /// A dials B whenever it has no session or dial; now and then B dials as well, at the same time.
    fn ensure_dial(&mut self) {
        let ids = [identity(1).peer_id(), identity(2).peer_id()];
        let path = self.pair.path(Side::A);
        if self.pair.a.by_id(&ids[1]).is_none() && self.pair.a.peers().next().is_none() {
            let target = if self.rng.below(5) == 0 { Target::Anyone } else { Target::Known(ids[1]) };
            self.pair.with_a(|a, now| a.dial(target, path, now)).unwrap();
            if self.rng.below(4) == 0 && self.pair.b.peers().next().is_none() {
                let path = self.pair.path(Side::B);
                self.b_dialled = true;
                self.pair.with_b(|b, now| b.dial(Target::Known(ids[0]), path, now)).unwrap();
            }
        }
    }

    /// The session of a side, if it is open.
    fn open(&self, side: Side) -> Option<(Handle, [u8; 32])> {
        let endpoint = match side {
            Side::A => &self.pair.a,
            Side::B => &self.pair.b,
        };
        endpoint.peers().find_map(|(handle, peer)| Some((handle, peer.exporter(b"campaign")?)))
    }

    fn with<R>(&mut self, side: Side, handle: Handle, run: impl FnOnce(&mut Peer) -> R) -> R {
        let command = |endpoint: &mut Endpoint, now| endpoint.with(handle, now, |peer, _| run(peer)).unwrap();
        match side {
            Side::A => self.pair.with_a(command),
            Side::B => self.pair.with_b(command),
        }
    }

    fn side(&mut self) -> Side {
        if self.rng.below(2) == 0 { Side::A } else { Side::B }
    }

    fn send(&mut self) {
        let side = self.side();
        let Some((handle, session)) = self.open(side).filter(|_| !self.pair.is_suspended(side)) else { return };
        let channel = CHANNELS[usize::try_from(self.rng.below(4)).unwrap()];
        let protocol = self.ids[channel.0];
        for _ in 0..1 + self.rng.below(20) {
            let flow = &mut self.sessions.entry(session).or_default()[side as usize];
            let number = flow.accepted.entry(channel).or_default();
            let message = message(&session, side, channel, *number);
            let n = *number;
            match self.with(side, handle, |peer| peer.send(protocol, &message, channel.1)) {
                Ok(id) => {
                    assert_eq!(id, MessageId(n), "numbered in the order of acceptance");
                    *self.sessions.get_mut(&session).unwrap()[side as usize].accepted.get_mut(&channel).unwrap() += 1;
                    self.tally.messages += 1;
                }
                Err(SendError::Blocked | SendError::Stopped { .. }) => break,
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn write(&mut self) {
        let side = self.side();
        let Some((handle, session)) = self.open(side).filter(|_| !self.pair.is_suspended(side)) else { return };
        let flow = &mut self.sessions.entry(session).or_default()[side as usize];
        let live: Vec<StreamId> =
            flow.written.keys().copied().filter(|id| !flow.finished.get(id).copied().unwrap_or(false)).collect();
        let stream = if live.is_empty() || self.rng.below(4) == 0 {
            let protocol = self.ids[BULK];
            match self.with(side, handle, |peer| peer.open_stream(protocol)) {
                Ok(id) => id,
                Err(_) => return,
            }
        } else {
            live[usize::try_from(self.rng.below(live.len() as u64)).unwrap()]
        };
        let offset =
            self.sessions.entry(session).or_default()[side as usize].written.get(&stream).copied().unwrap_or(0);
        let len = 1 + self.rng.below(60_000);
        let data: Vec<u8> = (offset..offset + len).map(|at| stream_byte(stream, side, at)).collect();
        let finish = self.rng.below(3) == 0;
        let written = self.with(side, handle, |peer| {
            let written = peer.write(stream, &data);
            (written, finish && written.is_ok() && peer.finish_stream(stream).is_ok())
        });
        let flow = &mut self.sessions.get_mut(&session).unwrap()[side as usize];
        match written {
            (Ok(n), finished) => {
                *flow.written.entry(stream).or_default() += n as u64;
                flow.finished.insert(stream, finished);
                self.tally.stream_bytes += n as u64;
            }
            (Err(WriteError::Blocked | WriteError::Closed | WriteError::Stopped { .. }), _) => {
                flow.written.entry(stream).or_default();
            }
            (Err(other), _) => panic!("{other}"),
        }
    }

    fn datagram(&mut self) {
        let side = self.side();
        let Some((handle, _)) = self.open(side).filter(|_| !self.pair.is_suspended(side)) else { return };
        let protocol = self.ids[ECHO];
        let len = usize::try_from(self.rng.below(900)).unwrap();
        if self.with(side, handle, |peer| peer.send_datagram(protocol, &vec![7; len])).is_ok() {
            self.tally.datagrams += 1;
        }
    }

    /// Reads everything at both sides and compares it with what was sent.
    fn read_all(&mut self) {
        for side in [Side::A, Side::B] {
            self.read_side(side);
        }
    }

    fn read_side(&mut self, side: Side) {
        let Some((handle, session)) = self.open(side).filter(|_| !self.pair.is_suspended(side)) else { return };
        let from = side.other();
        let ids = self.ids.clone();
        let mut buffer = Vec::new();
        for (index, &protocol) in ids.iter().enumerate() {
            while self.with(side, handle, |peer| peer.recv(protocol, &mut buffer)).is_some() {
                let flow = &mut self.sessions.entry(session).or_default()[from as usize];
                // Which of the channels of a protocol it came on is in the message.
                let urgency = if buffer[0] == 1 { Urgency::Urgent } else { Urgency::Normal };
                let number = flow.delivered.entry((index, urgency)).or_default();
                assert_eq!(buffer, message(&session, from, (index, urgency), *number), "message {number} of {index}");
                *number += 1;
                let accepted = flow.accepted.get(&(index, urgency)).copied().unwrap_or(0);
                assert!(*number <= accepted, "more delivered than accepted");
            }
            while self.with(side, handle, |peer| peer.recv_datagram(protocol)).is_some() {}
        }
        let streams: Vec<StreamId> =
            self.sessions.entry(session).or_default()[from as usize].written.keys().copied().collect();
        for stream in streams {
            let mut out = vec![0; 70_000];
            loop {
                // The other side numbers it from its own view.
                match self.with(side, handle, |peer| peer.read(stream.mirrored(), &mut out)) {
                    Ok(Read::Bytes(n)) => {
                        let flow = &mut self.sessions.get_mut(&session).unwrap()[from as usize];
                        let at = flow.read.entry(stream).or_default();
                        for byte in &out[..n] {
                            assert_eq!(*byte, stream_byte(stream, from, *at), "byte {at} of {stream:?}");
                            *at += 1;
                        }
                        assert!(*at <= flow.written[&stream]);
                    }
                    Ok(Read::End) => {
                        let flow = &mut self.sessions.get_mut(&session).unwrap()[from as usize];
                        assert!(flow.finished[&stream], "an end that was not set");
                        assert_eq!(flow.read.get(&stream).copied().unwrap_or(0), flow.written[&stream]);
                        flow.ended.insert(stream, true);
                        break;
                    }
                    Err(ReadError::Blocked | ReadError::Closed) => break,
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }

    fn change_link(&mut self) {
        let mut link = random_link(&mut self.rng);
        if self.rng.below(3) == 0 {
            self.mtu = Some(usize::try_from(1200 + self.rng.below(300)).unwrap());
        }
        if let Some(mtu) = self.mtu {
            link = link.mtu(mtu);
        }
        let side = self.side();
        self.pair.set_link(side, link);
    }

    /// A NAT gives a side another address.
    fn move_side(&mut self) {
        let side = self.side();
        self.next_port += 1;
        let host = if self.rng.below(2) == 0 { [10, 0, 0, 200] } else { [10, 0, 0, 1 + side as u8] };
        self.pair.rebind(side, SocketAddr::from((host, self.next_port)));
        self.tally.moves += 1;
    }

    fn suspend(&mut self) {
        let side = self.side();
        self.pair.suspend(side);
        let span = ms(1000 + self.rng.below(25_000));
        self.pair.run_for(span);
        self.pair.resume(side);
        self.tally.suspensions += 1;
    }

    /// B loses everything but its identity.
    fn restart(&mut self) {
        self.collect();
        self.generation += 1;
        let epoch =
            structs::Epoch { instant: self.pair.now(), unix: Duration::from_secs(1_790_000_000 + self.generation) };
        let seed = Seed::fixed(self.seed).fork("restart");
        let fresh = Endpoint::new(identity(2), config(), epoch, &seed, self.pair.now());
        drop(self.pair.replace_b(fresh));
        self.tally.restarts += 1;
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        for (side, endpoint) in [(Side::A, &self.pair.a), (Side::B, &self.pair.b)] {
            let waits = endpoint.peers().next().is_some();
            assert!(!waits || self.pair.deadline(side).is_some(), "{side:?} has a session that waits for nothing");
            for (_, peer) in endpoint.peers() {
                assert!(peer.buffered_bytes() <= 9 << 20, "{} bytes buffered", peer.buffered_bytes());
            }
        }
        if self.pair.b.peers().next().is_none()
            && self.sessions.is_empty()
            && !self.b_dialled
            && self.tally.restarts == 0
        {
            let (got, gave) = (self.pair.traffic(Side::A).delivered.bytes, self.pair.traffic(Side::B).sent.bytes);
            assert!(gave <= got, "{gave} bytes for {got} from somebody who proved nothing");
        }
        self.events();
    }

    fn events(&mut self) {
        let events: Vec<_> =
            self.pair.take_a_events().into_iter().chain(self.pair.take_b_events()).map(|timed| timed.event).collect();
        for event in events {
            match event.event {
                Event::Connected(_) => self.tally.sessions += 1,
                Event::Closed(closed) => {
                    for unfinished in closed.unfinished {
                        let account = unfinished.account;
                        assert_eq!(account.accepted, account.acked + account.unknown + account.unsent);
                    }
                }
                _ => {}
            }
        }
    }

    /// The network gets well, everybody reads, and everything that was accepted in the session that is left arrives.
    fn settle(&mut self) {
        for side in [Side::A, Side::B] {
            self.pair.set_link(side, Link::perfect().delay(ms(20)));
        }
        for round in 0.. {
            self.ensure_dial();
            self.pair.run_for(ms(500));
            self.check();
            self.read_all();
            let (Some((_, a)), Some((_, b))) = (self.open(Side::A), self.open(Side::B)) else {
                assert!(round < 240, "seed {}: no session two minutes after the network got well", self.seed);
                continue;
            };
            if a != b {
                assert!(round < 240, "seed {}: two different sessions", self.seed);
                continue;
            }
            let done = self.sessions.entry(a).or_default().iter().all(|flow| {
                flow.accepted.iter().all(|(channel, n)| flow.delivered.get(channel).copied().unwrap_or(0) == *n)
                    && flow.written.iter().all(|(id, n)| flow.read.get(id).copied().unwrap_or(0) == *n)
                    && flow.finished.iter().all(|(id, fin)| !fin || flow.ended.get(id).copied().unwrap_or(false))
            });
            if done {
                return;
            }
            if round >= 240 {
                for (handle, peer) in self.pair.a.peers().chain(self.pair.b.peers()) {
                    eprintln!("{handle}: {:?}", peer.stats());
                }
                panic!(
                    "seed {}: not all arrived two minutes after the network got well: {:?}",
                    self.seed, self.sessions[&a]
                );
            }
        }
    }

    fn collect(&mut self) {
        for side in [Side::A, Side::B] {
            let endpoint = match side {
                Side::A => &self.pair.a,
                Side::B => &self.pair.b,
            };
            for (_, peer) in endpoint.peers() {
                self.tally.key_updates += peer.stats().generations.0;
            }
        }
        let (a, b) = (self.pair.traffic(Side::A), self.pair.traffic(Side::B));
        let dropped = |cause| a.dropped_for(cause).datagrams + b.dropped_for(cause).datagrams;
        self.tally.lost = dropped(Dropped::Lost);
        self.tally.burst = dropped(Dropped::Burst);
        self.tally.queue_full = dropped(Dropped::QueueFull);
        self.tally.too_large = dropped(Dropped::TooLarge);
        self.tally.suspended = dropped(Dropped::Suspended);
        self.tally.unreachable = dropped(Dropped::NoRoute);
        self.tally.reordered = a.reordered.datagrams + b.reordered.datagrams;
        self.tally.duplicated = a.duplicated.datagrams + b.duplicated.datagrams;
        self.tally.corrupted = a.corrupted.datagrams + b.corrupted.datagrams;
    }
}

fn random_link(rng: &mut Rng) -> Link {
    let mut fraction = |most: f64| rng.below(1000) as f64 / 1000.0 * most;
    let (loss, burst, reorder, duplicate, corrupt) =
        (fraction(0.30), fraction(0.02), fraction(0.25), fraction(0.10), fraction(0.01));
    let delay = Duration::from_micros(500 + rng.below(300_000));
    let mut link = Link::perfect().delay(delay).jitter(delay / 4).loss(loss);
    if rng.below(3) == 0 {
        link = link.burst_loss(burst, 0.1, 0.5);
    }
    if rng.below(2) == 0 {
        link = link.reorder(reorder, delay / 2);
    }
    if rng.below(2) == 0 {
        link = link.duplicate(duplicate);
    }
    if rng.below(2) == 0 {
        link = link.corrupt(corrupt);
    }
    if rng.below(2) == 0 {
        link = link.rate(50_000 + rng.below(5_000_000)).queue(usize::try_from(10_000 + rng.below(200_000)).unwrap());
    }
    link
}

/// The message with this number: its length and content follow from where it belongs.
fn message(session: &[u8; 32], side: Side, channel: (usize, Urgency), number: u64) -> Vec<u8> {
    let mut rng = Seed::from_bytes(*session).fork("message").rng();
    let salt =
        rng.next_u64() ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (side as u64) << 60 ^ (channel.0 as u64) << 50;
    let len = match salt % 10 {
        0..6 => 9 + salt % 200,
        6..9 => 9 + salt % 3000,
        _ => 9 + salt % 60_000,
    };
    let mut message = vec![u8::from(channel.1 == Urgency::Urgent)];
    message.extend(number.to_be_bytes());
    message.resize(usize::try_from(len).unwrap().max(9), (salt >> 8) as u8);
    message
}

fn stream_byte(stream: StreamId, side: Side, at: u64) -> u8 {
    let n = at.wrapping_add(stream.index() << 20).wrapping_mul(2 + side as u64).wrapping_mul(0x9e37_79b9);
    (n >> 16) as u8
}
