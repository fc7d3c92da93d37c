//! Messages: each behind its length, on one stream for each protocol, urgency and direction.

use std::collections::VecDeque;

use framing::{PacketWriter, StreamCode, StreamKind, varint};

use super::datagram::Queue;
use super::event::{Account, MessageId, Urgency};
use super::stream::{NONE, Slot};

/// The messages of one protocol and urgency, both ways.
#[derive(Debug)]
pub(super) struct Channel {
    /// The half of the stream that carries ours, once there was one to carry.
    pub(super) send: Slot,
    /// That which carries theirs.
    pub(super) recv: Slot,
    /// The application waits, and there is no stream that would tell when it may go on.
    pub(super) waiting: bool,
    /// An event tells, when it is polled, what was acknowledged until then: up to this message.
    pub(super) acked_queued: bool,
    pub(super) through: MessageId,
    /// How many were acknowledged before the stream that is open now.
    pub(super) acked_before: u64,
    /// Why nothing is sent any more.
    pub(super) closed: Option<StreamCode>,
    /// All that were accepted, and what is known of them; those on an open stream are not resolved yet.
    pub(super) account: Account,
}

impl Channel {
    const fn new() -> Self {
        let account = Account { accepted: 0, acked: 0, unknown: 0, unsent: 0 };
        Self {
            send: NONE,
            recv: NONE,
            waiting: false,
            acked_queued: false,
            acked_before: 0,
            through: MessageId(0),
            closed: None,
            account,
        }
    }

    /// So many messages more were acknowledged. They follow those that came to nothing with an earlier stream.
    pub(super) const fn on_acked(&mut self, whole: u64) {
        self.account.acked += whole;
        let resolved = self.account.acked + self.account.unknown + self.account.unsent;
        self.through = MessageId(resolved.saturating_sub(1));
    }
}

/// One of which nothing is known.
static UNUSED: Channel = Channel::new();

/// What a session keeps for each protocol.
#[derive(Debug)]
pub(super) struct Lane {
    /// Made when they are first used: a node has many protocols, and few of them are used with any one peer.
    normal: Option<Box<Channel>>,
    urgent: Option<Box<Channel>>,
    /// Sending halves, but that of the urgent messages, that have something new which their credit allows.
    pub(super) ready: VecDeque<Slot>,
    /// The place in our list that we open streams with.
    pub(super) entry: Option<u8>,
    /// Why the protocol was stopped.
    pub(super) failed: Option<StreamCode>,
    /// Datagrams that wait to be sent, and to be received.
    pub(super) outgoing: Option<Box<Queue>>,
    pub(super) incoming: Option<Box<Queue>>,
    /// Datagrams that were dropped since this was last told: of ours, of theirs.
    pub(super) dropped: [u32; 2],
    /// It is the turn of the datagrams, not of the streams.
    pub(super) datagrams_next: bool,
    /// The application knows that there are messages, or datagrams.
    pub(super) message_told: bool,
    pub(super) datagram_told: bool,
}

impl Lane {
    pub(super) const fn new(entry: Option<u8>) -> Self {
        Self {
            normal: None,
            urgent: None,
            ready: VecDeque::new(),
            entry,
            failed: None,
            outgoing: None,
            incoming: None,
            dropped: [0; 2],
            datagrams_next: false,
            message_told: false,
            datagram_told: false,
        }
    }

    /// Whether it is as [new](Self::new).
    pub(super) fn is_unused(&self) -> bool {
        let Self { normal, urgent, ready, entry: _, failed, outgoing, incoming, dropped, .. } = self;
        normal.is_none()
            && urgent.is_none()
            && ready.is_empty()
            && failed.is_none()
            && outgoing.is_none()
            && incoming.is_none()
            && *dropped == [0; 2]
            && !self.message_told
            && !self.datagram_told
    }

    #[inline]
    pub(super) fn channel(&self, urgency: Urgency) -> &Channel {
        let channel = match urgency {
            Urgency::Normal => &self.normal,
            Urgency::Urgent => &self.urgent,
        };
        channel.as_deref().unwrap_or(&UNUSED)
    }

    const fn place(&mut self, urgency: Urgency) -> &mut Option<Box<Channel>> {
        match urgency {
            Urgency::Normal => &mut self.normal,
            Urgency::Urgent => &mut self.urgent,
        }
    }

    #[inline]
    pub(super) fn channel_mut(&mut self, urgency: Urgency) -> &mut Channel {
        self.place(urgency).get_or_insert_with(|| Box::new(Channel::new()))
    }

    /// The same, if it was ever used.
    pub(super) fn used_channel(&mut self, urgency: Urgency) -> Option<&mut Channel> {
        self.place(urgency).as_deref_mut()
    }
}

impl Urgency {
    pub(super) const BOTH: [Self; 2] = [Self::Urgent, Self::Normal];

    pub(super) const fn kind(self) -> StreamKind {
        match self {
            Self::Normal => StreamKind::Messages,
            Self::Urgent => StreamKind::Urgent,
        }
    }

    /// The urgency of what a stream carries, if that is messages.
    pub(super) const fn of(kind: StreamKind) -> Option<Self> {
        match kind {
            StreamKind::Bytes => None,
            StreamKind::Messages => Some(Self::Normal),
            StreamKind::Urgent => Some(Self::Urgent),
        }
    }
}

/// The length that stands in front of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix {
    bytes: [u8; varint::MAX_LEN],
    len: usize,
}

impl Prefix {
    #[inline]
    pub(super) fn new(len: usize) -> Self {
        let mut bytes = [0; varint::MAX_LEN];
        let mut writer = PacketWriter::new(&mut bytes);
        let fits = writer.varint(len as u64);
        debug_assert!(fits, "no message is that long");
        let len = writer.len();
        Self { bytes, len }
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
