//! One socket that takes HTTP connections, within limits.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::door::Door;
use super::life::Life;
use super::origin::Origin;
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
        Ok(Self { socket, site: Arc::new(site), door: Door::new(limits::CONNECTIONS) })
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
            watch_over(&stream);
            serve(site, stream, remote.ip(), ending).await;
            drop(pass);
        });
    }
}

/// Resolves when the server is to end. Cancel-safe.
async fn told(ending: &mut watch::Receiver<bool>) {
    // Whoever could tell is gone, then.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Has the system ask whether somebody is there who says nothing, as those who wait do.
fn watch_over(stream: &TcpStream) {
    let (idle, pause, tries) = limits::KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(pause).with_retries(tries);
    // Without it those who are gone hold their places a little longer.
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Serves one connection, whatever carries it, with somebody at this address.
pub(super) async fn serve(
    site: Arc<Site>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    from: IpAddr,
    mut ending: watch::Receiver<bool>,
) {
    let life = Life::new(limits::LIFE);
    let of_answer = life.clone();
    let service = service_fn(move |request| {
        let (site, life) = (Arc::clone(&site), of_answer.clone());
        async move { site.answer(request, from, life).await }
    });
    let mut http = http1::Builder::new();
    // One request each: whoever asks now and then gains nothing from keeping it, and a life that ends cuts no second one short.
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(limits::HEAD);
    http.max_buf_size(limits::HEAD_BYTES).max_headers(limits::HEADERS);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // Whatever it ended by, it has ended.
    tokio::select! {
        _ = &mut connection => return,
        () = life.over() => return,
        () = told(&mut ending) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
