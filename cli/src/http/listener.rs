//! One socket that takes HTTP connections, within limits.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::origin::{Origin, Shares};
use super::{Site, limits};

/// How long to wait when the system has no more sockets.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What is said to whom there is no room for.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A socket that takes connections.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    site: Arc<Site>,
    door: Door,
}

impl Listener {
    /// Listens at an address.
    ///
    /// # Errors
    ///
    /// When it cannot, with what to do about it.
    pub(crate) async fn bind(addr: SocketAddr, site: Site) -> anyhow::Result<Self> {
        let socket = TcpListener::bind(addr).await.with_context(|| match addr.port() {
            1..1024 => format!("cannot listen on tcp {addr}: choose a port of 1024 or above, or one that is free"),
            _ => format!("cannot listen on tcp {addr}: choose another port, or an address of this machine"),
        })?;
        Ok(Self { socket, site: Arc::new(site), door: Door::default() })
    }

    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until told to end; then connections have a moment to finish.
    pub(crate) async fn run(self, mut ending: watch::Receiver<bool>) {
        let (mut connections, theirs) = (JoinSet::new(), ending.clone());
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, remote)) => self.enter(stream, remote, &mut connections, &theirs),
                    // The connection is gone, or there are too many in the whole system.
                    Err(_) => sleep(EXHAUSTED).await,
                },
                Some(_ended) = connections.join_next() => {}
                () = told(&mut ending) => break,
            }
        }
        let all = async { while connections.join_next().await.is_some() {} };
        // What takes longer is broken off.
        let _ = timeout(limits::GRACE, all).await;
    }

    fn enter(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        connections: &mut JoinSet<()>,
        ending: &watch::Receiver<bool>,
    ) {
        let Some(pass) = self.door.enter(Origin::new(remote.ip())) else {
            // Into an empty buffer of the system, or not at all.
            let _ = stream.try_write(BUSY);
            return;
        };
        let (site, ending) = (Arc::clone(&self.site), ending.clone());
        connections.spawn(async move {
            serve(site, stream, remote, ending).await;
            drop(pass);
        });
    }
}

/// Resolves when the server is to end. Cancel-safe.
async fn told(ending: &mut watch::Receiver<bool>) {
    // Whoever could tell is gone, then.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Serves one connection.
async fn serve(site: Arc<Site>, stream: TcpStream, remote: SocketAddr, mut ending: watch::Receiver<bool>) {
    let life = site.life();
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { site.answer(request, remote.ip()).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits::HEAD);
    http.max_buf_size(limits::HEAD_BYTES).max_headers(limits::HEADERS);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // Whatever it ended by, it has ended.
    tokio::select! {
        _ = &mut connection => return,
        () = sleep(life) => return,
        () = told(&mut ending) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Who is inside.
#[derive(Debug, Clone, Default)]
struct Door(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    shares: Shares,
}

/// Leaves when dropped.
#[derive(Debug)]
struct Pass {
    door: Door,
    origin: Origin,
}

impl Door {
    fn enter(&self, origin: Origin) -> Option<Pass> {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (per_host, per_network) = (limits::CONNECTIONS_PER_HOST, limits::CONNECTIONS_PER_NETWORK);
        if inside.all >= limits::CONNECTIONS || !inside.shares.has_room(origin, per_host, per_network) {
            return None;
        }
        inside.all += 1;
        inside.shares.add(origin);
        Some(Pass { door: self.clone(), origin })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.door.0.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all = inside.all.saturating_sub(1);
        inside.shares.remove(self.origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_does_not_fill_the_house() {
        let (door, host) = (Door::default(), |ip: [u8; 4]| Origin::new(ip.into()));
        let mut inside: Vec<Pass> =
            (0..limits::CONNECTIONS_PER_HOST).filter_map(|_| door.enter(host([203, 0, 113, 1]))).collect();
        assert_eq!(inside.len(), limits::CONNECTIONS_PER_HOST);
        assert!(door.enter(host([203, 0, 113, 1])).is_none());
        inside.pop();
        inside.extend(door.enter(host([203, 0, 113, 1])));
        assert!(door.enter(host([203, 0, 113, 1])).is_none());
        inside.extend(std::iter::from_fn(|| door.enter(host([127, 0, 0, 1]))));
        assert_eq!(inside.len(), limits::CONNECTIONS);
        assert!(door.enter(host([203, 0, 113, 2])).is_none());
        inside.clear();
        assert!(door.0.lock().unwrap().shares.is_empty());
    }
}
