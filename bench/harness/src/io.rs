//! Streams that are tokio's [`AsyncRead`] and [`AsyncWrite`].

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::library::{ReceiveStream, SendStream};

/// Makes a stream of the harness from one of tokio.
#[derive(Debug)]
pub struct Io<T>(pub T);

impl<T: AsyncWrite + Unpin + Send + 'static> SendStream for Io<T> {
    async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).await?;
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.0.shutdown().await?;
        Ok(())
    }
}

impl<T: AsyncRead + Unpin + Send + 'static> ReceiveStream for Io<T> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.0.read(buffer).await?)
    }
}
