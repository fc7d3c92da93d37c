//! Byte streams that carry datagrams: what comes out of one does not depend on where it is cut.

use framing::Kind;
use swarm::fuzzing;

use crate::input::Input;

/// Reads bytes of anybody, and what the other side of a session writes, in pieces that the input chooses.
pub fn stream(data: &[u8]) {
    let mut input = Input::new(data);
    let honest = input.flip();
    let cuts: [u8; 8] = input.array();
    let (mut bytes, mut sent) = (Vec::new(), Vec::new());
    if honest {
        while !input.is_empty() {
            // The longest are of a length that no field of one byte can say.
            let first = input.pick(&[0xc8, 0xc9, 0xd0, 0xd3, 0xdf, 0xe0, 0xef]);
            let len = input.len().clamp(1, 65_507);
            let mut datagram = vec![input.u8(); len];
            datagram[0] = first;
            fuzzing::push(&mut bytes, &datagram);
            sent.push(datagram);
            if bytes.len() > 1 << 18 {
                break;
            }
        }
    } else {
        bytes.extend_from_slice(input.rest());
    }
    let whole = fuzzing::stream([bytes.as_slice()]);
    let cut = fuzzing::stream(pieces(&bytes, cuts));
    let single = (bytes.len() < 4096).then(|| fuzzing::stream(bytes.chunks(1)));
    // Garbage is garbage wherever it is cut; what stood before it may have been read.
    assert_eq!(cut, whole);
    assert!(single.is_none_or(|single| single == whole));
    if let Some((datagrams, rest)) = whole {
        assert!(datagrams.iter().all(|datagram| (1..=65_507).contains(&datagram.len())));
        let carried = |first: u8| {
            Kind::of(first).is_some_and(|kind| kind.is_session() || matches!(kind, Kind::ToRelay | Kind::FromRelay))
        };
        assert!(datagrams.iter().all(|datagram| carried(datagram[0])));
        assert!(rest.len() < 2 + 65_507);
        let mut again = Vec::new();
        datagrams.iter().for_each(|datagram| fuzzing::push(&mut again, datagram));
        again.extend_from_slice(&rest);
        assert_eq!(again, bytes, "every byte is in a datagram or left");
        assert!(!honest || (datagrams == sent && rest.is_empty()));
    } else {
        assert!(!honest, "what we write is not garbage");
    }
}

fn pieces(bytes: &[u8], cuts: [u8; 8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    let mut cuts = cuts.into_iter().cycle();
    std::iter::from_fn(move || {
        let cut = usize::from(cuts.next()?).pow(2).max(1).min(rest.len());
        let (piece, after) = rest.split_at(cut);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}
