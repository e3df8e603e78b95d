//! Notification engines.

mod connections;
pub mod log;
pub mod smtp;
