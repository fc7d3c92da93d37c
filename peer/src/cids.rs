//! Connection ids: ours, by which packets find us, and the other side's, one for each path (SPEC 9.4).
//!
//! Invariant: every id of the other side is used on one path only, so that nobody who watches two networks can tell
//! that both carry the same session, unless no spare one is left.

use std::collections::VecDeque;

use smallvec::SmallVec;
use structs::{RangeSet, Rare};

use crate::Violation;
use crate::limits::{CIDS_ISSUED, CIDS_KEPT, CIDS_RETIRED};

pub(crate) type Cid = [u8; 8];

/// The ids that we gave out.
#[derive(Debug)]
pub(crate) struct LocalCids {
    active: SmallVec<[(u64, Cid); 1]>,
    next: u64,
}

impl LocalCids {
    /// The first one was exchanged in the handshake.
    pub(crate) fn new(first: Cid) -> Self {
        Self { active: SmallVec::from_buf([(0, first)]), next: 1 }
    }

    /// How many more should be issued.
    pub(crate) fn wanted(&self) -> usize {
        CIDS_ISSUED.saturating_sub(self.active.len())
    }

    /// Takes a new id into use and returns its number.
    pub(crate) fn issue(&mut self, cid: Cid) -> u64 {
        let sequence = self.next;
        self.next += 1;
        self.active.push((sequence, cid));
        sequence
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Cid> {
        self.active.iter().find(|(s, _)| *s == sequence).map(|&(_, cid)| cid)
    }

    /// The other side will not use this one any more: returns it, if it was still known.
    pub(crate) fn retire(&mut self, sequence: u64) -> Result<Option<Cid>, Violation> {
        if sequence >= self.next {
            return Err(Violation::Protocol);
        }
        let at = self.active.iter().position(|(s, _)| *s == sequence);
        Ok(at.map(|at| self.active.remove(at).1))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Cid> + '_ {
        self.active.iter().map(|&(_, cid)| cid)
    }
}

/// An id of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemoteCid {
    pub(crate) sequence: u64,
    pub(crate) cid: Cid,
    /// What a stateless reset for it ends with; the responder knows the dialler's first one only from HELLO.
    pub(crate) token: Option<[u8; 16]>,
}

/// The ids that the other side gave us.
#[derive(Debug)]
pub(crate) struct RemoteCids {
    /// Those in use, and those to spare.
    known: SmallVec<[RemoteCid; 1]>,
    spare: VecDeque<RemoteCid>,
    /// The numbers that were given back: a late copy of the frame that offered one changes nothing.
    gone: Rare<RangeSet>,
}

impl RemoteCids {
    pub(crate) fn new(cid: Cid, token: Option<[u8; 16]>) -> Self {
        Self {
            known: SmallVec::from_buf([RemoteCid { sequence: 0, cid, token }]),
            spare: VecDeque::new(),
            gone: Rare::new(),
        }
    }

    /// NEW_CID arrived. Returns what must be given back because of it; the paths that use one take another.
    pub(crate) fn offer(&mut self, new: RemoteCid, retire_prior_to: u64) -> Result<Offered, Violation> {
        if retire_prior_to > new.sequence {
            return Err(Violation::Protocol);
        }
        let mut offered = Offered::default();
        if let Some(have) = self.known.iter().chain(&self.spare).find(|have| have.sequence == new.sequence) {
            // The same one again is a retransmission; another one under its number is an attack.
            return if have.cid == new.cid { Ok(offered) } else { Err(Violation::Protocol) };
        }
        if self.gone.contains(new.sequence) {
            return Ok(offered);
        }
        let old = |have: &RemoteCid| have.sequence < retire_prior_to;
        offered.replaced.extend(self.known.iter().copied().filter(old));
        offered.retire.extend(self.spare.iter().filter(|have| old(have)).map(|have| have.sequence));
        self.spare.retain(|have| !old(have));
        for &sequence in &offered.retire {
            self.gone.insert(sequence..sequence + 1);
        }
        if self.known.len() + self.spare.len() >= CIDS_KEPT || self.gone.len() >= CIDS_RETIRED {
            return Err(Violation::Protocol);
        }
        self.spare.push_back(new);
        Ok(offered)
    }

