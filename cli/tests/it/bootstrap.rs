//! The lists of peers.

use std::net::{Ipv4Addr, SocketAddr};

use crate::http::{Asked, ask, request};
use crate::program::Server;

const ID: &str = "e3f03f52612aadacbcbc96c9ea08aa1835740dd7";

fn server() -> (Server, SocketAddr) {
    let server = Server::start("--http 127.0.0.1:0");
    let addr = server.http("http");
    (server, addr)
}

#[test]
fn the_format_of_the_existing_nodes() {
    let (_server, addr) = server();
    let body = format!("{{\"id\": \"{ID}\", \"ip\": \"127.0.0.1\", \"port\": 50000}}");
    let told = ask(addr, "POST", "/announce", body.as_bytes());
    assert_eq!((told.status, told.text()), (200, r#"{"ok":true}"#));
    let list = ask(addr, "GET", "/peers", b"");
    assert_eq!((list.status, list.text()), (200, format!("[{}]", body.replace(' ', "")).as_str()));
    assert!(list.head.contains("content-type: application/json"));
}

#[test]
fn what_is_wrong_is_told_by_the_status() {
    let (_server, addr) = server();
    let key = "0a".repeat(32);
    let slot = "0b".repeat(16);
    for (method, path, body, status) in [
        ("POST", "/announce", "{", 400),
        ("POST", "/announce", "\u{0}\u{1}\u{2}", 400),
        ("POST", "/announce", &format!(r#"{{"id":"{ID}","ip":"8.8.8.8","port":1}}"#), 403),
        ("POST", "/announce", &"x".repeat(5000), 413),
        ("GET", "/announce", "", 405),
        ("POST", "/peers", "x", 405),
        ("GET", "/elsewhere", "", 404),
        ("GET", "/sealed/xyz", "", 400),
        ("PUT", &format!("/sealed/{key}/{slot}"), "", 400),
        ("PUT", &format!("/sealed/{key}/{slot}?ttl=x"), "y", 400),
        ("PUT", &format!("/sealed/{key}/{slot}"), &"x".repeat(2049), 413),
        ("POST", &format!("/sealed/{key}/{slot}"), "x", 405),
    ] {
        let answer = ask(addr, method, path, body.as_bytes());
        assert_eq!(answer.status, status, "{method} {path} {}", answer.text());
    }
    assert_eq!(ask(addr, "GET", "/peers", b"").text(), "[]");
}

#[test]
fn sealed_bodies_are_found_by_their_key() {
    let (_server, addr) = server();
    let path =
        |key: u8, slot: u8| format!("/sealed/{}/{}", format!("{key:02x}").repeat(32), format!("{slot:02x}").repeat(16));
    let get = |key: u8| ask(addr, "GET", path(key, 0).rsplit_once('/').unwrap().0, b"").body;
    assert_eq!(get(1), b"");
    for (key, slot, body) in [(1, 1, "one"), (1, 2, "first"), (1, 2, "second"), (2, 1, "other")] {
        assert_eq!(ask(addr, "PUT", &format!("{}?ttl=60", path(key, slot)), body.as_bytes()).status, 204);
    }
    assert_eq!(get(1), b"\0\x06second\0\x03one");
    assert_eq!(ask(addr, "DELETE", &path(1, 2), b"").status, 204);
    assert_eq!(get(1), b"\0\x03one");
    assert_eq!(ask(addr, "PUT", &path(1, 3), &[0; 2048]).status, 204);
    assert_eq!(get(1).len(), 2 + 2048 + 5);
}

#[test]
fn a_proxy_in_front_names_who_asks() {
    let server = Server::start("--http 127.0.0.1:0 --behind-proxy");
    let addr = server.http("http");
    let announce = |ip: Ipv4Addr, forwarded: &str| {
        let body = format!("{{\"id\":\"{ID}\",\"ip\":\"{ip}\",\"port\":1}}");
        let request = String::from_utf8(request("POST", "/announce", body.as_bytes())).unwrap();
        let request = request.replacen("\r\n", &format!("\r\nX-Forwarded-For: {forwarded}\r\n"), 1);
        Asked::new(addr, request.as_bytes()).answer().unwrap().status
    };
    let public = Ipv4Addr::new(203, 0, 113, 7);
    assert_eq!(announce(public, "203.0.113.7"), 200);
    assert_eq!(announce(public, "203.0.113.7, 198.51.100.1"), 403, "the last one is that of the proxy");
    assert_eq!(announce(public, "198.51.100.1, 203.0.113.7"), 200);
    assert_eq!(announce(Ipv4Addr::LOCALHOST, "203.0.113.7"), 403);
    assert_eq!(announce(public, "198.51.100.1, 203.0.113.7:4711"), 200);
    for unusable in ["unknown", "", "203.0.113.7, x"] {
        assert_eq!(announce(public, unusable), 400, "{unusable:?}");
    }
    let told = ask(addr, "GET", "/peers", b"");
    assert_eq!(told.status, 400, "without a word about who asks: {}", told.text());
}

#[test]
fn pages_in_browsers_put_nobody_on_a_list() {
    let (_server, addr) = server();
    let body = format!("{{\"id\":\"{ID}\",\"port\":53}}");
    for header in ["Origin: http://page.example", "Sec-Fetch-Site: cross-site"] {
        let request = String::from_utf8(request("POST", "/announce", body.as_bytes())).unwrap();
        let request = request.replacen("\r\n", &format!("\r\n{header}\r\n"), 1);
        assert_eq!(Asked::new(addr, request.as_bytes()).answer().unwrap().status, 403);
    }
    assert_eq!(ask(addr, "GET", "/peers", b"").text(), "[]");
}
