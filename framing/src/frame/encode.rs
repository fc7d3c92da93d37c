//! Frames to bytes.

use super::{Frame, Stream, kinds};
use crate::packet::stream_overhead;
use crate::{PacketWriter, address, limits, varint};

impl Frame<'_> {
    /// Writes the frame. `false`, and nothing is written, if there is no room for it, or if it is none that
    /// [`decode`](Self::decode) would take: a number above its limit, a reason above 256 bytes, an [`Unknown`](Self::Unknown) type
    /// below 0x40, no padding at all.
    #[must_use]
    pub fn encode(&self, writer: &mut PacketWriter<'_>) -> bool {
        writer.all(|writer| self.write(writer))
    }

    fn write(&self, w: &mut PacketWriter<'_>) -> bool {
        match *self {
            Self::Padding(run) => {
                run != 0
                    && w.reserve(run).is_some_and(|space| {
                        space.fill(0);
                        true
                    })
            }
            Self::Ping => w.varint(kinds::PING),
            Self::Ack(ref ack) => ack.encode(w),
            Self::Hello(hello) => w.varint(kinds::HELLO) && sized(w, hello.body()),
            Self::Close { code, reason } => {
                reason.len() <= limits::MAX_REASON
                    && w.varint(kinds::CLOSE)
                    && w.varint(code.0)
                    && sized(w, reason.as_bytes())
            }
            Self::PathChallenge(data) => w.varint(kinds::PATH_CHALLENGE) && w.put(&data),
            Self::PathResponse(data) => w.varint(kinds::PATH_RESPONSE) && w.put(&data),
            Self::NewCid { sequence, retire_prior_to, cid, token } => {
                retire_prior_to <= sequence
                    && w.varint(kinds::NEW_CID)
                    && w.varint(sequence)
                    && w.varint(retire_prior_to)
                    && w.put(&cid)
                    && w.put(&token)
            }
            Self::RetireCid { sequence } => w.varint(kinds::RETIRE_CID) && w.varint(sequence),
            Self::Rekey(key) => w.varint(kinds::REKEY) && w.put(&key),
            Self::RekeyAck(key) => w.varint(kinds::REKEY_ACK) && w.put(&key),
            Self::Ticket { id, lifetime } => w.varint(kinds::TICKET) && w.put(&id) && w.varint(lifetime.as_secs()),
            Self::Observed(addr) => w.varint(kinds::OBSERVED) && w.put(&address::encode(addr)),
            Self::MaxData(max) => w.varint(kinds::MAX_DATA) && w.varint(max),
            Self::MaxStreamData { id, max } => {
                w.varint(kinds::MAX_STREAM_DATA) && w.varint(id.value()) && w.varint(max)
            }
            Self::MaxStreams(max) => max <= limits::MAX_STREAMS && w.varint(kinds::MAX_STREAMS) && w.varint(max),
            Self::StreamReset { id, code, final_size } => {
                w.varint(kinds::STREAM_RESET) && w.varint(id.value()) && w.varint(code.0) && w.varint(final_size)
            }
            Self::StreamStop { id, code } => w.varint(kinds::STREAM_STOP) && w.varint(id.value()) && w.varint(code.0),
            Self::Datagram { protocol, data } => w.varint(kinds::DATAGRAM) && w.varint(protocol) && sized(w, data),
            Self::Goaway { code } => w.varint(kinds::GOAWAY) && w.varint(code.0),
            Self::Stream(Stream { id, offset, open, fin, data }) => {
                w.stream_header(id, offset, open, fin, data.len()) && w.put(data)
            }
            Self::Unknown { kind, body } => kind >= limits::FIRST_SKIPPABLE && w.varint(kind) && sized(w, body),
        }
    }

    /// How many bytes [`encode`](Self::encode) writes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let sum = |parts: &[usize]| parts.iter().fold(0_usize, |sum, part| sum.saturating_add(*part));
        let with_len = |bytes: &[u8]| varint::len(bytes.len() as u64).saturating_add(bytes.len());
        match *self {
            Self::Padding(run) => run,
            Self::Ping => 1,
            Self::Ack(ref ack) => ack.encoded_len(),
            Self::Hello(hello) => sum(&[1, with_len(hello.body())]),
            Self::Close { code, reason } => sum(&[1, varint::len(code.0), with_len(reason.as_bytes())]),
            Self::PathChallenge(_) | Self::PathResponse(_) => 9,
            Self::NewCid { sequence, retire_prior_to, .. } => {
                sum(&[25, varint::len(sequence), varint::len(retire_prior_to)])
            }
            Self::RetireCid { sequence } => sum(&[1, varint::len(sequence)]),
            Self::Rekey(_) | Self::RekeyAck(_) => 33,
            Self::Ticket { lifetime, .. } => sum(&[17, varint::len(lifetime.as_secs())]),
            Self::Observed(_) => 19,
            Self::MaxData(max) | Self::MaxStreams(max) => sum(&[1, varint::len(max)]),
            Self::MaxStreamData { id, max } => sum(&[1, varint::len(id.value()), varint::len(max)]),
            Self::StreamReset { id, code, final_size } => {
                sum(&[1, varint::len(id.value()), varint::len(code.0), varint::len(final_size)])
            }
            Self::StreamStop { id, code } => sum(&[1, varint::len(id.value()), varint::len(code.0)]),
            Self::Datagram { protocol, data } => sum(&[1, varint::len(protocol), with_len(data)]),
            Self::Goaway { code } => sum(&[1, varint::len(code.0)]),
            Self::Stream(Stream { id, offset, open, data, .. }) => {
                sum(&[stream_overhead(id, offset, open, data.len()), data.len()])
            }
            Self::Unknown { kind, body } => sum(&[varint::len(kind), with_len(body)]),
        }
    }
}

fn sized(writer: &mut PacketWriter<'_>, bytes: &[u8]) -> bool {
    writer.varint(bytes.len() as u64) && writer.put(bytes)
}
