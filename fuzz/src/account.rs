//! The law against amplification, checked from outside: what every address sent, got, and could have proved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use framing::v12::{Frame, Kind};

/// What one machine received from each address and sent to it.
#[derive(Debug, Default)]
pub(crate) struct Accounts(BTreeMap<SocketAddr, Account>);

#[derive(Debug, Default)]
struct Account {
    received: u64,
    sent: u64,
    /// What the machine may spend on its own account: dials.
    granted: u64,
    pongs: u32,
    /// A sealed packet that opens came from here.
    genuine: bool,
}

/// As many answers to PINGs prove an address; with fewer and without a sealed packet it has proved nothing.
const PONGS: u32 = 4;

impl Accounts {
    pub(crate) fn grant(&mut self, to: SocketAddr, bytes: u64) {
        self.0.entry(to).or_default().granted += bytes;
    }

    /// A datagram is handed in; `sealed` holds the DATA frames that were sealed for the machine.
    pub(crate) fn on_received(&mut self, from: SocketAddr, bytes: &[u8], sealed: &BTreeSet<Vec<u8>>) {
        let account = self.0.entry(from).or_default();
        account.received += bytes.len() as u64;
        account.note(bytes, sealed);
        if let Ok(Frame::Batch(frames)) = Frame::decode(bytes) {
            for frame in frames {
                account.note(frame, sealed);
            }
        }
    }

    /// A datagram leaves.
    pub(crate) fn on_sent(&mut self, to: SocketAddr, bytes: &[u8]) {
        let account = self.0.entry(to).or_default();
        account.sent += bytes.len() as u64;
        let unproved = !account.genuine && account.pongs < PONGS;
        let allowed = account.received + account.granted;
        assert!(
            !unproved || account.sent <= allowed,
            "{to} proved nothing and is owed {allowed} bytes, but got {}, the last of them {:02x?}",
            account.sent,
            bytes.get(..bytes.len().min(8)),
        );
    }
}

impl Account {
    fn note(&mut self, frame: &[u8], sealed: &BTreeSet<Vec<u8>>) {
        match frame.first().copied().and_then(Kind::of) {
            Some(Kind::Pong) => self.pongs += 1,
            Some(Kind::Data) => self.genuine |= sealed.contains(frame),
            _ => {}
        }
    }
}
