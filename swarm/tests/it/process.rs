//! Nodes in processes of their own: this binary again, told by a variable of the environment to be one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use swarm::{Builder, DisconnectReason, Peer, PeerId, Swarm, SwarmEvent};

use crate::support::{ECHO, LONG, builder, connected, gone, within};

/// What a process is told: what to do, and with what.
const ROLE: &str = "SETOWIRE_TEST_ROLE";
/// How often a session is asked whether the other side is there, and how long it may be silent.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const DEAD_AFTER: Duration = Duration::from_secs(2);

/// A node in a process of its own. It is killed with the value.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["process::the_other_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    /// A node that sends every message back, and answers every request with its body.
    fn echo(listen: SocketAddr, dial: Option<SocketAddr>) -> (Self, PeerId, SocketAddr) {
        let dial = dial.map_or(String::new(), |addr| addr.to_string());
        let mut process = Self::start(&format!("echo {listen} {dial}"));
        let words = process.line();
        (process, words[0].parse().unwrap(), words[1].parse().unwrap())
    }

    /// The words of the next line that is for us: what the harness prints is not.
    fn line(&mut self) -> Vec<String> {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the process has ended");
            // The harness prints the name of the test before it runs, without the end of the line.
            if let Some((_, told)) = line.split_once(MARK) {
                return told.split_whitespace().map(str::to_owned).collect();
            }
        }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// Asks it to leave, and returns whether it did so in peace.
    fn leave(mut self) -> bool {
        self.stdin.take();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a line for the process that started this one begins with.
const MARK: &str = "<told> ";

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{line}").unwrap();
    out.flush().unwrap();
}

/// What the other process runs; nothing otherwise.
#[tokio::test]
async fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split_whitespace().collect();
    match words[..] {
        ["echo", listen, ref dial @ ..] => echo(listen, dial).await,
        ["cycles"] => cycles().await,
        _ => panic!("{role:?}"),
    }
}

async fn echo(listen: &str, dial: &[&str]) {
    let swarm = vigilant().seed([7; 32]).listen(listen.parse().unwrap()).bind().await.unwrap();
    let _answers = swarm.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    let mut events = swarm.events();
    tell(&format!("{} {}", swarm.id(), swarm.local_addr()));
    if let [addr] = dial {
        swarm.dial(addr.parse::<SocketAddr>().unwrap()).await.unwrap();
    }
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Whatever it reads: the other process has ended, or wants this one to.
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = ended.send(());
    });
    let run = async {
        loop {
            match events.next().await.unwrap() {
                SwarmEvent::Connected { peer, .. } => {
                    let mut messages = peer.messages().unwrap();
                    tokio::spawn(async move {
                        while let Some(message) = messages.next().await {
                            let _ = peer.send(message).await;
                        }
                    });
                }
                SwarmEvent::Lagged(lost) => panic!("{lost} events lost"),
                _ => {}
            }
        }
    };
    tokio::select! {
        () = run => {}
        _ = end => {}
    }
    swarm.shutdown(Duration::from_secs(5)).await;
}

