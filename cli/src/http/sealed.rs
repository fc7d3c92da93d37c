//! Bodies that nodes of this project leave for each other: sealed, under keys of which this server knows no more than that
//! they are equal: `PUT` and `DELETE /sealed/{place}/{slot}`, `GET /sealed/{place}` (SPEC 16.2).
//!
//! A slot is what one node fills, again and again; nobody else can know its name, and no answer tells it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use swarm::rendezvous::{self, DEFAULT_TTL, MAX_BODY, MAX_LISTED, TTL};

use super::limits;
use super::origin::{Origin, Shares};
use super::refusal::Refusal;

/// The name of a place.
pub(crate) type Key = [u8; 32];
/// A place under a key.
pub(crate) type Slot = [u8; 16];

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    bodies: BTreeMap<(Key, Slot), Entry>,
    shares: Shares,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    origin: Origin,
    at: Instant,
    until: Instant,
    body: Bytes,
}

impl Sealed {
    /// Keeps a body in the stead of what was in the slot, for `ttl` seconds.
    ///
    /// Where a key is full, the oldest body of the network that has most makes room: strangers who fill a key lose to each
    /// other first.
    pub(crate) fn put(
        &mut self,
        (key, slot): (Key, Slot),
        body: Bytes,
        ttl: Option<u64>,
        origin: Origin,
        now: Instant,
    ) -> Result<(), Refusal> {
        let ttl = ttl.unwrap_or(DEFAULT_TTL).clamp(*TTL.start(), *TTL.end());
        if body.is_empty() {
            return Err(Refusal::Malformed("an empty body is nothing to find".to_owned()));
        }
        if body.len() > MAX_BODY {
            return Err(Refusal::TooLarge(MAX_BODY as u64));
        }
        self.sweep(now);
        let old = self.bodies.get(&(key, slot)).map(|entry| entry.origin);
        // Whoever takes over what another one put there has it in the other's stead.
        if old.is_none_or(|old| old.host() != origin.host())
            && !self.shares.has_room(origin, limits::SEALED_PER_HOST, limits::SEALED_PER_NETWORK)
        {
            return Err(Refusal::TooMany);
        }
        if old.is_none() {
            if self.bodies.len() >= limits::SEALED {
                self.make_room(origin)?;
            }
            self.crowd(&key);
        }
        self.remove(key, slot);
        let until = now.checked_add(Duration::from_secs(ttl)).unwrap_or(now);
        self.bodies.insert((key, slot), Entry { origin, at: now, until, body });
        self.shares.add(origin);
        Ok(())
    }

    /// Forgets what is in a slot, if there is anything.
    pub(crate) fn remove(&mut self, key: Key, slot: Slot) {
        if let Some(old) = self.bodies.remove(&(key, slot)) {
            self.shares.remove(old.origin);
        }
    }

    /// All bodies of a key, the newest first.
    pub(crate) fn get(&self, key: Key, now: Instant) -> Vec<u8> {
        let mut entries: Vec<&Entry> =
            self.of(&key).map(|(_, entry)| entry).filter(|entry| now < entry.until).collect();
        entries.sort_by_key(|entry| Reverse(entry.at));
        rendezvous::list(entries.iter().map(|entry| entry.body.as_ref()))
    }

    fn of(&self, key: &Key) -> impl Iterator<Item = (&(Key, Slot), &Entry)> {
        self.bodies.range((*key, Slot::default())..=(*key, [u8::MAX; 16]))
    }

