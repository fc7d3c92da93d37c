//! Datagrams on a byte stream: each behind its length, two bytes, big-endian (SPEC 9.10).

use framing::Kind;
use structs::TransmitBuf;

/// What a stream carries that is not of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Garbage;

/// Appends a datagram. None is longer than [`TransmitBuf::MAX_BATCH`].
pub(crate) fn push(out: &mut Vec<u8>, datagram: &[u8]) {
    if let Ok(len) = u16::try_from(datagram.len()) {
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(datagram);
    }
}

/// How many bytes at the front are whole frames.
///
/// # Errors
///
/// [`Garbage`] as soon as the length or the first byte of a frame is not that of a datagram which a stream may carry.
pub(crate) fn complete(bytes: &[u8]) -> Result<usize, Garbage> {
    let mut at = 0;
    while let Some((len, rest)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk) {
        let len = usize::from(u16::from_be_bytes(*len));
        if len == 0 || len > TransmitBuf::MAX_BATCH || rest.first().is_some_and(|first| !is_carried(*first)) {
            return Err(Garbage);
        }
        if rest.len() < len {
            break;
        }
        at += 2 + len;
    }
    Ok(at)
}

/// The datagrams of whole frames.
pub(crate) fn each(mut frames: &mut [u8], mut each: impl FnMut(&mut [u8])) {
    while let Some((len, rest)) = frames.split_first_chunk_mut() {
        let len = usize::from(u16::from_be_bytes(*len));
        let Some((datagram, rest)) = rest.split_at_mut_checked(len) else { return };
        each(datagram);
        frames = rest;
    }
}

/// Whether datagrams that begin so travel on streams: those of sessions and of circuits.
pub(super) fn is_carried(first: u8) -> bool {
    Kind::of(first).is_some_and(|kind| kind.is_session() || matches!(kind, Kind::ToRelay | Kind::FromRelay))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_wherever_the_stream_is_cut() {
        let datagrams: [&[u8]; 4] = [&[0xe0; 1], &[0xd0; 180], &[0xc8; 1209], &[0xef; 65_507]];
        let mut stream = Vec::new();
        datagrams.iter().for_each(|datagram| push(&mut stream, datagram));
        assert_eq!(stream.len(), 4 * 2 + 1 + 180 + 1209 + 65_507);
        for step in [1, 2, 3, 7, 180, 4096, stream.len()] {
            let (mut partial, mut seen) = (Vec::new(), Vec::new());
            for piece in stream.chunks(step) {
                partial.extend_from_slice(piece);
                let whole = complete(&partial).expect("only datagrams");
                each(&mut partial[..whole], |datagram| seen.push(datagram.to_vec()));
                partial.drain(..whole);
            }
            assert!(partial.is_empty() && seen == datagrams, "in steps of {step}");
        }
    }

    #[test]
    fn what_is_no_datagram_is_known_by_its_third_byte() {
        assert_eq!(complete(&[0, 0]), Err(Garbage));
        assert_eq!(complete(&[0xff, 0xff]), Err(Garbage), "longer than any datagram");
        assert_eq!(complete(b"GET / HTTP/1.1"), Err(Garbage));
        assert_eq!(complete(&[0x16, 0x03]), Ok(0));
        assert_eq!(complete(&[0x16, 0x03, 0x01]), Err(Garbage));
        for first in 0..=255 {
            let carried = matches!(first, 0xc8 | 0xc9 | 0xd0..=0xd7 | 0xdf | 0xe0..=0xef);
            assert_eq!(complete(&[0, 9, first]), if carried { Ok(0) } else { Err(Garbage) }, "{first:x}");
        }
        assert_eq!(complete(&[0, 1, 0xe0, 0, 0]), Err(Garbage), "behind a good one");
        each(&mut [0, 9, 1], |_| panic!("not whole"));
    }
}
