//! Random histories, against a model that is as simple as it is slow.

use super::*;

/// Where the model puts the packets of paths that were removed.
const GONE: PathSlot = PathSlot(7);

/// What the model knows of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pending,
    Acked,
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    path: PathSlot,
    seq: u64,
    size: u64,
    eliciting: bool,
    sent_at: Instant,
    epoch: u64,
    fate: Fate,
    /// Its stream frame was told lost by a probe timeout.
    repeated: bool,
}

/// Random sends, acknowledgements in any order and number, timers on time and late, paths that come, go and change: what
/// is in flight is what the model says, each fate is told once, nothing is lost without a reason, and timers go on.
#[test]
fn random_histories_agree_with_a_model() {
    for seed in 0..80 {
        let mut rng = Seed::fixed(seed).rng();
        let mut s = Sender::new((seed % 3 > 0).then(|| ms(seed)));
        s.recovery.skip_at = None;
        let mut model: BTreeMap<u64, Told> = BTreeMap::new();
        let mut seqs = [0_u64; MAX_PATHS];
        let mut epochs = [0_u64; MAX_PATHS];
        // Between these lies the largest acknowledged: packets that were forgotten do not raise it any more.
        let mut largest: [Option<u64>; MAX_PATHS] = [None; MAX_PATHS];
        let mut least: [Option<u64>; MAX_PATHS] = [None; MAX_PATHS];
        for step in 0..400 {
            let context = format!("seed {seed} step {step}");
            s.out.clear();
            let mut acked_now = Vec::new();
            let mut removed = None;
            let thresholds: [u64; MAX_PATHS] = std::array::from_fn(|slot| {
                s.recovery.paths.get(slot).and_then(Option::as_ref).map_or(0, |path| path.reordering.packets())
            });
            match rng.below(100) {
                0..45 => {
                    let path = PathSlot(u8::try_from(rng.below(3)).unwrap());
                    if s.recovery.path(path).is_some() {
                        for _ in 0..=rng.below(8) {
                            let eliciting = rng.below(6) > 0;
                            let size = u32::try_from(40 + rng.below(1400)).unwrap();
                            let pn = s.send_as(path, size, eliciting, false, false);
                            let index = usize::from(path.0);
                            let told = Told {
                                path,
                                seq: seqs[index],
                                size: size.into(),
                                eliciting,
                                sent_at: s.now,
                                epoch: epochs[index],
                                fate: Fate::Pending,
                                repeated: false,
                            };
                            seqs[index] += 1;
                            assert!(model.insert(pn, told).is_none(), "{context}");
                        }
                    }
                }
                45..75 => {
                    // Any packets that were sent, acknowledged before or not.
                    let mut set = structs::RangeSet::new();
                    let sent: Vec<u64> = model.keys().copied().collect();
                    let reach = sent.len().min(if rng.below(4) == 0 { 400 } else { 40 });
                    for pn in &sent[sent.len() - reach..] {
                        if rng.below(5) > 0 {
                            set.insert(*pn..pn + 1);
                        }
                    }
                    let ranges: Vec<_> = set.iter().rev().take(64).map(|range| range.start..=range.end - 1).collect();
                    if !ranges.is_empty() {
                        let delay = us(rng.below(40_000));
                        with_ack(&ranges, delay, None, |ack| s.recovery.on_ack(ack, s.now, &mut s.out)).unwrap();
                        acked_now = ranges.iter().cloned().flatten().collect();
                    }
                }
                75..90 => {
                    if let Some(deadline) = s.recovery.deadline() {
                        s.now = s.now.max(deadline.at) + if rng.below(3) == 0 { ms(rng.below(900)) } else { us(0) };
                        s.recovery.on_timeout(s.now, &mut s.out);
                        let next = s.recovery.deadline();
                        assert!(next.is_none_or(|next| next.at > s.now), "{context}: {next:?}");
                    }
                }
                90..97 => s.now += us(rng.below(30_000)),
                97 => {
                    let path = PathSlot(u8::try_from(1 + rng.below(2)).unwrap());
                    if s.recovery.path(path).is_none() {
                        let index = usize::from(path.0);
                        (seqs[index], epochs[index], largest[index], least[index]) = (0, 0, None, None);
                        s.recovery.add_path(path, &path_start(None), s.now);
                    } else if rng.below(2) == 0 {
                        s.recovery.remove_path(path, &mut s.out);
                        removed = Some(path);
                    } else {
                        epochs[usize::from(path.0)] = seqs[usize::from(path.0)];
                        s.recovery.reset_path(path, &path_start(Some(ms(7))), s.now);
                    }
                }
                98 => s.recovery.on_resume(s.now),
                _ => {
                    let next = s.recovery.ring.end();
                    let hostile = [next + rng.below(1000)..=next + 1000, 0..=0];
                    with_ack(&hostile[..1], ms(0), None, |ack| s.recovery.on_ack(ack, s.now, &mut s.out)).unwrap_err();
                    assert!(s.out.acked.is_empty() && s.out.lost.is_empty(), "{context}");
                }
            }
            // Exactly the pending ones among those acknowledged are told.
            let expected: std::collections::BTreeSet<u64> =
                acked_now.iter().copied().filter(|pn| model[pn].fate == Fate::Pending).collect();
            let told: std::collections::BTreeSet<u64> = datagrams(&s.out.acked).into_iter().map(u64::from).collect();
            let want: std::collections::BTreeSet<u64> =
                expected.iter().copied().filter(|pn| model[pn].eliciting).collect();
            assert_eq!(told, want, "{context}");
            assert_eq!(told.len(), datagrams(&s.out.acked).len(), "{context}: told twice");
            let wanted_streams: Vec<u64> = want.iter().copied().filter(|pn| !model[pn].repeated).collect();
            let mut told_streams = streams(&s.out.acked);
            told_streams.sort_unstable();
            assert_eq!(told_streams, wanted_streams, "{context}");
            for pn in &acked_now {
                let told = model.get_mut(pn).unwrap();
                let index = usize::from(told.path.0);
                largest[index] = largest[index].max(Some(told.seq));
                if told.fate == Fate::Pending {
                    told.fate = Fate::Acked;
                    least[index] = if told.eliciting { least[index].max(Some(told.seq)) } else { least[index] };
                }
            }
            for pn in datagrams(&s.out.lost) {
                let told = model.get_mut(&pn.into()).unwrap();
                assert_eq!((told.fate, told.eliciting), (Fate::Pending, true), "{context}: {pn} {told:?}");
                told.fate = Fate::Lost;
                // With a reason: a later packet of the path arrived, by number or by time; or the path is gone.
                if let Some(path) = s.recovery.path(told.path) {
                    let ahead = path.largest_acked.unwrap().checked_sub(told.seq).unwrap();
                    assert!(ahead >= 3 || (ahead > 0 && s.now >= told.sent_at + ms(1)), "{context}: {told:?}");
                }
            }
            for pn in streams(&s.out.lost) {
                let told = model.get_mut(&pn).unwrap();
                assert!(!told.repeated && told.fate != Fate::Acked, "{context}: {pn} {told:?}");
                told.repeated = true;
            }
            assert!(model.values().all(|told| told.fate != Fate::Lost || told.repeated), "{context}: half told");
            for slot in (0..3).map(PathSlot) {
                let index = usize::from(slot.0);
                let pending = || model.values().filter(|told| told.path == slot && told.fate == Fate::Pending);
                let in_flight: u64 =
                    pending().filter(|told| told.eliciting && told.epoch == epochs[index]).map(|told| told.size).sum();
                assert_eq!(s.recovery.in_flight(slot), in_flight, "{context}");
                if let Some(path) = s.recovery.path(slot) {
                    assert_eq!(path.eliciting, pending().filter(|told| told.eliciting).count() as u64, "{context}");
                    assert!((least[index]..=largest[index]).contains(&path.largest_acked), "{context}");
                    // Nothing stays that later packets have overtaken.
                    if !acked_now.is_empty() {
                        let bound = path.reordering.packets().max(thresholds[index]);
                        let overtaken = |told: &&Told| {
                            told.eliciting && least[index].is_some_and(|largest| largest >= told.seq + bound)
                        };
                        assert_eq!(pending().filter(overtaken).count(), 0, "{context}");
                    }
                } else {
                    assert_eq!(pending().filter(|told| told.eliciting).count(), 0, "{context}");
                }
            }
            assert_eq!(s.recovery.deadline().is_some(), !s.recovery.is_settled(), "{context}");
            for told in model.values_mut().filter(|told| removed == Some(told.path)) {
                told.path = GONE;
            }
        }
        // One more packet on each path, acknowledged, and the timers settle the rest.
        for slot in (0..3).map(PathSlot).filter(|slot| s.recovery.path(*slot).is_some()).collect::<Vec<_>>() {
            let pn = s.send(slot);
            s.ack(&[pn..=pn]).unwrap();
        }
        for _ in 0..10 {
            if let Some(deadline) = s.recovery.deadline() {
                s.now = deadline.at;
                s.timeout();
            }
        }
        assert!(s.recovery.is_settled(), "seed {seed}");
        assert!((0..3).all(|slot| s.recovery.in_flight(PathSlot(slot)) == 0), "seed {seed}");
    }
}
