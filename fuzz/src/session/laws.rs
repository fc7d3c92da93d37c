//! What must hold of what endpoints send, of what they say, and in the end.

use std::time::Duration;

use peer::endpoint::Event;
use peer::{Closed, Handle, Reason};
use structs::Path;

use super::application::{name, protocol_id};
use super::{BUDGET, BUFFERS, LABEL, LATENCY, MAX_PEERS, MTU, Packet, STRANGERS, World, home, id, is_stranger};

impl World {
    /// Notes which sessions belong together.
    pub(super) fn learn_names(&mut self, end: usize) {
        for (handle, peer) in self.ends[end].endpoint.peers() {
            if !self.names.contains_key(&(end, handle))
                && let Some(name) = peer.exporter(LABEL)
            {
                self.names.insert((end, handle), name);
                let handles = self.sessions.entry(name).or_default();
                assert!(handles[end].replace(handle).is_none(), "a secret of two sessions");
            }
        }
    }

    pub(super) fn on_sent(&mut self, end: usize, path: Path, bytes: &[u8]) {
        self.budget = self.budget.saturating_sub(1);
        let state = &mut self.ends[end];
        assert!(!state.silent, "an endpoint that has ended sends {bytes:02x?}");
        assert_eq!(path.local, home(end));
        let (received, sent) = state.owed.entry(path.remote).or_default();
        *sent += bytes.len() as u64;
        let trusted = !is_stranger(path.remote) || state.proved.contains(&path.remote);
        assert!(trusted || *sent <= 3 * *received, "{} gets {sent} bytes for {received}", path.remote);
        if bytes.first().is_some_and(|first| *first >= 0xe0) {
            assert!(self.sealed.insert(bytes.to_vec()), "a packet is sent twice");
        }
        let packet = Packet { from: state.address, to: path.remote, at: self.now + LATENCY, bytes: bytes.to_vec() };
        if self.history.len() == 256 {
            self.history.pop_front();
        }
        self.history.push_back(packet.clone());
        if bytes.len() <= MTU && self.pending.len() < 1024 {
            self.pending.push_back(packet);
        }
    }

    pub(super) fn on_event(&mut self, end: usize, Event { peer: handle, event }: Event) {
        self.learn_names(end);
        let state = &mut self.ends[end];
        let flow = state.flows.entry(handle).or_default();
        assert!(flow.ended.is_none(), "{event:?} after the end");
        match event {
            peer::Event::Connected(connected) => {
                assert_eq!(connected.peer, id(1 - end), "nobody else has a key");
                state.proved.insert(connected.path.remote);
            }
            peer::Event::PathChanged(path) => {
                let proved = !is_stranger(path.remote) || state.proved.contains(&path.remote);
                assert!(proved, "{} answered nothing", path.remote);
            }
            peer::Event::Mux(peer::mux::Event::Opened { stream, .. }) => {
                let stream = name(end, stream);
                flow.written.entry(stream).or_default();
                flow.read.entry(stream).or_default();
            }
            peer::Event::Mux(peer::mux::Event::Stopped { stream, .. }) => {
                flow.given_up.insert(name(end, stream));
            }
            peer::Event::Mux(event @ peer::mux::Event::ProtocolFailed { .. }) => panic!("{event:?}"),
            peer::Event::Closed(closed) => self.on_closed(end, handle, closed),
            _ => {}
        }
    }

    pub(super) fn on_closed(&mut self, end: usize, handle: Handle, closed: Closed) {
        let innocent = match &closed.reason {
            Reason::Violation(_) | Reason::KeyLimit | Reason::NoCommonVersion => false,
            // What the other side found wrong with us.
            Reason::Remote { code, .. } => !matches!(code, 1..=5 | 9..=11),
            Reason::WrongPeer { obtained } => *obtained == id(1 - end),
            _ => true,
        };
        assert!(innocent, "the network alone did this: {:?}", closed.reason);
        for unfinished in &closed.unfinished {
            let account = unfinished.account;
            assert_eq!(account.accepted, account.acked + account.unknown + account.unsent);
            let channel = (u16::try_from(unfinished.protocol.index()).unwrap_or(u16::MAX), unfinished.urgency);
            let sent = self.ends[end].flows.get(&handle).and_then(|flow| flow.sent.get(&channel).copied());
            assert_eq!(account.accepted, sent.unwrap_or(0));
            if let Some(other) = self.opposite(end, handle) {
                let received = other.received.get(&channel).copied().unwrap_or(0);
                assert!(received <= account.acked + account.unknown, "{received} messages came: {account:?}");
            }
        }
        self.ends[end].flows.entry(handle).or_default().ended = Some(closed);
    }

    pub(super) fn check(&self, end: usize) {
        let endpoint = &self.ends[end].endpoint;
        let held = endpoint.buffered_bytes();
        assert!(held <= MAX_PEERS * BUFFERS + STRANGERS, "{held} bytes are held");
        assert!(endpoint.peers().count() <= 2 * MAX_PEERS, "more peers than are allowed");
    }

    /// Over a good network everything arrives; after the end there is silence.
    pub(super) fn finish(&mut self) {
        for seconds in [1, 4, 12, 12] {
            self.budget = BUDGET;
            (0..2).for_each(|end| self.read_all(end));
            self.ends.iter_mut().for_each(|end| end.dirty = true);
            self.run(Duration::from_secs(seconds));
        }
        (0..2).for_each(|end| self.read_all(end));
        if self.budget > 0 {
            self.check_whole();
        }
        self.budget = BUDGET;
        (0..2).for_each(|end| self.close(end));
        self.ends.iter_mut().for_each(|end| end.dirty = true);
        self.run(Duration::from_secs(12));
        for _ in 0..100 {
            self.drain_all();
            self.pending.clear();
            let Some(next) = self.deadline() else { break };
            self.now = self.now.max(next.at);
        }
        for end in 0..2 {
            let endpoint = &self.ends[end].endpoint;
            assert!(endpoint.is_closed(), "a hundred wake-ups in silence: {endpoint:?}");
            assert_eq!((endpoint.peers().count(), endpoint.buffered_bytes()), (0, 0), "held after the end");
        }
    }

    /// Sessions that are open at both ends have delivered all there was.
    pub(super) fn check_whole(&self) {
        let open = |end: usize, handle: Option<Handle>| {
            let peer = self.ends[end].endpoint.peer(handle?)?;
            (!peer.is_closed()).then_some(peer)
        };
        for handles in self.sessions.values() {
            let [Some(a), Some(b)] = [open(0, handles[0]), open(1, handles[1])] else { continue };
            for (end, peer) in [(0, a), (1, b)] {
                let [Some(from), Some(to)] = [(end, handles[end]), (1 - end, handles[1 - end])]
                    .map(|(end, handle)| self.ends[end].flows.get(&handle?))
                else {
                    continue;
                };
                for (&(protocol, urgency), &sent) in &from.sent {
                    let account = peer.account(protocol_id(protocol), urgency);
                    let received = to.received.get(&(protocol, urgency)).copied().unwrap_or(0);
                    assert_eq!(
                        (received, account.acked),
                        (sent, sent),
                        "messages of {protocol} {urgency:?}: {account:?}"
                    );
                }
                for (stream, &(written, finished)) in &from.written {
                    let given_up = from.given_up.contains(stream) || to.given_up.contains(stream);
                    let read = to.read.get(stream).copied().unwrap_or_default();
                    assert!(given_up || read == (written, finished), "{stream:?}: {read:?} of {written}, {finished}");
                }
            }
        }
    }
}
