//! Whom options name.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::program::Chat;

/// Far more than anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Somebody of this machine who tells the first bytes that come, and says nothing.
struct Silent {
    addr: SocketAddr,
    heard: Receiver<Vec<u8>>,
}

impl Silent {
    fn udp() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (addr, (sender, heard)) = (socket.local_addr().unwrap(), channel());
        thread::spawn(move || {
            let mut datagram = [0; 2048];
            let len = socket.recv(&mut datagram).unwrap();
            sender.send(datagram[..len].to_vec())
        });
        Self { addr, heard }
    }

    fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, (sender, heard)) = (listener.local_addr().unwrap(), channel());
        thread::spawn(move || {
            let first = |mut stream: TcpStream| {
                let mut bytes = [0; 2048];
                stream.read(&mut bytes).map(|len| bytes[..len].to_vec())
            };
            let bytes =
                listener.incoming().find_map(|stream| first(stream.ok()?).ok().filter(|bytes| !bytes.is_empty()));
            sender.send(bytes.unwrap())
        });
        Self { addr, heard }
    }

    fn heard(&self) -> Vec<u8> {
        self.heard.recv_timeout(LIMIT).expect("bytes of the chat")
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

#[test]
fn servers_are_contacted_where_options_name_them() {
    let [relay, stun] = [Silent::udp(), Silent::udp()];
    let [http, piping] = [Silent::tcp(), Silent::tcp()];
    let options = format!(
        "alice lobby --relay {} --stun {} --http-bootstrap {} --piping {}",
        relay.addr,
        stun.addr,
        http.url(),
        piping.url()
    );
    let _alice = Chat::start(&options);
    // RFC 8489 section 5: the type of a binding request, and the magic cookie.
    let asked = stun.heard();
    assert_eq!((&asked[..2], &asked[4..8]), (&[0x00, 0x01][..], &[0x21, 0x12, 0xA4, 0x42][..]), "{asked:02x?}");
    assert!(!relay.heard().is_empty());
    for server in [http, piping] {
        let text = String::from_utf8_lossy(&server.heard()).into_owned();
        let known = ["GET /", "PUT /", "POST /"].iter().any(|begin| text.starts_with(begin));
        // The name of a room is nobody's business.
        assert!(known && !text.contains("lobby"), "{text}");
    }
}

#[test]
fn those_who_were_met_are_met_again() {
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chat-{}-met", std::process::id()));
    let (alice, shown) = (Chat::start("alice lobby"), cache.display());
    let mut bob = Chat::start(&format!("bob lobby --cache {shown} --dial {}", alice.addr()));
    bob.noted("* alice joined");
    alice.noted("* bob joined");
    bob.tell("/quit");
    alice.noted("* bob left");
    assert!(bob.ended().0.success());
    // Nothing says where she is but the file.
    let carol = Chat::start(&format!("carol lobby --cache {shown}"));
    carol.noted("* alice joined");
}
