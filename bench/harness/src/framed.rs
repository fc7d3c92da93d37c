//! Messages over a stream, for libraries that have no messages: two bytes of length, then the message.

use anyhow::Result;

use crate::library::{MessageReceiver, MessageSender, ReceiveStream, SendStream};

/// Bytes of a length.
const HEADER: usize = 2;

/// Bytes that are gathered before they are written: the usual size of a buffered writer.
const GATHERED: usize = 8 * 1024;

/// Bytes read at a time.
const READ: usize = 64 * 1024;

/// Writes messages to a stream, one write for each, or one for [`GATHERED`] bytes.
#[derive(Debug)]
pub struct FramedSender<S> {
    stream: S,
    buffer: Vec<u8>,
    limit: usize,
}

impl<S> FramedSender<S> {
    /// Messages on `stream`.
    pub const fn new(stream: S, gathered: bool) -> Self {
        Self { stream, buffer: Vec::new(), limit: if gathered { GATHERED } else { 0 } }
    }
}

impl<S: SendStream> MessageSender for FramedSender<S> {
    async fn send(&mut self, message: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(&u16::try_from(message.len())?.to_le_bytes());
        self.buffer.extend_from_slice(message);
        if self.buffer.len() >= self.limit { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let written = self.stream.write_all(&self.buffer).await;
        self.buffer.clear();
        written
    }
}

/// Reads messages from a stream.
#[derive(Debug)]
pub struct FramedReceiver<R> {
    stream: R,
    buffer: Vec<u8>,
    /// What came of the message that is not complete.
    partial: Vec<u8>,
}

impl<R> FramedReceiver<R> {
    /// Messages on `stream`.
    #[must_use]
    pub fn new(stream: R) -> Self {
        Self { stream, buffer: vec![0; READ], partial: Vec::new() }
    }
}

impl<R: ReceiveStream> MessageReceiver for FramedReceiver<R> {
    async fn receive(&mut self, mut take: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let partial = &mut self.partial;
        self.stream.drain(&mut self.buffer, |bytes| split(partial, bytes, &mut take)).await
    }
}

/// Hands the complete messages of `partial` and `bytes` to `take` and leaves the rest in `partial`.
fn split(partial: &mut Vec<u8>, mut bytes: &[u8], take: &mut impl FnMut(&[u8])) {
    while !partial.is_empty() {
        let wanted = wanted(partial);
        let missing = wanted.unwrap_or(HEADER).saturating_sub(partial.len());
        if missing == 0 && wanted.is_some() {
            take(&partial[HEADER..]);
            partial.clear();
            break;
        }
        let Some((more, rest)) = bytes.split_at_checked(missing) else {
            partial.extend_from_slice(bytes);
            return;
        };
        partial.extend_from_slice(more);
        bytes = rest;
    }
    while let Some((message, rest)) = wanted(bytes).and_then(|wanted| bytes.split_at_checked(wanted)) {
        take(&message[HEADER..]);
        bytes = rest;
    }
    partial.extend_from_slice(bytes);
}

/// Bytes of the first message with its length, if that is known.
fn wanted(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|length| HEADER + usize::from(u16::from_le_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let messages: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; usize::from(n) * 7 % 50]).collect();
        let stream: Vec<u8> = messages.iter().flat_map(|m| [&[m.len() as u8, 0], m.as_slice()].concat()).collect();
        for cut in 1..60 {
            let (mut partial, mut found) = (Vec::new(), Vec::new());
            for bytes in stream.chunks(cut) {
                split(&mut partial, bytes, &mut |message| found.push(message.to_vec()));
            }
            assert_eq!((found, partial), (messages.clone(), Vec::new()), "cut at {cut}");
        }
    }
}
