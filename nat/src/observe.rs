//! Where others see us, and what that says of the NAT in front of us.
//!
//! Nobody is believed alone: of the newest words of [`WINDOW`] networks the majority counts. What a NAT does with its ports is read
//! from the same words: the same port for all, the same for each address, one step further for each new address, or neither.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::limits;
use crate::report::{Confidence, Filtering, Mapping, Report, Strays};
use crate::scope::{Family, Subnet, is_public, is_usable, same_link};

/// Who is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scope {
    /// Observers with public addresses, about public addresses; those of one network have one vote.
    #[default]
    Public,
    /// All: for one machine, or one local network. Each address has a vote.
    Any,
}

/// One word about us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Who says it: the address that our datagrams went to.
    pub by: SocketAddr,
    /// Where it sees us.
    pub seen: SocketAddr,
    /// When our first datagram to it left, which is when a NAT made the mapping.
    pub opened: Instant,
    /// A datagram had come from there before ours, and was not let in.
    pub stray: bool,
}

/// What was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Our address is known for the first time.
    Learnt {
        /// It.
        addr: SocketAddr,
    },
    /// The port is another one, the IP address is not: the NAT has forgotten its mappings.
    Rebound {
        /// Before.
        from: SocketAddr,
        /// Now.
        to: SocketAddr,
    },
    /// The IP address is another one: we are in another network, or the network has another address.
    Moved {
        /// Before.
        from: SocketAddr,
        /// Now.
        to: SocketAddr,
    },
    /// The mapping is of another class.
    Mapping(Mapping),
}

/// Where one socket is seen from outside, for both address families. Holds at most [`MAX_VOTES`](limits::MAX_VOTES) words and
/// [`MAX_FLOWS`](limits::MAX_FLOWS) addresses that were sent to.
#[derive(Debug)]
pub struct Observations {
    scope: Scope,
    /// The socket: its port, and the addresses of the host.
    port: u16,
    local: Vec<IpAddr>,
    votes: Vec<Vote>,
    /// When each address was first sent to. A NAT with new ports for new addresses counts them as we do.
    flows: BTreeMap<SocketAddr, Flow>,
    /// When the newest mapping was made for one that we no longer know, and until when a NAT may let in what comes from one.
    forgotten: Option<Instant>,
    let_in_until: Option<Instant>,
    known: [Known; 2],
    blocked: bool,
}

/// When something was first sent to an address, and last.
#[derive(Debug, Clone, Copy)]
struct Flow {
    opened: Instant,
    used: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Vote {
    word: Observation,
    heard: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    addr: Option<SocketAddr>,
    mapping: Mapping,
    confidence: Confidence,
    delta: i16,
    /// The last port of a sequence, and when it was given.
    last: Option<(u16, Instant)>,
    /// Mappings made after the moment named here that are no longer remembered one by one.
    since: Option<(Instant, usize)>,
    filtering: Filtering,
    strays: Strays,
}

impl Observations {
    /// Nothing known about the socket with this port.
    #[must_use]
    pub fn new(scope: Scope, port: u16) -> Self {
        Self {
            scope,
            port,
            local: Vec::new(),
            votes: Vec::new(),
            flows: BTreeMap::new(),
            forgotten: None,
            let_in_until: None,
            known: [Known::default(); 2],
            blocked: false,
        }
    }

    /// Says which addresses the host has. With a public one among them that others see, there is no NAT. The first
    /// [`MAX_LOCAL`](limits::MAX_LOCAL) count.
    pub fn set_local(&mut self, addresses: &[IpAddr]) {
        self.local = addresses.iter().take(limits::MAX_LOCAL).map(IpAddr::to_canonical).collect();
    }

    /// Says that nobody answers over UDP, though there is a network. The next word undoes it.
    pub const fn set_blocked(&mut self) {
        self.blocked = true;
    }

    /// Says what a server found out about the filter.
    pub fn set_filtering(&mut self, family: Family, class: Filtering) {
        self.known_mut(family).filtering = class;
    }

    /// Says which port the socket has, where that was not known before.
    pub const fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    /// When an address was first sent to, if that is remembered: what [`Observation::opened`] is to be.
    #[must_use]
    pub fn opened(&self, remote: SocketAddr) -> Option<Instant> {
        self.flows.get(&SocketAddr::new(remote.ip().to_canonical(), remote.port())).map(|flow| flow.opened)
    }

