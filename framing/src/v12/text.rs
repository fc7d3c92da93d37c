//! The fields that are text: addresses, ports, hexadecimal ids.
//!
//! Strict on purpose. The reference nodes hand any text to their resolver; here a name, a sign, a leading zero or a space is an
//! error, so no frame can cause a look-up.

use std::net::{Ipv4Addr, SocketAddrV4};

use crypto::v12::NodeId;

use crate::{DecodeError, Reader, Writer};

/// `iplen u8 · ip text · port u16`.
pub(crate) fn read_addr(reader: &mut Reader<'_>) -> Result<SocketAddrV4, DecodeError> {
    let text = reader.short_bytes()?;
    let port = reader.u16()?;
    let ip = parse_ip(text)?;
    addr(ip, port)
}

/// The opposite of [`read_addr`].
pub(crate) fn write_addr(addr: SocketAddrV4, writer: &mut Writer<'_>) {
    let text = addr.ip().to_string();
    // Never more than 15 bytes, so the length always fits.
    writer.u8(u8::try_from(text.len()).unwrap_or(0));
    writer.put(text.as_bytes());
    writer.u16(addr.port());
}

/// Joins the two halves, refusing port 0.
pub(crate) const fn addr(ip: Ipv4Addr, port: u16) -> Result<SocketAddrV4, DecodeError> {
    if port == 0 { Err(DecodeError::BadAddress) } else { Ok(SocketAddrV4::new(ip, port)) }
}

/// Four decimal numbers without leading zeros, joined by points.
pub(crate) fn parse_ip(text: &[u8]) -> Result<Ipv4Addr, DecodeError> {
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(DecodeError::BadAddress)
}

/// One to five digits, without sign or leading zero, 1 to 65535.
pub(crate) fn parse_port(text: &[u8]) -> Result<u16, DecodeError> {
    let digits = !text.starts_with(b"0") && text.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(text).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok()).ok_or(DecodeError::BadAddress)
}

/// Exactly 40 hexadecimal digits.
pub(crate) fn parse_id(text: &[u8]) -> Result<NodeId, DecodeError> {
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(DecodeError::BadId)
}
