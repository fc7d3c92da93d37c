//! The controllers at the bottleneck of [`lab`](super::lab): what they reach, and how they share.

use std::time::Duration;

use super::lab::{Lab, Report};
use super::{Algorithm, Congestion};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// 100 Mbit/s and 50 ms, measured from 3 s on.
fn wide(queue: f64, until: u64) -> Lab {
    Lab::new(100.0, ms(50), queue).with(|lab| (lab.from, lab.until) = (ms(3_000), ms(until)))
}

/// The same with a fifth of the packets.
fn narrow(queue: f64, until: u64) -> Lab {
    Lab::new(20.0, ms(50), queue).with(|lab| (lab.from, lab.until) = (ms(3_000), ms(until)))
}

fn first(report: &Report) -> f64 {
    report.goodput.first().copied().unwrap_or_default()
}

/// The first flow's part of what all got.
fn share(report: &Report) -> f64 {
    first(report) / report.goodput.iter().sum::<f64>()
}

#[test]
fn the_default_fills_the_link_whatever_is_lost_at_random() {
    for (loss, least) in [(0.0, 0.92), (0.01, 0.90), (0.05, 0.82)] {
        let report = wide(1.0, 8_000).with(|lab| lab.loss = loss).flow(Algorithm::default(), 0.0).run();
        assert!(first(&report) > least, "{loss}: {report:?}");
    }
}

#[test]
fn alone_the_default_keeps_the_queue_short() {
    for queue in [1.0, 4.0] {
        let report = narrow(queue, 15_000).flow(Algorithm::default(), 0.0).run();
        assert!(first(&report) > 0.92, "{report:?}");
        assert!(report.wait < ms(5) && report.worst_wait < ms(25), "{report:?}");
        assert!(report.lost.iter().all(|&lost| lost < 0.005), "{report:?}");
    }
}

#[test]
fn the_default_shares_with_cubic_at_a_queue_of_one_product() {
    for (ours, theirs) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)] {
        let report = wide(1.0, 13_000).flow(Algorithm::default(), ours).flow(Algorithm::Cubic, theirs).run();
        assert!((0.33..0.67).contains(&share(&report)), "{ours} {theirs}: {report:?}");
    }
}

#[test]
fn the_default_shares_with_cubic_at_a_queue_of_four_products() {
    for (ours, theirs) in [(0.0, 2.0), (2.0, 0.0)] {
        let lab = narrow(4.0, 40_000).flow(Algorithm::default(), ours).flow(Algorithm::Cubic, theirs);
        let report = lab.with(|lab| lab.from = ms(8_000)).run();
        assert!((0.33..0.67).contains(&share(&report)), "{ours} {theirs}: {report:?}");
    }
}

#[test]
fn two_of_the_default_share() {
    for start in [0.0, 2.0] {
        let lab = narrow(1.0, 30_000).flow(Algorithm::default(), 0.0).flow(Algorithm::default(), start);
        let report = lab.with(|lab| lab.from = ms(5_000)).run();
        assert!((0.33..0.67).contains(&share(&report)), "{start}: {report:?}");
        assert!(report.goodput.iter().sum::<f64>() > 0.9, "{report:?}");
    }
}

#[test]
fn a_fallen_bandwidth_is_noticed_and_its_queue_drained() {
    let lab = narrow(4.0, 40_000).flow(Algorithm::default(), 0.0);
    let lab = lab.with(|lab| (lab.steps, lab.from) = (vec![(ms(5_000), 0.1)], ms(25_000)));
    let report = lab.run();
    assert!(first(&report) > 0.09, "{report:?}");
    assert!(report.wait < ms(60), "{report:?}");
}

#[test]
fn a_risen_bandwidth_is_taken_within_a_few_seconds() {
    let lab = wide(1.0, 10_000).flow(Algorithm::default(), 0.0);
    let lab = lab.with(|lab| (lab.steps, lab.from) = (vec![(ms(0), 0.1), (ms(5_000), 1.0)], ms(7_500)));
    assert!(first(&lab.run()) > 0.85);
}

#[test]
fn the_default_bears_jitter_bursts_and_lumps_of_acknowledgements() {
    type Change = fn(&mut Lab);
    let cases: [(&str, Change, f64); 6] = [
        ("jitter", |lab| lab.jitter = ms(20), 0.9),
        ("bursts", |lab| lab.burst = Some((0.002, 0.1, 0.5)), 0.85),
        ("lumps", |lab| lab.aggregate = ms(30), 0.85),
        ("lost acknowledgements", |lab| lab.ack_loss = 0.3, 0.9),
        ("coarse timer", |lab| lab.tick = ms(1), 0.9),
        ("marks", |lab| lab.mark = Some(lab.queue * 0.2), 0.9),
    ];
    for (name, change, least) in cases {
        let report = narrow(1.0, 12_000).flow(Algorithm::default(), 0.0).with(change).run();
        assert!(first(&report) > least, "{name}: {report:?}");
    }
}