    /// Forgets everything, when the host is in another network or the socket is another one.
    pub fn reset(&mut self, port: u16) {
        *self = Self::new(self.scope, port);
    }

    /// To be called whenever the socket sends to an address other than the last one. Returns whether a NAT with a new port for each
    /// address made a mapping for it.
    pub fn sent_to(&mut self, remote: SocketAddr, now: Instant) -> bool {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        if let Some(flow) = self.flows.get_mut(&remote) {
            flow.used = flow.used.max(now);
            return false;
        }
        if self.flows.len() >= limits::MAX_FLOWS
            && let Some((silent, flow)) = self.flows.iter().min_by_key(|(_, flow)| flow.used).map(|(a, f)| (*a, *f))
        {
            self.flows.remove(&silent);
            self.count_forgotten(silent.ip(), flow.opened);
            self.let_in_until = self.let_in_until.max(Some(flow.used + limits::LONGEST_MAPPING));
        }
        self.flows.insert(remote, Flow { opened: now, used: now });
        self.passes_nat(remote.ip())
    }

    /// The addresses of these hosts that were sent to.
    #[must_use]
    pub fn opened_at(&self, hosts: &[IpAddr]) -> Vec<SocketAddr> {
        self.flows.keys().filter(|addr| hosts.contains(&addr.ip())).copied().collect()
    }

    /// A mapping that counts is remembered no more.
    fn count_forgotten(&mut self, ip: IpAddr, opened: Instant) {
        if !self.passes_nat(ip) {
            return;
        }
        let forgotten = self.forgotten;
        self.forgotten = forgotten.max(Some(opened));
        let known = self.known_mut(Family::of(ip));
        let Some((_, at)) = known.last.filter(|(_, at)| opened > *at) else { return };
        match &mut known.since {
            Some((since, count)) if *since == at => *count += 1,
            // As long as none of those after it was forgotten before.
            since if forgotten.is_none_or(|newest| newest <= at) => *since = Some((at, 1)),
            _ => {}
        }
    }

    /// Whether what goes there goes through the NAT: not what is for our own network, or for the NAT itself.
    fn passes_nat(&self, ip: IpAddr) -> bool {
        let of_nat = self.known(Family::of(ip)).addr.is_some_and(|addr| addr.ip() == ip);
        !of_nat && !self.local.iter().any(|own| same_link(*own, ip))
    }

    /// What a datagram that comes from an address, without having been asked for, says of the filter. It is to be asked before
    /// anything is sent there, and [believed](Self::let_in) once the datagram turns out to be authentic.
    #[must_use]
    pub fn filter_passed_by(&self, remote: SocketAddr, now: Instant) -> Option<Filtering> {
        let ip = remote.ip().to_canonical();
        if self.let_in_until.is_some_and(|until| now < until) || (self.scope == Scope::Public && !is_public(ip)) {
            return None;
        }
        let remote = SocketAddr::new(ip, remote.port());
        if self.flows.contains_key(&remote) {
            return None;
        }
        let near = self.flows.keys().any(|flow| flow.ip() == remote.ip());
        Some(if near { Filtering::AddressDependent } else { Filtering::EndpointIndependent })
    }

    /// Says that the NAT let in what only passes such a filter.
    pub fn let_in(&mut self, family: Family, class: Filtering) {
        let entry = self.known_mut(family);
        if entry.filtering != Filtering::EndpointIndependent {
            entry.filtering = class;
        }
    }

    /// To be called for an authentic datagram that began a conversation: what the NAT lets in without our having sent anything.
    pub fn heard_from(&mut self, remote: SocketAddr, now: Instant) {
        if let Some(class) = self.filter_passed_by(remote, now) {
            self.let_in(Family::of(remote.ip()), class);
        }
    }

