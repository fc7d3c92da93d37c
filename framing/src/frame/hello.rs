//! What the sender speaks and allows: entries with a tag and a length, so that later versions can add to them.
//!
//! Unknown tags are passed over, and so is what stands behind the known fields of an entry.

use std::time::Duration;

use crate::tlv::{self, Entries, Rule};
use crate::{DecodeError, EncodeError, Reader, Writer, limits};

const PROTOCOLS: u64 = 1;
const RESET_TOKEN: u64 = 2;
const AGENT: u64 = 3;
const LIMITS: u64 = 4;

/// One version of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolEntry<'a> {
    /// Its name, 1 to 64 bytes.
    pub name: &'a str,
    /// The version.
    pub version: u16,
}

/// What a side lets the other send. Sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Stream data in all.
    pub max_data: u64,
    /// Data on one stream.
    pub max_stream_data: u64,
    /// Streams in all.
    pub max_streams: u64,
    /// One message.
    pub max_message: u64,
    /// One DATAGRAM frame, type and lengths included; 0 if none are wanted.
    pub max_datagram_frame: u64,
    /// How long acknowledgements are held back at most.
    pub ack_delay: Duration,
}

impl Limits {
    /// What holds before HELLO: the dialler may send on what it opens before it has heard a word.
    pub const INITIAL: Self = Self {
        max_data: limits::INITIAL_MAX_DATA,
        max_stream_data: limits::INITIAL_MAX_STREAM_DATA,
        max_streams: limits::INITIAL_MAX_STREAMS,
        max_message: limits::INITIAL_MAX_MESSAGE,
        max_datagram_frame: limits::INITIAL_MAX_DATAGRAM_FRAME,
        ack_delay: limits::INITIAL_ACK_DELAY,
    };

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // What was allowed stays allowed: data under way may rely on it.
        Ok(Self {
            max_data: reader.varint()?.max(limits::INITIAL_MAX_DATA),
            max_stream_data: reader.varint()?.max(limits::INITIAL_MAX_STREAM_DATA),
            max_streams: reader.varint()?.clamp(limits::INITIAL_MAX_STREAMS, limits::MAX_STREAMS),
            max_message: reader.varint()?.max(limits::INITIAL_MAX_MESSAGE),
            max_datagram_frame: reader.varint()?,
            ack_delay: Duration::from_micros(reader.varint()?).min(limits::MAX_ACK_DELAY),
        })
    }

    fn fields(&self) -> [u64; 6] {
        let delay = u64::try_from(self.ack_delay.as_micros()).unwrap_or(u64::MAX);
        [self.max_data, self.max_stream_data, self.max_streams, self.max_message, self.max_datagram_frame, delay]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::INITIAL
    }
}

/// A HELLO that was checked as a whole; its parts are read when they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    body: &'a [u8],
}

