use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use framing::v12::chunk::{Mode, SendError, State, Step};
use framing::v12::{Chunk, ChunkAssembler, ChunkError, ChunkSender, Frame, SenderConfig};
use proptest::prelude::*;
use structs::Rejected;

use super::{Lcg, ms, patterned, start};

fn sender(len: usize, config: SenderConfig, now: Instant) -> ChunkSender {
    ChunkSender::new(Bytes::from_static(b"key"), patterned(len).into(), config, now).unwrap()
}

/// The number of the part in a step, `None` for a mark.
fn index(step: &Step) -> Option<u16> {
    match step {
        Step::Mark => None,
        Step::Chunk(frame) => match Frame::decode(frame) {
            Ok(Frame::Chunk(Chunk::Part { key: b"key", index, .. })) => Some(index),
            other => panic!("{other:?}"),
        },
    }
}

fn drain(sender: &mut ChunkSender, now: Instant) -> Vec<Option<u16>> {
    std::iter::from_fn(|| sender.poll(now)).map(|step| index(&step)).collect()
}

fn parts(range: std::ops::Range<u16>) -> Vec<Option<u16>> {
    range.map(Some).collect()
}

/// A burst and its mark.
fn marked(range: std::ops::Range<u16>) -> Vec<Option<u16>> {
    range.map(Some).chain([None]).collect()
}

// ---- sender ----

#[test]
fn up_to_900_bytes_go_whole_and_once() {
    let t = start();
    for len in [0, 1, 900] {
        let mut sender = sender(len, SenderConfig::default(), t);
        assert_eq!((sender.state(), sender.progress()), (State::Running, (0, 1)));
        let Some(Step::Chunk(frame)) = sender.poll(t) else { panic!() };
        assert_eq!(Frame::decode(&frame), Ok(Frame::Chunk(Chunk::Whole { key: b"key", value: &patterned(len) })));
        assert_eq!((sender.state(), sender.progress(), sender.deadline()), (State::Done, (1, 1), None));
        assert_eq!(sender.poll(t), None);
    }
}

#[test]
fn limits_of_keys_and_values() {
    let t = start();
    let new = |key: usize, value: usize| {
        ChunkSender::new(vec![0; key].into(), vec![0; value].into(), SenderConfig::default(), t).map(|_| ())
    };
    assert_eq!(new(255, 65_535 * 900), Ok(()));
    assert_eq!(new(256, 1), Err(SendError::KeyTooLong { len: 256 }));
    assert_eq!(new(1, 65_535 * 900 + 1), Err(SendError::ValueTooLong { len: 65_535 * 900 + 1 }));
}

#[test]
fn eight_parts_at_a_time_and_each_acknowledgement_lets_one_more_go() {
    let t = start();
    let mut sender = sender(20 * 900, SenderConfig::default(), t);
    assert_eq!(drain(&mut sender, t), parts(0..8));
    assert_eq!(sender.mode(), Mode::Undecided);
    sender.on_ack(3, t + ms(10));
    assert_eq!(sender.mode(), Mode::Acknowledged);
    assert_eq!(drain(&mut sender, t + ms(10)), parts(8..9));
    sender.on_ack(3, t + ms(11));
    assert_eq!(drain(&mut sender, t + ms(11)), [], "that one was known");
    sender.on_ack(20, t + ms(11));
    sender.on_ack(u16::MAX, t + ms(11));
    assert_eq!(sender.progress(), (1, 20), "there are no such parts");
    for index in 0..20 {
        sender.on_ack(index, t + ms(12));
    }
    assert_eq!((sender.state(), sender.deadline()), (State::Done, None));
    assert_eq!(sender.poll(t + ms(12)), None);
}

#[test]
fn what_is_not_acknowledged_goes_again_after_its_own_timeout() {
    let t = start();
    let mut sender = sender(4 * 900 + 1, SenderConfig::default(), t);
    assert_eq!(drain(&mut sender, t), parts(0..5));
    for index in [0, 2, 4] {
        sender.on_ack(index, t + ms(5));
    }
    assert_eq!(sender.deadline(), Some(t + ms(1500)));
    assert_eq!(drain(&mut sender, t + ms(1499)), []);
    assert_eq!(drain(&mut sender, t + ms(1500)), [Some(1), Some(3)]);
    sender.on_ack(1, t + ms(1600));
    assert_eq!(sender.deadline(), Some(t + ms(3000)));
    assert_eq!(drain(&mut sender, t + ms(3000)), [Some(3)]);
    sender.on_ack(3, t + ms(3010));
    assert_eq!(sender.state(), State::Done);
}

