//! What a packet costs.

use super::*;

/// Prints what a packet costs at a window of 512, the best of many short runs: `cargo test --release -p setowire-peer
/// --lib cost -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn the_cost_of_a_packet() {
    const BATCH: u64 = 45;
    const ROUNDS: u64 = 40;
    for (algorithm, paths) in
        [(Algorithm::Fixed(1 << 40), 1), (Algorithm::Fixed(1 << 40), 2), (Algorithm::Cubic, 1), (Algorithm::Bbr, 1)]
    {
        let mut s = Sender::with(algorithm, Some(us(300)));
        s.recovery.skip_at = None;
        s.recovery.add_path(B, &path_start(Some(us(300))), start());
        let mut acked = 0;
        let mut best = [Duration::MAX; 2];
        for _ in 0..500 {
            let mut spent = [Duration::ZERO; 2];
            for _ in 0..ROUNDS {
                let began = Instant::now();
                for _ in 0..BATCH {
                    let pn = s.recovery.next_pn(&mut s.rng, s.now);
                    let path = if paths == 2 && pn & 64 != 0 { B } else { A };
                    let frames = SentFrames::from_iter([stream(pn)]);
                    s.recovery.on_sent(
                        SentPacket {
                            pn,
                            path,
                            size: 1452,
                            ack_eliciting: true,
                            mtu_probe: false,
                            marked: false,
                            frames,
                        },
                        s.now,
                    );
                }
                spent[0] += began.elapsed();
                s.now += us(30);
                // The window stays at 512; what is acknowledged leaves out the numbers that were left out.
                while s.recovery.ring.end() - acked > 512 {
                    let high = acked + BATCH - 1;
                    let mut set = structs::RangeSet::new();
                    set.insert(acked.saturating_sub(2000)..high + 1);
                    for gap in s.recovery.skipped.iter() {
                        set.remove(*gap..gap + 1);
                    }
                    let ranges: Vec<_> = set.iter().rev().map(|range| range.start..=range.end - 1).collect();
                    acked += BATCH;
                    with_ack(&ranges, us(10), None, |ack| {
                        let began = Instant::now();
                        s.out.clear();
                        s.recovery.on_ack(ack, s.now, &mut s.out).unwrap();
                        spent[1] += began.elapsed();
                    });
                }
            }
            for (best, spent) in best.iter_mut().zip(spent) {
                *best = spent.min(*best);
            }
        }
        let [sent, acked] = best.map(|best| best.as_nanos() as f64 / (ROUNDS * BATCH) as f64);
        println!("{algorithm:?}, {paths} path(s): {sent:.1} + {acked:.1} ns per packet sent + acknowledged");
    }
    println!(
        "record {} bytes, path {} bytes, recovery {} bytes",
        size_of::<ring::Record>(),
        size_of::<Path>(),
        size_of::<Recovery>()
    );
}
