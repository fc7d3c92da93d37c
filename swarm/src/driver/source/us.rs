//! What this node says of itself: one signed record for all sources.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::Identity;
use framing::limits::{MAX_RECORD_ADDRESSES, MAX_RECORD_VOUCHERS};
use framing::record::{Record, SignedRecord};
use framing::voucher::Voucher;
use structs::Epoch;

use super::{Reach, Us};

/// Keeps the record true.
#[derive(Debug)]
pub(crate) struct Announcer {
    identity: Arc<Identity>,
    /// The addresses that are worth naming.
    reach: Reach,
    port: u16,
    record: Option<SignedRecord>,
    signed_at: Duration,
}

impl Announcer {
    /// `sockets` are the addresses that the node is bound to.
    pub(crate) fn new(identity: Arc<Identity>, sockets: &[SocketAddr]) -> Self {
        let port = sockets.iter().find(|addr| addr.is_ipv4()).map_or(0, SocketAddr::port);
        Self { identity, reach: Self::reach(sockets), port, record: None, signed_at: Duration::ZERO }
    }

    /// How far a node reaches that is bound to these addresses: it has to do with one machine, or with the internet.
    pub(crate) fn reach(sockets: &[SocketAddr]) -> Reach {
        if sockets.iter().all(|addr| addr.ip().is_loopback()) { Reach::Host } else { Reach::World }
    }

    /// What is to be said, given where others see us, the addresses of this machine, and the relays that have a place for us. The
    /// record is signed anew only if they have changed, or an hour later. The caller adds what else it knows of our addresses.
    pub(crate) fn us(
        &mut self,
        seen: &[SocketAddr],
        interfaces: impl IntoIterator<Item = SocketAddr>,
        vouchers: &[Voucher],
        epoch: Epoch,
    ) -> Us {
        let mut interfaces: Vec<SocketAddr> = interfaces.into_iter().collect();
        interfaces.sort_unstable();
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for addr in seen.iter().copied().chain(interfaces) {
            let is_worth_it = addr.port() != 0 && Reach::of(addr.ip()) == Some(self.reach);
            if is_worth_it && !addresses.contains(&addr) && addresses.len() < MAX_RECORD_ADDRESSES {
                addresses.push(addr);
            }
        }
        // A NAT may have given the socket another port.
        let port = addresses.iter().find(|addr| addr.is_ipv4()).map_or(self.port, SocketAddr::port);
        let now = epoch.unix;
        let vouchers: Vec<Voucher> =
            vouchers.iter().filter(|voucher| voucher.holds_at(now)).take(MAX_RECORD_VOUCHERS).cloned().collect();
        if addresses.is_empty() && vouchers.is_empty() {
            self.record = None;
            return Us { port, ..Us::default() };
        }
        let known = self.record.as_ref();
        let is_true = known.is_some_and(|record| {
            record.addresses().eq(addresses.iter().copied()) && record.vouchers().eq(vouchers.iter().cloned())
        });
        if !is_true || now.abs_diff(self.signed_at) >= SIGNED_EVERY {
            let last = known.map_or(0, SignedRecord::sequence);
            let unix = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            let sequence = unix.max(last.saturating_add(1));
            let record =
                Record { sequence, expires: now.saturating_add(HOLDS), addresses, vouchers, ..Record::default() };
            // All that could be wrong with an address was left out above.
            self.record = record.sign(&self.identity).ok();
            self.signed_at = now;
        }
        Us { port, record: self.record.clone(), addrs: Vec::new() }
    }
}

/// How long a record holds, and how often it is made anew.
const HOLDS: Duration = Duration::from_secs(2 * 3600);
const SIGNED_EVERY: Duration = Duration::from_secs(3600);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does")]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_record_is_made_anew_when_addresses_change_and_every_hour() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let identity = Arc::new(Identity::from_seed([7; 32]));
        let mut announcer = Announcer::new(identity, &[addr("0.0.0.0:4000"), addr("[::]:4001")]);
        let instant = Instant::now();
        let at = |seconds: u64| Epoch { instant, unix: Duration::from_secs(1_700_000_000 + seconds) };
        let private = [addr("10.0.0.1:4000"), addr("127.0.0.1:4000"), addr("1.2.3.4:0")];
        assert_eq!(announcer.us(&[], private, &[], at(0)), Us { port: 4000, ..Us::default() });
        let first = announcer.us(&[], [addr("10.0.0.1:4000"), addr("1.2.3.4:4000")], &[], at(0)).record.unwrap();
        assert_eq!(first.addresses().collect::<Vec<_>>(), [addr("1.2.3.4:4000")]);
        assert!(first.check(at(0).unix).is_ok() && first.check(at(7200).unix).is_err());
        assert_eq!(announcer.us(&[], [addr("1.2.3.4:4000")], &[], at(3599)).record.as_ref(), Some(&first));
        let second = announcer.us(&[], [addr("1.2.3.4:4000")], &[], at(3600)).record.unwrap();
        assert!(second.supersedes(&first));
        // Also when the clock goes back.
        let third = announcer.us(&[], [addr("1.2.3.5:4000")], &[], at(10)).record.unwrap();
        assert!(third.supersedes(&second));
        // Behind a NAT the address that others see counts, and the port of that.
        let us = announcer.us(&[addr("5.6.7.8:99"), addr("10.0.0.1:4000")], [addr("10.0.0.1:4000")], &[], at(20));
        assert_eq!((us.port, us.record.unwrap().addresses().collect::<Vec<_>>()), (99, vec![addr("5.6.7.8:99")]));
        assert_eq!(Announcer::reach(&[addr("127.0.0.1:7"), addr("[::1]:7")]), Reach::Host);
    }
}