#[test]
fn a_peer_that_acknowledges_and_then_falls_silent_fails_after_a_minute() {
    let t = start();
    let mut sender = sender(100 * 900, SenderConfig::default(), t);
    drain(&mut sender, t);
    sender.on_ack(0, t + ms(500));
    let (mut sent, mut now) = (0, t + ms(500));
    while sender.state() == State::Running {
        sent += drain(&mut sender, now).len();
        if let Some(at) = sender.deadline() {
            assert!(at > now, "a deadline that has passed is dealt with");
            now = at;
        }
        sender.handle_timeout(now);
    }
    assert_eq!((sender.state(), now), (State::Failed, t + ms(60_500)));
    assert_eq!(sent, 1 + 7 * 40 + 39, "the window, once each 1.5 s");
    assert_eq!(sender.mode(), Mode::Acknowledged, "silence is no reason to flood");
    assert_eq!(sender.poll(now), None);
}

#[test]
fn without_acknowledgements_it_turns_to_marks() {
    let t = start();
    let mut sender = sender(200 * 900, SenderConfig::default().rtt(ms(10)), t);
    assert_eq!(drain(&mut sender, t), parts(0..8));
    assert_eq!(sender.deadline(), Some(t + ms(250)), "four round trips, but at least 250 ms");
    assert_eq!(drain(&mut sender, t + ms(249)), []);
    let t = t + ms(250);
    assert_eq!(drain(&mut sender, t), marked(0..32));
    assert_eq!(sender.mode(), Mode::Marked);
    sender.on_mark(t + ms(10));
    assert_eq!(sender.progress(), (32, 200));
    sender.on_mark(t + ms(10));
    assert_eq!(sender.progress(), (32, 200), "no mark was outstanding");
    assert_eq!(drain(&mut sender, t + ms(10)), marked(32..68));
    sender.on_mark(t + ms(20));
    assert_eq!(drain(&mut sender, t + ms(20)), marked(68..108));
    // No PONG: half as large, from the same place.
    assert_eq!(sender.deadline(), Some(t + ms(220)), "four round trips, but at least 200 ms");
    assert_eq!(drain(&mut sender, t + ms(220)), marked(68..88));
    assert_eq!(sender.deadline(), Some(t + ms(620)), "twice as long");
    sender.on_mark(t + ms(230));
    assert_eq!(drain(&mut sender, t + ms(230)), marked(88..112));
    assert_eq!(sender.deadline(), Some(t + ms(430)), "as long as at first");
}

#[test]
fn bursts_stay_between_4_and_64() {
    let t = start();
    let mut up = sender(10_000 * 900, SenderConfig::default().assume_unacknowledged(), t);
    let (mut from, mut burst) = (0, 32);
    for _ in 0..12 {
        assert_eq!(drain(&mut up, t), marked(from..from + burst));
        up.on_mark(t);
        from += burst;
        burst = (burst + 4).min(64);
    }
    assert_eq!(up.burst(), 64);

    let mut down = sender(10_000 * 900, SenderConfig::default().assume_unacknowledged(), t);
    let mut now = t;
    for burst in [32, 16, 8, 4, 4, 4] {
        assert_eq!(drain(&mut down, now), marked(0..burst));
        now = down.deadline().unwrap();
    }
    let clamped = sender(9000, SenderConfig::default().burst(1), t);
    assert_eq!(clamped.burst(), 4);
}

#[test]
fn a_peer_that_is_gone_costs_little() {
    let t = start();
    let mut sender = sender(10_000 * 900, SenderConfig::default().assume_unacknowledged(), t);
    let (mut now, mut sent) = (t, 0);
    while sender.state() == State::Running {
        sent += drain(&mut sender, now).len();
        if let Some(at) = sender.deadline() {
            assert!(at > now);
            now = at;
        }
        sender.handle_timeout(now);
    }
    assert_eq!((sender.state(), now), (State::Failed, t + ms(60_000)));
    assert!(sent < 300, "{sent}");
}

