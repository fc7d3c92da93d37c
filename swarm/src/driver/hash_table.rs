//! What the net task has to do with the distributed hash table: where it begins, what handles ask of it, what is kept of
//! it for the next run.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ::dht::{Contact, Event, Item, Key, PublishError, QueryError, QueryId, Refused, Wanted};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::Driver;
use super::command::Command;
use super::limits::{CACHE_EVERY, VALUES};
use super::target::{DialTarget, Resolved};
use crate::discovery::Progress;
use crate::node::Node;
use crate::seeds::Seeds;
use crate::{GetError, PutError};

/// The driver's part of the table.
#[derive(Debug)]
pub(super) struct HashTable {
    /// Where it begins, again and again as long as nobody is known.
    bootstrap: Seeds<DialTarget>,
    /// That has been tried once at least.
    begun: bool,
    cache: Option<Cache>,
    /// How finding and being found goes, for the handles.
    progress: watch::Sender<Vec<Progress>>,
    gets: BTreeMap<QueryId, Get>,
    puts: BTreeMap<QueryId, Put>,
    /// What handles put, until they withdraw it.
    values: BTreeMap<Key, QueryId>,
}

#[derive(Debug)]
struct Get {
    reply: GetReply,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Put {
    key: Key,
    reply: PutReply,
    _permit: OwnedSemaphorePermit,
}

type GetReply = oneshot::Sender<Result<Option<Item>, GetError>>;
type PutReply = oneshot::Sender<Result<(Key, u32), PutError>>;

/// What a handle puts.
#[derive(Debug)]
pub(crate) enum Value {
    Immutable(Arc<[u8]>),
    /// Signed by this node.
    Mutable {
        salt: Vec<u8>,
        sequence: u64,
        value: Vec<u8>,
    },
}

/// A file with contacts for the next run.
#[derive(Debug)]
struct Cache {
    path: PathBuf,
    due: Instant,
}

impl HashTable {
    pub(super) fn new(
        bootstrap: Vec<DialTarget>,
        cache: Option<PathBuf>,
        progress: watch::Sender<Vec<Progress>>,
        byte: u8,
        now: Instant,
    ) -> Self {
        Self {
            bootstrap: Seeds::new(bootstrap, byte, now),
            begun: false,
            cache: cache.map(|path| Cache { path, due: now + CACHE_EVERY }),
            progress,
            gets: BTreeMap::new(),
            puts: BTreeMap::new(),
            values: BTreeMap::new(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.bootstrap.deadline(), self.cache.as_ref().map(|cache| cache.due)].into_iter().flatten().min()
    }

    /// Tells the handles how everything goes, if that has changed.
    pub(super) fn report(&self, node: &mut Node) {
        if node.has_progressed() {
            self.progress.send_replace(node.progress());
        }
    }

    /// Writes down whom to begin with in the next run. What fails now may succeed later, and is no reason to stop.
    pub(super) fn save(&mut self, node: &Node) {
        if let Some(cache) = &self.cache {
            let contacts = node.anchors();
            // What an earlier run knew is better than nothing.
            if !contacts.is_empty() {
                let _ = write(&cache.path, &::dht::save(&contacts));
            }
        }
    }
}

impl Driver {
    /// Begins the table where it was told to, and keeps what it knows.
    pub(super) fn keep_table(&mut self, now: Instant) {
        let due = self.table.bootstrap.due(self.node.has_contacts(), now).to_vec();
        let silent = !due.is_empty() && std::mem::replace(&mut self.table.begun, true);
        for target in due {
            // Where UDP does not pass, a session may be had by TCP, and a relay by that.
            if silent {
                self.dial_target(&target.also_by_tcp(), Some(self.node.reach()));
            } else if !target.streams.is_empty() {
                self.dial_target(&target, Some(self.node.reach()));
            }
            let commands = self.shared.commands.clone();
            tokio::spawn(async move {
                // A name that is not known now is looked up again later.
                if let Ok(Resolved { addrs, .. }) = target.resolve().await {
                    let _ = commands.send(Command::Bootstrap(addrs)).await;
                }
            });
        }
        if let Some(cache) = self.table.cache.as_mut().filter(|cache| cache.due <= now) {
            cache.due = now + CACHE_EVERY;
            let (path, contacts) = (cache.path.clone(), self.node.anchors());
            if !contacts.is_empty() {
                // Disks can be slow.
                drop(tokio::task::spawn_blocking(move || write(&path, &::dht::save(&contacts))));
            }
        }
    }

