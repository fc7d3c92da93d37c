//! A file of peers that sessions were open with, to begin with in the next run.
//!
//! The file is a redb database, which is whole at any moment; records carry a checksum of their own, and one that does not
//! match counts for nothing. A file that cannot be read is put aside, and a new one begun.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use framing::{Reader, Writer, address};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Found, Outcome, Pace, Source, Us};
use crate::discovery::{self, SourceError, Task};
use crate::{PeerId, clock};

/// The file, opened when it is first needed.
#[derive(Debug, Clone)]
pub(crate) struct PeerCache {
    path: PathBuf,
    store: Arc<Mutex<Option<Store>>>,
}

/// That a session was open with somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) peer: PeerId,
    /// Where, if it was not through others.
    pub(crate) addr: Option<SocketAddr>,
    /// It has just begun.
    pub(crate) begun: bool,
}

impl PeerCache {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, store: Arc::default() }
    }

    /// Those seen last, the newest first.
    async fn newest(&self, count: usize) -> Result<Vec<(PeerId, Known)>, SourceError> {
        self.with(move |store| store.newest(count)).await
    }

    /// Notes whom sessions were open with. What it returns for is in the file for good.
    async fn note(&self, seen: Vec<Seen>) -> Result<(), SourceError> {
        let unix = clock::epoch().unix.as_secs();
        self.with(move |store| store.note(&seen, unix)).await
    }

    /// Disks can be slow, and what reads a damaged file may break off.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let mut store = Arc::clone(&self.store).lock_owned().await;
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut open = match store.take() {
                Some(open) => open,
                None => Store::open(&path)?,
            };
            let result = work(&mut open)?;
            // After an error it is opened anew.
            *store = Some(open);
            Ok(result)
        });
        done.await.map_err(|_panicked| SourceError::Broken)?
    }
}

/// What the net task tells. Without room it is not told: whoever stays is told of at the end.
#[derive(Debug)]
pub(crate) struct Keeper {
    seen: mpsc::Sender<Seen>,
    task: tokio::task::JoinHandle<()>,
}

impl Keeper {
    /// Starts the task that writes. Must be called inside of a tokio runtime.
    pub(crate) fn start(cache: PeerCache) -> Self {
        let (seen, told) = mpsc::channel(WAITING);
        Self { seen, task: tokio::spawn(keep(cache, told)) }
    }

    pub(crate) fn seen(&self, seen: Seen) {
        let _ = self.seen.try_send(seen);
    }

    /// Writes what there is, within a bounded time.
    pub(crate) async fn finish(self) {
        let Self { seen, task } = self;
        drop(seen);
        let _ = tokio::time::timeout(LAST, task).await;
    }
}

async fn keep(cache: PeerCache, mut told: mpsc::Receiver<Seen>) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Vec::new();
    loop {
        let has_ended = tokio::select! {
            seen = told.recv() => match seen {
                Some(seen) => {
                    // Beyond the bound the oldest are of the least interest.
                    if waiting.len() >= WAITING {
                        waiting.remove(0);
                    }
                    waiting.push(seen);
                    continue;
                }
                None => true,
            },
            _ = every.tick() => false,
        };
        if !waiting.is_empty() && cache.note(waiting.clone()).await.is_ok() {
            waiting.clear();
        }
        if has_ended {
            return;
        }
    }
}

/// The cache as a source: whom to dial while nobody is connected.
#[derive(Debug)]
pub(crate) struct CacheSource(pub(crate) PeerCache);

impl Source for CacheSource {
    const NAME: discovery::Source = discovery::Source::Cache;

    fn pace(&self) -> Pace {
        PACE
    }

    fn does(&self, task: &Task) -> bool {
        *task == Task::Reconnect
    }

    async fn attempt(self: Arc<Self>, _: Task, _: Us, mut found: Found) -> Result<Outcome, SourceError> {
        for (peer, known) in self.0.newest(DIALLED).await? {
            found.push(Some(peer), known.addrs).await;
            // The node dials 16 addresses of strangers a second.
            sleep(GAP).await;
        }
        Ok(found.outcome())
    }
}

/// A key and its record; `None` for one that was damaged.
type Entry = ([u8; 32], Option<Known>);

/// The open file.
#[derive(Debug)]
struct Store(Database);

/// What is kept of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Unix time in seconds.
    last_seen: u64,
    /// Sessions that began.
    successes: u32,
    /// Where they were, the newest first.
    addrs: Vec<SocketAddr>,
}

