//! Web servers of the kinds that nodes meet at, good and bad, on the loopback interface.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm::rendezvous;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Keeps what is put and lists it, and keeps the list of the old wire.
    Bootstrap,
    /// Hands what is posted to who asks.
    Piping,
    /// Takes connections and says nothing.
    Silent,
    /// Sends a byte a second.
    Slow,
    /// Sends 10 MB.
    Huge,
    /// Sends 200 bytes of nothing in particular.
    Garbage,
    /// Has no time.
    Unavailable,
    /// Sends everybody to another server.
    Elsewhere,
}

pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// Method and path of all that was asked, and its body.
    asked: Mutex<Vec<(String, Vec<u8>)>>,
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    peers: Mutex<Vec<serde_json::Value>>,
    waiting: Mutex<BTreeMap<String, Waiting>>,
}

enum Waiting {
    Sender(Vec<u8>, oneshot::Sender<()>),
    Receiver(oneshot::Sender<Vec<u8>>),
}

impl Server {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/base", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                clients.spawn(async move { drop(serve(stream, manner, &state).await) });
            }
        });
        Self { url, state, task }
    }

    /// Everything that was asked of it so far.
    pub(crate) fn asked(&self) -> Vec<(String, Vec<u8>)> {
        self.state.asked.lock().unwrap().clone()
    }

    /// As if somebody else had left it there.
    pub(crate) fn keep(&self, path: &str, body: Vec<u8>) {
        self.state.kept.lock().unwrap().insert(path.to_owned(), body);
    }

    /// As if somebody of the old wire had.
    pub(crate) fn announce(&self, peer: serde_json::Value) {
        self.state.peers.lock().unwrap().push(peer);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, state: &State) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap());
    let path = target.split('?').next().unwrap().strip_prefix("/base/").expect("below the base").to_owned();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    state.asked.lock().unwrap().push((format!("{method} {path}"), body.clone()));
    let (status, answer): (&str, Vec<u8>) = match manner {
        Manner::Silent => return std::future::pending().await,
        Manner::Slow => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Manner::Huge => ("200 OK", vec![7; 10 << 20]),
        Manner::Garbage => ("200 OK", (0..200).map(|n| n as u8).collect()),
        Manner::Unavailable => ("503 Busy\r\nretry-after: 7", Vec::new()),
        Manner::Elsewhere => ("302 Found\r\nlocation: http://127.0.0.2:9/base/x", Vec::new()),
        Manner::Bootstrap => bootstrap(&method, &path, body, state),
        Manner::Piping => pipe(&mut stream, &method, &path, body, state).await,
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&answer).await
}

fn bootstrap(method: &str, path: &str, body: Vec<u8>, state: &State) -> (&'static str, Vec<u8>) {
    match (method, path) {
        ("POST", "announce") => match serde_json::from_slice(&body) {
            Ok(peer) => {
                state.peers.lock().unwrap().push(peer);
                ("200 OK", b"{\"ok\":true}".to_vec())
            }
            Err(_) => ("400 Bad", Vec::new()),
        },
        ("GET", "peers") => ("200 OK", serde_json::to_vec(&*state.peers.lock().unwrap()).unwrap()),
        ("PUT", path) if body.len() <= rendezvous::MAX_BODY => {
            let parts: Vec<usize> = path.split('/').map(str::len).collect();
            assert_eq!(parts, [rendezvous::SEALED.len(), rendezvous::PLACE_DIGITS, rendezvous::SLOT_DIGITS]);
            state.kept.lock().unwrap().insert(path.to_owned(), body);
            ("204 Kept", Vec::new())
        }
        ("GET", path) => {
            let kept = state.kept.lock().unwrap();
            let there = kept.iter().filter(|(key, _)| key.starts_with(path)).map(|(_, body)| &body[..]);
            ("200 OK", rendezvous::list(there))
        }
        _ => ("400 Bad", Vec::new()),
    }
}

async fn pipe(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    body: Vec<u8>,
    state: &State,
) -> (&'static str, Vec<u8>) {
    let mut nothing = [0];
    if method == "GET" {
        let rest = {
            let mut waiting = state.waiting.lock().unwrap();
            match waiting.remove(path) {
                Some(Waiting::Sender(body, done)) => {
                    let _ = done.send(());
                    return ("200 OK", body);
                }
                Some(taken) => {
                    waiting.insert(path.to_owned(), taken);
                    return ("400 Taken", Vec::new());
                }
                None => {
                    let (sender, rest) = oneshot::channel();
                    waiting.insert(path.to_owned(), Waiting::Receiver(sender));
                    rest
                }
            }
        };
        tokio::select! {
            body = rest => return ("200 OK", body.unwrap_or_default()),
            _gone = stream.read(&mut nothing) => {}
        }
    } else {
        let done = {
            let mut waiting = state.waiting.lock().unwrap();
            match waiting.remove(path) {
                Some(Waiting::Receiver(rest)) => {
                    let _ = rest.send(body);
                    return ("200 OK", b"sent".to_vec());
                }
                Some(taken) => {
                    waiting.insert(path.to_owned(), taken);
                    return ("400 Taken", Vec::new());
                }
                None => {
                    let (taken, done) = oneshot::channel();
                    waiting.insert(path.to_owned(), Waiting::Sender(body, taken));
                    done
                }
            }
        };
        tokio::select! {
            _ = done => return ("200 OK", b"sent".to_vec()),
            _gone = stream.read(&mut nothing) => {}
        }
    }
    state.waiting.lock().unwrap().remove(path);
    ("200 OK", Vec::new())
}