    /// Takes in a word. Returns what changed by it.
    ///
    /// Words about addresses that cannot be ours are not taken, nor are those of observers that are out of [`Scope`]. The newest
    /// word of an observer replaces the one before.
    pub fn record(&mut self, word: Observation, now: Instant) -> Option<Change> {
        let word = Observation {
            by: SocketAddr::new(word.by.ip().to_canonical(), word.by.port()),
            seen: SocketAddr::new(word.seen.ip().to_canonical(), word.seen.port()),
            ..word
        };
        let family = Family::of(word.seen.ip());
        let in_scope = self.scope == Scope::Any || (is_public(word.by.ip()) && is_public(word.seen.ip()));
        if !in_scope || !is_usable(&word.seen) || Family::of(word.by.ip()) != family {
            return None;
        }
        self.blocked = false;
        self.sent_to(word.by, word.opened);
        self.votes.retain(|vote| vote.word.by != word.by && now < vote.heard + limits::VOTE_LIFETIME);
        self.make_room(word.by.ip());
        self.votes.push(Vote { word, heard: now });
        self.evaluate(family)
    }

    /// Our address as others see it, and how sure that is.
    #[must_use]
    pub const fn reflexive(&self, family: Family) -> Option<(SocketAddr, Confidence)> {
        let known = self.known(family);
        match known.addr {
            Some(addr) => Some((addr, known.confidence)),
            None => None,
        }
    }

    /// What is known of the NAT, to be told to a peer now.
    #[must_use]
    pub fn report(&self, family: Family) -> Report {
        let known = self.known(family);
        let public = known.addr.is_some_and(|addr| self.local.contains(&addr.ip()));
        let preserves = known.addr.is_some_and(|addr| addr.port() == self.port);
        Report {
            mapping: if self.blocked { Mapping::Blocked } else { known.mapping },
            filtering: known.filtering,
            strays: known.strays,
            confidence: known.confidence,
            preserves,
            public,
            delta: known.delta,
            next: self.next(family),
        }
    }

    /// The port that the next new address will see, if that can be told; otherwise 0.
    fn next(&self, family: Family) -> u16 {
        let known = self.known(family);
        let Some((last, at)) = known.last.filter(|_| known.mapping == Mapping::Sequential) else { return 0 };
        let forgotten = known.since.filter(|(since, _)| *since == at).map(|(_, count)| count);
        if forgotten.is_none() && self.forgotten.is_some_and(|newest| newest > at) {
            return 0;
        }
        let made = self.opened_since(at, None, family).saturating_add(forgotten.unwrap_or_default());
        step(last, known.delta, i64::try_from(made).unwrap_or(i64::MAX).saturating_add(1))
    }

    /// How many addresses were first sent to after one moment, and not after another: so many mappings the NAT made for us.
    fn opened_since(&self, from: Instant, until: Option<Instant>, family: Family) -> usize {
        let counts = |ip: IpAddr| Family::of(ip) == family && self.passes_nat(ip);
        let within = |opened: Instant| opened > from && until.is_none_or(|until| opened <= until);
        self.flows.iter().filter(|(addr, flow)| within(flow.opened) && counts(addr.ip())).count()
    }

