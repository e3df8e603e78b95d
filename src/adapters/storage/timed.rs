//! Any store, with somebody who hears how long its calls take.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use crate::domain::{Action, Filter, Slug, Timestamp, WatcherId};
use crate::ports::{
    Census, Claim, DeliveryKey, DeliveryReport, Detail, InsertError, Key, Outcome, Record,
    StoreError, StoreObserver, TransactError, Transacted, WatcherStore,
};

/// A store that is another one, and tells an observer of each call that was waited for to its end.
pub struct TimedStore {
    store: Arc<dyn WatcherStore>,
    observer: Arc<dyn StoreObserver>,
}

impl TimedStore {
    /// Tells `observer` of the calls of `store`.
    pub fn new(store: Arc<dyn WatcherStore>, observer: Arc<dyn StoreObserver>) -> Self {
        Self { store, observer }
    }

    async fn timed<T>(&self, operation: &'static str, call: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let result = call.await;
        self.observer.called(operation, begin.elapsed());
        result
    }
}

/// Methods that hand on what they are asked.
macro_rules! hand_on {
    ($($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl WatcherStore for TimedStore {
            $(async fn $method(&self, $($argument: $type),*) -> $answer {
                self.timed(stringify!($method), self.store.$method($($argument),*)).await
            })*
        }
    };
}

hand_on! {
    insert(record: &Record) -> Result<(), InsertError>;
    transact(key: &Key, action: &Action, now: Timestamp, detail: Detail) -> Result<Transacted, TransactError>;
    find(key: &Key) -> Result<Option<Record>, StoreError>;
    list(filter: &Filter, after: Option<&Slug>, limit: usize, detail: Detail) -> Result<Vec<Record>, StoreError>;
    delete(key: &Key) -> Result<bool, StoreError>;
    next_deadline() -> Result<Option<Timestamp>, StoreError>;
    overdue(now: Timestamp, limit: usize) -> Result<Vec<WatcherId>, StoreError>;
    set_aside(id: &WatcherId, now: Timestamp, until: Timestamp) -> Result<(), StoreError>;
    keep_watch(now: Timestamp) -> Result<(), StoreError>;
    last_watch() -> Result<Option<Timestamp>, StoreError>;
    next_delivery() -> Result<Option<Timestamp>, StoreError>;
    claim(now: Timestamp, lease_end: Timestamp, limit: usize) -> Result<Vec<Claim>, StoreError>;
    settle(claim: &DeliveryKey, outcome: &Outcome, now: Timestamp) -> Result<bool, StoreError>;
    deliveries(watcher: &WatcherId) -> Result<Vec<DeliveryReport>, StoreError>;
    oldest_notice() -> Result<Option<Timestamp>, StoreError>;
    census() -> Result<Census, StoreError>;
    ping() -> Result<(), StoreError>;
    close() -> ();
}
