//! What one side knows of the NAT in front of it: what peers tell each other before they punch (SPEC 15.2).

use std::fmt;

use framing::{DecodeError, Reader, Writer};

/// How a NAT maps an inside address (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mapping {
    /// Too few have said where they see us.
    #[default]
    Unknown,
    /// To the same outside address, whoever is sent to.
    EndpointIndependent,
    /// To one outside address for each IP address that is sent to.
    AddressDependent,
    /// To a new port for each address that is sent to, a fixed step from the one before.
    Sequential,
    /// To a new port for each address that is sent to, and nobody knows which.
    Random,
    /// It lets no UDP out.
    Blocked,
}

/// What a NAT lets in (RFC 4787 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Filtering {
    /// Nobody has tried.
    #[default]
    Unknown,
    /// Everything that comes to a mapping.
    EndpointIndependent,
    /// What comes from IP addresses that were sent to.
    AddressDependent,
    /// What comes from addresses and ports that were sent to.
    AddressAndPort,
}

/// What becomes of a datagram that is not let in.
///
/// A Linux router without a rule that drops them takes them for its own and remembers the flow; a later datagram of ours to
/// the same address then cannot have the port that it would have had. Whoever is behind such a NAT has to send first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Strays {
    /// Nobody has tried.
    #[default]
    Unknown,
    /// It is forgotten.
    Ignored,
    /// It takes the port away from us, towards where it came from.
    Recorded,
}

/// How sure the address and the mapping are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Confidence {
    /// Nobody has said anything.
    #[default]
    None,
    /// One has.
    One,
    /// More than one has, but of fewer than three networks.
    Few,
    /// Three or more have, of as many networks (IPv4 /24, IPv6 /48), and they are the majority.
    Consistent,
}

/// A NAT in one word, as far as it decides what can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NatKind {
    /// Nothing is known.
    Unknown,
    /// No NAT, or one that lets in whatever comes to a mapping.
    Open,
    /// One mapping for all, and a filter.
    EndpointIndependent,
    /// The same, and a stray datagram that comes first takes the port away.
    Clash,
    /// A new port for each address, which can be predicted.
    Sequential,
    /// A new port for each address, which cannot.
    Random,
    /// No UDP.
    Blocked,
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Open => "open",
            Self::EndpointIndependent => "one port for all",
            Self::Clash => "one port for all, taken away by strays",
            Self::Sequential => "a new port for each, in sequence",
            Self::Random => "a new port for each, at random",
            Self::Blocked => "no UDP",
        })
    }
}

/// What one side knows of the NAT in front of it, for one address family and one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Report {
    /// How it maps.
    pub mapping: Mapping,
    /// What it lets in.
    pub filtering: Filtering,
    /// What becomes of the rest.
    pub strays: Strays,
    /// How sure the mapping is.
    pub confidence: Confidence,
    /// The outside port was that of the socket.
    pub preserves: bool,
    /// The outside address is that of the host: there is no NAT.
    pub public: bool,
    /// The step between the ports of new mappings, if they are [`Sequential`](Mapping::Sequential).
    pub delta: i16,
    /// The port that the next new mapping is expected to get, as far as we know when this is sent; 0 if unknown.
    pub next: u16,
}

impl Report {
    /// The NAT in one word.
    #[must_use]
    pub const fn kind(&self) -> NatKind {
        match self.mapping {
            Mapping::Blocked => NatKind::Blocked,
            _ if self.public => NatKind::Open,
            Mapping::Unknown => NatKind::Unknown,
            Mapping::EndpointIndependent => match (self.filtering, self.strays) {
                (Filtering::EndpointIndependent, _) => NatKind::Open,
                (_, Strays::Recorded) => NatKind::Clash,
                _ => NatKind::EndpointIndependent,
            },
            Mapping::Sequential if self.next != 0 && self.delta != 0 => NatKind::Sequential,
            // The port that one peer sees is another than that which others see.
            Mapping::AddressDependent | Mapping::Sequential | Mapping::Random => NatKind::Random,
        }
    }

    /// Reads a report. Values that are not known count as unknown, and what stands behind the fields is passed over.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(reader.short_bytes()?);
        let [mapping, filtering, strays, confidence, flags] = fields.array()?;
        Ok(Self {
            mapping: match mapping {
                1 => Mapping::EndpointIndependent,
                2 => Mapping::AddressDependent,
                3 => Mapping::Sequential,
                4 => Mapping::Random,
                5 => Mapping::Blocked,
                _ => Mapping::Unknown,
            },
            filtering: match filtering {
                1 => Filtering::EndpointIndependent,
                2 => Filtering::AddressDependent,
                3 => Filtering::AddressAndPort,
                _ => Filtering::Unknown,
            },
            strays: match strays {
                1 => Strays::Ignored,
                2 => Strays::Recorded,
                _ => Strays::Unknown,
            },
            confidence: match confidence {
                0 => Confidence::None,
                1 => Confidence::One,
                2 => Confidence::Few,
                _ => Confidence::Consistent,
            },
            preserves: flags & 1 != 0,
            public: flags & 2 != 0,
            delta: i16::from_be_bytes(fields.array()?),
            next: fields.u16()?,
        })
    }

    /// Appends what [`decode`](Self::decode) reads: a length and 9 bytes.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.u8(Self::LEN);
        writer.u8(match self.mapping {
            Mapping::Unknown => 0,
            Mapping::EndpointIndependent => 1,
            Mapping::AddressDependent => 2,
            Mapping::Sequential => 3,
            Mapping::Random => 4,
            Mapping::Blocked => 5,
        });
        writer.u8(match self.filtering {
            Filtering::Unknown => 0,
            Filtering::EndpointIndependent => 1,
            Filtering::AddressDependent => 2,
            Filtering::AddressAndPort => 3,
        });
        writer.u8(match self.strays {
            Strays::Unknown => 0,
            Strays::Ignored => 1,
            Strays::Recorded => 2,
        });
        writer.u8(match self.confidence {
            Confidence::None => 0,
            Confidence::One => 1,
            Confidence::Few => 2,
            Confidence::Consistent => 3,
        });
        writer.u8(u8::from(self.preserves) | u8::from(self.public) << 1);
        writer.put(&self.delta.to_be_bytes());
        writer.u16(self.next);
    }

    const LEN: u8 = 9;
}
