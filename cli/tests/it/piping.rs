//! Two who meet at a path.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use crate::http::{Asked, ask, request};
use crate::program::Server;

fn server() -> (Server, SocketAddr) {
    let server = Server::start("--piping 127.0.0.1:0");
    let addr = server.http("piping");
    (server, addr)
}

#[test]
fn a_sender_waits_for_a_receiver() {
    let (_server, addr) = server();
    for method in ["POST", "PUT"] {
        let body = br#"{"id":"e3f03f52612aadacbcbc96c9ea08aa1835740dd7","ip":null}"#;
        let mut sender = Asked::new(addr, &request(method, "/p2p-ecf81467f347-announce", body));
        sender.until("waiting for a receiver");
        assert_eq!(ask(addr, "POST", "/p2p-ecf81467f347-announce", b"x").status, 400, "one sender");
        let received = ask(addr, "GET", "/p2p-ecf81467f347-announce", b"");
        assert_eq!((received.status, received.body.as_slice()), (200, &body[..]));
        assert!(received.head.contains(&format!("content-length: {}", body.len())), "{}", received.head);
        sender.until("[INFO] sent");
    }
}

#[test]
fn a_receiver_waits_for_a_sender() {
    let (_server, addr) = server();
    let receiver = Asked::new(addr, &request("GET", "/x?n=1", b""));
    let waits = std::thread::spawn(move || receiver.answer().unwrap());
    let sent = ask(addr, "PUT", "/x", b"hello");
    assert!(sent.text().ends_with("[INFO] sent\n"), "{}", sent.text());
    assert_eq!(waits.join().unwrap().body, b"hello");
}

#[test]
fn a_second_receiver_and_several_are_refused() {
    let (_server, addr) = server();
    let receiver = Asked::new(addr, &request("GET", "/x", b""));
    let waits = std::thread::spawn(move || receiver.answer());
    let (mut refused, mut passed) = (0, None);
    // One of the two is refused, whoever comes second.
    let other = Asked::new(addr, &request("GET", "/x", b""));
    let other = std::thread::spawn(move || other.answer());
    while !waits.is_finished() && !other.is_finished() {
        std::thread::yield_now();
    }
    assert!(ask(addr, "POST", "/x", b"now").text().ends_with("[INFO] sent\n"));
    for answer in [waits.join().unwrap().unwrap(), other.join().unwrap().unwrap()] {
        match answer.status {
            400 => refused += 1,
            _ => passed = Some(answer.body),
        }
    }
    assert_eq!((refused, passed.as_deref()), (1, Some(&b"now"[..])));
    assert_eq!(ask(addr, "GET", "/x?n=2", b"").status, 400);
    assert_eq!(ask(addr, "DELETE", "/x", b"").status, 405);
    assert_eq!(ask(addr, "GET", "/", b"").status, 404);
    assert_eq!(ask(addr, "GET", &format!("/{}", "x".repeat(256)), b"").status, 400);
}

#[test]
fn who_goes_away_is_forgotten() {
    let (_server, addr) = server();
    let mut sender = Asked::new(addr, &request("POST", "/gone", b"short"));
    sender.until("waiting");
    sender.0.shutdown(Shutdown::Both).unwrap();
    drop(sender);
    // A new one is refused until the server has noticed.
    let sender = loop {
        let mut next = Asked::new(addr, &request("POST", "/gone", b"another"));
        let mut first = [0; 12];
        std::io::Read::read_exact(&mut next.0, &mut first).unwrap();
        if first.ends_with(b"200") {
            break next;
        }
    };
    assert_eq!(ask(addr, "GET", "/gone", b"").body, b"another");
    drop(sender);

    // Of two receivers one is refused; then the other is known to wait.
    let both = [(); 2].map(|()| Asked::new(addr, &request("GET", "/left", b"")));
    for asked in &both {
        asked.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    }
    while !both.iter().any(|asked| asked.0.peek(&mut [0]).is_ok()) {}
    drop(both);
    // Whoever sends waits, for nobody is there, once the server has noticed.
    loop {
        let mut sender = Asked::new(addr, &request("POST", "/left", b"x"));
        if sender.until("[INFO]").contains("waiting") {
            assert_eq!(ask(addr, "GET", "/left", b"").body, b"x");
            break;
        }
    }
}

#[test]
fn what_breaks_off_is_not_taken_for_whole() {
    let (_server, addr) = server();
    let head = "POST /broken HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let mut sender = Asked::new(addr, head.as_bytes());
    sender.until("waiting");
    let mut receiver = Asked::new(addr, &request("GET", "/broken", b""));
    receiver.until("5\r\nhello");
    drop(sender);
    let mut rest = Vec::new();
    let end = std::io::Read::read_to_end(&mut receiver.0, &mut rest);
    assert!(end.is_err() || !rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));
}

#[test]
fn what_is_too_long_is_refused_or_broken_off() {
    let (_server, addr) = server();
    let long = vec![7; 10 << 20];
    let mut told = Asked::new(addr, b"POST /long HTTP/1.1\r\nHost: x\r\nContent-Length: 10485760\r\n\r\n");
    told.until("413");
    // Without a length it is noticed when it is passed on.
    let mut sender =
        Asked::new(addr, b"POST /long HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na00000\r\n");
    sender.until("waiting");
    let receiver = Asked::new(addr, &request("GET", "/long", b""));
    let received = std::thread::spawn(move || receiver.answer().unwrap().body.len());
    let _ = sender.0.write_all(&long);
    assert!(received.join().unwrap() <= 1 << 20);
}
