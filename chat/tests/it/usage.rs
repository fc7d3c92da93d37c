//! Wrong usage, and files and ports that cannot be used.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::program::{BINARY, Chat};

fn run(options: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = Command::new(BINARY).args(options).stdin(Stdio::null()).output().unwrap();
    assert!(stdout.is_empty() || status.success());
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn wrong_usage_is_told_with_code_2() {
    let long = "x".repeat(65);
    for (options, word) in [
        (&[][..], "<NICK>"),
        (&["a", "b", "c"], "unexpected"),
        (&["alice", ""], "a room has"),
        (&["alice", &long], "a room has"),
        (&["alice", "a\tb"], "a room has"),
        (&["a\u{1b}[2J"], "a nick has"),
        (&["alice", "--dial", "nowhere"], "name:port"),
        (&["alice", "--dial", "nobody@127.0.0.1:7"], "peer id"),
        (&["alice", "--dial", "127.0.0.1:0"], "no port"),
        (&["alice", "--bind", "here"], "IP:PORT"),
        (&["alice", "--v12=here"], "IP:PORT"),
        (&["alice", "--v12=[::1]:7"], "IPv4"),
        (&["alice", "--linger", "long"], "seconds"),
        (&["alice", "--relay", "nowhere"], "name:port"),
        (&["alice", "--stun", "nowhere"], "HOST:PORT"),
        (&["alice", "--piping", "ppng.example"], "URL"),
        (&["alice", "--http-bootstrap", "ftp://host.example"], "URL"),
        (&["alice", "--frobnicate"], "--frobnicate"),
    ] {
        let (code, text) = run(options);
        assert_eq!(code, 2, "{options:?}: {text}");
        assert!(text.contains(word), "{options:?}: {text}");
    }
    assert_eq!(run(&["--help"]).0, 0);
    assert_eq!(run(&["--version"]).0, 0);
}

#[test]
fn failures_say_what_to_do_with_code_1() {
    let taken = Chat::start("alice");
    let addr = taken.addr();
    for options in [&["--bind", &addr][..], &["--bind", "127.0.0.1", &format!("--v12={addr}")]] {
        let (code, text) = run(&[&["bob", "--no-lan"], options].concat());
        assert_eq!(code, 1);
        assert!(text.contains(&addr) && text.contains("choose another port"), "{text}");
    }
    // An address for documentation, which no machine has.
    let (code, text) = run(&["bob", "--no-lan", "--bind", "192.0.2.1:0"]);
    assert_eq!(code, 1);
    assert!(text.contains("192.0.2.1") && text.contains("0.0.0.0"), "{text}");
    // A name that never exists (RFC 6761).
    let host = "nowhere.invalid:7";
    let (code, text) = run(&["bob", "--no-lan", "--bind", "127.0.0.1", "--dial", host]);
    assert_eq!(code, 1);
    assert!(text.contains(host) && text.contains("check the name"), "{text}");
}

/// A file of this run in the folder that cargo gives to tests.
fn file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    // It is not there mostly.
    let _ = fs::remove_file(&path);
    path
}

fn you(path: &std::path::Path) -> String {
    let chat = Chat::start(&format!("alice --identity {}", path.display()));
    chat.noted("* you are alice (")
}

#[test]
fn an_identity_file_is_made_once_and_kept_to_its_owner() {
    let path = file("identity.json");
    let first = you(&path);
    let content = fs::read_to_string(&path).unwrap();
    let seed =
        content.trim().strip_prefix(r#"{"version":1,"seed":""#).and_then(|rest| rest.strip_suffix(r#""}"#)).unwrap();
    assert!(seed.len() == 64 && seed.bytes().all(|byte| byte.is_ascii_hexdigit()), "{content}");
    assert_eq!(you(&path), first, "the same person again");
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
    let fresh = Chat::start("alice").noted("* you are alice (");
    assert_ne!(fresh, first);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        Chat::start(&format!("alice --identity {}", path.display())).noted("* others on this machine can read");
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_is_no_identity_is_left_alone() {
    let path = file("broken.json");
    let newer = format!("{{\"version\":2,\"seed\":\"{}\"}}", "0".repeat(64));
    let long = format!("{{\"seed\":\"{}\"}}", "ä".repeat(32));
    for content in ["", "{}", "{\"seed\":7}", "{\"seed\":\"abc\"}", &long, &newer] {
        fs::write(&path, content).unwrap();
        let (code, text) = run(&["alice", "--no-lan", "--identity", path.to_str().unwrap()]);
        assert_eq!(code, 1, "{content}");
        assert!(text.contains("is no identity file") && text.contains("move this one away"), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    // In a folder that is a file.
    let (code, text) = run(&["alice", "--no-lan", "--identity", path.join("identity.json").to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(text.contains("the identity file") && text.contains("check"), "{text}");
    fs::remove_file(&path).unwrap();
}