#[test]
fn links_of_every_size_are_filled() {
    let cases = [
        (1.0, Duration::from_millis(600), 1.0, 40, 0.8),
        (10.0, Duration::from_millis(20), 0.1, 10, 0.75),
        (200.0, Duration::from_micros(50), 4.0, 2, 0.85),
    ];
    for (mbit, rtt, queue, seconds, least) in cases {
        let lab = Lab::new(mbit, rtt, queue).flow(Algorithm::default(), 0.0);
        let until = Duration::from_secs(seconds);
        let report = lab.with(|lab| (lab.from, lab.until) = (until / 4, until)).run();
        assert!(first(&report) > least, "{mbit} Mbit/s: {report:?}");
    }
}

#[test]
fn an_application_that_pauses_gets_what_it_asks_for() {
    // 4 Mbit/s in lumps on 20 Mbit/s.
    let lab = narrow(1.0, 12_000).flow(Algorithm::default(), 0.0);
    let report = lab.with(|lab| lab.flows.iter_mut().for_each(|flow| flow.app = Some((ms(200), 100_000)))).run();
    assert!((0.19..0.21).contains(&first(&report)), "{report:?}");
}

#[test]
fn cubic_fills_a_clean_link_and_not_a_lossy_one() {
    let clean = narrow(1.0, 12_000).flow(Algorithm::Cubic, 0.0).run();
    assert!(first(&clean) > 0.9, "{clean:?}");
    let lossy = narrow(1.0, 12_000).flow(Algorithm::Cubic, 0.0).with(|lab| lab.loss = 0.05).run();
    assert!(first(&lossy) < 0.2, "{lossy:?}");
}

#[test]
fn cubic_takes_marks_for_losses() {
    let lab = narrow(4.0, 12_000).flow(Algorithm::Cubic, 0.0).with(|lab| lab.mark = Some(lab.queue * 0.25));
    let report = lab.run();
    assert!(first(&report) > 0.9 && report.lost.iter().all(|&lost| lost < 0.001), "{report:?}");
    assert!(report.worst_wait < ms(100), "{report:?}");
}

#[test]
fn a_path_costs_less_than_800_bytes_and_at_rest_less_than_200() {
    assert!(size_of::<Congestion>() < 160, "{}", size_of::<Congestion>());
    assert!(size_of::<super::Model>() < 660, "{}", size_of::<super::Model>());
}

/// The table of the module's documentation: minutes without optimisation.
#[test]
#[ignore = "prints a table, for people; run it with --release --nocapture"]
fn table() {
    let line = |name: &str, lab: &Lab| {
        let report = lab.run();
        let goodput: Vec<_> = report.goodput.iter().map(|part| format!("{:.1}", part * 100.0)).collect();
        let lost: Vec<_> = report.lost.iter().map(|part| format!("{:.1}", part * 100.0)).collect();
        println!("{name:32} {:24} lost {:12} wait {:?}", goodput.join(" "), lost.join(" "), report.wait);
    };
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr] {
        println!("{algorithm:?}");
        let lab = |queue: f64| Lab::new(100.0, ms(50), queue).flow(algorithm, 0.0);
        for loss in [0.0, 0.001, 0.01, 0.05, 0.1, 0.2] {
            line(&format!("loss {loss}"), &lab(1.0).with(|lab| lab.loss = loss));
        }
        line("bursts", &lab(1.0).with(|lab| lab.burst = Some((0.002, 0.1, 0.5))));
        for queue in [0.1, 0.5, 1.0, 2.0, 4.0, 8.0] {
            line(&format!("queue {queue}"), &lab(queue));
            for start in [0.0, 0.5, 2.0, 4.0] {
                line(&format!("queue {queue}, cubic from {start}"), &lab(queue).flow(Algorithm::Cubic, start));
                let late = Lab::new(100.0, ms(50), queue).flow(algorithm, start).flow(Algorithm::Cubic, 0.0);
                line(&format!("queue {queue}, from {start}, cubic"), &late);
                line(&format!("queue {queue}, same from {start}"), &lab(queue).flow(algorithm, start));
            }
        }
    }
}
