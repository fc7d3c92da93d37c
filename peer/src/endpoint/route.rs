//! Whose datagram it is.

use framing::{Kind, header};
use structs::{Datagram, Machine, Rejected};

use super::Endpoint;
use super::table::Phase;

/// Whether a datagram was refused by the endpoint, which counts it, or by a peer, which has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refused {
    Here(Rejected),
    ByPeer(Rejected),
}

impl From<Rejected> for Refused {
    fn from(reason: Rejected) -> Self {
        Self::Here(reason)
    }
}

impl Endpoint {
    pub(super) fn route(&mut self, datagram: Datagram<'_>) -> Result<(), Rejected> {
        self.dispatch(datagram).map_err(|refused| match refused {
            Refused::Here(reason) => self.stats.rejected.count(reason),
            Refused::ByPeer(reason) => reason,
        })
    }

    fn dispatch(&mut self, datagram: Datagram<'_>) -> Result<(), Refused> {
        if self.is_closed() {
            return Err(Rejected::Closed.into());
        }
        let first = *datagram.payload.first().ok_or(Rejected::Empty)?;
        let kind = Kind::of(first).filter(|kind| kind.is_session()).ok_or(Rejected::UnknownKind)?;
        if let Kind::Init | Kind::Xx1 | Kind::InitR = kind {
            return self.on_first(datagram.path, datagram.payload).map_err(Refused::Here);
        }
        let cid = header::destination(datagram.payload).ok_or(Rejected::Malformed)?;
        if let Some(index) = self.table.of_cid(&cid) {
            let answer = matches!(kind, Kind::Resp | Kind::Xx2 | Kind::RespR);
            if answer && self.table.get(index).is_some_and(|entry| entry.yields(self.now)) {
                // Were it taken, both sides would have a session of their own.
                return Err(Rejected::Duplicate.into());
            }
            return self.deliver(index, datagram);
        }
        if self.closing {
            return Err(Rejected::Closed.into());
        }
        match kind {
            Kind::Data if self.half_open.get(&cid).is_some() => self.on_first_packet(cid, datagram),
            Kind::Xx3 => self.on_xx3(cid, datagram.payload).map_err(Refused::Here),
            Kind::Data => self.on_stray(cid, datagram),
            _ => Err(Rejected::UnknownPeer.into()),
        }
    }

    /// A packet for no session of ours: a reset for one, or a packet of one that we have forgotten.
    fn on_stray(&mut self, cid: [u8; 8], datagram: Datagram<'_>) -> Result<(), Refused> {
        let token = header::reset_token(datagram.payload).ok_or(Rejected::UnknownPeer)?;
        // The table is keyed with a secret hash: how long a look takes tells nothing about the tokens in it.
        if let Some(index) = self.table.of_token(&token) {
            return self.deliver(index, datagram);
        }
        let token = self.shared.reset_token(&cid);
        let (path, len) = (datagram.path, datagram.payload.len());
        let reset = self.resets.answer(path.remote.ip(), len, token, &mut self.rng, self.now)?;
        self.answers.push(path, reset.as_ref(), len)?;
        Err(Rejected::UnknownPeer.into())
    }

    pub(super) fn deliver(&mut self, index: u32, datagram: Datagram<'_>) -> Result<(), Refused> {
        let now = self.now;
        let entry = self.table.get_mut(index).ok_or(Rejected::UnknownPeer)?;
        let was_open = entry.phase == Phase::Open;
        let result = entry.peer.handle_datagram(datagram, now);
        if was_open && result.is_ok() {
            entry.heard = entry.heard.or(Some(now));
        }
        self.touch(index);
        result.map_err(Refused::ByPeer)
    }
}
