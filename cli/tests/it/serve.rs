//! What serves, from its first line to its last.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use swarm::{DialTarget, Preset, Swarm};

use crate::http::ask;
use crate::program::{LIMIT, Server, command, file, folder, run};

#[cfg(unix)]
#[test]
fn it_ends_when_it_is_told_to() {
    for (signal, code) in [("TERM", 0), ("INT", 130)] {
        let mut server = Server::start("--listen 127.0.0.1:0 --bootstrap --http 127.0.0.1:0");
        let addr = server.http("http");
        assert_eq!(ask(addr, "GET", "/healthz", b"").text(), "ok\n");
        // Connections that do not end do not keep it.
        let _idle = std::net::TcpStream::connect(addr).unwrap();
        server.signal(signal);
        let (status, said) = server.ended();
        assert_eq!(status.code(), Some(code));
        assert!(said.contains(&format!("* ending: SIG{signal}")), "{said:?}");
    }
}

#[test]
fn without_a_word_it_does_all_that_a_node_can() {
    let server = Server::start("--listen 127.0.0.1:0");
    let given = server.give("bootstrap");
    assert_eq!(server.give("relay"), given);
    assert_eq!(Some(server.give("stun").as_str()), given.split('@').nth(1));
    assert!(given.contains("@127.0.0.1:"), "{given}");
    assert!(!server.gives("http"));
    // The same identity in the next run: the first made it, in the data folder.
    let again = Server::start("--listen 127.0.0.1:0 --bootstrap");
    assert_eq!(again.give("bootstrap").split('@').next(), given.split('@').next());
}

#[tokio::test]
async fn two_who_know_it_find_each_other_by_id() {
    let server = Server::start(&format!("--listen 127.0.0.1:0 --identity {}", folder("meeting.json").display()));
    let target: DialTarget = server.give("bootstrap").parse().unwrap();
    let start = async || {
        let builder = Swarm::builder().preset(Preset::Loopback).listen(([127, 0, 0, 1], 0).into()).lan(false);
        builder.bootstrap([target.clone()]).bind().await.unwrap()
    };
    let (alice, bob) = (start().await, start().await);
    let dial = async { while bob.dial(alice.id()).await.is_err() {} };
    tokio::time::timeout(LIMIT, dial).await.expect("they meet");
    for node in [alice, bob] {
        node.shutdown(Duration::from_millis(100)).await;
    }
}

#[test]
fn other_kinds_of_listeners_are_named_as_they_are_dialled() {
    let server = Server::start("--relay --listen 127.0.0.1:0,tcp://127.0.0.1:0,ws://127.0.0.1:0");
    let given = server.give("relay");
    let kinds: Vec<&str> =
        given.split(' ').map(|word| word.split_once("://").map_or("udp", |(kind, _)| kind)).collect();
    assert_eq!(kinds, ["udp", "tcp", "ws"], "{given}");
    for target in given.split(' ') {
        let (code, out, _) = run(&format!("doctor {target}"));
        assert_eq!(code, 0, "{out}");
    }
}

#[test]
fn it_tells_by_stun_where_it_sees_others() {
    let server = Server::start("--listen 127.0.0.1:0 --stun");
    let addr: SocketAddr = server.give("stun").parse().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    // A Binding request without attributes (RFC 8489 section 5).
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend_from_slice(b"twelve bytes");
    socket.send_to(&request, addr).unwrap();
    let mut answer = [0; 100];
    let (len, from) = socket.recv_from(&mut answer).unwrap();
    assert!(from == addr && len <= 44 && answer[..2] == [1, 1] && answer[8..20] == request[8..20]);
    assert!(!server.gives("bootstrap"));
}

#[test]
fn a_configuration_says_the_same() {
    let content =
        "bind = [\"127.0.0.1:0\"]\n[serve]\nbootstrap = true\nhttp = \"127.0.0.1:0\"\nidentity = \"of-config.json\"\n";
    let path = file("serve.toml", content);
    let server = Server::start(&format!("--config {}", path.display()));
    assert!(server.give("bootstrap").contains("@127.0.0.1:"));
    assert_eq!(ask(server.http("http"), "GET", "/peers", b"").text(), "[]");
    assert!(folder("of-config.json").is_file(), "paths are relative to the file");
    // A variable goes before the file, an option before both.
    let mut before = command(&format!("serve --config {} --http 127.0.0.2:0", path.display()));
    before.env("SETOWIRE_HTTP", "127.0.0.3:0").env("SETOWIRE_LISTEN", "127.0.0.4:0");
    let before = Server::spawn(before);
    assert!(before.give("http").starts_with("http://127.0.0.2:"));
    assert!(before.give("bootstrap").contains("@127.0.0.4:"));
}

#[test]
fn programs_read_objects() {
    let mut command = command("serve --json --http 127.0.0.1:0");
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    let second = lines.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.starts_with(r#"{"give":["http://127.0.0.1:"#) && first.contains(r#""role":"http""#), "{first}");
    assert_eq!(second, r#"{"t":"ready","v":1}"#);
}
