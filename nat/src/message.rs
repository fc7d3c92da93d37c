//! What two peers tell each other, through whatever connects them already, before and while they punch (SPEC 15.3).

use framing::{DecodeError, Reader, Writer};

use crate::candidate::Candidate;
use crate::limits;
use crate::plan::Plan;
use crate::probe::{AttemptId, Secret};
use crate::report::Report;

/// A message of the coordination. It travels inside the session of the two, so its author is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The initiator wants to begin a round.
    Offer(Proposal),
    /// The responder takes part.
    Answer(Proposal),
    /// The round begins now.
    Start(Start),
    /// It is over, or never was.
    End {
        /// Which attempt.
        attempt: AttemptId,
        /// Why.
        why: EndCode,
    },
}

/// What each side says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Which round of it, from 0.
    pub round: u8,
    /// Its half of the keys of the round.
    pub secret: Secret,
    /// What it knows of its NAT.
    pub report: Report,
    /// Where it may be reached.
    pub candidates: Vec<Candidate>,
}

/// How the round goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Which round of it.
    pub round: u8,
    /// What both do.
    pub plan: Plan,
    /// The round trip through the coordinator, in milliseconds.
    pub rtt_ms: u16,
}

/// Why an attempt is over, as the other side says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EndCode {
    /// All rounds are over and nothing arrived.
    #[error("nothing reached the peer")]
    Failed,
    /// No way is known between these NATs: a relay is.
    #[error("the peer knows no way between these networks")]
    Hopeless,
    /// The other side does not want to, or has too much to do.
    #[error("the peer does not take part, or not now")]
    Refused,
    /// Its owner has given up.
    #[error("the peer ended the attempt")]
    Cancelled,
    /// A reason that we do not know.
    #[error("the peer ended the attempt with code {0}")]
    Other(u8),
}

impl Message {
    /// Reads a message. What stands behind the fields is passed over, as are candidates of kinds that are not known.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above 512 bytes or 16 candidates, [`DecodeError::UnknownKind`], [`DecodeError::OutOfRange`] for a
    /// round or a plan that does not exist, [`DecodeError::Truncated`], and those of candidates.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > limits::MAX_MESSAGE {
            return Err(DecodeError::TooLong { len: bytes.len(), max: limits::MAX_MESSAGE });
        }
        let mut reader = Reader::new(bytes);
        let kind = reader.peek().ok_or(DecodeError::Empty)?;
        reader.u8()?;
        let attempt = match kind {
            OFFER..=END => AttemptId(reader.array()?),
            other => return Err(DecodeError::UnknownKind(other)),
        };
        Ok(match kind {
            OFFER => Self::Offer(Proposal::decode(attempt, &mut reader)?),
            ANSWER => Self::Answer(Proposal::decode(attempt, &mut reader)?),
            START => {
                let round = round(&mut reader)?;
                let plan = Plan::decode(reader.array()?).ok_or(DecodeError::OutOfRange)?;
                Self::Start(Start { attempt, round, plan, rtt_ms: reader.u16()? })
            }
            _ => Self::End {
                attempt,
                why: match reader.u8()? {
                    0 => EndCode::Failed,
                    1 => EndCode::Hopeless,
                    2 => EndCode::Refused,
                    3 => EndCode::Cancelled,
                    other => EndCode::Other(other),
                },
            },
        })
    }

    /// Writes a message. Candidates above 16 are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let mut writer = Writer::new(&mut out);
        match self {
            Self::Offer(proposal) => proposal.encode(OFFER, &mut writer),
            Self::Answer(proposal) => proposal.encode(ANSWER, &mut writer),
            Self::Start(start) => {
                writer.u8(START);
                writer.put(&start.attempt.0);
                writer.u8(start.round);
                writer.put(&start.plan.encode());
                writer.u16(start.rtt_ms);
            }
            Self::End { attempt, why } => {
                writer.u8(END);
                writer.put(&attempt.0);
                writer.u8(match why {
                    EndCode::Failed => 0,
                    EndCode::Hopeless => 1,
                    EndCode::Refused => 2,
                    EndCode::Cancelled => 3,
                    EndCode::Other(code) => *code,
                });
            }
        }
        out
    }

    /// Which attempt it belongs to.
    #[must_use]
    pub const fn attempt(&self) -> AttemptId {
        match self {
            Self::Offer(proposal) | Self::Answer(proposal) => proposal.attempt,
            Self::Start(start) => start.attempt,
            Self::End { attempt, .. } => *attempt,
        }
    }
}

impl Proposal {
    fn decode(attempt: AttemptId, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let round = round(reader)?;
        let secret = Secret(reader.array()?);
        let report = Report::decode(reader)?;
        let len = usize::from(reader.u8()?);
        if len > limits::MAX_CANDIDATES {
            return Err(DecodeError::TooLong { len, max: limits::MAX_CANDIDATES });
        }
        let mut candidates = Vec::with_capacity(len);
        for _ in 0..len {
            candidates.extend(Candidate::decode(reader)?);
        }
        Ok(Self { attempt, round, secret, report, candidates })
    }

    fn encode(&self, kind: u8, writer: &mut Writer<'_>) {
        writer.u8(kind);
        writer.put(&self.attempt.0);
        writer.u8(self.round);
        writer.put(&self.secret.0);
        self.report.encode(writer);
        let count = self.candidates.len().min(limits::MAX_CANDIDATES);
        writer.u8(u8::try_from(count).unwrap_or(u8::MAX));
        self.candidates.iter().take(count).for_each(|candidate| candidate.encode(writer));
    }
}

fn round(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    let round = reader.u8()?;
    if round < limits::MAX_ROUNDS { Ok(round) } else { Err(DecodeError::OutOfRange) }
}

const OFFER: u8 = 0x00;
const ANSWER: u8 = 0x01;
const START: u8 = 0x02;
const END: u8 = 0x03;
