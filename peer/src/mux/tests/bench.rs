//! How fast: `cargo test --release -p setowire-peer -- --ignored --nocapture mux_speed`.

use super::*;

/// From the sender's buffer through packets into the receiver's, acknowledged; without sealing and sockets.
fn transfer(
    name: &str,
    room: usize,
    len: usize,
    total: usize,
    mut send: impl FnMut(&mut Mux) -> bool,
    mut recv: impl FnMut(&mut Mux) -> usize,
) {
    #[expect(clippy::disallowed_methods, reason = "measures")]
    let clock = Instant::now;
    let start = clock();
    let mut sides = pair(&protocols(&[("a", 1), ("b", 1), ("c", 1)]), start);
    let mut packets = vec![0; room];
    let (mut received, mut count) = (0, 0_u64);
    while received < total {
        while send(&mut sides[0]) {}
        for from in 0..2 {
            while sides[from].has_output(start) {
                let mut writer = PacketWriter::new(&mut packets);
                let mut sent = SentFrames::new();
                sides[from].fill(&mut writer, &mut sent, start);
                let len = writer.len();
                count += 1;
                let _taken = deliver(&mut sides[1 - from], &packets[..len]).unwrap();
                sent.iter().for_each(|frame| sides[from].on_acked(frame));
            }
        }
        received += recv(&mut sides[1]);
        sides.iter_mut().for_each(|side| while side.poll_event().is_some() {});
    }
    let seconds = clock().duration_since(start).as_secs_f64();
    let (millions, giga) = ((received / len) as f64 / seconds / 1e6, received as f64 / seconds / 1e9);
    println!(
        "{name}: {millions:.2} M/s of {len} bytes, {giga:.2} GB/s, {:.0} ns a packet",
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
                3_000_000_000 / if len == 64 { 4 } else { 1 },
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
            6_000_000_000,
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
