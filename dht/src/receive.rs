//! What becomes of a datagram.

use std::net::SocketAddr;
use std::time::Instant;

use structs::{Datagram, Rejected};

use crate::dht::{Dht, Goal, Purpose, Search};
use crate::message::{self, Answer, Echo, Front, Message, Outcome, Refused, Request, Transaction};
use crate::store::{Page, Shown};
use crate::subnet::{is_public, is_usable};
use crate::{Contact, Event, Family, Inserted, Item, Key, NodeId, Origin, QueryId, Token, limits};

impl Dht {
    pub(crate) fn receive(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Rejected> {
        let from = datagram.path.remote;
        if !is_usable(&from) {
            return Err(Rejected::BadAddress);
        }
        match Front::decode(datagram.payload)? {
            Front::Sealed { sender, token, echo, client } => {
                let from = Contact { id: sender, addr: from };
                self.on_sealed(from, token, (echo, client), datagram.payload, now)
            }
            Front::Hello { echo, sender } => self.on_hello(Contact { id: sender, addr: from }, echo, now),
            Front::Welcome { echo, sender, token } => {
                self.bootstrap.on_welcome(echo, from).ok_or(Rejected::Unsolicited)?;
                self.on_welcome(sender, token, from, now)
            }
            Front::Retry { echo, token } => {
                let (transaction, contact) = self.requests.on_retry(echo, from).ok_or(Rejected::Unsolicited)?;
                self.keyring.set_token(contact, token, now);
                self.send_request(transaction, now);
                Ok(())
            }
        }
    }

    fn on_hello(&mut self, from: Contact, echo: Echo, now: Instant) -> Result<(), Rejected> {
        if from.id == self.id() {
            return Err(Rejected::FromSelf);
        }
        if !self.server {
            return Err(Rejected::Forbidden);
        }
        // Who is waited for cannot be silenced by those who spend in his name.
        if !self.guard.may_ask(from.addr.ip(), now) && !self.requests.is_asked(&from) {
            return Err(Rejected::LimitReached);
        }
        let token = self.tokens.token(&from.id, from.addr, now);
        self.reply(from.addr, Front::Welcome { echo, sender: self.id(), token }.encode())
    }

    fn on_welcome(&mut self, id: NodeId, token: Token, addr: SocketAddr, now: Instant) -> Result<(), Rejected> {
        if id == self.id() {
            return Err(Rejected::FromSelf);
        }
        let contact = Contact { id, addr };
        self.keyring.set_token(contact, token, now);
        if self.ask(contact, Request::Ping, Purpose::Check(Origin::Lookup), now) {
            Ok(())
        } else {
            Err(Rejected::WeakKey)
        }
    }

    fn on_sealed(
        &mut self,
        from: Contact,
        token: Token,
        (echo, client): (Echo, bool),
        datagram: &mut [u8],
        now: Instant,
    ) -> Result<(), Rejected> {
        if from.id == self.id() {
            return Err(Rejected::FromSelf);
        }
        if !self.guard.may_ask(from.addr.ip(), now) {
            return Err(Rejected::LimitReached);
        }
        let known = self.keyring.knows(&from.id, now);
        let mut proven = !known && self.tokens.is_valid(token, &from.id, from.addr, now);
        let message = if known {
            let keys = self.keyring.with(&from.id, now).or(Err(Rejected::WeakKey))?;
            Message::decode(message::open(keys, datagram).or(Err(Rejected::Unauthentic))?)
        } else {
            if !self.may_agree(&from, proven, now) {
                return if proven { Err(Rejected::LimitReached) } else { self.retry(from, echo, now) };
            }
            let keys = self.keyring.agree(&from.id).or(Err(Rejected::WeakKey))?;
            let message = Message::decode(message::open(&keys, datagram).or(Err(Rejected::Unauthentic))?);
            self.keyring.insert(from.id, keys, now);
            message
        };
        let room = datagram.len().saturating_sub(message::OVERHEAD);
        let message = message?;
        if !matches!(message, Message::Answer(..)) {
            if !self.server {
                return Err(Rejected::Forbidden);
            }
            proven = proven || known && self.tokens.is_valid(token, &from.id, from.addr, now);
            if !proven && !self.guard.may_ask_unproven(&from, now) {
                return Err(Rejected::LimitReached);
            }
            self.traffic.answered += 1;
        }
        match message {
            Message::Answer(transaction, answer) => self.on_answer(from, transaction, answer, now),
            Message::Request(transaction, request) => {
                if !proven && request.is_write() {
                    return self.retry(from, echo, now);
                }
                if request.is_write() && !self.guard.may_write(from.addr.ip(), now) {
                    // Silence would look as if nobody were here.
                    let outcome = Outcome::Refused(Refused::Busy);
                    self.answer(from, transaction, outcome, (proven, room, echo), now)?;
                    return Err(Rejected::LimitReached);
                }
                let outcome = self.outcome(from, request, now);
                self.answer(from, transaction, outcome, (proven, room, echo), now)?;
                if proven && !client {
                    self.verify(from, now);
                }
                Ok(())
            }
            Message::UnknownRequest(transaction) => {
                let outcome = Outcome::Refused(Refused::Unknown);
                self.answer(from, transaction, outcome, (proven, room, echo), now)
            }
        }
    }

    /// Whether a datagram is worth a key agreement. Who is waited for, and who is a contact, need not share with whoever sends most.
    fn may_agree(&mut self, from: &Contact, proven: bool, now: Instant) -> bool {
        if self.requests.is_asked(from) && self.guard.may_agree_with_awaited(now) {
            return true;
        }
        if !proven {
            self.guard.may_agree(now)
        } else if self.table(Family::of(&from.addr)).get(from).is_some() {
            self.guard.may_agree_with_contact(now)
        } else {
            self.guard.may_agree_with_proven(from.addr.ip(), now)
        }
    }

    fn outcome(&mut self, from: Contact, request: Request, now: Instant) -> Outcome {
        self.store.expire(now);
        match &request {
            Request::Ping => Outcome::Pong,
            Request::Find { target, family } => Outcome::Nodes(self.nodes_for(&from, target, *family)),
            Request::Peers { key, family, start } => {
                let nodes = family.map(|family| self.nodes_for(&from, key, family)).unwrap_or_default();
                let kept = nodes.len().min(limits::CONTACTS_BESIDE) * Contact::LEN;
                let page = self.store.peers(key, *start, message::PEERS_ROOM.saturating_sub(kept));
                let Page { total, next, announcements } = page;
                if total == 0 { Outcome::Nodes(nodes) } else { Outcome::Peers { total, next, announcements, nodes } }
            }
            Request::Get { kind, key, family } => {
                let nodes = self.nodes_for(&from, key, *family);
                match self.store.get(*kind, key) {
                    Some(item) => Outcome::Item { item: item.clone(), nodes },
                    None => Outcome::Nodes(nodes),
                }
            }
            Request::Announce { key, family, .. } => self.write(from, (*key, *family), &request, now),
            Request::Put { kind, item, family } => match Item::claimed_key(*kind, item) {
                Ok(key) => self.write(from, (key, *family), &request, now),
                Err(reason) => Outcome::Refused(reason),
            },
        }
    }

    fn write(
        &mut self,
        from: Contact,
        (key, family): (Key, Option<Family>),
        request: &Request,
        now: Instant,
    ) -> Outcome {
        let extra = self.extra(&key, Family::of(&from.addr));
        let shown = Shown { from: from.addr.ip(), extra, unix: self.unix(now) };
        match self.keep(request, shown, now) {
            Ok(seconds) => {
                let nodes = family.map(|family| self.nodes_for(&from, &key, family)).unwrap_or_default();
                Outcome::Stored { seconds, nodes }
            }
            Err(reason) => Outcome::Refused(reason),
        }
    }

    fn nodes_for(&self, asker: &Contact, target: &Key, family: Family) -> Vec<Contact> {
        let mut nodes = self.table(family).closest(target, limits::K + 1);
        // It knows itself. And who asks from far away has no use for what is near here, nor business to know of it.
        let far = is_public(asker.addr.ip());
        nodes.retain(|contact| contact.id != asker.id && (!far || is_public(contact.addr.ip())));
        nodes.truncate(limits::K);
        nodes
    }

    /// Answers a request; if its address is not proven and the answer would be longer than it, with a token only.
    fn answer(
        &mut self,
        to: Contact,
        transaction: Transaction,
        outcome: Outcome,
        (proven, room, echo): (bool, usize, Echo),
        now: Instant,
    ) -> Result<(), Rejected> {
        let token = self.tokens.token(&to.id, to.addr, now);
        let body =
            Message::Answer(transaction, Answer { token, observed: to.addr, outcome }).encode(0, message::MAX_BODY);
        if !proven && body.len() > room {
            return self.retry(to, echo, now);
        }
        let datagram = self.seal(&to, &body, now).ok_or(Rejected::WeakKey)?;
        self.reply(to.addr, datagram)
    }

    fn retry(&mut self, to: Contact, echo: Echo, now: Instant) -> Result<(), Rejected> {
        let token = self.tokens.token(&to.id, to.addr, now);
        self.reply(to.addr, Front::Retry { echo, token }.encode())?;
        Err(Rejected::Unproven)
    }

    /// Asks somebody back who asked us, if the table could use it: being asked makes no contact.
    fn verify(&mut self, contact: Contact, now: Instant) {
        let known = self.table(Family::of(&contact.addr)).get(&contact).is_some();
        if !known && !self.requests.is_asked(&contact) && self.guard.may_verify(now) {
            self.ask(contact, Request::Ping, Purpose::Check(Origin::Inbound), now);
        }
    }

    fn on_answer(
        &mut self,
        from: Contact,
        transaction: Transaction,
        answer: Answer,
        now: Instant,
    ) -> Result<(), Rejected> {
        let pending = self.requests.on_answer(transaction, &from, now).ok_or(Rejected::Unsolicited)?;
        self.keyring.set_token(from, answer.token, now);
        let family = Family::of(&from.addr);
        let origin = match pending.purpose {
            Purpose::Check(origin) | Purpose::Feel(origin) => origin,
            Purpose::Lookup(_) | Purpose::Ping(_) | Purpose::More(_) | Purpose::Gift => Origin::Lookup,
        };
        let table = self.table_mut(family);
        let first = table.is_empty();
        let added = table.on_answer(from, origin, now) == Inserted::Added;
        if added {
            self.publish_grown(now);
        }
        if added && first {
            self.join(family, Some(from), now);
            self.retry_later(now);
        } else if pending.purpose == Purpose::Check(Origin::Lookup) {
            self.on_beginning(from);
        }
        if is_usable(&answer.observed) {
            self.on_observed(answer.observed, from, now);
        }
        match (pending.purpose, &answer.outcome) {
            (Purpose::Lookup(id), Outcome::Refused(reason)) if pending.request.is_write() => {
                self.on_refusal(id, from, *reason, now);
            }
            (Purpose::Lookup(id), _) => {
                if let Some(Search { lookup, goal }) = self.lookups.get_mut(&id) {
                    lookup.on_answer(&from, answer.outcome.nodes());
                    let near = lookup.is_near(&from);
                    if let Goal::Part(task, _) = *goal {
                        self.on_part_answer(task, (from, near), &pending.request, answer.outcome, now);
                    }
                }
            }
            (Purpose::Ping(id), _) => self.events.push_back(Event::PingDone { id, contact: from, answered: true }),
            (Purpose::Check(_) | Purpose::Feel(_) | Purpose::Gift, _) => {}
            (Purpose::More(id), _) => self.on_more(id, from, &pending.request, Some(answer.outcome), now),
        }
        self.pump_all(now);
        self.advance(now);
        Ok(())
    }

    /// A node on the way of a lookup does not store what it was asked to: it is asked for others, as those are that need not store
    /// anything. Refusing hides nobody.
    fn on_refusal(&mut self, id: QueryId, from: Contact, reason: Refused, now: Instant) {
        let Some(Search { lookup, goal }) = self.lookups.get(&id) else { return };
        let (target, family, goal) = (lookup.target, lookup.family, *goal);
        if let Goal::Part(task, _) = goal {
            self.on_part_refused(task, target, from, reason);
        }
        if !self.ask(from, Request::Find { target, family }, Purpose::Lookup(id), now)
            && let Some(Search { lookup, .. }) = self.lookups.get_mut(&id)
        {
            lookup.on_failure(&from);
        }
    }
}
