//! Work in one direction, as fast as it is taken.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::{Amount, DATAGRAM, Start, WARM_BYTES};
use crate::control::Control;
use crate::library::{Connection, MessageSender as _, ReceiveStream as _, SendStream as _};
use crate::server::WARM;
use crate::stamps;

/// Bytes of a write.
const WRITE: usize = 64 * 1024;

/// Messages before time is measured.
const WARM_MESSAGES: u64 = 10_000;

/// Messages between two looks at the clock.
const LOOK: u64 = 64;

/// How long a stream over a slow path runs before it is measured.
const FIND_PACE: Duration = Duration::from_secs(5);

const GIB: f64 = 1_073_741_824.0;

/// A stream of bytes.
pub(super) async fn bulk(
    connection: impl Connection,
    control: &mut Control,
    amount: Amount,
) -> Result<Map<String, Value>> {
    let (mut send, mut receive) = connection.open().await?;
    let mut buffer = vec![0x5a; WRITE];
    let mut offset = 0;
    while offset < WARM_BYTES {
        stamps::stamp(&mut buffer, offset, stamps::DENSE);
        send.write_all(&buffer).await?;
        offset += WRITE as u64;
    }
    let mut warm = [0];
    ensure!(receive.read(&mut warm).await? == 1 && warm == [WARM], "the server is not warm");

    let start = Start::now(control).await?;
    while offset < WARM_BYTES + amount.bytes {
        stamps::stamp(&mut buffer, offset, stamps::SPARSE);
        send.write_all(&buffer).await?;
        offset += WRITE as u64;
    }
    send.finish().await?;
    let verdict = control.verdict().await?;
    ensure!(verdict.right == offset && verdict.wrong == 0, "{offset} bytes were sent, the server says {verdict:?}");
    let mut figures = start.end(control, verdict.at, amount.bytes).await?;
    let gib = amount.bytes as f64 / GIB;
    let figure = |name: &str| figures.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let (mb_per_s, client, server) =
        (figure("per_s") / 1e6, figure("cpu_client_s") / gib, figure("cpu_server_s") / gib);
    figures.insert("mb_per_s".into(), json!(mb_per_s));
    figures.insert("cpu_s_per_gib".into(), json!(client + server));
    connection.close().await;
    Ok(figures)
}

/// A stream of bytes over a slow path: what arrives in a given time, once the sender has found its pace.
pub(super) async fn goodput(
    connection: impl Connection,
    control: &mut Control,
    amount: Amount,
) -> Result<Map<String, Value>> {
    let (mut send, _receive) = connection.open().await?;
    let writing = tokio::spawn(async move {
        let mut buffer = vec![0x5a; WRITE];
        for offset in (0..).step_by(WRITE) {
            stamps::stamp(&mut buffer, offset, stamps::SPARSE);
            if send.write_all(&buffer).await.is_err() {
                break;
            }
        }
    });
    tokio::time::sleep(FIND_PACE).await;
    let start = Start::now(control).await?;
    let (before, _) = control.counts().await?;
    tokio::time::sleep(amount.path).await;
    let (after, wrong) = control.counts().await?;
    let at = crate::machine::monotonic();
    ensure!(!writing.is_finished(), "the stream ended before the time was over");
    ensure!(wrong == 0, "{wrong} KiB were not as they had been sent");
    let mut figures = start.end(control, at, after - before).await?;
    let bytes_per_s = figures.get("per_s").and_then(Value::as_f64).unwrap_or(f64::NAN);
    figures.insert("mb_per_s".into(), json!(bytes_per_s / 1e6));
    writing.abort();
    Ok(figures)
}

/// Reliable messages.
pub(super) async fn messages(
    connection: impl Connection,
    control: &mut Control,
    size: usize,
    gathered: bool,
    amount: Amount,
) -> Result<Map<String, Value>> {
    let mut messages = connection.open_messages(gathered).await?;
    let mut message = vec![0x5a; size];
    let mut number = 0;
    while number < WARM_MESSAGES {
        stamps::number(&mut message, number);
        messages.send(&message).await?;
        number += 1;
    }
    messages.flush().await?;
    control.reached(WARM_MESSAGES).await?;

    let start = Start::now(control).await?;
    while !(number.is_multiple_of(LOOK) && start.over(amount.time)) {
        stamps::number(&mut message, number);
        messages.send(&message).await?;
        number += 1;
    }
    stamps::number(&mut message, stamps::END);
    messages.send(&message).await?;
    messages.flush().await?;
    let verdict = control.verdict().await?;
    ensure!(verdict.right == number && verdict.wrong == 0, "{number} messages were sent, the server says {verdict:?}");
    let figures = start.end(control, verdict.at, number - WARM_MESSAGES).await?;
    drop(messages);
    connection.close().await;
    Ok(figures)
}

/// Unreliable datagrams: what counts is what came.
pub(super) async fn datagrams(
    connection: impl Connection,
    control: &mut Control,
    amount: Amount,
) -> Result<Map<String, Value>> {
    let mut datagram = vec![0x5a; DATAGRAM];
    let mut number = 0;
    // Whether datagrams of that size are taken at all may take a round trip to know.
    let mut wait = tokio::time::interval(Duration::from_millis(1));
    while control.counts().await?.0 == 0 {
        stamps::number(&mut datagram, number);
        connection.send_datagram(&datagram).await?;
        number += 1;
        wait.tick().await;
        ensure!(number < 1000, "no datagram arrives");
    }

    let (before, wrong_before) = control.counts().await?;
    let (start, first) = (Start::now(control).await?, number);
    while !(number.is_multiple_of(LOOK) && start.over(amount.time)) {
        stamps::number(&mut datagram, number);
        connection.send_datagram(&datagram).await?;
        number += 1;
    }
    let at = crate::machine::monotonic();
    let (right, wrong) = control.counts().await?;
    ensure!(wrong == wrong_before, "{} datagrams were not as they had been sent", wrong - wrong_before);
    let received = right - before;
    let mut figures = start.end(control, at, received).await?;
    figures.insert("lost_percent".into(), json!(100.0 - received as f64 / (number - first) as f64 * 100.0));
    connection.close().await;
    Ok(figures)
}
