//! A fetch, as something to adjust and then await.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::command::Command;
use super::shared::Shared;
use crate::FetchError;

/// A fetch that begins when it is awaited, from [`Swarm::fetch`](super::Swarm::fetch).
#[derive(Debug)]
#[must_use = "a fetch does nothing until it is awaited"]
pub struct Fetch {
    shared: Arc<Shared>,
    key: Bytes,
    timeout: Duration,
}

impl Fetch {
    pub(crate) const fn new(shared: Arc<Shared>, key: Bytes) -> Self {
        Self { shared, key, timeout: Duration::from_secs(30) }
    }

    /// How long to wait for the value. Default 30 s.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

impl IntoFuture for Fetch {
    type Output = Result<Bytes, FetchError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Cancel safety
    ///
    /// Dropping the future gives the fetch up; pieces that have arrived are forgotten.
    fn into_future(self) -> Self::IntoFuture {
        let Self { shared, key, timeout } = self;
        Box::pin(async move {
            shared.ask(|reply| Command::Fetch { key, timeout, reply }).await.unwrap_or(Err(FetchError::Closed))
        })
    }
}
