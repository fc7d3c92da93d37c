//! What is in force, and where it comes from.

use crate::hidden::{builder, hidden};
use crate::program::{BINARY, Server, command, file, folder, run};

/// The value and the origin of a key.
fn line<'o>(out: &'o str, key: &str) -> (&'o str, &'o str) {
    let begin = format!("{key} = ");
    let rest = out.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or_else(|| panic!("no {key} in {out}"));
    let (value, origin) = rest.split_once(" # ").unwrap();
    (value.trim_end(), origin)
}

#[test]
fn what_is_in_force_is_shown_with_where_it_comes_from() {
    let (code, out, err) = run("config show");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(line(&out, "preset"), ("\"server\"", "default"));
    assert_eq!(line(&out, "discovery.lan"), ("false", "default"));
    assert_eq!(line(&out, "serve.relay"), ("true", "default"), "without a word all parts of a node are served");
    assert_eq!(line(&out, "serve.identity").1, "SETOWIRE_DATA_DIR");
    assert!(out.contains("\n# relay.max-rate is not set\n"), "{out}");

    let path = file(
        "shown.toml",
        "preset = \"public\"\nport-mapping = true\n[relay]\nmax-rate = 1048576\n[serve]\nhttp = \"127.0.0.1:1\"\nstun = true\n",
    );
    let mut shown = command(&format!("config show {}", path.display()));
    shown.env("SETOWIRE_HTTP", "127.0.0.1:2").env("SETOWIRE_LISTEN", "127.0.0.1:3,tcp://127.0.0.1:3");
    let out = String::from_utf8(shown.output().unwrap().stdout).unwrap();
    assert_eq!(line(&out, "preset"), ("\"public\"", "file"));
    assert_eq!(line(&out, "discovery.lan"), ("true", "default"), "the default of the preset");
    assert_eq!(line(&out, "relay.max-rate"), ("\"1MiB\"", "file"));
    assert_eq!(line(&out, "serve.http"), ("\"127.0.0.1:2\"", "SETOWIRE_HTTP"));
    assert_eq!(line(&out, "bind"), (r#"["udp://127.0.0.1:3","tcp://127.0.0.1:3"]"#, "SETOWIRE_LISTEN"));
    assert_eq!((line(&out, "serve.stun").0, line(&out, "serve.relay")), ("true", ("false", "default")));

    // What is shown is a configuration that says the same.
    let again = file("again.toml", &out);
    let (code, same, err) = run(&format!("config show {}", again.display()));
    assert_eq!(code, 0, "{err}");
    let values = |out: &str| {
        let bare = |line: &str| line.split(" # ").next().unwrap().trim_end().to_owned();
        out.lines().map(bare).collect::<Vec<_>>()
    };
    assert_eq!(values(&same), values(&out));
}

#[test]
fn passwords_are_shown_to_nobody() {
    let content = "[discovery]\nhttp-bootstrap = [\"https://me:secret@boot.example/a\"]\npiping = [\"https://me:secret@piping.example\", \"https://open.example/@x\"]\n";
    let path = file("secret.toml", content);
    let (code, out, err) = run(&format!("config show {}", path.display()));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(line(&out, "discovery.http-bootstrap"), (r#"["https://...@boot.example/a"]"#, "file"));
    assert_eq!(line(&out, "discovery.piping"), (r#"["https://...@piping.example","https://open.example/@x"]"#, "file"));
    let (_, json, _) = run(&format!("config show --json {}", path.display()));
    assert!(json.contains("https://...@boot.example/a"), "{json}");
    // They cannot be used, which is told without them.
    let (code, said, told) = run(&format!("serve --bootstrap --listen 127.0.0.1:0 --config {}", path.display()));
    assert!(code == 1 && told.contains("https://...@boot.example/a"), "{told}");
    assert!([out, json, said, told].iter().all(|text| !text.contains("secret@") && !text.contains("me:")));
}

#[test]
fn programs_read_what_is_in_force_as_an_object() {
    let mut shown = command("config show --json");
    shown.env("SETOWIRE_PIPING", "127.0.0.1:4");
    let object: serde_json::Value = serde_json::from_slice(&shown.output().unwrap().stdout).unwrap();
    assert_eq!(object["v"], 1);
    assert_eq!(
        object["settings"]["serve.piping"],
        serde_json::json!({"value": "127.0.0.1:4", "from": "SETOWIRE_PIPING"})
    );
    assert_eq!(object["settings"]["serve.stun"]["value"], false, "a part was asked for");
}

#[test]
fn a_variable_that_cannot_be_used_is_a_wrong_configuration() {
    let mut shown = command("config show");
    let output = shown.env("SETOWIRE_HTTP", "nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let missing = folder("missing.toml");
    let mut shown = std::process::Command::new(BINARY);
    let output = shown.args(["config", "show"]).env("SETOWIRE_CONFIG", &missing).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}

/// A relay that was told to pass on next to nothing does so.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_keeps_to_its_rate() {
    let of = |name: &str, rate: &str| {
        let content =
            format!("bind = [\"127.0.0.1:0\"]\n[relay]\n{rate}[serve]\nrelay = true\nidentity = \"{name}.json\"\n");
        Server::start(&format!("--config {}", file(&format!("{name}.toml"), &content).display()))
    };
    let (free, slow) = (of("free", ""), of("slow", "max-rate = \"16KiB\"\n"));
    let [free, slow] = [through(&free.give("relay")).await, through(&slow.give("relay")).await];
    // 96 KiB at 16 KiB/s take 5 s and more; without a word about it a fraction of that.
    assert!(slow > 3 * free, "{slow} ms, and {free} ms without a limit");
}

/// How many milliseconds it takes to send 96 KiB by way of a relay.
async fn through(relay: &str) -> u128 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const PROTOCOL: swarm::Protocol = swarm::Protocol::new("test/bytes");
    let relay: swarm::DialTarget = relay.parse().unwrap();
    let (alice, bob) = (builder(&relay).bind().await.unwrap(), hidden(&relay).await);
    let mut incoming = bob.accept(PROTOCOL).unwrap();
    let to_bob = swarm::DialTarget::from(bob.id()).only_via(relay.clone());
    let peer = alice.dial(to_bob).await.unwrap();
    let start = std::time::Instant::now();
    let mut stream = peer.open_stream(PROTOCOL).await.unwrap();
    let ((), received) = tokio::join!(
        async {
            stream.write_all(&[7; 96 << 10]).await.unwrap();
            stream.shutdown().await.unwrap();
        },
        async {
            let mut bytes = Vec::new();
            incoming.next().await.unwrap().read_to_end(&mut bytes).await.unwrap();
            bytes.len()
        }
    );
    assert_eq!(received, 96 << 10);
    for node in [alice, bob] {
        node.shutdown(std::time::Duration::ZERO).await;
    }
    start.elapsed().as_millis()
}
