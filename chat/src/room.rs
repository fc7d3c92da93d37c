//! Who is in the room, and how they are called.
//!
//! Behind what a native peer says is the key it proved, so two of one nick are told apart by it: `alice#k3vq`. On the v12
//! wire neighbours pass on what they hear and anybody can write any nick; whoever is heard there is `alice@v12`.
//!
//! Somebody who speaks both wires is one person, the native one. Which v12 id belongs to it is what it says: nothing
//! that was said is left out because of that, only joining and leaving there are not told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use swarm::{DisconnectReason, PeerId, Security};

use crate::hearsay::{Hearsay, Seen};
use crate::message::{Kind, Message};

/// Characters of an id that tell two of one nick apart; more where these are the same.
const SUFFIX: usize = 4;
/// Others that one neighbour may introduce, in all: each makes us send a few packets to an address of its choice.
const MAX_INTRODUCED: usize = 64;

/// Who is here.
#[derive(Debug)]
pub(crate) struct Room {
    nick: String,
    id: PeerId,
    v12_id: Option<String>,
    people: BTreeMap<PeerId, Person>,
    hearsay: Hearsay,
    seen: Seen,
}

/// A neighbour.
#[derive(Debug)]
struct Person {
    security: Security,
    nick: Option<String>,
    /// Its id on the v12 wire: of a native one, as it says.
    v12_id: Option<String>,
    /// It said goodbye. The existing programs answer a greeting even on their way out.
    left: bool,
    /// How many others it has introduced.
    introduced: usize,
}

/// How a message came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// Who sent it or, on the v12 wire, passed it on.
    pub(crate) from: PeerId,
    pub(crate) security: Security,
    pub(crate) authenticated: bool,
    /// Published in the room, as far as the wire knows.
    pub(crate) published: bool,
}

/// What to do about a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) notice: Option<String>,
    /// A name and a text.
    pub(crate) line: Option<(String, String)>,
    /// Whoever it came from should be told who we are.
    pub(crate) greet: bool,
    /// Others in the room to be dialled.
    pub(crate) meet: Vec<(PeerId, SocketAddr)>,
    /// It was none of a chat.
    pub(crate) junk: bool,
}

impl Heard {
    fn junk() -> Self {
        Self { junk: true, ..Self::default() }
    }
}

impl Room {
    /// An empty room, for somebody with this nick and these ids.
    pub(crate) fn new(nick: &str, id: PeerId, v12_id: Option<String>) -> Self {
        let (people, hearsay, seen) = (BTreeMap::new(), Hearsay::default(), Seen::default());
        Self { nick: nick.to_owned(), id, v12_id, people, hearsay, seen }
    }

    /// A neighbour is here.
    pub(crate) fn insert(&mut self, id: PeerId, security: Security) {
        let v12_id = (security == Security::LegacyV12).then(|| id.v12_id().to_string());
        self.people.insert(id, Person { security, nick: None, v12_id, left: false, introduced: 0 });
    }

    /// A neighbour is gone. Returns what to tell.
    pub(crate) fn remove(&mut self, id: &PeerId, reason: DisconnectReason) -> Option<String> {
        let name = self.name(id);
        let person = self.people.remove(id)?;
        let nick = person.nick.filter(|_| !person.left)?;
        let told = match person.security {
            // It is native as well, which its greeting there tells.
            Security::LegacyV12 => reason != DisconnectReason::Local && self.hearsay.remove(&nick),
            _ => true,
        };
        told.then(|| format!("{name} disconnected ({reason})"))
    }

    /// Whether nobody is there to hear anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    /// Whether somebody is there whom only the v12 wire reaches.
    pub(crate) fn has_v12(&self) -> bool {
        self.people.values().any(|person| person.security == Security::LegacyV12)
    }

    /// Native neighbours that have not said goodbye.
    pub(crate) fn natives(&self) -> usize {
        self.people.values().filter(|person| person.security == Security::Native && !person.left).count()
    }

    /// Neighbours that have not said goodbye.
    pub(crate) fn len(&self) -> usize {
        self.people.values().filter(|person| !person.left).count()
    }

