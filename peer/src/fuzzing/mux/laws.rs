//! What has to hold, whatever happens.

use crate::mux::{Account, Event, ProtocolId, Urgency};

use super::{BOTH, LIMITS, Muxes, PROTOCOLS, Stream, Way};

impl Muxes {
    pub(super) fn on_event(&mut self, at: usize, event: Event) {
        let deceived = self.ends[at].deceived;
        match event {
            Event::Agreed => assert!(deceived || self.ends[at].greeted),
            Event::Opened { stream, protocol, .. } => {
                let known = self.streams.get(&stream);
                assert!(deceived || known.is_some_and(|known| known.protocol == protocol), "{stream:?} was not opened");
                self.streams.entry(stream).or_insert(Stream { protocol, ways: [Way::default(); 2] });
                self.ends[at].known.push(stream);
            }
            Event::Delivered { stream } => {
                let way = self.streams.get(&stream).and_then(|stream| stream.ways.get(at));
                assert!(deceived || way.is_some_and(|way| way.finished), "{stream:?} was not finished");
            }
            Event::Stopped { stream, .. } => {
                if let Some(way) = self.streams.get_mut(&stream).and_then(|stream| stream.ways.get_mut(at)) {
                    way.given_up = true;
                }
            }
            Event::Acked { protocol, urgency, through } => {
                let channel = self.channels.entry((at, protocol.0, urgency)).or_default();
                assert!(through.0 >= channel.acked && through.0 < channel.lens.len() as u64, "{through} arrived");
                channel.acked = through.0 + 1;
            }
            Event::ChannelClosed { protocol, urgency, account, .. } => {
                let channel = self.channels.entry((at, protocol.0, urgency)).or_default();
                assert!(account.accepted <= channel.lens.len() as u64, "{account:?}");
                channel.resumed_at.insert(usize::try_from(account.accepted).unwrap_or(usize::MAX));
                channel.closed = true;
            }
            Event::ProtocolFailed { protocol, .. } => {
                self.ends[at].failed.insert(protocol);
            }
            _ => {}
        }
    }

    /// What holds at every moment. Counting messages takes time: each call looks at one channel.
    pub(super) fn check(&mut self, side: usize) {
        let held = self.ends[side].mux.buffered_bytes();
        assert!(held <= LIMITS.send_memory + LIMITS.receive_memory, "{held} bytes are held");
        let channels = (0..PROTOCOLS).flat_map(|protocol| BOTH.map(|urgency| (protocol, urgency)));
        if let Some((protocol, urgency)) = channels.cycle().nth(self.checks % (2 * usize::from(PROTOCOLS))) {
            self.account(side, protocol, urgency);
        }
        self.checks = self.checks.wrapping_add(1);
    }

    /// What became of the messages of a channel: of all that were accepted.
    pub(super) fn account(&self, side: usize, protocol: u16, urgency: Urgency) -> Account {
        let account = self.ends[side].mux.account(ProtocolId(protocol), urgency);
        let accepted = self.channels.get(&(side, protocol, urgency)).map_or(0, |channel| channel.lens.len());
        assert_eq!(account.accepted, accepted as u64);
        assert_eq!(account.accepted, account.acked + account.unknown + account.unsent, "{account:?}");
        account
    }

    /// Once packets arrive, everything that was not given up does.
    pub fn finish(mut self) {
        for side in 0..2 {
            (0..self.under_way(side)).for_each(|which| self.lose(side, which));
            self.ends[side].packets.clear();
            self.greet(side);
        }
        for round in 0.. {
            if self.ends.iter().any(|end| end.over) {
                return;
            }
            assert!(round < 20_000, "it never ends");
            let mut idle = true;
            for side in 0..2 {
                for _ in 0..64 {
                    if !self.transmit(side, 0) {
                        break;
                    }
                    idle = false;
                    self.deliver(side, 0);
                    self.acknowledge(side, 0);
                    self.lose(side, 0);
                    self.ends[side].packets.clear();
                }
            }
            for side in 0..2 {
                idle &= !self.read_all(side);
            }
            if idle {
                let wake = self.ends.iter().filter_map(|end| end.mux.deadline()).min();
                let Some(wake) = wake else { break };
                assert!(wake > self.now, "a rate cap is over, and nothing follows");
                self.now = wake;
            }
        }
        if !self.hostile {
            self.check_whole();
        }
    }

    fn read_all(&mut self, side: usize) -> bool {
        self.poll(side);
        let mut any = false;
        for which in 0..self.ends[side].known.len() {
            while self.read(side, which, 5000) {
                any = true;
            }
        }
        for protocol in 0..PROTOCOLS {
            while self.recv(side, protocol) || self.recv_datagram(side, protocol) {
                any = true;
            }
        }
        any
    }

    fn check_whole(&self) {
        for (id, stream) in &self.streams {
            // Who is refused learns it from the other half, even if what it wrote was acknowledged before.
            let failed = self.ends.iter().any(|end| end.failed.contains(&stream.protocol));
            if failed || stream.ways.iter().any(|way| way.given_up) {
                continue;
            }
            for way in &stream.ways {
                assert!(!way.finished || way.ended, "{id:?} stops: {way:?}");
            }
        }
        for ((side, protocol, urgency), channel) in &self.channels {
            let account = self.account(*side, *protocol, *urgency);
            let failed = self.ends.iter().any(|end| end.failed.contains(&ProtocolId(*protocol)));
            if !failed {
                let received = channel.next as u64;
                let lost = account.unknown + account.unsent;
                assert!(received + lost >= account.accepted, "{received} messages came: {account:?}");
                assert!(channel.closed || lost == 0, "{account:?}, and nothing is in the way");
            }
        }
        for end in &self.ends {
            assert!(end.mux.is_flushed(), "something was not sent");
            assert_eq!(end.mux.held_bytes(), 0, "something is held");
        }
    }
}
