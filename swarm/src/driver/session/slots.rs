//! What the streams of a session are for.

use bytes::Bytes;
use framing::{Role, StreamId};
use structs::SequenceMap;

use super::requests::{Calling, Hearing};
use super::streams::Piped;
use crate::driver::bodies::Held;

/// What a stream is for.
#[derive(Debug)]
pub(super) enum Slot {
    /// A handle of the application has it.
    Piped(Box<Piped>),
    /// A request of ours.
    Calling(Calling),
    /// The other side opened it and has not said in full what for.
    Naming { request: bool, bytes: Vec<u8>, sweeps: u8 },
    /// A request of the other side is coming in.
    Hearing(Box<Hearing>),
    /// Its handler is at work, on a request of so many bytes.
    Thinking { body: usize, _held: Option<Held> },
    /// Our answer is going out.
    Answering { bytes: Bytes },
}

impl Slot {
    /// Whether it is a request of the other side.
    pub(super) const fn is_asked(&self) -> bool {
        match self {
            Self::Naming { request, .. } => *request,
            Self::Hearing { .. } | Self::Thinking { .. } | Self::Answering { .. } => true,
            Self::Piped(_) | Self::Calling(_) => false,
        }
    }

    /// Of which of the two protocols its stream is.
    pub(super) fn is_request(&self) -> bool {
        match self {
            Self::Piped(_) => false,
            Self::Naming { request, .. } => *request,
            Self::Calling(_) | Self::Hearing { .. } | Self::Thinking { .. } | Self::Answering { .. } => true,
        }
    }
}

/// The slots of all streams, found by the index that each side counts its own with.
#[derive(Debug, Default)]
pub(super) struct Slots {
    of_dialler: SequenceMap<Slot>,
    of_responder: SequenceMap<Slot>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.of_dialler.len() + self.of_responder.len()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, stream: StreamId) -> Option<&mut Slot> {
        self.side(stream).get_mut(stream.index())
    }

    #[inline]
    pub(super) fn insert(&mut self, stream: StreamId, slot: Slot) {
        self.side(stream).insert(stream.index(), slot);
    }

    #[inline]
    pub(super) fn remove(&mut self, stream: StreamId) -> Option<Slot> {
        self.side(stream).remove(stream.index())
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Slot> {
        self.iter().map(|(_, slot)| slot)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.of_dialler.iter_mut().chain(self.of_responder.iter_mut()).map(|(_, slot)| slot)
    }

    /// All of one opener, then all of the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamId, &Slot)> {
        let of_dialler = self.of_dialler.iter().map(|(index, slot)| (StreamId::new(index, Role::Dialler), slot));
        of_dialler.chain(self.of_responder.iter().map(|(index, slot)| (StreamId::new(index, Role::Responder), slot)))
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (StreamId, Slot)> {
        let of_dialler = self.of_dialler.into_iter().map(|(index, slot)| (StreamId::new(index, Role::Dialler), slot));
        of_dialler
            .chain(self.of_responder.into_iter().map(|(index, slot)| (StreamId::new(index, Role::Responder), slot)))
    }

    /// Bytes of requests of the other side that are coming in, or are not answered yet.
    pub(super) fn bodies(&self) -> usize {
        let body = |slot: &Slot| match slot {
            Slot::Hearing(hearing) => hearing.body.len(),
            Slot::Thinking { body, .. } => *body,
            _ => 0,
        };
        self.values().map(body).sum()
    }

    /// Gives back memory that is not in use.
    pub(super) fn tidy(&mut self) {
        self.of_dialler.shrink_to_fit();
        self.of_responder.shrink_to_fit();
    }

    fn side(&mut self, stream: StreamId) -> &mut SequenceMap<Slot> {
        match stream.opener() {
            Role::Dialler => &mut self.of_dialler,
            Role::Responder => &mut self.of_responder,
        }
    }
}
