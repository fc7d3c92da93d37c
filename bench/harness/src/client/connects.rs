//! Connections: how fast, and what they cost when nothing happens on them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::latency::request;
use super::{Amount, Start, percentiles};
use crate::control::Control;
use crate::library::{Connection as _, Library};
use crate::machine::{self, Usage};

/// Connections that are left idle.
const IDLE: u64 = 1000;

/// How many of them are opened at a time.
const IDLE_PARALLEL: u64 = 20;

/// How long after the last request memory is looked at: longer than any of the libraries keeps what it needs only while
/// something happens.
const SETTLE: Duration = Duration::from_secs(12);

/// A connection, a request, and the end of the connection; `parallel` at a time.
pub(super) async fn connects<L: Library>(
    dialer: L::Dialer,
    control: &mut Control,
    parallel: usize,
    amount: Amount,
) -> Result<Map<String, Value>> {
    // What a resumption uses comes with this one.
    once::<L>(&dialer, 0).await?;
    let dialer = Arc::new(dialer);
    let start = Start::now(control).await?;
    let end = start.at + amount.time.as_nanos() as u64;
    let tasks: Vec<_> = (0..parallel as u64)
        .map(|task| {
            let dialer = Arc::clone(&dialer);
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(1 << 13);
                let mut number = task << 32;
                while machine::monotonic() < end {
                    latencies.push(once::<L>(&dialer, number).await?);
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
    Ok(figures)
}

/// Nanoseconds from the beginning to the answer.
async fn once<L: Library>(dialer: &L::Dialer, number: u64) -> Result<u64> {
    let begun = machine::monotonic();
    let connection = L::dial(dialer).await.context("cannot connect")?;
    request(&connection, number).await?;
    let answered = machine::monotonic();
    connection.close().await;
    Ok(answered - begun)
}

/// Many connections, a request on each, then none.
pub(super) async fn idle<L: Library>(
    dialer: L::Dialer,
    control: &mut Control,
    amount: Amount,
) -> Result<Map<String, Value>> {
    let dialer = Arc::new(dialer);
    // What the first connection of a process brings into memory once, the code above all, is no part of the others.
    let first = L::dial(&dialer).await.context("cannot connect")?;
    request(&first, 0).await?;
    let (client_before, server_before) = (Usage::now()?, control.usage().await?);
    let opening = Start::now(control).await?;
    let tasks: Vec<_> = (0..IDLE_PARALLEL)
        .map(|task| {
            let dialer = Arc::clone(&dialer);
            tokio::spawn(async move {
                let mut connections = Vec::new();
                for number in 0..IDLE / IDLE_PARALLEL {
                    let connection = L::dial(&dialer).await.context("cannot connect")?;
                    request(&connection, task << 32 | number).await?;
                    connections.push(connection);
                }
                anyhow::Ok(connections)
            })
        })
        .collect();
    let mut connections = Vec::with_capacity(IDLE as usize + 1);
    connections.push(first);
    for task in tasks {
        connections.extend(task.await??);
    }
    let opened = opening.elapsed();
    tokio::time::sleep(SETTLE).await;
    let (client_after, server_after) = (Usage::now()?, control.usage().await?);

    let start = Start::now(control).await?;
    tokio::time::sleep(amount.idle).await;
    let at = machine::monotonic();
    let mut figures = start.end(control, at, IDLE).await?;
    // A connection that did not live would be cheap.
    for (number, connection) in connections.iter().enumerate() {
        request(connection, number as u64).await.with_context(|| format!("connection {number} is dead"))?;
    }

    let resident = |before: Usage, after: Usage| after.resident.saturating_sub(before.resident) as f64 / IDLE as f64;
    let share = |name: &str| figures.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN) / amount.idle.as_secs_f64();
    let (of_client, of_server) = (share("cpu_client_s"), share("cpu_server_s"));
    figures.insert("opened_per_s".into(), json!(IDLE as f64 / (opened as f64 / 1e9)));
    figures.insert("client_bytes".into(), json!(resident(client_before, client_after)));
    figures.insert("server_bytes".into(), json!(resident(server_before, server_after)));
    figures.insert("idle_client_ms_per_s".into(), json!(of_client * 1e3));
    figures.insert("idle_server_ms_per_s".into(), json!(of_server * 1e3));
    Ok(figures)
}
