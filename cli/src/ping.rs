//! `setowire ping`: how long a peer takes to answer, and by which way.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swarm::{DialTarget, Peer, PeerInfo, Protocol, RequestError, Swarm};
use tokio::time::{sleep, timeout};

use crate::exit::Failure;
use crate::helpers::Helpers;
use crate::output::Output;
use crate::reach;
use crate::signals::Signals;

/// What is asked for. Whoever does not know it says so, which is an answer too.
const PING: Protocol = Protocol::new("setowire/ping/1");

/// Reach a peer, and tell how long its answers take and by which way they come
///
/// Nobody is contacted but the peer and who is named: with --bootstrap nodes and relays that the named ones know, for these are
/// a network. A line on standard output tells of the session, one of each answer with the way that it came by, and the last one
/// sums up. The peer need not do anything for it: every program answers.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Whom to reach: an id, ID@HOST:PORT, HOST:PORT or a ticket
    #[arg(value_name = "PEER")]
    peer: DialTarget,

    /// How often to ask
    #[arg(long, short, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,

    /// How long to wait between two questions, in seconds
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,

    /// How long the session and each answer may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,

    #[command(flatten)]
    helpers: Helpers,

    /// Write objects: {"v":1,"t":"session",..}, {"t":"answer",..} or {"t":"lost",..} for each question, {"t":"end",..}
    #[arg(long)]
    json: bool,
}

/// Dials and asks.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let out = Output { json: options.json };
    let mut signals = Signals::new()?;
    let swarm = options.helpers.builder().agent(concat!("setowire-ping/", env!("CARGO_PKG_VERSION"))).bind().await?;
    let mut tally = Tally::default();
    let asked = tokio::select! {
        asked = ask(&swarm, &options, out, &mut tally) => asked,
        // What was counted until then is told.
        _ = signals.next() => Err(Failure::silent(Failure::INTERRUPTED)),
    };
    if tally.sent > 0 {
        out.data(&tally.line(), tally.fields());
    }
    swarm.shutdown(Duration::from_millis(500)).await;
    asked?;
    if tally.times.is_empty() { Err(Failure::silent(tally.code)) } else { Ok(()) }
}

async fn ask(swarm: &Swarm, options: &Options, out: Output, tally: &mut Tally) -> Result<(), Failure> {
    let (start, limit) = (Instant::now(), Duration::from_secs(options.timeout));
    let name = options.peer.to_string();
    let peer = match timeout(limit, swarm.dial(options.peer.clone())).await {
        Ok(Ok(peer)) => peer,
        Ok(Err(error)) => {
            let code = reach::status(&error);
            return Err(Failure::new(code, anyhow::Error::new(error).context(format!("cannot reach {name}"))));
        }
        Err(_) => {
            let error = anyhow::anyhow!("no answer of {name} within {} s{}", limit.as_secs(), reach::sources(swarm));
            return Err(Failure::new(Failure::TIMED_OUT, error));
        }
    };
    let took = millis(start.elapsed());
    let info = look(swarm, &peer).await;
    let (addr, way) = (info.as_ref().map(|info| info.addr), info.as_ref().map(|info| info.path));
    let text = info.map_or_else(String::new, |info| format!(" at {}, {}", info.addr, info.path));
    let fields = json!({"t": "session", "id": peer.id().to_string(), "ms": took, "addr": addr});
    out.data(&format!("session with {} after {took:.1} ms{text}", peer.id()), reach::and(fields, reach::fields(way)));
    for number in 1..=options.count {
        if number > 1 {
            sleep(options.interval).await;
        }
        tally.sent += 1;
        let start = Instant::now();
        match peer.request(PING, "").timeout(limit).await {
            // It answered, whatever it said.
            Ok(_) | Err(RequestError::Unsupported | RequestError::Refused | RequestError::Rejected) => {
                let time = start.elapsed();
                tally.times.push(time);
                let way = look(swarm, &peer).await.map(|info| info.path);
                let text = way.map_or_else(|| "gone since".to_owned(), |way| way.to_string());
                let fields = json!({"t": "answer", "number": number, "ms": millis(time)});
                let line = format!("answer {number}: {:.3} ms, {text}", millis(time));
                out.data(&line, reach::and(fields, reach::fields(way)));
            }
            Err(error) => {
                tally.code = code(&error);
                let fields = json!({"t": "lost", "number": number, "error": error.to_string()});
                out.data(&format!("answer {number}: none: {error}"), fields);
            }
        }
    }
    Ok(())
}

/// What is known of the session; `None` if there is none any more.
async fn look(swarm: &Swarm, peer: &Peer) -> Option<PeerInfo> {
    let id = peer.id();
    swarm.peers().await.into_iter().find(|info| info.id == id)
}

/// The exit status, if all questions end like this one.
const fn code(error: &RequestError) -> u8 {
    match error {
        RequestError::Timeout { .. } => Failure::TIMED_OUT,
        RequestError::Dial(error) => reach::status(error),
        _ => Failure::UNREACHED,
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Tally {
    sent: u32,
    times: Vec<Duration>,
    /// The exit status if nothing was answered.
    code: u8,
}

impl Tally {
    /// The shortest, the one in the middle (the lower of two) and the longest.
    fn summary(&self) -> Option<[f64; 3]> {
        let mut times = self.times.clone();
        times.sort_unstable();
        let middle = times.get(times.len().saturating_sub(1) / 2)?;
        Some([*times.first()?, *middle, *times.last()?].map(millis))
    }

    fn line(&self) -> String {
        let counted = format!("{} asked, {} answered", self.sent, self.times.len());
        match self.summary() {
            Some([least, median, most]) => {
                format!("{counted}; least {least:.3} ms, median {median:.3} ms, most {most:.3} ms")
            }
            None => counted,
        }
    }

    fn fields(&self) -> Value {
        let [least, median, most] = self.summary().map_or([None; 3], |times| times.map(Some));
        json!({
            "t": "end", "sent": self.sent, "answered": self.times.len(),
            "min_ms": least, "median_ms": median, "max_ms": most,
        })
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|pause| *pause <= Duration::from_secs(3600))
        .ok_or_else(|| "write a number of seconds, at most 3600".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_summed_up() {
        let mut tally = Tally::default();
        assert_eq!((tally.summary(), tally.line()), (None, "0 asked, 0 answered".to_owned()));
        tally.sent = 5;
        tally.times = [4, 1, 3, 2].map(Duration::from_millis).to_vec();
        assert_eq!(tally.summary(), Some([1.0, 2.0, 4.0]));
        assert_eq!(tally.line(), "5 asked, 4 answered; least 1.000 ms, median 2.000 ms, most 4.000 ms");
        assert_eq!(tally.fields()["median_ms"], json!(2.0));
    }

    #[test]
    fn pauses_are_checked() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["", "-1", "1e9", "NaN", "soon"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}
