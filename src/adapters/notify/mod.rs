//! Notification engines.

mod connections;
mod html;
pub mod log;
pub mod smtp;
