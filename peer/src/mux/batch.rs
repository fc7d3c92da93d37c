//! Many messages in one call, in the form in which they travel: each behind its length (SPEC 8.5).
//!
//! Nothing but the lengths is looked at, and the bytes are moved in runs: a short message costs a few nanoseconds here, where a call
//! for each would cost some fifty.

use framing::{Reader, varint};

use super::Mux;
use super::error::SendError;
use super::event::{MessageId, Urgency};
use super::limits::WRITABLE;
use super::message::Prefix;
use super::protocol::ProtocolId;

/// What was taken from the front of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Batch {
    /// The first message that was taken, or else the next that will be.
    pub first: MessageId,
    /// How many were taken.
    pub messages: u64,
    /// How many bytes of the batch that are, lengths included.
    pub bytes: usize,
}

/// Appends a message to a batch.
#[inline]
pub fn push_message(batch: &mut Vec<u8>, message: &[u8]) {
    batch.extend_from_slice(Prefix::new(message.len()).bytes());
    batch.extend_from_slice(message);
}

/// The messages of a batch in order, up to its end or to one that is not whole.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    left: Reader<'a>,
}

impl<'a> Messages<'a> {
    /// Those of `batch`.
    #[must_use]
    pub const fn new(batch: &'a [u8]) -> Self {
        Self { left: Reader::new(batch) }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut ahead = self.left.clone();
        let message = ahead.long_bytes().ok()?;
        self.left = ahead;
        Some(message)
    }
}

/// How far the messages at the front of a batch can be copied as they are.
#[derive(Debug, Default)]
struct Run {
    messages: u64,
    bytes: usize,
    /// The one behind them, with its length, if there was no room for it.
    blocked: Option<usize>,
}

impl Run {
    /// As many as `room` bytes hold, none longer than `max`.
    #[inline]
    fn new(batch: &[u8], room: usize, max: usize) -> Self {
        let mut run = Self::default();
        let mut left = Reader::new(batch);
        loop {
            let before = left.len();
            let Ok(message) = left.long_bytes() else { return run };
            let (len, whole) = (message.len(), before - left.len());
            // What was written in a longer form than needed, or is too long, is for whoever takes single messages to judge.
            if len > max || whole - len != varint::len(len as u64) {
                return run;
            }
            if whole > room - run.bytes {
                run.blocked = Some(whole);
                return run;
            }
            run.messages += 1;
            run.bytes += whole;
        }
    }
}

impl Mux {
    /// Takes whole messages from the front of `batch`, as many as there is room for; none only if there is no whole one.
    ///
    /// If it was not all that are whole, [`Event::SendReady`](super::Event::SendReady) tells when to go on, unless the next call
    /// says why not.
    pub(crate) fn send_batch(
        &mut self,
        protocol: ProtocolId,
        batch: &[u8],
        urgency: Urgency,
    ) -> Result<Batch, SendError> {
        let mut messages = Messages::new(batch);
        let Some(message) = messages.next() else {
            let channel = self.lanes.get(protocol.index()).ok_or(SendError::NotRegistered)?.channel(urgency);
            return Ok(Batch { first: MessageId(channel.account.accepted), messages: 0, bytes: 0 });
        };
        // Whatever may stand against sending does so for the first.
        let first = self.send(protocol, message, urgency)?;
        let rest = messages.left.rest();
        let mut taken = Batch { first, messages: 1, bytes: batch.len() - rest.len() };

        let theirs = usize::try_from(self.theirs.max_message).unwrap_or(usize::MAX);
        let max = self.limits.max_message.min(theirs);
        let Some(channel) = self.lanes.get_mut(protocol.index()).map(|lane| lane.channel_mut(urgency)) else {
            return Ok(taken);
        };
        let slot = channel.send;
        let Some(held) = self.streams.sends.get(slot).map(|half| half.data.len()) else { return Ok(taken) };
        let run = Run::new(rest, self.room(held), max);
        let Some(half) = self.streams.sends.get_mut(slot) else { return Ok(taken) };
        half.data.append(rest.get(..run.bytes).unwrap_or_default(), &mut self.send_pool);
        self.unsent += run.bytes as u64;
        if let Some(whole) = run.blocked {
            // As for streams: room for one short message is not worth an event.
            Self::wait(&mut self.waiting, half, slot, whole.max(WRITABLE));
        }
        if let Some(lane) = self.lanes.get_mut(protocol.index()) {
            lane.channel_mut(urgency).account.accepted += run.messages;
        }
        taken.messages += run.messages;
        taken.bytes += run.bytes;
        Ok(taken)
    }

    /// Appends whole messages to `out`, urgent ones first, as long as they take at most `max` bytes together or there is only one.
    /// Returns how many there were.
    pub(crate) fn recv_batch(&mut self, protocol: ProtocolId, out: &mut Vec<u8>, max: usize) -> u64 {
        let (mut taken, mut left) = (0, max);
        for urgency in Urgency::BOTH {
            let Some(lane) = self.lanes.get(protocol.index()) else { return 0 };
            let slot = lane.channel(urgency).recv;
            let Some(half) = self.streams.recvs.get_mut(slot) else { continue };
            let (messages, len) = half.whole(self.limits.max_message, left, taken == 0);
            if messages > 0 {
                half.data.extend(half.data.start(), len, out);
                half.consume(len, &mut self.recv_pool);
                let due = half.window.is_due(half.read());
                self.on_read(slot, due, len);
                (taken, left) = (taken + messages, left.saturating_sub(len));
            }
            // It was not the end of what is whole that ended this.
            if self.streams.recvs.get(slot).is_some_and(|half| half.has_whole(self.limits.max_message)) {
                return taken;
            }
            self.inspect(slot, protocol, urgency.kind());
        }
        if let Some(lane) = self.lanes.used_mut(protocol.index()) {
            lane.message_told = false;
        }
        taken
    }

    /// Appends the oldest datagrams to `out`, each behind its length, as many as `max` bytes hold or one. Returns how many.
    pub(crate) fn recv_datagrams(&mut self, protocol: ProtocolId, out: &mut Vec<u8>, max: usize) -> u64 {
        let (mut taken, end) = (0, out.len().saturating_add(max));
        while let Some(len) = self.next_datagram(protocol) {
            if taken > 0 && out.len() + varint::MAX_LEN + len > end {
                return taken;
            }
            out.extend_from_slice(Prefix::new(len).bytes());
            let Some(queue) = self.lanes.used_mut(protocol.index()).and_then(|lane| lane.incoming.as_mut()) else {
                break;
            };
            queue.pop_into(out, &mut self.recv_pool);
            taken += 1;
        }
        taken
    }

    /// The longest message that both sides take, once that is known.
    pub(crate) fn max_message(&self) -> Option<usize> {
        let theirs = usize::try_from(self.theirs.max_message).unwrap_or(usize::MAX);
        self.agreement.as_ref().map(|_| theirs.min(self.limits.max_message))
    }

    /// How many bytes a datagram may have for which none that waits gives way; any number if none waits, `None` if one would
    /// even for an empty one.
    pub(crate) fn datagram_room(&self, protocol: ProtocolId) -> Option<usize> {
        let queue = self.lanes.get(protocol.index()).and_then(|lane| lane.outgoing.as_ref());
        queue.filter(|queue| !queue.is_empty()).map_or(Some(usize::MAX), |queue| queue.room())
    }
}
