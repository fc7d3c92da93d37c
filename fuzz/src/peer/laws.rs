//! What must hold of what the two send, of what they say, and in the end.

use std::net::SocketAddr;
use std::time::Duration;

use crypto::v12::Nonce;
use framing::v12::Kind;
use peer::v12::{Event, Peer, Proof, max_buffered_bytes};
use structs::Deadline;

use super::{LATENCY, Packet, VALUE_LIMIT, World};
use crate::actors::{self, identity};

impl World {
    /// What must hold at every moment.
    pub(super) fn check(&self, end: usize) {
        let Some(peer) = &self.ends[end].peer else { return };
        let (held, max) = (peer.buffered_bytes(), max_buffered_bytes(VALUE_LIMIT));
        assert!(held <= max, "{held} bytes held, {max} at most");
        assert!(peer.path_count() <= 4 && peer.paths().count() == peer.path_count());
        assert!(!peer.is_connected() || peer.proof() > Proof::None);
    }

    pub(super) fn on_sent(&mut self, end: usize, to: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        self.budget = self.budget.saturating_sub(1);
        assert!(!self.ends[end].silent, "a session that is over sends {bytes:02x?}");
        self.ends[end].accounts.on_sent(to, bytes);
        let mut frames = vec![bytes];
        if let Ok(framing::v12::Frame::Batch(batch)) = framing::v12::Frame::decode(bytes) {
            frames.extend(batch.iter());
        }
        for frame in frames {
            if frame.first() == Some(&Kind::Data.byte()) {
                let nonce =
                    frame.get(1..13).and_then(|nonce| nonce.try_into().ok()).map(<Nonce as From<[u8; 12]>>::from);
                self.ends[end].newest_nonce = nonce;
                assert!(self.ends[1 - end].sealed_for.insert(frame.to_vec()), "a nonce is used twice");
            }
        }
        let packet = Packet { from: end, to, at: now + LATENCY, bytes: bytes.to_vec() };
        self.remember(packet.clone());
        self.pending.push_back(packet);
        if self.pending.len() > 4096 {
            self.pending.pop_front();
        }
    }

    pub(super) fn on_event(&mut self, end: usize, event: Event, peer: &mut Peer) {
        let other = *identity(1 - end).public();
        let (forger, now) = (self.forger, self.now);
        let accepts_fragments = self.config != self.config.clone().accept_plaintext_fragments(false);
        let restarted = self.ends.iter().any(|end| end.restarts > 0);
        let [sent, state] = if end == 0 {
            let [state, sender] = &mut self.ends;
            [sender, state]
        } else {
            let [sender, state] = &mut self.ends;
            [sender, state]
        };
        assert!(!state.closed, "{event:?} after the end");
        match event {
            Event::Identified { key } => assert_eq!(peer.remote(), Some(&key)),
            Event::Proved(proof) => {
                assert!(proof > state.proof, "a proof is told once");
                assert!(proof < Proof::Key || peer.remote() == Some(&other), "nobody else has the key");
                state.proof = proof;
            }
            Event::Message { data, authenticated: true } => {
                let times = state.delivered.entry(data.clone()).or_default();
                *times += 1;
                let sent = sent.sent.get(&data).copied().unwrap_or(0);
                assert!(sent > 0, "{data:?} was never sent");
                if !forger {
                    assert!(*times <= sent, "{data:?} was sent {sent} times, and delivered once more");
                    let number = data.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
                    assert!(restarted || number > state.newest, "{number} after {}", state.newest);
                    state.newest = number;
                }
            }
            Event::Message { data, authenticated: false } => {
                assert!(accepts_fragments, "fragments that the configuration forbids");
                assert!(state.tampered || forger || sent.sent.contains_key(&data), "{data:?} was never sent");
            }
            Event::Value { key, value } => {
                assert!(state.wanted.remove(&key), "{key:?} was not asked for");
                assert!(!value.is_empty() && value.len() <= VALUE_LIMIT);
                assert!(state.tampered || value == actors::value(&key), "the value of {key:?}");
            }
            Event::Wanted(key) => {
                let value = actors::value(&key);
                // Busy, or a key that no value can have.
                let _ = peer.serve(key, value.into(), now);
            }
            Event::Peers(peers) => assert!(peers.len() <= 20 && peers.iter().all(|(_, addr)| addr.port() != 0)),
            Event::PathAdded(path) => assert!(state.paths.insert(path.remote), "added twice"),
            Event::PathRemoved(path) => assert!(state.paths.remove(&path.remote), "never added"),
            Event::Closed(_) => state.closed = true,
            _ => {}
        }
    }

    /// Left alone, everything ends, and nothing waits for ever.
    pub(super) fn finish(&mut self) {
        (self.hold_events, self.hold_datagrams) = (false, false);
        self.now += Duration::from_secs(61);
        let start = self.now;
        for _ in 0..100 {
            self.drain(0);
            self.drain(1);
            self.pending.clear();
            let Some(next) = Deadline::earliest(self.timer(0), self.timer(1)) else { break };
            self.now = next.at;
        }
        assert!(self.now - start < Duration::from_secs(120), "minutes of silence, and still there");
        for end in 0..2 {
            let Some(peer) = &self.ends[end].peer else { continue };
            assert!(peer.is_closed(), "a hundred wake-ups in silence");
            assert_eq!(peer.buffered_bytes(), 0, "held after the end");
        }
    }
}
