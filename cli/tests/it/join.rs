//! Topics in lines, and who is in them.

use testing::Program;

use crate::program::{Server, command, file, run};

/// A node of this machine that finds nobody by itself.
fn alone() -> String {
    let content = "preset = \"loopback\"\nbind = [\"127.0.0.1:0\"]\ndiscovery = []\n";
    format!("--config {}", file("join.toml", content).display())
}

fn join(options: &str) -> Program {
    Program::start(command(&format!("join {options} {}", alone())))
}

/// How others come, as it says.
fn ticket(program: &Program) -> String {
    let told = program.err.told("* you are ");
    told.rsplit(' ').next().unwrap().to_owned()
}

/// Who it is, as it says.
fn id(program: &Program) -> String {
    program.err.told("* you are ").strip_prefix("* you are ").unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn what_is_said_reaches_those_who_are_there_and_ctrl_c_leaves() {
    let mut alice = join("lobby");
    // Said before anybody is there.
    alice.tell("is anybody here?");
    let mut bob = join(&ticket(&alice));
    bob.err.begins(&format!("* {} is here", id(&alice)));
    assert_eq!(bob.out.next(), format!("{}\tis anybody here?", id(&alice)));
    alice.err.begins(&format!("* {} is here", id(&bob)));
    bob.tell("I\u{1b}[2J am");
    assert_eq!(alice.out.next(), format!("{}\tI\u{fffd}[2J am", id(&bob)));
    #[cfg(unix)]
    {
        bob.signal("INT");
        assert_eq!(bob.ended().code(), Some(130));
        alice.err.begins(&format!("* {} left", id(&bob)));
        alice.signal("TERM");
        assert_eq!(alice.ended().code(), Some(0));
    }
}

#[test]
fn a_pipe_is_said_to_the_end_and_programs_read_objects() {
    let mut alice = join("lobby --json");
    let ready: serde_json::Value = serde_json::from_str(&alice.out.next()).unwrap();
    assert_eq!((&ready["v"], &ready["t"]), (&1.into(), &"ready".into()));
    let mut bob = join(&format!("lobby --json --dial {}", ready["ticket"].as_str().unwrap()));
    for line in ["one", "two", "three"] {
        bob.tell(line);
    }
    drop(bob.input());
    assert!(bob.ended().success());
    let objects: Vec<serde_json::Value> =
        bob.out.past().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| objects.iter().filter(|object| object["t"] == kind).count();
    assert_eq!((of("ready"), of("joined"), of("sent"), of("end")), (1, 1, 3, 1), "{objects:?}");
    let bobs = objects[0]["id"].clone();
    let mut heard = Vec::new();
    loop {
        let object: serde_json::Value = serde_json::from_str(&alice.out.next()).unwrap();
        assert_eq!(object["id"], bobs);
        match object["t"].as_str().unwrap() {
            "message" => heard.push(object["text"].as_str().unwrap().to_owned()),
            "left" => break,
            kind => assert_eq!(kind, "joined"),
        }
    }
    assert_eq!(heard, ["one", "two", "three"]);
    drop(alice.input());
    assert!(alice.ended().success(), "the end of the input leaves");
}

#[test]
fn who_says_something_to_nobody_is_told_by_the_exit_status() {
    let mut alone = join("lobby --linger 0");
    alone.tell("hello?");
    drop(alone.input());
    let status = alone.ended();
    assert_eq!(status.code(), Some(3));
    assert!(alone.err.past().iter().any(|line| line.contains("nobody came")), "{:?}", alone.err.past());
    // Who says nothing fails at nothing.
    let mut quiet = join("lobby");
    drop(quiet.input());
    assert!(quiet.ended().success());
    let (code, _, err) = run("join seto1qqqq");
    assert_eq!(code, 2, "{err}");
}

/// Bob knows Alice alone, and meets Carol by asking her.
#[test]
fn a_random_walk_leads_from_peer_to_peer() {
    let table = Server::start("--listen 127.0.0.1:0 --bootstrap");
    let at = table.give("bootstrap").split_once('@').unwrap().1.to_owned();
    let content = format!(
        "preset = \"loopback\"\nbind = [\"127.0.0.1:0\"]\n[discovery]\nlan = false\nrandom-walk = true\ndht = {{ bootstrap = [\"{at}\"] }}\n"
    );
    let config = file("walk.toml", &content);
    let walker = || Program::start(command(&format!("join lobby --config {}", config.display())));
    let (one, other) = (walker(), walker());
    one.err.begins(&format!("* {} is here", id(&other)));
    other.err.begins(&format!("* {} is here", id(&one)));
}
