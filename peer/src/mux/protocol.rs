//! Protocols: registered before the start, announced in HELLO, agreed by name in their highest common version.

use std::num::{NonZeroU16, NonZeroU32};

use framing::{Hello, ProtocolEntry};

use super::error::RegisterError;

/// A protocol among those of [`Protocols`], by the order of registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolId(pub(crate) u16);

impl ProtocolId {
    /// Its place among the registered, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A protocol that this side speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    name: Box<str>,
    versions: Vec<u16>,
    weight: NonZeroU16,
    rate_cap: Option<NonZeroU32>,
    accepts_streams: bool,
    datagrams: bool,
}

impl Protocol {
    /// A protocol with this name (1 to 64 bytes) in one version, of weight 1, without a cap, that accepts streams.
    #[must_use]
    pub fn new(name: &str, version: u16) -> Self {
        Self {
            name: name.into(),
            versions: vec![version],
            weight: NonZeroU16::MIN,
            rate_cap: None,
            accepts_streams: true,
            datagrams: true,
        }
    }

    /// Adds a version that is spoken as well.
    #[must_use]
    pub fn version(mut self, version: u16) -> Self {
        self.versions.push(version);
        self
    }

    /// Its share of the bytes while others have something to send too, relative to theirs. Default 1.
    #[must_use]
    pub const fn weight(mut self, weight: NonZeroU16) -> Self {
        self.weight = weight;
        self
    }

    /// At most so many bytes a second in the long run, frame headers included; a tenth of a second's worth, but at least two
    /// packets, may leave at once. Retransmissions count, but are not held back. Default: none.
    #[must_use]
    pub const fn rate_cap(mut self, bytes_per_second: Option<NonZeroU32>) -> Self {
        self.rate_cap = bytes_per_second;
        self
    }

    /// Whether the other side may open streams of bytes; those it opens nevertheless are refused. Default: yes.
    #[must_use]
    pub const fn accepts_streams(mut self, accepts: bool) -> Self {
        self.accepts_streams = accepts;
        self
    }

    /// Whether it has datagrams: those protocols that do share the memory for them in equal parts. Datagrams of others are
    /// not sent, and are dropped when they come. Default: yes.
    #[must_use]
    pub const fn datagrams(mut self, has: bool) -> Self {
        self.datagrams = has;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn weight_of(&self) -> u16 {
        self.weight.get()
    }

    pub(super) const fn cap(&self) -> Option<NonZeroU32> {
        self.rate_cap
    }

    pub(super) const fn takes_streams(&self) -> bool {
        self.accepts_streams
    }

    pub(super) const fn has_datagrams(&self) -> bool {
        self.datagrams
    }
}

/// The protocols of a node, the same for all its sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protocols {
    list: Vec<Protocol>,
    /// What is announced: by name, then version. Frames name a protocol by its place here.
    entries: Vec<Entry>,
}

/// A version of a protocol, as announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) protocol: ProtocolId,
    pub(super) version: u16,
}

impl Protocols {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new(), entries: Vec::new() }
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`RegisterError`] if its name or its versions are not valid, or if it does not fit the announcement.
    pub fn register(&mut self, mut protocol: Protocol) -> Result<ProtocolId, RegisterError> {
        let len = protocol.name.len();
        if len == 0 || len > framing::limits::MAX_PROTOCOL_NAME {
            return Err(RegisterError::BadName { len, max: framing::limits::MAX_PROTOCOL_NAME });
        }
        if self.id(&protocol.name).is_some() {
            return Err(RegisterError::Duplicate);
        }
        protocol.versions.sort_unstable();
        if protocol.versions.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(RegisterError::BadVersions);
        }
        let count = self.entries.len() + protocol.versions.len();
        if count > framing::limits::MAX_PROTOCOLS {
            return Err(RegisterError::TooMany { len: count, max: framing::limits::MAX_PROTOCOLS });
        }
        let bytes =
            self.entries().chain(protocol.versions.iter().map(|_| ProtocolEntry { name: &protocol.name, version: 0 }));
        let bytes = bytes.map(|entry| 1 + entry.name.len() + 2).sum::<usize>();
        if bytes > MAX_ANNOUNCEMENT {
            return Err(RegisterError::TooMany { len: bytes, max: MAX_ANNOUNCEMENT });
        }
        // At most 64, as there are no more entries.
        let id = ProtocolId(u16::try_from(self.list.len()).unwrap_or(u16::MAX));
        let entries = protocol.versions.iter().map(|&version| Entry { protocol: id, version });
        self.entries.extend(entries);
        self.list.push(protocol);
        let list = &self.list;
        self.entries
            .sort_unstable_by_key(|entry| (list.get(entry.protocol.index()).map(Protocol::name), entry.version));
        Ok(id)
    }

    /// The protocol with this name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<ProtocolId> {
        let at = self.list.iter().position(|protocol| &*protocol.name == name)?;
        u16::try_from(at).ok().map(ProtocolId)
    }

    /// What was registered under this id.
    #[must_use]
    pub fn get(&self, id: ProtocolId) -> Option<&Protocol> {
        self.list.get(id.index())
    }

    /// How many there are, at most 64.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What HELLO announces, in its order.
    pub fn entries(&self) -> impl Iterator<Item = ProtocolEntry<'_>> {
        self.entries.iter().filter_map(|entry| {
            Some(ProtocolEntry { name: &self.list.get(entry.protocol.index())?.name, version: entry.version })
        })
    }

    /// The entry at this place of our own announcement.
    pub(super) fn entry(&self, at: u8) -> Option<Entry> {
        self.entries.get(usize::from(at)).copied()
    }

    /// The place of the highest version of a protocol.
    /// Among how many the memory for datagrams is shared.
    pub(super) fn datagram_shares(&self) -> usize {
        self.list.iter().filter(|protocol| protocol.datagrams).count()
    }

    pub(super) fn newest(&self, id: ProtocolId) -> Option<u8> {
        let at = self.entries.iter().rposition(|entry| entry.protocol == id)?;
        u8::try_from(at).ok()
    }
}

