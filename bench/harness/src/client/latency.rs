//! Requests and their answers.

use anyhow::Result;
use serde_json::{Map, Value};

use super::{Amount, REQUEST, Start, check, percentiles};
use crate::control::Control;
use crate::library::{Connection, ReceiveStream as _, SendStream as _};
use crate::{machine, stamps};

/// Requests before time is measured.
const WARM: u64 = 200;

/// One stream, one request at a time.
pub(super) async fn ping_pong(
    connection: impl Connection,
    control: &mut Control,
    amount: Amount,
) -> Result<Map<String, Value>> {
    let (mut send, mut receive) = connection.open().await?;
    let (mut request, mut answer) = ([0x5a; REQUEST], [0; REQUEST]);
    let mut number = 0;
    let mut start = Start::now(control).await?;
    let mut latencies = Vec::with_capacity(1 << 17);
    while !start.over(amount.time) {
        if number == WARM {
            start = Start::now(control).await?;
            latencies.clear();
        }
        stamps::number(&mut request, number);
        let sent = machine::monotonic();
        send.write_all(&request).await?;
        let length = receive.read_full(&mut answer).await?;
        latencies.push(machine::monotonic() - sent);
        check(&request, &answer, length)?;
        number += 1;
    }
    let at = machine::monotonic();
    let mut figures = start.end(control, at, latencies.len() as u64).await?;
    percentiles(&mut figures, latencies);
    send.finish().await?;
    connection.close().await;
    Ok(figures)
}

/// A stream for each request, `parallel` at a time.
pub(super) async fn requests(
    connection: impl Connection,
    control: &mut Control,
    parallel: usize,
    amount: Amount,
) -> Result<Map<String, Value>> {
    for number in 0..WARM {
        request(&connection, number).await?;
    }
    let start = Start::now(control).await?;
    let end = start.at + amount.time.as_nanos() as u64;
    let tasks: Vec<_> = (0..parallel as u64)
        .map(|task| {
            let connection = connection.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(1 << 13);
                let mut number = task << 32;
                let mut now = machine::monotonic();
                while now < end {
                    request(&connection, number).await?;
                    let then = std::mem::replace(&mut now, machine::monotonic());
                    latencies.push(now - then);
                    number += 1;
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let at = machine::monotonic();
    let mut figures = start.end(control, at, latencies.len() as u64).await?;
    percentiles(&mut figures, latencies);
    connection.close().await;
    Ok(figures)
}

/// One request on a stream of its own.
pub(super) async fn request(connection: &impl Connection, number: u64) -> Result<()> {
    let (mut send, mut receive) = connection.open().await?;
    let mut request = [0x5a; REQUEST];
    stamps::number(&mut request, number);
    send.write_all(&request).await?;
    send.finish().await?;
    // One more than there should be, to see the end.
    let mut answer = [0; REQUEST + 1];
    let length = receive.read_full(&mut answer).await?;
    check(&request, &answer, length)
}
