//! What comes of asking a peer.

use testing::Program;

use crate::hidden::hidden;
use crate::program::{Server, command, run};

#[test]
fn a_peer_is_asked_and_the_answers_are_summed_up() {
    let server = Server::start("--listen 127.0.0.1:0 --bootstrap");
    let peer = server.give("bootstrap");
    let (id, place) = peer.split_once('@').unwrap();
    let (code, out, err) = run(&format!("ping {peer} -c 3 -i 0"));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 5, "{out}");
    assert!(lines[0].starts_with(&format!("session with {id} after ")), "{out}");
    assert!(lines[0].ends_with(&format!(" ms at {place}, direct")), "{out}");
    for (number, line) in (1..=3).zip(&lines[1..4]) {
        assert!(line.starts_with(&format!("answer {number}: ")) && line.ends_with(" ms, direct"), "{line}");
    }
    assert!(lines[4].starts_with("3 asked, 3 answered; least "), "{out}");
    // By the address alone, as objects.
    let (code, out, _) = run(&format!("ping {place} --count 2 --interval 0 --json"));
    let objects: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, objects.len()), (0, 4), "{out}");
    assert_eq!(
        (&objects[0]["t"], &objects[0]["id"], &objects[0]["path"]),
        (&"session".into(), &id.into(), &"direct".into())
    );
    let [least, median, most] = ["min_ms", "median_ms", "max_ms"].map(|name| objects[3][name].as_f64().unwrap());
    assert!(0.0 < least && least <= median && median <= most, "{out}");
    assert!(objects.iter().all(|object| object["v"] == 1));
}

/// Nobody but the relay knows where it is.
#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_relayed_is_told_to_be() {
    let server = Server::start("--listen 127.0.0.1:0 --relay");
    let relay: swarm::DialTarget = server.give("relay").parse().unwrap();
    let hidden = hidden(&relay).await;
    let options = format!("ping {} --relay {} -c 2 -i 0 --json", hidden.id(), server.give("relay"));
    let (code, out, err) = tokio::task::spawn_blocking(move || run(&options)).await.unwrap();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let by = server.give("relay").split_once('@').unwrap().0.to_owned();
    // Later it may have become direct: both are on this machine.
    assert_eq!((&first["path"], &first["relay"]), (&"relayed".into(), &by.into()), "{out}");
    assert!(first["why"].is_string() && out.contains(r#""answered":2"#), "{out}");
    hidden.shutdown(std::time::Duration::ZERO).await;
}

#[test]
fn who_does_not_answer_is_told_by_the_exit_status() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    let (code, out, err) = run(&format!("ping {addr} --timeout 60"));
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains(&format!("cannot reach {addr}")), "{err}");
    let (code, _, err) = run(&format!("ping {addr} --timeout 1"));
    assert_eq!(code, 5, "{err}");
    let other = Server::start("--listen 127.0.0.1:0 --bootstrap");
    let given = other.give("bootstrap");
    let somebody = swarm::PeerId::from(swarm::settings::Identity::from_seed([9; 32]).peer_id());
    let (code, _, err) = run(&format!("ping {somebody}@{}", given.split('@').nth(1).unwrap()));
    assert_eq!(code, 4, "{err}");
}

/// One who falls silent in mid-session: what was asked until then is told, and Ctrl-C ends it.
#[cfg(unix)]
#[test]
fn a_peer_that_stands_still_loses_answers_and_ctrl_c_sums_up() {
    let server = Server::start("--listen 127.0.0.1:0 --bootstrap");
    let peer = server.give("bootstrap");
    let mut ping = Program::start(command(&format!("ping {peer} -c 1000 -i 0.01 --timeout 600")));
    let _ = ping.out.begins("answer 3: ");
    server.signal("STOP");
    ping.signal("INT");
    let lines = ping.out.drain();
    assert_eq!(ping.ended().code(), Some(130));
    let last = lines.last().unwrap();
    assert!(last.contains(" asked, ") && last.contains("; least "), "{lines:?}");
}
