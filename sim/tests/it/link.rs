use std::time::Duration;

use crypto::Seed;
use sim::{Dropped, Link, Passage, Wire};
use structs::Ecn;

const MS: Duration = Duration::from_millis(1);

/// Sends `count` datagrams of 100 bytes, one a millisecond.
fn stream(link: Link, count: u32) -> Vec<Result<Passage, Dropped>> {
    let mut wire = Wire::new(link, &Seed::fixed(1));
    (0..count).map(|number| wire.carry(100, Ecn::NotEct, MS * number)).collect()
}

fn arrivals(link: Link, count: u32) -> Vec<Duration> {
    stream(link, count).into_iter().filter_map(|passage| Some(passage.ok()?.at)).collect()
}

fn share(passages: &[Result<Passage, Dropped>], is: impl Fn(&Result<Passage, Dropped>) -> bool) -> f64 {
    passages.iter().filter(|passage| is(passage)).count() as f64 / passages.len() as f64
}

#[test]
fn a_perfect_link_adds_its_delay_alone() {
    let expected: Vec<_> = (0..100).map(|number| MS * number + 7 * MS).collect();
    assert_eq!(arrivals(Link::perfect().delay(7 * MS), 100), expected);
}

#[test]
fn uniform_loss_has_its_rate_and_no_memory() {
    let passages = stream(Link::perfect().loss(0.2), 50_000);
    let lost = |passage: &Result<Passage, Dropped>| *passage == Err(Dropped::Lost);
    assert!((share(&passages, lost) - 0.2).abs() < 0.01);
    let twice = passages.windows(2).filter(|two| lost(&two[0]) && lost(&two[1])).count() as f64 / 50_000.0;
    assert!((twice - 0.04).abs() < 0.005, "{twice}");
    assert!(stream(Link::dead(), 100).iter().all(lost));
    assert!(stream(Link::perfect().loss(f64::NAN).loss(-1.0), 100).iter().all(Result::is_ok));
}

#[test]
fn burst_loss_has_its_rate_and_its_lengths() {
    // Bad a sixth of the time, for ten datagrams, and then all is lost.
    let passages = stream(Link::perfect().burst_loss(0.02, 0.1, 1.0), 200_000);
    let lost = |passage: &Result<Passage, Dropped>| *passage == Err(Dropped::Burst);
    assert!((share(&passages, lost) - 1.0 / 6.0).abs() < 0.01);
    let bursts = passages.windows(2).filter(|two| !lost(&two[0]) && lost(&two[1])).count() as f64;
    let mean = passages.iter().filter(|passage| lost(passage)).count() as f64 / bursts;
    assert!((mean - 10.0).abs() < 0.5, "{mean}");
}

#[test]
fn jitter_spreads_and_keeps_the_order() {
    let link = Link::perfect().delay(10 * MS).jitter(20 * MS);
    let arrivals = arrivals(link, 5_000);
    assert!(arrivals.is_sorted());
    let extra = |(number, at): (u32, &Duration)| *at - MS * number - 10 * MS;
    let extra: Vec<_> = (0..).zip(&arrivals).map(extra).collect();
    assert!(extra.iter().all(|&extra| extra <= 20 * MS));
    assert!(extra.iter().min() < Some(&(8 * MS)) && extra.iter().max() > Some(&(19 * MS)));
}

#[test]
fn held_datagrams_are_overtaken() {
    let arrivals = arrivals(Link::perfect().delay(10 * MS).reorder(0.1, 5 * MS), 10_000);
    let held = (0..).zip(&arrivals).filter(|&(number, at)| *at == MS * number + 15 * MS).count();
    assert!((900..1100).contains(&held), "{held}");
    let overtaken = arrivals.windows(2).filter(|two| two[1] < two[0]).count();
    assert!((700..1000).contains(&overtaken), "{overtaken}");
}

