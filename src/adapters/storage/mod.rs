//! Storage engines, and what measures any of them.

mod aside;
pub mod memory;
pub mod mongodb;
pub mod sqlite;
pub mod timed;
