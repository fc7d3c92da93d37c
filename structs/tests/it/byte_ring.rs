use proptest::prelude::*;
use structs::ByteRing;

#[derive(Debug, Clone)]
enum Op {
    Write(Vec<u8>),
    WriteAt(u64, Vec<u8>),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let data = || prop::collection::vec(any::<u8>(), 0..700);
    prop_oneof![
        data().prop_map(Op::Write),
        (0_u64..1200, data()).prop_map(|(at, data)| Op::WriteAt(at, data)),
        (0_u64..900).prop_map(Op::Advance),
    ]
}

proptest! {
    #![proptest_config(crate::cases(200))]
    #[test]
    fn like_a_vector_with_an_offset(start in 0_u64..3000, ops in prop::collection::vec(op(), 1..60)) {
        let cap = 1024;
        let mut ring = ByteRing::new(cap);
        ring.advance(start);
        let (mut base, mut model): (u64, Vec<Option<u8>>) = (start, Vec::new());
        for op in ops {
            match op {
                Op::Write(data) => {
                    let took = ring.write(&data);
                    prop_assert_eq!(took, data.len().min(cap - model.len()));
                    model.extend(data[..took].iter().copied().map(Some));
                }
                Op::WriteAt(ahead, data) => {
                    // From a little before the start to beyond the cap.
                    let offset = (base + ahead).saturating_sub(100);
                    let data = &data[..];
                    let skip = usize::try_from(base.saturating_sub(offset)).unwrap().min(data.len());
                    let at = usize::try_from(offset.max(base) - base).unwrap();
                    let fits = data.len() == skip || at + data.len() - skip <= cap;
                    prop_assert_eq!(ring.write_at(offset, data), fits);
                    if fits && data.len() > skip {
                        let data = &data[skip..];
                        if model.len() < at + data.len() {
                            model.resize(at + data.len(), None);
                        }
                        data.iter().enumerate().for_each(|(i, &byte)| model[at + i] = Some(byte));
                    }
                }
                Op::Advance(by) => {
                    ring.advance(base + by);
                    base += by;
                    model.drain(..usize::try_from(by).unwrap().min(model.len()));
                }
            }
            prop_assert_eq!((ring.start(), ring.len(), ring.end()), (base, model.len(), base + model.len() as u64));
            prop_assert!(ring.capacity() <= cap && ring.room() == cap - model.len());
            let mut out = vec![0; model.len() + 3];
            prop_assert_eq!(ring.copy_to(base, &mut out), model.len());
            prop_assert!(model.iter().zip(&out).all(|(want, have)| want.is_none_or(|want| want == *have)));
        }
    }
}

#[test]
fn memory_comes_late_and_goes_when_empty() {
    let mut ring = ByteRing::new(1 << 20);
    assert_eq!(ring.capacity(), 0);
    assert_eq!(ring.write(&[1; 10]), 10);
    assert_eq!(ring.capacity(), ByteRing::MIN);
    assert_eq!(ring.write(&vec![2; 1 << 20]), (1 << 20) - 10);
    assert_eq!((ring.capacity(), ring.room()), (1 << 20, 0));
    assert!(!ring.write_at(ring.end(), &[1]));
    ring.advance(1 << 20);
    assert_eq!(ring.capacity(), 0);
    assert_eq!(ring.slices(5, 1), (&[][..], &[][..]), "behind the window");
    ring.write(b"more");
    ring.release();
    assert_eq!((ring.start(), ring.capacity()), ((1 << 20) + 4, 0));
}
