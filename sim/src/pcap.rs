//! Captures as files that Wireshark and tcpdump read.

use std::net::{IpAddr, SocketAddr};

use crate::Captured;

/// Writes a capture in the classic pcap format, with nanosecond stamps and link type 101 (raw IP): IPv4 or IPv6
/// packets with UDP. Time zero is 1970.
///
/// Datagrams that fit no IP packet and those between two address families are left out.
#[must_use]
pub fn pcap(captured: &[Captured]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(MAGIC.to_le_bytes());
    file.extend([2, 0, 4, 0]); // version 2.4
    file.extend([0; 8]); // time zone and accuracy, by custom zero
    file.extend(SNAP_LEN.to_le_bytes());
    file.extend(LINKTYPE_RAW.to_le_bytes());
    for datagram in captured {
        let Some(packet) = ip_packet(datagram.from, datagram.to, &datagram.payload) else {
            continue;
        };
        let Ok(len) = u32::try_from(packet.len()) else { continue };
        file.extend(u32::try_from(datagram.at.as_secs()).unwrap_or(u32::MAX).to_le_bytes());
        file.extend(datagram.at.subsec_nanos().to_le_bytes());
        file.extend(len.to_le_bytes());
        file.extend(len.to_le_bytes());
        file.extend(packet);
    }
    file
}

fn ip_packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_len = u16::try_from(payload.len().checked_add(UDP_HEADER)?).ok()?;
    let mut packet = Vec::new();
    // Source and destination as they stand in the header and, for the checksum, in front of it.
    let addresses = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            packet.extend([0x45, 0]);
            packet.extend(udp_len.checked_add(20)?.to_be_bytes());
            packet.extend([0, 0, 0, 0, HOP_LIMIT, UDP, 0, 0]);
            packet.extend(&addresses);
            let sum = checksum(&packet).to_be_bytes();
            packet.splice(10..12, sum);
            addresses
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(udp_len.to_be_bytes());
            packet.extend([UDP, HOP_LIMIT]);
            packet.extend(&addresses);
            addresses
        }
        _ => return None,
    };
    let mut udp = Vec::new();
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let sum = match checksum(&[&addresses[..], &[0, UDP], &udp_len.to_be_bytes(), &udp].concat()) {
        0 => u16::MAX, // zero means "none" (RFC 768)
        sum => sum,
    };
    udp.splice(6..8, sum.to_be_bytes());
    packet.extend(udp);
    Some(packet)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let mut sum: u64 = words.iter().map(|&word| u64::from(u16::from_be_bytes(word))).sum();
    sum += rest.first().map_or(0, |&last| u64::from(last) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The classic format, little-endian, with nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const SNAP_LEN: u32 = 65_575; // an IPv6 header and the longest UDP datagram
const LINKTYPE_RAW: u32 = 101;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;
