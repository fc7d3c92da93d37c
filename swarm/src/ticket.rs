//! Tickets: all that a newcomer needs, in one word.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use framing::{DecodeError, Reader, Writer, address, tlv};
use sha2::{Digest, Sha256};

use crate::{PeerId, TopicId};

/// An invitation: a peer, some of its addresses, relays through which it is reached, and perhaps a topic. As text it begins with `seto1` and is in lower case.
///
/// Whoever has a ticket with a topic knows the topic, so it is as secret as the topic is.
///
/// ```
/// use swarm::{PeerId, Ticket, TopicId};
///
/// let ticket = Ticket::new(PeerId::from_bytes([7; 32]), ["192.0.2.1:4000".parse()?]).topic(TopicId::from("cats"));
/// let text = ticket.to_string();
/// assert!(text.starts_with("seto1"));
/// assert_eq!(text.parse::<Ticket>()?, ticket);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    peer: PeerId,
    addrs: Vec<SocketAddr>,
    relays: Vec<TicketRelay>,
    topic: Option<TopicId>,
}

/// A relay at which the peer of a ticket has a place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TicketRelay {
    /// Who.
    pub peer: PeerId,
    /// Where.
    pub addrs: Vec<SocketAddr>,
}

/// Why a text is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTicketError {
    /// It does not begin with `seto1`.
    #[error("a ticket begins with {PREFIX}")]
    Prefix,
    /// A character that is not of base32, or an impossible length.
    #[error("a ticket consists of the letters a-z and the digits 2-7")]
    Alphabet,
    /// The checksum is wrong: a character is missing or was changed.
    #[error("a character of the ticket is missing or wrong")]
    Checksum,
    /// A version that this program does not know.
    #[error("the ticket was made by a newer program (version {version})")]
    Version {
        /// The version it has.
        version: u8,
    },
    /// It has the right checksum and no sense.
    #[error("the ticket is malformed")]
    Malformed,
}

impl Ticket {
    /// The most addresses in a ticket.
    pub const MAX_ADDRS: usize = 16;

    /// An invitation to a peer at these addresses; the first 16 of them.
    #[must_use]
    pub fn new(peer: PeerId, addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { peer, addrs: addrs.into_iter().take(Self::MAX_ADDRS).collect(), relays: Vec::new(), topic: None }
    }

    /// The most relays in a ticket, and addresses of each.
    pub const MAX_RELAYS: usize = 2;
    /// See [`MAX_RELAYS`](Self::MAX_RELAYS).
    pub const MAX_RELAY_ADDRS: usize = 2;

    /// Adds a relay, with the first two of its addresses, unless there are two relays already.
    #[must_use]
    pub fn relay(mut self, peer: PeerId, addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        if self.relays.len() < Self::MAX_RELAYS {
            let addrs = addrs.into_iter().take(Self::MAX_RELAY_ADDRS).collect();
            self.relays.push(TicketRelay { peer, addrs });
        }
        self
    }

    /// Adds a topic to be joined.
    #[must_use]
    pub const fn topic(mut self, topic: TopicId) -> Self {
        self.topic = Some(topic);
        self
    }

    /// Who invites.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Where.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Through whom else.
    #[must_use]
    pub fn relays(&self) -> &[TicketRelay] {
        &self.relays
    }