    /// Gives up what nobody waits for.
    pub(super) fn sweep_table(&mut self, now: Instant) {
        let node = &mut self.node;
        self.table.gets.retain(|query, get| {
            let is_wanted = !get.reply.is_closed();
            if !is_wanted {
                node.cancel(*query, now);
            }
            is_wanted
        });
    }

    pub(super) fn table_get(&mut self, wanted: Wanted, permit: OwnedSemaphorePermit, reply: GetReply, now: Instant) {
        match self.node.get(wanted, now) {
            Ok(query) => drop(self.table.gets.insert(query, Get { reply, _permit: permit })),
            Err(error) => drop(reply.send(Err(self.get_error(error)))),
        }
    }

    fn get_error(&self, error: QueryError) -> GetError {
        match error {
            QueryError::Busy => GetError::Busy,
            _ if !self.node.has_table() => GetError::NoTable,
            _ => GetError::Closed,
        }
    }

    pub(super) fn table_put(&mut self, value: Value, permit: OwnedSemaphorePermit, reply: PutReply, now: Instant) {
        if !self.node.has_table() {
            return drop(reply.send(Err(PutError::NoTable)));
        }
        let item = match value {
            Value::Immutable(value) => Ok(Item::Value(value)),
            Value::Mutable { salt, sequence, value } => {
                self.node.sign_value(&salt, sequence, &value).map(Item::Signed).map_err(PublishError::from)
            }
        };
        let put = item.and_then(|item| {
            let key = item.key();
            if self.table.values.len() >= VALUES && !self.table.values.contains_key(&key) {
                return Err(PublishError::Full);
            }
            Ok((key, self.node.put(item, now)?))
        });
        match put {
            Ok((key, query)) => {
                if let Some(old) = self.table.values.insert(key, query) {
                    // Whoever put it before is told that there is something newer.
                    if let Some(put) = self.table.puts.remove(&old) {
                        let _ = put.reply.send(Err(PutError::Replaced));
                    }
                }
                self.table.puts.insert(query, Put { key, reply, _permit: permit });
            }
            Err(error) => drop(reply.send(Err(put_error(&error)))),
        }
    }

    pub(super) fn table_withdraw(&mut self, key: &Key, now: Instant) -> bool {
        let Some(query) = self.table.values.remove(key) else { return false };
        if let Some(put) = self.table.puts.remove(&query) {
            let _ = put.reply.send(Err(PutError::Replaced));
        }
        self.node.cancel(query, now)
    }

    pub(super) fn on_table_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::GetDone { id, newest, tally, .. } => {
                let Some(Get { reply, .. }) = self.table.gets.remove(&id) else { return };
                let nobody = newest.is_none() && tally.asked == 0;
                let _ = reply.send(if nobody { Err(GetError::NobodyKnown) } else { Ok(newest) });
            }
            Event::Stored { id, stored, refused, tally, .. } => {
                let Some(Put { key, reply, .. }) = self.table.puts.remove(&id) else { return };
                if stored == 0 {
                    // Whoever put it knows that it is not there, and can try again.
                    self.table.values.remove(&key);
                    self.node.cancel(id, now);
                }
                let _ = reply.send(match refused.first() {
                    _ if stored > 0 => Ok((key, stored)),
                    Some(reason) => Err(PutError::Refused { reason: *reason }),
                    None if tally.asked == 0 => Err(PutError::NobodyKnown),
                    None => Err(PutError::NobodyAnswered { asked: tally.asked }),
                });
            }
            _ => {}
        }
    }
}

fn put_error(error: &PublishError) -> PutError {
    match error {
        PublishError::Busy => PutError::Busy,
        PublishError::Full => PutError::Full { limit: VALUES },
        PublishError::Invalid(framing::EncodeError::TooLong { len, max }) => {
            PutError::TooLarge { len: *len, max: *max }
        }
        PublishError::Closed => PutError::Closed,
        _ => PutError::Refused { reason: Refused::Limit },
    }
}

/// Reads the contacts of an earlier run; none if there was none.
///
/// # Errors
///
/// Why the file cannot be read, or that it is not of such contacts.
pub(super) fn read(path: &Path) -> io::Result<Vec<Contact>> {
    match std::fs::read(path) {
        Ok(bytes) => ::dht::load(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Writes a file so that at any moment the old one or the new one is there in full.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
