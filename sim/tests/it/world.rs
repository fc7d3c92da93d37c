use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::{Rng, Seed};
use sim::world::Birth;
use sim::{Addresses, Dropped, Link, MachineId, World};
use structs::{Datagram, Deadline, Ecn, Machine, Path, Rejected, Transmit, TransmitBuf};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Sends a numbered datagram to a random one of its targets every half to whole second.
#[derive(Debug)]
struct Beacon {
    addr: SocketAddr,
    carrier: structs::Link,
    targets: Vec<SocketAddr>,
    rng: Rng,
    count: u8,
    next: Option<Instant>,
    due: bool,
    heard: Vec<(Path, u8)>,
}

impl Beacon {
    fn new(birth: &Birth, targets: Vec<SocketAddr>) -> Self {
        let mut rng = birth.seed.rng();
        let next = birth.now.checked_add(rng.duration_below(SECOND));
        let carrier = structs::Link::Udp;
        Self { addr: birth.addr, carrier, targets, rng, count: 0, next, due: false, heard: Vec::new() }
    }
}

impl Machine for Beacon {
    type Event = (Path, u8);

    fn handle_datagram(&mut self, datagram: Datagram<'_>, _now: Instant) -> Result<(), Rejected> {
        let &mut [number] = datagram.payload else {
            return Err(Rejected::Malformed);
        };
        self.heard.push((datagram.path, number));
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            self.next = now.checked_add(SECOND / 2 + self.rng.duration_below(SECOND / 2));
            self.due = true;
        }
    }

    fn poll_transmit(&mut self, out: &mut TransmitBuf, _now: Instant) -> Option<Transmit> {
        let index = usize::try_from(self.rng.below(self.targets.len() as u64)).unwrap();
        let remote = *self.targets.get(index)?;
        if !std::mem::take(&mut self.due) {
            return None;
        }
        self.count = self.count.wrapping_add(1);
        out.push(&[self.count]);
        out.finish(Path { link: self.carrier, local: self.addr, remote }, Ecn::Ect0)
    }

    fn poll_event(&mut self) -> Option<(Path, u8)> {
        self.heard.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.next.map(|at| Deadline { at, reason: "beacon" })
    }
}

/// Everybody sends to everybody.
fn crowd(count: u32, link: Link, seed: u64) -> World<Beacon> {
    let mut world = World::new(Seed::fixed(seed)).link(link).addresses(Addresses::Public);
    world.spawn(count, |birth| Beacon::new(&birth, (0..count).map(|index| birth.addr_of(index)).collect()));
    world
}

/// Each sends to the next, and the last to the first.
fn ring(count: u32, link: Link) -> (World<Beacon>, Vec<MachineId>) {
    let mut world = World::new(Seed::fixed(1)).link(link);
    let ids = world.spawn(count, |birth| {
        let next = birth.addr_of((birth.id.index() + 1) % count);
        Beacon::new(&birth, vec![next])
    });
    (world, ids)
}

fn heard(world: &mut World<Beacon>, id: MachineId) -> usize {
    world.take_events(id).len()
}

