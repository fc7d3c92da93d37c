//! decode(encode(x)) = x for every frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use framing::{
    CloseCode, EcnCounts, Frame, Open, PacketWriter, Role, Stream, StreamCode, StreamId, StreamKind, stream_overhead,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{encode, only, roundtrip};

/// Any value of a variable-length integer, the small ones as likely as the large.
pub(super) fn number() -> impl Strategy<Value = u64> {
    (0..1_u64 << 62, 0..62_u32).prop_map(|(value, shift)| value >> shift)
}

pub(super) fn stream_id() -> impl Strategy<Value = StreamId> {
    (0..1_u64 << 60, 0..60_u32, any::<bool>()).prop_map(|(index, shift, dialler)| {
        StreamId::new(index >> shift, if dialler { Role::Dialler } else { Role::Responder })
    })
}

pub(super) fn open() -> impl Strategy<Value = Open> {
    let kind = prop_oneof![Just(StreamKind::Bytes), Just(StreamKind::Messages), Just(StreamKind::Urgent)];
    (number(), kind).prop_map(|(protocol, kind)| Open { protocol, kind })
}

/// Ranges that descend, with gaps.
pub(super) fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u64>>> {
    (1_u64 << 61..1 << 62, vec((2..1_u64 << 50, 0..1_u64 << 50, 0..50_u32, 0..50_u32), 1..64)).prop_map(
        |(top, steps)| {
            let mut low = top;
            steps
                .into_iter()
                .map(|(gap, len, gap_shift, len_shift)| {
                    let high = low - (gap >> gap_shift).max(2);
                    low = high - (len >> len_shift);
                    low..=high
                })
                .collect()
        },
    )
}

pub(super) fn ecn() -> impl Strategy<Value = EcnCounts> {
    (number(), number(), number()).prop_map(|(ect0, ect1, ce)| EcnCounts { ect0, ect1, ce })
}

proptest! {
    #[test]
    fn control(a in number(), b in number(), id in stream_id(), bytes8: [u8; 8], bytes16: [u8; 16], bytes32: [u8; 32],
               run in 1..3000_usize, reason in "\\PC{0,64}") {
        // Zeros next to each other are one frame.
        let padding = Frame::Padding(run);
        let bytes = encode(&padding);
        prop_assert_eq!(only(&bytes), padding);
        roundtrip(&Frame::Ping);
        roundtrip(&Frame::Close { code: CloseCode(a), reason: &reason });
        roundtrip(&Frame::PathChallenge(bytes8));
        roundtrip(&Frame::PathResponse(bytes8));
        roundtrip(&Frame::NewCid { sequence: a.max(b), retire_prior_to: a.min(b), cid: bytes8, token: bytes16 });
        roundtrip(&Frame::RetireCid { sequence: a });
        roundtrip(&Frame::Rekey(bytes32));
        roundtrip(&Frame::RekeyAck(bytes32));
        roundtrip(&Frame::Ticket { id: bytes16, lifetime: Duration::from_secs(a) });
        roundtrip(&Frame::MaxData(a));
        roundtrip(&Frame::MaxStreamData { id, max: a });
        roundtrip(&Frame::MaxStreams(a >> 2));
        roundtrip(&Frame::StreamReset { id, code: StreamCode(a), final_size: b });
        roundtrip(&Frame::StreamStop { id, code: StreamCode(a) });
        roundtrip(&Frame::Goaway { code: CloseCode(a) });
    }

    #[test]
    fn addresses(v4: u32, v6: u128, port: u16) {
        let v6 = IpAddr::from(Ipv6Addr::from(v6)).to_canonical();
        for ip in [Ipv4Addr::from(v4).into(), v6] {
            roundtrip(&Frame::Observed(SocketAddr::new(ip, port)));
        }
    }

    #[test]
    fn data(id in stream_id(), offset in 0..1_u64 << 61, shift in 0..61_u32, open in option::of(open()), fin: bool,
            protocol in number(), data in vec(any::<u8>(), 0..1500), kind in 0x40..1_u64 << 62) {
        let offset = offset >> shift;
        let stream = Frame::Stream(Stream { id, offset, open, fin, data: &data });
        roundtrip(&stream);
        prop_assert_eq!(encode(&stream).len(), stream_overhead(id, offset, open, data.len()) + data.len());
        roundtrip(&Frame::Datagram { protocol, data: &data });
        roundtrip(&Frame::Unknown { kind, body: &data });
    }

    #[test]
    fn acknowledgements(ranges in ranges(), delay in number(), ecn in option::of(ecn())) {
        let mut space = [0; 2000];
        let mut writer = PacketWriter::new(&mut space);
        prop_assert!(writer.ack(ranges.iter().cloned(), Duration::from_micros(delay), ecn));
        let Frame::Ack(ack) = only(writer.written()) else { panic!("no ACK") };
        prop_assert_eq!(ack.largest(), *ranges[0].end());
        prop_assert_eq!(ack.delay(), Duration::from_micros(delay));
        prop_assert_eq!(ack.ecn(), ecn);
        prop_assert_eq!(ack.ranges().len(), ranges.len());
        prop_assert_eq!(ack.ranges().collect::<Vec<_>>(), ranges);
        prop_assert_eq!(encode(&Frame::Ack(ack)), writer.written());
        roundtrip(&Frame::Ack(ack));
    }
}

