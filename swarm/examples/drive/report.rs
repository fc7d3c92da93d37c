//! What is told of what happens.

use data_encoding::HEXLOWER;
use serde_json::json;
use swarm::Proof;
use swarm::v12::{Events, Message, SwarmEvent};
use tokio::sync::mpsc;

use crate::{digest, emit, short, wall_ms};

/// What is asked of the task that hears the events.
pub(crate) enum Ask {
    Quiet(bool),
    Counts { reset: bool },
}

/// Tells of events, or only counts messages: `flood` of another node must not be slowed by printing.
pub(crate) async fn report(mut events: Events, mut asked: mpsc::Receiver<Ask>) {
    let (mut quiet, mut counts) = (false, Counts::default());
    loop {
        tokio::select! {
            biased;
            ask = asked.recv() => match ask {
                Some(Ask::Quiet(on)) => quiet = on,
                Some(Ask::Counts { reset }) => {
                    counts.emit();
                    if reset {
                        counts = Counts::default();
                    }
                }
                None => return,
            },
            event = events.next() => match event {
                Some(SwarmEvent::Data(message)) => {
                    counts.add(&message);
                    if !quiet {
                        data(&message);
                    }
                }
                Some(event) => tell(event, &mut counts),
                None => return,
            },
        }
    }
}

#[derive(Default)]
struct Counts {
    messages: u64,
    bytes: usize,
    first: Option<f64>,
    last: Option<f64>,
    missed: u64,
    lagged: u64,
}

impl Counts {
    fn add(&mut self, message: &Message) {
        let now = wall_ms();
        self.messages += 1;
        self.bytes += message.data.len();
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn emit(&self) {
        let Self { messages, bytes, first, last, missed, lagged } = self;
        let fields = json!({
            "messages": messages, "bytes": bytes, "first": first, "last": last, "missed": missed, "lagged": lagged,
        });
        emit("counts", fields);
    }
}

fn data(message: &Message) {
    let Message { from, data, authenticated, .. } = message;
    let head = data.get(..16).unwrap_or(data);
    let fields = json!({
        "peer": short(from),
        "len": data.len(),
        "sha256": digest(data),
        "head": HEXLOWER.encode(head),
        "t": wall_ms(),
        "authenticated": authenticated,
    });
    emit("data", fields);
}

fn tell(event: SwarmEvent, counts: &mut Counts) {
    let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    match event {
        SwarmEvent::Connected { peer, addr, proof, .. } => {
            let proof = if proof == Proof::Key { "key" } else { "address" };
            emit("connection", json!({ "peer": short(&peer.id()), "addr": addr.to_string(), "proof": proof }));
        }
        SwarmEvent::Proved { peer } => emit("proved", json!({ "peer": short(&peer) })),
        SwarmEvent::Disconnected { peer, reason } => {
            emit("disconnect", json!({ "peer": short(&peer), "reason": reason.to_string() }));
        }
        SwarmEvent::Synced { key, value, from } => {
            let fields = json!({
                "key": text(&key), "len": value.len(), "sha256": digest(&value), "peer": short(&from),
            });
            emit("sync", fields);
        }
        SwarmEvent::Missed { from, count } => {
            counts.missed += count;
            emit("missed", json!({ "peer": short(&from), "count": count }));
        }
        SwarmEvent::Lagged(lost) => {
            counts.lagged += lost;
            emit("lagged", json!({ "count": lost }));
        }
        _ => {}
    }
}