    /// Takes a spare one into use.
    pub(crate) fn take(&mut self) -> Option<RemoteCid> {
        let cid = self.spare.pop_front()?;
        self.known.push(cid);
        Some(cid)
    }

    /// Gives one back that is not used any more. RETIRE_CID says so.
    pub(crate) fn give_back(&mut self, sequence: u64) -> Option<RemoteCid> {
        let at = self.known.iter().position(|have| have.sequence == sequence)?;
        self.gone.insert(sequence..sequence + 1);
        Some(self.known.remove(at))
    }

    /// HELLO tells the token of the dialler's first id.
    pub(crate) fn set_first_token(&mut self, token: [u8; 16]) -> bool {
        match self.known.iter_mut().find(|have| have.sequence == 0 && have.token.is_none()) {
            Some(first) => {
                first.token = Some(token);
                true
            }
            None => false,
        }
    }

    /// Gives back room that nothing needs now.
    pub(crate) fn rest(&mut self) {
        self.spare.shrink_to_fit();
        self.gone.rest();
    }

    pub(crate) fn tokens(&self) -> impl Iterator<Item = [u8; 16]> + '_ {
        self.known.iter().filter_map(|have| have.token)
    }
}

/// What a NEW_CID asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// In use, and to be replaced by spare ones.
    pub(crate) replaced: SmallVec<[RemoteCid; 2]>,
    /// Spare ones to be given back at once.
    pub(crate) retire: SmallVec<[u64; 2]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(n: u64) -> RemoteCid {
        RemoteCid { sequence: n, cid: n.to_be_bytes(), token: Some([n as u8; 16]) }
    }

    #[test]
    fn a_spare_one_for_every_path_and_none_twice() {
        let mut cids = RemoteCids::new(cid(0).cid, None);
        assert_eq!(cids.take(), None);
        for n in 1..4 {
            assert_eq!(cids.offer(cid(n), 0), Ok(Offered::default()));
            assert_eq!(cids.offer(cid(n), 0), Ok(Offered::default()), "again, after a loss");
        }
        assert_eq!(cids.take().map(|c| c.sequence), Some(1));
        assert_eq!(cids.give_back(1).map(|c| c.sequence), Some(1));
        assert_eq!(cids.offer(cid(1), 0), Ok(Offered::default()), "late: it was given back");
        assert_eq!(cids.take().map(|c| c.sequence), Some(2));
        let offered = cids.offer(cid(4), 3).expect("valid");
        assert_eq!(offered.replaced.iter().map(|c| c.sequence).collect::<Vec<_>>(), [0, 2]);
        assert!(cids.set_first_token([9; 16]) && !cids.set_first_token([8; 16]));
    }

    #[test]
    fn offers_that_make_no_sense_are_violations() {
        let mut cids = RemoteCids::new(cid(0).cid, None);
        assert_eq!(cids.offer(cid(2), 3), Err(Violation::Protocol));
        cids.offer(cid(1), 0).expect("valid");
        assert_eq!(cids.offer(RemoteCid { cid: [7; 8], ..cid(1) }, 0), Err(Violation::Protocol));
        for n in 2..CIDS_KEPT as u64 {
            cids.offer(cid(n), 0).expect("valid");
        }
        assert_eq!(cids.offer(cid(99), 0), Err(Violation::Protocol), "more than may be kept");
        let mut ours = LocalCids::new([0; 8]);
        assert_eq!(ours.wanted(), CIDS_ISSUED - 1);
        assert_eq!(ours.issue([1; 8]), 1);
        assert_eq!(ours.retire(2), Err(Violation::Protocol));
        assert_eq!(ours.retire(0), Ok(Some([0; 8])));
        assert_eq!(ours.retire(0), Ok(None));
    }
}
