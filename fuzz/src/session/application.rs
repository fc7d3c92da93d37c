//! What applications do at either end, and what they may see of each other.

use framing::{Role, StreamCode, StreamId};
use peer::Handle;
use peer::mux::{ProtocolId, Read, SendError, Urgency, WriteError};

use super::{Stream, World, protocols};
use crate::input::{Input, pattern};

impl World {
    pub(super) fn send(&mut self, end: usize, which: u8, protocol: u16, urgency: Urgency, input: &mut Input<'_>) {
        let (Some(handle), len, now) = (self.handle(end, which), input.len(), self.now) else { return };
        for _ in 0..=input.u8() / 16 {
            let state = &mut self.ends[end];
            let sent = state.flows.entry(handle).or_default().sent.entry((protocol, urgency)).or_default();
            let message = message(end, (protocol, urgency), *sent, len);
            let result =
                state.endpoint.with(handle, now, |peer, _| peer.send(protocol_id(protocol), &message, urgency));
            match result.expect("it is there") {
                Ok(number) => {
                    assert_eq!(number.0, *sent, "messages are numbered as they are accepted");
                    *sent += 1;
                }
                Err(SendError::TooLarge { max, .. }) => assert!(message.len() > max),
                Err(SendError::Blocked | SendError::Stopped { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(super) fn send_datagram(&mut self, end: usize, which: u8, protocol: u16, len: usize) {
        let (Some(handle), now) = (self.handle(end, which), self.now) else { return };
        let state = &mut self.ends[end];
        let flow = state.flows.entry(handle).or_default();
        let data = message(end, (protocol, Urgency::Normal), flow.datagrams, len);
        let sent = state.endpoint.with(handle, now, |peer, _| peer.send_datagram(protocol_id(protocol), &data));
        flow.datagrams += u64::from(sent.is_some_and(|sent| sent.is_ok()));
    }

    pub(super) fn open(&mut self, end: usize, which: u8, protocol: u16) {
        let (Some(handle), now) = (self.handle(end, which), self.now) else { return };
        let state = &mut self.ends[end];
        let opened = state.endpoint.with(handle, now, |peer, _| peer.open_stream(protocol_id(protocol)));
        if let Some(Ok(id)) = opened {
            let flow = state.flows.entry(handle).or_default();
            let (written, read) = (&mut flow.written, &mut flow.read);
            assert!(written.insert(name(end, id), (0, false)).is_none(), "{id:?} was opened before");
            read.insert(name(end, id), (0, false));
        }
    }

    /// One of the streams that are known in a session.
    pub(super) fn stream(&self, end: usize, which: u8, input: &mut Input<'_>) -> Option<(Handle, Stream)> {
        let handle = self.handle(end, which)?;
        let known = &self.ends[end].flows.get(&handle)?.written;
        let at = input.below(256).checked_rem(known.len())?;
        Some((handle, *known.keys().nth(at)?))
    }

    pub(super) fn write(&mut self, end: usize, which: u8, input: &mut Input<'_>) {
        let (Some((handle, stream)), now) = (self.stream(end, which, input), self.now) else { return };
        let state = &mut self.ends[end];
        let Some(flow) = state.flows.get_mut(&handle) else { return };
        let Some((written, finished)) = flow.written.get_mut(&stream) else { return };
        let data: Vec<u8> = (*written..).take(input.len()).map(|at| byte(end, stream, at)).collect();
        let result = state.endpoint.with(handle, now, |peer, _| peer.write(stream_id(end, stream), &data));
        match result.expect("it is there") {
            Ok(taken) => {
                assert!(!*finished && taken <= data.len());
                *written += taken as u64;
            }
            Err(WriteError::Blocked | WriteError::Closed) => {}
            Err(_) => drop(flow.given_up.insert(stream)),
        }
    }

    pub(super) fn end_stream(&mut self, end: usize, which: u8, how: usize) {
        let (Some(handle), now) = (self.handle(end, which), self.now) else { return };
        let state = &mut self.ends[end];
        let Some(flow) = state.flows.get_mut(&handle) else { return };
        let Some(stream) = flow.written.keys().nth(usize::from(which) % flow.written.len().max(1)).copied() else {
            return;
        };
        let id = stream_id(end, stream);
        let code = StreamCode::application(1);
        let done = state.endpoint.with(handle, now, |peer, _| match how {
            0 => peer.finish_stream(id).is_ok(),
            1 => peer.reset_stream(id, code).is_ok(),
            _ => peer.stop_stream(id, code).is_ok(),
        });
        match (done, how) {
            (Some(true), 0) => flow.written.entry(stream).or_default().1 = true,
            (Some(true), _) => drop(flow.given_up.insert(stream)),
            _ => {}
        }
    }

    /// Takes everything that came.
    pub(super) fn read_all(&mut self, end: usize) {
        let handles: Vec<Handle> = self.ends[end].endpoint.peers().map(|(handle, _)| handle).collect();
        for handle in handles {
            self.read_messages(end, handle);
            self.read_streams(end, handle);
        }
    }

    pub(super) fn read_messages(&mut self, end: usize, handle: Handle) {
        let (now, mut out) = (self.now, Vec::new());
        for protocol in 0..2 {
            let id = protocol_id(protocol);
            while self.ends[end].endpoint.with(handle, now, |peer, _| peer.recv(id, &mut out)).flatten().is_some() {
                let urgency = if out.first() == Some(&0) { Urgency::Normal } else { Urgency::Urgent };
                let channel = (protocol, urgency);
                let flow = self.ends[end].flows.entry(handle).or_default();
                let number = flow.received.entry(channel).or_default();
                assert_eq!(out, message(1 - end, channel, *number, out.len()), "not message {number} of {channel:?}");
                *number += 1;
                let number = *number;
                if let Some(other) = self.opposite(end, handle) {
                    let sent = other.sent.get(&channel).copied().unwrap_or(0);
                    assert!(number <= sent, "{number} messages came, {sent} were sent");
                }
            }
            while let Some(data) = self.ends[end].endpoint.with(handle, now, |peer, _| peer.recv_datagram(id)).flatten()
            {
                let number = data.get(1..9).and_then(|number| number.try_into().ok()).map_or(0, u64::from_be_bytes);
                assert_eq!(data, message(1 - end, (protocol, Urgency::Normal), number, data.len()));
            }
        }
    }

    pub(super) fn read_streams(&mut self, end: usize, handle: Handle) {
        let now = self.now;
        let Some(flow) = self.ends[end].flows.get(&handle) else { return };
        let streams: Vec<Stream> = flow.read.keys().copied().collect();
        let mut out = vec![0; 20_000];
        for stream in streams {
            let id = stream_id(end, stream);
            while let Some(Ok(read)) = self.ends[end].endpoint.with(handle, now, |peer, _| peer.read(id, &mut out)) {
                let flow = self.ends[end].flows.entry(handle).or_default();
                let (at, ended) = flow.read.entry(stream).or_default();
                match read {
                    Read::Bytes(len) => {
                        let expected = (*at..).map(|at| byte(1 - end, stream, at));
                        assert!(
                            out[..len].iter().copied().eq(expected.take(len)),
                            "not what was written to {stream:?}"
                        );
                        *at += len as u64;
                    }
                    Read::End => *ended = true,
                }
                let (at, ended) = (*at, *ended);
                if let Some(other) = self.opposite(end, handle) {
                    let (written, finished) = other.written.get(&stream).copied().unwrap_or_default();
                    assert!(at <= written, "{at} bytes came, {written} were written");
                    assert!(!ended || (finished && at == written), "an end that was not set");
                }
                if ended {
                    break;
                }
            }
        }
    }
}

pub(super) fn protocol_id(protocol: u16) -> ProtocolId {
    let name = if protocol == 0 { "a" } else { "b" };
    protocols().id(name).expect("it is registered")
}

/// The name of a stream as an end has it: there, its own are those of a dialler.
pub(super) fn name(end: usize, id: StreamId) -> Stream {
    (if id.opener() == Role::Dialler { end } else { 1 - end }, id.index())
}

pub(super) fn stream_id(end: usize, (opener, index): Stream) -> StreamId {
    StreamId::new(index, if opener == end { Role::Dialler } else { Role::Responder })
}

pub(super) fn byte(writer: usize, (opener, index): Stream, at: u64) -> u8 {
    let [low, high, ..] = (at.wrapping_mul(7) ^ at >> 8).to_le_bytes();
    let [salt, ..] = (index * 4 + opener as u64 * 2 + writer as u64).wrapping_mul(29).to_le_bytes();
    low ^ high.rotate_left(3) ^ salt
}

/// Urgency, number, where it is from, and some bytes.
pub(super) fn message(from: usize, (protocol, urgency): (u16, Urgency), number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![u8::from(urgency == Urgency::Urgent)];
    bytes.extend(number.to_be_bytes());
    bytes.extend(protocol.to_be_bytes());
    bytes.push(u8::from(from == 1));
    bytes.extend(pattern(0, len.saturating_sub(bytes.len())));
    bytes
}
