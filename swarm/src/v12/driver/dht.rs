//! The distributed hash table of the old wire on a socket: one task that owns it, and a handle.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use structs::{Datagram, Machine, Path, TransmitBuf};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout_at};

use crate::v12::dht::{self, SearchId, Stats};
use crate::v12::policy;
use crate::{BindError, Closed, DialError, StoreError, clock};

/// A node of the distributed hash table of the old wire. Cheap to clone; it ends with the last clone.
///
/// It has a socket of its own and has nothing to do with a [`Swarm`](super::Swarm). What is found in it is unsigned.
#[derive(Debug, Clone)]
pub struct Dht {
    commands: mpsc::Sender<Command>,
    local: SocketAddr,
}

#[derive(Debug)]
enum Command {
    Id(oneshot::Sender<String>),
    Meet(SocketAddr, oneshot::Sender<Result<(), DialError>>),
    Put(String, String, oneshot::Sender<Result<usize, StoreError>>),
    Find(String, oneshot::Sender<Option<String>>),
    Stats(oneshot::Sender<Stats>),
}

impl Dht {
    /// Starts a node that knows nobody, on a task of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BindError`]. Nothing runs then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves nothing behind.
    pub async fn bind(addr: SocketAddr) -> Result<Self, BindError> {
        if !addr.is_ipv4() {
            return Err(BindError::Unsupported { addr });
        }
        let seed = crypto::Seed::from_os().or(Err(BindError::Entropy))?;
        let failed = |error: io::Error| BindError::from_io(addr, &error);
        let socket = UdpSocket::bind(addr).await.map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let (commands, wanted) = mpsc::channel(COMMANDS);
        let task = Task {
            dht: dht::Dht::new(&seed, clock::now()),
            socket,
            wanted,
            met: BTreeMap::new(),
            found: BTreeMap::new(),
        };
        drop(tokio::spawn(task.run()));
        Ok(Self { commands, local })
    }

    /// The address of its socket.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Its id: 40 hexadecimal digits, new at every start. It is not the id of a node.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the runtime has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes.
    pub async fn id(&self) -> Result<String, Closed> {
        self.ask(Command::Id).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Closed> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.or(Err(Closed))?;
        answer.await.or(Err(Closed))
    }

    /// Gets to know a node, and through it others.
    ///
    /// # Errors
    ///
    /// [`DialError::NoAnswer`] after 5 s, and for what is no IPv4 address of anybody.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped changes nothing about it.
    pub async fn meet(&self, addr: SocketAddr) -> Result<(), DialError> {
        self.ask(|reply| Command::Meet(addr, reply)).await.unwrap_or(Err(DialError::Closed))
    }

    /// Stores a text at the nodes that are known, the 20 closest to its key, and here; again every hour. Returns at how many
    /// others. Nobody confirms it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has stored it or has not.
    pub async fn put(&self, key: &str, value: &str) -> Result<usize, StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.ask(|reply| Command::Put(key, value, reply)).await.unwrap_or(Err(StoreError::Closed))
    }

    /// The value of a key, from the first node that has one: a text, or other JSON as text.
    ///
    /// # Cancel safety
    ///
    /// Safe: the search goes on for nobody.
    pub async fn find(&self, key: &str) -> Option<String> {
        let key = key.to_owned();
        self.ask(|reply| Command::Find(key, reply)).await.ok().flatten()
    }

    /// What it holds and counts.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the runtime has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes.
    pub async fn stats(&self) -> Result<Stats, Closed> {
        self.ask(Command::Stats).await
    }
}

/// What runs it.
struct Task {
    dht: dht::Dht,
    socket: UdpSocket,
    wanted: mpsc::Receiver<Command>,
    met: BTreeMap<SocketAddr, Vec<oneshot::Sender<Result<(), DialError>>>>,
    found: BTreeMap<SearchId, oneshot::Sender<Option<String>>>,
}

impl Task {
    /// Until the last handle is dropped.
    async fn run(mut self) {
        let (mut buffer, mut out) = (vec![0; 65_536], TransmitBuf::new(1));
        let any = self.socket.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        loop {
            let deadline = self.dht.poll_timeout().map(|deadline| deadline.at);
            let pause = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = self.wanted.recv() => match command {
                    Some(command) => self.apply(command),
                    None => return,
                },
                // Errors of receiving are of single datagrams: the next is awaited.
                received = self.socket.recv_from(&mut buffer) => if let Ok((len, remote)) = received {
                    let payload = buffer.get_mut(..len).unwrap_or_default();
                    // What is refused is counted there.
                    let _ = self.dht.handle_datagram(Datagram::new(Path::udp(any, remote), payload), clock::now());
                },
                () = pause => self.dht.handle_timeout(clock::now()),
            }
            while let Some(transmit) = self.dht.poll_transmit(&mut out, clock::now()) {
                // A socket without room loses datagrams, as the network does, and holds nothing up.
                let until = clock::now() + PATIENCE;
                let _ = timeout_at(until.into(), self.socket.send_to(out.bytes(), transmit.path.remote)).await;
                out.clear();
            }
            while let Some(event) = self.dht.poll_event() {
                self.pass(event);
            }
        }
    }

    fn apply(&mut self, command: Command) {
        let now = clock::now();
        // Whoever asked may have given up.
        match command {
            Command::Id(reply) => drop(reply.send(self.dht.id())),
            Command::Meet(addr, reply) => match policy::dialable(addr) {
                Ok(v4) => {
                    self.met.entry(v4.into()).or_default().push(reply);
                    self.dht.meet(v4, now);
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Put(key, value, reply) => drop(reply.send(self.dht.put(&key, &value, now))),
            Command::Find(key, reply) => match self.dht.find(&key, now) {
                Some(id) => drop(self.found.insert(id, reply)),
                None => drop(reply.send(None)),
            },
            Command::Stats(reply) => drop(reply.send(self.dht.stats())),
        }
    }

    fn pass(&mut self, event: dht::Event) {
        match event {
            dht::Event::Met { addr, answered } => {
                let addr = SocketAddr::from(addr);
                for reply in self.met.remove(&addr).unwrap_or_default() {
                    let result = if answered { Ok(()) } else { Err(DialError::NoAnswer { addr, after: TIMEOUT }) };
                    let _ = reply.send(result);
                }
            }
            dht::Event::Found { id, value } => {
                if let Some(reply) = self.found.remove(&id) {
                    let _ = reply.send(value);
                }
            }
            dht::Event::Closed => {}
        }
    }
}

/// Commands that wait. When full, the caller waits.
const COMMANDS: usize = 64;
/// How long a datagram waits for room in the socket.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a node is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);
