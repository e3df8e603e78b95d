//! Storage engines.

pub mod memory;
pub mod mongodb;
pub mod sqlite;
