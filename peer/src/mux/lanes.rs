//! The lanes of a session, of which few are used: a node has many protocols, and speaks one or two of them with most peers.
//!
//! One that was never used, or holds nothing since the session rests, is the same for all that have its entry. So it is not
//! there: who asks for it sees one that all sessions share, and who wants to change it gets one of its own.

use super::message::Lane;

/// The lanes, by the ids of their protocols.
#[derive(Debug)]
pub(super) struct Lanes(Box<[Place]>);

#[derive(Debug)]
enum Place {
    /// Nothing but the place in our list that streams are opened with.
    Unused(Option<u8>),
    Used(Box<Lane>),
}

/// Protocols have at most so many entries.
const ENTRIES: usize = framing::limits::MAX_PROTOCOLS;

/// Unused lanes, by their entries, and behind them that of a protocol without one.
static UNUSED: [Lane; ENTRIES + 1] = {
    let mut lanes = [const { Lane::new(None) }; ENTRIES + 1];
    let mut at = 0;
    while at < ENTRIES {
        lanes[at].entry = Some(at as u8);
        at += 1;
    }
    lanes
};

impl Lanes {
    /// Unused ones with these entries.
    pub(super) fn new(entries: impl Iterator<Item = Option<u8>>) -> Self {
        Self(entries.map(Place::Unused).collect())
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&Lane> {
        self.0.get(at).map(Place::lane)
    }

    /// A lane that is going to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Lane> {
        let place = self.0.get_mut(at)?;
        if let Place::Unused(entry) = *place {
            place.begin(entry);
        }
        match place {
            Place::Used(lane) => Some(lane),
            Place::Unused(_) => None,
        }
    }

    /// A lane to be changed if there is anything in it.
    pub(super) fn used_mut(&mut self, at: usize) -> Option<&mut Lane> {
        match self.0.get_mut(at)? {
            Place::Used(lane) => Some(lane),
            Place::Unused(_) => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.0.iter().map(Place::lane)
    }

    /// The place in our list that streams of a protocol are opened with from now on.
    pub(super) fn set_entry(&mut self, at: usize, entry: Option<u8>) {
        match self.0.get_mut(at) {
            Some(Place::Used(lane)) => lane.entry = entry,
            Some(place @ Place::Unused(_)) => *place = Place::Unused(entry),
            None => {}
        }
    }

    /// Takes those away that are as if they had never been used.
    pub(super) fn rest(&mut self) {
        for place in &mut self.0 {
            if let Place::Used(lane) = place
                && lane.is_unused()
            {
                *place = Place::Unused(lane.entry);
            }
        }
    }
}

impl Place {
    #[inline]
    fn lane(&self) -> &Lane {
        match self {
            Self::Used(lane) => lane,
            Self::Unused(entry) => unused(*entry),
        }
    }

    #[cold]
    fn begin(&mut self, entry: Option<u8>) {
        *self = Self::Used(Box::new(Lane::new(entry)));
    }
}

#[cold]
fn unused(entry: Option<u8>) -> &'static Lane {
    let [lanes @ .., none] = &UNUSED;
    entry.and_then(|entry| lanes.get(usize::from(entry))).unwrap_or(none)
}
