//! Peers of earlier runs.

use std::path::PathBuf;
use std::time::Duration;

use swarm::discovery::{Source, SourceError, Task};

use crate::support::{builder, connected, within};

fn place(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("setowire-peers-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir.join("peers.redb")
}

#[tokio::test]
async fn a_node_that_was_restarted_dials_whom_it_knew() {
    let path = place("restarted");
    let first = || builder().dht(false).seed([1; 32]).peer_cache(&path);
    let b = builder().dht(false).bind().await.unwrap();
    let a = first().bind().await.unwrap();
    within(a.dial((b.id(), b.local_addr()))).await.unwrap();
    within(a.shutdown(Duration::from_secs(1))).await;
    drop(a);
    let mut events = b.events();
    let a = first().bind().await.unwrap();
    loop {
        if connected(&mut events).await.id() == a.id() {
            break;
        }
    }
    drop(a);
}

#[tokio::test]
async fn what_is_no_cache_is_put_aside_and_told_of() {
    let path = place("aside");
    std::fs::write(&path, "no cache").unwrap();
    let node = builder().dht(false).peer_cache(&path).bind().await.unwrap();
    let error = within(async {
        loop {
            let report = node.discovery().of(Task::Reconnect);
            if let Some(progress) = report.iter().find(|progress| progress.error.is_some()) {
                assert_eq!(progress.source, Source::Cache);
                return progress.error.clone().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let aside = path.with_file_name("peers.redb.damaged");
    assert_eq!(error, SourceError::Damaged { aside: aside.clone() });
    assert_eq!(std::fs::read(aside).unwrap(), b"no cache");
    within(async {
        while node.discovery().of(Task::Reconnect).iter().all(|progress| progress.answered == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
