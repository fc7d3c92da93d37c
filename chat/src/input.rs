//! Lines of input, of bounded length.

use anyhow::Context as _;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// Bytes of a line. What a message may carry is a little less.
pub(crate) const MAX_LINE: usize = 64 * 1024;
/// Bytes that a line may have as text: each byte that is no text becomes a character of three.
pub(crate) const MAX_TEXT: usize = 3 * MAX_LINE;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its end.
    Text(String),
    /// One over [`MAX_LINE`]. Told as soon as that is known; the rest of it is skipped.
    TooLong,
    /// There will be no more.
    End,
}

/// Reads lines.
#[derive(Debug)]
pub(crate) struct Input<R> {
    reader: R,
    /// The part of a line that has been read.
    line: Vec<u8>,
    /// Inside a line that was too long.
    skipping: bool,
}

impl<R: AsyncBufRead + Unpin> Input<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), skipping: false }
    }

    /// The next line. Cancel-safe: what was read stays for the next call.
    ///
    /// # Errors
    ///
    /// When the input cannot be read.
    pub(crate) async fn line(&mut self) -> anyhow::Result<Line> {
        loop {
            let buffer = self.reader.fill_buf().await.context("cannot read the input")?;
            if buffer.is_empty() {
                self.skipping = false;
                return Ok(if self.line.is_empty() { Line::End } else { self.take() });
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            let too_long = !self.skipping && self.line.len().saturating_add(part.len()) > MAX_LINE;
            if !self.skipping && !too_long {
                self.line.extend_from_slice(part);
            }
            let used = part.len().saturating_add(usize::from(end.is_some()));
            self.reader.consume(used);
            if too_long {
                self.line = Vec::new();
                self.skipping = end.is_none();
                return Ok(Line::TooLong);
            }
            if end.is_some() && !std::mem::take(&mut self.skipping) {
                return Ok(self.take());
            }
        }
    }

    fn take(&mut self) -> Line {
        let line = Line::Text(String::from_utf8_lossy(&self.line).into_owned());
        self.line.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    async fn lines(bytes: &[u8], chunk: usize) -> Vec<Line> {
        let mut input = Input::new(BufReader::with_capacity(chunk, bytes));
        let mut lines = Vec::new();
        loop {
            let line = input.line().await.unwrap();
            assert!(input.line.capacity() <= 2 * MAX_LINE, "memory is bounded");
            if line == Line::End {
                return lines;
            }
            lines.push(line);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_are_bounded() {
        let text = |text: &str| Line::Text(text.to_owned());
        for chunk in [1, 7, 8192, 1 << 20] {
            assert_eq!(lines(b"", chunk).await, []);
            assert_eq!(lines(b"a\n\nb\xff\nc", chunk).await, ["a", "", "b\u{fffd}", "c"].map(text));
            let most = "x".repeat(MAX_LINE);
            let long = format!("{most}\n{most}y\nz\n{most}{most}{most}");
            assert_eq!(lines(long.as_bytes(), chunk).await, [text(&most), Line::TooLong, text("z"), Line::TooLong]);
        }
    }
}
