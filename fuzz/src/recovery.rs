//! Loss recovery under acknowledgements of any kind, against a model of the fate of every packet.

use std::time::Duration;

use peer::congestion::Algorithm;
use peer::fuzzing::{Marks, Packets, PathSettings};
use sim::clock;

use crate::input::Input;

/// Packets of one input: more than recovery remembers.
const BUDGET: u64 = 12_000;

/// Whatever is acknowledged, lost and late, each packet has one fate: see [`Packets`].
pub fn recovery(data: &[u8]) {
    let mut input = Input::new(data);
    let algorithm =
        input.pick(&[Algorithm::Bbr, Algorithm::Cubic, Algorithm::Fixed(20_000), Algorithm::Fixed(1 << 40)]);
    let mut packets = Packets::new(algorithm, clock::base());
    packets.add_path(0, settings(&mut input));
    while !input.is_empty() && packets.sent() < BUDGET && !packets.is_over() {
        step(&mut packets, &mut input);
    }
    packets.finish();
}

fn step(packets: &mut Packets, input: &mut Input<'_>) {
    let slot = [0, 0, 0, 1, 2, 7][input.below(6)];
    match input.below(18) {
        0..=2 => packets.fill(slot, count(input)),
        3 => packets.send(slot, count(input), input.len(), true),
        4 => packets.send(slot, count(input), input.len(), false),
        5 => packets.probe_mtu(slot),
        6..=8 => acknowledge(packets, input, true),
        9 => {
            let honest = input.below(16) > 0;
            acknowledge(packets, input, honest);
        }
        10 => packets.receive(input.bytes()),
        11 | 12 => {
            packets.advance(input.pause() / 4);
            packets.timeout();
        }
        13 => packets.advance(Duration::from_micros(u64::from(input.u16()) << input.below(20))),
        14 => {
            packets.wait();
        }
        15 => packets.resume(),
        16 => packets.add_path(slot, settings(input)),
        _ => match input.below(3) {
            0 => packets.remove_path(slot),
            1 => packets.reset_path(slot, settings(input)),
            _ => packets.set_max_ack_delay(input.pause()),
        },
    }
}

/// Mostly a few packets, sometimes many.
fn count(input: &mut Input<'_>) -> u16 {
    match u16::from(input.u8()) {
        few @ 0..=239 => few % 40,
        many => (many - 239) * 256,
    }
}

fn acknowledge(packets: &mut Packets, input: &mut Input<'_>, honest: bool) {
    let mut ranges = [(0, 0); 8];
    let used = 1 + input.below(ranges.len());
    for range in &mut ranges[..used] {
        let distance = |byte: u8| if byte < 200 { u64::from(byte) % 8 } else { u64::from(byte - 200) * 50 };
        *range = (distance(input.u8()), distance(input.u8()));
    }
    let delay = input.pause() / 16;
    let marks = match input.below(8) {
        0 => Marks::Silent,
        1 => Marks::Claimed(u64::from(input.u8()), u64::from(input.u8() / 200), u64::from(input.u32())),
        _ => Marks::Honest,
    };
    packets.acknowledge(&ranges[..used], honest, delay, marks);
}

fn settings(input: &mut Input<'_>) -> PathSettings {
    let flags = input.u8();
    PathSettings {
        mtu: (1200, input.pick(&[1200, 1452, 1500, 9000, 65_507])),
        loopback: flags & 1 != 0,
        rtt: (flags & 2 != 0).then(|| input.pause() / 8),
        ecn: flags & 4 != 0,
    }
}
