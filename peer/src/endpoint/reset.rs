//! Telling a peer that we have forgotten its session (SPEC 9.8).
//!
//! The invariant: a reset is shorter than what it answers, and there are never more than a few: two endpoints that have
//! both forgotten everything fall silent.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Instant;

use crypto::Rng;
use framing::header::Reset;
use structs::{Lru, Rejected, TokenBucket};

use super::admission::Prefix;
use super::limits;

/// Makes resets within their limits.
#[derive(Debug)]
pub(super) struct Resets {
    all: TokenBucket,
    addresses: Lru<Prefix, TokenBucket>,
    sent: u64,
}

impl Resets {
    pub(super) fn new(now: Instant) -> Self {
        let (rate, burst) = limits::RESETS;
        let addresses = NonZeroUsize::new(limits::RESET_ADDRESSES).unwrap_or(NonZeroUsize::MIN);
        Self { all: TokenBucket::new(rate, burst, now), addresses: Lru::new(addresses), sent: 0 }
    }

    /// How many were made.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// A reset with `token`, to answer `trigger` bytes for an unknown connection id from `ip`.
    ///
    /// # Errors
    ///
    /// [`Rejected::UnknownPeer`] if the trigger is too short, [`Rejected::LimitReached`] if there were too many.
    pub(super) fn answer(
        &mut self,
        ip: IpAddr,
        trigger: usize,
        token: [u8; 16],
        rng: &mut Rng,
        now: Instant,
    ) -> Result<Reset, Rejected> {
        let reset = Reset::new(trigger, rng.array(), token).ok_or(Rejected::UnknownPeer)?;
        let address = Prefix::address(ip);
        let (rate, burst) = limits::RESETS_PER_ADDRESS;
        let free = self.addresses.peek(&address, now).is_none_or(|bucket| bucket.available(now) > 0);
        if !free || !self.all.try_take(1, now) {
            return Err(Rejected::LimitReached);
        }
        if let Some(bucket) = self.addresses.get_mut(&address, now) {
            bucket.try_take(1, now);
        } else {
            let mut bucket = TokenBucket::new(rate, burst, now);
            bucket.try_take(1, now);
            // Cannot be too heavy: no weight is bounded.
            let _inserted = self.addresses.insert(address, bucket, 0, now);
        }
        self.sent += 1;
        Ok(reset)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crypto::Seed;

    use super::*;

    #[test]
    fn shorter_than_the_trigger_and_ended_by_the_token() {
        let mut now = sim::clock::base();
        let (mut resets, mut rng) = (Resets::new(now), Seed::fixed(1).rng());
        let ip = IpAddr::from([8, 8, 8, 8]);
        for trigger in 0..100 {
            now += Duration::from_secs(1);
            match resets.answer(ip, trigger, [9; 16], &mut rng, now) {
                Ok(reset) => {
                    let bytes = reset.as_ref();
                    assert!(trigger >= 43 && (39..=42).contains(&bytes.len()) && bytes.len() < trigger);
                    assert_eq!(bytes[0] & 0xf0, 0xe0);
                    assert!(bytes.ends_with(&[9; 16]));
                }
                Err(refused) => assert!(trigger < 43 && refused == Rejected::UnknownPeer, "{trigger}: {refused}"),
            }
        }
        assert_eq!(resets.sent(), 57);
    }

    #[test]
    fn one_a_second_for_an_address_and_a_hundred_for_all() {
        let now = sim::clock::base();
        let (mut resets, mut rng) = (Resets::new(now), Seed::fixed(1).rng());
        let mut ask = |host: u8, now| resets.answer(IpAddr::from([8, 8, 8, host]), 100, [9; 16], &mut rng, now).is_ok();
        assert!(ask(0, now) && !ask(0, now));
        assert!(!ask(0, now + Duration::from_millis(999)));
        assert!(ask(0, now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(3);
        assert_eq!((1..=255).filter(|&host| ask(host, later)).count(), 100);
        assert!(ask(101, later + Duration::from_millis(10)));
    }
}