    const fn known(&self, family: Family) -> &Known {
        let [v4, v6] = &self.known;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    const fn known_mut(&mut self, family: Family) -> &mut Known {
        let [v4, v6] = &mut self.known;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// Whose vote it is.
    fn voter(&self, ip: IpAddr) -> Voter {
        match self.scope {
            Scope::Public => Voter::Subnet(Subnet::of(ip)),
            Scope::Any => Voter::Host(ip),
        }
    }

    /// Who says the same of our address as is known of it: one of each network, of the newest. One network alone can say what
    /// it likes.
    #[must_use]
    pub fn witnesses(&self, family: Family) -> Vec<SocketAddr> {
        let Some(addr) = self.known(family).addr else { return Vec::new() };
        let words = self.newest(family, |ip| self.voter(ip));
        words.iter().filter(|word| word.seen == addr).map(|word| word.by).collect()
    }

    /// The oldest word of a network that has many goes for a new one, otherwise the oldest of all.
    fn make_room(&mut self, ip: IpAddr) {
        let voter = self.voter(ip);
        let same: Vec<usize> = (0..)
            .zip(&self.votes)
            .filter(|(_, vote)| self.voter(vote.word.by.ip()) == voter)
            .map(|(index, _)| index)
            .collect();
        // They are in the order in which they were heard.
        let gone = if same.len() >= limits::MAX_VOTES_OF_SUBNET {
            same.first().copied()
        } else {
            (self.votes.len() >= limits::MAX_VOTES).then_some(0)
        };
        if let Some(index) = gone {
            self.votes.remove(index);
        }
    }

    /// The newest word of each voter, newest first, at most [`WINDOW`].
    fn newest(&self, family: Family, voter: impl Fn(IpAddr) -> Voter) -> Vec<Observation> {
        let mut seen: Vec<Voter> = Vec::new();
        let mut words = Vec::new();
        for vote in self.votes.iter().rev() {
            let who = voter(vote.word.by.ip());
            if vote.word.stray || Family::of(vote.word.by.ip()) != family || seen.contains(&who) {
                continue;
            }
            seen.push(who);
            words.push(vote.word);
            if words.len() == WINDOW {
                break;
            }
        }
        words
    }

    fn evaluate(&mut self, family: Family) -> Option<Change> {
        let mut words = self.newest(family, |ip| self.voter(ip));
        let networks = words.len();
        if networks < QUORUM {
            // Too few networks to choose among: each address has a vote.
            words = self.newest(family, Voter::Host);
        }
        let confidence = match (networks, words.len()) {
            (_, 0) => return None,
            (QUORUM.., _) => Confidence::Consistent,
            (_, 1) => Confidence::One,
            _ => Confidence::Few,
        };
        // However many addresses one network has, it does not outvote another.
        let heard = if networks > 1 { self.newest(family, |ip| self.voter(ip)) } else { words.clone() };
        let (ip, votes) = majority(heard.iter().map(|word| word.seen.ip()))?;
        let before = *self.known(family);
        let settled = votes * 2 > heard.len() && (confidence != Confidence::Consistent || votes >= QUORUM);
        if !settled {
            // They disagree: what was known stays.
            return None;
        }
        words.retain(|word| word.seen.ip() == ip);
        let (_, agreeing) = majority(words.iter().map(|word| word.seen.port()))?;
        let (port, _) = majority(heard.iter().filter(|word| word.seen.ip() == ip).map(|word| word.seen.port()))?;
        let addr = SocketAddr::new(ip, port);
        let known = self.known_mut(family);
        known.confidence = confidence;
        if before.addr.is_some_and(|before| before.ip() != ip) {
            // Another network: nothing that was known of its NAT holds.
            *known = Known { confidence, ..Known::default() };
        }
        known.addr = Some(addr);
        if let Some((mapping, delta, last)) = self.classify(family, &words, agreeing) {
            let known = self.known_mut(family);
            (known.mapping, known.delta, known.last) = (mapping, delta, last);
        }
        self.judge_strays(family, addr);
        let now = self.known(family);
        match before.addr {
            None => Some(Change::Learnt { addr }),
            Some(from) if from.ip() != ip => Some(Change::Moved { from, to: addr }),
            Some(_) if before.mapping != now.mapping => Some(Change::Mapping(now.mapping)),
            Some(from) if from != addr && now.mapping == Mapping::EndpointIndependent => {
                Some(Change::Rebound { from, to: addr })
            }
            Some(_) => None,
        }
    }

    /// The class of the mapping, the step and the last port of a sequence. `None` if the words fit nothing: then the class
    /// stays what it was.
    fn classify(&self, family: Family, words: &[Observation], agreeing: usize) -> Option<Class> {
        if agreeing >= 2 && agreeing * 2 > words.len() && (words.len() < QUORUM || agreeing >= QUORUM) {
            return Some((Mapping::EndpointIndependent, 0, None));
        }
        let ip = words.first()?.seen.ip();
        let mut all: Vec<Observation> = self
            .votes
            .iter()
            .map(|vote| vote.word)
            .filter(|word| !word.stray && Family::of(word.by.ip()) == family && word.seen.ip() == ip)
            .collect();
        // Those that left at one moment left in the order of their ports, if there is one.
        all.sort_by_key(|word| (word.opened, word.seen.port()));
        let samples: Vec<(u16, Instant)> = all.iter().map(|word| (word.seen.port(), word.opened)).collect();
        if samples.len() < 2 || agreeing > 1 {
            return None;
        }
        if by_address(&all) {
            return Some((Mapping::AddressDependent, 0, None));
        }
        let mut ports: Vec<u16> = samples.iter().map(|(port, _)| *port).collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.len() < samples.len() {
            // Some agree and some do not: one observer, or a NAT that is forgetting.
            return None;
        }
        match sequence(&samples, |from, until| self.opened_since(from, Some(until), family)) {
            Some((delta, last)) => Some((Mapping::Sequential, delta, Some(last))),
            // Steps that are too long may be many mappings that are remembered no more.
            None if self.forgotten.is_some_and(|newest| samples.first().is_some_and(|first| first.1 < newest)) => None,
            None => Some((Mapping::Random, 0, None)),
        }
    }

    fn judge_strays(&mut self, family: Family, addr: SocketAddr) {
        let newest = self
            .votes
            .iter()
            .rev()
            .map(|vote| vote.word)
            .find(|word| word.stray && Family::of(word.by.ip()) == family && word.seen.ip() == addr.ip());
        let known = self.known_mut(family);
        if known.mapping != Mapping::EndpointIndependent {
            known.strays = Strays::Unknown;
        } else if let Some(word) = newest {
            known.strays = if word.seen == addr { Strays::Ignored } else { Strays::Recorded };
        }
    }
}

/// Whether each IP address sees one port at all of its ports, and others see others.
fn by_address(words: &[Observation]) -> bool {
    let mut ports: BTreeMap<IpAddr, u16> = BTreeMap::new();
    let mut several = false;
    for word in words {
        match ports.insert(word.by.ip(), word.seen.port()) {
            Some(port) if port != word.seen.port() => return false,
            Some(_) => several = true,
            None => {}
        }
    }
    several && ports.len() > 1
}

/// The step and the newest of ports that follow each other, one of them left out if need be and there are enough.
///
/// `between` says how many mappings of our own the NAT made after one moment and up to another. Where that explains a step, each of
/// them is one of several.
fn sequence(samples: &[(u16, Instant)], between: impl Fn(Instant, Instant) -> usize) -> Option<(i16, (u16, Instant))> {
    if let Some(found) = strict_sequence(samples, &between) {
        return Some(found);
    }
    if samples.len() < 4 {
        return None;
    }
    (0..samples.len()).rev().find_map(|left_out| {
        let rest: Vec<_> = (0..).zip(samples).filter(|(index, _)| *index != left_out).map(|(_, s)| *s).collect();
        strict_sequence(&rest, &between)
    })
}

fn strict_sequence(
    samples: &[(u16, Instant)],
    between: &impl Fn(Instant, Instant) -> usize,
) -> Option<(i16, (u16, Instant))> {
    let mut delta: i16 = 0;
    for pair in samples.windows(2) {
        let [(a, from), (b, until)] = pair else { return None };
        // Ports wrap around.
        let step = b.wrapping_sub(*a).cast_signed();
        let opposite = step.signum() * delta.signum() < 0;
        let own = i16::try_from(between(*from, *until).max(1)).unwrap_or(i16::MAX);
        let each = if step % own == 0 { step / own } else { step };
        if step == 0 || opposite || each.unsigned_abs() > limits::MAX_STEP {
            return None;
        }
        delta = step.signum() * gcd(delta.abs(), each.abs());
    }
    Some((delta, *samples.last()?))
}

const fn gcd(a: i16, b: i16) -> i16 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The port `count` steps after `port`. 0 and the system's ports are passed over, as NATs do: a sequence begins again.
pub(crate) fn step(port: u16, delta: i16, count: i64) -> u16 {
    let distance = i64::from(delta).saturating_mul(count);
    let port = i64::from(port).saturating_add(distance);
    let span = i64::from(u16::MAX) - FIRST_PORT + 1;
    u16::try_from(FIRST_PORT + (port - FIRST_PORT).rem_euclid(span)).unwrap_or(0)
}

/// What most say, and how many; of equals the one said last.
fn majority<T: PartialEq + Copy>(said: impl Iterator<Item = T> + Clone) -> Option<(T, usize)> {
    let count = |what: T| said.clone().filter(|other| *other == what).count();
    let mut best: Option<(T, usize)> = None;
    for what in said.clone() {
        let votes = count(what);
        if best.is_none_or(|(_, most)| votes > most) {
            best = Some((what, votes));
        }
    }
    best
}

/// A class of mapping, the step of a sequence, and its last port.
type Class = (Mapping, i16, Option<(u16, Instant)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voter {
    Subnet(Subnet),
    Host(IpAddr),
}

/// How many of the newest voters are asked: a change shows as soon as more than half of them were heard since.
const WINDOW: usize = 8;
/// Voters of different networks that have to agree.
const QUORUM: usize = 3;
/// The lowest port that NATs give.
const FIRST_PORT: i64 = 1024;
