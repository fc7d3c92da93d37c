//! The queue between the net task and one reader of events.
//!
//! It has a bound, and unlike a channel it can give up its oldest messages for new ones. One lock, held to move an event.

#![expect(clippy::disallowed_types, reason = "the lock of the queue: see above")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::events::SwarmEvent;
use super::limits::EVENTS;

/// What happens to messages for a reader of events who is behind: 256 events wait for him, and one more comes.
///
/// Whatever it is, who is connected is never lost, and a reader who lost messages is told how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// They wait in their sessions, and their senders with them, for 0.1 s; then the newest are lost to this reader.
    #[default]
    Patience,
    /// They wait, however long it takes. Other readers of events wait too.
    Wait,
    /// The newest are lost to this reader, at once.
    DropNewest,
    /// The oldest are lost to this reader, at once: he sees what is new.
    DropOldest,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when half of the queue is free, if somebody wants to know.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<SwarmEvent>,
    /// Messages that gave way to newer ones since the reader was told of it last.
    given_up: u64,
    reader: Option<Waker>,
    wants_room: bool,
    sender_gone: bool,
    reader_gone: bool,
}

impl Shared {
    /// Asks to be told of room. False if there is some.
    fn wait_for_room(&self) -> bool {
        let mut state = self.state();
        state.wants_room = state.events.len() > EVENTS / 2 && !state.reader_gone;
        state.wants_room
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the net task.
#[derive(Debug)]
pub(crate) struct Sender(Arc<Shared>);

/// The end of the reader.
#[derive(Debug)]
pub(crate) struct Receiver(Arc<Shared>);

/// Both ends of a new queue.
pub(crate) fn queue() -> (Sender, Receiver) {
    let shared = Arc::<Shared>::default();
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Sender {
    pub(crate) fn is_closed(&self) -> bool {
        self.0.state().reader_gone
    }

    /// How many more events there is room for.
    pub(crate) fn capacity(&self) -> usize {
        EVENTS.saturating_sub(self.0.state().events.len())
    }

    /// Adds an event. False if there is no room.
    pub(crate) fn try_send(&self, event: SwarmEvent) -> bool {
        let mut state = self.0.state();
        if state.events.len() >= EVENTS || state.reader_gone {
            return false;
        }
        push(&mut state, event);
        true
    }

    /// Adds an event, and takes out the oldest message if that makes room. False if there is none.
    pub(crate) fn force(&self, event: SwarmEvent) -> bool {
        let mut state = self.0.state();
        if state.events.len() >= EVENTS {
            let Some(oldest) = state.events.iter().position(|event| matches!(event, SwarmEvent::Data(_))) else {
                return false;
            };
            state.events.remove(oldest);
            state.given_up += 1;
        }
        push(&mut state, event);
        true
    }

    /// Resolves when half of the queue is free, so that the net task is not woken for every event that is read.
    /// Cancel-safe.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.0);
        async move {
            loop {
                let mut room = std::pin::pin!(shared.room.notified());
                room.as_mut().enable();
                if !shared.wait_for_room() {
                    return;
                }
                room.await;
            }
        }
    }
}

fn push(state: &mut State, event: SwarmEvent) {
    state.events.push_back(event);
    if let Some(reader) = state.reader.take() {
        reader.wake();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.sender_gone = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

impl Receiver {
    /// The next event; `None` once the net task has dropped its end and all were read. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Option<SwarmEvent> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next event, if one waits.
    pub(crate) fn try_recv(&mut self) -> Option<SwarmEvent> {
        self.take(&mut self.0.state())
    }

    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Option<SwarmEvent>> {
        let mut state = self.0.state();
        if let Some(event) = self.take(&mut state) {
            return Poll::Ready(Some(event));
        }
        if state.sender_gone {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn take(&self, state: &mut State) -> Option<SwarmEvent> {
        if state.given_up > 0 {
            return Some(SwarmEvent::Lagged(std::mem::take(&mut state.given_up)));
        }
        let event = state.events.pop_front()?;
        if state.events.len() <= EVENTS / 2 && std::mem::take(&mut state.wants_room) {
            self.0.room.notify_waiters();
        }
        Some(event)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.reader_gone = true;
        state.events = VecDeque::new();
        drop(state);
        self.0.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerId;

    fn missed(count: u64) -> SwarmEvent {
        SwarmEvent::Missed { from: PeerId::from_bytes([0; 32]), count }
    }

    fn message() -> SwarmEvent {
        let from = PeerId::from_bytes([0; 32]);
        let (data, security) = (bytes::Bytes::new(), crate::Security::Native);
        SwarmEvent::Data(super::super::Message { from, data, topic: None, authenticated: true, security })
    }

    #[test]
    fn a_full_queue_refuses_or_gives_up_its_oldest_message_and_nothing_else() {
        let (sender, mut receiver) = queue();
        assert!(sender.try_send(missed(0)) && sender.try_send(message()));
        for count in 2..EVENTS as u64 {
            assert!(sender.try_send(missed(count)));
        }
        assert!(!sender.try_send(message()) && sender.capacity() == 0);
        assert!(sender.force(missed(EVENTS as u64)), "the message goes");
        assert!(!sender.force(message()), "nothing is left that may go");
        assert!(matches!(receiver.try_recv(), Some(SwarmEvent::Lagged(1))));
        let counts: Vec<u64> = std::iter::from_fn(|| receiver.try_recv())
            .map(|event| if let SwarmEvent::Missed { count, .. } = event { count } else { panic!("{event:?}") })
            .collect();
        assert_eq!(counts, [0].into_iter().chain(2..=EVENTS as u64).collect::<Vec<_>>());
        drop(receiver);
        assert!(sender.is_closed() && !sender.try_send(message()));
    }

    #[tokio::test]
    async fn a_reader_is_woken_by_events_and_by_the_end() {
        let (sender, mut receiver) = queue();
        let reading = tokio::spawn(async move {
            let mut read = 0;
            while receiver.recv().await.is_some() {
                read += 1;
            }
            read
        });
        for n in 0..1000 {
            if !sender.try_send(missed(n)) {
                sender.room().await;
                assert!(sender.capacity() >= EVENTS / 2 && sender.try_send(missed(n)));
            }
        }
        drop(sender);
        assert_eq!(reading.await.unwrap(), 1000);
    }
}
