//! Two multiplexers and the packets between them, which the input delivers, drops, repeats and invents.

use std::time::Duration;

use framing::{CloseCode, Frame, Hello, Limits, Open, PacketWriter, Role, Stream, StreamCode, StreamId, StreamKind};
use peer::fuzzing::Muxes;
use peer::mux::Urgency;
use sim::clock;

use crate::input::{Input, pattern};

/// Operations of one input: bounds its running time.
const BUDGET: usize = 2000;

/// What is read is what was written: see [`Muxes`].
pub fn mux(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let mut muxes = Muxes::new(flags & 1 == 0, flags & 8 == 0, clock::base());
    // Those who have greeted come to the point sooner.
    if flags & 2 == 0 {
        (0..2).for_each(|side| muxes.greet(side));
    }
    let plain = flags & 16 == 0;
    let alone = flags & 4 == 0;
    for _ in 0..BUDGET {
        if input.is_empty() {
            break;
        }
        step(&mut muxes, &mut input, alone, plain);
    }
    muxes.finish();
}

/// `alone` says that nobody else speaks, `plain` that everything is moved one by one.
fn step(muxes: &mut Muxes, input: &mut Input<'_>, alone: bool, plain: bool) {
    let (operation, which) = (input.u8(), usize::from(input.u8()));
    let (side, protocol) = (usize::from(operation >> 7), (which % 4).to_le_bytes()[0].into());
    let urgency = if which & 4 == 0 { Urgency::Normal } else { Urgency::Urgent };
    match operation % 32 {
        0..=3 => {
            for _ in 0..=which % 8 {
                muxes.transmit(side, 0);
            }
        }
        4 => {
            muxes.transmit(side, which * 8);
        }
        5..=7 => {
            // All that is under way arrives, but one.
            let count = muxes.under_way(side);
            for at in (0..count).filter(|at| *at != which) {
                muxes.deliver(side, at);
                muxes.acknowledge(side, at);
            }
        }
        8 => muxes.deliver(side, which),
        9 => muxes.acknowledge(side, which),
        10 => muxes.lose(side, which),
        11 => muxes.greet(side),
        12 => muxes.open(side, protocol),
        13 | 14 => muxes.write(side, which, input.len()),
        15 => muxes.end(side, which, input.below(4) == 0),
        16 | 17 => {
            let len = input.len();
            if plain || operation & 32 == 0 {
                muxes.read(side, which, len)
            } else {
                muxes.read_into(side, which, len)
            };
        }
        18 => muxes.stop(side, which),
        19..=21 if !plain && operation & 32 != 0 => {
            let len = input.len();
            muxes.send_batch(side, protocol, urgency, (which / 8, len));
        }
        19..=21 => {
            let len = input.len();
            (0..=which / 16).for_each(|_| muxes.send(side, protocol, urgency, len));
        }
        22 | 23 if !plain && operation & 32 != 0 => {
            muxes.recv_batch(side, protocol, input.len());
        }
        22 | 23 => {
            muxes.recv(side, protocol);
        }
        24 => {
            let len = input.len();
            (0..=which / 16).for_each(|_| muxes.send_datagram(side, protocol, len));
        }
        25 if !plain && operation & 32 != 0 => {
            muxes.recv_datagrams(side, protocol, input.len());
        }
        25 => {
            muxes.recv_datagram(side, protocol);
        }
        26 => muxes.poll(side),
        27 => match which {
            0..4 => muxes.fail(side, protocol),
            4 => muxes.refuse(side),
            5..64 => muxes.set_packet_room(side, 200 + which * 20),
            _ => muxes.set_rtt(side, Duration::from_millis(which as u64)),
        },
        28 | 29 => muxes.advance(input.pause() / 16),
        _ if alone => (0..2).for_each(|side| muxes.poll(side)),
        30 => muxes.deceive(side, input.bytes()),
        _ => {
            let mut bytes = [0; 4096];
            let mut writer = PacketWriter::new(&mut bytes);
            for _ in 0..=which % 4 {
                invent(input, &mut writer);
            }
            muxes.deceive(side, writer.written());
        }
    }
}

/// A frame that decodes, about something that may exist.
fn invent(input: &mut Input<'_>, writer: &mut PacketWriter<'_>) {
    let opener = if input.flip() { Role::Dialler } else { Role::Responder };
    let id = StreamId::new(u64::from(input.u8()) % 40, opener);
    let number = match input.u8() {
        small @ 0..=199 => u64::from(small),
        large => u64::from(input.u16()) << (large % 48),
    };
    let data = pattern(0, input.len() % 1200);
    let code = StreamCode(number % 5);
    let kinds = [StreamKind::Bytes, StreamKind::Messages, StreamKind::Urgent];
    let open = Open { protocol: number % 6, kind: input.pick(&kinds) };
    let frame = match input.below(9) {
        0 => Frame::MaxData(number),
        1 => Frame::MaxStreamData { id, max: number },
        2 => Frame::MaxStreams(number),
        3 => Frame::StreamReset { id, code, final_size: number },
        4 => Frame::StreamStop { id, code },
        5 => Frame::Datagram { protocol: number % 6, data: &data },
        6 if input.below(8) == 0 => Frame::Goaway { code: CloseCode(number) },
        6 => {
            let limits = Limits { max_data: number << 8, max_message: number << 4, ..Limits::INITIAL };
            if let Ok(body) = Hello::compose([], None, None, &limits)
                && let Ok(hello) = Hello::parse(&body)
            {
                let _whole = Frame::Hello(hello).encode(writer);
            }
            return;
        }
        7 => Frame::Stream(Stream { id, offset: 0, open: Some(open), fin: input.below(4) == 0, data: &data }),
        _ => Frame::Stream(Stream { id, offset: number, open: None, fin: input.below(4) == 0, data: &data }),
    };
    let _whole = frame.encode(writer);
}