#[test]
fn numbers_of_streams() {
    let id = StreamId::new(5, Role::Responder);
    assert_eq!((id.value(), id.index(), id.opener()), (11, 5, Role::Responder));
    assert_eq!(StreamId::from_value(11), Some(id));
    assert_eq!(StreamId::from_value((1 << 61) - 1), Some(StreamId::new((1 << 60) - 1, Role::Responder)));
    assert_eq!(StreamId::from_value(1 << 61), None);
    assert_eq!(id.mirrored(), StreamId::new(5, Role::Dialler));
    assert_eq!(id.mirrored().mirrored(), id);
    assert_eq!(Role::Dialler.other(), Role::Responder);
    assert_eq!(Role::Responder.other(), Role::Dialler);
}

#[test]
fn codes_of_applications_stand_above_those_of_the_protocol() {
    assert_eq!(CloseCode::application(0), CloseCode(0x100));
    assert_eq!(CloseCode::application(7).as_application(), Some(7));
    assert_eq!(CloseCode::SHUTDOWN.as_application(), None);
    assert_eq!(StreamCode::application(u64::MAX).0, (1 << 62) - 1);
    assert_eq!(CloseCode::FLOW_CONTROL.to_string(), "flow control violation");
    assert_eq!(StreamCode(0x1ff).to_string(), "code 0x1ff");
}

#[test]
fn what_no_receiver_takes_is_not_written() {
    let above = 1_u64 << 62;
    let long = "x".repeat(257);
    let frames = [
        Frame::Padding(0),
        Frame::Close { code: CloseCode(above), reason: "" },
        Frame::Close { code: CloseCode::NONE, reason: &long },
        Frame::NewCid { sequence: 1, retire_prior_to: 2, cid: [0; 8], token: [0; 16] },
        Frame::MaxData(above),
        Frame::MaxStreams((1 << 60) + 1),
        Frame::Unknown { kind: 0x3f, body: &[] },
        Frame::Stream(Stream {
            id: StreamId::new(0, Role::Dialler),
            offset: above - 2,
            open: None,
            fin: false,
            data: b"two",
        }),
    ];
    for frame in frames {
        let mut space = [0; 400];
        let mut writer = PacketWriter::new(&mut space);
        assert!(!frame.encode(&mut writer), "{frame:?}");
        assert!(writer.is_empty(), "{frame:?}");
    }
}

#[test]
fn what_asks_for_an_acknowledgement() {
    let mut space = [0; 10];
    let mut writer = PacketWriter::new(&mut space);
    assert!(writer.ack([3..=4], Duration::ZERO, None));
    assert!(!only(writer.written()).is_ack_eliciting());
    assert!(!Frame::Padding(1).is_ack_eliciting());
    assert!(!Frame::Close { code: CloseCode::NONE, reason: "" }.is_ack_eliciting());
    assert!(Frame::Ping.is_ack_eliciting());
    assert!(Frame::Unknown { kind: 0x40, body: &[] }.is_ack_eliciting());
}
