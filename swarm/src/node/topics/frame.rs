//! The messages of the topic protocol (SPEC 10.2).

use bytes::Bytes;
use crypto::topic::TAG;
use framing::{DecodeError, Reader, Writer};

const START: u8 = 0;
const TAGS: u8 = 1;
const PUBLICATION: u8 = 2;
const V12_KEY: u8 = 3;

/// What a publication adds to its data: type 1, flags 1, place 2, sequence 8.
pub(super) const OVERHEAD: usize = 12;

/// A tag and its place.
pub(super) type Entry = [u8; 2 + TAG];

/// Where a tag stands in the table of its sender: the slot, and which one it is of those that stood there, modulo 256.
///
/// The second keeps a publication that was held up from being taken for one in the topic that has the slot by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slot: u8,
    pub(super) turn: u8,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// The next publication of the sender has this number or a higher one.
    Start { next: u64 },
    /// These slots of the sender now have these tags; slots ascend.
    Tags(&'a [Entry]),
    /// A message in the topic whose tag is in this place of the sender's table.
    Publication { place: Place, sequence: u64, data: &'a [u8] },
    /// The sender says that this is its key on the v12 wire.
    V12Key([u8; 32]),
    /// Of a later version: to be passed over.
    Unknown,
}

impl<'a> Frame<'a> {
    pub(super) fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        Ok(match reader.u8().map_err(|_truncated| DecodeError::Empty)? {
            START => Self::Start { next: reader.u64()? },
            TAGS => Self::Tags(tags(reader.rest())?),
            PUBLICATION => match reader.u8()? {
                0 => Self::Publication {
                    place: Place { slot: reader.u8()?, turn: reader.u8()? },
                    sequence: reader.u64()?,
                    data: reader.rest(),
                },
                _flags => Self::Unknown,
            },
            V12_KEY => Self::V12Key(reader.array()?),
            _ => Self::Unknown,
        })
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        match *self {
            Self::Start { next } => {
                writer.u8(START);
                writer.u64(next);
            }
            Self::Tags(entries) => {
                writer.u8(TAGS);
                writer.put(entries.as_flattened());
            }
            Self::Publication { place: Place { slot, turn }, sequence, data } => {
                out.reserve_exact(OVERHEAD + data.len());
                let mut writer = Writer::new(&mut out);
                writer.put(&[PUBLICATION, 0, slot, turn]);
                writer.u64(sequence);
                writer.put(data);
            }
            Self::V12Key(key) => {
                writer.u8(V12_KEY);
                writer.put(&key);
            }
            Self::Unknown => {}
        }
        out.into()
    }
}

/// Slots are a byte and ascend, so there are at most 256.
fn tags(body: &[u8]) -> Result<&[Entry], DecodeError> {
    let (entries, rest) = body.as_chunks::<{ 2 + TAG }>();
    if !rest.is_empty() {
        return Err(DecodeError::Truncated);
    }
    if entries.is_sorted_by(|[a, ..], [b, ..]| a < b) { Ok(entries) } else { Err(DecodeError::BadOrder) }
}
