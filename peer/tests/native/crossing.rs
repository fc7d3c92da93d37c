use peer::Target;
use peer::mux::Urgency;
use sim::Link;
use sim::pair::Side;

use crate::support::*;

/// Both dial at the same moment, and both have something to say already: one session, and nothing is lost.
#[test]
fn what_waits_behind_a_dial_that_loses_goes_into_the_session_of_the_other() {
    let mut pair = pair(Link::perfect().delay(ms(30)), 5);
    let (_, ids) = protocols();
    let (a, b) = (identity(1).peer_id(), identity(2).peer_id());
    let (to_b, to_a) = (pair.path(Side::A), pair.path(Side::B));
    let at_a = pair.with_a(|a, now| a.dial(Target::Known(b), to_b, now)).unwrap();
    let at_b = pair.with_b(|b, now| b.dial(Target::Known(a), to_a, now)).unwrap();
    let begin = |peer: &mut peer::Peer, text: &[u8]| {
        let stream = peer.open_stream(ids[BULK]).unwrap();
        assert_eq!(peer.write(stream, text), Ok(text.len()));
        peer.finish_stream(stream).unwrap();
        peer.send(ids[ECHO], text, Urgency::Normal).unwrap();
        stream
    };
    let from_a = pair.with_a(|a, now| a.with(at_a, now, |peer, _| begin(peer, b"from a"))).unwrap();
    let from_b = pair.with_b(|b, now| b.with(at_b, now, |peer, _| begin(peer, b"from b"))).unwrap();
    pair.run_for(ms(2000));
    assert_eq!((pair.a.peers().count(), pair.b.peers().count()), (1, 1));
    let finish = |peer: &mut peer::Peer, theirs: framing::StreamId| {
        let (mut message, mut bytes) = (Vec::new(), vec![0; 100]);
        peer.recv(ids[ECHO], &mut message).unwrap();
        let read = peer.read(theirs.mirrored(), &mut bytes);
        assert_eq!(read, Ok(peer::mux::Read::Bytes(6)));
        bytes.truncate(6);
        assert_eq!(message, bytes);
        message
    };
    assert_eq!(pair.with_a(|a, now| a.with(at_a, now, |peer, _| finish(peer, from_b))).unwrap(), b"from b");
    assert_eq!(pair.with_b(|b, now| b.with(at_b, now, |peer, _| finish(peer, from_a))).unwrap(), b"from a");
}