/// A node that notices soon when somebody is gone.
fn vigilant() -> Builder {
    let sessions = peer::Config::default().dead_after(DEAD_AFTER).idle(peer::Idle::KeepAlive(KEEP_ALIVE));
    builder().sessions(sessions)
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn echoes(peer: &Peer, numbers: std::ops::Range<u32>) {
    let mut messages = peer.messages().unwrap();
    let send = async {
        for n in numbers.clone() {
            peer.send(n.to_be_bytes()).await.unwrap();
        }
    };
    let receive = async {
        for n in numbers.clone() {
            assert_eq!(messages.next().await.unwrap(), n.to_be_bytes()[..]);
        }
    };
    within(async { tokio::join!(send, receive) }).await;
}

#[tokio::test]
async fn two_processes_talk_and_part() {
    let swarm = vigilant().bind().await.unwrap();
    let mut events = swarm.events();
    let (process, id, addr) = Process::echo(any(), None);
    let peer = within(swarm.dial((id, addr))).await.unwrap();
    echoes(&peer, 0..5000).await;
    for len in [0, 1, 1000, 200_000] {
        let body = vec![len as u8; len];
        assert_eq!(within(peer.request(ECHO, &body).into_future()).await, Ok(Bytes::from(body)));
    }
    let left = tokio::task::spawn_blocking(|| process.leave());
    assert_eq!(gone(&mut events).await, DisconnectReason::Closed(0));
    assert!(within(left).await.unwrap());
}

#[tokio::test]
async fn a_killed_process_is_noticed_in_time() {
    let swarm = vigilant().bind().await.unwrap();
    let mut events = swarm.events();
    let (process, id, addr) = Process::echo(any(), None);
    let peer = within(swarm.dial((id, addr))).await.unwrap();
    echoes(&peer, 0..100).await;
    drop(process);
    let killed = Instant::now();
    assert_eq!(gone(&mut events).await, DisconnectReason::Timeout);
    // The question comes a while after the last packet, which may be the one that was just acknowledged.
    let after = killed.elapsed();
    assert!(after < 2 * KEEP_ALIVE + DEAD_AFTER + Duration::from_secs(1), "noticed after {after:?}");
    assert!(matches!(peer.send("x").await, Err(swarm::SendError::NotConnected { .. })));
    // The port and the identity are taken up by another process, which is as good as the first.
    let (_process, same, _) = Process::echo(addr, None);
    assert_eq!(same, id);
    let again = Instant::now();
    echoes(&within(swarm.dial((id, addr))).await.unwrap(), 0..100).await;
    assert!(again.elapsed() < Duration::from_secs(2), "connected again after {:?}", again.elapsed());
}

#[tokio::test]
async fn a_process_that_was_started_anew_is_told_apart() {
    let swarm = builder().bind().await.unwrap();
    let mut events = swarm.events();
    let (process, id, addr) = Process::echo(any(), None);
    let peer = within(swarm.dial((id, addr))).await.unwrap();
    echoes(&peer, 0..100).await;
    drop(process);
    // It does not know the session of the first: what comes of it is answered with a reset.
    let (process, _, _) = Process::echo(addr, None);
    peer.send("who is there?").await.unwrap();
    let asked = Instant::now();
    assert_eq!(gone(&mut events).await, DisconnectReason::Restarted);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let peer = within(swarm.dial((id, addr))).await.unwrap();
    echoes(&peer, 0..100).await;
    // And one that dials takes the place of the one before it, unless that is found out to be gone first.
    drop(process);
    let mut events = swarm.events();
    assert_eq!(connected(&mut events).await.id(), id);
    let (_process, _, _) = Process::echo(addr, Some(swarm.local_addr()));
    assert!(matches!(gone(&mut events).await, DisconnectReason::Replaced | DisconnectReason::Restarted));
    echoes(&connected(&mut events).await, 0..100).await;
}

#[tokio::test]
async fn a_process_that_stands_still_for_ten_seconds_loses_nothing() {
    let swarm = builder().bind().await.unwrap();
    let (process, id, addr) = Process::echo(any(), None);
    let peer = within(swarm.dial((id, addr))).await.unwrap();
    let mut events = swarm.events();
    let mut messages = peer.messages().unwrap();
    let message = |n: u32| [&n.to_be_bytes()[..], &[n as u8; 1000]].concat();
    const COUNT: u32 = 10_000;
    let send = async {
        for n in 0..COUNT {
            peer.send(message(n)).await.unwrap();
        }
    };
    let receive = async {
        for n in 0..COUNT {
            if n == COUNT / 10 {
                process.signal("STOP");
                // Ten seconds are what is tried here.
                tokio::time::sleep(Duration::from_secs(10)).await;
                process.signal("CONT");
            }
            assert_eq!(messages.next().await.unwrap(), message(n));
        }
    };
    tokio::time::timeout(2 * LONG, async { tokio::join!(send, receive) }).await.unwrap();
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, SwarmEvent::Disconnected { .. }), "the session goes on");
    }
}

/// Many sessions in a process that does nothing else, so that what it holds can be counted.
async fn cycles() {
    let (a, b) = (builder().bind().await.unwrap(), builder().bind().await.unwrap());
    let _echo = b.respond(ECHO, |_, body| async move { Ok::<_, ()>(body) }).unwrap();
    let mut held = Vec::new();
    for n in 0..1000 {
        let peer = within(a.dial((b.id(), b.local_addr()))).await.unwrap();
        assert_eq!(within(peer.request(ECHO, "x").into_future()).await, Ok(Bytes::from("x")));
        within(peer.disconnect(Duration::ZERO)).await;
        if n % 250 == 249 {
            held.push((open_files(), resident_kib()));
        }
    }
    settled(&a, &b).await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (first, last) = (held[0], held[3]);
    tell(&format!("{} {} {} {}", last.0 as i64 - first.0 as i64, last.1 as i64 - first.1 as i64, tasks, first.0));
}

/// Waits until no session is open at either node.
async fn settled(a: &Swarm, b: &Swarm) {
    let mut events = b.events();
    while !b.peers().await.is_empty() || !a.peers().await.is_empty() {
        within(events.next()).await;
    }
    for swarm in [a, b] {
        let stats = swarm.stats().await.unwrap();
        assert_eq!((stats.node.connected, stats.node.dials, stats.streams), (0, 0, 0));
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_thousand_sessions_leave_no_file_no_task_and_no_memory_behind() {
    let mut process = Process::start("cycles");
    let figures: Vec<i64> = process.line().iter().map(|word| word.parse().unwrap()).collect();
    let [files, kib, tasks, held] = figures[..] else { panic!("{figures:?}") };
    assert_eq!(files, 0, "files more than after 250 sessions, where {held} were open");
    assert_eq!(tasks, 3, "two nodes, and who answers requests");
    assert!(kib < 2048, "{kib} KiB more than after 250 sessions");
    assert!(process.leave());
}
