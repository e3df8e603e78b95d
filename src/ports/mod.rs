//! What the program needs of the world, as contracts.
//!
//! - [`WatcherStore`] keeps watchers, their history and what still has to be told.
//! - [`Notifier`] tells one person one thing.
//! - [`Clock`] says what time it is, and waits.
//! - [`Heartbeat`] tells somebody that the program does its work.
//!
//! The use cases in [`crate::app`] know only these; [`crate::adapters`] implements them.
//!
//! # Adding a storage engine
//!
//! 1. Implement [`WatcherStore`] in a module of its own under `src/adapters/storage/`. Its contract says all
//!    that the rest of the program relies on. [`Watcher::apply`](crate::domain::Watcher::apply) holds the
//!    rules: call it, and keep what it returns in one atomic write.
//! 2. Add a line for it to `stores!` in `tests/it/conformance.rs`, and run
//!    `cargo test --test it conformance`: the same cases run over every store.
//! 3. Add a line to `open_store` in `src/app/wiring.rs`, and a section to the configuration.
//!
//! # Adding a notification engine
//!
//! 1. Implement [`Notifier`] in a module of its own under `src/adapters/notify/`. What a message says comes
//!    from [`Notice::subject`](crate::domain::Notice::subject) and
//!    [`Notice::content`](crate::domain::Notice::content).
//! 2. Add a line to `open_notifier` in `src/app/wiring.rs`, and a section to the configuration. Retries,
//!    order, leases and restarts are the delivery loop's business, not the engine's.

pub mod clock;
pub mod heartbeat;
pub mod notifier;
pub mod store;

pub use clock::Clock;
pub use heartbeat::Heartbeat;
pub use notifier::{Message, Notifier, NotifyError, Progress};
pub use store::{
    Census, Claim, Delivery, DeliveryKey, DeliveryReport, DeliveryState, Detail, InsertError, Key,
    Outcome, Reason, Record, StoreError, StoreObserver, Told, TransactError, Transacted,
    WatcherStore,
};