/// Bytes of announced entries: leaves the rest of HELLO its part of 1100.
const MAX_ANNOUNCEMENT: usize = 900;

/// What two announcements have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Agreement {
    /// For each place in the other side's list our own place of the same name and version.
    theirs: Box<[Option<u8>]>,
    /// The places in our list that the other side has too.
    common: u64,
}

impl Agreement {
    pub(super) fn new(ours: &Protocols, hello: &Hello<'_>) -> Self {
        let mut common = 0;
        let mut theirs = Vec::new();
        // Both lists ascend in the same order.
        let mut own = ours.entries().enumerate().peekable();
        for entry in hello.protocols() {
            while own.next_if(|(_, ours)| *ours < entry).is_some() {}
            let at = own.next_if(|(_, ours)| *ours == entry).and_then(|(at, _)| u8::try_from(at).ok());
            common |= at.map_or(0, |at| 1_u64 << (at & 63));
            theirs.push(at);
        }
        Self { theirs: theirs.into(), common }
    }

    /// Our place of what the other side has at `at`.
    pub(super) fn ours(&self, at: u64) -> Option<u8> {
        *self.theirs.get(usize::try_from(at).ok()?)?
    }

    /// Whether the other side has what we have at `at`.
    pub(super) const fn has(&self, at: u8) -> bool {
        self.common >> (at & 63) & 1 == 1
    }

    /// Our place of the highest common version of a protocol.
    pub(super) fn best(&self, ours: &Protocols, id: ProtocolId) -> Option<u8> {
        let at = ours
            .entries
            .iter()
            .enumerate()
            .rposition(|(at, entry)| entry.protocol == id && self.common >> (at & 63) & 1 == 1)?;
        u8::try_from(at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framing::Limits;

    fn protocols(list: &[(&str, &[u16])]) -> Protocols {
        let mut protocols = Protocols::new();
        for (name, versions) in list {
            let first = Protocol::new(name, versions[0]);
            protocols
                .register(versions[1..].iter().fold(first, |protocol, &version| protocol.version(version)))
                .unwrap();
        }
        protocols
    }

    fn agree(ours: &Protocols, theirs: &Protocols) -> Agreement {
        let body = Hello::compose(theirs.entries(), None, None, &Limits::default()).unwrap();
        Agreement::new(ours, &Hello::parse(&body).unwrap())
    }

    #[test]
    fn entries_are_sorted_and_ids_keep_the_order_of_registration() {
        let ours = protocols(&[("dht", &[3, 1]), ("chat", &[2])]);
        let listed = ours.entries().map(|entry| (entry.name, entry.version)).collect::<Vec<_>>();
        assert_eq!(listed, [("chat", 2), ("dht", 1), ("dht", 3)]);
        assert_eq!(ours.id("dht"), Some(ProtocolId(0)));
        assert_eq!(ours.newest(ProtocolId(0)), Some(2));
        assert_eq!(ours.newest(ProtocolId(1)), Some(0));
    }

    #[test]
    fn the_highest_common_version_is_on_and_the_rest_is_silent() {
        let ours = protocols(&[("ping", &[1]), ("chat", &[1, 2, 3]), ("dht", &[4])]);
        let theirs = protocols(&[("chat", &[2, 1, 5]), ("video", &[1]), ("ping", &[1])]);
        for (a, b) in [(&ours, &theirs), (&theirs, &ours)] {
            let agreement = agree(a, b);
            let version = |name| Some(a.entry(agreement.best(a, a.id(name)?)?)?.version);
            assert_eq!(version("chat"), Some(2));
            assert_eq!(version("ping"), Some(1));
            assert_eq!(version("dht"), None);
            assert_eq!(version("video"), None);
            // Every place in the other list is read as the same name and version, or as none.
            for (at, entry) in b.entries().enumerate() {
                let mine = agreement.ours(at as u64).and_then(|at| a.entries().nth(usize::from(at)));
                assert_eq!(mine, a.entries().find(|mine| *mine == entry));
            }
            assert_eq!(agreement.ours(64), None);
        }
    }

    #[test]
    fn what_cannot_be_announced_is_not_registered() {
        let mut list = protocols(&[("a", &[1])]);
        assert_eq!(list.register(Protocol::new("a", 2)), Err(RegisterError::Duplicate));
        assert_eq!(list.register(Protocol::new("", 2)), Err(RegisterError::BadName { len: 0, max: 64 }));
        assert_eq!(list.register(Protocol::new("b", 2).version(2)), Err(RegisterError::BadVersions));
        for at in 0..63 {
            list.register(Protocol::new(&format!("p{at}"), 1)).unwrap();
        }
        assert_eq!(list.register(Protocol::new("b", 2)), Err(RegisterError::TooMany { len: 65, max: 64 }));
        let mut long = Protocols::new();
        let fits = (0..64).take_while(|at| long.register(Protocol::new(&format!("{at:064}"), 1)).is_ok()).count();
        assert_eq!(fits, 13);
        assert!(Hello::compose(long.entries(), Some([0; 16]), Some(&"x".repeat(64)), &Limits::default()).is_ok());
    }
}