    /// Whether this is a neighbour that has not said goodbye.
    pub(crate) fn contains(&self, id: &PeerId) -> bool {
        self.people.get(id).is_some_and(|person| !person.left)
    }

    /// What a neighbour is called: its nick if no other is called so, `?` while it has not said.
    pub(crate) fn name(&self, id: &PeerId) -> String {
        let Some(person) = self.people.get(id) else { return "?".to_owned() };
        let Some(nick) = person.nick.as_deref() else { return "?".to_owned() };
        if person.security == Security::LegacyV12 {
            return on_v12(nick);
        }
        let own = (self.nick == nick).then_some(&self.id);
        let others = self.people.iter().filter(|(other, person)| {
            *other != id && person.security == Security::Native && person.nick.as_deref() == Some(nick)
        });
        let rivals: Vec<String> = others.map(|(other, _)| other).chain(own).map(PeerId::to_string).collect();
        // A nick that looks as if it had a mark of ours gets a real one.
        if rivals.is_empty() && !nick.contains(['#', '@']) {
            return nick.to_owned();
        }
        let text = id.to_string();
        let differs = |len: &usize| rivals.iter().all(|rival| rival.get(..*len) != text.get(..*len));
        let len = (SUFFIX..text.len()).find(differs).unwrap_or(text.len());
        format!("{nick}#{}", text.get(..len).unwrap_or(&text))
    }

