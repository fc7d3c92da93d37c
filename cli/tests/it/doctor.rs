//! What the doctor says.

use crate::program::{BINARY, Server, run};

/// The last two lines.
fn end(out: &str) -> [&str; 2] {
    let lines: Vec<&str> = out.lines().collect();
    lines[lines.len() - 2..].try_into().unwrap()
}

#[test]
fn it_contacts_nobody_who_is_not_named() {
    let (code, out, err) = run("doctor");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("ipv4: ") && out.contains("\nclock: 20") && out.contains("\ncontacted: nobody\n"), "{out}");
    let [verdict, suggestion] = end(&out);
    assert!(verdict.starts_with("verdict: ") && suggestion.starts_with("try: "), "{out}");
}

#[test]
fn a_peer_is_dialled_and_the_way_is_told() {
    let server = Server::start("--listen 127.0.0.1:0 --bootstrap");
    let peer = server.give("bootstrap");
    let (code, out, err) = run(&format!("doctor {peer}"));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains(&format!("peer {peer}: connected in ")), "{out}");
    assert_eq!(end(&out)[0], format!("verdict: {peer} is reached directly."));
    let (code, out, _) = run(&format!("doctor --json --bootstrap {peer} {peer}"));
    assert_eq!((code, out.lines().count()), (0, 1));
    for part in [r#""v":1"#, r#""class":"direct""#, r#""path":"direct""#, r#""kind":"node""#, r#""udp":true"#] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn who_is_not_reached_is_told_by_the_exit_status() {
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = server.local_addr().unwrap();
    let (code, out, _) = run(&format!("doctor {silent} --timeout 60"));
    assert_eq!(code, 3, "{out}");
    assert!(end(&out)[0].contains("was not reached: no answer"), "{out}");
    let (code, out, _) = run(&format!("doctor {silent} --timeout 1"));
    assert_eq!(code, 5, "{out}");
    let other = Server::start("--listen 127.0.0.1:0 --bootstrap");
    let given = other.give("bootstrap");
    let place = given.split('@').nth(1).unwrap();
    let somebody = swarm::PeerId::from(swarm::settings::Identity::from_seed([9; 32]).peer_id());
    let (code, out, _) = run(&format!("doctor {somebody}@{place}"));
    assert_eq!(code, 4, "{out}");
    // Nobody answers by STUN or otherwise.
    let (code, out, _) = run(&format!("doctor --stun {silent} --bootstrap {silent} --timeout 1"));
    assert_eq!(code, 0);
    assert!(out.contains(&format!("contacted node {silent}: no answer")), "{out}");
}

#[test]
fn a_relay_gives_a_place_or_is_told_to_be_none() {
    let server = Server::start("--listen 127.0.0.1:0 --relay");
    let relay = server.give("relay");
    let (code, out, _) = run(&format!("doctor --relay {relay}"));
    assert_eq!(code, 0);
    assert!(out.contains(": a place\n"), "{out}");
    let none = Server::start("--listen 127.0.0.1:0 --bootstrap");
    let (_, out, _) = run(&format!("doctor --relay {} --timeout 5", none.give("bootstrap")));
    assert!(out.contains(": no place: ") && !out.contains(": a place"), "{out}");
}

/// Where there is no router, so that none of this machine's is asked.
#[cfg(target_os = "linux")]
#[test]
fn the_router_is_asked_where_that_is_wanted() {
    let test = "doctor::the_router_is_asked_where_that_is_wanted";
    let Some(network) = testing::Namespace::new(test) else { return };
    let doctor = |options: &str| {
        let output = network.command(BINARY).arg("doctor").args(options.split_whitespace()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let out = doctor("--port-mapping");
    assert!(out.contains("\nrouter: forwards nothing: this machine has no default gateway over IPv4\n"), "{out}");
    assert!(!out.contains("contacted: nobody"), "{out}");
    let out = doctor("--port-mapping --json");
    assert!(out.contains(r#""router":{"addr":null,"by":null,"error":"this machine has no default gateway"#), "{out}");
    assert!(!doctor("").contains("router"));
}
