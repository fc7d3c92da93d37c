//! One function per frame, each appending to `out`.
//!
//! Where the types admit only what the wire can carry, nothing can fail; the others return an [`EncodeError`] and leave `out` as
//! it was.

use std::net::SocketAddrV4;

use crypto::v12::{NodeId, PublicKey, WireId};

use super::frame::{GoawayReason, Kind, PexEntry, is_topic};
use super::limits::{
    BATCH_MAX, CHUNK, CHUNK_PART_MARK, FRAG_DATA, HAVE_MAX, IHAVE_MAX, LAN_TOPIC_MAX, MAX_DATAGRAM, NONCE, TAG,
};
use super::text;
use crate::{EncodeError, Writer};

/// HELLO, exactly 41 bytes: the Rust reference node takes no other length.
pub fn hello(id: WireId, key: PublicKey, out: &mut Vec<u8>) {
    let mut writer = begin(Kind::Hello, out);
    writer.put(id.as_bytes());
    writer.put(key.as_bytes());
}

/// HELLO_ACK, exactly 41 bytes.
pub fn hello_ack(id: WireId, key: PublicKey, out: &mut Vec<u8>) {
    let mut writer = begin(Kind::HelloAck, out);
    writer.put(id.as_bytes());
    writer.put(key.as_bytes());
}

/// DATA around `nonce12 · ciphertext · tag16`.
///
/// # Errors
/// Fewer than 28 bytes, or more than fit in a datagram.
pub fn data(sealed: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    within(sealed.len(), NONCE + TAG, MAX_DATAGRAM - 1)?;
    begin(Kind::Data, out).put(sealed);
    Ok(())
}

/// PING, 29 bytes. `id` is ours.
pub fn ping(time_ms: u64, id: NodeId, out: &mut Vec<u8>) {
    let mut writer = begin(Kind::Ping, out);
    writer.u64(time_ms);
    writer.put(id.as_bytes());
}

/// PONG, 21 bytes. `id` is ours.
pub fn pong(id: NodeId, out: &mut Vec<u8>) {
    begin(Kind::Pong, out).put(id.as_bytes());
}

/// The PONG of a C++ node, which repeats the body of the PING. Only C++ nodes send it; other nodes expect [`pong`].
pub fn pong_echo(time_ms: u64, id: NodeId, extra: &[u8], out: &mut Vec<u8>) {
    let mut writer = begin(Kind::Pong, out);
    writer.u64(time_ms);
    writer.put(id.as_bytes());
    writer.put(extra);
}

/// IHAVE.
///
/// # Errors
/// More than 200 hashes.
pub fn ihave(hashes: impl IntoIterator<Item = [u8; 8]>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    all_or_nothing(out, |out| {
        let mut writer = begin(Kind::Ihave, out);
        for (n, hash) in hashes.into_iter().enumerate() {
            if n >= IHAVE_MAX {
                return Err(EncodeError::TooMany { max: IHAVE_MAX });
            }
            writer.put(&hash);
        }
        Ok(())
    })
}

/// LAN: the text `id40hex:ip:port:topic`. `topic` is the hexadecimal hash of a topic, 12 characters.
///
/// # Errors
/// Port 0; a topic that is not hexadecimal or longer than 64 characters.
pub fn lan(id: NodeId, addr: SocketAddrV4, topic: Option<&str>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let topic = topic.unwrap_or_default().as_bytes();
    within(topic.len(), 0, LAN_TOPIC_MAX)?;
    if !is_topic(topic) {
        return Err(EncodeError::BadText);
    }
    has_port(addr)?;
    let mut writer = begin(Kind::Lan, out);
    writer.put(format!("{id}:{}:{}:", addr.ip(), addr.port()).as_bytes());
    writer.put(topic);
    Ok(())
}

/// GOAWAY, always two bytes: Python and JavaScript nodes ignore the single byte that they send themselves, and it brings
/// C++ nodes down.
pub fn goaway(reason: GoawayReason, out: &mut Vec<u8>) {
    begin(Kind::Goaway, out).u8(reason.code());
}

/// FRAG.
///
/// # Errors
/// `index` not below `total`; no data, or more than 1188 bytes.
pub fn frag(id: [u8; 8], index: u16, total: u16, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    is_piece(index, total, data, FRAG_DATA)?;
    let mut writer = begin(Kind::Frag, out);
    writer.put(&id);
    writer.u16(index);
    writer.u16(total);
    writer.put(data);
    Ok(())
}

/// HAVE. Reference nodes tell at most 64 keys; what is long may not pass as one datagram.
///
/// # Errors
/// A key above 255 bytes, or more than 255 keys.
pub fn have<'k>(keys: impl IntoIterator<Item = &'k [u8]>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    counted(Kind::Have, HAVE_MAX, keys, out, |key, writer| writer.short_bytes(key))
}

/// WANT. Reference nodes do not answer one for the empty key.
///
/// # Errors
/// A key above 255 bytes.
pub fn want(key: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    all_or_nothing(out, |out| begin(Kind::Want, out).short_bytes(key))
}

/// CHUNK with all of a value.
///
/// # Errors
/// A key above 255 bytes, a value above 900.
pub fn chunk(key: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let too_long = EncodeError::TooLong { len: value.len(), max: CHUNK };
    let len = u16::try_from(value.len()).or(Err(too_long))?;
    within(value.len(), 0, CHUNK)?;
    all_or_nothing(out, |out| {
        let mut writer = begin(Kind::Chunk, out);
        writer.short_bytes(key)?;
        writer.u16(len);
        writer.put(value);
        Ok(())
    })
}