impl Known {
    /// Which of two is kept: who was seen later, and who came often counts as seen up to a day later.
    fn rank(&self) -> u64 {
        self.last_seen.saturating_add(3600 * u64::from(self.successes.min(24)))
    }

    /// `version 1 · last seen u64 · successes u32 · count u8 · addresses · checksum 8`.
    fn encode(&self, peer: &[u8; 32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer.u8(VERSION);
        writer.u64(self.last_seen);
        writer.u32(self.successes);
        writer.u8(u8::try_from(self.addrs.len()).unwrap_or(u8::MAX));
        self.addrs.iter().for_each(|addr| writer.put(&address::encode(*addr)));
        let sum = checksum(peer, &bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    fn decode(peer: &[u8; 32], bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<SUM>()?;
        if checksum(peer, body) != *sum {
            return None;
        }
        let mut reader = Reader::new(body);
        if reader.u8().ok()? != VERSION {
            return None;
        }
        let (last_seen, successes) = (reader.u64().ok()?, reader.u32().ok()?);
        let count = usize::from(reader.u8().ok()?);
        let addrs =
            (0..count.min(ADDRS)).map(|_| Some(address::decode(reader.array().ok()?))).collect::<Option<_>>()?;
        Some(Self { last_seen, successes, addrs })
    }
}

impl Store {
    /// Opens the file, or makes it. One that is damaged is put aside.
    fn open(path: &Path) -> Result<Self, SourceError> {
        match Self::try_open(path) {
            Ok(store) => Ok(store),
            Err(SourceError::Damaged { .. }) => {
                let mut name = path.file_name().unwrap_or_default().to_owned();
                name.push(".damaged");
                let aside = path.with_file_name(name);
                std::fs::rename(path, &aside).map_err(|error| SourceError::Io { kind: error.kind() })?;
                Err(SourceError::Damaged { aside })
            }
            Err(error) => Err(error),
        }
    }

    fn try_open(path: &Path) -> Result<Self, SourceError> {
        let damaged = || SourceError::Damaged { aside: path.to_owned() };
        let path = path.to_owned();
        // The library trusts files that it closed itself, and breaks off in some that were changed since.
        let opened = std::thread::Builder::new().spawn(move || {
            let mut database = Database::builder().set_cache_size(MEMORY).create(path)?;
            match database.check_integrity() {
                Ok(true | false) => Ok(database),
                Err(error) => Err(error),
            }
        });
        let opened = opened.map_err(|error| SourceError::Io { kind: error.kind() })?.join();
        match opened {
            Ok(Ok(database)) => Ok(Self(database)),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                Err(SourceError::Io { kind: std::io::ErrorKind::WouldBlock })
            }
            Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
                if !matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
            {
                Err(SourceError::Io { kind: error.kind() })
            }
            Ok(Err(_)) | Err(_) => Err(damaged()),
        }
    }

    fn newest(&self, count: usize) -> Result<Vec<(PeerId, Known)>, SourceError> {
        let mut all: Vec<_> = self.all()?.into_iter().filter_map(|(key, known)| Some((key, known?))).collect();
        all.retain(|(_, known)| !known.addrs.is_empty());
        all.sort_by_key(|(_, known)| std::cmp::Reverse(known.last_seen));
        all.truncate(count);
        Ok(all.into_iter().map(|(key, known)| (PeerId::from_bytes(key), known)).collect())
    }

    /// All records.
    fn all(&self) -> Result<Vec<Entry>, SourceError> {
        let read = self.0.begin_read().map_err(failed)?;
        let table = match read.open_table(PEERS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut all = Vec::new();
        for entry in table.iter().map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            let key = *key.value();
            all.push((key, Known::decode(&key, value.value())));
        }
        Ok(all)
    }

    /// Writes in one transaction, after which as many are left as are kept.
    fn note(&self, seen: &[Seen], unix: u64) -> Result<(), SourceError> {
        let write = self.0.begin_write().map_err(failed)?;
        {
            let mut table = write.open_table(PEERS).map_err(failed)?;
            for Seen { peer, addr, begun } in seen {
                let key = *peer.as_bytes();
                let known = table.get(&key).map_err(failed)?.and_then(|value| Known::decode(&key, value.value()));
                let mut known = known.unwrap_or(Known { last_seen: 0, successes: 0, addrs: Vec::new() });
                known.last_seen = unix;
                known.successes = known.successes.saturating_add(u32::from(*begun));
                if let Some(addr) = addr {
                    known.addrs.retain(|other| other != addr);
                    known.addrs.insert(0, *addr);
                    known.addrs.truncate(ADDRS);
                }
                table.insert(&key, known.encode(&key).as_slice()).map_err(failed)?;
            }
            let mut ranks = Vec::new();
            for entry in table.iter().map_err(failed)? {
                let (key, value) = entry.map_err(failed)?;
                // Damaged ones go first.
                let key = *key.value();
                ranks.push((Known::decode(&key, value.value()).map_or(0, |known| known.rank()), key));
            }
            ranks.sort_unstable();
            let surplus = ranks.len().saturating_sub(KEPT);
            for (_, key) in ranks
                .into_iter()
                .enumerate()
                .filter(|(at, (rank, _))| *at < surplus || *rank == 0)
                .map(|(_, entry)| entry)
            {
                table.remove(&key).map_err(failed)?;
            }
        }
        write.commit().map_err(failed)
    }
}

fn failed(error: impl Into<redb::Error>) -> SourceError {
    match error.into() {
        redb::Error::Io(error) => SourceError::Io { kind: error.kind() },
        _ => SourceError::Broken,
    }
}

fn checksum(peer: &[u8; 32], record: &[u8]) -> [u8; SUM] {
    let digest: [u8; 32] = Sha256::new().chain_update(peer).chain_update(record).finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

const PEERS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("peers 1");
const VERSION: u8 = 1;
/// Length of the checksum of a record, in bytes.
const SUM: usize = 8;
/// Peers that are kept, and addresses of each.
const KEPT: usize = 200;
const ADDRS: usize = 4;
/// Peers that are dialled, and the pause between two.
const DIALLED: usize = 30;
const GAP: Duration = Duration::from_millis(100);
/// What waits to be written, at most.
const WAITING: usize = 256;
/// How often it is written.
const EVERY: Duration = Duration::from_secs(30);
/// How long the end of a node waits for the last of it.
const LAST: Duration = Duration::from_secs(2);
/// Memory for pages of the file, in bytes.
const MEMORY: usize = 256 << 10;
/// While nobody is connected.
const PACE: Pace = Pace {
    search: (Duration::from_secs(60), Duration::from_secs(600)),
    renew: Duration::from_secs(600),
    failed: (Duration::from_secs(2), Duration::from_secs(300)),
    parallel: 1,
};

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a process that is killed at any time")]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use crypto::Seed;

    use super::*;

    fn place(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("setowire-cache-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir.join("peers.redb")
    }

    fn seen(n: u8, port: u16) -> Seen {
        Seen { peer: PeerId::from_bytes([n; 32]), addr: Some(([127, 0, 0, 1], port).into()), begun: true }
    }

    #[test]
    fn the_newest_and_those_who_came_often_are_kept() {
        let path = place("kept");
        let store = Store::open(&path).unwrap();
        for day in 0..20_u64 {
            store.note(&[seen(0, 1)], 1_000 + day).unwrap();
        }
        for n in 1..=250_u8 {
            store.note(&[seen(n, 1), seen(n, 2), seen(n, 1)], 2_000 + u64::from(n)).unwrap();
        }
        let all = store.newest(1000).unwrap();
        assert_eq!(all.len(), KEPT);
        assert!(all.iter().any(|(peer, known)| *peer == PeerId::from_bytes([0; 32]) && known.successes == 20));
        let (newest, known) = &all[0];
        assert_eq!((*newest, known.successes), (PeerId::from_bytes([250; 32]), 3));
        assert_eq!(known.addrs, [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()]);
        drop(store);
        assert_eq!(Store::open(&path).unwrap().newest(30).unwrap(), all[..30]);
    }

    #[test]
    fn a_record_that_was_changed_counts_for_nothing() {
        let known = Known { last_seen: 7, successes: 9, addrs: vec![([127, 0, 0, 1], 1).into()] };
        let bytes = known.encode(&[1; 32]);
        assert_eq!(Known::decode(&[1; 32], &bytes), Some(known));
        assert_eq!(Known::decode(&[2; 32], &bytes), None, "that of somebody else");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Known::decode(&[1; 32], &changed), None);
            assert_eq!(Known::decode(&[1; 32], &bytes[..at]), None);
        }
    }

    /// Whatever became of the file, it is used, or put aside and begun anew.
    #[test]
    fn a_damaged_file_is_put_aside() {
        let path = place("damaged");
        let mut rng = Seed::from_bytes([5; 32]).rng();
        let store = Store::open(&path).unwrap();
        (1..50).for_each(|n| store.note(&[seen(n, 1)], u64::from(n)).unwrap());
        let before = store.newest(1000).unwrap();
        drop(store);
        let whole = std::fs::read(&path).unwrap();
        let len = whole.len() as u64;
        let mut files: Vec<Vec<u8>> =
            vec![b"no database".to_vec(), vec![0; 100_000], whole[..whole.len() / 2].to_vec()];
        files.extend((0..60).map(|_| {
            let mut file = whole.clone();
            for _ in 0..1 + rng.below(16) {
                let at = usize::try_from(rng.below(len)).unwrap();
                file[at] ^= 1 << rng.below(8);
            }
            file
        }));
        let mut aside = 0;
        for file in files {
            std::fs::write(&path, &file).unwrap();
            match Store::open(&path) {
                Ok(store) => {
                    // What is there is what was written.
                    let found = store.newest(1000).unwrap_or_default();
                    assert!(found.iter().all(|record| before.contains(record)));
                }
                Err(SourceError::Damaged { aside: to }) => {
                    aside += 1;
                    assert_eq!(std::fs::read(to).unwrap().len(), file.len());
                    Store::open(&path).unwrap().note(&[seen(1, 1)], 1).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
            std::fs::remove_file(&path).unwrap();
        }
        assert!(aside >= 3);
    }

    #[test]
    fn a_file_that_another_program_has_or_that_cannot_be_made_is_told_of() {
        let path = place("taken");
        let _first = Store::open(&path).unwrap();
        assert!(matches!(Store::open(&path), Err(SourceError::Io { .. })));
        assert!(path.exists());
        let nowhere = path.with_file_name("missing").join("peers.redb");
        assert!(matches!(Store::open(&nowhere), Err(SourceError::Io { kind: std::io::ErrorKind::NotFound })));
    }

    /// Writes until it is killed, and says what is written: run by [`crash`].
    #[test]
    #[ignore = "a part of another test"]
    fn writes_until_it_is_killed() {
        let path = std::env::var_os("SETOWIRE_CACHE").expect("run by another test");
        let store = Store::open(Path::new(&path)).unwrap();
        let known: BTreeMap<_, _> = store.newest(KEPT).unwrap().into_iter().collect();
        for turn in 0_u64.. {
            let n = u8::try_from(turn % 150).unwrap();
            let peer = PeerId::from_bytes([n; 32]);
            store.note(&[seen(n, 1)], 1_000 + turn).unwrap();
            let earlier = known.get(&peer).map_or(0, |known| u64::from(known.successes));
            println!("written {n} {}", earlier + turn / 150 + 1);
        }
    }

    fn crash(name: &str, times: u64) {
        let path = place(name);
        let mut written: BTreeMap<u8, u32> = BTreeMap::new();
        let mut rng = Seed::from_bytes([9; 32]).rng();
        for turn in 0..times {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "driver::source::cache::tests::writes_until_it_is_killed",
                    "--ignored",
                    "--nocapture",
                ])
                .env("SETOWIRE_CACHE", &path)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let (after, pause) = (rng.below(40), Duration::from_micros(rng.below(3_000)));
            let mut killed = false;
            let mut count = 0;
            for line in lines.map_while(Result::ok) {
                let mut words = line.split(' ').skip_while(|word| *word != "written").skip(1);
                if let (Some(n), Some(times)) = (words.next(), words.next()) {
                    written.insert(n.parse().unwrap(), times.parse().unwrap());
                    count += 1;
                }
                if count > after && !killed {
                    killed = true;
                    std::thread::sleep(pause);
                    // SIGKILL. What it said before is still read.
                    child.kill().unwrap();
                }
            }
            child.wait().unwrap();
            assert!(killed, "it ended by itself");
            let store = Store::open(&path).unwrap_or_else(|error| panic!("{error} after {turn} times"));
            let there: BTreeMap<PeerId, Known> = store.newest(KEPT).unwrap().into_iter().collect();
            for (n, times) in &written {
                let known = &there[&PeerId::from_bytes([*n; 32])];
                assert!(known.successes >= *times, "peer {n}: {} of {times}, turn {turn}", known.successes);
            }
        }
        assert!(!path.with_file_name("peers.redb.damaged").exists());
    }

    #[test]
    fn what_was_written_is_there_however_the_process_was_killed() {
        crash("killed", 25);
    }

    #[test]
    #[ignore = "takes minutes: `cargo test -p setowire-swarm --features cache --lib killed_a_thousand -- --ignored`"]
    fn what_was_written_is_there_killed_a_thousand_times() {
        crash("thousand", 1000);
    }
}
