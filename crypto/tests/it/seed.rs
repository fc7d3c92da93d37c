use crypto::Seed;

/// The first 32 bytes of a seed's stream stand for the seed.
fn fingerprint(seed: &Seed) -> String {
    data_encoding::HEXLOWER.encode(&seed.rng().array::<32>())
}

/// Computed by another program from the definitions: SHA-256 for the seeds, ChaCha12 for the streams.
#[test]
fn fixed_seeds_and_children_are_pinned() {
    let parent = Seed::fixed(7);
    let expected = [
        (Seed::fixed(0), "264d1056a36cf9a421b2a84e940b01a7fe7e8cac5df0e6d8fe5d7e26eddde8f3"),
        (Seed::fixed(1), "234cc00e00ced3c468b6d66934bef16efc5387e3cce5f84529b89ab81bb487b0"),
        (parent.fork(""), "4d94f9547c682d99e9818f78e0e60f8ba1606232ddcdbad79f5327847a8c7f25"),
        (parent.fork("peer"), "3558340a09fc6a32fbf0186cd5c6536efc9b27404e90445d7c4c3599aab46fdb"),
        (parent.fork("timers"), "c2786d23261e0c24cb887286dc21babb5ade0b0a87f9269f96cd041876e8e9e4"),
        (parent.fork("peer").fork("a"), "284de76a3375512706c404411a510f4270368ca82f30314c6620e1802309bc1d"),
    ];
    for (seed, stream) in expected {
        assert_eq!(fingerprint(&seed), stream);
    }
}

#[test]
fn a_path_of_forks_is_not_its_concatenation() {
    let parent = Seed::fixed(7);
    let seen = [
        parent.fork("ab"),
        parent.fork("a").fork("b"),
        parent.fork("b").fork("a"),
        parent.fork("a"),
        parent.fork(""),
        parent.fork("").fork(""),
        Seed::fixed(7),
    ]
    .map(|seed| fingerprint(&seed));
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len());
}

#[test]
fn drawing_from_a_seed_does_not_move_its_children() {
    let (quiet, busy) = (Seed::fixed(3), Seed::fixed(3));
    busy.rng().fill(&mut [0; 1000]);
    busy.fork("other").rng().fill(&mut [0; 1000]);
    assert_eq!(fingerprint(&quiet.fork("part")), fingerprint(&busy.fork("part")));
}

#[test]
fn the_bytes_are_not_shown() {
    let shown = format!("{:?}", Seed::from_bytes([0xab; 32]));
    assert_eq!(shown, "Seed { .. }");
}

#[cfg(feature = "os")]
#[test]
fn two_seeds_of_the_system_differ() {
    let (one, two) = (Seed::from_os().unwrap(), Seed::from_os().unwrap());
    assert_ne!(fingerprint(&one), fingerprint(&two));
}