/// CHUNK with one part of a value.
///
/// # Errors
/// A key above 255 bytes; `index` not below `total`; no data, or more than 900 bytes.
pub fn chunk_part(key: &[u8], index: u16, total: u16, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    is_piece(index, total, data, CHUNK)?;
    all_or_nothing(out, |out| {
        let mut writer = begin(Kind::Chunk, out);
        writer.short_bytes(key)?;
        writer.u16(CHUNK_PART_MARK);
        writer.u16(index);
        writer.u16(total);
        writer.put(data);
        Ok(())
    })
}

/// BATCH. To keep it within a datagram is up to the caller; [`Batcher`](super::Batcher) does.
///
/// # Errors
/// More than 255 frames, an empty one, one above 65 535 bytes, or a BATCH among them.
pub fn batch<'f>(frames: impl IntoIterator<Item = &'f [u8]>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    counted(Kind::Batch, BATCH_MAX, frames, out, |frame, writer| {
        within(frame.len(), 1, usize::from(u16::MAX))?;
        if frame.first() == Some(&Kind::Batch.byte()) {
            return Err(EncodeError::Nested);
        }
        writer.u16(u16::try_from(frame.len()).unwrap_or(u16::MAX));
        writer.put(frame);
        Ok(())
    })
}

/// CHUNK_ACK.
///
/// # Errors
/// A key above 255 bytes.
pub fn chunk_ack(key: &[u8], index: u16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    all_or_nothing(out, |out| {
        let mut writer = begin(Kind::ChunkAck, out);
        writer.short_bytes(key)?;
        writer.u16(index);
        Ok(())
    })
}

/// RELAY_ANN.
///
/// # Errors
/// Port 0.
pub fn relay_ann(id: WireId, addr: SocketAddrV4, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    has_port(addr)?;
    let mut writer = begin(Kind::RelayAnn, out);
    writer.put(id.as_bytes());
    text::write_addr(addr, &mut writer);
    Ok(())
}

/// RELAY_REQ.
///
/// # Errors
/// Port 0.
pub fn relay_req(from: WireId, to: WireId, addr: SocketAddrV4, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    has_port(addr)?;
    let mut writer = begin(Kind::RelayReq, out);
    writer.put(from.as_bytes());
    writer.put(to.as_bytes());
    text::write_addr(addr, &mut writer);
    Ok(())
}

/// RELAY_FWD. Not for Rust reference nodes: they expect another layout and a bad one stops their receiving task.
///
/// # Errors
/// Port 0.
pub fn relay_fwd(from: WireId, addr: SocketAddrV4, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    has_port(addr)?;
    let mut writer = begin(Kind::RelayFwd, out);
    writer.put(from.as_bytes());
    text::write_addr(addr, &mut writer);
    Ok(())
}

/// PEX in the usual form. Reference nodes send at most 20 entries.
///
/// # Errors
/// More than 255 entries, or one with port 0.
pub fn pex(entries: impl IntoIterator<Item = PexEntry>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    counted(Kind::Pex, PEX_COUNT_MAX, entries, out, |entry, writer| {
        has_port(entry.addr)?;
        writer.short_bytes(entry.id.as_bytes())?;
        text::write_addr(entry.addr, writer);
        Ok(())
    })
}

/// PEX in the compact form, the only one that the Rust reference node reads.
///
/// # Errors
/// More than 255 entries, or one with port 0.
pub fn pex_compact(entries: impl IntoIterator<Item = PexEntry>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    counted(Kind::Pex, PEX_COUNT_MAX, entries, out, |entry, writer| {
        has_port(entry.addr)?;
        writer.put(entry.id.as_bytes());
        writer.put(&entry.addr.ip().octets());
        writer.u16(entry.addr.port());
        Ok(())
    })
}

fn begin(kind: Kind, out: &mut Vec<u8>) -> Writer<'_> {
    let mut writer = Writer::new(out);
    writer.u8(kind.byte());
    writer
}

/// Runs `write` and takes back what it wrote if it fails.
fn all_or_nothing(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let before = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

/// A kind, a count byte that is filled in at the end, and the entries.
fn counted<T>(
    kind: Kind,
    max: usize,
    entries: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    all_or_nothing(out, |out| {
        let at = out.len().saturating_add(1);
        begin(kind, out).u8(0);
        let mut count = 0_u8;
        for entry in entries {
            count = count.checked_add(1).ok_or(EncodeError::TooMany { max })?;
            write(entry, &mut Writer::new(out))?;
        }
        if let Some(slot) = out.get_mut(at) {
            *slot = count;
        }
        Ok(())
    })
}

const fn within(len: usize, min: usize, max: usize) -> Result<(), EncodeError> {
    if len < min {
        Err(EncodeError::TooShort { len, min })
    } else if len > max {
        Err(EncodeError::TooLong { len, max })
    } else {
        Ok(())
    }
}

const fn is_piece(index: u16, total: u16, data: &[u8], max: usize) -> Result<(), EncodeError> {
    if index >= total {
        return Err(EncodeError::BadIndex { index, total });
    }
    within(data.len(), 1, max)
}

const fn has_port(addr: SocketAddrV4) -> Result<(), EncodeError> {
    if addr.port() == 0 { Err(EncodeError::BadAddress) } else { Ok(()) }
}

/// The count of a PEX is one byte.
const PEX_COUNT_MAX: usize = 255;
