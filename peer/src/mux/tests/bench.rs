//! How fast: `cargo test --release -p setowire-peer -- --ignored --nocapture mux_speed`.

#![expect(clippy::disallowed_methods, reason = "measures time")]

use super::*;

/// Nanoseconds that this thread has computed for: others may be at work on the machine.
fn computed() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|first| first.parse().ok()).expect("measured on Linux only")
}

/// From the sender's buffer through packets into the receiver's, acknowledged; without sealing and sockets.
fn transfer(
    name: &str,
    room: usize,
    len: usize,
    total: usize,
    mut send: impl FnMut(&mut Mux) -> bool,
    mut recv: impl FnMut(&mut Mux) -> usize,
) {
    let (start, before) = (Instant::now(), computed());
    let mut sides = pair(&protocols(&[("a", 1), ("b", 1), ("c", 1)]), start);
    // As many packets at a time as leave in one system call.
    let mut batch = vec![(vec![0; room], 0, SentFrames::new()); 64];
    let (mut received, mut count, mut sending) = (0, 0_u64, Duration::ZERO);
    while received < total {
        let before = Instant::now();
        while send(&mut sides[0]) {}
        sending += before.elapsed();
        for from in 0..2 {
            while sides[from].has_output(start) {
                let before = Instant::now();
                let mut filled = 0;
                for (packet, len, sent) in &mut batch {
                    let mut writer = PacketWriter::new(packet);
                    sent.clear();
                    sides[from].fill(&mut writer, sent, start);
                    *len = writer.len();
                    if *len == 0 {
                        break;
                    }
                    filled += 1;
                }
                sending += before.elapsed();
                count += filled as u64;
                for (packet, len, sent) in &batch[..filled] {
                    let _taken = deliver(&mut sides[1 - from], &packet[..*len]).unwrap();
                    sent.iter().for_each(|frame| sides[from].on_acked(frame));
                }
                if from == 0 {
                    received += recv(&mut sides[1]);
                }
            }
        }
        sides.iter_mut().for_each(|side| while side.poll_event().is_some() {});
    }
    let seconds = (computed() - before) as f64 / 1e9;
    let part = sending.as_secs_f64() / start.elapsed().as_secs_f64();
    let (millions, giga) = ((received / len) as f64 / seconds / 1e6, received as f64 / seconds / 1e9);
    println!(
        "{name}: {len} bytes: into packets {:.1} M/s, {:.2} GB/s; and out again {millions:.1} M/s, {giga:.2} GB/s, {:.0} ns a packet",
        millions / part,
        giga / part,
        seconds * 1e9 / count as f64
    );
}

fn receive(mux: &mut Mux, out: &mut Vec<u8>) -> usize {
    let mut sum = 0;
    while let Some(len) = mux.recv(ProtocolId(0), out) {
        sum += len;
    }
    sum
}

#[test]
#[ignore = "measures"]
fn mux_speed() {
    for room in [1423, 8871] {
        for len in [64, 1000, 100_000] {
            let (message, mut out) = (vec![0; len], Vec::new());
            transfer(
                &format!("messages, packets of {room}"),
                room,
                len,
                if len == 64 { 400_000_000 } else { 2_000_000_000 },
                |mux| mux.send(ProtocolId(0), &message, Urgency::Normal).is_ok(),
                |mux| receive(mux, &mut out),
            );
        }
        let (data, mut out) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut stream = None;
        transfer(
            &format!("stream, packets of {room}"),
            room,
            1 << 16,
            3_000_000_000,
            |mux| {
                let stream = *stream.get_or_insert_with(|| mux.open_stream(ProtocolId(0)).unwrap());
                mux.write(stream, &data).is_ok()
            },
            |mux| {
                let mut sum = 0;
                while let Ok(Read::Bytes(len)) = mux.read(StreamId::new(0, Role::Dialler), &mut out) {
                    sum += len;
                }
                sum
            },
        );
    }
}
