//! The distributed hash table by hand.

use std::io::Write as _;
use std::process::Stdio;

use testing::Program;

use crate::program::{Server, command, folder, run};

/// Somebody who keeps things, and the options that lead there.
fn table() -> (Server, String) {
    let server = Server::start("--listen 127.0.0.1:0 --bootstrap");
    let at = server.give("bootstrap").split_once('@').unwrap().1.to_owned();
    (server, format!("--bootstrap {at}"))
}

#[test]
fn values_are_put_and_got() {
    let (_table, begin) = table();
    let (code, key, err) = run(&format!("dht put hello {begin}"));
    assert_eq!((code, key.trim().len()), (0, 64), "{err}");
    assert!(err.contains("by 1 node"), "{err}");
    assert_eq!(run(&format!("dht get {} {begin}", key.trim())), (0, "hello".to_owned(), String::new()));
    let (code, json, _) = run(&format!("dht get {} {begin} --json", key.trim()));
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &object["v"], &object["t"], &object["text"]), (0, &1.into(), &"value".into(), &"hello".into()));
    let (code, out, err) = run(&format!("dht get {} {begin}", "07".repeat(32)));
    assert_eq!((code, out.as_str()), (3, ""), "{err}");

    // From a pipe, and no text.
    let mut put = command(&format!("dht put {begin}"));
    put.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut put = put.spawn().unwrap();
    put.stdin.take().unwrap().write_all(&[0xff, 0, 7]).unwrap();
    let key = String::from_utf8(put.wait_with_output().unwrap().stdout).unwrap();
    let got = command(&format!("dht get {} {begin}", key.trim())).output().unwrap();
    assert_eq!(got.stdout, [0xff, 0, 7]);
    let (_, json, _) = run(&format!("dht get {} {begin} --json", key.trim()));
    assert!(json.contains(r#""hex":"ff0007""#), "{json}");
}

#[test]
fn signed_values_take_the_place_of_older_ones() {
    let (_table, begin) = table();
    let identity = folder("table/identity.json");
    let put = |value: &str, sequence: u64| {
        run(&format!("dht put {value} --sequence {sequence} --salt name --identity {} {begin}", identity.display()))
    };
    let (code, signer, err) = put("first", 1);
    assert_eq!((code, signer.trim().len()), (0, 52), "{err}");
    assert_eq!(put("second", 2).0, 0);
    let get = |salt: &str| run(&format!("dht get --signer {} --salt {salt} {begin}", signer.trim()));
    assert_eq!(get("name"), (0, "second".to_owned(), String::new()));
    assert_eq!(get("other").0, 3);
    let (code, _, err) = put("first", 1);
    assert!(code == 1 && err.contains("no node keeps the value"), "{err}");
}

#[test]
fn who_is_announced_is_found() {
    let (_table, begin) = table();
    let announcing = Program::start(command(&format!("dht announce lobby {begin}")));
    let told = announcing.err.told("* announced ");
    let id = told.strip_prefix("* announced ").unwrap().split(';').next().unwrap();
    let (code, out, err) = run(&format!("dht peers lobby {begin}"));
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().count() == 1 && out.starts_with(&format!("{id}@")), "{out}");
    let (code, out, err) = run(&format!("dht peers nowhere {begin} --timeout 2"));
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("nobody found (dht:"), "{err}");
    #[cfg(unix)]
    {
        let mut announcing = announcing;
        announcing.signal("INT");
        assert_eq!(announcing.ended().code(), Some(130));
    }
}

#[test]
fn wrong_usage_and_silence_are_told_apart() {
    for options in
        ["dht", "dht get", "dht get 07", "dht put x", "dht put x --salt y --bootstrap 127.0.0.1:1", "dht peers x"]
    {
        let (code, out, err) = run(options);
        assert_eq!((code, out.as_str()), (2, ""), "{options}: {err}");
    }
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (code, _, err) = run(&format!("dht put x --timeout 1 --bootstrap {}", silent.local_addr().unwrap()));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("none of the named nodes answers"), "{err}");
}
