//! The commands that are about the distributed hash table.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use swarm::v12::Dht;

use crate::{Failure, emit};

/// Obeys one of them.
pub(crate) async fn command(dht: &mut Option<Dht>, name: &str, arguments: &[&str]) -> Result<(), Failure> {
    if name == "dht" {
        let started = Dht::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        // Others ask for the id; the published node has to be told it.
        let id = started.id().await?;
        emit("dht", json!({ "id": id, "addr": started.local_addr().to_string() }));
        *dht = Some(started);
        return Ok(());
    }
    let dht = dht.as_ref().ok_or("say `dht` first")?;
    match (name, arguments) {
        ("dhtmeet", [addr, ..]) => {
            dht.meet(addr.parse()?).await?;
            emit("dhtmet", json!({ "addr": addr }));
        }
        ("dhtput", [key, value]) => {
            let nodes = dht.put(key, value).await?;
            emit("dhtput", json!({ "key": key, "nodes": nodes }));
        }
        ("dhtfind", [key]) => emit("dhtfound", json!({ "key": key, "value": dht.find(key).await })),
        _ => return Err(format!("{name} cannot be done like that").into()),
    }
    Ok(())
}
