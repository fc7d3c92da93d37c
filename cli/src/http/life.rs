//! How long a connection may live.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// When a connection is to have ended: whoever answers its request may put that off.
#[derive(Debug, Clone)]
pub(crate) struct Life(watch::Sender<Instant>);

impl Life {
    /// That of a connection which has so long.
    pub(crate) fn new(span: Duration) -> Self {
        Self(watch::Sender::new(Instant::now() + span))
    }

    /// From now on it has so long.
    pub(crate) fn last(&self, span: Duration) {
        self.0.send_replace(Instant::now() + span);
    }

    /// Resolves when it is over. Cancel-safe.
    pub(crate) async fn over(&self) {
        let mut end = self.0.subscribe();
        loop {
            let until = *end.borrow_and_update();
            tokio::select! {
                () = sleep_until(until) => return,
                // We hold the other half.
                _ = end.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_put_off_and_brought_forward() {
        let (life, begun) = (Life::new(Duration::ZERO), Instant::now());
        life.last(Duration::from_millis(50));
        life.over().await;
        assert!(begun.elapsed() >= Duration::from_millis(50));
        let life = Life::new(Duration::from_secs(3600));
        let other = life.clone();
        tokio::join!(life.over(), async { other.last(Duration::ZERO) });
        assert!(begun.elapsed() < Duration::from_secs(3600));
    }
}
