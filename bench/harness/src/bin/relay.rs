//! A path as bad as it is told to be, between a client and a server that both speak UDP.
//!
//! `bench-relay SERVER [--delay MS] [--loss PERCENT] [--rate MBIT] [--queue PACKETS]` prints the address that clients use
//! in place of the server's, and ends with its stdin. Both directions are alike: a datagram is lost with the
//! given probability, waits for its turn where there is a rate, is dropped where the queue for that is full, and arrives
//! after the delay. Nothing is reordered. Marks of congestion are neither set nor passed on.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::SockRef;

/// Of each socket, and in each direction: a slow reader must not be a loss of its own.
const BUFFER: usize = 4 << 20;

/// What IPv4, UDP and Ethernet add to a datagram on the wire.
const HEADERS: usize = 20 + 8 + 14;

/// What the path does to datagrams.
#[derive(Clone, Copy, Debug)]
struct Path {
    delay: Duration,
    /// Of 2^64.
    loss: u64,
    /// Bits per second; 0 for as fast as it goes.
    rate: u64,
    /// Packets of 1500 bytes that may wait for their turn.
    queue: u32,
}

/// One direction.
#[derive(Debug)]
struct Link {
    path: Path,
    /// When all that waits will have left.
    free_at: Instant,
    random: u64,
    out: Sender<Parcel>,
}

/// A datagram on its way.
#[derive(Debug)]
struct Parcel {
    at: Instant,
    bytes: Vec<u8>,
    by: Arc<UdpSocket>,
    /// `None` by a connected socket.
    to: Option<SocketAddr>,
}

impl Link {
    /// `seed` must not be 0.
    fn new(path: Path, seed: u64) -> Self {
        let (out, parcels) = channel();
        thread::spawn(move || deliver(&parcels));
        Self { path, free_at: Instant::now(), random: seed, out }
    }

    fn take(&mut self, bytes: &[u8], by: &Arc<UdpSocket>, to: Option<SocketAddr>) {
        // Marsaglia, Xorshift RNGs, 2003.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if self.random < self.path.loss {
            return;
        }
        let now = Instant::now();
        let time = |bytes: usize| Duration::from_secs_f64(bytes as f64 * 8.0 / self.path.rate as f64);
        let mut at = now;
        if self.path.rate > 0 {
            let begins = self.free_at.max(now);
            if begins - now > time(1500) * self.path.queue {
                return;
            }
            self.free_at = begins + time(bytes.len() + HEADERS);
            at = self.free_at;
        }
        // If nobody delivers any more, the process ends.
        let _ = self.out.send(Parcel { at: at + self.path.delay, bytes: bytes.to_vec(), by: Arc::clone(by), to });
    }
}

/// Sends each when its time has come: they come in the order of their times.
fn deliver(parcels: &Receiver<Parcel>) {
    for Parcel { at, bytes, by, to } in parcels {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        // What cannot be sent is lost.
        let _ = match to {
            Some(to) => by.send_to(&bytes, to),
            None => by.send(&bytes),
        };
    }
}

fn socket() -> Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
    SockRef::from(&socket).set_send_buffer_size(BUFFER)?;
    Ok(Arc::new(socket))
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let server: SocketAddr = words.next().context("the server's address, please")?.parse()?;
    let mut path = Path { delay: Duration::ZERO, loss: 0, rate: 0, queue: 416 };
    while let Some(word) = words.next() {
        let value: f64 = words.next().with_context(|| format!("{word} wants a value"))?.parse()?;
        match word.as_str() {
            "--delay" => path.delay = Duration::from_secs_f64(value / 1e3),
            "--loss" => path.loss = (value / 100.0 * u64::MAX as f64) as u64,
            "--rate" => path.rate = (value * 1e6) as u64,
            "--queue" => path.queue = value as u32,
            _ => bail!("unknown option `{word}`"),
        }
    }
    let front = socket()?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", front.local_addr()?)?;
    out.flush()?;
    thread::spawn(|| {
        // Whoever started this closes its stdin, or is gone.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });

    let mut there = Link::new(path, 0x9e37_79b9_7f4a_7c15);
    let back = Arc::new(Mutex::new(Link::new(path, 0xd1b5_4a32_d192_ed03)));
    let mut clients = BTreeMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, client)) = front.recv_from(&mut buffer) else { continue };
        let behind = match clients.get(&client) {
            Some(behind) => Arc::clone(behind),
            None => {
                let behind = socket()?;
                behind.connect(server)?;
                clients.insert(client, Arc::clone(&behind));
                let (front, back, from) = (Arc::clone(&front), Arc::clone(&back), Arc::clone(&behind));
                thread::spawn(move || return_from(&from, &front, client, &back));
                behind
            }
        };
        there.take(&buffer[..length], &behind, None);
    }
}

/// Takes what the server says to one client.
fn return_from(behind: &UdpSocket, front: &Arc<UdpSocket>, client: SocketAddr, back: &Mutex<Link>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // The server may be gone, or not there yet.
        let Ok(length) = behind.recv(&mut buffer) else { continue };
        back.lock().unwrap_or_else(PoisonError::into_inner).take(&buffer[..length], front, Some(client));
    }
}