    /// To what.
    #[must_use]
    pub const fn topic_id(&self) -> Option<TopicId> {
        self.topic
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let mut writer = Writer::new(&mut bytes);
        let addrs: Vec<u8> = self.addrs.iter().flat_map(|addr| address::encode(*addr)).collect();
        let topic = self.topic.as_ref().map(TopicId::as_bytes);
        let mut relays = Vec::new();
        for relay in &self.relays {
            relays.extend_from_slice(relay.peer.as_bytes());
            relays.push(u8::try_from(relay.addrs.len()).unwrap_or(0));
            relays.extend(relay.addrs.iter().flat_map(|addr| address::encode(*addr)));
        }
        let entries = [(PEER, &self.peer.as_bytes()[..]), (ADDRS, &addrs[..])].into_iter();
        let entries = entries.chain(topic.map(|topic| (TOPIC, &topic[..])));
        for (tag, value) in entries.chain((!relays.is_empty()).then_some((RELAYS, &relays[..]))) {
            // The tags are small constants, which is all that can be wrong with one.
            let _ = tlv::put(tag, value, &mut writer);
        }
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, ParseTicketError> {
        let (body, check) = bytes.split_last_chunk::<CHECK>().ok_or(ParseTicketError::Checksum)?;
        if checksum(body) != *check {
            return Err(ParseTicketError::Checksum);
        }
        let (&version, body) = body.split_first().ok_or(ParseTicketError::Malformed)?;
        if version != VERSION {
            return Err(ParseTicketError::Version { version });
        }
        let malformed = |_| ParseTicketError::Malformed;
        let (mut peer, mut addrs, mut relays, mut topic) = (None, Vec::new(), Vec::new(), None);
        for entry in tlv::Entries::new(body) {
            let (tag, value) = entry.map_err(malformed)?;
            let mut reader = Reader::new(value);
            match tag {
                PEER => peer = Some(PeerId::from_bytes(reader.array().map_err(malformed)?)),
                TOPIC => topic = Some(TopicId::from_bytes(reader.array().map_err(malformed)?)),
                ADDRS => {
                    while !reader.is_empty() && addrs.len() < Self::MAX_ADDRS {
                        addrs.push(address::decode(reader.array().map_err(malformed)?));
                    }
                }
                RELAYS => {
                    while !reader.is_empty() && relays.len() < Self::MAX_RELAYS {
                        relays.push(relay(&mut reader).map_err(malformed)?);
                    }
                }
                // Of a later version that can do without being understood.
                _ => {}
            }
        }
        let peer = peer.ok_or(ParseTicketError::Malformed)?;
        Ok(Self { peer, addrs, relays, topic })
    }
}

/// Peer id 32, count u8, as many addresses, of which more than two are passed over.
fn relay(reader: &mut Reader<'_>) -> Result<TicketRelay, DecodeError> {
    let peer = PeerId::from_bytes(reader.array()?);
    let mut addrs = Vec::new();
    for _ in 0..reader.u8()? {
        let addr = address::decode(reader.array()?);
        if addrs.len() < Ticket::MAX_RELAY_ADDRS {
            addrs.push(addr);
        }
    }
    Ok(TicketRelay { peer, addrs })
}

/// The first four bytes of the SHA-256: a typing error passes once in four thousand million times.
fn checksum(bytes: &[u8]) -> [u8; CHECK] {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(bytes));
    [a, b, c, d]
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&self.encode()).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = ParseTicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().to_ascii_lowercase();
        let body = text.strip_prefix(PREFIX).ok_or(ParseTicketError::Prefix)?;
        let bytes = BASE32_NOPAD.decode(body.to_ascii_uppercase().as_bytes());
        Self::decode(&bytes.or(Err(ParseTicketError::Alphabet))?)
    }
}

const PREFIX: &str = "seto1";
const VERSION: u8 = 1;
const CHECK: usize = 4;
const PEER: u64 = 1;
const ADDRS: u64 = 2;
const TOPIC: u64 = 3;
const RELAYS: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let addrs = ["192.0.2.1:4000".parse().unwrap(), "[2001:db8::1]:4001".parse().unwrap()];
        Ticket::new(PeerId::from_bytes([7; 32]), addrs).topic(TopicId::from("cats"))
    }

    #[test]
    fn relays_come_along_and_tickets_without_them_are_what_they_were() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let bare = ticket().encode();
        let id = |byte| PeerId::from_bytes([byte; 32]);
        let addrs = [addr("192.0.2.8:1"), addr("[2001:db8::8]:2"), addr("192.0.2.8:3")];
        let relayed = ticket().relay(id(8), addrs).relay(id(9), []).relay(id(10), []);
        let read: Ticket = relayed.to_string().parse().unwrap();
        assert_eq!(read, relayed);
        let relays: Vec<_> = read.relays().iter().map(|relay| (relay.peer, relay.addrs.len())).collect();
        assert_eq!(relays, [(id(8), 2), (id(9), 0)]);
        // Who knows no relays reads the rest: what stands in front is the same.
        let (body, _) = bare.split_last_chunk::<CHECK>().unwrap();
        assert!(relayed.encode().starts_with(body));
        let mut cut = [body, &[4, 34][..], &[8; 32], &[3, 1]].concat();
        cut.extend_from_slice(&checksum(&cut));
        assert_eq!(Ticket::decode(&cut), Err(ParseTicketError::Malformed));
    }

    #[test]
    fn every_typing_error_is_noticed() {
        let text = ticket().to_string();
        assert_eq!(text.to_uppercase().parse(), Ok(ticket()), "screens and voices know no case");
        for at in 0..text.len() {
            let mut wrong: Vec<char> = text.chars().collect();
            wrong[at] = if wrong[at] == 'a' { 'b' } else { 'a' };
            let wrong: String = wrong.into_iter().collect();
            assert!(wrong.parse::<Ticket>().is_err() || wrong == text, "{wrong}");
            assert!(text[..at].parse::<Ticket>().is_err());
        }
    }

    #[test]
    fn newer_tickets_are_named_as_such_and_additions_are_passed_over() {
        let of = |mut body: Vec<u8>| {
            let check = checksum(&body);
            body.extend_from_slice(&check);
            Ticket::decode(&body)
        };
        assert_eq!(of(vec![2, 9, 9]), Err(ParseTicketError::Version { version: 2 }));
        assert_eq!(of(vec![1]), Err(ParseTicketError::Malformed));
        assert_eq!(of(vec![1, 1, 2, 0, 0]), Err(ParseTicketError::Malformed));
        let mut body = ticket().encode();
        body.truncate(body.len() - CHECK);
        body.extend_from_slice(&[9, 3, 1, 2, 3]);
        assert_eq!(of(body), Ok(ticket()));
    }
}
