//! Requests on their way: who was asked what, when that is late, and when nothing will come any more.
//!
//! The invariants: an answer is taken once, only from who was asked, at the address where it was asked; every request ends with
//! an answer or a failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use structs::Deadlines;

use crate::message::{Echo, Request, Transaction};
use crate::{Contact, limits};

/// A request on its way.
#[derive(Debug, Clone)]
pub(crate) struct Pending<P> {
    pub(crate) contact: Contact,
    pub(crate) request: Request,
    /// What it is for.
    pub(crate) purpose: P,
    /// Of the datagram sent last.
    pub(crate) echo: Echo,
    last_sent: Instant,
    /// How often it was sent because nothing came.
    tries: u8,
    /// It was sent again with the token that a RETRY gave.
    retried: bool,
}

#[derive(Debug)]
pub(crate) struct Requests<P> {
    pending: BTreeMap<Transaction, Pending<P>>,
    deadlines: Deadlines<Transaction>,
    /// Smoothed round trip and its mean deviation over all nodes (RFC 6298 section 2).
    rtt: Option<(Duration, Duration)>,
}

/// What became due.
#[derive(Debug)]
pub(crate) enum Due<P> {
    /// It is late: to be sent again.
    Late(Transaction),
    /// Nobody waits for it any more.
    Failed(Pending<P>),
}

impl<P> Requests<P> {
    pub(crate) const fn new() -> Self {
        Self { pending: BTreeMap::new(), deadlines: Deadlines::new(), rtt: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= limits::MAX_IN_FLIGHT
    }

    pub(crate) fn get(&self, transaction: Transaction) -> Option<&Pending<P>> {
        self.pending.get(&transaction)
    }

    pub(crate) fn is_asked(&self, contact: &Contact) -> bool {
        self.pending.values().any(|pending| pending.contact == *contact)
    }

    pub(crate) fn open(
        &mut self,
        transaction: Transaction,
        contact: Contact,
        request: Request,
        purpose: P,
        now: Instant,
    ) {
        let (echo, tries, retried) = (Echo([0; 8]), 1, false);
        let pending = Pending { contact, request, purpose, echo, last_sent: now, tries, retried };
        self.pending.insert(transaction, pending);
        self.deadlines.set(transaction, Some(now + self.timeout()));
    }

    /// Notes that a request left, in a datagram with this echo.
    pub(crate) fn on_sent(&mut self, transaction: Transaction, echo: Echo, now: Instant) {
        if let Some(pending) = self.pending.get_mut(&transaction) {
            pending.echo = echo;
            pending.last_sent = now;
        }
    }

    /// The request that `from` answers, if there is one.
    pub(crate) fn on_answer(&mut self, transaction: Transaction, from: &Contact, now: Instant) -> Option<Pending<P>> {
        self.pending.get(&transaction).filter(|pending| pending.contact == *from)?;
        self.deadlines.remove(&transaction);
        let pending = self.pending.remove(&transaction)?;
        // After a second try nobody knows which one was answered (Karn).
        if pending.tries == 1 {
            self.measure(now.saturating_duration_since(pending.last_sent));
        }
        Some(pending)
    }

    /// The request that a RETRY from `addr` is about, once.
    pub(crate) fn on_retry(&mut self, echo: Echo, addr: SocketAddr) -> Option<(Transaction, Contact)> {
        let mut all = self.pending.iter_mut();
        let (transaction, pending) =
            all.find(|(_, pending)| pending.echo == echo && pending.contact.addr == addr && !pending.retried)?;
        pending.retried = true;
        Some((*transaction, pending.contact))
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.next().map(|(at, _)| at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Due<P>> {
        let transaction = self.deadlines.pop_due(now)?;
        let timeout = self.timeout();
        let pending = self.pending.get_mut(&transaction)?;
        if pending.tries >= limits::MAX_TRIES {
            return self.pending.remove(&transaction).map(Due::Failed);
        }
        // Each try waits longer than the one before.
        self.deadlines.set(transaction, Some(now + timeout * u32::from(pending.tries)));
        pending.tries += 1;
        Some(Due::Late(transaction))
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// After how long an answer is late.
    fn timeout(&self) -> Duration {
        let timeout = self.rtt.map_or(limits::FIRST_TIMEOUT, |(smoothed, deviation)| smoothed + deviation * 4);
        timeout.clamp(limits::MIN_TIMEOUT, limits::MAX_TIMEOUT)
    }

    fn measure(&mut self, rtt: Duration) {
        self.rtt = Some(match self.rtt {
            None => (rtt, rtt / 2),
            Some((smoothed, deviation)) => ((smoothed * 7 + rtt) / 8, (deviation * 3 + smoothed.abs_diff(rtt)) / 4),
        });
    }
}
