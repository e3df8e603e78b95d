//! The use cases, the two loops that work without being asked, and what holds the program together.
//!
//! - [`use_cases`]: what people can ask for; [`overview`]: all watchers at a glance.
//! - [`import`]: moving to another store.
//! - [`scheduler`]: sees deadlines pass; [`outage`]: knows for how long nobody did.
//! - [`delivery`]: makes the deliveries that the store owes.
//! - [`health`], [`metrics`], [`trouble`]: what operators see of all that; [`heartbeat`]: what others hear of it.
//! - [`version`]: which program this is.
//! - [`config`], [`logging`], [`wiring`]: from settings to a running program. The wiring alone knows which
//!   adapters there are.

pub mod use_cases;

pub mod overview;

pub mod heartbeat;

pub mod import;

pub mod outage;

pub mod scheduler;

pub mod delivery;

pub mod health;

pub mod metrics;

pub mod trouble;

pub mod version;

pub mod config;

pub mod logging;

pub mod wiring;

pub use delivery::DeliveryLoop;
pub use health::{Health, Pulse, Readiness};
pub use heartbeat::HeartbeatLoop;
pub use metrics::Metrics;
pub use overview::{Overview, Place, Selection};
pub use scheduler::Scheduler;
pub use use_cases::{NightsWatch, UseCaseError};
