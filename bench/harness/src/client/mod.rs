//! The client's side of every work, where time is measured.

mod connects;
mod flood;
mod latency;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use crate::control::Control;
use crate::library::Library;
use crate::machine::{self, Usage};
use crate::server::reply;
use crate::work::Work;

/// Bytes of a request and of its answer.
pub const REQUEST: usize = 64;

/// Bytes of a datagram.
pub const DATAGRAM: usize = 1024;

/// Bytes of a stream that come before time is measured: the windows have grown by then.
pub const WARM_BYTES: u64 = 16 * 1024 * 1024;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Bytes of a bulk transfer.
    pub bytes: u64,
    /// How long everything else is measured.
    pub time: Duration,
    /// How long connections are left idle.
    pub idle: Duration,
    /// How long the goodput of a path is measured.
    pub path: Duration,
}

impl Amount {
    /// For a comparison.
    pub const FULL: Self = Self {
        bytes: 1024 * 1024 * 1024,
        time: Duration::from_secs(1),
        idle: Duration::from_secs(5),
        path: Duration::from_secs(15),
    };

    /// For an impression.
    pub const QUICK: Self = Self {
        bytes: 256 * 1024 * 1024,
        time: Duration::from_millis(500),
        idle: Duration::from_secs(1),
        path: Duration::from_secs(5),
    };
}

/// Does the work; the figures by name.
///
/// # Errors
/// When the library fails, and when anything arrived that was not what had been sent.
pub async fn measure<L: Library>(
    dialer: L::Dialer,
    mut control: Control,
    work: Work,
    amount: Amount,
) -> Result<Map<String, Value>> {
    match work {
        Work::Bulk(_) => flood::bulk(L::dial(&dialer).await?, &mut control, amount).await,
        Work::Goodput => flood::goodput(L::dial(&dialer).await?, &mut control, amount).await,
        Work::Messages { size, gathered } => {
            flood::messages(L::dial(&dialer).await?, &mut control, size, gathered, amount).await
        }
        Work::Datagrams => flood::datagrams(L::dial(&dialer).await?, &mut control, amount).await,
        Work::PingPong => latency::ping_pong(L::dial(&dialer).await?, &mut control, amount).await,
        Work::Requests(parallel) => latency::requests(L::dial(&dialer).await?, &mut control, parallel, amount).await,
        Work::Connects { parallel, .. } => connects::connects::<L>(dialer, &mut control, parallel, amount).await,
        Work::Idle => connects::idle::<L>(dialer, &mut control, amount).await,
    }
}

/// What both ends had used when time began to be measured.
#[derive(Debug)]
struct Start {
    at: u64,
    client: Usage,
    server: Usage,
}

impl Start {
    /// Now.
    async fn now(control: &mut Control) -> Result<Self> {
        let server = control.usage().await?;
        Ok(Self { client: Usage::now()?, server, at: machine::monotonic() })
    }

    /// Nanoseconds since.
    fn elapsed(&self) -> u64 {
        machine::monotonic() - self.at
    }

    /// Whether `time` has passed since.
    fn over(&self, time: Duration) -> bool {
        u128::from(self.elapsed()) >= time.as_nanos()
    }

    /// The end of a measurement of `units` done, that took until `at` by [`machine::monotonic`].
    async fn end(self, control: &mut Control, at: u64, units: u64) -> Result<Map<String, Value>> {
        let (client, server) = (Usage::now()?, control.usage().await?);
        let (of_client, of_server) = (client.cpu - self.client.cpu, server.cpu - self.server.cpu);
        let seconds = at.saturating_sub(self.at) as f64 / 1e9;
        ensure!(units > 0 && seconds > 0.0, "nothing was done");
        let mut figures = Map::new();
        figures.insert("seconds".into(), json!(seconds));
        figures.insert("units".into(), json!(units));
        figures.insert("per_s".into(), json!(units as f64 / seconds));
        figures.insert("cpu_client_s".into(), json!(of_client as f64 / 1e9));
        figures.insert("cpu_server_s".into(), json!(of_server as f64 / 1e9));
        figures.insert("cpu_us_per_unit".into(), json!((of_client + of_server) as f64 / 1e3 / units as f64));
        figures.insert("interrupted_client".into(), json!(client.interrupted - self.client.interrupted));
        figures.insert("interrupted_server".into(), json!(server.interrupted - self.server.interrupted));
        Ok(figures)
    }
}

/// Adds the median and the 99th percentile of `latencies`, in nanoseconds, as microseconds.
fn percentiles(figures: &mut Map<String, Value>, mut latencies: Vec<u64>) {
    latencies.sort_unstable();
    for (name, percent) in [("p50_us", 50), ("p99_us", 99)] {
        let place = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        if let Some(latency) = latencies.get(place) {
            figures.insert(name.into(), json!(*latency as f64 / 1e3));
        }
    }
}

/// Whether `answer` is the one to `request`.
fn check(request: &[u8; REQUEST], answer: &[u8], length: usize) -> Result<()> {
    ensure!(length == REQUEST && answer.get(..length) == Some(&reply(request)), "a wrong answer of {length} bytes");
    Ok(())
}