#[test]
fn an_acknowledgement_leads_back_from_marks() {
    let t = start();
    let mut sender = sender(50 * 900, SenderConfig::default().rtt(ms(1)), t);
    drain(&mut sender, t);
    assert_eq!(drain(&mut sender, t + ms(250)), marked(0..32));
    sender.on_ack(1, t + ms(300));
    assert_eq!(sender.mode(), Mode::Acknowledged);
    sender.on_mark(t + ms(300));
    assert_eq!(sender.progress(), (1, 50), "marks mean nothing any more");
    assert_eq!(drain(&mut sender, t + ms(300)), [0, 2, 3, 4, 5, 6, 7, 8].map(Some));
    sender.assume_unacknowledged();
    assert_eq!(sender.mode(), Mode::Acknowledged, "it is known better");
}

#[test]
fn the_caller_may_know_that_nothing_is_acknowledged() {
    let t = start();
    let mut sender = sender(40 * 900, SenderConfig::default(), t);
    assert_eq!(drain(&mut sender, t), parts(0..8));
    sender.assume_unacknowledged();
    assert_eq!(drain(&mut sender, t), marked(0..32));
    sender.assume_unacknowledged();
    assert_eq!(drain(&mut sender, t), [], "once is enough");
    sender.on_mark(t);
    assert_eq!(drain(&mut sender, t), marked(32..40));
    assert_eq!(sender.state(), State::Running, "the last burst needs its mark too");
    sender.on_mark(t);
    assert_eq!((sender.state(), sender.progress(), sender.mode()), (State::Done, (40, 40), Mode::Marked));
}

// ---- assembler ----

#[test]
fn parts_in_any_order_and_again() {
    let t = start();
    let value = patterned(2000);
    let part = |index: usize| value.chunks(900).nth(index).unwrap();
    let mut assembler = ChunkAssembler::default();
    assert_eq!((assembler.total(), assembler.deadline()), (None, None));
    assert_eq!(assembler.add(2, 3, part(2), t), Ok(None));
    assert_eq!(assembler.add(2, 3, part(2), t + ms(1)), Ok(None));
    assert_eq!((assembler.received(), assembler.total(), assembler.buffered_bytes()), (1, Some(3), 200));
    assert_eq!(assembler.deadline(), Some(t + ms(30_000)), "what is here already is no progress");
    assert_eq!(assembler.add(0, 3, part(0), t + ms(2)), Ok(None));
    assert_eq!(assembler.add(1, 3, part(1), t + ms(3)), Ok(Some(value.clone())));
    assert!(assembler.is_complete());
    assert_eq!(assembler.add(1, 3, part(1), t + ms(4)), Ok(None), "still to be acknowledged");
    assert_eq!((assembler.buffered_bytes(), assembler.deadline()), (0, None));
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let t = start();
    let mut assembler = ChunkAssembler::new(10_000);
    assert_eq!(assembler.add(0, 13, &[0; 900], t), Err(ChunkError::TooLarge { len: 12 * 900 + 1, max: 10_000 }));
    assert_eq!(assembler.add(0, 65_535, &[0; 900], t).map_err(Rejected::from), Err(Rejected::TooLarge));
    assert_eq!(assembler.add(0, 0, &[0; 900], t), Err(ChunkError::BadIndex { index: 0, total: 0 }));
    assert_eq!(assembler.add(0, 2, &[0; 899], t), Err(ChunkError::BadLength { len: 899 }));
    assert_eq!(assembler.total(), None, "a bad first part begins nothing");
    assert_eq!(assembler.add(11, 12, &[0; 101], t), Err(ChunkError::TooLarge { len: 10_001, max: 10_000 }));
    assert_eq!(assembler.add(11, 12, &[0; 100], t), Ok(None));
    assert_eq!(assembler.add(0, 11, &[0; 900], t), Err(ChunkError::TotalChanged { total: 11, first: 12 }));
    assert_eq!(assembler.add(12, 12, &[0; 900], t), Err(ChunkError::BadIndex { index: 12, total: 12 }));
    assert_eq!(assembler.add(0, 12, &[0; 901], t), Err(ChunkError::BadLength { len: 901 }));
    assert_eq!(assembler.add(0, 12, &[], t), Err(ChunkError::BadLength { len: 0 }));
    assert_eq!((assembler.received(), assembler.buffered_bytes()), (1, 100));
    for index in 0..10 {
        assert_eq!(assembler.add(index, 12, &[1; 900], t), Ok(None));
    }
    assert_eq!(assembler.add(10, 12, &[1; 900], t).unwrap().unwrap().len(), 10_000);
}

