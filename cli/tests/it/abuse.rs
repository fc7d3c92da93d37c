//! What strangers may try.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::http::{Asked, ask, request};
use crate::program::{LIMIT, Server};

fn server() -> (Server, SocketAddr) {
    let server = Server::start("--http 127.0.0.1:0");
    let addr = server.http("http");
    (server, addr)
}

#[test]
fn ten_megabytes_are_neither_read_nor_kept() {
    let (server, addr) = server();
    let body = vec![b'x'; 10 << 20];
    for path in ["/announce".to_owned(), format!("/sealed/{}/{}", "00".repeat(32), "00".repeat(16))] {
        let method = if path == "/announce" { "POST" } else { "PUT" };
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na00000\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // It ends the connection in the middle.
        let _ = stream.write_all(&body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
    let garbage = Asked::new(addr, &[0xfe; 20_000]).answer();
    assert!(garbage.is_none_or(|answer| answer.status == 400));
    let long = Asked::new(addr, &request("GET", &format!("/{}", "x".repeat(20_000)), b"")).answer();
    assert!(long.is_none_or(|answer| (400..500).contains(&answer.status)));
    assert_eq!(ask(addr, "GET", "/peers", b"").text(), "[]");
    #[cfg(target_os = "linux")]
    assert!(server.resident() < 64 << 10, "{} KiB", server.resident());
    drop(server);
}

#[test]
fn who_is_slow_loses_the_connection() {
    let (_server, addr) = server();
    let start = Instant::now();
    let slow = std::thread::spawn(move || {
        // A byte now and then would hold it for ever.
        let mut asked = Asked::new(addr, b"GET /peers HT");
        asked.0.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut byte = [0; 256];
        loop {
            match asked.0.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if asked.0.write_all(b"T").is_err() {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
    });
    let silent = std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut asked = Asked::new(addr, b"");
        let _ = asked.0.read_to_end(&mut all);
    });
    let half = std::thread::spawn(move || {
        let asked = Asked::new(addr, b"POST /announce HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
        asked.answer().map(|answer| answer.status)
    });
    // Others are served meanwhile.
    assert_eq!(ask(addr, "GET", "/peers", b"").status, 200);
    slow.join().unwrap();
    silent.join().unwrap();
    assert_eq!(half.join().unwrap(), Some(408));
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
}

#[test]
fn thousands_of_connections_have_a_bound() {
    let (server, addr) = server();
    let mut idle: Vec<TcpStream> = Vec::new();
    let mut refused = 0;
    for _ in 0..1500 {
        let mut stream = TcpStream::connect(addr).unwrap();
        if idle.len() >= 1024 {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.starts_with(b"HTTP/1.1 503"), "{:?}", String::from_utf8_lossy(&answer));
            refused += 1;
        } else {
            idle.push(stream);
        }
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20);
    #[cfg(target_os = "linux")]
    assert!(server.resident() < 96 << 10, "{} KiB", server.resident());
    drop(idle);
    // There is room again once they are gone.
    let deadline = Instant::now() + LIMIT;
    while ask(addr, "GET", "/peers", b"").status != 200 {
        assert!(Instant::now() < deadline);
    }
    drop(server);
}

/// A byte in a segment of its own must not hold the buffer that it was read into.
#[cfg(target_os = "linux")]
#[test]
fn bytes_that_come_one_by_one_cost_no_more_than_they_are() {
    let server = Server::start("--http 127.0.0.1:0 --piping 127.0.0.1:0");
    let (lists, piping) = (server.http("http"), server.http("piping"));
    let before = server.resident();
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n");
    let put = format!("PUT /sealed/{}/{}", "00".repeat(32), "00".repeat(16));
    let mut senders = Vec::new();
    for (addr, line) in [(lists, "POST /announce"), (piping, "POST /slow"), (lists, put.as_str())] {
        let head = if line == put { head(line).replace("4000", "2000") } else { head(line) };
        let sender = Asked::new(addr, head.as_bytes());
        sender.0.set_nodelay(true).unwrap();
        senders.push(sender);
    }
    for _ in 0..1900 {
        for sender in &mut senders {
            // The lists give up on who is so slow; what was read until then has cost its memory.
            let _ = sender.0.write_all(b"x");
        }
        // One part each, as far as the server keeps up.
        std::thread::yield_now();
    }
    assert_eq!(ask(lists, "GET", "/healthz", b"").status, 200);
    let after = server.resident();
    assert!(after < before + (8 << 10), "{before} KiB, then {after} KiB");
}
