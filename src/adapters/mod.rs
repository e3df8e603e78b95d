//! The ports, implemented; and the driving side, HTTP.
//!
//! Each family knows the ports and the use cases, and none of the other families.

pub mod clock;
pub mod http;
pub mod monitor;
pub mod notify;
pub mod storage;
