//! Deletions that wait until nobody can ask for the object any more (rules.md 17). One task for the whole worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::logic::model::ObjectKey;
use crate::store::Store;

/// The way to the task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Janitor {
    orders: mpsc::UnboundedSender<(Instant, Vec<ObjectKey>)>,
}

impl Janitor {
    /// Starts the task; it ends when the last clone is dropped.
    pub fn start(store: Arc<Store>) -> Self {
        // Unbounded: orders are made by our own playlists, a few keys every two seconds for each stream.
        let (orders, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(store, inbox));
        Self { orders }
    }

    /// Deletes `keys` after `after`.
    pub fn delete(&self, after: Duration, keys: Vec<ObjectKey>) {
        // The task ends only with the worker.
        let _ = self.orders.send((Instant::now() + after, keys));
    }
}

async fn run(store: Arc<Store>, mut inbox: mpsc::UnboundedReceiver<(Instant, Vec<ObjectKey>)>) {
    let mut due: BTreeMap<Instant, Vec<ObjectKey>> = BTreeMap::new();
    loop {
        let next = due.keys().next().copied();
        let wait = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = inbox.recv() => match order {
                Some((at, keys)) => due.entry(at).or_default().extend(keys),
                None => return,
            },
            () = wait => {
                let Some((_, keys)) = due.pop_first() else { continue };
                for key in keys {
                    if let Err(error) = store.delete(&key).await {
                        tracing::warn!(%error, "object stays");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test(start_paused = true)]
    async fn objects_go_when_their_time_has_come_and_not_before() {
        let store = Arc::new(Store::Memory(crate::store::Memory::default()));
        let keys: Vec<ObjectKey> = ["seg/a", "seg/b"].iter().filter_map(|k| ObjectKey::parse(k)).collect();
        for key in &keys {
            store.put(key, Bytes::new()).await.unwrap();
        }
        let janitor = Janitor::start(Arc::clone(&store));
        janitor.delete(Duration::from_secs(94), vec![keys[0].clone()]);
        janitor.delete(Duration::from_secs(10), vec![keys[1].clone()]);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(store.list("seg").await.unwrap(), keys);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(store.list("seg").await.unwrap(), keys[..1]);
        tokio::time::sleep(Duration::from_secs(84)).await;
        assert!(store.list("seg").await.unwrap().is_empty());
    }
}