#[test]
fn equal_seeds_give_equal_worlds() {
    let run = |seed| {
        let mut world = crowd(40, Link::mobile(), seed);
        world.run_for(20 * SECOND);
        (world.trace_hash(), world.traffic(), world.steps())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

/// The trace depends on nothing of this process or machine.
#[test]
fn the_trace_is_portable() {
    let mut world = crowd(40, Link::mobile(), 1);
    world.run_for(20 * SECOND);
    assert_eq!(world.trace_hash(), 4034183985145228552);
}

#[test]
fn the_counters_balance() {
    let mut world = crowd(30, Link::mobile().duplicate(0.1), 1);
    world.run_for(20 * SECOND);
    for id in world.ids().collect::<Vec<_>>() {
        let addr = world.addr(id).unwrap();
        assert_eq!((world.id_at(addr), world.get(id).unwrap().addr), (Some(id), addr));
        world.kill(id);
    }
    world.run_for(2 * SECOND);
    let traffic = world.traffic();
    assert!(traffic.sent.datagrams > 30 * 20 && traffic.dropped_for(Dropped::Lost).datagrams > 0);
    assert_eq!(
        traffic.sent.datagrams + traffic.duplicated.datagrams,
        traffic.delivered.datagrams + traffic.dropped().datagrams
    );
    assert_eq!((world.machines().count(), world.ids().count()), (0, 0));
    assert!(!world.step(), "the dead want nothing");
}

#[test]
fn links_of_their_own_hold_for_their_direction() {
    let (mut world, ids) = ring(3, Link::perfect().delay(MS));
    world.set_link_from(ids[0], ids[1], Link::dead());
    world.set_link(ids[1], ids[2], Link::perfect().delay(2 * SECOND));
    world.run_for(10 * SECOND);
    assert_eq!(heard(&mut world, ids[1]), 0);
    assert!(world.events(ids[2])[0].at > 2 * SECOND);
    assert!(world.events(ids[0])[0].at < 2 * SECOND);
    world.set_default_link(Link::dead());
    world.run_for(SECOND);
    heard(&mut world, ids[0]);
    world.run_for(10 * SECOND);
    assert_eq!(heard(&mut world, ids[0]), 0);
}

#[test]
fn partitions_part_and_heal() {
    let (mut world, ids) = ring(4, Link::perfect().delay(MS));
    world.partition(&[&ids[..2], &ids[2..3]]);
    world.run_for(10 * SECOND);
    let counts: Vec<_> = ids.iter().map(|&id| heard(&mut world, id) > 5).collect();
    assert_eq!(counts, [false, true, false, false]);
    assert!(world.traffic_of(ids[1]).dropped_for(Dropped::Cut).datagrams > 5);
    world.heal();
    world.cut(ids[3], ids[0]);
    world.run_for(10 * SECOND);
    let counts: Vec<_> = ids.iter().map(|&id| heard(&mut world, id) > 5).collect();
    assert_eq!(counts, [false, true, true, true]);
    world.mend(ids[0], ids[3]);
    world.run_for(10 * SECOND);
    assert!(heard(&mut world, ids[0]) > 5);
}

#[test]
fn what_is_on_its_way_is_lost_in_a_cut() {
    let (mut world, ids) = ring(2, Link::perfect().delay(SECOND));
    assert!(world.run_until(|world| world.traffic_of(ids[0]).sent.datagrams == 1, 2 * SECOND));
    world.cut(ids[0], ids[1]);
    world.run_for(SECOND + MS);
    assert!(world.traffic_of(ids[0]).dropped_for(Dropped::Cut).datagrams >= 1);
    assert_eq!(heard(&mut world, ids[1]), 0);
}

#[test]
fn the_dead_hear_nothing_and_the_restarted_begin_anew() {
    let (mut world, ids) = ring(2, Link::perfect().delay(MS));
    world.run_for(5 * SECOND);
    let old = world.kill(ids[1]).unwrap();
    assert!(world.get(ids[1]).is_none() && world.deadline(ids[1]).is_none() && world.kill(ids[1]).is_none());
    let before = heard(&mut world, ids[0]);
    world.run_for(5 * SECOND);
    assert!(before >= 4 && heard(&mut world, ids[0]) <= 1, "at most what was on its way");
    assert!(world.traffic_of(ids[0]).dropped_for(Dropped::Dead).datagrams >= 4);
    let mut token = 0;
    world.restart(ids[1], |birth| {
        token = birth.seed.rng().next_u64();
        assert_eq!(birth.epoch.unix_at(birth.now), sim::world::START_UNIX + 10 * SECOND);
        Beacon::new(&birth, old.targets.clone())
    });
    let mut other = token;
    assert!(
        world
            .restart(ids[1], |birth| {
                other = birth.seed.rng().next_u64();
                Beacon::new(&birth, old.targets)
            })
            .is_some()
    );
    assert_ne!(token, other, "another seed in every life");
    world.run_for(5 * SECOND);
    assert!(heard(&mut world, ids[0]) >= 4);
}

#[test]
fn a_group_is_reached_on_the_kind_of_link_that_was_used() {
    let group: SocketAddr = "239.1.2.3:5000".parse().unwrap();
    let mut world = World::new(Seed::fixed(1)).link(Link::perfect().delay(MS));
    let ids = world.spawn(4, |birth| {
        let targets = if birth.id.index() == 0 { vec![group] } else { vec![] };
        Beacon { carrier: structs::Link::Custom(7), ..Beacon::new(&birth, targets) }
    });
    ids[..3].iter().for_each(|&id| world.join_group(id, group));
    world.leave_group(ids[2], group);
    world.run_for(3 * SECOND);
    let from = world.addr(ids[0]).unwrap();
    for id in &ids[..2] {
        let (path, number) = world.events(*id)[0].event;
        let local = world.addr(*id).unwrap();
        assert_eq!((path, number), (Path { link: structs::Link::Custom(7), local, remote: from }, 1));
    }
    assert!(world.events(ids[2]).is_empty() && world.events(ids[3]).is_empty());
}

#[test]
fn a_machine_moves_and_has_more_than_one_address() {
    let (mut world, ids) = ring(2, Link::perfect().delay(MS));
    let (old, new) = (world.addr(ids[0]).unwrap(), Addresses::Private.at(99));
    world.move_to(ids[0], new);
    world.run_for(3 * SECOND);
    assert_eq!(world.events(ids[1])[0].event.0.remote, new);
    assert!(world.events(ids[0]).is_empty() && world.traffic().dropped_for(Dropped::NoRoute).datagrams > 1);
    world.add_addr(ids[0], old);
    world.take_events(ids[1]);
    world.run_for(3 * SECOND);
    assert_eq!(world.events(ids[0])[0].event.0.local, old);
    assert_eq!(world.events(ids[1])[0].event.0.remote, old, "the address that the machine asked for");
}

#[test]
fn injected_datagrams_and_commands_take_effect_at_once() {
    let (mut world, ids) = ring(2, Link::perfect());
    world.capture(100);
    let stranger = Addresses::Public.at(1);
    world.inject(ids[0], stranger, &[42]);
    world.inject(ids[0], stranger, &[1, 2, 3]);
    assert_eq!(world.events(ids[0])[0].event.1, 42);
    assert_eq!(world.rejected(ids[0]).of(Rejected::Malformed), 1);
    let at = world.now().checked_add(5 * MS);
    assert!(world.with(ids[0], |beacon, _| beacon.next = at).is_some());
    assert_eq!(world.deadline(ids[0]).map(|deadline| deadline.at), at);
    assert!(world.run_until(|world| !world.events(ids[1]).is_empty(), 5 * MS));
    assert_eq!(world.elapsed(), 5 * MS);
    assert_eq!(world.captured().len() as u64, 2 + world.traffic().sent.datagrams);
    // A deadline that moves back leaves no wake-up behind.
    let at = world.now().checked_add(50 * SECOND);
    for &id in &ids {
        assert!(world.with(id, |beacon, _| beacon.next = at).is_some());
    }
    let sent = world.traffic().sent.datagrams;
    world.run_for(49 * SECOND);
    assert_eq!(world.traffic().sent.datagrams, sent);
    world.run_for(2 * SECOND);
    assert!(world.traffic().sent.datagrams >= sent + 2);
}

#[test]
fn marks_of_a_congested_queue_arrive() {
    let mut world = crowd(3, Link::perfect().rate(1).mark_above(0), 1);
    world.run_for(30 * SECOND);
    assert!(world.traffic().delivered.datagrams > 30);
    assert_eq!(world.capture_missed() + world.events_lost(), 0);
}