#[test]
fn thirty_seconds_without_progress_end_it() {
    let t = start();
    let mut assembler = ChunkAssembler::default();
    assembler.add(0, 3, &[0; 900], t).unwrap();
    assembler.add(1, 3, &[0; 900], t + ms(20_000)).unwrap();
    assert!(!assembler.handle_timeout(t + ms(49_999)));
    assert!(assembler.handle_timeout(t + ms(50_000)));
    assert!(!assembler.handle_timeout(t + ms(50_000)));
    assert_eq!((assembler.received(), assembler.buffered_bytes(), assembler.deadline()), (0, 0, None));
    assert_eq!(assembler.add(0, 2, &[0; 900], t + ms(50_001)), Ok(None), "another total: it begins anew");
}

// ---- both, over a network ----

/// What travels, and what happens when it arrives.
enum Event {
    Part(Vec<u8>),
    Ping,
    Ack(u16),
    Pong,
    /// The receiver has handled everything before it.
    Handled,
}

struct World {
    rng: Lcg,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    delay: Duration,
    loss: u64,
}

impl World {
    fn send(&mut self, event: Event, lossy: bool) {
        if lossy && self.rng.percent(self.loss) {
            return;
        }
        self.count += 1;
        self.events.insert((self.now + self.delay, self.count), event);
    }
}

struct Outcome {
    value: Option<Vec<u8>>,
    state: State,
    mode: Mode,
    took: Duration,
    sent: usize,
}

/// Transfers a value to a peer that acknowledges or does not. `buffer` is how many datagrams its socket holds, and `each` how long it
/// takes to handle one. Marks are lost as parts are.
fn transfer(len: usize, seed: u64, loss: u64, acknowledges: bool, buffer: usize, each: Duration) -> Outcome {
    let t = start();
    let mut world = World { rng: Lcg(seed), now: t, events: BTreeMap::new(), count: 0, delay: ms(10), loss };
    let mut sender = sender(len, SenderConfig::default().rtt(ms(20)), t);
    let mut assembler = ChunkAssembler::default();
    let (mut value, mut sent, mut in_flight_max) = (None, 0, 0);
    let mut queue = std::collections::VecDeque::new();
    let mut busy = false;
    loop {
        let mut burst = 0;
        while let Some(step) = sender.poll(world.now) {
            burst += 1;
            match step {
                Step::Chunk(frame) => {
                    sent += 1;
                    world.send(Event::Part(frame), true);
                }
                Step::Mark => world.send(Event::Ping, true),
            }
        }
        in_flight_max = in_flight_max.max(burst);
        let next = world.events.keys().next().map(|key| key.0);
        let Some(at) = [next, sender.deadline()].into_iter().flatten().min() else {
            break;
        };
        assert!(at >= world.now);
        world.now = at;
        sender.handle_timeout(at);
        while let Some(entry) = world.events.first_entry().filter(|entry| entry.key().0 <= at) {
            match entry.remove() {
                event @ (Event::Part(_) | Event::Ping) => {
                    if queue.len() < buffer {
                        queue.push_back(event);
                    }
                    if !busy {
                        busy = true;
                        world.count += 1;
                        world.events.insert((at + each, world.count), Event::Handled);
                    }
                }
                Event::Handled => {
                    match queue.pop_front() {
                        Some(Event::Part(frame)) => {
                            let Ok(Frame::Chunk(Chunk::Part { index, total, data, .. })) = Frame::decode(&frame) else {
                                panic!()
                            };
                            if let Some(complete) = assembler.add(index, total, data, at).unwrap() {
                                value = Some(complete);
                            }
                            if acknowledges {
                                world.send(Event::Ack(index), true);
                            }
                        }
                        Some(_) => world.send(Event::Pong, true),
                        None => {}
                    }
                    busy = !queue.is_empty();
                    if busy {
                        world.count += 1;
                        world.events.insert((at + each, world.count), Event::Handled);
                    }
                }
                Event::Ack(index) => sender.on_ack(index, at),
                Event::Pong => sender.on_mark(at),
            }
        }
    }
    assert!(in_flight_max <= 65, "64 parts and a mark");
    Outcome { value, state: sender.state(), mode: sender.mode(), took: world.now - t, sent }
}

#[test]
fn a_megabyte_to_a_peer_that_acknowledges() {
    let outcome = transfer(1_000_000, 1, 0, true, 90, Duration::from_micros(200));
    assert_eq!((outcome.state, outcome.mode, outcome.sent), (State::Done, Mode::Acknowledged, 1112));
    assert_eq!(outcome.value, Some(patterned(1_000_000)));
    // 8 parts per round trip of 20 ms and 1.6 ms of handling.
    assert!(outcome.took < ms(3200), "{:?}", outcome.took);
}