    /// Forgets what is old, now and then.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < limits::SWEEP) {
            return;
        }
        self.swept = Some(now);
        let shares = &mut self.shares;
        self.bodies.retain(|_, entry| {
            let current = now < entry.until;
            if !current {
                shares.remove(entry.origin);
            }
            current
        });
    }

    /// Gives up the oldest body of the network that has most, if it has more than that of a newcomer.
    fn make_room(&mut self, origin: Origin) -> Result<(), Refusal> {
        let network = self.shares.largest(origin).ok_or(Refusal::Full)?;
        let theirs = self.bodies.iter().filter(|(_, entry)| entry.origin.network() == network);
        let (key, slot) = theirs.min_by_key(|(_, entry)| entry.at).map(|(place, _)| *place).ok_or(Refusal::Full)?;
        self.remove(key, slot);
        Ok(())
    }

    /// Makes room under a key for one more.
    fn crowd(&mut self, key: &Key) {
        if self.of(key).count() < MAX_LISTED {
            return;
        }
        let mut shares: BTreeMap<u128, usize> = BTreeMap::new();
        for (_, entry) in self.of(key) {
            *shares.entry(entry.origin.network()).or_default() += 1;
        }
        let share = |entry: &Entry| shares.get(&entry.origin.network()).copied().unwrap_or_default();
        let victim = self.of(key).max_by_key(|(_, entry)| (share(entry), Reverse(entry.at)));
        if let Some((key, slot)) = victim.map(|(place, _)| *place) {
            self.remove(key, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [7; 32];

    fn slot(number: usize) -> Slot {
        (number as u128).to_be_bytes()
    }

    fn from(ip: [u8; 4]) -> Origin {
        Origin::new(ip.into())
    }

    fn put(
        sealed: &mut Sealed,
        place: (Key, Slot),
        body: &'static [u8],
        origin: Origin,
        now: Instant,
    ) -> Result<(), Refusal> {
        sealed.put(place, Bytes::from_static(body), None, origin, now)
    }

    #[test]
    fn bodies_are_kept_until_their_time_is_over() {
        let (mut sealed, now, us) = (Sealed::default(), Instant::now(), from([203, 0, 113, 7]));
        put(&mut sealed, (KEY, slot(1)), b"one", us, now).unwrap();
        put(&mut sealed, (KEY, slot(2)), b"to be replaced", us, now).unwrap();
        let later = now + Duration::from_secs(1);
        put(&mut sealed, (KEY, slot(2)), b"two", us, later).unwrap();
        put(&mut sealed, ([8; 32], slot(2)), b"elsewhere", us, later).unwrap();
        assert_eq!(sealed.get(KEY, later), b"\0\x03two\0\x03one");
        assert_eq!(sealed.get([9; 32], later), b"");
        sealed.remove(KEY, slot(2));
        assert_eq!(sealed.get(KEY, later), b"\0\x03one");
        let old = now + Duration::from_secs(DEFAULT_TTL + 2);
        assert_eq!(sealed.get(KEY, old), b"");
        put(&mut sealed, (KEY, slot(9)), b"x", us, old).unwrap();
        sealed.remove(KEY, slot(9));
        assert!(sealed.bodies.is_empty() && sealed.shares.is_empty(), "nothing is counted that is not there");
    }

    #[test]
    fn what_is_too_long_or_too_much_is_refused() {
        let (mut sealed, now, us) = (Sealed::default(), Instant::now(), from([203, 0, 113, 7]));
        let place = (KEY, slot(1));
        let long = Bytes::from(vec![1; MAX_BODY + 1]);
        assert_eq!(sealed.put(place, long.clone(), None, us, now), Err(Refusal::TooLarge(2048)));
        assert_eq!(sealed.put(place, long.slice(1..), None, us, now), Ok(()));
        assert!(matches!(put(&mut sealed, place, b"", us, now), Err(Refusal::Malformed(_))));
        // What is too short or too long is taken for the nearest.
        for (ttl, kept) in [(0, 60), (7200, 3600)] {
            sealed.put(place, Bytes::from_static(b"x"), Some(ttl), us, now).unwrap();
            assert_ne!(sealed.get(KEY, now + Duration::from_secs(kept - 1)), b"");
            assert_eq!(sealed.get(KEY, now + Duration::from_secs(kept)), b"");
        }
        for number in 0..limits::SEALED_PER_HOST {
            let key = [u8::try_from(number % 100).unwrap(); 32];
            let _ = put(&mut sealed, (key, slot(number)), b"x", us, now);
        }
        assert_eq!(put(&mut sealed, ([200; 32], slot(0)), b"x", us, now), Err(Refusal::TooMany));
        assert_eq!(put(&mut sealed, ([200; 32], slot(0)), b"x", from([198, 51, 100, 1]), now), Ok(()));
    }

    #[test]
    fn who_fills_a_key_loses_first() {
        let (mut sealed, now) = (Sealed::default(), Instant::now());
        put(&mut sealed, (KEY, slot(0)), b"honest", from([198, 51, 100, 1]), now).unwrap();
        for number in 1..100_usize {
            let crowd = from([203, 0, 113, u8::try_from(number).unwrap()]);
            put(&mut sealed, (KEY, slot(number)), b"crowd", crowd, now + Duration::from_millis(number as u64)).unwrap();
        }
        put(&mut sealed, (KEY, slot(100)), b"late", from([192, 0, 2, 1]), now + Duration::from_secs(1)).unwrap();
        let answer = sealed.get(KEY, now + Duration::from_secs(1));
        assert_eq!(answer.windows(5).filter(|part| *part == b"crowd").count(), MAX_LISTED - 2);
        assert!(answer.starts_with(b"\0\x04late") && answer.ends_with(b"honest"));
    }

    #[test]
    fn two_addresses_of_one_do_not_take_over_from_each_other() {
        let (mut sealed, now) = (Sealed::default(), Instant::now());
        let (a, b) = (from([203, 0, 113, 7]), from([198, 51, 100, 1]));
        let key = |number: usize| [u8::try_from(number / 60).unwrap(); 32];
        for number in 0..limits::SEALED_PER_HOST {
            put(&mut sealed, (key(number), slot(number)), b"x", a, now).unwrap();
            put(&mut sealed, (key(number), slot(number)), b"x", b, now).unwrap();
        }
        put(&mut sealed, ([99; 32], slot(0)), b"x", a, now).unwrap();
        assert_eq!(put(&mut sealed, ([99; 32], slot(0)), b"x", b, now), Err(Refusal::TooMany), "its share is full");
        assert_eq!(put(&mut sealed, (key(0), slot(0)), b"x", b, now), Ok(()), "its own again");
    }

    #[test]
    fn all_together_have_a_bound() {
        let (mut sealed, now, near) = (Sealed::default(), Instant::now(), from([127, 0, 0, 1]));
        for number in 0..limits::SEALED {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(number as u64).to_be_bytes());
            put(&mut sealed, (key, slot(0)), b"x", near, now).unwrap();
        }
        assert_eq!(put(&mut sealed, ([1; 32], slot(0)), b"x", near, now), Err(Refusal::Full));
        assert_eq!(put(&mut sealed, ([1; 32], slot(0)), b"x", from([203, 0, 113, 7]), now), Ok(()));
        assert_eq!(sealed.bodies.len(), limits::SEALED, "in the stead of one of those who have most");
    }
}