impl<'a> Hello<'a> {
    /// Checks the body of a HELLO: what stands behind the type and the length. Unknown tags and fields are passed over.
    ///
    /// # Errors
    /// [`DecodeError`] if the tags do not ascend, or an entry that we know is malformed or above its limit.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        Self::parse_with(body, Rule::Lenient)
    }

    /// [`parse`](Self::parse) under a rule for what is not known.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and those of the [`Rule`].
    pub fn parse_with(body: &'a [u8], rule: Rule) -> Result<Self, DecodeError> {
        for entry in Entries::new(body) {
            let (tag, value) = entry?;
            let mut reader = Reader::new(value);
            match tag {
                PROTOCOLS => check_protocols(&mut reader)?,
                RESET_TOKEN => drop(reader.array::<16>()?),
                AGENT => drop(agent(reader.rest())?),
                LIMITS => drop(Limits::decode(&mut reader)?),
                _ => {
                    rule.unknown(tag)?;
                    continue;
                }
            }
            rule.end(&reader)?;
        }
        Ok(Self { body })
    }

    /// Writes the body of a HELLO, to be sent as `Frame::Hello(Hello::parse(&body)?)`.
    ///
    /// # Errors
    /// [`EncodeError::BadOrder`] unless the protocols ascend by name, then version, with no two alike; [`EncodeError::TooMany`] above
    /// 64 of them; [`EncodeError::TooShort`] or [`EncodeError::TooLong`] for a name of 0 or more than 64 bytes, an agent of more than
    /// 64, and a body of more than 1100; [`EncodeError::OutOfRange`] for a limit above 2^62 - 1.
    pub fn compose<'p>(
        protocols: impl IntoIterator<Item = ProtocolEntry<'p>>,
        reset_token: Option<[u8; 16]>,
        agent: Option<&str>,
        limits: &Limits,
    ) -> Result<Vec<u8>, EncodeError> {
        let (mut body, mut value) = (Vec::new(), Vec::new());
        let mut writer = Writer::new(&mut body);
        compose_protocols(protocols, &mut value)?;
        tlv::put(PROTOCOLS, &value, &mut writer)?;
        if let Some(token) = reset_token {
            tlv::put(RESET_TOKEN, &token, &mut writer)?;
        }
        if let Some(agent) = agent {
            if agent.len() > limits::MAX_AGENT {
                return Err(EncodeError::TooLong { len: agent.len(), max: limits::MAX_AGENT });
            }
            tlv::put(AGENT, agent.as_bytes(), &mut writer)?;
        }
        value.clear();
        limits.fields().into_iter().try_for_each(|field| Writer::new(&mut value).varint(field))?;
        tlv::put(LIMITS, &value, &mut writer)?;
        if body.len() > limits::MAX_HELLO {
            return Err(EncodeError::TooLong { len: body.len(), max: limits::MAX_HELLO });
        }
        Ok(body)
    }

    /// The bytes behind the type and the length.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// What the sender speaks, in the order by which frames refer to it.
    #[must_use]
    pub fn protocols(&self) -> ProtocolEntries<'a> {
        ProtocolEntries { reader: Reader::new(self.value(PROTOCOLS).unwrap_or_default()) }
    }

    /// What a reset of the sender's first id carries.
    #[must_use]
    pub fn reset_token(&self) -> Option<[u8; 16]> {
        self.value(RESET_TOKEN)?.first_chunk().copied()
    }

    /// The implementation, as it names itself: at most 64 bytes of any text.
    #[must_use]
    pub fn agent(&self) -> Option<&'a str> {
        agent(self.value(AGENT)?).ok()
    }

    /// What the sender allows. No value is below that of [`Limits::INITIAL`] but that of datagrams, and the delay is at most 1 s.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.value(LIMITS).and_then(|value| Limits::decode(&mut Reader::new(value)).ok()).unwrap_or_default()
    }

    fn value(&self, tag: u64) -> Option<&'a [u8]> {
        Entries::new(self.body).find(tag)
    }
}

fn compose_protocols<'p>(
    protocols: impl IntoIterator<Item = ProtocolEntry<'p>>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut last = None;
    for (number, entry) in protocols.into_iter().enumerate() {
        if number >= limits::MAX_PROTOCOLS {
            return Err(EncodeError::TooMany { max: limits::MAX_PROTOCOLS });
        }
        if last.is_some_and(|last| last >= entry) {
            return Err(EncodeError::BadOrder);
        }
        last = Some(entry);
        check_len(entry.name.as_bytes(), limits::MAX_PROTOCOL_NAME)?;
        let mut writer = Writer::new(out);
        writer.short_bytes(entry.name.as_bytes())?;
        writer.u16(entry.version);
    }
    Ok(())
}

fn check_len(bytes: &[u8], max: usize) -> Result<(), EncodeError> {
    match bytes.len() {
        0 => Err(EncodeError::TooShort { len: 0, min: 1 }),
        len if len > max => Err(EncodeError::TooLong { len, max }),
        _ => Ok(()),
    }
}

fn agent(value: &[u8]) -> Result<&str, DecodeError> {
    if value.len() > limits::MAX_AGENT {
        return Err(DecodeError::TooLong { len: value.len(), max: limits::MAX_AGENT });
    }
    std::str::from_utf8(value).map_err(|_not_utf8| DecodeError::BadText)
}

fn check_protocols(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    let (mut count, mut last) = (0_usize, None);
    while !reader.is_empty() {
        let entry = protocol(reader)?;
        if last.is_some_and(|last| last >= entry) {
            return Err(DecodeError::BadOrder);
        }
        last = Some(entry);
        count = count.saturating_add(1);
        if count > limits::MAX_PROTOCOLS {
            return Err(DecodeError::TooLong { len: count, max: limits::MAX_PROTOCOLS });
        }
    }
    Ok(())
}

fn protocol<'a>(reader: &mut Reader<'a>) -> Result<ProtocolEntry<'a>, DecodeError> {
    let name = reader.short_bytes()?;
    if name.is_empty() {
        return Err(DecodeError::BadText);
    }
    if name.len() > limits::MAX_PROTOCOL_NAME {
        return Err(DecodeError::TooLong { len: name.len(), max: limits::MAX_PROTOCOL_NAME });
    }
    let name = std::str::from_utf8(name).map_err(|_not_utf8| DecodeError::BadText)?;
    Ok(ProtocolEntry { name, version: reader.u16()? })
}

/// The protocols of a [`Hello`].
#[derive(Debug, Clone)]
pub struct ProtocolEntries<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for ProtocolEntries<'a> {
    type Item = ProtocolEntry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        protocol(&mut self.reader).ok()
    }
}