#[test]
fn a_megabyte_to_a_peer_that_does_not() {
    let outcome = transfer(1_000_000, 1, 0, false, 90, Duration::from_micros(200));
    assert_eq!((outcome.state, outcome.mode, outcome.sent), (State::Done, Mode::Marked, 1112 + 8));
    assert_eq!(outcome.value, Some(patterned(1_000_000)));
    assert!(outcome.took < ms(1200), "{:?}", outcome.took);
}

#[test]
fn a_small_buffer_makes_bursts_small() {
    // Bursts of 32 overrun it, the mark with them, until they have halved.
    let outcome = transfer(200_000, 1, 0, false, 20, Duration::from_micros(200));
    assert_eq!((outcome.state, outcome.mode), (State::Done, Mode::Marked));
    assert_eq!(outcome.value, Some(patterned(200_000)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn acknowledged_transfers_survive_loss(seed: u64, len in 901..120_000_usize, loss in 0..30_u64) {
        let outcome = transfer(len, seed, loss, true, 90, Duration::from_micros(100));
        prop_assert_eq!(outcome.state, State::Done);
        prop_assert_eq!(outcome.value, Some(patterned(len)));
    }

    #[test]
    fn marked_transfers_end(seed: u64, len in 901..120_000_usize, loss in 0..30_u64) {
        let outcome = transfer(len, seed, loss, false, 90, Duration::from_micros(100));
        prop_assert_eq!(outcome.state, State::Done, "marks get through in the end");
        // A part that is lost in the middle of a burst goes unnoticed, as documented.
        prop_assert!(loss > 0 || outcome.value == Some(patterned(len)));
    }

    #[test]
    fn assembling_is_independent_of_order(seed: u64, len in 901..60_000_usize) {
        let mut rng = Lcg(seed);
        let value = patterned(len);
        let total = len.div_ceil(900) as u16;
        let mut order: Vec<u16> = (0..total).chain((0..total).filter(|_| rng.percent(10))).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let mut assembler = ChunkAssembler::new(len);
        let (mut got, mut seen) = (None, std::collections::BTreeSet::new());
        for index in order {
            let part = value.chunks(900).nth(usize::from(index)).unwrap();
            let result = assembler.add(index, total, part, start()).unwrap();
            seen.insert(index);
            prop_assert_eq!(result.is_some(), got.is_none() && seen.len() == usize::from(total));
            got = got.or(result);
        }
        prop_assert_eq!(got, Some(value));
    }

    #[test]
    fn hostile_parts_are_handled(parts in prop::collection::vec((0..8_u16, 0..8_u16, prop_oneof![Just(900_usize), 0..1000_usize], 0..9000_u64), 0..200)) {
        let mut now = start();
        let mut assembler = ChunkAssembler::new(5000);
        for (index, total, len, wait) in parts {
            now += ms(wait);
            let before = assembler.buffered_bytes();
            let result = assembler.add(index, total, &vec![0; len], now);
            prop_assert!(assembler.buffered_bytes() <= (before + len).min(5000));
            if let Ok(Some(value)) = result {
                prop_assert!(value.len() <= 5000);
                assembler = ChunkAssembler::new(5000);
            }
        }
    }

    #[test]
    fn hostile_acknowledgements_are_handled(ops in prop::collection::vec((0..5_u8, any::<u16>(), 0..2000_u64), 0..200), len in 0..100_000_usize) {
        let mut now = start();
        let mut sender = sender(len, SenderConfig::default().window(usize::MAX), now);
        for (op, number, wait) in ops {
            now += ms(wait);
            match op {
                0 => sender.on_ack(number, now),
                1 => sender.on_ack(number % 128, now),
                2 => sender.on_mark(now),
                3 => sender.assume_unacknowledged(),
                _ => sender.handle_timeout(now),
            }
            let mut steps = 0;
            while sender.poll(now).is_some() {
                steps += 1;
                prop_assert!(steps <= 512);
            }
            let (taken, total) = sender.progress();
            prop_assert!(taken <= total);
            if sender.state() == State::Running {
                prop_assert!(sender.deadline().unwrap() > now);
            } else {
                prop_assert_eq!(sender.deadline(), None);
            }
        }
    }
}
