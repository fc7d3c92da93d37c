//! What a node keeps for others, under any operations, against a model of what must be there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crypto::{Identity, Seed};
use dht::store::Shown;
use dht::{Announcement, Item, Key, Kind, Refused, SignedValue, Store, Subnets, limits};
use framing::record::Record;
use sim::clock;

use crate::input::Input;

/// Everything kept was shown, is the newest of its kind, and ends; bounds hold.
pub fn dht_store(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    while !input.is_empty() {
        world.step(&mut input);
        world.check();
    }
    world.now += Duration::from_hours(25);
    world.store.expire(world.now);
    assert!(world.store.is_empty() && world.store.bytes() == 0 && world.store.next_end().is_none());
}

const UNIX: Duration = Duration::from_hours(480_000);
const SIGNERS: u8 = 12;
const TOPICS: u8 = 3;
const VERSIONS: u8 = 4;

/// Something signed, with who signed it and its number.
type Signed = BTreeMap<(u8, u8, u8), (Key, u64, Arc<[u8]>)>;

/// Announcements and items by signer, topic or salt, and version; the last two versions of each have the same number.
fn pool() -> &'static [Signed; 3] {
    static POOL: OnceLock<[Signed; 3]> = OnceLock::new();
    POOL.get_or_init(|| {
        let [mut announced, mut signed, mut peers] = [const { Signed::new() }; 3];
        for signer in 0..SIGNERS {
            let identity = Identity::from_seed([signer; 32]);
            for topic in 0..TOPICS {
                for version in 0..VERSIONS {
                    let number = version.min(VERSIONS - 2);
                    let key = Key::from_bytes([topic; 32]);
                    let unix = UNIX + Duration::from_mins(40) * number.into();
                    let addr = ([9, 9, 9, 9], 1 + u16::from(version)).into();
                    let life = Duration::from_hours(2);
                    let one = Announcement::sign(&identity, key, unix, life, &[addr], &[]).expect("within limits");
                    let time = u64::try_from(unix.as_millis()).expect("this era");
                    announced.insert((signer, topic, version), (key, time, one.as_bytes().clone()));
                    let one = SignedValue::sign(&identity, &[topic], number.into(), &[version]).expect("within limits");
                    let item = Item::Signed(one);
                    signed.insert((signer, topic, version), (item.key(), number.into(), item.to_bytes()));
                }
            }
            for version in 0..VERSIONS {
                let number = version.min(VERSIONS - 2);
                let expires = UNIX + Duration::from_hours(3 + u64::from(version));
                let record = Record { sequence: number.into(), expires, ..Record::default() };
                let item = Item::Peer(record.sign(&identity).expect("within limits"));
                peers.insert((signer, 0, version), (item.key(), number.into(), item.to_bytes()));
            }
        }
        [announced, signed, peers]
    })
}

struct World {
    store: Store,
    now: Instant,
    start: Instant,
    /// The version and the end of what must be there unless somebody displaced it.
    newest: BTreeMap<(Option<Kind>, Key, u8), (u64, Arc<[u8]>)>,
}

impl World {
    fn new() -> Self {
        let now = clock::base();
        Self { store: Store::new(Subnets::Public, &Seed::fixed(1)), now, start: now, newest: BTreeMap::new() }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let shown = Shown {
            from: IpAddr::from([20, 0, input.u8() % 40, input.u8() % 4]),
            extra: u32::from(input.u8() / 32),
            unix: UNIX + (self.now - self.start),
        };
        let which = (input.u8() % SIGNERS, input.u8() % TOPICS, input.u8() % VERSIONS);
        match input.below(8) {
            0..=2 => self.show(None, which, shown, false),
            3 => self.show(Some(Kind::Signed), which, shown, false),
            4 => self.show(Some(Kind::Peer), (which.0, 0, which.2), shown, false),
            5 => self.show([None, Some(Kind::Signed)][input.below(2)], which, shown, true),
            6 => {
                let bytes: Arc<[u8]> = input.bytes().into();
                let kind = input.pick(&[Kind::Value, Kind::Signed, Kind::Peer]);
                let kept = self.store.put(kind, &bytes, shown, self.now);
                assert!(kept.is_err() || kind == Kind::Value, "nobody signs by accident");
                let announced = self.store.announce(Key::from_bytes([1; 32]), &bytes, shown, self.now);
                assert!(announced.is_err());
            }
            _ => {
                self.now += Duration::from_secs(u64::from(input.u16()) / 4);
                if input.flip() {
                    self.store.expire(self.now);
                }
            }
        }
    }

    /// Shows one of the pool, as it is or with a bit changed.
    fn show(&mut self, kind: Option<Kind>, which: (u8, u8, u8), shown: Shown, forged: bool) {
        let [announced, signed, peers] = pool();
        let of_kind = match kind {
            None => announced,
            Some(Kind::Peer) => peers,
            Some(_) => signed,
        };
        let Some((key, number, bytes)) = of_kind.get(&which) else { return };
        let mut bytes = bytes.clone();
        if forged {
            let mut changed = bytes.to_vec();
            *changed.last_mut().expect("not empty") ^= 1;
            bytes = changed.into();
        }
        let result = match kind {
            None => self.store.announce(*key, &bytes, shown, self.now),
            Some(kind) => self.store.put(kind, &bytes, shown, self.now),
        };
        let place = (kind, *key, which.0);
        let known = self.newest.get(&place).cloned();
        match result {
            Ok(life) => {
                let most = if kind.is_none() { limits::ANNOUNCEMENT_LIFE } else { limits::ITEM_LIFE };
                assert!(!forged && life <= most && life > Duration::ZERO);
                self.newest.insert(place, (*number, bytes));
            }
            Err(Refused::Older) => assert!(known.is_some_and(|(newest, _)| newest > *number)),
            Err(Refused::Conflict) => assert!(known.is_some_and(|(newest, other)| newest == *number && other != bytes)),
            Err(Refused::Signature) => assert!(forged),
            Err(Refused::Time) => assert!(kind != Some(Kind::Signed)),
            Err(Refused::Quota | Refused::Full) => {}
            Err(other) => panic!("{other:?}"),
        }
    }

    /// What is handed out is what was shown last, whatever happened in between.
    fn check(&self) {
        assert!(self.store.len() <= limits::MAX_STORED && self.store.bytes() <= limits::MAX_STORED_BYTES);
        assert!(self.store.announcements() <= self.store.len());
        let mut announced = 0;
        for topic in 0..TOPICS {
            let key = Key::from_bytes([topic; 32]);
            let (mut next, mut walked) = (0, 0_u64);
            while walked < 1 << 32 {
                let page = self.store.peers(&key, next, 675);
                for bytes in &page.announcements {
                    let known = |((kind, of, _), (_, newest)): (&(Option<Kind>, Key, u8), &(u64, Arc<[u8]>))| {
                        kind.is_none() && *of == key && newest == bytes
                    };
                    assert!(self.newest.iter().any(known));
                }
                assert!(page.total == 0 || !page.announcements.is_empty());
                walked += match page.next.wrapping_sub(next) {
                    0 => 1 << 32,
                    step => u64::from(step),
                };
                next = page.next;
                if walked >= 1 << 32 {
                    announced += usize::from(page.total);
                }
            }
        }
        assert_eq!(announced, self.store.announcements());
        for ((kind, key, _), (_, bytes)) in &self.newest {
            if let Some(found) = kind.and_then(|kind| self.store.get(kind, key)) {
                assert!(bytes.ends_with(found), "an answer is the end of what was put");
            }
        }
    }
}