#[test]
fn duplicates_and_flips_have_their_rates() {
    let passages = stream(Link::perfect().duplicate(0.3).corrupt(0.1), 20_000);
    let copies = share(&passages, |passage| passage.is_ok_and(|passage| passage.copy_at.is_some()));
    let flips = share(&passages, |passage| passage.is_ok_and(|passage| passage.flipped.is_some()));
    assert!((copies - 0.3).abs() < 0.01 && (flips - 0.1).abs() < 0.01, "{copies} {flips}");
    for passage in passages.into_iter().flatten().filter(|passage| passage.flipped.is_some()) {
        let mut payload = [0; 100];
        passage.apply(&mut payload);
        assert_eq!(payload.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    }
}

#[test]
fn the_rate_spaces_out_and_the_queue_drops_the_newest() {
    // 100 bytes take 10 ms, ten times what comes in; behind the one on the line there is room for three more.
    let link = Link::perfect().rate(10_000).queue(400);
    let passages = stream(link, 1_000);
    let arrivals: Vec<_> = passages.iter().flatten().map(|passage| passage.at).collect();
    assert!(arrivals.windows(2).all(|two| two[1] - two[0] == 10 * MS));
    assert_eq!(arrivals.first(), Some(&(10 * MS)));
    assert!((100..=104).contains(&arrivals.len()), "{}", arrivals.len());
    let full = |passage: &Result<Passage, Dropped>| *passage == Err(Dropped::QueueFull);
    assert_eq!(passages.iter().filter(|passage| full(passage)).count(), 1_000 - arrivals.len());
    for (number, passage) in (0..).zip(&passages) {
        assert!(passage.is_err() || passage.unwrap().at <= MS * number + 40 * MS, "longer than the queue");
    }
    let mut idle = Wire::new(link, &Seed::fixed(1));
    assert!(idle.carry(5_000, Ecn::NotEct, Duration::ZERO).is_ok(), "an idle link takes any one");
}

#[test]
fn a_long_queue_marks_what_can_be_marked() {
    let mut wire = Wire::new(Link::perfect().rate(10_000).mark_above(250), &Seed::fixed(1));
    let marks: Vec<_> = [Ecn::Ect0, Ecn::Ect0, Ecn::Ect0, Ecn::Ect0, Ecn::NotEct, Ecn::Ect1]
        .map(|ecn| wire.carry(100, ecn, Duration::ZERO).unwrap().ecn)
        .to_vec();
    assert_eq!(marks, [Ecn::Ect0, Ecn::Ect0, Ecn::Ect0, Ecn::Ce, Ecn::NotEct, Ecn::Ce]);
}

#[test]
fn the_mtu_is_a_bound_on_the_payload() {
    let mut wire = Wire::new(Link::perfect().mtu(1200), &Seed::fixed(1));
    assert!(wire.carry(1200, Ecn::NotEct, MS).is_ok());
    assert_eq!(wire.carry(1201, Ecn::NotEct, MS), Err(Dropped::TooLarge));
    let mut fragmented = Wire::new(Link::perfect(), &Seed::fixed(1));
    assert!(fragmented.carry(65_507, Ecn::NotEct, MS).is_ok());
    assert_eq!(fragmented.carry(65_508, Ecn::NotEct, MS), Err(Dropped::TooLarge));
}

#[test]
fn one_impairment_leaves_the_dice_of_another_alone() {
    let lost = |link| {
        let passages = stream(link, 2_000);
        passages.iter().map(|passage| *passage == Err(Dropped::Lost)).collect::<Vec<_>>()
    };
    let plain = Link::perfect().loss(0.1);
    assert_eq!(lost(plain), lost(plain.jitter(30 * MS).duplicate(0.5).corrupt(0.5).reorder(0.5, MS)));
    assert_ne!(lost(plain), lost(plain.loss(0.2)));
}

#[test]
fn the_presets_are_what_they_say() {
    let passages = stream(Link::mobile(), 100_000);
    let lost = share(&passages, Result::is_err);
    assert!((0.015..0.025).contains(&lost), "{lost}");
    assert!(passages.iter().flatten().all(|passage| passage.copy_at.is_none_or(|copy| copy >= passage.at)));
    let lan = stream(Link::lan(), 1_000);
    assert!(lan.iter().all(Result::is_ok));
    let wan = share(&stream(Link::wan(), 100_000), Result::is_err);
    assert!((0.004..0.006).contains(&wan), "{wan}");
}
