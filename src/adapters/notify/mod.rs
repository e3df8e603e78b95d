//! Notification engines.

pub mod log;
pub mod smtp;