    /// Whom the beginning of a text names, by name, nick or id, and what follows.
    ///
    /// # Errors
    ///
    /// Why it names nobody who can be told something alone.
    pub(crate) fn find<'t>(&self, text: &'t str) -> Result<(PeerId, &'t str), String> {
        let mut found: Vec<(usize, PeerId)> = Vec::new();
        for (id, person) in &self.people {
            let Some(nick) = &person.nick else { continue };
            for word in [self.name(id), nick.clone(), id.to_string(), id.short().to_string()] {
                // A nick may have blanks, so it ends where the longest that fits does.
                let fits = text.strip_prefix(word.as_str()).is_some_and(|rest| rest.starts_with(char::is_whitespace));
                if fits && found.last().is_none_or(|(len, _)| *len <= word.len()) {
                    found.retain(|(len, other)| *len == word.len() && other != id);
                    found.push((word.len(), *id));
                }
            }
        }
        match found[..] {
            [] => Err("write /msg NICK TEXT; /peers lists who is here".to_owned()),
            [(len, id)] if self.people.get(&id).is_some_and(|person| person.security == Security::Native) => {
                Ok((id, text.get(len..).unwrap_or_default().trim()))
            }
            [_] => Err("not sent: on the v12 wire others would read it".to_owned()),
            [..] => {
                let names: Vec<String> = found.iter().map(|(_, id)| self.name(id)).collect();
                Err(format!("not sent: who is meant? {}", names.join(", ")))
            }
        }
    }

    /// Takes in a message. `content` is what it was read from.
    pub(crate) fn hear(&mut self, way: Way, message: Message, content: &[u8]) -> Heard {
        match way.security {
            Security::LegacyV12 => self.hear_v12(way, message, content),
            _ => self.hear_native(way, message, content),
        }
    }

    fn hear_native(&mut self, way: Way, message: Message, content: &[u8]) -> Heard {
        let Message { nick, v12_id, kind } = message;
        let from = &way.from;
        let Some(person) = self.people.get_mut(from).filter(|person| !person.left) else {
            return Heard::default();
        };
        if v12_id.is_some() {
            person.v12_id = v12_id;
        }
        if kind == Kind::Leave {
            person.left = true;
            let known = person.nick.is_some();
            return Heard { notice: known.then(|| format!("{} left", self.name(from))), ..Heard::default() };
        }
        let notice = self.introduce(from, nick);
        let line = match kind {
            Kind::Meet(others) if !way.published => {
                let meet = self.strangers(from, others);
                return Heard { notice, meet, ..Heard::default() };
            }
            Kind::Say(text) if way.published => {
                let copy = self.v12_id.is_some() && self.seen.is_copy(content, way.security);
                (!copy).then(|| (self.name(from), text))
            }
            Kind::Direct(text) if !way.published => Some((self.name(from), format!("[dm] {text}"))),
            Kind::Join | Kind::Leave => None,
            Kind::Say(_) | Kind::Direct(_) | Kind::Meet(_) => return Heard { notice, ..Heard::junk() },
        };
        Heard { notice, line, ..Heard::default() }
    }

    /// Those of whom a neighbour tells that are not here, as far as it may tell.
    fn strangers(&mut self, from: &PeerId, mut others: Vec<(PeerId, SocketAddr)>) -> Vec<(PeerId, SocketAddr)> {
        others.retain(|(id, _)| *id != self.id && !self.people.contains_key(id));
        let Some(person) = self.people.get_mut(from) else { return Vec::new() };
        others.truncate(MAX_INTRODUCED.saturating_sub(person.introduced));
        person.introduced = person.introduced.saturating_add(others.len());
        others
    }

    /// A native neighbour says how it is called. Returns what to tell, if that is new.
    fn introduce(&mut self, id: &PeerId, nick: String) -> Option<String> {
        if self.people.get(id)?.nick.as_ref() == Some(&nick) {
            return None;
        }
        let before = self.name(id);
        let person = self.people.get_mut(id)?;
        let is_new = person.nick.replace(nick).is_none();
        let known = person.v12_id.as_ref().and_then(|v12_id| self.hearsay.remove_id(v12_id));
        let name = self.name(id);
        Some(match (is_new, known) {
            (true, Some(_)) => format!("{name} is here natively"),
            (true, None) => format!("{name} joined"),
            (false, _) => format!("{before} is now {name}"),
        })
    }

    fn hear_v12(&mut self, way: Way, message: Message, content: &[u8]) -> Heard {
        let Message { nick, v12_id, kind } = message;
        // Neighbours pass on what they hear, our own included.
        if v12_id.is_some() && v12_id == self.v12_id {
            return Heard::default();
        }
        let mark = if way.authenticated { "" } else { ", not authenticated" };
        // Who is here natively has said so there.
        let native = v12_id.as_ref().is_some_and(|v12_id| {
            let mut people = self.people.values();
            people.any(|person| person.security == Security::Native && person.v12_id.as_ref() == Some(v12_id))
        });
        let mut heard = Heard::default();
        match kind {
            Kind::Join => {
                // Without an author, the first JOIN over a link is the neighbour's own; later ones it passes on.
                let author = v12_id.clone().unwrap_or_else(|| way.from.v12_id().to_string());
                let neighbour = self.people.get_mut(&way.from);
                let neighbour = neighbour.filter(|person| person.v12_id.as_ref() == Some(&author));
                if neighbour.as_ref().is_some_and(|it| it.left && it.nick.as_ref() == Some(&nick)) {
                    return heard;
                }
                if let Some(neighbour) = neighbour.filter(|neighbour| neighbour.nick.is_none()) {
                    neighbour.nick = Some(nick.clone());
                    heard.greet = true;
                }
                if !native && self.hearsay.insert(&nick, &author) {
                    heard.notice = Some(format!("{nick} joined (v12{mark})"));
                }
            }
            Kind::Say(text) => {
                let mark = if way.authenticated { "" } else { " (not authenticated)" };
                let copy = self.seen.is_copy(content, way.security);
                heard.line = (!copy).then(|| (on_v12(&nick), format!("{text}{mark}")));
            }
            Kind::Leave => {
                if let Some(neighbour) = self.people.get_mut(&way.from) {
                    neighbour.left |= neighbour.nick.as_ref() == Some(&nick);
                }
                if !native && self.hearsay.remove(&nick) {
                    heard.notice = Some(format!("{nick} left (v12{mark})"));
                }
            }
            // What everybody on the way has read is not shown as if it were for one alone.
            Kind::Direct(_) | Kind::Meet(_) => return Heard::junk(),
        }
        heard
    }
}

fn on_v12(nick: &str) -> String {
    format!("{nick}@v12")
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
