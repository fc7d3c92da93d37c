//! Identities, configurations, wrong usage.

use std::fs;

use crate::program::{Server, file, folder, run};

#[test]
fn wrong_usage_is_told_with_code_2() {
    for options in ["", "serve --listen here", "serve --http nowhere", "id old", "config check", "frobnicate"] {
        let (code, out, err) = run(options);
        assert_eq!((code, out.as_str()), (2, ""), "{options}: {err}");
    }
    for options in ["--help", "serve --help", "--version"] {
        let (code, out, _) = run(options);
        assert_eq!(code, 0);
        assert!(options == "--version" || out.contains("exit status: 0 ok"), "{out}");
    }
}

#[test]
fn an_identity_is_made_once_and_kept_to_its_owner() {
    let path = folder("made/identity.json");
    let shown = path.display();
    let (code, out, err) = run(&format!("id show --identity {shown}"));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("setowire id new"), "{err}");
    let (code, made, _) = run(&format!("id new --identity {shown}"));
    assert_eq!((code, made.trim().len()), (0, 52));
    assert_eq!(run(&format!("id --identity {shown}")), (0, made.clone(), String::new()));
    let (_, json, _) = run(&format!("id show --json --identity {shown}"));
    assert!(json.contains(made.trim()) && json.contains("\"v\":1"), "{json}");
    let content = fs::read_to_string(&path).unwrap();
    assert!(content.starts_with(r#"{"version":1,"seed":""#), "{content}");
    let (code, _, err) = run(&format!("id new --identity {shown}"));
    assert_eq!(code, 1);
    assert!(err.contains("move it away"), "{err}");
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let (_, _, err) = run(&format!("id --identity {shown}"));
        assert!(err.contains("chmod 600"), "{err}");
    }
}

#[test]
fn an_identity_file_of_the_chat_is_one_of_ours() {
    let path = file("chat.json", &format!("{{\"version\":1,\"seed\":\"{}\"}}\n", "07".repeat(32)));
    let (code, id, _) = run(&format!("id --identity {}", path.display()));
    let known = swarm::PeerId::from(swarm::settings::Identity::from_seed([7; 32]).peer_id());
    assert_eq!((code, id.trim()), (0, known.to_string().as_str()));
    for content in ["", "{}", "{\"seed\":\"abc\"}", "{\"version\":2,\"seed\":\"x\"}"] {
        let path = file("broken.json", content);
        let (code, _, err) = run(&format!("id --identity {}", path.display()));
        assert_eq!(code, 1);
        assert!(err.contains("is no identity file"), "{err}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_wrong_configuration_is_told_with_code_78() {
    let good = file("good.toml", "preset = \"server\"\n[serve]\nbootstrap = true\n");
    assert_eq!(run(&format!("config check {}", good.display())), (0, String::new(), String::new()));
    let wrong = file("wrong.toml", "preset = \"server\"\n[serve]\nbotstrap = true\n");
    for options in [
        format!("config check {}", wrong.display()),
        format!("serve --config {}", wrong.display()),
        format!("config check {}", folder("missing.toml").display()),
    ] {
        let (code, out, err) = run(&options);
        assert_eq!((code, out.as_str()), (78, ""), "{err}");
        assert!(err.contains("cannot be used"), "{err}");
    }
    assert!(run(&format!("config check {}", wrong.display())).2.contains("botstrap"));
}

#[test]
fn failures_say_what_to_do_with_code_1() {
    let taken = Server::start("--http 127.0.0.1:0");
    let (code, _, err) = run(&format!("serve --http {}", taken.http("http")));
    assert_eq!(code, 1);
    assert!(err.contains("choose another port"), "{err}");
    // An address for documentation, which no machine has.
    let (code, _, err) = run("serve --bootstrap --listen 192.0.2.1:0");
    assert_eq!(code, 1);
    assert!(err.contains("192.0.2.1") && err.contains("0.0.0.0"), "{err}");
}
