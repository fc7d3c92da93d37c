//! Store and fetch.

use std::time::Duration;

use swarm::v12::SwarmEvent;
use swarm::{FetchError, StoreError};

use crate::support::{pair, soon, until};

#[tokio::test]
async fn values_are_fetched_whole() {
    let [(a, _), (b, _)] = pair().await;
    let mut events = b.events();
    for len in [1, 900, 901, 10_000, 1_000_000] {
        let (key, value) = (format!("of {len}"), vec![len as u8 | 1; len]);
        a.store(&key, value.clone()).await.unwrap();
        let fetched = soon(b.fetch(&key).into_future()).await.unwrap();
        assert!(fetched == value, "{len}");
        let synced = until(&mut events, |event| match event {
            SwarmEvent::Synced { key, from, .. } => Some((key, from)),
            _ => None,
        })
        .await;
        assert_eq!(synced, (key.into(), a.id()));
    }
    b.store("own", "value").await.unwrap();
    assert_eq!(soon(b.fetch("own").into_future()).await.unwrap(), "value");
}

#[tokio::test]
async fn a_value_that_nobody_has_is_waited_for_and_given_up() {
    let [(a, _), (b, _)] = pair().await;
    let limit = Duration::from_millis(200);
    let error = soon(b.fetch("nothing").timeout(limit).into_future()).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout { after, .. } if after == limit), "{error:?}");
    // It comes while it is waited for.
    let (fetched, stored) =
        tokio::join!(soon(b.fetch("later").into_future()), async { a.store("later", "here").await });
    assert_eq!((fetched.unwrap(), stored), ("here".into(), Ok(())));
    // As many as may be under way are; giving them up makes room.
    let mut waiting = Vec::new();
    let too_many = soon(async {
        for index in 0.. {
            let mut fetch = b.fetch(format!("{index}")).into_future();
            tokio::select! {
                biased;
                result = &mut fetch => return result,
                _ = b.peers() => waiting.push(fetch),
            }
        }
        unreachable!()
    })
    .await;
    assert!(matches!(too_many, Err(FetchError::TooMany { limit }) if limit == waiting.len()), "{too_many:?}");
    drop(waiting);
    let error = soon(b.fetch("nothing").timeout(limit).into_future()).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn bad_keys_and_values_are_refused() {
    let [(a, _), _] = pair().await;
    assert_eq!(a.store("", "value").await, Err(StoreError::Key { len: 0 }));
    assert_eq!(a.store([0; 256], "value").await, Err(StoreError::Key { len: 256 }));
    assert_eq!(a.store("key", "").await, Err(StoreError::Empty));
    let len = 10 * 1024 * 1024 + 1;
    assert_eq!(a.store("key", vec![0; len]).await, Err(StoreError::TooLarge { len, max: len - 1 }));
    assert_eq!(soon(a.fetch("").into_future()).await, Err(FetchError::Key { len: 0 }));
}
