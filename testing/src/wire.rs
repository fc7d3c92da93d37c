//! What passes in a network.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::{Domain, Protocol, Socket, Type};

/// All frames: `ETH_P_ALL` of Linux.
const EVERYTHING: u16 = 3;

/// Writes to standard output whom packets go to in the network of this process (Linux, as root), each once and as
/// `to ADDRESS PROTOCOL PORT`, after a line `watching`; for ever. The protocol is its number: 6 is TCP, 17 is UDP. Without a port that is 0.
/// Names that are asked for at port 53 are written as `asks NAME`, each once too.
///
/// It is meant for a test that another test starts by [`Namespace::command`](crate::Namespace::command).
#[expect(clippy::print_stdout, reason = "that is what it is for")]
pub fn watch() {
    let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
    let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap();
    let (mut told, mut asked, mut frame) = (BTreeSet::new(), BTreeSet::new(), [0; 65_536]);
    // The harness has begun a line.
    println!("\nwatching");
    loop {
        let len = socket.read(&mut frame).unwrap();
        let Some((to, payload)) = receiver(&frame[..len]) else { continue };
        let (addr, protocol, port) = to;
        if told.insert(to) {
            println!("to {addr} {protocol} {port}");
        }
        if (protocol, port) == (17, 53)
            && let Some(name) = question(payload).filter(|name| asked.insert(name.clone()))
        {
            println!("asks {name}");
        }
    }
}

/// An address, the protocol and the port there.
type Receiver = (IpAddr, u8, u16);

/// Whom an Ethernet frame goes to, if there is a packet of IP in it, and what is in it if that is UDP.
fn receiver(frame: &[u8]) -> Option<(Receiver, &[u8])> {
    let packet = frame.get(14..)?;
    let (addr, protocol, inner) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let addr: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (IpAddr::V4(Ipv4Addr::from(addr)), *packet.get(9)?, 4 * usize::from(packet[0] & 15))
        }
        [0x86, 0xdd] => {
            let addr: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (IpAddr::V6(Ipv6Addr::from(addr)), *packet.get(6)?, 40)
        }
        _ => return None,
    };
    let port = match (protocol, packet.get(inner + 2..inner + 4)) {
        (6 | 17, Some(&[high, low])) => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    Some(((addr, protocol, port), packet.get(inner + 8..).unwrap_or_default()))
}

/// The name that a message of DNS asks for (RFC 1035, section 4.1).
fn question(message: &[u8]) -> Option<String> {
    let (mut rest, mut labels) = (message.get(12..)?, Vec::new());
    loop {
        let (len, after) = rest.split_first()?;
        if *len == 0 {
            return Some(labels.join("."));
        }
        let (label, after) = after.split_at_checked(usize::from(*len))?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = after;
    }
}
